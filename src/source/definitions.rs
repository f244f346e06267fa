//! The definitions of the set's tables, each with the stream transaction since which it holds.
//!
//! A definition is read from the running server, the stream is read from its binlog, and the two meet only if
//! nothing has come between. So a reading lies between two reads of `gtid_executed`. It counts once the stream
//! has covered everything that the second one names, and only if every DDL on the table that was seen until
//! then is in the first. A reading that this does not hold for is thrown away and made again. What cannot be
//! made sure of is left out of the head: no definition there is always better than a wrong one, by which a
//! healthy region would be refused.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use crate::binlog::gtid::{Gtid, GtidSet};
use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::error::{Error, Kind, Result};
use crate::mysql;
use crate::source::moment;
use crate::stream::definition::{self, Definition};
use crate::stream::ids::StreamTx;

/// What `SHOW CREATE TABLE` said, and what the source had executed before and after.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub before: GtidSet,
    pub after: GtidSet,
    /// `None`: no base table of this name is there.
    pub tables: BTreeMap<TableName, Option<String>>,
}

/// Reads the definitions of `tables` as they are now.
pub(crate) async fn read(conn: &mut Conn, server: &str, tables: &[TableName]) -> Result<Reading> {
    fix_session(conn, server).await?;
    let before = moment::executed(conn, server).await?;
    let mut found = BTreeMap::new();
    for table in tables {
        found.insert(table.clone(), show_create(conn, table).await?);
    }
    let after = moment::executed(conn, server).await?;
    Ok(Reading { before, after, tables: found })
}

/// SHOW CREATE TABLE depends on these. The last one came with 8.0.30.
async fn fix_session(conn: &mut Conn, server: &str) -> Result<()> {
    let doing = format!("set up the session at {server}");
    conn.query_drop("SET SESSION sql_quote_show_create = 1, sql_mode = ''")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    match conn.query_drop("SET SESSION show_gipk_in_create_table_and_information_schema = 1").await {
        Err(mysql_async::Error::Server(unknown)) if unknown.code == 1193 => Ok(()),
        done => done.map_err(|cause| mysql::error(cause, &doing)),
    }
}

/// `None`: the server says that there is no such table, or that it is a view. A table that this account may not see
/// is `Kind::Denied`.
pub(crate) async fn show_create(conn: &mut Conn, table: &TableName) -> Result<Option<String>> {
    const NO_SUCH_SCHEMA: u16 = 1049;
    const NO_SUCH_TABLE: u16 = 1146;
    let query = format!("SHOW CREATE TABLE {}", table.quoted());
    let row: Option<Row> = match conn.query_first(&query).await {
        Ok(row) => row,
        Err(mysql_async::Error::Server(e)) if [NO_SUCH_SCHEMA, NO_SUCH_TABLE].contains(&e.code) => None,
        Err(cause) => {
            let error = mysql::error(cause, &query);
            // What a view is made of needs SHOW VIEW, for which there is no other use.
            if error.kind() == Kind::Denied && conn.is_view(table).await? {
                return Ok(None);
            }
            return Err(error);
        }
    };
    let Some(row) = row else { return Ok(None) };
    // A view answers too, with a column of another name.
    if row.columns_ref().get(1).is_none_or(|column| column.name_str() != "Create Table") {
        return Ok(None);
    }
    match row.get_opt::<String, _>(1) {
        Some(Ok(text)) => Ok(Some(text)),
        _ => Err(Error::new(Kind::Mysql, format!("{query}: the answer is not text"))),
    }
}

/// What the source's binlog does not say, and its server does.
#[async_trait]
pub(crate) trait Views: Send {
    /// Whether there is a view of this name now.
    async fn is_view(&mut self, table: &TableName) -> Result<bool>;
}

#[async_trait]
impl Views for Conn {
    async fn is_view(&mut self, table: &TableName) -> Result<bool> {
        mysql::is_view(self, table).await
    }
}

/// The base tables of the set that exist now.
pub(crate) async fn existing(conn: &mut Conn, server: &str, set: &TableSet) -> Result<Vec<TableName>> {
    let mut tables: Vec<TableName> = set.listed().cloned().collect();
    for pattern in set.patterns() {
        let TablePattern::Schema(schema) = pattern else { continue };
        let doing = format!("list the tables of {schema} at {server}");
        let names: Vec<String> = conn
            .exec(
                "SELECT TABLE_NAME FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE' ORDER BY TABLE_NAME",
                (schema,),
            )
            .await
            .map_err(|cause| mysql::error(cause, &doing))?;
        tables.extend(names.into_iter().map(|name| TableName::new(schema, name)));
    }
    tables.retain(|table| set.names(table));
    tables.sort();
    tables.dedup();
    Ok(tables)
}

/// Follows the DDL of one upload, and says which definitions are known and which have to be read.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    open: BTreeMap<TableName, Open>,
}

/// A table whose definition is not known (any more).
#[derive(Debug)]
struct Open {
    /// The last DDL on it is this stream transaction or an earlier one.
    since: StreamTx,
    reading: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    before: GtidSet,
    after: GtidSet,
    create_table: Option<String>,
}

/// A definition that has become known: `None` if the table is gone.
#[derive(Debug, PartialEq)]
pub(crate) struct Settled {
    pub table: TableName,
    pub definition: Option<Definition>,
}

impl Tracker {
    /// Begins with the tables whose definition is not in the head, at a stream that ends with `last_tx`.
    pub(crate) fn new(tables: Vec<TableName>, known: &[Definition], last_tx: StreamTx) -> Self {
        let mut tracker = Self::default();
        for table in tables {
            if !known.iter().any(|definition| definition.table == table) {
                tracker.open.insert(table, Open { since: last_tx, reading: None });
            }
        }
        tracker
    }

    /// A kept DDL on the table: what was known about it is not any more.
    pub(crate) fn changed(&mut self, table: &TableName, tx: StreamTx, source: &Gtid) {
        let open = self.open.entry(table.clone()).or_insert(Open { since: tx, reading: None });
        open.since = tx;
        // Run before it was read, it is in what was read.
        if open.reading.as_ref().is_some_and(|candidate| !candidate.before.contains(source)) {
            open.reading = None;
        }
    }

    /// The set is another one from here on. What comes in comes with its definition.
    pub(crate) fn take_on(&mut self, set: &TableSet) {
        self.open.retain(|table, _| set.names(table));
    }

    /// The tables whose definition must be read.
    pub(crate) fn wanted(&self) -> Vec<TableName> {
        let unread = self.open.iter().filter(|(_, open)| open.reading.is_none());
        unread.map(|(table, _)| table.clone()).collect()
    }

    /// The tables whose definition in the head holds no longer.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &TableName> {
        self.open.keys()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn learn(&mut self, reading: Reading) {
        for (table, create_table) in reading.tables {
            let Some(open) = self.open.get_mut(&table) else { continue };
            open.reading = Some(Candidate {
                before: reading.before.clone(),
                after: reading.after.clone(),
                create_table,
            });
        }
    }

    /// What the stream, having covered this much, is sure of now.
    pub(crate) fn settle(&mut self, covered: &GtidSet) -> Vec<Settled> {
        let sure = |open: &Open| open.reading.as_ref().is_some_and(|read| read.after.is_subset(covered));
        let tables: Vec<TableName> =
            self.open.iter().filter(|(_, open)| sure(open)).map(|(table, _)| table.clone()).collect();
        let mut settled = Vec::new();
        for table in tables {
            let Some(Open { since, reading: Some(candidate) }) = self.open.remove(&table) else { continue };
            let definition = candidate.create_table.map(|text| Definition {
                table: table.clone(),
                since_tx: since,
                create_table: definition::normalise(&text),
                rows_at_init: None,
            });
            settled.push(Settled { table, definition });
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(last: u64) -> GtidSet {
        format!("{SOURCE}:1-{last}").parse().expect("a set")
    }

    fn gtid(number: u64) -> Gtid {
        Gtid::new(uuid::Uuid::parse_str(SOURCE).expect("a uuid"), number)
    }

    fn apps() -> TableName {
        TableName::new("g", "apps")
    }

    fn reading(before: u64, after: u64) -> Reading {
        let text = Some("CREATE TABLE `apps` (\n  `id` int NOT NULL\n) ENGINE=InnoDB".to_owned());
        Reading { before: set(before), after: set(after), tables: BTreeMap::from([(apps(), text)]) }
    }

    #[test]
    fn a_definition_counts_once_everything_until_its_reading_is_covered() {
        let mut tracker = Tracker::default();
        tracker.changed(&apps(), StreamTx(7), &gtid(10));
        assert_eq!(tracker.wanted(), [apps()]);
        tracker.learn(reading(12, 14));
        assert!(tracker.wanted().is_empty());
        assert!(tracker.settle(&set(13)).is_empty());
        let settled = tracker.settle(&set(14));
        assert_eq!(settled[0].definition.as_ref().map(|d| d.since_tx), Some(StreamTx(7)));
        assert!(tracker.is_settled());
    }

    #[test]
    fn a_ddl_that_ran_before_the_reading_moves_since_and_one_that_may_have_run_after_voids_it() {
        let mut tracker = Tracker::new(vec![apps()], &[], StreamTx(3));
        tracker.learn(reading(12, 14));
        tracker.changed(&apps(), StreamTx(5), &gtid(11));
        assert_eq!(tracker.settle(&set(14))[0].definition.as_ref().map(|d| d.since_tx), Some(StreamTx(5)));

        tracker.changed(&apps(), StreamTx(6), &gtid(15));
        tracker.learn(reading(15, 16));
        tracker.changed(&apps(), StreamTx(7), &gtid(16));
        assert!(tracker.settle(&set(20)).is_empty());
        assert_eq!(tracker.wanted(), [apps()]);
    }

    #[test]
    fn a_dropped_table_settles_as_gone() {
        let mut tracker = Tracker::default();
        tracker.changed(&apps(), StreamTx(7), &gtid(10));
        let gone = Reading { tables: BTreeMap::from([(apps(), None)]), ..reading(10, 10) };
        tracker.learn(gone);
        assert_eq!(tracker.settle(&set(10)), [Settled { table: apps(), definition: None }]);
    }

    #[test]
    fn a_definition_in_the_head_is_not_read_again() {
        let mut tracker = Tracker::new(vec![apps()], &[], StreamTx(0));
        tracker.learn(reading(1, 1));
        let known: Vec<Definition> =
            tracker.settle(&set(1)).into_iter().filter_map(|s| s.definition).collect();
        assert!(Tracker::new(vec![apps()], &known, StreamTx(9)).is_settled());
    }
}
