//! The API token. Nothing prints it.

use std::fmt;

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// An Apify API token. It is wiped from memory when dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct Token(SecretString);

/// Why a text cannot be a token. The message does not contain the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidToken {
    /// It is empty, or only white space.
    #[error("the API token is empty")]
    Empty,
    /// It contains a character that an HTTP header cannot carry.
    #[error("the API token contains a space, a line break or another character that no token has")]
    Character,
}

impl Token {
    /// A token from its text, trimmed.
    ///
    /// # Errors
    /// When the text is empty or cannot be part of an HTTP header.
    pub fn new(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidToken::Empty);
        }
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(InvalidToken::Character);
        }
        Ok(Self(text.into()))
    }

    /// The `Authorization` header. Apify also accepts a `token` query parameter, which must never be used, because URLs
    /// end up in logs.
    pub(super) fn header(&self) -> Result<HeaderValue, InvalidToken> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0.expose_secret()))
            .map_err(|_| InvalidToken::Character)?;
        value.set_sensitive(true);
        Ok(value)
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
    fn errors_do_not_contain_the_rejected_text() {
        assert_eq!(Token::new(" \n").unwrap_err(), InvalidToken::Empty);
        for text in ["se cret", "se\ncret", "se\u{7f}cret", "sécret"] {
            let error = Token::new(text).unwrap_err();
            assert_eq!(error, InvalidToken::Character);
            assert!(!error.to_string().contains("cret,"), "{error}");
        }
    }
}
