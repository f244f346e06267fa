//! Conformance: every folder of tests/cases runs on a primary and has to arrive equal, through the bucket alone, in a
//! normal region and in a hostile one, from each kind of source. A native replica beside is the oracle.
//!
//! One primary, one full replica (source and oracle) and one filtered mini-replica play all cases once. The cases
//! travel in streams of [`GROUP`] cases each, so that a failure stops few others; `TABLECAST_CASES=ctas,xa` runs
//! a few, `TABLECAST_CASES_GROUP=1` gives each a stream of its own, `TABLECAST_CASES_ORACLE=1` checks the cases by
//! themselves: replicas only, no Tablecast. What fails is reported for all cases at the end, not for the first only.

mod case;
mod servers;
mod streams;

use std::collections::BTreeMap;

use case::{Case, Table};
use servers::{Content, HOSTILE, Server};
use streams::{Bucket, Stream};

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
    let [primary, full, mini] = KINDS.map(|kind| Server::start(kind, &trust));
    let version = primary.value("SELECT VERSION()").await;
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    for case in cases.extract_if(.., |case| !case.runs_on(version)) {
        eprintln!("passed over: {} needs a newer MySQL", case.name);
    }

    full.replicate_from(&primary, None).await;
    let filter: Vec<Table> = cases.iter().filter(|case| from(case, "mini")).flat_map(Case::filter).collect();
    mini.replicate_from(&primary, Some(&filter)).await;

    for case in &cases {
        if case.manifest.create_database {
            primary.run(&[&format!("CREATE DATABASE `{}`", case.schema())]).await;
        }
        if let Err(e) = primary.play(case, &case.setup, case.manifest.create_database).await {
            panic!("{}/setup.sql: {e}", case.name);
        }
    }
    full.caught_up(&primary).await.unwrap();
    mini.caught_up(&primary).await.unwrap();

    let bucket = Bucket::new();
    let streams = match std::env::var_os("TABLECAST_CASES_ORACLE") {
        Some(_) => Vec::new(),
        None => bucket.init_streams(&cases, &primary, &full, &mini, &mut failures),
    };

    // The filtered replica stops at what the cases of the second half do; it is done by then.
    let (first, second): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| from(case, "mini"));
    for case in &first {
        if let Err(e) = primary.play(case, &case.run, true).await {
            note(&mut failures, &case.name, format!("run.sql: {e}"));
        }
    }
    if let Err(e) = mini.caught_up(&primary).await {
        panic!("{e}\n{failures:#?}");
    }
    mini.run(&["STOP REPLICA"]).await;
    for case in &second {
        if let Err(e) = primary.play(case, &case.run, true).await {
            note(&mut failures, &case.name, format!("run.sql: {e}"));
        }
    }
    if let Err(e) = full.caught_up(&primary).await {
        panic!("{e}\n{failures:#?}");
    }

    let mut truth: BTreeMap<&str, (Vec<Table>, Vec<Content>)> = BTreeMap::new();
    for case in &cases {
        let tables = match case.expected() {
            Some(tables) => tables,
            None => own_tables(&primary, case).await,
        };
        let content = primary.content(&tables).await;
        if case.manifest.refused.is_none() {
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
        for stream in &of_kind {
            bucket.upload(stream, &cases, &mut failures);
        }
        for (region, options) in [("normal", &[][..]), ("hostile", HOSTILE)] {
            let server = Server::start(&format!("{kind}-{region}"), options);
            if region == "hostile" {
                // No option of the server's command line.
                server.run(&["SET GLOBAL default_collation_for_utf8mb4 = utf8mb4_general_ci"]).await;
            }
            let before = server.other_objects().await;
            let place = format!("region {region} from the {kind}");
            let mut expected: Vec<Table> = Vec::new();
            for stream in &of_kind {
                if stream.is_refusal || !bucket.apply(stream, &server, region, &mut failures) {
                    continue;
                }
                for case in cases.iter().filter(|case| stream.carries(case)) {
                    let (tables, content) = &truth[case.name.as_str()];
                    compare(&mut failures, case, &place, tables, content, &server).await;
                    expected.extend(tables.iter().cloned());
                    // Only cases that arrived can say what must not be there.
                    for table in server.tables(&case.schema()).await {
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
            for object in server.other_objects().await {
                if !before.contains(&object) {
                    note(&mut failures, "(all)", format!("{place}: has the {object}, which must not travel"));
                }
            }
        }
    }

    let lines: Vec<String> = failures
        .iter()
        .map(|(case, whats)| {
            format!("{case}\n{}", whats.iter().map(|what| format!("    {what}\n")).collect::<String>())
        })
        .collect();
    eprintln!("{} cases, {} of them with failures", cases.len(), failures.len());
    assert!(failures.is_empty(), "\n{}", lines.join(""));
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
    let tables = server.tables(&case.schema()).await;
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
    for ((table, wanted), got) in tables.iter().zip(wanted).zip(server.content(tables).await) {
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
