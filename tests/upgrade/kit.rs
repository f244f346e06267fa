//! A stream at which two versions of the program work.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apply::kit::Stream;
use crate::ops::kit::{Ran, command_of};
use crate::support::granted;
use crate::support::mysql::Server;

/// Which of the two works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Of the commit before; `scripts/test` builds it.
    Before,
    This,
}

impl Version {
    pub fn program(self) -> PathBuf {
        let this = PathBuf::from(env!("CARGO_BIN_EXE_tablecast"));
        if self == Version::This {
            return this;
        }
        let target = this.ancestors().nth(2).unwrap();
        let before = target.join("earlier/tablecast");
        assert!(before.is_file(), "{}: not there; scripts/test upgrade builds it", before.display());
        // Not that of some day before.
        let built = std::fs::read_to_string(target.join("earlier/commit")).unwrap_or_default();
        let wanted = std::env::var("TABLECAST_EARLIER").unwrap_or_else(|_| "HEAD~1".into());
        let git = Command::new("git")
            .args(["-c", concat!("safe.directory=", env!("CARGO_MANIFEST_DIR")), "rev-parse"])
            .arg(format!("{wanted}^{{commit}}"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        if let Some(git) = git.ok().filter(|git| git.status.success()) {
            let wanted = String::from_utf8_lossy(&git.stdout);
            assert_eq!(built, wanted, "{}; scripts/test upgrade builds it anew", before.display());
        }
        before
    }
}

pub struct Two {
    pub stream: Stream,
    pub region: Server,
}

impl Two {
    /// A schema with two tables, which is no stream yet, and an empty region.
    pub async fn of(schema: &'static str) -> Two {
        let tables = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci; \
                      CREATE TABLE @.plans (id INT PRIMARY KEY, price DECIMAL(9,2), about JSON) COLLATE utf8mb4_0900_ai_ci";
        let stream = Stream::not_begun(Server::shared(), schema, tables).await;
        Two { stream, region: Server::start(&[]) }
    }

    fn run(version: Version, config: &Path, line: &str, failpoint: &str) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut command = command_of(&version.program(), config, &words);
        if !failpoint.is_empty() {
            command.env("TABLECAST_FAILPOINTS", format!("{failpoint}=kill"));
        }
        Ran::of(command)
    }

    pub fn at_source(&self, version: Version, line: &str) -> Ran {
        Self::run(version, &self.stream.source_file(), &line.replace('@', self.stream.schema), "")
    }

    pub fn in_region(&self, version: Version, line: &str) -> Ran {
        self.in_other(&self.region, version, line)
    }

    pub fn in_other(&self, region: &Server, version: Version, line: &str) -> Ran {
        let config = self.stream.region_file(region, granted::USER, &["@.*"]);
        Self::run(version, &config, &line.replace('@', self.stream.schema), "")
    }

    /// Killed at this point, as by `kill -9`.
    #[track_caller]
    pub fn killed(&self, role: &str, version: Version, line: &str, failpoint: &str) {
        let config = match role {
            "source" => self.stream.source_file(),
            _ => self.stream.region_file(&self.region, granted::USER, &["@.*"]),
        };
        let ran = Self::run(version, &config, &line.replace('@', self.stream.schema), failpoint);
        assert_eq!(ran.code, -1, "{version:?} passes {failpoint} and is killed there: {ran:?}");
    }

    /// The next rows of both tables.
    pub async fn write(&self, n: u32) {
        let apps =
            format!("INSERT INTO @.apps VALUES ({n}, 'app {n}') ON DUPLICATE KEY UPDATE name = 'again'");
        let plans = format!("INSERT INTO @.plans (id, price, about) VALUES ({n}, {n}.25, '{{\"n\": {n}}}')");
        let both = format!(
            "BEGIN; {apps}; {plans}; COMMIT; UPDATE @.apps SET name = CONCAT(name, '!') WHERE id < {n}"
        );
        self.stream.sql(&both).await;
    }

    /// Ships, applies, and both sides are equal.
    pub async fn goes_on(&self, source: Version, region: Version) {
        self.at_source(source, "upload").ends(0, &[]);
        self.in_region(region, "apply").ends(0, &[]);
        self.stream.assert_equal(&self.region).await;
    }
}
