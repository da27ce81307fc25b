//! The socket that connections come in by.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::TcpListener;

/// An address to listen on cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on {address} (`http.listen`): {source}; {}", self.remedy())]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// Whether the same address may be had later, without a change of the configuration.
    pub fn is_temporary(&self) -> bool {
        self.source.kind() != ErrorKind::PermissionDenied
    }

    fn remedy(&self) -> &'static str {
        match self.source.kind() {
            ErrorKind::AddrInUse => "stop the program that listens there, or choose another port",
            ErrorKind::AddrNotAvailable => "choose an address of this machine, such as 127.0.0.1",
            ErrorKind::PermissionDenied => "choose a port from 1024 on",
            _ => "choose another address",
        }
    }
}

/// Listens for connections.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`, or on a free port of it where the port is 0.
    ///
    /// # Errors
    /// When the system denies that.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let fail = |source| BindError { address, source };
        let socket = TcpListener::bind(address).await.map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?;
        Ok(Self { socket, address })
    }

    /// The address, with the port that was found.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn into_socket(self) -> TcpListener {
        self.socket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_cannot_be_had_is_named_with_the_remedy() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let taken = listener.address();
        assert_ne!(taken.port(), 0);
        let error = Listener::bind(taken).await.unwrap_err();
        let message = error.to_string();
        let (begin, end) = (
            format!("cannot listen on {taken} (`http.listen`): "),
            "choose another port",
        );
        assert!(
            message.starts_with(&begin) && message.ends_with(end),
            "{message}"
        );
        assert!(error.is_temporary());
        // For documentation, so no machine has it.
        let elsewhere = Listener::bind("192.0.2.1:0".parse().unwrap())
            .await
            .unwrap_err();
        let message = elsewhere.to_string();
        assert!(
            message.ends_with("choose an address of this machine, such as 127.0.0.1"),
            "{message}"
        );
    }
}
