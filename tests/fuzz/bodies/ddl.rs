//! The classifier of statements: whatever it accepts, it accepts in the same way however it is spaced.
//!
//! Three bytes before the text say the collation of the client and the bits of `sql_mode` that a lexer looks at.

use tablecast::binlog::charset::Charset;
use tablecast::binlog::ddl::shown::Shown;
use tablecast::binlog::ddl::{Class, Statement, checksum_table, classify};
use tablecast::binlog::name::TableName;

const ANSI_QUOTES: u64 = 4;
const NO_BACKSLASH_ESCAPES: u64 = 0x10_0000;

pub fn ddl(data: &[u8]) {
    let [low, high, mode, text @ ..] = data else { return };
    let Ok(charset) = Charset::of_collation(u16::from_le_bytes([*low, *high])) else { return };
    let bit = |bit: u8, mask: u64| if mode & bit != 0 { mask } else { 0 };
    let sql_mode = bit(1, ANSI_QUOTES) | bit(2, NO_BACKSLASH_ESCAPES);
    let statement = Statement { text, default_schema: "d", charset, sql_mode };
    let _ = checksum_table(&statement);
    if let Ok(text) = std::str::from_utf8(text)
        && let Ok(shown) = Shown::parse(&TableName::new("g", "apps"), text)
    {
        assert_eq!(shown.text(), text);
    }
    let Ok(class) = classify(&statement) else { return };
    sound(&class);
    // What stands before and behind a statement changes nothing; a character of two bytes that the end cuts would, and
    // NULs are passed over at the end alone.
    let is_whole = matches!(charset, Charset::Utf8 | Charset::Ascii | Charset::Binary | Charset::Single(_))
        && !text.ends_with(b"\0");
    let spaced = |before: &[u8], after: &[u8]| [before, text, after].concat();
    // A statement of transactions that has a comment is refused on purpose.
    let comments: &[&[u8]] = if of_a_transaction(&class) { &[] } else { &[b"/* x */", b"-- x\n"] };
    for before in [b" \t\n".as_slice()].iter().chain(comments) {
        let text = spaced(before, b"");
        let again = classify(&Statement { text: &text, ..statement });
        assert_eq!(again.as_ref().ok(), Some(&class), "with something before it: {again:?}");
    }
    if is_whole {
        let text = spaced(b"", b"\n ");
        let again = classify(&Statement { text: &text, ..statement });
        assert_eq!(again.as_ref().ok(), Some(&class), "with something behind it: {again:?}");
    }
}

fn of_a_transaction(class: &Class) -> bool {
    !matches!(
        class,
        Class::Table(_)
            | Class::Schema(_)
            | Class::Maintenance { .. }
            | Class::Other(_)
            | Class::RowStatement { .. }
    )
}

fn sound(class: &Class) {
    let named = |tables: &[TableName]| {
        assert!(tables.iter().all(|table| !table.schema.is_empty() && !table.table.is_empty()), "{class:?}");
    };
    match class {
        Class::Table(ddl) => {
            assert!(!ddl.targets.is_empty(), "{class:?}: DDL on no table");
            named(&ddl.targets);
            named(&ddl.references);
            for (from, to) in ddl.renames() {
                assert!(ddl.targets.contains(&from) && ddl.targets.contains(&to), "{class:?}");
            }
            assert!(ddl.gone().iter().all(|gone| ddl.targets.contains(gone)), "{class:?}");
        }
        Class::Schema(ddl) => assert!(!ddl.schema.is_empty(), "{class:?}"),
        Class::Maintenance { tables, .. } | Class::RowStatement { tables, .. } => named(tables),
        _ => {}
    }
}
