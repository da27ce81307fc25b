//! The Apify API, as far as the mirror needs it.
//!
//! A [`Client`] answers with pages and runs, or with an [`ApiError`] that says which class of trouble it is. It retries
//! what is worth retrying, within bounds, and keeps to a rate limit and a number of requests in flight that all its
//! clones share. What an answer means is for [`crate::sync`] to say.
//!
//! Facts about the API are from Apify's public documentation (docs.apify.com/api/v2) and its OpenAPI description.

mod client;
#[cfg(test)]
mod client_tests;
mod error;
mod retry;
mod token;
pub mod wire;

pub use client::{Client, ClientOptions};
pub use error::{ApiError, ErrorClass};
pub use token::{InvalidToken, Token};
