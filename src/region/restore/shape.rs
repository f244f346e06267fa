//! What is made of a table's definition on its way into the region: the shadow under its own name, keys that are
//! built after the load, foreign keys and constraints under names that are free.
//!
//! Every statement made here is put together from pieces of a definition that has passed the gate, and is classified
//! once more as a whole: it makes or alters this one table, or it is refused (I6).
//!
//! Names that the server has made itself (`t_ibfk_1`, `t_chk_1`) become those of the shadow and follow the RENAME. A
//! foreign key with a name of its own gets another until the swap is done, because the table still has it. A CHECK
//! cannot be renamed: where the table has one of the same name, the shadow is made and filled without it, and gets it
//! when everything else is done and the table has lost its own.

use std::collections::BTreeSet;

use super::journal::Planned;
use crate::binlog::charset::Charset;
use crate::binlog::ddl::shown::{Item, Names, Shown, What, generated};
use crate::binlog::ddl::{Class, Statement, TableDdl, classify};
use crate::binlog::name::{TableName, TableSet, old_name, quote, shadow_name};
use crate::region::gate;
use crate::stream::definition::normalise;
use crate::{Error, Kind, Result};

/// Longest identifier.
const MAX_NAME: usize = 64;

/// One table of a restore.
#[derive(Clone, Debug)]
pub struct Shape {
    pub table: TableName,
    pub shadow: TableName,
    pub old: TableName,
    /// `None`: the source has no such table, and the region shall have none.
    pub definition: Option<Definition>,
}

/// How the shadow of a table is made.
#[derive(Clone, Debug)]
pub struct Definition {
    shown: Shown,
    /// From the table's names to the shadow's.
    names: Names,
    /// Keys wait for the rows.
    keys_later: bool,
    /// CHECKs with names of their own, which no other table of the schema may have.
    pub named_checks: Vec<String>,
    /// The table with its shadow, for the second look at what is run.
    shadow: TableName,
    allowed: BTreeSet<TableName>,
}

/// The shapes of all tables that are restored together. `keys_later`: secondary keys are built after the load.
pub fn shapes(set: &TableSet, plan: &[Planned], keys_later: bool) -> Result<Vec<Shape>> {
    let made: BTreeSet<&TableName> =
        plan.iter().filter(|planned| planned.create_table.is_some()).map(|planned| &planned.table).collect();
    plan.iter()
        .map(|Planned { table, create_table }| {
            // I6: also a table that is gone at the source, whose copy goes with the restore, must be one of ours.
            if !set.names(table) {
                let message = format!("gate: refuse to restore {table}: it is not in this region's list");
                return Err(Error::new(Kind::Gate, message)
                    .hint("add it to `tables` in [region] of the config, if this region is to have it"));
            }
            let definition = match create_table {
                Some(text) => Some(Definition::new(set, table, text, &made, keys_later)?),
                None => None,
            };
            Ok(Shape { table: table.clone(), shadow: shadow_name(table), old: old_name(table), definition })
        })
        .collect()
}

impl Definition {
    fn new(
        set: &TableSet,
        table: &TableName,
        text: &str,
        made: &BTreeSet<&TableName>,
        keys_later: bool,
    ) -> Result<Definition> {
        gate::definition(set, table, text)?;
        let shown = Shown::parse(table, text)?;
        let shadow = shadow_name(table);
        let mut names = Names::default();
        let mut allowed = BTreeSet::new();
        for parent in shown.parents() {
            if made.contains(parent) {
                names.parents.insert(parent.clone(), shadow_name(parent));
                allowed.insert(shadow_name(parent));
            }
            allowed.insert(parent.clone());
        }
        let mut named_checks = Vec::new();
        for (number, item) in shown.items.iter().enumerate() {
            let (name, infix) = match &item.what {
                What::ForeignKey { name, .. } => (name, "_ibfk_"),
                What::Check { name, .. } => (name, "_chk_"),
                _ => continue,
            };
            let own = generated(&table.table, infix, name)
                .map(|n| format!("{}{infix}{n}", shadow.table))
                .filter(|own| own.len() <= MAX_NAME);
            match (own, &item.what) {
                (Some(own), _) => drop(names.constraints.insert(name.clone(), own)),
                (None, What::ForeignKey { .. }) => {
                    names.constraints.insert(name.clone(), format!("{}_fk_{number}", shadow.table));
                }
                (None, _) => named_checks.push(name.clone()),
            }
        }
        let definition = Definition { shown, names, keys_later, named_checks, shadow, allowed };
        // Whatever will be run is looked at before anything is.
        let statements = [definition.create(true), definition.create(false)]
            .into_iter()
            .chain(definition.keys())
            .chain(definition.foreign_keys())
            .chain(definition.checks());
        for statement in statements {
            definition.pass(&statement, &definition.shadow)?;
        }
        if let Some(statement) = definition.mend() {
            definition.pass(&statement, table)?;
        }
        Ok(definition)
    }

    /// The second look: does this statement make or alter that one table and name nothing else?
    fn pass(&self, text: &str, target: &TableName) -> Result<()> {
        let refuse = |why: String| {
            Error::new(
                Kind::Gate,
                format!("gate: refuse a statement for the shadow of {}: {why}", self.shown.table),
            )
            .hint("nothing was run; the dump's manifest holds a definition that no server shows")
        };
        let statement = Statement {
            text: text.as_bytes(),
            default_schema: &target.schema,
            charset: Charset::Utf8,
            sql_mode: 0,
        };
        match classify(&statement).map_err(|error| refuse("it is not understood".into()).caused_by(error))? {
            Class::Table(TableDdl {
                targets,
                references,
                temporary: false,
                row_create: false,
                reaches_outside,
                ..
            }) if targets == [target.clone()] && reaches_outside.is_empty() => {
                match references.iter().find(|parent| !self.allowed.contains(parent)) {
                    None => Ok(()),
                    Some(parent) => Err(refuse(format!("it points at {parent}"))),
                }
            }
            _ => Err(refuse("it does something else".into())),
        }
    }

    /// The statement that makes the shadow: without its foreign keys, without the keys that come later, and, unless
    /// `with_checks`, without the CHECKs that have names of their own.
    pub fn create(&self, with_checks: bool) -> String {
        let early = |item: &Item| match &item.what {
            What::ForeignKey { .. } => false,
            What::Key { .. } => !self.is_late(item),
            What::Check { name, .. } => with_checks || !self.named_checks.contains(name),
            _ => true,
        };
        self.shown.create(&self.shadow, early, &self.names)
    }

    /// Whether a key can wait for the rows. Not one that an AUTO_INCREMENT column needs, nor a UNIQUE one that InnoDB
    /// may take for the order of the rows, nor what an ALTER does not build in place together with others.
    fn is_late(&self, item: &Item) -> bool {
        let What::Key { unique, plain, first } = &item.what else { return false };
        let has_primary = self.shown.items.iter().any(|item| matches!(item.what, What::Primary { .. }));
        self.keys_later && *plain && (has_primary || !unique) && !self.serves_counter(first.as_deref())
    }

    /// Whether a key with this first column may be what lets the table have an AUTO_INCREMENT column.
    fn serves_counter(&self, first: Option<&str>) -> bool {
        self.shown.items.iter().any(|item| {
            matches!(&item.what, What::Column { name, auto_increment: true }
                if first.is_some_and(|first| first.eq_ignore_ascii_case(name)))
        })
    }

    /// The statement that adds the keys, if any wait.
    pub fn keys(&self) -> Option<String> {
        self.alter(|item| self.is_late(item))
    }

    /// The statement that adds the foreign keys, if there are any.
    pub fn foreign_keys(&self) -> Option<String> {
        self.alter(|item| matches!(item.what, What::ForeignKey { .. }))
    }

    /// The statement that adds the CHECKs with names of their own, if there are any.
    pub fn checks(&self) -> Option<String> {
        self.alter(|item| matches!(&item.what, What::Check { name, .. } if self.named_checks.contains(name)))
    }

    fn alter(&self, which: impl Fn(&Item) -> bool) -> Option<String> {
        let items = self.shown.items.iter().filter(|item| which(item));
        let added: Vec<String> =
            items.map(|item| format!("ADD {}", self.shown.item(item, &self.names))).collect();
        let table = self.shadow.quoted();
        (!added.is_empty()).then(|| format!("ALTER TABLE {table} {}", added.join(", ")))
    }

    /// Foreign keys with names of their own: the one that they have until the swap, and their own.
    fn renamed(&self) -> impl Iterator<Item = (&Item, &str)> {
        self.shown.items.iter().filter_map(|item| match &item.what {
            What::ForeignKey { name, .. } => {
                let other = self.names.constraints.get(name)?;
                (!other.starts_with(&format!("{}_ibfk_", self.shadow.table)))
                    .then_some((item, other.as_str()))
            }
            _ => None,
        })
    }

    /// The statement that gives the foreign keys of the table their own names back, behind the swap.
    pub fn mend(&self) -> Option<String> {
        // Their parents have their names by then.
        let names = Names::default();
        let mut changes = Vec::new();
        for (item, other) in self.renamed() {
            changes.push(format!("DROP FOREIGN KEY {}", quote(other)));
            changes.push(format!("ADD {}", self.shown.item(item, &names)));
        }
        let table = self.shown.table.quoted();
        (!changes.is_empty()).then(|| format!("ALTER TABLE {table} {}", changes.join(", ")))
    }

    /// The names that [`mend`](Self::mend) takes away.
    pub fn temporary_names(&self) -> Vec<&str> {
        self.renamed().map(|(_, other)| other).collect()
    }

    /// Compares what the server says the shadow is with what it should be; unless `with_checks`, before it has got its
    /// CHECKs.
    pub fn compare(&self, found: &str, with_checks: bool) -> Result<()> {
        let mut back = Names::default();
        back.parents.extend(self.names.parents.iter().map(|(own, shadow)| (shadow.clone(), own.clone())));
        back.constraints
            .extend(self.names.constraints.iter().map(|(own, other)| (other.clone(), own.clone())));
        let mut expected = Shown::parse(&self.shown.table, &normalise(self.shown.text()))?;
        if !with_checks {
            let is_named = |item: &Item| matches!(&item.what, What::Check { name, .. } if self.named_checks.contains(name));
            expected.items.retain(|item| !is_named(item));
        }
        let expected = expected.content(&Names::default());
        let found = Shown::parse(&self.shadow, &normalise(found))?.content(&back);
        if expected == found {
            return Ok(());
        }
        let differs = expected.iter().zip(&found).find(|(a, b)| a != b);
        let (wanted, is) = differs.map_or(("", ""), |(a, b)| (a.as_str(), b.as_str()));
        Err(Error::new(
            Kind::Definition,
            format!(
                "check the shadow of {}: it is defined as {is:?}, the dump says {wanted:?}",
                self.shown.table
            ),
        )
        .hint(
            "this server makes another table of the source's definition: its version or its settings differ",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(tables: &[(&str, &str)]) -> Vec<Planned> {
        let planned = |(table, text): &(&str, &str)| Planned {
            table: TableName::new("g", *table),
            create_table: Some((*text).to_owned()),
        };
        tables.iter().map(planned).collect()
    }

    fn set() -> TableSet {
        TableSet::parse(&["g.*"]).unwrap()
    }

    const PARENT: &str = "CREATE TABLE `p` (\n  `id` int NOT NULL,\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB";
    const CHILD: &str = "CREATE TABLE `c` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `a` int DEFAULT NULL,\n  `p` int DEFAULT NULL,\n  \
        PRIMARY KEY (`a`),\n  UNIQUE KEY `u` (`p`),\n  KEY `n` (`id`),\n  KEY `f` (`p`),\n  KEY `e` ((`a` + 1)),\n  CONSTRAINT \
        `c_ibfk_1` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON DELETE CASCADE,\n  CONSTRAINT `mine` FOREIGN KEY (`p`) REFERENCES \
        `p` (`id`),\n  CONSTRAINT `c_chk_1` CHECK ((`a` > 0)),\n  CONSTRAINT `own` CHECK ((`a` > 1))\n) ENGINE=InnoDB";

    /// I6: the bucket does not decide which table of the server goes.
    #[test]
    fn a_table_outside_the_regions_list_is_neither_made_nor_dropped() {
        let gone = Planned { table: TableName::new("private", "t"), create_table: None };
        let made = Planned { create_table: Some(PARENT.to_owned()), ..gone.clone() };
        for planned in [gone, made] {
            let error = shapes(&set(), &[planned], true).err().map(|error| error.kind());
            assert_eq!(error, Some(Kind::Gate));
        }
    }

    #[test]
    fn keys_wait_unless_the_table_needs_them_to_be_made_or_filled() {
        let shapes = shapes(&set(), &plan(&[("c", CHILD), ("p", PARENT)]), true).unwrap();
        let child = shapes[0].definition.as_ref().unwrap();
        let (shadow, parent) = (&shapes[0].shadow.table, &shapes[1].shadow.table);
        let create = child.create(true);
        assert!(create.contains("KEY `n` (`id`)") && create.contains("KEY `e`"), "{create}");
        assert!(
            !create.contains("KEY `u`") && !create.contains("KEY `f`") && !create.contains("FOREIGN"),
            "{create}"
        );
        assert!(create.contains(&format!("CONSTRAINT `{shadow}_chk_1` CHECK")), "{create}");
        assert_eq!(child.named_checks, ["own"]);
        assert_eq!(
            child.keys().unwrap(),
            format!("ALTER TABLE `g`.`{shadow}` ADD UNIQUE KEY `u` (`p`), ADD KEY `f` (`p`)")
        );
        let foreign = child.foreign_keys().unwrap();
        assert!(
            foreign.contains(&format!(
                "ADD CONSTRAINT `{shadow}_ibfk_1` FOREIGN KEY (`p`) REFERENCES `{parent}`"
            ))
        );
        assert!(
            foreign
                .contains(&format!("ADD CONSTRAINT `{shadow}_fk_9` FOREIGN KEY (`p`) REFERENCES `{parent}`"))
        );
        assert_eq!(
            child.mend().unwrap(),
            format!(
                "ALTER TABLE `g`.`c` DROP FOREIGN KEY `{shadow}_fk_9`, ADD CONSTRAINT `mine` FOREIGN KEY (`p`) REFERENCES \
                 `p` (`id`)"
            )
        );
        assert_eq!(shapes[1].definition.as_ref().unwrap().mend(), None);
    }

    #[test]
    fn a_check_whose_name_is_taken_waits() {
        let shapes = shapes(&set(), &plan(&[("c", CHILD), ("p", PARENT)]), true).unwrap();
        let child = shapes[0].definition.as_ref().unwrap();
        let create = child.create(false);
        assert!(create.contains("_chk_1` CHECK") && !create.contains("`own`"), "{create}");
        assert!(child.create(true).contains("`own`"));
        let shadow = &shapes[0].shadow.table;
        assert_eq!(
            child.checks().unwrap(),
            format!("ALTER TABLE `g`.`{shadow}` ADD CONSTRAINT `own` CHECK ((`a` > 1))")
        );
        assert_eq!(shapes[1].definition.as_ref().unwrap().checks(), None);
        let found = child.shown.create(&child.shadow, |_| true, &child.names).replace("`g`.", "");
        let without = found.replace(",\n  CONSTRAINT `own` CHECK ((`a` > 1))", "");
        assert_ne!(found, without);
        child.compare(&without, false).unwrap();
        assert_eq!(child.compare(&without, true).unwrap_err().kind(), Kind::Definition);
        assert_eq!(child.compare(&found, false).unwrap_err().kind(), Kind::Definition);
    }

    #[test]
    fn without_a_primary_key_unique_keys_do_not_wait() {
        let text = "CREATE TABLE `t` (\n  `a` int NOT NULL,\n  UNIQUE KEY `u` (`a`),\n  KEY `k` (`a`)\n) ENGINE=InnoDB";
        let shapes = shapes(&set(), &plan(&[("t", text)]), true).unwrap();
        let keys = shapes[0].definition.as_ref().unwrap().keys().unwrap();
        assert!(keys.ends_with("ADD KEY `k` (`a`)"), "{keys}");
    }

    #[test]
    fn a_shadow_is_compared_under_the_tables_own_names() {
        let shapes = shapes(&set(), &plan(&[("c", CHILD), ("p", PARENT)]), true).unwrap();
        let child = shapes[0].definition.as_ref().unwrap();
        let found = child.shown.create(&child.shadow, |_| true, &child.names).replace("`g`.", "");
        child.compare(&found, true).unwrap();
        // Servers list constraints by name, and these are others.
        let mut lines: Vec<&str> = found.split(",\n").collect();
        let foreign = lines.iter().position(|line| line.contains("FOREIGN KEY")).unwrap();
        lines.swap(foreign, foreign + 1);
        child.compare(&lines.join(",\n"), true).unwrap();
        let error = child.compare(&found.replace("KEY `f` (`p`)", "KEY `f` (`a`)"), true).unwrap_err();
        assert_eq!(error.kind(), Kind::Definition);
        assert!(error.to_string().contains("KEY `f` (`a`)"), "{error}");
    }

    /// I6.
    #[test]
    fn a_definition_that_reaches_elsewhere_makes_no_shadow() {
        for text in [
            "CREATE TABLE `c` (\n  `id` int\n) ENGINE=InnoDB; DROP TABLE `p`",
            "CREATE TABLE `c` (\n  `id` int\n) ENGINE=InnoDB DATA DIRECTORY='/tmp'",
            "CREATE TABLE `x` (\n  `id` int\n) ENGINE=InnoDB",
            "CREATE TABLE `c` (\n  `id` int,\n  CONSTRAINT `f` FOREIGN KEY (`id`) REFERENCES `mysql`.`user` (`id`)\n) ENGINE=InnoDB",
            "CREATE TABLE `c` (\n  `id` int\n) ENGINE=InnoDB SELECT * FROM `mysql`.`user`",
            "CREATE TABLE `c` (\n  `id` int /*!50100 ,\n  KEY `k` (`id`) */\n) ENGINE=InnoDB",
        ] {
            let error = shapes(&set(), &plan(&[("c", text)]), true).expect_err(text);
            assert_eq!(error.kind(), Kind::Gate, "{text}");
        }
    }
}
