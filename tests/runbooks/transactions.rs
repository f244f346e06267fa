//! Trouble with the stream itself.

use super::kit::Scene;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

#[tokio::test(flavor = "multi_thread")]
async fn gate_refusal() {
    let scene = Scene::of("gate-refusal", "rb_gate", APPS).await;
    scene.stream.sql("INSERT INTO @.apps VALUES (1, 'one')").await;
    scene.cron("source", "upload").ends(0, &[]);
    scene.cron("region", "apply").ends(0, &[]);
    scene.alert("TablecastGateRefusal", false);

    scene.stream.sql("SET SESSION binlog_format = STATEMENT; UPDATE @.apps SET name = 'eins'; SET SESSION binlog_format = ROW").await;
    scene.cron("source", "upload").ends(15, &["rb_gate.apps"]);
    scene.at_source("tablecast status").ends(0, &["last error", "upload ends with 15 (gate)"]);
    scene.alert("TablecastGateRefusal", true);

    scene.at_source("tablecast upload --resync --dry-run").ends(0, &["rb_gate.apps"]);
    scene.at_source("tablecast upload --resync").ends(0, &[]);

    scene.at_source("tablecast upload").ends(0, &[]);
    let status = scene.at_source("tablecast status").ends(0, &[]);
    assert!(!status.stdout.contains("last error"), "{status:?}");
    scene.in_region("tablecast apply").ends(0, &[]);
    scene.alert("TablecastGateRefusal", false);
    scene.stream.assert_equal(&scene.region).await;
}
