//! An index that upload would never write, sealed and in order: what it says of tables and schemas is run nowhere
//! before the gate of the region's own config has let it in (I6).

use tablecast::Kind;
use tablecast::stream::{Head, SchemaDefaults};

use super::kit::Stream;
use crate::support::granted;
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// Puts the index in the place of the stream's, with a new seal.
fn forge(stream: &Stream, change: impl FnOnce(&mut Head)) {
    let path = stream.bucket().join("index.json");
    let mut head = Head::parse(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut head);
    std::fs::write(path, head.to_json().unwrap()).unwrap();
}

/// I6.
#[tokio::test]
async fn a_forged_definition_runs_nothing_in_a_new_region() {
    let stream = Stream::of_set("fi_definition", APPS, &["@.apps"]).await;
    let region = Server::start(&[]);
    region
        .sql("CREATE DATABASE victim; CREATE TABLE victim.t (id INT PRIMARY KEY); CREATE DATABASE fi_definition")
        .await;
    for (text, says) in [
        (
            "CREATE TABLE `apps` (id INT PRIMARY KEY); DROP DATABASE victim; CREATE USER backdoor",
            "not understood",
        ),
        ("DROP DATABASE victim", "no CREATE TABLE"),
        ("GRANT ALL ON *.* TO root", "no CREATE TABLE"),
        ("CREATE TABLE victim.apps (id INT PRIMARY KEY)", "it makes victim.apps"),
        ("CREATE TABLE apps LIKE victim.t", "victim.t, which is not in this region's list"),
        (
            "CREATE TABLE apps (id INT REFERENCES victim.t (id))",
            "victim.t, which is not in this region's list",
        ),
        ("CREATE TABLE apps SELECT * FROM mysql.user", "no CREATE TABLE"),
        ("CREATE TABLE apps (id INT) DATA DIRECTORY = '/tmp'", "DATA DIRECTORY"),
    ] {
        forge(&stream, |head| head.definitions[0].create_table = text.to_owned());
        let before = stream.state(&region).await;
        let config =
            tablecast::config::load(&stream.region_file(&region, granted::USER, &["@.apps"])).unwrap();
        let error = stream.apply_with(&config, super::kit::options()).await.expect_err(text);
        super::kit::assert_error(&error, Kind::Gate, says, "");
        assert!(error.hint_text().is_some());
        assert_eq!(before, stream.state(&region).await, "{text}: nothing may change");
        let users: i64 = region.value("SELECT COUNT(*) FROM mysql.user WHERE user = 'backdoor'").await;
        assert_eq!(users, 0, "{text}");
    }
}

/// I6: a hint must not talk anybody into running what the gate would not.
#[tokio::test]
async fn a_forged_definition_is_in_no_hint() {
    let stream = Stream::of_set("fi_hint", APPS, &["@.apps"]).await;
    let region = Server::start(&[]);
    region.sql(&format!("CREATE DATABASE fi_hint; {}", APPS.replace('@', "fi_hint"))).await;
    forge(&stream, |head| {
        head.definitions[0].create_table = "CREATE TABLE `apps` (id INT); DROP DATABASE mysql".to_owned();
    });
    let config = tablecast::config::load(&stream.region_file(&region, granted::USER, &["@.apps"])).unwrap();
    let error = stream.apply_with(&config, super::kit::options()).await.unwrap_err();
    super::kit::assert_error(&error, Kind::Gate, "not understood", "somebody else has written to the bucket");
}

/// I6.
#[tokio::test]
async fn a_forged_collation_is_refused() {
    let stream = Stream::of_set("fi_collation", APPS, &["@.apps"]).await;
    let region = Server::start(&[]);
    forge(&stream, |head| {
        let collation = "utf8mb4_bin; DROP DATABASE sys".to_owned();
        head.schemas.insert("fi_collation".to_owned(), SchemaDefaults { collation });
    });
    stream.assert_refused(&region, Kind::Gate, "no collation is called so", "index.json").await;
}
