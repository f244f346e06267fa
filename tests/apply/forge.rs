//! A forger: whoever can write to a bucket, with the program's own code at hand.

use std::io::Write;

use tablecast::Kind;
use tablecast::binlog::clock::SourceClock;
use tablecast::binlog::event::{Checksum, Event, GtidEvent, kind};
use tablecast::binlog::gtid::Gtid;
use tablecast::binlog::query::QueryEvent;
use tablecast::binlog::segment::{Item, SegmentReader, SegmentWriter};
use tablecast::binlog::spool::Spool;
use tablecast::binlog::transaction::Transaction;
use tablecast::stream::{Body, Codec, Entry, Head, Key, Md5, SegmentEntry};
use uuid::Uuid;

use super::kit::Stream;
use crate::support::granted;
use crate::support::mysql::Server;

const TABLES: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci; \
                      CREATE TABLE @.mine (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// A stream of the table `apps` alone, whose region has a table `mine` beside it. Entry 1 is in order: an INSERT and
/// an ALTER.
pub struct Forge {
    pub stream: Stream,
    pub region: Server,
    pub index: Vec<u8>,
    /// The events of the two transactions.
    pub insert: Vec<Event>,
    pub alter: Event,
}

impl Forge {
    pub async fn new(schema: &'static str) -> Forge {
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

    pub async fn apply(&self) -> Result<tablecast::region::apply::Report, tablecast::Error> {
        let path = self.stream.region_file(&self.region, granted::USER, &["@.apps"]);
        let config = tablecast::config::load(&path).unwrap();
        self.stream.apply_with(&config, super::kit::options()).await
    }

    /// The ALTER with another text.
    pub fn statement(&self, text: &str) -> Vec<Event> {
        let mut query = QueryEvent::parse_body(self.alter.body()).unwrap();
        query.text = text.replace('@', self.stream.schema).into_bytes();
        vec![Event::build(self.alter.header(), &query.encode_body(), Checksum::Crc32)]
    }

    /// The INSERT into another table with a name as long.
    pub fn insert_into(&self, table: &str) -> Vec<Event> {
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
    pub fn insert_with(&self, extra: Event) -> Vec<Event> {
        let mut events = self.insert.clone();
        events.insert(events.len() - 1, extra);
        events
    }

    /// Appends an entry with these transactions to the index, in perfect order: chain, md5, sizes.
    pub fn publish(&self, transactions: &[Vec<Event>]) {
        let head = self.extend(Head::parse(&self.index).unwrap(), transactions);
        std::fs::write(self.stream.bucket().join("index.json"), head.to_json().unwrap()).unwrap();
    }

    /// The same behind this head, which is not written.
    pub fn extend(&self, mut head: Head, transactions: &[Vec<Event>]) -> Head {
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
        head
    }

    /// By the gate, with exit code 15.
    pub async fn assert_refused(&self, transactions: &[Vec<Event>], says: &str) {
        assert_eq!(self.refusal(transactions, says).await.exit_code(), 15);
    }

    pub async fn refusal(&self, transactions: &[Vec<Event>], says: &str) -> Kind {
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

pub fn first_segment(stream: &Stream) -> std::path::PathBuf {
    let files = std::fs::read_dir(stream.bucket().join("segments")).unwrap();
    files.map(|file| file.unwrap().path()).min().unwrap()
}

pub fn open(path: &std::path::Path) -> impl std::io::Read + use<> {
    flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap())
}
