//! The servers of the conformance run, and what the runner asks of them.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};

use super::case::{Case, Step, Table};

/// A region's server that has everything otherwise than the source: nothing of it may change what arrives.
pub const HOSTILE: &[&str] = &[
    "--sql-mode=",
    "--default-time-zone=+09:30",
    "--character-set-server=latin1",
    "--collation-server=latin1_bin",
    "--explicit-defaults-for-timestamp=0",
    "--sql-generate-invisible-primary-key=1",
    "--sql-require-primary-key=1",
    "--auto-increment-increment=5",
    "--auto-increment-offset=2",
    "--innodb-strict-mode=0",
    "--transaction-isolation=READ-COMMITTED",
    "--default-week-format=3",
    "--div-precision-increment=9",
    "--lc-time-names=de_DE",
    "--group-concat-max-len=8",
    "--binlog-row-image=MINIMAL",
    "--binlog-transaction-compression=ON",
    "--binlog-row-value-options=PARTIAL_JSON",
    "--autocommit=0",
    "--completion-type=CHAIN",
    "--event-scheduler=ON",
    "--default-storage-engine=MyISAM",
];

/// A running server; removed when dropped, and when the test process ends in any other way.
pub struct Server {
    pub name: String,
    pub port: u16,
}

fn scripts_mysql(args: &[&str]) -> Result<String, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql");
    let output = Command::new(script).args(args).output().expect("run scripts/mysql");
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

impl Server {
    pub fn start(role: &str, options: &[&str]) -> Server {
        let owner = std::process::id().to_string();
        let name = format!("cases-{owner}-{role}");
        let mut args = vec!["start", &name, "--owner", &owner, "--"];
        args.extend_from_slice(options);
        let line = scripts_mysql(&args).unwrap_or_else(|e| panic!("start server {name}: {e}"));
        let port = line.split("port=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let port = port.and_then(|port| port.parse().ok()).unwrap_or_else(|| panic!("no port in {line:?}"));
        Server { name, port }
    }

    pub async fn connect(&self) -> Conn {
        let opts = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some("root"))
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 30));
        Conn::new(opts).await.unwrap_or_else(|e| panic!("connect to {}: {e}", self.name))
    }

    pub async fn value(&self, sql: &str) -> String {
        let mut conn = self.connect().await;
        conn.query_first::<String, _>(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).unwrap_or_default()
    }

    pub async fn run(&self, statements: &[&str]) {
        let mut conn = self.connect().await;
        for sql in statements {
            conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{} on {}: {e}", sql, self.name));
        }
    }

    pub async fn replicate_from(&self, source: &Server, filter: Option<&[Table]>) {
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='root', \
             SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1",
            source.port
        );
        if let Some(tables) = filter {
            let list: Vec<String> = tables.iter().map(Table::quoted).collect();
            let filter = format!("CHANGE REPLICATION FILTER REPLICATE_DO_TABLE = ({})", list.join(", "));
            self.run(&[&filter]).await;
        }
        self.run(&[&change, "START REPLICA"]).await;
    }

    /// Waits until this replica has what `source` has now.
    pub async fn caught_up(&self, source: &Server) -> Result<(), String> {
        let set = source.value("SELECT REPLACE(@@global.gtid_executed, '\\n', '')").await;
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut conn = self.connect().await;
        loop {
            let late: Option<u8> = conn
                .query_first(format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 1)"))
                .await
                .map_err(|e| format!("{} waits: {e}", self.name))?;
            if late == Some(0) {
                return Ok(());
            }
            let errors: Vec<String> = conn
                .query(
                    "SELECT LAST_ERROR_MESSAGE FROM performance_schema.replication_applier_status_by_worker \
                     WHERE LAST_ERROR_NUMBER <> 0 UNION SELECT LAST_ERROR_MESSAGE FROM \
                     performance_schema.replication_connection_status WHERE LAST_ERROR_NUMBER <> 0",
                )
                .await
                .unwrap();
            if !errors.is_empty() || Instant::now() > deadline {
                return Err(format!("replica {} stands still: {}", self.name, errors.join("; ")));
            }
        }
    }

    /// Plays a case's script, each of its sessions on a connection of its own.
    pub async fn play(&self, case: &Case, steps: &[Step], use_schema: bool) -> Result<(), String> {
        let mut sessions: HashMap<u32, Conn> = HashMap::new();
        let mut now = 1;
        for step in steps {
            let (text, fails) = match step {
                Step::Session(number) => {
                    now = *number;
                    continue;
                }
                Step::Statement { text, fails } => (text, *fails),
            };
            if let std::collections::hash_map::Entry::Vacant(slot) = sessions.entry(now) {
                let conn = slot.insert(self.connect().await);
                if use_schema {
                    conn.query_drop(format!("USE `{}`", case.schema())).await.map_err(|e| e.to_string())?;
                }
            }
            let outcome = sessions.get_mut(&now).unwrap().query_drop(text.as_slice()).await;
            let shown = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
            match outcome {
                Err(e) if !fails => return Err(format!("{shown}: {e}")),
                Ok(()) if fails => return Err(format!("{shown}: went through, the case says that it fails")),
                _ => {}
            }
        }
        for (_, conn) in sessions {
            conn.disconnect().await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The base tables of the schemas that start with `prefix`.
    pub async fn tables(&self, prefix: &str) -> Vec<Table> {
        let mut conn = self.connect().await;
        let rows: Vec<(String, String)> = conn
            .query(format!(
                "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
                 AND LEFT(TABLE_SCHEMA, {}) = '{prefix}' ORDER BY 1, 2",
                prefix.len()
            ))
            .await
            .unwrap();
        rows.into_iter().map(|(schema, name)| Table { schema, name }).collect()
    }

    /// What must be equal: the definition without its AUTO_INCREMENT counter, the number of rows, the checksum.
    pub async fn content(&self, tables: &[Table]) -> Vec<Content> {
        let mut conn = self.connect().await;
        let fixed = "SET SESSION autocommit = 1, sql_mode = '', time_zone = '+00:00', sql_quote_show_create = 1, \
                     show_gipk_in_create_table_and_information_schema = 1";
        conn.query_drop(fixed).await.unwrap();
        conn.query_drop("SET NAMES utf8mb4").await.unwrap();
        let defaults =
            "SELECT CHARACTER_SET_NAME, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS";
        let collations: Vec<(String, String)> = conn.query(defaults).await.unwrap();
        let mut contents = Vec::new();
        for table in tables {
            let name = table.quoted();
            let definition = match conn.query_first::<Row, _>(format!("SHOW CREATE TABLE {name}")).await {
                Ok(row) => normalised(&text(row.unwrap(), 1), &collations),
                Err(e) => {
                    contents.push(Content::Missing(e.to_string()));
                    continue;
                }
            };
            let rows =
                conn.query_first::<u64, _>(format!("SELECT COUNT(*) FROM {name}")).await.unwrap().unwrap();
            let checksum =
                conn.query_first::<Row, _>(format!("CHECKSUM TABLE {name}")).await.unwrap().unwrap();
            contents.push(Content::Table { definition, rows, checksum: text(checksum, 1) });
        }
        contents
    }

    /// All that is neither a table nor MySQL's own: views, routines, triggers, events, accounts.
    pub async fn other_objects(&self) -> Vec<String> {
        let mut conn = self.connect().await;
        conn.query(
            "SELECT CONCAT('view ', TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.VIEWS \
               WHERE TABLE_SCHEMA <> 'sys' \
             UNION ALL SELECT CONCAT(ROUTINE_TYPE, ' ', ROUTINE_SCHEMA, '.', ROUTINE_NAME) \
               FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA <> 'sys' \
             UNION ALL SELECT CONCAT('trigger ', TRIGGER_SCHEMA, '.', TRIGGER_NAME) \
               FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA <> 'sys' \
             UNION ALL SELECT CONCAT('event ', EVENT_SCHEMA, '.', EVENT_NAME) FROM information_schema.EVENTS \
             UNION ALL SELECT CONCAT('account ', user, '@', host) FROM mysql.user WHERE user LIKE 'c\\_%'",
        )
        .await
        .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = scripts_mysql(&["rm", &self.name]);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Missing(String),
    Table { definition: String, rows: u64, checksum: String },
}

fn text(row: Row, column: usize) -> String {
    match row.unwrap().swap_remove(column) {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}

/// Takes out what need not be equal: the AUTO_INCREMENT counter among the table's options (behind the last line that
/// starts with a parenthesis), and whether the default collation of a character set is written out, which a
/// CREATE TABLE ... SELECT changes on a native replica too.
fn normalised(create: &str, collations: &[(String, String)]) -> String {
    let options = create.rfind("\n) ").map_or(0, |at| at + 1);
    let (columns, options) = create.split_at(options);
    let mut text = match options.split_once(" AUTO_INCREMENT=") {
        // Inside a comment it would follow a quote.
        Some((before, after)) if !before.contains('\'') => {
            format!("{columns}{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        _ => create.to_owned(),
    };
    for (charset, collation) in collations {
        text = text.replace(
            &format!(" CHARACTER SET {charset} COLLATE {collation}"),
            &format!(" CHARACTER SET {charset}"),
        );
    }
    text
}
