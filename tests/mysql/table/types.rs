use super::*;

#[tokio::test]
async fn rows_of_every_type_come_back_bit_by_bit() {
    // A source whose defaults are not what a session that reads rows needs.
    let server = Server::start(&[
        "--max-allowed-packet=1G",
        "--sql-mode=PAD_CHAR_TO_FULL_LENGTH,ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
        "--default-time-zone=+09:30",
        "--character-set-server=latin1",
    ]);
    let made = server.client(&[], include_bytes!("types.sql"));
    made.unwrap_or_else(|e| panic!("{e}"));
    // More members than one byte can number, and as many as a SET can have.
    let many: Vec<String> = (0..300).map(|n| format!("'m{n}'")).collect();
    let all: Vec<String> = (0..64).map(|n| format!("'s{n}'")).collect();
    server
        .sql(&format!(
            "SET sql_mode='';
             CREATE TABLE g.many (id INT PRIMARY KEY, e ENUM({}), s SET({}));
             INSERT INTO g.many VALUES (1, 'm0', 1), (2, 'm299', 18446744073709551615), (3, 256, 9223372036854775808),
               (4, 0, 0), (5, 255, 9007199254740993)",
            many.join(","),
            all.join(",")
        ))
        .await;
    for table in base_tables(&server, "g").await {
        travels(&server, &table).await;
    }
}

#[tokio::test]
async fn a_value_says_what_it_is_whatever_the_server_prints() {
    let server = Server::shared();
    server
        .sql(
            "CREATE DATABASE literals; CREATE TABLE literals.t (i INT(5) ZEROFILL, f FLOAT, d DOUBLE, b BIT(9), e ENUM('', 'x'),
               ts TIMESTAMP NULL, j JSON, l VARCHAR(9) CHARACTER SET latin1, g INT AS (i + 1), h INT INVISIBLE);
             SET time_zone = '+05:00';
             INSERT INTO literals.t (i, f, d, b, e, ts, j, l, h) VALUES
               (7, 0.1, -0e0, 3, '', '2021-01-01 05:00:00', '{\"a\": 1}', 'it''s', 9)",
        )
        .await;
    let table = TableName::new("literals", "t");
    let mut wire = open(&server.config()).await.expect("connect");
    let columns = columns(&mut wire, &table).await.expect("columns");
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["i", "f", "d", "b", "e", "ts", "j", "l", "h"]);
    let tuples = tuples(&mut wire, &table, &columns, &Range::all()).await;
    let text = String::from_utf8(tuples.concat()).expect("ASCII");
    assert_eq!(
        text,
        "(00007,0.10000000149011612e0,-0e0,0x0003,1,'2021-01-01 00:00:00',_utf8mb4'{\"a\": 1}',0x69742773,9)"
    );
}

/// What no text can say: DECIMAL, DATETIME and binary values inside JSON.
#[tokio::test]
async fn json_values_of_sql_types_travel_as_what_their_text_says() {
    let server = Server::shared();
    server
        .sql(
            "CREATE DATABASE jsons; CREATE TABLE jsons.values_of_sql (id INT PRIMARY KEY, j JSON);
             INSERT INTO jsons.values_of_sql VALUES (1, JSON_OBJECT('d', CAST(1.50 AS DECIMAL(10,2)),
               't', CAST('2021-01-01 01:02:03' AS DATETIME), 'b', x'00ff'))",
        )
        .await;
    let table = TableName::new("jsons", "values_of_sql");
    let copy = copy(server, &table).await;
    assert_eq!(summed(server, &copy).await, summed(server, &table).await);
    let text: String = server.value("SELECT CAST(j AS CHAR) FROM h.values_of_sql").await;
    assert_eq!(text, r#"{"b": "base64:type15:AP8=", "d": 1.5, "t": "2021-01-01 01:02:03.000000"}"#);
}

#[tokio::test]
async fn rows_above_16_and_64_mb_come_back() {
    let server = Server::start(&["--max-allowed-packet=1G", "--innodb-redo-log-capacity=2G"]);
    server
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.big (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT, n INT);
             SET SESSION cte_max_recursion_depth = 100;
             INSERT INTO g.big VALUES (1, REPEAT(x'00ff27', 6000000), 'small', 1), (2, '', REPEAT('it''s \\\\ 😀', 2000000), 2),
               (3, REPEAT('0123456789abcdef', 4400000), NULL, NULL), (4, NULL, NULL, NULL)",
        )
        .await;
    travels(&server, &TableName::new("g", "big")).await;
}

#[tokio::test]
async fn a_table_that_is_not_there_is_said_so() {
    let server = Server::shared();
    let mut wire = open(&server.config()).await.expect("connect");
    let error = columns(&mut wire, &TableName::new("nowhere", "t")).await.expect_err("no table");
    assert!(error.is_not_found(), "{error:?}");
    assert!(error.to_string().contains("nowhere.t"), "{error}");
    let scan = TableScan::open(&mut wire, &TableName::new("nowhere", "t"), &[], &Range::all()).await;
    assert!(scan.is_err());
}
