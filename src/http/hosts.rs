//! Which hosts a request may be sent to. A page in a browser can reach a server on loopback under a name of its own ("DNS
//! rebinding"), so the host that a request names must be one of ours.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use super::refusal::Refusal;

/// The hosts that a request may be sent to: those of loopback, and these names, without ports.
#[derive(Clone, Debug, Default)]
pub struct Hosts(pub Vec<String>);

impl Hosts {
    /// Checks that a request was sent to one of these, by every name that it gives.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Refusal> {
        let mut hosts = request.headers.get_all(HOST).iter();
        let host = hosts
            .next()
            .and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let (Some(host), None) = (host, hosts.next()) else {
            return Err(Refusal::Host);
        };
        let is_ours = |host: &Authority| is_loopback(host) || self.has(host);
        let also = request.uri.authority();
        match is_ours(&host) && also.is_none_or(is_ours) {
            true => Ok(()),
            false => Err(Refusal::Host),
        }
    }

    fn has(&self, host: &Authority) -> bool {
        let is_name = |name: &str| {
            self.0
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(name))
        };
        name(host).is_some_and(is_name)
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

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    #[test]
    fn only_our_hosts_are_answered() {
        let ours = Hosts(vec!["mirror.example".to_owned()]);
        let check = |uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            ours.check(&request.body(()).unwrap().into_parts().0)
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
}
