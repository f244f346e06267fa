//! One run of a command: its config file, and what every run is handed.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::globals::Globals;
use super::look::Look;
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::error::{Error, Kind, Result};
use crate::failure::Notice;
use crate::metrics::Meters;
use crate::store::{self, Clients, Store};
use crate::stream::Head;

pub struct Run {
    pub config: Config,
    pub globals: Arc<Globals>,
    pub clock: Arc<dyn Clock>,
    /// Cancelled by the first signal.
    pub stop: CancellationToken,
    /// Of a run whose failures are kept: who is told while it follows.
    pub notice: Notice,
    pub look: Look,
    /// More than one config file: nothing is printed before the end.
    pub is_one_of_many: bool,
    /// Shared with the other runs of this process.
    pub clients: Arc<Clients>,
    /// The run's figures.
    pub meters: Meters,
}

impl Run {
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub async fn store(&self) -> Result<Arc<dyn Store>> {
        let store = store::open_with(&self.config, &self.clients).await?;
        Ok(store::counted(store, self.meters.clone()))
    }

    /// The head as it is now.
    pub async fn head(&self, store: &dyn Store) -> Result<Head> {
        match store::head::read(store, None).await? {
            store::head::Read::Head { head, .. } => Ok(*head),
            store::head::Read::Unchanged => Err(Error::new(
                Kind::Store,
                format!("read {}/index.json: unchanged since never", store.url()),
            )),
        }
    }

    /// Refuses a command that the other role's machine runs.
    pub fn must_be(&self, role: Role, command: &str) -> Result<()> {
        if self.config.role == role {
            return Ok(());
        }
        let (path, is) = (self.config.path.display(), self.config.role);
        Err(Error::new(
            Kind::Usage,
            format!("{command} runs with a {role}'s config, {path} has role = \"{is}\""),
        )
        .hint(format!("name the {role}'s file with --config")))
    }

    /// Refuses several config files where results are printed while they are made.
    pub fn must_be_alone(&self, command: &str) -> Result<()> {
        if !self.is_one_of_many {
            return Ok(());
        }
        Err(Error::new(Kind::Usage, format!("{command} reads one stream, but --config names several files"))
            .hint("name one --config FILE"))
    }
}
