//! `tables`: change the stream's table set, and look at it.
//!
//! A change is one row in `tablecast.table_set` on the server that is written to (see `set_table`), so it stands in
//! the binlog at an exact place, and upload makes an entry of it when it comes by. Nothing else is written: a run that
//! is killed has either made the change or not, and the next one finds out which.
//!
//! `add` reads what comes in under a lock that lasts until the row is committed: what the row says of a table is true
//! at exactly that transaction.

mod add;
pub(super) mod doctor;
mod list;
mod remove;
mod report;

use mysql_async::Conn;

pub use add::add;
pub use list::{Listing, list};
pub use remove::remove;
pub use report::{Incoming, Report};

use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::source::set_table::{self, Change, Version};
use crate::source::{migrations, moment, passed_over, preflight, replica_filters};
use crate::store::{self, Store};
use crate::stream::{Head, Key, TableSetVersion, tables};
use crate::{failpoint, mysql};

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Why, for whoever looks at the table later.
    pub reason: Option<String>,
}

/// How often somebody else may change the set meanwhile.
const ROUNDS: u32 = 20;

/// The server that is written to, and what is known of the set there.
struct Desk<'a> {
    config: &'a Config,
    head: Head,
    conn: Conn,
    server: String,
    /// What regions would make of a change, where that is not well.
    warnings: Vec<String>,
}

impl<'a> Desk<'a> {
    async fn open(config: &'a Config, store: &dyn Store) -> Result<Self> {
        let head = read_head(store).await?;
        if head.format < tables::KNOWN_SINCE {
            let format = format!("{}.{}", head.format.major, head.format.minor);
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "change the table set: {} wrote the stream last, in format {format}, and would pass over the change for \
                     good",
                    head.writer
                ),
            )
            .hint("run `tablecast upload` of this version first, everywhere that an upload of this stream runs"));
        }
        let warnings = too_old(store, &head).await?;
        let (conn, server) = set_table::writer(config).await?;
        Ok(Self { config, head, conn, server, warnings })
    }

    /// The newest set, which upload may not have seen yet, with how many changes it has not.
    async fn newest(&mut self) -> Result<(TableSetVersion, Vec<Version>)> {
        let known = self.head.table_set.version;
        let versions = set_table::versions(&mut self.conn, &self.server, self.head.stream, known).await?;
        let pending = versions.unwrap_or_default();
        let executed = moment::executed(&mut self.conn, &self.server).await?;
        if let Some(error) = passed_over::of(&pending, &self.server, &self.head, &executed) {
            return Err(error);
        }
        let newest = match pending.last() {
            Some(Version { change, .. }) => {
                TableSetVersion { version: change.version, tables: change.tables.clone() }
            }
            None => self.head.table_set.clone(),
        };
        Ok((newest, pending))
    }

    /// What must hold of both servers for a set to travel. `to_come`: names of it without a table. Says what is worth a
    /// warning.
    async fn check(&mut self, tables: &TableSet, to_come: &[TableName]) -> Result<Vec<String>> {
        set_table::writes_rows(&mut self.conn, &self.server).await?;
        let mut warnings = preflight::require_of_primary(&mut self.conn, &self.server, tables).await?;
        if self.config.primary.is_some() {
            let source = self.config.mysql.to_string();
            let mut conn = mysql::connect(&self.config.mysql).await?;
            self.passes_the_filter(&mut conn, &source, tables, to_come).await?;
            warnings.extend(preflight::require(&mut conn, &source, tables).await?);
            set_table::would_stop_the_source(self.config).await?;
            let _ = conn.disconnect().await;
        }
        Ok(warnings)
    }

    /// I3: a mini-replica whose filter leaves a table out has nothing of it to ship, and leaves no trace of that.
    async fn passes_the_filter(
        &self,
        conn: &mut Conn,
        source: &str,
        tables: &TableSet,
        to_come: &[TableName],
    ) -> Result<()> {
        let hint = "let it in first: `tablecast processor rebuild --table …` makes the mini-replica again with the right filter, or \
                    stop its SQL thread, CHANGE REPLICATION FILTER, put the same in my.cnf, and start it \
                    (docs/runbooks/add-a-table.md)";
        let set_table = set_table::name();
        if replica_filters::leaves_out(conn, source, &set_table).await? {
            return Err(Error::new(
                Kind::Usage,
                format!("change the table set: the replication filter of the source {source} leaves out {set_table}, in which changes travel"),
            )
            .hint(hint));
        }
        let lost = replica_filters::left_out(conn, source, tables).await?;
        if lost.is_empty() {
            return Ok(());
        }
        let what = format!(
            "change the table set: the replication filter of the source {source} leaves out {}",
            lost.join(", ")
        );
        let hint = match to_come.iter().find(|table| lost.contains(&table.to_string())) {
            Some(table) => {
                format!(
                    "{} has no table {table}: is the name right? If it is to be made later, {hint}",
                    self.server
                )
            }
            None => hint.to_owned(),
        };
        Err(Error::new(Kind::Usage, what).hint(hint))
    }

    /// Writes the change down. The one place at which anything becomes different.
    async fn insert(&mut self, change: &Change, reason: Option<&str>) -> Result<()> {
        failpoint::hit("tables.before_insert");
        let stream = (self.head.stream, self.head.name.as_str());
        set_table::insert(&mut self.conn, &self.server, stream, change, reason).await?;
        failpoint::hit("tables.after_insert");
        Ok(())
    }
}

/// Regions whose version stops at a change of the set, as far as they have reported.
async fn too_old(store: &dyn Store, head: &Head) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for reported in migrations::reports(store, Key::REGIONS).await? {
        let report = match reported.report {
            Ok(report) => report,
            Err(error) => {
                warnings.push(format!(
                    "nobody knows whether region {} runs a version that knows changes of the table set: its report cannot be \
                     read: {error}",
                    reported.region
                ));
                continue;
            }
        };
        if report.stream == head.stream && report.format < tables::KNOWN_SINCE {
            warnings.push(format!(
                "region {} runs {}, which does not know changes of the table set: its apply would stop at this one with exit \
                 code 13 and the region serve ever older data, until it has this version",
                report.region, report.version
            ));
        }
    }
    Ok(warnings)
}

async fn read_head(store: &dyn Store) -> Result<Head> {
    match store::head::read(store, None).await {
        Ok(store::head::Read::Head { head, .. }) => Ok(*head),
        Ok(store::head::Read::Unchanged) => {
            Err(Error::new(Kind::Store, format!("read {}/index.json: unchanged since never", store.url())))
        }
        Err(error) if error.is_not_found() => Err(Error::new(
            Kind::Usage,
            format!("change the table set: there is no stream at {}", store.url()),
        )
        .hint("`tablecast stream init --table DB.T` makes one")
        .caused_by(error)),
        Err(error) => Err(error),
    }
}

/// Whether a set has this pattern, or one that holds all of it.
fn has(set: &TableSet, pattern: &TablePattern) -> bool {
    match pattern {
        TablePattern::Table(table) => set.names(table),
        TablePattern::Schema(schema) => set.has_whole_schema(schema),
    }
}

/// A table that the larger set names and the smaller does not.
fn comes_in(before: &TableSet, after: &TableSet, table: &TableName) -> bool {
    after.names(table) && !before.names(table)
}
