//! The streams of the conformance run: config files, and the real `tablecast` on them.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::case::{Case, Refused};
use super::{Failures, GROUP, KINDS, from, note};
use crate::support::granted::{self, USER};
use crate::support::mysql::{Server, tool};

/// A folder with the bucket of every stream and every config file.
pub struct Bucket {
    dir: tempfile::TempDir,
}

/// One stream from one source, with the cases that it carries.
pub struct Stream {
    pub kind: &'static str,
    pub name: String,
    /// Its one case has to stop the upload.
    pub is_refusal: bool,
    cases: BTreeSet<String>,
    set: Vec<String>,
}

impl Stream {
    pub fn carries(&self, case: &Case) -> bool {
        self.cases.contains(&case.name)
    }

    /// The error text of a run that stopped: of the case that it names, else of all of them.
    fn blame(&self, failures: &mut Failures, what: &str, text: &str) {
        let named = self.cases.iter().filter(|case| text.contains(&format!("c_{case}")));
        let named = named.max_by_key(|case| case.len());
        match named {
            Some(case) => note(failures, case, format!("{what}: {text}")),
            None => self.cases.iter().for_each(|case| note(failures, case, format!("{what}: {text}"))),
        }
    }
}

struct Output {
    code: Option<i32>,
    text: String,
}

impl Bucket {
    pub fn new() -> Bucket {
        Bucket { dir: tempfile::tempdir().expect("a folder for the bucket") }
    }

    fn tablecast(&self, config: &Path, args: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_tablecast"))
            .env("TABLECAST_CACHE_DIR", self.dir.path().join("cache"))
            .arg("--config")
            .arg(config)
            .args(args)
            .output()
            .expect("run tablecast");
        let text = [output.stdout, output.stderr].concat();
        Output { code: output.status.code(), text: String::from_utf8_lossy(&text).trim().to_owned() }
    }

    fn store(&self, stream: &Stream) -> PathBuf {
        self.dir.path().join("bucket").join(stream.kind).join(&stream.name)
    }

    fn config(&self, stream: &Stream, file: &str, rest: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{}-{}-{file}.toml", stream.kind, stream.name));
        let head =
            format!("stream = \"{}\"\nstore = \"file://{}\"\n", stream.name, self.store(stream).display());
        granted::write(&path, &format!("{head}{rest}"), &stream.set);
        path
    }

    /// Makes every stream: groups of cases that have to arrive, and one for each case that has to be refused.
    pub fn init_streams(
        &self,
        cases: &[Case],
        primary: &Server,
        full: &Server,
        mini: &Server,
        failures: &mut Failures,
    ) -> Vec<Stream> {
        let group =
            std::env::var("TABLECAST_CASES_GROUP").map_or(GROUP, |size| size.parse().expect("a number"));
        let mut streams = Vec::new();
        for (kind, server) in KINDS.into_iter().zip([primary, full, mini]) {
            let (stopped, travel): (Vec<&Case>, Vec<&Case>) = cases
                .iter()
                .filter(|case| from(case, kind))
                .partition(|case| case.manifest.refused.is_some());
            let groups =
                travel.chunks(group).map(<[&Case]>::to_vec).chain(stopped.into_iter().map(|case| vec![case]));
            for (number, group) in groups.enumerate() {
                let stream = Stream {
                    kind,
                    name: format!("cases{number}"),
                    is_refusal: group.iter().any(|case| case.manifest.refused.is_some()),
                    cases: group.iter().map(|case| case.name.clone()).collect(),
                    set: group.iter().flat_map(|case| case.set(kind)).collect(),
                };
                let mut rest = format!("role = \"source\"\n{}", mysql("mysql", server));
                if kind != "primary" {
                    rest += &mysql("primary", primary);
                }
                rest += CHECKS;
                let config = self.config(&stream, "source", &rest);
                std::fs::create_dir_all(self.store(&stream)).unwrap();
                let mut args = vec!["stream", "init"];
                args.extend(stream.set.iter().flat_map(|table| ["--table", table]));
                let output = self.tablecast(&config, &args);
                match output.code {
                    Some(0) => streams.push(stream),
                    code => {
                        stream.blame(failures, &format!("stream init at the {kind} ({code:?})"), &output.text)
                    }
                }
            }
        }
        streams
    }

    /// Whether it ended as it has to.
    pub fn upload(&self, stream: &Stream, cases: &[Case], failures: &mut Failures) -> bool {
        let what = format!("upload from the {}", stream.kind);
        let config = self.dir.path().join(format!("{}-{}-source.toml", stream.kind, stream.name));
        let output = self.tablecast(&config, &["upload"]);
        let refused = cases.iter().filter(|case| stream.carries(case)).find_map(|case| {
            let refused = case.manifest.refused.as_ref()?;
            Some((case, refused))
        });
        if let Some((case, refused)) = refused {
            check_refusal(failures, case, refused, &what, &output);
        } else if output.code != Some(0) {
            stream.blame(failures, &format!("{what} ({:?})", output.code), &output.text);
            return false;
        }
        self.read_segments(stream, cases, failures);
        if refused.is_none() {
            self.check_rows(stream, &config, failures);
        }
        true
    }

    /// Runs upload until every table has been checked: regions compare, and must find nothing.
    fn check_rows(&self, stream: &Stream, config: &Path, failures: &mut Failures) {
        for _ in 0..200 {
            let shown = self.tablecast(config, &["stream", "show", "--json"]).text;
            let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
            if shown["checked"].is_object() && shown["checked"]["next"].is_null() {
                return;
            }
            let output = self.tablecast(config, &["upload"]);
            if output.code != Some(0) {
                stream.blame(failures, &format!("a check at the {}", stream.kind), &output.text);
                return;
            }
        }
        stream.blame(failures, "a check", "it does not come to an end");
    }

    /// Every segment is a binlog that MySQL's own tool reads, and holds nothing of what must never travel.
    fn read_segments(&self, stream: &Stream, cases: &[Case], failures: &mut Failures) {
        let never: Vec<(&Case, &String)> =
            cases.iter().flat_map(|case| case.manifest.never.iter().map(move |text| (case, text))).collect();
        for entry in std::fs::read_dir(self.store(stream).join("segments")).into_iter().flatten() {
            let path = entry.unwrap().path();
            let mut raw = Vec::new();
            let file = std::fs::File::open(&path).unwrap();
            if let Err(e) = flate2::read::MultiGzDecoder::new(file).read_to_end(&mut raw) {
                stream.blame(failures, &format!("gunzip {}", path.display()), &e.to_string());
                continue;
            }
            for (case, text) in &never {
                if raw.windows(text.len()).any(|part| part == text.as_bytes()) {
                    note(failures, &case.name, format!("{}: holds {text:?}", path.display()));
                }
            }
            if let Err(e) = tool("mysqlbinlog", &["--no-defaults", "--verify-binlog-checksum", "-"], &raw) {
                stream.blame(failures, &format!("mysqlbinlog on {}", path.display()), &e);
            }
        }
    }

    /// Whether the stream came through, so that there is something to compare.
    pub fn apply(
        &self,
        stream: &Stream,
        cases: &[Case],
        server: &Server,
        region: &str,
        failures: &mut Failures,
    ) -> bool {
        let tables: Vec<String> =
            stream.set.iter().map(|table| toml::Value::from(table.as_str()).to_string()).collect();
        let rest = format!(
            "role = \"region\"\n{}[region]\nname = \"{region}\"\ntables = [{}]\n[apply]\nguard = \"off\"\non_conflict = \"stop\"\n",
            mysql("mysql", server),
            tables.join(", ")
        );
        let config = self.config(stream, region, &rest);
        let output = self.tablecast(&config, &["apply"]);
        let what = format!("apply in region {region} from the {}", stream.kind);
        let stops = cases.iter().filter(|case| stream.carries(case)).find_map(|case| {
            let stops = case.manifest.stops_apply.as_ref()?;
            Some((case, stops))
        });
        if let Some((case, stops)) = stops {
            check_refusal(failures, case, stops, &what, &output);
            return false;
        }
        if output.code != Some(0) {
            stream.blame(failures, &format!("{what} ({:?})", output.code), &output.text);
        }
        for text in ["rows are not those of the source", "is not compared"] {
            for line in output.text.lines().filter(|line| line.contains(text)) {
                stream.blame(failures, &what, line);
            }
        }
        output.code == Some(0)
    }
}

const CHECKS: &str = "[check]\nevery = \"10ms\"\nslice = \"5s\"\nshare = 50\nmax_threads_running = 1000\n";

fn check_refusal(failures: &mut Failures, case: &Case, wanted: &Refused, what: &str, output: &Output) {
    if output.code != Some(wanted.exit) {
        let wanted = format!("{what}: ended with {:?}, not {}", output.code, wanted.exit);
        note(failures, &case.name, format!("{wanted}: {}", output.text));
    }
    for text in wanted.says.iter().map(String::as_str).chain(["hint: "]) {
        if !output.text.contains(text) {
            note(failures, &case.name, format!("{what}: does not say {text:?}: {}", output.text));
        }
    }
}

fn mysql(section: &str, server: &Server) -> String {
    format!(
        "[{section}]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n",
        server.port
    )
}
