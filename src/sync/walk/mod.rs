//! Reading a list forward from a cursor, page by page, so that no entry is skipped: polls and audits both do it.
//!
//! A [`Walk`] says which windows to read next and judges the answers: whether a page [joins](crate::sync::Cursor::joins), where it
//! lies, and whether the list ends with it. What an answer says of itself is believed only where its entries do not
//! contradict it.
//!
//! # Where the list ends
//!
//! 1. A page that is shorter than the largest this server has given ends it, if its `total` agrees, and `limit` does not
//!    say that the page is as large as they get.
//! 2. A read that shows nothing beyond the one before it ends it. Where `total` says that more follows, one more read
//!    past the end must show nothing either.
//! 3. The first read of a poll ends it if it is shorter than the largest page, reaches the watermark and does not move
//!    it. So a poll that finds nothing new takes one request, whatever `total` says.
//!
//! That all entries of a page are known is not the end: a watch read may have stored them ahead of the cursor. That
//! `total` equals the end of a full page is not either: a stale one can do so by chance.
//!
//! # Groups
//!
//! A page must begin strictly before the watermark, so entries with equal starts, or without any, that fill a page leave
//! no page to go on with. [`group`] reads them by offset.

mod base;
mod group;
mod judge;
mod sizes;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use base::{Reads, Walk};
pub(crate) use sizes::PageSizes;
pub(crate) use state::{Start, Step};
