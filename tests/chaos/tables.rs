//! The twenty tables, and what must hold of them in every state that the primary commits.
//!
//! `g.t00` to `g.t11`, in pairs: always [`ROWS`] rows and the one with id 0, whose `n` counts the transactions that have
//! touched the table; the `bal` of a pair together is always the same. `g.s0` to `g.s3`: emptied, dropped, renamed, made anew.
//! `h.x0` to `h.x2`: like the first, but in the set by name, and not always. `g.ledger`: one row for each transaction, with the
//! value that `n` had then of every table that it counts in.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::world::lock;

pub const ROWS: u32 = 40;
/// Of a row when it is made.
pub const BALANCE: u32 = 100;
pub const PAIRS: usize = 6;
pub const SCRATCH: usize = 4;
pub const NAMED: usize = 3;

pub struct Table {
    /// With its schema.
    pub name: String,
    pub schema: &'static str,
    pub short: String,
    /// Held for reading by a transaction that changes the table, for writing by a cut-over.
    pub gate: tokio::sync::RwLock<()>,
    /// Held by whoever changes its definition or migrates it.
    pub definition: tokio::sync::Mutex<()>,
    /// The ids that were changed while a migration without triggers is under way.
    touched: Mutex<Option<Vec<u32>>>,
    next_id: AtomicU32,
}

impl Table {
    fn new(schema: &'static str, short: String) -> Arc<Table> {
        Arc::new(Table {
            name: format!("{schema}.{short}"),
            schema,
            short,
            gate: tokio::sync::RwLock::new(()),
            definition: tokio::sync::Mutex::new(()),
            touched: Mutex::new(None),
            next_id: AtomicU32::new(ROWS + 1),
        })
    }

    pub fn next_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// No id is greater.
    pub fn greatest_id(&self) -> u32 {
        self.next_id.load(Ordering::Relaxed)
    }

    /// A transaction that may have been committed has changed these.
    pub fn touch(&self, ids: &[u32]) {
        if let Some(touched) = lock(&self.touched).as_mut() {
            touched.extend(ids);
        }
    }

    /// Touched ids are noted from now on, or not any more.
    pub fn note_touched(&self, is_noted: bool) {
        *lock(&self.touched) = is_noted.then(Vec::new);
    }

    pub fn take_touched(&self) -> Vec<u32> {
        let mut ids = lock(&self.touched).as_mut().map(std::mem::take).unwrap_or_default();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The names that online migrations make for it.
    pub fn ghosts(&self) -> Vec<String> {
        ["gho", "ghc", "del", "new", "old"]
            .iter()
            .map(|what| format!("{}._{}_{what}", self.schema, self.short))
            .collect()
    }
}

pub struct Tables {
    /// Two each are a pair.
    pub paired: Vec<Arc<Table>>,
    pub named: Vec<Arc<Table>>,
}

impl Tables {
    pub fn new() -> Tables {
        Tables {
            paired: (0..PAIRS * 2).map(|n| Table::new("g", format!("t{n:02}"))).collect(),
            named: (0..NAMED).map(|n| Table::new("h", format!("x{n}"))).collect(),
        }
    }

    /// Those that count their transactions.
    pub fn counted(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.paired.iter().chain(&self.named)
    }

    pub fn find(&self, name: &str) -> Option<&Arc<Table>> {
        self.counted().find(|table| table.name == name)
    }
}

/// Makes all of them.
pub fn setup() -> Vec<String> {
    let mut made: Vec<String> =
        ["g", "h", "p"].iter().map(|schema| format!("CREATE DATABASE {schema}")).collect();
    made.push("CREATE TABLE p.noise (id INT AUTO_INCREMENT PRIMARY KEY, v INT)".into());
    made.push(
        "CREATE TABLE g.ledger (id BIGINT NOT NULL PRIMARY KEY, at DATETIME(6) NOT NULL, counts TEXT NOT NULL)"
            .into(),
    );
    let rows: Vec<String> = (0..=ROWS)
        .map(|id| format!("({id}, 0, {}, 0, 'row {id}')", if id == 0 { 0 } else { BALANCE }))
        .collect();
    for table in Tables::new().counted() {
        made.push(format!(
            "CREATE TABLE {} (id INT NOT NULL PRIMARY KEY, n BIGINT NOT NULL DEFAULT 0, bal INT NOT NULL DEFAULT 0, \
             v INT NOT NULL DEFAULT 0, name VARCHAR(60) NULL, doc JSON NULL, pad MEDIUMBLOB NULL)",
            table.name
        ));
        made.push(format!("INSERT INTO {} (id, n, bal, v, name) VALUES {}", table.name, rows.join(", ")));
    }
    made.extend((0..SCRATCH).map(|n| scratch(&format!("g.s{n}"))));
    made
}

pub fn scratch(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL, txt VARCHAR(200) NULL, KEY (v))"
    )
}
