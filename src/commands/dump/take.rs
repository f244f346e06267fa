//! `tablecast dump take`: a dump, now, at the source.
//!
//! The upload that holds the stream's lock takes it, as it takes one that a region asks for. So this queues a
//! request, and then is that upload itself, or, where one is at work, watches it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::super::globals::{duration, table};
use super::super::look;
use super::super::output::{Output, as_json};
use super::super::progress::Progress;
use super::super::run::Run;
use crate::binlog::name::TableName;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::source::dump::queue::{self, Known, NewRequest, Queued, SOURCE};
use crate::source::dump::{self, Plan, Wanted};
use crate::source::upload;
use crate::store::{Fetched, Store};
use crate::stream::{Head, Key, Manifest, Request, RequestId, RequestState};

/// How often the request is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the stream's lock is tried for while another run holds it.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// Take a dump of some or all tables, now
#[derive(clap::Args, Clone)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["tables", "all_tables"])))]
#[command(after_help = "\
Examples:
  tablecast dump take g.apps                for regions that restore g.apps
  tablecast dump take --all-tables          what a new region begins with
  tablecast dump take --all-tables --mandatory   every region restores it
  tablecast dump take g.apps --dry-run      how much it would be

Writers wait for some milliseconds, readers not at all, and the stream goes on. If an upload is at work, that one
takes the dump and this command watches; else this command ships the stream too until the dump is in it.")]
pub struct Args {
    /// Tables by name
    #[arg(value_name = "DB.T", value_parser = table())]
    tables: Vec<TableName>,

    /// Every table of the set
    #[arg(long)]
    all_tables: bool,

    /// Every region restores it, also one that waits for nothing
    #[arg(long)]
    mandatory: bool,

    /// Why, for whoever reads `dump list` later
    #[arg(long, value_name = "TEXT", default_value = "taken by an operator")]
    reason: String,

    /// Stop waiting after this time; what another run has begun goes on
    #[arg(long, value_name = "DUR", value_parser = duration())]
    timeout: Option<Duration>,

    /// Only print what would be dumped
    #[arg(long)]
    pub dry_run: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "dump take")?;
        let store = run.store().await?;
        let head = run.head(&*store).await?;
        let tables: BTreeSet<TableName> = self.tables.iter().cloned().collect();
        check(&head, &tables)?;
        head.must_run(&format!("dump take of {}", head.name), "tablecast dump take", run.now())?;
        if self.dry_run {
            let wanted = if self.all_tables { Wanted::All } else { Wanted::Tables(tables) };
            let plan = dump::plan(&run.config, &head.table_set.tables, &wanted).await?;
            return Ok(Output::new(
                text_of_plan(run, &plan),
                json!({"dry_run": true, "plan": as_json(&plan)?}),
            ));
        }
        let new = NewRequest {
            id: RequestId::new(Uuid::new_v4().as_u128()),
            has_key: false,
            region: SOURCE.to_owned(),
            tables,
            all_tables: self.all_tables,
            mandatory: self.mandatory,
            reason: self.reason.clone(),
        };
        let began = Instant::now();
        let known = Known::load(&*store, &run.config.files.cache_dir);
        let queued = queue::queue(&*store, &head, &*run.clock, &new, &known).await?;
        if let Queued::Joined(there) = &queued {
            tracing::info!("job {} is pending for these tables: this is its dump too", there.id);
        }
        let request = self.wait(run, &store, queued.into_request()).await?;
        output(run, &*store, &request, began.elapsed()).await
    }

    /// Until the request is over: as the upload that answers it, or beside that.
    async fn wait(&self, run: &Run, store: &Arc<dyn Store>, request: Request) -> Result<Request> {
        let id = request.id.clone();
        let is_over = AtomicBool::new(false);
        let uploads = async {
            while !is_over.load(Ordering::Relaxed) {
                let options = upload::Options {
                    follow: false,
                    dry_run: false,
                    resync: false,
                    trust_copy: false,
                    lock_wait: run.globals.lock_wait,
                    stop: run.stop.child_token(),
                    meters: run.meters.clone(),
                    notice: Default::default(),
                };
                match upload::run(&run.config, store.clone(), &*run.clock, &options).await {
                    // It has answered everything, this request too.
                    Ok(_) => return Ok(()),
                    Err(error) if error.kind() == Kind::Locked => {
                        tracing::debug!("{error}: it takes the dump");
                        sleep(TRY_EVERY).await;
                    }
                    Err(error) => {
                        let hint = error.hint_text().map(|hint| format!("{hint}; ")).unwrap_or_default();
                        let there = queue::read(&**store, &id).await;
                        let next = match there.is_ok_and(|(request, _)| request.state.is_final()) {
                            true => format!("the request is over: `tablecast dump show {id}` says why"),
                            false => format!(
                                "the request stays in the queue: the next upload takes it up, `tablecast dump cancel {id}` \
                                 takes it back"
                            ),
                        };
                        return Err(error.during("dump take").hint(hint + &next));
                    }
                }
            }
            Ok(())
        };
        let has_uploaded = Notify::new();
        let watch = async {
            let request = watch(run, &**store, request, &has_uploaded).await;
            is_over.store(true, Ordering::Relaxed);
            request
        };
        let timeout = async {
            match self.timeout {
                Some(timeout) => sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(uploads, watch);
        let request = tokio::select! {
            () = timeout => {
                return Err(Error::new(Kind::Failed, format!("dump take: job {id} is not done in time")).hint(
                    format!("the upload at work goes on with it: `tablecast dump show {id}` says how far it is"),
                ));
            }
            uploaded = &mut uploads => {
                uploaded?;
                has_uploaded.notify_one();
                watch.await?
            }
            request = &mut watch => {
                let request = request?;
                // An upload of our own ends by itself now. One that only waits for the lock is not waited for.
                let _ = tokio::time::timeout(TRY_EVERY * 2, &mut uploads).await;
                request
            }
        };
        Ok(request)
    }
}

/// A table that is not of the set, with the one that was probably meant.
fn check(head: &Head, tables: &BTreeSet<TableName>) -> Result<()> {
    let set = &head.table_set.tables;
    let Some(odd) = tables.iter().find(|table| !set.names(table)) else { return Ok(()) };
    let known = set.listed().chain(head.definitions.iter().map(|definition| &definition.table));
    let text = odd.to_string();
    let likeness = |table: &TableName| strsim::jaro_winkler(&table.to_string(), &text);
    let nearest =
        known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|table| likeness(table) > 0.75);
    let hint = match nearest {
        Some(nearest) => format!("did you mean {nearest}? The set is {set}"),
        None => format!("the set is {set}"),
    };
    Err(Error::new(Kind::Usage, format!("dump take: {odd} is not in the table set of stream {}", head.name))
        .hint(hint))
}

/// Looks at the request until it is over, now and then and when told to.
async fn watch(run: &Run, store: &dyn Store, mut request: Request, look: &Notify) -> Result<Request> {
    let mut progress = None;
    while !request.state.is_final() {
        if run.stop.is_cancelled() {
            // The run's own end says which signal it was; the request stays where it is.
            return Ok(request);
        }
        if request.state == RequestState::Running && request.rows_total > 0 {
            let progress = progress.get_or_insert_with(|| Progress::start(run, "dump", request.rows_total));
            let left = request
                .eta_seconds
                .map(|seconds| format!(", {} left", look::duration(Duration::from_secs(seconds))));
            let amount = format!("rows, {}{}", look::size(request.bytes), left.unwrap_or_default());
            progress.step(request.rows.min(request.rows_total), &amount);
        }
        tokio::select! {
            () = look.notified() => {}
            () = sleep(LOOK_EVERY) => {}
        }
        request = queue::read(store, &request.id).await?.0;
    }
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(request)
}

async fn output(run: &Run, store: &dyn Store, request: &Request, took: Duration) -> Result<Output> {
    let (Some(dump), Some(seq), Some(at)) = (&request.dump, request.seq, request.at) else {
        let why = request.error.as_deref().unwrap_or(match request.state {
            RequestState::Cancelled => "it was cancelled",
            _ => "it was stopped",
        });
        let error = Error::new(Kind::Failed, format!("dump take: job {} brought no dump: {why}", request.id))
            .hint(format!("`tablecast dump show {}` shows the job", request.id));
        return Err(error);
    };
    // Written by whoever took it; the entry vouches for its bytes, and this only shows it.
    let manifest = match store.get(&Key::manifest(dump), None).await? {
        Fetched::Object { bytes, .. } => Manifest::parse(dump, &bytes)?,
        Fetched::Unchanged => {
            return Err(Error::new(Kind::Store, format!("read dump {dump}: unchanged since never")));
        }
    };
    let pause = Duration::from_micros(manifest.pause_us);
    let mut facts = vec![
        ("dump", dump.to_string()),
        ("tables", look::number(manifest.tables.len() as u64)),
        ("rows", look::number(manifest.rows())),
        ("size", look::size(manifest.bytes())),
        (
            "in stream",
            format!("entry {}, the state after transaction {}", look::number(seq.0), look::number(at.0)),
        ),
        ("pause", format!("{:.1} ms at most for writers", pause.as_secs_f64() * 1e3)),
        ("took", look::duration(took)),
    ];
    if !manifest.absent.is_empty() {
        let absent: Vec<String> = manifest.absent.iter().map(ToString::to_string).collect();
        let absent = absent.join(", ");
        let what =
            format!("{absent}: not at the source; a region that restores this dump has no such table then");
        facts.insert(2, ("absent", what));
    }
    let json = json!({
        "request": request.id,
        "dump": dump,
        "seq": seq.0.to_string(),
        "at": at.0.to_string(),
        "tables": manifest.tables.iter().map(|table| table.table.to_string()).collect::<Vec<_>>(),
        "absent": manifest.absent.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "rows": manifest.rows().to_string(),
        "bytes": manifest.bytes().to_string(),
        "full": manifest.full,
        "mandatory": request.mandatory,
        "pause_us": manifest.pause_us.to_string(),
        "seconds": took.as_secs_f64(),
    });
    Ok(Output::new(run.look.facts(&facts), json))
}

fn text_of_plan(run: &Run, plan: &Plan) -> String {
    let lines = plan.tables.iter().map(|planned| {
        vec![planned.table.to_string(), look::number(planned.rows), look::size(planned.bytes)]
    });
    let mut text = run.look.table(&["table", "rows (about)", "size there"], &[1, 2], lines);
    for table in &plan.absent {
        text.push_str(&format!(
            "\n{table} is not there at the source: a region that restores the dump loses it"
        ));
    }
    text
}
