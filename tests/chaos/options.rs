//! What is asked of a run, and the generators that come of its seed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sha2::{Digest, Sha256};

use super::faults::Fault;

/// Attacks Tablecast's invariants with real servers, real programs and random faults. Exit code 1: something was found.
#[derive(Parser, Clone, Debug)]
#[command(name = "scripts/chaos")]
pub struct Options {
    /// Everything that decides is drawn from it; printed, and a random one unless it is given
    #[arg(long)]
    pub seed: Option<u64>,

    /// So many runs one after another, with seeds that follow on the first
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seeds: u64,

    /// How long each run attacks; setting up and the last check come on top
    #[arg(long, default_value = "3", value_name = "M")]
    pub minutes: f64,

    /// The time between two quiet moments, at which everything is checked
    #[arg(long, default_value = "60", value_name = "S")]
    pub quiet_every: u64,

    /// No other faults than these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FAULT,…")]
    pub only: Vec<Fault>,

    /// Every fault but these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FAULT,…")]
    pub without: Vec<Fault>,

    /// No faults at all
    #[arg(long)]
    pub calm: bool,

    /// Regions
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3))]
    pub regions: u16,

    /// Connections that write at the primary
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub writers: usize,

    /// No network namespaces, also where this user may make them
    #[arg(long)]
    pub no_namespaces: bool,

    /// Keep the folder of every run, not only of one that found something
    #[arg(long)]
    pub keep: bool,

    /// Where the folders of the runs go
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,

    /// The figures of all runs as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Nothing but the figures and what was found
    #[arg(long, short)]
    pub quiet: bool,

    /// Changes one row in a region behind the checks' back, right before the last one: the run has to find it
    #[arg(long)]
    pub sabotage: bool,

    /// The program that is attacked
    #[arg(long, env = "TABLECAST_CHAOS_PROGRAM", value_name = "FILE", hide_env_values = true)]
    pub program: Option<PathBuf>,
}

impl Options {
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.minutes * 60.0)
    }

    pub fn program(&self) -> PathBuf {
        self.program.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_tablecast").into())
    }

    pub fn faults(&self) -> Vec<Fault> {
        let is_wanted = |fault: &Fault| {
            !self.calm && (self.only.is_empty() || self.only.contains(fault)) && !self.without.contains(fault)
        };
        Fault::all().into_iter().filter(is_wanted).collect()
    }

    /// What repeats a run.
    pub fn command(&self, seed: u64) -> String {
        let mut command = format!("scripts/chaos --seed {seed} --minutes {}", self.minutes);
        for (flag, faults) in [("--only", &self.only), ("--without", &self.without)] {
            if !faults.is_empty() {
                let names: Vec<String> = faults.iter().map(|fault| fault.name()).collect();
                command += &format!(" {flag} {}", names.join(","));
            }
        }
        if self.calm {
            command += " --calm";
        }
        if self.regions != 2 {
            command += &format!(" --regions {}", self.regions);
        }
        if self.quiet_every != 60 {
            command += &format!(" --quiet-every {}", self.quiet_every);
        }
        command
    }
}

/// A generator for one purpose, so that what one of them draws changes nothing for another.
pub fn generator(seed: u64, purpose: &str) -> StdRng {
    let digest = Sha256::digest(format!("{seed} {purpose}"));
    StdRng::from_seed(digest.into())
}
