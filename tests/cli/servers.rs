//! The commands that look at a stream, from end to end: a real source, a real region, a store in a folder.

use rustix::process::Signal;
use serde_json::Value;

use super::{Desk, Ran};
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;
use crate::support::signal;

/// A primary and a region with one stream between them.
struct World {
    desk: Desk,
    source: Server,
    region: Server,
}

impl World {
    async fn new() -> World {
        let [source, region] = Server::start_all([&[], &[]]);
        let desk = Desk::new();
        let server = |server: &Server| {
            format!("[mysql]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\n", server.port)
        };
        let at_source = format!("{}{}", desk.head("source"), server(&source));
        let tables = "[region]\nname = \"eu1\"\ntables = [\"g.apps\"]\n";
        let in_region = format!("{}{}{tables}", desk.head("region"), server(&region));
        source.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(20))").await;
        granted::write(&desk.path("source.toml"), &at_source, &["g.apps"]);
        granted::write(&desk.path("eu1.toml"), &in_region, &["g.apps"]);
        let world = World { desk, source, region };
        world.at_source(&["stream", "init", "--table", "g.apps"]).ok();
        world
    }

    fn at_source(&self, args: &[&str]) -> Ran {
        self.desk.run(&[&["-c", "source.toml"], args].concat())
    }

    fn in_region(&self, args: &[&str]) -> Ran {
        self.desk.run(&[&["-c", "eu1.toml"], args].concat())
    }

    fn json(&self, config: &str, args: &[&str]) -> (i32, Value) {
        self.desk.json(&[&["-c", config], args].concat())
    }

    fn segments(&self) -> Vec<std::path::PathBuf> {
        let folder = std::fs::read_dir(self.desk.path("store/segments")).expect("segments");
        let mut files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_followed_from_init_to_verify() {
    let world = World::new().await;

    world.at_source(&["doctor"]).ok().says(&["ok    store conditions", "checks passed"]);
    world
        .source
        .sql("INSERT INTO g.apps VALUES (1, 'one'), (2, 'two'); UPDATE g.apps SET name = 'TWO' WHERE id = 2")
        .await;
    let (code, status) = world.json("source.toml", &["status"]);
    assert_eq!((code, &status["source"]["waiting"], &status["last_tx"]), (0, &"2".into(), &"0".into()));
    world.at_source(&["upload", "--dry-run"]).ok();
    assert!(!world.desk.path("store/segments").exists());
    world
        .at_source(&["upload"])
        .ok()
        .says(&["apps: shipped 2 transactions in 1 segment", "entry 1, transaction 2"]);
    world.at_source(&["upload"]).ok().says(&["apps: nothing to ship"]);

    // Nothing has been applied: unknown, and for the monitoring that is a finding.
    let (code, status) = world.json("eu1.toml", &["status", "--fail-if-lag", "1h"]);
    assert_eq!((code, &status["kind"], &status["lag_seconds"]), (4, &"finding".into(), &Value::Null));
    assert_eq!(status["behind_transactions"], "2");
    world.in_region(&["status"]).ok().says(&["nothing yet", "2 transactions in 1 entry"]);

    world.in_region(&["doctor"]).ok().says(&["ok    definitions", "all"]);
    let executed = world.source.gtid_executed().await.to_string();
    let late = world.in_region(&["wait", "--source-gtid", &executed, "--timeout", "300ms"]);
    assert_eq!(late.code, 4);
    late.says(&["this region lacks"]);
    world
        .in_region(&["apply"])
        .ok()
        .says(&["apps: applied 2 transactions from 1 entry; at entry 1, transaction 2"]);
    world.in_region(&["wait", "--source-gtid", &executed]).ok().says(&["shown after"]);
    assert_eq!(world.source.checksum("g.apps").await, world.region.checksum("g.apps").await);
    let (code, status) = world.json("eu1.toml", &["status", "--fail-if-lag", "1h"]);
    assert_eq!((code, &status["behind_transactions"], &status["last_tx"]), (0, &"0".into(), &"2".into()));
    assert!(status["lag_seconds"].is_u64() && status["as_of"].is_string(), "{status}");

    world.at_source(&["stream", "ls"]).ok().says(&["SEQ", "1–2", "g.apps"]);
    world.at_source(&["stream", "show", "--definitions"]).ok().says(&["transactions", "CREATE TABLE `apps`"]);
    world.at_source(&["verify"]).ok().says(&["1 entry checked, 1 object read", "sound"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_shows_transactions_with_both_gtids_and_every_row() {
    let world = World::new().await;
    let before = world.source.gtid_executed().await;
    world
        .source
        .sql("INSERT INTO g.apps VALUES (7, 'it''s'); ALTER TABLE g.apps ADD c INT; DELETE FROM g.apps")
        .await;
    world.at_source(&["upload"]).ok();

    let new = world.source.gtid_executed().await.difference(&before).to_string();
    let (first, _) = new.rsplit_once('-').expect("an interval");
    let shown = world.at_source(&["inspect", "1"]).ok();
    shown.says(&[
        "transaction 1",
        first,
        "1 inserted",
        "ALTER TABLE g.apps ADD c INT",
        "1 deleted",
        "3 transactions",
    ]);
    world
        .at_source(&["inspect", "1", "--rows"])
        .ok()
        .says(&["insert  @1=7, @2='it\\'s'", "delete  @1=7, @2='it\\'s', @3=NULL"]);

    let (code, document) = world.json("source.toml", &["inspect", "1", "--rows"]);
    assert_eq!((code, document["transactions"].as_array().map(Vec::len)), (0, Some(3)));
    assert_eq!(document["transactions"][0]["source_gtid"], *first);
    assert_eq!(document["transactions"][0]["rows"][0]["after"]["@1"], "7");
    assert_eq!(document["transactions"][1]["statements"][0], "ALTER TABLE g.apps ADD c INT");
    assert_eq!(document["transactions"][2]["tables"][0]["deletes"], "1");

    // As a file it needs no config; a flipped bit is an error, not a wrong answer.
    let segment = world.segments().remove(0);
    let file = segment.to_str().expect("a path");
    world.desk.run(&["inspect", file]).ok().says(&["3 transactions"]);
    let mut bytes = std::fs::read(&segment).expect("the segment");
    // In gzip's own checksum: a bit of the body may mean nothing.
    let at = bytes.len() - 6;
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).expect("write");
    assert_eq!(world.desk.run(&["inspect", file]).code, 1);
    let (code, failure) = world.desk.json(&["inspect", file]);
    assert_eq!((code, &failure["kind"]), (1, &"corrupt".into()));
    let by_entry = world.at_source(&["inspect", "1"]);
    assert_eq!(by_entry.code, 1);
    by_entry.says(&["md5 is", "the index says"]);
    world.at_source(&["inspect", "index.json"]).ok().says(&["index.json: sound, 1 entry"]);
    assert_eq!(world.at_source(&["inspect", "2"]).code, 1);
}

/// The server itself is the oracle: what `inspect --rows` shows of a row is what a SELECT shows.
#[tokio::test(flavor = "multi_thread")]
async fn inspect_shows_values_as_the_server_does() {
    // Column type, and how a SELECT shows what inspect shows; `?` stands for the column.
    const COLUMNS: [(&str, &str); 28] = [
        ("TINYINT", "?"),
        ("TINYINT UNSIGNED", "?"),
        ("SMALLINT", "?"),
        ("MEDIUMINT", "?"),
        ("MEDIUMINT UNSIGNED", "?"),
        ("INT", "?"),
        ("BIGINT", "?"),
        ("BIGINT UNSIGNED", "?"),
        ("DECIMAL(30,10)", "?"),
        ("DECIMAL(5,0)", "?"),
        ("DOUBLE", "?"),
        ("YEAR", "?"),
        ("DATE", "?"),
        ("DATETIME", "?"),
        ("DATETIME(6)", "?"),
        ("TIME", "?"),
        ("TIME(6)", "?"),
        ("TIMESTAMP NULL", "IF(? = 0, '0000-00-00 00:00:00', CONCAT(?, ' UTC'))"),
        ("CHAR(20)", "?"),
        ("VARCHAR(300)", "?"),
        ("TEXT", "?"),
        ("VARBINARY(20)", "CONCAT('0x', LOWER(HEX(?)))"),
        ("BIT(12)", "CONCAT('0x', LPAD(LOWER(HEX(?)), 4, '0'))"),
        ("ENUM('a','b')", "?+0"),
        ("SET('x','y')", "CONCAT('0x', LPAD(LOWER(HEX(?+0)), 2, '0'))"),
        ("GEOMETRY", "CONCAT('0x', LOWER(HEX(?)))"),
        ("VECTOR(3)", "CONCAT('0x', LOWER(HEX(?)))"),
        ("JSON", "?"),
    ];
    const ROWS: [&str; 4] = [
        "-128, 255, -32768, -8388608, 16777215, -2147483648, -9223372036854775808, 18446744073709551615, -123.456, \
         -99999, -1.5, 2155, '9999-12-31', '9999-12-31 23:59:59', '2026-01-02 03:04:05.600001', '-838:59:59', \
         '-12:34:56.789', '2038-01-19 03:14:07', 'Zoë', REPEAT('é', 30), 'a\\'b', x'00ff', b'101010101010', 'b', 'x,y', \
         ST_GeomFromText('POINT(1 2)'), TO_VECTOR('[1,-2,3.5]'), '{\"a\": [1, -2, null, true], \"b\": \"x\"}'",
        "-1, 0, -1, -1, 0, -1, -1, 0, 0, 0, 0, 0, '0000-00-00', '0000-00-00', '0000-00-00', '00:00:00', '00:00:00', \
         '0000-00-00', '', '', '', x'01', b'0', 'a', '', ST_GeomFromText('LINESTRING(0 0,1 1)'), TO_VECTOR('[0,0,0]'), '[]'",
        "127, 1, 32767, 8388607, 1, 2147483647, 9223372036854775807, 1, 0.5, 7, 0.1, 1901, '1000-01-01', \
         '1000-01-01 00:00:00', '2026-01-02 03:04:05.000001', '838:59:59', '23:59:59.000001', '1970-01-01 00:00:01', 'x', \
         'y', 'z', x'ff', b'1', 'b', 'y', ST_GeomFromText('POINT(0 0)'), TO_VECTOR('[1,1,1]'), '1.5'",
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
    ];
    let world = World::new().await;
    let columns: String =
        COLUMNS.iter().enumerate().map(|(at, (kind, _))| format!(", c{at} {kind}")).collect();
    world.source.sql(&format!("DROP TABLE g.apps; CREATE TABLE g.apps (id INT PRIMARY KEY{columns})")).await;
    world.at_source(&["upload"]).ok();
    for (id, row) in ROWS.iter().enumerate() {
        let insert = format!("SET sql_mode='', time_zone='+00:00'; INSERT INTO g.apps VALUES ({id}, {row})");
        world.source.client(&["--default-character-set=utf8mb4"], insert.as_bytes()).expect("insert");
    }
    world.at_source(&["upload"]).ok();
    let (code, document) = world.json("source.toml", &["inspect", "2", "--rows"]);
    assert_eq!(
        (code, document["transactions"].as_array().map(Vec::len)),
        (0, Some(ROWS.len())),
        "{document}"
    );
    for (id, transaction) in document["transactions"].as_array().expect("transactions").iter().enumerate() {
        for (at, (kind, shown)) in COLUMNS.iter().enumerate() {
            let column = format!("c{at}");
            let query =
                format!("SELECT CAST({} AS CHAR) FROM g.apps WHERE id = {id}", shown.replace('?', &column));
            let expected: Option<String> = world.source.value(&query).await;
            let value = &transaction["rows"][0]["after"][format!("@{}", at + 2)];
            let found = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                json => Some(json.to_string()),
            };
            let (found, expected) = match *kind {
                "JSON" => (found.map(same_json), expected.map(same_json)),
                // The server prints a zero fraction, and inspect none.
                _ => (
                    found,
                    expected.map(|text| text.strip_suffix(".000000").map(str::to_owned).unwrap_or(text)),
                ),
            };
            assert_eq!(found, expected, "{kind} in row {id}");
        }
    }
}

fn same_json(text: String) -> String {
    serde_json::from_str::<Value>(&text).expect("JSON").to_string()
}

/// I1: an object that the index lists exists, with the listed size and md5; verify finds where that is broken.
#[tokio::test(flavor = "multi_thread")]
async fn verify_names_every_object_that_is_missing_cut_or_changed() {
    let world = World::new().await;
    for n in 0..4 {
        world.source.sql(&format!("INSERT INTO g.apps VALUES ({n}, 'x')")).await;
        world.at_source(&["upload"]).ok();
    }
    world.at_source(&["verify"]).ok().says(&["4 entries checked"]);
    let segments = world.segments();
    std::fs::remove_file(&segments[0]).expect("remove");
    let bytes = std::fs::read(&segments[1]).expect("read");
    std::fs::write(&segments[1], &bytes[..bytes.len() - 1]).expect("cut");
    let mut bytes = std::fs::read(&segments[3]).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    std::fs::write(&segments[3], bytes).expect("change");

    let (code, report) = world.json("source.toml", &["verify"]);
    assert_eq!((code, &report["kind"]), (4, &"finding".into()));
    let problems = report["problems"].as_array().expect("problems");
    let found: Vec<_> = problems.iter().map(|problem| problem["seq"].as_str().unwrap_or_default()).collect();
    assert_eq!(found, ["1", "2", "4"], "{report}");
    let ran = world.at_source(&["verify"]);
    assert_eq!(ran.code, 4);
    ran.says(&["bad  entry 1", "bad  entry 2", "bad  entry 4", "md5", "hint: restore"]);
    // A change that keeps the size is only seen by reading; an older part can be left out.
    let (_, quick) = world.json("source.toml", &["verify", "--quick", "--from", "3"]);
    assert_eq!(quick["entries"], "2");
    assert_eq!(world.at_source(&["verify", "--from", "3"]).code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_would_stop_a_role_and_says_what_mends_it() {
    let world = World::new().await;
    world.region.sql("SET GLOBAL super_read_only = ON").await;
    let ran = world.in_region(&["doctor"]);
    assert_eq!(ran.code, 4);
    ran.says(&[
        "FAIL  writable",
        "super_read_only",
        "breaks: `tablecast apply` ends with 12 (denied)",
        "mend:",
    ]);
    assert_eq!(world.in_region(&["apply"]).code, 12);
    world.region.sql("SET GLOBAL super_read_only = OFF").await;
    // What is well again is no finding, though no run has shown it yet.
    world.in_region(&["doctor"]).ok().says(&["warn  last run", "super_read_only is ON", "until one works"]);

    world.source.sql("SET GLOBAL binlog_format = 'STATEMENT'").await;
    let ran = world.at_source(&["doctor"]);
    assert_eq!(ran.code, 4);
    ran.says(&["FAIL  binlog_format", "mend:"]);
    world.source.sql("SET GLOBAL binlog_format = 'ROW'").await;

    // The grants that are printed are enough for the doctor, at the source and in the region.
    for (config, server, job) in
        [("source.toml", &world.source, "upload"), ("eu1.toml", &world.region, "apply")]
    {
        server.sql("CREATE USER least@'%' IDENTIFIED BY 'pw'").await;
        let text = std::fs::read_to_string(world.desk.path(config)).expect("the config");
        let least = granted::as_user(&text, "least\"\npassword = \"pw");
        let name = format!("least-{config}");
        world.desk.write(&name, &least);
        let grants = world.desk.run(&["-c", &name, "grants"]).ok();
        server.client(&[], grants.stdout.as_bytes()).expect("the grants run as they are printed");
        world.desk.run(&["-c", &name, "doctor"]).ok();
        world.desk.run(&["-c", &name, job]).ok();
    }
    a_privilege_that_is_missing_is_named(&world).await;
}

/// By the doctor beforehand, and by apply where MySQL itself only says "Unknown error" (1105).
async fn a_privilege_that_is_missing_is_named(world: &World) {
    let in_region = |args: &[&str]| world.desk.run(&[&["-c", "least-eu1.toml"], args].concat());
    for (privilege, change) in [
        ("ALTER", "ALTER TABLE g.apps ADD c INT"),
        ("INSERT", "INSERT INTO g.apps (id) VALUES (71), (72)"),
        ("UPDATE", "UPDATE g.apps SET id = 73 WHERE id = 71"),
        ("DELETE", "DELETE FROM g.apps WHERE id = 72"),
    ] {
        world.region.sql(&format!("REVOKE {privilege} ON g.* FROM least@'%'")).await;
        let ran = in_region(&["doctor"]);
        assert_eq!(ran.code, 4, "{privilege}");
        let lacks = format!("'least'@'%' lacks {privilege} on `g`.*");
        // All of them: a grant on the schema's name in another form would hide what is there.
        let mend =
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER ON `g`.*";
        ran.says(&["FAIL  table privileges", &lacks, mend, "`tablecast apply` ends with 12 (denied)"]);
        world.source.sql(change).await;
        world.at_source(&["upload"]).ok();
        let ran = in_region(&["apply"]);
        assert_eq!(ran.code, 12, "{privilege}: {}", ran.stderr);
        if privilege != "ALTER" {
            ran.says(&[&format!("'least'@'%' lacks {privilege} on g.apps"), "Unknown error"]);
        }
        world.region.sql(&format!("GRANT {privilege} ON g.* TO least@'%'")).await;
        in_region(&["apply"]).ok();
        in_region(&["doctor"]).ok();
    }
    // Where nothing of our own may be read, all the rest is told all the same.
    world.region.sql("REVOKE SELECT ON tablecast.* FROM least@'%'").await;
    let ran = in_region(&["doctor"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    ran.says(&["ok    store", "ok    mysql connection", "FAIL", "SELECT", "tablecast"]);
    world.region.sql("GRANT SELECT ON tablecast.* TO least@'%'").await;
    in_region(&["doctor"]).ok();
    // On the tables alone: the stream goes on, and what makes tables beside them would not.
    world.region.sql("REVOKE INDEX ON g.* FROM least@'%'; GRANT INDEX ON g.apps TO least@'%'").await;
    in_region(&["doctor"]).ok().says(&["warn  table privileges", "not enough for a restore or a migration"]);
}

/// I2: which stream it is comes before what is said of its numbers, and no statement is advised that would make it worse.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_tells_a_wrong_stream_from_a_lost_history() {
    let world = World::new().await;
    world.source.sql("INSERT INTO g.apps VALUES (1, 'one')").await;
    world.at_source(&["upload"]).ok();
    world.in_region(&["apply"]).ok();

    let config = std::fs::read_to_string(world.desk.path("eu1.toml")).expect("the config");
    world.desk.write("eu1.toml", &config.replace("stream = \"apps\"", "stream = \"aps\""));
    let ran = world.in_region(&["doctor"]);
    assert_eq!(ran.code, 4, "{}", ran.stdout);
    ran.says(&["it holds the stream \"apps\", the config says \"aps\""]);
    assert!(!ran.stdout.contains("UPDATE tablecast.position"), "{}", ran.stdout);
    // Another stream's numbers are nobody's state, and a server that cannot be looked at has none.
    let ran = world.in_region(&["status"]);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    ran.says(&["it holds the stream \"apps\", the config says \"aps\""]);
    let source = std::fs::read_to_string(world.desk.path("source.toml")).expect("the config");
    let unknown = granted::as_user(&source, "nobody\"\npassword = \"wrong");
    world.desk.write("denied.toml", &unknown);
    let ran = world.desk.run(&["-c", "denied.toml", "status"]);
    assert_eq!(ran.code, 12, "{}", ran.stdout);
    ran.says(&["stream at", "cannot be looked at"]);
    world.desk.write("eu1.toml", &config);

    // A new stream under the same name, in the same place.
    std::fs::remove_dir_all(world.desk.path("store")).expect("remove");
    std::fs::create_dir(world.desk.path("store")).expect("a folder");
    world.at_source(&["stream", "init", "--table", "g.apps"]).ok();
    let ran = world.in_region(&["doctor"]);
    assert_eq!(ran.code, 4, "{}", ran.stdout);
    ran.says(&["and this region has applied stream"]);
    assert!(!ran.stdout.contains("gtid_executed lacks"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_following_run_with_its_code() {
    let world = World::new().await;
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.args(["-c", "source.toml", "upload", "--follow"]).current_dir(world.desk.dir.path());
        command.env("TABLECAST_CACHE_DIR", world.desk.path("cache"));
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("run");
        // It holds the stream's lock once it is at work.
        let begin = std::time::Instant::now();
        while world.json("source.toml", &["status"]).1["source"]["uploading"] != true {
            assert!(begin.elapsed().as_secs() < 60, "upload --follow does not start");
        }
        let locked = world.at_source(&["upload"]);
        assert_eq!(locked.code, 11, "{}", locked.stderr);
        signal(&child.id().to_string(), sent);
        assert_eq!(child.wait().expect("wait").code(), Some(code), "{sent:?}");
    }
}
