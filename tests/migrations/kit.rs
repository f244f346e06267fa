//! The recorded gh-ost session, a writer that does not stop, and whether a region has what the primary has.

use std::process::Command;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::heal::system::{Beside, System, connect};
use crate::support::mysql::Server;

/// What gh-ost and an application sent to a server during one whole migration.
const RECORDED: &str = include_str!("../fixtures/gh-ost-session.sql");
/// They lost to somebody else's locks: a deadlock, a lock that was not granted in time.
const LOCKED: [u16; 2] = [1205, 1213];

/// The recorded session for a table of schema `g`.
pub struct Session {
    setup: Vec<String>,
    statements: Vec<String>,
}

impl Session {
    pub fn of(table: &str) -> Session {
        let text = RECORDED
            .replace("gg.apps", &format!("g.{table}"))
            .replace("`gg`", "`g`")
            .replace("`apps`", &format!("`{table}`"))
            .replace("_apps_", &format!("_{table}_"));
        let (setup, statements) = text.split_once("-- app\n").expect("where the application begins");
        let split = |text: &str| -> Vec<String> {
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("-- ")).collect();
            let statements = lines.join("\n");
            let statements = statements.split(";\n").map(|text| text.trim().trim_end_matches(';').to_owned());
            statements.filter(|statement| !statement.is_empty()).collect()
        };
        Session { setup: split(setup), statements: split(statements) }
    }

    /// The names of gh-ost's `--timestamp-old-table`.
    pub fn with_timestamp(mut self) -> Session {
        for statement in &mut self.statements {
            *statement = statement.replace("_del`", "_20251121081530_del`");
        }
        self
    }

    /// The table as it was before, with its rows.
    pub fn setup(&self) -> String {
        let makes =
            |statement: &&String| statement.starts_with("create table") || statement.starts_with("insert");
        self.setup.iter().filter(makes).map(|statement| format!("{statement}; ")).collect()
    }

    fn cut_over(&self) -> usize {
        let is_it = |statement: &String| statement.starts_with("rename");
        self.statements.iter().position(is_it).expect("the cut-over")
    }

    /// All up to the cut-over.
    pub fn copying(&self) -> &[String] {
        &self.statements[..self.cut_over()]
    }

    /// The cut-over, and what follows.
    pub fn ending(&self) -> &[String] {
        &self.statements[self.cut_over()..]
    }
}

/// Three tables as the recorded one was, with nine hundred rows each.
pub fn setup() -> String {
    let tables: String = ["apps", "plans", "flags"].map(|table| Session::of(table).setup()).concat();
    format!("CREATE DATABASE g; SET SESSION explicit_defaults_for_timestamp=1; {tables}")
}

pub async fn play(conn: &mut Conn, statements: &[String]) {
    for statement in statements {
        run(conn, statement).await;
    }
}

async fn run(conn: &mut Conn, statement: &str) {
    match conn.query_drop(statement).await {
        Err(mysql_async::Error::Server(error)) if LOCKED.contains(&error.code) => {}
        done => done.unwrap_or_else(|error| panic!("{statement}: {error}")),
    }
}

/// Changes all three tables without a pause.
pub fn writer(primary: &Server) -> Beside {
    let port = primary.port;
    Beside::new(move |over| async move {
        let mut conn = connect(port).await;
        let mut n = 0;
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            n += 1;
            for table in ["apps", "plans", "flags"] {
                let at = n * 13 % 880;
                let statements = [
                    format!(
                        "INSERT INTO g.{table} (name, price, meta) VALUES ('written {n}', {n}, '{{\"w\": {n}}}')"
                    ),
                    format!(
                        "UPDATE g.{table} SET price = {n}, status = 'live' WHERE id BETWEEN {at} AND {at} + 9"
                    ),
                    format!("DELETE FROM g.{table} WHERE id = {at} + 3"),
                ];
                for statement in statements {
                    run(&mut conn, &statement).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        n
    })
}

/// Every table of the schema: name, checksum, definition.
pub async fn tables(server: &Server) -> Vec<(String, Option<u64>, String)> {
    let names: Vec<String> = server
        .rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'g' ORDER BY 1")
        .await;
    let mut tables = Vec::new();
    for name in names {
        let checksum = server.checksum(&format!("g.{name}")).await;
        // It may go while they are read.
        let shown: Result<Vec<(String, String)>, _> =
            connect(server.port).await.query(format!("SHOW CREATE TABLE g.{name}")).await;
        let definition = shown.unwrap_or_default().into_iter().map(|(_, text)| text).collect::<String>();
        // Without the counter, which rows move.
        let definition: Vec<&str> =
            definition.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect();
        tables.push((name, checksum, definition.join(" ")));
    }
    tables
}

/// Waits until both regions have what the primary has, which nobody writes to any more; the names of all tables.
pub async fn become_equal(system: &mut System) -> Vec<String> {
    let there = tables(&system.primary).await;
    for region in 0..2 {
        system
            .wait_until("a region equals the primary", async |system| {
                tables(&system.regions[region]).await == there
            })
            .await;
    }
    there.into_iter().map(|(name, ..)| name).collect()
}

/// Waits until the primary's state of now has come to a region.
pub async fn arrived(system: &mut System, region: usize) {
    let executed = system.primary.gtid_executed().await;
    let config = ["eu", "ap"][region];
    system.run(config, &["wait", "--source-gtid", &executed.to_string(), "--timeout", "60s"], 0);
}

/// A hook of scripts/hooks, with the variables that gh-ost sets (github/gh-ost, go/logic/hooks.go).
pub fn hook(system: &System, name: &str, table: &str) -> Command {
    let mut command = Command::new(format!("{}/scripts/hooks/{name}", env!("CARGO_MANIFEST_DIR")));
    // What `tablecast` itself needs.
    let with = system.command("source", &[]);
    command
        .envs(with.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .current_dir(system.path("."));
    command
        .env("TABLECAST", env!("CARGO_BIN_EXE_tablecast"))
        .env("TABLECAST_CONFIG", system.path("source.toml"))
        .env("GH_OST_DATABASE_NAME", "g")
        .env("GH_OST_TABLE_NAME", table)
        .env("GH_OST_GHOST_TABLE_NAME", format!("_{table}_gho"))
        .env("GH_OST_OLD_TABLE_NAME", format!("_{table}_del"))
        .env("GH_OST_DDL", "add column region varchar(16)")
        .env("GH_OST_COPIED_ROWS", "900")
        .env("GH_OST_DRY_RUN", "false");
    command
}
