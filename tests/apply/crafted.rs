//! Segments that upload would never write, in a bucket whose index vouches for them: what somebody who can write to
//! the bucket may try. The gate of the region's own config refuses them whole (I6).

use tablecast::Kind;
use tablecast::binlog::event::{Checksum, Event, Header, kind};
use tablecast::binlog::query::QueryEvent;
use tablecast::stream::{Entry, Head, SegmentEntry};

use super::forge::Forge;
use super::kit::assert_error;

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

/// Nothing in it is wrong, but that it is another one: only its digest tells.
#[tokio::test]
async fn i1_a_sound_segment_of_the_same_size_is_not_taken_for_the_one_that_the_index_promises() {
    let forge = Forge::new("cr_other").await;
    let before = Head::parse(&forge.index).unwrap();
    // Puts the segment's object into the bucket, always under the same key.
    let made = |comment: &str| {
        let statement = forge.statement(&format!("ALTER TABLE @.apps COMMENT '{comment}'"));
        let head = forge.extend(before.clone(), &[statement]);
        let segment: SegmentEntry = head.entries.last().and_then(Entry::segment).unwrap().clone();
        (head, segment)
    };
    let (head, promised) = made("good 0000");
    std::fs::write(forge.stream.bucket().join("index.json"), head.to_json().unwrap()).unwrap();
    let is_as_large = |n: &u32| {
        let (_, other) = made(&format!("evil {n:04}"));
        (&other.key, other.size, other.raw_size) == (&promised.key, promised.size, promised.raw_size)
    };
    let found = (0..10_000).find(is_as_large);
    assert!(found.is_some(), "none of {} bytes", promised.size);
    let state = forge.stream.state(&forge.region).await;
    let error = forge.apply().await.expect_err("it must be refused");
    assert_error(&error, Kind::Corrupt, "md5 is", "restore the object");
    assert_eq!(state, forge.stream.state(&forge.region).await, "nothing may change");
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
