//! What `doctor` advises an account that lacks something: run as it is printed, it mends, whatever the account has already.

use std::path::{Path, PathBuf};

use super::kit::{Ran, command};
use crate::apply::kit::Stream;
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// The config file of an account of this name, which is made at `server` and has nothing yet.
async fn by_new_account(config: &Path, server: &Server, user: &str) -> PathBuf {
    server.sql(&format!("SET sql_log_bin = 0; CREATE USER {user}@'%'")).await;
    let other = config.with_extension(format!("{user}.toml"));
    std::fs::write(&other, granted::as_user(&std::fs::read_to_string(config).unwrap(), user)).unwrap();
    other
}

/// What `tablecast grants` prints for a config file, as older versions did: `_` in a schema's name stood for any character.
async fn grant_as_before(config: &Path, server: &Server, stream: &Stream, but: &str) {
    let printed = Ran::of(command(config, &["grants"])).ends(0, &[]).stdout;
    for line in printed.lines().filter(|line| line.starts_with("GRANT ")) {
        let line = line.replace("\\_", "_").replace(but, "").replace(", ,", ",").replace(",  ON", " ON");
        // The whole statement was about that.
        if !line.starts_with("GRANT  ON") {
            server.sql(&format!("SET sql_log_bin = 0; {line}")).await;
        }
    }
    assert!(stream.schema.contains('_'));
}

/// The statement that a line of the doctor's advises, for this account.
fn advice(ran: &Ran, user: &str) -> String {
    let line = ran.stdout.lines().find(|line| line.contains("mend:") && line.contains("GRANT "));
    let line = line.unwrap_or_else(|| panic!("{ran:?}"));
    let statement = &line[line.find("GRANT ").unwrap()..];
    let (grant, _) = statement.split_once(" TO ").unwrap();
    format!("SET sql_log_bin = 0; {grant} TO {user}@'%'")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_doctor_advises_takes_nothing_from_an_account_whose_grants_are_older_at_the_source() {
    let stream = Stream::new("pv_source", APPS).await;
    let user = "pv_old";
    let config = by_new_account(&stream.source_file(), stream.source, user).await;
    grant_as_before(&config, stream.source, &stream, "LOCK TABLES").await;
    // The schema tablecast is another matter, and is given back.
    let own = "GRANT CREATE, SELECT, INSERT, LOCK TABLES ON tablecast.*";
    stream.source.sql(&format!("SET sql_log_bin = 0; {own} TO {user}@'%'")).await;
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    Ran::of(command(&config, &["upload"])).ends(0, &[]);
    let ran = Ran::of(command(&config, &["doctor"]))
        .ends(0, &["warn  dumps", "lacks LOCK TABLES on `pv_source`.*"]);
    stream.source.sql(&advice(&ran, user)).await;
    let ran = Ran::of(command(&config, &["doctor"]))
        .ends(0, &["ok    dumps", "ok    migrations", "ok    table set"]);
    assert!(!ran.stdout.contains("warn  "), "{ran:?}");
    Ran::of(command(&config, &["dump", "take", "--all-tables"])).ends(0, &[]);
    // What hides the rest is seen, too: of several patterns that fit a schema the server takes the most specific only.
    stream
        .source
        .sql(&format!("SET sql_log_bin = 0; REVOKE SELECT, REFERENCES ON `pv\\_source`.* FROM {user}@'%'"))
        .await;
    Ran::of(command(&config, &["doctor"])).ends(0, &["warn  migrations", "does not see every table"]);
    Ran::of(command(&config, &["dump", "take", "--all-tables"]))
        .ends(1, &["may not see every table of pv_source"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_doctor_advises_takes_nothing_from_an_account_whose_grants_are_older_in_a_region() {
    let stream = Stream::new("pv_region", APPS).await;
    let region = Server::start(&[]);
    let user = "pv_old";
    let config = by_new_account(&stream.region_file(&region, USER, &["@.*"]), &region, user).await;
    grant_as_before(&config, &region, &stream, "INDEX").await;
    region.sql("SET sql_log_bin = 0; GRANT INDEX ON tablecast.* TO pv_old@'%'").await;
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    stream.upload().await;
    Ran::of(command(&config, &["apply"])).ends(0, &[]);
    let ran = Ran::of(command(&config, &["doctor"])).ends(4, &["lacks INDEX on `pv_region`.*"]);
    region.sql(&advice(&ran, user)).await;
    Ran::of(command(&config, &["doctor"])).ends(0, &["ok    table privileges"]);
    stream.sql("CREATE INDEX name ON @.apps (name); INSERT INTO @.apps VALUES (2, 'b')").await;
    stream.upload().await;
    Ran::of(command(&config, &["apply"])).ends(0, &[]);
    stream.assert_equal(&region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_a_partial_revoke_hides_is_not_believed_to_be_seen() {
    let source: &'static Server = Box::leak(Box::new(Server::start(&["--partial-revokes=ON"])));
    let stream = Stream::of_source(source, "pv_revoked", APPS, &["@.*"]).await;
    let config = by_new_account(&stream.source_file(), source, "pv_most").await;
    source
        .sql(
            "SET sql_log_bin = 0; GRANT SELECT, LOCK TABLES, REFERENCES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO pv_most@'%'; \
             GRANT XA_RECOVER_ADMIN ON *.* TO pv_most@'%'; REVOKE SELECT, REFERENCES ON pv_revoked.* FROM pv_most@'%'",
        )
        .await;
    Ran::of(command(&config, &["doctor"]))
        .ends(0, &["warn  migrations", "does not see every table of `pv_revoked`"]);
    Ran::of(command(&config, &["dump", "take", "--all-tables"]))
        .ends(1, &["may not see every table of pv_revoked"]);
    source.sql("SET sql_log_bin = 0; GRANT SELECT, REFERENCES ON pv_revoked.* TO pv_most@'%'").await;
    Ran::of(command(&config, &["dump", "take", "--all-tables"])).ends(0, &[]);
}
