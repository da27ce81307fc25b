//! From settings to a server: what `[http]` asks for, ready to serve.

use std::sync::Arc;

use super::error::CliError;
use crate::api::TokenSource;
use crate::config::{HttpSettings, Settings, find_read_token, find_read_token_again};
use crate::daemon::Context;
use crate::http::{Access, AccessOptions, Listener, ReadToken, Server, Site};
use crate::options::Environment;
use crate::store::SqliteReader;

/// A server that listens already.
pub struct Serving {
    /// Serves.
    pub server: Server,
    /// Who may ask.
    pub access: Arc<Access>,
}

impl Serving {
    /// Listens where `settings` say, to serve what can be said of the daemon with this context; `None` if they say nowhere.
    ///
    /// # Errors
    /// When the read token or the address cannot be had, or the database not be read.
    pub async fn begin(
        settings: &Settings,
        environment: &Environment,
        context: &Arc<Context>,
    ) -> Result<Option<Self>, CliError> {
        let http = &settings.http;
        let Some(address) = http.listen else {
            return Ok(None);
        };
        if let Some(warning) = http.warning() {
            tracing::warn!("{warning}");
        }
        let options = AccessOptions {
            open: http.open_on_loopback,
            hosts: http.allowed_hosts.clone(),
        };
        let read_token = read_token(http, environment)?;
        let access = Arc::new(Access::new(options, context.client.clone(), read_token));
        let counting = Arc::new(SqliteReader::open(&settings.database)?);
        let listener = Listener::bind(address).await?;
        tracing::info!(
            "serving /healthz, /readyz and /metrics on http://{}",
            listener.address()
        );
        let site = Site::new(Arc::clone(context), counting, Arc::clone(&access));
        let server = Server::new(listener, site);
        Ok(Some(Self { server, access }))
    }
}

/// The read token, and where it is read again.
///
/// # Errors
/// When there should be one, and is not.
fn read_token(
    settings: &HttpSettings,
    environment: &Environment,
) -> Result<Option<ReadToken>, CliError> {
    let Some(path) = settings.read_token_file.clone() else {
        return Ok(None);
    };
    let token = find_read_token(&path, environment)?;
    let environment = environment.clone();
    let source = TokenSource::new(move || {
        find_read_token_again(&path, &environment).map_err(|error| error.to_string())
    });
    Ok(Some(ReadToken::new(&token, source)))
}
