//! The classifier and the session context against real servers (I3, I6).
//!
//! DDL of many kinds runs in sessions of many kinds. From the server's binlog each statement is classified, and
//! the tables that it names are compared with the tables that changed. Then the statement is replayed, by a user
//! with an apply's privileges, on a server whose every default is hostile: its tables must come out the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;

use mysql_async::prelude::Queryable;
use tablecast::binlog::charset::Charset;
use tablecast::binlog::ddl::{Class, Statement, TableDdl, classify};
use tablecast::binlog::event::{Checksum, Event, FormatDescription, MAGIC, kind, read_event};
use tablecast::binlog::name::TableName;
use tablecast::binlog::query::QueryEvent;
use tablecast::binlog::session::Session;
use tablecast::mysql::wire::{Reply, Wire};
use tablecast::stream::definition::normalise;

use crate::support::mysql::{HOSTILE, Server};

mod generated;
mod hostile_texts;
mod statements;
mod temporary_tables;
mod time_zones;

const SCHEMAS: &str = "CREATE DATABASE g CHARACTER SET utf8mb4; CREATE DATABASE d CHARACTER SET utf8mb4; \
     CREATE DATABASE `o.d d` CHARACTER SET latin1";

/// What a session is like: how to enter it, how its identifiers are quoted and encoded, odd names it can write.
struct Kind {
    name: &'static str,
    enter: &'static str,
    quote: char,
    encode: fn(&str) -> Vec<u8>,
    odd: [&'static str; 2],
}

fn utf8(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn encoded(encoding: &'static encoding_rs::Encoding, text: &str) -> Vec<u8> {
    let (bytes, _, failed) = encoding.encode(text);
    assert!(!failed, "{text} in {}", encoding.name());
    bytes.into_owned()
}

const KINDS: [Kind; 11] = [
    Kind {
        name: "u", enter: "SET NAMES utf8mb4", quote: '`', encode: utf8, odd: ["日本 語.`x", "né😀"]
    },
    Kind {
        name: "ansi",
        enter: "SET NAMES utf8mb4; SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        quote: '"',
        encode: utf8,
        odd: ["a\"b`c\\", "x\n-- y"],
    },
    Kind {
        name: "old",
        enter: "SET NAMES utf8mb3; SET sql_mode='', explicit_defaults_for_timestamp=0, time_zone='-03:30'",
        quote: '`',
        encode: utf8,
        odd: ["/*!50000 x*/", "#a"],
    },
    Kind {
        name: "latin1",
        enter: "SET NAMES latin1; SET time_zone='Europe/Berlin', lc_time_names='de_DE'",
        quote: '`',
        encode: |text| encoded(encoding_rs::WINDOWS_1252, text),
        odd: ["tä€", "ÿ`"],
    },
    Kind {
        name: "sjis",
        enter: "SET NAMES sjis",
        quote: '`',
        encode: |text| encoded(encoding_rs::SHIFT_JIS, text),
        odd: ["表", "ソ`能"],
    },
    Kind {
        name: "cp932",
        enter: "SET NAMES cp932; SET sql_mode='NO_BACKSLASH_ESCAPES'",
        quote: '`',
        encode: |text| encoded(encoding_rs::SHIFT_JIS, text),
        odd: ["ー表", "十"],
    },
    Kind {
        name: "gbk",
        enter: "SET NAMES gbk",
        quote: '`',
        encode: |text| encoded(encoding_rs::GBK, text),
        odd: ["乣", "中\\文"],
    },
    Kind {
        name: "big5",
        enter: "SET NAMES big5 COLLATE big5_bin",
        quote: '`',
        encode: |text| encoded(encoding_rs::BIG5, text),
        odd: ["功", "許蓋"],
    },
    Kind {
        name: "ujis",
        enter: "SET NAMES ujis; SET default_collation_for_utf8mb4=utf8mb4_general_ci",
        quote: '`',
        encode: |text| encoded(encoding_rs::EUC_JP, text),
        odd: ["表", "テスト"],
    },
    Kind {
        name: "gb18030",
        enter: "SET NAMES gb18030; SET foreign_key_checks=0, unique_checks=0",
        quote: '`',
        encode: |text| encoded(encoding_rs::GB18030, text),
        odd: ["á中", "À"],
    },
    Kind {
        name: "binary",
        enter: "SET NAMES binary; SET auto_increment_increment=3, auto_increment_offset=2",
        quote: '`',
        encode: utf8,
        odd: ["bä", "b`"],
    },
];

/// `{0}` and `{1}` are the session's odd names, `{k}` its own; `«x»` is a quoted identifier. Run in database d.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE «g».«{0}{k}» (a INT PRIMARY KEY, b VARCHAR(30) DEFAULT '{1}' COMMENT '{0}', t TIMESTAMP, e ENUM('{1}','x'))",
    "CREATE TABLE «{1}{k}» (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, p INT, t TIMESTAMP DEFAULT '2024-03-31 12:00:00', \
       KEY k(p), CONSTRAINT «c{k}» FOREIGN KEY (p) REFERENCES «g»/* x */.«{0}{k}»(a)) COMMENT = 'c' # end",
    "CREATE TABLE IF NOT EXISTS «o.d d» . «{0}{k}» LIKE «{1}{k}»",
    "CREATE TABLE IF NOT EXISTS «o.d d».«{0}{k}» (x INT)",
    "CREATE TABLE d.ct{k} (v VARCHAR(30) DEFAULT '{0}') SELECT 1 AS a, '{1}' AS «{1}»",
    "CREATE TABLE n{k} (a INT, b INT, c CHAR(3) CHARACTER SET latin1, PRIMARY KEY (a)) ENGINE InnoDB DEFAULT CHARSET=utf8mb4",
    "ALTER TABLE «{1}{k}» ADD COLUMN «rename» INT AFTER id, ADD «{0}» VARCHAR(30) CHARACTER SET utf8mb4 DEFAULT '{0}', \
       ADD engine INT, ADD INDEX «references» (engine)",
    "ALTER TABLE «{1}{k}» RENAME COLUMN «rename» TO «{1}», ALTER COLUMN engine SET DEFAULT 3",
    "ALTER TABLE n{k} ADD w DECIMAL(20,12) AS (a / 7) STORED, ADD x INT AS (WEEK('2024-01-01')) STORED, \
       ADD y YEAR, ADD z TIMESTAMP NULL, ALGORITHM=COPY",
    "CREATE UNIQUE INDEX «i{0}» USING BTREE ON n{k} (a, b)",
    "DROP INDEX «i{0}» ON d.n{k}",
    "CREATE INDEX ii ON n{k} ((a + b))",
    "RENAME TABLE n{k} TO «n2{0}{k}» , ct{k} TO «g».«ct {k}»",
    "ALTER TABLE «n2{0}{k}» RENAME TO n{k}, COMMENT 'rename to g.x'",
    "/*!50001 ALTER TABLE */ n{k} /*!50001 RENAME AS */ g.n{k}",
    "ALTER TABLE g.n{k} RENAME n{k}",
    "TRUNCATE TABLE «{1}{k}»",
    "TRUNCATE g . «ct {k}»",
    "CREATE TABLE p{k} (a INT) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
    "CREATE TABLE e{k} (a INT) -- {0}",
    "INSERT INTO p{k} VALUES (1)",
    "ALTER TABLE p{k} EXCHANGE PARTITION p0 WITH TABLE e{k} WITHOUT VALIDATION",
    "ALTER TABLE p{k} REORGANIZE PARTITION p0, p1 INTO (PARTITION q VALUES LESS THAN MAXVALUE)",
    "ALTER TABLE p{k} CONVERT TO CHARACTER SET latin1 REMOVE PARTITIONING",
    "CREATE TEMPORARY TABLE tmp{k} (a INT)",
    "DROP TEMPORARY TABLE tmp{k}",
    "CREATE TABLE geo{k} (id INT PRIMARY KEY, g POINT NOT NULL SRID 4326, t TEXT, SPATIAL INDEX (g), FULLTEXT INDEX (t))",
    "CREATE TABLE def{k} (id INT PRIMARY KEY, d DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), \
       u CHAR(36) DEFAULT (UUID()), c VARCHAR(9) DEFAULT (CONCAT('y', 'x')), CONSTRAINT CHECK (id > 0 AND c NOT LIKE '%select%'))",
    "ALTER TABLE def{k} DROP PRIMARY KEY, ADD UNIQUE (id), ADD b BIT(3) DEFAULT b'101', ADD f FLOAT DEFAULT 1e-5",
    "CREATE TABLE opt{k} (v VARCHAR(30) DEFAULT '{0}') ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='{1}' \
       PARTITION BY HASH (a) PARTITIONS 2 SELECT 1 AS a",
    "CREATE TABLE g.par{k} (id INT PRIMARY KEY)",
    "CREATE TABLE g.chi{k} (id INT PRIMARY KEY, p INT, CONSTRAINT FOREIGN KEY (p) REFERENCES par{k} (id))",
    "ALTER TABLE «{1}{k}» DROP FOREIGN KEY «c{k}»",
    "DROP TABLE IF EXISTS e{k}, d.«not {0} there», g.«ct {k}» CASCADE",
];

/// The definition and the number of rows of each table.
type State = BTreeMap<TableName, (String, u64)>;

/// Of the tables of one kind of session; of all with an empty name.
async fn state(server: &Server, of: &str) -> State {
    state_of(server, &["g", "d", "o.d d"], of).await
}

async fn state_of(server: &Server, schemas: &[&str], ending: &str) -> State {
    let mut conn = server.connect().await;
    // The default of a TIMESTAMP column is shown in the session's zone.
    conn.query_drop("SET time_zone='+00:00'").await.unwrap();
    let names: Vec<(String, String)> = conn
        .query(format!(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('{}') \
             AND table_name LIKE '%{ending}'",
            schemas.join("','")
        ))
        .await
        .unwrap();
    let mut state = State::new();
    for (schema, table) in names {
        let name = TableName::new(schema, table);
        let (_, definition): (String, String) =
            conn.query_first(format!("SHOW CREATE TABLE {}", name.quoted())).await.unwrap().unwrap();
        let count: u64 =
            conn.query_first(format!("SELECT COUNT(*) FROM {}", name.quoted())).await.unwrap().unwrap();
        state.insert(name, (definition, count));
    }
    conn.disconnect().await.unwrap();
    state
}

/// Reads the server's binlog file from where it was left.
struct Tail {
    file: File,
    checksum: Checksum,
}

impl Tail {
    /// The server's newest binlog file, from its beginning.
    async fn open(server: &Server) -> Tail {
        let path: String =
            server.value("SELECT CONCAT(@@datadir, SUBSTRING_INDEX(@@log_bin_basename, '/', -1))").await;
        let newest: Vec<(String, u64, String)> = server.rows("SHOW BINARY LOGS").await;
        let suffix = newest.last().unwrap().0.rsplit('.').next().unwrap().to_owned();
        let mut file = File::open(format!("{path}.{suffix}")).unwrap();
        let mut magic = [0; 4];
        file.read_exact(&mut magic).unwrap();
        assert_eq!(magic, MAGIC);
        Tail { file, checksum: Checksum::Crc32 }
    }

    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = read_event(&mut self.file, self.checksum, "the binlog").unwrap() {
            if event.kind() == kind::FORMAT_DESCRIPTION {
                self.checksum = FormatDescription::parse(&event).unwrap().checksum;
            }
            events.push(event);
        }
        events
    }
}

async fn run(wire: &mut Wire, sql: &[u8]) {
    let reply = wire.query(sql, "run").await;
    let shown = String::from_utf8_lossy(sql);
    match reply.unwrap_or_else(|e| panic!("{shown}: {e:?}")) {
        Reply::Done(_) => {}
        Reply::Error(error) => panic!("{shown}: {error:?}"),
        Reply::Rows { .. } => panic!("{shown}: rows"),
    }
}

fn filled(template: &str, kind: &Kind) -> Vec<u8> {
    let with_names = |text: &str, quote: Option<char>| {
        let name = |odd: &str| match quote {
            Some(quote) => odd.replace(quote, &format!("{quote}{quote}")),
            // In a string: no quotes or escapes there.
            None => odd.replace(['\\', '\'', '\n'], "_"),
        };
        text.replace("{0}", &name(kind.odd[0])).replace("{1}", &name(kind.odd[1])).replace("{k}", kind.name)
    };
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('«') {
        let (identifier, after) = after.split_once('»').unwrap();
        text.push_str(&with_names(before, None));
        text.push_str(&format!("{0}{1}{0}", kind.quote, with_names(identifier, Some(kind.quote))));
        rest = after;
    }
    text.push_str(&with_names(rest, None));
    (kind.encode)(&text)
}

fn classified(query: &QueryEvent, session: &Session) -> Class {
    let charset = session.client_charset().unwrap();
    let statement = Statement {
        text: &query.text,
        default_schema: &session.schema,
        charset,
        sql_mode: session.effective_sql_mode(),
    };
    classify(&statement).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Runs the statement on the hostile server as apply would.
async fn replay(region: &mut Wire, version: (u16, u16, u16), query: &QueryEvent, session: &Session) {
    for statement in session.set_statements(version) {
        run(region, statement.as_bytes()).await;
    }
    if !session.schema.is_empty() {
        region.send(0x02, session.schema.as_bytes()).await.unwrap();
        assert!(matches!(region.reply().await.unwrap(), Reply::Done(_)), "USE {}", session.schema);
    }
    run(region, &query.text).await;
    run(region, b"COMMIT").await;
}

#[tokio::test]
async fn the_tables_that_a_statement_names_are_those_that_change_and_a_hostile_server_makes_the_same() {
    let [source, region] = Server::start_all([&["--binlog-format=ROW"], HOSTILE]);
    source.sql(SCHEMAS).await;
    region.sql(SCHEMAS).await;
    region
        .sql(
            "CREATE USER applier@'127.0.0.1' IDENTIFIED BY 'x'; \
             GRANT REPLICATION_APPLIER, SESSION_VARIABLES_ADMIN ON *.* TO applier@'127.0.0.1'; \
             GRANT ALL ON g.* TO applier@'127.0.0.1'; GRANT ALL ON d.* TO applier@'127.0.0.1'; \
             GRANT ALL ON `o.d d`.* TO applier@'127.0.0.1'; COMMIT",
        )
        .await;
    let version = tablecast::mysql::server(&mut source.connect().await).await.unwrap().version;
    let mut tail = Tail::open(&source).await;
    tail.events();
    let mut applier = Wire::connect(&region.config_as("applier", "x")).await.unwrap();
    let mut statements = 0;
    for kind in &KINDS {
        let mut client = Wire::connect(&source.config()).await.unwrap();
        run(&mut client, b"USE d").await;
        let mut before = State::new();
        for set in kind.enter.split("; ") {
            run(&mut client, set.as_bytes()).await;
        }
        for template in STATEMENTS {
            let text = filled(template, kind);
            run(&mut client, &text).await;
            let after = state(&source, kind.name).await;
            let changed: BTreeSet<&TableName> = before
                .keys()
                .chain(after.keys())
                .filter(|name| before.get(*name) != after.get(*name))
                .collect();
            let mut named: Vec<TableDdl> = Vec::new();
            let mut has_rows = false;
            for event in tail.events() {
                has_rows |= kind::is_rows(event.kind());
                if event.kind() != self::kind::QUERY {
                    continue;
                }
                let query = QueryEvent::parse(&event).unwrap();
                let session = Session::of(event.header().timestamp, &query).unwrap();
                match classified(&query, &session) {
                    Class::Begin => {}
                    Class::Table(ddl) => {
                        if !ddl.temporary {
                            replay(&mut applier, version, &query, &session).await;
                        }
                        named.push(ddl);
                    }
                    other => panic!("{}: {other:?}", String::from_utf8_lossy(&query.text)),
                }
            }
            let shown = format!("{}: {}", kind.name, String::from_utf8_lossy(&text));
            let targets: BTreeSet<&TableName> = named.iter().flat_map(|ddl| &ddl.targets).collect();
            if !(has_rows && named.is_empty()) {
                if let Some(missed) = changed.difference(&targets).next() {
                    let (old, new) = (before.get(*missed), after.get(*missed));
                    panic!("{shown}: {missed} changed from {old:?} to {new:?}, named {targets:?}");
                }
                // What is named and did not change: nothing was there, or it was made anew as it was.
                let idle = targets.difference(&changed).count();
                let may_be_idle = named.iter().all(|ddl| ddl.if_exists)
                    || ["TRUNCATE", "EXCHANGE", "TEMPORARY"].iter().any(|word| template.contains(word));
                assert!(idle == 0 || may_be_idle, "{shown}: changed {changed:?}, named {targets:?}");
            }
            for ddl in &named {
                references_are_real(&shown, ddl, &after);
            }
            statements += named.len();
            before = after;
        }
    }
    assert!(statements > 200, "{statements}");
    let (wanted, made) = (state(&source, "").await, state(&region, "").await);
    let names = |state: &State| state.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made), names(&wanted));
    for (name, (definition, _)) in &wanted {
        // A CREATE … SELECT spells out a collation that the original has from its table.
        assert_eq!(normalise(&made[name].0), normalise(definition), "{name}");
    }
}

/// Every table that a definition points at was named as a reference when the table was made.
fn references_are_real(shown: &str, ddl: &TableDdl, after: &State) {
    for reference in &ddl.references {
        assert!(after.contains_key(reference), "{shown}: {reference} is not there");
    }
}

/// I6: by the id in an event the classifier must read a text in the character set that the server will read it in.
#[tokio::test]
async fn every_collation_s_character_set_is_the_server_s() {
    let server = Server::start(&[]);
    let mut conn = server.connect().await;
    let all: Vec<(u16, String)> =
        conn.query("SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS").await.unwrap();
    for (id, name) in &all {
        let charset = Charset::of_collation(*id).unwrap();
        let ours = if name == "utf8mb3" { "utf8mb4" } else { name };
        assert_eq!(charset.name(), ours, "collation {id}");
        if matches!(charset, Charset::NotAscii(_)) {
            continue;
        }
        let set = format!("SET character_set_client={id}, character_set_results='utf8mb4'");
        conn.query_drop(set).await.unwrap();
        let found: String = conn.query_first("SELECT @@character_set_client").await.unwrap().unwrap();
        assert_eq!(found, *name, "collation {id}");
    }
    assert!(all.len() > 250);
}
