//! What a statement in the binlog is, and which tables it names.
//!
//! The statement is lexed as the server lexes it (comments, quoting, sql_mode, client character set) and
//! classified by its first words; then every table that it names is collected. The same code decides what
//! upload ships and what apply lets run (invariant I6), so there is one rule for doubt: what cannot be
//! classified with certainty is an error of [`Kind::Gate`], never a guess.
//!
//! Not done here: deciding. Whether a table is in the set is the filter's and the gate's business.

use super::charset::Charset;
use super::name::TableName;
use crate::error::{Error, Kind, Result};
use cursor::Cursor;
use lexer::{Doubt, Versioned};

pub use checksum::checksum_table;

mod checksum;
mod cursor;
mod lexer;
mod schema;
pub mod shown;
mod table;
#[cfg(test)]
mod tests;

/// The text of a Query event and what decides how the server reads it.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    pub text: &'a [u8],
    /// The event's default database; empty if there was none.
    pub default_schema: &'a str,
    /// character_set_client.
    pub charset: Charset,
    pub sql_mode: u64,
}

/// What a statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Class {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    RollbackToSavepoint,
    ReleaseSavepoint,
    /// XA START, END, PREPARE, COMMIT, ROLLBACK.
    Xa,
    /// CREATE, ALTER, DROP, RENAME, TRUNCATE TABLE; CREATE and DROP INDEX.
    Table(TableDdl),
    /// CREATE, ALTER, DROP DATABASE.
    Schema(SchemaDdl),
    /// ANALYZE, OPTIMIZE, REPAIR, CHECK TABLE, FLUSH: changes no content.
    Maintenance {
        what: &'static str,
        tables: Vec<TableName>,
    },
    /// What touches no table's rows or definition: users, grants, routines, events, triggers, views, servers,
    /// tablespaces, plugins.
    Other(&'static str),
    /// A change of rows as a statement (INSERT, UPDATE, DELETE, REPLACE, LOAD, CALL, CREATE TABLE … SELECT…).
    /// It may change more tables than it names, by triggers and routines.
    RowStatement {
        what: &'static str,
        tables: Vec<TableName>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableVerb {
    Create,
    Alter,
    Drop,
    Rename,
    Truncate,
    CreateIndex,
    DropIndex,
}

/// DDL on tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDdl {
    pub verb: TableVerb,
    /// Tables that are changed, made or removed, in the order of the text. RENAME: from, to, from, to.
    pub targets: Vec<TableName>,
    /// Tables that are read or pointed at: LIKE, REFERENCES.
    pub references: Vec<TableName>,
    pub temporary: bool,
    /// The table's default character set comes from its database's default.
    pub depends_on_schema_default: bool,
    /// CREATE TABLE … START TRANSACTION: the rows of a CREATE … SELECT follow in the same transaction.
    pub row_create: bool,
    /// ENGINE = …, as written.
    pub engine: Option<String>,
    /// IF EXISTS or IF NOT EXISTS.
    pub if_exists: bool,
    /// What in the statement reaches outside the table and the server's data directory, or needs more than
    /// InnoDB: `DATA DIRECTORY`, `CONNECTION`, `ENGINE`, `TABLESPACE`, …
    pub reaches_outside: Vec<&'static str>,
    /// ALTER TABLE … ADD a column with AUTO_INCREMENT, to a table that may have no primary key: which number a
    /// row gets is then decided by the order in which the server stored them.
    pub numbers_rows: bool,
    /// ALTER TABLE … RENAME TO: the new name, which is among the targets, too.
    pub renamed_to: Option<TableName>,
}

impl TableDdl {
    /// Every table that the statement names.
    pub fn names(&self) -> impl Iterator<Item = &TableName> {
        self.targets.iter().chain(&self.references)
    }

    /// The tables that it gives another name, from and to, in order.
    pub fn renames(&self) -> Vec<(TableName, TableName)> {
        match (self.verb, &self.renamed_to) {
            (TableVerb::Rename, _) => {
                self.targets.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
            }
            (TableVerb::Alter, Some(to)) => {
                self.targets.first().map(|from| (from.clone(), to.clone())).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The names among the targets that no table has any more when the statement has run.
    pub fn gone(&self) -> Vec<TableName> {
        match (self.verb, &self.renamed_to) {
            (TableVerb::Drop, _) => self.targets.clone(),
            (TableVerb::Alter, Some(to)) => {
                self.targets.first().filter(|from| *from != to).cloned().into_iter().collect()
            }
            (TableVerb::Rename, _) => {
                let mut gone: Vec<TableName> = Vec::new();
                for pair in self.targets.chunks_exact(2) {
                    gone.push(pair[0].clone());
                    gone.retain(|name| *name != pair[1]);
                }
                gone
            }
            _ => Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaVerb {
    Create,
    Alter,
    Drop,
}

/// DDL on a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaDdl {
    pub verb: SchemaVerb,
    pub schema: String,
    /// CHARACTER SET, as written; `default` if the statement says DEFAULT.
    pub charset: Option<String>,
    /// COLLATE, as written.
    pub collation: Option<String>,
}

/// How much of a statement an error shows.
const SHOWN: usize = 80;

/// Says what the statement is, or refuses ([`Kind::Gate`]) with the reason and its beginning.
pub fn classify(statement: &Statement<'_>) -> Result<Class> {
    read_every_way(statement).map_err(|doubt| {
        let text = statement.text;
        let mut beginning =
            String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).escape_debug().to_string();
        if text.len() > SHOWN {
            beginning.push('…');
        }
        Error::new(Kind::Gate, format!("classify the statement '{beginning}': {doubt}"))
            .hint("only statements that are understood completely are shipped and run; nothing was changed")
    })
}

fn read_every_way(statement: &Statement<'_>) -> Result<Class, Doubt> {
    let mut cursor = Cursor::new(statement, Versioned::Code)?;
    let class = class_of(&mut cursor)?;
    for reading in cursor.other_readings() {
        let mut cursor = Cursor::new(statement, reading)?;
        if class_of(&mut cursor).as_ref() != Ok(&class) {
            return Err("what it does depends on the server's version, by an executable comment".into());
        }
    }
    Ok(class)
}

fn class_of(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    if let Some(class) = of_transaction(cursor)? {
        return Ok(class);
    }
    if cursor.takes(&["CREATE"])? {
        return of_create(cursor);
    }
    if cursor.takes(&["ALTER"])? {
        return of_alter(cursor);
    }
    if cursor.takes(&["DROP"])? {
        return of_drop(cursor);
    }
    if cursor.takes(&["RENAME"])? {
        if cursor.takes_any(&["TABLE", "TABLES"])?.is_some() {
            return table::rename(cursor);
        }
        cursor.needs("USER")?;
        return Ok(Class::Other("RENAME USER"));
    }
    if cursor.takes(&["TRUNCATE"])? {
        cursor.takes(&["TABLE"])?;
        return table::truncate(cursor);
    }
    if let Some(class) = of_maintenance(cursor)? {
        return Ok(class);
    }
    if let Some(what) = cursor.takes_any(&["GRANT", "REVOKE"])? {
        return Ok(Class::Other(what));
    }
    if cursor.takes(&["SET", "PASSWORD"])? || cursor.takes(&["SET", "DEFAULT", "ROLE"])? {
        return Ok(Class::Other("SET PASSWORD"));
    }
    if cursor.takes_any(&["INSTALL", "UNINSTALL"])?.is_some() {
        if cursor.takes_any(&["PLUGIN", "COMPONENT"])?.is_none() {
            return Err(cursor.unexpected("PLUGIN or COMPONENT"));
        }
        return Ok(Class::Other("INSTALL"));
    }
    if let Some(what) = of_rows(cursor)? {
        return Ok(Class::RowStatement { what, tables: cursor.every_possible_table()? });
    }
    Err(cursor.unexpected("a statement that a binlog can hold"))
}

fn of_transaction(cursor: &mut Cursor<'_>) -> Result<Option<Class>, Doubt> {
    let class = if cursor.takes(&["BEGIN"])? {
        cursor.takes(&["WORK"])?;
        Class::Begin
    } else if cursor.takes(&["START", "TRANSACTION"])? {
        Class::Begin
    } else if cursor.takes(&["COMMIT"])? {
        cursor.takes(&["WORK"])?;
        Class::Commit
    } else if cursor.takes(&["ROLLBACK"])? {
        cursor.takes(&["WORK"])?;
        if cursor.takes(&["TO"])? {
            cursor.takes(&["SAVEPOINT"])?;
            cursor.identifier()?;
            Class::RollbackToSavepoint
        } else {
            Class::Rollback
        }
    } else if cursor.takes(&["SAVEPOINT"])? {
        cursor.identifier()?;
        Class::Savepoint
    } else if cursor.takes(&["RELEASE", "SAVEPOINT"])? {
        cursor.identifier()?;
        Class::ReleaseSavepoint
    } else if cursor.takes(&["XA"])? {
        const VERBS: [&str; 6] = ["START", "BEGIN", "END", "PREPARE", "COMMIT", "ROLLBACK"];
        if cursor.takes_any(&VERBS)?.is_none() {
            return Err(cursor.unexpected("what an XA transaction does"));
        }
        while cursor.next()?.is_some() {}
        Class::Xa
    } else {
        return Ok(None);
    };
    cursor.needs_end()?;
    // These run in the midst of others; a comment or a semicolon would take what follows with it. No server
    // writes one.
    if !cursor.is_plain() {
        return Err("a comment or a semicolon in a statement of transactions".into());
    }
    Ok(Some(class))
}

fn of_create(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    if cursor.takes(&["TABLE"])? {
        return table::create(cursor, false);
    }
    if cursor.takes(&["TEMPORARY", "TABLE"])? {
        return table::create(cursor, true);
    }
    if cursor.takes_any(&["DATABASE", "SCHEMA"])?.is_some() {
        return schema::create(cursor);
    }
    for kind in ["UNIQUE", "FULLTEXT", "SPATIAL"] {
        if cursor.takes(&[kind, "INDEX"])? {
            return table::create_index(cursor);
        }
    }
    if cursor.takes(&["INDEX"])? {
        return table::create_index(cursor);
    }
    cursor.takes(&["OR", "REPLACE"])?;
    of_other_object(cursor)
}

fn of_alter(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    cursor.takes(&["IGNORE"])?;
    if cursor.takes(&["TABLE"])? {
        return table::alter(cursor);
    }
    if cursor.takes_any(&["DATABASE", "SCHEMA"])?.is_some() {
        return schema::alter(cursor);
    }
    if cursor.takes(&["INSTANCE"])? {
        return Ok(Class::Other("INSTANCE"));
    }
    of_other_object(cursor)
}

fn of_drop(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    let temporary = cursor.takes(&["TEMPORARY"])?;
    if cursor.takes_any(&["TABLE", "TABLES"])?.is_some() {
        return table::drop_table(cursor, temporary);
    }
    if temporary {
        return Err(cursor.unexpected("TABLE"));
    }
    if cursor.takes_any(&["DATABASE", "SCHEMA"])?.is_some() {
        return schema::drop_schema(cursor);
    }
    if cursor.takes(&["INDEX"])? {
        return table::drop_index(cursor);
    }
    of_other_object(cursor)
}

/// Objects whose DDL changes no table's rows or definition, behind the clauses that may precede their kind.
/// What follows may be a routine's body and is not read.
fn of_other_object(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    const OBJECTS: [(&[&str], &str); 19] = [
        (&["USER"], "USER"),
        (&["ROLE"], "ROLE"),
        (&["VIEW"], "VIEW"),
        (&["PROCEDURE"], "PROCEDURE"),
        (&["FUNCTION"], "FUNCTION"),
        (&["AGGREGATE", "FUNCTION"], "FUNCTION"),
        (&["TRIGGER"], "TRIGGER"),
        (&["EVENT"], "EVENT"),
        (&["SERVER"], "SERVER"),
        (&["TABLESPACE"], "TABLESPACE"),
        (&["UNDO", "TABLESPACE"], "TABLESPACE"),
        (&["LOGFILE", "GROUP"], "LOGFILE GROUP"),
        (&["RESOURCE", "GROUP"], "RESOURCE GROUP"),
        (&["SPATIAL", "REFERENCE", "SYSTEM"], "SPATIAL REFERENCE SYSTEM"),
        (&["LIBRARY"], "LIBRARY"),
        (&["JSON", "DUALITY", "VIEW"], "VIEW"),
        (&["JSON", "RELATIONAL", "DUALITY", "VIEW"], "VIEW"),
        (&["SQL", "SECURITY", "DEFINER", "VIEW"], "VIEW"),
        (&["SQL", "SECURITY", "INVOKER", "VIEW"], "VIEW"),
    ];
    if cursor.takes(&["ALGORITHM"])? {
        table::option_value(cursor)?;
    }
    if cursor.takes(&["DEFINER"])? {
        if !cursor.takes_punct(b'=')? {
            return Err(cursor.unexpected("'='"));
        }
        account(cursor)?;
    }
    for (words, what) in OBJECTS {
        if cursor.takes(words)? {
            return Ok(Class::Other(what));
        }
    }
    Err(cursor.unexpected("a kind of object"))
}

/// `user`, `'user'@'host'`, `CURRENT_USER()`.
fn account(cursor: &mut Cursor<'_>) -> Result<(), Doubt> {
    cursor.next()?;
    if cursor.takes_punct(b'(')? && !cursor.takes_punct(b')')? {
        return Err(cursor.unexpected("')'"));
    }
    if cursor.takes_punct(b'@')? && cursor.peek(0)?.is_some_and(|host| host.kind != lexer::TokenKind::Word) {
        cursor.next()?;
    }
    Ok(())
}

fn of_maintenance(cursor: &mut Cursor<'_>) -> Result<Option<Class>, Doubt> {
    if cursor.takes(&["FLUSH"])? {
        while cursor.next()?.is_some() {}
        return Ok(Some(Class::Maintenance { what: "FLUSH", tables: Vec::new() }));
    }
    let Some(what) = cursor.takes_any(&["ANALYZE", "OPTIMIZE", "REPAIR", "CHECK"])? else { return Ok(None) };
    cursor.takes_any(&["NO_WRITE_TO_BINLOG", "LOCAL"])?;
    if cursor.takes_any(&["TABLE", "TABLES"])?.is_none() {
        return Err(cursor.unexpected("TABLE"));
    }
    let tables = cursor.tables()?;
    while cursor.next()?.is_some() {}
    Ok(Some(Class::Maintenance { what, tables }))
}

/// The first word of a statement that changes rows, or may do so by a function it calls.
fn of_rows(cursor: &mut Cursor<'_>) -> Result<Option<&'static str>, Doubt> {
    const VERBS: [&str; 9] =
        ["INSERT", "REPLACE", "UPDATE", "DELETE", "CALL", "DO", "SELECT", "WITH", "VALUES"];
    if cursor.takes(&["LOAD", "DATA"])? || cursor.takes(&["LOAD", "XML"])? {
        return Ok(Some("LOAD DATA"));
    }
    if cursor.sees_punct(b'(')? {
        return Ok(Some("SELECT"));
    }
    cursor.takes_any(&VERBS)
}
