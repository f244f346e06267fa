//! `verify --rows`: at the source a check of every table now; in a region what checks have shown, once it has come to the
//! newest. It ends well only if every table that the source's newest round has read was compared here and is the same:
//! what was not compared is named, with the reason.

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
use crate::region::checked::rounds::{self, Covered, Rounds, Standing};
use crate::region::checked::{self, Found, TableCheck};
use crate::region::{apply, position, quarantine, restore};
use crate::source::check;
use crate::source::upload;
use crate::store::Store;
use crate::stream::{Checked, Head, Index, Seq, StreamTx};

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
    let Some(checked) = head.checked.clone() else {
        return Err(Error::new(Kind::Finding, format!("verify --rows of {}: no rows have been checked yet", head.name))
            .hint("`tablecast verify --rows` at the source checks all of them now; [check] in its config does it by and by"));
    };
    let list = run.config.region.as_ref().map(|region| &region.tables);
    let of_set = head
        .definitions
        .iter()
        .map(|known| &known.table)
        .filter(|table| list.is_some_and(|list| list.names(table)));
    let wanted: Vec<TableName> =
        of_set.filter(|table| tables.is_empty() || tables.contains(table)).cloned().collect();
    if let Some(odd) = tables.iter().find(|table| !wanted.contains(table)) {
        return Err(Error::new(
            Kind::Usage,
            format!("verify --rows: the stream has no table {odd} that this region lets in"),
        )
        .hint("`tablecast tables list` shows what travels"));
    }
    come_to(run, &store, checked.seq).await?;
    if run.stop.is_cancelled() {
        return Ok(Output::new(String::new(), json!({})));
    }
    let name = head.name.clone();
    let rounds = rounds::covered(&mut Index::new(head), &checked, &*store).await?;
    let (known, standing) = look_here(run).await?;
    let judged: Vec<Judged> = wanted
        .into_iter()
        .map(|table| {
            let known = known.iter().find(|known| known.table == table).cloned();
            let told = judge(&table, &checked, &rounds, known.as_ref(), &standing);
            Judged { table, known, told }
        })
        .collect();
    let header = ["table", "compared", "at transaction", "result"];
    let text = run.look.table(&header, &[2], judged.iter().map(|judged| judged.row(run)));
    let why = |judged: &Judged| match &judged.told {
        Told::NotCompared(why) => Some(json!({"table": judged.table, "why": why})),
        _ => None,
    };
    let is_unread = |judged: &&Judged| matches!(judged.told, Told::NotRead(_));
    let json = json!({
        "stream": name,
        "tables": judged.iter().filter_map(|judged| judged.known.as_ref()).collect::<Vec<_>>(),
        "never_compared":
            judged.iter().filter(|judged| judged.known.is_none()).map(|judged| &judged.table).collect::<Vec<_>>(),
        "not_compared": judged.iter().filter_map(why).collect::<Vec<_>>(),
        "not_checked": judged.iter().filter(is_unread).map(|judged| &judged.table).collect::<Vec<_>>(),
    });
    let verdict = verdict(&name, &judged, !tables.is_empty());
    Ok(Output::new(text, big_numbers_as_texts(json)).with_verdict(verdict))
}

/// What checks have shown here, and what keeps tables from being compared.
async fn look_here(run: &Run) -> Result<(Vec<TableCheck>, Standing)> {
    let (mut conn, name) = (crate::mysql::connect(&run.config.mysql).await?, &run.config.stream);
    let known = checked::list(&mut conn, name).await?;
    let standing = Standing {
        quarantined: quarantine::list(&mut conn, name).await?,
        restoring: restore::open_ones(&mut conn, name).await?,
        base: position::read(&mut conn, name).await?.map(|at| at.base_tx).unwrap_or_default(),
    };
    let _ = conn.disconnect().await;
    Ok((known, standing))
}

/// What is said of a table.
enum Told {
    Differs,
    Same,
    /// The source has read it, and this region has not.
    NotCompared(String),
    /// The source has not.
    NotRead(&'static str),
}

struct Judged {
    table: TableName,
    known: Option<TableCheck>,
    told: Told,
}

fn judge(
    table: &TableName,
    checked: &Checked,
    rounds: &Rounds,
    known: Option<&TableCheck>,
    standing: &Standing,
) -> Told {
    if known.is_some_and(|known| known.drift.is_some()) {
        return Told::Differs;
    }
    let is_ahead = checked.next.as_ref().is_some_and(|next| next <= table);
    match rounds.whole.get(table) {
        Some(covered) => standing.why_not(table, *covered, known).map_or(Told::Same, Told::NotCompared),
        None if is_ahead && !rounds.knows_the_one_before => {
            Told::NotCompared("the source's round has not come to its end yet".to_owned())
        }
        // What the source has read of it nobody can look up any more: what was compared since then counts.
        None if !is_ahead && rounds.is_pruned => {
            let covered = Covered { since: checked.since, at: StreamTx(u64::MAX) };
            standing.why_not(table, covered, known).map_or(Told::Same, Told::NotCompared)
        }
        None => Told::NotRead("not checked at the source: the log of upload there says why"),
    }
}

/// Good only where every table that the source has read is the same here, and that is one at least. `is_named`: somebody
/// wants to know it of these.
fn verdict(name: &str, judged: &[Judged], is_named: bool) -> Option<Error> {
    let (mut drifted, mut missed, mut same) = (Vec::new(), Vec::new(), 0);
    let (mut unread, mut hint) = (Vec::new(), Vec::new());
    for Judged { table, known, told } in judged {
        match told {
            Told::Same => same += 1,
            Told::Differs => {
                let found = known.as_ref().and_then(|known| known.drift.as_ref());
                let text = |found: &Found| {
                    format!("{table} at transaction {}: {}", look::number(found.tx), found.drift)
                };
                drifted.extend(found.map(text));
            }
            Told::NotCompared(why) => missed.push(format!("{table}: {why}")),
            Told::NotRead(why) => unread.push(format!("{table}: {why}")),
        }
    }
    let has_none = same == 0 && drifted.is_empty();
    if is_named || has_none {
        missed.append(&mut unread);
    }
    let mut parts = Vec::new();
    if !drifted.is_empty() {
        let tables = look::count(drifted.len() as u64, "table");
        parts.push(format!("{tables} with other rows than the source: {}", drifted.join("\n")));
        hint.push("docs/runbooks/drifted-table.md says what to do about other rows");
    }
    if !missed.is_empty() {
        let tables = look::count(missed.len() as u64, "table");
        parts.push(format!("{tables} not compared: {}", missed.join("\n")));
        hint.push(
            "another round compares them: `tablecast verify --rows` at the source, then here; what is in quarantine or being \
             restored has to be back before (`tablecast status`)",
        );
    } else if has_none {
        parts.push("nothing was compared: this region lets in no table of the stream".to_owned());
        hint.push("`tables` in [region] of the config names what it lets in");
    }
    let message = || format!("verify --rows of {name}: {}", parts.join("\n"));
    (!parts.is_empty()).then(|| Error::new(Kind::Finding, message()).hint(hint.join(". ")))
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

impl Judged {
    /// With the time and the transaction of the last comparison that has shown something.
    fn row(&self, run: &Run) -> Vec<String> {
        let known = self.known.as_ref();
        let found = known.and_then(|known| known.drift.as_ref());
        let same = known.and_then(|known| known.same.as_ref());
        let result = match (&self.told, found, same) {
            (Told::Differs, Some(found), _) => run.look.paint(Tone::Bad, &found.drift.to_string()),
            (Told::NotCompared(why), ..) => run.look.paint(Tone::Warn, &format!("not compared: {why}")),
            (Told::NotRead(why), ..) => run.look.paint(Tone::Dim, why),
            (_, _, same) => {
                let rows = same.map(|same| format!(": {}", look::count(same.rows, "row")));
                format!("{}{}", run.look.paint(Tone::Good, "the same"), rows.unwrap_or_default())
            }
        };
        let last = match (&self.told, found, same) {
            (Told::Differs, Some(found), _) => Some((found.at, found.tx)),
            (_, _, same) => same.map(|same| (same.at, same.tx)),
        };
        let (at, tx) = match last {
            Some((at, tx)) => (look::time(at, run.now()), look::number(tx)),
            None => ("never".to_owned(), String::new()),
        };
        vec![self.table.to_string(), at, tx, result]
    }
}
