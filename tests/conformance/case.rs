//! A case: a folder of tests/cases, read and checked, nothing run.
//!
//! - `run.sql`: what happens while the stream exists. `setup.sql`, if any: what happened on the primary before.
//! - `case.toml`, if any: see [`Manifest`]. A name without a schema lies in the case's own, `c_<folder>`.
//!
//! A script is bytes, not text. A statement ends at the delimiter at the end of a line. Lines of their own,
//! between statements: `-- session 2` goes on in that session (opened when first named), `-- fails` expects the next
//! statement to be refused by the server, `DELIMITER //` as the mysql client has it. `@CASE@` stands for the
//! folder's path. What a marker does not name is the server's: comments travel with their statement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What `case.toml` says; every key may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The table set; `["t"]` if nothing is said. `"*"` is the pattern of the whole schema.
    #[serde(default = "one_table_t")]
    tables: Vec<String>,
    /// The tables that a region must have at the end; without it those of `tables`, for a pattern those of the
    /// primary. No other table may be there.
    expect: Option<Vec<String>>,
    /// What a filtered replica lets in by `replicate-do-table`, and the set of its stream, where that is not
    /// `tables`. Ghosts are added.
    mini: Option<Vec<String>>,
    /// Upload has to stop with this exit code and a message that contains each of the texts.
    pub refused: Option<Refused>,
    /// Upload ships it, and apply has to stop so.
    pub stops_apply: Option<Refused>,
    /// Kinds of source that cannot carry this case, and why.
    #[serde(default)]
    pub not_from: BTreeMap<String, String>,
    /// The first MySQL version that has what the case needs.
    needs: Option<String>,
    /// Whether the runner makes the case's schema (before setup.sql), with the server's defaults.
    #[serde(default = "yes")]
    pub create_database: bool,
    /// Bytes that must not be in the bucket at all.
    #[serde(default)]
    pub never: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    pub exit: i32,
    pub says: Vec<String>,
}

fn one_table_t() -> Vec<String> {
    vec!["t".to_owned()]
}

fn yes() -> bool {
    true
}

#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub manifest: Manifest,
    pub setup: Vec<Step>,
    pub run: Vec<Step>,
}

/// A table, as its two names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    pub schema: String,
    pub name: String,
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl Table {
    pub fn quoted(&self) -> String {
        format!("`{}`.`{}`", self.schema.replace('`', "``"), self.name.replace('`', "``"))
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Session(u32),
    Statement { text: Vec<u8>, fails: bool },
}

impl Case {
    pub fn read(dir: &Path) -> Case {
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let manifest = match std::fs::read_to_string(dir.join("case.toml")) {
            Ok(text) => toml::from_str(&text).unwrap_or_else(|e| panic!("{name}/case.toml: {e}")),
            Err(_) => toml::from_str("").unwrap(),
        };
        let setup = std::fs::read(dir.join("setup.sql")).unwrap_or_default();
        let run = std::fs::read(dir.join("run.sql")).unwrap_or_else(|e| panic!("{name}/run.sql: {e}"));
        Case { setup: steps(&setup, dir), run: steps(&run, dir), manifest, name }
    }

    pub fn schema(&self) -> String {
        format!("c_{}", self.name)
    }

    fn table(&self, text: &str) -> Table {
        let here = self.schema();
        match text.split_once('.') {
            Some((schema, name)) if schema.starts_with(&here) => {
                Table { schema: schema.into(), name: name.into() }
            }
            _ => Table { schema: here, name: text.into() },
        }
    }

    /// The tables that the set names one by one.
    fn listed(&self) -> Vec<Table> {
        let names = self.manifest.tables.iter().filter(|text| !text.ends_with('*'));
        names.map(|text| self.table(text)).collect()
    }

    /// Every table that a stream of this case is made of by name, from whatever source.
    pub fn named(&self) -> Vec<Table> {
        let of_mini = self.manifest.mini.iter().flatten().map(|text| self.table(text));
        self.listed().into_iter().chain(of_mini).collect()
    }

    /// The table set as `--table` takes it. A filtered replica cannot hold all of a pattern, and a stream of one is
    /// refused there: it gets the tables by name.
    pub fn set(&self, kind: &str) -> Vec<String> {
        let tables = match &self.manifest.mini {
            Some(tables) if kind == "mini" => tables,
            _ => &self.manifest.tables,
        };
        let text = |table: Table| match table.name.contains(['.', '`']) {
            true => table.quoted(),
            false => table.to_string(),
        };
        tables.iter().map(|name| text(self.table(name))).collect()
    }

    /// The tables that a region must end with, or None: those that the primary has in the case's schema.
    pub fn expected(&self) -> Option<Vec<Table>> {
        match &self.manifest.expect {
            Some(tables) => Some(tables.iter().map(|text| self.table(text)).collect()),
            None if self.manifest.tables.iter().any(|text| text.ends_with('*')) => None,
            None => Some(self.listed()),
        }
    }

    /// What the filtered replica lets in: the tables and their ghosts.
    pub fn filter(&self) -> Vec<Table> {
        let named = self.manifest.mini.as_ref().unwrap_or(&self.manifest.tables);
        let mut tables = Vec::new();
        for table in named.iter().map(|text| self.table(text)) {
            for ghost in ["_gho", "_ghc", "_del", "_new", "_old"] {
                tables.push(Table { schema: table.schema.clone(), name: format!("_{}{ghost}", table.name) });
            }
            tables.push(table);
        }
        tables
    }

    /// A case that has to be stopped, by upload or by apply. It gets a stream of its own.
    pub fn stops(&self) -> bool {
        self.manifest.refused.is_some() || self.manifest.stops_apply.is_some()
    }

    pub fn runs_on(&self, version: (u16, u16)) -> bool {
        self.manifest.needs.as_ref().is_none_or(|needs| {
            let (major, minor) =
                needs.split_once('.').unwrap_or_else(|| panic!("{}: needs = {needs}", self.name));
            version >= (major.parse().unwrap(), minor.parse().unwrap())
        })
    }
}

/// All cases, or those that TABLECAST_CASES names, or all but those (commas; a leading part of a name will do, `!`
/// before it leaves out).
pub fn all() -> Vec<Case> {
    let asked = std::env::var("TABLECAST_CASES").unwrap_or_default();
    let (without, with): (Vec<&str>, Vec<&str>) =
        asked.split(',').filter(|part| !part.is_empty()).partition(|part| part.starts_with('!'));
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"))
        .expect("read tests/cases")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    dirs.sort();
    let cases = dirs.iter().map(|dir| Case::read(dir));
    cases
        .filter(|case| with.is_empty() || with.iter().any(|part| case.name.starts_with(part)))
        .filter(|case| !without.iter().any(|part| case.name.starts_with(&part[1..])))
        .collect()
}

fn steps(script: &[u8], dir: &Path) -> Vec<Step> {
    let mut delimiter = b";".to_vec();
    let (mut steps, mut text, mut fails) = (Vec::new(), Vec::new(), false);
    for line in script.split_inclusive(|&byte| byte == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        if text.is_empty() {
            let word = String::from_utf8_lossy(bare);
            if let Some(number) = word.strip_prefix("-- session ") {
                steps.push(Step::Session(number.trim().parse().expect("-- session NUMBER")));
                continue;
            }
            if let Some(new) = word.strip_prefix("DELIMITER ") {
                delimiter = new.as_bytes().to_vec();
                continue;
            }
            if word == "-- fails" {
                fails = true;
                continue;
            }
            if bare.is_empty() {
                continue;
            }
        }
        match bare.strip_suffix(delimiter.as_slice()) {
            None => text.extend_from_slice(line),
            Some(last) => {
                text.extend_from_slice(last);
                let text = replaced(&std::mem::take(&mut text), b"@CASE@", dir.to_str().unwrap().as_bytes());
                steps.push(Step::Statement { text, fails: std::mem::take(&mut fails) });
            }
        }
    }
    assert!(text.trim_ascii().is_empty(), "{}: the last statement has no end", dir.display());
    steps
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|part| part == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn a_script_is_cut_at_line_ends_and_keeps_its_bytes() {
    let script = b"SET NAMES sjis;\n-- session 2\nINSERT ';' -- ; not here\r\n, '\xff\0@CASE@';\nDELIMITER //\nBEGIN a; b;\nEND//\n-- fails\nX//\n";
    let statement = |text: &[u8], fails| Step::Statement { text: text.to_vec(), fails };
    let expected = vec![
        statement(b"SET NAMES sjis", false),
        Step::Session(2),
        statement(b"INSERT ';' -- ; not here\r\n, '\xff\0/x'", false),
        statement(b"BEGIN a; b;\nEND", false),
        statement(b"X", true),
    ];
    assert_eq!(steps(script, Path::new("/x")), expected);
}

#[test]
fn there_are_more_than_forty_cases_and_each_reads() {
    if std::env::var_os("TABLECAST_CASES").is_none() {
        assert!(all().len() >= 40);
    }
}
