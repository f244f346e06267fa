//! I1: source and regions stand in different time zones, and sessions do not choose one.

use tablecast::source::preflight::{self, Outcome};
use tablecast::{Error, Kind};

use super::kit::Stream;
use crate::support::mysql::Server;

const TABLES: &str = "CREATE TABLE @.t (id INT PRIMARY KEY, at DATETIME, seen TIMESTAMP NULL, \
     day DATE AS (DATE(seen)) VIRTUAL)";

/// DDL that converts between local times and points in time, and rows around it.
const CONVERSIONS: [&str; 4] = [
    "INSERT INTO @.t (id, at, seen) VALUES (1, '2024-06-01 12:00:00', '2024-06-01 23:30:00'), \
     (2, '2024-01-01 12:00:00', '2024-01-01 23:30:00')",
    "ALTER TABLE @.t MODIFY at TIMESTAMP NULL, ADD COLUMN made TIMESTAMP NOT NULL DEFAULT '2020-02-02 02:02:02'",
    "CREATE TABLE @.parts (at TIMESTAMP NOT NULL) PARTITION BY RANGE (UNIX_TIMESTAMP(at)) \
     (PARTITION a VALUES LESS THAN (UNIX_TIMESTAMP('2024-06-01 12:00:00')), PARTITION b VALUES LESS THAN MAXVALUE)",
    "ALTER TABLE @.t MODIFY seen DATETIME, ADD KEY (day); INSERT INTO @.t (id, at) VALUES (3, '2024-06-01 12:00:00')",
];

async fn times(server: &Server, schema: &str) -> Vec<(i64, String)> {
    server
        .rows(&format!(
            "SELECT UNIX_TIMESTAMP(at), CONCAT(seen, ' ', day) FROM {schema}.t WHERE id < 3 ORDER BY id"
        ))
        .await
}

async fn is_carried(source: &'static Server, region: &Server, schema: &'static str) {
    let stream = Stream::of_source(source, schema, TABLES, &["@.*"]).await;
    for statements in CONVERSIONS {
        stream.sql(statements).await;
    }
    stream.upload().await;
    stream.apply(region).await.unwrap();
    assert_eq!(times(source, schema).await, times(region, schema).await);
    stream.assert_equal(region).await;
}

#[tokio::test]
async fn what_system_means_at_the_source_is_what_it_means_in_a_region() {
    let tokyo: &'static Server = Box::leak(Box::new(Server::start_in_zone("JST-9", &[])));
    let new_york = Server::start_in_zone("EST5EDT,M3.2.0,M11.1.0", &[]);
    is_carried(Server::shared(), tokyo, "ap_zone_utc").await;
    is_carried(tokyo, &new_york, "ap_zone_tokyo").await;
}

#[tokio::test]
async fn a_zone_with_summer_time_stops_the_ddl_that_depends_on_it_and_nothing_else() {
    let berlin: &'static Server = Box::leak(Box::new(Server::start_in_zone(
        "CET-1CEST,M3.5.0,M10.5.0/3",
        &["--default-time-zone=+01:00"],
    )));
    let region = Server::start(&[]);
    let stream = Stream::of_source(berlin, "ap_zone_berlin", TABLES, &["@.*"]).await;
    stream.sql(&format!("SET time_zone = 'SYSTEM'; {}", CONVERSIONS[0])).await;
    stream.sql("SET time_zone = 'SYSTEM'; ALTER TABLE @.t ADD COLUMN plain INT").await;
    stream.sql("ALTER TABLE @.t MODIFY at TIMESTAMP NULL").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;

    stream.sql("SET time_zone = 'SYSTEM'; ALTER TABLE @.t MODIFY at DATETIME").await;
    let error: Error = stream.try_upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Gate, "{error}");
    assert!(format!("{error:?}").contains("SYSTEM"), "{error:?}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("Europe/Berlin")), "{error:?}");

    // Where every session has that zone, upload stops before it matters.
    berlin.sql("SET GLOBAL time_zone = 'SYSTEM'").await;
    let checks = preflight::checks(&stream.source_config(), None).await.unwrap();
    let zone = checks.iter().find(|check| check.name == "time zone").expect("a check");
    assert_eq!(zone.outcome, Outcome::Failed, "{}", zone.message);
}
