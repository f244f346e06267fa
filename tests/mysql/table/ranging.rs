use super::*;

/// As many rows as the number says, from 0.
fn numbers(count: u64) -> String {
    format!(
        "(WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {}) SELECT n FROM s) s",
        count - 1
    )
}

/// Divides finely; checks that each row is in exactly one range, and answers how many rows each range has.
async fn divided(server: &Server, table: &TableName, bytes: u64) -> Vec<usize> {
    let mut wire = open(&server.config()).await.expect("connect");
    let columns = columns(&mut wire, table).await.expect("columns");
    let all = tuples(&mut wire, table, &columns, &Range::all()).await;
    let ranging = Ranging { connections: 4, bytes };
    let ranges = ranges(&mut wire, table, &ranging).await.unwrap_or_else(|e| panic!("{table}: {e:?}"));
    let mut parts = Vec::new();
    let mut sizes = Vec::new();
    for range in &ranges {
        let part = tuples(&mut wire, table, &columns, range).await;
        sizes.push(part.len());
        parts.extend(part);
    }
    assert_eq!(parts.len(), all.len(), "{table}: rows are lost or doubled between {ranges:?}");
    assert_eq!(distinct(&parts), distinct(&all), "{table}");
    sizes
}

async fn divides(server: &Server, table: &str, least: usize) {
    let table = TableName::new("ranged", table);
    server.sql(&format!("ANALYZE TABLE {}", table.quoted())).await;
    let sizes = divided(server, &table, 64 << 10).await;
    let rows: usize = sizes.iter().sum();
    assert!(sizes.len() >= least, "{table}: {sizes:?}");
    let largest = sizes.iter().copied().max().unwrap_or(0);
    assert!(least == 1 || largest <= rows / 2, "{table}: nearly all rows are in one range: {sizes:?}");
}

#[tokio::test]
async fn ranges_are_a_partition_of_the_rows_whatever_the_key() {
    let server = Server::shared();
    let rows = numbers(12_000);
    server.sql("CREATE DATABASE ranged CHARACTER SET utf8mb4").await;
    let tables = [
        ("id INT PRIMARY KEY", "n", 4),
        ("id BIGINT PRIMARY KEY", "n * 1000000007 - 6000000000000", 4),
        // Sparse: nearly all keys stand together, one far away at either end.
        ("id BIGINT PRIMARY KEY", "IF(n = 0, -9223372036854775808, IF(n = 1, 9223372036854775807, n))", 4),
        ("id BIGINT UNSIGNED PRIMARY KEY", "IF(n = 0, 18446744073709551615, n)", 4),
        ("id VARCHAR(30) PRIMARY KEY", "CONCAT(CHAR(65 + n % 26), 'ä', n)", 4),
        ("id VARCHAR(30) COLLATE utf8mb4_bin PRIMARY KEY", "CONCAT(CHAR(65 + n % 58), n)", 4),
        (
            "id VARCHAR(30) CHARACTER SET latin1 COLLATE latin1_german2_ci PRIMARY KEY",
            "CONCAT('ü', n % 7, 'ß', n)",
            4,
        ),
        ("id VARCHAR(30) CHARACTER SET sjis PRIMARY KEY", "CONCAT('ソ', n)", 4),
        ("id VARCHAR(30) CHARACTER SET utf16 PRIMARY KEY", "CONCAT(CHAR(97 + n % 26), n, '  ')", 4),
        ("id VARBINARY(30) PRIMARY KEY", "CONCAT(CHAR(n % 256), CHAR(39), n)", 4),
        ("id BINARY(16) PRIMARY KEY", "UNHEX(LEFT(SHA2(n, 256), 32))", 4),
        ("id DECIMAL(20,5) PRIMARY KEY", "n / 7 - 500", 4),
        ("id DATETIME(6) PRIMARY KEY", "'2021-01-01' + INTERVAL n * 1234567 MICROSECOND", 4),
        ("id DATE PRIMARY KEY", "'1950-01-01' + INTERVAL n DAY", 4),
        ("id INT UNIQUE NOT NULL", "n", 4),
        ("id INT, a INT AS (id % 3) STORED, PRIMARY KEY (a, id)", "n", 4),
        (
            "id INT, a VARCHAR(5) AS (id % 3) STORED, b DECIMAL(10) AS (id % 5) STORED, PRIMARY KEY (a, b DESC, id)",
            "n",
            4,
        ),
        ("id INT, a INT AS (1) STORED, PRIMARY KEY (a, id)", "n", 4),
        ("id INT PRIMARY KEY DESC", "n", 4),
        ("id ENUM('a','b')", "n % 2", 1),
        ("id FLOAT PRIMARY KEY", "n / 7", 1),
        ("id INT UNIQUE", "IF(n % 2, n, NULL)", 1),
        ("id TEXT NOT NULL, UNIQUE (id(20))", "n", 1),
    ];
    for (at, (key, value, least)) in tables.into_iter().enumerate() {
        let key = key.replace("PRIMARY KEY DESC", ", PRIMARY KEY (id DESC)");
        let table = format!("t{at}");
        server
            .sql(
                &format!(
                    "SET SESSION cte_max_recursion_depth = 100000, sql_mode = '', NAMES utf8mb4;
                 CREATE TABLE ranged.{table} ({key}, pad CHAR(100) DEFAULT 'x');
                 INSERT INTO ranged.{table} (id) SELECT {value} FROM {rows}"
                )
                .replace(", NAMES utf8mb4", ""),
            )
            .await;
        divides(server, &table, least).await;
    }
}

#[tokio::test]
async fn statistics_that_know_nothing_cost_no_row() {
    let server = Server::shared();
    server
        .sql(&format!(
            "CREATE DATABASE unknown; SET SESSION cte_max_recursion_depth = 100000;
             CREATE TABLE unknown.t (id INT PRIMARY KEY) STATS_AUTO_RECALC=0 STATS_PERSISTENT=1;
             INSERT INTO unknown.t SELECT n FROM {}",
            numbers(30_000)
        ))
        .await;
    let sizes = divided(server, &TableName::new("unknown", "t"), 64 << 10).await;
    assert!(sizes.len() >= 4, "{sizes:?}");
    server.sql("CREATE TABLE unknown.empty (id INT PRIMARY KEY)").await;
    assert_eq!(divided(server, &TableName::new("unknown", "empty"), 1).await, [0]);
}
