//! Schemas and tables as the region has them, compared with what the stream says.
//!
//! Rows are mapped to columns by position: in a table that is defined otherwise, values land in the wrong columns
//! without any error. So definitions are compared before rows run: the whole `SHOW CREATE TABLE` where the stream
//! has one for this point, and number and types of columns in any case.

mod columns;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::gate;
use super::plan::{NewSchema, NewTable};
use super::position::Executed;
use super::quarantine::Passing;
use super::segments::{Scan, Step};
use crate::binlog::name::{TableName, TableSet, quote};
use crate::hex::hex;
use crate::stream::definition::normalise;
use crate::stream::{Definition, Head, StreamTx};
use crate::{Error, Kind, Result, mysql};

pub use columns::check_columns;

/// What the region lacks and may be given, because the stream says what it is.
#[derive(Debug, Default)]
pub struct Missing {
    pub schemas: Vec<NewSchema>,
    pub tables: Vec<NewTable>,
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.schemas.is_empty() && self.tables.is_empty()
    }
}

/// Schemas of the stream that the region lacks: a set's schema may come and go at the source, and the stream says
/// nothing when it does.
pub async fn missing_schemas(conn: &mut Conn, head: &Head, tables: &TableSet) -> Result<Vec<NewSchema>> {
    let mut schemas = head.table_set.tables.schemas();
    schemas.extend(head.schemas.keys().cloned());
    let mut missing = Vec::new();
    for schema in schemas {
        if tables.has_schema(&schema) && schema_collation(conn, &schema).await?.is_none() {
            let collation = head.schemas.get(&schema).map(|defaults| defaults.collation.clone());
            collation.as_deref().map_or(Ok(()), gate::collation)?;
            missing.push(NewSchema { schema, collation });
        }
    }
    Ok(missing)
}

/// A table that is not what it should be at this point of the stream.
#[derive(Debug)]
pub struct Drifted {
    pub table: TableName,
    /// From this transaction on it cannot be trusted.
    pub since: StreamTx,
    /// What differs, [`Kind::Definition`].
    pub error: Error,
}

/// Compares the region's tables with definitions that hold at this point of the stream. Says which differ; an
/// error is anything else.
#[must_use = "a table that differs must not be passed as good"]
pub async fn compare(conn: &mut Conn, definitions: &[Definition], tables: &TableSet) -> Result<Vec<Drifted>> {
    let mut drifted = Vec::new();
    for Definition { table, create_table, since_tx, .. } in definitions {
        if !tables.admits(table) {
            continue;
        }
        let compared = match show_create(conn, table).await? {
            Some(found) => compare_one(tables, table, create_table, &found),
            None => {
                Err(definition_error(format!("check {table}: this region does not have it")).hint(format!(
                    "it was dropped or renamed here: `tablecast restore {table}` brings it back with its rows"
                )))
            }
        };
        match compared {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Definition => {
                drifted.push(Drifted { table: table.clone(), since: *since_tx, error });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(drifted)
}

/// Before anything has been applied: the tables as they were when the stream began. Those that were empty may be
/// missing, and are returned; those that held rows must have been copied.
pub async fn compare_at_start(
    conn: &mut Conn,
    definitions: &[Definition],
    tables: &TableSet,
) -> Result<Vec<NewTable>> {
    let mut missing = Vec::new();
    for Definition { table, create_table, rows_at_init, .. } in definitions {
        if !tables.admits(table) {
            continue;
        }
        match show_create(conn, table).await? {
            Some(found) => {
                compare_one(tables, table, create_table, &found)?;
                check_rows(conn, table, *rows_at_init).await?;
            }
            None if *rows_at_init == Some(false) => {
                gate::definition(tables, table, create_table)?;
                missing.push(NewTable { table: table.clone(), create_table: create_table.clone() });
            }
            None => {
                return Err(definition_error(format!(
                    "check {table}: this region does not have it, and it held rows when the stream began"
                ))
                .hint(format!(
                    "`tablecast bootstrap` fills a new region from a dump; or copy {table} from the source as of the \
                     stream's beginning (mysqldump --single-transaction --set-gtid-purged=OFF), then run `tablecast \
                     apply`"
                )));
            }
        }
    }
    Ok(missing)
}

/// Whether this region has no table of the stream at all, as before `bootstrap`.
pub async fn none_there(conn: &mut Conn, definitions: &[Definition], tables: &TableSet) -> Result<bool> {
    for Definition { table, .. } in definitions.iter().filter(|known| tables.admits(&known.table)) {
        if show_create(conn, table).await?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn compare_one(tables: &TableSet, table: &TableName, expected: &str, found: &str) -> Result<()> {
    let (expected, found) = (normalise(expected), normalise(found));
    if expected == found {
        return Ok(());
    }
    // Somebody will run what the hint shows.
    gate::definition(tables, table, &expected)?;
    let (at_source, here) = first_difference(&expected, &found);
    Err(definition_error(format!(
        "check {table}: this region defines it otherwise: here {here:?}, at the source {at_source:?}"
    ))
    .hint(format!(
        "ALTER it to be as at the source, or `tablecast restore {table}`; at the source it is:\n{expected}"
    )))
}

/// The first lines that differ.
fn first_difference<'a>(a: &'a str, b: &'a str) -> (&'a str, &'a str) {
    let mut lines = (a.lines(), b.lines());
    loop {
        match (lines.0.next(), lines.1.next()) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => return (a.unwrap_or("").trim(), b.unwrap_or("").trim()),
        }
    }
}

pub async fn has_rows(conn: &mut Conn, table: &TableName) -> Result<bool> {
    let query = format!("SELECT 1 FROM {} LIMIT 1", table.quoted());
    let found: Option<u8> = conn
        .query_first(query)
        .await
        .map_err(|error| mysql::error(error, &format!("look for rows in {table}")))?;
    Ok(found.is_some())
}

/// Before the first transaction a table must be as full or empty as the source's was.
async fn check_rows(conn: &mut Conn, table: &TableName, rows_at_init: Option<bool>) -> Result<()> {
    let Some(expected) = rows_at_init else { return Ok(()) };
    match (expected, has_rows(conn, table).await?) {
        (true, false) => Err(Error::new(
            Kind::Drift,
            format!("check {table}: it is empty here, and held rows at the source when the stream began"),
        )
        .hint(format!(
            "copy the rows of {table} from the source as of the stream's beginning, then run `tablecast apply`"
        ))),
        (false, true) => Err(Error::new(
            Kind::Drift,
            format!("check {table}: it holds rows here, and was empty at the source when the stream began"),
        )
        .hint(format!("if nobody needs them: TRUNCATE TABLE {}", table.quoted()))),
        _ => Ok(()),
    }
}

fn definition_error(message: String) -> Error {
    Error::new(Kind::Definition, message)
}

/// `SHOW CREATE TABLE`; `None` if there is no such table.
pub async fn show_create(conn: &mut Conn, table: &TableName) -> Result<Option<String>> {
    let row: mysql_async::Result<Option<Row>> =
        conn.query_first(format!("SHOW CREATE TABLE {}", table.quoted())).await;
    match row {
        Ok(row) => Ok(row.and_then(|mut row| row.take::<String, _>(1))),
        Err(mysql_async::Error::Server(error)) if matches!(error.code, 1049 | 1146) => Ok(None),
        Err(error) => {
            let error = mysql::error(error, &format!("read the definition of {table}"));
            // What a view is made of needs SHOW VIEW, for which there is no other use. That it is no table is enough.
            match error.kind() == Kind::Denied && mysql::is_view(conn, table).await? {
                true => Ok(Some(format!("CREATE VIEW {}", table.quoted()))),
                false => Err(error),
            }
        }
    }
}

pub async fn schema_collation(conn: &mut Conn, schema: &str) -> Result<Option<String>> {
    conn.exec_first(
        "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?",
        (schema,),
    )
    .await
    .map_err(|error| mysql::error(error, &format!("read the default collation of schema {schema}")))
}

/// DDL that builds on a schema's defaults must find the source's. Looks at the DDL from transaction `from` to
/// `to` that is still to run; `left_out` will not.
pub async fn check_schema_defaults(
    conn: &mut Conn,
    scan: &Scan,
    executed: &Executed,
    left_out: &BTreeSet<u64>,
    range: RangeInclusive<u64>,
    to_come: &[NewSchema],
) -> Result<()> {
    let mut seen = BTreeSet::new();
    let wanted = scan.schema_defaults.iter().filter(|wanted| {
        let runs = !executed.contains(wanted.n) && !left_out.contains(&wanted.n);
        range.contains(&wanted.n) && runs && seen.insert((&wanted.schema, &wanted.collation))
    });
    for wanted in wanted.collect::<Vec<_>>() {
        let planned = to_come.iter().find(|new| new.schema == wanted.schema);
        let planned = planned.and_then(|new| new.collation.clone());
        let found = match planned {
            Some(planned) => Some(planned),
            None => schema_collation(conn, &wanted.schema).await?,
        };
        let Some(found) = found else { continue };
        if found != wanted.collation {
            let (schema, collation) = (&wanted.schema, &wanted.collation);
            return Err(definition_error(format!(
                "check {}: its DDL takes the table's character set from schema {schema}, whose default collation is \
                 {found} here and was {collation} at the source",
                wanted.at
            ))
            .hint(format!("ALTER DATABASE {} COLLATE {collation}", quote(schema))));
        }
    }
    Ok(())
}

/// A row event that no statement can carry is told before anything runs.
pub fn check_packet(
    scan: &Scan,
    executed: &Executed,
    passing: &Passing,
    tables: &TableSet,
    max_allowed_packet: u64,
) -> Result<()> {
    let runs = scan.largest.iter().filter(|(table, largest)| {
        !executed.contains(largest.n) && !passing.covers(tables, table, largest.n)
    });
    let Some((table, largest)) = runs.max_by_key(|(_, largest)| largest.bytes) else { return Ok(()) };
    let needed = super::replay::statement_length(largest.bytes);
    if needed <= max_allowed_packet {
        return Ok(());
    }
    let mib = needed.div_ceil(1 << 20);
    let at = &largest.at;
    let message = format!(
        "check {at}: a row event of {table} has {} bytes and needs a statement of {needed} bytes; max_allowed_packet \
         here is {max_allowed_packet}",
        largest.bytes
    );
    Err(Error::new(Kind::Failed, message).hint(match mib {
        0..=1024 => format!("SET PERSIST max_allowed_packet={}, then run `tablecast apply` again", mib << 20),
        _ => "no max_allowed_packet is large enough: copy this table again without this row".to_owned(),
    }))
}

/// Gives the region what it lacks.
pub async fn create(conn: &mut Conn, missing: &Missing) -> Result<()> {
    // Tables in any order, their keys among each other included, each exactly as the text says.
    const SESSION: &str = "SET foreign_key_checks=0, sql_mode='', explicit_defaults_for_timestamp=1, \
        innodb_strict_mode=0, sql_require_primary_key=0, lock_wait_timeout=30 \
        /*!80030 , sql_generate_invisible_primary_key=0 */";
    const AFTER: &str = "SET foreign_key_checks=1, lock_wait_timeout=DEFAULT";
    for NewSchema { schema, collation } in &missing.schemas {
        let doing = format!("create the schema {schema}");
        let mut statement = format!("CREATE DATABASE IF NOT EXISTS {}", quote(schema));
        if let Some(collation) = collation {
            gate::collation(collation)?;
            statement += &format!(" COLLATE {collation}");
        }
        conn.query_drop(statement).await.map_err(|error| mysql::error(error, &doing))?;
    }
    if missing.tables.is_empty() {
        return Ok(());
    }
    conn.query_drop(SESSION).await.map_err(|error| mysql::error(error, "prepare to create tables"))?;
    for NewTable { table, create_table } in &missing.tables {
        let doing = format!("create the table {table}");
        conn.query_drop(format!("USE {}", quote(&table.schema)))
            .await
            .map_err(|error| mysql::error(error, &doing))?;
        execute(conn, create_table).await.map_err(|error| mysql::error(error, &doing))?;
    }
    conn.query_drop(AFTER).await.map_err(|error| mysql::error(error, "prepare to create tables"))
}

/// Runs one statement whose text is from the bucket: a connection takes several at once, PREPARE takes one.
pub async fn execute(conn: &mut Conn, text: &str) -> mysql_async::Result<()> {
    let text = hex(text.as_bytes());
    for statement in [
        format!("SET @tablecast_definition=CONVERT(0x{text} USING utf8mb4)").as_str(),
        "PREPARE tablecast_definition FROM @tablecast_definition",
        "EXECUTE tablecast_definition",
        "DEALLOCATE PREPARE tablecast_definition",
    ] {
        conn.query_drop(statement).await?;
    }
    Ok(())
}

/// The columns of each table that a segment changes next, as far as they can be known beforehand: what has run
/// already is behind us, DDL that is still to come changes them, and what is left out needs none. Says which do
/// not fit.
pub async fn check_maps(
    conn: &mut Conn,
    scan: &Scan,
    executed: &Executed,
    passing: &Passing,
    tables: &TableSet,
    to_come: &[NewTable],
) -> Result<Vec<Drifted>> {
    let to_come: BTreeSet<&TableName> = to_come.iter().map(|new| &new.table).collect();
    let mut drifted = Vec::new();
    for (table, steps) in scan.tables.iter().filter(|(table, _)| !to_come.contains(table)) {
        let is_ahead = |step: &&Step| match step {
            Step::Rows { first, last, .. } => !executed.contains_all(*first, *last),
            Step::Ddl { n } => !executed.contains(*n),
        };
        let Some(Step::Rows { first, columns, .. }) = steps.iter().find(is_ahead) else { continue };
        let next = executed.next_missing(*first);
        if passing.covers(tables, table, next) {
            continue;
        }
        match check_columns(conn, table, columns).await {
            Ok(()) => {}
            Err(error) if error.kind() == Kind::Definition => {
                drifted.push(Drifted { table: table.clone(), since: StreamTx(next), error });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(drifted)
}
