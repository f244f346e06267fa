//! Names of tables, and the table set: which tables travel.
//!
//! A name is what the server stores: case kept, never quoted, compared byte for byte (a source with another
//! lower_case_table_names than 0 is refused: its statements carry names as they were typed). In text a name is `g.apps`; a
//! name with a dot or a backquote in it is written in backquotes, so that text and name round-trip.
//! Refused here: names that no server can have, patterns that reach into the server's own schemas, and an
//! empty set.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::hex::hex;

#[cfg(test)]
mod tests;

/// Schemas that are the server's own or ours; no pattern and no name reaches into them.
pub const SYSTEM_SCHEMAS: [&str; 5] =
    ["mysql", "sys", "information_schema", "performance_schema", "tablecast"];

/// The longest identifier, in characters (<https://dev.mysql.com/doc/refman/8.4/en/identifier-length.html>).
const MAX_IDENTIFIER: usize = 64;

/// A table by schema and name, as the server stores them (case kept, never quoted).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// The name as SQL: `` `g`.`apps` ``, backquotes doubled.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// The table that a restore loads in the place of `table`, until it takes its name.
///
/// It lies in the table's own schema, because a RENAME takes no triggers across schemas; its name follows from the
/// table's alone, so that grants can be given for it, and a later run finds what a killed one left.
pub fn shadow_name(table: &TableName) -> TableName {
    own_name(table, "new")
}

/// The name that `table` has, once its shadow has taken its place, until it is dropped.
pub fn old_name(table: &TableName) -> TableName {
    own_name(table, "old")
}

fn own_name(table: &TableName, role: &str) -> TableName {
    let digest = Sha256::digest(table.to_string());
    TableName::new(&table.schema, format!("{OWN}{}_{role}", hex(&digest[..8])))
}

const OWN: &str = "_tablecast_";

/// Whether the name has the form of [`shadow_name`] or [`old_name`]: a table of ours, whatever the schema.
pub fn is_own(table: &TableName) -> bool {
    let digits =
        |rest: &str| rest.strip_suffix("_new").or_else(|| rest.strip_suffix("_old")).map(str::to_owned);
    let digits = table.table.strip_prefix(OWN).and_then(digits);
    digits.is_some_and(|digits| {
        digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// An identifier as SQL, in backquotes.
pub fn quote(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}

/// Whether the schema belongs to the server or to Tablecast. Case is ignored: on a server with
/// lower_case_table_names=1 `MySQL` is `mysql`, and nobody else should want that name.
pub fn is_system_schema(schema: &str) -> bool {
    SYSTEM_SCHEMAS.iter().any(|system| system.eq_ignore_ascii_case(schema))
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.schema)?;
        f.write_str(".")?;
        write_part(f, &self.table)
    }
}

/// Plain where that reads back as the same name, else in backquotes.
fn write_part(f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
    let odd = |c: char| matches!(c, '.' | '`' | '*' | '"' | '\'') || c.is_whitespace() || c.is_control();
    if part.is_empty() || part.contains(odd) { f.write_str(&quote(part)) } else { f.write_str(part) }
}

impl FromStr for TableName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.parse()? {
            TablePattern::Table(name) => Ok(name),
            TablePattern::Schema(_) => Err(Error::new(
                Kind::Usage,
                format!("read the table name '{text}': a pattern stands where one table is wanted"),
            )
            .hint("name the table: schema.table")),
        }
    }
}

/// One line of a table set: a table, or every base table of a schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TablePattern {
    /// `g.apps`
    Table(TableName),
    /// `g.*`
    Schema(String),
}

impl TablePattern {
    pub fn schema(&self) -> &str {
        match self {
            TablePattern::Table(name) => &name.schema,
            TablePattern::Schema(schema) => schema,
        }
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TablePattern::Table(name) => name.fmt(f),
            TablePattern::Schema(schema) => {
                write_part(f, schema)?;
                f.write_str(".*")
            }
        }
    }
}

impl FromStr for TablePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: String| {
            Error::new(Kind::Usage, format!("read the table name '{text}': {why}"))
                .hint("write schema.table, or schema.* for every table of a schema; a name with a dot in it goes in backquotes: `g`.`a.b`")
        };
        let (schema, rest) = split_part(text).map_err(bad)?;
        let Some(rest) = rest.strip_prefix('.') else {
            return Err(bad("it needs schema.table, and there is no schema".into()));
        };
        check_identifier(&schema).map_err(bad)?;
        if rest == "*" {
            return Ok(TablePattern::Schema(schema));
        }
        let (table, rest) = split_part(rest).map_err(bad)?;
        if !rest.is_empty() {
            return Err(bad(format!("'{rest}' follows the table's name")));
        }
        check_identifier(&table).map_err(bad)?;
        Ok(TablePattern::Table(TableName { schema, table }))
    }
}

/// One part of a name, plain or in backquotes, and what follows it.
fn split_part(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('`') else {
        let (part, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
        if let Some(odd) = part.chars().find(|c| matches!(c, '`' | '*' | '"' | '\'') || c.is_whitespace()) {
            return Err(format!("'{odd}' cannot stand in a name outside backquotes"));
        }
        return Ok((part.to_string(), rest));
    };
    let mut part = String::new();
    let mut rest = quoted;
    loop {
        let Some(at) = rest.find('`') else { return Err("a backquote is not closed".into()) };
        part.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('`') {
            Some(more) => {
                part.push('`');
                rest = more;
            }
            None => return Ok((part, rest)),
        }
    }
}

/// What no server accepts as the name of a schema or table. Limits:
/// <https://dev.mysql.com/doc/refman/8.4/en/identifiers.html>
fn check_identifier(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a part of it is empty".into());
    }
    if name.chars().count() > MAX_IDENTIFIER {
        return Err(format!("a part of it has more than {MAX_IDENTIFIER} characters"));
    }
    if let Some(c) = name.chars().find(|&c| c == '\0' || u32::from(c) > 0xFFFF) {
        return Err(format!("MySQL allows no U+{:04X} in a name", u32::from(c)));
    }
    if name.ends_with(' ') {
        return Err("MySQL allows no name that ends in a space".into());
    }
    Ok(())
}

/// The tables that travel. Never empty, never a table of [`SYSTEM_SCHEMAS`].
///
/// A schema pattern names every table of its schema except those whose name has the form of a ghost table
/// (`_apps_gho`): these are admitted as ghosts, unless they are listed by name. Tables of our own ([`is_own`]) are
/// never admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSet {
    patterns: BTreeSet<TablePattern>,
    tables: BTreeSet<TableName>,
    whole_schemas: BTreeSet<String>,
}

impl TableSet {
    pub fn new(patterns: impl IntoIterator<Item = TablePattern>) -> Result<Self> {
        let patterns: BTreeSet<TablePattern> = patterns.into_iter().collect();
        if patterns.is_empty() {
            return Err(Error::new(Kind::Usage, "read the table set: it is empty")
                .hint("list at least one table, for example tables = [\"g.apps\"]"));
        }
        if let Some(pattern) = patterns.iter().find(|pattern| is_system_schema(pattern.schema())) {
            return Err(Error::new(
                Kind::Usage,
                format!("read the table set: {pattern} is in a schema of the server's or of tablecast's own"),
            )
            .hint("list tables of your own schemas only"));
        }
        let (mut tables, mut whole_schemas) = (BTreeSet::new(), BTreeSet::new());
        for pattern in &patterns {
            match pattern {
                TablePattern::Table(name) => drop(tables.insert(name.clone())),
                TablePattern::Schema(schema) => drop(whole_schemas.insert(schema.clone())),
            }
        }
        Ok(Self { patterns, tables, whole_schemas })
    }

    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self> {
        let patterns: Vec<TablePattern> =
            texts.iter().map(|text| text.as_ref().parse()).collect::<Result<_>>()?;
        Self::new(patterns)
    }

    /// Every name and pattern of both.
    pub fn union(&self, other: &TableSet) -> TableSet {
        let mut all = self.clone();
        all.patterns.extend(other.patterns.iter().cloned());
        all.tables.extend(other.tables.iter().cloned());
        all.whole_schemas.extend(other.whole_schemas.iter().cloned());
        all
    }

    pub fn patterns(&self) -> impl Iterator<Item = &TablePattern> {
        self.patterns.iter()
    }

    /// The tables that are listed by name.
    pub fn listed(&self) -> impl Iterator<Item = &TableName> {
        self.tables.iter()
    }

    /// Whether the table is one of the set itself; a ghost of one is not.
    pub fn names(&self, table: &TableName) -> bool {
        !is_own(table)
            && (self.tables.contains(table)
                || (self.whole_schemas.contains(&table.schema) && ghost_bases(&table.table).is_empty()))
    }

    /// The table of the set that this table is a ghost of: gh-ost's `_t_gho`, `_t_ghc`, `_t_del` and
    /// `_t_<14 digits>_del`, pt-online-schema-change's `_t_new` and `_t_old`. A table that is listed by name
    /// is nobody's ghost.
    pub fn ghost_of(&self, table: &TableName) -> Option<TableName> {
        if self.tables.contains(table) || is_own(table) {
            return None;
        }
        let bases = ghost_bases(&table.table);
        for base in &bases {
            let base = TableName::new(&table.schema, *base);
            if self.tables.contains(&base) {
                return Some(base);
            }
        }
        // gh-ost cuts the table's name where the ghost's would be longer than MySQL allows.
        if table.table.len() == MAX_IDENTIFIER {
            let of_cut = |t: &&TableName| {
                t.schema == table.schema && bases.iter().any(|base| t.table.starts_with(base))
            };
            if let Some(base) = self.tables.iter().find(of_cut) {
                return Some(base.clone());
            }
        }
        let base = bases.first().filter(|_| self.whole_schemas.contains(&table.schema))?;
        Some(TableName::new(&table.schema, *base))
    }

    /// Whether the table may travel: of the set, or a ghost of a table of it.
    pub fn admits(&self, table: &TableName) -> bool {
        self.names(table) || self.ghost_of(table).is_some()
    }

    /// Whether some pattern lives in that schema.
    pub fn has_schema(&self, schema: &str) -> bool {
        self.whole_schemas.contains(schema) || self.tables.iter().any(|table| table.schema == schema)
    }

    /// Whether every table of the schema, now and later, is in the set.
    pub fn has_whole_schema(&self, schema: &str) -> bool {
        self.whole_schemas.contains(schema)
    }

    pub fn schemas(&self) -> BTreeSet<String> {
        self.patterns.iter().map(|pattern| pattern.schema().to_string()).collect()
    }

    /// Whether every table that this set admits is admitted by the larger one.
    pub fn is_within(&self, larger: &TableSet) -> bool {
        self.whole_schemas.is_subset(&larger.whole_schemas)
            && self.tables.iter().all(|table| larger.admits(table))
    }

    /// Whether there can be a table that both sets admit.
    pub fn intersects(&self, other: &TableSet) -> bool {
        self.whole_schemas.iter().any(|schema| other.has_schema(schema))
            || other.whole_schemas.iter().any(|schema| self.has_schema(schema))
            || self.tables.iter().any(|table| other.admits(table))
            || other.tables.iter().any(|table| self.admits(table))
    }
}

/// How often pt-online-schema-change puts an underscore before a name that is taken.
const UNDERSCORES: usize = 10;

/// The names that an online migration of this table may give to tables beside it; `ghost_bases` reads them back.
/// Those with a time in them (`_t_20251121081530_del`) are [`timed_ghost`]s.
pub fn ghost_names(table: &TableName) -> Vec<TableName> {
    let named = |name: String| TableName::new(&table.schema, name);
    let base = &table.table;
    let gh_ost =
        ["_gho", "_ghc", "_del"].map(|suffix| named(format!("_{}{suffix}", cut(base, suffix.len() + 1))));
    let prefixed = (1..=UNDERSCORES)
        .flat_map(|count| ["_new", "_old"].map(|suffix| format!("{}{base}{suffix}", "_".repeat(count))));
    // A name too long is not tried; gh-ost cuts it.
    let percona = prefixed.filter(|name| name.chars().count() <= MAX_IDENTIFIER).map(named);
    gh_ost.into_iter().chain(percona).collect()
}

/// What stands before and behind the 14 digits in the name that gh-ost's --timestamp-old-table gives the old table.
pub fn timed_ghost(table: &TableName) -> (String, &'static str) {
    (format!("_{}_", cut(&table.table, "__20251121081530_del".len())), "_del")
}

/// As much of a name as leaves room for `more` bytes, as gh-ost cuts it.
fn cut(base: &str, more: usize) -> &str {
    let mut end = base.len().min(MAX_IDENTIFIER.saturating_sub(more));
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    &base[..end]
}

/// The tables whose ghost this name may be, most likely first. Names as formed by gh-ost
/// (go/base/context.go, getSafeTableName) and pt-online-schema-change (--new-table-name `%T_new`, and
/// `_old`; both prefixed with `_`, more of them where the name is taken, at most ten).
fn ghost_bases(table: &str) -> Vec<&str> {
    let mut bases = Vec::new();
    let Some(rest) = table.strip_prefix('_') else { return bases };
    for suffix in ["_gho", "_ghc", "_del"] {
        if let Some(base) = rest.strip_suffix(suffix) {
            bases.extend(without_timestamp(base).filter(|_| suffix == "_del"));
            bases.push(base);
        }
    }
    for suffix in ["_new", "_old"] {
        if let Some(mut base) = rest.strip_suffix(suffix) {
            bases.push(base);
            for _ in 1..UNDERSCORES {
                let Some(shorter) = base.strip_prefix('_') else { break };
                bases.push(shorter);
                base = shorter;
            }
        }
    }
    bases.retain(|base| !base.is_empty());
    bases
}

/// `apps` of `apps_20251121081530` (gh-ost --timestamp-old-table).
fn without_timestamp(base: &str) -> Option<&str> {
    let (name, digits) = base.rsplit_once('_')?;
    (digits.len() == 14 && digits.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty()).then_some(name)
}

impl TryFrom<Vec<TablePattern>> for TableSet {
    type Error = Error;

    fn try_from(patterns: Vec<TablePattern>) -> Result<Self> {
        Self::new(patterns)
    }
}

impl fmt::Display for TableSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pattern) in self.patterns.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            pattern.fmt(f)?;
        }
        Ok(())
    }
}

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|error: Error| serde::de::Error::custom(with_hint(&error)))
            }
        }
    )*};
}

serde_as_text!(TableName, TablePattern);

impl Serialize for TableSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.patterns.iter())
    }
}

impl<'de> Deserialize<'de> for TableSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let patterns = Vec::<TablePattern>::deserialize(deserializer)?;
        TableSet::new(patterns).map_err(|error| serde::de::Error::custom(with_hint(&error)))
    }
}

/// serde's errors have no place for a hint, so it goes into the message.
fn with_hint(error: &Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}
