//! Keys that sign the index: begun with, exchanged, stolen, given up.

use tablecast::stream::{Head, SchemaDefaults};

use super::machines::{Machines, assert_same, eu1, server};
use crate::support::mysql::Server;

const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)";

/// The line that belongs into [trust].
#[track_caller]
fn public(made: &str) -> String {
    let line = made.lines().find(|line| line.starts_with("public_keys = ["));
    let key = line.and_then(|line| line.split('"').nth(1));
    key.unwrap_or_else(|| panic!("no public key in {made}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_the_stream() {
    let machines = Machines::of("sign-the-stream");
    let [source, region] = Server::start_all([&[], &[]]);
    source.sql(SETUP).await;
    let (at_source, in_region) = (server("mysql", &source), eu1(&region, "\"g.apps\""));
    let signing = |key: &str| format!("{at_source}[sign]\nkey_file = \"{}\"\n", machines.path(key).display());
    let trust = |keys: &[&str]| {
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        format!("[trust]\npublic_keys = [{}]\n", keys.join(", "))
    };
    let mut rows = 0;
    let mut write = async || {
        rows += 1;
        source.sql(&format!("INSERT INTO g.apps VALUES ({rows})")).await;
    };
    machines.config("source", &at_source);
    machines.config("eu1", &in_region);
    machines.runs("source", &["stream", "init", "--table", "g.apps"]).ends(0, &[]);
    write().await;
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    machines.alert("TablecastHistoryLost", false);

    // Begin.
    let old = public(&machines.types("source", "tablecast key sign.key").ends(0, &[]).stdout);
    machines.config("source", &signing("sign.key"));
    machines.types("source", "tablecast stream sign --dry-run").ends(0, &["it was not signed", "entry 1"]);
    machines.types("source", "tablecast stream sign").ends(0, &[]);
    machines.config("eu1", &(in_region.clone() + &trust(&[&old])));
    machines.types("eu1", "tablecast apply").ends(0, &[]);
    write().await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.types("eu1", "tablecast apply").ends(0, &[]);
    for machine in ["source", "eu1"] {
        machines.types(machine, "tablecast doctor").ends(0, &["which is trusted"]);
    }

    // A new key, and nothing stops.
    let new = public(&machines.types("source", "tablecast key new.key").ends(0, &[]).stdout);
    machines.config("eu1", &(in_region.clone() + &trust(&[&old, &new])));
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    machines.config("source", &(signing("new.key") + &trust(&[&old])));
    write().await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.types("eu1", "tablecast apply").ends(0, &[]);
    machines.config("source", &signing("new.key"));
    machines.config("eu1", &(in_region.clone() + &trust(&[&new])));
    write().await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.types("eu1", "tablecast apply").ends(0, &[]);
    machines.types("eu1", "tablecast doctor").ends(0, &["which is trusted"]);

    // An index that nobody signed.
    let path = machines.bucket().join("index.json");
    let good = std::fs::read(&path).unwrap();
    let mut head = Head::parse(&good).unwrap();
    head.schemas.insert("g".into(), SchemaDefaults { collation: "utf8mb4_bin".into() });
    std::fs::write(&path, head.to_json().unwrap()).unwrap();
    machines.types("eu1", "tablecast apply").ends(10, &["is not one of these bytes"]);
    machines.alert("TablecastHistoryLost", true);
    machines.types("eu1", "tablecast doctor").ends(4, &["is not one of these bytes"]);
    write().await;
    machines.types("source", "tablecast upload").ends(10, &["is not one of these bytes"]);
    machines
        .types("source", "tablecast stream sign --dry-run")
        .ends(0, &["somebody has changed it", "--force"]);
    std::fs::write(&path, good).unwrap();
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.types("eu1", "tablecast apply").ends(0, &[]);
    machines.alert("TablecastHistoryLost", false);

    // Stolen.
    std::fs::remove_file(machines.path("new.key")).unwrap();
    machines.config("source", &at_source);
    machines.types("source", "tablecast verify").ends(0, &[]);
    let newest = public(&machines.types("source", "tablecast key new.key").ends(0, &[]).stdout);
    machines.config("source", &signing("new.key"));
    machines.types("source", "tablecast stream sign --dry-run").ends(0, &["does not trust", "--force"]);
    machines.types("source", "tablecast stream sign --force").ends(0, &[]);
    machines.types("eu1", "tablecast apply").ends(10, &["and this config trusts"]);
    machines.config("eu1", &(in_region.clone() + &trust(&[&newest])));
    machines.types("source", "tablecast dump take --all-tables --mandatory").ends(0, &[]);
    machines.types("eu1", "tablecast apply").ends(0, &[]);

    // No longer.
    machines.config("eu1", &in_region);
    machines.config("source", &at_source);
    machines.types("source", "tablecast stream sign --remove").ends(0, &["no longer signed"]);
    write().await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.types("eu1", "tablecast apply").ends(0, &[]);
    machines.types("eu1", "tablecast doctor").ends(0, &["is not signed"]);
    assert_same(&["g.apps"], &source, &region).await;
}
