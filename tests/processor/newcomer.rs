//! From nothing to a processor that has stopped: the steps that are not `create` itself, and what everybody is told.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::kit::{PROCESSOR, SETUP, both, copy_by_dump, primary_section, with_printed_my_cnf, work};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const SET: [&str; 4] = ["--table", "g.apps", "--table", "g.plans"];

#[tokio::test(flavor = "multi_thread")]
async fn before_the_stream_a_processor_is_made_of_tables_that_are_there_and_one_that_stops_is_heard_of() {
    let primary = Server::start(&[]);
    primary.sql(SETUP).await;
    primary.sql("CREATE VIEW g.v AS SELECT 1").await;
    let folder = tempfile::tempdir().expect("a folder");
    let planned = Stream::plan(&primary, &["g.*"], "").await;
    let processor = with_printed_my_cnf(&planned, folder.path(), &["g.apps", "g.plans"]);
    let more = format!("{}[upload]\ninterval = \"100ms\"\n", primary_section(&primary));
    let stream = Stream::plan_by(PROCESSOR, &processor, &more).await;
    let runs = |args: &[&str], code: i32| {
        let output = stream.run(args, "");
        let text = both(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        text
    };
    // There is no stream that would name tables, and none need be named.
    let says = runs(&["grants", "--processor"], 0);
    assert!(says.contains("super_read_only = OFF") && !says.contains("`g`"), "{says}");
    for (table, why) in [("g.aps", "no such table"), ("g.v", "it is a view"), ("zz.*", "no such schema")] {
        let says = runs(&["processor", "create", "--dry-run", "--table", table], 2);
        assert!(says.contains(why), "{says}");
    }
    processor.sql("SET GLOBAL super_read_only = OFF").await;
    copy_by_dump(&primary, &processor, &["g"]);
    let says = runs(&[&["processor", "create", "--loaded"][..], &SET].concat(), 0);
    assert!(says.contains("next: `tablecast stream init`"), "{says}");
    processor.catch_up(&primary).await;
    runs(&[&["stream", "init"][..], &SET].concat(), 0);
    work(&primary).await;
    processor.catch_up(&primary).await;
    runs(&["upload"], 0);

    // Stopped by hand it may be meant; by an error it is not.
    processor.sql("STOP REPLICA SQL_THREAD").await;
    let says = runs(&["doctor"], 0);
    assert!(says.contains("stands still") && says.contains("START REPLICA"), "{says}");
    processor.sql("START REPLICA SQL_THREAD").await;
    let log = folder.path().join("log");
    let mut follow = stream
        .program(&["upload", "--follow"])
        .stderr(std::fs::File::create(&log).expect("a log"))
        .stdout(Stdio::null())
        .spawn()
        .expect("tablecast");
    tokio::time::sleep(Duration::from_millis(500)).await;
    primary
        .sql("XA START 'x'; INSERT INTO private.t VALUES (); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'")
        .await;
    let heard = || std::fs::read_to_string(&log).unwrap_or_default();
    let begin = Instant::now();
    while !heard().contains("error 3898") {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", heard());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(1000)).await;
    follow.kill().expect("kill");
    follow.wait().expect("wait");
    assert_eq!(heard().matches("error 3898").count(), 1, "not at every look: {}", heard());
    for (args, code) in [(["doctor"], 4), (["status"], 0), (["upload"], 0)] {
        let says = runs(&args, code);
        assert!(says.contains("error 3898") && says.contains("processor rebuild"), "{args:?}: {says}");
        assert!(code == 0 || says.contains("FAIL") && says.contains("ends with 0"), "{says}");
    }
}
