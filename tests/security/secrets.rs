//! The key that signs is nowhere but in its file, and what runs shows nothing of itself to other users. Passwords, tokens and S3's
//! keys: `commands` and `ops::secrets`.

use std::path::Path;

use crate::apply::kit::Stream;
use crate::http::kit::{Desk, Place};
use crate::ops::kit::{Ran, command};
use crate::support::granted;
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

fn run(config: &Path, line: &str) -> Ran {
    Ran::of(command(config, &line.split_whitespace().collect::<Vec<_>>()))
}

fn files(folder: &Path, all: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, all),
            false => all.push((path.display().to_string(), std::fs::read(&path).unwrap())),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_signs_is_in_its_file_and_nowhere_else() {
    let stream = Stream::new("ss_key", APPS).await;
    let region = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("sign.key");
    let mut said = Vec::new();
    let mut keep = |what: &str, ran: Ran| {
        said.push((what.to_owned(), ran.stdout.clone().into_bytes()));
        said.push((what.to_owned(), ran.stderr.clone().into_bytes()));
        ran
    };
    let mut make = command(&stream.source_file(), &["key", "-vvv"]);
    make.arg(&key);
    keep("key", Ran::of(make)).ends(0, &["public_keys"]);
    let text = std::fs::read_to_string(&key).unwrap();
    let seed = text.lines().last().unwrap().strip_prefix("tablecast_sign_").unwrap().to_owned();
    assert_eq!(seed.len(), 64);
    let config = folder.path().join("source.toml");
    let sign = format!("[sign]\nkey_file = \"{}\"\n", key.display());
    std::fs::write(&config, std::fs::read_to_string(stream.source_file()).unwrap() + &sign).unwrap();
    stream.sql("INSERT INTO @.apps VALUES (1, 'one')").await;
    for line in [
        "config show --json",
        "config check",
        "stream sign -vvv",
        "upload -vvv",
        "doctor",
        "verify",
        "status --json",
    ] {
        keep(line, run(&config, line)).ends(0, &[]);
    }
    let mut traced = command(&config, &["upload"]);
    traced.env("TABLECAST_LOG", "trace");
    keep("trace", Ran::of(traced)).ends(0, &[]);
    // In the wrong place, and unreadable: its text is not repeated.
    let region_file = stream.region_file(&region, granted::USER, &["@.*"]);
    let wrong = folder.path().join("wrong.toml");
    let trust = format!("[trust]\npublic_keys = [\"tablecast_sign_{seed}\"]\n");
    std::fs::write(&wrong, std::fs::read_to_string(region_file).unwrap() + &trust).unwrap();
    keep("wrong place", run(&wrong, "apply")).ends(2, &["no public key"]);
    std::fs::write(&key, text.replace("tablecast_sign_", "tablecast_sing_")).unwrap();
    for line in ["upload", "upload --json", "config check", "doctor"] {
        let ran = keep(line, run(&config, line));
        assert!(format!("{ran:?}").contains("does not hold a secret key"), "{line}: {ran:?}");
    }
    files(&stream.bucket(), &mut said);
    files(stream.bucket().parent().unwrap(), &mut said);
    for part in [&seed[..], &seed[..16], &seed[48..]] {
        let found =
            said.iter().find(|(_, bytes)| bytes.windows(part.len()).any(|window| window == part.as_bytes()));
        assert!(found.is_none(), "{part} is in {}", found.unwrap().0);
    }
}

/// `ps` shows it to everybody, a core file to whoever finds it.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_process_has_no_secret_among_its_arguments_and_leaves_no_core_file() {
    let place = Place::directory();
    place.stream().await;
    let desk = Desk::new(&place, "");
    let served = desk.serve();
    let of = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", served.pid())).unwrap();
    let line = of("cmdline").replace('\0', " ");
    assert!(line.trim_end().ends_with("tablecast serve"), "{line:?}");
    let core = of("limits").lines().find(|line| line.starts_with("Max core file size")).unwrap().to_owned();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    served.end().await;
}
