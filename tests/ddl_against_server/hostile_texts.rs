//! Texts that are made to fool the gate (I6): statements with pieces put in at random, in sessions of every kind.
//! What the server runs must have been refused, or must have changed no table but those that were named.
//!
//! TABLECAST_ROUNDS and TABLECAST_SEED make it longer and other; TABLECAST_SHOW prints what ran and was refused.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tablecast::binlog::charset::Charset;
use tablecast::binlog::ddl::{Class, Statement, classify};
use tablecast::binlog::name::TableName;
use tablecast::mysql::wire::{Reply, Wire, command};

use super::{State, run, state_of};
use crate::support::mysql::Server;

/// Statements for the gate to be fooled with: names in and outside of what it would let in.
const BASES: &[&str] = &[
    "DROP TABLE g.a",
    "DROP TABLE IF EXISTS g.a , g.b",
    "ALTER TABLE g.a ADD c INT COMMENT 'x' , RENAME TO g.n",
    "ALTER TABLE g.a DROP COLUMN y , COMMENT 'it''s'",
    "RENAME TABLE g.a TO g.n , h.x TO h.n",
    "TRUNCATE TABLE g.a",
    "CREATE TABLE g.n ( i INT REFERENCES g.b ( id ) , t TEXT ) COMMENT 'x'",
    "CREATE TABLE g.n LIKE g.a",
    "CREATE INDEX i ON g.a ( y )",
    "ALTER TABLE `g` . `a` RENAME COLUMN y TO `z` , ADD INDEX ( id )",
    "DROP TABLE `g` . `a` , `h` . `x`",
    "CREATE TABLE g.n ( i INT ) # comment \n ENGINE = InnoDB",
];

const TRICKS: &[&[u8]] = &[
    b"/*!50000",
    b"/*!99999",
    b"/*!090704",
    b"/*!90704 ",
    b"/*!",
    b"*/",
    b"/*",
    b"/* x */",
    b"/*+",
    b"--",
    b"-- ",
    b"--\n",
    b"#",
    b"\n",
    b";",
    b"; DROP TABLE h.x",
    b", h.x",
    b", `h`.`x`",
    b"`",
    b"``",
    b"\"",
    b"'",
    b"''",
    b"\\",
    b"\\'",
    b".",
    b"h.x",
    b"h",
    b"x",
    b"$",
    b"$$",
    b"@",
    b"\0",
    b"\xa0",
    b"\x81",
    b"\x81`",
    b"\x95\x5c",
    b"\x81\x60",
    b"\xe8\xa1\xa8",
    b"\xef",
    b"1e5",
    b"0x1F",
    b".5",
    b"N'x'",
    b"_gbk",
    b"RENAME TO h.n",
    b"UNION=(h.x)",
    b"REFERENCES h.x(id)",
    b"LIKE h.x",
    b"SELECT * FROM h.x",
    b"TABLE h.x",
    b"TEMPORARY",
    b"IF EXISTS",
    b"(",
    b")",
    b",",
    b"=",
    b"\x85",
    b"\xc2\xa0",
    b"\x1a",
    b"\x7f",
    b"\r",
];

#[tokio::test]
async fn no_text_changes_a_table_that_it_does_not_seem_to_name() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("TABLECAST_ROUNDS").unwrap_or(400);
    let mut random = StdRng::seed_from_u64(number("TABLECAST_SEED").unwrap_or(1));
    let server = Server::start(&["--binlog-format=ROW"]);
    let mut client = Wire::connect(&server.config()).await.unwrap();
    let sets = [
        "utf8mb4", "latin1", "sjis", "cp932", "gbk", "big5", "gb18030", "ujis", "euckr", "binary", "koi8r",
        "ascii",
    ];
    let modes = [0u64, 4, 0x10_0000, 0x10_0004, 8];
    let reset = b"DROP DATABASE IF EXISTS g; DROP DATABASE IF EXISTS h; CREATE DATABASE g; CREATE DATABASE h; \
        CREATE TABLE g.a (id INT PRIMARY KEY, y INT); CREATE TABLE g.b LIKE g.a; CREATE TABLE h.x LIKE g.a; CREATE TABLE g.x LIKE g.a; \
        INSERT INTO g.a VALUES (1,1); INSERT INTO g.b VALUES (1,1); INSERT INTO h.x VALUES (1,1); INSERT INTO g.x VALUES (1,1); USE g";
    let mut fresh: Option<State> = None;
    let (mut ran, mut judged) = (0, 0);
    for _ in 0..rounds {
        if fresh.is_none() {
            run(&mut client, b"SET NAMES utf8mb4").await;
            run(&mut client, b"SET sql_mode=0").await;
            let reset = String::from_utf8_lossy(reset);
            for statement in reset.split("; ") {
                run(&mut client, statement.as_bytes()).await;
            }
            fresh = Some(state_of(&server, &["g", "h"], "").await);
        }
        let base = BASES[random.random_range(0..BASES.len())];
        let mut pieces: Vec<&[u8]> = base.split(' ').map(str::as_bytes).collect();
        for _ in 0..random.random_range(0..5) {
            let trick = TRICKS[random.random_range(0..TRICKS.len())];
            pieces.insert(random.random_range(0..=pieces.len()), trick);
        }
        let glue: &[u8] = [&b" "[..], b" ", b"\n", b""][random.random_range(0..4)];
        let text = pieces.join(glue);
        let (set, mode) =
            (sets[random.random_range(0..sets.len())], modes[random.random_range(0..modes.len())]);
        run(&mut client, format!("SET NAMES {set}").as_bytes()).await;
        run(&mut client, format!("SET sql_mode={mode}").as_bytes()).await;
        let id = match client
            .query(
                b"SELECT ID FROM information_schema.collations WHERE collation_name = @@collation_connection",
                "ask",
            )
            .await
        {
            Ok(Reply::Rows { rows, .. }) => {
                String::from_utf8(rows[0][0].clone().unwrap()).unwrap().parse().unwrap()
            }
            other => panic!("{other:?}"),
        };
        let charset = Charset::of_collation(id).unwrap();
        let class = classify(&Statement { text: &text, default_schema: "g", charset, sql_mode: mode });
        let mut succeeded = 0;
        client.send(command::QUERY, &text).await.unwrap();
        let mut reply = client.reply().await.unwrap();
        loop {
            match reply {
                Reply::Error(_) => break,
                Reply::Done(ref done) if done.has_more => succeeded += 1,
                Reply::Rows { has_more: true, .. } => succeeded += 1,
                _ => {
                    succeeded += 1;
                    break;
                }
            }
            client.expect_more();
            reply = client.reply().await.unwrap();
        }
        if succeeded == 0 {
            continue;
        }
        ran += 1;
        let after = state_of(&server, &["g", "h"], "").await;
        let before = fresh.take().unwrap();
        let changed: BTreeSet<&TableName> =
            before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).collect();
        let shown = format!("{set} {mode} {}", text.escape_ascii());
        match &class {
            Ok(Class::Table(ddl)) => {
                judged += 1;
                let targets: BTreeSet<&TableName> = ddl.targets.iter().collect();
                assert!(changed.is_subset(&targets), "{shown}: changed {changed:?}, named {targets:?}");
            }
            Ok(Class::RowStatement { .. } | Class::Schema(_)) | Err(_) => {}
            Ok(other) => assert!(changed.is_empty(), "{shown}: changed {changed:?}, is {other:?}"),
        }
        if changed.is_empty() {
            fresh = Some(before);
        } else if class.is_err() && std::env::var_os("TABLECAST_SHOW").is_some() {
            println!("refused although it runs: {shown}: {}", class.unwrap_err());
        }
    }
    println!("{rounds} texts, {ran} ran, {judged} of them judged");
    assert!(judged * 10 > ran, "{judged} of {ran}");
}
