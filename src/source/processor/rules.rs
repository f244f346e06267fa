//! The replication filters of a binlog processor: exactly the tables of the set, what online migrations make of them,
//! and `tablecast.table_set`.
//!
//! One rule more, `%.`, lets CREATE, ALTER and DROP DATABASE through. As soon as there is any wild rule the server
//! asks the wild rules about these statements, and matches them with the schema's name and a dot
//! (`Rpl_filter::db_ok_with_wild_table` in sql/rpl_filter.cc). Without it the processor's schemas would keep defaults
//! that the primary's no longer have, and the first CREATE PROCEDURE in a new schema would stop it. No table's name
//! is matched by it: one would have to end in a dot.

use crate::binlog::name::{TableName, TablePattern, TableSet, ghost_names, quote, timed_ghost};
use crate::error::{Error, Kind, Result};
use crate::mysql::literal;
use crate::source::replica_filters::Filters;

/// Where the table set and its changes stand; see sql/source/table_set.sql.
const TABLE_SET: (&str, &str) = ("tablecast", "table_set");
const SCHEMAS: &str = "%.";
/// A time as gh-ost puts it into a name.
const EXAMPLE: &str = "20251121081530";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    tables: Vec<TableName>,
    wild: Vec<Wild>,
    schemas: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wild {
    /// `%`, `_`, and a backslash before either that stands for itself.
    rule: String,
    /// A table that nothing but this rule lets in.
    example: Option<TableName>,
}

impl Rules {
    pub fn of(set: &TableSet) -> Result<Rules> {
        let mut tables = vec![TableName::new(TABLE_SET.0, TABLE_SET.1)];
        let mut wild = vec![Wild { rule: SCHEMAS.to_owned(), example: None }];
        for pattern in set.patterns() {
            match pattern {
                TablePattern::Table(table) => {
                    writable(&table.schema, pattern)?;
                    writable(&table.table, pattern)?;
                    if set.has_whole_schema(&table.schema) {
                        continue;
                    }
                    tables.push(table.clone());
                    tables.extend(ghost_names(table));
                    let (before, behind) = timed_ghost(table);
                    let any = "_".repeat(EXAMPLE.len());
                    wild.push(Wild {
                        rule: format!(
                            "{}.{}{any}{}",
                            literal(&table.schema),
                            literal(&before),
                            literal(behind)
                        ),
                        example: Some(TableName::new(&table.schema, format!("{before}{EXAMPLE}{behind}"))),
                    });
                }
                TablePattern::Schema(schema) => {
                    writable(schema, pattern)?;
                    wild.push(Wild {
                        rule: format!("{}.%", literal(schema)),
                        example: Some(TableName::new(schema, "any table of it")),
                    });
                }
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        tables.retain(|table| seen.insert(table.clone()));
        Ok(Rules { tables, wild, schemas: set.schemas().into_iter().collect() })
    }

    /// As they stand in my.cnf, one a line.
    pub fn lines(&self) -> Vec<String> {
        let tables = self.tables.iter().map(|table| {
            format!("replicate-do-table = {}", option(&format!("{}.{}", table.schema, table.table)))
        });
        let wild = self.wild.iter().map(|wild| format!("replicate-wild-do-table = {}", option(&wild.rule)));
        tables.chain(wild).collect()
    }

    /// As the server has them when nothing else is set.
    pub(crate) fn filters(&self) -> Filters {
        let mut filters = Filters::default();
        self.tables.iter().for_each(|table| {
            filters.add("REPLICATE_DO_TABLE", &format!("{}.{}", table.schema, table.table))
        });
        self.wild.iter().for_each(|wild| filters.add("REPLICATE_WILD_DO_TABLE", &wild.rule));
        filters
    }

    /// Whether these filters do for a processor.
    pub(crate) fn fit(&self, filters: &Filters) -> bool {
        !filters.is_empty() && self.left_out_by(filters).is_empty()
    }

    /// The lines of my.cnf without which filters that stand there leave something out.
    pub(crate) fn missing_lines(&self, filters: &Filters) -> Vec<String> {
        let mut lines: Vec<String> = self
            .tables
            .iter()
            .filter(|table| !filters.lets_in(table))
            .map(|table| {
                format!("replicate-do-table = {}", option(&format!("{}.{}", table.schema, table.table)))
            })
            .collect();
        let schemas_pass = self.schemas.iter().all(|schema| filters.lets_schema_in(schema));
        let missed = self.wild.iter().filter(|wild| match &wild.example {
            Some(table) => !filters.lets_in(table),
            None => !schemas_pass,
        });
        lines.extend(missed.map(|wild| format!("replicate-wild-do-table = {}", option(&wild.rule))));
        lines
    }

    /// Puts them in force until the server ends, in the place of all others.
    pub fn statement(&self) -> String {
        let tables: Vec<String> = self.tables.iter().map(TableName::quoted).collect();
        // A text keeps a backslash before _ and % as it is.
        let wild: Vec<String> = self.wild.iter().map(|wild| format!("'{}'", wild.rule)).collect();
        format!(
            "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (), REPLICATE_IGNORE_DB = (), REPLICATE_IGNORE_TABLE = (), \
             REPLICATE_WILD_IGNORE_TABLE = (), REPLICATE_DO_TABLE = ({}), REPLICATE_WILD_DO_TABLE = ({})",
            tables.join(", "),
            wild.join(", ")
        )
    }

    /// What these filters of a server leave out of it: tables, their ghosts, statements on schemas.
    pub(crate) fn left_out_by(&self, filters: &Filters) -> Vec<String> {
        let mut out: Vec<String> =
            self.tables.iter().filter(|table| !filters.lets_in(table)).map(ToString::to_string).collect();
        let missed = self
            .wild
            .iter()
            .filter(|wild| wild.example.as_ref().is_some_and(|table| !filters.lets_in(table)));
        out.extend(missed.map(|wild| wild.rule.clone()));
        for schema in self.schemas.iter().filter(|schema| !filters.lets_schema_in(schema)) {
            out.push(format!("CREATE, ALTER and DROP DATABASE {}", quote(schema)));
        }
        out
    }
}

/// A value in an option file, in quotes where that is needed. A backslash before `_` or `%` stays
/// (<https://dev.mysql.com/doc/refman/8.4/en/option-files.html>).
fn option(value: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$' | '-' | '%' | '\\');
    if value.chars().all(plain) { value.to_owned() } else { format!("\"{value}\"") }
}

/// Refuses a name that MySQL's filters cannot tell apart or that an option file cannot hold.
fn writable(name: &str, pattern: &TablePattern) -> Result<()> {
    let odd = |c: char| matches!(c, ',' | '"' | '\'' | '\\' | '`' | '.') || c.is_control();
    match name.chars().find(|c| odd(*c)) {
        None => Ok(()),
        Some(c) => Err(Error::new(
            Kind::Usage,
            format!("make the replication filters for {pattern}: a name with {c:?} cannot stand in them"),
        )
        .hint("use a full replica, or the primary itself, as [mysql]; or rename the table")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(set: &[&str]) -> Rules {
        Rules::of(&TableSet::parse(set).expect("a set")).expect("rules")
    }

    fn filters(rules: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::default();
        rules.iter().for_each(|(name, rule)| filters.add(name, rule));
        filters
    }

    #[test]
    fn i3_the_rules_admit_what_the_set_admits_and_nothing_beside_it() {
        let set = TableSet::parse(&["g.my_apps", "h.*"]).expect("a set");
        let rules = rules(&["g.my_apps", "h.*"]);
        let in_force = filters(&[
            (
                "REPLICATE_DO_TABLE",
                &rules.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            ),
            (
                "REPLICATE_WILD_DO_TABLE",
                &rules.wild.iter().map(|wild| wild.rule.as_str()).collect::<Vec<_>>().join(","),
            ),
        ]);
        for name in [
            "g.my_apps",
            "g._my_apps_gho",
            "g._my_apps_ghc",
            "g._my_apps_del",
            "g._my_apps_20251121081530_del",
            "g._my_apps_new",
            "g.__my_apps_old",
            "h.x",
            "h._x_gho",
            "g.xmy_apps",
            "g.myxapps",
            "g._myxapps_gho",
            "g.my_apps_gho",
            "g._my_apps_2025112108153_del",
            "i.x",
            "g.x",
        ] {
            let table: TableName = name.parse().expect("a name");
            assert_eq!(in_force.lets_in(&table), set.admits(&table), "{name}");
        }
        assert!(in_force.lets_in(&TableName::new("tablecast", "table_set")));
        assert!(!in_force.lets_in(&TableName::new("tablecast", "position")));
        assert!(in_force.lets_schema_in("g") && in_force.lets_schema_in("anything"));
        assert_eq!(rules.left_out_by(&in_force), Vec::<String>::new());
        assert_eq!(rules.missing_lines(&in_force), Vec::<String>::new());
        assert_eq!(rules.left_out_by(&Filters::default()), Vec::<String>::new(), "a full replica");
    }

    #[test]
    fn what_a_filter_leaves_out_is_named() {
        let only = filters(&[
            ("REPLICATE_DO_TABLE", "g.apps,tablecast.table_set"),
            ("REPLICATE_WILD_DO_TABLE", "h.%"),
        ]);
        let out = rules(&["g.apps", "h.*"]).left_out_by(&only);
        assert!(out.contains(&"g._apps_gho".to_owned()), "{out:?}");
        assert!(out.iter().any(|line| line.contains("DATABASE `g`")), "{out:?}");
        assert!(!out.iter().any(|line| line.contains("`h`")), "{out:?}");
        let missing = rules(&["g.apps", "h.*"]).missing_lines(&only);
        assert!(missing.contains(&"replicate-do-table = g._apps_gho".to_owned()), "{missing:?}");
        assert!(missing.contains(&"replicate-wild-do-table = %.".to_owned()), "{missing:?}");
        assert!(!missing.iter().any(|line| line.ends_with("g.apps") || line.contains("h.%")), "{missing:?}");
    }

    #[test]
    fn the_rules_stand_in_for_the_filters_that_the_server_makes_of_them() {
        let rules = rules(&["g.my_apps", "h.*"]);
        let filters = rules.filters();
        assert_eq!(rules.left_out_by(&filters), Vec::<String>::new());
        assert!(!filters.lets_in(&TableName::new("g", "other")) && filters.only_names());
    }

    #[test]
    fn an_odd_name_is_quoted_and_one_that_cannot_stand_is_refused() {
        let lines = rules(&["g.`a b#c`"]).lines();
        assert!(lines.contains(&"replicate-do-table = \"g.a b#c\"".to_owned()), "{lines:?}");
        assert_eq!(
            Rules::of(&TableSet::parse(&["g.`a,b`"]).expect("a set")).expect_err("refused").kind(),
            Kind::Usage
        );
    }

    #[test]
    fn a_long_name_is_cut_as_gh_ost_cuts_it() {
        let table = TableName::new("g", "t".repeat(64));
        let set = TableSet::new([TablePattern::Table(table.clone())]).expect("a set");
        for ghost in ghost_names(&table) {
            assert!(ghost.table.len() <= 64 && set.ghost_of(&ghost).is_some(), "{ghost}");
        }
        let (before, behind) = timed_ghost(&table);
        let timed = TableName::new("g", format!("{before}20251121081530{behind}"));
        assert_eq!((timed.table.len(), set.ghost_of(&timed)), (64, Some(table)));
    }
}
