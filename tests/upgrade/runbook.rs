//! docs/runbooks/upgrade-and-rollback.md, followed.

use std::path::Path;
use std::process::Command;

use super::kit::Version;
use crate::ops::kit::{Ran, command_of};
use crate::runbooks::kit::Scene;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";
const INSTALL: &str = "sudo install -m 0755 tablecast /usr/bin/tablecast.new && sudo mv /usr/bin/tablecast.new /usr/bin/tablecast";

/// The page's own line, with a folder for /usr/bin; `new` is what somebody has brought along.
fn install(scene: &Scene, folder: &Path, new: Version) {
    scene.page.has(INSTALL);
    std::fs::copy(new.program(), folder.join("tablecast")).unwrap();
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let line = INSTALL.replace("sudo ", "").replace("/usr/bin", &bin.display().to_string());
    let installed = Command::new("sh").arg("-c").arg(line).current_dir(folder).status().unwrap();
    assert!(installed.success());
}

/// A region meets a stream of a newer format. The version that wrote it does not exist yet: in the end the head is of this
/// format again, as the program that is installed would read it.
#[tokio::test(flavor = "multi_thread")]
async fn upgrade_and_rollback() {
    let scene = Scene::of("upgrade-and-rollback", "rb_upgrade", APPS).await;
    let folder = tempfile::tempdir().unwrap();
    let installed = |role: &str, line: &str| {
        scene.page.has(line);
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        Ran::of(command_of(&folder.path().join("bin/tablecast"), &scene.config(role), &words))
    };
    install(&scene, folder.path(), Version::Before);
    scene.stream.sql("INSERT INTO @.apps VALUES (1, 'one')").await;
    installed("source", "tablecast upload").ends(0, &[]);
    installed("region", "tablecast apply").ends(0, &[]);
    scene.alert("TablecastFormatTooNew", false);

    let index = scene.stream.bucket().join("index.json");
    let head = std::fs::read(&index).unwrap();
    let before = scene.stream.state_of_stream(&scene.region).await;
    std::fs::write(&index, r#"{"format":{"major":2,"minor":0},"writer":"tablecast 9.9.9"}"#).unwrap();
    installed("region", "tablecast apply").ends(13, &["tablecast 9.9.9", "2.0"]);
    scene.cron("region", "status").ends(0, &["last error", "format_too_new"]);
    scene.alert("TablecastFormatTooNew", true);
    assert_eq!(scene.stream.state_of_stream(&scene.region).await, before, "nothing is changed");

    install(&scene, folder.path(), Version::This);
    std::fs::write(&index, head).unwrap();
    installed("region", "tablecast --version").ends(0, &[concat!("tablecast ", env!("CARGO_PKG_VERSION"))]);
    installed("region", "tablecast config check").ends(0, &[]);
    installed("region", "tablecast doctor").ends(0, &["warn  last run", "format_too_new"]);
    scene.stream.sql("INSERT INTO @.apps VALUES (2, 'two')").await;
    installed("source", "tablecast upload").ends(0, &[]);
    installed("region", "tablecast apply").ends(0, &[]);
    installed("region", "tablecast doctor").ends(0, &[]);
    installed("source", "tablecast verify --quick").ends(0, &[]);
    scene.alert("TablecastFormatTooNew", false);

    // And back.
    install(&scene, folder.path(), Version::Before);
    scene.stream.sql("INSERT INTO @.apps VALUES (3, 'three')").await;
    installed("source", "tablecast upload").ends(0, &[]);
    installed("region", "tablecast apply").ends(0, &[]);
    scene.stream.assert_equal(&scene.region).await;
}
