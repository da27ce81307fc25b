//! `[http]`: what is served, and to whom.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use crate::api::Token;
use crate::options::{Environment, Problem, Problems, Reader, check_path, read_secret};

/// The shortest read token. It is asked for without a limit of attempts, so it must not be guessed.
const LEAST_TOKEN: usize = 16;

/// What is served over HTTP, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpSettings {
    /// The address to listen on; port 0 for any that is free. Without it, nothing is served.
    pub listen: Option<SocketAddr>,
    /// A file that contains the read token and nothing else.
    pub read_token_file: Option<PathBuf>,
    /// Whether no token is asked for. Only where `listen` is loopback.
    pub open_on_loopback: bool,
    /// The hosts, beside those of loopback, that requests may be sent to, without ports.
    pub allowed_hosts: Vec<String>,
}

/// Reads the section.
pub(super) fn read(section: &mut Reader<'_>) -> HttpSettings {
    let listen = section.text("listen").filter(|text| !text.is_empty());
    let listen = listen.and_then(|text| match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!(
                "is {text:?}; it must be an address with a port, such as \"127.0.0.1:9464\" or \"[::1]:9464\""
            );
            section.problem("listen", message);
            None
        }
    });
    let read_token_file = section.text("read_token_file");
    let settings = HttpSettings {
        listen,
        read_token_file: read_token_file
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        open_on_loopback: section.flag("open_on_loopback", false),
        allowed_hosts: section.texts("allowed_hosts").unwrap_or_default(),
    };
    if let Some(address) = settings.exposed()
        && settings.open_on_loopback
    {
        let message = format!(
            "is true, but `http.listen` is {address}, which others can reach; listen on loopback (\"127.0.0.1:{}\"), or \
             leave it out and send a token",
            address.port()
        );
        section.problem("open_on_loopback", message);
    }
    for (n, host) in settings.allowed_hosts.iter().enumerate() {
        if !is_host(host) {
            let message = format!(
                "is {host:?}; it must be the name of a host, such as \"mirror.example.com\", or an address, without \
                 `http://` and without a port"
            );
            section.problem(&format!("allowed_hosts[{n}]"), message);
        }
    }
    settings
}

/// Whether `text` can be the host in an address: a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let v6 = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.chars().all(is_name),
    }
}

impl HttpSettings {
    /// The address to listen on, if others than this machine can reach it.
    fn exposed(&self) -> Option<SocketAddr> {
        self.listen.filter(|address| !address.ip().is_loopback())
    }

    /// What is legal, but most likely not meant.
    pub fn warning(&self) -> Option<String> {
        let address = self.exposed().filter(|_| self.allowed_hosts.is_empty())?;
        Some(format!(
            "http.listen is {address}, and `http.allowed_hosts` is empty: requests that are sent to another host than \
             loopback are refused, except for /healthz and /readyz; name the hosts under which others reach this one"
        ))
    }

    /// What is served where, for people.
    pub fn describe(&self) -> String {
        match (self.listen, self.open_on_loopback, &self.read_token_file) {
            (None, ..) => "off".to_owned(),
            (Some(address), true, _) => format!("{address}, open to every user of this machine"),
            (Some(address), false, None) => format!("{address}, for the API token"),
            (Some(address), false, Some(_)) => {
                format!("{address}, for the API token and the read token")
            }
        }
    }
}

/// Reads the read token in the file at `path`.
///
/// # Errors
/// When the file cannot be read or trusted, or holds no token. The message has none of it.
pub fn find_read_token(path: &Path, environment: &Environment) -> Result<Token, Problems> {
    let problem = |message: String| Problem::new("http.read_token_file", message);
    check_path(path).map_err(|error| problem(error.to_string()))?;
    let text = read_secret(path, environment).map_err(|error| problem(error.to_string()))?;
    let text = text.expose_secret().trim();
    let file = path.display();
    let token =
        Token::new(text).map_err(|invalid| problem(format!("{file}: the token {invalid}")))?;
    if text.len() < LEAST_TOKEN {
        let message = format!(
            "{file}: the token has fewer than {LEAST_TOKEN} characters and could be guessed; make one with `openssl rand \
             -hex 32`"
        );
        return Err(problem(message).into());
    }
    Ok(token)
}

/// Reads it again, to see whether it was replaced. What is not a regular file is not read again: a pipe would wait for whoever
/// writes to it.
///
/// # Errors
/// As [`find_read_token`], and when there is something else than a file.
pub fn find_read_token_again(path: &Path, environment: &Environment) -> Result<Token, Problems> {
    if path.exists() && !path.is_file() {
        let message = format!(
            "{} is not a regular file, so the token in it is read only once",
            path.display()
        );
        return Err(Problem::new("http.read_token_file", message).into());
    }
    find_read_token(path, environment)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::{Overrides, parse};

    fn problems(toml: &str) -> String {
        let none = Environment::new();
        let parsed = parse(Some(toml), &none, Overrides::default(), String::new);
        parsed.unwrap_err().to_string()
    }

    fn settings(toml: &str) -> HttpSettings {
        let none = Environment::new();
        parse(Some(toml), &none, Overrides::default(), String::new)
            .unwrap()
            .http
    }

    #[test]
    fn what_is_served_to_whom() {
        assert_eq!(settings(""), HttpSettings::default());
        let open = settings("[http]\nlisten = \"[::1]:0\"\nopen_on_loopback = true");
        assert_eq!(
            open.describe(),
            "[::1]:0, open to every user of this machine"
        );
        let exposed = settings("[http]\nlisten = \"0.0.0.0:9464\"\nread_token_file = \"token\"");
        assert_eq!(
            exposed.describe(),
            "0.0.0.0:9464, for the API token and the read token"
        );
        let warning = exposed.warning().unwrap();
        assert!(
            warning.contains("0.0.0.0:9464") && warning.contains("http.allowed_hosts"),
            "{warning}"
        );
        let named = "[http]\nlisten = \"10.0.0.1:9464\"\nallowed_hosts = [\"a-b.example\", \"10.0.0.1\", \"[fd00::1]\"]";
        assert_eq!(
            (
                settings(named).warning(),
                settings(named).allowed_hosts.len()
            ),
            (None, 3)
        );
        assert_eq!(settings("[http]\nlisten = \"127.0.0.1:1\"").warning(), None);
    }

    #[test]
    fn what_cannot_be_served_is_named_with_the_remedy() {
        for (http, expected) in [
            (
                "listen = \"9464\"",
                "http.listen: is \"9464\"; it must be an address with a port",
            ),
            (
                "listen = \"localhost:9464\"",
                "http.listen: is \"localhost:9464\"; it must be an address",
            ),
            (
                "listen = \"127.0.0.1:70000\"",
                "http.listen: is \"127.0.0.1:70000\"; it must be",
            ),
            (
                "listen = \"0.0.0.0:9464\"\nopen_on_loopback = true",
                "http.open_on_loopback: is true, but `http.listen` is 0.0.0.0:9464, which others can reach; listen on \
                 loopback (\"127.0.0.1:9464\")",
            ),
            (
                "allowed_hosts = [\"a:1\"]",
                "http.allowed_hosts[0]: is \"a:1\"; it must be the name of a host",
            ),
            (
                "allowed_hosts = [\"*\"]",
                "http.allowed_hosts[0]: is \"*\"; it must be",
            ),
            (
                "allowed_hosts = [\"http://a\"]",
                "http.allowed_hosts[0]: is \"http://a\"; it must be",
            ),
            (
                "allowed_host = [\"a\"]",
                "http.allowed_host: is no known key; did you mean `http.allowed_hosts`?",
            ),
        ] {
            let found = problems(&format!("[http]\n{http}"));
            assert!(found.starts_with(expected), "{http}:\n{found}");
        }
    }

    #[test]
    fn a_read_token_is_a_secret_of_some_length() {
        let dir = tempfile::tempdir().unwrap();
        let (path, none) = (dir.path().join("token"), Environment::new());
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            find_read_token_again(&path, &none).map_err(|problems| problems.to_string())
        };
        let token = write("0123456789abcdef\n", 0o600).unwrap();
        assert_eq!(
            token.digest(),
            crate::api::TokenDigest::of(b"0123456789abcdef")
        );
        for (text, mode, expected) in [
            ("0123456789abcdef", 0o644, "can be read by others"),
            (
                "0123456789abcde",
                0o600,
                "has fewer than 16 characters and could be guessed",
            ),
            ("", 0o600, "the token is empty"),
            ("0123456789 abcdef", 0o600, "the token contains a space"),
        ] {
            let error = write(text, mode).unwrap_err();
            assert!(
                error.starts_with("http.read_token_file: ") && error.contains(expected),
                "{error}"
            );
            assert!(!error.contains("01234"), "{error}");
        }
        let misplaced = find_read_token(Path::new("0123456789abcdef"), &none).unwrap_err();
        assert!(!misplaced.to_string().contains("01234"), "{misplaced}");
        let folder = find_read_token_again(dir.path(), &none).unwrap_err();
        assert!(
            folder.to_string().contains("is not a regular file"),
            "{folder}"
        );
    }
}
