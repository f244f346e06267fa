//! Accounts that have exactly what `tablecast grants` prints. The tests' config files name [`USER`], and get such an account of
//! their own at each server that they name; so a test that passes shows, too, that these grants are enough for what it does.
//! Who needs root stands in [`BY_ROOT`], with the reason. The tests' own connections are an administrator's.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

/// As a config file names the account that is to be made.
pub const USER: &str = "granted";

/// The accounts' names begin so.
const PREFIX: &str = "tc_";

/// Of a config file that names servers.
const SECTIONS: [&str; 2] = ["mysql", "primary"];

/// ER_NO_SUCH_TABLE
const NO_TABLE: u16 = 1146;

/// Whose config files name root, and why.
pub const BY_ROOT: &[(&str, &str)] = &[
    (
        "guard status",
        "the test runs every statement that `guard status` advises, those that close the way of its own administrator too, where \
         that is not the program's account; the_printed_grants_suffice_to_see_everybodys_and_no_password_with_them stands beside",
    ),
    (
        "processor create",
        "a copy has the primary's accounts in the place of its own: they are made in another way, which \
         i7_a_processor_is_made_by_clone_killed_at_every_step_and_made_again_with_writes_going_on tries",
    ),
];

/// The text of a config file with accounts in the place of [`USER`], which have been made at the servers that it names, or have
/// been made before under another text. `tables`: of a source, whose stream may not be there yet. `near`: where the file will be.
pub fn config(text: &str, near: &Path, tables: &[impl AsRef<str>]) -> String {
    let parsed: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut written = text.to_owned();
    for section in SECTIONS {
        let Some(server) = parsed.get(section) else { continue };
        let named = server["user"].as_str().unwrap_or_else(|| panic!("no user: {text}"));
        if named != USER && !named.starts_with(PREFIX) {
            continue;
        }
        let user = at(server, named, &printed_at(server, text, near, args(section, tables)));
        let begin = written.find(&format!("[{section}]")).expect("the section");
        let rest = written.split_off(begin);
        written += &rest.replacen(&format!("user = \"{named}\""), &format!("user = \"{user}\""), 1);
    }
    written
}

/// Who the program is at the servers that a config file names as [`USER`].
pub enum Access {
    /// What is granted for these tables; a region's file names its own.
    Granted(Vec<String>),
    /// Of [`BY_ROOT`].
    Root(&'static str),
}

impl Access {
    pub fn of(tables: &[&str]) -> Access {
        Access::Granted(tables.iter().map(|table| (*table).to_owned()).collect())
    }

    /// The text of a config file for that.
    pub fn config(&self, text: &str, near: &Path) -> String {
        match self {
            Access::Granted(tables) => config(text, near, tables),
            Access::Root(who) => by_root(text, who),
        }
    }
}

/// Writes a config file with such accounts.
pub fn write(path: &Path, text: &str, tables: &[impl AsRef<str>]) {
    std::fs::write(path, config(text, path, tables))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Grants the accounts of this config file what is printed for these tables, too.
pub fn more(path: &Path, tables: &[impl AsRef<str>]) {
    for section in SECTIONS {
        add(path, section, args(section, tables));
    }
}

/// Grants the account in `[mysql]` what is printed for a processor, too.
pub fn processor(path: &Path) {
    add(path, "mysql", vec!["--processor"]);
}

fn add(path: &Path, section: &str, args: Vec<&str>) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parsed: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    let Some(server) = parsed.get(section) else { return };
    if !server["user"].as_str().is_some_and(|user| user.starts_with(PREFIX)) {
        return;
    }
    let grants = statements(&printed_at(server, &text, path, args));
    aside(async || {
        let mut conn = connect(server).await.unwrap_or_else(|error| panic!("{server}: {error}"));
        run(&mut conn, &grants).await;
    });
}

/// The text of a config file with root in the place of [`USER`]. `who` stands in [`BY_ROOT`].
pub fn by_root(text: &str, who: &str) -> String {
    assert!(BY_ROOT.iter().any(|(name, _)| *name == who), "{who} is not in the list of those who need root");
    text.replace(&format!("user = \"{USER}\""), "user = \"root\"")
}

/// The same config file with this account in the place of that in `[mysql]`.
pub fn as_user(text: &str, user: &str) -> String {
    let begin = text.find("[mysql]").expect("a section [mysql]");
    let (before, rest) = text.split_at(begin);
    let line = rest.lines().find(|line| line.starts_with("user = ")).expect("a user");
    format!("{before}{}", rest.replacen(line, &format!("user = \"{user}\""), 1))
}

fn args<'a>(section: &str, tables: &'a [impl AsRef<str>]) -> Vec<&'a str> {
    let tables = tables.iter().flat_map(|table| ["--table", table.as_ref()]);
    tables.chain((section == "primary").then_some("--primary")).collect()
}

/// What `tablecast grants` prints for this config file and this server.
fn printed_at(server: &toml::Value, text: &str, near: &Path, mut args: Vec<&str>) -> String {
    const NOTE: &str = "--partial-revokes";
    let printed = printed(text, near, &args);
    let mut is_on = false;
    if printed.contains(NOTE) {
        aside(async || {
            let Ok(mut conn) = connect(server).await else { return };
            is_on = conn.query_first("SELECT @@partial_revokes").await.expect("the setting") == Some(1);
        });
    }
    if !is_on {
        return printed;
    }
    args.push(NOTE);
    self::printed(text, near, &args)
}

fn printed(text: &str, near: &Path, args: &[&str]) -> String {
    static PRINTED: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    let key = format!("{args:?}{text}");
    if let Some(printed) = PRINTED.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return printed.clone();
    }
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let asked = near.with_extension(format!("{}.grants", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&asked, text).unwrap_or_else(|error| panic!("{}: {error}", asked.display()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
    command.arg("--config").arg(&asked).arg("grants").args(args).env_remove("TABLECAST_FAILPOINTS");
    let output = command.output().expect("run tablecast");
    assert!(output.status.success(), "{args:?}: {output:?}: {text}");
    std::fs::remove_file(asked).expect("remove it");
    let printed = String::from_utf8(output.stdout).expect("text");
    PRINTED.lock().unwrap_or_else(PoisonError::into_inner).insert(key, printed.clone());
    printed
}

/// Its statements. What the guard needs beside, and how the server is to be set for it, is printed as comments.
pub fn statements(printed: &str) -> Vec<String> {
    let lines = printed.lines().map(|line| line.strip_prefix("-- ").unwrap_or(line));
    let lines = lines.filter(|line| line.starts_with("GRANT ") || line.starts_with("SET PERSIST "));
    lines.map(|line| line.trim_end_matches(';').to_owned()).collect()
}

/// The name of an account that has at this server what has been printed for the user `named`.
fn at(server: &toml::Value, named: &str, printed: &str) -> String {
    static ONE: Mutex<()> = Mutex::new(());
    let theirs = format!("'{named}'@");
    let mut grants = statements(printed);
    grants.iter_mut().for_each(|grant| *grant = grant.replace(&theirs, "'@'@"));
    let user = format!("{PREFIX}{:08x}", crc32fast::hash(grants.concat().as_bytes()));
    let own = format!("'{user}'@");
    grants.iter_mut().for_each(|grant| *grant = grant.replace("'@'@", &own));
    // One at a time: two tests may want the same account of a server that they share.
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    aside(async || {
        let mut conn = match connect(server).await {
            Ok(conn) => conn,
            // Nobody is there, which the test may want; else the program says that it is refused.
            Err(_) => return,
        };
        let has = format!("SELECT COUNT(*) FROM mysql.user WHERE user = '{user}'");
        let has: Option<u64> = conn.query_first(&has).await.unwrap_or_else(|error| panic!("{has}: {error}"));
        if has == Some(0) {
            grants.insert(0, format!("CREATE USER '{user}'@'%'"));
            run(&mut conn, &grants).await;
        }
    });
    user
}

/// The config may be written in a runtime, which would not wait for another.
fn aside(mut work: impl AsyncFnMut() + Send) {
    std::thread::scope(|scope| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        scope.spawn(move || runtime.block_on(work())).join().expect("the accounts are made");
    });
}

async fn connect(server: &toml::Value) -> mysql_async::Result<Conn> {
    let port = server.get("port").and_then(toml::Value::as_integer).expect("a port");
    let opts =
        OptsBuilder::default().ip_or_hostname(server["host"].as_str().expect("a host")).user(Some("root"));
    // A server may begin every session in a transaction.
    let opts = opts.init(vec!["SET autocommit = 1, completion_type = 'NO_CHAIN', sql_mode = ''"]);
    Conn::new(opts.tcp_port(u16::try_from(port).expect("a port")).prefer_socket(false)).await
}

/// As an administrator, whose hands leave nothing in the binary log, and no GTID, that a test would find there.
/// What a server lacks is left out of what is granted: a test may bring the program to one that has nothing.
async fn run(conn: &mut Conn, statements: &[String]) {
    let begin = ["SET sql_log_bin = 0, @was = @@GLOBAL.super_read_only", "SET GLOBAL super_read_only = 0"];
    let statements = begin.into_iter().chain(statements.iter().map(String::as_str));
    for statement in statements.chain(["SET GLOBAL super_read_only = @was"]) {
        match conn.query_drop(statement).await {
            Err(mysql_async::Error::Server(error)) if error.code == NO_TABLE => {}
            done => done.unwrap_or_else(|error| panic!("{statement}: {error}")),
        }
    }
}

#[test]
fn no_config_file_of_a_test_names_root_in_another_way() {
    let mut folders = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/tests").into()];
    let (mut found, mut texts): (Vec<String>, String) = (Vec::new(), String::new());
    while let Some(folder) = folders.pop() {
        let folder: std::path::PathBuf = folder;
        for path in std::fs::read_dir(folder).expect("the tests").map(|entry| entry.expect("a file").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("support/granted.rs")
            {
                let text = std::fs::read_to_string(&path).expect("a test");
                let lines = text.lines().enumerate().filter(|(_, line)| line.contains("user = \\\"root"));
                found.extend(
                    lines.map(|(at, line)| format!("{}:{}: {}", path.display(), at + 1, line.trim())),
                );
                texts += &text;
            }
        }
    }
    assert!(found.is_empty(), "the account is `granted::USER`, or `granted::by_root` says why: {found:#?}");
    for (who, _) in BY_ROOT {
        assert!(
            texts.contains(&format!("\"{who}\"")),
            "nobody is root as {who} any more: take it out of the list"
        );
    }
}
