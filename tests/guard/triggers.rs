//! By triggers, as the config has it by default.

use mysql_async::prelude::Queryable;
use tablecast::config;

use super::kit::*;
use crate::apply::kit::options;
use crate::restore::kit::{FULL, SOME, assert_clean, dump};
use crate::support::granted;
use crate::support::mysql::Server;

/// Whatever an application tries is refused with a message that names the table and where it is written; the stream,
/// which brings the same rows, goes on.
#[tokio::test]
async fn every_way_of_writing_rows_is_refused_and_the_stream_goes_on() {
    let (stream, region) = guarded("gd_writes").await;
    let dir = tempfile::tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("rows");
    std::fs::write(&file, "7\tseven\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let load = format!("LOAD DATA INFILE '{}' INTO TABLE @.a", file.display());
    let replace = load.replace("INTO TABLE", "REPLACE INTO TABLE");
    let ignore = load.replace("INTO TABLE", "IGNORE INTO TABLE");
    let statements = [
        "INSERT INTO @.a VALUES (7, 'seven')",
        "INSERT IGNORE INTO @.a VALUES (7, 'seven')",
        "INSERT IGNORE INTO @.a VALUES (1, 'one')",
        "INSERT INTO @.a VALUES (1, 'one') ON DUPLICATE KEY UPDATE v = 'one'",
        "INSERT INTO @.a SELECT id + 10, v FROM @.b",
        "REPLACE INTO @.a VALUES (1, 'one')",
        "UPDATE @.a SET v = 'one' WHERE id = 1",
        "UPDATE IGNORE @.a SET v = 'one' WHERE id = 1",
        "UPDATE @.b JOIN @.a USING (id) SET a.v = 'one'",
        "DELETE FROM @.a WHERE id = 1",
        "DELETE IGNORE FROM @.a",
        "DELETE @.a FROM @.a JOIN @.b USING (id)",
        &load,
        &replace,
        &ignore,
    ];
    let mut app = login(&region, "app").await;
    let mut root = login(&region, "root").await;
    for statement in statements {
        let statement = statement.replace('@', "gd_writes");
        let expected = (REFUSED, message("gd_writes", "a"));
        assert_eq!(outcome(&mut app, &statement).await, expected, "{statement}");
        assert_eq!(outcome(&mut root, &statement).await, expected, "{statement}, as root");
    }
    stream.sql("INSERT INTO @.a VALUES (7, 'seven'); UPDATE @.a SET v = 'one' WHERE id = 1; DELETE FROM @.a WHERE id = 2; REPLACE INTO @.b VALUES (1, 'r')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_guarded(&stream, &region, &["a", "b"]).await;
}

/// I6: the guard is back after whatever the stream does to a table, and a look that finds nothing to do does nothing.
#[tokio::test]
async fn the_guard_stays_through_ddl_and_nothing_is_made_twice() {
    let (stream, region) = guarded("gd_ddl").await;
    let before = triggers(&region, "gd_ddl").await;
    assert_eq!(before.len(), 6);
    stream
        .sql("ALTER TABLE @.a ADD c INT, ALGORITHM=COPY; TRUNCATE TABLE @.b; INSERT INTO @.b VALUES (5, 'e')")
        .await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(triggers(&region, "gd_ddl").await, before, "nothing was made anew");
    stream
        .sql(
            "RENAME TABLE @.a TO @.x, @.b TO @.a, @.x TO @.b; DROP TABLE @.a; CREATE TABLE @.a (id INT PRIMARY KEY, w INT); \
             INSERT INTO @.a VALUES (1, 1); CREATE TABLE @.c LIKE @.b; ALTER TABLE @.c RENAME TO @.d; INSERT INTO @.d (id) VALUES (1)",
        )
        .await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_guarded(&stream, &region, &["a", "b", "d"]).await;
    let mut app = login(&region, "app").await;
    for table in ["a", "b", "d"] {
        let (_, said) = outcome(&mut app, &format!("DELETE FROM gd_ddl.{table}")).await;
        assert_eq!(said, message("gd_ddl", table), "it names the table as it is called now");
    }
    assert_eq!(triggers(&region, "gd_ddl").await.len(), 9);
}

/// A table with triggers cannot leave its schema (ER_TRG_IN_WRONG_SCHEMA): the guard steps aside for the stream.
#[tokio::test]
async fn a_rename_into_another_schema_is_not_stopped_by_the_guard() {
    let tables = format!("CREATE DATABASE gd_moves_two; {TABLES}");
    let stream = Stream::of_set("gd_moves", &tables, &["@.*", "@_two.*"]).await.guarded();
    let region = Server::start(&[]);
    let file = stream.region_file(&region, granted::USER, &["@.*", "@_two.*"]);
    let config = config::load(&file).unwrap();
    stream.upload().await;
    stream.apply_with(&config, options()).await.unwrap();
    for statements in [
        "INSERT INTO @.a VALUES (1, 'x'); RENAME TABLE @.a TO @_two.a; INSERT INTO @_two.a VALUES (2, 'y')",
        "ALTER TABLE @_two.a RENAME TO @.a, ADD c INT; RENAME TABLE @.a TO @_two.c, @.b TO @.a, @_two.c TO @.b; INSERT INTO @.b VALUES (3, 'z', 1)",
    ] {
        stream.sql(statements).await;
        stream.upload().await;
        stream.apply_with(&config, options()).await.unwrap();
        stream.assert_equal(&region).await;
    }
    let left: Vec<(String, String)> = region
        .rows("SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_NAME LIKE 'tablecast%' GROUP BY 1, 2 HAVING COUNT(*) = 3 ORDER BY 1, 2")
        .await;
    let expected = [("gd_moves", "a"), ("gd_moves", "b")];
    assert_eq!(left, expected.map(|(schema, table)| (schema.to_owned(), table.to_owned())));
}

/// MESSAGE_TEXT holds 128 characters, a name 64, and `information_schema` loses quotes inside of literals.
#[tokio::test]
async fn odd_and_long_names_are_guarded_once_and_for_all() {
    let long = "ü".repeat(60);
    let odd = [format!("it's{long}"), "back\\slash \"and\" 'quotes'".to_owned(), "t``ick%s".to_owned()];
    let tables: Vec<String> =
        odd.iter().map(|name| format!("CREATE TABLE @.`{name}` (id INT PRIMARY KEY)")).collect();
    let stream = Stream::new("gd_names", &tables.join("; ")).await.guarded();
    let region = Server::start(&[]);
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let before = triggers(&region, "gd_names").await;
    assert_eq!(before.len(), 9, "{before:?}");
    region.sql("CREATE USER app@'%'; GRANT INSERT ON gd_names.* TO app@'%'").await;
    let mut app = login(&region, "app").await;
    for name in &odd {
        let (code, said) = outcome(&mut app, &format!("INSERT INTO gd_names.`{name}` VALUES (1)")).await;
        assert_eq!(code, REFUSED, "{name}: {said}");
        assert!(said.contains(&name.replace("``", "`")) || said.contains(name.as_str()), "{name}: {said}");
    }
    stream.sql("CREATE TABLE @.plain (id INT PRIMARY KEY); DROP TABLE @.plain").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(triggers(&region, "gd_names").await, before, "none was made again");
}

/// I8: a table that is restored, or comes with a bootstrap, is guarded in the moment in which it can be seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_table_is_guarded_from_its_first_moment() {
    let (stream, region) = guarded("gd_restore").await;
    let names = triggers(&region, "gd_restore").await;
    dump(&stream, &["a", "b"], FULL).await;
    let intruder = Intruder::start(&region, "gd_restore.a".into()).await;
    for _ in 0..3 {
        let output = stream.command_of(&region, &["restore", "gd_restore.a"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    intruder.assert_never_wrote().await;
    assert_guarded(&stream, &region, &["a", "b"]).await;
    assert_eq!(triggers(&region, "gd_restore").await.len(), names.len());
    stream.assert_equal(&region).await;
    assert_clean(&region).await;

    let new = Server::start(&[]);
    new.sql("CREATE USER app@'%'; GRANT SELECT, INSERT, UPDATE, DELETE ON gd_restore.* TO app@'%'").await;
    let intruder = Intruder::start(&new, "gd_restore.a".into()).await;
    let output = stream.command_of(&new, &["bootstrap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    intruder.assert_never_wrote().await;
    assert_guarded(&stream, &new, &["a", "b"]).await;
    stream.assert_equal(&new).await;
}

/// A table in quarantine is mended by its restore beside the guard; what the application tries meanwhile is refused.
#[tokio::test]
async fn a_broken_table_heals_with_the_guard_on() {
    let (stream, region) = guarded("gd_heals").await;
    let ran = stream.command_of(&region, &["guard", "off", "--reason", "to break it"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    region.sql("DELETE FROM gd_heals.a WHERE id = 1").await;
    let ran = stream.command_of(&region, &["guard", "on"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    stream.sql("UPDATE @.a SET v = 'gone' WHERE id = 1").await;
    stream.upload().await;
    assert_eq!(stream.command(&region).output().unwrap().status.code(), Some(3));
    dump(&stream, &["a"], SOME).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_guarded(&stream, &region, &["a", "b"]).await;
}

/// Where the guard cannot be set, the stream arrives all the same, and every command says what mends it.
#[tokio::test]
async fn an_account_that_may_make_no_triggers_applies_and_is_told_what_it_lacks() {
    let stream = Stream::new("gd_least", TABLES).await.guarded();
    stream.sql("INSERT INTO @.a VALUES (1, 'x')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    region.sql("CREATE USER tc@'%'").await;
    let config = stream.region_file(&region, "tc", &["@.*"]);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
        let command = command.arg("--config").arg(&config).args(arguments).env("SUDO_USER", "anna");
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code().unwrap(), text.join("\n"))
    };
    let (code, grants) = run(&["grants"]);
    assert_eq!(code, 0, "{grants}");
    assert!(grants.contains("-- SET PERSIST log_bin_trust_function_creators = 1;"), "{grants}");
    region.client(&[], grants.as_bytes()).unwrap();
    const MENDS: &str = "SET PERSIST log_bin_trust_function_creators=1";
    let (code, doctor) = run(&["doctor"]);
    assert!(code == 0 && doctor.contains("warn  write guard") && doctor.contains(MENDS), "{doctor}");
    let (code, told) = run(&["apply"]);
    assert!(code == 0 && told.contains("ERROR 1419") && told.contains(MENDS), "{told}");
    stream.assert_equal(&region).await;
    stream.sql("INSERT INTO @.a VALUES (2, 'y')").await;
    stream.upload().await;
    let (code, told) = run(&["apply"]);
    assert!(code == 0 && !told.contains("1419"), "told once, not by every run from cron: {told}");
    let (code, status) = run(&["status"]);
    assert!(code == 0 && status.contains(MENDS), "{status}");
    let (code, status) = run(&["guard", "status"]);
    assert!(code == 4 && status.contains("not guarded: gd_least.a, gd_least.b"), "{status}");
    let (code, on) = run(&["guard", "on"]);
    assert!(code == 12 && on.contains(MENDS), "{code} {on}");

    // A run that has nothing to apply sets it, too.
    region.sql("SET GLOBAL log_bin_trust_function_creators = 1").await;
    assert_eq!(run(&["apply"]).0, 0);
    region.sql("CREATE USER app@'%'; GRANT INSERT, UPDATE, DELETE ON gd_least.* TO app@'%'").await;
    assert_guarded(&stream, &region, &["a", "b"]).await;
    let (code, status) = run(&["status"]);
    assert!(code == 0 && !status.contains(MENDS), "{status}");
    let (code, doctor) = run(&["doctor"]);
    assert!(code == 0 && doctor.contains("ok    write guard"), "{doctor}");
    let trigger = triggers(&region, "gd_least").await.remove(0);
    region.sql(&format!("DROP TRIGGER gd_least.`{}`", trigger.1)).await;
    let (code, status) = run(&["status"]);
    assert!(
        code == 0
            && status.contains("local writes to gd_least.")
            && status.contains("the next `tablecast apply`"),
        "{status}"
    );
    assert_eq!(run(&["apply"]).0, 0);
    assert_guarded(&stream, &region, &["a", "b"]).await;
    // Whoever it belongs to, the guard can be taken away without the setting.
    region.sql("SET GLOBAL log_bin_trust_function_creators = 0").await;
    let (code, off) = run(&["guard", "off"]);
    assert_eq!(code, 0, "{off}");
    assert!(triggers(&region, "gd_least").await.is_empty());
    let (_, status) = run(&["status"]);
    assert!(status.contains("turned off by anna") && status.contains(", as tc@%"), "{status}");
    // Administrators stand apart, with no statement that locks them out.
    let (_, status) = run(&["guard", "status"]);
    assert!(status.contains("Administrators of this server") && status.contains("'root'@'"), "{status}");
    assert!(!status.contains("REVOKE CREATE USER") && status.contains("FROM 'app'@'%';"), "{status}");
    region.sql("SET GLOBAL super_read_only = 1").await;
    let (code, off) = run(&["guard", "off"]);
    assert!(
        code == 12 && off.contains("super_read_only is ON") && !off.contains("create the schema"),
        "{off}"
    );
}

/// A reader that keeps its transaction open keeps a trigger from being made, and nothing else.
#[tokio::test]
async fn a_table_in_use_is_guarded_later_and_apply_does_not_wait() {
    let stream = Stream::new("gd_busy", TABLES).await;
    stream.sql("INSERT INTO @.a VALUES (1, 'x')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    let stream = stream.guarded();
    let mut reader = region.connect().await;
    reader.query_drop("BEGIN").await.unwrap();
    reader.query_drop("SELECT * FROM gd_busy.a").await.unwrap();
    stream.sql("INSERT INTO @.a VALUES (2, 'y')").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!(report.transactions, 1);
    assert!(report.warnings.iter().any(|text| text.contains("gd_busy.a in use")), "{:?}", report.warnings);
    assert_eq!(triggers(&region, "gd_busy").await.len(), 3, "the other table does not wait for it");
    reader.query_drop("COMMIT").await.unwrap();
    stream.sql("INSERT INTO @.a VALUES (3, 'z')").await;
    stream.upload().await;
    assert!(stream.apply(&region).await.unwrap().warnings.is_empty());
    assert_eq!(triggers(&region, "gd_busy").await.len(), 6);
    stream.assert_equal(&region).await;
}

/// I7: killed after any of its statements, the next run has the guard complete.
#[tokio::test]
async fn a_run_that_is_killed_while_it_sets_the_guard_is_carried_on() {
    let stream = Stream::new("gd_killed", TABLES).await;
    stream.sql("INSERT INTO @.a VALUES (1, 'x')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    let stream = stream.guarded();
    for (at, point) in
        ["guard.trigger_made", "guard.trigger_made@2", "guard.trigger_made@3"].iter().enumerate()
    {
        stream.sql(&format!("INSERT INTO @.a VALUES ({}, 'x')", at + 10)).await;
        stream.upload().await;
        let point = point.replace('@', "=kill@");
        let point = if point.contains('=') { point } else { format!("{point}=kill") };
        let killed = stream.run(&region, &point);
        assert!(killed.status.code().is_none(), "{point}: {killed:?}");
    }
    let made = triggers(&region, "gd_killed").await.len();
    assert_eq!(made, 6, "one, then two, then three");
    for point in ["guard.written=kill", "guard.trigger_dropped=kill@2", "guard.trigger_dropped=kill@3"] {
        let mut command = stream.command_of(&region, &["guard", "off"]);
        let killed = command.env("TABLECAST_FAILPOINTS", point).output().unwrap();
        assert!(killed.status.code().is_none(), "{point}: {killed:?}");
    }
    let ran = stream.command_of(&region, &["guard", "off"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0));
    assert!(triggers(&region, "gd_killed").await.is_empty());
    // It stays off, whatever the config says, until somebody turns it on.
    stream.sql("CREATE TABLE @.c (id INT PRIMARY KEY)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert!(triggers(&region, "gd_killed").await.is_empty());
    stream.assert_equal(&region).await;
}
