//! What may go although nobody said `--replace`: an empty server, this stream's processor, and the copy that a killed
//! run has left behind. Whatever only looks like one of them is refused, and the message says what is in the way.

use super::Options;
use super::rules::Rules;
use super::side::{Recipient, Side};
use crate::binlog::name::{TableName, TablePattern};
use crate::error::{Error, Kind, Result};
use crate::source::preflight;
use crate::stream::Head;

/// Refuses to empty a copy of the primary that may be somebody else's: a full replica in the making, a server for
/// reports. That `gtid_executed` stands still since the CLONE says nothing where writes are not logged.
pub(super) fn is_ours(processor: &Side, rules: &Rules, found: &Recipient) -> Result<()> {
    let Some(one) = found.others.first() else { return Ok(()) };
    let filters = &found.filters.in_force;
    let has_gtids = processor.server.log_bin && preflight::mode(&processor.moment, &processor.name).is_ok();
    let why = if !filters.only_names() || !rules.fit(filters) {
        "it does not have the filters of this stream".to_owned()
    } else if !has_gtids {
        "it does not log what is written there by GTID".to_owned()
    } else if let Some(stranger) = found.strangers.first() {
        format!("{stranger} is not at the primary, as far as the accounts see")
    } else if let Some(session) = found.sessions.first().filter(|_| !processor.server.read_only) {
        format!("it is not read-only, and {session} is connected")
    } else {
        return Ok(());
    };
    Err(Error::new(
        Kind::Usage,
        format!(
            "make the processor {}: it is a copy of the primary, of which {} tables would go, {one} for one, but nothing \
             says that it was made for this stream: {why}",
            processor.name,
            found.others.len()
        ),
    )
    .hint(
        "nothing has been dropped. If it is the right server: put the output of `tablecast processor config` into its \
         my.cnf, restart it, and run this again; or `tablecast processor create --loaded --replace` drops these tables \
         and goes on with the copy, `--replace` alone makes a new one",
    ))
}

/// Refuses to begin to replicate into a server that does not know where its data comes from.
pub(super) fn loaded(processor: &Side, options: &Options, found: &Recipient) -> Result<()> {
    if !processor.moment.executed.is_empty() {
        let Some(one) = found.others.first().filter(|_| !options.replace) else { return Ok(()) };
        return Err(Error::new(
            Kind::Usage,
            format!(
                "make the processor {}: it holds {} tables that its filters will not let in, {one} for one",
                processor.name,
                found.others.len()
            ),
        )
        .hint(
            "they would stay as old as the copy, and have to go: if this is the right server, --loaded --replace drops \
             them; nothing has been changed",
        ));
    }
    Err(Error::new(
        Kind::Usage,
        format!("make the processor {}: its gtid_executed is empty, so its data belongs to no point of the primary's history", processor.name),
    )
    .hint("load a copy that sets GTID_PURGED (mysqldump --set-gtid-purged=ON), or leave --loaded out"))
}

/// Refuses to drop what nobody said might go.
pub(super) fn may_replace(
    options: &Options,
    head: Option<&Head>,
    donor: &Side,
    processor: &Side,
    found: &Recipient,
) -> Result<()> {
    // A replica of the same topology that keeps only what it names, and has run nothing of its own.
    let executed = &processor.moment.executed;
    let beyond = executed.difference(&donor.moment.executed);
    let has_own = beyond.intervals().any(|(tsid, _)| tsid.uuid == processor.moment.uuid);
    let is_processor =
        !found.channels.is_empty() && found.filters.in_force.only_names() && !executed.is_empty() && !has_own;
    let anothers = head.and_then(|head| anothers(head, found));
    if found.tables == 0 || options.replace || (options.rebuild && is_processor && anothers.is_none()) {
        return Ok(());
    }
    let what = format!("make the processor {}: it holds {} tables", processor.name, found.tables);
    let error = match (options.rebuild, anothers) {
        (false, _) => Error::new(Kind::Usage, what).hint(
            "all of them would go. If this is the right server and nobody needs them: --replace. If its data was \
             loaded by hand for this: --loaded. If it is the processor: START REPLICA, or `tablecast processor rebuild`",
        ),
        (true, Some(why)) if is_processor => Error::new(Kind::Usage, format!("{what}, and {why}")).hint(
            "is it the processor of another stream, which would lose its tables? If it is this stream's: put the output of \
             `tablecast processor config` into its my.cnf, restart it, and run this again; or, if nobody else needs it: \
             --replace",
        ),
        (true, _) => Error::new(Kind::Usage, what).hint(
            "all of them would go, and it does not look like a processor (a replica of this primary with \
             replicate-do-table rules alone and no transaction of its own). If this is the right server and nobody \
             needs them: --replace",
        ),
    };
    Err(error)
}

/// What says that a filtered replica is not, or not only, the processor of this stream.
fn anothers(head: &Head, found: &Recipient) -> Option<String> {
    let filters = &found.filters.in_force;
    let passes = |pattern: &&TablePattern| match pattern {
        TablePattern::Table(table) => filters.lets_in(table),
        TablePattern::Schema(schema) => filters.lets_in(&TableName::new(schema, "any table of it")),
    };
    let out = head.table_set.tables.patterns().find(|pattern| !passes(pattern));
    let out = out.map(|pattern| format!("its filters do not let in {pattern} of this stream"));
    let stray = || found.strays.first().map(|table| format!("its filters let in {table}, which would go"));
    out.or_else(stray)
}
