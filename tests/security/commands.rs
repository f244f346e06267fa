//! Whatever is in a config as a secret, or in a file that it names, no command says it: not in results, logs, errors, and to
//! nobody who looks at the list of processes. The commands are those that the program has: one that is added and not
//! considered here fails this test.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Command;

use crate::http::kit::{Desk, Place, region_token};
use crate::ops::kit::Said;
use crate::support::mysql::Server;
use crate::support::s3::{BUCKET, S3Server, SECRET_KEY};

const SOURCE: &str = "pw-1Ks7-of-the-source";
const REGION: &str = "pw-2Lt8-of-the-region";
const PRIMARY: &str = "pw-3Mu9-of-the-primary";
const WRONG: &str = "pw-4Nv0-not-right";
const WRONG_KEY: &str = "sk-5Pw1-not-right-either";
const WRONG_TOKEN: &str = "tablecast_6Qx2-not-right";

/// What is run of a command, and where.
enum Runs {
    /// At the source, in the region: these lines.
    At(&'static [&'static str], &'static [&'static str]),
    Both(&'static [&'static str]),
    /// With a [primary], which it asks for.
    WithPrimary(&'static [&'static str]),
    /// It reads no config.
    Without,
    /// It runs beside all others.
    Beside,
}

/// For each command of the program.
fn considered(command: &str) -> Runs {
    use Runs::{At, Beside, Both, WithPrimary, Without};
    match command {
        "config check" => Both(&["config check"]),
        "config show" => Both(&["config show"]),
        "doctor" => Both(&["doctor"]),
        "grants" => Both(&["grants"]),
        "stream init" => At(&["stream init --table g.apps"], &[]),
        "stream show" => Both(&["stream show --definitions"]),
        "stream ls" => Both(&["stream ls"]),
        "stream prune" => At(&["stream prune --dry-run --no-reports"], &[]),
        "stream sign" => At(&["stream sign"], &[]),
        "tables list" => Both(&["tables list"]),
        "tables add" => At(&["tables add g.plans --reason x"], &[]),
        "tables remove" => At(&["tables remove g.plans --reason x"], &[]),
        "upload" => At(&["upload"], &[]),
        "apply" => At(&[], &["apply"]),
        "restore" => At(&[], &["restore --all --dry-run"]),
        "bootstrap" => At(&[], &["bootstrap"]),
        "status" => Both(&["status", "status --all"]),
        "pause" => Both(&["pause --reason x"]),
        "resume" => Both(&["resume"]),
        "quarantine list" => At(&[], &["quarantine list"]),
        "quarantine release" => At(&[], &["quarantine release g.apps"]),
        "guard on" => At(&[], &["guard on --dry-run"]),
        "guard off" => At(&[], &["guard off --dry-run"]),
        "guard status" => At(&[], &["guard status"]),
        "verify" => At(&["verify"], &["verify", "verify --rows"]),
        "inspect" => Both(&["inspect 1"]),
        "wait" => At(
            &[],
            &["wait --print-sql", "wait --source-gtid 00000000-0000-0000-0000-000000000001:1 --timeout 1s"],
        ),
        "dump take" => At(&["dump take --all-tables"], &[]),
        "dump request" => At(&[], &["dump request g.apps"]),
        "dump list" => Both(&["dump list"]),
        "dump show" => Both(&["dump show 0a1b2c3d4e5f60718293a4b5c6d7e8f9"]),
        "dump cancel" => Both(&["dump cancel 0a1b2c3d4e5f60718293a4b5c6d7e8f9"]),
        "migrations" => At(&["migrations"], &[]),
        "processor config" => WithPrimary(&["processor config"]),
        "processor create" => WithPrimary(&["processor create --dry-run"]),
        "processor rebuild" => WithPrimary(&["processor rebuild --dry-run"]),
        "serve" => Beside,
        "init" | "token" | "key" | "openapi" | "completions" | "man" => Without,
        _ => panic!(
            "{command}: consider here whether it could say a secret of its config, and what is to be run of it"
        ),
    }
}

/// Every command that can be run, as `stream show`.
fn leaves(command: &Command, path: &str, all: &mut Vec<String>) {
    for inner in command.get_subcommands() {
        let path = format!("{path} {}", inner.get_name()).trim().to_owned();
        match inner.has_subcommands() {
            true => leaves(inner, &path, all),
            false => all.push(path),
        }
    }
}

/// No argument of any command takes a secret: `ps` would show it.
fn arguments(command: &Command, path: &str) {
    for argument in command.get_arguments() {
        let name = argument.get_id().as_str();
        assert!(!["password", "token", "secret", "key"].contains(&name), "{path} --{name}");
    }
    command.get_subcommands().for_each(|inner| arguments(inner, &format!("{path} {}", inner.get_name())));
}

/// Looks at the command lines of all processes, again and again.
struct Ps {
    over: Arc<AtomicBool>,
    seen: JoinHandle<BTreeSet<String>>,
}

impl Ps {
    fn watch() -> Ps {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = over.clone();
        let seen = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !is_over.load(Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    seen.insert(String::from_utf8_lossy(&line).replace('\0', " "));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            seen
        });
        Ps { over, seen }
    }

    fn seen(self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        self.seen.join().unwrap()
    }
}

/// A source, a region and a service, each secret of theirs in a file of its own.
struct Machines {
    desk: Desk,
    place: Place,
    said: Said,
}

impl Machines {
    /// Runs a line with this config; `json`: as one object, with all of our own logs, else as text, with all that anybody logs.
    fn run(&mut self, config: &str, line: &str, json: bool, env: &[(&str, &str)]) -> i32 {
        let mut command = self.desk.command(config, &line.split(' ').collect::<Vec<_>>());
        match json {
            true => drop(command.args(["--json", "-v", "-v", "-v"])),
            false => drop(command.env("TABLECAST_LOG", "trace")),
        }
        command.env("TC_PW", PRIMARY).envs(env.iter().copied());
        self.said.run(command)
    }

    /// Every command that has a config; the lines that ended otherwise than with 0.
    fn run_all(&mut self, json: bool, env: &[(&str, &str)]) -> Vec<(String, i32)> {
        let mut commands = Vec::new();
        leaves(&tablecast::commands::command(), "", &mut commands);
        let mut failed = Vec::new();
        for command in commands {
            let (source, region, primary): (&[&str], &[&str], &[&str]) = match considered(&command) {
                Runs::At(source, region) => (source, region, &[]),
                Runs::Both(lines) => (lines, lines, &[]),
                Runs::WithPrimary(lines) => (&[], &[], lines),
                Runs::Without | Runs::Beside => continue,
            };
            for (config, lines) in
                [("source.toml", source), ("region.toml", region), ("primary.toml", primary)]
            {
                for line in lines {
                    let code = self.run(config, line, json, env);
                    assert!((0..144).contains(&code), "{config}, {line}: {:?}", self.said.0.last());
                    if code != 0 {
                        failed.push((format!("{config}: {line}"), code));
                    }
                }
            }
        }
        failed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_that_has_a_config_says_a_secret_of_it() {
    arguments(&tablecast::commands::command(), "tablecast");
    let [source, region] = Server::start_all([&[], &[]]);
    for (server, password) in [(&source, SOURCE), (&region, REGION)] {
        server
            .sql(&format!(
                "CREATE USER tcuser@'%' IDENTIFIED BY '{password}'; GRANT ALL ON *.* TO tcuser@'%' WITH GRANT OPTION; \
                 CREATE DATABASE g"
            ))
            .await;
    }
    let tables = "CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(20)); INSERT INTO g.apps VALUES (1, 'a'); \
                  CREATE TABLE g.plans (id INT PRIMARY KEY)";
    source.sql(tables).await;
    let place = Place::S3(S3Server::start());
    let desk = Desk::new(&place, "");
    let Place::S3(s3) = &place else { unreachable!("it is") };
    let endpoint = s3.endpoint();
    let config = |role: &str, port: u16, password: &str| {
        format!(
            "role = \"{role}\"\nstream = \"apps\"\nstore = \"s3://{BUCKET}/apps\"\n[s3]\nregion = \"us-east-1\"\n\
             endpoint = \"{endpoint}\"\npath_style = true\n[mysql]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"tcuser\"\n\
             {password}\ntls = {{ mode = \"require\" }}\n"
        )
    };
    desk.write("pw-source", SOURCE);
    desk.write("pw-region", REGION);
    let key: PathBuf = desk.path("sign.key");
    let mut make = desk.command("source.toml", &["key", "--json"]);
    let made = make.arg(&key).output().unwrap();
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let public = made["public_key"].as_str().unwrap();
    let seed = std::fs::read_to_string(&key).unwrap();
    let seed = seed.lines().last().unwrap().strip_prefix("tablecast_sign_").unwrap().to_owned();
    let of_source = config("source", source.port, "password_file = \"pw-source\"")
        + "[sign]\nkey_file = \"sign.key\"\n[serve]\nlisten = \"127.0.0.1:0\"\ntokens_file = \"tokens.toml\"\n";
    desk.write("source.toml", &of_source);
    let primary = format!(
        "[primary]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"tcuser\"\npassword = \"${{TC_PW}}\"\n",
        region.port
    );
    desk.write("primary.toml", &(of_source.clone() + &primary));
    let token = region_token("eu1").text;
    desk.write("token", &token);
    let mut machines = Machines { desk, place, said: Said::default() };
    let ps = Ps::watch();
    for line in ["stream init --table g.apps", "upload", "dump take --all-tables"] {
        let code = machines.run("source.toml", line, false, &[]);
        assert_eq!(code, 0, "{line}: {:?}", machines.said.0.last());
    }
    let served = machines.desk.serve();
    let of_region = format!(
        "{}[region]\nname = \"eu1\"\ntables = [\"g.*\"]\nsource_url = \"{}\"\ntoken_file = \"token\"\n[trust]\npublic_keys = \
         [\"{public}\"]\n",
        config("region", region.port, "password_command = \"cat pw-region\""),
        served.url
    );
    machines.desk.write("region.toml", &of_region);
    assert_eq!(machines.run("region.toml", "bootstrap", true, &[]), 0, "{:?}", machines.said.0.last());

    // As everything works: what is there already, not there, or must be asked for otherwise, ends with another code than 0.
    for json in [true, false] {
        source.sql("INSERT INTO g.apps SELECT MAX(id) + 1, 'b' FROM g.apps").await;
        let failed = machines.run_all(json, &[]);
        for line in
            ["upload", "apply", "verify", "stream show --definitions", "config show", "status", "dump list"]
        {
            let found = failed.iter().find(|(failed, _)| failed.ends_with(&format!(": {line}")));
            assert!(found.is_none(), "{found:?} of {failed:?}");
        }
        // The stream is there already; all else is a line as the command takes it.
        let usage: Vec<&str> =
            failed.iter().filter(|(_, code)| *code == 2).map(|(line, _)| line.as_str()).collect();
        assert_eq!(usage, ["source.toml: stream init --table g.apps"], "{failed:?}");
    }
    let applied: u64 = region.value("SELECT COUNT(*) FROM g.apps").await;
    assert_eq!(applied, 3, "it has worked");

    // With wrong passwords and tokens, with another secret key of S3, with a key to sign that is none.
    machines.desk.write("pw-source", WRONG);
    machines.desk.write("pw-region", WRONG);
    machines.desk.write("token", WRONG_TOKEN);
    let failed = machines.run_all(false, &[("TC_PW", WRONG)]);
    assert!(failed.len() > 15 && failed.iter().any(|(_, code)| *code == 12), "{failed:?}");
    machines.desk.write("pw-source", SOURCE);
    machines.desk.write("pw-region", REGION);
    machines.desk.write("token", &token);
    let failed = machines.run_all(true, &[("AWS_SECRET_ACCESS_KEY", WRONG_KEY)]);
    assert!(failed.len() > 15 && failed.iter().any(|(_, code)| *code == 12), "{failed:?}");
    let file = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, file.replace("tablecast_sign_", "tablecast_sing_")).unwrap();
    for line in ["config check", "config show", "doctor", "upload", "stream show", "stream sign"] {
        for json in [true, false] {
            machines.run("source.toml", line, json, &[]);
        }
    }
    let seen = ps.seen();
    assert!(seen.iter().any(|line| line.contains("tablecast upload")), "{seen:?}");
    machines.said.0.push(("ps".into(), seen.into_iter().collect::<Vec<_>>().join("\n")));
    machines.said.0.push(("serve".into(), served.log()));
    machines.said.files(&machines.desk.path("cache"));
    let Place::S3(s3) = &machines.place else { unreachable!("it is") };
    for key in s3.keys() {
        let object = String::from_utf8_lossy(&s3.object(&key).unwrap_or_default()).into_owned();
        machines.said.0.push((key, object));
    }
    let secrets: [&str; 10] =
        [SOURCE, REGION, PRIMARY, WRONG, SECRET_KEY, WRONG_KEY, &token, WRONG_TOKEN, &seed, &seed[..24]];
    machines.said.assert_without(&secrets);
    assert_eq!(served.end().await, 143);
}
