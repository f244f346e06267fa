//! `tables remove`: tables leave the set. What regions hold of them stays there, as ordinary tables.

use super::{Desk, Options, ROUNDS, Report};
use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::mysql;
use crate::source::set_table::{self, Change, Version};
use crate::source::{fitness, set_change};
use crate::store::Store;

/// What messages say is being done to a table.
const VERB: &str = "remove";

/// Takes `patterns` out of the set.
pub async fn remove(
    config: &Config,
    store: &dyn Store,
    patterns: &[TablePattern],
    options: &Options,
) -> Result<Report> {
    let mut desk = Desk::open(config, store).await?;
    for _ in 0..ROUNDS {
        match attempt(&mut desk, patterns, options).await {
            Ok(report) => {
                let _ = desk.conn.disconnect().await;
                return Ok(report);
            }
            // Somebody was faster: look again.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(
        Kind::Conflict,
        format!("change the table set at {}: it changed {ROUNDS} times meanwhile", desk.server),
    )
    .hint("`tablecast tables list` shows the set; run again when nobody else changes it"))
}

async fn attempt(desk: &mut Desk<'_>, patterns: &[TablePattern], options: &Options) -> Result<Report> {
    let (before, pending) = desk.newest().await?;
    let is_listed = |pattern: &TablePattern| before.tables.patterns().any(|listed| listed == pattern);
    let (going, already): (Vec<_>, Vec<_>) = patterns.iter().cloned().partition(is_listed);
    if let Some((table, pattern)) =
        already.iter().find_map(|gone| Some((gone, held_by(&before.tables, gone)?)))
    {
        return Err(Error::new(Kind::Usage, format!("remove {table}: it is in the set by {pattern}")).hint(format!(
            "name the tables that stay (`tablecast tables add`), then `tablecast tables remove '{pattern}'`"
        )));
    }
    if let Some(wrong) = already.iter().find(|pattern| !was_listed(desk, &pending, pattern)) {
        return Err(not_listed(wrong, &before.tables));
    }
    let mut report = Report {
        stream: desk.head.name.clone(),
        uuid: desk.head.stream,
        server: desk.server.clone(),
        dry_run: options.dry_run,
        changed: !going.is_empty(),
        version: before.version,
        tables: before.tables.clone(),
        already,
        added: Vec::new(),
        to_come: Vec::new(),
        removed: Vec::new(),
        needs_dump: false,
        locked_us: None,
        pending: pending.len() as u64,
        warnings: Vec::new(),
    };
    if going.is_empty() {
        return Ok(report);
    }
    let staying: Vec<TablePattern> =
        before.tables.patterns().filter(|pattern| !going.contains(pattern)).cloned().collect();
    if staying.is_empty() {
        let hint = "a stream without tables is no stream: end its upload and its applies instead, and delete the prefix";
        return Err(
            Error::new(Kind::Usage, format!("remove {}: nothing would be left", before.tables)).hint(hint)
        );
    }
    let after = TableSet::new(staying)?;
    check(desk, &before.tables, &after).await?;
    let change = Change {
        version: before.version + 1,
        tables: after,
        added: Vec::new(),
        removed: set_change::gone(
            &before.tables,
            &TableSet::new(before.tables.patterns().filter(|pattern| !going.contains(pattern)).cloned())?,
        ),
    };
    if !options.dry_run {
        set_table::make(&mut desk.conn, &desk.server).await?;
        desk.insert(&change, options.reason.as_deref()).await?;
    }
    report.warnings.clone_from(&desk.warnings);
    (report.version, report.tables, report.removed) = (change.version, change.tables, change.removed);
    Ok(report)
}

/// Whether an earlier version of the set had it: then it has been removed, perhaps by a run that was killed.
fn was_listed(desk: &Desk<'_>, pending: &[Version], pattern: &TablePattern) -> bool {
    let former = desk.head.set_changed.iter().flat_map(|changed| &changed.former);
    let newer = pending.iter().flat_map(|version| version.change.tables.patterns());
    former.chain(desk.head.table_set.tables.patterns()).chain(newer).any(|listed| listed == pattern)
}

fn not_listed(pattern: &TablePattern, set: &TableSet) -> Error {
    let of_schema = |listed: &&TablePattern| match pattern {
        TablePattern::Schema(schema) => listed.schema() == schema,
        TablePattern::Table(_) => false,
    };
    let names: Vec<String> = set.patterns().filter(of_schema).map(ToString::to_string).collect();
    let hint = match names.as_slice() {
        [] => format!("the table set is {set}; names are compared with their case"),
        names => {
            format!("tables of it are in the set by name: `tablecast tables remove {}`", names.join(" "))
        }
    };
    Error::new(Kind::Usage, format!("remove {pattern}: it is not in the set")).hint(hint)
}

/// The pattern that keeps a table in the set though it is not listed.
fn held_by(set: &TableSet, pattern: &TablePattern) -> Option<TablePattern> {
    let TablePattern::Table(table) = pattern else { return None };
    set.names(table).then(|| TablePattern::Schema(table.schema.clone()))
}

async fn check(desk: &mut Desk<'_>, before: &TableSet, after: &TableSet) -> Result<()> {
    // As for a change that adds: it has to reach the source, as a row.
    desk.check(after, &[]).await?;
    let server = desk.server.clone();
    let goes = |table: &TableName| before.names(table) && !after.names(table);
    let ghosts = mysql::ghosts(&mut desk.conn, &server, before).await?;
    fitness::no_migration(&ghosts, &server, goes, VERB)?;
    let keys = fitness::keys(&mut desk.conn, &server).await?;
    if let Some(key) = keys.iter().find(|key| after.names(&key.from) && goes(&key.to)) {
        let message = format!("remove {}: {} refers to it (foreign key {})", key.to, key.from, key.name);
        let hint = format!("regions would go on with {} alone: remove both, or drop the key first", key.from);
        return Err(Error::new(Kind::Usage, message).hint(hint));
    }
    // In a region the key would stay, from a table that stands still: it would refuse what the stream deletes.
    if let Some(key) = keys.iter().find(|key| goes(&key.from) && after.names(&key.to)) {
        let message = format!("remove {}: it refers to {} (foreign key {})", key.from, key.to, key.name);
        let hint = format!("{} stays in the set: remove both, or drop the key first, which travels", key.to);
        return Err(Error::new(Kind::Usage, message).hint(hint));
    }
    Ok(())
}
