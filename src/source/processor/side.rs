//! One of the two servers, as it is now.

use std::collections::BTreeSet;
use std::fmt;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::others;
use super::rules::Rules;
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet, is_system_schema};
use crate::config::MysqlConfig;
use crate::error::{Error, Kind, Result};
use crate::mysql::{self, ReplicaStatus, Server};
use crate::source::moment::{self, Moment};
use crate::source::replica_filters::{self, ForNew};

pub(super) struct Side {
    pub config: MysqlConfig,
    /// As messages name it.
    pub name: String,
    pub conn: Conn,
    pub server: Server,
    pub moment: Moment,
    pub grants: Vec<String>,
    pub has_plugin: bool,
}

impl Side {
    pub(super) async fn look(config: &MysqlConfig) -> Result<Side> {
        let name = config.to_string();
        let mut conn = mysql::connect(config).await?;
        let server = mysql::server(&mut conn).await?;
        let moment = moment::look(&mut conn, &name).await?;
        let grants = grants(&mut conn, &name).await?;
        let has_plugin = has_plugin(&mut conn, &name).await?;
        Ok(Side { config: config.clone(), name, conn, server, moment, grants, has_plugin })
    }

    /// Where another server reaches this one.
    pub(super) fn address(&self) -> Result<(String, u16)> {
        address(&self.config)
    }

    pub(super) async fn run(&mut self, statement: &str) -> Result<()> {
        // What is named is not the whole statement: it may hold a password.
        let verb = statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let doing = format!("{verb} at {}", self.name);
        self.conn.query_drop(statement).await.map_err(|cause| mysql::error(cause, &doing))
    }
}

pub(super) async fn grants(conn: &mut Conn, name: &str) -> Result<Vec<String>> {
    let doing = format!("SHOW GRANTS at {name}");
    conn.query("SHOW GRANTS").await.map_err(|cause| mysql::error(cause, &doing))
}

async fn has_plugin(conn: &mut Conn, name: &str) -> Result<bool> {
    let doing = format!("read information_schema.PLUGINS at {name}");
    let found: Option<String> = conn
        .query_first("SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    Ok(found.is_some_and(|status| status == "ACTIVE"))
}

/// How long a server keeps its binary logs, and what there is of them.
pub(super) struct Retention {
    /// Never by age.
    pub seconds: Option<u64>,
    pub files: usize,
    pub bytes: u64,
}

impl Retention {
    pub(super) async fn look(side: &mut Side) -> Result<Retention> {
        let doing = format!("read how long {} keeps its binary logs", side.name);
        let settings: Vec<(String, String)> = side
            .conn
            .query(
                "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_expire_logs_seconds', \
                 'binlog_expire_logs_auto_purge')",
            )
            .await
            .map_err(|cause| mysql::error(cause, &doing))?;
        let value =
            |wanted: &str| settings.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
        // Since 8.0.29; before, it always purges.
        let purges = value("binlog_expire_logs_auto_purge") != Some("OFF");
        let seconds = value("binlog_expire_logs_seconds").and_then(|seconds| seconds.parse().ok());
        let logs: Vec<Row> =
            side.conn.query("SHOW BINARY LOGS").await.map_err(|cause| mysql::error(cause, &doing))?;
        let size = |row: &Row| row.get_opt::<u64, _>(1).and_then(|size| size.ok()).unwrap_or(0);
        Ok(Retention {
            seconds: seconds.filter(|seconds| purges && *seconds > 0),
            files: logs.len(),
            bytes: logs.iter().map(size).sum(),
        })
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            None => write!(f, "it purges none by age")?,
            Some(seconds) if seconds >= 2 * 86_400 => {
                write!(f, "it keeps them for {} days", seconds / 86_400)?
            }
            Some(seconds) if seconds >= 2 * 3600 => write!(f, "it keeps them for {} hours", seconds / 3600)?,
            Some(seconds) => write!(f, "it keeps them for {} minutes", seconds / 60)?,
        }
        write!(f, "; {} files, {} MiB now", self.files, self.bytes >> 20)
    }
}

/// The account of the one server, at the other.
pub(super) fn same_account(of: &Side, at: &Side) -> MysqlConfig {
    let mut same = MysqlConfig { user: of.config.user.clone(), ..at.config.clone() };
    same.password = of.config.password.clone();
    same
}

/// Refuses a server that applies this stream or another, before anything else of it is looked at: its account has a
/// region's privileges, and to ask for others there would lead astray.
pub(super) async fn is_no_region(config: &MysqlConfig, stream: &str) -> Result<()> {
    const NO_SUCH_SCHEMA: u16 = 1049;
    const NO_SUCH_TABLE: u16 = 1146;
    let mut conn = mysql::connect(config).await?;
    let query = "SELECT name FROM tablecast.position ORDER BY name = ? DESC LIMIT 1";
    let found = conn.exec_first::<String, _, _>(query, (stream,)).await;
    let what = match found {
        Ok(None) => None,
        Ok(Some(name)) if name == stream => Some("it is a region of this very stream".to_owned()),
        Ok(Some(name)) => Some(format!("it is a region of the stream {name}")),
        Err(mysql_async::Error::Server(error)) if [NO_SUCH_SCHEMA, NO_SUCH_TABLE].contains(&error.code) => {
            None
        }
        // What may not be read is denied also where it does not exist.
        Err(mysql_async::Error::Server(error)) => {
            let tables = tables(&mut conn, &config.to_string()).await?;
            tables.contains("tablecast/position").then(|| {
                format!(
                    "it has tablecast.position, as a region does, which this account may not read ({})",
                    error.message
                )
            })
        }
        Err(cause) => return Err(mysql::error(cause, &format!("read tablecast.position at {config}"))),
    };
    let _ = conn.disconnect().await;
    let Some(what) = what else { return Ok(()) };
    Err(Error::new(Kind::Usage, format!("make the processor {config}: {what}")).hint(
        "does [mysql] name the wrong server? The processor is another one than any region's, and --replace does not \
         change that. One that is a region no more: DROP TABLE tablecast.position there first",
    ))
}

/// What only the processor is asked.
pub(super) struct Recipient {
    pub channels: Vec<ReplicaStatus>,
    pub clone: Option<CloneStatus>,
    /// How many tables of people's schemas it holds.
    pub tables: u64,
    /// Filters of new channels.
    pub filters: ForNew,
    /// Tables that the filters of the processor to be will not let in; of a server that CLONE overwrites they say nothing.
    pub others: Vec<TableName>,
    /// Those of them that the donor does not have.
    pub strangers: Vec<TableName>,
    /// Tables that the filters in force let in, and those that a copy would get do not.
    pub strays: Vec<TableName>,
    /// Tables of the set that the donor has and this server has not.
    pub missing: Vec<TableName>,
    /// Users other than ours that are connected.
    pub sessions: Vec<String>,
}

impl Recipient {
    pub(super) async fn look(
        side: &mut Side,
        donor: &mut Side,
        (set, rules): (&TableSet, &Rules),
    ) -> Result<Recipient> {
        let tables = tables(&mut side.conn, &side.name).await?;
        let innodb = tables.iter().filter(|name| !is_system(name)).count() as u64;
        let filters = replica_filters::of_new_channels(&mut side.conn, &side.name).await?;
        let others = match rules.fit(&filters.in_force) {
            true => others::find(side, set, &filters.in_force).await?,
            false => others::find(side, set, &rules.filters()).await?,
        };
        let then = match rules.fit(&filters.configured) {
            true => others::find(side, set, &filters.configured).await?,
            false => others::find(side, set, &rules.filters()).await?,
        };
        Ok(Recipient {
            strangers: others::strangers(donor, side, &others).await?,
            strays: then.into_iter().filter(|table| filters.in_force.lets_in(table)).collect(),
            sessions: sessions(side).await?,
            others,
            missing: others::missing(donor, side, set).await?,
            channels: mysql::replica_status(&mut side.conn).await?,
            clone: clone_status(&mut side.conn, &side.name).await?,
            // The first sees what the account has no right on, the second what is not InnoDB's.
            tables: innodb.max(others::count(side).await?),
            filters,
        })
    }
}

/// Every table of the server, as `schema/table` in the letters of file names. Not from information_schema.TABLES, which
/// hides what the account has no privilege for: CLONE drops that too.
async fn tables(conn: &mut Conn, server: &str) -> Result<BTreeSet<String>> {
    let doing = format!("read information_schema.INNODB_TABLES at {server}");
    let names: Vec<String> = conn
        .query("SELECT NAME FROM information_schema.INNODB_TABLES")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    let whole = |name: String| name.split("#p#").next().unwrap_or_default().to_owned();
    Ok(names.into_iter().map(whole).collect())
}

/// Who is connected besides this account, which may have been left by a run that was killed.
async fn sessions(side: &mut Side) -> Result<Vec<String>> {
    const SERVER_S: [&str; 2] = ["system user", "event_scheduler"];
    let doing = format!("SHOW PROCESSLIST at {}", side.name);
    let rows: Vec<Row> =
        side.conn.query("SHOW PROCESSLIST").await.map_err(|cause| mysql::error(cause, &doing))?;
    let user = |row: &Row| row.get_opt::<String, _>(1).and_then(|user| user.ok());
    let is_other = |user: &String| *user != side.config.user && !SERVER_S.contains(&user.as_str());
    Ok(rows.iter().filter_map(user).filter(is_other).collect())
}

fn is_system(name: &str) -> bool {
    name.split_once('/').is_none_or(|(schema, _)| is_system_schema(schema))
}

/// Where another server reaches this one.
pub(super) fn address(config: &MysqlConfig) -> Result<(String, u16)> {
    match (&config.host, &config.socket) {
        (host, None) => Ok((host.clone().unwrap_or_else(|| "127.0.0.1".to_owned()), config.port)),
        (_, Some(socket)) => Err(Error::new(
            Kind::Usage,
            format!("make the processor from {}: no other server reaches a socket", socket.display()),
        )
        .hint("give [primary] the host and port that the processor's machine knows it by")),
    }
}

/// `performance_schema.clone_status`: the last CLONE that made this server what it is. It outlives the restart.
#[derive(Clone, Debug)]
pub(crate) struct CloneStatus {
    /// When it began: tells one from another.
    pub begin: String,
    /// `Not Started`, `In Progress`, `Completed` or `Failed`.
    pub state: String,
    /// `host:port`
    pub source: String,
    pub error: String,
    pub executed: GtidSet,
}

/// `None`: there was none, or the plugin is not loaded.
pub(crate) async fn clone_status(conn: &mut Conn, name: &str) -> Result<Option<CloneStatus>> {
    const NO_SUCH_TABLE: u16 = 1146;
    let doing = format!("read performance_schema.clone_status at {name}");
    let query = "SELECT STATE, SOURCE, CONCAT(ERROR_NO, ' ', ERROR_MESSAGE), GTID_EXECUTED, \
                 COALESCE(CAST(BEGIN_TIME AS CHAR), '') FROM performance_schema.clone_status";
    let row: Option<Row> = match conn.query_first(query).await {
        Ok(row) => row,
        Err(mysql_async::Error::Server(error)) if error.code == NO_SUCH_TABLE => None,
        Err(cause) => return Err(mysql::error(cause, &doing)),
    };
    let Some(row) = row else { return Ok(None) };
    let text = |index: usize| row.get_opt::<String, _>(index).and_then(|text| text.ok()).unwrap_or_default();
    let executed = text(3).replace('\n', "").parse().map_err(|error: Error| error.during(&doing))?;
    Ok(Some(CloneStatus { begin: text(4), state: text(0), source: text(1), error: text(2), executed }))
}
