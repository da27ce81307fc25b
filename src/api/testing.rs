//! A client for tests of what uses one.

use std::num::NonZeroU32;
use std::time::Duration;

use super::client::{Client, ClientOptions};
use super::token::Token;
use crate::model::InFlight;
use crate::simulator::{Server, TOKEN};

/// A client of `server`, as the owner of its account.
pub(crate) fn client(server: &Server) -> Client {
    let options = ClientOptions {
        base_url: server.url().parse().unwrap(),
        timeout: Duration::from_secs(10),
        requests_per_second: NonZeroU32::new(1_000).unwrap(),
        concurrency: InFlight::Auto,
    };
    Client::new(options, &Token::new(TOKEN).unwrap()).unwrap()
}
