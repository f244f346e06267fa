//! Segments that upload would never write, in a bucket whose index vouches for them: what somebody who can write to
//! the bucket may try. The gate of the region's own config refuses them whole (I6).

use std::io::Write;

use tablecast::Kind;
use tablecast::binlog::clock::SourceClock;
use tablecast::binlog::event::{Checksum, Event, GtidEvent, Header, kind};
use tablecast::binlog::gtid::Gtid;
use tablecast::binlog::query::QueryEvent;
use tablecast::binlog::segment::{Item, SegmentReader, SegmentWriter};
use tablecast::binlog::spool::Spool;
use tablecast::binlog::transaction::Transaction;
use tablecast::stream::{Body, Codec, Entry, Head, Key, Md5, SegmentEntry};
use uuid::Uuid;

use super::kit::Stream;
use crate::support::mysql::Server;

const TABLES: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci; \
                      CREATE TABLE @.mine (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// A stream of the table `apps` alone, whose region has a table `mine` beside it. Entry 1 is in order: an INSERT and
/// an ALTER.
struct Forge {
    stream: Stream,
    region: Server,
    index: Vec<u8>,
    /// The events of the two transactions.
    insert: Vec<Event>,
    alter: Event,
}

impl Forge {
    async fn new(schema: &'static str) -> Forge {
        let stream = Stream::of_set(schema, TABLES, &["@.apps"]).await.stopping();
        let region = Server::start(&[]);
        stream.sql("INSERT INTO @.apps VALUES (1, 'a'); ALTER TABLE @.apps COMMENT 'x'").await;
        stream.upload().await;
        region.sql(&format!("CREATE DATABASE {schema}; {}", TABLES.replace('@', schema))).await;
        region.sql(&format!("INSERT INTO {schema}.mine VALUES (1, 'mine')")).await;
        let index = std::fs::read(stream.bucket().join("index.json")).unwrap();
        let segment = first_segment(&stream);
        let mut reader = SegmentReader::new(open(&segment), None).unwrap();
        let (mut transactions, mut events) = (Vec::new(), Vec::new());
        while let Some(item) = reader.next().unwrap() {
            match item {
                Item::Begin(_) => events = Vec::new(),
                Item::Event(event) => events.push(event),
                Item::End => transactions.push(std::mem::take(&mut events)),
            }
        }
        let alter = transactions.pop().unwrap().pop().unwrap();
        let forge = Forge { stream, region, index, insert: transactions.pop().unwrap(), alter };
        // The first entry is applied; the region stands behind it, with everything in order.
        forge.apply().await.unwrap();
        forge
    }

    async fn apply(&self) -> Result<tablecast::region::apply::Report, tablecast::Error> {
        let path = self.stream.region_file(&self.region, "root", &["@.apps"]);
        let config = tablecast::config::load(&path).unwrap();
        self.stream.apply_with(&config, super::kit::options()).await
    }

    /// The ALTER with another text.
    fn statement(&self, text: &str) -> Vec<Event> {
        let mut query = QueryEvent::parse_body(self.alter.body()).unwrap();
        query.text = text.replace('@', self.stream.schema).into_bytes();
        vec![Event::build(self.alter.header(), &query.encode_body(), Checksum::Crc32)]
    }

    /// The INSERT into another table with a name as long.
    fn insert_into(&self, table: &str) -> Vec<Event> {
        let patch = |event: &Event| match event.kind() {
            kind::TABLE_MAP => {
                let mut body = event.body().to_vec();
                let at = body.windows(4).position(|name| name == b"apps").unwrap();
                body[at..at + 4].copy_from_slice(table.as_bytes());
                Event::build(event.header(), &body, Checksum::Crc32)
            }
            _ => event.clone(),
        };
        self.insert.iter().map(patch).collect()
    }

    /// The INSERT with another event before its commit.
    fn insert_with(&self, extra: Event) -> Vec<Event> {
        let mut events = self.insert.clone();
        events.insert(events.len() - 1, extra);
        events
    }

    /// Appends an entry with these transactions to the index, in perfect order: chain, md5, sizes.
    fn publish(&self, transactions: &[Vec<Event>]) {
        let mut head = Head::parse(&self.index).unwrap();
        let segment = first_segment(&self.stream);
        let format = SegmentReader::new(open(&segment), None).unwrap().format().clone();
        let first = head.last_tx.next();
        let mut writer = SegmentWriter::new(Vec::new(), head.stream, &format, first.0).unwrap();
        let mut covered = head.covered.clone();
        for (number, events) in transactions.iter().enumerate() {
            let source_gtid = Gtid::new(Uuid::from_u128(1), number as u64 + 1);
            covered.insert(&source_gtid);
            let mut spool = Spool::new(&std::env::temp_dir());
            events.iter().for_each(|event| spool.append(event.bytes()).unwrap());
            let gtid_event = GtidEvent {
                gtid: Some(source_gtid.clone()),
                last_committed: 0,
                sequence_number: 1,
                immediate_commit_us: 1,
                original_commit_us: 1,
                transaction_length: 0,
                immediate_server_version: 80400,
                original_server_version: 80400,
                may_have_sbr: true,
            };
            let mut transaction = Transaction {
                source_gtid,
                gtid_event,
                timestamp: 1,
                server_id: 1,
                clock: SourceClock { file: 0, last_committed: 0, sequence_number: 1 },
                tables: [].into(),
                ddl: None,
                schema: None,
                schema_collations: Vec::new(),
                events: spool,
            };
            writer.push(&mut transaction, 0).unwrap();
        }
        let (raw, written) = writer.finish().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&raw).unwrap();
        let object = gzip.finish().unwrap();
        let (last, now) = (tablecast::stream::StreamTx(written.last), head.as_of);
        let key = Key::segment(first, last, now, Codec::Gzip);
        std::fs::write(self.stream.bucket().join(key.as_str()), &object).unwrap();
        let entry = SegmentEntry {
            key,
            size: object.len() as u64,
            md5: Md5::of(&object),
            raw_size: raw.len() as u64,
            codec: Codec::Gzip,
            first_tx: first,
            last_tx: last,
            count: written.count,
            tables: vec![format!("{}.apps", self.stream.schema).parse().unwrap()],
            covered_before: head.covered.clone(),
            covered_after: covered,
            first_commit: now,
            last_commit: now,
            definitions: Vec::new(),
        };
        let _: &Entry = head.append(Body::Segment(entry), now).unwrap();
        std::fs::write(self.stream.bucket().join("index.json"), head.to_json().unwrap()).unwrap();
    }

    /// By the gate, with exit code 15.
    async fn assert_refused(&self, transactions: &[Vec<Event>], says: &str) {
        assert_eq!(self.refusal(transactions, says).await.exit_code(), 15);
    }

    async fn refusal(&self, transactions: &[Vec<Event>], says: &str) -> Kind {
        self.publish(transactions);
        let before = self.stream.state(&self.region).await;
        let error = self.apply().await.expect_err("it must be refused");
        let text = format!("{error:?}");
        // What is not even a transaction is refused by the reader, before the gate sees it.
        assert!(matches!(error.kind(), Kind::Gate | Kind::Corrupt), "{text}");
        assert!(text.contains(says), "{text} does not say {says:?}");
        assert!(error.hint_text().is_some(), "{error:?} has no hint");
        assert_eq!(before, self.stream.state(&self.region).await, "nothing may change");
        error.kind()
    }
}

fn first_segment(stream: &Stream) -> std::path::PathBuf {
    let files = std::fs::read_dir(stream.bucket().join("segments")).unwrap();
    files.map(|file| file.unwrap().path()).min().unwrap()
}

fn open(path: &std::path::Path) -> impl std::io::Read + use<> {
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap())
}

#[tokio::test]
async fn statements_that_never_travel_are_refused_and_nothing_of_their_segment_runs() {
    let forge = Forge::new("cr_statements").await;
    let good = forge.statement("ALTER TABLE @.apps COMMENT 'good'");
    for (text, says) in [
        ("DROP DATABASE @", "DDL on a database"),
        ("DROP DATABASE mysql", "DDL on a database"),
        ("CREATE DATABASE elsewhere", "DDL on a database"),
        ("GRANT ALL ON *.* TO root", ""),
        ("CREATE USER evil", ""),
        ("SET GLOBAL super_read_only = 1", ""),
        ("SET PASSWORD = 'x'", ""),
        ("DROP TABLE @.mine", "table cr_statements.mine is not in this region's list"),
        ("DROP TABLE @.apps, @.mine", "table cr_statements.mine is not in this region's list"),
        ("DROP TABLE mysql.user", "table mysql.user is not in this region's list"),
        ("DROP TABLE tablecast.position", "table tablecast.position is not in this region's list"),
        ("RENAME TABLE @.apps TO @.gone", "table cr_statements.gone is not in this region's list"),
        ("CREATE TABLE @.apps LIKE @.mine", "table cr_statements.mine is not in this region's list"),
        ("CREATE TABLE @.apps SELECT * FROM @.mine", ""),
        ("CREATE TEMPORARY TABLE @.apps (a INT)", "temporary"),
        ("ALTER TABLE @.apps ADD FOREIGN KEY (id) REFERENCES @.mine (id)", "table cr_statements.mine"),
        ("ALTER TABLE @.apps DATA DIRECTORY = '/tmp'", ""),
        ("ALTER TABLE @.apps COMMENT 'a'; DROP TABLE @.mine", ""),
        ("ALTER TABLE @.apps COMMENT 'a' /*!, RENAME TO @.mine */", ""),
        ("ALTER TABLE @.apps COMMENT 'a' /*!80000 ; DROP TABLE @.mine */", ""),
        ("INSERT INTO @.apps VALUES (9, 'x')", ""),
        ("DELETE FROM @.mine", ""),
        ("CALL @.p()", ""),
        ("CREATE TRIGGER @.t BEFORE INSERT ON @.apps FOR EACH ROW SET @a = 1", ""),
        ("CREATE EVENT @.e ON SCHEDULE EVERY 1 DAY DO DROP TABLE @.mine", ""),
        ("CREATE VIEW @.apps AS SELECT 1", ""),
        ("LOAD DATA INFILE '/etc/passwd' INTO TABLE @.apps", ""),
        ("ANALYZE TABLE @.apps", ""),
        ("FLUSH TABLES", ""),
        ("XA START 'a'", ""),
        ("DO SLEEP(100)", ""),
        ("garbage", ""),
        ("", ""),
    ] {
        forge.assert_refused(&[good.clone(), forge.statement(text)], says).await;
    }
}

#[tokio::test]
async fn rows_of_a_table_outside_the_list_are_refused() {
    let forge = Forge::new("cr_rows").await;
    let good = forge.statement("ALTER TABLE @.apps COMMENT 'good'");
    for table in ["mine", "APPS", "ap\0s"] {
        forge.assert_refused(&[good.clone(), forge.insert_into(table)], "is not in this region's list").await;
    }
}

#[tokio::test]
async fn events_that_do_not_belong_in_a_transaction_are_refused() {
    let forge = Forge::new("cr_events").await;
    let header = |kind| Header { kind, ..forge.alter.header() };
    let build = |kind, body: &[u8]| Event::build(header(kind), body, Checksum::Crc32);
    for (event, says) in [
        (forge.statement("DROP TABLE @.mine").remove(0), "inside a transaction"),
        (forge.statement("ALTER TABLE @.apps COMMENT 'y'").remove(0), "inside a transaction"),
        (forge.statement("BEGIN").remove(0), ""),
        (build(kind::INTVAR, &[2, 1, 0, 0, 0, 0, 0, 0, 0]), "Intvar"),
        (build(kind::USER_VAR, &[1, 0, 0, 0, b'a', 1]), "User var"),
        (build(kind::BEGIN_LOAD_QUERY, &[0, 0, 0, 0, b'x']), "Begin_load_query"),
        (build(kind::ROWS_QUERY, b"\x01x"), "Rows_query"),
        (build(kind::TRANSACTION_PAYLOAD, b"\0"), "Transaction_payload"),
        (build(kind::INCIDENT, &[1, 0, 0]), "Incident"),
        // Rows for a table that no map names.
        (
            forge.insert.iter().find(|event| kind::is_rows(event.kind())).unwrap().clone(),
            "without a table map",
        ),
    ] {
        forge.refusal(&[forge.insert_with(event)], says).await;
    }
}

/// Its text runs in the middle of a query with others: behind `#` the COMMIT would be a comment, and nobody would
/// ever answer for it.
#[tokio::test]
async fn i6_a_savepoint_that_is_not_as_a_server_writes_it_is_refused() {
    let forge = Forge::new("cr_savepoints").await;
    let savepoint = |text: &str| forge.insert_with(forge.statement(text).remove(0));
    for (text, says) in [
        ("SAVEPOINT a #", ""),
        ("SAVEPOINT a -- ", ""),
        ("SAVEPOINT a;", ""),
        ("SAVEPOINT a; DROP TABLE @.mine", ""),
        ("SAVEPOINT a", "not written as a server does"),
        ("ROLLBACK TO `a`", "was not set"),
        ("ROLLBACK TO `a` #", ""),
        ("RELEASE SAVEPOINT `a`", "does not travel"),
    ] {
        forge.assert_refused(&[savepoint(text)], says).await;
    }
    // What the name is does not matter: nothing of it is sent.
    forge.publish(&[savepoint("SAVEPOINT `a; DROP TABLE mine #`")]);
    let apply = tokio::time::timeout(std::time::Duration::from_secs(60), forge.apply());
    let error = apply.await.expect("an answer").expect_err("row 1 is there already");
    assert_eq!(error.kind(), Kind::Drift, "{error:?}");
}

/// The server takes MODE_ANSI for ANSI_QUOTES and more; who lexes without reads strings where it reads names.
#[tokio::test]
async fn i6_a_sql_mode_that_the_server_would_expand_is_refused() {
    let forge = Forge::new("cr_modes").await;
    let text = r#"ALTER TABLE @.apps ADD COLUMN "a\" int, RENAME TO @.stolen, ADD COLUMN "q" int -- ""#;
    for mode in [0x4_0000_u64, 0x800_0000, 1 << 40] {
        let mut query = QueryEvent::parse_body(forge.alter.body()).unwrap();
        query.text = text.replace('@', "cr_modes").into_bytes();
        let mut body = query.encode_body();
        // Behind 13 bytes and Q_FLAGS2_CODE with its value: Q_SQL_MODE_CODE and its value.
        assert_eq!((body[13], body[18]), (0, 1));
        body[19..27].copy_from_slice(&mode.to_le_bytes());
        let event = Event::build(forge.alter.header(), &body, Checksum::Crc32);
        forge.assert_refused(&[vec![event]], "is none that a server writes").await;
    }
}

#[tokio::test]
async fn ddl_in_a_time_zone_that_would_be_the_regions_own_is_refused() {
    let forge = Forge::new("cr_zone").await;
    let mut query = QueryEvent::parse_body(forge.alter.body()).unwrap();
    query.status.raw.extend(b"\x05\x06SYSTEM");
    let event = Event::build(forge.alter.header(), &query.encode_body(), Checksum::Crc32);
    forge.assert_refused(&[vec![event]], "depends on the system time zone").await;
}
