use tablecast::stream::{Codec, RequestState, StreamTx};

use super::kit::{ask, dumps, equals, request};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_every_type_is_the_source_bit_by_bit() {
    let options: &[&str] = &["--max-allowed-packet=1G"];
    let [source, copy] = Server::start_all([options, options]);
    let made = source.client(&[], include_bytes!("../mysql/table/types.sql"));
    made.unwrap_or_else(|e| panic!("{e}"));
    source
        .sql(
            "CREATE TABLE g.parent (id INT PRIMARY KEY); CREATE TABLE g.child (id INT PRIMARY KEY, p INT, \
             FOREIGN KEY (p) REFERENCES g.parent (id)); INSERT INTO g.parent VALUES (1); INSERT INTO g.child VALUES (2, 1)",
        )
        .await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    source.sql("INSERT INTO g.ints (id) VALUES (77)").await;
    let asked = ask(&stream, &[]).await;
    stream.upload().await.expect("upload");
    let done = request(&stream, &asked.id).await;
    assert_eq!(done.state, RequestState::Uploaded, "{done:?}");
    assert_eq!(done.at, Some(StreamTx(1)));
    let dumps = dumps(&stream).await;
    let dump = &dumps[0];
    assert_eq!((Some(dump.seq), Some(&dump.dump.id)), (done.seq, done.dump.as_ref()));
    assert_eq!((dump.dump.at, dump.dump.full, dump.dump.mandatory), (StreamTx(1), true, false));
    let manifest = equals(&stream, dump, &source, &copy).await;
    assert_eq!(done.rows, manifest.rows());
    assert!(manifest.tables.iter().any(|table| table.rows == 0 && table.chunks.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_is_cut_into_chunks_and_read_side_by_side() {
    let [source, copy] = Server::start_all([&[], &[]]);
    source
        .sql(
            "CREATE DATABASE g; SET SESSION cte_max_recursion_depth = 1000000;
             CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(200), KEY (name));
             INSERT INTO g.apps SELECT n, REPEAT(SHA2(n, 256), 3) FROM
               (WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 60000) SELECT n FROM s) s;
             CREATE TABLE g.names (id VARCHAR(100) PRIMARY KEY);
             INSERT INTO g.names SELECT LEFT(name, 100) FROM g.apps LIMIT 20000;
             CREATE TABLE g.heap (a INT, b VARCHAR(100)); INSERT INTO g.heap SELECT id % 7, 'x' FROM g.apps LIMIT 5000",
        )
        .await;
    for codec in ["zstd", "gzip"] {
        let more = format!("[dump]\nchunk_bytes = \"256KiB\"\ncodec = \"{codec}\"\nconnections = 3");
        let stream = Stream::make(&source, &["g.apps", "g.names", "g.heap"], &more).await;
        ask(&stream, &["g.apps", "g.heap", "g.names"]).await;
        let report = stream.upload().await.expect("upload");
        assert_eq!(report.dumps.len(), 1);
        let manifest = equals(&stream, &report.dumps[0], &source, &copy).await;
        copy.sql("DROP DATABASE g").await;
        let apps = &manifest.tables[0];
        assert!(apps.chunks.len() >= 40, "{} chunks", apps.chunks.len());
        assert!(apps.chunks.iter().all(|chunk| chunk.raw_size < 400 << 10), "{:?}", apps.chunks);
        assert!(apps.chunks.iter().all(|chunk| (chunk.codec == Codec::Zstd) == (codec == "zstd")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_above_16_and_64_mb_travel_too() {
    let options: &[&str] = &["--max-allowed-packet=1G", "--innodb-redo-log-capacity=2G"];
    let [source, copy] = Server::start_all([options, options]);
    source
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.big (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT);
             INSERT INTO g.big VALUES (1, REPEAT(x'00ff27', 6000000), 'small'),
               (2, REPEAT('0123456789abcdef', 4400000), NULL), (3, '', REPEAT('it''s 😀', 3000000)), (4, NULL, NULL)",
        )
        .await;
    let stream = Stream::make(&source, &["g.big"], "").await;
    ask(&stream, &["g.big"]).await;
    let report = stream.upload().await.expect("upload");
    let manifest = equals(&stream, &report.dumps[0], &source, &copy).await;
    assert!(manifest.tables[0].largest_statement > 140_000_000, "{}", manifest.tables[0].largest_statement);
}
