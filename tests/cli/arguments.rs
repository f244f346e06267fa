//! Arguments, config files, failures and exit codes: all that needs no server.

use super::Desk;

const SERVER: &str = "[mysql]\nsocket = \"/no/such/mysqld.sock\"\n";

#[test]
fn help_is_short_and_shows_examples() {
    let desk = Desk::new();
    let help = desk.run(&["--help"]).ok();
    help.says(&[
        "Usage: tablecast",
        "Examples:",
        "Exit codes:",
        "doctor",
        "stream",
        "--config",
        "--lock-wait",
    ]);
    assert!(help.stdout.lines().count() < 65, "{}", help.stdout);
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 100), "{}", help.stdout);
}

#[test]
fn every_command_explains_itself() {
    fn walk(desk: &Desk, command: &clap::Command, path: &[&str]) {
        for inner in command.get_subcommands() {
            let path = [path, &[inner.get_name()]].concat();
            let help = desk.run(&[path.as_slice(), &["--help"]].concat()).ok();
            help.says(&[&format!("Usage: tablecast {}", path.join(" "))]);
            let about = inner.get_about().unwrap_or_else(|| panic!("{path:?} says nothing")).to_string();
            assert!(about.len() < 90 && !about.ends_with('.'), "{path:?}: {about}");
            walk(desk, inner, &path);
        }
    }
    walk(&Desk::new(), &tablecast::commands::command(), &[]);
}

#[test]
fn a_wrong_argument_ends_with_2_and_with_json_one_object() {
    let desk = Desk::new();
    let ran = desk.run(&["uplaod"]);
    assert_eq!(ran.code, 2);
    ran.says(&["unrecognized subcommand 'uplaod'", "upload"]);
    assert!(ran.stdout.is_empty());
    let (code, failure) = desk.json(&["uplaod"]);
    assert_eq!((code, &failure["code"], &failure["kind"]), (2, &2.into(), &"usage".into()));
    assert_eq!(failure["schema_version"], 1);
}

#[test]
fn a_missing_argument_names_every_way_to_give_it() {
    let desk = Desk::new();
    for (args, says) in [
        (&["dump", "take"][..], "<DB.T|--all-tables>"),
        (&["restore"], "<DB.T|--all>"),
        (&["token"], "--region NAME for a region; --name NAME and --scope read"),
        (&["token", "--name", "dba"], "--scope read"),
        (&["token", "--region", "eu1", "--scope", "bogus"], "read, dump, report or admin"),
    ] {
        let ran = desk.run(args);
        assert_eq!(ran.code, 2, "{args:?}");
        ran.says(&[says]);
    }
    assert_eq!(desk.run(&["restore", "g.apps", "--all"]).code, 2);
}

#[test]
fn a_duration_without_a_unit_is_refused() {
    let desk = Desk::new();
    let ran = desk.run(&["--lock-wait", "5", "status"]);
    assert_eq!(ran.code, 2);
    ran.says(&["\"5\" is not a duration", "5m"]);
    // A schema where a table is wanted.
    for args in [
        &["restore", "g"][..],
        &["quarantine", "release", "g"],
        &["migrations", "g"],
        &["dump", "take", "g"],
        &["dump", "request", "g"],
    ] {
        let ran = desk.run(args);
        assert_eq!(ran.code, 2);
        ran.says(&["there is no schema", "write schema.table"]);
    }
}

#[test]
fn init_writes_a_valid_file_for_its_owner_only_and_never_overwrites() {
    use std::os::unix::fs::PermissionsExt;
    for role in ["source", "region"] {
        let desk = Desk::new();
        desk.run(&["init", role]).ok().says(&["tablecast.toml written"]);
        let file = desk.path("tablecast.toml");
        assert_eq!(std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
        desk.run(&["config", "check"]).ok().says(&["ok:", &format!("role {role}")]);
        let before = std::fs::read(&file).expect("the file");
        let again = desk.run(&["init", role]);
        assert_eq!(again.code, 2);
        again.says(&["error: write tablecast.toml", "hint: it is left as it is"]);
        assert_eq!(std::fs::read(&file).expect("the file"), before);
    }
}

#[test]
fn a_missing_config_says_how_to_make_one() {
    let ran = Desk::new().run(&["status"]);
    assert_eq!(ran.code, 2);
    ran.says(&[
        "error: read config tablecast.toml",
        "because: No such file",
        "hint: `tablecast init source`",
    ]);
}

#[test]
fn a_config_error_names_file_line_and_the_nearest_key() {
    let desk = Desk::new();
    desk.write("tablecast.toml", &format!("{}{SERVER}passwrod_file = \"x\"\n", desk.head("source")));
    let ran = desk.run(&["config", "check"]);
    assert_eq!(ran.code, 2);
    ran.says(&[
        "tablecast.toml:6: unknown key `mysql.passwrod_file`",
        "hint: did you mean `password_file` in [mysql]?",
    ]);
}

#[test]
fn a_failure_is_one_object_in_json() {
    let desk = Desk::new();
    desk.write("tablecast.toml", &format!("{}[mysql]\nhots = \"x\"\n", desk.head("source")));
    let (code, failure) = desk.json(&["status"]);
    assert_eq!(code, 2);
    assert_eq!(failure["code"], 2);
    assert_eq!(failure["kind"], "usage");
    assert_eq!(failure["runbook"], "docs/exit-codes.md#usage");
    assert!(failure["message"].as_str().is_some_and(|message| message.contains("mysql.hots")), "{failure}");
    assert!(failure["hint"].is_string());
}

#[test]
fn secrets_are_shown_to_nobody() {
    let desk = Desk::new();
    desk.write("tablecast.toml", &format!("{}{SERVER}password = \"${{PW}}\"\n", desk.head("source")));
    for json in [&["config", "show"][..], &["config", "show", "--json"]] {
        let output = desk.command().args(json).env("PW", "hunter2").output().expect("run");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.contains("(redacted)") && !text.contains("hunter2"),
            "{text}"
        );
    }
    let unset = desk.run(&["config", "check"]);
    assert_eq!(unset.code, 2);
    unset.says(&["tablecast.toml:6: `mysql.password`: the environment variable PW is not set"]);
}

#[test]
fn a_password_that_others_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    let secret = desk.write("pw", "hunter2\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    desk.write("tablecast.toml", &format!("{}{SERVER}password_file = \"pw\"\n", desk.head("source")));
    desk.run(&["config", "check"]).ok().says(&["warning:", "may be read by others (mode 0644)", "chmod 600"]);
}

#[test]
fn a_folder_of_configs_is_one_run_each_and_some_failures_are_3() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("conf")).expect("a folder");
    desk.write("conf/a.toml", &format!("{}{SERVER}", desk.head("source")));
    desk.write("conf/b.toml", "role = \"source\"\n");
    desk.write("conf/ignored.txt", "");
    let ran = desk.run(&["--config", "conf", "config", "check"]);
    assert_eq!(ran.code, 3);
    ran.says(&["== conf/a.toml", "conf/b.toml: error:"]);
    let (code, document) = desk.json(&["--config", "conf", "config", "check"]);
    assert_eq!((code, &document["code"]), (3, &3.into()));
    let codes: Vec<_> =
        document["runs"].as_array().expect("runs").iter().map(|run| run["code"].clone()).collect();
    assert_eq!(codes, [0, 2]);
    // Named twice by hand, and both failing alike: their own code.
    assert_eq!(desk.run(&["-c", "conf/b.toml", "-c", "conf/b.toml", "config", "check"]).code, 2);
    let from_environment =
        desk.command().args(["config", "check"]).env("TABLECAST_CONFIG", "conf/a.toml").output();
    assert!(from_environment.expect("run").status.success());
}

#[test]
fn two_files_for_one_side_of_a_stream_are_refused_by_name_and_others_run() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("conf")).expect("a folder");
    let text = format!("{}{SERVER}", desk.head("source"));
    desk.write("conf/a.toml", &text);
    desk.write("conf/b.toml", &text.replace("\"apps\"", "\"users\""));
    desk.write("conf/copy-of-a.toml", &text);
    // The same stream at another server: one process may serve two regions.
    desk.write("conf/d.toml", &text.replace("/no/such/", "/none/such/"));
    let ran = desk.run(&["--config", "conf", "upload"]);
    assert_eq!(ran.code, 1, "all of them, for different reasons");
    ran.says(&[
        "config conf/a.toml: the source's side of stream \"apps\" at the same server is also in conf/copy-of-a.toml",
        "config conf/copy-of-a.toml: the source's side of stream \"apps\" at the same server is also in conf/a.toml",
        "hint: they would lock each other out",
        "4 streams: 4 failed: conf/a.toml (usage), conf/b.toml (mysql), conf/copy-of-a.toml (usage), conf/d.toml (mysql)",
    ]);
    // Named twice by hand.
    assert_eq!(desk.run(&["-c", "conf/b.toml", "-c", "conf/b.toml", "upload"]).code, 2);
    // What takes no lock runs, and says so.
    let ran = desk.run(&["--config", "conf", "config", "check"]);
    assert_eq!(ran.code, 0);
    ran.says(&[
        "is also in conf/copy-of-a.toml: upload and apply begin neither of them",
        "4 streams: 4 done",
    ]);
    assert_eq!(desk.run(&["--jobs", "0", "config", "check"]).code, 2);
}

#[test]
fn a_command_of_the_other_role_is_refused() {
    let desk = Desk::new();
    desk.write("tablecast.toml", &format!("{}{SERVER}", desk.head("source")));
    for command in [&["apply"][..], &["wait", "--source-gtid", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1"]] {
        let ran = desk.run(command);
        assert_eq!(ran.code, 2, "{command:?}");
        ran.says(&["runs with a region's config, tablecast.toml has role = \"source\""]);
    }
}

#[test]
fn where_there_is_no_stream_the_commands_say_so() {
    let desk = Desk::new();
    desk.write("tablecast.toml", &format!("{}{SERVER}", desk.head("source")));
    for command in [&["status"][..], &["verify"], &["inspect", "1"], &["stream", "show"], &["stream", "ls"]] {
        let (code, failure) = desk.json(command);
        assert_eq!((code, &failure["kind"]), (1, &"not_found".into()), "{command:?}: {failure}");
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("stream init")), "{failure}");
    }
    desk.run(&["grants", "--table", "g.apps"]).ok().says(&[
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'tablecast'@'%';",
        "ON `g`.`apps` TO",
    ]);
}

#[test]
fn a_server_that_is_not_there_is_a_finding_of_the_doctor() {
    let desk = Desk::new();
    desk.write("tablecast.toml", &format!("{}{SERVER}", desk.head("source")));
    let ran = desk.run(&["doctor"]);
    assert_eq!(ran.code, 4);
    ran.says(&[
        "FAIL  connection",
        "/no/such/mysqld.sock",
        "breaks: `tablecast upload` ends with",
        "holds no stream",
    ]);
    let (code, document) = desk.json(&["doctor"]);
    assert_eq!((code, &document["kind"]), (4, &"finding".into()));
    let checks = document["checks"].as_array().expect("checks");
    let outcome = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name}"))["outcome"].clone()
    };
    assert_eq!(outcome("connection"), "failed");
    assert_eq!(outcome("store"), "warning");
    assert_eq!(outcome("store conditions"), "passed");
}

#[test]
fn grants_for_a_region_need_no_server_and_no_stream() {
    let desk = Desk::new();
    let region = "[region]\nname = \"eu1\"\ntables = [\"g.apps\"]\n";
    desk.write("tablecast.toml", &format!("{}{SERVER}user = \"o'neill\"\n{region}", desk.head("region")));
    let ran = desk.run(&["grants", "--host", "10.0.%"]).ok();
    ran.says(&["REPLICATION_APPLIER", "TO 'o''neill'@'10.0.%';", "-- CREATE USER"]);
}

#[test]
fn nobody_who_reads_no_further_makes_it_panic() {
    let desk = Desk::new();
    desk.write("tablecast.toml", &format!("{}{SERVER}", desk.head("source")));
    for arguments in ["--help", "config show", "completions bash", "config show --json"] {
        // `true` is gone before anything is written, or right after.
        let script = format!("{} {arguments} 2>err | true; cat err", env!("CARGO_BIN_EXE_tablecast"));
        let output =
            std::process::Command::new("sh").args(["-c", &script]).current_dir(desk.dir.path()).output();
        let output = output.expect("run sh");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments}");
    }
}

#[test]
fn completions_and_man_pages_are_made_from_the_same_definition() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        desk.run(&["completions", shell]).ok().says(&["tablecast", "doctor"]);
    }
    desk.run(&["man", "man1"]).ok().says(&["pages written to man1"]);
    let page = std::fs::read_to_string(desk.path("man1/tablecast-stream-init.1")).expect("a page");
    assert!(page.contains("source\\-gtid"), "{page}");
}

#[test]
fn logs_go_to_stderr_as_json_lines_if_wanted() {
    let desk = Desk::new();
    let secret = desk.write("pw", "hunter2\n");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    desk.write("tablecast.toml", &format!("{}{SERVER}password_file = \"pw\"\n", desk.head("source")));
    let ran = desk.run(&["--log-format", "json", "config", "show"]).ok();
    let line = ran.stderr.lines().next().expect("a line");
    let log: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(log["level"], "WARN");
    assert!(ran.stdout.starts_with("# tablecast.toml"));
    assert!(desk.run(&["-q", "config", "show"]).ok().stdout.is_empty());
}
