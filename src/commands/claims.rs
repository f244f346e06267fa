//! The config files of a process, and which side of which stream each of them claims.
//!
//! Two files of one stream, role and server would keep each other from working, now one and now the other: neither is
//! begun, at the start and whenever one of them would be begun again. What takes no lock is only warned.
//!
//! Two files that name one metrics file are refused by `config check`. Elsewhere that is a warning: each adds to it what is
//! its own, but none of them will ever be taken out of it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::{self, Config, MysqlConfig};
use crate::error::{Error, Kind, Result};
use crate::metrics::textfile;

/// Role, stream, and the server as [`server`] knows it; and the file for its figures.
#[derive(Clone, Debug)]
struct Claim {
    role: String,
    stream: String,
    server: (String, u16, Option<PathBuf>),
    textfile: Option<PathBuf>,
}

impl Claim {
    fn is_of_same_side(&self, other: &Claim) -> bool {
        (&self.role, &self.stream, &self.server) == (&other.role, &other.stream, &other.server)
    }

    fn has_same_textfile(&self, other: &Claim) -> bool {
        self.textfile.is_some() && self.textfile == other.textfile
    }
}

/// What the runs are about to do with their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Two runs for one side of one stream may lock each other out.
    Locks,
    /// To say what is wrong with the files.
    Checks,
    Looks,
}

/// The files, and what each was found to claim when it was last read.
pub(super) struct Claims {
    paths: Vec<PathBuf>,
    purpose: Purpose,
    found: Mutex<Vec<Option<Claim>>>,
}

impl Claims {
    /// Reads all the files; their configs in the order of the files.
    pub fn load(paths: Vec<PathBuf>, purpose: Purpose) -> (Claims, Vec<Result<Box<Config>>>) {
        let loaded: Vec<_> = paths.iter().map(|path| config::load(path).map(Box::new)).collect();
        let found: Vec<_> = loaded.iter().map(claim).collect();
        let claims = Claims { paths, purpose, found: Mutex::new(found) };
        let judged = loaded.into_iter().enumerate().map(|(at, config)| {
            let others = claims.others(at, Claim::is_of_same_side);
            claims.judge(at, config, &others)
        });
        let judged = judged.collect();
        (claims, judged)
    }

    /// Reads one of them anew, and those that claimed the same: one of them may have been removed or changed.
    pub fn load_again(&self, at: usize) -> Result<Box<Config>> {
        let config = config::load(&self.paths[at]).map(Box::new);
        let mine = claim(&config);
        self.found()[at] = mine.clone();
        let mut others = self.others(at, Claim::is_of_same_side);
        others.retain(|&other| {
            let there = claim(&config::load(&self.paths[other]).map(Box::new));
            mine.as_ref().zip(there.as_ref()).is_some_and(|(mine, there)| mine.is_of_same_side(there))
        });
        self.judge(at, config, &others)
    }

    fn found(&self) -> MutexGuard<'_, Vec<Option<Claim>>> {
        // Whoever panicked while holding it has put in whole claims.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which others claim the same, as far as is known.
    fn others(&self, at: usize, is_same: fn(&Claim, &Claim) -> bool) -> Vec<usize> {
        let found = self.found();
        let both = |other: usize| found[at].as_ref().zip(found[other].as_ref());
        let same = |other: &usize| *other != at && both(*other).is_some_and(|(a, b)| is_same(a, b));
        (0..found.len()).filter(same).collect()
    }

    fn named(&self, others: &[usize]) -> String {
        let files: Vec<String> =
            others.iter().map(|&other| self.paths[other].display().to_string()).collect();
        files.join(", ")
    }

    fn judge(&self, at: usize, config: Result<Box<Config>>, others: &[usize]) -> Result<Box<Config>> {
        let mut config = config?;
        let beside = self.others(at, Claim::has_same_textfile);
        if let (Some(path), false) = (textfile::path(&config), beside.is_empty()) {
            let (here, others) = (self.paths[at].display(), self.named(&beside));
            let what = format!("config {here}: the metrics file {} is also that of {others}", path.display());
            if self.purpose == Purpose::Checks {
                let hint = "a file of its own for each, or a folder, with a slash at its end: metrics.textfile = \"/FOLDER/\"";
                return Err(Error::new(Kind::Usage, what).hint(hint));
            }
            config.warnings.push(format!("{what}: name another as `metrics.textfile`"));
        }
        if others.is_empty() {
            return Ok(config);
        }
        let what = format!(
            "config {}: the {}'s side of stream {:?} at the same server is also in {}",
            self.paths[at].display(),
            config.role,
            config.stream,
            self.named(others)
        );
        if self.purpose == Purpose::Locks {
            let hint = "they would lock each other out, so none of them is begun: remove all but one";
            return Err(Error::new(Kind::Usage, what).hint(hint));
        }
        config.warnings.push(format!("{what}: upload and apply begin neither of them"));
        Ok(config)
    }
}

fn claim(config: &Result<Box<Config>>) -> Option<Claim> {
    let config = config.as_ref().ok()?;
    let (role, stream) = (config.role.to_string(), config.stream.clone());
    Some(Claim { role, stream, server: server(&config.mysql), textfile: textfile::path(config) })
}

/// What a server is recognised by, as far as a config tells: each name of this machine is the same one. That a socket
/// and a port lead to one server, or two names, only the lock at that server finds out.
fn server(mysql: &MysqlConfig) -> (String, u16, Option<PathBuf>) {
    if mysql.socket.is_some() {
        return (String::new(), 0, mysql.socket.clone());
    }
    let host = mysql.host.as_deref().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    (if is_here { "127.0.0.1".to_owned() } else { host }, mysql.port, None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn write(path: &Path, lines: &str) {
        let text = format!(
            "role = \"source\"\nstream = \"s\"\nstore = \"s3://b/s\"\n[mysql]\nuser = \"u\"\n{lines}\n"
        );
        std::fs::write(path, text).expect("write a config");
    }

    #[test]
    fn files_of_one_side_are_refused_as_often_as_they_are_read_until_all_but_one_are_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.toml", "copy.toml", "other.toml"].map(|name| folder.path().join(name));
        let here = "host = \"localhost\"";
        for (path, lines) in paths.iter().zip([here, "host = \"127.0.0.1\"", "host = \"db1\""]) {
            write(path, lines);
        }
        let (claims, loaded) = Claims::load(paths.to_vec(), Purpose::Locks);
        let is_refused = |config: &Result<Box<Config>>| match config {
            Ok(_) => false,
            Err(error) => error.to_string().contains("is also in"),
        };
        assert_eq!(loaded.iter().map(is_refused).collect::<Vec<_>>(), [true, true, false]);
        for _ in 0..2 {
            let again = [0, 1, 2].map(|at| is_refused(&claims.load_again(at)));
            assert_eq!(again, [true, true, false], "when they are begun again, too");
        }
        // A file that has been made a copy since, of one that goes on meanwhile.
        write(&paths[2], here);
        let error = claims.load_again(2).expect_err("three of them").to_string();
        assert!(error.contains("a.toml") && error.contains("copy.toml"), "{error}");
        std::fs::remove_file(&paths[1]).expect("remove it");
        write(&paths[2], "host = \"db1\"");
        assert!(
            claims.load_again(0).is_ok(),
            "it is alone now, whether or not the others have been read since"
        );
        assert!(claims.load_again(1).is_err_and(|error| !error.to_string().contains("is also in")));
        assert!(claims.load_again(2).is_ok());
    }

    #[test]
    fn a_metrics_file_of_two_is_refused_by_a_check_and_warned_of_elsewhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["a.toml", "b.toml", "c.toml"].map(|name| folder.path().join(name));
        for (path, (host, textfile)) in
            paths.iter().zip([("db1", "/m/one.prom"), ("db2", "/m/one.prom"), ("db3", "/m/")])
        {
            write(path, &format!("host = \"{host}\"\n[metrics]\ntextfile = \"{textfile}\""));
        }
        let (_, checked) = Claims::load(paths.to_vec(), Purpose::Checks);
        let refused: Vec<bool> = checked.iter().map(Result::is_err).collect();
        assert_eq!(refused, [true, true, false]);
        let text = checked[0].as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert!(text.contains("/m/one.prom is also that of") && text.contains("b.toml"), "{text}");
        let (_, begun) = Claims::load(paths.to_vec(), Purpose::Locks);
        let warned = |config: &Result<Box<Config>>| {
            config.as_ref().is_ok_and(|config| config.warnings.join("").contains("the metrics file"))
        };
        assert_eq!(begun.iter().map(warned).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn every_name_of_this_machine_is_one_server_and_other_machines_ports_and_sockets_are_others() {
        let mysql = |lines: &str| -> MysqlConfig {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("t.toml");
            write(&path, lines);
            config::load(&path).expect("a config").mysql
        };
        let here = server(&mysql("host = \"127.0.0.1\""));
        for host in ["localhost", "LocalHost.", "::1", "127.0.1.1"] {
            assert_eq!(server(&mysql(&format!("host = {host:?}"))), here, "{host}");
        }
        for other in ["host = \"db1\"", "host = \"127.0.0.1\"\nport = 3307", "socket = \"/run/mysqld.sock\""]
        {
            assert_ne!(server(&mysql(other)), here, "{other}");
        }
        assert_eq!(server(&mysql("host = \"DB1.\"")), server(&mysql("host = \"db1\"")));
    }
}
