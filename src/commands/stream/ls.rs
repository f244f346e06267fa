//! `tablecast stream ls`: the entries, oldest first, printed as the pages of the index come in.

use serde_json::{Value, json};

use crate::binlog::name::TableName;
use crate::commands::look::{self, Look};
use crate::commands::output::{self, Output, Page, big_numbers_as_texts};
use crate::commands::run::Run;
use crate::error::Result;
use crate::store::Store;
use crate::stream::{Body, Entry, Index, Seq};

/// List the entries of the stream, oldest first
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast stream ls                       the newest 20
  tablecast stream ls --from 1              all of them
  tablecast stream ls --kind dump           the newest 20 dumps
  tablecast stream ls --from 4100 --limit 5")]
pub struct Args {
    /// The first entry to list [default: so that the newest 20, of the kind, are listed]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,

    /// Only entries of this kind
    #[arg(long, value_enum)]
    kind: Option<EntryKind>,

    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum EntryKind {
    Segment,
    Dump,
    Tables,
    Check,
}

const NEWEST: u64 = 20;
/// As many entries as a sealed page holds.
const STEP: u64 = 500;

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be_alone("stream ls")?;
        let store = run.store().await?;
        let head = run.head(&*store).await?;
        // What was pruned is not there to be listed.
        let begin = head.floor.map_or(Seq::ZERO, |floor| floor.seq);
        let mut index = Index::new(head);
        let mut after = match self.from {
            Some(from) => Seq(from.saturating_sub(1)).max(begin),
            None => self.before_the_newest(&mut index, &*store, begin).await?,
        };
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut listing = Listing::start(run);
        loop {
            let entries = index.entries_after(after, &*store).await?;
            let Some(last) = entries.last() else { break };
            after = last.seq;
            let wanted: Vec<_> = entries
                .into_iter()
                .filter(|entry| self.wants(entry))
                .take(usize::try_from(left).unwrap_or(usize::MAX))
                .collect();
            left -= wanted.len() as u64;
            if !listing.add(&wanted) || left == 0 {
                break;
            }
        }
        listing.finish();
        Ok(Output::printed())
    }

    /// So far back that the newest 20 of the kind follow: a page at a time, from the end.
    async fn before_the_newest(&self, index: &mut Index, store: &dyn Store, begin: Seq) -> Result<Seq> {
        let mut end = index.head().last_seq;
        let mut missing = NEWEST;
        while end > begin && missing > 0 {
            let before = Seq(end.0.saturating_sub(STEP)).max(begin);
            let mut entries = index.entries_after(before, store).await?;
            // From `before` on, as far as they stand in one object: the rest of the way in further steps.
            let mut last = entries.last().map_or(end, |entry| entry.seq);
            while last < end {
                let more = index.entries_after(last, store).await?;
                last = more.last().map_or(end, |entry| entry.seq);
                entries.extend(more);
            }
            for entry in entries.iter().rev().filter(|entry| entry.seq <= end && self.wants(entry)) {
                missing -= 1;
                if missing == 0 {
                    return Ok(Seq(entry.seq.0 - 1));
                }
            }
            end = before;
        }
        Ok(begin)
    }

    fn wants(&self, entry: &Entry) -> bool {
        match self.kind {
            None => true,
            Some(EntryKind::Segment) => entry.segment().is_some(),
            Some(EntryKind::Dump) => entry.dump().is_some(),
            Some(EntryKind::Tables) => entry.tables().is_some(),
            Some(EntryKind::Check) => entry.check().is_some(),
        }
    }
}

/// Prints a page of entries at a time.
struct Listing<'r> {
    run: &'r Run,
    page: Page,
    is_first: bool,
}

impl<'r> Listing<'r> {
    fn start(run: &'r Run) -> Self {
        Self { run, page: Page::new(), is_first: true }
    }

    /// False once nobody reads any more.
    fn add(&mut self, entries: &[Entry]) -> bool {
        if entries.is_empty() || self.run.globals.quiet && !self.run.globals.json {
            return true;
        }
        if self.run.globals.json {
            return entries.iter().all(|entry| {
                let begin =
                    format!("{{\"schema_version\":{},\"code\":0,\"entries\":[", output::SCHEMA_VERSION);
                let before = if std::mem::take(&mut self.is_first) { begin.as_str() } else { "," };
                self.page.text(before) && self.page.text(&big_numbers_as_texts(entry.raw()).to_string())
            });
        }
        let table = table(self.run.look, entries);
        let skip = if std::mem::take(&mut self.is_first) { 0 } else { 1 };
        table.lines().skip(skip).all(|line| self.page.line(line))
    }

    fn finish(mut self) {
        if self.run.globals.json {
            let text = if self.is_first {
                output::document([
                    ("code".to_owned(), json!(0)),
                    ("entries".to_owned(), Value::Array(Vec::new())),
                ])
            } else {
                "]}".to_owned()
            };
            let _ = self.page.line(&text);
        } else if self.is_first && !self.run.globals.quiet {
            let _ = self.page.line("no entries");
        }
        self.page.finish();
    }
}

/// The entries, one a line, with a header.
pub fn table(look: Look, entries: &[Entry]) -> String {
    let header = ["seq", "kind", "transactions", "count", "size", "made", "tables"];
    look.table(&header, &[0, 3, 4], entries.iter().map(row))
}

fn row(entry: &Entry) -> Vec<String> {
    let names = |tables: &[TableName]| tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (transactions, count, size, tables) = match &entry.body {
        Body::Segment(segment) => (
            format!("{}–{}", segment.first_tx.0, segment.last_tx.0),
            look::number(segment.count),
            look::size(segment.size),
            names(&segment.tables),
        ),
        Body::Dump(dump) => (
            format!("at {}", dump.at.0),
            look::count(dump.rows, "row"),
            look::size(dump.bytes),
            names(&dump.tables),
        ),
        Body::Tables(change) => (
            format!("after {}", change.at.0),
            format!("version {}", change.version),
            String::new(),
            change.tables.to_string(),
        ),
        Body::Check(check) => (
            format!("after {}", check.at.0),
            look::count(check.rows(), "row"),
            check.names.as_ref().map(|names| look::size(names.size)).unwrap_or_default(),
            check.ranges.iter().map(|range| range.table.to_string()).collect::<Vec<_>>().join(", "),
        ),
    };
    let kind = match entry.dump() {
        Some(dump) if dump.full => "dump (full)",
        _ => entry.body.kind(),
    };
    vec![
        entry.seq.0.to_string(),
        kind.to_owned(),
        transactions,
        count,
        size,
        look::moment(entry.created_at),
        tables,
    ]
}
