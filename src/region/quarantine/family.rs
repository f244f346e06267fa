//! Tables that belong together: those tied by foreign keys share one fate, in quarantine and in a restore.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::charset::Charset;
use crate::binlog::ddl::{Class, Statement, classify};
use crate::binlog::name::TableName;
use crate::region::scope::Scope;
use crate::stream::Definition;
use crate::{Result, mysql};

const FOREIGN_KEYS: &str = include_str!("../../../sql/region/foreign_keys.sql");

/// A table with everything that foreign keys tie to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// Tables that the region follows, and the one that was asked for.
    pub members: BTreeSet<TableName>,
    /// Tables of this region that it does not follow and that refer to a member: the child, then the member.
    pub outside_children: Vec<(TableName, TableName)>,
}

/// The family of a table: by the region's own foreign keys and by those of the stream's definitions, in either
/// direction, transitively. Ghost tables are no members; they go with their table.
pub async fn family(
    conn: &mut Conn,
    scope: &Scope,
    definitions: &[Definition],
    of: &TableName,
) -> Result<Family> {
    let rows: Vec<(String, String, String, String)> = conn
        .query(FOREIGN_KEYS)
        .await
        .map_err(|error| mysql::error(error, &format!("read the foreign keys around {of}")))?;
    let mut keys: Vec<(TableName, TableName)> = rows
        .into_iter()
        .map(|(schema, table, to_schema, to)| (TableName::new(schema, table), TableName::new(to_schema, to)))
        .collect();
    let here = keys.len();
    for definition in definitions {
        let parents = parents(&definition.table, &definition.create_table);
        keys.extend(parents.into_iter().map(|parent| (definition.table.clone(), parent)));
    }
    Ok(connect(scope, &keys, here, of))
}

/// Of these tables those that cannot be made in this region, each with what it refers to: a table of the stream that
/// the list does not let in, or another of them.
pub fn unfit<'a>(
    scope: &Scope,
    tables: &BTreeSet<TableName>,
    defined: impl Fn(&TableName) -> Option<&'a str>,
) -> BTreeMap<TableName, TableName> {
    let mut unfit = BTreeMap::new();
    let references: Vec<(&TableName, Vec<TableName>)> = tables
        .iter()
        .map(|table| (table, defined(table).map_or_else(Vec::new, |text| parents(table, text))))
        .collect();
    loop {
        let before = unfit.len();
        for (table, parents) in &references {
            let is_out = |parent: &&TableName| {
                unfit.contains_key(*parent) || (scope.knows(parent) && !scope.list.admits(parent))
            };
            if !unfit.contains_key(*table)
                && let Some(parent) = parents.iter().find(is_out).cloned()
            {
                unfit.insert((*table).clone(), parent);
            }
        }
        if unfit.len() == before {
            return unfit;
        }
    }
}

/// The same for people.
pub fn why_unfit(unfit: &BTreeMap<TableName, TableName>) -> String {
    let why: Vec<String> = unfit
        .iter()
        .map(|(table, parent)| match unfit.contains_key(parent) {
            true => format!("a foreign key of {table} refers to {parent}"),
            false => format!(
                "a foreign key of {table} refers to {parent}, which this region's list does not let in: add {parent} \
                 to `tables` in [region], or take {table} out"
            ),
        })
        .collect();
    why.join("; ")
}

/// The tables that a definition refers to. One that cannot be read ties nothing: the gate refuses it elsewhere.
fn parents(table: &TableName, create_table: &str) -> Vec<TableName> {
    let class = classify(&Statement {
        text: create_table.as_bytes(),
        default_schema: &table.schema,
        charset: Charset::Utf8,
        sql_mode: 0,
    });
    match class {
        Ok(Class::Table(ddl)) => ddl.references,
        _ => Vec::new(),
    }
}

/// The first `here` of the keys are the region's own: children that only the source has are not in anybody's way.
fn connect(scope: &Scope, keys: &[(TableName, TableName)], here: usize, of: &TableName) -> Family {
    let mut tied: BTreeMap<&TableName, Vec<&TableName>> = BTreeMap::new();
    for (child, parent) in keys {
        tied.entry(child).or_default().push(parent);
        tied.entry(parent).or_default().push(child);
    }
    let mut family = Family { members: BTreeSet::from([of.clone()]), ..Family::default() };
    let mut next = vec![of];
    while let Some(table) = next.pop() {
        for &other in tied.get(table).into_iter().flatten() {
            if scope.follows(other) && family.members.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    let outside = keys[..here]
        .iter()
        .filter(|(child, parent)| family.members.contains(parent) && !scope.admits(child) && child != parent);
    family.outside_children = outside.cloned().collect::<BTreeSet<_>>().into_iter().collect();
    family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::name::TableSet;

    fn name(text: &str) -> TableName {
        text.parse().unwrap()
    }

    #[test]
    fn a_family_goes_in_both_directions_and_ends_at_the_set() {
        let tables = TableSet::parse(&["g.*"]).unwrap();
        let set = TableSet::parse(&["g.a", "g.b", "g.c", "g.d", "x.mine"]).unwrap();
        let tables = Scope::of_list(&tables).with_set(&set);
        let keys = [
            ("g.b", "g.a"),
            ("g.b", "g.c"),
            ("x.mine", "g.c"),
            ("g._d_gho", "g.a"),
            ("g.a", "g.a"),
            ("g.gone", "g.b"),
        ];
        let keys = keys.map(|(child, parent)| (name(child), name(parent)));
        let family = connect(&tables, &keys, keys.len(), &name("g.a"));
        assert_eq!(family.members, ["g.a", "g.b", "g.c"].map(name).into());
        let outside =
            [("g.gone", "g.b"), ("x.mine", "g.c")].map(|(child, parent)| (name(child), name(parent)));
        assert_eq!(family.outside_children, outside, "by the set or by the list");
        assert_eq!(connect(&tables, &keys, keys.len(), &name("g.d")).members, [name("g.d")].into());
        // A child that only the stream has.
        assert_eq!(connect(&tables, &keys, 0, &name("g.a")).outside_children, []);
    }

    #[test]
    fn a_definition_tells_the_tables_that_it_refers_to() {
        let text = "CREATE TABLE `b` (\n  `a` int,\n  CONSTRAINT `b_ibfk_1` FOREIGN KEY (`a`) REFERENCES `a` \
                    (`id`),\n  FOREIGN KEY (`a`) REFERENCES `h`.`c` (`id`)\n) ENGINE=InnoDB";
        let found: BTreeSet<TableName> = parents(&name("g.b"), text).into_iter().collect();
        assert_eq!(found, ["g.a", "h.c"].map(name).into());
    }

    #[test]
    fn a_table_that_refers_to_one_that_is_left_out_is_unfit_and_so_are_its_children() {
        let set = |names: &[&str]| TableSet::parse(names).unwrap();
        let at = chrono::DateTime::UNIX_EPOCH;
        let head = crate::stream::Head::new(uuid::Uuid::nil(), "s", set(&["g.*"]), at);
        let scope = Scope::of(&set(&["g.a", "g.b", "g.c", "g.d"]), &head);
        let tables = ["g.a", "g.b", "g.c", "g.d"].map(name).into();
        let to = |parent: &str| {
            format!("CREATE TABLE `t` (\n  `id` int,\n  FOREIGN KEY (`id`) REFERENCES `{parent}` (`id`)\n)")
        };
        let texts = [("g.a", to("out")), ("g.b", to("a")), ("g.c", to("d"))];
        let texts: BTreeMap<TableName, String> =
            texts.into_iter().map(|(table, text)| (name(table), text)).collect();
        let found = unfit(&scope, &tables, |table| texts.get(table).map(String::as_str));
        assert_eq!(found, [(name("g.a"), name("g.out")), (name("g.b"), name("g.a"))].into());
    }
}
