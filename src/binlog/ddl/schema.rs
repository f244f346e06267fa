//! DDL on databases.

use super::cursor::Cursor;
use super::lexer::Doubt;
use super::table::option_value;
use super::{Class, SchemaDdl, SchemaVerb};

/// After CREATE DATABASE.
pub(super) fn create(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    cursor.takes(&["IF", "NOT", "EXISTS"])?;
    let schema = cursor.identifier()?;
    options(cursor, SchemaVerb::Create, schema)
}

/// After ALTER DATABASE; the name may be missing: the default database.
pub(super) fn alter(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    const OPTIONS: [&str; 6] = ["DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "ENCRYPTION", "READ"];
    let mut unnamed = false;
    for option in OPTIONS {
        unnamed |= cursor.sees(&[option])?;
    }
    if !unnamed {
        let schema = cursor.identifier()?;
        return options(cursor, SchemaVerb::Alter, schema);
    }
    let schema = cursor.default_schema().to_string();
    if schema.is_empty() {
        return Err("it names no database, and there was no default one".into());
    }
    options(cursor, SchemaVerb::Alter, schema)
}

/// After DROP DATABASE.
pub(super) fn drop_schema(cursor: &mut Cursor<'_>) -> Result<Class, Doubt> {
    cursor.takes(&["IF", "EXISTS"])?;
    let schema = cursor.identifier()?;
    cursor.needs_end()?;
    Ok(Class::Schema(SchemaDdl { verb: SchemaVerb::Drop, schema, charset: None, collation: None }))
}

fn options(cursor: &mut Cursor<'_>, verb: SchemaVerb, schema: String) -> Result<Class, Doubt> {
    let mut ddl = SchemaDdl { verb, schema, charset: None, collation: None };
    while !cursor.at_end()? {
        cursor.takes(&["DEFAULT"])?;
        if cursor.takes(&["CHARSET"])?
            || cursor.takes(&["CHARACTER", "SET"])?
            || cursor.takes(&["CHAR", "SET"])?
        {
            ddl.charset = Some(option_value(cursor)?.to_ascii_lowercase());
        } else if cursor.takes(&["COLLATE"])? {
            ddl.collation = Some(option_value(cursor)?.to_ascii_lowercase());
        } else if cursor.takes(&["ENCRYPTION"])? {
            option_value(cursor)?;
        } else if cursor.takes(&["READ", "ONLY"])? {
            cursor.takes_punct(b'=')?;
            cursor.next()?;
        } else {
            return Err(cursor.unexpected("an option of a database"));
        }
    }
    Ok(Class::Schema(ddl))
}
