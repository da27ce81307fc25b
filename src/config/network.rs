//! The environment variables that name proxies and certificates. The HTTP client ignores proxies that it cannot use, and
//! would connect without one; where certificates cannot be read, it trusts nobody.

use std::path::Path;

use reqwest::Url;

use crate::options::{Environment, Problem};
use crate::web::PROXY_VARIABLES;

/// Checks every variable that names a proxy or certificates.
pub fn check_variables(environment: &Environment) -> Vec<Problem> {
    let mut problems = check_proxies(environment);
    problems.extend(check_certificates(environment));
    problems
}

fn check_certificates(environment: &Environment) -> impl Iterator<Item = Problem> {
    let is_file = |value: &str| std::fs::File::open(value).is_ok() && Path::new(value).is_file();
    let is_folder = |value: &str| std::env::split_paths(value).any(|folder| folder.is_dir());
    let problem = |name: &str, what: &str, is_there: &dyn Fn(&str) -> bool| {
        let value = environment.get(name).filter(|value| !is_there(value))?;
        let message = format!(
            "is {value:?}, where there is no {what} to read; name the certificates of authorities to trust instead of \
             the system's, or unset the variable"
        );
        Some(Problem::new(name, message))
    };
    let file = problem("SSL_CERT_FILE", "file", &is_file);
    file.into_iter()
        .chain(problem("SSL_CERT_DIR", "folder", &is_folder))
}

fn check_proxies(environment: &Environment) -> Vec<Problem> {
    let problem = |name: &&str| {
        let value = environment.get(*name).filter(|value| !value.is_empty())?;
        let why = unusable(value)?;
        let message = format!(
            "names no usable proxy: {why}; write \"http://host:port\" or \"https://host:port\", or unset the variable"
        );
        Some(Problem::new(*name, message))
    };
    PROXY_VARIABLES.iter().filter_map(problem).collect()
}

/// Why `value` cannot be used. Shows only a value without a user and a password.
fn unusable(value: &str) -> Option<String> {
    let shown = if value.contains('@') {
        "it".to_owned()
    } else {
        format!("{value:?}")
    };
    let full = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    match Url::parse(&full) {
        Err(error) => Some(format!("{shown} is not an address ({error})")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some(format!("{shown} begins with {}://", url.scheme()))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_and_unusable_proxies() {
        for value in [
            "proxy.example:3128",
            "proxy.example",
            "http://proxy.example:3128",
            "https://user:p%20w@proxy.example",
            "http://[::1]:3128/",
        ] {
            assert_eq!(unusable(value), None, "{value}");
        }
        for value in [
            "foo bar",
            "socks5://proxy:1080",
            "ftp://x",
            "http://",
            "http://u:hunter2@",
            "http://x:99999",
        ] {
            let why = unusable(value).unwrap();
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
