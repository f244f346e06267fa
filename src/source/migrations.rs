//! `migrations`: online migrations in flight, how far every region is with them, and whether the cut-over is safe
//! everywhere.
//!
//! It is safe for a region that has committed everything which the source had executed when it was asked, has the
//! ghost table, and has neither it nor its table in quarantine: then the RENAME finds in that region what it finds at
//! the source. Looks only; what is not known counts as not safe.
//!
//! What is looked at is the primary, if the config names one, because migrations run there; else the source.
//!
//! "Everything" has no exceptions, though what matters is only what touches the ghost: a GTID does not say what it
//! touches, and one that the primary no longer holds and the source never had may be a row of the ghost that was
//! purged too early. So what can never come is waited for as well, but not without a word: it is named, with the way out.

mod judge;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet, quote};
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::mysql::{self, Ghost};
use crate::source::moment::Moment;
use crate::source::preflight::on_schema;
use crate::source::status::is_locked;
use crate::source::upload::lock_name;
use crate::source::{moment, primacy, standstill};
use crate::store::{Fetched, Listed, Store};
use crate::stream::{KeyKind, RegionReport, Seq, StreamTx};

pub use judge::{Question, SILENT_AFTER, judge, need};

/// Privileges on a schema that show its tables.
const SHOWING: [&str; 4] = ["REFERENCES", "SELECT", "INSERT", "CREATE"];

/// What the servers at the source's side have at one moment.
#[derive(Clone, Debug)]
pub struct Look {
    /// The server that was looked at.
    pub server: String,
    /// Read behind `ghosts`: what made them is in it. Of a replica also what it has received and not executed yet.
    pub executed: GtidSet,
    /// Of it, what the primary cannot send any more and the source neither has nor makes: it never comes.
    pub stranded: GtidSet,
    pub ghosts: Vec<Ghost>,
    /// Whether an upload holds the stream's lock at the source.
    pub uploading: bool,
    /// Why no cut-over is safe, whatever the regions have.
    pub blockers: Vec<String>,
    pub warnings: Vec<String>,
}

/// A region's last report, and when it came by the store's clock; or why it cannot be read.
#[derive(Clone, Debug)]
pub struct Reported {
    pub region: String,
    pub received_at: DateTime<Utc>,
    pub report: Result<RegionReport, String>,
}

/// Where a region has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    #[serde(serialize_with = "super::upload::seq_as_text")]
    pub seq: Seq,
    #[serde(serialize_with = "super::upload::tx_as_text")]
    pub last_tx: StreamTx,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
pub struct Migrations {
    pub stream: String,
    /// The server whose state is meant.
    pub server: String,
    /// That state: everything here is measured against it.
    pub executed: GtidSet,
    /// Of it, so many transactions are not in the stream yet.
    #[serde(serialize_with = "super::upload::as_text")]
    pub not_shipped: u64,
    pub uploading: bool,
    /// The entry that brings a region there; absent as long as it is not shipped.
    pub need: Option<Need>,
    /// By table.
    pub migrations: Vec<Migration>,
    /// Ghost tables that no migration needs: old tables that were kept, or what one that was given up left behind.
    pub leftovers: Vec<Leftover>,
    pub warnings: Vec<String>,
}

/// One migration in flight.
#[derive(Clone, Debug, Serialize)]
pub struct Migration {
    pub table: TableName,
    /// The table that is to take its place.
    pub ghost: TableName,
    /// `gh-ost` or `pt-online-schema-change`, by the ghost's name.
    pub tool: String,
    /// When the ghost was made or last altered.
    pub since: Option<DateTime<Utc>>,
    pub regions: Vec<Progress>,
    /// Whether the cut-over is safe in every region that is not ignored.
    pub safe: bool,
    /// Why it is not: one reason each, with its region's name.
    pub held_up_by: Vec<String>,
}

/// How far a region is with a migration.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    pub region: String,
    pub state: State,
    /// It is left out of the answer, by the operator's word.
    pub ignored: bool,
    #[serde(serialize_with = "super::upload::tx_as_text")]
    pub last_tx: StreamTx,
    /// Stream transactions that it lacks; absent if it is not known how many.
    #[serde(serialize_with = "opt_as_text")]
    pub behind: Option<u64>,
    pub lag_seconds: Option<u64>,
    pub received_at: DateTime<Utc>,
    /// What is in the way there; absent if nothing is.
    pub why: Option<String>,
}

/// How a region is, as far as a migration goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = MigrationState)]
pub enum State {
    /// It has everything: the cut-over does there what it does at the source.
    Complete,
    /// It is on its way.
    Behind,
    /// The table or a ghost of it is in quarantine: the cut-over is passed over, and a dump has to bring the table.
    Quarantined,
    /// The ghost is not there, or nobody knows whether it is: the region was made in the middle of the migration.
    NoGhost,
    /// Its own list does not let the table in: it has no say.
    LeftOut,
    /// It has not reported for too long.
    Silent,
    /// Its report is of another stream, or cannot be read.
    Unknown,
}

impl State {
    /// Whether the cut-over need not wait for such a region.
    pub fn is_safe(self) -> bool {
        matches!(self, State::Complete | State::LeftOut)
    }

    pub fn name(self) -> &'static str {
        match self {
            State::Complete => "complete",
            State::Behind => "behind",
            State::Quarantined => "quarantined",
            State::NoGhost => "no ghost",
            State::LeftOut => "left out",
            State::Silent => "silent",
            State::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Leftover {
    pub table: TableName,
    pub of: TableName,
}

/// Looks at the servers.
pub async fn look(config: &Config, set: &TableSet) -> Result<Look> {
    let at = config.primary.as_ref().unwrap_or(&config.mysql);
    let server = at.to_string();
    let mut conn = mysql::connect(at).await?;
    let ghosts = mysql::ghosts(&mut conn, &server, set).await?;
    let there = moment::look(&mut conn, &server).await?;
    let mut warnings = Vec::new();
    if let Some((message, hint)) = blind(&mut conn, &server, set).await? {
        warnings.push(format!("{message}: {hint}"));
    }
    let mut look = Look {
        server,
        executed: there.executed.clone(),
        stranded: GtidSet::new(),
        ghosts,
        uploading: false,
        blockers: Vec::new(),
        warnings,
    };
    match source(config, (conn, &there), &mut look).await {
        // The primary has told what matters; the bucket tells whether it is shipped.
        Err(error) if config.primary.is_some() => {
            look.warnings.push(format!("the source cannot be looked at: {error}"));
        }
        done => done?,
    }
    Ok(look)
}

/// Whether the source ships what it is sent, and is sent anything. `conn`: to the server that was looked at, as it was
/// `there`.
async fn source(config: &Config, (conn, there): (Conn, &Moment), look: &mut Look) -> Result<()> {
    let server = config.mysql.to_string();
    let mut conn = match config.primary {
        Some(_) => mysql::connect(&config.mysql).await?,
        None => conn,
    };
    let mut moment = moment::look(&mut conn, &server).await?;
    primacy::judge(config, &mut moment).await;
    let still = standstill::told(&moment, &server);
    if config.primary.is_some() {
        // What it lacks is not shipped, which is told.
        look.warnings.extend(still);
        look.stranded = stranded(there, &moment);
        look.warnings.extend(moment.doubt.iter().map(ToString::to_string));
    } else if !moment.channels.is_empty() {
        look.executed.extend(&moment.known());
        look.blockers.extend(still);
        look.warnings.push(format!(
            "{server} is a replica: what its primary has not sent it yet is not waited for; name the primary in [primary]"
        ));
    }
    look.uploading = is_locked(&mut conn, &lock_name(&config.stream)).await?;
    Ok(())
}

/// What replication will not bring to the source: purged at the primary, or made by the source itself, whose own
/// transactions a receiver passes over (`replicate_same_server_id`), and lost there. What it has received is on its way.
fn stranded(there: &Moment, source: &Moment) -> GtidSet {
    if there.uuid == source.uuid {
        return GtidSet::new();
    }
    let missing = there.executed.difference(&source.known());
    let own = source.own_gone(&missing);
    missing.intersection(&there.purged).union(&own)
}

/// Why this account does not see ghost tables, and what to grant: the server shows it no table on which it has no
/// privilege at all, as if there were none.
pub(crate) async fn blind(conn: &mut Conn, server: &str, set: &TableSet) -> Result<Option<(String, String)>> {
    let privileges =
        mysql::Privileges::read(conn).await.map_err(|error| error.during(format!("look at {server}")))?;
    let sees = |schema: &String| SHOWING.iter().any(|privilege| privileges.in_schema(privilege, schema));
    let schemas = set.schemas();
    let Some(schema) = schemas.iter().find(|schema| !sees(schema)) else { return Ok(None) };
    let name = quote(schema);
    Ok(Some((
        format!("look for ghost tables at {server}: the account does not see every table of {name}"),
        format!(
            "{}; REFERENCES shows names and definitions, no rows",
            privileges.fit(on_schema("this account", set, schema))
        ),
    )))
}

/// Whether the server that migrations run on has this table.
pub async fn exists(config: &Config, table: &TableName) -> Result<bool> {
    let at = config.primary.as_ref().unwrap_or(&config.mysql);
    let mut conn = mysql::connect(at).await?;
    let found: Option<u8> = conn
        .exec_first(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (&table.schema, &table.table),
        )
        .await
        .map_err(|cause| mysql::error(cause, &format!("look for {table} at {at}")))?;
    Ok(found.is_some())
}

/// So many reports are fetched at once.
const AT_ONCE: usize = 8;

/// The last reports of the regions whose report's key begins with `prefix`, by name. One that cannot be fetched is one that
/// cannot be read: it hides no other.
pub async fn reports(store: &dyn Store, prefix: &str) -> Result<Vec<Reported>> {
    let fetched = listed(store, prefix).await?.into_iter().map(async |(region, listed)| {
        let fetched = reported(store, region.clone(), &listed).await;
        fetched.unwrap_or_else(|error| {
            Some(Reported { region, received_at: listed.modified, report: Err(chain(&error)) })
        })
    });
    let fetched: Vec<Option<Reported>> = stream::iter(fetched).buffered(AT_ONCE).collect().await;
    Ok(fetched.into_iter().flatten().collect())
}

/// The reports that there are, by the region's name.
pub async fn listed(store: &dyn Store, prefix: &str) -> Result<Vec<(String, Listed)>> {
    let region = |listed: Listed| match listed.key.parse() {
        Ok(KeyKind::Region { name }) => Some((name, listed)),
        _ => None,
    };
    let mut listed: Vec<_> = store.list(prefix).await?.into_iter().filter_map(region).collect();
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(listed)
}

/// A report that was listed; none: it was forgotten in between.
pub async fn reported(store: &dyn Store, region: String, listed: &Listed) -> Result<Option<Reported>> {
    let bytes = match store.get(&listed.key, None).await {
        Ok(Fetched::Object { bytes, .. }) => bytes,
        Ok(Fetched::Unchanged) => return Ok(None),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let report = RegionReport::parse(&region, &bytes).map_err(|error| error.to_string());
    Ok(Some(Reported { region, received_at: listed.modified, report }))
}

/// Refuses names of regions that nobody knows: a misspelt one would be waited for, for ever.
pub fn check_ignored(ignored: &BTreeSet<String>, reports: &[Reported]) -> Result<()> {
    let Some(odd) = ignored.iter().find(|name| !reports.iter().any(|known| known.region == **name)) else {
        return Ok(());
    };
    let known: Vec<&str> = reports.iter().map(|known| known.region.as_str()).collect();
    let known = if known.is_empty() { "none has".to_owned() } else { known.join(", ") };
    Err(Error::new(Kind::Usage, format!("ignore region {odd}: no region of this name has ever reported"))
        .hint(format!("regions that have: {known}")))
}

fn opt_as_text<S: serde::Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
