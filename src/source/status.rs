//! `status` of the source role: where the stream stands, and what the source has that it lacks.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;
use uuid::Uuid;

use crate::binlog::name::{TableName, TableSet};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result, chain, chain_and_hint};
use crate::failure::{self, Failure, Kept};
use crate::mysql;
use crate::source::upload::{beyond, lock_name, show_time};
use crate::source::{gap, moment, owed, passed_over, primacy, set_table, standstill};
use crate::store::{self, Store};
use crate::stream::{Gap, Head, Paused, Refused, Seq, StreamTx};

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {}

#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub stream: String,
    pub uuid: Uuid,
    pub store: String,
    #[serde(serialize_with = "super::upload::seq_as_text")]
    pub last_seq: Seq,
    #[serde(serialize_with = "super::upload::tx_as_text")]
    pub last_tx: StreamTx,
    /// The source's time up to which the stream is complete.
    pub as_of: DateTime<Utc>,
    /// From then to now, by this machine's clock.
    pub lag_seconds: Option<u64>,
    /// The table set's version in the stream.
    #[serde(serialize_with = "super::upload::as_text")]
    pub table_set_version: u64,
    /// Whether regions wait for a dump of all tables, because some came in that hold rows.
    pub owes_dump: bool,
    /// The tables that they wait for; none if an older version asked for the dump.
    pub owed_for: Vec<TableName>,
    /// Changes of the table set that upload has not come to yet.
    pub set_changes: Vec<OpenChange>,
    /// What the source's filter may have kept from the stream, which goes on behind a resync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// The transaction that upload cannot come past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Somebody wants nothing shipped for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// How the last upload of this machine ended, if not well.
    #[serde(rename = "failure")]
    pub failure_here: Option<Failure>,
    /// Absent if the source cannot be reached; then a warning says why.
    pub source: Option<SourceState>,
    pub warnings: Vec<String>,
    /// Why the source could not be looked at.
    #[serde(skip)]
    pub failure: Option<Arc<Error>>,
}

/// A version of the table set that is not in the stream.
#[derive(Clone, Debug, Serialize)]
pub struct OpenChange {
    #[serde(serialize_with = "super::upload::as_text")]
    pub version: u64,
    pub tables: TableSet,
    pub changed_at: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct SourceState {
    pub server: String,
    pub version: String,
    /// `primary`, `replica`, or `copy`: no replica, and not the primary of `[primary]`.
    pub role: &'static str,
    /// Transactions executed there that the stream has not covered yet, those that do not travel included.
    #[serde(serialize_with = "super::upload::as_text")]
    pub waiting: u64,
    /// Whether an upload holds the stream's lock now.
    pub uploading: bool,
}

/// What the last upload from this machine failed with, unless one has worked since, here or at another machine.
pub fn last_failure(config: &Config, head: Option<&Head>) -> Option<Failure> {
    let kept = Kept::read(&failure::file(config, "upload"))?;
    let is_over = head.is_some_and(|head| head.as_of > kept.failure.at);
    (!is_over).then_some(kept.failure)
}

/// Looks at the head and at the source. A source that cannot be reached is a warning: the bucket's side is
/// worth showing then too, before the run ends with what its error means.
pub async fn run(
    config: &Config,
    store: &dyn Store,
    clock: &dyn Clock,
    _options: &Options,
) -> Result<Status> {
    let head = match store::head::read(store, None).await? {
        store::head::Read::Head { head, .. } => head,
        store::head::Read::Unchanged => {
            let what = format!("read {}/index.json: \"not modified\" to a plain read", store.url());
            return Err(crate::Error::new(crate::Kind::Store, what));
        }
    };
    store::head::check_name(&config.stream, &head, &store.url())?;
    // A stream that begins at a copy's GTID set has no time before its first upload.
    let known = head.as_of != DateTime::UNIX_EPOCH;
    let lag = u64::try_from((clock.now() - head.as_of).num_seconds()).unwrap_or(0);
    let mut status = Status {
        stream: config.stream.clone(),
        uuid: head.stream,
        store: config.store.to_string(),
        last_seq: head.last_seq,
        last_tx: head.last_tx,
        as_of: head.as_of,
        lag_seconds: known.then_some(lag),
        table_set_version: head.table_set.version,
        owes_dump: owed::owes(&head),
        owed_for: head.set_changed.iter().flat_map(|changed| changed.owed_for.clone()).collect(),
        set_changes: Vec::new(),
        gap: head.gap.clone(),
        refused: head.refused.clone(),
        paused: head.pause(clock.now()).cloned(),
        failure_here: last_failure(config, Some(&head)),
        source: None,
        warnings: Vec::new(),
        failure: None,
    };
    match source(config, &head, &mut status.warnings).await {
        Ok(source) => status.source = Some(source),
        Err(error) => {
            let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
            status.warnings.push(format!("the source cannot be looked at: {error}{hint}"));
            status.failure = Some(Arc::new(error));
        }
    }
    if let Some(gap) = &status.gap {
        status.warnings.push(chain_and_hint(&gap::told(gap, &config.mysql.to_string())));
    }
    match set_changes(config, &head, &mut status.warnings).await {
        Ok(changes) => status.set_changes = changes,
        // Said already.
        Err(_) if status.source.is_none() && config.primary.is_none() => {}
        Err(error) => status.warnings.push(format!(
            "nobody has looked for changes of the table set that upload has not come to: {}",
            chain(&error)
        )),
    }
    Ok(status)
}

/// At the server that is written to, where the config names it; else what has come to the source.
async fn set_changes(
    config: &Config,
    head: &crate::stream::Head,
    warnings: &mut Vec<String>,
) -> Result<Vec<OpenChange>> {
    let at = config.primary.as_ref().unwrap_or(&config.mysql);
    let server = at.to_string();
    let mut conn = mysql::connect(at).await?;
    let newer = set_table::versions(&mut conn, &server, head.stream, head.table_set.version).await?;
    let newer = newer.unwrap_or_default();
    let executed = moment::executed(&mut conn, &server).await?;
    let _ = conn.disconnect().await;
    warnings.extend(passed_over::of(&newer, &server, head, &executed).as_ref().map(chain_and_hint));
    let open = |version: set_table::Version| OpenChange {
        version: version.change.version,
        tables: version.change.tables,
        changed_at: version.changed_at,
    };
    Ok(newer.into_iter().map(open).collect())
}

async fn source(
    config: &Config,
    head: &crate::stream::Head,
    warnings: &mut Vec<String>,
) -> Result<SourceState> {
    let server = config.mysql.to_string();
    let mut conn = mysql::connect(&config.mysql).await?;
    let version = mysql::server(&mut conn).await?.version_text;
    let mut moment = moment::look(&mut conn, &server).await?;
    primacy::judge(config, &mut moment).await;
    let uploading = is_locked(&mut conn, &lock_name(&config.stream)).await?;
    warnings.extend(standstill::told_with_way_out(&moment, &server));
    warnings.extend(moment.doubt.iter().map(ToString::to_string));
    let beyond = beyond(head, &moment);
    if !beyond.is_empty() {
        warnings.push(format!("{server} does not have {beyond}, which the stream covers"));
    }
    Ok(SourceState {
        server,
        version,
        role: match moment.channels.is_empty() {
            true if moment.is_primary() => "primary",
            true => "copy",
            false => "replica",
        },
        waiting: moment.executed.difference(&head.covered).count(),
        uploading,
    })
}

/// Whether an upload runs.
pub(crate) async fn is_locked(conn: &mut Conn, name: &str) -> Result<bool> {
    let holder: Option<Option<u64>> = conn
        .exec_first("SELECT IS_USED_LOCK(?)", (name,))
        .await
        .map_err(|cause| mysql::error(cause, "read who holds the stream's lock"))?;
    Ok(holder.flatten().is_some())
}

impl Status {
    /// The dump that regions wait for, in words.
    pub fn owed(&self) -> Option<String> {
        let names =
            |tables: &[TableName]| tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let for_what = match self.owed_for.as_slice() {
            [] => String::new(),
            tables => format!(" ({})", names(tables)),
        };
        self.owes_dump.then(|| {
            format!(
                "a dump of all tables: some came in that hold rows{for_what}, and every region waits for them"
            )
        })
    }
}

impl fmt::Display for OpenChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of the table set, made at {}: {}", self.version, self.changed_at, self.tables)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at {}", self.stream, self.store)?;
        write!(
            f,
            "complete until {}{}: entry {}, transaction {}",
            show_time(self.as_of),
            self.lag_seconds.map(|lag| format!(" ({lag} s ago)")).unwrap_or_default(),
            self.last_seq.0,
            self.last_tx.0
        )?;
        if let Some(paused) = &self.paused {
            write!(f, "\npaused {paused}")?;
        }
        if let Some(refused) = &self.refused {
            write!(f, "\nlast error: {}", chain_and_hint(&refused.error()))?;
        }
        if let Some(owed) = self.owed() {
            write!(f, "\nowed: {owed}")?;
        }
        for change in &self.set_changes {
            write!(f, "\nnot read yet: {change}")?;
        }
        if let Some(source) = &self.source {
            let upload = if source.uploading { "an upload is running" } else { "no upload is running" };
            write!(
                f,
                "\n{} (MySQL {}, a {}): {} transactions not read yet, {upload}",
                source.server, source.version, source.role, source.waiting
            )?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}
