//! What triggers do not stop is taken as privileges on single tables, remembered, and given back exactly.

use std::process::Output;

use super::kit::*;
use crate::support::mysql::Server;

/// Accounts with every kind of grant on single tables; `#` stands for the schema.
const ACCOUNTS: &str = "CREATE USER dev@'%', one@'10.0.0.%', `o'dd`@'localhost', rolled@'%'; CREATE ROLE keeper; \
    GRANT SELECT, ALTER, DROP ON #.a TO dev@'%' WITH GRANT OPTION; GRANT ALTER, INDEX ON #.b TO dev@'%'; \
    GRANT UPDATE (v), SELECT (v), INSERT (id, v) ON #.a TO one@'10.0.0.%'; GRANT TRIGGER ON #.b TO `o'dd`@'localhost'; \
    GRANT ALL ON #.a TO keeper; GRANT keeper TO rolled@'%'; CREATE DATABASE IF NOT EXISTS other; \
    CREATE TABLE other.t (id INT); GRANT ALTER ON other.t TO dev@'%'; GRANT SELECT, INSERT, UPDATE, DELETE, ALTER ON #.* TO rolled@'%'";

const NAMES: [&str; 5] = ["dev@'%'", "one@'10.0.0.%'", "`o'dd`@'localhost'", "keeper", "rolled@'%'"];

async fn shown(region: &Server) -> Vec<String> {
    let mut all = Vec::new();
    for name in NAMES {
        all.extend(region.rows::<String>(&format!("SHOW GRANTS FOR {name}")).await);
    }
    all
}

fn run(stream: &Stream, region: &Server, arguments: &[&str], failpoint: &str) -> Output {
    let mut command = stream.command_of(region, &[&["guard"], arguments].concat());
    if !failpoint.is_empty() {
        command.env("TABLECAST_FAILPOINTS", failpoint);
    }
    command.output().unwrap()
}

fn ok(output: Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn on_takes_what_triggers_do_not_stop_and_off_gives_back_exactly_that() {
    let (stream, region) = guarded("gg_exact").await;
    region.sql(&ACCOUNTS.replace('#', "gg_exact")).await;
    let before = shown(&region).await;
    let state = (before.clone(), triggers(&region, "gg_exact").await);

    let plan = ok(run(&stream, &region, &["on", "--dry-run"], ""));
    assert!(plan.contains("REVOKE ALTER, DROP ON `gg_exact`.`a` FROM 'dev'@'%';"), "{plan}");
    assert!(plan.contains("REVOKE TRIGGER ON `gg_exact`.`b` FROM 'o''dd'@'localhost';"), "{plan}");
    assert_eq!(
        state,
        (shown(&region).await, triggers(&region, "gg_exact").await),
        "a dry run changes nothing"
    );
    // The config alone makes triggers, and takes nothing from anybody.
    stream.sql("CREATE TABLE @.c (id INT PRIMARY KEY)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(before, shown(&region).await);

    ok(run(&stream, &region, &["on", "--reason", "read here"], ""));
    let mut dev = login(&region, "dev").await;
    for statement in [
        "ALTER TABLE gg_exact.a ADD x INT",
        "TRUNCATE gg_exact.a",
        "DROP TABLE gg_exact.a",
        "CREATE INDEX i ON gg_exact.b (v)",
    ] {
        assert_eq!(outcome(&mut dev, statement).await.0, DENIED, "{statement}");
    }
    assert_eq!(outcome(&mut dev, "SELECT * FROM gg_exact.a").await.0, 0);
    let taken = shown(&region).await.join("\n");
    assert!(taken.contains("ALTER ON `other`.`t`"), "other tables are not touched: {taken}");
    assert!(
        taken.contains("INSERT, UPDATE, DELETE, ALTER ON `gg_exact`.*"),
        "a whole schema is told, not taken: {taken}"
    );
    ok(run(&stream, &region, &["on"], ""));
    // Given by somebody meanwhile: apply keeps the guard as it was turned on.
    region.sql("GRANT ALTER ON gg_exact.a TO dev@'%'").await;
    stream.sql("CREATE TABLE @.d (id INT PRIMARY KEY)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(outcome(&mut dev, "ALTER TABLE gg_exact.a ADD x INT").await.0, DENIED);

    let status = ok(run(&stream, &region, &["status"], ""));
    assert!(status.contains("GRANT ALTER, DROP ON `gg_exact`.`a` TO 'dev'@'%';"), "{status}");
    assert!(status.contains("read here") || status.contains("by `tablecast guard` as"), "{status}");
    ok(run(&stream, &region, &["off"], ""));
    assert_eq!(before, shown(&region).await);
    assert!(triggers(&region, "gg_exact").await.is_empty());
    let rows: u64 = region.value("SELECT COUNT(*) FROM tablecast.guard_taken").await;
    assert_eq!(rows, 0);
}

/// I7: wherever it is killed, the same command again ends as if it had not been.
#[tokio::test]
async fn killed_at_any_step_nothing_is_taken_twice_or_given_to_anybody_else() {
    let (stream, region) = guarded("gg_kills").await;
    region.sql(&ACCOUNTS.replace('#', "gg_kills")).await;
    let before = shown(&region).await;
    ok(run(&stream, &region, &["on", "--mode", "grants"], ""));
    let after = shown(&region).await;
    assert_ne!(before, after);
    ok(run(&stream, &region, &["off"], ""));
    assert_eq!(before, shown(&region).await);
    let (mut on, mut off) = (0, 0);
    for point in [
        "guard.written",
        "guard.about_to_revoke",
        "guard.revoked",
        "guard.remembered",
        "guard.settled",
        "guard.trigger_dropped",
    ] {
        for count in [1, 3] {
            let killed = run(&stream, &region, &["on", "--mode", "grants"], &format!("{point}=kill@{count}"));
            on += u32::from(killed.status.code().is_none());
            if count == 3 {
                // The way back is open from everywhere, too.
                ok(run(&stream, &region, &["off"], ""));
                assert_eq!(before, shown(&region).await, "{point}");
            }
            ok(run(&stream, &region, &["on", "--mode", "grants"], ""));
            assert_eq!(after, shown(&region).await, "{point}");
            let way = if point.contains("revoke") { "guard.given" } else { point };
            let killed = run(&stream, &region, &["off"], &format!("{way}=kill@{count}"));
            off += u32::from(killed.status.code().is_none());
            ok(run(&stream, &region, &["off"], ""));
            assert_eq!(before, shown(&region).await, "{way}");
        }
    }
    assert!(on >= 8 && off >= 6, "killed {on} and {off} times");
}

/// What security has taken meanwhile is not given back by the guard's memory.
#[tokio::test]
async fn who_lost_his_rights_while_the_guard_was_on_does_not_get_them_back() {
    let (stream, region) = guarded("gg_lost").await;
    region
        .sql("CREATE USER fired@'%', again@'%', `ops\\`@'%'; GRANT SELECT, ALTER ON gg_lost.a TO fired@'%', `ops\\`@'%'; GRANT ALTER ON gg_lost.a TO again@'%'")
        .await;
    ok(run(&stream, &region, &["on"], ""));
    region.sql("REVOKE ALL ON gg_lost.a FROM fired@'%'; DROP USER again@'%'").await;
    // Apply looks, and forgets; the next account of that name is another.
    ok(run(&stream, &region, &["on"], ""));
    region.sql("CREATE USER again@'%'").await;
    ok(run(&stream, &region, &["off"], ""));
    for (name, has) in [("fired@'%'", false), ("again@'%'", false), ("`ops\\`@'%'", true)] {
        let grants: Vec<String> = region.rows(&format!("SHOW GRANTS FOR {name}")).await;
        assert_eq!(grants.iter().any(|grant| grant.contains("ALTER")), has, "{grants:?}");
    }
}

/// Mode grants: the server itself refuses, and the stream goes on.
#[tokio::test]
async fn by_grants_writes_are_denied_and_the_stream_goes_on() {
    let (stream, region) = guarded("gg_mode").await;
    region
        .sql("CREATE USER writer@'%'; GRANT SELECT, INSERT, UPDATE, DELETE ON gg_mode.a TO writer@'%'")
        .await;
    ok(run(&stream, &region, &["on", "--mode", "grants"], ""));
    assert!(triggers(&region, "gg_mode").await.is_empty());
    let mut writer = login(&region, "writer").await;
    for statement in [
        "INSERT INTO gg_mode.a VALUES (9, '')",
        "UPDATE gg_mode.a SET v = ''",
        "DELETE FROM gg_mode.a",
        "REPLACE INTO gg_mode.a VALUES (1, '')",
    ] {
        assert_eq!(outcome(&mut writer, statement).await.0, DENIED, "{statement}");
    }
    let status = ok(run(&stream, &region, &["status"], ""));
    assert!(
        status.contains("'app'@'%'")
            && status.contains("REVOKE DELETE, INSERT, UPDATE ON `gg_mode`.* FROM 'app'@'%';"),
        "{status}"
    );
    stream.sql("INSERT INTO @.a VALUES (9, 'nine'); ALTER TABLE @.a ADD c INT").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    // To triggers: rows are refused by these, and the privileges for rows come back.
    ok(run(&stream, &region, &["on", "--mode", "triggers"], ""));
    assert_eq!(outcome(&mut writer, "DELETE FROM gg_mode.a").await.0, REFUSED);
    ok(run(&stream, &region, &["off"], ""));
    assert_eq!(outcome(&mut writer, "DELETE FROM gg_mode.a WHERE id = 9").await.0, 0);
}

/// An account that is dropped takes what was taken from it along; a table that is gone keeps it until it is back.
#[tokio::test]
async fn what_cannot_be_given_back_is_told_and_stops_nothing() {
    let (stream, region) = guarded("gg_gone").await;
    region.sql("CREATE USER x@'%', y@'%'; GRANT ALTER ON gg_gone.a TO x@'%', y@'%'; GRANT ALTER ON gg_gone.b TO y@'%'").await;
    ok(run(&stream, &region, &["on"], ""));
    region.sql("DROP USER x@'%'; DROP TABLE gg_gone.b").await;
    let ran = run(&stream, &region, &["off"], "");
    let text = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(3), "{text}");
    assert!(
        text.contains("GRANT ALTER ON `gg_gone`.`b` TO 'y'@'%': there is no table gg_gone.b now"),
        "{text}"
    );
    let given: Vec<String> = region.rows("SHOW GRANTS FOR y@'%'").await;
    assert!(given.iter().any(|grant| grant.contains("GRANT ALTER ON `gg_gone`.`a`")), "{given:?}");
    region.sql("CREATE TABLE gg_gone.b (id INT)").await;
    ok(run(&stream, &region, &["off"], ""));
    let given: Vec<String> = region.rows("SHOW GRANTS FOR y@'%'").await;
    assert!(given.iter().any(|grant| grant.contains("GRANT ALTER ON `gg_gone`.`b`")), "{given:?}");
}

/// `guard off` is for the one who is called at night: it works beside a following apply, and without the bucket.
#[tokio::test]
async fn off_works_beside_a_following_apply_and_without_the_bucket() {
    let (stream, region) = guarded("gg_night").await;
    let mut command = stream.command_of(&region, &["apply", "--follow"]);
    let mut follower =
        command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
    stream.sql("INSERT INTO @.a VALUES (5, 'five')").await;
    stream.upload().await;
    let mut app = login(&region, "app").await;
    let begin = std::time::Instant::now();
    while region.value::<u64>("SELECT COUNT(*) FROM gg_night.a WHERE id = 5").await == 0 {
        assert!(begin.elapsed().as_secs() < 60, "apply does not follow");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    // It stands still meanwhile: a bucket that is gone would end it.
    let follows = follower.id().to_string();
    crate::support::signal(&follows, rustix::process::Signal::STOP);
    let hidden = stream.bucket().with_extension("hidden");
    std::fs::rename(stream.bucket(), &hidden).unwrap();
    ok(run(&stream, &region, &["off", "--reason", "a row is wrong"], ""));
    assert_eq!(outcome(&mut app, "UPDATE gg_night.b SET v = 'by hand'").await.0, 0);
    std::fs::rename(&hidden, stream.bucket()).unwrap();
    crate::support::signal(&follows, rustix::process::Signal::CONT);
    let status = String::from_utf8_lossy(&stream.command_of(&region, &["status"]).output().unwrap().stdout)
        .into_owned();
    assert!(status.contains("turned off by") && status.contains("a row is wrong"), "{status}");
    stream.sql("CREATE TABLE @.c (id INT PRIMARY KEY)").await;
    stream.upload().await;
    while region.checksum("gg_night.c").await.is_none() {
        assert!(begin.elapsed().as_secs() < 90, "apply does not follow");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    crate::support::signal(&follower.id().to_string(), rustix::process::Signal::TERM);
    assert!(follower.wait().unwrap().code().is_some());
    assert!(triggers(&region, "gg_night").await.is_empty(), "it is not set again");
    ok(run(&stream, &region, &["on"], ""));
    assert_guarded(&stream, &region, &["a", "b"]).await;
}
