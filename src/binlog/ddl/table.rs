//! DDL on tables: which tables the statement changes, and which it reads or points at.
//!
//! The grammar (sql/sql_yacc.yy) is not followed in full. What can name another table begins with a reserved
//! word, which no server takes for an identifier unless it is quoted: REFERENCES, RENAME, UNION, SELECT, TABLE,
//! VALUES. These are looked for at every place, so that nothing hides inside a part that is not understood.

use super::cursor::Cursor;
use super::lexer::{Doubt, Token, TokenKind};
use super::{Class, TableDdl, TableVerb};
use crate::binlog::name::TableName;

impl TableDdl {
    fn of(verb: TableVerb, targets: Vec<TableName>) -> Self {
        Self {
            verb,
            targets,
            references: Vec::new(),
            temporary: false,
            depends_on_schema_default: false,
            row_create: false,
            engine: None,
            if_exists: false,
            reaches_outside: Vec::new(),
            numbers_rows: false,
            renamed_to: None,
        }
    }

    fn reaches(&mut self, what: &'static str) {
        if !self.reaches_outside.contains(&what) {
            self.reaches_outside.push(what);
        }
    }
}

/// After `CREATE [TEMPORARY] TABLE`.
pub(super) fn create(cursor: &mut Cursor<'_>, temporary: bool) -> Result<Class, Doubt> {
    let if_exists = cursor.takes(&["IF", "NOT", "EXISTS"])?;
    let mut ddl = TableDdl::of(TableVerb::Create, vec![cursor.table()?]);
    (ddl.temporary, ddl.if_exists) = (temporary, if_exists);

    let in_parens = cursor.sees_punct(b'(')? && cursor.peek(1)?.is_some_and(|token| token.is_word("LIKE"));
    if in_parens {
        cursor.takes_punct(b'(')?;
    }
    if cursor.takes(&["LIKE"])? {
        ddl.references.push(cursor.table()?);
        if in_parens && !cursor.takes_punct(b')')? {
            return Err(cursor.unexpected("')'"));
        }
        cursor.needs_end()?;
        return Ok(Class::Table(ddl));
    }

    let mut scan = Scan { options: true, own_charset: Some(false), ..Scan::default() };
    while !cursor.at_end()? {
        if cursor.sees(&["SELECT"])? || cursor.sees(&["TABLE"])? || cursor.sees(&["VALUES", "ROW"])? {
            let mut tables = cursor.every_possible_table()?;
            tables.extend(ddl.targets);
            return Ok(Class::RowStatement { what: "CREATE TABLE … SELECT", tables });
        }
        // The server puts it before the other options: `) START TRANSACTION DEFAULT CHARSET=sjis`.
        if scan.depth == 0 && cursor.takes(&["START", "TRANSACTION"])? {
            ddl.row_create = true;
            continue;
        }
        scan.step(cursor, &mut ddl)?;
    }
    scan.finish(&mut ddl)?;
    Ok(Class::Table(ddl))
}

/// After ALTER TABLE.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    let mut ddl = TableDdl::of(TableVerb::Alter, vec![cursor.table()?]);
    let mut scan = Scan::default();
    let mut at_spec = true;
    let (mut adds, mut drops_key) = (false, false);
    while !cursor.at_end()? {
        if at_spec {
            at_spec = false;
            scan.begin_spec(cursor)?;
            adds = cursor.sees(&["ADD"])?;
            drops_key |= cursor.sees(&["DROP", "PRIMARY", "KEY"])?;
        }
        ddl.numbers_rows |= adds && numbers(cursor)?;
        if cursor.takes(&["RENAME"])? {
            if let Some(to) = renamed_to(cursor)? {
                ddl.targets.push(to.clone());
                scan.renamed_to = Some(to);
            }
        } else if cursor.takes(&["TABLE"])? {
            // EXCHANGE PARTITION p WITH TABLE t
            ddl.targets.push(cursor.table()?);
        } else if cursor.sees(&["SELECT"])? {
            return Err("a SELECT inside ALTER TABLE".into());
        } else {
            at_spec = scan.depth == 0 && cursor.sees_punct(b',')?;
            scan.step(cursor, &mut ddl)?;
        }
    }
    scan.finish(&mut ddl)?;
    ddl.renamed_to = scan.renamed_to;
    // With a primary key until then, rows are numbered in its order.
    ddl.numbers_rows &= !drops_key;
    Ok(Class::Table(ddl))
}

/// Whether AUTO_INCREMENT or SERIAL stands at the cursor as what a column is, not as a name. Neither is reserved.
fn numbers(cursor: &mut Cursor<'_>) -> Result<bool, Doubt> {
    if !cursor.sees(&["AUTO_INCREMENT"])? && !cursor.sees(&["SERIAL"])? {
        return Ok(false);
    }
    let of_an_index = cursor.peek(1)?.is_some_and(|token| token.is_punct(b'('));
    let after_name = cursor.previous().is_some_and(|token| {
        !matches!(token.kind, TokenKind::Punct(b'(' | b',' | b'.'))
            && !["ADD", "COLUMN", "AFTER"].iter().any(|word| token.is_word(word))
    });
    Ok(after_name && !of_an_index)
}

/// After RENAME in an ALTER TABLE; `None` if it is a column or an index that is renamed.
fn renamed_to(cursor: &mut Cursor<'_>) -> Result<Option<TableName>, Doubt> {
    if cursor.takes_any(&["COLUMN", "INDEX", "KEY"])?.is_some() {
        cursor.identifier()?;
        cursor.needs("TO")?;
        cursor.identifier()?;
        return Ok(None);
    }
    if !cursor.takes_punct(b'=')? {
        cursor.takes_any(&["TO", "AS"])?;
    }
    cursor.table().map(Some)
}

/// After `DROP [TEMPORARY] TABLE`.
pub(super) fn drop_table(cursor: &mut Cursor<'_>, temporary: bool) -> Result<Class, Doubt> {
    let if_exists = cursor.takes(&["IF", "EXISTS"])?;
    let mut ddl = TableDdl::of(TableVerb::Drop, cursor.tables()?);
    (ddl.temporary, ddl.if_exists) = (temporary, if_exists);
    cursor.takes_any(&["RESTRICT", "CASCADE"])?;
    cursor.needs_end()?;
    Ok(Class::Table(ddl))
}

/// After RENAME TABLE.
pub(super) fn rename(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    let mut targets = Vec::new();
    loop {
        targets.push(cursor.table()?);
        cursor.needs("TO")?;
        targets.push(cursor.table()?);
        if !cursor.takes_punct(b',')? {
            break;
        }
    }
    cursor.needs_end()?;
    Ok(Class::Table(TableDdl::of(TableVerb::Rename, targets)))
}

/// After `TRUNCATE [TABLE]`.
pub(super) fn truncate(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    let table = cursor.table()?;
    cursor.needs_end()?;
    Ok(Class::Table(TableDdl::of(TableVerb::Truncate, vec![table])))
}

/// After CREATE … INDEX.
pub(super) fn create_index(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    cursor.identifier()?;
    if cursor.takes_any(&["USING", "TYPE"])?.is_some() {
        cursor.identifier()?;
    }
    cursor.needs("ON")?;
    let mut ddl = TableDdl::of(TableVerb::CreateIndex, vec![cursor.table()?]);
    if !cursor.sees_punct(b'(')? {
        return Err(cursor.unexpected("'('"));
    }
    skip_rest(cursor, &mut ddl)?;
    Ok(Class::Table(ddl))
}

/// After DROP INDEX.
pub(super) fn drop_index(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    cursor.identifier()?;
    cursor.needs("ON")?;
    let mut ddl = TableDdl::of(TableVerb::DropIndex, vec![cursor.table()?]);
    skip_rest(cursor, &mut ddl)?;
    Ok(Class::Table(ddl))
}

/// To the end of a statement whose rest names no table; lexed all the same, for a second statement.
fn skip_rest(cursor: &mut Cursor<'_>, ddl: &mut TableDdl) -> Result<(), Doubt> {
    let mut scan = Scan::default();
    while !cursor.at_end()? {
        if cursor.sees(&["SELECT"])? || cursor.sees(&["TABLE"])? || cursor.sees(&["RENAME"])? {
            return Err(cursor.unexpected("an index option"));
        }
        scan.step(cursor, ddl)?;
    }
    scan.finish(ddl)
}

/// Where in a CREATE or ALTER TABLE the cursor is, and what has been found.
#[derive(Default)]
struct Scan {
    depth: u32,
    /// Table options may stand here.
    options: bool,
    /// Behind PARTITION BY, or among the partitions of an ALTER.
    in_partitions: bool,
    /// Whether the table gets a character set of its own; `None` if the statement does not say.
    own_charset: Option<bool>,
    /// Parents of foreign keys that are named without a database.
    parents: Vec<String>,
    /// Where an ALTER TABLE … RENAME leads.
    renamed_to: Option<TableName>,
}

impl Scan {
    /// At the first word of an ALTER TABLE's change. Behind ADD, CHANGE and the like stand columns and
    /// indexes, whose names may be `engine` or `tablespace`.
    fn begin_spec(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Doubt> {
        const OF_COLUMNS: [&str; 6] = ["ADD", "ALTER", "CHANGE", "DROP", "MODIFY", "RENAME"];
        let mut of_columns = false;
        for word in OF_COLUMNS {
            of_columns |= cursor.sees(&[word])?;
        }
        self.options = !of_columns;
        self.in_partitions = ["ADD", "REORGANIZE", "IMPORT", "DISCARD"]
            .iter()
            .try_fold(false, |found, word| Ok::<_, Doubt>(found || cursor.sees(&[word, "PARTITION"])?))?;
        Ok(())
    }

    /// One step through everything that has no place of its own.
    fn step(&mut self, cursor: &mut Cursor<'_>, ddl: &mut TableDdl) -> Result<(), Doubt> {
        if cursor.takes(&["REFERENCES"])? {
            let first = cursor.identifier()?;
            if cursor.takes_punct(b'.')? {
                ddl.references.push(TableName::new(first, cursor.identifier()?));
            } else {
                self.parents.push(first);
            }
            return Ok(());
        }
        if cursor.takes(&["UNION"])? {
            cursor.takes_punct(b'=')?;
            if !cursor.takes_punct(b'(')? {
                return Err(cursor.unexpected("the list of a MERGE table's tables"));
            }
            if !cursor.takes_punct(b')')? {
                ddl.references.extend(cursor.tables()?);
                if !cursor.takes_punct(b')')? {
                    return Err(cursor.unexpected("')'"));
                }
            }
            ddl.reaches("UNION");
            return Ok(());
        }
        for (what, first) in [("DATA DIRECTORY", "DATA"), ("INDEX DIRECTORY", "INDEX")] {
            if cursor.sees(&[first, "DIRECTORY"])?
                && cursor.peek(2)?.is_some_and(|token| token.is_punct(b'=') || token.kind == TokenKind::Text)
            {
                ddl.reaches(what);
            }
        }
        if calls_load_file(cursor)? {
            ddl.reaches("LOAD_FILE");
        }
        let top = self.depth == 0;
        if top && cursor.sees(&["PARTITION", "BY"])? {
            (self.in_partitions, self.options) = (true, false);
        }
        if top && self.options && self.table_option(cursor, ddl)? {
            return Ok(());
        }
        if self.in_partitions {
            self.partition_option(cursor, ddl)?;
        }
        match cursor.next()?.map(|token| token.kind) {
            Some(TokenKind::Punct(b'(')) => self.depth += 1,
            Some(TokenKind::Punct(b')')) => {
                self.depth = self.depth.checked_sub(1).ok_or("a ')' too many")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, ddl: &mut TableDdl) -> Result<(), Doubt> {
        if self.depth > 0 {
            return Err("a '(' is not closed".into());
        }
        ddl.depends_on_schema_default = self.own_charset == Some(false);
        // Not in the default database but in the child's, in its new one where it is renamed as well (measured).
        let home = self.renamed_to.as_ref().or(ddl.targets.first()).map(|table| table.schema.clone());
        if let Some(home) = home {
            ddl.references.extend(self.parents.iter().map(|parent| TableName::new(&home, parent)));
        }
        Ok(())
    }

    /// Steps over a table option that matters here, if one stands at the cursor.
    fn table_option(&mut self, cursor: &mut Cursor<'_>, ddl: &mut TableDdl) -> Result<bool, Doubt> {
        if cursor.takes(&["ENGINE"])? {
            let engine = option_value(cursor)?;
            if !engine.eq_ignore_ascii_case("InnoDB") {
                ddl.reaches("ENGINE");
            }
            ddl.engine = Some(engine);
            return Ok(true);
        }
        if cursor.takes(&["CHARSET"])?
            || cursor.takes(&["CHARACTER", "SET"])?
            || cursor.takes(&["CHAR", "SET"])?
        {
            // Of an ALTER, CONVERT TO CHARACTER SET DEFAULT too.
            let default = !option_value(cursor)?.eq_ignore_ascii_case("DEFAULT")
                || cursor.previous().is_some_and(|token| token.kind != TokenKind::Word);
            self.own_charset = Some(self.own_charset.unwrap_or(false) || default);
            return Ok(true);
        }
        if cursor.takes(&["COLLATE"])? {
            option_value(cursor)?;
            self.own_charset = Some(true);
            return Ok(true);
        }
        if cursor.takes(&["TABLESPACE"])? {
            // DISCARD TABLESPACE and IMPORT TABLESPACE end here.
            let named = !cursor.at_end()? && !cursor.sees_punct(b',')?;
            if !named || !is_own_file(&option_value(cursor)?) {
                ddl.reaches("TABLESPACE");
            }
            return Ok(true);
        }
        // What every table has that was never given one.
        if cursor.takes(&["SECONDARY_ENGINE"])? {
            cursor.takes_punct(b'=')?;
            if !cursor.takes(&["NULL"])? {
                ddl.reaches("SECONDARY_ENGINE");
            }
            return Ok(true);
        }
        for what in ["CONNECTION", "SECONDARY_LOAD", "SECONDARY_UNLOAD"] {
            if cursor.sees(&[what])? {
                ddl.reaches(what);
            }
        }
        Ok(false)
    }

    fn partition_option(&mut self, cursor: &mut Cursor<'_>, ddl: &mut TableDdl) -> Result<(), Doubt> {
        let named = |cursor: &mut Cursor<'_>, what: &str| {
            let assigned = cursor.sees(&[what])?
                && cursor.peek(1)?.is_some_and(|token| {
                    token.is_punct(b'=') || matches!(token.kind, TokenKind::Word | TokenKind::Quoted)
                });
            Ok::<_, Doubt>(assigned)
        };
        // How many tokens ahead the value is.
        let value = usize::from(cursor.peek(1)?.is_some_and(|token| token.is_punct(b'='))) + 1;
        let own_file = |token: &Token<'_>| str::from_utf8(&token.bytes).is_ok_and(is_own_file);
        if named(cursor, "TABLESPACE")? && !cursor.peek(value)?.is_some_and(own_file) {
            ddl.reaches("TABLESPACE");
        }
        let innodb = |token: &Token<'_>| token.bytes.eq_ignore_ascii_case(b"InnoDB");
        if named(cursor, "ENGINE")? && !cursor.peek(value)?.is_some_and(innodb) {
            ddl.reaches("ENGINE");
        }
        Ok(())
    }
}

/// Whether a call of LOAD_FILE stands at the cursor: in the expression of a default, each row that is inserted would
/// read a file of the server it is inserted at. No server that was measured takes such a definition (3770, 3763, 3814, 3758);
/// that is not relied upon. The name may be in quotes: to the server it is the same function. Letters that only look like
/// these are another's name to it.
fn calls_load_file(cursor: &mut Cursor<'_>) -> Result<bool, Doubt> {
    let is_named = cursor.peek(0)?.is_some_and(|token| {
        matches!(token.kind, TokenKind::Word | TokenKind::Name | TokenKind::Quoted)
            && token.bytes.eq_ignore_ascii_case(b"LOAD_FILE")
    });
    if !is_named || !cursor.peek(1)?.is_some_and(|token| token.is_punct(b'(')) {
        return Ok(false);
    }
    // KEY load_file (a)
    if cursor.back(0).is_some_and(begins_key) {
        return Ok(false);
    }
    // KEY k (load_file(10))
    let is_length = cursor.peek(2)?.is_some_and(|token| token.kind == TokenKind::Number)
        && cursor.peek(3)?.is_some_and(|token| token.is_punct(b')'));
    Ok(!(is_length && is_key_part(cursor)))
}

/// Reserved words behind which a key's name or its columns stand, and no expression.
fn begins_key(token: &Token<'_>) -> bool {
    ["KEY", "INDEX", "UNIQUE", "FULLTEXT", "SPATIAL"].iter().any(|word| token.is_word(word))
}

/// Whether the cursor is in the list of a key's columns, and in no expression there.
fn is_key_part(cursor: &Cursor<'_>) -> bool {
    let mut depth = 0_u32;
    let opens = |token: &Token<'_>| {
        match token.kind {
            TokenKind::Punct(b')') => depth += 1,
            TokenKind::Punct(b'(') if depth == 0 => return true,
            TokenKind::Punct(b'(') => depth -= 1,
            _ => {}
        }
        false
    };
    let Some(open) = cursor.backwards().position(opens) else { return false };
    let before = |n: usize| cursor.back(open + n);
    // `KEY (`, `KEY k (`, `KEY k USING BTREE (`; `ON t (` and `ON g.t (` in a CREATE INDEX.
    let is_behind = |n: usize| {
        before(n).is_some_and(|token| begins_key(token) || token.is_word("USING") || token.is_word("ON"))
    };
    // A column may be `INT UNIQUE DEFAULT (…)`: these words are reserved, and no key's name.
    // And `KEY ((…))`, whose inner bracket opens an expression.
    let begins_expression = before(1).is_some_and(|token| token.is_punct(b'('))
        || before(1).is_some_and(|token| ["DEFAULT", "AS", "CHECK"].iter().any(|word| token.is_word(word)));
    let is_qualified = before(2).is_some_and(|token| token.is_punct(b'.'));
    let is_of_table = is_qualified && before(4).is_some_and(|token| token.is_word("ON"));
    !begins_expression && (is_behind(1) || is_behind(2) || is_of_table)
}

/// The tablespace that every server has, and that is only the table's own file.
fn is_own_file(tablespace: &str) -> bool {
    tablespace.eq_ignore_ascii_case("innodb_file_per_table")
}

/// `[=] value`, the value a word, a quoted name or a string.
pub(super) fn option_value(cursor: &mut Cursor<'_>) -> Result<String, Doubt> {
    cursor.takes_punct(b'=')?;
    if cursor.peek(0)?.is_some_and(|token| token.kind == TokenKind::Text) {
        let text = cursor.next()?.map(|token| token.bytes.to_vec()).unwrap_or_default();
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        // Names of engines and collations are plain; what needs escapes is none of them.
        if !inner.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
            return Err("an option's value that is no plain name".into());
        }
        return Ok(String::from_utf8_lossy(inner).into_owned());
    }
    cursor.identifier()
}
