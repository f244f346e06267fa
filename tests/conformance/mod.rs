//! Conformance: every folder of tests/cases runs on a primary and has to arrive equal, through the bucket alone, in a
//! normal region and in a hostile one, from each kind of source. A native replica beside is the oracle.
//!
//! One primary, one full replica (source and oracle) and one filtered mini-replica play all cases once. The cases
//! travel in streams of [`GROUP`] cases each, so that a failure stops few others; `TABLECAST_CASES=ctas,xa` runs
//! a few, `TABLECAST_CASES_GROUP=1` gives each a stream of its own, `TABLECAST_CASES_ORACLE=1` checks the cases by
//! themselves: replicas only, no Tablecast. What fails is reported for all cases at the end, not for the first only.

mod case;
mod content;
mod play;
mod streams;

use std::collections::BTreeMap;

use case::{Case, Table};
use content::Content;
use streams::{Bucket, Stream};

use crate::support::mysql::{HOSTILE, Server};

/// Cases in one stream. Fewer are easier to blame, more are faster.
const GROUP: usize = 14;

const KINDS: [&str; 3] = ["primary", "full", "mini"];

/// case → what went wrong with it, where.
type Failures = BTreeMap<String, Vec<String>>;

fn note(failures: &mut Failures, case: &str, what: impl Into<String>) {
    failures.entry(case.to_owned()).or_default().push(what.into());
}

/// I3, I4, I6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_arrives_equal_through_the_bucket() {
    let mut failures = Failures::new();
    let mut cases = case::all();
    assert!(!cases.is_empty(), "TABLECAST_CASES names no case");

    // A case makes a function that writes.
    let trust = ["--log-bin-trust-function-creators=1"];
    let [primary, full, mini] = Server::start_all([&trust, &trust, &trust]);
    let version = primary.value::<String>("SELECT VERSION()").await;
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    for case in cases.extract_if(.., |case| !case.runs_on(version)) {
        eprintln!("passed over: {} needs a newer MySQL", case.name);
    }

    full.replicate_from(&primary, "").await;
    let filter = cases.iter().filter(|case| from(case, "mini")).flat_map(Case::filter);
    let filter: Vec<String> = filter.map(|table| table.quoted()).collect();
    mini.replicate_from(&primary, &format!("REPLICATE_DO_TABLE = ({})", filter.join(", "))).await;

    for case in &cases {
        if case.manifest.create_database {
            primary.sql(&format!("CREATE DATABASE `{}`", case.schema())).await;
        }
        if let Err(e) = play::play(&primary, case, &case.setup, case.manifest.create_database).await {
            panic!("{}/setup.sql: {e}", case.name);
        }
    }
    // A stream is made of tables that are there. Most cases make their own, so the stream begins with an empty
    // one in the place of each, and its DROP TABLE.
    let mut placeholders = Vec::new();
    for table in cases.iter().flat_map(Case::named) {
        if content::content(&primary, std::slice::from_ref(&table)).await.iter().any(Content::is_missing) {
            primary.sql(&format!("CREATE TABLE {} (placeholder INT)", table.quoted())).await;
            placeholders.push(table);
        }
    }
    full.catch_up(&primary).await;
    mini.catch_up(&primary).await;

    let bucket = Bucket::new();
    let streams = match std::env::var_os("TABLECAST_CASES_ORACLE") {
        Some(_) => Vec::new(),
        None => bucket.init_streams(&cases, &primary, &full, &mini, &mut failures),
    };

    for table in &placeholders {
        primary.sql(&format!("DROP TABLE {}", table.quoted())).await;
    }

    // The filtered replica stops at what the cases of the second half do; it is done by then.
    let (first, second): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| from(case, "mini"));
    for case in &first {
        if let Err(e) = play::play(&primary, case, &case.run, true).await {
            note(&mut failures, &case.name, format!("run.sql: {e}"));
        }
    }
    // A case that went wrong may be why a replica stops.
    eprint!("{}", report(&failures));
    mini.catch_up(&primary).await;
    mini.sql("STOP REPLICA").await;
    for case in &second {
        if let Err(e) = play::play(&primary, case, &case.run, true).await {
            note(&mut failures, &case.name, format!("run.sql: {e}"));
        }
    }
    full.catch_up(&primary).await;

    let mut truth: BTreeMap<&str, (Vec<Table>, Vec<Content>)> = BTreeMap::new();
    for case in &cases {
        let tables = match case.expected() {
            Some(tables) => tables,
            None => own_tables(&primary, case).await,
        };
        let content = content::content(&primary, &tables).await;
        if !case.stops() {
            compare(&mut failures, case, "the native replica", &tables, &content, &full).await;
            if from(case, "mini") {
                compare(&mut failures, case, "the native filtered replica", &tables, &content, &mini).await;
            }
        }
        truth.insert(&case.name, (tables, content));
    }

    for kind in KINDS {
        let of_kind: Vec<&Stream> = streams.iter().filter(|stream| stream.kind == kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let shipped: Vec<&&Stream> = of_kind
            .iter()
            .filter(|stream| bucket.upload(stream, &cases, &mut failures) && !stream.is_refusal)
            .collect();
        for (region, options) in [("normal", &[][..]), ("hostile", HOSTILE)] {
            let server = Server::start(options);
            if region == "hostile" {
                // No option of the server's command line.
                server.sql("SET GLOBAL default_collation_for_utf8mb4 = utf8mb4_general_ci").await;
            }
            let before = content::other_objects(&server).await;
            let place = format!("region {region} from the {kind}");
            let mut expected: Vec<Table> = Vec::new();
            for stream in &shipped {
                if !bucket.apply(stream, &cases, &server, region, &mut failures) {
                    continue;
                }
                for case in cases.iter().filter(|case| stream.carries(case)) {
                    let (tables, content) = &truth[case.name.as_str()];
                    compare(&mut failures, case, &place, tables, content, &server).await;
                    expected.extend(tables.iter().cloned());
                    // Only cases that arrived can say what must not be there.
                    for table in content::tables(&server, &case.schema()).await {
                        if !tables.contains(&table) && belongs(case, &cases, &table) {
                            note(
                                &mut failures,
                                &case.name,
                                format!("{place}: has {table}, which must not travel"),
                            );
                        }
                    }
                }
            }
            for object in content::other_objects(&server).await {
                if !before.contains(&object) {
                    note(&mut failures, "(all)", format!("{place}: has the {object}, which must not travel"));
                }
            }
        }
    }

    eprintln!("{} cases, {} of them with failures", cases.len(), failures.len());
    assert!(failures.is_empty(), "\n{}", report(&failures));
}

fn report(failures: &Failures) -> String {
    let line = |what: &String| format!("    {what}\n");
    failures
        .iter()
        .map(|(case, whats)| format!("{case}\n{}", whats.iter().map(line).collect::<String>()))
        .collect()
}

/// Whether this kind of source can carry the case.
fn from(case: &Case, kind: &str) -> bool {
    !case.manifest.not_from.contains_key(kind)
}

/// The tables of a schema, those of another case with a longer name apart.
fn belongs(case: &Case, cases: &[Case], table: &Table) -> bool {
    let owner = cases
        .iter()
        .filter(|other| {
            table.schema == other.schema() || table.schema.starts_with(&format!("{}_", other.schema()))
        })
        .max_by_key(|other| other.name.len());
    owner.is_some_and(|owner| owner.name == case.name)
}

async fn own_tables(server: &Server, case: &Case) -> Vec<Table> {
    let tables = content::tables(server, &case.schema()).await;
    tables.into_iter().filter(|table| table.schema == case.schema()).collect()
}

async fn compare(
    failures: &mut Failures,
    case: &Case,
    place: &str,
    tables: &[Table],
    wanted: &[Content],
    server: &Server,
) {
    if tables.is_empty() {
        note(failures, &case.name, "the case ends without a table to compare");
    }
    for ((table, wanted), got) in tables.iter().zip(wanted).zip(content::content(server, tables).await) {
        match (wanted, got) {
            (Content::Missing(e), _) => note(failures, &case.name, format!("the primary lacks {table}: {e}")),
            (wanted, got) if *wanted == got => {}
            (_, Content::Missing(e)) => note(failures, &case.name, format!("{place}: {table}: {e}")),
            (
                Content::Table { definition, rows, checksum },
                Content::Table { definition: got, rows: got_rows, checksum: got_checksum },
            ) => {
                if *definition != got {
                    note(
                        failures,
                        &case.name,
                        format!("{place}: {table} is\n{got}\n    and not\n{definition}"),
                    );
                }
                if (*rows, checksum) != (got_rows, &got_checksum) {
                    let what = format!("{got_rows} rows, checksum {got_checksum}, not {rows}, {checksum}");
                    note(failures, &case.name, format!("{place}: {table} has {what}"));
                }
            }
        }
    }
}
