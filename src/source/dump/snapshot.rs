//! One moment of some tables, seen by several connections at once, and what the source had executed then.
//!
//! `LOCK TABLES … READ` waits for the transactions that write to these tables to end (their metadata locks go with
//! them, after InnoDB and gtid_executed have been told: `sql/mdl.cc`, `trans_commit`), and lets no other begin. Under
//! it all connections open their read view, one takes a metadata lock on every table, which keeps DDL away until it
//! is closed, and gtid_executed is read. So a transaction that writes to one of these tables is in the snapshot
//! exactly if its GTID is in that set.
//!
//! That is the pause: writers wait, readers do not. It is kept short by force. A pending lock makes new writers wait
//! behind it, and a replica that preserves commit order may not be able to finish the writer that the lock waits for
//! without one that waits behind the lock: an attempt that is not granted the lock soon is killed and made
//! again a little later. On a busy machine a writer may need longer to end than the first attempts wait, so each one waits a
//! little longer than the one before; what an attempt has waited, it has less to do its work under the lock. Waiting and
//! work together stay below 50 ms, whatever happens, for up to [`TABLES_IN_TIME`] tables. The lock dies with its connection, so a killed process leaves nothing behind.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep, timeout};

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::config::MysqlConfig;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::table;
use crate::mysql::wire::{Reply, Wire, command};

/// The longest that an attempt may take from asking for the lock until it gives it back: so long writers may wait.
const PAUSE: Duration = Duration::from_millis(48);
/// Of that, the longest that the first attempt waits for the lock, by how much every other attempt waits longer, and the
/// longest: the work under the lock takes about a millisecond.
const WAIT: Duration = Duration::from_millis(25);
const WAIT_MORE: Duration = Duration::from_millis(1);
const WAIT_LONGEST: Duration = Duration::from_millis(45);
/// So many tables are looked at in that time; each more takes so much more.
const TABLES_IN_TIME: usize = 100;
const PAUSE_PER_TABLE: Duration = Duration::from_micros(100);
/// Between two attempts, in turn: no rhythm that a writer may keep too.
const BETWEEN: [u64; 5] = [40, 90, 60, 140, 200];
/// How long attempts go on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A server that says nothing for so long while rows are due is gone.
const SILENCE: Duration = Duration::from_secs(600);

/// ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_QUERY_INTERRUPTED
const NOT_GRANTED: [u16; 3] = [1205, 1213, 1317];

/// Connections with one and the same read view.
pub(crate) struct Snapshot {
    /// In the fixed session of [`table::SESSION`]. The first holds a metadata lock on every table.
    pub wires: Vec<Wire>,
    pub executed: GtidSet,
    /// The source's clock.
    pub taken_at: DateTime<Utc>,
    /// How long writers may have waited.
    pub pause: Duration,
    pub attempts: u32,
}

/// Opens `connections` on one moment of `tables`, which are there. Fails by name after [`PATIENCE`] without a chance.
pub(crate) async fn take(
    config: &MysqlConfig,
    tables: &[TableName],
    connections: usize,
    patience: Duration,
) -> Result<Snapshot> {
    let doing = format!("take a snapshot at {config}");
    let begin = Instant::now();
    let mut killer = table::open(config).await?;
    let mut wires = open(config, connections).await?;
    let mut lock = lock_connection(config).await?;
    let (mut attempts, mut slow) = (0, 0);
    loop {
        attempts += 1;
        let wait = wait(attempts);
        match attempt((&mut lock, wait), &mut killer, &mut wires, tables, &doing).await? {
            Attempt::Taken { executed, taken_at, pause } => {
                lock.close().await;
                killer.close().await;
                return Ok(Snapshot { wires, executed, taken_at, pause, attempts });
            }
            Attempt::NotGranted => {}
            Attempt::TooSlow => {
                slow += 1;
                wires = open(config, connections).await?;
            }
        }
        if begin.elapsed() >= patience {
            return Err(not_granted(&mut killer, tables, &doing, (attempts, slow, begin.elapsed())).await);
        }
        sleep(Duration::from_millis(BETWEEN[attempts as usize % BETWEEN.len()])).await;
    }
}

/// How long the attempt of this number waits for the lock.
fn wait(attempt: u32) -> Duration {
    (WAIT + WAIT_MORE * (attempt.saturating_sub(1) / 2)).min(WAIT_LONGEST)
}

async fn open(config: &MysqlConfig, connections: usize) -> Result<Vec<Wire>> {
    let opening = (0..connections.max(1)).map(|_| async {
        let mut wire = table::open(config).await?;
        wire.set_patience(Some(SILENCE));
        // Behind a DDL that waits we do not queue for long: it waits for us.
        wire.query(b"SET lock_wait_timeout=2, innodb_lock_wait_timeout=2", "prepare a snapshot").await?;
        Ok::<_, Error>(wire)
    });
    try_join_all(opening).await
}

/// A machine that vanishes holds the lock no longer than `wait_timeout`; a process that ends, not at all.
async fn lock_connection(config: &MysqlConfig) -> Result<Wire> {
    let mut wire = table::open(config).await?;
    wire.query(b"SET wait_timeout=10, lock_wait_timeout=1", "prepare a snapshot").await?;
    Ok(wire)
}

enum Attempt {
    Taken {
        executed: GtidSet,
        taken_at: DateTime<Utc>,
        pause: Duration,
    },
    NotGranted,
    /// The lock was there, and what had to be done under it was not done in time. The wires are used up.
    TooSlow,
}

async fn attempt(
    (lock, wait): (&mut Wire, Duration),
    killer: &mut Wire,
    wires: &mut [Wire],
    tables: &[TableName],
    doing: &str,
) -> Result<Attempt> {
    if tables.is_empty() {
        // Nothing to lock: what there is to know is that none of them is there.
        let (executed, taken_at) = look(wires, tables, doing).await?;
        return Ok(Attempt::Taken { executed, taken_at, pause: Duration::ZERO });
    }
    failpoint::hit("dump.before_lock");
    let list = tables.iter().map(|table| format!("{} READ", table.quoted())).collect::<Vec<_>>().join(", ");
    let begin = Instant::now();
    lock.send(command::QUERY, format!("LOCK TABLES {list}").as_bytes()).await?;
    if !granted((lock, wait), killer, doing).await? {
        return Ok(Attempt::NotGranted);
    }
    failpoint::hit("dump.locked");
    let more = tables.len().saturating_sub(TABLES_IN_TIME);
    let in_time = PAUSE + PAUSE_PER_TABLE * u32::try_from(more).unwrap_or(u32::MAX);
    let looked = timeout(in_time.saturating_sub(begin.elapsed()), look(wires, tables, doing)).await;
    lock.query(b"UNLOCK TABLES", doing).await?;
    let pause = begin.elapsed();
    match looked {
        Ok(looked) => {
            let (executed, taken_at) = looked?;
            failpoint::hit("dump.unlocked");
            Ok(Attempt::Taken { executed, taken_at, pause })
        }
        Err(_) => Ok(Attempt::TooSlow),
    }
}

/// Whether the lock that has been asked for was granted in time.
async fn granted((lock, wait): (&mut Wire, Duration), killer: &mut Wire, doing: &str) -> Result<bool> {
    let id = lock.connection_id();
    let reply = {
        let waiting = lock.reply();
        tokio::pin!(waiting);
        match timeout(wait, &mut waiting).await {
            Ok(reply) => reply?,
            Err(_) => {
                // A connection that has become idle meanwhile, because the lock was granted, ignores it.
                killer.query(format!("KILL QUERY {id}").as_bytes(), doing).await?;
                waiting.await?
            }
        }
    };
    match reply {
        Reply::Error(error) if NOT_GRANTED.contains(&error.code) => Ok(false),
        Reply::Error(error) => Err(error.into_error(doing)),
        Reply::Done(_) | Reply::Rows { .. } => Ok(true),
    }
}

const START: &[u8] = b"START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
const MOMENT: &[u8] = b"SELECT @@GLOBAL.gtid_executed, CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)";

/// Opens the read views, locks the definitions, and asks what has been executed: all in one round trip.
async fn look(wires: &mut [Wire], tables: &[TableName], doing: &str) -> Result<(GtidSet, DateTime<Utc>)> {
    for wire in &mut *wires {
        wire.queue(command::QUERY, b"ROLLBACK");
        wire.queue(command::QUERY, START);
    }
    for table in tables {
        wires[0].queue(command::QUERY, format!("SELECT 1 FROM {} LIMIT 0", table.quoted()).as_bytes());
    }
    wires[0].queue(command::QUERY, MOMENT);
    for sent in join_all(wires.iter_mut().map(Wire::flush)).await {
        sent?;
    }
    let mut last = Vec::new();
    for (at, wire) in wires.iter_mut().enumerate() {
        let replies = if at == 0 { tables.len() + 3 } else { 2 };
        for _ in 0..replies {
            match wire.reply().await? {
                Reply::Error(error) => return Err(error.into_error(doing)),
                Reply::Rows { rows, .. } if at == 0 => last = rows,
                Reply::Rows { .. } | Reply::Done(_) => {}
            }
        }
    }
    moment(&last).ok_or_else(|| Error::new(Kind::Mysql, format!("{doing}: gtid_executed cannot be read")))
}

fn moment(rows: &[Vec<Option<Vec<u8>>>]) -> Option<(GtidSet, DateTime<Utc>)> {
    let [executed, now_us] = rows.first()?.as_slice() else { return None };
    let executed = std::str::from_utf8(executed.as_ref()?).ok()?.parse().ok()?;
    let now_us = std::str::from_utf8(now_us.as_ref()?).ok()?.parse().ok()?;
    Some((executed, DateTime::from_timestamp_micros(now_us)?))
}

/// Who was in the way, as far as it can be seen.
async fn not_granted(
    killer: &mut Wire,
    tables: &[TableName],
    doing: &str,
    (attempts, slow, took): (u32, u32, Duration),
) -> Error {
    let holders = match holders(killer, tables).await {
        Ok(holders) if !holders.is_empty() => format!("; at work on them: {}", holders.join(", ")),
        _ => String::new(),
    };
    let slow = match slow {
        0 => String::new(),
        n => format!(", or, {n} times, the server was too slow under the lock"),
    };
    Error::new(
        Kind::Mysql,
        format!(
            "{doing}: open writes kept the tables for longer than {} to {} ms in each of {attempts} attempts within {} s{slow}{holders}",
            WAIT.as_millis(),
            wait(attempts).as_millis(),
            took.as_secs()
        ),
    )
    .hint("a transaction that writes to one of the tables stays open: end it, or take the dump when it is done")
}

async fn holders(killer: &mut Wire, tables: &[TableName]) -> Result<Vec<String>> {
    let query = "SELECT m.OBJECT_SCHEMA, m.OBJECT_NAME, t.PROCESSLIST_ID, t.PROCESSLIST_USER, t.NAME \
         FROM performance_schema.metadata_locks m JOIN performance_schema.threads t \
           ON t.THREAD_ID = m.OWNER_THREAD_ID \
         WHERE m.OBJECT_TYPE = 'TABLE' AND m.LOCK_STATUS = 'GRANTED' \
           AND m.LOCK_TYPE IN ('SHARED_WRITE', 'SHARED_WRITE_LOW_PRIO', 'SHARED_UPGRADABLE', \
                               'SHARED_NO_WRITE', 'SHARED_NO_READ_WRITE', 'EXCLUSIVE')";
    let Reply::Rows { rows, .. } = killer.query(query.as_bytes(), "look who holds metadata locks").await?
    else {
        return Ok(Vec::new());
    };
    let text = |value: &Option<Vec<u8>>| {
        value.as_ref().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
    };
    let mut holders: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let [schema, name, id, user, thread] = row.as_slice() else { return None };
            let table = TableName::new(text(schema), text(name));
            let who = match text(user) {
                user if user.is_empty() => text(thread),
                user => user,
            };
            tables.contains(&table).then(|| format!("connection {} ({who}) on {table}", text(id)))
        })
        .collect();
    holders.sort();
    holders.dedup();
    holders.truncate(5);
    Ok(holders)
}
