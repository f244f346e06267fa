//! Transactions of more than 16 MiB, which are compressed while they are still being read, from a real server's binlog to
//! what `gunzip | mysqlbinlog` makes of it.

use std::process::{Command, Stdio};

use mysql_async::prelude::Queryable;
use tablecast::binlog::segment::{Item, SegmentReader};
use tablecast::error::Kind;
use tablecast::stream::Codec;

use super::kit::Stream;
use crate::support::mysql::{Server, tool};

/// Some 18 MB in rows from this one on, which compress well.
fn large(from: u32) -> String {
    format!(
        "INSERT INTO g.apps WITH RECURSIVE s AS (SELECT {from} n UNION ALL SELECT n + 1 FROM s WHERE n < {from} + 179)
         SELECT n, CONCAT(UUID(), REPEAT('x', 100000)) FROM s"
    )
}

/// What stands in each segment: numbers, and whether the transaction is a large one.
async fn segments(stream: &Stream) -> Vec<Vec<(u64, bool)>> {
    let mut segments = Vec::new();
    for entry in stream.entries().await {
        let bytes = stream.segment(entry.segment().expect("a segment")).await;
        let mut reader = SegmentReader::new(&bytes[..], None).expect("a segment");
        let mut transactions = Vec::new();
        while let Some(item) = reader.next().expect("a sound segment") {
            if let Item::Begin(transaction) = item {
                transactions.push((transaction.n, transaction.length > 16 << 20));
            }
        }
        segments.push(transactions);
    }
    segments
}

/// The text that the server's own tools make of each segment, gzip members one after the other, every checksum looked at.
async fn texts(stream: &Stream) -> Vec<String> {
    let file = stream.spool_dir().join("fetched");
    let mut texts = Vec::new();
    for entry in stream.entries().await {
        let segment = entry.segment().expect("a segment");
        assert_eq!(segment.codec, Codec::Gzip, "the default");
        stream.store.download(&segment.key, &file, segment.size).await.expect("I1: it is there");
        let packed = std::fs::File::open(&file).expect("what was fetched");
        let gunzip = Command::new("gunzip").arg("-c").stdin(packed).stderr(Stdio::inherit()).output();
        let unpacked = gunzip.expect("run gunzip");
        assert!(unpacked.status.success(), "{}: gunzip refuses it", segment.key);
        let args = ["--verify-binlog-checksum", "--base64-output=decode-rows", "-"];
        let output = tool("mysqlbinlog", &args, &unpacked.stdout).expect("mysqlbinlog");
        texts.push(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    std::fs::remove_file(&file).expect("clean up");
    texts
}

/// I3, I1.
#[tokio::test(flavor = "multi_thread")]
async fn i3_large_transactions_in_a_row_small_ones_behind_them_and_one_that_is_refused_in_the_end() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, body LONGBLOB)").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let left = || std::fs::read_dir(stream.spool_dir()).expect("the spool").count();
    let mut conn = server.connect().await;
    let second = [
        "BEGIN",
        &large(2000),
        "SAVEPOINT half",
        "INSERT INTO g.apps VALUES (3000, 'undone')",
        "ROLLBACK TO half",
        "INSERT INTO g.apps VALUES (3001, 'stays')",
        "SAVEPOINT more",
        &large(4000),
        "COMMIT",
    ];
    let small = ["INSERT INTO g.apps VALUES (1, 'a')"];
    let behind = ["UPDATE g.apps SET body = 'b' WHERE id = 1", "INSERT INTO g.apps VALUES (2, 'c')"];
    let first = large(1000);
    for statement in small.into_iter().chain([first.as_str()]).chain(second).chain(behind) {
        conn.query_drop(statement).await.unwrap_or_else(|e| panic!("{statement:.60}: {e}"));
    }
    let report = stream.upload().await.expect("upload");
    assert_eq!((report.kept, report.segment_count), (5, 3));
    let expected = vec![vec![(1, false)], vec![(2, true)], vec![(3, true), (4, false), (5, false)]];
    assert_eq!(segments(&stream).await, expected);
    assert_eq!(stream.shipped().await.len(), 5);
    let executed = server.gtid_executed().await;
    assert!(executed.is_subset(&stream.head().await.covered));
    let texts = texts(&stream).await;
    let begun: Vec<usize> = texts.iter().map(|text| text.matches("\nBEGIN\n").count()).collect();
    assert_eq!(begun, [1, 1, 3], "{texts:?}");
    assert!(texts[2].contains("SAVEPOINT `more`"), "{}", texts[2]);
    assert_eq!(left(), 0);

    // What it cannot carry comes behind more than 16 MiB that it can: UUID() makes rows of a statement, and the next stays one.
    let refused = [
        "INSERT INTO g.apps VALUES (5, 'e')",
        "SET SESSION binlog_format = MIXED",
        "BEGIN",
        &large(5000),
        "INSERT INTO g.apps VALUES (6, 'f')",
        "COMMIT",
    ];
    for statement in refused {
        conn.query_drop(statement).await.unwrap_or_else(|e| panic!("{statement:.60}: {e}"));
    }
    let mut heads = Vec::new();
    for _ in 0..2 {
        let error = stream.upload().await.expect_err("refused");
        assert_eq!(error.kind(), Kind::Gate, "{error:?}");
        let head = stream.head().await;
        let refused = head.refused.clone().expect("the head tells of it");
        assert!(refused.why.starts_with(&error.to_string()), "{refused:?} is not {error}");
        assert_eq!(head.last_tx.0, 6, "what came before it is shipped");
        heads.push((head.last_seq, head.covered, refused));
        assert_eq!(segments(&stream).await, [&expected[..], &[vec![(6, false)]]].concat());
        assert_eq!(stream.store.list("segments/").await.expect("a listing").len(), 4);
        assert_eq!(left(), 0, "nothing of it stays on the disk");
    }
    assert_eq!(heads[0], heads[1]);
}
