//! Tables that belong together: those tied by foreign keys share one fate, in quarantine and in a restore.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::charset::Charset;
use crate::binlog::ddl::{Class, Statement, classify};
use crate::binlog::name::{TableName, TableSet};
use crate::stream::Definition;
use crate::{Result, mysql};

const FOREIGN_KEYS: &str = include_str!("../../../sql/region/foreign_keys.sql");

/// A table with everything that foreign keys tie to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// Tables of the set, the one that was asked for included.
    pub members: BTreeSet<TableName>,
    /// Tables of this region that are not in the set and refer to a member: the child, then the member.
    pub outside_children: Vec<(TableName, TableName)>,
}

/// The family of a table: by the region's own foreign keys and by those of the stream's definitions, in either
/// direction, transitively. Ghost tables are no members; they go with their table.
pub async fn family(
    conn: &mut Conn,
    tables: &TableSet,
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
    for definition in definitions {
        keys.extend(parents(definition).into_iter().map(|parent| (definition.table.clone(), parent)));
    }
    Ok(connect(tables, &keys, of))
}

/// The tables that a definition refers to. One that cannot be read ties nothing: the gate refuses it elsewhere.
fn parents(definition: &Definition) -> Vec<TableName> {
    let class = classify(&Statement {
        text: definition.create_table.as_bytes(),
        default_schema: &definition.table.schema,
        charset: Charset::Utf8,
        sql_mode: 0,
    });
    match class {
        Ok(Class::Table(ddl)) => ddl.references,
        _ => Vec::new(),
    }
}

fn connect(tables: &TableSet, keys: &[(TableName, TableName)], of: &TableName) -> Family {
    let mut tied: BTreeMap<&TableName, Vec<&TableName>> = BTreeMap::new();
    for (child, parent) in keys {
        tied.entry(child).or_default().push(parent);
        tied.entry(parent).or_default().push(child);
    }
    let mut family = Family { members: BTreeSet::from([of.clone()]), ..Family::default() };
    let mut next = vec![of];
    while let Some(table) = next.pop() {
        for &other in tied.get(table).into_iter().flatten() {
            if tables.names(other) && family.members.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    let outside = keys.iter().filter(|(child, parent)| {
        family.members.contains(parent) && !tables.admits(child) && child != parent
    });
    family.outside_children = outside.cloned().collect::<BTreeSet<_>>().into_iter().collect();
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TableName {
        text.parse().unwrap()
    }

    #[test]
    fn a_family_goes_in_both_directions_and_ends_at_the_set() {
        let tables = TableSet::parse(&["g.a", "g.b", "g.c", "g.d"]).unwrap();
        let keys = [("g.b", "g.a"), ("g.b", "g.c"), ("x.mine", "g.c"), ("g._d_gho", "g.a"), ("g.a", "g.a")];
        let keys = keys.map(|(child, parent)| (name(child), name(parent)));
        let family = connect(&tables, &keys, &name("g.a"));
        assert_eq!(family.members, ["g.a", "g.b", "g.c"].map(name).into());
        assert_eq!(family.outside_children, [(name("x.mine"), name("g.c"))]);
        assert_eq!(connect(&tables, &keys, &name("g.d")).members, [name("g.d")].into());
    }

    #[test]
    fn a_definition_tells_the_tables_that_it_refers_to() {
        let definition = Definition {
            table: name("g.b"),
            since_tx: crate::stream::StreamTx(1),
            create_table:
                "CREATE TABLE `b` (\n  `a` int,\n  CONSTRAINT `b_ibfk_1` FOREIGN KEY (`a`) REFERENCES `a` \
                           (`id`),\n  FOREIGN KEY (`a`) REFERENCES `h`.`c` (`id`)\n) ENGINE=InnoDB"
                    .to_owned(),
            rows_at_init: None,
        };
        let found: BTreeSet<TableName> = parents(&definition).into_iter().collect();
        assert_eq!(found, ["g.a", "h.c"].map(name).into());
    }
}
