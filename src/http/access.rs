//! Who may ask: which hosts a request may be sent to, and which tokens it may have.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use tokio::time::Instant;

use super::refusal::Refusal;
use crate::api::{Client, Token, TokenDigest, TokenSource};

/// The shortest time between two looks into the file of the read token because a request has another token.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who may ask.
#[derive(Clone, Debug, Default)]
pub struct AccessOptions {
    /// Whether no token is asked for.
    pub open: bool,
    /// The names of hosts, beside those of loopback, that requests may be sent to; in small letters, without ports.
    pub hosts: Vec<String>,
}

/// Decides who may ask. A page in a browser can reach a server on loopback under a name of its own ("DNS rebinding"), so
/// the host that a request names must be one of ours; and other users of the machine reach it too, so there is a token.
#[derive(Debug)]
pub struct Access {
    options: AccessOptions,
    /// Has the API token, which may be replaced at any time.
    client: Client,
    read_token: Option<ReadToken>,
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

impl Access {
    /// Lets those ask who have the token of `client` or the read token.
    pub fn new(options: AccessOptions, client: Client, read_token: Option<ReadToken>) -> Self {
        Self {
            options,
            client,
            read_token,
        }
    }

    /// Reads the read token again; returns whether it is another one than before.
    ///
    /// # Errors
    /// When it cannot be read; the one before stays in use.
    pub fn read_token_again(&self) -> Result<bool, String> {
        self.read_token
            .as_ref()
            .map_or(Ok(false), ReadToken::read_again)
    }

    /// Checks that a request was sent to this server, by every name that it gives.
    pub(super) fn check_host(&self, request: &Parts) -> Result<(), Refusal> {
        let mut hosts = request.headers.get_all(HOST).iter();
        let host = hosts
            .next()
            .and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let (Some(host), None) = (host, hosts.next()) else {
            return Err(Refusal::Host);
        };
        let is_ours = |host: &Authority| is_loopback(host) || self.is_allowed(host);
        let also = request.uri.authority();
        match is_ours(&host) && also.is_none_or(is_ours) {
            true => Ok(()),
            false => Err(Refusal::Host),
        }
    }

    fn is_allowed(&self, host: &Authority) -> bool {
        let name = name(host);
        let mut allowed = self.options.hosts.iter();
        name.is_some_and(|name| allowed.any(|allowed| allowed.eq_ignore_ascii_case(name)))
    }

    /// Checks the token of a request.
    pub(super) fn check_token(&self, request: &Parts) -> Result<(), Refusal> {
        if has_token(request.uri.query().unwrap_or_default()) {
            return Err(Refusal::TokenInAddress);
        }
        if self.options.open {
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

/// The host of an authority, without its port; `None` where a user is in front of it.
fn name(authority: &Authority) -> Option<&str> {
    let has_user = authority.as_str().contains('@');
    (!has_user).then(|| authority.host())
}

fn is_loopback(authority: &Authority) -> bool {
    let Some(name) = name(authority) else {
        return false;
    };
    let v4 = name
        .parse::<Ipv4Addr>()
        .is_ok_and(|address| address.is_loopback());
    let v6 = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let v6 = v6.and_then(|name| name.parse::<Ipv6Addr>().ok());
    v4 || v6.is_some_and(|address| address.is_loopback()) || name.eq_ignore_ascii_case("localhost")
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
    use std::num::{NonZeroU32, NonZeroUsize};
    use std::sync::Arc;

    use super::*;
    use crate::api::ClientOptions;
    use hyper::Request;

    fn access(options: AccessOptions, read_token: Option<ReadToken>) -> Access {
        let client = ClientOptions {
            base_url: "http://127.0.0.1:1".parse().unwrap(),
            timeout: Duration::from_secs(1),
            requests_per_second: NonZeroU32::MIN,
            concurrency: NonZeroUsize::MIN,
        };
        let client = Client::new(client, &Token::new("api_token").unwrap()).unwrap();
        Access::new(options, client, read_token)
    }

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_our_hosts_are_answered() {
        let options = AccessOptions {
            hosts: vec!["mirror.example".to_owned()],
            ..AccessOptions::default()
        };
        let access = access(options, None);
        let check = |uri: &str, hosts: &[&str]| {
            let hosts: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            access.check_host(&request(uri, &hosts))
        };
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:9464",
            "127.1.2.3",
            "[::1]:80",
            "[::1]",
            "mirror.example",
            "Mirror.Example:443",
        ] {
            assert_eq!(check("/", &[host]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "mirror.example.evil.example",
            "localhost.evil.example",
            "x@localhost",
            "localhost@evil.example",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "",
            "a b",
            "xmirror.example",
            "localhost/",
        ] {
            assert_eq!(check("/", &[host]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(check("/", &[]), Err(Refusal::Host), "none");
        assert_eq!(
            check("/", &["localhost", "localhost"]),
            Err(Refusal::Host),
            "two"
        );
        assert_eq!(check("http://localhost/", &["localhost"]), Ok(()));
        assert_eq!(
            check("http://evil.example/", &["localhost"]),
            Err(Refusal::Host)
        );
    }

    #[test]
    fn tokens_are_taken_from_either_scheme_and_no_address() {
        let source = TokenSource::new(|| Err("not asked again".to_owned()));
        let read_token = ReadToken::new(&Token::new("read_token").unwrap(), source);
        let access = access(AccessOptions::default(), Some(read_token));
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let check =
            |uri: &str, value: &str| access.check_token(&request(uri, &[("authorization", value)]));
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
        assert_eq!(
            access.check_token(&request("/", &[])),
            Err(Refusal::NoToken)
        );
    }

    #[test]
    fn an_open_site_asks_for_no_token_but_refuses_one_in_an_address() {
        let options = AccessOptions {
            open: true,
            ..AccessOptions::default()
        };
        let access = access(options, None);
        assert_eq!(access.check_token(&request("/", &[])), Ok(()));
        assert_eq!(
            access.check_token(&request("/?token=", &[])),
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
        let access = access(AccessOptions::default(), Some(read_token));
        let check = |token: &str| {
            let value = format!("Bearer {token}");
            access.check_token(&request("/", &[("authorization", &value)]))
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
        assert_eq!(access.read_token_again(), Err("gone".to_owned()));
        assert_eq!(check("second"), Ok(()), "the one before stays");
        *now.lock().unwrap() = Some("third");
        assert_eq!(access.read_token_again(), Ok(true));
        assert_eq!(check("third"), Ok(()));
    }
}
