//! `verify`, `inspect` and `stream show|ls` on dumps.

use serde_json::Value;

use super::kit::{TABLE, damage, dump, program, step};
use crate::apply::kit::Stream;
use crate::support::mysql::Server;

fn says(stream: &Stream, args: &[&str], code: i32, parts: &[&str]) {
    let output = program(stream, args, "");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: {part:?} is not in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps_are_shown_as_people_can_read_them() {
    let stream = Stream::new("pl_show", TABLE).await;
    says(&stream, &["stream", "show"], 0, &["full dump", "none: a new region has nothing to begin with"]);
    for id in 1..=5 {
        step(&stream, id).await;
    }
    let made = dump(&stream, true).await;
    let id = made.id.to_string();
    says(&stream, &["stream", "show"], 0, &[&id, "at transaction 5, entry 6", "5 rows"]);
    says(&stream, &["stream", "ls", "--kind", "dump"], 0, &["dump", "at 5", "5 rows", "pl_show.n"]);
    says(
        &stream,
        &["inspect", "6"],
        0,
        &[&id, "transaction 5", "full", "1.500 ms", "5 rows in 3 chunks", "pl_show.n"],
    );
    says(&stream, &["inspect", made.manifest.as_str()], 0, &["sound", "5 rows in 3 chunks"]);
    let chunk = format!("dumps/{id}/000000-00000001.sql.gz");
    says(&stream, &["inspect", &chunk], 0, &["sound", "pl_show._tablecast_", "columns", "id, v"]);
    says(&stream, &["inspect", &chunk, "--rows"], 0, &["(3,'xxx')\n(4,'xxxx')\n"]);
    let output = program(&stream, &["inspect", &chunk, "--rows", "--json"], "");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["rows"], &json["values"][1]), (&Value::from("2"), &Value::from("(4,'xxxx')")));
}

/// I1: what verify says of each kind of damage.
#[tokio::test(flavor = "multi_thread")]
async fn verify_names_every_object_of_a_dump_that_is_not_as_it_was() {
    let stream = Stream::new("pl_verify", TABLE).await;
    for id in 1..=5 {
        step(&stream, id).await;
    }
    let made = dump(&stream, true).await;
    says(&stream, &["verify"], 0, &["6 entries checked, 9 objects read", "sound"]);
    says(&stream, &["verify", "--quick"], 0, &["9 objects looked up", "sound"]);
    let chunk = |n: u32| format!("dumps/{}/000000-0000000{n}.sql.gz", made.id);
    damage(&stream, &chunk(0), |bytes| bytes[30] ^= 1);
    damage(&stream, &chunk(1), |bytes| bytes.truncate(bytes.len() - 1));
    std::fs::remove_file(stream.bucket().join(chunk(2))).unwrap();
    let manifest = made.manifest.to_string();
    says(&stream, &["verify"], 4, &[&chunk(0), "its manifest says", &chunk(1), &chunk(2), "3 problems"]);
    says(&stream, &["verify", "--quick"], 4, &[&chunk(1), &chunk(2), "3 problems"]);
    damage(&stream, &manifest, |bytes| bytes[50] ^= 1);
    says(&stream, &["verify"], 4, &[&manifest, "1 problem"]);
    std::fs::remove_file(stream.bucket().join(&manifest)).unwrap();
    says(&stream, &["verify", "--quick"], 4, &[&manifest, "1 problem"]);
}

/// The chunk's own settings are enough for MySQL's client to load it, on a server with other defaults.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_loads_by_hand_with_the_client_alone() {
    let stream = Stream::new("pl_client", TABLE).await;
    for id in 1..=3 {
        step(&stream, id).await;
    }
    let made = dump(&stream, true).await;
    let region = Server::start(crate::support::mysql::HOSTILE);
    region.sql("CREATE DATABASE pl_client; SET sql_generate_invisible_primary_key=0; CREATE TABLE pl_client.n (id INT PRIMARY KEY, v VARCHAR(200))").await;
    let shadow = tablecast::binlog::name::shadow_name(&made.tables[0]).quoted();
    region.sql(&format!("CREATE TABLE {shadow} LIKE pl_client.n")).await;
    for n in 0..2 {
        let path = stream.bucket().join(format!("dumps/{}/000000-0000000{n}.sql.gz", made.id));
        let mut plain = Vec::new();
        let file = std::fs::File::open(path).unwrap();
        std::io::copy(&mut flate2::read::MultiGzDecoder::new(file), &mut plain).unwrap();
        let socket = format!("--socket={}", region.socket.display());
        crate::support::mysql::tool("mysql", &["--binary-mode", "--user=root", &socket], &plain).unwrap();
    }
    let rows: Vec<(u32, String)> = region.rows(&format!("SELECT id, v FROM {shadow} ORDER BY id")).await;
    assert_eq!(rows, [(1, "x".into()), (2, "xx".into()), (3, "xxx".into())]);
}
