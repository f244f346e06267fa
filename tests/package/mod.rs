//! The Debian package: installed into a root of its own, it does the main job from there, by its own units' commands.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::granted::{self, USER};
use crate::support::mysql::Server;

/// A root in which nothing is but what dpkg and useradd keep their books in.
struct Root {
    folder: tempfile::TempDir,
}

impl Root {
    fn new() -> Root {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("var/lib/dpkg/status", "");
        put("var/log/dpkg.log", "");
        put("var/lib/dpkg/info/format", "1\n");
        put("var/lib/dpkg/updates/none", "");
        fs::remove_file(folder.path().join("var/lib/dpkg/updates/none")).unwrap();
        put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        put("etc/group", "root:x:0:\n");
        Root { folder }
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside.trim_start_matches('/'))
    }

    /// dpkg, whose scripts run outside, with DPKG_ROOT set: there is no shell inside. Neither are other packages.
    fn dpkg(&self, arguments: &[&str]) {
        let root = format!("--root={}", self.folder.path().display());
        let log = format!("--log={}", self.path("var/log/dpkg.log").display());
        // A host may be set to leave documentation out.
        let all = ["--path-include=/usr/share/doc/*", "--path-include=/usr/share/man/*"];
        let command = ["dpkg", &root, &log, all[0], all[1], "--force-depends", "--force-script-chrootless"];
        as_root(&[&command, arguments].concat());
    }

    /// What a unit runs, with this root's paths for its own.
    fn start_of(&self, unit: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("usr/lib/systemd/system").join(unit)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let inside = |word: &str| match word.starts_with('/') {
            true => self.path(word).display().to_string(),
            false => word.to_owned(),
        };
        line.split_whitespace().map(inside).collect()
    }

    fn run(&self, command: &[String]) -> Output {
        let mut command = as_root_command(&command.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("TABLECAST_CACHE_DIR", self.path("/var/cache/tablecast")).output().unwrap()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Some of it is another user's.
        let path = self.folder.path().display().to_string();
        let _ = as_root_command(&["sh", "-c", "rm -rf -- \"$1\"/*", "sh", &path]).output();
    }
}

fn as_root_command(command: &[&str]) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let words =
        if is_root { command.to_vec() } else { [&["sudo", "-n", "--preserve-env"], command].concat() };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn as_root(command: &[&str]) -> String {
    let output = as_root_command(command).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// The package of this build.
fn package(folder: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package/deb");
    let made = Command::new(script).args(["--of-tests", "--output"]).arg(folder).output().unwrap();
    let printed = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    assert!(made.status.success(), "{printed}{}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(printed)
}

#[tokio::test]
async fn a_table_goes_from_source_to_region_by_the_units_of_the_installed_package() {
    let [source, region] = Server::start_all([&[], &[]]);
    let (root, made) = (Root::new(), tempfile::tempdir().unwrap());
    let package = package(made.path());
    let package = package.to_str().unwrap();
    root.dpkg(&["--install", package]);

    let account = fs::read_to_string(root.path("etc/passwd")).unwrap();
    let account = account.lines().find(|line| line.starts_with("tablecast:")).unwrap().to_owned();
    assert!(account.ends_with(":/var/cache/tablecast:/usr/sbin/nologin"), "{account}");
    let cache = fs::metadata(root.path("var/cache/tablecast")).unwrap();
    assert_eq!(cache.permissions().mode() & 0o777, 0o700);
    assert_eq!(cache.uid().to_string(), account.split(':').nth(2).unwrap());

    let tablecast = root.path("usr/bin/tablecast").display().to_string();
    let version = as_root(&[&tablecast, "--version"]);
    assert_eq!(version.trim(), concat!("tablecast ", env!("CARGO_PKG_VERSION")));
    for file in [
        "usr/share/man/man1/tablecast-apply.1.gz",
        "usr/share/bash-completion/completions/tablecast",
        "usr/share/zsh/vendor-completions/_tablecast",
        "usr/share/fish/vendor_completions.d/tablecast.fish",
        "usr/share/doc/tablecast/docs/runbooks/history-lost.md",
        "usr/share/doc/tablecast/examples/prometheus/tablecast.rules.yml",
        "usr/share/doc/tablecast/examples/cron/region",
        "usr/share/doc/tablecast/copyright",
    ] {
        assert!(fs::metadata(root.path(file)).is_ok_and(|file| file.len() > 100), "{file}");
    }
    let completion = root.path("usr/share/bash-completion/completions/tablecast");
    as_root(&["bash", "-n", completion.to_str().unwrap()]);

    source.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(20))").await;
    let bucket = root.path("srv/tablecast");
    fs::create_dir_all(&bucket).unwrap();
    let file = |role: &str, server: &Server, more: &str| {
        let text = format!(
            "role = \"{role}\"\nstream = \"apps\"\nstore = \"file://{}\"\n{more}[mysql]\nhost = \"127.0.0.1\"\n\
             port = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n",
            bucket.display(),
            server.port
        );
        let (written, path) =
            (made.path().join(role), root.path(&format!("etc/tablecast/{role}s/apps.toml")));
        granted::write(&written, &text, &["g.apps"]);
        let path = path.display().to_string();
        as_root(&["install", "-m", "0640", written.to_str().unwrap(), &path]);
        path
    };
    let at_source = file("source", &source, "");
    file("region", &region, "[region]\nname = \"eu1\"\ntables = [\"g.apps\"]\n");
    as_root(&[&tablecast, "--config", &at_source, "stream", "init", "--table", "g.apps"]);
    source.sql("INSERT INTO g.apps VALUES (1, 'one'), (2, 'two')").await;
    for unit in ["tablecast-upload.service", "tablecast-apply.service"] {
        let ran = root.run(&root.start_of(unit));
        assert!(ran.status.success(), "{unit}: {ran:?}");
    }
    assert_eq!(region.rows::<String>("SELECT name FROM g.apps ORDER BY id").await, ["one", "two"]);

    // What a unit names is there, and is a command that the program has.
    for unit in fs::read_dir(root.path("usr/lib/systemd/system")).unwrap() {
        let unit = unit.unwrap().file_name().into_string().unwrap();
        if unit.ends_with(".service") {
            let mut start = root.start_of(&unit);
            start.push("--help".to_owned());
            let help = root.run(&start);
            assert!(help.status.success(), "{unit}: {help:?}");
        }
    }

    // Installed again, taken away, purged: what the administrator has written stays.
    root.dpkg(&["--install", package]);
    root.dpkg(&["--remove", "tablecast"]);
    assert!(!root.path("usr/bin/tablecast").exists() && root.path("var/cache/tablecast").exists());
    root.dpkg(&["--purge", "tablecast"]);
    assert!(!root.path("var/cache/tablecast").exists() && Path::new(&at_source).exists());
}
