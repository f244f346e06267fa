//! Trouble with single tables.

use super::kit::Scene;

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
