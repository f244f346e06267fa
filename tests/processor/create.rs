//! `processor create` and `rebuild`: by CLONE from a primary that is written to, killed at every step.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;

use mysql_async::prelude::Queryable;

use super::kit::{SETUP, Supervisor, TABLES, World, Writer, both, data_dir, purge, work};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const PASSWORD: &str = "a password that no log may hold";

/// The config of accounts that are made by what `tablecast grants` prints.
fn accounts(primary: &Server, processor: &Server) -> String {
    let section = |name: &str, server: &Server, user: &str| {
        format!(
            "[{name}]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{user}\"\npassword = \"${{TEST_PASSWORD}}\"\n\
             tls = {{ mode = \"off\" }}\n",
            server.port
        )
    };
    format!("{}{}", section("mysql", processor, "mini"), section("primary", primary, "donor"))
}

struct Made {
    world: World,
    /// The source's config with these accounts.
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Made {
    async fn new(primary: &Server, processor: &Server) -> Made {
        // The stream begins at the primary, before there is a processor.
        let world = World::new(primary, primary).await;
        let folder = tempfile::tempdir().expect("a folder");
        let sections = accounts(primary, processor);
        let config = &world.stream.config;
        let text = format!(
            "role = \"source\"\nstream = \"{}\"\nstore = \"{}\"\n[upload]\ninterval = \"100ms\"\n{sections}[files]\n\
             cache_dir = \"{2}/cache\"\nspool_dir = \"{2}/spool\"\n",
            config.stream,
            config.store,
            folder.path().display()
        );
        let file = folder.path().join("source.toml");
        std::fs::write(&file, text).expect("write the config");
        let made = Made { world, file, _folder: folder };
        let primary_grants = made.runs(&["grants", "--primary"], 0);
        assert_eq!(primary_grants.matches("REPLICATION CLIENT").count(), 1, "{primary_grants}");
        // As docs/processor.md says: the server is empty and read-only, and the copy has the primary's accounts.
        let before = processor.gtid_executed().await;
        for (args, server) in
            [(&["grants", "--primary", "--processor"][..], primary), (&["grants", "--processor"], processor)]
        {
            let output = made.command(args).output().expect("run tablecast");
            assert!(output.status.success(), "{}", both(&output));
            let text = String::from_utf8(output.stdout).expect("a text");
            assert_eq!(
                text.matches("-- CREATE USER").count(),
                if server.port == primary.port { 2 } else { 1 },
                "{text}"
            );
            let text = text.replace("-- CREATE USER", "CREATE USER").replace("'…'", &format!("'{PASSWORD}'"));
            server.client(&[], text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
        assert_eq!(processor.gtid_executed().await, before, "nothing of it is logged");
        assert_eq!(processor.value::<u8>("SELECT @@GLOBAL.super_read_only").await, 1);
        made
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.arg("-c").arg(&self.file).args(args).env("TEST_PASSWORD", PASSWORD);
        command
    }

    #[track_caller]
    fn runs(&self, args: &[&str], code: i32) -> String {
        let output = self.command(args).output().expect("run tablecast");
        let text = both(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(!text.contains(PASSWORD), "{text}");
        text
    }

    #[track_caller]
    fn is_killed(&self, args: &[&str], point: &str) {
        let output = self.command(args).env("TABLECAST_FAILPOINTS", point).output().expect("run tablecast");
        assert_eq!(output.status.signal(), Some(9), "{point}: {}", both(&output));
    }
}

/// A server with the printed my.cnf.
fn server(stream: &Stream, folder: &std::path::Path, more: &[&str]) -> Server {
    let printed = stream.run(&["processor", "config", "--table", "g.apps", "--table", "g.plans"], "");
    assert!(printed.status.success(), "{printed:?}");
    let file = folder.join(format!("{}.cnf", more.len()));
    std::fs::write(&file, &printed.stdout).expect("write it");
    let file = format!("--defaults-file={}", file.display());
    Server::start(&[&[file.as_str()], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_processor_is_made_by_clone_killed_at_every_step_and_made_again_with_writes_going_on() {
    let primary = Server::start(&["--general-log=ON", "--general-log-file=general.log"]);
    primary.sql(SETUP).await;
    let folder = tempfile::tempdir().expect("a folder");
    let planned = Stream::plan(&primary, &["g.*"], "").await;
    let processor = server(&planned, folder.path(), &["--general-log=ON", "--general-log-file=general.log"]);
    let made = Made::new(&primary, &processor).await;
    let writer = Writer::begin(&primary);
    work(&primary).await;

    let before = processor.gtid_executed().await;
    let says = made.runs(&["processor", "create", "--dry-run"], 0);
    assert!(
        says.contains("INSTALL PLUGIN clone") && says.contains("CLONE") && says.contains("(my.cnf)"),
        "{says}"
    );
    assert_eq!(processor.gtid_executed().await, before, "a dry run changes nothing");
    let plugin = "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'";
    assert_eq!(primary.value::<u32>(plugin).await, 0);

    made.is_killed(&["processor", "create"], "processor.before_clone=kill");
    {
        let _systemd = Supervisor::of(&processor);
        made.is_killed(&["processor", "create"], "processor.after_clone=kill");
        while tablecast::mysql::connect(&processor.config()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
    let says = made.runs(&["processor", "create", "--dry-run"], 0);
    assert!(!says.contains("CLONE "), "it carries on behind the copy: {says}");
    assert!(says.contains("drop the 1 tables"), "{says}");
    for point in
        ["processor.after_drop=kill", "processor.after_change_source=kill", "processor.after_start=kill"]
    {
        made.is_killed(&["processor", "create"], point);
    }
    assert_eq!(processor.checksum("private.t").await, None, "no filter lets it in");
    let says = made.runs(&["processor", "create"], 0);
    assert!(!says.contains("FAIL"), "{says}");
    made.runs(&["upload"], 0);
    processor.catch_up(&primary).await;
    assert!(processor.checksum("g.apps").await.is_some());
    assert_eq!(processor.value::<u8>("SELECT @@GLOBAL.super_read_only").await, 1);

    // CLONE and a worker with a DDL would wait for each other for ever: nothing replicates when it begins.
    made.is_killed(&["processor", "rebuild"], "processor.before_clone=kill");
    let running =
        "SELECT COUNT(*) FROM performance_schema.replication_applier_status WHERE SERVICE_STATE = 'ON'";
    assert_eq!(processor.value::<u32>(running).await, 0);

    // Made again under an upload that follows. It goes on by itself, over the bridge.
    let log = std::fs::File::create(folder.path().join("log")).expect("a log");
    let mut upload =
        made.command(&["upload", "--follow"]).stderr(log).stdout(Stdio::null()).spawn().expect("tablecast");
    {
        let _systemd = Supervisor::of(&processor);
        let says = made.runs(&["processor", "rebuild"], 0);
        assert!(says.contains("CLONE"), "{says}");
    }
    work(&primary).await;
    writer.end().await;
    let wanted = primary.gtid_executed().await;
    let begin = std::time::Instant::now();
    while !wanted.is_subset(&made.world.stream.head().await.covered) {
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        assert!(upload.try_wait().expect("look").is_none(), "{log}");
        assert!(begin.elapsed().as_secs() < 120, "{log}");
        // Foreign transactions alone are written down once a minute.
        work(&primary).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    upload.kill().expect("kill");
    upload.wait().expect("wait");
    processor.catch_up(&primary).await;
    made.runs(&["upload"], 0);
    made.world.stream_is_whole(&primary).await;
    made.world.regions_are_equal_to(&primary, &TABLES).await;
    for server in [&primary, &processor] {
        let folder = data_dir(server);
        for file in [folder.join("general.log"), folder.parent().expect("a folder").join("error.log")] {
            let text = std::fs::read(&file).expect("a log");
            let has = text.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
            // Only the statements of this test's own CREATE USER would, and these the server rewrites.
            assert!(!has, "{}", file.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_would_lose_history_or_drop_what_is_no_processor_drops_nothing() {
    let [primary, processor, mini] = Server::start_all([&[], &[], &[]]);
    primary.sql(SETUP).await;
    let mut world = World::to_copy(&primary, &primary).await;
    work(&primary).await;
    world.runs(&["upload"], 0);
    let says = world.runs(&["processor", "create"], 2);
    assert!(says.contains("the very server that [primary] names"), "{says}");

    world.read_from(&primary, &processor);
    processor.sql("CREATE DATABASE precious; CREATE TABLE precious.t (id INT PRIMARY KEY)").await;
    for verb in ["create", "rebuild"] {
        let says = world.runs(&["processor", verb], 2);
        assert!(says.contains("it holds 1 tables") && says.contains("--replace"), "{says}");
    }
    let says = world.runs(&["processor", "create", "--replace", "--dry-run"], 0);
    assert!(says.contains("its 1 tables go"), "{says}");

    // A region is one before anything else is asked of its account.
    world.regions_are_equal_to(&primary, &TABLES).await;
    let region = &world.regions[0];
    region.sql("SET sql_log_bin = 0; CREATE USER r@'%'; GRANT SELECT ON tablecast.* TO r@'%'").await;
    let (root, poor) = (super::kit::mysql_section(&processor), super::kit::mysql_section(region));
    let (root, poor) = (format!("{root}user = \"granted\""), format!("{poor}user = \"r\""));
    world.stream.reconfigure(&root, &poor);
    for verb in [&["processor", "create", "--replace"][..], &["processor", "rebuild"]] {
        let says = world.runs(verb, 2);
        assert!(says.contains("it is a region of this very stream"), "{says}");
    }
    // With what `grants --processor` prints alone it may not look. Nor is one of another stream anybody's to drop.
    region
        .sql(
            "SET sql_log_bin = 0; REVOKE ALL, GRANT OPTION FROM r@'%'; \
             GRANT DROP, PROCESS, CLONE_ADMIN, SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, REPLICATION SLAVE, \
             REPLICATION CLIENT ON *.* TO r@'%'; GRANT SELECT ON performance_schema.* TO r@'%'",
        )
        .await;
    for verb in ["create", "rebuild"] {
        let says = world.runs(&["processor", verb, "--replace"], 2);
        assert!(says.contains("it has tablecast.position, as a region does"), "{says}");
    }
    region
        .sql("SET sql_log_bin = 0; GRANT SELECT ON *.* TO r@'%'; UPDATE tablecast.position SET name = 'theirs'")
        .await;
    let says = world.runs(&["processor", "create", "--replace"], 2);
    assert!(says.contains("it is a region of the stream theirs"), "{says}");
    world.stream.reconfigure(&poor, &root);

    // A filtered replica of this very primary, and another stream's.
    let here = super::kit::mysql_section(&mini);
    world.stream.reconfigure(&super::kit::mysql_section(&processor), &here);
    mini.replicate_from(&primary, "REPLICATE_DO_TABLE = (private.t, tablecast.table_set)").await;
    mini.catch_up(&primary).await;
    let says = world.runs(&["processor", "rebuild"], 2);
    assert!(says.contains("do not let in g.apps of this stream"), "{says}");
    let filter = |tables: &str| {
        format!("STOP REPLICA; CHANGE REPLICATION FILTER REPLICATE_DO_TABLE = ({tables}); START REPLICA")
    };
    mini.sql(&filter("g.apps, g.plans, private.t, tablecast.table_set")).await;
    let says = world.runs(&["processor", "rebuild"], 2);
    assert!(says.contains("let in private.t, which would go") && says.contains("another stream"), "{says}");
    mini.sql(&filter("g.apps, g.plans, tablecast.table_set")).await;
    let says = world.runs(&["processor", "rebuild", "--dry-run"], 0);
    assert!(says.contains("CLONE "), "{says}");
    world.stream.reconfigure(&here, &super::kit::mysql_section(&processor));

    work(&primary).await;
    purge(&primary).await;
    let says = world.runs(&["processor", "rebuild", "--replace"], 10);
    assert!(says.contains("no longer hold that") && says.contains("--resync"), "{says}");
    assert_eq!(processor.checksum("precious.t").await, Some(0), "nothing is dropped");

    // Somebody makes a copy of another server there right now.
    let _slow = begin_clone(&mini, &processor, 1).await;
    for verb in [&["create"][..], &["create", "--replace"], &["create", "--loaded", "--replace"]] {
        let says = world.runs(&[&["processor"], verb].concat(), 2);
        assert!(says.contains(&format!("a CLONE from 127.0.0.1:{} is under way", mini.port)), "{says}");
    }
}

/// What a DBA types, with this many MiB a second at most. Behind it the server has begun.
async fn begin_clone(donor: &Server, recipient: &Server, mib: u32) -> tokio::task::JoinHandle<()> {
    const PLUGIN: &str = "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'";
    for server in [donor, recipient] {
        if server.value::<u32>(PLUGIN).await == 0 {
            server.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'").await;
        }
    }
    let port = donor.port;
    recipient
        .sql(&format!(
            "SET GLOBAL read_only = OFF; SET GLOBAL clone_max_data_bandwidth = {mib}; \
             SET GLOBAL clone_valid_donor_list = '127.0.0.1:{port}'"
        ))
        .await;
    let mut conn = recipient.connect().await;
    let cloning = tokio::spawn(async move {
        // The restart cuts it.
        let _ = conn.query_drop(format!("CLONE INSTANCE FROM root@127.0.0.1:{port} IDENTIFIED BY ''")).await;
    });
    let state = "SELECT COUNT(*) FROM performance_schema.clone_status WHERE STATE = 'In Progress'";
    while recipient.value::<u32>(state).await == 0 {
        assert!(!cloning.is_finished(), "CLONE has ended");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    cloning
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_primary_that_nobody_made_for_the_stream_is_not_emptied_unasked() {
    let primary = Server::start(&[]);
    primary.sql(SETUP).await;
    let mut world = World::to_copy(&primary, &primary).await;
    work(&primary).await;
    world.runs(&["upload"], 0);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("my.cnf");
    std::fs::write(&file, "[mysqld]\n").expect("write it");
    let copy = Server::start(&[&format!("--defaults-file={}", file.display())]);
    world.read_from(&primary, &copy);
    let refused = |args: &[&str], why: &str| {
        let says = world.runs(&[&["processor"], args].concat(), 2);
        assert!(says.contains(why), "{args:?}: {says}");
    };
    {
        // The DBA's own replica in the making, waited for and not.
        let _systemd = Supervisor::of(&copy);
        let cloning = begin_clone(&primary, &copy, 20).await;
        refused(&["create"], "does not have the filters of this stream");
        cloning.await.expect("it does not panic");
    }
    for verb in ["create", "rebuild"] {
        refused(&[verb], "does not have the filters of this stream");
    }
    // With the filters, and something of its own.
    let printed = world.stream.run(&["processor", "config"], "").stdout;
    std::fs::write(&file, &printed).expect("write it");
    copy.restart(&[]);
    let off = "SET GLOBAL read_only = OFF; SET sql_log_bin = 0";
    copy.sql(&format!("{off}; CREATE DATABASE reports; CREATE TABLE reports.r (id INT PRIMARY KEY)")).await;
    refused(&["create"], "reports.r is not at the primary");
    // A copy that lacks a table of the set would be made anew.
    copy.sql("SET sql_log_bin = 0; RENAME TABLE g.plans TO g._apps_del").await;
    for verb in ["create", "rebuild"] {
        refused(&[verb], "it holds ");
    }
    copy.sql("SET sql_log_bin = 0; RENAME TABLE g._apps_del TO g.plans; DROP DATABASE reports").await;
    copy.sql("SET sql_log_bin = 0; CREATE USER app@'%'").await;
    let app = tablecast::mysql::connect(&copy.config_as("app", "")).await.expect("connect");
    refused(&["create"], "it is not read-only, and app is connected");
    drop(app);
    copy.sql("SET GLOBAL gtid_mode = ON_PERMISSIVE").await;
    refused(&["create"], "does not log what is written there by GTID");
    assert!(copy.checksum("private.t").await.is_some(), "nothing is dropped");
    // It is the right one, as its my.cnf says.
    copy.restart(&[]);
    let says = world.runs(&["processor", "create"], 0);
    assert!(!says.contains("CLONE"), "{says}");
    assert_eq!(copy.checksum("private.t").await, None);
    copy.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    world.stream_is_whole(&primary).await;
}
