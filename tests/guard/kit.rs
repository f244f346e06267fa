//! A region whose tables are guarded, and an application that tries to write there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::task::JoinHandle;

pub use crate::apply::kit::Stream;
use crate::support::mysql::Server;

pub const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40)); CREATE TABLE @.b (id INT PRIMARY KEY, v VARCHAR(40))";

/// ER_SIGNAL_EXCEPTION
pub const REFUSED: u16 = 1644;
/// ER_TABLEACCESS_DENIED_ERROR
pub const DENIED: u16 = 1142;

/// A stream with some rows, a region that has applied them with the guard as its config has it by default, and an
/// account of an application there that may write to the whole schema.
pub async fn guarded(schema: &'static str) -> (Stream, Server) {
    guarded_of(Stream::new(schema, TABLES).await.guarded()).await
}

/// The same where the program is root.
pub async fn guarded_by_root(schema: &'static str) -> (Stream, Server) {
    guarded_of(Stream::new(schema, TABLES).await.guarded().by_root("guard status")).await
}

async fn guarded_of(stream: Stream) -> (Stream, Server) {
    let schema = stream.schema;
    stream.sql("INSERT INTO @.a VALUES (1, 'x'), (2, 'y'); INSERT INTO @.b VALUES (1, 'z')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    region
        .sql(&format!(
            "CREATE USER app@'%'; GRANT FILE ON *.* TO app@'%'; GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.* TO app@'%'"
        ))
        .await;
    (stream, region)
}

/// A connection of this account.
pub async fn login(region: &Server, user: &str) -> Conn {
    tablecast::mysql::connect(&region.config_as(user, "")).await.unwrap()
}

/// Number and message of the error that a statement ends with; 0 if it is carried out.
pub async fn outcome(conn: &mut Conn, statement: &str) -> (u16, String) {
    match conn.query_drop(statement).await {
        Ok(()) => (0, String::new()),
        Err(mysql_async::Error::Server(error)) => (error.code, error.message),
        Err(error) => panic!("{statement}: {error}"),
    }
}

pub fn message(schema: &str, table: &str) -> String {
    format!("{schema}.{table} is written at the source of stream '{schema}' only (Tablecast stream {schema})")
}

/// Asserts that rows of these tables cannot be written by the application.
pub async fn assert_guarded(stream: &Stream, region: &Server, tables: &[&str]) {
    let mut app = login(region, "app").await;
    for table in tables {
        for statement in ["INSERT INTO @ () VALUES ()", "UPDATE @ SET id = 99", "DELETE FROM @"] {
            let name = format!("{}.{table}", stream.schema);
            let (code, said) = outcome(&mut app, &statement.replace('@', &name)).await;
            // Nothing is changed where there is no row, and no trigger is asked.
            let rows: u64 = region.value(&format!("SELECT COUNT(*) FROM {name}")).await;
            let expected = if rows == 0 && !statement.starts_with("INSERT") { 0 } else { REFUSED };
            assert_eq!(code, expected, "{statement} on {table}: {said}");
        }
    }
}

/// The guard's triggers: table, name, when it was made.
pub async fn triggers(region: &Server, schema: &str) -> Vec<(String, String, String)> {
    region
        .rows(&format!(
            "SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME, CAST(CREATED AS CHAR) FROM information_schema.TRIGGERS \
             WHERE TRIGGER_SCHEMA = '{schema}' AND TRIGGER_NAME LIKE 'tablecast\\_guard\\_%' ORDER BY 1, 2"
        ))
        .await
}

/// An application that tries to write to a table without pause, and remembers whether it ever could.
pub struct Intruder {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(u64, u64)>,
}

impl Intruder {
    pub async fn start(region: &Server, table: String) -> Intruder {
        let stop = Arc::new(AtomicBool::new(false));
        let mut app = login(region, "app").await;
        let over = stop.clone();
        let task = tokio::spawn(async move {
            let (mut tried, mut written) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let (code, _) =
                    outcome(&mut app, &format!("INSERT INTO {table} (id) VALUES (1000000)")).await;
                tried += 1;
                written += u64::from(code == 0);
            }
            (tried, written)
        });
        Intruder { stop, task }
    }

    /// Asserts that it has tried, and never got through.
    pub async fn assert_never_wrote(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (tried, written) = self.task.await.unwrap();
        assert!(tried > 0, "it has not even tried");
        assert_eq!(written, 0, "of {tried} tries");
    }
}
