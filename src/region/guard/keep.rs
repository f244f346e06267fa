//! Brings the guard to what it is to be, step by step, and never stands in the way of anything else: what cannot be
//! done is put down in `tablecast.guard`, told by `status` and `doctor`, and tried again later.
//!
//! Who changes the guard holds a lock of its own, so that `tablecast guard off` works beside an `apply --follow` and is
//! not undone by it: what is wanted is read under the lock.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::plan::{self, Scope, Seen, Step};
use super::row::{self, Wish};
use super::taken::{self, Privileges};
use super::trigger;
use crate::binlog::name::{TableName, quote};
use crate::config::{Config, Guard};
use crate::error::chain;
use crate::region::privileges;
use crate::{Error, Kind, Result, failpoint, mysql};

/// How many tables that somebody uses are waited for, a second each, before the rest is left for later.
const PATIENCE: usize = 3;

/// ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
const LOCKED: [u16; 2] = [1205, 1213];
/// ER_BINLOG_CREATE_ROUTINE_NEED_SUPER: asked before the privileges on the table are.
const NEEDS_SUPER: u16 = 1419;
/// ER_NO_SUCH_TABLE, ER_BAD_TABLE_ERROR: it went while we looked.
const NO_TABLE: [u16; 2] = [1146, 1051];
/// ER_TRG_ALREADY_EXISTS: on a table whose triggers this account may not see.
const NAME_TAKEN: u16 = 1359;
/// How many names are tried then.
const NAMES: usize = 20;
/// ER_NONEXISTING_TABLE_GRANT, ER_NONEXISTING_GRANT
const NO_GRANT: [u16; 2] = [1147, 1141];
/// ER_CANT_CREATE_USER_WITH_GRANT, ER_PASSWORD_NO_MATCH: the account is gone.
const NO_ACCOUNT: [u16; 2] = [1410, 1133];

/// What the server wants of an account that makes triggers while it writes a binlog.
pub const TRUST: &str =
    "SET PERSIST log_bin_trust_function_creators=1, or GRANT SUPER ON *.* TO this account";

/// Something that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    pub text: String,
    /// What mends it.
    pub hint: String,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What it was to be.
    pub mode: Guard,
    pub steps: Vec<Step>,
    pub problems: Vec<Problem>,
    /// Other problems than the last time.
    pub is_news: bool,
    /// Somebody else changes the guard at this moment.
    pub is_busy: bool,
}

impl Kept {
    fn new(mode: Guard) -> Kept {
        Kept { mode, steps: Vec::new(), problems: Vec::new(), is_news: false, is_busy: false }
    }

    /// All problems as `tablecast.guard` and `status` have them.
    pub fn problem(&self) -> Option<String> {
        let texts: Vec<String> =
            self.problems.iter().map(|problem| format!("{} ({})", problem.text, problem.hint)).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// The name of the lock under which the guard is changed.
fn lock_name(stream: &str) -> String {
    mysql::lock_name(&format!("tablecast:guard:{stream}"))
}

/// Takes the lock of the guard on this connection; false if another has it for longer than `wait`.
pub async fn lock(conn: &mut Conn, stream: &str, wait: Duration) -> Result<bool> {
    let got: Option<Option<i64>> = conn
        .exec_first("SELECT GET_LOCK(?, ?)", (lock_name(stream), wait.as_secs()))
        .await
        .map_err(|error| mysql::error(error, &format!("take the lock of the guard of {stream}")))?;
    Ok(got.flatten() == Some(1))
}

pub async fn unlock(conn: &mut Conn, stream: &str) -> Result<()> {
    conn.exec_drop("DO RELEASE_LOCK(?)", (lock_name(stream),))
        .await
        .map_err(|error| mysql::error(error, &format!("give back the lock of the guard of {stream}")))
}

/// Looks, and does what is to be done. Cheap where nothing is: a few reads of the dictionary.
pub async fn keep(conn: &mut Conn, config: &Config, scope: &Scope) -> Result<Kept> {
    if !lock(conn, &config.stream, Duration::ZERO).await? {
        return Ok(Kept { is_busy: true, ..Kept::new(config.apply.guard) });
    }
    let kept = async {
        let wish = row::wish(conn, config).await?;
        carry_out(conn, config, scope, &wish).await
    };
    let kept = kept.await;
    unlock(conn, &config.stream).await?;
    kept
}

/// What there is, with the grants where they matter; and why they could not be read.
pub async fn look(conn: &mut Conn, scope: &Scope, wish: &Wish) -> Result<(Seen, Option<Problem>)> {
    let mut seen = plan::look(conn, scope).await?;
    let mut problem = None;
    if plan::needs_grants(wish, &seen) {
        let own = plan::own_account(conn).await?;
        if let Err(error) = plan::look_at_grants(conn, scope, &mut seen, &own).await {
            if error.kind() != Kind::Denied {
                return Err(error);
            }
            let hint = error.hint_text().unwrap_or_default().to_owned();
            problem = Some(Problem { kind: Kind::Denied, text: chain(&error), hint });
        }
    }
    Ok((seen, problem))
}

/// The same under the lock that the caller holds.
pub async fn carry_out(conn: &mut Conn, config: &Config, scope: &Scope, wish: &Wish) -> Result<Kept> {
    let (seen, unreadable) = look(conn, scope, wish).await?;
    let steps = plan::plan(wish, scope, &seen);
    let mut kept = Kept { problems: unreadable.into_iter().collect(), ..Kept::new(wish.mode) };
    if !steps.is_empty() {
        set_patience(conn, "1").await?;
        let done = run(conn, config, &seen, steps, &mut kept).await;
        set_patience(conn, "DEFAULT").await?;
        done?;
    }
    let problem = kept.problem();
    kept.is_news = problem != wish.problem;
    if kept.is_news {
        row::note_problem(conn, &config.stream, problem.as_deref()).await?;
    }
    Ok(kept)
}

/// A trigger waits for whoever uses the table, and whoever comes next waits behind it: a second at most.
async fn set_patience(conn: &mut Conn, seconds: &str) -> Result<()> {
    conn.query_drop(format!("SET lock_wait_timeout={seconds}"))
        .await
        .map_err(|error| mysql::error(error, "set how long the guard waits for tables"))
}

async fn run(conn: &mut Conn, config: &Config, seen: &Seen, steps: Vec<Step>, kept: &mut Kept) -> Result<()> {
    // What one table has refused is not tried with its other triggers, nor what one schema or the server has.
    let (mut busy, mut denied) = (BTreeSet::new(), BTreeSet::new());
    let mut without_trust: BTreeSet<TableName> = BTreeSet::new();
    let mut left: BTreeSet<TableName> = BTreeSet::new();
    for step in steps {
        match &step {
            Step::Make { on, statement, .. } | Step::Drop { on, statement } => {
                let is_made = matches!(step, Step::Make { .. });
                if is_made && !without_trust.is_empty() {
                    without_trust.insert(on.clone());
                    continue;
                }
                if busy.contains(on) || denied.contains(&(on.schema.clone(), is_made)) {
                    continue;
                }
                if busy.len() >= PATIENCE {
                    left.insert(on.clone());
                    continue;
                }
                let done = match &step {
                    Step::Make { name, .. } => make(conn, statement, name).await,
                    _ => conn.query_drop(statement).await,
                };
                match done {
                    Ok(()) => {
                        failpoint::hit(if is_made { "guard.trigger_made" } else { "guard.trigger_dropped" });
                        kept.steps.push(step);
                    }
                    Err(mysql_async::Error::Server(error)) if NO_TABLE.contains(&error.code) => {}
                    Err(mysql_async::Error::Server(error)) if LOCKED.contains(&error.code) => {
                        busy.insert(on.clone());
                    }
                    Err(mysql_async::Error::Server(error)) if error.code == NEEDS_SUPER => {
                        without_trust.insert(on.clone());
                    }
                    Err(error @ mysql_async::Error::Server(_)) => {
                        let error = mysql::error(error, &format!("change the guard of {on}"));
                        if error.kind() == Kind::Denied {
                            denied.insert((on.schema.clone(), is_made));
                        } else {
                            busy.insert(on.clone());
                        }
                        let hint = match error.kind() {
                            Kind::Denied => privileges::mend(conn, &on.schema).await?,
                            _ => "it is tried again by the next run".to_owned(),
                        };
                        kept.problems.push(Problem { kind: error.kind(), text: chain(&error), hint });
                    }
                    Err(error) => return Err(mysql::error(error, &format!("change the guard of {on}"))),
                }
            }
            Step::Grants(change) => match grants(conn, config, seen, change).await? {
                None => kept.steps.push(step),
                Some(problem) => kept.problems.push(problem),
            },
        }
    }
    if !without_trust.is_empty() {
        kept.problems.push(Problem {
            kind: Kind::Denied,
            text: format!(
                "no triggers on {}: ERROR {NEEDS_SUPER}: the server writes a binlog, and lets only SUPER make any",
                list(&without_trust)
            ),
            hint: TRUST.to_owned(),
        });
    }
    busy.extend(left);
    let is_told =
        |table: &TableName| kept.problems.iter().any(|problem| problem.text.contains(&table.to_string()));
    let waited_for: BTreeSet<TableName> = busy.into_iter().filter(|table| !is_told(table)).collect();
    if !waited_for.is_empty() {
        kept.problems.push(Problem {
            kind: Kind::Partly,
            text: format!("{} in use by a transaction that stays open", list(&waited_for)),
            hint: "it is tried again; performance_schema.metadata_locks tells who uses it".to_owned(),
        });
    }
    Ok(())
}

/// Makes a trigger, under the next name where this one is taken.
async fn make(conn: &mut Conn, statement: &str, name: &str) -> mysql_async::Result<()> {
    let mut tried = conn.query_drop(statement).await;
    for number in 1..NAMES {
        match &tried {
            Err(mysql_async::Error::Server(error)) if error.code == NAME_TAKEN => {}
            _ => break,
        }
        let next = format!("{}_r{number}", trigger::base_of(name));
        tried = conn.query_drop(statement.replacen(&quote(name), &quote(&next), 1)).await;
    }
    tried
}

/// Some of them, and how many more.
fn list(tables: &BTreeSet<TableName>) -> String {
    const SHOWN: usize = 5;
    let mut text = tables.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if tables.len() > SHOWN {
        text.push_str(&format!(" and {} more", tables.len() - SHOWN));
    }
    text
}

/// Takes and gives, with what is remembered always ahead of what is taken and behind what is given.
async fn grants(
    conn: &mut Conn,
    config: &Config,
    seen: &Seen,
    change: &taken::Change,
) -> Result<Option<Problem>> {
    let (place, stream) = (&change.place, &config.stream);
    let nothing = Privileges::new();
    if !change.revoke.is_empty() {
        taken::remember(conn, stream, place, &change.before, &change.revoke, &change.rest).await?;
        failpoint::hit("guard.about_to_revoke");
        match conn.query_drop(place.revoke(&change.revoke)).await {
            Ok(()) => {}
            // Somebody was faster: it is not ours to give back.
            Err(mysql_async::Error::Server(error)) if NO_GRANT.contains(&error.code) => {
                settle(conn, stream, place, &change.before, &change.rest).await?;
                return Ok(None);
            }
            Err(error @ mysql_async::Error::Server(_)) => {
                settle(conn, stream, place, &change.before, &change.rest).await?;
                let statement = place.revoke(&change.revoke);
                return Ok(Some(refused(error, &statement)?));
            }
            Err(error) => return Err(mysql::error(error, &place.revoke(&change.revoke))),
        }
        failpoint::hit("guard.revoked");
        let all: Privileges = change.before.union(&change.revoke).cloned().collect();
        taken::remember(conn, stream, place, &all, &nothing, &change.rest).await?;
        failpoint::hit("guard.remembered");
    }
    if !change.give.is_empty() {
        let statement = place.grant(&change.give);
        match conn.query_drop(&statement).await {
            Ok(()) => {}
            Err(mysql_async::Error::Server(error)) if NO_ACCOUNT.contains(&error.code) => {
                tracing::warn!("{statement}: the account is gone, and what was taken from it with it");
            }
            Err(mysql_async::Error::Server(error)) if NO_TABLE.contains(&error.code) => {
                let text = format!("{statement}: there is no table {} now", place.table);
                let is_seen = seen.tables.contains(&place.table);
                let hint = "it stays remembered, and is given back when the table is there again";
                tracing::warn!(is_seen, "{text}: {hint}");
                return Ok(Some(Problem { kind: Kind::Partly, text, hint: hint.to_owned() }));
            }
            Err(error @ mysql_async::Error::Server(_)) => return Ok(Some(refused(error, &statement)?)),
            Err(error) => return Err(mysql::error(error, &statement)),
        }
        failpoint::hit("guard.given");
    }
    if !change.void.is_empty() {
        tracing::warn!(
            "{} has lost what the guard had left to it, or is gone: what the guard had taken stays taken. To give it: {}",
            place.to,
            place.grant(&change.void)
        );
    }
    settle(conn, stream, place, &change.after, &change.rest).await?;
    failpoint::hit("guard.settled");
    Ok(None)
}

/// What is taken from this place, with nothing under way.
async fn settle(
    conn: &mut Conn,
    stream: &str,
    place: &taken::Place,
    taken: &Privileges,
    rest: &Privileges,
) -> Result<()> {
    match taken.is_empty() {
        true => taken::forget(conn, stream, place).await,
        false => taken::remember(conn, stream, place, taken, &Privileges::new(), rest).await,
    }
}

fn refused(error: mysql_async::Error, statement: &str) -> Result<Problem> {
    let error: Error = mysql::error(error, statement);
    let hint = "run it as an administrator; this account needs the privileges WITH GRANT OPTION on the schema, and \
                SYSTEM_USER where the other account has that";
    Ok(Problem { kind: error.kind(), text: chain(&error), hint: hint.to_owned() })
}

/// Takes the guard from tables that leave the set, or are about to leave their schema: a table with triggers cannot
/// (ER_TRG_IN_WRONG_SCHEMA). What is lifted from a table that the guard is still over is put back by the next `keep`.
pub async fn lift(conn: &mut Conn, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    let triggers = plan::triggers(conn).await?;
    set_patience(conn, "5").await?;
    let mut lifted = Ok(());
    for found in triggers.iter().filter(|found| tables.contains(&found.on)) {
        let doing = format!("lift the guard from {}", found.on);
        lifted = conn
            .query_drop(trigger::drop(&found.on.schema, &found.name))
            .await
            .map_err(|error| mysql::error(error, &doing));
        failpoint::hit("guard.trigger_dropped");
        if lifted.is_err() {
            break;
        }
    }
    set_patience(conn, "DEFAULT").await?;
    lifted
}

/// What a restore puts on the tables that it swaps in.
#[derive(Clone, Debug)]
pub struct Dress {
    scope: Scope,
}

impl Dress {
    /// `None`: nothing, because the guard is not by triggers.
    pub async fn of(conn: &mut Conn, config: &Config, scope: Scope) -> Result<Option<Dress>> {
        let wish = row::wish(conn, config).await?;
        Ok((wish.mode == Guard::Triggers).then_some(Dress { scope }))
    }

    /// Puts the triggers of `table` on its shadow: readers and the guard see it in the same moment. Where that
    /// cannot be, the table comes without: a restore does not wait for its guard.
    pub async fn put_on(&self, conn: &mut Conn, shadow: &TableName, table: &TableName) -> Result<()> {
        if !self.scope.covers(table) {
            return Ok(());
        }
        let there = plan::triggers(conn).await?;
        let in_schema = there.into_iter().filter(|trigger| trigger.on.schema == shadow.schema);
        let mut taken: BTreeSet<String> = in_schema.map(|trigger| trigger.name).collect();
        for change in trigger::Change::ALL {
            let name = trigger::free_name(table, change, &taken);
            match make(conn, &self.scope.voice.create(&name, change, shadow, table), &name).await {
                Ok(()) => drop(taken.insert(name)),
                Err(error @ mysql_async::Error::Server(_)) => {
                    let error = mysql::error(error, &format!("guard {table} as it is swapped in"));
                    tracing::warn!("{}: it is not guarded until that is mended", chain(&error));
                    return Ok(());
                }
                Err(error) => return Err(mysql::error(error, &format!("guard {table} as it is swapped in"))),
            }
        }
        Ok(())
    }
}
