//! `verify --rows` in a region ends well only if it has compared: whatever was not is named, and why.

use std::time::Duration;

use mysql_async::prelude::Queryable;

use super::kit::{compare, differences, head, known, round, slice};
use crate::apply::kit::Stream;
use crate::ops::kit::{Ran, at_source, in_region, region_command};
use crate::support::mysql::Server;

const TABLES: &str =
    "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(40)); CREATE TABLE @.plans (id INT PRIMARY KEY)";
const ROWS: &str = "INSERT INTO @.apps VALUES (1, 'one'), (2, 'two'); INSERT INTO @.plans VALUES (1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_was_made_from_a_dump_behind_the_check_has_compared_nothing() {
    let stream = Stream::new("verify_made", TABLES).await;
    let region = Server::start(&[]);
    stream.sql(ROWS).await;
    at_source(&stream, &["verify", "--rows"]).ends(0, &["3 rows of 2 tables checked"]);
    stream.sql("INSERT INTO @.plans VALUES (2)").await;
    at_source(&stream, &["upload"]).ends(0, &[]);
    at_source(&stream, &["dump", "take", "--all-tables"]).ends(0, &[]);
    in_region(&stream, &region, &["bootstrap"]).ends(0, &[]);
    in_region(&stream, &region, &["verify", "--rows"]).ends(
        4,
        &[
            "verify_made.apps   never",
            "2 tables not compared: verify_made.apps: its rows came with a dump of transaction 3",
            "which was taken behind the check at transaction 2",
            "another round compares them: `tablecast verify --rows` at the source, then here",
        ],
    );
    let json = in_region(&stream, &region, &["verify", "--rows", "--json"]).json();
    assert_eq!(json["not_compared"][1]["table"], "verify_made.plans", "{json}");
    at_source(&stream, &["verify", "--rows"]).ends(0, &[]);
    in_region(&stream, &region, &["verify", "--rows"]).ends(0, &["verify_made.apps", "the same: 2 rows"]);
    // The rows that were compared are gone.
    in_region(&stream, &region, &["restore", "verify_made.apps"]).ends(0, &[]);
    in_region(&stream, &region, &["verify", "--rows"]).ends(
        4,
        &["1 table not compared: verify_made.apps: a restore has brought it anew", "the same: 2 rows"],
    );
    in_region(&stream, &region, &["verify", "--rows", "verify_made.plans"]).ends(0, &["the same"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_quarantine_is_not_called_the_same_by_what_an_older_round_has_shown() {
    let stream = Stream::new("verify_aside", TABLES).await;
    let region = Server::start(&[]);
    stream.sql(ROWS).await;
    assert_eq!(differences(&compare(&stream, &region).await), [""; 0]);
    region.sql("DELETE FROM verify_aside.apps WHERE id = 2").await;
    stream.sql("UPDATE @.apps SET name = 'zwei' WHERE id = 2").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    in_region(&stream, &region, &["quarantine", "list"]).ends(0, &["verify_aside.apps"]);
    let says = ["1 table not compared: verify_aside.apps: in quarantine since transaction 3 (conflict)"];
    // Not by the round before it was set aside either.
    in_region(&stream, &region, &["verify", "--rows"]).ends(4, &says);
    at_source(&stream, &["verify", "--rows"]).ends(0, &[]);
    let found = in_region(&stream, &region, &["verify", "--rows"]).ends(4, &says);
    assert!(found.stdout.contains("the same: 1 row") && !found.stdout.contains("2 rows"), "{found:?}");
    in_region(&stream, &region, &["verify", "--rows", "verify_aside.plans"]).ends(0, &["the same"]);
    // What is put down of it is no alarm, and outlives the quarantine.
    assert_eq!(known(&stream, &region).await[0].drift, None);
    at_source(&stream, &["dump", "take", "verify_aside.apps"]).ends(0, &[]);
    in_region(&stream, &region, &["apply"]).ends(0, &[]);
    in_region(&stream, &region, &["verify", "--rows"])
        .ends(4, &["1 table not compared: verify_aside.apps: a restore has brought it anew"]);
    at_source(&stream, &["verify", "--rows"]).ends(0, &[]);
    in_region(&stream, &region, &["verify", "--rows"]).ends(0, &["the same: 2 rows"]);
}

/// It has other columns here, its rows cannot be read, or something came between.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_that_came_to_nothing_is_told_and_not_taken_for_a_good_one() {
    let stream = Stream::new("verify_failed", TABLES).await;
    let region = Server::start(&[]);
    stream.sql(ROWS).await;
    assert_eq!(differences(&compare(&stream, &region).await), [""; 0]);
    region.sql("ALTER TABLE verify_failed.plans ADD COLUMN own INT").await;
    at_source(&stream, &["verify", "--rows"]).ends(0, &[]);
    let found = in_region(&stream, &region, &["verify", "--rows"]);
    found.ends(4, &["1 table not compared: verify_failed.plans: ", "the same: 2 rows"]);
    region.sql("ALTER TABLE verify_failed.plans DROP COLUMN own").await;
    in_region(&stream, &region, &["verify", "--rows", "verify_failed.plans"]).ends(4, &["not compared"]);
    at_source(&stream, &["verify", "--rows"]).ends(0, &[]);
    // A comparison that another session holds up.
    let mut other = region.connect().await;
    other.query_drop("LOCK TABLES verify_failed.apps WRITE").await.unwrap();
    let mut verify = region_command(&stream, &region, &["verify", "--rows", "verify_failed.apps"]);
    verify.env("TABLECAST_LOG", "warn");
    Ran::of(verify).ends(4, &["1 table not compared: verify_failed.apps: "]);
    drop(other);
}

/// Slices until a round is under way.
async fn begin_round(stream: &Stream) {
    for _ in 0..100 {
        slice(stream, Duration::from_millis(1)).await;
        if head(stream).await.checked.is_some_and(|checked| checked.next.is_some()) {
            return;
        }
    }
    panic!("every round is over at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_round_is_under_way_the_one_before_counts_for_what_it_has_not_come_to() {
    let stream = Stream::new(
        "verify_under_way",
        "CREATE TABLE @.t (id INT PRIMARY KEY, v VARCHAR(200)); CREATE TABLE @.u (id INT PRIMARY KEY)",
    )
    .await;
    let region = Server::start(&[]);
    stream
        .sql(
            "SET cte_max_recursion_depth = 20000; INSERT INTO @.t WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 \
             FROM n WHERE n < 20000) SELECT n, REPEAT('x', 200) FROM n; INSERT INTO @.u VALUES (1)",
        )
        .await;
    begin_round(&stream).await;
    in_region(&stream, &region, &["verify", "--rows"])
        .ends(4, &["verify_under_way.u: the source's round has not come to its end yet"]);
    round(&stream, Duration::from_millis(50)).await;
    begin_round(&stream).await;
    let says = ["the same: 20,000 rows", "the same: 1 row"];
    in_region(&stream, &region, &["verify", "--rows"]).ends(0, &says);
    // A region that has come to none but the round under way.
    at_source(&stream, &["dump", "take", "--all-tables"]).ends(0, &[]);
    let late = Server::start(&[]);
    in_region(&stream, &late, &["bootstrap"]).ends(0, &[]);
    in_region(&stream, &late, &["verify", "--rows"])
        .ends(4, &["2 tables not compared: verify_under_way.t: its rows came with a dump"]);
}

/// In the middle of a table: its rows are in another order, and the bound may be no value of the new key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_changes_under_a_round_has_the_table_read_from_its_first_row_again() {
    let stream =
        Stream::new("verify_key", "CREATE TABLE @.t (id INT PRIMARY KEY, code INT NOT NULL, v VARCHAR(200))")
            .await;
    let region = Server::start(&[]);
    stream
        .sql(
            "SET cte_max_recursion_depth = 20000; INSERT INTO @.t WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 \
             FROM n WHERE n < 20000) SELECT n, 20001 - n, REPEAT('x', 200) FROM n",
        )
        .await;
    begin_round(&stream).await;
    stream.sql("ALTER TABLE @.t DROP PRIMARY KEY, ADD PRIMARY KEY (code)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    // Not in the first slice by `id`, and not behind its bound by `code`.
    region.sql("UPDATE verify_key.t SET v = 'other' WHERE id = 20000").await;
    round(&stream, Duration::from_millis(50)).await;
    in_region(&stream, &region, &["verify", "--rows"]).ends(4, &["code 1 differs"]);
    begin_round(&stream).await;
    stream.sql("ALTER TABLE @.t DROP PRIMARY KEY, ADD PRIMARY KEY (code, id)").await;
    stream.upload().await;
    round(&stream, Duration::from_millis(50)).await;
    in_region(&stream, &region, &["verify", "--rows"]).ends(4, &["(code, id) 1, 20000 differs"]);
    // A table that is gone alarms nobody.
    in_region(&stream, &region, &["status"]).ends(0, &["other rows"]);
    stream.sql("DROP TABLE @.t").await;
    stream.upload().await;
    for _ in 0..2 {
        in_region(&stream, &region, &["apply"]).ends(0, &[]);
    }
    let says = in_region(&stream, &region, &["status"]).ends(0, &[]).stdout.clone();
    assert!(!says.contains("other rows"), "{says}");
    assert_eq!(known(&stream, &region).await, []);
}

/// The entries of a round that is over: what was compared counts, what was not is still named.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_whose_entries_were_pruned_is_judged_by_what_was_compared_then() {
    let stream = Stream::new("verify_pruned", TABLES).await;
    let [region, late] = Server::start_all([&[], &[]]);
    stream.sql(ROWS).await;
    assert_eq!(differences(&compare(&stream, &region).await), [""; 0]);
    at_source(&stream, &["dump", "take", "--all-tables"]).ends(0, &[]);
    stream.sql("INSERT INTO @.plans VALUES (2)").await;
    at_source(&stream, &["upload"]).ends(0, &[]);
    in_region(&stream, &late, &["bootstrap"]).ends(0, &[]);
    let prune = ["stream", "prune", "--keep", "0s", "--keep-entries", "1", "--no-reports"];
    at_source(&stream, &prune).ends(0, &[]);
    let floor = head(&stream).await.floor.expect("a floor").seq;
    assert!(floor >= head(&stream).await.checked.expect("a check").seq, "{floor:?}");
    in_region(&stream, &region, &["verify", "--rows"]).ends(0, &["the same: 2 rows"]);
    in_region(&stream, &late, &["verify", "--rows"]).ends(4, &["2 tables not compared"]);
}
