//! Runs that stop, and what cannot go on.

use super::world::World;
use crate::ops::kit::until;

#[tokio::test(flavor = "multi_thread")]
async fn stopped_on_an_error() {
    let world = World::of("stopped-on-an-error").await;
    let alerts = [
        "TablecastRunFails",
        "TablecastRegionFailing",
        "TablecastNoSuccess",
        "TablecastNeverSucceeded",
        "TablecastLocked",
    ];
    world.alerts(&alerts, false).await;
    world.reconfigure("ap1", "[apply]\n", "[apply]\non_conflict = \"stop\"\n");
    world.region.sql("DELETE FROM g.apps WHERE id = 1").await;
    world.source.sql("UPDATE g.apps SET name = 'eins' WHERE id = 1").await;
    for _ in 0..2 {
        world.look().await;
        world.passes(1);
        world.cron("source", "upload").ends(0, &[]);
        world.cron("ap1", "apply").ends(1, &["g.apps", "1032"]);
    }
    world
        .types("source", "tablecast status --all")
        .ends(0, &["failing", "The last run in ap1 failed", "1032", "docs/runbooks/stopped-on-an-error.md"]);
    world.types("ap1", "tablecast status").ends(0, &["last error", "apply ended with 1 (drift)", "1032"]);
    world.types("ap1", "tablecast doctor").ends(4, &["the last `tablecast apply` ended with 1"]);
    world.types("ap1", "tablecast apply --dry-run").ends(0, &[]);
    let failed = world.cron("ap1", "apply --json");
    assert_eq!(failed.json()["kind"], "drift", "{failed:?}");
    world.alerts(&alerts[..3], true).await;
    world.alert("TablecastNeverSucceeded", false).await;

    // The row as it was before.
    world.region.sql("INSERT INTO g.apps VALUES (1, 'one')").await;
    world.types("ap1", "tablecast apply; echo $?").ends(0, &["\n0\n"]);
    let well = world.types("ap1", "tablecast status").ends(0, &["to apply nothing"]);
    assert!(!well.stdout.contains("last error"), "{well:?}");
    world.minute().await;
    world.alerts(&alerts, false).await;

    // A run that holds the lock for long.
    let apply = world.follows("ap1", "tablecast apply --follow");
    world.until_all_says("ap1").await;
    until("it holds the lock", || async { world.cron("ap1", "apply").code == 11 }).await;
    world.alert("TablecastLocked", true).await;
    world.types("ap1", "tablecast status").ends(0, &["apply running"]);
    assert_eq!(apply.end().await, 143);
    world.minute().await;
    world.alert("TablecastLocked", false).await;

    // A machine on which no run has ever worked.
    let text = std::fs::read_to_string(world.path("ap1.toml")).unwrap();
    std::fs::remove_file(world.path("ap1.prom")).unwrap();
    world.look().await;
    world.by_nobody("ap1");
    world.cron("ap1", "apply").ends(12, &["nobody_here"]);
    world.alert("TablecastNeverSucceeded", true).await;
    world.types("ap1", "tablecast doctor").ends(4, &["nobody_here"]);
    world.write("ap1.toml", &text);
    world.types("ap1", "tablecast apply; echo $?").ends(0, &["\n0\n"]);
    world.alert("TablecastNeverSucceeded", false).await;
    world.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_lost() {
    let world = World::of("history-lost").await;
    world.alert("TablecastHistoryLost", false).await;

    // A: the source has purged what the stream lacks, and nobody else has it.
    world.source.sql("INSERT INTO g.apps VALUES (2, 'two'); FLUSH BINARY LOGS").await;
    let log: String = world.source.value("SHOW BINARY LOG STATUS").await;
    world.source.sql(&format!("PURGE BINARY LOGS TO '{log}'")).await;
    world.cron("source", "upload").ends(10, &["its binary logs no longer hold", "which the stream lacks"]);
    world.types("source", "tablecast upload --dry-run").ends(10, &["its binary logs no longer hold"]);
    world.cron("source", "status").ends(0, &["last error", "upload ended with 10 (history)"]);
    world.alert("TablecastHistoryLost", true).await;
    world.types("source", "tablecast upload --resync --dry-run").ends(0, &[]);
    world.types("source", "tablecast upload --resync").ends(0, &[]);
    world.types("source", "tablecast upload; echo $?").ends(0, &["\n0\n"]);
    world.types("ap1", "tablecast apply; echo $?").ends(0, &["\n0\n"]);
    world.types("source", "tablecast verify").ends(0, &[]);
    world.alert("TablecastHistoryLost", false).await;
    world.assert_equal().await;

    // D: an older index.json. The bucket of the tests keeps no versions: the newest one is put back by hand.
    let index = world.s3.keys().into_iter().find(|key| key.ends_with("/index.json")).unwrap();
    let older = world.s3.object(&index).unwrap();
    world.source.sql("INSERT INTO g.apps VALUES (3, 'three')").await;
    world.minute().await;
    let right = world.s3.object(&index).unwrap();
    world.s3.put(&index, older);
    world.cron("source", "upload").ends(10, &["the index went back"]);
    world.cron("ap1", "apply").ends(10, &["the index went back"]);
    world.cron("ap1", "status").ends(0, &["last error", "apply ended with 10 (history)"]);
    world.cron("source", "status --all").ends(0, &["failing", "docs/runbooks/history-lost.md"]);
    world.alert("TablecastHistoryLost", true).await;
    std::fs::write(world.path("index.json"), &right).unwrap();
    world.types("source", "tablecast inspect ./index.json").ends(0, &[]);
    world.s3.put(&index, right);
    world.types("source", "tablecast verify --quick").ends(0, &[]);
    world.types("ap1", "tablecast apply; echo $?").ends(0, &["\n0\n"]);
    world.minute().await;
    world.alert("TablecastHistoryLost", false).await;
    world.assert_equal().await;

    // The region was away for longer than history is kept.
    for id in 4..7 {
        world.source.sql(&format!("INSERT INTO g.apps VALUES ({id}, 'more')")).await;
        world.cron("source", "upload").ends(0, &[]);
    }
    world.did("source", "tablecast dump take --all-tables");
    world.did("source", "tablecast stream prune --keep 0s --keep-entries 1 --forget-region ap1 --no-reports");
    world.cron("ap1", "apply").ends(10, &["were pruned"]);
    world.cron("ap1", "status").ends(0, &["last error", "apply ended with 10 (history)"]);
    world.alert("TablecastHistoryLost", true).await;
    world.types("ap1", "tablecast restore --all").ends(0, &[]);
    world.types("ap1", "tablecast apply; echo $?").ends(0, &["\n0\n"]);
    world.minute().await;
    world.alert("TablecastHistoryLost", false).await;
    world.types("source", "tablecast verify").ends(0, &[]);
    world.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuild_a_region() {
    let mut world = World::of("rebuild-a-region").await;
    world.alerts(&["TablecastHistoryLost", "TablecastNeverSucceeded", "TablecastMetricsGone"], false).await;

    // 2b: somebody has removed the row of the position.
    world.source.sql("INSERT INTO g.apps VALUES (2, 'two')").await;
    world.minute().await;
    world.region.sql("DELETE FROM tablecast.position").await;
    world.cron("ap1", "apply").ends(10, &["tablecast.position has no row", "rebuild-a-region"]);
    world.alert("TablecastHistoryLost", true).await;
    world.types("ap1", "tablecast status");
    world.types("source", "tablecast stream ls --kind dump").ends(0, &["dump (full)"]);
    for statement in [
        "DROP TABLE g.apps, g.partners;",
        "DELETE FROM tablecast.position WHERE name = 'apps';",
        "DELETE FROM tablecast.quarantine WHERE name = 'apps';",
        "DELETE FROM tablecast.restore WHERE name = 'apps';",
        "DELETE FROM tablecast.checked WHERE name = 'apps';",
        "DELETE FROM tablecast.former WHERE name = 'apps';",
    ] {
        world.sql(&world.region, statement);
    }
    // The server has run more of the stream than the newest full dump holds.
    let refused = world.types("ap1", "tablecast bootstrap");
    assert_ne!(refused.code, 0, "{refused:?}");
    world.types("source", "tablecast dump take --all-tables").ends(0, &[]);
    world.types("ap1", "tablecast bootstrap").ends(0, &[]);
    world.minute().await;
    world.types("ap1", "tablecast status").ends(0, &["to apply nothing"]);
    world.alert("TablecastHistoryLost", false).await;
    world.assert_equal().await;

    // 2a: its machine is lost, and a new one takes its place.
    world.look().await;
    std::fs::remove_file(world.path("ap1.prom")).unwrap();
    std::fs::remove_file(world.path("ap1.toml")).unwrap();
    std::fs::remove_dir_all(world.path("ap1")).unwrap();
    world.region = world.server();
    world.alert("TablecastMetricsGone", true).await;
    world.types("ap1", "tablecast init region").ends(0, &["written"]);
    world.config("ap1", &world.ap1(&world.region).replace("\"granted\"", "\"tablecast\""));
    world.region.sql("CREATE USER tablecast@'%'").await;
    let grants = world.types("ap1", "tablecast grants").ends(0, &["GRANT"]);
    world.region.client(&[], grants.stdout.as_bytes()).unwrap_or_else(|error| panic!("{error}: {grants:?}"));
    world.types("ap1", "tablecast doctor").ends(0, &["`tablecast bootstrap` fills it"]);
    world.types("ap1", "tablecast bootstrap --dry-run").ends(0, &[]);
    world.types("ap1", "tablecast bootstrap").ends(0, &[]);
    world.types("ap1", "tablecast doctor").ends(0, &[]);
    world.types("ap1", "tablecast status").ends(0, &["to apply nothing"]);
    let apply = world.follows("ap1", "tablecast apply --follow");
    world.page.has("tablecast apply --follow");
    world.source.sql("INSERT INTO g.apps VALUES (3, 'three')").await;
    world.cron("source", "upload").ends(0, &[]);
    until("it follows", || async {
        world.region.checksum("g.apps").await == world.source.checksum("g.apps").await
    })
    .await;
    assert_eq!(apply.end().await, 143);
    world.minute().await;
    world.alert("TablecastMetricsGone", false).await;
    world.alert("TablecastNeverSucceeded", false).await;
    world.assert_equal().await;
}
