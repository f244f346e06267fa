//! Trouble with single tables.

use super::kit::Scene;
use crate::ops::kit::{Ran, command};

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_table() {
    let scene = Scene::of("quarantined-table", "rb_quarantine", APPS).await;
    scene.stream.sql("INSERT INTO @.apps VALUES (1, 'one'), (2, 'two')").await;
    scene.cron("source", "upload").ends(0, &[]);
    scene.cron("region", "apply").ends(0, &[]);
    scene.alert("TablecastTableQuarantined", false);

    scene.region.sql("DELETE FROM rb_quarantine.apps WHERE id = 1").await;
    scene.stream.sql("UPDATE @.apps SET name = 'eins' WHERE id = 1").await;
    scene.cron("source", "upload").ends(0, &[]);
    scene
        .in_region("tablecast apply")
        .ends(3, &["quarantine of rb_quarantine.apps from stream transaction 2 on:"]);
    scene.in_region("tablecast status").ends(3, &["rb_quarantine.apps since transaction 2"]);
    scene.alert("TablecastTableQuarantined", true);
    scene.in_region("tablecast quarantine list").ends(0, &["rb_quarantine.apps", "conflict", "1032"]);
    scene.in_region("tablecast guard status").ends(0, &[]);

    scene.at_source("tablecast dump take g.apps").ends(0, &[]);
    scene.in_region("tablecast apply").ends(0, &[]);

    scene.in_region("tablecast quarantine list").ends(0, &["no table is in quarantine"]);
    scene.in_region("tablecast apply").ends(0, &[]);
    let status = scene.in_region("tablecast status").ends(0, &["to apply"]);
    assert!(
        status.stdout.lines().any(|line| line.starts_with("to apply") && line.ends_with("nothing")),
        "{status:?}"
    );
    scene.alert("TablecastTableQuarantined", false);
    scene.stream.assert_equal(&scene.region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drifted_table() {
    let scene = Scene::of("drifted-table", "rb_drifted", APPS).await;
    let check = || {
        let source = scene.config("source");
        let text = std::fs::read_to_string(&source).unwrap() + crate::drift::kit::OFTEN;
        std::fs::write(&source, text).unwrap();
        let upload = || Ran::of(command(&source, &["upload", "--json"])).ends(0, &[]).json();
        // One that is put off is no failure.
        while upload()["checks"] == "0" {}
    };
    scene.stream.sql("INSERT INTO @.apps VALUES (1, 'one'), (1007, 'two')").await;
    check();
    scene.in_region("tablecast status");
    scene.cron("region", "apply").ends(0, &[]);
    scene.alert("TablecastTableDrifted", false);
    scene.alert("TablecastNoChecks", false);

    scene.region.sql("UPDATE rb_drifted.apps SET name = 'zwei' WHERE id = 1007").await;
    check();
    scene.cron("region", "apply").ends(0, &["rows are not those of the source at transaction 1"]);
    scene.in_region("tablecast status").ends(0, &["other rows", "rb_drifted.apps", "id 1007 differs"]);
    scene.alert("TablecastTableDrifted", true);
    let kept: String = scene.region.value("SELECT state FROM tablecast.checked WHERE differs").await;
    assert!(kept.contains("1007"), "{kept}");
    scene.page.has("tablecast.checked");
    for server in [&scene.region, scene.stream.source] {
        server.sql("SELECT * FROM rb_drifted.apps WHERE id = 1007").await;
    }
    scene.in_region("tablecast guard status").ends(0, &[]);

    scene.at_source("tablecast dump take g.apps").ends(0, &[]);
    scene.in_region("tablecast restore g.apps").ends(0, &[]);
    let status = scene.in_region("tablecast status").ends(0, &[]);
    assert!(!status.stdout.contains("other rows"), "{status:?}");
    check();
    scene.cron("region", "apply").ends(0, &[]);
    scene.alert("TablecastTableDrifted", false);
    scene.stream.assert_equal(&scene.region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_object() {
    let scene = Scene::of("corrupt-object", "rb_corrupt", APPS).await;
    scene.stream.sql("INSERT INTO @.apps VALUES (1, 'one')").await;
    scene.cron("source", "upload").ends(0, &[]);
    let segments = scene.stream.bucket().join("segments");
    let segment = std::fs::read_dir(segments).unwrap().next().unwrap().unwrap().path();
    let right = std::fs::read(&segment).unwrap();
    let mut wrong = right.clone();
    wrong[100] ^= 1;
    std::fs::write(&segment, wrong).unwrap();

    scene.cron("region", "apply").ends(1, &["md5 is", "the index says"]);
    scene.in_region("tablecast status").ends(0, &["last error", "md5 is"]);
    scene.alert("TablecastRunFails", true);
    scene.at_source("tablecast verify").ends(4, &[segment.file_name().unwrap().to_str().unwrap()]);

    // An older version of the object.
    std::fs::write(&segment, right).unwrap();

    scene.at_source("tablecast verify").ends(0, &[]);
    scene.in_region("tablecast apply").ends(0, &[]);
    let status = scene.in_region("tablecast status").ends(0, &[]);
    assert!(!status.stdout.contains("last error"), "{status:?}");
    scene.alert("TablecastRunFails", false);
    scene.stream.assert_equal(&scene.region).await;
}
