//! What differs is brought anew by a dump: by itself where the region's config says so, else by hand.

use std::time::Duration;

use super::kit::{compare, differences, known, round};
use crate::apply::kit::Stream;
use crate::ops::kit::{Ran, at_source, command, in_region};
use crate::support::granted;
use crate::support::mysql::Server;

const TABLES: &str =
    "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(40)); CREATE TABLE @.plans (id INT PRIMARY KEY)";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_rows_differ_is_set_aside_and_brought_anew_where_the_config_says_so() {
    let stream = Stream::new("drift_heals", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'one'), (2, 'two'); INSERT INTO @.plans VALUES (1)").await;
    assert_eq!(differences(&compare(&stream, &region).await), [""; 0]);
    let path = stream.region_file(&region, granted::USER, &["@.*"]);
    let text =
        std::fs::read_to_string(&path).unwrap().replace("[apply]\n", "[apply]\non_drift = \"quarantine\"\n");
    let healing = path.with_file_name("healing.toml");
    std::fs::write(&healing, text).unwrap();
    let run = |args: &[&str]| Ran::of(command(&healing, args));

    region.sql("UPDATE drift_heals.apps SET name = 'drei' WHERE id = 2").await;
    round(&stream, Duration::from_secs(5)).await;
    run(&["apply"]).ends(3, &["drift_heals.apps", "id 2 differs"]);
    run(&["quarantine", "list"]).ends(0, &["drift_heals.apps", "drifted"]);
    stream.sql("INSERT INTO @.apps VALUES (3, 'three'); INSERT INTO @.plans VALUES (2)").await;
    at_source(&stream, &["dump", "take", "drift_heals.apps"]).ends(0, &[]);
    run(&["apply"]).ends(0, &[]);
    stream.assert_equal(&region).await;
    assert_eq!(known(&stream, &region).await[0].drift, None, "the restore has brought it anew");
    assert_eq!(differences(&compare(&stream, &region).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_nothing_is_changed_and_a_restore_by_hand_ends_it() {
    let stream = Stream::new("drift_by_hand", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'one'), (2, 'two')").await;
    compare(&stream, &region).await;
    region.sql("DELETE FROM drift_by_hand.apps WHERE id = 2").await;
    assert_eq!(differences(&compare(&stream, &region).await), ["apps 2 missing"]);
    in_region(&stream, &region, &["quarantine", "list"]).ends(0, &["no table is in quarantine"]);
    at_source(&stream, &["dump", "take", "drift_by_hand.apps"]).ends(0, &[]);
    in_region(&stream, &region, &["restore", "drift_by_hand.apps"]).ends(0, &[]);
    let status = in_region(&stream, &region, &["status"]).ends(0, &[]);
    assert!(!status.stdout.contains("other rows"), "{status:?}");
    stream.assert_equal(&region).await;
}
