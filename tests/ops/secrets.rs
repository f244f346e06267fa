//! Nothing secret is ever printed, logged, kept or handed on: what everything says while real commands work and fail, searched
//! for secrets that the test knows.

use super::kit::{Said, write_script};
use crate::http::kit::{Desk, Place, region_token};
use crate::support::mysql::Server;
use crate::support::s3::{BUCKET, S3Server, SECRET_KEY};

const PASSWORD: &str = "pw-7Rk2-of-mysql";
const WRONG_PASSWORD: &str = "pw-9Xw4-not-right";
const WRONG_KEY: &str = "sk-3Lq8-not-right-either";
const WRONG_TOKEN: &str = "tablecast_5Hd6-not-right";
const IN_URL: &str = "up-1Vn0-in-a-url";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_logs_results_errors_kept_files_or_what_a_hook_gets() {
    let [source, region] = Server::start_all([&[], &[]]);
    for server in [&source, &region] {
        server
            .sql(&format!(
                "CREATE USER tcuser@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO tcuser@'%' WITH GRANT OPTION; \
                 CREATE DATABASE g"
            ))
            .await;
    }
    source
        .sql("CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(20)); INSERT INTO g.apps VALUES (1, 'a')")
        .await;
    let place = Place::S3(S3Server::start());
    let Place::S3(s3) = &place else { unreachable!("it is") };
    let desk = Desk::new(&place, "");
    write_script(&desk.path("hook"), "cat >> told\nenv >> told");
    let config = |role: &str, server: &Server, endpoint: &str| {
        format!(
            "role = \"{role}\"\nstream = \"apps\"\nstore = \"s3://{BUCKET}/apps\"\n[s3]\nregion = \"us-east-1\"\n\
             endpoint = \"{endpoint}\"\npath_style = true\n[mysql]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"tcuser\"\n\
             password = \"${{TC_PW}}\"\ntls = {{ mode = \"require\" }}\n[hooks]\non_failure = \"hook\"\n",
            server.port
        )
    };
    let serve = "[serve]\nlisten = \"127.0.0.1:0\"\ntokens_file = \"tokens.toml\"\n";
    desk.write("source.toml", &format!("{}{serve}", config("source", &source, &s3.endpoint())));
    let of_region = |url: &str| {
        let section = "[region]\nname = \"eu1\"\ntables = [\"g.*\"]\ntoken_file = \"token\"";
        format!("{}{section}\nsource_url = \"{url}\"\n", config("region", &region, &s3.endpoint()))
    };
    let mut said = Said::default();
    // Both ways to make it talkative; `trace` is everything that every library says.
    let command = |file: &str, arguments: &[&str], everything: bool| {
        let mut command = desk.command(file, arguments);
        match everything {
            true => drop(command.env("TABLECAST_LOG", "trace")),
            false => drop(command.args(["-v", "-v", "-v"])),
        }
        command.env("TC_PW", PASSWORD);
        command
    };
    for (arguments, code) in [
        (&["config", "show"][..], 0),
        (&["config", "show", "--json"], 0),
        (&["config", "check"], 0),
        (&["stream", "init", "--table", "g.*"], 0),
        (&["doctor"], 0),
        (&["grants"], 0),
        (&["upload"], 0),
        (&["dump", "take", "--all-tables"], 0),
        (&["status", "--json"], 0),
        (&["verify"], 0),
        (&["stream", "show"], 0),
    ] {
        assert_eq!(
            said.run(command("source.toml", arguments, false)),
            code,
            "{arguments:?}: {:?}",
            said.0.last()
        );
    }
    let token = region_token("eu1").text;
    desk.write("token", &token);
    // The service runs with the account's password in its environment, too.
    desk.write(
        "served.toml",
        &std::fs::read_to_string(desk.path("source.toml")).unwrap().replace("${TC_PW}", PASSWORD),
    );
    std::fs::rename(desk.path("source.toml"), desk.path("kept.toml")).unwrap();
    std::fs::rename(desk.path("served.toml"), desk.path("source.toml")).unwrap();
    let served = desk.serve();
    std::fs::rename(desk.path("kept.toml"), desk.path("source.toml")).unwrap();
    desk.write("region.toml", &of_region(&served.url));
    let bootstrap = said.run(command("region.toml", &["bootstrap"], false));
    assert_eq!(bootstrap, 0, "{:?}", said.0.last());
    for everything in [false, true] {
        source.sql("INSERT INTO g.apps SELECT MAX(id) + 1, 'b' FROM g.apps").await;
        assert_eq!(said.run(command("source.toml", &["upload"], everything)), 0, "{:?}", said.0.last());
        for arguments in [&["config", "show"][..], &["doctor"], &["apply"], &["status"], &["dump", "list"]] {
            let code = said.run(command("region.toml", arguments, everything));
            assert!(code == 0 || *arguments != ["apply"], "{:?}", said.0.last());
        }
    }
    let applied: u64 = region.value("SELECT COUNT(*) FROM g.apps").await;
    assert_eq!(applied, 3, "it has worked: {:?}", said.0.last());

    // And what fails because of them.
    for everything in [false, true] {
        for (file, verb) in [("source.toml", "upload"), ("region.toml", "apply")] {
            for json in [false, true] {
                let arguments: &[&str] = if json { &[verb, "--json"] } else { &[verb] };
                let mut wrong = command(file, arguments, everything);
                wrong.env("TC_PW", WRONG_PASSWORD);
                assert_eq!(said.run(wrong), 12, "{:?}", said.0.last());
                let mut wrong = command(file, arguments, everything);
                wrong.env("AWS_SECRET_ACCESS_KEY", WRONG_KEY);
                assert_eq!(said.run(wrong), 12, "{:?}", said.0.last());
            }
            said.run(command(file, &["status"], everything));
        }
        desk.write("token", WRONG_TOKEN);
        said.run(command("region.toml", &["apply"], everything));
        said.run(command("region.toml", &["doctor"], everything));
        desk.write("token", &token);
        let (name, address) = ("in-a-url.toml", served.address());
        for url in [format!("http://user:{IN_URL}@{address}"), format!("http://user:{IN_URL}@127.0.0.1:1")] {
            desk.write(name, &of_region(&url));
            for arguments in
                [&["config", "show"][..], &["config", "check"], &["doctor"], &["apply"], &["dump", "list"]]
            {
                said.run(command(name, arguments, everything));
            }
        }
        let endpoint = s3.endpoint().replace("://", &format!("://user:{IN_URL}@"));
        let store = format!("s3://user:{IN_URL}@{BUCKET}/apps");
        let in_store =
            config("source", &source, &s3.endpoint()).replace(&format!("s3://{BUCKET}/apps"), &store);
        desk.write("in-a-store.toml", &in_store);
        assert_eq!(said.run(command("in-a-store.toml", &["upload"], everything)), 2, "{:?}", said.0.last());
        desk.write(name, &config("source", &source, &endpoint));
        for arguments in [&["config", "show"][..], &["doctor"], &["upload"], &["status"]] {
            said.run(command(name, arguments, everything));
        }
    }
    said.0.push(("serve".into(), served.log()));
    said.0.push(("the hook".into(), std::fs::read_to_string(desk.path("told")).unwrap()));
    assert!(said.0.last().unwrap().1.contains("\"event\":\"failed\""));
    said.files(&desk.path("cache"));
    for key in s3.keys() {
        said.0
            .push((key.clone(), String::from_utf8_lossy(&s3.object(&key).unwrap_or_default()).into_owned()));
    }
    let errors: Vec<Option<String>> = region.rows("SELECT error FROM tablecast.state").await;
    said.0.push(("tablecast.state".into(), format!("{errors:?}")));
    said.assert_without(&[PASSWORD, WRONG_PASSWORD, SECRET_KEY, WRONG_KEY, &token, WRONG_TOKEN, IN_URL]);
}
