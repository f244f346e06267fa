//! The binlog processor's life: made from the primary by CLONE, and made again.
//!
//! Nothing about a run is written down. What has been done is read from the two servers each time (the copy says of
//! itself when and from where it was made), so a run that was killed anywhere is carried on by the next one. The
//! processor is a server that may be thrown away: the stream lives in the bucket, and what a new processor cannot
//! send any more upload reads from the primary (see `bridge`). `rebuild` makes sure of that before it drops anything.

pub mod by_hand;
mod clone;
mod consent;
pub(crate) mod doctor;
pub mod my_cnf;
mod others;
mod plan;
mod replicate;
pub mod rules;
mod side;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::binlog::name::{TableName, TableSet, quote};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::metrics::Meters;
use crate::mysql;
use crate::source::preflight::{self, Check};
use crate::source::replica_filters;
use crate::source::upload;
use crate::source::{fitness, schemas};
use crate::store::{self, Store};
use crate::stream::Head;
use by_hand::ByHand;
use rules::Rules;
use side::{Recipient, Retention, Side};

pub(crate) use plan::clone_source;
pub use plan::{Plan, Step};
pub(crate) use side::clone_status;

#[derive(Clone, Debug)]
pub struct Options {
    /// The tables, where there is no stream yet to name them.
    pub tables: Option<TableSet>,
    /// There was one: see to it that nothing is lost with it.
    pub rebuild: bool,
    /// Drop what the server holds, whatever it is; of one that is `loaded`, what the filters do not let in.
    pub replace: bool,
    /// The data is there, loaded by hand.
    pub loaded: bool,
    pub dry_run: bool,
    pub lock_wait: Duration,
    pub stop: CancellationToken,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub dry_run: bool,
    /// Else it is the next thing to be made.
    #[serde(skip)]
    pub has_stream: bool,
    pub plan: Plan,
    /// CLONE cannot be used here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
    /// What `doctor` finds at the source, after everything was done.
    pub checks: Vec<Check>,
    /// Tables of the copy that the filters do not let in.
    #[serde(serialize_with = "crate::source::upload::as_text")]
    pub dropped: u64,
    pub warnings: Vec<String>,
    /// Why it could not be done.
    #[serde(skip)]
    pub failure: Option<Arc<Error>>,
}

/// Makes the processor, or makes it again.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    options: &Options,
) -> Result<Report> {
    let primary = config.primary.as_ref().ok_or_else(|| {
        Error::new(
            Kind::Usage,
            format!("make the processor {}: {} has no [primary]", config.mysql, config.path.display()),
        )
        .hint("[primary] names the server that is written to, [mysql] the processor")
    })?;
    let head = head(&*store, options).await?;
    let set = match (&head, &options.tables) {
        // What is about to come into the set: `tables add` wants it there first.
        (Some(head), Some(more)) => head.table_set.tables.union(more),
        (Some(head), None) => head.table_set.tables.clone(),
        (None, Some(tables)) => tables.clone(),
        (None, None) => {
            return Err(Error::new(Kind::Usage, "there is no stream yet that would name the tables")
                .hint("name them: --table DB.T --table DB.T …"));
        }
    };
    let rules = Rules::of(&set)?;
    replicate::password(primary).await?;
    side::is_no_region(&config.mysql, &config.stream).await.map_err(is_it_up)?;
    let mut donor = Side::look(primary).await?;
    newcomers_are_fit(&mut donor, head.as_ref(), options).await?;
    let mut processor = Side::look(&config.mysql).await.map_err(is_it_up)?;
    let found = Recipient::look(&mut processor, &mut donor, (&set, &rules)).await?;
    let keeps = Retention::look(&mut donor).await?;
    let mut plan = plan::make(options, head.as_ref(), &rules, &donor, &processor, &found, &keeps)?;
    let mut warnings = Vec::new();
    for warning in plan::warnings(&mut donor, &processor, (&set, &plan), &found, &keeps).await? {
        warn(&mut warnings, warning);
    }
    let has_stream = head.is_some();
    let report = |plan: Plan, by_hand, warnings| Report {
        stream: config.stream.clone(),
        dry_run: options.dry_run,
        has_stream,
        plan,
        by_hand,
        checks: Vec::new(),
        dropped: 0,
        warnings,
        failure: None,
    };
    if plan.clones()
        && let Some(why) = plan::obstacle(&donor, &processor).await?
    {
        return refuse(why, &mut donor, &processor, (&set, &rules), |by_hand| {
            report(plan, Some(by_hand), warnings)
        })
        .await;
    }
    if options.dry_run {
        return Ok(report(plan, None, warnings));
    }
    // Two of these at once. It ends with the server's restart; by then the other one waits for the copy too.
    let lock = mysql::Lock::acquire(
        &config.mysql,
        &format!("tablecast-processor:{}", config.stream),
        options.lock_wait,
    )
    .await?;
    let mut lock = Some(lock);
    let mut dropped = 0;
    for step in plan.steps.clone() {
        match step {
            Step::Drain { .. } => drain(config, &store, clock, options, &mut warnings).await,
            Step::KeepHistory { .. } => {
                let head = head_now(&*store).await?;
                donor = Side::look(primary).await?;
                plan::nothing_is_lost(&donor, &head)?;
            }
            Step::InstallPlugin { server } => {
                let side = if server == donor.name { &mut donor } else { &mut processor };
                if let Err(why) = clone::install_plugin(side).await {
                    return refuse(why, &mut donor, &processor, (&set, &rules), |by_hand| {
                        report(plan, Some(by_hand), warnings)
                    })
                    .await;
                }
            }
            Step::Clone { .. } => {
                lock.take();
                clone::run(&mut processor, &donor).await?;
                processor = Side::look(&config.mysql).await?;
                is_of(&processor, &donor)?;
            }
            Step::AwaitClone { .. } => {
                lock.take();
                let begin = found.clone.as_ref().map(|clone| clone.begin.clone()).unwrap_or_default();
                clone::wait(&config.mysql, processor.conn, clone::Awaited::This(begin)).await?;
                donor = Side::look(primary).await?;
                processor = Side::look(&config.mysql).await?;
                let found = Recipient::look(&mut processor, &mut donor, (&set, &rules)).await?;
                plan::behind_clone(options, &rules, &donor, &processor, &found)?;
            }
            Step::Filters { processor: name, .. } => {
                let warning = replicate::filter(&mut processor, &rules).await?;
                let found = Step::Filters { processor: name, in_my_cnf: Some(warning.is_none()) };
                if let Some(step) = plan.steps.iter_mut().find(|step| matches!(step, Step::Filters { .. })) {
                    *step = found;
                }
                if let Some(warning) = warning {
                    warn(&mut warnings, warning);
                }
            }
            Step::Drop { .. } => {
                let filters = replica_filters::of_new_channels(&mut processor.conn, &processor.name).await?;
                dropped = others::drop_all(&mut processor, &set, &filters.in_force).await?;
            }
            Step::Replicate { .. } => replicate::begin(&mut processor, &donor).await?,
            Step::Check => {}
        }
    }
    plan.done = true;
    let watches = plan.steps.iter().any(|step| matches!(step, Step::KeepHistory { .. }));
    let mut report = report(plan, None, warnings);
    report.dropped = dropped;
    let head = match head {
        Some(_) => Some(head_now(&*store).await?),
        None => None,
    };
    if let Some(head) = head.as_ref().filter(|_| watches) {
        donor = Side::look(primary).await?;
        processor = Side::look(&config.mysql).await?;
        report.failure = plan::nothing_was_lost(&donor, &processor, head).err().map(Arc::new);
    }
    report.checks = preflight::checks(config, head.as_ref()).await?;
    Ok(report)
}

fn is_it_up(error: Error) -> Error {
    match error.kind() {
        Kind::Mysql => error.hint(
            "is it up? After a CLONE mysqld stops where nothing supervises it: start it, then run this again; it carries on",
        ),
        _ => error,
    }
}

/// A slip of the pen would be found by `tables add` alone, when the processor has been made for it.
async fn newcomers_are_fit(donor: &mut Side, head: Option<&Head>, options: &Options) -> Result<()> {
    let Some(named) = &options.tables else { return Ok(()) };
    let is_known = |table: &TableName| head.is_some_and(|head| head.table_set.tables.names(table));
    for table in named.listed().filter(|table| !is_known(table)) {
        fitness::check(&mut donor.conn, &donor.name, table, "make a processor for").await?;
    }
    let there = schemas::read(&mut donor.conn, &donor.name, named).await?;
    match named.schemas().into_iter().find(|schema| !there.contains_key(schema)) {
        None => Ok(()),
        Some(schema) => Err(Error::new(
            Kind::Usage,
            format!("make a processor for tables of {schema}: {} has no such schema", donor.name),
        )
        .hint("create it first, or correct the name (names are compared with their case), or grant this account SELECT on it")),
    }
}

fn warn(warnings: &mut Vec<String>, warning: String) {
    tracing::warn!("{warning}");
    warnings.push(warning);
}

/// Refuses a copy that is older than the CLONE of this run.
fn is_of(processor: &Side, donor: &Side) -> Result<()> {
    let lacks = donor.moment.executed.difference(&processor.moment.executed);
    if lacks.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Mysql,
        format!(
            "make the processor {}: its copy lacks {lacks}, which {} had before CLONE began",
            processor.name, donor.name
        ),
    )
    .hint("that is no copy of this run's: see performance_schema.clone_status there, then run this again with --replace"))
}

/// What cannot be done by CLONE, with the commands that do it otherwise.
async fn refuse(
    why: Error,
    donor: &mut Side,
    processor: &Side,
    (set, rules): (&TableSet, &Rules),
    report: impl FnOnce(ByHand) -> Report,
) -> Result<Report> {
    let commands = by_hand::commands(donor, processor, set, rules).await?;
    let mut report = report(ByHand { why: why.to_string(), commands });
    report.failure = Some(Arc::new(why));
    Ok(report)
}

/// Ships what the old processor still has. Whether that was needed is found out afterwards.
async fn drain(
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &dyn Clock,
    options: &Options,
    warnings: &mut Vec<String>,
) {
    let options = upload::Options {
        follow: false,
        dry_run: false,
        resync: false,
        trust_copy: false,
        lock_wait: options.lock_wait,
        stop: options.stop.child_token(),
        meters: Meters::default(),
        notice: Default::default(),
    };
    match upload::run(config, store.clone(), clock, &options).await {
        Ok(report) => tracing::info!("{report}"),
        Err(error) if error.kind() == Kind::Locked => warn(
            warnings,
            "an upload is at work on the processor: it loses its connection, and the next one goes on"
                .to_owned(),
        ),
        Err(error) => {
            warn(warnings, format!("what the old processor still has could not be shipped: {error}"))
        }
    }
}

async fn head(store: &dyn Store, options: &Options) -> Result<Option<Head>> {
    match head_now(store).await {
        Ok(head) => Ok(Some(head)),
        Err(error) if error.is_not_found() && !options.rebuild => Ok(None),
        Err(error) => Err(error),
    }
}

async fn head_now(store: &dyn Store) -> Result<Head> {
    match store::head::read(store, None).await? {
        store::head::Read::Head { head, .. } => Ok(*head),
        store::head::Read::Unchanged => Err(Error::new(
            Kind::Store,
            format!("read {}/index.json: \"not modified\" to a plain read", store.url()),
        )),
    }
}

/// What the accounts need for this alone; without semicolons. `processor`: that of `[mysql]`, `primary`: that of
/// `[primary]`.
pub fn grants(processor: &str, primary: &str) -> Grants {
    let plugin = format!("GRANT INSERT ON {}.{} TO", quote("mysql"), quote("plugin"));
    let on_processor = vec![
        // PROCESS: to see every table that CLONE would drop. DROP: the tables of the copy that no filter lets in.
        format!(
            "GRANT DROP, PROCESS, CLONE_ADMIN, SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, REPLICATION SLAVE, \
             REPLICATION CLIENT ON *.* TO {processor}"
        ),
        format!("GRANT SELECT ON {}.* TO {processor}", quote("performance_schema")),
        format!("{plugin} {processor}"),
    ];
    let on_primary = vec![
        format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, BACKUP_ADMIN ON *.* TO {primary}"),
        format!("{plugin} {primary}"),
    ];
    Grants { on_processor, on_primary }
}

pub struct Grants {
    /// For `[mysql]`, before the copy at the processor, and at the primary, whose accounts the copy has.
    pub on_processor: Vec<String>,
    /// For `[primary]`: CLONE reads and replication goes on by it.
    pub on_primary: Vec<String>,
}
