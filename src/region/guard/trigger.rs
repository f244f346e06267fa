//! The guard's triggers as SQL: three to a table, BEFORE INSERT, UPDATE and DELETE, each an error that says where
//! the table is written. Row events, and with them `apply`, fire no triggers; INSERT IGNORE, REPLACE and LOAD DATA do.
//!
//! Names are one to a schema and stay with a table that is renamed, so a ghost that has taken its table's place has
//! the ghost's name still: who looks for the guard of a table looks at what the trigger is on, never at its name.
//! Nor at its text: `information_schema` shows literals without the quotes inside them (measured on 9.7). What a
//! trigger says and whose it is stands in its CLASS_ORIGIN, as two digests.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::binlog::name::{TableName, quote};
use crate::hex::hex;

/// What the names of the guard's triggers begin with.
pub const PREFIX: &str = "tablecast_guard_";

/// The longest MESSAGE_TEXT, in characters
/// (<https://dev.mysql.com/doc/refman/8.4/en/signal.html#signal-condition-information-items>).
pub const MAX_MESSAGE: usize = 128;

/// What a trigger refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Insert,
    Update,
    Delete,
}

impl Change {
    pub const ALL: [Change; 3] = [Change::Insert, Change::Update, Change::Delete];

    /// As `information_schema.TRIGGERS` and CREATE TRIGGER name it.
    pub fn name(self) -> &'static str {
        match self {
            Change::Insert => "INSERT",
            Change::Update => "UPDATE",
            Change::Delete => "DELETE",
        }
    }

    fn letter(self) -> char {
        match self {
            Change::Insert => 'i',
            Change::Update => 'u',
            Change::Delete => 'd',
        }
    }
}

/// What all triggers of one stream in one region have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voice {
    /// The stream as the config names it.
    pub stream: String,
    /// Where the tables are written, if the stream says so.
    pub source_region: Option<String>,
}

impl Voice {
    /// What a client reads. `table`: the one that travels, also for its ghosts.
    pub fn message(&self, table: &TableName) -> String {
        let place = match &self.source_region {
            Some(region) => format!("in {region} only"),
            None => format!("at the source of stream '{}' only", self.stream),
        };
        let (long, short) = (table.to_string(), &table.table);
        let tries = [
            format!("{long} is written {place} (Tablecast stream {})", self.stream),
            format!("{long} is written {place} (Tablecast)"),
            format!("{long} is written elsewhere (Tablecast)"),
            format!("{short} is written {place} (Tablecast)"),
            format!("{short} is written elsewhere (Tablecast)"),
        ];
        let fitting = tries.into_iter().find(|text| text.chars().count() <= MAX_MESSAGE);
        fitting.unwrap_or_else(|| "this table is written elsewhere (Tablecast)".to_owned())
    }

    /// Marks every trigger of this stream.
    pub fn mark(&self) -> String {
        format!("tablecast {}", digest(&self.stream))
    }

    /// Marks the triggers that say this.
    fn origin(&self, message: &str) -> String {
        format!("{} {}", self.mark(), digest(message))
    }

    /// Whether a trigger with this body is what the table has to have.
    pub fn is_right(&self, body: &str, table: &TableName) -> bool {
        body.contains(&self.origin(&self.message(table)))
    }

    /// The statement that makes the trigger `name` on `on`, which is `table`, or will be, or is a ghost of it.
    pub fn create(&self, name: &str, change: Change, on: &TableName, table: &TableName) -> String {
        let message = self.message(table);
        format!(
            "CREATE TRIGGER {}.{} BEFORE {} ON {} FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = {}, \
             CLASS_ORIGIN = '{}'",
            quote(&on.schema),
            quote(name),
            change.name(),
            on.quoted(),
            literal(&message),
            self.origin(&message)
        )
    }
}

/// The statement that takes a trigger away.
pub fn drop(schema: &str, name: &str) -> String {
    format!("DROP TRIGGER IF EXISTS {}.{}", quote(schema), quote(name))
}

/// A name for the trigger that nobody in the schema has; `taken` are those of the guard's that are in use there.
pub fn free_name(table: &TableName, change: Change, taken: &BTreeSet<String>) -> String {
    let base = format!("{PREFIX}{}_{}", digest(&table.table), change.letter());
    let mut name = base.clone();
    let mut number = 0u64;
    while taken.contains(&name) {
        number += 1;
        name = format!("{base}_r{number}");
    }
    name
}

/// The name without the number that sets it apart.
pub fn base_of(name: &str) -> &str {
    let numbered = name.rsplit_once("_r");
    numbered.filter(|(_, n)| n.bytes().all(|b| b.is_ascii_digit())).map_or(name, |(base, _)| base)
}

/// A text as SQL in a session whose sql_mode has no NO_BACKSLASH_ESCAPES, as all of ours.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(region: Option<&str>) -> Voice {
        Voice { stream: "apps".into(), source_region: region.map(str::to_owned) }
    }

    #[test]
    fn the_message_names_the_table_and_where_it_is_written() {
        let table = TableName::new("g", "apps");
        assert_eq!(
            voice(Some("us-east-1")).message(&table),
            "g.apps is written in us-east-1 only (Tablecast stream apps)"
        );
        assert_eq!(
            voice(None).message(&table),
            "g.apps is written at the source of stream 'apps' only (Tablecast stream apps)"
        );
    }

    /// MESSAGE_TEXT is cut, or an error of its own, beyond 128 characters.
    #[test]
    fn no_message_is_longer_than_a_server_takes() {
        let long = "ü".repeat(64);
        let streams = ["apps".to_owned(), "s".repeat(255)];
        for stream in streams {
            for region in [None, Some("us-east-1".to_owned()), Some("r".repeat(200))] {
                let voice = Voice { stream: stream.clone(), source_region: region };
                for (schema, table) in [("g", "t"), (&long, "t"), ("g", &long), (&long, &long)] {
                    let message = voice.message(&TableName::new(schema, table));
                    assert!(message.chars().count() <= MAX_MESSAGE, "{message}");
                    assert!(message.contains(table), "{message}");
                }
            }
        }
    }

    #[test]
    fn a_trigger_has_a_name_that_nobody_in_the_schema_has() {
        let table = TableName::new("g", "apps");
        let mut taken = BTreeSet::new();
        for change in Change::ALL {
            for number in 0..3 {
                let name = free_name(&table, change, &taken);
                assert!(name.starts_with(PREFIX) && name.chars().count() <= 64, "{name}");
                assert_eq!(name.ends_with(&format!("_r{number}")), number > 0, "{name}");
                assert_eq!(base_of(&name), free_name(&table, change, &BTreeSet::new()));
                assert!(taken.insert(name));
            }
        }
    }

    #[test]
    fn quotes_and_backslashes_stay_inside_the_literal() {
        assert_eq!(literal(r"it's a \ b"), r"'it''s a \\ b'");
        let odd = TableName::new("g", "o'dd`\\");
        let sql = voice(None).create("n", Change::Update, &odd, &odd);
        assert!(
            sql.starts_with("CREATE TRIGGER `g`.`n` BEFORE UPDATE ON `g`.`o'dd``\\` FOR EACH ROW"),
            "{sql}"
        );
        assert!(sql.contains("o''dd"), "{sql}");
    }

    #[test]
    fn a_trigger_is_right_only_with_this_stream_and_this_message() {
        let (table, other) = (TableName::new("g", "apps"), TableName::new("g", "plans"));
        let here = voice(Some("us-east-1"));
        let body = here.create("n", Change::Insert, &table, &table);
        assert!(here.is_right(&body, &table) && !here.is_right(&body, &other));
        assert!(!voice(Some("eu")).is_right(&body, &table) && body.contains(&voice(Some("eu")).mark()));
        let stranger = Voice { stream: "else".into(), ..here };
        assert!(!stranger.is_right(&body, &table) && !body.contains(&stranger.mark()));
    }
}
