//! `upload`: ship what the source has committed since the last time, once or for ever.
//!
//! A run knows nothing but the head: the source is asked for everything outside the covered set that stands
//! there. So it does not matter where the last run stopped, whether it was killed, or which server of a
//! replication topology is read now. Whoever loses the compare-and-swap reads the head again and starts its
//! pass again. A run that follows also starts again, after a pause, when the source or the store cannot be
//! reached; everything else ends it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::binlog::gtid::Gtid;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::failpoint;
use crate::failure::Notice;
use crate::metrics::Meters;
use crate::mysql::{self, Held, Incoming, Lock};
use crate::source::bridge;
use crate::source::check::{self, Checks};
use crate::source::definitions::{self, Tracker};
use crate::source::dump::{self, Desk, Jobs};
use crate::source::moment::{self, Moment};
use crate::source::pass::{AS_OF_STEP, Pass, Tools};
use crate::source::passed_over::Net;
use crate::source::primacy;
use crate::source::reader::Reader;
use crate::source::schemas::Schemas;
use crate::source::tip::Tip;
use crate::source::writers::Writers;
use crate::source::zone::system_zone;
use crate::source::{behind, failover, gap, owed, packer, preflight, resync, standstill};
use crate::store::Store;
use crate::stream::{FORMAT, Head};

mod follow;
mod look;
mod paused;
mod plan;
mod report;

use look::may_read;
pub(crate) use look::{beyond, look, observe};
pub(crate) use paused::go_on;
use paused::{must_run, or_paused, wait_for_resume};
pub use plan::{Action, Plan};
pub use report::{Report, Shipped};
pub(crate) use report::{as_text, seq_as_text, tx_as_text};

#[derive(Clone, Debug)]
pub struct Options {
    /// Keep on, instead of ending where the source ended when the run began.
    pub follow: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// First take a dump that stands for what can no longer be read.
    pub resync: bool,
    /// Somebody says that the source's copy is whole, which nothing proves.
    pub trust_copy: bool,
    /// How long another run may go on holding the lock.
    pub lock_wait: Duration,
    /// Ends the run at a transaction boundary; what is complete by then is shipped.
    pub stop: CancellationToken,
    /// Where the run's figures are kept.
    pub meters: Meters,
    /// Who is told while a run that follows fails and works.
    pub notice: Notice,
}

/// How often a swap may be lost in a row before somebody has to look why two sources write one stream.
const CONFLICTS: u32 = 5;
/// How often a one-shot run goes on for the sake of definitions that it could not be sure of.
const ROUNDS: u32 = 3;
/// How many later transactions a one-shot run reads before it stops: a source may write as fast as we read.
const PAST: u64 = 10_000;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(60);

/// What a run remembers beyond a stretch of work.
struct Memory {
    /// It has had lock, head and source once: what fails from then on may go by.
    has_worked: bool,
    /// The dump that stands for what is lost is still to be taken.
    resync: bool,
}

/// Ships what is new.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    options: &Options,
) -> Result<Report> {
    let tools = Tools { config, store: &*store, clock };
    let mut report = Report::new(config, options.dry_run, options.meters.clone());
    if options.dry_run {
        let tip = Tip::load(tools.store, &config.files.cache_dir).await?;
        must_run(tools, &tip.head)?;
        let mut conn = mysql::connect(&config.mysql).await?;
        if options.resync {
            let (plan, dropped) = resync::plan(config, &mut conn, tools, &tip.head, &mut report).await?;
            // First, for what is lost at the source too ends the look below.
            let mut moment = moment::look(&mut conn, &config.mysql.to_string()).await?;
            primacy::judge(config, &mut moment).await;
            gap::may_be_dumped(tools, &mut conn, &moment, &tip.head, options.trust_copy)
                .await?
                .into_iter()
                .for_each(|said| report.warn(said));
            behind::check(tools, &mut conn, &mut moment, &tip.head, false, &options.stop).await?;
            let judged = failover::may_be_dumped(tools, &moment, &tip.head, options.trust_copy).await?;
            judged.warning.into_iter().for_each(|said| report.warn(said));
            (report.resync, report.dropped) = (Some(plan), dropped);
            report.refused.clone_from(&tip.head.refused);
        }
        if let Some(refused) = tip.head.refused.as_ref().filter(|_| !options.resync) {
            // Whether a run would come past it now, only reading tells.
            return Err(refused.error());
        }
        let moment = match may_read(&mut conn, tools, &tip.head, &mut report).await {
            // What --resync is there for.
            Err(error) if options.resync && error.kind() == Kind::History => return Ok(report),
            Ok((moment, bridge)) => {
                match gap::would_refuse(tools, &mut conn, &tip.head, &moment).await {
                    Err(error) if !(options.resync && error.kind() == Kind::History) => return Err(error),
                    Err(_) => return Ok(report),
                    Ok(()) => {}
                }
                bridge.iter().for_each(|bridge| report.bridged(bridge));
                moment
            }
            Err(error) => return Err(error),
        };
        report.begin(
            Plan::new(config, &tip.head, &moment).with_check(check::is_due(tools, &tip.head)),
            &tip.head,
        );
        return Ok(report);
    }
    let mut memory = Memory { has_worked: false, resync: options.resync };
    loop {
        match once_with_dumps(tools, &store, options, &mut memory, &mut report).await {
            Err(error) if options.follow && error.kind() == Kind::Paused => {
                tracing::warn!("{error}; waiting for its end");
                options.meters.waits_for_resume();
                if !wait_for_resume(tools, options).await? {
                    break;
                }
                options.meters.goes_on();
                tracing::info!("{} is no longer paused: going on", config.stream);
            }
            done => {
                done?;
                break;
            }
        }
    }
    // Nobody need wait for the next run to have the dump taken that a change of the set asks for.
    if !options.follow && report.owes_dump && !report.set_changes.is_empty() && !options.stop.is_cancelled() {
        once_with_dumps(tools, &store, options, &mut memory, &mut report).await?;
    }
    report.stopped = options.stop.is_cancelled();
    Ok(report)
}

/// Dumps are taken beside the passes, and given up when these end.
async fn once_with_dumps(
    tools: Tools<'_>,
    store: &Arc<dyn Store>,
    options: &Options,
    memory: &mut Memory,
    report: &mut Report,
) -> Result<()> {
    let desk = Desk::default();
    let stop = options.stop.child_token();
    let Tools { config, clock, .. } = tools;
    let jobs =
        Jobs { config, store: store.clone(), clock, desk: &desk, follow: options.follow, stop: stop.clone() };
    let ships = async {
        let shipped = ship(tools, store, options, &desk, memory, report).await;
        stop.cancel();
        shipped
    };
    let (lock, ()) = tokio::join!(ships, jobs.run());
    match lock? {
        Some(lock) => lock.release().await,
        None => Ok(()),
    }
}

/// Pass after pass, again after what goes by. Ends with the lock, held until the dumps' loose ends are tied up.
async fn ship(
    tools: Tools<'_>,
    store: &Arc<dyn Store>,
    options: &Options,
    desk: &Desk,
    memory: &mut Memory,
    report: &mut Report,
) -> Result<Option<Lock>> {
    let mut conflicts = 0;
    let mut pause = PAUSE_FIRST;
    let mut lock: Option<Lock> = None;
    while !options.stop.is_cancelled() {
        let before = report.puts;
        let ended = session(tools, store, options, desk, &mut lock, report, memory).await;
        if report.puts > before {
            (conflicts, pause) = (0, PAUSE_FIRST);
        }
        match ended {
            Ok(()) => break,
            Err(error) if error.is_conflict() && conflicts < CONFLICTS => {
                conflicts += 1;
                options.meters.tried_again(error.kind());
                tracing::warn!("{error}; starting again from the newest head");
            }
            Err(error) if options.follow && memory.has_worked && comes_back(&error) => {
                // A connection of its own may be what broke; the lock is taken again.
                lock = None;
                options.meters.tried_again(error.kind());
                tracing::warn!("{}; trying again in {} s", chain(&error), pause.as_secs());
                options.notice.failed(&error).await;
                tokio::select! {
                    () = options.stop.cancelled() => {}
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE_LONGEST);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(lock)
}

/// Whether a following run may expect that this goes by. `Locked` is here because the server takes a while to
/// notice that our own last connection is gone.
fn comes_back(error: &Error) -> bool {
    error.is_transient() || error.kind() == Kind::Locked
}

/// One stretch of work from a freshly read head: until everything is shipped, or until something breaks.
async fn session(
    tools: Tools<'_>,
    store: &Arc<dyn Store>,
    options: &Options,
    desk: &Desk,
    held: &mut Option<Lock>,
    report: &mut Report,
    memory: &mut Memory,
) -> Result<()> {
    let config = tools.config;
    let lock = match held {
        Some(lock) => lock,
        none => match Lock::acquire(&config.mysql, &lock_name(&config.stream), options.lock_wait).await {
            Ok(lock) => none.insert(lock),
            Err(error) => return Err(or_paused(tools, error).await),
        },
    };
    failpoint::hit("upload.after_lock");
    let (tip, conn) =
        tokio::join!(Tip::load(tools.store, &config.files.cache_dir), mysql::connect(&config.mysql));
    memory.has_worked |= tip.is_ok() && conn.is_ok();
    let mut tip = tip?;
    // Before what the source's server says.
    go_on(tools, &mut tip)?;
    let mut conn = conn?;
    if memory.resync {
        // Other dumps wait: they could not be placed.
        if !resync::run(tools, store, options, lock, &mut tip, &mut conn, report).await? {
            return Ok(());
        }
        memory.resync = false;
    }
    owed::ask(tools, desk, &tip.head).await;
    desk.lock_taken(tip.head.stream);
    let done = passes(tools, options, desk, lock, &mut tip, &mut conn, report).await;
    // What a run is refused for may have come into the head by this very run: its figures are the head's all the same.
    report.know(&tip.head);
    // Said goodbye to, the server does not note an aborted connection. Whether it hears it does not matter.
    let _ = conn.disconnect().await;
    done
}

/// Ships what is there; while a dump is under way, again and again: the stream does not wait for it.
async fn passes(
    tools: Tools<'_>,
    options: &Options,
    desk: &Desk,
    lock: &mut dyn Held,
    tip: &mut Tip,
    conn: &mut Conn,
    report: &mut Report,
) -> Result<()> {
    loop {
        rounds(tools, options, desk, lock, tip, conn, report).await?;
        options.meters.got_on(tools.clock.now());
        dump::attend(tools, desk, lock, tip, report).await?;
        if options.follow || options.stop.is_cancelled() || desk.is_closed() {
            return Ok(());
        }
        tokio::select! {
            () = options.stop.cancelled() => {}
            () = desk.work() => {}
            () = sleep(tools.config.upload.interval) => {}
        }
    }
}

/// Pass after pass, until nothing is left open.
async fn rounds(
    tools: Tools<'_>,
    options: &Options,
    desk: &Desk,
    lock: &mut dyn Held,
    tip: &mut Tip,
    conn: &mut Conn,
    report: &mut Report,
) -> Result<()> {
    let config = tools.config;
    let server = config.mysql.to_string();
    let mut tracker = None;
    let mut net = Net::default();
    for round in 1.. {
        net.look(conn, &server, &tip.head, report).await?;
        let (moment, bridge) = may_read(conn, tools, &tip.head, report).await?;
        let good = tip.head.covered.clone();
        let since = gap::check(tools, lock, tip, conn, &moment, &good).await?;
        let moment = match bridge {
            None => {
                gap::on_trust(since.filter(|_| round == 1), &moment, &tip.head, &server)
                    .into_iter()
                    .for_each(|said| report.warn(said));
                moment
            }
            Some(bridge) => {
                if !bridge::cross(tools, options, lock, tip, report, &bridge).await? {
                    return Ok(());
                }
                look(conn, tools, &tip.head).await?
            }
        };
        let plan = Plan::new(config, &tip.head, &moment).with_check(check::is_due(tools, &tip.head));
        report.begin(plan.clone(), &tip.head);
        if let Some(warning) = standstill::told_with_way_out(&moment, &server) {
            report.warn(warning);
        }
        if let Some(doubt) = &moment.doubt {
            report.warn(doubt.to_string());
        }
        if !options.follow && plan.action != Action::Read && !check::is_due(tools, &tip.head) {
            net.hold(conn, &server, &tip.head, &tip.head.covered).await?;
            return idle(tools, lock, tip, &moment, report).await;
        }
        prepare(config, conn, &tip.head, report).await?;
        let tables = definitions::existing(conn, &plan.source, &tip.head.table_set.tables).await?;
        let schemas = &tip.head.schemas;
        let schemas = Schemas::new(conn, &plan.source, schemas.clone()).await?;
        let tracker_now =
            tracker.take().unwrap_or_else(|| Tracker::new(tables, &tip.head.definitions, tip.head.last_tx));
        let zone = system_zone(conn, &plan.source).await?;
        let writers = Writers::of(tools, &moment, &tip.head);
        let mut pass = Pass::new(tools, tip, lock, report, schemas, tracker_now, moment.ordered)
            .with_system_zone(zone)
            .behind(writers);
        let done = if options.follow {
            follow::follow(tools, options, desk, conn, &mut pass, (moment, &mut net)).await?;
            true
        } else {
            once(tools, options, desk, conn, &mut pass, &plan, (&moment, &net)).await?
        };
        if done || round == ROUNDS {
            return Ok(());
        }
        tracker = Some(pass.tracker);
    }
    Ok(())
}

/// The name of the lock that the runs of a stream exclude each other by.
pub(crate) fn lock_name(stream: &str) -> String {
    mysql::lock_name(&format!("tablecast:{stream}"))
}

/// Nothing to read: refreshes `as_of` if it is old enough, and that is all.
async fn idle(
    tools: Tools<'_>,
    lock: &mut dyn Held,
    tip: &mut Tip,
    moment: &Moment,
    report: &mut Report,
) -> Result<()> {
    let as_of = moment.complete_until.filter(|until| *until - tip.head.as_of >= AS_OF_STEP);
    // `tables` asks for the format: whoever wrote an older one knows no changes of the set.
    let is_written = tip.head.source_region == tools.config.source_region && tip.head.format >= FORMAT;
    // Everything is covered: nothing is in the way any more.
    if as_of.is_none() && is_written && tip.head.refused.is_none() {
        return Ok(());
    }
    let mut head = tip.head.clone();
    head.as_of = as_of.unwrap_or(head.as_of);
    head.refused = None;
    head.source_region.clone_from(&tools.config.source_region);
    lock.verify().await?;
    tip.swap(tools.store, head).await?;
    report.head_written(&tip.head);
    Ok(())
}

/// What only a run that reads needs.
pub(crate) async fn prepare(
    config: &Config,
    conn: &mut Conn,
    head: &Head,
    report: &mut Report,
) -> Result<()> {
    let server = config.mysql.to_string();
    for warning in preflight::require(conn, &server, &head.table_set.tables).await? {
        report.warn(warning);
    }
    let folder = &config.files.spool_dir;
    std::fs::create_dir_all(folder).map_err(|cause| {
        Error::new(Kind::Usage, format!("make the folder {}", folder.display()))
            .hint("files.spool_dir in the config names it")
            .caused_by(cause)
    })?;
    packer::clean(folder, head.stream);
    Ok(())
}

/// Reads to the end of the binlog, and at least until everything is covered that the source had executed when
/// the pass began. Says whether nothing is left to be made sure of.
async fn once(
    tools: Tools<'_>,
    options: &Options,
    desk: &Desk,
    conn: &mut Conn,
    pass: &mut Pass<'_>,
    plan: &Plan,
    (moment, net): (&Moment, &Net),
) -> Result<bool> {
    let config = tools.config;
    let server = plan.source.clone();
    // The filters let everything in behind this.
    let good = pass.covered.union(&moment.executed);
    // Definitions that an earlier run left open are known once this pass has read on past this reading.
    learn(conn, &server, pass).await?;
    let mut left = plan.missing_count;
    let mut past = 0;
    let mut reader = open_reader(tools, pass, false).await?;
    loop {
        let incoming = match reader.ready() {
            Some(incoming) => incoming,
            None => tokio::select! {
                biased;
                () = options.stop.cancelled() => {
                    pass.finish().await?;
                    return Ok(true);
                }
                incoming = reader.next() => match incoming? {
                    Some(incoming) => incoming,
                    None => break,
                },
            },
        };
        match take(pass, conn, incoming).await? {
            Some(gtid) if plan.missing.contains(&gtid) => left -= 1,
            Some(_) => past += 1,
            None => {}
        }
        if left == 0 && past >= PAST {
            break;
        }
    }
    if left > 0 {
        return Err(Error::new(
            Kind::History,
            format!(
                "read {}: its binary logs end without {}, which is in its gtid_executed",
                config.mysql,
                plan.missing.difference(&pass.covered)
            ),
        )
        .hint(preflight::RESTART_HINT));
    }
    // Definitions that changed in what was read. They are known at once if nothing has been written since.
    learn(conn, &server, pass).await?;
    pass.complete_until(moment.complete_until);
    if !moment.channels.is_empty() {
        let now = moment::look(conn, &server).await?;
        gap::check(tools, pass.lock, pass.tip, conn, &now, &good).await?;
    }
    pass.finish().await?;
    // All that was there when the pass began.
    pass.report.backlog(0);
    net.hold(conn, &server, &pass.tip.head, &pass.covered).await?;
    pass.attend(desk).await?;
    // One connection to the binlog at a time.
    drop(reader);
    Checks::default().run(tools, &options.stop, conn, pass, None).await?;
    Ok(pass.tracker.is_settled())
}

/// Takes an event. A transaction that is refused ends the run, and what came whole before it is shipped first: the
/// regions are owed it.
pub(crate) async fn take(pass: &mut Pass<'_>, conn: &mut Conn, incoming: Incoming) -> Result<Option<Gtid>> {
    match pass.take(conn, incoming).await {
        Err(error) if error.kind() == Kind::Gate => {
            let error = with_the_way_on(error);
            pass.refuse(&error).await?;
            Err(error)
        }
        taken => taken,
    }
}

/// What is refused stands in the source's binlog for good.
fn with_the_way_on(error: Error) -> Error {
    const WAY_ON: &str = "it stands in the source's binlog for good: the stream goes on behind it by `tablecast upload \
         --resync`, a dump that every region restores (--dry-run first: docs/dumps.md#resync)";
    match error.hint_text() {
        Some(hint) if hint.contains("--resync") => error,
        Some(hint) => {
            let hint = format!("{hint}; {WAY_ON}");
            error.hint(hint)
        }
        None => error.hint(WAY_ON),
    }
}

async fn learn(conn: &mut Conn, server: &str, pass: &mut Pass<'_>) -> Result<()> {
    let wanted = pass.tracker.wanted();
    if !wanted.is_empty() {
        pass.tracker.learn(definitions::read(conn, server, &wanted).await?);
    }
    Ok(())
}

pub(crate) async fn open_reader(tools: Tools<'_>, pass: &Pass<'_>, follow: bool) -> Result<Reader> {
    let config = tools.config;
    Reader::open(&config.mysql, pass.tip.head.stream, &pass.covered, follow, &config.files.spool_dir).await
}

/// `as_of` as people read it; a stream whose source was a standing replica at `stream init` has none yet.
pub(crate) fn show_time(time: DateTime<Utc>) -> String {
    if time == DateTime::UNIX_EPOCH {
        return "unknown".to_owned();
    }
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
