//! What the two HTTP clients, the API's and the webhooks', have in common.

use std::time::Duration;

use reqwest::Url;

use crate::text::escape;

/// The longest excerpt of what others say that a message repeats, in characters.
const EXCERPT: usize = 200;

/// The environment variables that name proxies, for https, http and all addresses.
pub const PROXY_VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What a failing connection to `url` may have to do with a proxy, for messages.
fn by_proxy(url: Option<&Url>) -> String {
    let Some(url) = url.filter(|url| !is_loopback(url)) else {
        return String::new();
    };
    let of_scheme = match url.scheme() {
        "https" => &PROXY_VARIABLES[..2],
        _ => &PROXY_VARIABLES[2..4],
    };
    let is_set = |name: &&&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match of_scheme.iter().chain(&PROXY_VARIABLES[4..]).find(is_set) {
        None => String::new(),
        Some(name) => {
            format!(" (by the proxy that {name} names, unless NO_PROXY excepts the address)")
        }
    }
}

/// Whether an address never leaves this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Reads a `Retry-After` header at the time `now`: seconds, or an HTTP date.
pub fn parse_retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = parse_http_date(value)?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// Reads a date as HTTP writes it, e.g. in the header `Date`.
pub fn parse_http_date(value: &str) -> Option<jiff::Timestamp> {
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    Some(at.timestamp())
}

/// Describes the error of a request that got no complete answer, without its address.
pub fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_connect() {
        format!("cannot connect{}", by_proxy(error.url()))
    } else if error.is_timeout() {
        return "no answer in time".to_owned();
    } else if error.is_builder() {
        "cannot be asked".to_owned()
    } else {
        "the answer broke off".to_owned()
    };
    // The innermost cause says what happened; those around it repeat the address.
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let repeats_address = std::ptr::addr_eq(cause, error);
    let cause = if repeats_address {
        String::new()
    } else {
        excerpt(&cause.to_string())
    };
    if cause.is_empty() {
        what
    } else if cause.contains("UnknownIssuer") {
        format!(
            "{what}: {cause}; if that is right, name the certificate of its authority in SSL_CERT_FILE"
        )
    } else {
        format!("{what}: {cause}")
    }
}

/// The beginning of `text`, escaped.
pub fn excerpt(text: &str) -> String {
    escape(text, EXCERPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_in_both_forms() {
        let now: jiff::Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(
                parse_retry_after(value, now),
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }
}
