//! The binlog connection: everything that is missing comes, nothing else, and a break is an error.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use tablecast::Kind;
use tablecast::binlog::event::{Checksum, Event, GtidEvent, HEADER_LEN, Header, kind};
use tablecast::binlog::gtid::GtidSet;
use tablecast::mysql::replication::Request;
use tablecast::mysql::{Incoming, ReplicationStream};

use crate::support::mysql::Server;

fn request(spool_dir: &Path, follow: bool) -> Request {
    Request {
        server_id: 4_000_000_001,
        follow,
        heartbeat: Duration::from_secs(1),
        spool_dir: spool_dir.into(),
    }
}

async fn dump(server: &Server, covered: &GtidSet) -> Vec<Incoming> {
    let folder = tempfile::tempdir().unwrap();
    let mut stream =
        ReplicationStream::connect(&server.config(), covered, &request(folder.path(), false)).await.unwrap();
    let mut all = Vec::new();
    while let Some(incoming) = stream.next().await.unwrap() {
        all.push(incoming);
    }
    assert!(stream.next().await.unwrap().is_none(), "the end stays the end");
    all
}

/// Checks framing and checksum, as the filter does.
fn event(incoming: &Incoming) -> Option<Event> {
    match incoming {
        Incoming::Event { bytes, crc } => {
            let checksum = if *crc { Checksum::Crc32 } else { Checksum::None };
            Some(Event::from_bytes(bytes.clone(), checksum).unwrap())
        }
        Incoming::Large { .. } => None,
    }
}

fn gtids(all: &[Incoming]) -> GtidSet {
    let mut set = GtidSet::new();
    for event in all.iter().filter_map(event) {
        if matches!(event.kind(), kind::GTID | kind::GTID_TAGGED) {
            set.insert(&GtidEvent::parse(&event).unwrap().gtid.unwrap());
        }
    }
    set
}

fn kinds(all: &[Incoming]) -> Vec<u8> {
    all.iter().filter_map(event).map(|event| event.kind()).collect()
}

#[tokio::test]
async fn exactly_the_transactions_outside_the_covered_set_come() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY); INSERT INTO g.t VALUES (1)").await;
    let first = server.gtid_executed().await;
    assert_eq!(gtids(&dump(&server, &GtidSet::new()).await), first);
    assert!(gtids(&dump(&server, &first).await).is_empty());

    server.sql("FLUSH BINARY LOGS; INSERT INTO g.t VALUES (2); INSERT INTO g.t VALUES (3)").await;
    let second = server.gtid_executed().await;
    assert_eq!(gtids(&dump(&server, &first).await), second.difference(&first));

    // A hole in the covered set is filled.
    let uuid: String = server.value("SELECT @@server_uuid").await;
    let holey: GtidSet = format!("{uuid}:1-2:4").parse().unwrap();
    assert_eq!(gtids(&dump(&server, &holey).await), second.difference(&holey));
}

#[tokio::test]
async fn tagged_gtids_are_understood_by_the_source_also_when_they_are_purged() {
    let server = Server::start(&[]);
    let uuid: String = server.value("SELECT @@server_uuid").await;
    let other = "11111111-2222-3333-4444-555555555555";
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY)").await;
    let set_next = |gtid: &str, row: u32| format!("SET gtid_next='{gtid}'; INSERT INTO g.t VALUES ({row})");
    server.sql(&set_next("AUTOMATIC:app", 1)).await;
    server.sql(&set_next(&format!("{other}:7"), 2)).await;
    server.sql(&set_next(&format!("{other}:nightly:3"), 3)).await;
    server.sql("FLUSH BINARY LOGS").await;
    let old = server.gtid_executed().await;
    server.sql(&set_next("AUTOMATIC:app", 4)).await;
    server.sql(&set_next(&format!("{other}:nightly_job:1"), 5)).await;
    server.sql("INSERT INTO g.t VALUES (6)").await;
    let all = server.gtid_executed().await;

    assert_eq!(gtids(&dump(&server, &GtidSet::new()).await), all);
    assert_eq!(gtids(&dump(&server, &old).await), all.difference(&old));
    let some: GtidSet = format!("{uuid}:1:app:1-2, {other}:7:nightly:3").parse().unwrap();
    assert_eq!(gtids(&dump(&server, &some).await), all.difference(&some));

    // The first file goes away; who has covered it reads on.
    let last: String = server.rows::<(String, u64, String)>("SHOW BINARY LOGS").await.pop().unwrap().0;
    server.sql(&format!("PURGE BINARY LOGS TO '{last}'")).await;
    let purged: String = server.value("SELECT @@global.gtid_purged").await;
    assert_eq!(purged.parse::<GtidSet>().unwrap(), old);
    assert_eq!(gtids(&dump(&server, &old).await), all.difference(&old));

    // Who has not is told so: with none of it, and with all of it but one tagged transaction.
    let tagged: GtidSet = format!("{other}:nightly:3").parse().unwrap();
    for covered in [GtidSet::new(), old.difference(&tagged)] {
        let folder = tempfile::tempdir().unwrap();
        let asked = request(folder.path(), false);
        let opened = ReplicationStream::connect(&server.config(), &covered, &asked).await;
        let error = match opened {
            Err(error) => error,
            Ok(mut stream) => loop {
                match stream.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("lost history is taken for the end"),
                    Err(error) => break error,
                }
            },
        };
        assert_eq!(error.kind(), Kind::History, "{error:?}");
        assert!(error.hint_text().unwrap().contains("point [mysql] at another"));
    }
}

#[tokio::test]
async fn an_event_larger_than_a_packet_arrives_whole() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY, b LONGTEXT)").await;
    let covered = server.gtid_executed().await;
    server.sql("INSERT INTO g.t VALUES (1, REPEAT('abcdefgh', 5000000))").await;
    let all = dump(&server, &covered).await;
    // Event::from_bytes has checked the CRC32.
    let rows = all.iter().filter_map(event).find(|event| event.kind() == kind::WRITE_ROWS).unwrap();
    assert!(rows.body().len() > 40_000_000);
}

#[tokio::test]
async fn a_large_compressed_transaction_is_put_into_a_file_as_it_is() {
    for checksum in ["CRC32", "NONE"] {
        let option = format!("--binlog-checksum={checksum}");
        let server = Server::start(&[
            "--binlog-transaction-compression=ON",
            &option,
            "--cte-max-recursion-depth=99999",
        ]);
        server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY, b VARBINARY(1024))").await;
        let covered = server.gtid_executed().await;
        // Random bytes do not shrink: 1,000 are below 16 MiB, 30,000 above.
        for (first, count) in [(0, 1_000), (1_000, 30_000)] {
            server
                .sql(&format!(
                    "INSERT INTO g.t WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
                     SELECT {first} + i, RANDOM_BYTES(1000) FROM n"
                ))
                .await;
        }
        let mut all = dump(&server, &covered).await;
        let small = all.iter().filter_map(event).filter(|event| event.kind() == kind::TRANSACTION_PAYLOAD);
        assert_eq!(small.count(), 1, "{checksum}");
        let large = all.iter().position(|incoming| matches!(incoming, Incoming::Large { .. })).unwrap();
        let Incoming::Large { header, body } = &mut all[large] else { unreachable!() };
        let header = Header::parse(header).unwrap();
        assert_eq!(header.kind, kind::TRANSACTION_PAYLOAD);
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).unwrap();
        let checksum_len = if checksum == "CRC32" { 4 } else { 0 };
        assert_eq!(bytes.len() + HEADER_LEN + checksum_len, header.size as usize, "{checksum}");
        assert!(bytes.len() > 16 << 20);
    }
}

#[tokio::test]
async fn a_source_that_writes_no_checksums_is_read_all_the_same() {
    let server = Server::start(&["--binlog-checksum=NONE"]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY); INSERT INTO g.t VALUES (1)").await;
    assert_eq!(gtids(&dump(&server, &GtidSet::new()).await), server.gtid_executed().await);
    // Files with and without, in one dump.
    server.sql("SET GLOBAL binlog_checksum=CRC32; INSERT INTO g.t VALUES (2)").await;
    server.sql("SET GLOBAL binlog_checksum=NONE; INSERT INTO g.t VALUES (3)").await;
    assert_eq!(gtids(&dump(&server, &GtidSet::new()).await), server.gtid_executed().await);
}

#[tokio::test]
async fn a_following_connection_gets_heartbeats_and_then_what_is_new() {
    let server = Server::start(&[]);
    let covered = server.gtid_executed().await;
    let folder = tempfile::tempdir().unwrap();
    let mut stream =
        ReplicationStream::connect(&server.config(), &covered, &request(folder.path(), true)).await.unwrap();
    let mut seen = Vec::new();
    while !kinds(&seen).iter().any(|kind| [kind::HEARTBEAT, kind::HEARTBEAT_V2].contains(kind)) {
        seen.push(stream.next().await.unwrap().expect("a following connection has no end"));
    }
    server.sql("CREATE DATABASE g").await;
    while gtids(&seen).is_empty() {
        seen.push(stream.next().await.unwrap().expect("a following connection has no end"));
    }
    assert_eq!(gtids(&seen), server.gtid_executed().await.difference(&covered));
}

#[tokio::test]
async fn a_next_that_is_dropped_half_way_loses_no_byte() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY, b LONGTEXT)").await;
    for row in 0..20 {
        server.sql(&format!("INSERT INTO g.t VALUES ({row}, REPEAT('x', 3000000))")).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let asked = request(folder.path(), false);
    let mut stream = ReplicationStream::connect(&server.config(), &GtidSet::new(), &asked).await.unwrap();
    let (mut seen, mut dropped) = (Vec::new(), 0);
    loop {
        // Ready at the second poll: `next` is dropped as soon as it waits for bytes.
        tokio::select! {
            biased;
            incoming = stream.next() => match incoming.unwrap() {
                Some(incoming) => seen.push(incoming),
                None => break,
            },
            () = tokio::task::yield_now() => dropped += 1,
        }
    }
    assert!(dropped > 0);
    assert_eq!(gtids(&seen), server.gtid_executed().await);
}

#[tokio::test]
async fn a_source_that_is_killed_in_the_middle_is_an_error_and_not_an_end_i7() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY, b LONGTEXT)").await;
    for row in 0..10 {
        server.sql(&format!("INSERT INTO g.t VALUES ({row}, REPEAT('x', 10000000))")).await;
    }
    for follow in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let asked = request(folder.path(), follow);
        let mut stream = ReplicationStream::connect(&server.config(), &GtidSet::new(), &asked).await.unwrap();
        stream.next().await.unwrap().unwrap();
        server.kill9();
        let begin = Instant::now();
        let error = loop {
            match stream.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a killed source is taken for the end of the binlog"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), Kind::Mysql, "{error:?}");
        assert!(begin.elapsed() < Duration::from_secs(20));
        server.restart(&[]);
    }
}

#[tokio::test]
async fn an_account_without_the_privilege_is_refused() {
    let server = Server::shared();
    server.sql("CREATE USER reader_without IDENTIFIED BY 'x'").await;
    let folder = tempfile::tempdir().unwrap();
    let asked = request(folder.path(), false);
    let config = server.config_as("reader_without", "x");
    let error = match ReplicationStream::connect(&config, &GtidSet::new(), &asked).await {
        Err(error) => error,
        Ok(mut stream) => stream.next().await.unwrap_err(),
    };
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hint_text().unwrap().contains("tablecast grants"));
}

#[tokio::test]
async fn the_binlog_is_read_over_tls_and_over_a_socket_too() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY, b LONGTEXT)").await;
    server.sql("INSERT INTO g.t VALUES (1, REPEAT('x', 20000000))").await;
    let mut tls = server.config();
    tls.tls.mode = tablecast::config::TlsMode::Require;
    let mut socket = server.config();
    socket.socket = Some(server.socket.clone());
    for config in [tls, socket] {
        let folder = tempfile::tempdir().unwrap();
        let asked = request(folder.path(), false);
        let mut stream = ReplicationStream::connect(&config, &GtidSet::new(), &asked).await.unwrap();
        let mut all = Vec::new();
        while let Some(incoming) = stream.next().await.unwrap() {
            all.push(incoming);
        }
        assert_eq!(gtids(&all), server.gtid_executed().await);
    }
}
