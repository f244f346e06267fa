//! A source that replicates from nobody: is it the primary, or a copy of it that nobody feeds?
//!
//! A processor that was CLONEd and does not replicate yet looks exactly as a primary does: it has no channel. Its own
//! clock says nothing about what the real primary has done since. So where the config names a primary beside the
//! source, it is asked who it is. That costs a connection to the server that was just read, where all is well; where
//! the two sections name one address, not even that. As long as it is another server, or does not answer, the source
//! tells no time: what it has is shipped all the same.

use std::fmt;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::{Config, MysqlConfig};
use crate::error::{Error, Kind, Result, chain};
use crate::mysql;
use crate::source::moment::Moment;

/// How long a following run trusts the answer.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Why a source without a replication channel is not taken for the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub what: String,
    pub hint: &'static str,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.hint)
    }
}

const FEED_IT: &str = "a binlog processor: `tablecast processor create` carries on where it was cut short; another \
     replica: CHANGE REPLICATION SOURCE and START REPLICA. If it is the primary now: name it in [primary] too, or take \
     [primary] out (docs/runbooks/fail-over-the-primary.md)";
const REACH_IT: &str = "see that [primary] can be reached; after a failover name the new primary there, or take \
     [primary] out if the source is the primary itself (docs/runbooks/fail-over-the-primary.md)";

/// Asks, where there is a doubt, and holds the moment's time if it stays.
pub(crate) async fn judge(config: &Config, moment: &mut Moment) {
    moment.doubt = doubt(config, moment).await;
    moment.hold_time();
}

/// The same for a run that looks every second.
pub(crate) struct Primacy {
    /// When, of which server, and what came of it.
    asked: Option<(Instant, Uuid, Option<Doubt>)>,
}

impl Primacy {
    /// `moment` has been judged just now.
    pub(crate) fn of(moment: &Moment) -> Primacy {
        let asked = moment.channels.is_empty();
        Primacy { asked: asked.then(|| (Instant::now(), moment.uuid, moment.doubt.clone())) }
    }

    pub(crate) async fn judge(&mut self, config: &Config, moment: &mut Moment) {
        if !moment.channels.is_empty() {
            self.asked = None;
            return;
        }
        let known = self.asked.take();
        let (at, uuid, doubt) = match known {
            Some((at, uuid, doubt)) if uuid == moment.uuid && at.elapsed() < ASK_AGAIN => (at, uuid, doubt),
            _ => {
                let doubt = doubt(config, moment).await;
                if let Some(doubt) = &doubt {
                    tracing::warn!("{doubt}");
                }
                (Instant::now(), moment.uuid, doubt)
            }
        };
        moment.doubt.clone_from(&doubt);
        moment.hold_time();
        self.asked = Some((at, uuid, doubt));
    }
}

async fn doubt(config: &Config, moment: &Moment) -> Option<Doubt> {
    let primary = config.primary.as_ref()?;
    let source = &config.mysql;
    let is_there =
        (&source.host, source.port, &source.socket) == (&primary.host, primary.port, &primary.socket);
    if !moment.channels.is_empty() || is_there {
        return None;
    }
    match uuid(primary).await {
        Ok(uuid) if uuid == moment.uuid => None,
        Ok(_) => Some(Doubt {
            what: format!(
                "{source} replicates from nobody, and {primary} of [primary] is another server: it is a copy that \
                 nobody feeds, so as_of stands still"
            ),
            hint: FEED_IT,
        }),
        Err(error) => Some(Doubt {
            what: format!(
                "{source} replicates from nobody, and whether it is the primary cannot be asked ({}), so as_of stands \
                 still",
                chain(&error)
            ),
            hint: REACH_IT,
        }),
    }
}

async fn uuid(server: &MysqlConfig) -> Result<Uuid> {
    let mut conn = mysql::connect(server).await?;
    let doing = format!("read server_uuid at {server}");
    let text: Option<String> =
        conn.query_first("SELECT @@GLOBAL.server_uuid").await.map_err(|cause| mysql::error(cause, &doing))?;
    let _ = conn.disconnect().await;
    let text = text.unwrap_or_default();
    Uuid::parse_str(&text)
        .map_err(|cause| Error::new(Kind::Mysql, format!("{doing}: it is {text:?}")).caused_by(cause))
}
