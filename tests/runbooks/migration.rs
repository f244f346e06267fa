//! A migration that does not get on. Its tables and triggers are made as gh-ost and pt-online-schema-change make them. A region
//! without the ghost and a transaction that the source never gets are those of tests/migrations.

use super::machines::{Machines, assert_same, eu1, server, token};
use crate::support::mysql::Server;

const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(40))";
const GH_OST: &str = "CREATE TABLE g._apps_ghc (id INT PRIMARY KEY, hint VARCHAR(64)); CREATE TABLE g._apps_gho LIKE g.apps; \
     ALTER TABLE g._apps_gho ADD w INT; INSERT INTO g._apps_gho (id, name) SELECT * FROM g.apps";
const PT_OSC: &str = "CREATE TABLE g._apps_new LIKE g.apps; CREATE TRIGGER g.pt_osc_g_apps_del AFTER DELETE ON g.apps FOR EACH ROW \
     DELETE IGNORE FROM g._apps_new WHERE id = OLD.id";

#[tokio::test(flavor = "multi_thread")]
async fn stuck_migration() {
    let machines = Machines::of("stuck-migration");
    let [source, region] = Server::start_all([&[], &[]]);
    source.sql(SETUP).await;
    let [serve, reports] = machines.service();
    machines.config("source", &(server("mysql", &source) + &serve));
    machines.config("eu1", &(eu1(&region, "\"g.*\"") + &reports + "[apply]\nguard = \"off\"\n"));
    let (text, entry) = token(&machines.runs("source", &["token", "--region", "eu1"]));
    machines.secret("eu1.token", &text);
    machines.secret("tokens.toml", &entry);
    machines.runs("source", &["stream", "init", "--table", "g.apps"]).ends(0, &[]);
    let service = machines.serve().await;
    let flows = |code: i32| {
        machines.runs("source", &["upload"]).ends(0, &[]);
        machines.runs("eu1", &["apply"]).ends(code, &[]);
    };
    let asks = |says: &[&str]| machines.types("source", "tablecast migrations g.apps").ends(0, says);
    source.sql("INSERT INTO g.apps VALUES (1, 'one'), (2, 'two')").await;
    flows(0);
    machines.alert("TablecastTableQuarantined", false);

    // Nobody uploads; then nobody applies.
    source.sql(GH_OST).await;
    asks(&["cut-over: NOT safe", "transactions are not in the stream yet", "no upload runs at the source"]);
    machines.page.has("tablecast migrations g.apps --wait-safe");
    let waits = ["migrations", "g.apps", "--wait-safe", "--timeout", "1s"];
    machines.runs("source", &waits).ends(4, &["the cut-over of g.apps is not safe yet:"]);
    machines.runs("source", &["upload"]).ends(0, &[]);
    asks(&["region eu1: behind by"]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    asks(&["cut-over: safe in every region"]);

    // The region's ghost differs.
    let drifts = async || {
        region.sql("DELETE FROM g._apps_gho WHERE id = 1").await;
        source.sql("UPDATE g._apps_gho SET name = 'eins' WHERE id = 1").await;
        flows(3);
        asks(&["cut-over: NOT safe", "region eu1: in quarantine there: g._apps_gho"]);
    };
    drifts().await;
    machines.types("eu1", "tablecast status").ends(3, &["g._apps_gho since transaction"]);
    machines.types("eu1", "tablecast quarantine list").ends(0, &["g._apps_gho"]);
    machines.alert("TablecastTableQuarantined", true);

    // Begin the migration again.
    machines.sql(&source, "DROP TABLE g._apps_gho, g._apps_ghc");
    flows(0);
    machines.types("source", "tablecast migrations").ends(0, &["no migration in flight"]);
    machines.types("eu1", "tablecast quarantine list").ends(0, &["no table is in quarantine"]);
    machines.alert("TablecastTableQuarantined", false);
    source.sql(GH_OST).await;
    flows(0);
    asks(&["cut-over: safe in every region"]);

    // Cut over anyway.
    drifts().await;
    machines.page.has("--ignore-region eu1");
    machines.runs("source", &[&waits[..], &["--ignore-region", "eu1"]].concat()).ends(0, &[]);
    source
        .sql("RENAME TABLE g.apps TO g._apps_del, g._apps_gho TO g.apps; DROP TABLE g._apps_ghc; INSERT INTO g.apps VALUES (3, 'three', 3)")
        .await;
    flows(3);
    machines.types("eu1", "tablecast quarantine list").ends(0, &["g.apps"]);
    machines.alert("TablecastTableQuarantined", true);
    machines.types("source", "tablecast dump take g.apps").ends(0, &[]);
    machines.runs("eu1", &["apply"]);
    let listed = machines.types("eu1", "tablecast quarantine list").ends(0, &[]);
    assert!(!listed.stdout.contains("g.apps"), "{listed:?}");
    source.sql("DROP TABLE g._apps_del").await;
    flows(0);
    asks(&["no migration in flight"]);
    assert_same(&["g.apps"], &source, &region).await;
    machines.alert("TablecastTableQuarantined", false);

    // One that nobody runs any more.
    source.sql(PT_OSC).await;
    flows(0);
    asks(&["g._apps_new"]);
    machines.sql(&source, "DROP TRIGGER g.pt_osc_g_apps_del;");
    machines.sql(&source, "DROP TABLE g._apps_new;");
    flows(0);
    asks(&["no migration in flight"]);
    source.sql("DELETE FROM g.apps WHERE id = 2").await;
    flows(0);
    assert_same(&["g.apps"], &source, &region).await;
    assert_eq!(region.checksum("g._apps_new").await, None);
    service.end().await;
}
