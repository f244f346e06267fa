//! What a statement in the source's binlog means for the stream.

use crate::binlog::ddl::{
    Class, SchemaDdl, SchemaVerb, Statement, TableDdl, TableVerb, checksum_table, classify,
};
use crate::binlog::event::{Checksum, Event, FLAG_THREAD_SPECIFIC, Header, kind, query_text};
use crate::binlog::name::{TableName, TableSet};
use crate::binlog::query::QueryEvent;
use crate::binlog::session::{Session, StatusVars, UpdatedSchemas};
use crate::error::{Error, Kind, Result};

#[derive(Debug)]
pub(super) enum Meaning {
    Begin,
    Commit,
    Rollback,
    /// SAVEPOINT, ROLLBACK TO, RELEASE: belongs to whatever is kept of its transaction.
    Savepoint,
    XaStart,
    XaEnd,
    /// XA COMMIT or ROLLBACK, usually of a transaction that was prepared earlier.
    XaOver,
    /// DDL that travels.
    Keep(Box<TableDdl>, Event),
    /// DROP DATABASE, as drops of the set's tables.
    KeepDrops(Vec<TableName>, SchemaDdl, Event),
    /// DDL on a database, which never travels, and the id of the session's collation_server.
    Schema(SchemaDdl, Option<u16>),
    /// Leaves nothing in the stream.
    Nothing,
}

pub(super) fn meaning_of(event: &Event, set: &TableSet) -> Result<Meaning> {
    if event.kind() == kind::QUERY {
        // What the server itself writes around rows; everything else is read properly.
        match query_text(event)? {
            b"BEGIN" => return Ok(Meaning::Begin),
            b"COMMIT" => return Ok(Meaning::Commit),
            b"ROLLBACK" => return Ok(Meaning::Rollback),
            _ => {}
        }
    }
    let query = parse(event)?;
    let session = Session::of(event.header().timestamp, &query)?;
    let statement = match statement_of(&query, &session) {
        Ok(statement) => statement,
        Err(_) if is_elsewhere(&query, &session, set) => return Ok(Meaning::Nothing),
        Err(error) => return Err(error),
    };
    let class = match classify(&statement) {
        Ok(class) => class,
        Err(_) if is_elsewhere(&query, &session, set) => return Ok(Meaning::Nothing),
        Err(error) => return Err(error),
    };
    Ok(match class {
        // The server writes them itself, always in the form above; readers of segments count on it.
        Class::Begin | Class::Commit | Class::Rollback => {
            let text = String::from_utf8_lossy(&query.text);
            return Err(Error::new(Kind::Corrupt, format!("{text:?} is not how a server writes it")));
        }
        Class::Savepoint | Class::RollbackToSavepoint | Class::ReleaseSavepoint => Meaning::Savepoint,
        Class::Xa => xa(&query.text),
        Class::Table(ddl) if used_temporary_table(&ddl, event.header(), &session) => {
            must_be_of_others(&ddl, set)?;
            Meaning::Nothing
        }
        Class::Table(ddl) if did_nothing(&ddl, &session) => Meaning::Nothing,
        Class::Table(ddl) => match travels(&ddl, set)? {
            true => Meaning::Keep(Box::new(ddl), event.clone()),
            false => Meaning::Nothing,
        },
        Class::Schema(ddl) if ddl.verb == SchemaVerb::Drop && set.has_schema(&ddl.schema) => {
            drop_schema(ddl, set, event.header(), &query)?
        }
        Class::Schema(ddl) => Meaning::Schema(ddl, session.charset.map(|charset| charset.server)),
        Class::Maintenance { .. } | Class::Other(_) => Meaning::Nothing,
        Class::RowStatement { .. } if checksum_table(&statement).is_some_and(|table| !set.admits(&table)) => {
            Meaning::Nothing
        }
        Class::RowStatement { what, tables } => {
            must_not_touch(what, &tables, &session.updated_schemas, set)?;
            Meaning::Nothing
        }
    })
}

fn statement_of<'a>(query: &'a QueryEvent, session: &'a Session) -> Result<Statement<'a>> {
    Ok(Statement {
        text: &query.text,
        default_schema: &session.schema,
        charset: session.client_charset()?,
        sql_mode: session.effective_sql_mode(),
    })
}

/// Whether a statement that cannot be classified has certainly nothing to do with the set, so that it need not
/// end the stream: the server noted what it changed, nothing of that is the set's, and neither the default
/// database nor anything in the text can be a database of the set.
fn is_elsewhere(query: &QueryEvent, session: &Session, set: &TableSet) -> bool {
    let UpdatedSchemas::These(updated) = &session.updated_schemas else { return false };
    let mut named = updated.iter().chain([&session.schema]);
    let schemas = set.schemas();
    let is_ours = |schema: &str| schemas.iter().any(|ours| ours.eq_ignore_ascii_case(schema));
    !named.any(|schema| is_ours(schema)) && !schemas.iter().any(|ours| may_name(&query.text, ours))
}

/// Whether the name may stand in a text that could not be read. Letters, digits and `_` are the same bytes in
/// every client character set; with others there is no certainty. A digit before it may be a comment's version.
fn may_name(text: &[u8], name: &str) -> bool {
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let stands_at = |(at, found): (usize, &[u8])| {
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        found.eq_ignore_ascii_case(name.as_bytes())
            && !before.is_some_and(|byte| in_name(byte) && !byte.is_ascii_digit())
            && !text.get(at + name.len()).is_some_and(in_name)
    };
    !plain || text.windows(name.len()).enumerate().any(stands_at)
}

/// CREATE TABLE IF NOT EXISTS where there is one, or a view: only what made a table has a transaction number
/// (seen with 9.7.4). In a region it could make a table where the source has a view.
fn did_nothing(ddl: &TableDdl, session: &Session) -> bool {
    let makes = ddl.verb == TableVerb::Create && ddl.if_exists && !ddl.row_create;
    // A table of an engine without transactions has no number either: not sure.
    makes && !session.is_atomic_ddl && ddl.reaches_outside.is_empty()
}

/// A Query event, or LOAD DATA as a statement, which has more fixed data in its midst
/// (`Execute_load_query_event` in libs/mysql/binlog/event/load_data_events.h).
pub(super) fn parse(event: &Event) -> Result<QueryEvent> {
    const QUERY_FIXED: usize = 13;
    const LOAD_FIXED: usize = 26;
    let body = event.body();
    if event.kind() == kind::QUERY {
        return QueryEvent::parse_body(body);
    }
    match (body.get(..QUERY_FIXED), body.get(LOAD_FIXED..)) {
        (Some(fixed), Some(rest)) => QueryEvent::parse_body(&[fixed, rest].concat()),
        _ => {
            let what = format!("read a {} event: {} bytes are too few", event.header().name(), body.len());
            Err(Error::new(Kind::Corrupt, what))
        }
    }
}

/// The second word says which. XA PREPARE is no statement in a binlog but an event.
fn xa(text: &[u8]) -> Meaning {
    let mut words = text.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    match words.nth(1).unwrap_or_default().to_ascii_uppercase().as_slice() {
        b"START" | b"BEGIN" => Meaning::XaStart,
        b"COMMIT" | b"ROLLBACK" => Meaning::XaOver,
        _ => Meaning::XaEnd,
    }
}

/// Whether DDL is the set's: all of its tables, or none.
fn travels(ddl: &TableDdl, set: &TableSet) -> Result<bool> {
    let ours = ddl.targets.iter().find(|table| set.admits(table));
    let (Some(ours), false) = (ours, ddl.temporary) else { return Ok(false) };
    let other = ddl.targets.iter().chain(&ddl.references).find(|table| !set.admits(table));
    let verb = verb_name(ddl.verb);
    let Some(other) = other else {
        stays_inside(ddl)?;
        must_not_number_rows(ddl, ours, set)?;
        return Ok(true);
    };
    let what = format!("{verb} names {ours}, which is in the table set, and {other}, which is not");
    let hint = match ddl.verb {
        TableVerb::Rename => {
            "a table cannot move into or out of the set by RENAME, since its rows do not travel: next time `tablecast \
             tables add`, or `remove`, first"
        }
        TableVerb::Drop => {
            "drop tables of the set and others in statements of their own; `tablecast upload --resync` goes on behind this one"
        }
        _ => "a table of the set can only build upon tables of the set: add the other one",
    };
    Err(Error::new(Kind::Gate, what).hint(hint))
}

/// What every region's gate would refuse must not come into the stream, where it would stand for ever.
fn stays_inside(ddl: &TableDdl) -> Result<()> {
    let [_, ..] = ddl.reaches_outside.as_slice() else { return Ok(()) };
    let (verb, table, outside) = (verb_name(ddl.verb), &ddl.targets[0], ddl.reaches_outside.join(", "));
    let what = format!("{verb} on {table}, which is in the table set, reaches outside the table: {outside}");
    let hint = "regions hold InnoDB tables in their own data directories: make the table such a one, or take it out \
                of the set";
    Err(Error::new(Kind::Gate, what).hint(hint))
}

/// Without a primary key InnoDB numbers rows in the order in which they were inserted; in a region that is the
/// order of the commits. A ghost table is still empty when its tool alters it.
fn must_not_number_rows(ddl: &TableDdl, table: &TableName, set: &TableSet) -> Result<()> {
    if !ddl.numbers_rows || set.ghost_of(table).is_some() {
        return Ok(());
    }
    let what = format!(
        "ALTER TABLE adds an AUTO_INCREMENT column to {table}, which is in the table set: its rows could get other \
         numbers in a region"
    );
    let hint = "make a new table with the column, copy the rows into it (INSERT … SELECT) and swap the two by RENAME \
                TABLE; gh-ost and pt-online-schema-change do so";
    Err(Error::new(Kind::Gate, what).hint(hint))
}

/// Whether the table that is named may have been a temporary one that hid the real one. In a session with
/// binlog_format=STATEMENT its DDL is logged without the word TEMPORARY; only DROP is told apart. Seen with 9.7.4: such
/// an ALTER or index DDL has no transaction number, such a TRUNCATE names its database as changed, which that of
/// a real table does not. LIKE can only be told by the flag.
fn used_temporary_table(ddl: &TableDdl, header: Header, session: &Session) -> bool {
    let flagged = header.flags & FLAG_THREAD_SPECIFIC != 0 && !ddl.temporary;
    flagged
        && match ddl.verb {
            TableVerb::Alter | TableVerb::CreateIndex | TableVerb::DropIndex => !session.is_atomic_ddl,
            TableVerb::Truncate => session.updated_schemas != UpdatedSchemas::Unknown,
            TableVerb::Create => !ddl.references.is_empty(),
            TableVerb::Drop | TableVerb::Rename => false,
        }
}

fn must_be_of_others(ddl: &TableDdl, set: &TableSet) -> Result<()> {
    let ours = ddl.targets.iter().chain(&ddl.references).find(|table| set.admits(table));
    let Some(ours) = ours else { return Ok(()) };
    let verb = verb_name(ddl.verb);
    let what =
        format!("{verb} names {ours}, which is in the table set, but its session used a temporary table");
    let hint = "whether the temporary table or the real one was changed is not in the binlog: give temporary tables \
                names of their own, or use binlog_format=ROW, which does not log them";
    Err(Error::new(Kind::Gate, what).hint(hint))
}

fn verb_name(verb: TableVerb) -> &'static str {
    match verb {
        TableVerb::Create => "CREATE TABLE",
        TableVerb::Alter => "ALTER TABLE",
        TableVerb::Drop => "DROP TABLE",
        TableVerb::Rename => "RENAME TABLE",
        TableVerb::Truncate => "TRUNCATE TABLE",
        TableVerb::CreateIndex => "CREATE INDEX",
        TableVerb::DropIndex => "DROP INDEX",
    }
}

/// A statement that changes rows must have nothing to do with the set. The server notes the databases of all its
/// tables, those of triggers and functions too. Where one of them is the set's, the text is no proof that its
/// tables were only read: the target may have a trigger, or be a view.
fn must_not_touch(
    what: &'static str,
    tables: &[TableName],
    updated: &UpdatedSchemas,
    set: &TableSet,
) -> Result<()> {
    let named = tables.iter().find(|table| set.admits(table));
    let why = match (updated, named) {
        (UpdatedSchemas::These(schemas), named) => {
            // It also names what was only read, and "too many" where foreign keys may cascade (seen with 9.7.4).
            match (schemas.iter().find(|schema| set.has_schema(schema)), named) {
                (None, _) => return Ok(()),
                (Some(_), Some(table)) => format!("it names {table}, which is in the table set"),
                (Some(schema), None) => {
                    format!("it may have changed something in {schema}, where the table set has tables")
                }
            }
        }
        (UpdatedSchemas::Unknown, Some(table)) => format!("it names {table}, which is in the table set"),
        (UpdatedSchemas::Unknown, None) => "the source did not note which databases it changed".to_owned(),
    };
    let what = format!("{what} as a statement: {why}");
    let hint =
        "only row changes travel: set binlog_format=ROW at the source, in every session that writes there";
    Err(Error::new(Kind::Gate, what).hint(hint))
}

/// The statement drops everything in the database; the stream carries that for the set's tables by name.
fn drop_schema(ddl: SchemaDdl, set: &TableSet, header: Header, query: &QueryEvent) -> Result<Meaning> {
    let schema = &ddl.schema;
    if set.has_whole_schema(schema) {
        let what = format!("DROP DATABASE {schema}, of which the table set has every table");
        let hint = "which tables it had is not in the binlog, so it cannot travel: drop the tables by DROP TABLE \
                    first, or take the pattern out of the set";
        return Err(Error::new(Kind::Gate, what).hint(hint));
    }
    let mut targets = Vec::new();
    for table in set.listed().filter(|table| table.schema == *schema) {
        targets.push(table.clone());
        let ghosts = ["gho", "ghc", "del", "new", "old"];
        let ghosts = ghosts.map(|kind| TableName::new(schema, format!("_{}_{kind}", table.table)));
        // An identifier has at most 64 characters: a ghost with a longer name cannot exist.
        targets.extend(ghosts.into_iter().filter(|ghost| ghost.table.chars().count() <= 64));
    }
    // A name that is listed may look like another one's ghost.
    targets.sort();
    targets.dedup();
    let names: Vec<String> = targets.iter().map(TableName::quoted).collect();
    let drops = QueryEvent {
        schema: Vec::new(),
        status: utf8_status(&query.status),
        text: format!("DROP TABLE IF EXISTS {}", names.join(", ")).into_bytes(),
        ..query.clone()
    };
    let event = Event::build(header, &drops.encode_body(), Checksum::Crc32);
    Ok(Meaning::KeepDrops(targets, ddl, event))
}

/// The session of a statement that is ours: UTF-8, no sql_mode, and of the original what decides whether foreign
/// keys are checked (`Q_FLAGS2_CODE`, which the server writes first).
fn utf8_status(original: &StatusVars) -> StatusVars {
    const FLAGS2: u8 = 0;
    const SQL_MODE: u8 = 1;
    const CHARSET: u8 = 4;
    const UTF8MB4_GENERAL_CI: u16 = 45;
    let mut raw = Vec::new();
    if let Some(&[FLAGS2, a, b, c, d]) = original.raw.first_chunk() {
        raw.extend([FLAGS2, a, b, c, d]);
    }
    raw.push(SQL_MODE);
    raw.extend(0u64.to_le_bytes());
    raw.push(CHARSET);
    for _ in ["client", "connection", "server"] {
        raw.extend(UTF8MB4_GENERAL_CI.to_le_bytes());
    }
    StatusVars { raw }
}

#[cfg(test)]
mod tests;
