//! A copy that nobody feeds tells no time; the primary does.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tablecast::stream::Head;

use super::kit::{SETUP, World, copy_by_dump, primary_section, work};
use crate::support::mysql::Server;
use crate::support::once_within;

async fn now(server: &Server) -> DateTime<Utc> {
    let text: String = server.value("SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)").await;
    chrono::NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").expect("a time").and_utc()
}

async fn upload(world: &World, says: &str) -> Head {
    let text = world.runs(&["upload"], 0);
    assert!(text.contains(says), "{text}");
    world.stream.head().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_copy_without_a_channel_ships_what_it_has_and_as_of_stands_still() {
    let [primary, old, new] = Server::start_all([&[], &[], &[]]);
    primary.sql(SETUP).await;
    old.replicate_from(&primary, super::kit::FILTERS).await;
    old.catch_up(&primary).await;
    let mut world = World::new(&old, &primary).await;
    work(&primary).await;
    // As a CLONE leaves it when `processor create` is cut short.
    copy_by_dump(&primary, &new, &["g", "tablecast"]);
    let copied = now(&new).await;
    old.kill9();
    world.read_from(&old, &new);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    work(&primary).await;
    let head = upload(&world, "is another server").await;
    assert!(head.as_of <= copied, "{} is later than {copied}", head.as_of);
    assert!(new.gtid_executed().await.is_subset(&head.covered), "what it has is shipped");
    let text = world.runs(&["--json", "status"], 0);
    assert!(text.contains("\"copy\"") && text.contains("nobody feeds"), "{text}");
    let text = world.runs(&["doctor"], 0);
    assert!(text.contains("nobody feeds") && text.contains("processor create"), "{text}");
    // Also for a run that follows, and for what is written there by itself.
    let mut follow = world
        .stream
        .program(&["upload", "--follow"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("tablecast");
    new.sql("INSERT INTO g.plans (price) VALUES (9)").await;
    let wanted = new.gtid_executed().await;
    let begin = Instant::now();
    while !wanted.is_subset(&world.stream.head().await.covered) {
        assert!(begin.elapsed().as_secs() < 60);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    follow.kill().expect("kill");
    follow.wait().expect("wait");
    assert!(world.stream.head().await.as_of <= copied);

    // Promoted, and the config names it: then its clock is the one that counts.
    world
        .stream
        .reconfigure(&primary_section(&primary), &primary_section(&new).replace("127.0.0.1", "localhost"));
    new.sql("INSERT INTO g.plans (price) VALUES (10)").await;
    let before = now(&new).await;
    let head = upload(&world, "").await;
    assert!(head.as_of >= before, "{} is earlier than {before}", head.as_of);
    // An idle upload may ask and is cheap all the same.
    once_within(Duration::from_millis(250), || assert!(world.stream.run(&["upload"], "").status.success()));

    // Nobody can be asked.
    let there = primary_section(&new).replace("127.0.0.1", "localhost");
    world.stream.reconfigure(&there, &primary_section(&old));
    new.sql("INSERT INTO g.plans (price) VALUES (11)").await;
    let at = head.as_of;
    let head = upload(&world, "cannot be asked").await;
    assert_eq!(head.as_of, at);
    let text = world.runs(&["doctor"], 0);
    assert!(text.contains("cannot be asked") && text.contains("take [primary] out"), "{text}");
    // Without a [primary] the source is what the config says: the primary.
    world.stream.reconfigure(&primary_section(&old), "");
    new.sql("INSERT INTO g.plans (price) VALUES (12)").await;
    let before = now(&new).await;
    assert!(upload(&world, "").await.as_of >= before);
}
