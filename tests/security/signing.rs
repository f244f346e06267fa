//! A signed index: nobody but the holder of the key extends the stream, and nobody who trusts him believes another one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tablecast::signing::PublicKey;
use tablecast::stream::Head;
use tablecast::stream::signature::{Verdict, judge};

use crate::apply::forge::Forge;
use crate::apply::kit::Stream;
use crate::ops::kit::{Ran, command};
use crate::support::granted;
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// Keys of a test, and config files that name them.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Keys {
        Keys(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new key of this name; its public key.
    fn make(&self, name: &str) -> PublicKey {
        let made = tablecast(&["key", &self.path(name).display().to_string(), "--json"]).ends(0, &[]);
        made.json()["public_key"].as_str().unwrap().parse().unwrap()
    }

    /// The config file with more at its end.
    fn config(&self, config: &Path, more: &str) -> PathBuf {
        let name = config.file_name().unwrap().to_str().unwrap();
        let path = self.path(&format!("{}-{name}", std::fs::read_dir(self.0.path()).unwrap().count()));
        std::fs::write(&path, format!("{}\n{more}", std::fs::read_to_string(config).unwrap())).unwrap();
        path
    }

    /// The source's config with this key.
    fn source(&self, stream: &Stream, key: &str) -> PathBuf {
        self.config(&stream.source_file(), &format!("[sign]\nkey_file = \"{}\"\n", self.path(key).display()))
    }

    /// A region's config that trusts these keys.
    fn region(&self, stream: &Stream, region: &Server, tables: &[&str], keys: &[PublicKey]) -> PathBuf {
        self.config(&stream.region_file(region, granted::USER, tables), &trust(keys))
    }
}

fn trust(keys: &[PublicKey]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    format!("[trust]\npublic_keys = [{}]\n", keys.join(", "))
}

fn tablecast(arguments: &[&str]) -> Ran {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
    command.args(arguments);
    Ran::of(command)
}

fn run(config: &Path, line: &str) -> Ran {
    Ran::of(command(config, &line.split_whitespace().collect::<Vec<_>>()))
}

fn index(stream: &Stream) -> Vec<u8> {
    std::fs::read(stream.bucket().join("index.json")).unwrap()
}

fn put(stream: &Stream, head: &Head) {
    std::fs::write(stream.bucket().join("index.json"), head.to_json().unwrap()).unwrap();
}

/// I2, I6. Without [trust] the same forgery would be applied: the index is in perfect order.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_entry_is_refused_by_whoever_trusts_a_key() {
    let forge = Forge::new("sg_forged").await;
    let (stream, keys) = (&forge.stream, Keys::new());
    let (mine, thief) = (keys.make("sign.key"), keys.make("thief.key"));
    run(&keys.source(stream, "sign.key"), "stream sign").ends(0, &["it was not signed"]);
    let trusting = keys.region(stream, &forge.region, &["@.apps"], &[mine]);
    run(&trusting, "apply").ends(0, &[]);
    run(&trusting, "doctor").ends(0, &["is trusted", &mine.id().to_string()]);

    let signed = Head::parse(&index(stream)).unwrap();
    let drop = [forge.statement("DROP TABLE @.apps")];
    let with_old_signature = forge.extend(signed.clone(), &drop);
    let unsigned = Head { signature: None, ..with_old_signature.clone() };
    let before = stream.state_of_stream(&forge.region).await;
    put(stream, &with_old_signature);
    run(&trusting, "apply").ends(10, &["is not one of these bytes", "hint:", "sign-the-stream"]);
    put(stream, &unsigned);
    run(&trusting, "apply").ends(10, &["it is not signed", "hint:"]);
    // By a thief who has a key of his own.
    run(&keys.source(stream, "thief.key"), "stream sign").ends(0, &[]);
    let stolen = index(stream);
    assert_eq!(judge(&stolen, &[thief]), Verdict::Good(thief.id()));
    run(&trusting, "apply").ends(10, &[&thief.id().to_string(), &mine.id().to_string()]);
    assert_eq!(stream.state_of_stream(&forge.region).await, before, "nothing may change");

    // Whatever reads the index refuses it, before it shows anything of it.
    let new = Server::start(&[]);
    let newcomer = keys.region(stream, &new, &["@.apps"], &[mine]);
    for (config, line) in [
        (&trusting, "apply --dry-run"),
        (&trusting, "restore --all"),
        (&trusting, "verify"),
        (&trusting, "stream show"),
        (&trusting, "stream ls"),
        (&trusting, "inspect 1"),
        (&trusting, "doctor"),
        (&newcomer, "apply"),
        (&newcomer, "bootstrap"),
    ] {
        let ran = run(config, line);
        assert!([10, 4].contains(&ran.code), "{line}: {ran:?}");
        assert!(format!("{ran:?}").contains("this config trusts"), "{line}: {ran:?}");
    }
    assert_eq!(stream.state_of_stream(&forge.region).await, before, "nothing may change");

    // The control.
    let trusting_nobody = stream.region_file(&forge.region, granted::USER, &["@.apps"]);
    let doctor = run(&trusting_nobody, "doctor");
    assert!(doctor.stdout.contains("asks for no signature"), "{doctor:?}");
}

/// Else the next upload would put its signature on somebody else's work.
#[tokio::test(flavor = "multi_thread")]
async fn the_source_signs_nothing_that_somebody_else_has_put_there() {
    let forge = Forge::new("sg_source").await;
    let (stream, keys) = (&forge.stream, Keys::new());
    let mine = keys.make("sign.key");
    let source = keys.source(stream, "sign.key");
    // Not even where signing begins.
    let unsigned = index(stream);
    run(&source, "upload").ends(10, &["it is not signed", "tablecast stream sign"]);
    assert_eq!(index(stream), unsigned);
    run(&source, "stream sign --dry-run").ends(0, &["would be signed"]);
    assert_eq!(index(stream), unsigned);
    run(&source, "stream sign").ends(0, &[]);
    run(&source, "stream sign").ends(0, &["it was signed by key"]);

    let signed = Head::parse(&index(stream)).unwrap();
    for forged in [
        forge.extend(signed.clone(), &[forge.statement("DROP TABLE @.apps")]),
        Head { signature: None, ..signed.clone() },
        // He would like upload to leave out what comes.
        {
            let mut head = signed.clone();
            let own: String = stream.source.value("SELECT @@server_uuid").await;
            head.covered.extend(&format!("{own}:1-1000000").parse().unwrap());
            head
        },
    ] {
        put(stream, &forged);
        let forged = index(stream);
        stream.sql("REPLACE INTO @.apps VALUES (2, 'two')").await;
        for line in [
            "upload",
            "upload --resync",
            "dump take --all-tables",
            "tables add sg_source.mine",
            "tables remove sg_source.apps",
            "pause --reason x",
            "resume",
            "stream prune --keep 0s --no-reports",
        ] {
            let ran = run(&source, line).ends(10, &[]);
            assert!(format!("{ran:?}").contains("sign"), "{line}: {ran:?}");
            assert_eq!(index(stream), forged, "{line}");
        }
    }
    // It takes a person's word for it, and more than one where the signature is somebody else's.
    put(stream, &forge.extend(signed.clone(), &[forge.statement("ALTER TABLE @.apps COMMENT 'y'")]));
    run(&source, "stream sign").ends(10, &["somebody has changed it since", "--force"]);
    keys.make("next.key");
    run(&keys.source(stream, "next.key"), "stream sign").ends(10, &["does not trust", "--force"]);
    run(&source, "stream sign --force").ends(0, &["it was changed after"]);
    assert_eq!(judge(&index(stream), &[mine]), Verdict::Good(mine.id()));
}

/// I2, I7: what reads the head and writes it anew.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_writes_the_index_signs_it_and_none_without_the_key_does() {
    let stream = Stream::not_begun(Server::shared(), "sg_all", APPS).await;
    stream.sql("CREATE TABLE @.plans (id INT PRIMARY KEY) COLLATE utf8mb4_0900_ai_ci").await;
    let keys = Keys::new();
    let mine = keys.make("sign.key");
    let source = keys.source(&stream, "sign.key");
    let region = Server::start(&[]);
    let trusting = keys.region(&stream, &region, &["@.apps", "@.plans"], &[mine]);
    let without = stream.source_file();
    for (line, code) in [
        ("stream init --table sg_all.apps", 0),
        ("upload", 0),
        ("dump take --all-tables", 0),
        ("pause --reason moving", 0),
        ("resume", 0),
        ("tables add sg_all.plans", 0),
        ("upload", 0),
        ("dump take --all-tables --mandatory", 0),
        ("upload --resync", 0),
        ("tables remove sg_all.plans", 0),
        ("upload", 0),
        ("stream prune --keep 0s --keep-entries 1 --no-reports", 0),
        ("verify", 0),
        ("status", 0),
        ("doctor", 0),
    ] {
        stream.sql("INSERT INTO @.apps SELECT COALESCE(MAX(id), 0) + 1, 'x' FROM @.apps").await;
        run(&source, line).ends(code, &[]);
        let now = index(&stream);
        assert_eq!(judge(&now, &[mine]), Verdict::Good(mine.id()), "{line}");
        // The same from a machine that lacks the key, or after the section was removed: never written without.
        run(&without, "pause --reason other").ends(2, &["no key to sign it with"]);
        assert_eq!(index(&stream), now, "{line}");
    }
    stream.sql("INSERT INTO @.apps VALUES (1000, 'more')").await;
    let now = index(&stream);
    for line in ["upload", "dump take --all-tables"] {
        run(&without, line).ends(2, &["no key to sign it with"]);
    }
    assert_eq!(index(&stream), now);
    run(&trusting, "bootstrap").ends(0, &[]);
    run(&source, "upload").ends(0, &[]);
    run(&trusting, "apply").ends(0, &[]);
    assert_eq!(stream.source.checksum("sg_all.apps").await, region.checksum("sg_all.apps").await);
    run(&source, "stream show").ends(0, &["signed", &mine.id().to_string()]);
    run(&without, "doctor").ends(0, &["asks for no signature", "ends with 2"]);

    // And back: first nobody asks, then nobody signs.
    run(&source, "stream sign --remove").ends(2, &["has [sign]"]);
    run(&without, "stream sign --remove").ends(0, &["no longer signed"]);
    run(&without, "upload").ends(0, &[]);
    assert_eq!(judge(&index(&stream), &[mine]), Verdict::Unsigned);
    run(&trusting, "apply").ends(10, &["it is not signed"]);
}

/// What it has applied before anybody was trusted tells it nothing new: it must look all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_begins_to_trust_refuses_an_index_that_has_not_changed_since() {
    let stream = Stream::new("sg_begins", APPS).await;
    let (region, keys) = (Server::start(&[]), Keys::new());
    let mine = keys.make("sign.key");
    stream.sql("INSERT INTO @.apps VALUES (1, 'one')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let trusting = keys.region(&stream, &region, &["@.*"], &[mine]);
    run(&trusting, "apply").ends(10, &["it is not signed"]);
    let source = keys.source(&stream, "sign.key");
    run(&source, "stream sign").ends(0, &[]);
    run(&trusting, "apply").ends(0, &[]);
    // The copy of the head that the source keeps on its machine is no short cut either.
    std::fs::write(stream.bucket().join("index.json"), {
        let head = Head::parse(&index(&stream)).unwrap();
        Head { signature: None, ..head }.to_json().unwrap()
    })
    .unwrap();
    let without = stream.source_file();
    run(&without, "upload").ends(0, &[]);
    run(&source, "upload").ends(10, &["it is not signed"]);
}

/// I5: an index of yesterday is signed as well. Who has come further does not follow it.
#[tokio::test(flavor = "multi_thread")]
async fn i2_a_signed_index_of_yesterday_is_refused_by_whom_it_would_take_back() {
    let stream = Stream::new("sg_replay", APPS).await;
    let (region, keys) = (Server::start(&[]), Keys::new());
    let mine = keys.make("sign.key");
    let (source, trusting) =
        (keys.source(&stream, "sign.key"), keys.region(&stream, &region, &["@.*"], &[mine]));
    run(&source, "stream sign").ends(0, &[]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'one')").await;
    run(&source, "upload").ends(0, &[]);
    run(&trusting, "apply").ends(0, &[]);
    let yesterday = index(&stream);
    stream.sql("INSERT INTO @.apps VALUES (2, 'two')").await;
    run(&source, "upload").ends(0, &[]);
    run(&trusting, "apply").ends(0, &[]);
    let today = index(&stream);
    let before = stream.state_of_stream(&region).await;
    std::fs::write(stream.bucket().join("index.json"), yesterday).unwrap();
    run(&trusting, "apply").ends(10, &["the index went back"]);
    assert_eq!(stream.state_of_stream(&region).await, before);
    // Nor does upload go on from it, and sign a history that no region takes.
    stream.sql("INSERT INTO @.apps VALUES (3, 'three')").await;
    let old = index(&stream);
    run(&source, "upload").ends(10, &["the index went back", "restore the newest version"]);
    assert_eq!(index(&stream), old);
    std::fs::write(stream.bucket().join("index.json"), today).unwrap();
    run(&source, "upload").ends(0, &[]);
    run(&trusting, "apply").ends(0, &[]);
}

#[test]
fn a_key_that_others_can_read_signs_nothing() {
    let keys = Keys::new();
    let public = keys.make("sign.key");
    let path = keys.path("sign.key");
    let show = |path: &Path| tablecast(&["key", "--show", &path.display().to_string()]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    show(&path).ends(0, &[&public.to_string()]);
    let secret = std::fs::read_to_string(&path).unwrap();
    let seed = secret.lines().last().unwrap().trim_start_matches("tablecast_sign_").to_owned();
    tablecast(&["key", &path.display().to_string()]).ends(2, &["never overwritten"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), secret);
    for mode in [0o644, 0o604, 0o666] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let ran = show(&path).ends(2, &["others can read it", "chmod 600"]);
        assert!(!format!("{ran:?}").contains(&seed), "{ran:?}");
    }
}
