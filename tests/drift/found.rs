//! Whatever differs is found, in the very row.

use std::time::Duration;

use super::kit::{checks, compare, differences, known, round};
use crate::apply::kit::Stream;
use crate::ops::kit::{at_source, in_region};
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(40) COLLATE utf8mb4_0900_ai_ci, \
    note CHAR(10), bits BLOB, f FLOAT, d DOUBLE, at TIMESTAMP(6) NULL, tags SET('a', 'b'), doc JSON, \
    twice INT GENERATED ALWAYS AS (id * 2) STORED, price DECIMAL(20,5), word VARCHAR(10) CHARACTER SET latin1, \
    gone BIT(3), hidden INT INVISIBLE)";
const ROWS: &str = "INSERT INTO @.apps (id, name, note, bits, f, d, at, tags, doc, price, word, gone, hidden) VALUES \
    (1, 'one', 'n', x'00ff10', 1.1, 0.3, '2024-02-29 01:02:03.000001', 'a', '{\"a\": 1}', 1.5, 'wörd', b'101', 1), \
    (2, 'two', NULL, x'00ff11', 1.1, 0.3, '2024-02-29 01:02:03.000001', 'a,b', '{\"a\": 1}', 1.5, 'wörd', b'101', 1), \
    (3, 'three', '', NULL, NULL, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL)";

/// A region by hand: nothing of it is in its binlog.
async fn by_hand(stream: &Stream, region: &Server, statement: &str) {
    let statement = statement.replace('@', stream.schema);
    region.sql(&format!("SET sql_log_bin=0; SET NAMES utf8mb4; {statement}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_changed_byte_in_a_region_is_found_and_named() {
    let stream = Stream::new("drift_bytes", APPS).await;
    let region = Server::start(&[]);
    stream.sql(ROWS).await;
    assert_eq!(differences(&compare(&stream, &region).await), [""; 0]);
    for (what, statement, rows) in [
        ("a byte of a blob", "UPDATE @.apps SET bits = x'00ff91' WHERE id = 2", &["apps 2 differs"][..]),
        ("the case of a letter", "UPDATE @.apps SET name = 'Two' WHERE id = 2", &["apps 2 differs"]),
        ("an accent", "UPDATE @.apps SET name = 'twö' WHERE id = 2", &["apps 2 differs"]),
        ("a blank at the end", "UPDATE @.apps SET name = 'two ' WHERE id = 2", &["apps 2 differs"]),
        ("'' for NULL", "UPDATE @.apps SET note = '' WHERE id = 2", &["apps 2 differs"]),
        ("NULL for ''", "UPDATE @.apps SET note = NULL WHERE id = 3", &["apps 3 differs"]),
        ("the last bit of a DOUBLE", "UPDATE @.apps SET d = 0.1e0 + 0.2e0 WHERE id = 2", &["apps 2 differs"]),
        ("the last bit of a FLOAT", "UPDATE @.apps SET f = 1.1000001 WHERE id = 2", &["apps 2 differs"]),
        (
            "a microsecond",
            "UPDATE @.apps SET at = at + INTERVAL 1 MICROSECOND WHERE id = 2",
            &["apps 2 differs"],
        ),
        ("a member of a SET", "UPDATE @.apps SET tags = 'b' WHERE id = 2", &["apps 2 differs"]),
        ("no member of a SET", "UPDATE @.apps SET tags = NULL WHERE id = 3", &["apps 3 differs"]),
        ("a value in JSON", "UPDATE @.apps SET doc = '{\"a\": 2}' WHERE id = 2", &["apps 2 differs"]),
        ("null in JSON", "UPDATE @.apps SET doc = 'null' WHERE id = 3", &["apps 3 differs"]),
        ("a digit of a DECIMAL", "UPDATE @.apps SET price = 1.50001 WHERE id = 2", &["apps 2 differs"]),
        ("a letter in latin1", "UPDATE @.apps SET word = 'word' WHERE id = 2", &["apps 2 differs"]),
        ("a bit", "UPDATE @.apps SET gone = b'100' WHERE id = 2", &["apps 2 differs"]),
        ("an invisible column", "UPDATE @.apps SET hidden = 2 WHERE id = 2", &["apps 2 differs"]),
        ("a row is gone", "DELETE FROM @.apps WHERE id = 2", &["apps 2 missing"]),
        ("the first row is gone", "DELETE FROM @.apps WHERE id = 1", &["apps 1 missing"]),
        ("all rows are gone", "DELETE FROM @.apps", &["apps 1 missing", "apps 2 missing", "apps 3 missing"]),
        ("a row too many", "INSERT INTO @.apps (id, name) VALUES (7, 'x')", &["apps 7 extra"]),
        ("a row before all", "INSERT INTO @.apps (id, name) VALUES (-7, 'x')", &["apps -7 extra"]),
        ("another key", "UPDATE @.apps SET id = 9 WHERE id = 2", &["apps 2 missing", "apps 9 extra"]),
    ] {
        by_hand(&stream, &region, statement).await;
        let found = compare(&stream, &region).await;
        assert_eq!(differences(&found), rows, "{what}");
        by_hand(&stream, &region, &format!("DELETE FROM @.apps; {ROWS}")).await;
        assert_eq!(differences(&compare(&stream, &region).await), [""; 0], "{what}, mended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_told_by_status_with_table_row_and_transaction() {
    let stream = Stream::new("drift_told", APPS).await;
    let region = Server::start(&[]);
    stream.sql(ROWS).await;
    compare(&stream, &region).await;
    by_hand(&stream, &region, "UPDATE @.apps SET name = 'Two' WHERE id = 2; DELETE FROM @.apps WHERE id = 3")
        .await;
    round(&stream, Duration::from_secs(5)).await;
    let says = [
        "drift_told.apps",
        "at transaction 1: all rows: 3 rows at the source, 2 here; id 2 differs, id 3 is missing here",
    ];
    in_region(&stream, &region, &["apply", "--dry-run"]).ends(0, &["compare 3 rows of drift_told.apps"]);
    in_region(&stream, &region, &["apply"]).ends(0, &says);
    in_region(&stream, &region, &["status"])
        .ends(0, &["drift_told.apps at transaction 1", "id 2 differs", "rows compared"]);
    let json = in_region(&stream, &region, &["status", "--json"]).json();
    assert_eq!(json["checked"][0]["drift"]["rows"][1]["how"], "missing", "{json}");
    let checks = checks(&stream).await;
    let (seq, check) = &checks[checks.len() - 1];
    let names = check.names.as_ref().unwrap().key.to_string();
    at_source(&stream, &["inspect", &seq.0.to_string()]).ends(0, &["3 rows behind transaction 1", &names]);
    at_source(&stream, &["inspect", &names, "--rows"])
        .ends(0, &["3 of drift_told.apps", "drift_told.apps  "]);
    at_source(&stream, &["stream", "ls", "--kind", "check"])
        .ends(0, &["check", "after 1", "drift_told.apps"]);
    at_source(&stream, &["stream", "show"]).ends(0, &["rows checked"]);
    // I1.
    at_source(&stream, &["verify"]).ends(0, &["sound"]);
    std::fs::remove_file(stream.bucket().join(&names)).unwrap();
    at_source(&stream, &["verify"]).ends(4, &[&names]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_named_by_keys_of_every_kind() {
    let stream = Stream::new(
        "drift_keys",
        "CREATE TABLE @.two (a VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, b INT, v INT, PRIMARY KEY (a, b)); \
         CREATE TABLE @.bytes (k VARBINARY(8) PRIMARY KEY, v INT); \
         CREATE TABLE @.dec_ (k DECIMAL(10,3) PRIMARY KEY, v INT); \
         CREATE TABLE @.times (k DATETIME(3) PRIMARY KEY, v INT); \
         CREATE TABLE @.stamps (k TIMESTAMP(6) PRIMARY KEY, v INT); \
         CREATE TABLE @.latin (k CHAR(4) CHARACTER SET latin1 PRIMARY KEY, v INT); \
         CREATE TABLE @.uni (k BIGINT UNSIGNED NOT NULL, v INT, UNIQUE KEY (k)); \
         CREATE TABLE @.parts (k INT, v INT, PRIMARY KEY (k)) PARTITION BY HASH (k) PARTITIONS 3; \
         CREATE TABLE @.nokey (k INT, v INT); \
         CREATE TABLE @.hidden (v INT)",
    )
    .await;
    let region = Server::start(&["--default-time-zone=+05:30"]);
    stream
        .sql(
            "SET NAMES utf8mb4; SET time_zone = '-03:00'; \
             INSERT INTO @.two VALUES ('a', 1, 1), ('A', 2, 1), ('b', 1, 1), ('ä', 3, 1), ('0x41', 1, 1), ('', 0, 1); \
             INSERT INTO @.bytes VALUES (x'00', 1), (x'ff', 1), (x'', 1), ('plain', 1); \
             INSERT INTO @.dec_ VALUES (-1.5, 1), (0, 1), (99.125, 1); \
             INSERT INTO @.times VALUES ('2024-02-29 01:02:03.004', 1), ('1999-01-01', 1); \
             INSERT INTO @.stamps VALUES ('2024-02-29 01:02:03.000004', 1), ('1999-01-01', 1); \
             INSERT INTO @.latin VALUES ('ä', 1), ('z', 1); \
             INSERT INTO @.uni VALUES (18446744073709551615, 1), (0, 1); \
             INSERT INTO @.parts VALUES (1, 1), (2, 1), (3, 1), (4, 1); \
             INSERT INTO @.nokey VALUES (1, 1), (1, 1), (2, 1)",
        )
        .await;
    let clean = compare(&stream, &region).await;
    assert_eq!((differences(&clean), clean.len()), (vec![], 10));
    by_hand(
        &stream,
        &region,
        "SET time_zone = '-03:00'; UPDATE @.two SET v = 2 WHERE a = 'ä' AND b = 3; DELETE FROM @.two WHERE a = '0x41'; \
         UPDATE @.bytes SET v = 2 WHERE k = x'ff'; UPDATE @.dec_ SET v = 2 WHERE k = 99.125; \
         UPDATE @.times SET v = 2 WHERE k = '1999-01-01'; UPDATE @.stamps SET v = 2 WHERE k = '1999-01-01'; \
         UPDATE @.latin SET v = 2 WHERE k = 'ä'; UPDATE @.uni SET v = 2 WHERE k > 5; \
         UPDATE @.parts SET v = 2 WHERE k = 3; DELETE FROM @.nokey WHERE k = 1 LIMIT 1",
    )
    .await;
    let found = compare(&stream, &region).await;
    let mut rows = differences(&found);
    rows.sort();
    assert_eq!(
        rows,
        [
            "bytes 0xff differs",
            "dec_ 99.125 differs",
            "latin 0xe4 differs",
            "parts 3 differs",
            "stamps 1999-01-01 03:00:00.000000 differs",
            "times 1999-01-01 00:00:00.000 differs",
            "two 0x41, 1 missing",
            "two ä, 3 differs",
            "uni 18446744073709551615 differs",
        ]
    );
    let nokey = found.iter().find(|table| table.table.table == "nokey").unwrap();
    let drift = &nokey.drift.as_ref().unwrap().drift;
    assert_eq!((drift.rows_there, drift.rows_here, drift.rows.len()), (3, 2, 0));
    assert!(drift.unnamed.as_ref().unwrap().contains("no key"), "{drift:?}");
    let hidden = found.iter().find(|table| table.table.table == "hidden").unwrap();
    assert_eq!(hidden.drift, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_is_compared_slice_by_slice_and_a_difference_stands_until_a_whole_round_is_clean() {
    let stream = Stream::new(
        "drift_slices",
        "CREATE TABLE @.t (id INT PRIMARY KEY, v VARCHAR(200)); \
        CREATE TABLE @.u (id INT PRIMARY KEY)",
    )
    .await;
    let region = Server::start(&[]);
    stream
        .sql(
            "SET cte_max_recursion_depth = 20000; INSERT INTO @.t WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 \
             FROM n WHERE n < 20000) SELECT n * 3, REPEAT('x', 200) FROM n; INSERT INTO @.u VALUES (1)",
        )
        .await;
    let slices = round(&stream, Duration::from_millis(10)).await;
    assert!(slices > 1, "{slices}");
    stream.apply(&region).await.unwrap();
    let clean = known(&stream, &region).await;
    assert_eq!(clean.iter().map(|table| table.same.as_ref().unwrap().rows).collect::<Vec<_>>(), [20_000, 1]);

    by_hand(&stream, &region, "UPDATE @.t SET v = 'y' WHERE id = 30003; INSERT INTO @.t VALUES (30004, 'z')")
        .await;
    // The stream goes on between two slices: each is compared at its own transaction.
    for n in 0..3 {
        stream
            .sql(&format!(
                "UPDATE @.t SET v = '{n}' WHERE id = {}; DELETE FROM @.t WHERE id = {}",
                3 * n + 3,
                30 * n + 600
            ))
            .await;
        super::kit::slice(&stream, Duration::from_millis(10)).await;
    }
    round(&stream, Duration::from_millis(10)).await;
    stream.apply(&region).await.unwrap();
    let found = known(&stream, &region).await;
    let drift = &found[0].drift.as_ref().expect("found").drift;
    let rows: Vec<_> = drift.rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!((rows, drift.rows_here - drift.rows_there), (vec!["30003", "30004"], 1));
    assert!(drift.range.starts_with("id "), "{drift:?}");

    by_hand(
        &stream,
        &region,
        "UPDATE @.t SET v = REPEAT('x', 200) WHERE id = 30003; DELETE FROM @.t WHERE id = 30004",
    )
    .await;
    super::kit::slice(&stream, Duration::from_millis(10)).await;
    stream.apply(&region).await.unwrap();
    assert!(known(&stream, &region).await[0].drift.is_some(), "until all of it has been looked at");
    round(&stream, Duration::from_millis(10)).await;
    round(&stream, Duration::from_millis(10)).await;
    stream.apply(&region).await.unwrap();
    assert_eq!(known(&stream, &region).await[0].drift, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_rows_checks_every_table_now_and_says_in_the_region_what_differs() {
    let stream = Stream::new("drift_verify", APPS).await;
    let region = Server::start(&[]);
    stream.sql(&format!("{ROWS}; CREATE TABLE @.plans (id INT PRIMARY KEY)")).await;
    in_region(&stream, &region, &["verify", "--rows"])
        .ends(4, &["no rows have been checked yet", "at the source"]);
    let json = at_source(&stream, &["verify", "--rows", "--json"]).ends(0, &[]).json();
    assert_eq!((&json["tables"], &json["rows"]), (&"2".into(), &"3".into()), "{json}");
    let same = in_region(&stream, &region, &["verify", "--rows"]);
    same.ends(0, &["drift_verify.apps", "the same: 3 rows", "drift_verify.plans"]);
    by_hand(&stream, &region, "UPDATE @.apps SET name = 'Two' WHERE id = 2").await;
    // Beside uploads and an apply that follow, and with no checks in their config.
    let start = |mut command: std::process::Command| {
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut both = [
        start(crate::ops::kit::source_command(&stream, &["upload", "--follow"])),
        start(stream.command_of(&region, &["apply", "--follow"])),
    ];
    at_source(&stream, &["verify", "--rows"]).ends(0, &["3 rows of 2 tables checked"]);
    let found = in_region(&stream, &region, &["verify", "--rows", "drift_verify.apps"]);
    found.ends(4, &["1 table with other rows than the source", "id 2 differs"]);
    in_region(&stream, &region, &["verify", "--rows", "drift_verify.plans"]).ends(0, &["the same"]);
    in_region(&stream, &region, &["verify", "--rows", "drift_verify.no"])
        .ends(2, &["no table drift_verify.no"]);
    for child in &mut both {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
