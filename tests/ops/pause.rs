//! `pause` and `resume`: what is paused changes nothing, says who wants that and why, and goes on by itself.

use chrono::{DateTime, TimeDelta, Utc};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use tablecast::clock::{Clock, SystemClock};

use super::kit::{
    Follower, Ran, at_source, command, events, in_region, region_command, source_command, until, with_hook,
};
use crate::apply::kit::Stream;
use crate::http::kit::{Desk, Place, region_token};
use crate::support::granted;
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

fn head(stream: &Stream) -> Value {
    at_source(stream, &["stream", "show", "--json"]).ends(0, &[]).json()
}

fn soon(seconds: i64) -> String {
    (SystemClock.now() + TimeDelta::seconds(seconds)).to_rfc3339()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_into_a_paused_stream_until_it_is_resumed() {
    let stream = Stream::new("pa_source", APPS).await;
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    at_source(&stream, &["upload"]).ends(0, &[]);

    at_source(&stream, &["pause", "--reason", "the disks", "--for", "2h", "--dry-run"])
        .ends(0, &["would be paused"]);
    at_source(&stream, &["upload"]).ends(0, &[]);
    at_source(&stream, &["pause", "--reason", " "]).ends(2, &["the reason is empty"]);
    at_source(&stream, &["pause", "--reason", "x", "--until", "2001-01-01T00:00:00Z"])
        .ends(2, &["over already"]);
    at_source(&stream, &["pause", "--reason", &"x".repeat(4097)]).ends(2, &["4097 characters"]);

    let ran = at_source(&stream, &["pause", "--reason", "the disks", "--for", "2h", "--json"]).ends(0, &[]);
    let paused = ran.json();
    assert_eq!((&paused["changed"], &paused["was"]), (&json!(true), &Value::Null), "{paused}");
    assert_eq!(paused["paused"]["reason"], "the disks");
    assert!(paused["paused"]["by"].as_str().unwrap().starts_with("anna"), "{paused}");
    let time = |member: &str| paused["paused"][member].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    // The command has looked at its clock twice.
    let length = time("until") - time("since");
    assert!(length <= TimeDelta::hours(2) && length > TimeDelta::hours(1), "{paused}");

    stream.sql("INSERT INTO @.apps VALUES (2, 'b')").await;
    let before = head(&stream);
    assert_eq!(before["paused"], paused["paused"]);
    let failed = at_source(&stream, &["upload", "--json"]).ends(14, &[]).json();
    assert_eq!(failed["kind"], "paused");
    for part in ["anna", "the disks", "since", "until"] {
        assert!(failed["message"].as_str().unwrap().contains(part), "{failed}");
    }
    assert!(failed["hint"].as_str().unwrap().contains("tablecast resume"), "{failed}");
    let table = format!("{}.apps", stream.schema);
    let other = format!("{}.more", stream.schema);
    for refused in [
        &["upload", "--dry-run"][..],
        &["upload", "--resync"],
        &["dump", "take", &table],
        &["dump", "take", &table, "--dry-run"],
        &["tables", "add", &other],
        &["tables", "remove", &table],
        &["stream", "prune", "--no-reports"],
    ] {
        at_source(&stream, refused).ends(14, &["the disks", "tablecast resume"]);
    }
    assert_eq!(head(&stream), before, "as_of stands still, too");
    at_source(&stream, &["status"]).ends(0, &["paused", "anna", "the disks"]);
    let status = at_source(&stream, &["status", "--json"]).ends(0, &[]).json();
    assert_eq!(status["paused"], paused["paused"]);
    until("the stream is older than a second", || async {
        let ran = at_source(&stream, &["status", "--fail-if-lag", "1s"]);
        assert!(ran.code == 0 || ran.stderr.contains("it is paused"), "{ran:?}");
        ran.code == 4
    })
    .await;

    // Another reason, another end; paused since the same time.
    at_source(&stream, &["pause", "--reason", "more disks"]).ends(0, &["paused already", "more disks"]);
    let again = head(&stream);
    assert_eq!(again["paused"]["since"], paused["paused"]["since"]);
    assert_eq!((&again["paused"]["reason"], &again["paused"]["until"]), (&json!("more disks"), &Value::Null));

    at_source(&stream, &["resume", "--dry-run"]).ends(0, &["would be resumed"]);
    at_source(&stream, &["upload"]).ends(14, &[]);
    at_source(&stream, &["resume"]).ends(0, &["resumed"]);
    at_source(&stream, &["resume"]).ends(0, &["not paused"]);
    at_source(&stream, &["upload"]).ends(0, &["shipped 1 transaction"]);
    assert_eq!(head(&stream)["paused"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_ends_by_itself_and_goes_from_the_head_with_the_next_upload() {
    let stream = Stream::new("pa_until", APPS).await;
    let region = Server::start(&[]);
    // Each from when it is said: the machine may be slow.
    let pause = ["pause", "--reason", "a while", "--for", "3s", "--json"];
    let ends = [at_source(&stream, &pause), in_region(&stream, &region, &pause)]
        .map(|ran| ran.ends(0, &["a while"]).json()["paused"]["until"].as_str().unwrap().to_owned());
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    for arguments in [&["upload"][..], &["apply"]] {
        until("the pause is over", || async {
            let ran = match arguments {
                ["upload"] => at_source(&stream, arguments),
                _ => in_region(&stream, &region, arguments),
            };
            assert!([0, 14].contains(&ran.code), "{ran:?}");
            ran.code == 0
        })
        .await;
    }
    for end in ends {
        assert!(SystemClock.now() > end.parse::<DateTime<Utc>>().unwrap());
    }
    stream.assert_equal(&region).await;
    let text = std::fs::read_to_string(stream.bucket().join("index.json")).unwrap();
    assert!(!text.contains("\"paused\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_following_upload_waits_for_the_end_of_a_pause_and_ships_nothing_meanwhile() {
    let stream = Stream::new("pa_follow", APPS).await;
    let upload = Follower::start(source_command(&stream, &["upload", "--follow"]));
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    until("the first is shipped", || async { head(&stream)["last_tx"] == "1" }).await;
    at_source(&stream, &["pause", "--reason", "who did that?"]).ends(0, &[]);
    // What it writes next meets the pause.
    stream.sql("INSERT INTO @.apps VALUES (2, 'b')").await;
    upload.logs("waiting for its end").await;
    let before = head(&stream);
    assert_eq!(before["last_tx"], "1");
    // Another run is told of the pause, not of a lock.
    at_source(&stream, &["upload"]).ends(14, &["who did that?"]);
    assert_eq!(head(&stream), before);
    at_source(&stream, &["resume"]).ends(0, &[]);
    until("the second is shipped", || async { head(&stream)["last_tx"] == "2" }).await;
    upload.logs("no longer paused").await;
    assert_eq!(upload.end().await, 143);
}

#[tokio::test(flavor = "multi_thread")]
async fn tablecast_changes_nothing_in_a_paused_region_and_the_service_shows_it_as_paused() {
    let stream = Stream::new("pa_region", APPS).await;
    let region = Server::start(&[]);
    let desk = Desk::of(stream.schema, &Place::Elsewhere(stream.bucket()), "");
    let served = desk.serve();
    let eu1 = region_token("eu1").text;
    desk.write("token", &eu1);
    let file = stream.region_file(&region, granted::USER, &["@.*"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let name = format!("name = \"r{}\"", region.port);
    let service = format!(
        "name = \"eu1\"\nsource_url = \"{}\"\ntoken_file = \"{}\"",
        served.url,
        desk.path("token").display()
    );
    let reporting = desk.path("region.toml");
    std::fs::write(&reporting, text.replace(&name, &service)).unwrap();
    let run = |arguments: &[&str]| Ran::of(command(&reporting, arguments));
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    stream.upload().await;
    // Before anything has been applied, too.
    run(&["pause", "--reason", "a test"]).ends(0, &["paused", "behind the entry that it is at"]);
    run(&["bootstrap"]).ends(14, &["a test"]);
    run(&["apply"]).ends(14, &["a test", "tablecast resume"]);
    run(&["doctor"]).ends(0, &["warn  pause", "a test", "ends with 14 (paused)", "mend: tablecast resume"]);
    run(&["resume"]).ends(0, &["resumed"]);
    // What no report could hold.
    run(&["pause", "--reason", &"x".repeat(4097)]).ends(2, &["4097 characters"]);
    run(&["apply"]).ends(0, &[]);
    assert_eq!(served.get("/v1/regions/eu1", &eu1).await.json()["state"], "ok");

    let until_then = soon(7200);
    run(&["pause", "--reason", "the disks", "--until", &until_then]).ends(0, &[]);
    stream.sql("INSERT INTO @.apps VALUES (2, 'b')").await;
    stream.upload().await;
    let before = stream.state(&region).await;
    let table = format!("{}.apps", stream.schema);
    for refused in [&["apply"][..], &["apply", "--dry-run"], &["restore", &table], &["bootstrap"]] {
        run(refused).ends(14, &["anna", "the disks", "tablecast resume"]);
    }
    assert_eq!(stream.state(&region).await, before);
    let status = run(&["status", "--json"]).ends(0, &[]).json();
    assert_eq!((&status["paused"]["reason"], &status["behind_entries"]), (&json!("the disks"), &json!("1")));
    run(&["status"]).ends(0, &["paused", "the disks"]);
    let shown = served.get("/v1/regions/eu1", &eu1).await.json();
    assert_eq!((&shown["state"], &shown["paused"]), (&json!("paused"), &status["paused"]), "{shown}");
    assert_eq!(shown["last_error"], Value::Null, "a pause is no failure");

    // The stream's own pause is another one.
    at_source(&stream, &["pause", "--reason", "both"]).ends(0, &[]);
    until("an answer is made from the new head", || async {
        served.get("/v1/status", &eu1).await.json()["stream"]["paused"]["reason"] == "both"
    })
    .await;
    at_source(&stream, &["resume"]).ends(0, &[]);

    run(&["resume", "--json"]).ends(0, &[]);
    run(&["apply"]).ends(0, &[]);
    let shown = served.get("/v1/regions/eu1", &eu1).await.json();
    assert_eq!((&shown["state"], shown.get("paused")), (&json!("ok"), None), "{shown}");
    stream.assert_equal(&region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_following_apply_waits_between_two_entries_and_leaves_the_region_alone() {
    let stream = Stream::new("pa_entries", APPS).await;
    let region = Server::start(&[]);
    for id in 1..=3 {
        stream.sql(&format!("INSERT INTO @.apps VALUES ({id}, 'a')")).await;
        stream.upload().await;
    }
    // The first entry is applied; the pause comes before the second.
    let mut command = region_command(&stream, &region, &["apply", "--follow"]);
    let folder = tempfile::tempdir().unwrap();
    let go_on = folder.path().join("go-on");
    command.env("TABLECAST_FAILPOINTS", format!("apply.after_position=until:{}", go_on.display()));
    let apply = Follower::start(command);
    until("the first entry is applied", || async { count(&stream, &region).await == Some(1) }).await;
    in_region(&stream, &region, &["pause", "--reason", "look at this"]).ends(0, &["look at this"]);
    std::fs::write(&go_on, "").unwrap();
    apply.logs("waiting for its end").await;
    assert_eq!(count(&stream, &region).await, Some(1));
    // Nothing of it holds the lock, or a connection.
    in_region(&stream, &region, &["apply"]).ends(14, &["look at this"]);
    assert_eq!(count(&stream, &region).await, Some(1));
    in_region(&stream, &region, &["resume"]).ends(0, &[]);
    until("all of it is applied", || async { count(&stream, &region).await == Some(3) }).await;
    apply.logs("no longer paused").await;
    assert_eq!(apply.end().await, 143);
    stream.assert_equal(&region).await;
}

/// Rows in the region; none: the table is not there yet.
async fn count(stream: &Stream, region: &Server) -> Option<u64> {
    let mut conn = region.connect().await;
    conn.query_first(format!("SELECT COUNT(*) FROM {}.apps", stream.schema)).await.ok()?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_of_a_version_before_pauses_gets_their_table_and_is_paused_as_well() {
    let stream = Stream::new("pa_older", APPS).await;
    let region = Server::start(&[]);
    in_region(&stream, &region, &["apply"]).ends(0, &[]);
    region.sql("DROP TABLE tablecast.state").await;
    in_region(&stream, &region, &["status"]).ends(0, &[]);
    in_region(&stream, &region, &["pause", "--reason", "an old one"])
        .ends(0, &["no version that knows pauses"]);
    in_region(&stream, &region, &["apply"]).ends(14, &["an old one"]);
    region.sql("DROP TABLE tablecast.state").await;
    in_region(&stream, &region, &["apply"]).ends(0, &[]);
    let there: u64 = region.value("SELECT COUNT(*) FROM tablecast.state").await;
    assert_eq!(there, 0);
}

/// The source's server is away, and that is what the pause is for.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_a_paused_stream_ends_with_the_pause_while_the_source_is_stopped() {
    let stream = Stream::new("pa_stopped", APPS).await;
    let folder = tempfile::tempdir().unwrap();
    at_source(&stream, &["pause", "--reason", "the disks"]).ends(0, &[]);
    let text = std::fs::read_to_string(stream.source_file()).unwrap();
    let port = format!("port = {}", stream.source.port);
    let nobody = crate::support::free_port();
    std::fs::write(folder.path().join("a.toml"), text.replace(&port, &format!("port = {nobody}"))).unwrap();
    let config = with_hook(&folder.path().join("a.toml"), folder.path(), "");
    Ran::of(command(&config, &["upload"])).ends(14, &["the disks"]);
    let follower = Follower::start(command(&config, &["upload", "--follow"]));
    follower.logs("waiting for its end").await;
    assert_eq!(follower.end().await, 143);
    at_source(&stream, &["resume"]).ends(0, &[]);
    assert_eq!(events(folder.path()), [] as [&str; 0]);
    Ran::of(command(&config, &["upload"])).ends(1, &[]);
    assert_eq!(events(folder.path()).len(), 1, "now it is a failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_following_apply_waits_for_the_end_of_a_pause_while_its_server_is_stopped() {
    let stream = Stream::new("pa_away", APPS).await;
    let region = Server::start(&[]);
    let apply = Follower::start(region_command(&stream, &region, &["apply", "--follow", "-v"]));
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    stream.upload().await;
    until("it is applied", || async { count(&stream, &region).await == Some(1) }).await;
    in_region(&stream, &region, &["pause", "--reason", "a new kernel"]).ends(0, &[]);
    apply.logs("waiting for its end").await;
    region.stop();
    apply.logs("its server does not answer").await;
    region.restart(&[]);
    stream.sql("INSERT INTO @.apps VALUES (2, 'b')").await;
    stream.upload().await;
    in_region(&stream, &region, &["resume"]).ends(0, &[]);
    until("the second is applied", || async { count(&stream, &region).await == Some(2) }).await;
    assert!(!apply.log().contains("trying again"), "{}", apply.log());
    assert_eq!(apply.end().await, 143);
}
