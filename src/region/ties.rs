//! Foreign keys of this server between a table that the region follows and one that it does not: what comes from the
//! source meets them, and they stand in the way of restores.
//!
//! A key may be the source's or the region's own. Those of a table that left the set, or the region's list, are the
//! usual ones: the table stays as it is, and the key with it. Told by name, with the statement that mends it; nothing is
//! changed here. What the account may not see is not told.

use std::fmt;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::scope::Scope;
use crate::binlog::name::{TableName, is_own, quote};
use crate::mysql;

const KEYS: &str = include_str!("../../sql/region/ties.sql");

/// A foreign key with one end that is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tie {
    pub child: TableName,
    pub parent: TableName,
    pub key: String,
    /// What the child's rows go through with their parents: the rules of DELETE and UPDATE that change them.
    pub actions: Vec<String>,
    /// The parent is followed, the child is not; else it is the other way round.
    pub follows_parent: bool,
}

/// What is in the way now.
pub async fn look(conn: &mut Conn, scope: &Scope) -> crate::Result<Vec<Tie>> {
    let rows: Vec<(String, String, String, String, String, String, String)> = conn
        .query(KEYS)
        .await
        .map_err(|error| mysql::error(error, "read the foreign keys of this server"))?;
    let keys = rows.into_iter().map(|(key, schema, table, to_schema, to, on_delete, on_update)| {
        let rules = [("DELETE", on_delete), ("UPDATE", on_update)];
        let changes = |rule: &str| matches!(rule, "CASCADE" | "SET NULL" | "SET DEFAULT");
        let actions = rules.into_iter().filter(|(_, rule)| changes(rule));
        Tie {
            child: TableName::new(schema, table),
            parent: TableName::new(to_schema, to),
            key,
            actions: actions.map(|(change, rule)| format!("ON {change} {rule}")).collect(),
            follows_parent: false,
        }
    });
    Ok(between(keys, |table| scope.admits(table)))
}

/// Those with one end that is followed, sorted.
fn between(keys: impl Iterator<Item = Tie>, follows: impl Fn(&TableName) -> bool) -> Vec<Tie> {
    let mut ties: Vec<Tie> = keys
        .filter(|key| follows(&key.child) != follows(&key.parent))
        // A shadow of ours comes and goes with the restore.
        .filter(|key| !is_own(&key.child) && !is_own(&key.parent))
        .map(|key| Tie { follows_parent: follows(&key.parent), ..key })
        .collect();
    ties.sort();
    ties
}

impl Tie {
    /// What it is, and what comes of it.
    pub fn why(&self) -> String {
        let Tie { child, parent, key, actions, .. } = self;
        if !self.follows_parent {
            return format!(
                "foreign key {key} of {child} leads to {parent}, which this region does not follow: a row of {child} \
                 whose parent is not here is refused (error 1452), and {child} goes into quarantine"
            );
        }
        let comes = match actions.is_empty() {
            true => format!(
                "a DELETE or UPDATE of a row of {parent} that rows of {child} refer to is refused here (error 1451), and \
                 {parent} goes into quarantine"
            ),
            false => format!(
                "changes of {parent} may delete or change rows of {child} here ({}), and are refused here otherwise \
                 (error 1451), which puts {parent} into quarantine",
                actions.join(", ")
            ),
        };
        format!(
            "foreign key {key} of {child}, which this region does not follow, leads to {parent}: {comes}; no dump can \
             replace {parent} as long as the key is there"
        )
    }

    pub fn statement(&self) -> String {
        format!("ALTER TABLE {} DROP FOREIGN KEY {}", self.child.quoted(), quote(&self.key))
    }

    /// What mends it.
    pub fn mend(&self) -> String {
        let statement = self.statement();
        match self.follows_parent {
            true => format!("run here: {statement}"),
            false => format!("at the source, if it has this key too (it travels), else here: {statement}"),
        }
    }

    /// Whether one of its ends is so.
    pub fn touches(&self, is_so: impl Fn(&TableName) -> bool) -> bool {
        is_so(&self.child) || is_so(&self.parent)
    }
}

impl fmt::Display for Tie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why(), self.mend())
    }
}

impl Serialize for Tie {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tie = serializer.serialize_struct("Tie", 6)?;
        tie.serialize_field("key", &self.key)?;
        tie.serialize_field("table", &self.child)?;
        tie.serialize_field("references", &self.parent)?;
        tie.serialize_field("actions", &self.actions)?;
        tie.serialize_field("why", &self.why())?;
        tie.serialize_field("statement", &self.statement())?;
        tie.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::name::TableSet;

    fn key(child: &str, parent: &str, actions: &[&str]) -> Tie {
        Tie {
            child: child.parse().unwrap(),
            parent: parent.parse().unwrap(),
            key: "k".to_owned(),
            actions: actions.iter().map(ToString::to_string).collect(),
            follows_parent: false,
        }
    }

    #[test]
    fn only_keys_with_one_end_that_is_followed_are_told_and_each_says_what_comes_of_it() {
        let set = TableSet::parse(&["g.apps", "g.plans"]).unwrap();
        let keys = [
            key("g.plans", "g.apps", &[]),
            key("x.a", "x.b", &[]),
            key("g._apps_gho", "g.plans", &[]),
            key("g.orders", "g.apps", &["ON DELETE CASCADE"]),
            key("x.mine", "g.plans", &[]),
            key("g.plans", "g.zones", &[]),
        ];
        let found = between(keys.into_iter(), |table| set.admits(table));
        let text: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 3, "{text:#?}");
        for (text, says, mend) in [
            (&text[0], "rows of g.orders here (ON DELETE CASCADE)", "here: ALTER TABLE `g`.`orders` DROP"),
            (&text[1], "error 1452", "at the source, if it has this key too"),
            (&text[2], "g.plans goes into quarantine", "ALTER TABLE `x`.`mine` DROP FOREIGN KEY `k`"),
        ] {
            assert!(text.contains(says) && text.contains(mend), "{text}");
        }
    }
}
