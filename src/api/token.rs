//! The API token. Nothing prints it.

use std::fmt;
use std::sync::Arc;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// An Apify API token. It is wiped from memory when dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct Token(SecretString);

/// What precedes the token in the `Authorization` header.
const SCHEME: &str = "Bearer ";

/// Characters that people, shells and editors put around a text.
const QUOTES: [char; 7] = [
    '"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}',
];

/// Where a token is read again, for one that is replaced while the program runs. A failure says why it cannot be read,
/// without any of it.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> Result<Token, String> + Send + Sync>);

impl TokenSource {
    /// A source that reads with `read`.
    pub fn new(read: impl Fn() -> Result<Token, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The token that is there now.
    ///
    /// # Errors
    /// When there is none that can be read.
    pub fn read(&self) -> Result<Token, String> {
        (self.0)()
    }
}

/// What a token is recognised by: its SHA-256 digest. How long a comparison takes tells nothing of either.
#[derive(Clone, Copy, Debug)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of `token`, whether it could be one or not.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The digest of the token in the `Authorization` header of [`Token::header`].
    pub(super) fn of_header(header: &HeaderValue) -> Self {
        let value = header.as_bytes();
        Self::of(value.strip_prefix(SCHEME.as_bytes()).unwrap_or(value))
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// Why a text cannot be a token: goes on from "the API token". The message does not contain the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidToken {
    /// It is empty, or only white space.
    #[error("is empty")]
    Empty,
    /// It begins with a byte order mark.
    #[error("begins with a byte order mark; save it as plain text, without one")]
    ByteOrderMark,
    /// It is in quotes.
    #[error("is in quotes; remove them")]
    Quotes,
    /// It contains white space.
    #[error("contains a space or a line break; give the token alone, on one line")]
    Space,
    /// It contains a character that an HTTP header cannot carry.
    #[error("contains a character that no token has; copy it again")]
    Character,
}

impl Token {
    /// A token from its text, trimmed.
    ///
    /// # Errors
    /// When the text is empty or cannot be part of an HTTP header.
    pub fn new(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.starts_with('\u{feff}') {
            return Err(InvalidToken::ByteOrderMark);
        }
        if text.is_empty() {
            return Err(InvalidToken::Empty);
        }
        if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
            return Err(InvalidToken::Quotes);
        }
        if text.contains(char::is_whitespace) {
            return Err(InvalidToken::Space);
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(InvalidToken::Character);
        }
        Ok(Self(text.into()))
    }

    /// The `Authorization` header. Apify also accepts a `token` query parameter, which must never be used, because URLs
    /// end up in logs.
    pub(super) fn header(&self) -> Result<HeaderValue, InvalidToken> {
        let mut value = HeaderValue::from_str(&format!("{SCHEME}{}", self.0.expose_secret()))
            .map_err(|_| InvalidToken::Character)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Its digest.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.expose_secret().as_bytes())
    }

    /// The header's text, for tests of other modules.
    #[cfg(test)]
    pub(crate) fn header_for_tests(&self) -> String {
        self.header()
            .map(|value| value.to_str().unwrap_or_default().to_owned())
            .unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_contain_the_token() {
        let token = Token::new(" apify_api_secret\n").unwrap();
        assert_eq!(format!("{token:?}"), "Token");
        let header = token.header().unwrap();
        assert_eq!(header, "Bearer apify_api_secret");
        assert!(!format!("{header:?}").contains("secret"));
    }

    #[test]
    fn a_token_is_recognised_by_its_digest() {
        let token = Token::new("apify_api_secret").unwrap();
        assert_eq!(token.digest(), TokenDigest::of(b"apify_api_secret"));
        assert_eq!(
            token.digest(),
            TokenDigest::of_header(&token.header().unwrap())
        );
        assert_ne!(token.digest(), TokenDigest::of(b"apify_api_secres"));
        assert_ne!(token.digest(), TokenDigest::of(b"Bearer apify_api_secret"));
    }

    #[test]
    fn errors_do_not_contain_the_rejected_text() {
        assert_eq!(Token::new(" \n").unwrap_err(), InvalidToken::Empty);
        for (text, expected) in [
            ("se cret", InvalidToken::Space),
            ("se\ncret", InvalidToken::Space),
            ("se\u{a0}cret", InvalidToken::Space),
            ("\u{feff}secret", InvalidToken::ByteOrderMark),
            ("\u{feff}\"secret\"", InvalidToken::ByteOrderMark),
            ("\"secret\"", InvalidToken::Quotes),
            ("'secret", InvalidToken::Quotes),
            ("\u{201c}secret\u{201d}", InvalidToken::Quotes),
            ("se\u{7f}cret", InvalidToken::Character),
            ("sécret", InvalidToken::Character),
        ] {
            let error = Token::new(text).unwrap_err();
            assert_eq!(error, expected, "{text:?}");
            assert!(!error.to_string().contains("cret,"), "{error}");
        }
    }
}
