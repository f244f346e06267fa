//! What is to be restored, and whom to ask for a dump.
//!
//! A table in quarantine makes a restore of its family, once; one whose quarantine has ended otherwise, or that
//! another restore brings along, is given up. The source is asked in a task of its own: whether it answers, and
//! when, makes no difference to anything else.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;

use super::engine::{ASK_EVERY, Engine, Standing};
use super::journal::{self, Restore, State, Why};
use crate::Result;
use crate::binlog::name::TableName;
use crate::error::chain;
use crate::region::definitions;
use crate::region::quarantine::{self, Quarantined, Reason};
use crate::stream::{Head, RequestState, Seq};

/// Pauses after the source could not be asked: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Writes down what has come to be wanted, closes what is not wanted any more, and returns what is open, the most
/// urgent first.
pub(super) async fn note(
    engine: &mut Engine<'_>,
    conn: &mut Conn,
    standing: &Standing,
    quarantined: &[Quarantined],
) -> Result<Vec<Restore>> {
    let name = &engine.config.stream;
    let set = &engine.region.tables;
    let known = engine.head().map(|head| head.definitions.clone()).unwrap_or_default();
    let scope = engine.scope();
    let owed = engine.head().and_then(|head| whole_dump(head, standing.seq));
    let mut open = journal::open_ones(conn, name).await?;
    let own = own_tables(conn, quarantined).await?;
    for Quarantined { table, reason, .. } in quarantined {
        // What has been added waits for the dump of the whole set, and asks for none of its own.
        if *reason == Reason::Added && owed.is_none() {
            continue;
        }
        if own.contains(table) {
            continue;
        }
        // Ghost tables come and go with their table.
        if !set.names(table) || open.iter().any(|restore| restore.tables.contains(table)) {
            continue;
        }
        let family = quarantine::family(conn, &scope, &known, table).await?.members;
        let mut restore = Restore::new(Why::Quarantine, family, engine.clock.now());
        if *reason == Reason::Added {
            restore.entry = owed.unwrap_or_default();
        }
        restore.id = journal::insert(conn, name, &restore).await?;
        open.push(restore);
    }
    let now = engine.clock.now();
    let is_held = |table: &TableName| quarantined.iter().any(|quarantined| quarantined.table == *table);
    let mut left = Vec::new();
    for at in 0..open.len() {
        let restore = &open[at];
        let covers = |other: &&Restore| {
            other.id != restore.id
                && other.tables.is_superset(&restore.tables)
                && other.entry >= restore.entry
                // Of two alike the older one stays.
                && (other.tables.len() > restore.tables.len() || other.entry > restore.entry || other.id < restore.id)
        };
        let message = match restore.state {
            // A wish is not given up but fulfilled: see `fulfil`.
            State::Wanted if matches!(restore.why, Why::Resync | Why::Bootstrap | Why::Asked) => None,
            State::Wanted => match open.iter().find(covers) {
                Some(other) => Some(format!("restore {} brings these tables, too", other.id)),
                None if restore.why == Why::Quarantine && !restore.tables.iter().any(is_held) => {
                    Some("the quarantine has ended otherwise".to_owned())
                }
                None => None,
            },
            _ => None,
        };
        let mut restore = restore.clone();
        match message {
            Some(message) => {
                restore.supersede(message, now);
                engine.must_sweep = true;
                journal::update(conn, &restore).await?;
            }
            None => left.push(restore),
        }
    }
    left.sort_by_key(|restore| (urgency(restore), restore.id));
    Ok(left)
}

/// The dump of the whole set that followed the newest table that came into it with rows, once the region is behind it:
/// what still waits then has missed it.
fn whole_dump(head: &Head, seq: Seq) -> Option<Seq> {
    let is_owed = head.set_changed.as_ref().is_some_and(|changed| changed.owes_dump);
    // A later full dump takes the place of the mandatory one in the head.
    let dump = head.full_dump().filter(|dump| !is_owed && dump.seq <= seq)?;
    let is_behind = head.set_changed.as_ref().is_none_or(|changed| dump.seq > changed.seq);
    is_behind.then_some(dump.seq)
}

/// Tables in quarantine that are somebody's: as long as they hold rows, only a person has them replaced.
pub(super) async fn own_tables(conn: &mut Conn, quarantined: &[Quarantined]) -> Result<BTreeSet<TableName>> {
    let mut own = BTreeSet::new();
    for Quarantined { table, .. } in quarantined.iter().filter(|known| known.reason == Reason::Own) {
        let is_here = definitions::show_create(conn, table).await?.is_some();
        if is_here && definitions::has_rows(conn, table).await? {
            own.insert(table.clone());
        }
    }
    Ok(own)
}

/// A restore is done: wishes for tables that it has brought are, too.
pub(super) async fn fulfil(engine: &Engine<'_>, conn: &mut Conn, done: &Restore) -> Result<()> {
    for mut wish in journal::open_ones(conn, &engine.config.stream).await? {
        let waits = wish.state == State::Wanted && matches!(wish.why, Why::Asked | Why::Mandatory);
        if waits && wish.tables.is_subset(&done.tables) && wish.entry <= done.entry {
            wish.state = State::Done;
            wish.message = Some(format!("restore {} has brought these tables", done.id));
            (wish.dump, wish.at) = (done.dump.clone(), done.at);
            (wish.rows, wish.rows_total) = (done.rows, done.rows_total);
            wish.finished_at = done.finished_at;
            journal::update(conn, &wish).await?;
        }
    }
    Ok(())
}

/// What is under way first; then what others wait behind.
fn urgency(restore: &Restore) -> u8 {
    match (restore.state, restore.why) {
        (State::Wanted, Why::Resync | Why::Bootstrap) => 1,
        (State::Wanted, Why::Mandatory) => 2,
        (State::Wanted, Why::Asked | Why::Quarantine) => 3,
        _ => 0,
    }
}

/// No dump fits: asks for one, or looks how the request stands. Never waits for the source.
pub(super) async fn ask(engine: &mut Engine<'_>, conn: &mut Conn, restore: &mut Restore) -> Result<()> {
    if let Some(task) = engine.asks.get(&restore.id) {
        if !task.is_finished() {
            return Ok(());
        }
        let Some(task) = engine.asks.remove(&restore.id) else { return Ok(()) };
        let before = restore.message.take();
        let mut failure = None;
        match task.await {
            Ok(Ok(asked)) => {
                restore.message = Some(format!("waits for the dump that request {} is to bring", asked.id));
                restore.request = Some(asked.id);
                match asked.state {
                    RequestState::Queued | RequestState::Running => {
                        engine.pauses.remove(&restore.id);
                        engine.pause(restore.id, ASK_EVERY, ASK_EVERY);
                    }
                    // Its dump did not fit, or there is none: another request next time.
                    state => {
                        engine.back_off(restore);
                        restore.message = Some(match state {
                            RequestState::Uploaded => {
                                format!(
                                    "{}, which is in the stream",
                                    restore.message.take().unwrap_or_default()
                                )
                            }
                            _ => format!(
                                "{}; it has ended without one",
                                restore.message.take().unwrap_or_default()
                            ),
                        });
                    }
                }
            }
            Ok(Err(error)) => {
                let message = format!("the source cannot be asked for a dump: {}", chain(&error));
                engine.pause(restore.id, FIRST_PAUSE, LONGEST_PAUSE);
                if before.as_ref() != Some(&message) {
                    let hint = error.hint_text().unwrap_or_default();
                    tracing::warn!(restore = restore.id, hint, "restore {}: {message}", restore.names());
                }
                failure = Some(message.clone());
                restore.message = Some(message);
            }
            Err(_) => {}
        }
        if restore.message != before || restore.request.is_some() {
            journal::update(conn, restore).await?;
            let name = &engine.config.stream;
            note_request(conn, name, restore, failure).await?;
        }
        return Ok(());
    }
    let wanted = engine.config.apply.request_dump || restore.why != Why::Quarantine;
    let Some(asker) = engine.asker.clone().filter(|_| wanted) else {
        let message = no_asker(engine, restore);
        if restore.message.as_ref() != Some(&message) {
            tracing::warn!(restore = restore.id, "restore {}: {message}", restore.names());
            restore.message = Some(message);
            journal::update(conn, restore).await?;
        }
        engine.pauses.remove(&restore.id);
        engine.pause(restore.id, Duration::from_secs(1), Duration::from_secs(1));
        return Ok(());
    };
    // The same key is the same request for ever: another try is another key.
    let key = format!("{}:{}:{}:{}", engine.region.name, restore.id, restore.entry.0, restore.attempts);
    let reason = format!("restore {} in {}: {}", restore.id, engine.region.name, restore.why);
    let (tables, changed): (BTreeSet<TableName>, _) = (restore.tables.clone(), engine.changed.clone());
    let task = tokio::spawn(async move {
        let asked = asker.ask(&tables, &reason, &key).await;
        changed.notify_one();
        asked
    });
    engine.asks.insert(restore.id, task);
    Ok(())
}

fn no_asker(engine: &Engine<'_>, restore: &Restore) -> String {
    let tables: Vec<String> = restore.tables.iter().map(|table| format!("'{table}'")).collect();
    let why = match engine.region.source_url {
        Some(_) => "request_dump is off",
        None => "the config names no source_url to ask",
    };
    format!(
        "no dump in the stream fits, and {why}: run at the source: tablecast dump take {}",
        tables.join(" ")
    )
}

/// The same beside the tables in quarantine, where people look first.
async fn note_request(conn: &mut Conn, name: &str, restore: &Restore, failure: Option<String>) -> Result<()> {
    use mysql_async::prelude::Queryable;
    const NOTE: &str = include_str!("../../../sql/region/quarantine_request.sql");
    let request = restore.request.as_ref().map(ToString::to_string);
    for table in &restore.tables {
        let values = (&request, &failure, restore.attempts, name, &table.schema, &table.table);
        conn.exec_drop(NOTE, values)
            .await
            .map_err(|error| crate::mysql::error(error, &format!("record the dump request for {table}")))?;
    }
    Ok(())
}
