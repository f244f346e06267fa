//! Shadows made by hand from the state at G, brought to P out of the segments: they end as the tables that apply
//! has brought there (I5: never an older state, and never a mixed one).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tablecast::binlog::name::{TableName, shadow_name};
use tablecast::region::apply;
use tablecast::region::restore::catch_up::{CatchUp, Caught};
use tablecast::region::scope::Scope;
use tablecast::store;
use tablecast::stream::{Entry, Head, StreamTx};
use tablecast::{Error, Kind};
use tokio_util::sync::CancellationToken;

use crate::apply::kit::{Stream, assert_error, options};
use crate::support::mysql::{HOSTILE, Server};

/// What a session of ours needs in a region whose defaults are hostile.
const PLAIN: &str = "SET autocommit=1, completion_type=0, foreign_key_checks=0, sql_mode='NO_AUTO_VALUE_ON_ZERO', \
                     sql_generate_invisible_primary_key=0, sql_require_primary_key=0, sql_log_bin=1";

async fn head(stream: &Stream, region: &Server) -> Head {
    let store = store::open(&stream.region_config(region)).await.unwrap();
    match store::head::read(&*store, None).await.unwrap() {
        store::head::Read::Head { head, .. } => *head,
        store::head::Read::Unchanged => unreachable!("nothing was known"),
    }
}

/// Applies up to transaction `n`.
async fn apply_until(stream: &Stream, region: &Server, n: u64) {
    let until = apply::Options { until: Some(n), ..options() };
    stream.apply_with(&stream.region_config(region), until).await.unwrap();
}

fn shadow(stream: &Stream, table: &str) -> TableName {
    shadow_name(&TableName::new(stream.schema, table))
}

/// Makes shadows with the rows that the region's tables have now, anew if they are there. `keys`: what to add to which
/// of them (`^t`: the shadow of table t).
async fn make_shadows(stream: &Stream, region: &Server, tables: &[&str], keys: &[(&str, &str)]) {
    let mut conn = region.connect().await;
    conn.query_drop(PLAIN).await.unwrap();
    conn.query_drop(
        "CREATE TABLE IF NOT EXISTS tablecast.caught (one INT PRIMARY KEY, n BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB",
    )
    .await
    .unwrap();
    conn.query_drop("REPLACE INTO tablecast.caught VALUES (1, 0)").await.unwrap();
    for table in tables {
        let name = shadow(stream, table).quoted();
        let live = TableName::new(stream.schema, *table);
        let columns: Vec<String> = conn
            .exec(
                "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND \
                 GENERATION_EXPRESSION = '' ORDER BY ORDINAL_POSITION",
                (&live.schema, &live.table),
            )
            .await
            .unwrap();
        let columns = columns.join("`,`");
        for statement in [
            format!("DROP TABLE IF EXISTS {name}"),
            format!("CREATE TABLE {name} LIKE {}", live.quoted()),
            format!("INSERT INTO {name} (`{columns}`) SELECT `{columns}` FROM {}", live.quoted()),
        ] {
            conn.query_drop(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
    for (table, key) in keys {
        let key = tables.iter().fold((*key).to_owned(), |key, table| {
            key.replace(&format!("^{table} "), &format!("{} ", shadow(stream, table).quoted()))
        });
        conn.query_drop(format!("ALTER TABLE {} ADD {key}", shadow(stream, table).quoted())).await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

async fn catch_up(stream: &Stream, region: &Server, tables: &[&str]) -> CatchUp {
    let config = stream.region_config(region);
    let mut conn = region.connect().await;
    let server = tablecast::mysql::server(&mut conn).await.unwrap();
    conn.disconnect().await.unwrap();
    std::fs::create_dir_all(&config.files.spool_dir).unwrap();
    let targets: BTreeMap<TableName, TableName> =
        tables.iter().map(|table| (TableName::new(stream.schema, *table), shadow(stream, table))).collect();
    CatchUp {
        server,
        stream: head(stream, region).await.stream,
        store: store::open(&config).await.unwrap(),
        spool_dir: config.files.spool_dir.clone(),
        scope: Scope::of_list(&config.region.clone().unwrap().tables),
        targets,
        lock: format!("tablecast:test:{}", stream.schema),
        patience: 60,
        record: Arc::new(|n| format!("UPDATE tablecast.caught SET n = {n}")),
        stop: CancellationToken::new(),
        config: config.mysql,
    }
}

async fn run(stream: &Stream, region: &Server, tables: &[&str], from: u64, to: u64) -> Result<Caught, Error> {
    let entries: Vec<Entry> = head(stream, region).await.entries;
    catch_up(stream, region, tables).await.run(&entries, StreamTx(from), StreamTx(to)).await
}

async fn recorded(region: &Server) -> u64 {
    region.value("SELECT n FROM tablecast.caught").await
}

/// Asserts that each shadow holds what its table holds.
async fn assert_caught_up(stream: &Stream, region: &Server, tables: &[&str]) {
    for table in tables {
        let live = region.checksum(&TableName::new(stream.schema, *table).quoted()).await;
        assert!(live.is_some(), "{table}");
        assert_eq!(region.checksum(&shadow(stream, table).quoted()).await, live, "{}.{table}", stream.schema);
    }
}

const EVERYTHING: &str = "CREATE TABLE @.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(40), f FLOAT, at TIMESTAMP(6) NULL \
         DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), twice INT AS (LENGTH(v) * 2) STORED, b BIT(9), UNIQUE KEY (v)) \
         COLLATE utf8mb4_bin; \
     CREATE TABLE @.keyless (v INT, f FLOAT, s TEXT) COLLATE utf8mb4_bin; \
     CREATE TABLE @.j (id INT PRIMARY KEY, doc JSON); \
     CREATE TABLE @.big (id INT PRIMARY KEY, body LONGBLOB, n INT); \
     CREATE TABLE @.parent (id INT PRIMARY KEY, v INT); \
     CREATE TABLE @.child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES @.parent (id) ON DELETE CASCADE ON UPDATE CASCADE); \
     CREATE TABLE @.other (id INT PRIMARY KEY, v INT)";

const TABLES: &[&str] = &["t", "keyless", "j", "big", "parent", "child"];

/// As `LIKE` leaves them out.
const KEYS: &[(&str, &str)] =
    &[("child", "FOREIGN KEY (p) REFERENCES ^parent (id) ON DELETE CASCADE ON UPDATE CASCADE")];

/// Changes of every kind to every table, other tables between them. `round` from 0.
async fn write(stream: &Stream, round: u32) {
    let id = round * 100;
    stream
        .sql(&format!(
            "SET sql_mode='ANSI_QUOTES', time_zone='-07:00'; \
             INSERT INTO @.t (id, v, f, b) VALUES ({id} + 1, 'a{round}', 0.1, b'101'), ({id} + 2, 'ä{round}', 1e-30, NULL); \
             INSERT INTO @.other VALUES ({id}, 0); \
             SET sql_mode=DEFAULT, time_zone='+05:30'; \
             UPDATE @.t SET f = f * 3, b = b'111111111' WHERE id = {id} + 1; \
             INSERT INTO @.keyless VALUES ({round}, 0.1, 'x'), ({round}, 0.1, 'x'), (NULL, NULL, NULL), ({round}, 7, 'y'); \
             UPDATE @.keyless SET s = CONCAT(s, 'z') WHERE f = 7; DELETE FROM @.keyless WHERE v = {round} AND s = 'x' LIMIT 1; \
             INSERT INTO @.j VALUES ({id}, JSON_OBJECT('a', JSON_ARRAY(1, 2, 3), 'b', REPEAT('x', 900))); \
             SET binlog_row_value_options=PARTIAL_JSON, binlog_row_image=MINIMAL; \
             UPDATE @.j SET doc = JSON_SET(doc, '$.a[1]', id + {round}); \
             UPDATE @.j SET doc = JSON_REMOVE(doc, '$.a[0]') WHERE id = {id}; \
             UPDATE @.t SET v = UPPER(v) WHERE id = {id} + 1; \
             SET binlog_row_value_options=DEFAULT, binlog_row_image=NOBLOB; \
             INSERT INTO @.big VALUES ({id}, REPEAT(x'00ff27', 300), 1); UPDATE @.big SET n = n + 1; \
             SET binlog_row_image=DEFAULT; \
             INSERT INTO @.parent VALUES ({id} + 1, 1), ({id} + 2, 2), ({id} + 3, 3); \
             INSERT INTO @.child VALUES ({id} + 1, {id} + 1), ({id} + 2, {id} + 2), ({id} + 3, {id} + 3), ({id} + 4, NULL); \
             DELETE FROM @.parent WHERE id = {id} + 1; UPDATE @.parent SET id = {id} + 50 WHERE id = {id} + 2; \
             SET foreign_key_checks=0; INSERT INTO @.child VALUES ({id} + 9, 999999); SET foreign_key_checks=1; \
             USE @; BEGIN; UPDATE t, other SET t.v = CONCAT(t.v, other.id), other.v = other.v + 1 WHERE t.id = other.id + 2; \
             SAVEPOINT a; DELETE FROM @.t WHERE id = {id} + 1; ROLLBACK TO a; \
             DELETE FROM @.other WHERE id < {id}; DELETE other, keyless FROM other JOIN keyless WHERE keyless.v = -1; COMMIT; \
             INSERT INTO @.t (id, v) VALUES ({id} + 60, 'gone'); DELETE FROM @.t WHERE v = 'gone'"
        ))
        .await;
}

/// A stream of three segments of as many transactions each; how many transactions it has.
async fn three_segments(schema: &'static str, source: &'static Server) -> (Stream, u64) {
    let stream = Stream::of_source(source, schema, EVERYTHING, &["@.*"]).await;
    for round in 0..3 {
        write(&stream, round).await;
        stream.upload().await;
    }
    let config = stream.source_config();
    let store = store::open(&config).await.unwrap();
    let store::head::Read::Head { head, .. } = store::head::read(&*store, None).await.unwrap() else {
        panic!()
    };
    assert_eq!(head.entries.len(), 3);
    (stream, head.last_tx.0)
}

#[tokio::test]
async fn shadows_end_as_their_tables_from_and_to_the_middle_of_a_segment() {
    let (stream, last) = three_segments("cu_all", Server::shared()).await;
    let hostile = Server::start(HOSTILE);
    let per_segment = last / 3;
    for (g, p) in [
        (2, 5),
        (5, per_segment),
        (per_segment, per_segment + 7),
        (per_segment + 7, last - 3),
        (last - 3, last),
    ] {
        apply_until(&stream, &hostile, g).await;
        make_shadows(&stream, &hostile, TABLES, KEYS).await;
        apply_until(&stream, &hostile, p).await;
        assert_eq!(run(&stream, &hostile, TABLES, g, p).await.unwrap(), Caught::UpTo(p));
        assert_caught_up(&stream, &hostile, TABLES).await;
        assert_eq!(recorded(&hostile).await, p);
    }
    // The stream's own transactions are as they were: none was run by catching up.
    assert_eq!(stream.executed(&hostile).await, format!("1-{last}"));
}

#[tokio::test]
async fn a_family_is_caught_up_without_the_rest_and_over_the_whole_stream() {
    let (stream, last) = three_segments("cu_some", Server::shared()).await;
    let region = Server::start(&["--max-allowed-packet=1M"]);
    apply_until(&stream, &region, 1).await;
    for tables in [&["t"][..], &["keyless"], &["parent", "child"], &["j", "big"]] {
        // From nothing at all: everything comes from the segments.
        make_shadows(&stream, &region, tables, if tables.contains(&"child") { KEYS } else { &[] }).await;
        for table in tables {
            region
                .sql(&format!("SET foreign_key_checks=0; TRUNCATE {}", shadow(&stream, table).quoted()))
                .await;
        }
        assert_eq!(run(&stream, &region, tables, 0, last).await.unwrap(), Caught::UpTo(last));
    }
    stream.apply(&region).await.unwrap();
    assert_caught_up(&stream, &region, TABLES).await;
}

/// From 9.6 on a server writes cascades to its binlog, unless told to leave them to InnoDB as all before it did.
#[tokio::test]
async fn a_cascade_that_is_not_in_the_binlog_happens_on_the_shadows() {
    let source: &'static Server =
        Box::leak(Box::new(Server::start(&["--loose-innodb-native-foreign-keys=ON"])));
    let (stream, last) = three_segments("cu_cascade", source).await;
    let region = Server::start(HOSTILE);
    apply_until(&stream, &region, 10).await;
    make_shadows(&stream, &region, TABLES, KEYS).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal_but(&region, "_tablecast_").await;
    assert_eq!(run(&stream, &region, TABLES, 10, last).await.unwrap(), Caught::UpTo(last));
    assert_caught_up(&stream, &region, TABLES).await;
    crate::support::mysql::script(&["rm", &source.name], b"").unwrap();
}

/// A server reads the values of partitions by the character set of whoever opens the table first.
#[tokio::test]
async fn rows_written_in_another_character_set_find_the_partitions_of_the_shadow() {
    let table = "CREATE TABLE @.p (k VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY) PARTITION BY RANGE COLUMNS (k)
      (PARTITION a VALUES LESS THAN ('ä'), PARTITION b VALUES LESS THAN ('é'), PARTITION c VALUES LESS THAN (MAXVALUE))";
    let stream = Stream::new("cu_parted", table).await;
    let region = Server::start(HOSTILE);
    stream.sql("INSERT INTO @.p VALUES ('a')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let from = head(&stream, &region).await.last_tx.0;
    make_shadows(&stream, &region, &["p"], &[]).await;
    for (charset, key) in [("latin1", "C3A5"), ("gbk", "C3A6")] {
        stream
            .sql(&format!(
                "SET NAMES {charset}; INSERT INTO @.p VALUES (_utf8mb4 0x{key}); SET NAMES utf8mb4"
            ))
            .await;
    }
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let to = head(&stream, &region).await.last_tx.0;
    region.sql("FLUSH TABLES").await;
    assert_eq!(run(&stream, &region, &["p"], from, to).await.unwrap(), Caught::UpTo(to));
    let shadow = shadow(&stream, "p").quoted();
    let found: u64 = region.value(&format!("SELECT COUNT(*) FROM {shadow} PARTITION (b)")).await;
    assert_eq!(found, 2);
    assert_caught_up(&stream, &region, &["p"]).await;
}

#[tokio::test]
async fn rows_of_20_mb_and_transactions_of_200_000_rows_pass_in_bounded_pieces() {
    let stream = Stream::new(
        "cu_large",
        "CREATE TABLE @.big (id INT PRIMARY KEY, body LONGBLOB, n INT); \
         CREATE TABLE @.many (id INT PRIMARY KEY, v VARCHAR(100), KEY (v)) COLLATE utf8mb4_bin",
    )
    .await;
    let region = Server::start(HOSTILE);
    stream.sql("INSERT INTO @.big VALUES (0, 'x', 0); INSERT INTO @.many VALUES (0, '')").await;
    stream
        .sql(
            "INSERT INTO @.big VALUES (1, REPEAT('0123456789', 2000000), 1); SET cte_max_recursion_depth = 1000000; \
             INSERT INTO @.many WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 200000) SELECT n, \
             HEX(n * 7919) FROM s; UPDATE @.big SET n = 2; BEGIN; UPDATE @.many SET v = CONCAT(v, 'x') WHERE id % 2 = 0; DELETE FROM \
             @.many WHERE id % 5 = 0; COMMIT",
        )
        .await;
    stream.upload().await;
    apply_until(&stream, &region, 2).await;
    let tables = ["big", "many"];
    make_shadows(&stream, &region, &tables, &[]).await;
    stream.apply(&region).await.unwrap();
    let begin = std::time::Instant::now();
    assert_eq!(run(&stream, &region, &tables, 2, 6).await.unwrap(), Caught::UpTo(6));
    println!("caught up with 340,000 row changes in {:?}", begin.elapsed());
    assert_caught_up(&stream, &region, &tables).await;
}

#[tokio::test]
async fn nothing_to_do_is_done_at_once_and_ghosts_and_other_tables_are_left_out() {
    let stream = Stream::new(
        "cu_none",
        "CREATE TABLE @.t (id INT PRIMARY KEY); CREATE TABLE @.u (id INT PRIMARY KEY, v INT)",
    )
    .await;
    let region = Server::start(&[]);
    stream
        .sql(
            "INSERT INTO @.t VALUES (1); CREATE TABLE @._t_gho (id INT PRIMARY KEY, v INT); INSERT INTO @._t_gho VALUES (1, 1); \
             INSERT INTO @.u VALUES (1, 1); ALTER TABLE @._t_gho ADD COLUMN w INT; BEGIN; DELETE FROM @.u; INSERT INTO @._t_gho \
             VALUES (2, 2, 2); INSERT INTO @.t VALUES (2); COMMIT; DROP TABLE @._t_gho; CREATE TABLE @.v SELECT * FROM @.u",
        )
        .await;
    stream.upload().await;
    apply_until(&stream, &region, 1).await;
    make_shadows(&stream, &region, &["t"], &[]).await;
    let last = stream.apply(&region).await.unwrap().last_tx;
    assert_eq!(run(&stream, &region, &["t"], last, last).await.unwrap(), Caught::UpTo(last));
    assert_eq!(run(&stream, &region, &["t"], last, 1).await.unwrap(), Caught::UpTo(last));
    assert_eq!(recorded(&region).await, 0);
    assert_eq!(run(&stream, &region, &["t"], 1, last).await.unwrap(), Caught::UpTo(last));
    assert_eq!(recorded(&region).await, last);
    assert_caught_up(&stream, &region, &["t"]).await;
    // Nothing of the stream touches this one.
    assert_eq!(run(&stream, &region, &["v"], 0, last - 1).await.unwrap(), Caught::UpTo(last - 1));
}

#[tokio::test]
async fn ddl_on_one_of_the_tables_means_that_the_dump_does_not_fit() {
    for (number, ddl) in [
        "ALTER TABLE @.t ADD COLUMN c INT",
        "TRUNCATE TABLE @.t",
        "RENAME TABLE @.t TO @.was",
        "RENAME TABLE @.u TO @.w, @.t TO @.u, @.w TO @.t",
        "DROP TABLE @.t",
        "CREATE INDEX i ON @.t (v)",
        "CREATE TABLE @.child (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES @.t (id))",
        "DROP DATABASE @",
    ]
    .into_iter()
    .enumerate()
    {
        let schema: &'static str = format!("cu_ddl{number}").leak();
        let stream = Stream::of_set(
            schema,
            "CREATE TABLE @.t (id INT PRIMARY KEY, v INT); CREATE TABLE @.u (id INT PRIMARY KEY, v INT)",
            // A set that is a pattern knows no such statement.
            if ddl.starts_with("DROP DATABASE") { &["@.t", "@.u"] } else { &["@.*"] },
        )
        .await;
        stream.sql(&format!("INSERT INTO @.t VALUES (1, 1); INSERT INTO @.t VALUES (2, 2); {ddl}")).await;
        stream.upload().await;
        let region = Server::start(&[]);
        apply_until(&stream, &region, 1).await;
        make_shadows(&stream, &region, &["t", "u"], &[]).await;
        let table = TableName::new(schema, "t");
        let caught = run(&stream, &region, &["t"], 1, 3).await.unwrap();
        assert_eq!(caught, Caught::Ddl { n: 3, table }, "{ddl}");
        // Up to it, the dump fits.
        make_shadows(&stream, &region, &["t"], &[]).await;
        assert_eq!(run(&stream, &region, &["t"], 1, 2).await.unwrap(), Caught::UpTo(2), "{ddl}");
        let rows: u64 =
            region.value(&format!("SELECT COUNT(*) FROM {}", shadow(&stream, "t").quoted())).await;
        assert_eq!(rows, 2, "{ddl}");
    }
}

/// I7.
#[tokio::test]
async fn work_that_was_cut_short_goes_on_where_it_was_or_begins_anew() {
    let (stream, last) = three_segments("cu_cut", Server::shared()).await;
    let region = Server::start(&[]);
    apply_until(&stream, &region, 3).await;
    make_shadows(&stream, &region, TABLES, KEYS).await;
    stream.apply(&region).await.unwrap();
    let entries = head(&stream, &region).await.entries;
    let mut at = 3;
    let mut cuts = 0;
    // Its connection breaks at some moment, as if it had been killed; each time a little later.
    for wait in (0..60).map(|n| Duration::from_millis(3 * n)) {
        let with = catch_up(&stream, &region, TABLES).await;
        let work = tokio::time::timeout(wait, with.run(&entries, StreamTx(at), StreamTx(last))).await;
        cuts += u32::from(work.is_err());
        // The server may still be at work: whoever comes next waits for the lock.
        let wait = format!("DO GET_LOCK('{}', 60)", with.lock);
        region.sql(&wait).await;
        let reached = recorded(&region).await.max(at);
        assert!(reached >= at);
        at = reached;
        if work.is_ok_and(|done| done.unwrap() == Caught::UpTo(last)) {
            break;
        }
    }
    assert!(cuts > 0, "nothing was cut short");
    assert_eq!(at, last);
    assert_caught_up(&stream, &region, TABLES).await;
    // The token ends it at a boundary, and says where.
    let fresh = Stream::tables(&stream, &region).await;
    assert!(!fresh.is_empty());
    let region = Server::start(&[]);
    apply_until(&stream, &region, 3).await;
    make_shadows(&stream, &region, TABLES, KEYS).await;
    let with = catch_up(&stream, &region, TABLES).await;
    with.stop.cancel();
    let Caught::UpTo(n) = with.run(&entries, StreamTx(3), StreamTx(last)).await.unwrap() else { panic!() };
    assert_eq!(n, 3);
    assert_eq!(run(&stream, &region, TABLES, n, last).await.unwrap(), Caught::UpTo(last));
    stream.apply(&region).await.unwrap();
    assert_caught_up(&stream, &region, TABLES).await;
}

#[tokio::test]
async fn a_dump_that_the_stream_does_not_fit_is_told_with_table_key_and_transaction() {
    let stream = Stream::new(
        "cu_misfit",
        "CREATE TABLE @.t (id INT PRIMARY KEY, v INT); CREATE TABLE @.u (id INT PRIMARY KEY, v INT)",
    )
    .await;
    stream
        .sql(
            "INSERT INTO @.t VALUES (1, 1), (2, 2); INSERT INTO @.u VALUES (1, 1); INSERT INTO @.t VALUES (3, 3); \
             UPDATE @.u SET v = 2; UPDATE @.t SET v = 9 WHERE id = 2; INSERT INTO @.t VALUES (4, 4)",
        )
        .await;
    stream.upload().await;
    let region = Server::start(&[]);
    apply_until(&stream, &region, 2).await;
    make_shadows(&stream, &region, &["t", "u"], &[]).await;
    let name = shadow(&stream, "t").quoted();
    region.sql(&format!("DELETE FROM {name} WHERE id = 2")).await;
    let error = run(&stream, &region, &["t", "u"], 2, 6).await.unwrap_err();
    assert_error(
        &error,
        Kind::Drift,
        "to stream transaction 5 on cu_misfit.t, key id=2: the row to change is not there",
        "another dump",
    );
    // What came before it has been kept, and the record agrees.
    assert_eq!(recorded(&region).await, 4);
    make_shadows(&stream, &region, &["t", "u"], &[]).await;
    region.sql(&format!("INSERT INTO {name} VALUES (4, 0)")).await;
    let error = run(&stream, &region, &["t", "u"], 2, 6).await.unwrap_err();
    assert_error(
        &error,
        Kind::Drift,
        "transaction 6 on cu_misfit.t: the row is there already: Duplicate entry '4' for key 't.PRIMARY'",
        "another dump",
    );
}

/// I6: the segments pass the region's gate again, whatever the index says of them.
#[tokio::test]
async fn a_segment_that_the_gate_refuses_is_not_used() {
    let (stream, last) = three_segments("cu_gate", Server::shared()).await;
    let region = Server::start(&[]);
    apply_until(&stream, &region, 3).await;
    make_shadows(&stream, &region, &["t"], &[]).await;
    let entries = head(&stream, &region).await.entries;
    let mut with = catch_up(&stream, &region, &["t"]).await;
    with.scope = Scope::of_list(&tablecast::binlog::name::TableSet::parse(&["cu_gate.t"]).unwrap());
    let before = region.checksum(&shadow(&stream, "t").quoted()).await;
    let error = with.run(&entries, StreamTx(3), StreamTx(last)).await.unwrap_err();
    assert_error(&error, Kind::Gate, "is not in this region's list", "");
    assert_eq!(region.checksum(&shadow(&stream, "t").quoted()).await, before);
}
