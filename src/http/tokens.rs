//! Which tokens a request may have. There is one also on loopback, where other users of the machine are.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::request::Parts;
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::api::{Client, Token, TokenDigest, TokenSource};

/// The shortest time between two looks for the read token because a request has another one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The tokens that a request may have.
#[derive(Debug)]
pub struct Tokens {
    /// Has the API token, which may be replaced at any time.
    client: Client,
    read_token: Option<ReadToken>,
    /// Whether none is asked for.
    open: bool,
}

/// A token that is for reading here and nothing else.
#[derive(Debug)]
pub struct ReadToken {
    source: TokenSource,
    known: Mutex<Known>,
}

/// The token as it was when it was last looked for.
#[derive(Debug)]
struct Known {
    digest: TokenDigest,
    at: Instant,
}

impl ReadToken {
    /// `token`, which is read again from `source` whenever it may have changed.
    pub fn new(token: &Token, source: TokenSource) -> Self {
        let known = Known {
            digest: token.digest(),
            at: Instant::now(),
        };
        Self {
            source,
            known: Mutex::new(known),
        }
    }

    /// Reads the token again; returns whether it is another one. Where that fails, the one before stays.
    fn read_again(&self) -> Result<bool, String> {
        let mut known = self.lock();
        known.at = Instant::now();
        let digest = self.source.read()?.digest();
        let changed = digest != known.digest;
        known.digest = digest;
        Ok(changed)
    }

    fn digest(&self) -> TokenDigest {
        self.lock().digest
    }

    /// Whether a token has taken the place of the one that is known.
    fn was_replaced(&self) -> bool {
        if self.lock().at.elapsed() < LOOK_AGAIN {
            return false;
        }
        match self.read_again() {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(
                    "a request has an unknown token, and the read token cannot be read again: {error}"
                );
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    /// The token of `client`, and the read token. None is asked for where it is `open`.
    pub fn new(client: Client, read_token: Option<ReadToken>, open: bool) -> Self {
        Self {
            client,
            read_token,
            open,
        }
    }

    /// Reads the read token again; returns whether it is another one than before.
    ///
    /// # Errors
    /// When it cannot be read; the one before stays in use.
    pub fn read_again(&self) -> Result<bool, String> {
        self.read_token
            .as_ref()
            .map_or(Ok(false), ReadToken::read_again)
    }

    /// Checks that a request has one of these tokens, and none in its address.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Refusal> {
        if has_token(request.uri.query().unwrap_or_default()) {
            return Err(Refusal::TokenInAddress);
        }
        if self.open {
            return Ok(());
        }
        let presented = presented(&request.headers).ok_or(Refusal::NoToken)?;
        let replaced = || {
            self.read_token
                .as_ref()
                .is_some_and(ReadToken::was_replaced)
        };
        match self.knows(presented) || (replaced() && self.knows(presented)) {
            true => Ok(()),
            false => Err(Refusal::WrongToken),
        }
    }

    /// Whether `presented` is one of our tokens. Compares it with each, so that the time tells nothing.
    fn knows(&self, presented: TokenDigest) -> bool {
        let api = self.client.token_digest();
        let read = self.read_token.as_ref().map(ReadToken::digest);
        let candidates = std::iter::once(api).chain(read);
        candidates.fold(false, |known, candidate| known | (candidate == presented))
    }
}

/// Whether a query has a parameter called `token`.
fn has_token(query: &str) -> bool {
    let mut names = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    names.any(|name| name == "token")
}

/// The digest of the token that a request has: of a bearer, or of the password of HTTP Basic authentication, whoever the
/// user is.
fn presented(headers: &HeaderMap) -> Option<TokenDigest> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(TokenDigest::of(rest.as_bytes()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(rest).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(TokenDigest::of(&decoded[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use super::*;
    use crate::api::ClientOptions;
    use crate::model::InFlight;
    use hyper::Request;

    fn tokens(read_token: Option<ReadToken>, open: bool) -> Tokens {
        let client = ClientOptions {
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            timeout: Duration::from_secs(1),
            requests_per_second: NonZeroU32::MIN,
            concurrency: InFlight::Fixed(1),
        };
        let client = Client::new(client, &Token::new("api_token").unwrap()).unwrap();
        Tokens::new(client, read_token, open)
    }

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn tokens_are_taken_from_either_scheme_and_no_address() {
        let source = TokenSource::new(|| Err("not asked again".to_owned()));
        let read_token = ReadToken::new(&Token::new("read_token").unwrap(), source);
        let tokens = tokens(Some(read_token), false);
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let check =
            |uri: &str, value: &str| tokens.check(&request(uri, &[("authorization", value)]));
        for value in [
            "Bearer api_token",
            "bearer  read_token",
            &basic("me:api_token"),
            &basic(":read_token"),
        ] {
            assert_eq!(check("/", value), Ok(()), "{value}");
            assert_eq!(
                check("/?token=api_token", value),
                Err(Refusal::TokenInAddress),
                "{value}"
            );
            assert_eq!(
                check("/?a=b&%74oken", value),
                Err(Refusal::TokenInAddress),
                "{value}"
            );
        }
        for value in [
            "Bearer api_toke",
            "Bearer x",
            "Bearer ",
            &basic("api_token:"),
            &basic("a:b:read_token"),
        ] {
            assert_eq!(
                check("/?tokens=x", value),
                Err(Refusal::WrongToken),
                "{value}"
            );
        }
        for value in [
            "",
            "api_token",
            "Digest api_token",
            "Basic !",
            &basic("api_token"),
        ] {
            assert_eq!(check("/", value), Err(Refusal::NoToken), "{value}");
        }
        assert_eq!(tokens.check(&request("/", &[])), Err(Refusal::NoToken));
    }

    #[test]
    fn an_open_site_asks_for_no_token_but_refuses_one_in_an_address() {
        let tokens = tokens(None, true);
        assert_eq!(tokens.check(&request("/", &[])), Ok(()));
        assert_eq!(
            tokens.check(&request("/?token=", &[])),
            Err(Refusal::TokenInAddress)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_token_that_is_replaced_is_found_by_an_unknown_one() {
        let now = Arc::new(Mutex::new(None));
        let source = Arc::clone(&now);
        let source = TokenSource::new(move || match *source.lock().unwrap() {
            Some(text) => Ok(Token::new(text).unwrap()),
            None => Err("gone".to_owned()),
        });
        let read_token = ReadToken::new(&Token::new("first").unwrap(), source);
        let tokens = tokens(Some(read_token), false);
        let check = |token: &str| {
            let value = format!("Bearer {token}");
            tokens.check(&request("/", &[("authorization", &value)]))
        };
        assert_eq!(check("first"), Ok(()));
        *now.lock().unwrap() = Some("second");
        assert_eq!(
            check("second"),
            Err(Refusal::WrongToken),
            "not looked for that often"
        );
        tokio::time::advance(LOOK_AGAIN).await;
        assert_eq!(
            (check("second"), check("first")),
            (Ok(()), Err(Refusal::WrongToken))
        );
        *now.lock().unwrap() = None;
        assert_eq!(tokens.read_again(), Err("gone".to_owned()));
        assert_eq!(check("second"), Ok(()), "the one before stays");
        *now.lock().unwrap() = Some("third");
        assert_eq!(tokens.read_again(), Ok(true));
        assert_eq!(check("third"), Ok(()));
    }
}
