//! Trouble with the bucket, with clocks, with dumps.

use std::time::Duration;

use super::world::World;
use crate::ops::kit::until;
use crate::support::granted;

const STORE_ALERTS: [&str; 5] = [
    "TablecastStoreFails",
    "TablecastStreamUnreadable",
    "TablecastStreamStandsStill",
    "TablecastRegionsUnreadable",
    "TablecastDumpJobsUnreadable",
];

#[tokio::test(flavor = "multi_thread")]
async fn s3_outage() {
    let mut world = World::of("s3-outage").await;
    world.alerts(&STORE_ALERTS, false).await;
    let ready = "curl -s -o /dev/null -w '%{http_code}\\n' https://source:8443/readyz";
    world.types("ap1", ready).ends(0, &["200"]);

    // A part of it.
    world.s3.break_down("ListObjectsV2", "");
    world.alerts(&["TablecastRegionsUnreadable", "TablecastDumpJobsUnreadable"], true).await;
    world.alert("TablecastStreamUnreadable", false).await;

    // All of it. What follows holds the locks, so the machines' figures are those of runs from cron.
    world.s3.break_down("", "");
    world.source.sql("INSERT INTO g.apps VALUES (2, 'two')").await;
    for _ in 0..2 {
        world.look().await;
        world.passes(1);
        world.cron("source", "upload").ends(1, &["503"]);
        world.cron("ap1", "apply").ends(1, &["503"]);
    }
    world.alerts(&STORE_ALERTS[..2], true).await;
    // Not at once: a region knows by itself up to when it is complete.
    world
        .types("ap1", "tablecast status --fail-if-lag 5m")
        .ends(0, &["last error", "apply ended with 1 (store)"]);
    world.passes(4);
    world
        .types("ap1", "tablecast status --fail-if-lag 5m")
        .ends(4, &["the limit 5 min", "last error", "apply ended with 1 (store)"]);
    world.types("ap1", ready).ends(0, &["503"]);
    world.page.has(ready);
    world.types("source", "tablecast doctor").ends(4, &["store", "503"]);

    let apply = world.follows("ap1", "tablecast apply --follow");
    apply.logs("trying again in").await;
    // The end.
    world.s3.mend();
    let upload = world.follows("source", "tablecast upload --follow");
    until("the region has it", || async {
        world.region.checksum("g.apps").await == world.source.checksum("g.apps").await
    })
    .await;
    // What follows goes on by itself.
    world.s3.break_down("", "");
    world.source.sql("INSERT INTO g.apps VALUES (3, 'three')").await;
    upload.logs("trying again in").await;
    world.s3.mend();
    until("the region has that, too", || async {
        world.region.checksum("g.apps").await == world.source.checksum("g.apps").await
    })
    .await;
    assert_eq!((upload.end().await, apply.end().await), (143, 143));
    world.types("source", "tablecast upload; echo $?").ends(0, &["\n0\n"]);
    world.minute().await;
    world.types("ap1", "tablecast status --fail-if-lag 1m").ends(0, &[]);
    world.types("source", "tablecast verify --quick").ends(0, &[]);
    world.alerts(&STORE_ALERTS, false).await;

    // Gone for good.
    for machine in ["source", "ap1"] {
        world.reconfigure(machine, "s3://acme-global/apps", "s3://acme-global/again");
    }
    world.page.has("stream init");
    world.page.has("dump take --all-tables");
    world.stop_service();
    world.did("source", "tablecast stream init --table g.apps --table g.partners");
    world.did("source", "tablecast dump take --all-tables");
    world.serve().await;
    world.cron("ap1", "apply").ends(10, &["is of stream"]);
    world
        .region
        .sql("DROP TABLE g.apps, g.partners; DELETE FROM tablecast.position WHERE name = 'apps'")
        .await;
    world.did("ap1", "tablecast bootstrap");
    world.minute().await;
    world.types("ap1", "tablecast status --fail-if-lag 1m").ends(0, &[]);
    world.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_skew() {
    let world = World::of("clock-skew").await;
    world.alert("TablecastClockSkew", false).await;
    world.types("source", "tablecast doctor; echo $?").ends(0, &["agrees with", "\n0\n"]);

    // A region's machine.
    world.region_is_ahead(Duration::from_secs(90));
    world.minute().await;
    world.alert("TablecastClockSkew", true).await;
    world
        .cron("source", "status --all")
        .ends(0, &["The clock of ap1 is about 1 min ", "docs/runbooks/clock-skew.md"]);
    let found = world.types("ap1", "tablecast doctor --json").ends(0, &["mysql clock"]);
    assert!(found.stdout.contains("this machine's clock is 1 min "), "{found:?}");
    // So far that S3 does not take it.
    world.region_is_ahead(Duration::from_secs(20 * 60 + 30));
    world.cron("ap1", "apply").ends(12, &["this machine's clock and the server's are too far apart"]);
    world.types("ap1", "tablecast doctor").ends(4, &["too far apart", "this machine's clock is 20 min"]);
    world.region_is_ahead(Duration::ZERO);
    world.minute().await;
    world.types("ap1", "tablecast doctor; echo $?").ends(0, &["agrees with", "\n0\n"]);
    world.alert("TablecastClockSkew", false).await;

    // The source's MySQL.
    world.source_is_ahead(Duration::from_secs(90));
    world.source.sql("INSERT INTO g.apps VALUES (2, 'two')").await;
    world.minute().await;
    world.alert("TablecastClockSkew", true).await;
    world
        .cron("source", "status --all")
        .ends(0, &["The source's clock is 1 min ", "docs/runbooks/clock-skew.md"]);
    world
        .types("source", "tablecast doctor --json")
        .ends(0, &["this machine's clock is 1 min ", "mysql clock"]);
    world.sql(&world.source, "SELECT UTC_TIMESTAMP(6);");
    world.source_is_ahead(Duration::ZERO);
    world.types("source", "tablecast doctor; echo $?").ends(0, &["agrees with", "\n0\n"]);
    // Regions look fresher until that time is over.
    world.passes(2);
    world.minute().await;
    world.alert("TablecastClockSkew", false).await;
    let well = world.cron("source", "status --all").ends(0, &["ap1 ok"]);
    assert!(!well.stdout.contains("clock"), "{well:?}");
    world.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_dump() {
    let world = World::of("stuck-dump").await;
    world.alert("TablecastDumpStuck", false).await;
    // So that no dump which is there fits.
    world.source.sql("ALTER TABLE g.apps ADD size INT").await;
    world.cron("source", "upload").ends(0, &[]);
    world.cron("ap1", "apply").ends(0, &[]);
    world.region.sql("DELETE FROM g.apps WHERE id = 1").await;
    world.source.sql("UPDATE g.apps SET name = 'eins' WHERE id = 1").await;
    world.cron("source", "upload").ends(0, &[]);
    world.cron("ap1", "apply").ends(3, &["quarantine of g.apps"]);

    // Upload does not run.
    world.passes(11);
    let jobs = world.types("source", "tablecast dump list --json").ends(0, &[]).json();
    let job = &jobs["dumps"][0];
    assert_eq!((&job["state"], &job["tables"][0]), (&"queued".into(), &"g.apps".into()), "{jobs}");
    let id = job["id"].as_str().unwrap();
    world.types("ap1", "tablecast quarantine list").ends(0, &["g.apps"]);
    world
        .types("source", "tablecast status --all")
        .ends(3, &["The dump of g.apps has been waiting for 11 min", "docs/runbooks/stuck-dump.md"]);
    world.types_with("source", "tablecast dump show ID", &[("ID", id)]).ends(0, &["queued"]);
    world.types("source", "tablecast status").ends(0, &["upload not running"]);
    world.alert("TablecastDumpStuck", true).await;

    world.types("source", "tablecast dump take g.apps").ends(0, &[]);
    world.cron("ap1", "apply").ends(0, &[]);
    world.types("source", "tablecast dump list").ends(0, &["uploaded"]);
    world.types("ap1", "tablecast quarantine list").ends(0, &["no table is in quarantine"]);
    world.look().await;
    world.alert("TablecastDumpStuck", false).await;
    world.assert_equal().await;

    // One that nobody wants any more.
    let asked = "curl -s -X POST -H \"Authorization: Bearer $(cat token)\" -H 'Content-Type: application/json' -d \
                 '{\"region\": \"ap1\", \"tables\": [\"g.partners\"], \"reason\": \"somebody\"}' https://source:8443/v1/dumps";
    let asked = world.did("ap1", asked).json();
    let id = asked["id"].as_str().unwrap();
    world.alert("TablecastDumpStuck", true).await;
    world.types_with("source", "tablecast dump cancel ID", &[("ID", id)]).ends(0, &[]);
    world.types("source", "tablecast dump list").ends(0, &["cancelled"]);
    world.alert("TablecastDumpStuck", false).await;

    // What a table that came into the set asks for, while the bucket takes no dumps.
    world.source.sql("CREATE TABLE g.plans (id INT PRIMARY KEY); INSERT INTO g.plans VALUES (1)").await;
    granted::more(&world.path("source.toml"), &["g.plans"]);
    world.alert("TablecastDumpOwed", false).await;
    world.s3.break_down("PutObject", "dumps/");
    world.did("source", "tablecast tables add g.plans");
    let upload = world.follows("source", "tablecast upload --follow");
    upload.logs("503").await;
    assert_eq!(upload.end().await, 143);
    world.types("source", "tablecast status").ends(0, &["owed"]);
    world.types("source", "tablecast status --all").ends(0, &["docs/runbooks/stuck-dump.md"]);
    world.alert("TablecastDumpOwed", true).await;
    world.s3.mend();
    let jobs = world.types("source", "tablecast dump list --json").ends(0, &[]).json();
    let waits = jobs["dumps"].as_array().unwrap().iter().find(|job| job["state"] == "queued");
    let id = waits.unwrap_or_else(|| panic!("{jobs}"))["id"].as_str().unwrap();
    world.types_with("source", "tablecast dump show ID", &[("ID", id)]).ends(0, &["not before", "503"]);
    world.passes(1);
    world.cron("source", "upload").ends(0, &[]);
    world.types("source", "tablecast dump list").ends(0, &["uploaded"]);
    world.alert("TablecastDumpOwed", false).await;
}
