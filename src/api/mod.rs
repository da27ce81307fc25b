//! The part of the Apify API that the mirror needs.
//!
//! A [`Client`] returns pages and runs, or an [`ApiError`] with its [`ErrorClass`]. It retries failures that may pass,
//! within limits. All clones of a client share one rate limit and one limit of requests in flight. [`crate::sync`]
//! decides what an answer means.
//!
//! Facts about the API are from Apify's public documentation (docs.apify.com/api/v2) and its OpenAPI description.

mod client;
#[cfg(test)]
mod client_tests;
mod concurrency;
mod counts;
mod endpoints;
mod error;
mod fetch;
mod limits;
mod memory;
mod rate;
mod retry;
mod split;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
mod token;
pub mod wire;

pub use client::{Client, ClientOptions};
pub use counts::{Endpoint, RequestCounts};
pub use endpoints::Read;
pub use error::{ApiError, ErrorClass};
pub use memory::{BodyRight, Held, Memory};
pub use token::{InvalidToken, Token, TokenDigest, TokenSource};
