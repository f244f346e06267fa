//! The gate (I6): what a region lets run, by its own configuration. The bucket is not trusted to choose.
//!
//! Lets through row changes to tables of the region's list (and the ghost tables of one), table DDL whose tables
//! are all in it, and what holds a transaction together. What belongs to tables of the stream that the list leaves
//! out is read with the rest, and [`Passing`](super::quarantine::Passing) leaves it out of what runs. Everything else
//! is refused with [`Kind::Gate`], and what is not known is refused too. A whole segment passes the gate before its first transaction runs.

mod stored;

use std::collections::HashMap;

use crate::binlog::ddl::{Class, Statement, TableDdl, classify};
use crate::binlog::event::{Event, RowsHeader, TableMap, kind};
use crate::binlog::name::TableName;
use crate::binlog::query::QueryEvent;
use crate::binlog::segment::TransactionHead;
use crate::binlog::session::{Session, StatusVars};
use crate::region::scope::Scope;
use crate::{Error, Kind, Result};

pub use stored::{collation, definition};

/// What an event that was let through asks for.
#[derive(Debug)]
pub enum Action {
    /// The transaction changes rows; this is the context of its BEGIN.
    Begin(Box<Session>),
    /// DDL, to be run with exactly this context.
    Ddl(Box<Ddl>),
    Map(TableMap),
    Rows(RowsHeader),
    /// A statement that sets a savepoint or goes back to one, under a name of ours.
    Savepoint(String),
    Commit,
}

/// A table DDL statement with its whole context.
#[derive(Debug)]
pub struct Ddl {
    pub session: Session,
    pub text: Vec<u8>,
    pub ddl: TableDdl,
}

impl Ddl {
    /// `DROP TABLE IF EXISTS` in a context of its own; `None` if there is nothing to drop. Foreign keys are not
    /// looked at: what refers to these tables is in quarantine with them.
    pub fn drop_if_exists(tables: Vec<TableName>, timestamp: u32) -> Result<Option<Ddl>> {
        if tables.is_empty() {
            return Ok(None);
        }
        let names: Vec<String> = tables.iter().map(TableName::quoted).collect();
        let text = format!("DROP TABLE IF EXISTS {}", names.join(", ")).into_bytes();
        let query = QueryEvent {
            thread_id: 0,
            exec_time: 0,
            error_code: 0,
            schema: Vec::new(),
            status: StatusVars::default(),
            text: text.clone(),
        };
        let session = Session { foreign_key_checks: false, ..Session::of(timestamp, &query)? };
        let class = classify(&Statement {
            text: &text,
            default_schema: "",
            charset: session.client_charset()?,
            sql_mode: session.effective_sql_mode(),
        })?;
        match class {
            Class::Table(ddl) if ddl.targets == tables => Ok(Some(Ddl { session, text, ddl })),
            class => Err(Error::new(Kind::Gate, format!("gate: refuse {}", describe(&class, &text)))),
        }
    }

    /// The schema that must be the default one for the statement to mean what it meant at the source.
    pub fn default_schema(&self) -> Option<&str> {
        let schema = &self.session.schema;
        let needed = self.ddl.targets.iter().chain(&self.ddl.references).any(|table| table.schema == *schema);
        needed.then_some(schema.as_str())
    }
}

/// Where in its transaction the last event stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outside,
    Opened,
    /// Behind BEGIN: rows follow, or the CREATE TABLE of a CREATE … SELECT and then its rows.
    Begun,
    Rows,
    Done,
}

/// Checks the events of a segment, in order.
pub struct Gate<'a> {
    scope: &'a Scope,
    state: State,
    /// Number and source GTID of the transaction, for messages.
    at: String,
    /// Tables of the statement by their number, with the count of their columns.
    maps: HashMap<u64, usize>,
    statement_ended: bool,
    /// The names of the transaction's savepoints, as the source wrote them.
    savepoints: Vec<Vec<u8>>,
}

impl<'a> Gate<'a> {
    pub fn new(scope: &'a Scope) -> Self {
        Gate {
            scope,
            state: State::Outside,
            at: String::new(),
            maps: HashMap::new(),
            statement_ended: false,
            savepoints: Vec::new(),
        }
    }

    /// A transaction begins.
    pub fn begin(&mut self, head: &TransactionHead) {
        self.state = State::Opened;
        self.at = format!("stream transaction {} (source {})", head.n, head.source_gtid);
        self.maps.clear();
        self.statement_ended = false;
        self.savepoints.clear();
    }

    /// A transaction ends.
    pub fn end(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Outside) {
            State::Done => Ok(()),
            _ => Err(self.refuse("it ends without a commit")),
        }
    }

    /// Lets an event through, or refuses it.
    pub fn event(&mut self, event: &Event) -> Result<Action> {
        match (event.kind(), self.state) {
            (kind::QUERY, State::Opened | State::Begun | State::Rows) => self.query(event),
            (kind::TABLE_MAP, State::Begun | State::Rows) => {
                self.state = State::Rows;
                let map = TableMap::parse(event).map_err(|error| error.during(self.at.clone()))?;
                self.admit(&map.table)?;
                if std::mem::take(&mut self.statement_ended) {
                    self.maps.clear();
                }
                self.maps.insert(map.table_id, map.columns.len());
                Ok(Action::Map(map))
            }
            (rows, State::Rows) if kind::is_rows(rows) => {
                let header = RowsHeader::parse(event).map_err(|error| error.during(self.at.clone()))?;
                match self.maps.get(&header.table_id) {
                    Some(&columns) if columns == header.columns && !self.statement_ended => {}
                    _ => return Err(self.refuse("rows without a table map of their own statement")),
                }
                self.statement_ended = header.ends_statement();
                Ok(Action::Rows(header))
            }
            (kind::XID, State::Begun | State::Rows) => {
                self.state = State::Done;
                Ok(Action::Commit)
            }
            (other, _) => {
                Err(self.refuse(&format!("a {} event ({other}) does not belong here", kind::name(other))))
            }
        }
    }

    fn query(&mut self, event: &Event) -> Result<Action> {
        let during = |error: Error| error.during(self.at.clone());
        let query = QueryEvent::parse_body(event.body()).map_err(during)?;
        let session = Session::of(event.header().timestamp, &query).map_err(during)?;
        if query.error_code != 0 {
            let code = query.error_code;
            return Err(self.refuse(&format!("a statement that failed at the source with error {code}")));
        }
        let class = classify(&Statement {
            text: &query.text,
            default_schema: &session.schema,
            charset: session.client_charset().map_err(during)?,
            sql_mode: session.effective_sql_mode(),
        })
        .map_err(during)?;
        match (class, self.state) {
            (Class::Begin, State::Opened) => {
                self.state = State::Begun;
                Ok(Action::Begin(Box::new(session)))
            }
            (Class::Commit, State::Begun | State::Rows) => {
                self.state = State::Done;
                Ok(Action::Commit)
            }
            (class @ (Class::Savepoint | Class::RollbackToSavepoint), State::Begun | State::Rows) => {
                self.state = State::Rows;
                self.maps.clear();
                self.savepoint(class == Class::Savepoint, &query.text).map(Action::Savepoint)
            }
            (Class::Table(ddl), state)
                if state == State::Opened || (state == State::Begun && ddl.row_create) =>
            {
                self.ddl(&ddl)?;
                if session.is_in_system_zone() {
                    return Err(self.refuse("DDL that depends on the system time zone of the source"));
                }
                self.state = if ddl.row_create { State::Rows } else { State::Done };
                Ok(Action::Ddl(Box::new(Ddl { session, text: query.text, ddl })))
            }
            (class, _) => Err(self.refuse(&format!("{} does not travel", describe(&class, &query.text)))),
        }
    }

    /// The text runs in the middle of a query with others, and its name is in a character set that only its own
    /// event knows: so nothing of it goes to the server. The server writes `SAVEPOINT` and `ROLLBACK TO` with the
    /// name in backquotes at the end; names are compared without regard to case.
    fn savepoint(&mut self, sets: bool, text: &[u8]) -> Result<String> {
        let verb: &[u8] = if sets { b"SAVEPOINT `" } else { b"ROLLBACK TO `" };
        let name = text.strip_prefix(verb).and_then(|rest| rest.strip_suffix(b"`"));
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            let text = String::from_utf8_lossy(text).into_owned();
            return Err(self.refuse(&format!("a savepoint that is not written as a server does: {text:?}")));
        };
        let known = self.savepoints.iter().position(|known| known.eq_ignore_ascii_case(name));
        match (sets, known) {
            (true, Some(number)) => Ok(format!("SAVEPOINT tablecast_{number}")),
            (true, None) => {
                self.savepoints.push(name.to_vec());
                Ok(format!("SAVEPOINT tablecast_{}", self.savepoints.len() - 1))
            }
            (false, Some(number)) => Ok(format!("ROLLBACK TO tablecast_{number}")),
            (false, None) => Err(self.refuse("ROLLBACK TO a savepoint that was not set")),
        }
    }

    fn ddl(&self, ddl: &TableDdl) -> Result<()> {
        if ddl.temporary {
            return Err(self.refuse("DDL on a temporary table does not travel"));
        }
        if ddl.targets.is_empty() {
            return Err(self.refuse("DDL that names no table"));
        }
        for table in ddl.targets.iter().chain(&ddl.references) {
            self.admit(table)?;
        }
        match ddl.reaches_outside.as_slice() {
            [] => Ok(()),
            outside => {
                let why =
                    format!("DDL on {} reaches outside the table: {}", ddl.targets[0], outside.join(", "));
                Err(self.refuse(&why))
            }
        }
    }

    fn admit(&self, table: &TableName) -> Result<()> {
        // The server reads names in binlog events up to the first NUL.
        let sound = |name: &str| !name.is_empty() && !name.contains('\0');
        if sound(&table.schema) && sound(&table.table) && self.scope.knows(table) {
            return Ok(());
        }
        Err(self.refuse(&format!("table {table} is not in this region's list, nor in the stream's set")).hint(format!(
            "if this region is to have {table}, add it to `tables` in [region] of the config; if not, somebody \
             has written to the bucket: nothing of this segment was run"
        )))
    }

    fn refuse(&self, why: &str) -> Error {
        Error::new(Kind::Gate, format!("gate: refuse {}: {why}", self.at)).hint(
            "nothing of this segment was run; `tablecast inspect` shows what is in it, and upload never ships this",
        )
    }
}

fn describe(class: &Class, text: &[u8]) -> String {
    let what = match class {
        Class::Begin => "BEGIN",
        Class::Commit => "COMMIT",
        Class::Rollback => "ROLLBACK",
        Class::Savepoint | Class::RollbackToSavepoint | Class::ReleaseSavepoint => "SAVEPOINT",
        Class::Xa => "XA",
        Class::Table(_) => "table DDL inside a transaction",
        Class::Schema(_) => "DDL on a database",
        Class::Maintenance { what, .. } | Class::Other(what) => what,
        Class::RowStatement { what, .. } => what,
    };
    let text = String::from_utf8_lossy(text);
    let start: String = text.chars().take(80).collect();
    format!("{what} ({start:?})")
}
