//! `tablecast verify`: the whole chain, from the head back through every sealed page to the first entry, or to the
//! floor of a stream that was pruned, and every object that it names. Reports everything that is wrong, not only the
//! first; changes nothing. Of dumps those are read that the head lists; others have been superseded, and their objects
//! may be gone.

mod dump;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use serde_json::json;

use super::fetch::Promise;
use super::globals::table;
use super::look::{self, Tone};
use super::output::{Output, big_numbers_as_texts};
use super::progress::Progress;
use super::run::Run;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::stream::{Body, CheckEntry, Entry, Head, PageLink, PageLoader, Seq};

/// Check the whole chain and every object, by reading them; with --rows the tables, too
///
/// With `--rows` at the source every table's rows are summed up, slice by slice inside the stream, beside an upload that follows or by this run. In a region: comes to the newest of that, and tells what each table has shown. Good is only what was compared: a table that was not, because it is in quarantine, being restored, or came with a later dump, is named with the reason.
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast verify                          every object is read: costs a download of the stream
  tablecast verify --quick                  existence and size only
  tablecast verify --from 4100              entries 4100 and later
  tablecast verify --rows                   at the source: sum up every row now. In a region: what differs
  tablecast verify --rows g.apps            in a region: of this table
Ends with 4 if something was found, and with --rows in a region also if a table was not compared.")]
pub struct Args {
    /// Only entries from this one on
    #[arg(long, value_name = "SEQ", default_value_t = 1, hide_default_value = true)]
    from: u64,

    /// Do not read the objects: existence, size, and what the store knows of the MD5
    #[arg(long)]
    quick: bool,

    /// Compare the rows of the tables in a region with the source's
    #[arg(long, conflicts_with_all = ["from", "quick"])]
    rows: bool,

    /// In a region: only these tables
    #[arg(value_name = "DB.T", value_parser = table(), requires = "rows")]
    tables: Vec<TableName>,
}

/// How many objects are read at a time.
const AT_ONCE: usize = 8;

/// What one object or page has.
struct Problem {
    seq: Seq,
    object: String,
    message: String,
}

#[derive(Default)]
struct Tally {
    entries: u64,
    pages: u64,
    objects: u64,
    bytes: u64,
    /// Dumps that the head no longer lists.
    superseded: u64,
    problems: Vec<Problem>,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        if self.rows {
            return rows::run(run, &self.tables).await;
        }
        let store = run.store().await?;
        let head = run.head(&*store).await?;
        let mut progress =
            Progress::start(run, "verify", head.last_seq.0.saturating_sub(self.from.max(1) - 1));
        let mut tally = Tally::default();
        self.check_entries(run, &store, &head, &head.entries, &mut tally, &mut progress).await?;
        self.check_pages(run, &store, &head, &mut tally, &mut progress).await?;
        progress.finish();
        tally.problems.sort_by_key(|problem| problem.seq);
        Ok(self.report(run, &head, tally))
    }

    /// Page by page, newest first. A page that cannot be read hides those before it, and the report says so.
    async fn check_pages(
        &self,
        run: &Run,
        store: &Arc<dyn Store>,
        head: &Head,
        tally: &mut Tally,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut next = head.page.clone();
        let mut after = head.entries.first().map(|entry| entry.seq);
        while let Some(link) = next {
            let is_gone = head.floor.is_some_and(|floor| link.last <= floor.seq);
            if link.last.0 < self.from || is_gone {
                return Ok(());
            }
            next = match store.page(head.stream, &link).await {
                Ok(page) => {
                    tally.pages += 1;
                    self.check_entries(run, store, head, &page.entries, tally, progress).await?;
                    after = Some(page.first);
                    if page.previous.is_none() && page.first != Seq(1) {
                        tally.problems.push(lost(&link, page.first, "the page names no page before it"));
                    }
                    page.previous
                }
                Err(error) if is_about_the_object(&error) => {
                    tally.problems.push(lost(&link, link.first, &describe(&error)));
                    None
                }
                Err(error) => return Err(error),
            };
        }
        // Without pages, the head's own entries must begin with the first.
        if head.page.is_none() && after.is_some_and(|first| first != Seq(1)) {
            let message = "the head names no page, but does not begin with entry 1".to_owned();
            tally.problems.push(Problem { seq: Seq(1), object: "index.json".to_owned(), message });
        }
        Ok(())
    }

    async fn check_entries(
        &self,
        run: &Run,
        store: &Arc<dyn Store>,
        head: &Head,
        entries: &[Entry],
        tally: &mut Tally,
        progress: &mut Progress,
    ) -> Result<()> {
        let wanted: Vec<Entry> = entries.iter().filter(|entry| entry.seq.0 >= self.from).cloned().collect();
        let spool = &run.config.files.spool_dir;
        // Nothing lies behind a change of the table set, nor behind a check of tables without a key: the chain is all of it.
        let is_alone = |entry: &&Entry| {
            entry.tables().is_some() || entry.check().is_some_and(|check| check.names.is_none())
        };
        tally.entries += wanted.iter().filter(is_alone).count() as u64;
        for entry in &wanted {
            let Some(dump) = entry.dump() else { continue };
            tally.entries += 1;
            if head.dump(&dump.id).is_none() {
                tally.superseded += 1;
                continue;
            }
            for found in dump::check(&**store, dump, self.quick, spool, AT_ONCE).await {
                tally.add(entry.seq, found.object, found.size, found.result)?;
            }
            progress.step(tally.entries, &look::size(tally.bytes));
        }
        let checks = wanted.into_iter().filter_map(|entry| {
            let promised =
                matches!(&entry.body, Body::Segment(_) | Body::Check(CheckEntry { names: Some(_), .. }));
            let store = store.clone();
            promised.then_some(async move {
                let promise = match &entry.body {
                    Body::Segment(segment) => Promise::of_segment(segment),
                    Body::Check(CheckEntry { names: Some(names), .. }) => Promise::of_names(names),
                    _ => return None,
                };
                let result = match self.quick {
                    true => promise.stat(&*store).await,
                    false => promise.download(&*store, spool).await.map(drop),
                };
                Some((entry.seq, promise.key.to_string(), promise.size, result))
            })
        });
        let mut checks = futures::stream::iter(checks).buffer_unordered(AT_ONCE);
        while let Some(checked) = checks.next().await {
            let Some((seq, object, size, result)) = checked else { continue };
            tally.entries += 1;
            tally.add(seq, object, size, result)?;
            progress.step(tally.entries, &look::size(tally.bytes));
        }
        Ok(())
    }

    fn report(&self, run: &Run, head: &Head, tally: Tally) -> Output {
        let how = if self.quick { "looked up" } else { "read" };
        let begin = head.floor.map_or(1, |floor| floor.seq.0 + 1).max(self.from);
        let summary = format!(
            "stream {}: {} checked{}, {} {how} ({})",
            head.name,
            look::count(tally.entries, "entry"),
            if begin > 1 { format!(" from entry {begin}") } else { String::new() },
            look::count(tally.objects, "object"),
            look::size(tally.bytes),
        );
        let by_object: BTreeMap<_, _> =
            tally.problems.iter().map(|problem| ((problem.seq, &problem.object), &problem.message)).collect();
        let mut text = String::new();
        for ((seq, object), message) in &by_object {
            let bad = run.look.paint(Tone::Bad, "bad");
            text.push_str(&format!("{bad}  entry {}  {object}\n     {message}\n", seq.0));
        }
        text.push_str(&summary);
        if let Some(floor) = head.floor.filter(|floor| floor.seq.0 >= self.from) {
            text.push_str(&format!("; entries up to {} were pruned", floor.seq.0));
        }
        if tally.superseded > 0 {
            text.push_str(&format!("; {} not read", look::count(tally.superseded, "superseded dump")));
        }
        let verdict = (!by_object.is_empty()).then(|| {
            let found = look::count(by_object.len() as u64, "problem");
            Error::new(Kind::Finding, format!("verify {}: {found}", run.config.store)).hint(
                "restore the named objects from a backup or an older version of them; regions that have passed \
                 these entries are not affected, others stop there",
            )
        });
        if verdict.is_none() {
            text.push_str(&format!("; chain and objects are {}", run.look.paint(Tone::Good, "sound")));
        }
        let problems = tally
            .problems
            .iter()
            .map(|problem| json!({"seq": problem.seq, "object": problem.object, "message": problem.message}));
        let json = json!({
            "stream": head.name,
            "uuid": head.stream,
            "last_seq": head.last_seq,
            "from": self.from,
            "entries": tally.entries,
            "pages": tally.pages,
            "objects": tally.objects,
            "bytes": tally.bytes,
            "superseded_dumps": tally.superseded,
            "floor": head.floor.map(|floor| floor.seq),
            "read": !self.quick,
            "problems": problems.collect::<Vec<_>>(),
        });
        Output::new(text, big_numbers_as_texts(json)).with_verdict(verdict)
    }
}

impl Tally {
    /// Puts down what was found of an object; an error that says nothing about it ends the run.
    fn add(&mut self, seq: Seq, object: String, size: u64, result: Result<()>) -> Result<()> {
        self.objects += 1;
        match result {
            Ok(()) => self.bytes += size,
            Err(error) if is_about_the_object(&error) => {
                self.problems.push(Problem { seq, object, message: describe(&error) });
            }
            Err(error) => return Err(error.during(format!("verify entry {}", seq.0))),
        }
        Ok(())
    }
}

fn lost(link: &PageLink, first: Seq, message: &str) -> Problem {
    let before = match first.0 {
        0 | 1 => String::new(),
        first => format!("; entries 1 to {} cannot be checked", first - 1),
    };
    Problem { seq: link.last, object: link.key.to_string(), message: format!("{message}{before}") }
}

/// Whether the error is a finding about the stream; others (network, credentials, an older format) end the run.
fn is_about_the_object(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::Corrupt | Kind::History | Kind::Gate)
}

/// The message with its causes, in one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
