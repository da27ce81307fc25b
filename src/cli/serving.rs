//! From settings to a server: what `[http]` asks for, ready to serve.

use std::sync::Arc;

use super::error::CliError;
use crate::api::TokenSource;
use crate::config::{HttpSettings, Settings, find_read_token, find_read_token_again};
use crate::daemon::Context;
use crate::http::{Hosts, Listener, ReadToken, Server, Site, Tokens};
use crate::options::Environment;
use crate::store::SqliteReader;

/// A server that listens already.
pub struct Serving {
    /// Serves.
    pub server: Server,
    /// Those that it asks for.
    pub tokens: Arc<Tokens>,
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
        let (client, read_token) = (context.client.clone(), read_token(http, environment)?);
        let tokens = Arc::new(Tokens::new(client, read_token, http.open_on_loopback));
        let counting = Arc::new(SqliteReader::open(&settings.database)?);
        let listener = Listener::bind(address).await?;
        tracing::info!(
            "serving /healthz, /readyz and /metrics on http://{}",
            listener.address()
        );
        let hosts = Hosts(http.allowed_hosts.clone());
        let site = Site::new(Arc::clone(context), counting, hosts, Arc::clone(&tokens));
        let server = Server::new(listener, site);
        Ok(Some(Self { server, tokens }))
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
