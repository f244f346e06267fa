//! `verify --rows`: at the source a check of every table now; in a region what checks have shown, once it has come to the
//! newest.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::binlog::name::TableName;
use crate::commands::look::{self, Tone};
use crate::commands::output::{Output, as_json, big_numbers_as_texts};
use crate::commands::progress::Progress;
use crate::commands::restore::asker;
use crate::commands::run::Run;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::region::apply;
use crate::region::checked::{self, TableCheck};
use crate::source::check;
use crate::source::upload;
use crate::store::Store;
use crate::stream::{Head, Seq};

/// How often a region's position is looked at while another apply is at work.
const LOOK_EVERY: Duration = Duration::from_millis(300);

pub async fn run(run: &Run, tables: &[TableName]) -> Result<Output> {
    match run.config.role {
        Role::Source if tables.is_empty() => source(run).await,
        Role::Source => Err(Error::new(Kind::Usage, "verify --rows: at the source every table is checked")
            .hint("name tables in a region, to see what is known of them")),
        Role::Region => region(run, tables).await,
    }
}

async fn source(run: &Run) -> Result<Output> {
    let store = run.store().await?;
    let options = upload::Options {
        follow: false,
        dry_run: false,
        resync: false,
        trust_copy: false,
        lock_wait: Duration::ZERO,
        stop: run.stop.clone(),
        meters: run.meters.clone(),
        notice: run.notice.clone(),
    };
    let total = run.head(&*store).await?.definitions.len() as u64;
    let mut progress = Progress::start(run, "verify --rows", total);
    let told = |head: &Head| {
        let next = head.checked.as_ref().and_then(|checked| checked.next.as_ref());
        let done =
            head.definitions.iter().filter(|known| next.is_some_and(|next| known.table < *next)).count();
        progress.step(done as u64, &next.map(ToString::to_string).unwrap_or_default());
    };
    let whole = check::whole(&run.config, store, &*run.clock, &options, told).await?;
    progress.finish();
    let Some(whole) = whole else {
        return Ok(Output::new(String::new(), json!({})));
    };
    let text = format!(
        "{}: {} of {} checked in {}, entries {} to {}; each region compares its own as it comes to them, and `tablecast verify \
         --rows` there tells",
        whole.stream,
        look::count(whole.rows, "row"),
        look::count(whole.tables, "table"),
        look::count(whole.checks, "slice"),
        look::number(whole.first_seq.0),
        look::number(whole.last_seq.0),
    );
    Ok(Output::new(text, as_json(&whole)?))
}

async fn region(run: &Run, tables: &[TableName]) -> Result<Output> {
    let store = run.store().await?;
    let head = run.head(&*store).await?;
    let Some(newest) = head.checked.as_ref().map(|checked| checked.seq) else {
        return Err(Error::new(Kind::Finding, format!("verify --rows of {}: no rows have been checked yet", head.name))
            .hint("`tablecast verify --rows` at the source checks all of them now; [check] in its config does it by and by"));
    };
    come_to(run, &store, newest).await?;
    let list = run.config.region.as_ref().map(|region| &region.tables);
    let mut conn = crate::mysql::connect(&run.config.mysql).await?;
    let known = checked::list(&mut conn, &run.config.stream).await?;
    let _ = conn.disconnect().await;
    let of_set = head
        .definitions
        .iter()
        .map(|known| &known.table)
        .filter(|table| list.is_some_and(|list| list.names(table)));
    let wanted: Vec<&TableName> =
        of_set.filter(|table| tables.is_empty() || tables.contains(table)).collect();
    if let Some(odd) = tables.iter().find(|table| !wanted.contains(table)) {
        return Err(Error::new(
            Kind::Usage,
            format!("verify --rows: the stream has no table {odd} that this region lets in"),
        )
        .hint("`tablecast tables list` shows what travels"));
    }
    let of = |table: &TableName| known.iter().find(|known| known.table == *table);
    let rows = wanted.iter().map(|table| row(run, table, of(table)));
    let header = ["table", "compared", "at transaction", "result"];
    let text = run.look.table(&header, &[2], rows);
    let these: Vec<&TableCheck> = wanted.iter().filter_map(|table| of(table)).collect();
    let never: Vec<&&TableName> = wanted.iter().filter(|table| of(table).is_none()).collect();
    let drifted: Vec<String> = these
        .iter()
        .filter_map(|known| {
            let found = known.drift.as_ref()?;
            Some(format!("{} at transaction {}: {}", known.table, look::number(found.tx), found.drift))
        })
        .collect();
    let verdict = (!drifted.is_empty()).then(|| {
        let found = look::count(drifted.len() as u64, "table");
        let message = format!(
            "verify --rows of {}: {found} with other rows than the source: {}",
            head.name,
            drifted.join("\n")
        );
        Error::new(Kind::Finding, message).hint("docs/runbooks/drifted-table.md says what to do")
    });
    let json = json!({"stream": head.name, "tables": these, "never_compared": never});
    Ok(Output::new(text, big_numbers_as_texts(json)).with_verdict(verdict))
}

/// Applies up to this entry, or waits until another run has.
async fn come_to(run: &Run, store: &Arc<dyn Store>, newest: Seq) -> Result<()> {
    loop {
        let mut conn = crate::mysql::connect(&run.config.mysql).await?;
        let at = checked::position(&mut conn, &run.config.stream).await?;
        let _ = conn.disconnect().await;
        if at >= newest || run.stop.is_cancelled() {
            return Ok(());
        }
        let options = apply::Options {
            follow: false,
            until: None,
            dry_run: false,
            lock_wait: Duration::ZERO,
            stop: run.stop.clone(),
            meters: run.meters.clone(),
            notice: run.notice.clone(),
        };
        match apply::run(&run.config, store.clone(), &*run.clock, asker(run), &options).await {
            Ok(report) if Seq(report.seq) < newest && !report.waiting.is_empty() => {
                let what =
                    format!("verify --rows: the stream is held up here: {}", report.waiting.join("; "));
                return Err(Error::new(Kind::Partly, what));
            }
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Locked => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) => return Err(error),
        }
    }
}

fn row(run: &Run, table: &TableName, known: Option<&TableCheck>) -> Vec<String> {
    let Some(known) = known else {
        return vec![table.to_string(), "never".to_owned(), String::new(), String::new()];
    };
    let result = match (&known.drift, &known.problem, &known.same, &known.round) {
        (Some(found), ..) => run.look.paint(Tone::Bad, &found.drift.to_string()),
        (_, Some(problem), ..) => run.look.paint(Tone::Warn, &format!("not compared: {problem}")),
        (_, _, Some(same), _) => {
            let good = run.look.paint(Tone::Good, "the same");
            format!("{good}: {}, {}", look::count(same.rows, "row"), look::time(same.at, run.now()))
        }
        (_, _, _, Some(round)) => format!("the same so far: {}", look::count(round.rows, "row")),
        _ => "the same in part".to_owned(),
    };
    vec![table.to_string(), look::time(known.at, run.now()), look::number(known.tx), result]
}
