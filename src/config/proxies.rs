//! The environment variables that name proxies. The HTTP client ignores those that it cannot use, and would connect
//! without a proxy.

use reqwest::Url;

use crate::options::{Environment, Problem};
use crate::web::PROXY_VARIABLES;

/// Checks every variable that names a proxy.
pub fn check_proxies(environment: &Environment) -> Vec<Problem> {
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
