//! Requests that are not answered as asked, in the form of Apify's errors.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

/// Why a request is refused. Each becomes `{"error": {"type", "message"}}`, as Apify writes errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It asks for something else than to read.
    Method,
    /// It was sent to another host, or a page in a browser pretends that it was not.
    Host,
    /// It has a token in its address.
    TokenInAddress,
    /// It has no token.
    NoToken,
    /// It has another token.
    WrongToken,
    /// There is nothing at its path.
    NoPage,
    /// The mirror does not answer in time, or fails.
    Unavailable,
}

impl Refusal {
    fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::FORBIDDEN,
            Self::TokenInAddress | Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::NoPage => StatusCode::NOT_FOUND,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The type, which is Apify's own where it has one.
    fn kind(self) -> &'static str {
        match self {
            Self::Method => "method-not-allowed",
            Self::Host => "host-not-allowed",
            Self::TokenInAddress => "token-in-address",
            Self::NoToken => "token-not-provided",
            Self::WrongToken => "user-or-token-not-found",
            Self::NoPage => "page-not-found",
            Self::Unavailable => "service-unavailable",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Method => "Only GET and HEAD are answered: nothing can be changed here.",
            Self::Host => {
                "The host that the request names is not one of this server's; add it to `http.allowed_hosts`."
            }
            Self::TokenInAddress => {
                "A token in an address ends up in logs and histories; send it as `Authorization: Bearer TOKEN` instead."
            }
            Self::NoToken => {
                "Send a token as `Authorization: Bearer TOKEN`, or as the password of HTTP Basic authentication."
            }
            Self::WrongToken => "The token is neither the mirror's API token nor its read token.",
            Self::NoPage => "There is nothing at this address.",
            Self::Unavailable => "The mirror does not answer at the moment; its log says why.",
        }
    }
}

impl From<Refusal> for Response<Full<Bytes>> {
    fn from(refusal: Refusal) -> Self {
        let error = json!({"type": refusal.kind(), "message": refusal.message()});
        let body = json!({"error": error}).to_string();
        let mut response = Self::new(body.into());
        *response.status_mut() = refusal.status();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        );
        match refusal {
            Refusal::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            // Lets a browser ask for the token.
            Refusal::NoToken | Refusal::WrongToken => {
                let basic = r#"Basic realm="apify-mirror", charset="UTF-8""#;
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(basic));
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Refusal::Host | Refusal::TokenInAddress | Refusal::NoPage | Refusal::Unavailable => {}
        }
        response
    }
}
