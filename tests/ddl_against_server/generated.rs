//! Statements that a grammar makes by the thousand: kinds, quoting, comments, executable comments, modes. A real server
//! runs each; what it changed must be what the classifier names in the server's binlog (I3, I6).
//!
//! `TABLECAST_SEED` and `TABLECAST_STATEMENTS` say which ones, and how many.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tablecast::binlog::ddl::{Class, SchemaVerb, Statement, TableVerb, classify};
use tablecast::binlog::event::kind;
use tablecast::binlog::name::TableName;
use tablecast::binlog::query::QueryEvent;
use tablecast::binlog::session::Session;
use tablecast::mysql::wire::{Reply, Wire, command};

use super::{SCHEMAS, Tail, run};
use crate::support::mysql::Server;

const MODES: [&str; 5] =
    ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "ANSI,IGNORE_SPACE"];
const TABLES: [&str; 4] = ["a", "b c", "t`q", "select"];
const SCHEMA_NAMES: [&str; 3] = ["g", "d", "o.d d"];

/// What may stand wherever a blank may.
const GAPS: [&str; 11] = [
    "\n",
    "\t",
    "/* x */",
    " -- y\n",
    " # `'\"\n",
    "/**/",
    "/* `'; DROP TABLE g.a */",
    " /*! */ ",
    "\r\n",
    "/*+ no hint here */ ",
    " -- \"\n /* ' */ ",
];

/// Where a text may stand, one that looks like something else.
const TEXTS: [&str; 7] =
    ["x", "it''s", "REFERENCES g.a (id)", "*/ -- #", "`t` RENAME TO g.b", "/*!50001 x", "\" TO g.a"];

struct Grammar {
    rng: StdRng,
    ansi: bool,
    escapes: bool,
}

impl Grammar {
    fn is(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.random_range(0..of.len())]
    }

    /// An identifier, quoted in one of the ways that this session reads.
    fn identifier(&mut self, name: &str) -> String {
        let is_plain = name != "select" && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_plain && self.is(40) {
            return name.to_owned();
        }
        match self.ansi && self.is(50) {
            true => format!("\"{name}\""),
            false => format!("`{}`", name.replace('`', "``")),
        }
    }

    fn table(&mut self) -> String {
        let (schema, table) = (self.one(&SCHEMA_NAMES), self.one(&TABLES));
        let table = self.identifier(table);
        if schema == "d" && self.is(50) {
            return table;
        }
        let (schema, dot) = (self.identifier(schema), self.one(&[".", ".", " .", ". ", " . "]));
        format!("{schema}{dot}{table}")
    }

    fn text(&mut self) -> String {
        let text = self.one(&TEXTS);
        match self.rng.random_range(0..4) {
            0 if !self.ansi => format!("\"{}\"", text.replace('"', "\"\"")),
            1 if self.escapes => format!("'\\'{text}\\\\'"),
            2 if !self.escapes => format!("'{text}\\'"),
            _ => format!("'{text}'"),
        }
    }

    /// Keywords in any case, between whose words anything may stand that is a blank.
    fn words(&mut self, words: &str, to: &mut Vec<String>) {
        for word in words.split(' ') {
            let word = match self.rng.random_range(0..3) {
                0 => word.to_lowercase(),
                _ => word.to_owned(),
            };
            // Run by every server that there is.
            to.push(if self.is(4) { format!("/*!50001 {word} */") } else { word });
        }
    }

    fn column(&mut self, number: u32) -> String {
        let name = self.identifier(&format!("c{number}"));
        let kind =
            self.one(&["INT", "VARCHAR(20)", "DATETIME(3)", "DECIMAL(9,2)", "CHAR(3) CHARACTER SET latin1"]);
        let mut column = format!("{name} {kind}");
        if self.is(40) {
            let text = self.text();
            column.push_str(&format!(" COMMENT {text}"));
        }
        if kind == "INT" && self.is(30) {
            column.push_str(" DEFAULT (1 + 2)");
        }
        column
    }

    fn definition(&mut self) -> String {
        let mut parts = vec!["id INT PRIMARY KEY".to_owned()];
        for number in 0..self.rng.random_range(0..3) {
            parts.push(self.column(number));
        }
        if self.is(20) {
            let parent = self.table();
            parts.push(format!("FOREIGN KEY (id) REFERENCES {parent} (id)"));
        }
        if self.is(15) {
            parts.push("CHECK (id <> 7 AND 'REFERENCES g.a' <> '')".to_owned());
        }
        format!("({})", parts.join(", "))
    }

    fn options(&mut self, to: &mut Vec<String>) {
        if self.is(30) {
            self.words("ENGINE = InnoDB", to);
        }
        if self.is(30) {
            self.words("COMMENT =", to);
            to.push(self.text());
        }
        if self.is(20) {
            self.words("DEFAULT CHARACTER SET latin1", to);
        }
        if self.is(15) {
            self.words("PARTITION BY HASH (id) PARTITIONS 2", to);
        }
    }

    fn alteration(&mut self, to: &mut Vec<String>) {
        match self.rng.random_range(0..13) {
            0 | 1 => {
                self.words("ADD COLUMN", to);
                let number = self.rng.random_range(0..6);
                to.push(self.column(number));
            }
            2 => {
                let words = self.one(&["RENAME TO", "RENAME AS", "RENAME"]);
                self.words(words, to);
                to.push(self.table());
            }
            3 => {
                self.words("ADD INDEX", to);
                to.push("(id)".to_owned());
            }
            4 => {
                self.words("COMMENT", to);
                to.push(self.text());
            }
            5 => self.words("CONVERT TO CHARACTER SET utf8mb4", to),
            6 => self.words("ENGINE InnoDB", to),
            7 => self.words("RENAME COLUMN c0 TO c7", to),
            8 => self.words("DROP COLUMN c1", to),
            9 => self.words("ALTER COLUMN c0 DROP DEFAULT", to),
            10 => {
                self.words("ADD FOREIGN KEY (id) REFERENCES", to);
                to.push(self.table());
                to.push("(id)".to_owned());
            }
            11 => self.words("REMOVE PARTITIONING", to),
            _ => self.words("ORDER BY id", to),
        }
    }

    fn tables(&mut self, to: &mut Vec<String>) {
        for number in 0..self.rng.random_range(1..=3) {
            if number > 0 {
                to.push(",".to_owned());
            }
            to.push(self.table());
        }
    }

    /// The pieces of a statement, and what kind it is.
    fn pieces(&mut self) -> (&'static str, Vec<String>) {
        let mut to = Vec::new();
        let kind = match self.rng.random_range(0..100) {
            0..=24 => {
                self.words("CREATE TABLE", &mut to);
                if self.is(25) {
                    self.words("IF NOT EXISTS", &mut to);
                }
                to.push(self.table());
                match self.rng.random_range(0..10) {
                    0 => {
                        self.words("LIKE", &mut to);
                        to.push(self.table());
                    }
                    1 => {
                        let other = self.table();
                        to.push(format!("(LIKE {other})"));
                    }
                    2 => self.words("SELECT 1 AS id", &mut to),
                    3 => {
                        self.words("AS SELECT * FROM", &mut to);
                        to.push(self.table());
                    }
                    _ => {
                        to.push(self.definition());
                        self.options(&mut to);
                    }
                }
                "create"
            }
            25..=49 => {
                self.words("ALTER TABLE", &mut to);
                to.push(self.table());
                for number in 0..self.rng.random_range(1..=3) {
                    if number > 0 {
                        to.push(",".to_owned());
                    }
                    self.alteration(&mut to);
                }
                "alter"
            }
            50..=63 => {
                self.words("DROP TABLE", &mut to);
                if self.is(40) {
                    self.words("IF EXISTS", &mut to);
                }
                self.tables(&mut to);
                if self.is(20) {
                    let word = self.one(&["RESTRICT", "CASCADE"]);
                    self.words(word, &mut to);
                }
                "drop"
            }
            64..=75 => {
                self.words("RENAME TABLE", &mut to);
                for number in 0..self.rng.random_range(1..=2) {
                    if number > 0 {
                        to.push(",".to_owned());
                    }
                    to.push(self.table());
                    self.words("TO", &mut to);
                    to.push(self.table());
                }
                "rename"
            }
            76..=79 => {
                self.words("TRUNCATE", &mut to);
                if self.is(70) {
                    self.words("TABLE", &mut to);
                }
                to.push(self.table());
                "truncate"
            }
            80..=85 => {
                let begin = self.one(&["CREATE INDEX", "CREATE UNIQUE INDEX"]);
                self.words(begin, &mut to);
                let index = self.one(&["i", "on", "`i j`"]);
                to.push(if index == "on" { "`on`".to_owned() } else { index.to_owned() });
                self.words("ON", &mut to);
                to.push(self.table());
                to.push("(id)".to_owned());
                "index"
            }
            86..=87 => {
                self.words("DROP INDEX", &mut to);
                to.push(self.one(&["i", "`on`", "`i j`"]).to_owned());
                self.words("ON", &mut to);
                to.push(self.table());
                "index"
            }
            88..=91 => {
                let begin = self.one(&["ANALYZE TABLE", "OPTIMIZE TABLE", "CHECK TABLE", "FLUSH TABLES"]);
                self.words(begin, &mut to);
                to.push(self.table());
                "maintenance"
            }
            92..=97 => {
                let table = self.table();
                let what = self.rng.random_range(0..5);
                to.push(match what {
                    0 => format!("CREATE OR REPLACE VIEW d.v AS SELECT * FROM {table}"),
                    1 => "DROP VIEW IF EXISTS d.v".to_owned(),
                    2 => format!(
                        "CREATE TRIGGER r{} BEFORE INSERT ON {table} FOR EACH ROW SET @x = 1",
                        self.rng.random_range(0..9)
                    ),
                    3 => format!(
                        "CREATE PROCEDURE d.p{}() DROP TABLE IF EXISTS {table}",
                        self.rng.random_range(0..1_000)
                    ),
                    _ => format!(
                        "CREATE USER IF NOT EXISTS u{} COMMENT 'DROP TABLE g.a'",
                        self.rng.random_range(0..9)
                    ),
                });
                "other"
            }
            98 => {
                self.words("CREATE DATABASE", &mut to);
                to.push("`o.d d`".to_owned());
                "schema"
            }
            _ => {
                self.words("DROP DATABASE", &mut to);
                to.push("`o.d d`".to_owned());
                "schema"
            }
        };
        (kind, to)
    }

    fn statement(&mut self) -> (&'static str, String) {
        let (kind, pieces) = self.pieces();
        let mut text = String::new();
        if self.is(5) {
            text.push_str("/* first */ ");
        }
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                let gap = if self.is(80) { " " } else { self.one(&GAPS) };
                text.push_str(gap);
            }
            text.push_str(piece);
        }
        if self.is(5) {
            text.push_str(" # last");
        }
        (kind, text)
    }
}

/// Each table's definition and the number of its rows. Where a foreign key points is left out: that follows a RENAME of the
/// other table.
async fn look(conn: &mut Conn) -> BTreeMap<TableName, String> {
    let names: Vec<(String, String)> = conn
        .query(
            "SELECT table_schema, table_name FROM information_schema.tables \
             WHERE table_schema IN ('g', 'd', 'o.d d') AND table_type = 'BASE TABLE'",
        )
        .await
        .unwrap();
    let mut found = BTreeMap::new();
    for (schema, table) in names {
        let name = TableName::new(schema, table);
        let quoted = name.quoted();
        let (_, definition): (String, String) =
            conn.query_first(format!("SHOW CREATE TABLE {quoted}")).await.unwrap().unwrap();
        let rows: u64 = conn.query_first(format!("SELECT COUNT(*) FROM {quoted}")).await.unwrap().unwrap();
        let mut text = String::new();
        for (number, part) in definition.split(" REFERENCES ").enumerate() {
            text.push_str(if number == 0 {
                part
            } else {
                part.split_once(" (").map_or(part, |(_, rest)| rest)
            });
        }
        found.insert(name, format!("{rows} {text}"));
    }
    found
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[tokio::test]
async fn i6_of_generated_statements_those_tables_are_named_that_the_server_changes() {
    let (seed, count) = (number("TABLECAST_SEED", 1), number("TABLECAST_STATEMENTS", 600));
    let server = Server::start(&["--binlog-format=ROW"]);
    server.sql(SCHEMAS).await;
    let mut conn = server.connect().await;
    let mut tail = Tail::open(&server).await;
    tail.events();
    let mut grammar = Grammar { rng: StdRng::seed_from_u64(seed), ansi: false, escapes: true };
    let mut client = Wire::connect(&server.config()).await.unwrap();
    let mut before = look(&mut conn).await;
    let (mut ran, mut refused, mut wrong) = (BTreeMap::<&str, u64>::new(), 0, Vec::new());
    for at in 0..count {
        if at % 50 == 0 {
            let mode = grammar.one(&MODES);
            (grammar.ansi, grammar.escapes) = (mode.contains("ANSI"), !mode.contains("NO_BACKSLASH"));
            client = Wire::connect(&server.config()).await.unwrap();
            run(&mut client, format!("SET sql_mode = '{mode}'").as_bytes()).await;
            run(&mut client, b"CREATE DATABASE IF NOT EXISTS `o.d d`").await;
            run(&mut client, b"USE d").await;
            tail.events();
        }
        let (kind, text) = grammar.statement();
        let shown = format!("seed {seed}, statement {at}: {text}");
        client.send(command::QUERY, text.as_bytes()).await.unwrap();
        if let Reply::Error(_) = client.reply().await.unwrap_or_else(|e| panic!("{shown}: {e:?}")) {
            continue;
        }
        *ran.entry(kind).or_default() += 1;
        let after = look(&mut conn).await;
        let changed: BTreeSet<&TableName> =
            before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).collect();
        let mut named: BTreeSet<TableName> = BTreeSet::new();
        let mut is_exact = true;
        for event in tail.events() {
            if event.kind() != kind::QUERY {
                continue;
            }
            let query = QueryEvent::parse(&event).unwrap();
            let session = Session::of(event.header().timestamp, &query).unwrap();
            let statement = Statement {
                text: &query.text,
                default_schema: &session.schema,
                charset: session.client_charset().unwrap(),
                sql_mode: session.effective_sql_mode(),
            };
            match classify(&statement) {
                Err(_) => {
                    // Better so than wrongly.
                    refused += 1;
                    named.extend(changed.iter().map(|name| (*name).clone()));
                    is_exact = false;
                }
                Ok(Class::Table(ddl)) => {
                    let makes_or_drops = matches!(ddl.verb, TableVerb::Create | TableVerb::Drop);
                    is_exact &= makes_or_drops && !ddl.if_exists;
                    named.extend(ddl.targets);
                }
                Ok(Class::Schema(ddl)) => {
                    is_exact = false;
                    if ddl.verb == SchemaVerb::Drop {
                        let gone = before.keys().filter(|name| name.schema == ddl.schema);
                        named.extend(gone.cloned());
                    }
                }
                Ok(_) => is_exact = false,
            }
        }
        let unnamed: Vec<&&TableName> = changed.iter().filter(|name| !named.contains(**name)).collect();
        if !unnamed.is_empty() {
            wrong.push(format!("{shown}: changed {unnamed:?} too, named {named:?}"));
        }
        let idle: Vec<&TableName> = named.iter().filter(|name| !changed.contains(name)).collect();
        if is_exact && !idle.is_empty() {
            wrong.push(format!("{shown}: named {idle:?} too, changed {changed:?}"));
        }
        before = after;
    }
    let all: u64 = ran.values().sum();
    println!("{all} of {count} statements were run: {ran:?}; {refused} were refused");
    assert!(wrong.is_empty(), "{} of them are taken wrongly:\n{}", wrong.len(), wrong.join("\n"));
    assert!(all * 5 > count, "the server runs too few of them: {ran:?}");
    assert!(
        ["create", "alter", "drop", "rename"]
            .iter()
            .all(|kind| ran.get(kind).is_some_and(|ran| *ran * 200 > count)),
        "{ran:?}"
    );
    assert!(refused * 10 < all, "{refused} of {all} were refused");
}
