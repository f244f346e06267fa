//! The text files of runs, against real servers: every figure is what has happened.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tablecast::clock::{Clock, SystemClock};

use super::Scraped;
use crate::many::kit::{Fleet, PATIENCE};
use crate::support::signal;

const UPLOAD: &[(&str, &str)] = &[("role", "source"), ("command", "upload")];
const APPLY: &[(&str, &str)] = &[("role", "region"), ("region", "eu1"), ("command", "apply")];

/// A stream whose runs tell their figures, in a folder of their own.
async fn fleet(names: &[&'static str]) -> Fleet {
    let fleet = Fleet::make(names).await;
    std::fs::create_dir(fleet.path("prom")).expect("a folder");
    for name in names {
        metered(&fleet, &format!("source/{name}.toml"));
        metered(&fleet, &format!("region/{name}.toml"));
    }
    fleet
}

fn metered(fleet: &Fleet, config: &str) {
    let text = std::fs::read_to_string(fleet.path(config)).expect("a config");
    fleet.write(config, &format!("{text}[metrics]\ntextfile = \"{}/\"\n", fleet.path("prom").display()));
}

fn source(fleet: &Fleet, name: &str) -> PathBuf {
    fleet.path(&format!("prom/tablecast_source_{name}.prom"))
}

fn region(fleet: &Fleet, name: &str) -> PathBuf {
    fleet.path(&format!("prom/tablecast_region_{name}_eu1.prom"))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_seven_transactions_the_counters_say_seven_and_a_failed_run_its_exit_code() {
    let fleet = fleet(&["m1"]).await;
    for id in 1..=7 {
        fleet.insert(&["m1"], id).await;
    }
    let began = SystemClock.now().timestamp() as f64;
    fleet.s3.asked();
    fleet.succeeds("source", &["upload"]);
    let asked = fleet.s3.asked();
    let told = Scraped::file(&source(&fleet, "m1"));
    assert_eq!(told.get("tablecast_upload_transactions_total", &[]), Some(7.0));
    assert_eq!(told.get("tablecast_stream_last_tx", &[("stream", "m1")]), Some(7.0));
    assert_eq!(told.get("tablecast_source_backlog_transactions", &[]), Some(0.0));
    assert_eq!(told.get("tablecast_last_run_exit_code", UPLOAD), Some(0.0));
    assert!(
        told.get("tablecast_last_progress_timestamp_seconds", UPLOAD).is_some_and(|at| at >= began - 60.0)
    );
    for time in ["last_run", "last_success", "stream_as_of"] {
        let time = told.get(&format!("tablecast_{time}_timestamp_seconds"), &[]).expect("a time");
        assert!((began - 60.0..began + 90.0).contains(&time), "{time} began {began}");
    }
    // What the store was asked for, as the store itself has counted.
    for (operation, kind) in [
        ("get", "GetObject"),
        ("put", "PutObject"),
        ("head", "HeadObject"),
        ("list", "ListObjectsV2"),
        ("delete", "DeleteObject"),
    ] {
        let there = asked.iter().filter(|asked| asked.kind == kind).count();
        let here = told.sum("tablecast_store_requests_total", &[("operation", operation)]);
        assert_eq!(here, there as f64, "{operation}: {asked:?}");
    }
    assert!(told.sum("tablecast_store_requests_total", &[("operation", "put"), ("outcome", "ok")]) >= 2.0);
    let segment = fleet.s3.keys().into_iter().find(|key| key.contains("/segments/")).expect("a segment");
    let size = fleet.s3.object(&segment).expect("it").len();
    assert_eq!(told.get("tablecast_upload_bytes_total", &[]), Some(size as f64));

    fleet.succeeds("region", &["apply"]);
    fleet.succeeds("region", &["apply"]);
    let told = Scraped::file(&region(&fleet, "m1"));
    let of_eu1: &[(&str, &str)] = &[("stream", "m1"), ("region", "eu1")];
    assert_eq!(told.get("tablecast_apply_transactions_total", of_eu1), Some(7.0), "the second run had none");
    assert_eq!(told.get("tablecast_apply_entries_total", of_eu1), Some(1.0));
    assert_eq!(told.get("tablecast_apply_bytes_total", of_eu1), Some(size as f64));
    assert_eq!(told.get("tablecast_region_last_tx", of_eu1), Some(7.0));
    assert_eq!(told.get("tablecast_region_behind_transactions", of_eu1), Some(0.0));
    assert_eq!(told.get("tablecast_region_quarantined_tables", of_eu1), Some(0.0));
    assert_eq!(told.get("tablecast_runs_total", &[("command", "apply"), ("code", "0")]), Some(2.0));
    assert!(told.get("tablecast_region_lag_seconds", of_eu1).is_some_and(|lag| lag < 120.0));
    let succeeded = told.get("tablecast_last_success_timestamp_seconds", APPLY);

    // Nobody is there: the run fails, and says so. What was true of the region stays as it was known.
    let good = std::fs::read_to_string(fleet.path("region/m1.toml")).expect("a config");
    let port = format!("port = {}", fleet.region.port);
    fleet.write("region/m1.toml", &good.replace(&port, "port = 1"));
    assert_eq!(fleet.run(&["-c", "region/m1.toml", "apply"]).status.code(), Some(1));
    let told = Scraped::file(&region(&fleet, "m1"));
    assert_eq!(told.get("tablecast_last_run_exit_code", APPLY), Some(1.0));
    assert_eq!(told.get("tablecast_errors_total", &[("kind", "mysql")]), Some(1.0));
    assert_eq!(told.get("tablecast_last_success_timestamp_seconds", APPLY), succeeded);
    assert_eq!(told.get("tablecast_apply_transactions_total", of_eu1), Some(7.0));
    assert_eq!(told.get("tablecast_region_last_tx", of_eu1), Some(7.0));
    assert_eq!(told.get("tablecast_region_behind_transactions", of_eu1), None, "nobody has looked");
    fleet.write("region/m1.toml", &good);

    // And one more comes in addition.
    fleet.insert(&["m1"], 8).await;
    fleet.succeeds("source", &["upload"]);
    fleet.succeeds("region", &["apply"]);
    let told = Scraped::file(&region(&fleet, "m1"));
    assert_eq!(told.get("tablecast_apply_transactions_total", of_eu1), Some(8.0));
    assert_eq!(told.get("tablecast_last_run_exit_code", APPLY), Some(0.0));
    // A run that only looks is none, and another command keeps its own figures in the same file.
    fleet.succeeds("source", &["upload", "--dry-run"]);
    fleet.succeeds("source", &["verify"]);
    let told = Scraped::file(&source(&fleet, "m1"));
    assert_eq!(told.get("tablecast_runs_total", &[("command", "upload")]), Some(2.0));
    assert_eq!(told.get("tablecast_last_run_exit_code", &[("command", "verify")]), Some(0.0));
    assert_eq!(told.get("tablecast_upload_transactions_total", &[]), Some(8.0));

    // What stops the file from being written stops nothing else.
    std::fs::remove_dir_all(fleet.path("prom")).expect("remove it");
    let ran = fleet.run(&["-c", "source/m1.toml", "upload"]);
    let stderr = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && stderr.contains("metrics.textfile"), "{stderr}");
    assert_eq!(stderr.matches("the run goes on without it").count(), 1, "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_table_is_one_and_its_run_is_a_success_with_code_3() {
    let fleet = fleet(&["m2"]).await;
    let text = std::fs::read_to_string(fleet.path("region/m2.toml")).expect("a config");
    fleet.write("region/m2.toml", &format!("{text}[apply]\nguard = \"off\"\n"));
    fleet.insert(&["m2"], 1).await;
    fleet.succeeds("source", &["upload"]);
    fleet.succeeds("region", &["apply"]);
    let before = Scraped::file(&region(&fleet, "m2"));
    fleet.region.sql("SET sql_log_bin = 0; DELETE FROM m2.t").await;
    fleet.source.sql("DELETE FROM m2.t WHERE id = 1").await;
    fleet.succeeds("source", &["upload"]);
    assert_eq!(fleet.run(&["-c", "region/m2.toml", "apply"]).status.code(), Some(3));
    let told = Scraped::file(&region(&fleet, "m2"));
    assert_eq!(told.get("tablecast_region_quarantined_tables", &[]), Some(1.0));
    assert_eq!(told.get("tablecast_apply_quarantines_total", &[("reason", "conflict")]), Some(1.0));
    assert_eq!(told.get("tablecast_last_run_exit_code", APPLY), Some(3.0));
    assert_eq!(told.get("tablecast_runs_total", &[("code", "3")]), Some(1.0));
    let success =
        |told: &Scraped| told.get("tablecast_last_success_timestamp_seconds", APPLY).expect("a time");
    assert!(success(&told) > success(&before), "every other table is up to date");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_follow_tell_while_they_are_at_work_each_stream_in_its_own_file() {
    let fleet = fleet(&["m3", "m4"]).await;
    let mut following = fleet
        .command(&["--config", "source", "upload", "--follow"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run it");
    fleet.insert(&["m3", "m4"], 1).await;
    let began = Instant::now();
    let tells = |name: &str| {
        let Ok(text) = std::fs::read_to_string(source(&fleet, name)) else { return false };
        text.contains("tablecast_last_success_timestamp_seconds")
            && text.contains("tablecast_last_run_exit_code")
    };
    while !(tells("m3") && tells("m4")) {
        assert!(began.elapsed() < PATIENCE, "no file has come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for name in ["m3", "m4"] {
        let told = Scraped::file(&source(&fleet, name));
        assert_eq!(told.get("tablecast_last_run_exit_code", UPLOAD), Some(0.0), "while it works");
        assert_eq!(told.get("tablecast_runs_total", &[]), None, "none has ended");
        fleet.wait_for(name, 1).await;
    }
    signal(&following.id().to_string(), Signal::TERM);
    assert_eq!(following.wait().expect("its end").code(), Some(143));
    for name in ["m3", "m4"] {
        let told = Scraped::file(&source(&fleet, name));
        assert_eq!(told.get("tablecast_last_run_exit_code", UPLOAD), Some(143.0));
        assert_eq!(told.get("tablecast_upload_transactions_total", &[("stream", name)]), Some(1.0));
        assert_eq!(told.get("tablecast_runs_total", &[("code", "143")]), Some(1.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_refuses_one_metrics_file_for_two_streams() {
    let fleet = Fleet::make(&["m5", "m6"]).await;
    for name in ["m5", "m6"] {
        let config = format!("source/{name}.toml");
        let text = std::fs::read_to_string(fleet.path(&config)).expect("a config");
        fleet.write(&config, &format!("{text}[metrics]\ntextfile = \"/srv/both.prom\"\n"));
    }
    let ran = fleet.run(&["--config", "source", "config", "check"]);
    let said = crate::many::kit::said(&ran);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("/srv/both.prom is also that of") && said.contains("m6.toml"), "{said}");
}
