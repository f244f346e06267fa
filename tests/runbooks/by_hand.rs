//! The tables again without the program.

use std::process::Command;

use super::machines::{Machines, assert_same, read, server};
use crate::ops::kit::Ran;
use crate::support::mysql::Server;

const APPS: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(80), `the time` TIMESTAMP(3) NULL, \
     image VARBINARY(40), price DOUBLE, kind ENUM('it''s', 'a \\\\ one') DEFAULT 'it''s', meta JSON, \
     KEY (name)) COLLATE utf8mb4_0900_ai_ci COMMENT 'Anna\\'s \"own\"'; \
     CREATE TABLE g.plans (id INT AUTO_INCREMENT PRIMARY KEY, app INT, FOREIGN KEY (app) REFERENCES g.apps (id)); \
     CREATE TABLE g.none (id INT PRIMARY KEY)";

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success())
}

/// The page begins where the program is not to be had; nothing else of it can be broken. `aws s3 sync` is a `cp`.
#[tokio::test(flavor = "multi_thread")]
async fn restore_by_hand() {
    let machines = Machines::of("restore-by-hand");
    let [source, new] = Server::start_all([&[], &[]]);
    source.sql(APPS).await;
    // The page's own way out where there is no zstd.
    let codec = if has("zstd") { "zstd" } else { "gzip" };
    machines.config("source", &format!("{}[dump]\ncodec = \"{codec}\"\n", server("mysql", &source)));
    machines.runs("source", &["stream", "init", "--table", "g.*"]).ends(0, &[]);
    let ships = async |statements: &str| {
        source.sql(statements).await;
        machines.runs("source", &["upload"]).ends(0, &[]);
    };
    ships(
        "SET time_zone = '+05:30'; INSERT INTO g.apps VALUES (1, 'it\\'s; one\\n', '2026-07-01 12:00:00.123', x'00ff27', 0.1e-300, 2, \
         '{\"a\": [1]}'), (2, 'zwö', NULL, x'', -0.0, DEFAULT, NULL); INSERT INTO g.plans (app) VALUES (1), (2)",
    )
    .await;
    machines.runs("source", &["dump", "take", "--all-tables", "--mandatory"]).ends(0, &[]);
    ships("SET time_zone = '-03:00'; INSERT INTO g.apps (id, name, `the time`) VALUES (3, 'three', '2026-07-01 12:00:00')").await;
    ships("ALTER TABLE g.plans ADD price DECIMAL(10,2) DEFAULT 1.5; UPDATE g.plans SET app = 3 WHERE id = 1")
        .await;
    ships("CREATE TABLE g.flags (id INT PRIMARY KEY, `on` BIT(3)); INSERT INTO g.flags VALUES (1, b'101')")
        .await;
    // What a killed run has left: a segment of which the stream knows nothing.
    let segments = machines.bucket().join("segments");
    let mut names: Vec<_> =
        std::fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let last = names.last().unwrap().display().to_string();
    let orphan = last.replace(".binlog", "0.binlog");
    let twice = format!("gunzip -c {last} > x; gzip -1c x > {orphan}; rm x");
    Ran::of(machines.shell("source", 0, &twice)).ends(0, &[]);

    // Check.
    machines.page.has("aws s3 sync s3://acme-global/apps stream && cd stream");
    let copied = "cp -r bucket stream && cd stream\n";
    let shell = |lines: &str| Ran::of(machines.shell("source", new.port, &format!("{copied}{lines}")));
    let first = "gunzip -c segments/00000000000000000001-*.binlog.gz | mysqlbinlog --verify-binlog-checksum -v \
                 --base64-output=decode-rows - | less";
    machines.page.has("ls dumps segments | tail");
    machines.page.has(first);
    shell(&format!("set -eo pipefail; ls dumps segments | tail\n{first}"))
        .ends(0, &["### INSERT INTO `g`.`apps`"]);

    // Mend. What the page tells to look up in index.json.
    let index: serde_json::Value =
        serde_json::from_str(&read(&machines.bucket().join("index.json"))).unwrap();
    let entries = index["entries"].as_array().unwrap();
    let is_it = |entry: &&serde_json::Value| entry["kind"] == "dump" && entry["full"] == true;
    let dump = entries.iter().rev().find(is_it).unwrap_or_else(|| panic!("{index:#}"));
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (id, at, stream) = (text(&dump["id"]), text(&dump["at"]), text(&index["stream"]));
    let mut lines = String::from("rm -rf stream; cp -r bucket stream; cd stream\n");
    lines += &machines.page.block("set -o pipefail");
    let dump = machines.page.block(
        "dump=dumps/20261121T081501123Z-0a1b2c3d; at=88031; stream=3e11fa47-71ca-11e1-9e33-c80aa9429562",
    );
    let dump = dump
        .replace("20261121T081501123Z-0a1b2c3d", &id)
        .replace("at=88031", &format!("at={at}"))
        .replace("3e11fa47-71ca-11e1-9e33-c80aa9429562", &stream);
    let looked = Ran::of(machines.shell("source", new.port, &format!("{lines}{dump}"))).ends(0, &[]);
    assert_eq!(looked.stdout, "", "it prints nothing: {looked:?}");
    lines += &dump;
    let tables = machines
        .page
        .block("{ printf \"SELECT CONCAT('CREATE DATABASE IF NOT EXISTS \\`', SUBSTRING_INDEX(n, '.', 1), '\\`; USE \\`', SUBSTRING_INDEX(n, '.', 1), '\\`; ', c, ';') FROM JSON_TABLE('\"");
    let made = Ran::of(machines.shell("source", new.port, &format!("{lines}{tables}")));
    let made = made.ends(0, &["CREATE TABLE `apps`", "CREATE TABLE `plans`"]);
    assert!(made.stderr.is_empty(), "{made:?}");

    // The third step for each table: its number, the name that stands in its first chunk, its own name.
    let rows = machines
        .page
        .block("unpack $dump/000000-00000000.sql.* | head -c 2000             # which table is it?");
    let (look, load) = rows.split_once('\n').unwrap();
    for number in ["000000", "000002"] {
        let look = look.replace("000000-", &format!("{number}-"));
        let chunk = Ran::of(machines.shell("source", new.port, &format!("{lines}{look}"))).stdout;
        let named = chunk.split("INSERT INTO ").nth(1).unwrap_or_else(|| panic!("{chunk}"));
        let named = named.split([' ', '(']).next().unwrap().replace('`', "");
        let table = if chunk.contains("the time") { "g.apps" } else { "g.plans" };
        let load = load
            .replace("000000-", &format!("{number}-"))
            .replace("g._tablecast_0011223344556677_new", &named)
            .replace("g.apps", table);
        let loaded = Ran::of(machines.shell("source", new.port, &format!("{lines}{load}"))).ends(0, &[]);
        assert_eq!((loaded.stdout.as_str(), loaded.stderr.as_str()), ("", ""), "{load}");
    }

    let rest = machines.page.block("mysql -e \"SET GLOBAL gtid_purged = '+$stream:1-$at'\"");
    let ran = Ran::of(machines.shell("source", new.port, &format!("{lines}{rest}")));
    assert_eq!(ran.stderr, "");
    let told: Vec<&str> = ran.stdout.lines().collect();
    let orphan = orphan.split("bucket/").nth(1).unwrap();
    assert_eq!(told, [format!("not of the stream, or damaged: {orphan}")], "and no gap");

    // Verify.
    for line in ["mysql -e \"SELECT @@GLOBAL.gtid_executed\"", "mysql -e \"CHECKSUM TABLE g.apps\""] {
        machines.page.has(line);
        let ran = Ran::of(machines.shell("source", new.port, line)).ends(0, &[]);
        if line.contains("gtid") {
            assert!(ran.stdout.contains(&format!("{stream}:1-{}", text(&index["last_tx"]))), "{ran:?}");
        }
    }
    assert_same(&["g.apps", "g.plans", "g.none", "g.flags"], &source, &new).await;
    for table in ["g.apps", "g.plans"] {
        assert_eq!(source.show_create(table).await, new.show_create(table).await);
    }
}
