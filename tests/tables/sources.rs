//! Through replicas and mini-replicas, and for streams that were made without the table.

use tablecast::error::Kind;

use super::kit::{SETUP, changes, kinds, refused, set, tables};
use crate::support::granted::USER;
use crate::support::mysql::Server;
use crate::upload::kit::{OURS, Stream, ours};

fn primary(server: &Server) -> String {
    format!(
        "[primary]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}",
        server.port
    )
}

const FILTER: &str = "REPLICATE_DO_TABLE = (g.apps, g.plans, tablecast.table_set), \
    REPLICATE_WILD_DO_TABLE = ('g.\\_apps\\_%', 'tablecast.%')";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_the_primary_reaches_the_stream_through_a_mini_replica() {
    let [writes, mini] =
        Server::start_all([&["--binlog-row-image=MINIMAL"], &["--binlog-transaction-compression=ON"]]);
    mini.replicate_from(&writes, FILTER).await;
    mini.sql("CREATE DATABASE g").await;
    writes.sql(&SETUP.replacen("CREATE DATABASE g;", "CREATE DATABASE IF NOT EXISTS g;", 1)).await;
    mini.catch_up(&writes).await;
    let stream = Stream::make(&mini, &["g.apps"], &primary(&writes)).await;
    writes.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('a')")).await;
    // What the real run has to read, a dry run tries to: also of a table that is empty.
    mini.sql(
        "SET sql_log_bin = 0; CREATE USER weak@'%' IDENTIFIED BY 'x'; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO weak@'%'; \
         GRANT SELECT ON performance_schema.* TO weak@'%'; GRANT REFERENCES, LOCK TABLES ON g.* TO weak@'%'; \
         GRANT SELECT ON tablecast.* TO weak@'%'; GRANT SELECT ON g.apps TO weak@'%'",
    )
    .await;
    let user = |user: &str| format!("port = {}\n{user}", mini.port);
    let weak = user("user = \"weak\"\npassword = \"x\"");
    let granted = user("user = \"granted\"");
    stream.reconfigure(&granted, &weak);
    let said = refused(&stream, &["add", "g.plans", "--dry-run"], 12);
    assert!(
        said.contains(&format!("SELECT 1 FROM `g`.`plans` LIMIT 1 at weak@127.0.0.1:{}", mini.port)),
        "{said}"
    );
    stream.reconfigure(&weak, &granted);
    tables(&stream, &["add", "g.plans"], 0);
    writes.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (1)")).await;
    mini.catch_up(&writes).await;
    stream.upload().await.expect("upload");
    assert_eq!(kinds(&stream).await, ["segment", "tables", "segment"]);
    let executed = mini.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
    // Let in by the filter, and never copied.
    mini.sql("SET sql_log_bin = 0; DROP TABLE g.plans").await;
    tables(&stream, &["remove", "g.plans"], 0);
    let said = refused(&stream, &["add", "g.plans"], 2);
    assert!(said.contains("does not have it"), "{said}");
    mini.sql("SET sql_log_bin = 0; CREATE TABLE g.plans (id INT AUTO_INCREMENT PRIMARY KEY, price INT, KEY (price))").await;
    let said = refused(&stream, &["add", "g.plans"], 2);
    assert!(said.contains("has no rows of it"), "{said}");
    // An old copy: as many rows, and other ones.
    mini.sql("SET sql_log_bin = 0; INSERT INTO g.plans VALUES (1, 99)").await;
    let said = refused(&stream, &["add", "g.plans"], 2);
    assert!(said.contains("1 rows of it that are not the primary's 1"), "{said}");
    mini.sql("SET sql_log_bin = 0; UPDATE g.plans SET price = 1").await;
    tables(&stream, &["add", "g.plans"], 0);
    // What the filter leaves out would never come.
    writes.sql("CREATE TABLE g.other (id INT PRIMARY KEY)").await;
    let said = refused(&stream, &["add", "g.other"], 2);
    assert!(said.contains("leaves out g.other") && said.contains("processor rebuild"), "{said}");
    // A slip of the pen is told as one, before that.
    writes.sql("CREATE VIEW g.seen AS SELECT 1").await;
    for (wrong, what) in [
        ("g.nope", "has no table g.nope: is the name right?"),
        ("g.seen", "it is a view"),
        ("zz.*", "no such schema"),
    ] {
        let said = refused(&stream, &["add", wrong, "--dry-run"], 2);
        assert!(said.contains(what), "{wrong}: {said}");
    }
    mini.sql(
        "STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER REPLICATE_DO_TABLE = (g.apps, g.plans, g.other), \
              REPLICATE_WILD_DO_TABLE = (); START REPLICA SQL_THREAD",
    )
    .await;
    let said = refused(&stream, &["add", "g.other"], 2);
    assert!(said.contains("leaves out tablecast.table_set"), "{said}");
    assert_eq!(writes.value::<u64>("SELECT COUNT(*) FROM tablecast.table_set").await, 4);
}

/// I3: a replica that commits in another order may show a write of later before the change of the set.
#[tokio::test(flavor = "multi_thread")]
async fn i3_behind_a_replica_that_does_not_keep_the_order_even_an_empty_table_waits_for_a_dump() {
    let [writes, replica] =
        Server::start_all([&[], &["--replica-preserve-commit-order=OFF", "--replica-parallel-workers=4"]]);
    replica.replicate_from(&writes, "").await;
    writes.sql(SETUP).await;
    replica.catch_up(&writes).await;
    let stream = Stream::make(&replica, &["g.apps"], &primary(&writes)).await;
    assert_eq!(tables(&stream, &["add", "g.plans"], 0)["needs_dump"], false);
    replica.catch_up(&writes).await;
    stream.upload().await.expect("upload");
    assert_eq!(kinds(&stream).await, ["tables", "dump"]);
    assert!(changes(&stream).await[0].added[0].has_rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_primary_in_the_config_a_replica_s_stream_is_made_and_its_set_stays() {
    let [writes, replica] = Server::start_all([&[], &[]]);
    replica.replicate_from(&writes, "").await;
    writes.sql(SETUP).await;
    replica.catch_up(&writes).await;
    let stream = Stream::plan(&replica, &["g.apps"], "").await;
    let report = stream.init(&["g.apps"]).await.expect("made");
    assert!(report.warnings.iter().any(|warning| warning.contains("[primary]")), "{:?}", report.warnings);
    let there: u64 = writes
        .value("SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'tablecast'")
        .await;
    assert_eq!(there, 0, "nothing is written");
    let said = refused(&stream, &["add", "g.plans"], 2);
    assert!(said.contains("write [primary] in the config"), "{said}");
    writes.sql("INSERT INTO g.apps (name) VALUES ('a')").await;
    replica.catch_up(&writes).await;
    stream.upload().await.expect("it works as ever");
    // With one, also where the table has never been.
    stream.reconfigure("[files]", &format!("{}\n[files]", primary(&writes)));
    assert_eq!(tables(&stream, &["list"], 0)["version"], "1");
    assert_eq!(tables(&stream, &["add", "g.plans"], 0)["version"], "2");
    replica.catch_up(&writes).await;
    stream.upload().await.expect("upload");
    assert_eq!(set(&stream).await, (2, "g.apps, g.plans".to_owned()));
    // A primary that is none any more.
    writes.sql("SET GLOBAL super_read_only = ON").await;
    let said = refused(&stream, &["remove", "g.plans"], 2);
    assert!(said.contains("is read-only") && said.contains("failover"), "{said}");
}

/// What a region holds by a change of the set is part of the history: a primary without it has another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_loses_a_change_of_the_set_is_found() {
    let [old, new] = Server::start_all([&[], &[]]);
    new.replicate_from(&old, "").await;
    old.sql(SETUP).await;
    new.catch_up(&old).await;
    let mut stream = Stream::make(&old, &["g.apps"], "").await;
    new.catch_up(&old).await;
    new.sql("STOP REPLICA").await;
    tables(&stream, &["add", "g.plans"], 0);
    stream.upload().await.expect("upload");
    new.sql("RESET REPLICA ALL").await;
    stream.read_from(&new);
    assert_eq!(stream.upload().await.expect_err("lost").kind(), Kind::History);
}
