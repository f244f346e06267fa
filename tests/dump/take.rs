//! `dump take`, as an operator types it.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use tablecast::stream::{RequestState, StreamTx};

use super::kit::{Following, ask, dumps, equals, wait_for};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT);
    CREATE TABLE g.plans (id INT PRIMARY KEY); INSERT INTO g.apps VALUES (1, 'a'); INSERT INTO g.plans VALUES (1), (2)";

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_takes_a_dump_and_sees_what_it_is() {
    let [source, copy] = Server::start_all([&[], &[]]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    source.sql("INSERT INTO g.apps VALUES (2, 'b')").await;

    let plan = json(&stream.run(&["dump", "take", "--all-tables", "--dry-run", "--json"], ""));
    assert_eq!(plan["plan"]["tables"].as_array().map(Vec::len), Some(2), "{plan}");
    assert!(dumps(&stream).await.is_empty(), "--dry-run changes nothing");

    let taken = json(&stream.run(&["dump", "take", "g.apps", "--json"], ""));
    assert_eq!((&taken["rows"], &taken["at"], &taken["full"]), (&"2".into(), &"1".into(), &false.into()));
    assert!(taken["pause_us"].as_str().is_some_and(|us| us.parse::<u64>().is_ok()), "{taken}");

    source.sql("INSERT INTO g.plans VALUES (3)").await;
    let all = stream.run(&["dump", "take", "--all-tables", "--mandatory"], "");
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(all.status.success(), "{}", String::from_utf8_lossy(&all.stderr));
    assert!(text.contains("the state after transaction 2") && text.contains("at most for writers"), "{text}");
    let dumps = dumps(&stream).await;
    assert_eq!(dumps.len(), 1, "a full dump stands for those before it");
    let dump = &dumps[0].dump;
    assert_eq!((dump.full, dump.mandatory, dump.at), (true, true, StreamTx(2)));
    equals(&stream, &dumps[0], &source, &copy).await;
    let doctor = stream.run(&["doctor"], "");
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("dumps can be taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_upload_is_at_work_that_one_takes_it() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "[upload]\ninterval = \"100ms\"").await;
    let following = Following::start(&stream, "");
    let begin = Instant::now();
    let first = ask(&stream, &["g.plans"]).await;
    wait_for(&stream, &first.id, RequestState::Uploaded).await;
    let taken = json(&stream.run(&["dump", "take", "g.apps", "--json"], ""));
    assert_eq!(taken["seq"], "2");
    println!("{:?}", begin.elapsed());
    let late = stream.run(&["dump", "take", "g.apps", "--timeout", "1ms"], "");
    assert_eq!(late.status.code(), Some(1));
    let says = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(says.contains("not done in time") && says.contains("dump show"), "{says}");
    following.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_outside_the_set_and_a_missing_privilege_are_said_with_what_to_do() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.apps"], "").await;
    let wrong = stream.run(&["dump", "take", "g.aps"], "");
    assert_eq!(wrong.status.code(), Some(2));
    let says = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        says.contains("g.aps is not in the table set") && says.contains("did you mean g.apps?"),
        "{says}"
    );

    let grants = tablecast::source::preflight::grants("poor", &stream.head().await.table_set.tables);
    source.sql("CREATE USER poor").await;
    let (lock, rest): (Vec<_>, Vec<_>) = grants
        .into_iter()
        .partition(|grant| grant.contains("LOCK TABLES") || grant.contains("metadata_locks"));
    for grant in rest {
        source.sql(&grant).await;
    }
    stream.reconfigure("user = \"granted\"", "user = \"poor\"");
    let doctor = stream.run(&["doctor"], "");
    let says = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(says.contains("metadata_locks"), "{says}");
    let refused = stream.run(&["dump", "take", "g.apps"], "");
    assert_eq!(refused.status.code(), Some(1));
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(says.contains("tablecast grants"), "{says}");
    for grant in lock {
        source.sql(&grant).await;
    }
    let begin = Instant::now();
    let taken = stream.run(&["dump", "take", "g.apps"], "");
    assert!(
        taken.status.success(),
        "what `grants` prints is enough: {}",
        String::from_utf8_lossy(&taken.stderr)
    );
    assert!(begin.elapsed() < Duration::from_secs(20));
}
