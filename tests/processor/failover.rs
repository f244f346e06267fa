//! The primary is failed over, or the processor is put back from an old copy of its data folder.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::kit::{FILTERS, SETUP, TABLES, World, Writer, data_dir, work};
use crate::support::mysql::Server;
use crate::upload::kit::OURS;

/// The replica replicates from another server from now on, as the same account.
async fn points_at(replica: &Server, source: &Server) {
    replica
        .sql(&format!(
            "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}; START REPLICA",
            source.port
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_the_stream_goes_on_when_a_replica_becomes_the_primary_of_the_processor() {
    let [primary, replica, mini] = Server::start_all([&[], &[], &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    mini.replicate_from(&primary, FILTERS).await;
    mini.catch_up(&primary).await;
    let mut world = World::new(&mini, &primary).await;
    let writer = Writer::begin(&primary);
    for _ in 0..3 {
        work(&primary).await;
        world.runs(&["upload"], 0);
    }
    writer.end().await;
    replica.catch_up(&primary).await;
    primary.kill9();
    replica.sql("STOP REPLICA; RESET REPLICA ALL").await;
    let writer = Writer::begin(&replica);
    points_at(&mini, &replica).await;
    work(&replica).await;
    mini.catch_up(&replica).await;
    // [primary] still names the dead one: nobody can say whether the new one has what was shipped.
    let says = world.runs(&["upload"], 1);
    assert!(says.contains("name the new primary in [primary]"), "{says}");
    world.primary_is(&primary, &replica);
    world.runs(&["upload"], 0);
    writer.end().await;
    mini.catch_up(&replica).await;
    world.runs(&["upload"], 0);
    world.stream_is_whole(&replica).await;
    assert!(world.stream.head().await.dumps.is_empty(), "no resync");

    // The new primary itself as the source.
    world.read_from(&mini, &replica);
    work(&replica).await;
    world.runs(&["upload"], 0);
    world.stream_is_whole(&replica).await;
    world.regions_are_equal_to(&replica, &TABLES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_primary_that_lacks_what_was_shipped_is_refused_behind_a_processor_too() {
    let [primary, replica, mini] = Server::start_all([&[], &[], &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    mini.replicate_from(&primary, FILTERS).await;
    mini.catch_up(&primary).await;
    let mut world = World::new(&mini, &primary).await;
    work(&primary).await;
    replica.catch_up(&primary).await;
    replica.sql("STOP REPLICA; RESET REPLICA ALL").await;
    primary.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('lost')")).await;
    mini.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    primary.kill9();
    replica.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('new')")).await;
    points_at(&mini, &replica).await;
    world.primary_is(&primary, &replica);
    let before = world.stream.head().await;
    // Its own row of the same id stops the processor; then the filter's one more transaction shows the newcomer.
    replica.sql("INSERT INTO private.t VALUES ()").await;
    for _ in 0..100 {
        let state: Vec<String> =
            mini.rows("SELECT SERVICE_STATE FROM performance_schema.replication_applier_status").await;
        if state.iter().any(|state| state == "OFF") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Over the row by hand, as many would do.
    mini.sql("STOP REPLICA; DELETE FROM g.apps WHERE name = 'lost'; START REPLICA").await;
    mini.catch_up(&replica).await;
    let says = world.runs(&["upload"], 10);
    assert!(says.contains("which the stream has shipped") && says.contains("processor rebuild"), "{says}");
    assert_eq!(world.stream.head().await, before, "nothing of the other history is shipped");
    // The row is gone from the processor by hand, which nothing proves.
    for resync in [&["upload", "--resync", "--dry-run"][..], &["upload", "--resync"]] {
        let says = world.runs(resync, 10);
        assert!(says.contains("which its primary") && says.contains("processor rebuild"), "{says}");
    }
    assert_eq!(world.stream.head().await, before, "nothing is dumped that no primary has");
    // The other way than a rebuild: the row is gone from the processor, and the primary is given the lost number, empty.
    let lacks = mini.gtid_executed().await.difference(&replica.gtid_executed().await).to_string();
    let lost = lacks.split(',').find(|gtid| gtid.contains(":ours:")).expect("the lost one");
    replica.sql(&format!("SET gtid_next = '{lost}'; BEGIN; COMMIT; SET gtid_next = 'AUTOMATIC'")).await;
    world.runs(&["upload", "--resync"], 0);
    work(&replica).await;
    mini.catch_up(&replica).await;
    world.runs(&["upload"], 0);
    world.regions_are_equal_to(&replica, &TABLES).await;
}

/// The stream knows both servers' transactions by then, and the processor has all of them.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_failover_back_to_a_server_that_has_missed_what_was_shipped_meanwhile_is_refused() {
    let [first, second, mini] = Server::start_all([&[], &[], &[]]);
    first.sql(SETUP).await;
    second.replicate_from(&first, "").await;
    mini.replicate_from(&first, FILTERS).await;
    mini.catch_up(&first).await;
    let mut world = World::new(&mini, &first).await;
    work(&first).await;
    mini.catch_up(&first).await;
    world.runs(&["upload"], 0);
    second.catch_up(&first).await;
    second.sql("STOP REPLICA; RESET REPLICA ALL").await;
    points_at(&mini, &second).await;
    world.primary_is(&first, &second);
    for _ in 0..2 {
        work(&second).await;
        mini.catch_up(&second).await;
        world.runs(&["upload"], 0);
    }
    second.kill9();
    points_at(&mini, &first).await;
    // As long as [primary] names the dead one nobody can say: told as soon as anything comes, refused for what would be shipped.
    first.sql("INSERT INTO private.t VALUES ()").await;
    mini.catch_up(&first).await;
    let says = world.runs(&["upload"], 0);
    assert!(says.contains("cannot be asked whether it has what the stream has shipped"), "{says}");
    first.sql(&format!("{OURS} INSERT INTO g.plans (id, price) VALUES (1000, 7)")).await;
    mini.catch_up(&first).await;
    let before = world.stream.head().await;
    let says = world.runs(&["upload"], 1);
    assert!(says.contains("name the new primary in [primary]"), "{says}");
    world.primary_is(&second, &first);
    let says = world.runs(&["upload"], 10);
    assert!(says.contains("which the stream has shipped") && says.contains("processor rebuild"), "{says}");
    assert_eq!(world.stream.head().await, before, "nothing of the other history is shipped");
}

/// With no restart of the run, of the processor, or of the connection between them; [primary] is a name that goes along.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_failover_under_an_upload_that_follows_is_seen_before_anything_of_the_new_primary_is_shipped() {
    let [first, second, mini] = Server::start_all([&[], &[], &[]]);
    first.sql(SETUP).await;
    second.replicate_from(&first, "").await;
    mini.replicate_from(&first, FILTERS).await;
    mini.catch_up(&first).await;
    let mut world = World::new(&mini, &first).await;
    second.catch_up(&first).await;
    world.primary_is(&first, &second);
    let log = tempfile::NamedTempFile::new().expect("a log");
    let mut follow = world
        .stream
        .program(&["upload", "--follow"])
        .stderr(log.reopen().expect("a log"))
        .stdout(Stdio::null())
        .spawn()
        .expect("tablecast");
    work(&first).await;
    second.catch_up(&first).await;
    second.sql("STOP REPLICA; RESET REPLICA ALL").await;
    first.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('lost')")).await;
    mini.catch_up(&first).await;
    let (lost, begin) = (mini.gtid_executed().await, Instant::now());
    while !lost.is_subset(&world.stream.head().await.covered) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", heard(&log));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first.kill9();
    points_at(&mini, &second).await;
    // None of the set, which nobody need ask about; then one of it.
    second.sql("INSERT INTO private.t VALUES ()").await;
    second.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (7)")).await;
    mini.catch_up(&second).await;
    let begin = Instant::now();
    let ended = loop {
        if let Some(ended) = follow.try_wait().expect("wait") {
            break ended;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            follow.kill().expect("kill");
            panic!("it goes on: {}", heard(&log));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(ended.code(), Some(10), "{}", heard(&log));
    assert!(heard(&log).contains("which the stream has shipped"), "{}", heard(&log));
    let shipped = world.stream.shipped().await;
    let new: String = second.value("SELECT @@server_uuid").await;
    assert!(
        shipped.iter().all(|gtid| !gtid.to_string().starts_with(&new)),
        "nothing of the other history is shipped"
    );
    // The run that is started again finds out as well.
    world.runs(&["upload"], 10);
}

/// The new primary lacks nothing that was shipped, but what would be shipped with its own first transactions.
#[tokio::test(flavor = "multi_thread")]
async fn i3_what_a_failover_has_lost_before_it_was_shipped_never_is() {
    let [first, second, mini] = Server::start_all([&[], &[], &[]]);
    first.sql(SETUP).await;
    second.replicate_from(&first, "").await;
    mini.replicate_from(&first, FILTERS).await;
    mini.catch_up(&first).await;
    let mut world = World::new(&mini, &first).await;
    work(&first).await;
    mini.catch_up(&first).await;
    world.runs(&["upload"], 0);
    second.catch_up(&first).await;
    // Promoted in haste: the channel is left, and may not be taken for one that brings what is missing.
    second.sql("STOP REPLICA").await;
    first.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('lost')")).await;
    mini.catch_up(&first).await;
    first.kill9();
    points_at(&mini, &second).await;
    world.primary_is(&first, &second);
    second.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (7)")).await;
    mini.catch_up(&second).await;
    let before = world.stream.head().await;
    let says = world.runs(&["upload"], 10);
    assert!(says.contains("which its primary") && says.contains("processor rebuild"), "{says}");
    assert_eq!(
        world.stream.head().await.last_seq,
        before.last_seq,
        "neither the lost one is shipped nor the new one"
    );
}

/// The old primary, which was the source itself, comes back as a replica, with a last transaction that nobody else has.
#[tokio::test(flavor = "multi_thread")]
async fn i3_what_only_an_old_primary_has_is_not_shipped_when_it_comes_back_as_a_replica() {
    let [first, second] = Server::start_all([&[], &[]]);
    first.sql(SETUP).await;
    second.replicate_from(&first, "").await;
    let mut world = World::new(&first, &first).await;
    work(&first).await;
    world.runs(&["upload"], 0);
    second.catch_up(&first).await;
    second.sql("STOP REPLICA; RESET REPLICA ALL").await;
    first.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('lost')")).await;
    first.kill9();
    second.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (7)")).await;
    first.restart(&[]);
    first.replicate_from(&second, "").await;
    world.primary_is(&first, &second);
    let before = world.stream.head().await;
    let says = world.runs(&["upload"], 10);
    assert!(says.contains("which its primary") && says.contains("processor rebuild"), "{says}");
    assert_eq!(world.stream.head().await.last_seq, before.last_seq);
    // What a server has made itself may as well be an account: a dump takes it along, and says so.
    let says = world.runs(&["upload", "--resync", "--dry-run"], 0);
    assert!(says.contains("has made") && says.contains("was the primary once"), "{says}");
}

/// The replica that is read is promoted, and the config does not know yet.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_source_that_was_promoted_is_not_taken_for_one_that_has_what_its_primary_lost() {
    let [first, second] = Server::start_all([&[], &[]]);
    first.sql(SETUP).await;
    second.replicate_from(&first, "").await;
    let mut world = World::new(&second, &first).await;
    work(&first).await;
    second.catch_up(&first).await;
    world.runs(&["upload"], 0);
    second.sql("STOP REPLICA").await;
    work(&second).await;
    let before = world.stream.head().await;
    let says = world.runs(&["upload"], 1);
    assert!(says.contains("is it the primary now?") && !says.contains("rebuild"), "{says}");
    assert_eq!(world.stream.head().await.last_seq, before.last_seq);
    second.sql("RESET REPLICA ALL").await;
    world.primary_is(&first, &second);
    world.runs(&["upload"], 0);
    world.stream_is_whole(&second).await;
}

/// What a primary has sent and lost in a crash is made again by it, under the same number, as something else.
#[tokio::test(flavor = "multi_thread")]
async fn i3_what_a_primary_has_lost_of_its_own_is_neither_shipped_nor_dumped() {
    let [first, mini] = Server::start_all([&[], &[]]);
    first.sql(SETUP).await;
    mini.replicate_from(&first, FILTERS).await;
    mini.catch_up(&first).await;
    let world = World::new(&mini, &first).await;
    work(&first).await;
    mini.catch_up(&first).await;
    world.runs(&["upload"], 0);
    let kept = first.gtid_executed().await;
    first.sql("INSERT INTO g.apps (name) VALUES ('lost')").await;
    mini.catch_up(&first).await;
    mini.sql("STOP REPLICA").await;
    // As after a crash with sync_binlog = 0.
    first
        .sql(&format!(
            "RESET BINARY LOGS AND GTIDS; SET GLOBAL gtid_purged = '{kept}'; SET sql_log_bin = 0; \
             DELETE FROM g.apps WHERE name = 'lost'"
        ))
        .await;
    let before = world.stream.head().await;
    let says = world.runs(&["upload", "--resync"], 10);
    assert!(says.contains("which its primary") && says.contains("processor rebuild"), "{says}");
    assert_eq!(world.stream.head().await.last_seq, before.last_seq, "nothing is dumped that no primary has");
}

/// A server in between writes a heartbeat of its own, which its primary never gets.
#[tokio::test(flavor = "multi_thread")]
async fn i3_i7_what_is_vouched_to_be_of_no_table_of_the_set_is_not_missed_afterwards() {
    let [first, between, last] = Server::start_all([&[], &[], &[]]);
    first.sql(SETUP).await;
    between.replicate_from(&first, "").await;
    last.replicate_from(&between, "").await;
    last.catch_up(&first).await;
    // What was there before the stream, the stream stands on.
    for server in [&between, &last] {
        server
            .sql("SET sql_log_bin = 0; CREATE TABLE private.beat (id INT AUTO_INCREMENT PRIMARY KEY)")
            .await;
    }
    let world = World::new(&last, &first).await;
    let beats = async || {
        work(&first).await;
        between.catch_up(&first).await;
        between.sql("INSERT INTO private.beat VALUES (NULL)").await;
        last.catch_up(&between).await;
    };
    work(&first).await;
    last.catch_up(&first).await;
    world.runs(&["upload"], 0);
    beats().await;
    let says = world.runs(&["upload", "--resync"], 10);
    assert!(says.contains("--trust-copy"), "{says}");
    for _ in 0..2 {
        beats().await;
        let says = world.runs(&["upload", "--resync", "--trust-copy"], 0);
        assert!(says.contains("taken on your word"), "{says}");
        beats().await;
        world.runs(&["upload"], 0);
    }
    // The question that a server that was not heard of before brings up.
    last.sql("INSERT INTO private.beat VALUES (NULL)").await;
    world.runs(&["upload"], 0);
    world.regions_are_equal_to(&first, &TABLES).await;
}

/// Whoever is asked may get it yet: nothing is shipped, nothing is lost, and the next run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn i3_i7_a_primary_that_is_a_replica_itself_and_behind_is_waited_for() {
    let [first, second, mini] = Server::start_all([&[], &[], &[]]);
    first.sql(SETUP).await;
    second.replicate_from(&first, "").await;
    mini.replicate_from(&second, FILTERS).await;
    second.catch_up(&first).await;
    mini.catch_up(&first).await;
    let world = World::new(&mini, &second).await;
    second.sql(&format!("{OURS} INSERT INTO g.plans (id, price) VALUES (1000, 7)")).await;
    mini.catch_up(&second).await;
    world.runs(&["upload"], 0);
    // Behind: what the first makes reaches the processor by another way.
    second.sql("STOP REPLICA SQL_THREAD").await;
    points_at(&mini, &first).await;
    work(&first).await;
    mini.catch_up(&first).await;
    let before = world.stream.head().await;
    let says = world.runs(&["upload"], 1);
    assert!(says.contains("does not have yet") && says.contains("name that one in [primary]"), "{says}");
    // Stopped, with what it has received and not applied; about to be promoted, for one.
    second.sql("STOP REPLICA IO_THREAD").await;
    for asks in [&["upload"][..], &["upload", "--resync"]] {
        let says = world.runs(asks, 1);
        assert!(says.contains("does not have yet"), "{says}");
    }
    // Applied by now, and written to by nobody.
    second.sql("SET GLOBAL read_only = ON; START REPLICA").await;
    second.catch_up(&first).await;
    second.sql("STOP REPLICA").await;
    first.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (8)")).await;
    mini.catch_up(&first).await;
    world.runs(&["upload"], 1);
    assert_eq!(world.stream.head().await.last_seq, before.last_seq);
    second.sql("START REPLICA").await;
    second.catch_up(&first).await;
    world.runs(&["upload"], 0);
    world.stream_is_whole(&second).await;
}

fn heard(log: &tempfile::NamedTempFile) -> String {
    std::fs::read_to_string(log.path()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_processor_put_back_from_an_old_copy_of_its_data_folder_doubles_and_loses_nothing() {
    // Filters that outlive a restart.
    let filters =
        ["g.apps", "g.plans", "tablecast.table_set"].map(|table| format!("--replicate-do-table={table}"));
    let filters = filters.each_ref().map(String::as_str);
    let [primary, mini] = Server::start_all([&[], &filters]);
    primary.sql(SETUP).await;
    mini.replicate_from(&primary, "").await;
    mini.catch_up(&primary).await;
    let world = World::new(&mini, &primary).await;
    work(&primary).await;
    mini.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    work(&primary).await;
    mini.catch_up(&primary).await;
    mini.stop();
    let (data, copy) = (data_dir(&mini), data_dir(&mini).with_extension("copy"));
    let done = std::process::Command::new("cp").args(["-a"]).arg(&data).arg(&copy).status().expect("cp");
    assert!(done.success());
    mini.restart(&[]);
    let writer = Writer::begin(&primary);
    for _ in 0..3 {
        work(&primary).await;
        mini.catch_up(&primary).await;
        world.runs(&["upload"], 0);
    }
    mini.kill9();
    std::fs::remove_dir_all(&data).expect("the data is lost");
    std::fs::rename(&copy, &data).expect("the old copy");
    mini.restart(&[]);
    // At once, when it is still behind the stream.
    world.runs(&["upload"], 0);
    writer.end().await;
    work(&primary).await;
    mini.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    world.stream_is_whole(&primary).await;
    assert!(world.stream.head().await.dumps.is_empty(), "no resync");
    world.regions_are_equal_to(&primary, &TABLES).await;
}
