//! `upload --resync`: a stream with a hole in its history goes on behind a dump that stands for it.

use std::os::unix::process::ExitStatusExt;

use tablecast::Kind;
use tablecast::stream::{Seq, StreamTx};

use super::kit::{dumps, equals};
use crate::processor::kit::primary_section;
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const SETUP: &str =
    "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.plans (id INT PRIMARY KEY)";

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_purged_what_the_stream_lacks_goes_on_behind_a_dump() {
    let [source, copy] = Server::start_all([&[], &[]]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    source.sql("INSERT INTO g.apps VALUES (1)").await;
    stream.upload().await.expect("upload");
    source
        .sql("INSERT INTO g.apps VALUES (2); ALTER TABLE g.apps ADD COLUMN name VARCHAR(9) DEFAULT 'x'")
        .await;
    source.sql("DROP TABLE g.plans; FLUSH BINARY LOGS; INSERT INTO g.apps VALUES (3, 'y')").await;
    let newest: Vec<mysql_async::Row> = source.rows("SHOW BINARY LOGS").await;
    let newest: String = newest.last().expect("a log").get(0).expect("a name");
    source.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History);
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--resync")), "{error:?}");
    let before = stream.head().await;

    let plan = stream.run(&["upload", "--resync", "--dry-run"], "");
    let says = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        plan.status.success() && says.contains("1 tables") && !says.contains("nothing is lost"),
        "{says}"
    );
    for step in ["dump.locked", "dump.after_manifest_put", "dump.before_append"] {
        let killed = stream.run(&["upload", "--resync"], &format!("{step}=kill"));
        assert_eq!(killed.status.signal(), Some(9), "{step}");
        assert_eq!(stream.head().await, before, "I7, {step}: nothing half done");
    }
    let done = stream.run(&["upload", "--resync"], "");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let head = stream.head().await;
    assert_eq!(source.gtid_executed().await.difference(&head.covered).to_string(), "");
    let dumps = dumps(&stream).await;
    let dump = &dumps[0].dump;
    assert!(dump.resync && dump.full && dump.mandatory);
    assert_eq!((dumps[0].seq, dump.at, head.last_tx), (Seq(2), StreamTx(1), StreamTx(1)));
    equals(&stream, &dumps[0], &source, &copy).await;
    let definition = head.definition(&"g.apps".parse().expect("a name")).expect("known");
    assert!(definition.create_table.contains("`name`"), "what it became in the hole: {definition:?}");
    assert_eq!(head.definition(&"g.plans".parse().expect("a name")), None);

    source.sql("INSERT INTO g.apps VALUES (4, 'z')").await;
    stream.upload().await.expect("it goes on");
    assert_eq!(stream.head().await.last_tx, StreamTx(2));
    assert!(stream.run(&["verify"], "").status.success());
    let again = stream.run(&["upload", "--resync", "--dry-run"], "");
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing is lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_what_was_shipped_is_survived_by_a_resync() {
    let [old, new, copy] = Server::start_all([&[], &[], &[]]);
    old.sql(SETUP).await;
    new.replicate_from(&old, "").await;
    new.catch_up(&old).await;
    let mut stream = Stream::make(&old, &["g.*"], "").await;
    old.sql("INSERT INTO g.apps VALUES (1)").await;
    new.catch_up(&old).await;
    new.sql("STOP REPLICA; RESET REPLICA ALL").await;
    old.sql("INSERT INTO g.apps VALUES (2)").await;
    stream.upload().await.expect("shipped");
    old.stop();
    new.sql("INSERT INTO g.apps VALUES (3)").await;
    stream.read_from(&new);
    assert_eq!(stream.upload().await.expect_err("refused").kind(), Kind::History);
    stream.resync().await.expect("resynced");
    let dumps = dumps(&stream).await;
    assert_eq!((dumps[0].dump.resync, dumps[0].dump.at), (true, StreamTx(2)));
    equals(&stream, &dumps[0], &new, &copy).await;
    for id in 4..6 {
        new.sql(&format!("INSERT INTO g.apps VALUES ({id})")).await;
        stream.upload().await.expect("what was lost is settled");
        assert_eq!(stream.head().await.last_tx, StreamTx(id - 1));
    }
    // Also when a newer dump has taken the place of the one that settled it.
    super::kit::ask(&stream, &[]).await;
    stream.upload().await.expect("a dump");
    let dumps = super::kit::dumps(&stream).await;
    assert!(dumps.iter().all(|dump| !dump.dump.resync), "{dumps:?}");
    std::fs::remove_dir_all(&stream.config.files.cache_dir).expect("a cache");
    new.sql("INSERT INTO g.apps VALUES (7)").await;
    stream.upload().await.expect("it stays settled");
}

/// What a resync has brought is in no segment, and in every region all the same. And what was shipped before it, and its
/// source had, is not settled by it.
#[tokio::test(flavor = "multi_thread")]
async fn i3_i5_a_server_that_lacks_what_a_resync_has_brought_or_kept_is_refused() {
    let [old, early, late, copy] = Server::start_all([&[], &[], &[], &[]]);
    old.sql(SETUP).await;
    for replica in [&early, &late] {
        replica.replicate_from(&old, "").await;
    }
    let mut stream = Stream::make(&old, &["g.*"], "").await;
    early.catch_up(&old).await;
    early.sql("STOP REPLICA; RESET REPLICA ALL").await;
    old.sql("INSERT INTO g.apps VALUES (1)").await;
    stream.upload().await.expect("shipped");
    late.catch_up(&old).await;
    late.sql("STOP REPLICA; RESET REPLICA ALL").await;
    old.sql("INSERT INTO g.apps VALUES (2); FLUSH BINARY LOGS; INSERT INTO g.apps VALUES (3)").await;
    let newest: Vec<mysql_async::Row> = old.rows("SHOW BINARY LOGS").await;
    let newest: String = newest.last().expect("a log").get(0).expect("a name");
    old.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
    stream.resync().await.expect("resynced");
    let lacks = dumps(&stream).await[0].dump.lacks.clone();
    assert_eq!(lacks.expect("it says so").to_string(), "", "its source had all that was shipped");
    let resynced = stream.head().await;
    old.stop();

    for (server, what) in [(&late, "brought"), (&early, "brought and kept")] {
        server.sql("INSERT INTO g.plans VALUES (1)").await;
        stream.read_from(server);
        let error = stream.upload().await.expect_err(what);
        assert_eq!(error.kind(), Kind::History, "{what}: {error:?}");
        assert_eq!(stream.head().await, resynced, "{what}: nothing is done");
    }
    // The state of the server that is the primary now takes the place of what it lacks, everywhere.
    stream.resync().await.expect("resynced");
    let dumps = dumps(&stream).await;
    let lacks = dumps[0].dump.lacks.clone().expect("it says so");
    assert_eq!(lacks, resynced.covered.difference(&early.gtid_executed().await));
    equals(&stream, &dumps[0], &early, &copy).await;
    for id in 4..6 {
        early.sql(&format!("INSERT INTO g.apps VALUES ({id})")).await;
        stream.upload().await.expect("what was lost is settled");
    }
}

/// What it lacks would be taken from the regions, and never be shipped when it comes.
#[tokio::test(flavor = "multi_thread")]
async fn i3_no_resync_is_taken_from_a_replica_that_is_only_behind() {
    let [primary, replica] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    let mut stream = Stream::make(&primary, &["g.*"], "").await;
    replica.catch_up(&primary).await;
    replica.sql("STOP REPLICA").await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    stream.upload().await.expect("shipped");
    let shipped = stream.head().await;
    let lacks = shipped.covered.difference(&replica.gtid_executed().await);
    assert_eq!(lacks.count(), 1);
    let refused = |stream: &Stream, parts: &[&str]| {
        for args in [&["upload", "--resync"][..], &["upload", "--resync", "--dry-run"]] {
            let output = stream.run(args, "");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
            for part in [&lacks.to_string(), "nothing would ship it again"].iter().chain(parts) {
                assert!(said.contains(*part), "{args:?}, {part}: {said}");
            }
        }
    };
    // Nothing of it has come, and whether it comes only the primary can say.
    stream.configure(&replica, "");
    refused(&stream, &["nobody has said", "name its primary in [primary]"]);
    stream.configure(&replica, &primary_section(&primary));
    refused(&stream, &["which is on its way to it", "SHOW REPLICA STATUS"]);
    // It has come, and is not applied. That the primary is gone changes nothing of it.
    stream.configure(&replica, "");
    replica.sql("START REPLICA IO_THREAD").await;
    let received = "SELECT RECEIVED_TRANSACTION_SET FROM performance_schema.replication_connection_status";
    while !lacks.is_subset(&replica.value::<String>(received).await.parse().expect("a set")) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    refused(&stream, &["which is on its way to it", "SHOW REPLICA STATUS"]);
    assert_eq!(stream.head().await, shipped, "nothing is done");

    // One that applies what it gets is waited for.
    replica.sql("STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 10; START REPLICA").await;
    stream.configure(&primary, "");
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    stream.upload().await.expect("shipped");
    let lacks = stream.head().await.covered;
    stream.configure(&replica, "");
    stream.resync().await.expect("resynced");
    let dump = dumps(&stream).await[0].dump.clone();
    assert_eq!(dump.lacks.expect("it says so").to_string(), "");
    assert!(lacks.is_subset(&dump.snapshot));
}

/// They are covered with everything else, and its primary never gets them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_has_made_itself_in_the_hole_no_other_server_must_have() {
    let [primary, replica] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    let mut stream = Stream::make(&primary, &["g.*"], "").await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    replica.catch_up(&primary).await;
    stream.read_from(&replica);
    stream.upload().await.expect("shipped");
    primary.sql("INSERT INTO g.apps VALUES (2)").await;
    replica.catch_up(&primary).await;
    replica.sql("CREATE USER its_own; FLUSH BINARY LOGS").await;
    let newest: Vec<mysql_async::Row> = replica.rows("SHOW BINARY LOGS").await;
    let newest: String = newest.last().expect("a log").get(0).expect("a name");
    replica.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
    assert_eq!(stream.upload().await.expect_err("refused").kind(), Kind::History);
    stream.resync().await.expect("resynced");
    let own = stream.head().await.covered.difference(&primary.gtid_executed().await);
    assert_eq!(own.count(), 1, "{own}");

    stream.read_from(&primary);
    primary.sql("INSERT INTO g.apps VALUES (3)").await;
    stream.upload().await.expect("the primary has all that the dump has brought");
    assert_eq!(stream.head().await.last_tx, StreamTx(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_travel_is_passed_by_a_resync() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.apps"], "").await;
    source
        .sql("INSERT INTO g.apps VALUES (1); SET binlog_format = STATEMENT; INSERT INTO g.apps VALUES (2)")
        .await;
    assert_eq!(stream.upload().await.expect_err("refused").kind(), Kind::Gate);
    stream.resync().await.expect("resynced");
    source.sql("INSERT INTO g.apps VALUES (3)").await;
    stream.upload().await.expect("it goes on");
    let head = stream.head().await;
    assert_eq!((head.last_tx, head.dumps[0].dump.rows), (StreamTx(2), 2));
}

/// What is refused at the source, and what the way on costs, is told before anybody goes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_transaction_is_told_everywhere_and_a_resync_names_the_tables_that_regions_would_lose() {
    let [source, region] = Server::start_all([&[], &[]]);
    source.sql(&format!("{SETUP}; CREATE TABLE g.prices (id INT PRIMARY KEY); CREATE DATABASE other")).await;
    let stream = Stream::make(&source, &["g.apps", "g.plans", "g.prices"], "").await;
    source
        .sql("INSERT INTO g.apps VALUES (1); INSERT INTO g.plans VALUES (1), (2); INSERT INTO g.prices VALUES (1), (2), (3)")
        .await;
    let runs = |args: &[&str], code: i32| {
        let output = stream.run(args, "");
        let said = String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat())
            .into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("eu1.toml");
    let text = format!(
        "role = \"region\"\nstream = \"{}\"\nstore = \"{}\"\n[mysql]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\n\
         tls = {{ mode = \"off\" }}\n[region]\nname = \"eu1\"\ntables = [\"g.*\"]\n[files]\n\
         cache_dir = \"{3}/cache\"\nspool_dir = \"{3}/spool\"\n",
        stream.config.stream,
        stream.config.store,
        region.port,
        folder.path().display()
    );
    granted::write(&file, &text, &["g.*"]);
    let in_region = ["-c", file.to_str().expect("a path")];
    runs(&["tables", "add", "g.later"], 0);
    runs(&["upload"], 0);
    runs(&[&in_region[..], &["apply"]].concat(), 0);
    let said = runs(&["doctor"], 0);
    assert!(said.contains("in the set and not at the source: g.later"), "{said}");

    source
        .sql("INSERT INTO g.apps VALUES (2); RENAME TABLE g.prices TO other.prices, g.plans TO other.plans")
        .await;
    source.sql("INSERT INTO g.apps VALUES (3)").await;
    let said = runs(&["upload", "--dry-run"], 0);
    assert!(said.contains("shows when they are read"), "{said}");
    let said = runs(&["upload"], 15);
    let gtid =
        said.lines().find_map(|line| line.split("transaction ").nth(1)?.split(':').next()).expect(&said);
    for part in ["RENAME TABLE names g.prices", "tablecast upload --resync", "docs/dumps.md#resync"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let head = stream.head().await;
    assert_eq!((head.last_tx, head.refused.is_some()), (StreamTx(4), true), "what came before is shipped");
    runs(&["upload"], 15);
    assert_eq!(stream.head().await, head, "told once");
    // Whoever looks from elsewhere.
    for (args, code) in [(["status"].as_slice(), 0), (&["doctor"], 4), (&["upload", "--dry-run"], 15)] {
        let said = runs(args, code);
        for part in [gtid, "RENAME TABLE names g.prices", "upload --resync"] {
            assert!(said.contains(part), "{args:?}, {part}: {said}");
        }
    }
    let said = runs(&["status"], 0);
    assert!(said.contains("upload ends with 15 (gate)"), "{said}");
    assert!(runs(&["stream", "show"], 0).contains("refused"));

    let dry = ["upload", "--resync", "--dry-run"];
    let said = runs(&dry, 0);
    for part in [
        "warning: g.plans is in the set and not at the source: it will be DROPPED in every region",
        "`tablecast tables remove g.prices` first keeps the copies",
        "without --resync it does not go on",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("g.later is in the set"), "no region has it: {said}");
    runs(&["tables", "remove", "g.plans"], 0);
    let said = runs(&dry, 0);
    assert!(said.contains("g.prices is in the set") && !said.contains("g.plans is in the set"), "{said}");
    let said = runs(&["upload", "--resync"], 0);
    assert!(said.contains("g.prices is in the set") && !said.contains("g.plans is in the set"), "{said}");
    assert_eq!(stream.head().await.refused, None);
    runs(&["doctor"], 0);
    let said = runs(&[&in_region[..], &["apply"]].concat(), 0);
    assert!(said.contains("dropped g.prices, which the source did not have"), "{said}");
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM g.plans").await, 2, "its copy stays");
    let there: Vec<String> = region.rows("SHOW TABLES IN g").await;
    assert_eq!(there, ["apps", "plans"]);
    assert_eq!(region.checksum("g.apps").await, source.checksum("g.apps").await);
}
