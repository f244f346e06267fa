//! What a processor that was made again cannot send, upload reads from the primary.

use std::os::unix::process::ExitStatusExt;

use tablecast::error::Kind;

use super::kit::{FILTERS, SETUP, TABLES, World, Writer, copy_by_dump, purge, work};
use crate::support::mysql::Server;
use crate::upload::kit::OURS;

#[tokio::test(flavor = "multi_thread")]
async fn i3_i7_what_a_rebuilt_processor_cannot_send_comes_from_the_primary_once_killed_anywhere() {
    let [primary, old] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    old.replicate_from(&primary, FILTERS).await;
    old.catch_up(&primary).await;
    let mut world = World::new(&old, &primary).await;
    work(&primary).await;
    old.catch_up(&primary).await;
    world.runs(&["upload"], 0);

    // The processor dies with what nobody has read, while the primary is written to.
    let writer = Writer::begin(&primary);
    work(&primary).await;
    old.kill9();
    primary.sql(&format!("{OURS} ALTER TABLE g.plans ADD COLUMN note VARCHAR(9) DEFAULT 'x'")).await;
    work(&primary).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let new = Server::start(&[]);
    copy_by_dump(&primary, &new, &["g", "tablecast"]);
    new.replicate_from(&primary, FILTERS).await;
    work(&primary).await;
    world.read_from(&old, &new);

    // Without [primary] this is lost history, and the hint names it.
    let mut alone = world.stream.config.clone();
    alone.primary = None;
    let options = crate::upload::kit::once();
    let error = tablecast::source::upload::run(
        &alone,
        world.stream.store.clone(),
        &tablecast::clock::SystemClock,
        &options,
    )
    .await
    .expect_err("refused");
    assert_eq!(error.kind(), Kind::History);
    assert!(error.hint_text().is_some_and(|hint| hint.contains("[primary]")), "{error:?}");

    let before = world.stream.head().await;
    let says = world.runs(&["upload", "--dry-run"], 0);
    assert!(says.contains(&format!("127.0.0.1:{}", primary.port)), "{says}");
    let says = world.runs(&["doctor"], 0);
    assert!(says.contains("bridge"), "{says}");
    assert_eq!(world.stream.head().await, before, "a dry run changes nothing");

    for point in [
        "upload.in_transaction=kill@3",
        "upload.before_segment_put=kill",
        "upload.after_segment_put=kill",
        "upload.before_head_swap=kill",
        "upload.after_head_swap=kill",
        "bridge.after_end=kill",
    ] {
        let killed = world.stream.run(&["upload"], point);
        // A run killed behind a swap has crossed: the next ones have another bridge only if there is more.
        if killed.status.signal() != Some(9) {
            assert!(killed.status.success(), "{point}: {killed:?}");
        }
        world.stream.shipped().await;
    }
    writer.end().await;
    new.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    world.stream_is_whole(&primary).await;
    world.regions_are_equal_to(&primary, &TABLES).await;
    // It goes on without the primary.
    work(&primary).await;
    new.catch_up(&primary).await;
    primary.stop();
    world.runs(&["upload"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_travel_makes_no_bridge_that_is_crossed_twice() {
    let [primary, old, new] = Server::start_all([&[], &[], &[]]);
    primary.sql(SETUP).await;
    old.replicate_from(&primary, FILTERS).await;
    old.catch_up(&primary).await;
    let mut world = World::new(&old, &primary).await;
    primary.sql("INSERT INTO private.t VALUES ()").await;
    copy_by_dump(&primary, &new, &["g", "tablecast"]);
    new.replicate_from(&primary, FILTERS).await;
    world.read_from(&old, &new);
    let says = world.runs(&["--json", "upload"], 0);
    assert!(says.contains("\"bridge\""), "{says}");
    let says = world.runs(&["--json", "upload"], 0);
    assert!(!says.contains("\"bridge\""), "{says}");
    world.stream_is_whole(&primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_primary_has_purged_too_is_lost_and_a_resync_ends_with_a_mandatory_dump() {
    let [primary, old, new] = Server::start_all([&[], &[], &[]]);
    primary.sql(SETUP).await;
    old.replicate_from(&primary, FILTERS).await;
    old.catch_up(&primary).await;
    let mut world = World::new(&old, &primary).await;
    work(&primary).await;
    old.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    work(&primary).await;
    old.kill9();
    purge(&primary).await;
    work(&primary).await;
    copy_by_dump(&primary, &new, &["g", "tablecast"]);
    new.replicate_from(&primary, FILTERS).await;
    world.read_from(&old, &new);
    let before = world.stream.head().await;
    let says = world.runs(&["upload"], 10);
    assert!(says.contains("[primary] cannot send"), "{says}");
    assert_eq!(world.stream.head().await, before);

    world.runs(&["upload", "--resync"], 0);
    let head = world.stream.head().await;
    assert!(head.dumps.last().is_some_and(|known| known.dump.resync && known.dump.mandatory), "{head:?}");
    work(&primary).await;
    new.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    world.regions_are_equal_to(&primary, &TABLES).await;
}
