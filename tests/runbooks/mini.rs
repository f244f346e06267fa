//! A processor between the primary and the bucket, made as docs/processor.md says, with accounts that have what `grants`
//! prints and nothing else.

use std::path::PathBuf;

use super::machines::{Machines, administrator, eu1, read, server_as};
use crate::ops::kit::Ran;
use crate::processor::kit::Supervisor;
use crate::support::mysql::Server;

const PASSWORD: &str = "not a secret of anybody";

pub struct Mini {
    pub machines: Machines,
    pub primary: Server,
    pub processor: Server,
    pub region: Server,
}

impl Mini {
    /// A stream of `set` from a primary with these tables, and a region that follows it. `names`: as the region lets them in.
    pub async fn of(page: &str, tables: &str, set: &[&str], names: &str) -> Mini {
        let machines = Machines::of(page);
        let [primary, region] = Server::start_all([&[], &[]]);
        primary.sql(tables).await;
        machines.secret("password", PASSWORD);
        machines.config("eu1", &eu1(&region, names));
        let set: Vec<&str> = set.iter().flat_map(|table| ["--table", table]).collect();
        let asks = |words: &[&str]| machines.runs("source", &[words, &set].concat()).ends(0, &[]).stdout;
        // Where its processor is nobody knows yet.
        configure(&machines, &primary, &primary);
        with_accounts(&primary, &asks(&["grants", "--primary", "--processor"]));
        std::fs::write(machines.path("my.cnf"), asks(&["processor", "config"])).unwrap();
        let processor = started(&machines);
        configure(&machines, &processor, &primary);
        with_accounts(&processor, &machines.runs("source", &["grants", "--processor"]).ends(0, &[]).stdout);
        let mini = Mini { machines, primary, processor, region };
        mini.supervised(|| mini.machines.runs("source", &[&["processor", "create"], &set[..]].concat()))
            .ends(0, &[]);
        mini.machines.runs("source", &[&["stream", "init"], &set[..]].concat()).ends(0, &[]);
        mini
    }

    /// What happens while something restarts mysqld.
    pub fn supervised(&self, happens: impl FnOnce() -> Ran) -> Ran {
        let _systemd = Supervisor::of(&self.processor);
        happens()
    }

    /// Puts what a command of the page prints into my.cnf, and restarts the processor.
    #[track_caller]
    pub fn takes_my_cnf(&self, line: &str) {
        let printed = self.machines.types("source", line).ends(0, &[]).stdout;
        self.takes(&printed);
    }

    pub fn takes(&self, my_cnf: &str) {
        std::fs::write(self.machines.path("my.cnf"), my_cnf).unwrap();
        self.processor.restart(&[]);
    }

    pub fn my_cnf(&self) -> String {
        read(&self.machines.path("my.cnf"))
    }

    /// Ships and applies rows of `g.apps` from 100 on, until the stream's time has moved.
    pub async fn goes_on(&self) {
        let write = async |n| {
            self.primary.sql(&format!("INSERT INTO g.apps (id) VALUES ({})", 100 + n)).await;
            self.processor.catch_up(&self.primary).await;
        };
        self.machines.goes_on(write).await;
        self.machines.runs("eu1", &["apply"]).ends(0, &[]);
    }

    /// Ships and applies what the primary has.
    pub async fn flows(&self) {
        self.processor.catch_up(&self.primary).await;
        self.machines.runs("source", &["upload"]).ends(0, &[]);
        self.machines.runs("eu1", &["apply"]).ends(0, &[]);
    }
}

/// An empty server with that my.cnf.
pub fn started(machines: &Machines) -> Server {
    Server::start(&[&format!("--defaults-file={}", my_cnf(machines).display())])
}

fn my_cnf(machines: &Machines) -> PathBuf {
    machines.path("my.cnf")
}

pub fn configure(machines: &Machines, mysql: &Server, primary: &Server) {
    let password = format!("password_file = \"{}\"\n", machines.path("password").display());
    let sections = [("mysql", mysql, "mini"), ("primary", primary, "donor")]
        .map(|(section, server, user)| server_as(section, server, user, &password));
    machines.config("source", &sections.concat());
}

/// Runs what `grants` has printed, with the lines that make accounts.
#[track_caller]
pub fn with_accounts(server: &Server, printed: &str) {
    administrator(
        server,
        &printed.replace("-- CREATE USER", "CREATE USER").replace("'…'", &format!("'{PASSWORD}'")),
    );
}
