//! What has to be done, from one look at both servers and at the head; refused where it would do harm.

use std::fmt;

use serde::Serialize;

use super::rules::Rules;
use super::side::{self, Recipient, Retention, Side};
use super::{Options, consent, doctor};
use crate::binlog::name::TableSet;
use crate::config::MysqlConfig;
use crate::error::{Error, Kind, Result};
use crate::mysql;
use crate::source::{fitness, preflight};
use crate::stream::Head;

#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub primary: String,
    pub processor: String,
    pub steps: Vec<Step>,
    pub done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Ship what the old processor has and the stream lacks.
    Drain {
        processor: String,
    },
    /// See that the primary still has everything that the stream lacks. `keeps`: how long it has its binary logs.
    KeepHistory {
        keeps: String,
    },
    InstallPlugin {
        server: String,
    },
    /// Drop everything at the processor and put the primary's data there.
    Clone {
        from: String,
        into: String,
        drops: u64,
    },
    /// A CLONE is under way there.
    AwaitClone {
        into: String,
    },
    /// `in_my_cnf`: the server's own configuration has them. Absent before a restart that reads it anew.
    Filters {
        processor: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        in_my_cnf: Option<bool>,
    },
    /// Drop the tables of the copy that the filters do not let in. `tables`: how many; absent before the CLONE.
    Drop {
        processor: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        tables: Option<u64>,
    },
    Replicate {
        from: String,
        user: String,
    },
    /// What `doctor` checks.
    Check,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Drain { processor } => write!(f, "ship what {processor} has and the stream lacks (upload)"),
            Step::KeepHistory { keeps } => {
                write!(f, "make sure that the primary still has everything that the stream lacks ({keeps})")
            }
            Step::InstallPlugin { server } => write!(f, "INSTALL PLUGIN clone at {server}"),
            Step::Clone { from, into, drops: 0 } => write!(f, "CLONE {from} into {into}, which restarts"),
            Step::Clone { from, into, drops } => {
                write!(f, "CLONE {from} into {into}: its {drops} tables go, and it restarts")
            }
            Step::AwaitClone { into } => write!(f, "wait for the CLONE that is under way at {into}"),
            Step::Filters { processor, in_my_cnf: Some(true) } => {
                write!(f, "the filters of {processor} are right (my.cnf)")
            }
            Step::Filters { processor, in_my_cnf: Some(false) } => {
                write!(f, "CHANGE REPLICATION FILTER at {processor}: its my.cnf does not have them")
            }
            Step::Filters { processor, in_my_cnf: None } => {
                write!(
                    f,
                    "the filters of {processor}: those of its my.cnf once it has restarted; CHANGE REPLICATION FILTER, if \
                     they are not there"
                )
            }
            Step::Drop { processor, tables: None } => write!(
                f,
                "drop every table of the copy at {processor} that the filters do not let in; then super_read_only"
            ),
            Step::Drop { processor, tables: Some(0) } => {
                write!(f, "{processor} holds no table that the filters do not let in; super_read_only")
            }
            Step::Drop { processor, tables: Some(tables) } => write!(
                f,
                "drop the {tables} tables of {processor} that the filters do not let in; then super_read_only"
            ),
            Step::Replicate { from, user } => write!(f, "replicate from {from} as {user}, by GTID"),
            Step::Check => write!(f, "the checks of `tablecast doctor`"),
        }
    }
}

impl Plan {
    pub(super) fn replicates(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Replicate { .. }))
    }

    pub(super) fn clones(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Clone { .. }))
    }
}

pub(super) fn make(
    options: &Options,
    head: Option<&Head>,
    rules: &Rules,
    donor: &Side,
    processor: &Side,
    found: &Recipient,
    keeps: &Retention,
) -> Result<Plan> {
    let here = &processor.name;
    if donor.moment.uuid == processor.moment.uuid {
        return Err(Error::new(
            Kind::Usage,
            format!("make the processor {here}: it is the very server that [primary] names, {}", donor.name),
        )
        .hint(
            "[mysql] is to be another server; a stream that is read from the primary itself has no processor",
        ));
    }
    preflight::mode(&donor.moment, &donor.name)?;
    let (host, port) = donor.address()?;
    let leads_there = |channel: &&mysql::ReplicaStatus| {
        channel.source_uuid == donor.moment.uuid.to_string()
            || (&channel.source_host, channel.source_port) == (&host, port)
    };
    let ours: Vec<_> = found.channels.iter().filter(leads_there).collect();
    let runs = ours.iter().any(|channel| channel.io_running && channel.sql_running);
    let is_copy = is_copy(donor, processor, found)?;
    let is_fresh = is_copy && found.missing.is_empty();
    let cloning = found.clone.as_ref().filter(|clone| clone.state == "In Progress");
    let is_cloning = cloning.is_some();
    let source = clone_source(&donor.config)?;
    if let Some(other) = cloning.filter(|clone| clone.source != source) {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "make the processor {here}: a CLONE from {} is under way there, and [primary] is {source}",
                other.source
            ),
        )
        .hint("does [mysql] name the wrong server? Nothing has been changed"));
    }

    let mut steps = Vec::new();
    let mut replicates = true;
    let mut restarts = false;
    if is_cloning {
        steps.push(Step::AwaitClone { into: here.clone() });
        restarts = true;
    } else if runs && !options.rebuild && (!options.replace || options.loaded) {
        replicates = false;
    } else if is_fresh && !runs && (!options.replace || options.loaded) {
        doctor::my_cnf(rules, &found.filters, here, false)?;
        if !options.replace {
            consent::is_ours(processor, rules, found)?;
        }
    } else if options.loaded {
        consent::loaded(processor, options, found)?;
    } else {
        let is_left =
            is_copy && found.channels.is_empty() && consent::is_ours(processor, rules, found).is_ok();
        if !is_left {
            consent::may_replace(options, head, donor, processor, found)?;
        }
        if let Some(head) = head.filter(|_| options.rebuild) {
            // A server without channels and tables is no processor that could be drained.
            let waits = !processor.moment.executed.is_subset(&head.covered);
            if waits && !found.channels.is_empty() {
                steps.push(Step::Drain { processor: here.clone() });
            }
            steps.push(Step::KeepHistory { keeps: keeps.to_string() });
        }
        for side in [donor, processor].into_iter().filter(|side| !side.has_plugin) {
            steps.push(Step::InstallPlugin { server: side.name.clone() });
        }
        steps.push(Step::Clone { from: donor.name.clone(), into: here.clone(), drops: found.tables });
        restarts = true;
    }
    if replicates {
        doctor::my_cnf(rules, &found.filters, here, false)?;
        // What the running server was started with; a my.cnf that was put there since shows behind the restart.
        let in_my_cnf = rules.fit(&found.filters.configured);
        let in_my_cnf = (in_my_cnf || !restarts).then_some(in_my_cnf);
        steps.push(Step::Filters { processor: here.clone(), in_my_cnf });
        let tables = (!restarts).then_some(found.others.len() as u64);
        steps.push(Step::Drop { processor: here.clone(), tables });
        let (from, user) = (format!("{host}:{port}"), donor.config.user.clone());
        steps.push(Step::Replicate { from, user });
    }
    steps.push(Step::Check);
    Ok(Plan { primary: donor.name.clone(), processor: here.clone(), steps, done: false })
}

/// Refuses to go on behind a CLONE that was under way when this run began: somebody else may have made it.
pub(super) fn behind_clone(
    options: &Options,
    rules: &Rules,
    donor: &Side,
    processor: &Side,
    found: &Recipient,
) -> Result<()> {
    doctor::my_cnf(rules, &found.filters, &processor.name, true)?;
    if !is_copy(donor, processor, found)? {
        return Err(Error::new(
            Kind::Mysql,
            format!(
                "make the processor {}: the CLONE that was under way there is over, and it is no fresh copy of {}",
                processor.name, donor.name
            ),
        )
        .hint("see performance_schema.clone_status there; if it is the right server, run this again with --replace"));
    }
    if options.replace { Ok(()) } else { consent::is_ours(processor, rules, found) }
}

/// A copy of this primary that has run nothing yet, and that the primary can still feed.
fn is_copy(donor: &Side, processor: &Side, found: &Recipient) -> Result<bool> {
    let source = clone_source(&donor.config)?;
    Ok(found.clone.as_ref().is_some_and(|clone| {
        clone.state == "Completed"
            && clone.source == source
            && processor.moment.executed.is_subset(&clone.executed)
            && donor.moment.purged.is_subset(&processor.moment.executed)
    }))
}

/// A donor as `performance_schema.clone_status` names it.
pub(crate) fn clone_source(donor: &MysqlConfig) -> Result<String> {
    let (host, port) = side::address(donor)?;
    Ok(format!("{host}:{port}"))
}

/// I3: what the stream lacks must be at the primary when the old processor's binary logs are gone.
pub(super) fn nothing_is_lost(donor: &Side, head: &Head) -> Result<()> {
    let lost = donor.moment.purged.difference(&head.covered);
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::History,
        format!(
            "rebuild the processor: the stream lacks {lost}, and the binary logs of {} no longer hold that",
            donor.name
        ),
    )
    .hint(
        "if the old processor still has them, run `tablecast upload` there until it ends with 0. If nobody has: \
         `tablecast processor create --replace`, then `tablecast upload --resync`, whose dump every region restores",
    ))
}

/// The same when the new one is made: what neither it nor the primary can send any more.
pub(super) fn nothing_was_lost(donor: &Side, processor: &Side, head: &Head) -> Result<()> {
    let mut has = processor.moment.executed.difference(&processor.moment.purged);
    has.extend(&head.covered);
    let lost = donor.moment.purged.difference(&has);
    if lost.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::History,
        format!(
            "the processor {} is made, but {} has purged {lost} while it was, and the stream lacks that",
            processor.name, donor.name
        ),
    )
    .hint(
        "nobody has it any more: `tablecast upload --resync` takes a dump of all tables, which every region restores, and \
         the stream goes on behind it. Before the next rebuild: SET GLOBAL binlog_expire_logs_seconds at the primary to \
         more than a CLONE takes",
    ))
}

/// A retention below which a CLONE may well take longer.
const SHORT: u64 = 3 * 3600;

/// What stands in the way of a CLONE, and can be known before.
pub(super) async fn obstacle(donor: &Side, processor: &Side) -> Result<Option<Error>> {
    let refused = |kind, what: String, hint: String| {
        Ok(Some(Error::new(kind, format!("CLONE {} into {}: {what}", donor.name, processor.name)).hint(hint)))
    };
    let (there, here) = (donor.server.version, processor.server.version);
    // https://dev.mysql.com/doc/refman/8.4/en/clone-plugin-remote.html
    let fits = there == here
        || ((there.0, there.1) == (here.0, here.1) && there >= (8, 0, 37) && here >= (8, 0, 37));
    if !fits {
        return refused(
            Kind::Usage,
            format!("the primary is MySQL {}, the processor {}", donor.server.version_text, processor.server.version_text),
            "CLONE needs one release on both sides. By mysqldump it works from an older primary: see the commands above".into(),
        );
    }
    let lacks = |side: &Side, privilege: &str| !preflight::grants_globally_any(&side.grants, privilege);
    let wanted = [
        (donor, "BACKUP_ADMIN"),
        (donor, "REPLICATION SLAVE"),
        (processor, "CLONE_ADMIN"),
        (processor, "SYSTEM_VARIABLES_ADMIN"),
        (processor, "REPLICATION_SLAVE_ADMIN"),
    ];
    for (side, privilege) in wanted {
        if lacks(side, privilege) {
            return refused(
                Kind::Denied,
                format!("the account {} lacks {privilege}", side.name),
                format!(
                    "GRANT {privilege} ON *.* to it: `tablecast grants --processor` prints all that the processor needs, with \
                     --primary what the primary does. Or the commands above"
                ),
            );
        }
    }
    // The copy has the primary's accounts. Ours must be among them.
    if processor.config.socket.is_none() {
        let same = side::same_account(processor, donor);
        let mut conn = match mysql::connect(&same).await {
            Ok(conn) => conn,
            Err(error) if error.kind() == Kind::Denied => {
                return refused(
                    Kind::Denied,
                    format!("the copy has the primary's accounts, and {} cannot log in there", same),
                    format!(
                        "make the account of [mysql], {}, at the primary too, with the same password and the grants that \
                         `tablecast grants --primary --processor` prints; else nobody of ours could log in to the copy",
                        processor.config.user
                    ),
                );
            }
            Err(error) => return Err(error),
        };
        let grants = side::grants(&mut conn, &same.to_string()).await?;
        let mut needed = ["REPLICATION_SLAVE_ADMIN", "SYSTEM_VARIABLES_ADMIN", "DROP"].into_iter();
        if let Some(privilege) = needed.find(|needed| !preflight::grants_globally_any(&grants, needed)) {
            return refused(
                Kind::Denied,
                format!("the copy has the primary's accounts, and there {} lacks {privilege}", same.user),
                "run what `tablecast grants --primary --processor` prints at the primary".into(),
            );
        }
    }
    Ok(None)
}

/// What will trouble a filtered replica later.
pub(super) async fn warnings(
    donor: &mut Side,
    processor: &Side,
    (set, plan): (&TableSet, &Plan),
    found: &Recipient,
    keeps: &Retention,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for key in fitness::outside_keys(&mut donor.conn, &donor.name, set).await? {
        warnings.push(format!(
            "{key}; that table stays as old as the copy, and a filtered replica stops at a row that needs a newer one: \
             take a full replica as [mysql]"
        ));
    }
    if let Some(seconds) = keeps.seconds.filter(|seconds| *seconds < SHORT && plan.clones()) {
        warnings.push(format!(
            "{} keeps its binary logs for {} minutes: what it purges while CLONE runs, and the stream lacks, nobody has \
             any more (exit code 10). SET GLOBAL binlog_expire_logs_seconds = 86400 there first",
            donor.name,
            seconds / 60
        ));
    }
    if !plan.replicates() && found.filters.in_force.only_names() && !found.others.is_empty() {
        warnings.push(format!(
            "{} holds {} tables that its filters do not let in ({} for one), as old as its copy: `tablecast processor \
             rebuild` leaves them out",
            processor.name,
            found.others.len(),
            found.others[0]
        ));
    }
    if processor.config.socket.is_some() {
        warnings.push(format!(
            "the copy has the primary's accounts: see that {} can log in there by its socket",
            processor.config.user
        ));
    }
    if !donor.moment.channels.is_empty() {
        warnings.push(format!("{} of [primary] is itself a replica", donor.name));
    }
    if found.tables > 0 && found.filters.in_force.is_empty() && !found.channels.is_empty() {
        warnings.push(format!("{} is a full replica today, and will be a filtered one", processor.name));
    }
    Ok(warnings)
}
