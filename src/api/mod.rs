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
mod counts;
mod error;
mod held;
mod limits;
mod retry;
mod split;
mod tasks;
mod token;
pub mod wire;

pub use client::{Client, ClientOptions};
pub use counts::{Endpoint, RequestCounts};
pub use error::{ApiError, ErrorClass};
pub use held::{Held, Pages};
pub use token::{InvalidToken, Token, TokenDigest, TokenSource};
