//! Webhook signatures according to Standard Webhooks (standardwebhooks.com).
//!
//! Written by hand: it is one HMAC over three parts. The crate `standardwebhooks` takes one key at a time and brings older
//! versions of what is used here.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;
use thiserror::Error;

/// The prefix of every secret.
const PREFIX: &str = "whsec_";

/// The length of a key in bytes, as Standard Webhooks demands.
const KEY_BYTES: RangeInclusive<usize> = 24..=64;

/// A command that prints a new secret.
const MAKE_ONE: &str = "echo \"whsec_$(openssl rand -base64 32)\"";

/// The keys that sign a webhook: one, or several during key rotation. `Debug` does not show them.
#[derive(Clone, Default)]
pub struct SigningKeys(Vec<SecretSlice<u8>>);

/// Text that is no secret. Messages do not contain it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidKey {
    /// There is no secret.
    #[error("holds no secret; it must be `whsec_` and the key in base64")]
    Missing,
    /// The prefix is missing.
    #[error("must begin with `whsec_`, as secrets of Standard Webhooks do")]
    Prefix,
    /// The key is not base64.
    #[error("must have a key in base64 after `whsec_`; make one with `{MAKE_ONE}`")]
    Encoding,
    /// The key has fewer or more bytes than Standard Webhooks allows.
    #[error(
        "must have a key of {least} to {most} bytes after `whsec_`, in base64; make one with `{MAKE_ONE}`",
        least = KEY_BYTES.start(),
        most = KEY_BYTES.end()
    )]
    Length,
}

impl SigningKeys {
    /// Parses secrets separated by whitespace.
    ///
    /// # Errors
    /// When there is none, or one of them is not valid.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let keys = text
            .split_whitespace()
            .map(parse_key)
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            Err(InvalidKey::Missing)
        } else {
            Ok(Self(keys))
        }
    }

    /// The `webhook-signature` header of a message, with one signature per key; `None` without keys.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
        let signatures = self.0.iter().filter_map(|key| {
            // HMAC accepts keys of any length.
            let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret()).ok()?;
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            Some(format!(
                "v1,{}",
                BASE64_STANDARD.encode(mac.finalize().into_bytes())
            ))
        });
        let signatures: Vec<String> = signatures.collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

fn parse_key(secret: &str) -> Result<SecretSlice<u8>, InvalidKey> {
    let encoded = secret.strip_prefix(PREFIX).ok_or(InvalidKey::Prefix)?;
    let key = BASE64_STANDARD
        .decode(encoded)
        .map_err(|_| InvalidKey::Encoding)?;
    if KEY_BYTES.contains(&key.len()) {
        Ok(key.into())
    } else {
        Err(InvalidKey::Length)
    }
}

impl PartialEq for SigningKeys {
    fn eq(&self, other: &Self) -> bool {
        let same =
            |(a, b): (&SecretSlice<u8>, &SecretSlice<u8>)| a.expose_secret() == b.expose_secret();
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected signatures come from the `standardwebhooks` package on PyPI.
    #[test]
    fn signatures_match_an_independent_implementation() {
        const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let second = "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh";
        for (secrets, id, body, signature) in [
            (
                SECRET,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                SECRET,
                "evt_HG7ML7M8z78YcAPEB_2",
                r#"{"id":"evt_HG7ML7M8z78YcAPEB_2","status":"SUCCEEDED","résumé":"…"}"#,
                "v1,Qyh3F1a5xeTFNSyYye+3OVpR933t8+wgQ5bSPd2WLWM=",
            ),
            (
                SECRET,
                "evt_a%2Eb_1",
                "",
                "v1,sNlnwrFThKplxQ3WWd4iIOpWvAnBM68Tk0CHyQgc+xE=",
            ),
            (
                second,
                "evt_1",
                "{}",
                "v1,Lim6Efcs7pOSEtCHbJJ7tuw8179sdlAS2VJojUz7vNc=",
            ),
        ] {
            let keys = SigningKeys::parse(secrets).unwrap();
            assert_eq!(
                keys.sign(id, "1614265330", body.as_bytes()).as_deref(),
                Some(signature)
            );
        }
        let both = SigningKeys::parse(&format!("{second}\n{SECRET}")).unwrap();
        let signatures = both.sign("evt_1", "1614265330", b"{}").unwrap();
        assert!(
            signatures.starts_with("v1,Lim6Efcs7pOSEtCHbJJ7tuw8179sdlAS2VJojUz7vNc= v1,"),
            "{signatures}"
        );
        assert_eq!(
            SigningKeys::default().sign("evt_1", "1614265330", b"{}"),
            None
        );
    }

    #[test]
    fn debug_output_hides_keys() {
        let keys = SigningKeys::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{keys:?}"), "SigningKeys(1)");
    }

    #[test]
    fn text_that_is_no_secret_is_refused() {
        for (text, error) in [
            ("", InvalidKey::Missing),
            (" \n", InvalidKey::Missing),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", InvalidKey::Prefix),
            ("whsec_", InvalidKey::Length),
            ("whsec_not base64", InvalidKey::Encoding),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_?",
                InvalidKey::Encoding,
            ),
        ] {
            assert_eq!(SigningKeys::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn keys_have_the_length_that_standard_webhooks_demands() {
        for (bytes, is_valid) in [(1, false), (23, false), (24, true), (64, true), (65, false)] {
            let secret = format!("{PREFIX}{}", BASE64_STANDARD.encode(vec![7; bytes]));
            assert_eq!(SigningKeys::parse(&secret).is_ok(), is_valid, "{bytes}");
        }
        let message = InvalidKey::Length.to_string();
        assert!(
            message.contains("24 to 64 bytes") && message.contains(MAKE_ONE),
            "{message}"
        );
    }

    #[test]
    fn keys_are_compared() {
        let keys = |text: &str| SigningKeys::parse(text).unwrap();
        let (one, other) = (
            "whsec_".to_owned() + &"YWFh".repeat(8),
            "whsec_".to_owned() + &"YWFi".repeat(8),
        );
        assert_eq!(keys(&one), keys(&format!(" {one}\n")));
        assert_ne!(keys(&one), keys(&other));
        assert_ne!(keys(&one), keys(&format!("{one} {other}")));
    }
}
