//! A CREATE TABLE as a server shows it, taken apart: columns, keys and constraints as pieces of the text, so that
//! the same table can be made under another name, and its keys be added later.
//!
//! `store_create_info` in sql/sql_show.cc writes it: one parenthesised list of columns, then keys, then
//! constraints, each with its name, and options behind the list. What is not written so is refused. Names are found
//! by the lexer that classifies statements, never by searching text; what is put together again from the pieces is
//! still to be classified by whoever runs it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Statement;
use super::lexer::{Doubt, Lexer, Token, TokenKind, Versioned};
use crate::binlog::charset::Charset;
use crate::binlog::name::{TableName, quote};
use crate::error::{Error, Kind, Result};

/// A definition and where its pieces lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub table: TableName,
    text: String,
    /// The table's name.
    name: Range<usize>,
    /// Columns, keys and constraints, in the order of the text.
    pub items: Vec<Item>,
    /// From the closing parenthesis on.
    tail: usize,
}

/// One piece of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    span: Range<usize>,
    pub what: What,
}

/// What a piece is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Column {
        name: String,
        auto_increment: bool,
    },
    Primary {
        first: Option<String>,
    },
    Key {
        unique: bool,
        /// Neither FULLTEXT nor SPATIAL, and columns only, no expressions.
        plain: bool,
        /// The first column; `None`: an expression.
        first: Option<String>,
    },
    ForeignKey {
        name: String,
        at: Range<usize>,
        parent: TableName,
        parent_at: Range<usize>,
    },
    Check {
        name: String,
        at: Range<usize>,
    },
}

/// Other names for what a definition names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Tables that foreign keys point at.
    pub parents: BTreeMap<TableName, TableName>,
    pub constraints: BTreeMap<String, String>,
}

struct Piece<'a> {
    token: Token<'a>,
    span: Range<usize>,
}

impl Shown {
    /// Takes the definition of `table` apart. It is read in UTF-8 and without any sql_mode.
    pub fn parse(table: &TableName, text: &str) -> Result<Shown> {
        read(table, text).map_err(|doubt| {
            Error::new(
                Kind::Gate,
                format!("read the definition of {table}: it is not as a server shows it: {doubt}"),
            )
        })
    }

    /// The statement that makes the table as `to`, with those items that `keep` wants.
    pub fn create(&self, to: &TableName, keep: impl Fn(&Item) -> bool, names: &Names) -> String {
        let kept: Vec<String> =
            self.items.iter().filter(|item| keep(item)).map(|item| self.item(item, names)).collect();
        format!(
            "{}{}{} (\n  {}\n{}",
            &self.text[..self.name.start],
            quote(&to.schema) + ".",
            quote(&to.table),
            kept.join(",\n  "),
            &self.text[self.tail..]
        )
    }

    /// An item's text under other names.
    pub fn item(&self, item: &Item, names: &Names) -> String {
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        if let What::ForeignKey { name, at, .. } | What::Check { name, at } = &item.what
            && let Some(other) = names.constraints.get(name)
        {
            edits.push((at.clone(), quote(other)));
        }
        if let What::ForeignKey { parent, parent_at, .. } = &item.what
            && let Some(other) = names.parents.get(parent)
        {
            // As the server shows it: without the schema where that is the child's own.
            let schema = (other.schema != self.table.schema).then(|| quote(&other.schema) + ".");
            edits.push((parent_at.clone(), schema.unwrap_or_default() + &quote(&other.table)));
        }
        let (mut out, mut at) = (String::new(), item.span.start);
        for (span, text) in edits {
            out.push_str(&self.text[at..span.start]);
            out.push_str(&text);
            at = span.end;
        }
        out.push_str(&self.text[at..item.span.end]);
        out
    }

    /// What tells two definitions apart, whatever their tables are called: everything in order, but constraints
    /// sorted, which servers list by name.
    pub fn content(&self, names: &Names) -> Vec<String> {
        let is_constraint = |item: &&Item| matches!(item.what, What::ForeignKey { .. } | What::Check { .. });
        let text = |item: &Item| self.item(item, names);
        let mut content: Vec<String> =
            self.items.iter().filter(|item| !is_constraint(item)).map(text).collect();
        let mut constraints: Vec<String> = self.items.iter().filter(is_constraint).map(text).collect();
        constraints.sort();
        content.append(&mut constraints);
        content.push(self.text[self.tail..].trim_end().to_owned());
        content
    }

    /// The text that was taken apart.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Tables that its foreign keys point at.
    pub fn parents(&self) -> impl Iterator<Item = &TableName> {
        self.items.iter().filter_map(|item| match &item.what {
            What::ForeignKey { parent, .. } => Some(parent),
            _ => None,
        })
    }
}

/// Whether the server has made this constraint's name itself, `<table><infix><n>`: such a name follows a RENAME of
/// the table (`is_generated_foreign_key_name`, `is_generated_check_constraint_name` in sql/). Returns its number.
pub fn generated<'a>(table: &str, infix: &str, name: &'a str) -> Option<&'a str> {
    let number = name.strip_prefix(table)?.strip_prefix(infix)?;
    (!number.is_empty() && !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit()))
        .then_some(number)
}

fn read(table: &TableName, text: &str) -> Result<Shown, Doubt> {
    let statement = Statement {
        text: text.as_bytes(),
        default_schema: &table.schema,
        charset: Charset::Utf8,
        sql_mode: 0,
    };
    let mut lexer = Lexer::new(&statement, Versioned::Code)?;
    let mut pieces = Vec::new();
    while let Some(token) = lexer.next()? {
        pieces.push(Piece { token, span: lexer.span() });
    }
    let is = |at: usize, keyword: &str| pieces.get(at).is_some_and(|piece| piece.token.is_word(keyword));
    if !is(0, "CREATE") || !is(1, "TABLE") {
        return Err("it does not begin with CREATE TABLE".into());
    }
    let (name, name_span, mut at) = table_at(&pieces, 2, table)?;
    if name != *table {
        return Err(format!("it makes {name}"));
    }
    if !pieces.get(at).is_some_and(|piece| piece.token.is_punct(b'(')) {
        return Err("no list of columns follows the name".into());
    }
    let mut from = pieces[at].span.end;
    at += 1;
    let (mut depth, mut first) = (1, at);
    let mut items = Vec::new();
    loop {
        let Some(piece) = pieces.get(at) else { return Err("the list of columns is not closed".into()) };
        match piece.token.kind {
            TokenKind::Punct(b'(') => depth += 1,
            TokenKind::Punct(b')') => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && piece.token.is_punct(b',')) {
            let span = trimmed(text, from..piece.span.start);
            items.push(Item { span, what: what(&pieces[first..at], table)? });
            (from, first) = (piece.span.end, at + 1);
        }
        if depth == 0 {
            let tail = piece.span.start;
            return Ok(Shown { table: table.clone(), text: text.to_owned(), name: name_span, items, tail });
        }
        at += 1;
    }
}

fn trimmed(text: &str, span: Range<usize>) -> Range<usize> {
    let inner = &text[span.clone()];
    let begin = span.start + (inner.len() - inner.trim_start().len());
    begin..begin + inner.trim().len()
}

/// A quoted name at `at`.
fn quoted(pieces: &[Piece<'_>], at: usize) -> Result<String, Doubt> {
    match pieces.get(at) {
        Some(piece) if piece.token.kind == TokenKind::Quoted => {
            Ok(String::from_utf8_lossy(&piece.token.bytes).into_owned())
        }
        _ => Err("a name is not in backquotes".into()),
    }
}

/// A table's name at `at`, where it lies, and what comes behind it.
fn table_at(
    pieces: &[Piece<'_>],
    at: usize,
    home: &TableName,
) -> Result<(TableName, Range<usize>, usize), Doubt> {
    let first = quoted(pieces, at)?;
    if !pieces.get(at + 1).is_some_and(|piece| piece.token.is_punct(b'.')) {
        return Ok((TableName::new(&home.schema, first), pieces[at].span.clone(), at + 1));
    }
    let second = quoted(pieces, at + 2)?;
    let span = pieces[at].span.start..pieces[at + 2].span.end;
    Ok((TableName::new(first, second), span, at + 3))
}

/// What the tokens of one item say.
fn what(pieces: &[Piece<'_>], table: &TableName) -> Result<What, Doubt> {
    let is = |at: usize, keyword: &str| pieces.get(at).is_some_and(|piece| piece.token.is_word(keyword));
    let key = |unique: bool, plain: bool, at: usize| -> Result<What, Doubt> {
        quoted(pieces, at)?;
        let (first, columns_only) = key_parts(pieces)?;
        Ok(What::Key { unique, plain: plain && columns_only, first })
    };
    if pieces.first().is_some_and(|piece| piece.token.kind == TokenKind::Quoted) {
        let auto_increment = pieces.iter().any(|piece| piece.token.is_word("AUTO_INCREMENT"));
        return Ok(What::Column { name: quoted(pieces, 0)?, auto_increment });
    }
    if is(0, "PRIMARY") && is(1, "KEY") {
        return Ok(What::Primary { first: key_parts(pieces)?.0 });
    }
    if is(0, "KEY") {
        return key(false, true, 1);
    }
    if is(0, "UNIQUE") && is(1, "KEY") {
        return key(true, true, 2);
    }
    if (is(0, "FULLTEXT") || is(0, "SPATIAL")) && is(1, "KEY") {
        return key(false, false, 2);
    }
    if is(0, "CONSTRAINT") {
        let name = quoted(pieces, 1)?;
        let at = pieces[1].span.clone();
        if is(2, "CHECK") {
            return Ok(What::Check { name, at });
        }
        if is(2, "FOREIGN") && is(3, "KEY") {
            let references = (4..pieces.len()).find(|&at| is(at, "REFERENCES"));
            let Some(references) = references else { return Err("a foreign key without a parent".into()) };
            let (parent, parent_at, _) = table_at(pieces, references + 1, table)?;
            return Ok(What::ForeignKey { name, at, parent, parent_at });
        }
    }
    let beginning = pieces.first().map(|piece| String::from_utf8_lossy(&piece.token.bytes).into_owned());
    Err(format!("{:?} begins neither a column nor a key nor a constraint", beginning.unwrap_or_default()))
}

/// The first column of a key, and whether it has columns only.
fn key_parts(pieces: &[Piece<'_>]) -> Result<(Option<String>, bool), Doubt> {
    let Some(open) = pieces.iter().position(|piece| piece.token.is_punct(b'(')) else {
        return Err("a key without columns".into());
    };
    let begins = |at: &usize| {
        matches!(pieces[*at].token.kind, TokenKind::Punct(b'(' | b','))
            && pieces.get(at + 1).is_some_and(|piece| piece.token.is_punct(b'('))
    };
    let columns_only = !(open..pieces.len()).any(|at| begins(&at));
    Ok((quoted(pieces, open + 1).ok(), columns_only))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE `a,b` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `x` varchar(9) DEFAULT 'KEY (`x`),' \
        COMMENT 'CONSTRAINT `c` CHECK (1)',\n  `g` int GENERATED ALWAYS AS ((`id` + 1)) VIRTUAL /*!80023 INVISIBLE */,\n  \
        PRIMARY KEY (`id`),\n  UNIQUE KEY `u` (`x`(3)),\n  KEY `e` ((`id` + 1),`x`),\n  KEY `k` (`x`,`id` DESC) /*!80000 \
        INVISIBLE */,\n  FULLTEXT KEY `f` (`x`),\n  CONSTRAINT `a,b_ibfk_1` FOREIGN KEY (`id`) REFERENCES `p``q` (`id`) ON \
        DELETE CASCADE,\n  CONSTRAINT `mine` FOREIGN KEY (`g`) REFERENCES `h`.`p` (`id`),\n  CONSTRAINT `a,b_chk_1` CHECK \
        ((`id` > 0))\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='(`id`)'\n/*!50100 PARTITION BY KEY (`id`) */";

    fn shown() -> Shown {
        Shown::parse(&TableName::new("g", "a,b"), TABLE).unwrap()
    }

    #[test]
    fn a_definition_is_the_sum_of_its_items() {
        let shown = shown();
        assert_eq!(shown.items.len(), 11);
        let same = shown.create(&shown.table, |_| true, &Names::default());
        assert_eq!(same.replace("`g`.", ""), TABLE);
        assert!(matches!(&shown.items[0].what, What::Column { name, auto_increment: true } if name == "id"));
        assert!(matches!(&shown.items[1].what, What::Column { auto_increment: false, .. }));
        assert!(matches!(&shown.items[3].what, What::Primary { first: Some(first) } if first == "id"));
        assert!(
            matches!(&shown.items[4].what, What::Key { unique: true, plain: true, first: Some(first) } if first == "x")
        );
        assert!(matches!(&shown.items[5].what, What::Key { unique: false, plain: false, first: None }));
        assert!(matches!(&shown.items[6].what, What::Key { plain: true, .. }));
        assert!(matches!(&shown.items[7].what, What::Key { plain: false, .. }));
        let parents: Vec<_> = shown.parents().map(ToString::to_string).collect();
        assert_eq!(parents, ["g.`p`q`".replace("`q", "``q"), "h.p".to_owned()]);
    }

    #[test]
    fn names_are_replaced_where_they_are_names_and_nowhere_else() {
        let shown = shown();
        let mut names = Names::default();
        names.parents.insert(TableName::new("g", "p`q"), TableName::new("g", "_new"));
        names.parents.insert(TableName::new("h", "p"), TableName::new("h", "_other"));
        names.constraints.insert("mine".into(), "tmp".into());
        names.constraints.insert("c".into(), "wrong".into());
        let text = shown.create(
            &TableName::new("g", "new`t"),
            |item| !matches!(item.what, What::Key { .. }),
            &names,
        );
        assert!(text.starts_with("CREATE TABLE `g`.`new``t` (\n  `id` int"), "{text}");
        assert!(text.contains("CONSTRAINT `tmp` FOREIGN KEY (`g`) REFERENCES `h`.`_other` (`id`)"), "{text}");
        assert!(
            text.contains("CONSTRAINT `a,b_ibfk_1` FOREIGN KEY (`id`) REFERENCES `_new` (`id`) ON"),
            "{text}"
        );
        assert!(text.contains("COMMENT 'CONSTRAINT `c` CHECK (1)'"), "{text}");
        assert!(!text.contains("KEY `k`") && text.contains("DEFAULT 'KEY (`x`),'"), "{text}");
        assert!(text.ends_with("COMMENT='(`id`)'\n/*!50100 PARTITION BY KEY (`id`) */"), "{text}");
    }

    /// I6.
    #[test]
    fn what_no_server_shows_is_refused() {
        for text in [
            "",
            "CREATE TABLE `t`",
            "CREATE TABLE `t` (`id` int",
            "CREATE TABLE t (`id` int)",
            "CREATE TABLE `u` (`id` int)",
            "CREATE TABLE `h`.`t` (`id` int)",
            "CREATE TABLE `t` (id int)",
            "CREATE TABLE `t` (`id` int, INDEX `k` (`id`))",
            "CREATE TABLE `t` (`id` int, CONSTRAINT CHECK (1))",
            "CREATE TABLE `t` (`id` int, CHECK (1))",
            "CREATE TABLE `t` (`id` int); DROP TABLE `p`",
            "DROP TABLE `t`",
        ] {
            let error = Shown::parse(&TableName::new("g", "t"), text).expect_err(text);
            assert_eq!(error.kind(), Kind::Gate, "{text}");
        }
    }

    #[test]
    fn generated_names_are_those_that_follow_a_rename() {
        assert_eq!(generated("t", "_ibfk_", "t_ibfk_12"), Some("12"));
        for name in ["t_ibfk_", "t_ibfk_01", "t_ibfk_x", "u_ibfk_1", "t_chk_1", "fk"] {
            assert_eq!(generated("t", "_ibfk_", name), None, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "CREATE TABLE `t` \\([()'`\"/* ,=\\\\é\na-c]{0,40}(CONSTRAINT `a`|KEY `k`|REFERENCES)?[()'` a]{0,9}") {
            let _ = Shown::parse(&TableName::new("g", "t"), &text);
        }
    }
}
