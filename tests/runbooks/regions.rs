//! Trouble with one region.

use mysql_async::prelude::Queryable;

use super::world::World;
use crate::ops::kit::until;

/// First nothing is shipped; then one region's reader keeps the stream's DDL waiting.
#[tokio::test(flavor = "multi_thread")]
async fn lagging_region() {
    let world = World::of("lagging-region").await;
    world.alerts(&["TablecastStreamStandsStill", "TablecastRegionLags"], false).await;
    world.types("source", "tablecast status --all --fail-if-lag 5m").ends(0, &[]);

    // Upload does not run.
    world.source.sql("INSERT INTO g.apps VALUES (2, 'two')").await;
    world.passes(5);
    world.look().await;
    world.passes(1);
    world.cron("ap1", "apply").ends(0, &[]);
    world.types("ap1", "tablecast status --fail-if-lag 5m").ends(4, &["the lag is 6 min", "the limit 5 min"]);
    world.types("source", "tablecast status --all --fail-if-lag 5m").ends(4, &["ap1 6 min"]);
    world
        .types("source", "tablecast status --all")
        .ends(0, &["The stream stands still", "docs/runbooks/lagging-region.md"]);
    world.types("source", "tablecast status").ends(0, &["upload not running", "not read yet 1 transaction"]);
    world.types("ap1", "tablecast status").ends(0, &["to apply nothing"]);
    world.alert("TablecastStreamStandsStill", true).await;
    world.alert("TablecastRegionLags", false).await;
    world.page.has("tablecast doctor");
    world.types("source", "tablecast doctor").ends(0, &[]);
    let upload = world.follows("source", "tablecast upload --follow");
    upload.logs("shipped").await;
    assert_eq!(upload.end().await, 143);
    world.minute().await;
    world.types("ap1", "tablecast status --fail-if-lag 1m; echo $?").ends(0, &["\n0\n"]);
    world.alert("TablecastStreamStandsStill", false).await;

    // The stream goes on, and one region does not.
    let mut reader = world.region.connect().await;
    reader.query_drop("BEGIN").await.unwrap();
    reader.query_drop("SELECT * FROM g.apps").await.unwrap();
    world.source.sql("ALTER TABLE g.apps ADD size INT").await;
    world.passes(5);
    world.cron("source", "upload").ends(0, &[]);
    world.look().await;
    world.passes(1);
    world.cron("source", "upload").ends(0, &[]);
    // It reports each minute of the machine's clock; for the test at once.
    let apply =
        world.follows("ap1", "env TABLECAST_FAILPOINTS=apply.report_is_due=fail tablecast apply --follow");
    world.until_all_says("ap1 is 6 min").await;
    world.types("source", "tablecast status --all --fail-if-lag 5m").ends(4, &["ap1 6 min"]);
    world.types("source", "tablecast status --all").ends(
        0,
        &[
            "behind",
            "with 1 entry to apply",
            "Is `tablecast apply` running there?",
            "docs/runbooks/lagging-region.md",
        ],
    );
    world.types("ap1", "tablecast status").ends(0, &["to apply 1 transaction in 1 entry", "apply running"]);
    world.page.has("SHOW PROCESSLIST");
    let waits: u64 = world
        .region
        .value("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for table metadata lock'")
        .await;
    assert_eq!(waits, 1);
    world.alert("TablecastRegionLags", true).await;
    world.alert("TablecastStreamStandsStill", false).await;

    reader.query_drop("COMMIT").await.unwrap();
    until("the region has what the source has", || async {
        world.region.show_create("g.apps").await == world.source.show_create("g.apps").await
    })
    .await;
    assert_eq!(apply.end().await, 143);
    world.minute().await;
    world.types("ap1", "tablecast status --fail-if-lag 1m; echo $?").ends(0, &["\n0\n"]);
    world.alert("TablecastRegionLags", false).await;
    world.assert_equal().await;
}

/// First the region's word does not come to the service, then what comes cannot be read, then the service is away.
#[tokio::test(flavor = "multi_thread")]
async fn silent_region() {
    let mut world = World::of("silent-region").await;
    let alerts = [
        "TablecastRegionSilent",
        "TablecastRegionUnreadable",
        "TablecastServiceGone",
        "TablecastMetricsGone",
    ];
    world.alerts(&alerts, false).await;
    // The way to the service is closed.
    let url = world.url("");
    world.reconfigure("ap1", &url, "http://127.0.0.1:9");
    for minutes in [8, 1] {
        world.look().await;
        world.passes(minutes);
        world.cron("source", "upload").ends(0, &[]);
        world.cron("ap1", "apply").ends(0, &[]);
    }
    world.types("source", "tablecast status --all --fail-if-lag 5m").ends(4, &["ap1 (silent) unknown"]);
    world
        .types("source", "tablecast status --all")
        .ends(0, &["ap1 silent", "ap1 has been silent for", "docs/runbooks/silent-region.md"]);
    world.alert("TablecastRegionSilent", true).await;
    world.alert("TablecastMetricsGone", false).await;
    world.types("ap1", "tablecast status").ends(0, &["to apply nothing"]);
    world.types("ap1", "tablecast doctor").ends(4, &["service", "127.0.0.1:9"]);
    // It is fresh all the same.
    world.assert_equal().await;
    world.reconfigure("ap1", "http://127.0.0.1:9", &url);
    world.minute().await;
    let well = world.types("source", "tablecast status --all").ends(0, &["ap1 ok"]);
    assert!(!well.stdout.contains("silent"), "{well:?}");
    world.types("ap1", "tablecast doctor").ends(0, &[]);
    world.alert("TablecastRegionSilent", false).await;

    // Its report is damaged.
    let key = world.s3.keys().into_iter().find(|key| key.contains("regions/ap1")).unwrap();
    world.s3.put(&key, "{\"half a rep");
    world.alert("TablecastRegionUnreadable", true).await;
    world
        .types("source", "tablecast status --all")
        .ends(0, &["Nobody knows how ap1 is", "docs/runbooks/silent-region.md"]);
    world.minute().await;
    world.alert("TablecastRegionUnreadable", false).await;
    world.types("source", "tablecast status --all").ends(0, &["ap1 ok"]);

    // The service is down.
    world.look().await;
    world.stop_service();
    world.alert("TablecastServiceGone", true).await;
    world.types("ap1", "tablecast doctor").ends(4, &["service"]);
    world.page.has("curl https://source:8443/livez");
    world.types("ap1", "curl https://source:8443/livez").ends(7, &[]);
    world.serve().await;
    world.types("ap1", "curl https://source:8443/livez").ends(0, &["ok"]);
    world.alert("TablecastServiceGone", false).await;
    // Its machine with all that it told.
    world.look().await;
    std::fs::remove_file(world.path("ap1.prom")).unwrap();
    world.alert("TablecastMetricsGone", true).await;
    world.minute().await;
    world.alert("TablecastMetricsGone", false).await;
    world.types("source", "tablecast status --all").ends(0, &["ap1 ok"]);
}

/// The service's own machine and MySQL are well; another region is there, for prune.
#[tokio::test(flavor = "multi_thread")]
async fn take_a_region_out() {
    let world = World::of("take-a-region-out").await;
    world.reconfigure("ap1", "guard = \"off\"", "guard = \"triggers\"");
    world.cron("ap1", "apply").ends(0, &[]);
    let alerts = ["TablecastRegionSilent", "TablecastNoSuccess", "TablecastMetricsGone"];
    world.alerts(&alerts, false).await;
    // Nothing runs there any more, and its figures stay as they are; then they go, as the page says, or with the machine.
    world.look().await;
    world.passes(12);
    world.eu1_reports().await;
    world.cron("source", "upload").ends(0, &[]);
    world.alerts(&alerts[..2], true).await;
    world.alert(alerts[2], false).await;
    std::fs::remove_file(world.path("ap1.prom")).unwrap();
    world.alert("TablecastNoSuccess", false).await;
    world.alerts(&["TablecastRegionSilent", "TablecastMetricsGone"], true).await;
    world.cron("source", "status --all").ends(0, &["ap1 silent"]);

    let report = "curl -s -H \"Authorization: Bearer $(cat token)\" https://source:8443/v1/regions/ap1";
    world.types("source", report).ends(0, &["\"state\":\"silent\""]);
    let needs = world.types("source", "tablecast stream prune --dry-run").ends(0, &[]);
    assert!(
        !needs.stdout.contains("region ap1 needs"),
        "its history is not yet older than --keep: {needs:?}"
    );
    world.source.sql("INSERT INTO g.apps VALUES (2, 'two')").await;
    world.cron("source", "upload").ends(0, &[]);
    world.did("source", "tablecast dump take --all-tables");
    world
        .cron("source", "stream prune --dry-run --keep 0s --keep-entries 1")
        .ends(0, &["region ap1 needs them"]);
    world.types("source", "tablecast stream prune --forget-region ap1").ends(0, &["region ap1 is forgotten"]);
    // What of its server the page would leave.
    let triggers = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'g'";
    assert_ne!(world.region.value::<u64>(triggers).await, 0);
    world.types("ap1", "tablecast guard off --reason \"this region is taken out\"").ends(0, &[]);
    assert_eq!(world.region.value::<u64>(triggers).await, 0);
    world.region.sql("CREATE USER tablecast@'%'").await;
    for statement in
        ["DROP TABLE g.apps, g.partners;", "DROP DATABASE tablecast;", "DROP USER tablecast@'%';"]
    {
        world.sql(&world.region, statement);
    }

    let gone = world.types("source", "tablecast stream prune --dry-run").ends(0, &[]);
    assert!(!gone.stdout.contains("ap1"), "{gone:?}");
    let status = "curl -s -o /dev/null -w '%{http_code}\\n' -H \"Authorization: Bearer $(cat token)\" https://source:8443/v1/regions/ap1";
    world.types("source", status).ends(0, &["404"]);
    world.look().await;
    world.passes(1);
    world.eu1_reports().await;
    world.cron("source", "upload").ends(0, &[]);
    world.alerts(&alerts[..2], false).await;
    // For a week, whatever the service knows.
    world.alert("TablecastMetricsGone", true).await;
    let all = world.cron("source", "status --all").ends(0, &["eu1"]);
    assert!(!all.stdout.contains("ap1"), "{all:?}");
}
