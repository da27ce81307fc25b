//! Response bodies, complete and truncated.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// How many bytes more than its length a truncated body announces.
const MISSING: u64 = 1_000;

/// Ends a connection without completing the response.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped to simulate a fault")]
pub(super) struct Dropped;

/// A body: the same chunk a number of times, then the end or a broken connection.
#[derive(Debug)]
pub(super) struct Reply {
    chunk: Bytes,
    left: usize,
    broken: bool,
}

impl Reply {
    /// The complete `text`.
    pub(super) fn of(text: impl Into<Bytes>) -> Self {
        Self {
            chunk: text.into(),
            left: 1,
            broken: false,
        }
    }

    /// The first half of `text`, then a broken connection.
    pub(super) fn cut(text: &str) -> Self {
        let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
        Self {
            chunk: half,
            left: 1,
            broken: true,
        }
    }

    /// A body of spaces, of this many MiB.
    pub(super) fn spaces(mebibytes: usize) -> Self {
        Self {
            chunk: vec![b' '; 1 << 20].into(),
            left: mebibytes,
            broken: false,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        Poll::Ready(match (self.left, self.broken) {
            (0, false) => None,
            (0, true) => Some(Err(Dropped)),
            _ => {
                self.left -= 1;
                Some(Ok(Frame::data(self.chunk.clone())))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && !self.broken
    }

    fn size_hint(&self) -> SizeHint {
        let sent = (self.chunk.len() * self.left) as u64;
        SizeHint::with_exact(sent + if self.broken { MISSING } else { 0 })
    }
}
