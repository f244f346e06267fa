//! What differs is brought anew by a dump: by itself where the region's config says so, else by hand.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tablecast::clock::{Clock, SystemClock};
use tablecast::region::apply;
use tablecast::store;

use super::kit::{compare, differences, known, round};
use crate::apply::kit::{Stream, options};
use crate::ops::kit::{Ran, at_source, command, in_region, region_command};
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

/// The machine's clock, wrong by so much.
struct Wrong(TimeDelta);

impl Clock for Wrong {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + self.0
    }
}

/// A round compared by a machine whose clock is wrong: what the region knows of the table then.
async fn differs_by(stream: &Stream, region: &Server, wrong: TimeDelta) -> bool {
    round(stream, Duration::from_secs(5)).await;
    let config = stream.region_config(region);
    let store = store::open(&config).await.unwrap();
    apply::run(&config, store, &Wrong(wrong), None, &options()).await.unwrap();
    known(stream, region).await[0].drift.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_ends_is_told_by_the_stream_and_by_no_clock() {
    let stream = Stream::new("drift_clocks", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'one'), (2, 'two')").await;
    compare(&stream, &region).await;
    at_source(&stream, &["dump", "take", "drift_clocks.apps"]).ends(0, &[]);
    for wrong in [TimeDelta::hours(-1), TimeDelta::hours(1)] {
        in_region(&stream, &region, &["restore", "drift_clocks.apps"]).ends(0, &[]);
        stream.assert_equal(&region).await;
        region.sql("DELETE FROM drift_clocks.apps WHERE id = 2").await;
        assert!(differs_by(&stream, &region, wrong).await, "{wrong}: found behind the restore");
        in_region(&stream, &region, &["status"]).ends(0, &["other rows", "id 2 is missing here"]);
    }
    in_region(&stream, &region, &["restore", "drift_clocks.apps"]).ends(0, &[]);
    stream.assert_equal(&region).await;
    let found = known(&stream, &region).await;
    assert_eq!(found[0].drift, None, "it is said to have been found an hour after that restore");
}

/// I7.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_restore_killed_after_its_swap_ends_a_difference_all_the_same() {
    let stream = Stream::new("drift_swapped", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'one'), (2, 'two')").await;
    at_source(&stream, &["dump", "take", "drift_swapped.apps"]).ends(0, &[]);
    for point in ["restore.after_rename", "restore.before_done", "restore.done"] {
        compare(&stream, &region).await;
        region.sql("DELETE FROM drift_swapped.apps WHERE id = 2").await;
        assert_eq!(differences(&compare(&stream, &region).await), ["apps 2 missing"], "{point}");
        let mut restore = region_command(&stream, &region, &["restore", "drift_swapped.apps"]);
        restore.env("TABLECAST_FAILPOINTS", format!("{point}=kill"));
        assert_eq!(Ran::of(restore).code, -1, "{point}");
        let stands = known(&stream, &region).await[0].drift.is_some();
        assert_eq!(stands, point != "restore.done", "{point}");
        stream.apply(&region).await.unwrap();
        stream.assert_equal(&region).await;
        assert_eq!(known(&stream, &region).await[0].drift, None, "{point}");
    }
}
