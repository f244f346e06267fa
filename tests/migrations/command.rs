//! `tablecast migrations` at a source alone: what it sees with the least privileges, and what it says where there is
//! nothing to wait for.

use std::process::Output;

use crate::support::granted::USER;
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn what_grants_prints_shows_ghost_tables_and_less_is_told() {
    let source = Server::start(&[]);
    source
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.other (id INT PRIMARY KEY)")
        .await;
    let stream = Stream::make(&source, &["g.apps"], "").await;
    source.sql("CREATE TABLE g._apps_gho (id INT PRIMARY KEY); CREATE USER poor").await;
    let grants = tablecast::source::preflight::grants("poor", &stream.head().await.table_set.tables);
    let (shows, rest): (Vec<_>, Vec<_>) = grants.into_iter().partition(|grant| grant.contains("REFERENCES"));
    for grant in rest {
        source.sql(&grant).await;
    }
    stream.reconfigure("user = \"granted\"", "user = \"poor\"");
    let blind = stream.run(&["migrations"], "");
    assert!(said(&blind).contains("GRANT LOCK TABLES, REFERENCES ON `g`.*"), "{}", said(&blind));
    assert!(said(&blind).contains("no migration in flight"), "{}", said(&blind));
    for grant in shows {
        source.sql(&grant).await;
    }
    let seen = stream.run(&["migrations"], "");
    assert_eq!(seen.status.code(), Some(0));
    let text = said(&seen);
    for says in [
        "g.apps: gh-ost, into g._apps_gho since",
        "NOT safe",
        "are not in the stream yet",
        "no region has ever reported",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert!(!text.contains("GRANT"), "{text}");
}

#[tokio::test]
async fn nothing_is_waited_for_where_nothing_travels_and_a_misspelt_table_is_refused() {
    let source = Server::start(&[]);
    source
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.other (id INT PRIMARY KEY)")
        .await;
    let stream = Stream::make(&source, &["g.apps"], "").await;
    let other = stream.run(&["migrations", "g.other", "--wait-safe"], "");
    assert_eq!(other.status.code(), Some(0), "{}", said(&other));
    assert!(said(&other).contains("does not travel"), "{}", said(&other));
    let odd = stream.run(&["migrations", "g.aps", "--wait-safe"], "");
    assert_eq!(odd.status.code(), Some(1), "{}", said(&odd));
    assert!(said(&odd).contains("there is no such table"), "{}", said(&odd));
    let none = stream.run(&["migrations", "g.apps", "--wait-safe", "--timeout", "1s"], "");
    assert_eq!(none.status.code(), Some(4), "{}", said(&none));
    assert!(said(&none).contains("has no ghost table of g.apps"), "{}", said(&none));
    let ignored = stream.run(&["migrations", "--ignore-region", "eu1"], "");
    assert_eq!(ignored.status.code(), Some(2), "{}", said(&ignored));
    let alone = stream.run(&["migrations", "--wait-safe"], "");
    assert_eq!(alone.status.code(), Some(2), "{}", said(&alone));
}

/// What cannot come would be waited for in vain; it may be a row of the ghost, so it is not left out without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_source_can_never_get_is_named_with_the_way_out() {
    let [primary, mini] = Server::start_all([&[], &[]]);
    primary.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    mini.replicate_from(&primary, "").await;
    mini.catch_up(&primary).await;
    let section = format!(
        "[primary]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}",
        primary.port
    );
    let stream = Stream::make(&mini, &["g.apps"], &section).await;
    primary.sql("CREATE TABLE g._apps_gho (id INT PRIMARY KEY)").await;
    mini.catch_up(&primary).await;
    stream.upload().await.expect("shipped");
    let wait = || {
        let waited = stream.run(&["migrations", "g.apps", "--wait-safe", "--timeout", "1s"], "");
        assert_eq!(waited.status.code(), Some(4), "{}", said(&waited));
        said(&waited)
    };
    assert!(!wait().contains("never gets"));
    // As if the primary had been made from a copy of another server's tables, behind the processor's back.
    let errant = "00000000-0000-0000-0000-00000000000e:1";
    primary.sql(&format!("SET GLOBAL gtid_purged = '+{errant}'")).await;
    let text = wait();
    assert!(text.contains(&format!("the source never gets {errant}")), "{text}");
    mini.sql(&format!("SET gtid_next = '{errant}'; BEGIN; COMMIT; SET gtid_next = 'AUTOMATIC'")).await;
    assert!(!wait().contains("never gets"), "it is there, and only has to be covered");
    // A head is written for something of the set at once, for what does not travel once a minute.
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    mini.catch_up(&primary).await;
    stream.upload().await.expect("covered");
    let text = wait();
    assert!(!text.contains("are not in the stream yet"), "{text}");
}
