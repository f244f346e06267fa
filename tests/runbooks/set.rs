//! Tables come into the set and go out of it.

use super::machines::{Machines, administrator, assert_same, eu1, fact, server, server_as};
use super::mini::Mini;
use crate::support::mysql::Server;

const TABLES: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(40)); \
     CREATE TABLE g.plans (id INT PRIMARY KEY, app INT, price INT)";
const ROWS: &str = "INSERT INTO g.apps VALUES (1, 'one'), (2, 'two'); INSERT INTO g.plans VALUES (1, 1, 10)";

/// The source is the primary itself. The dump that a new table needs cannot be written at first.
#[tokio::test(flavor = "multi_thread")]
async fn add_a_table() {
    let machines = Machines::of("add-a-table");
    let [source, region] = Server::start_all([&[], &["--log-bin-trust-function-creators=1"]]);
    source.sql(TABLES).await;
    source.sql("CREATE USER tablecast@'%'").await;
    region.sql("SET sql_log_bin = 0; CREATE USER tablecast@'%'").await;
    machines.config("source", &server_as("mysql", &source, "tablecast", ""));
    let eu1 = format!(
        "{}[region]\nname = \"eu1\"\ntables = [\"g.apps\"]\n",
        server_as("mysql", &region, "tablecast", "")
    );
    machines.config("eu1", &eu1);
    let first = machines.runs("source", &["grants", "--table", "g.apps"]).ends(0, &[]);
    administrator(&source, &first.stdout);
    machines.runs("source", &["stream", "init", "--table", "g.apps"]).ends(0, &[]);
    source.sql(ROWS).await;
    administrator(&region, &machines.runs("eu1", &["grants"]).ends(0, &[]).stdout);
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    machines.alert("TablecastDumpOwed", false);

    // Check.
    machines.types("source", "tablecast tables list").ends(0, &["g.apps"]);
    machines.types("source", "tablecast doctor").ends(0, &["table set"]);
    machines
        .types("source", "tablecast tables add g.plans --dry-run")
        .ends(12, &["denied", "`tablecast grants --table g.plans`"]);

    // Do.
    let rights = machines.types("source", "tablecast grants --table g.plans").ends(0, &["`g`.`plans`"]);
    administrator(&source, &rights.stdout);
    machines.types("source", "tablecast tables add g.plans --dry-run").ends(0, &["dump"]);
    machines.types("source", "tablecast tables add g.plans --reason 'ticket 4711'").ends(0, &[]);
    // Nothing can be written there.
    let dumps = machines.bucket().join("dumps");
    std::fs::write(&dumps, "").unwrap();
    for _ in 0..2 {
        machines.runs("source", &["upload"]).ends(0, &["failed: take dump"]);
    }
    machines.types("source", "tablecast status").ends(0, &["owed", "a dump of all tables", "g.plans"]);
    machines.types("source", "tablecast tables list").ends(0, &["g.plans", "dump"]);
    machines.alert("TablecastDumpOwed", true);
    std::fs::remove_file(&dumps).unwrap();
    machines.types("source", "tablecast dump take --all-tables --mandatory").ends(0, &[]);
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.alert("TablecastDumpOwed", false);
    // A region whose own list lacks it.
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    machines.types("eu1", "tablecast status").ends(0, &["left out", "g.plans"]);
    assert_eq!(region.checksum("g.plans").await, None);
    machines.reconfigure("eu1", "[\"g.apps\"]", "[\"g.apps\", \"g.plans\"]");
    administrator(&region, &machines.types("eu1", "tablecast grants").ends(0, &["`g`.*"]).stdout);
    machines.runs("eu1", &["apply"]).ends(0, &[]);

    // Verify.
    let listed = machines.types("source", "tablecast tables list").ends(0, &["g.apps", "g.plans"]);
    assert!(!listed.stdout.contains("dump"), "{listed:?}");
    machines.types("source", "tablecast dump list").ends(0, &["uploaded"]);
    let status = machines.types("eu1", "tablecast status").ends(0, &[]);
    assert_eq!(fact(&status, "to apply"), "nothing");
    assert!(!status.stdout.contains("quarantine") && !status.stdout.contains("left out"), "{status:?}");
    machines.page.has("CHECKSUM TABLE g.plans");
    assert_same(&["g.apps", "g.plans"], &source, &region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn add_a_table_where_the_source_is_a_processor() {
    let mini = Mini::of("add-a-table", TABLES, &["g.apps"], "\"g.apps\", \"g.plans\"").await;
    let machines = &mini.machines;
    mini.primary.sql(ROWS).await;
    mini.flows().await;
    machines.types("source", "tablecast tables list").ends(0, &["g.apps"]);
    machines.types("source", "tablecast doctor").ends(0, &["table set"]);

    let rights = machines.types("source", "tablecast grants --primary --processor --table g.plans");
    administrator(&mini.primary, &rights.ends(0, &["`g`.`plans`"]).stdout);
    mini.takes_my_cnf("tablecast processor config --table g.plans");
    mini.supervised(|| machines.types("source", "tablecast processor rebuild --table g.plans")).ends(0, &[]);
    machines.types("source", "tablecast tables add g.plans --dry-run").ends(0, &["dump"]);
    machines.types("source", "tablecast tables add g.plans --reason 'ticket 4711'").ends(0, &[]);
    mini.flows().await;
    mini.primary.sql("INSERT INTO g.plans VALUES (2, 2, 20)").await;
    mini.flows().await;

    machines.types("source", "tablecast tables list").ends(0, &["g.plans"]);
    machines.types("source", "tablecast dump list").ends(0, &["uploaded"]);
    let status = machines.types("eu1", "tablecast status").ends(0, &[]);
    assert_eq!(fact(&status, "to apply"), "nothing");
    for server in [&mini.processor, &mini.region] {
        assert_same(&["g.apps", "g.plans"], &mini.primary, server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn remove_a_table() {
    let machines = Machines::of("remove-a-table");
    let [source, region] = Server::start_all([&[], &[]]);
    source.sql(TABLES).await;
    machines.config("source", &server("mysql", &source));
    machines.config("eu1", &eu1(&region, "\"g.apps\", \"g.plans\""));
    machines.runs("source", &["stream", "init", "--table", "g.apps", "--table", "g.plans"]).ends(0, &[]);
    source.sql(ROWS).await;
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&["g.apps", "g.plans"], &source, &region).await;
    // Only this region has it.
    region.sql("ALTER TABLE g.plans ADD CONSTRAINT of_app FOREIGN KEY (app) REFERENCES g.apps (id)").await;

    machines.types("source", "tablecast tables remove g.plans --dry-run").ends(0, &["g.plans"]);
    machines.types("source", "tablecast tables remove g.plans --reason 'ticket 4712'").ends(0, &[]);
    source.sql("INSERT INTO g.plans VALUES (2, 2, 20); INSERT INTO g.apps VALUES (3, 'three')").await;
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    machines.reconfigure("eu1", "\"g.apps\", \"g.plans\"", "\"g.apps\"");
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_eq!(region.value::<u32>("SELECT COUNT(*) FROM g.plans").await, 1, "its changes stop");
    region.sql("INSERT INTO g.plans VALUES (9, 2, 90)").await;
    region.try_sql("INSERT INTO g.apps VALUES (9, 'nine')").await.expect_err("that guard stays");
    let status = machines.types("eu1", "tablecast status").ends(0, &["foreign key of_app of g.plans"]);
    assert_eq!(fact(&status, "to apply"), "nothing");
    let statement = status.stdout.split("run here: ").nth(1).unwrap_or_else(|| panic!("{status:?}"));
    administrator(&region, statement.lines().next().unwrap());
    let status = machines.types("eu1", "tablecast status").ends(0, &[]);
    assert!(!status.stdout.contains("foreign key"), "{status:?}");
    source.sql("DELETE FROM g.apps WHERE id = 1").await;
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&["g.apps"], &source, &region).await;
    let listed = machines.types("source", "tablecast tables list").ends(0, &["version 2", "g.apps"]);
    assert!(!listed.stdout.contains("g.plans"), "{listed:?}");

    // Back again.
    machines.types("source", "tablecast tables add g.plans").ends(0, &[]);
    machines.reconfigure("eu1", "\"g.apps\"", "\"g.apps\", \"g.plans\"");
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&["g.apps", "g.plans"], &source, &region).await;

    // Going to be dropped everywhere.
    source.sql("DROP TABLE g.plans").await;
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_eq!(region.checksum("g.plans").await, None);
    machines.types("source", "tablecast tables remove g.plans --reason 'ticket 4712'").ends(0, &[]);
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&["g.apps"], &source, &region).await;
}
