//! The minimal GRANTs of the source role, for `tablecast grants` and for hints.

use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::mysql::whole_schema;
use crate::source::moment;
use crate::source::tables::doctor;

/// The minimal GRANTs for the source role, without trailing semicolons.
pub fn grants(user: &str, tables: &TableSet) -> Vec<String> {
    let mut grants = vec![
        format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}"),
        // Read-only: `stream init` asks for prepared XA transactions.
        format!("GRANT XA_RECOVER_ADMIN ON *.* TO {user}"),
    ];
    for table in moment::REPLICATION_TABLES {
        let table = TableName::new("performance_schema", table);
        grants.push(format!("GRANT SELECT ON {} TO {user}", table.quoted()));
    }
    for pattern in tables.patterns() {
        grants.push(format!("GRANT SELECT ON {} TO {user}", object(pattern)));
    }
    for schema in tables.schemas() {
        grants.extend(
            SCHEMA.map(|privilege| format!("GRANT {privilege} ON {} TO {user}", whole_schema(&schema))),
        );
    }
    for table in DUMP_TABLES {
        let table = TableName::new("performance_schema", table);
        grants.push(format!("GRANT SELECT ON {} TO {user}", table.quoted()));
    }
    // `upload --resync` looks for changes of the table set in what was lost.
    grants.push(format!("GRANT SELECT ON {} TO {user}", whole_schema("tablecast")));
    grants
}

/// What `tables` needs beside on the server that is written to, for the account that [`grants`] are for there.
pub fn writer_grants(user: &str, tables: &TableSet) -> Vec<String> {
    let mut grants =
        vec![format!("GRANT {} ON {} TO {user}", doctor::PRIVILEGES.join(", "), whole_schema("tablecast"))];
    for schema in tables.schemas() {
        grants.push(format!("GRANT LOCK TABLES ON {} TO {user}", whole_schema(&schema)));
    }
    grants
}

/// What `tables` needs beside [`grants`] on a primary that is not the source.
pub fn primary_grants(user: &str, tables: &TableSet) -> Vec<String> {
    let mut grants = Vec::new();
    for table in moment::REPLICATION_TABLES.into_iter().chain(DUMP_TABLES) {
        let table = TableName::new("performance_schema", table);
        grants.push(format!("GRANT SELECT ON {} TO {user}", table.quoted()));
    }
    for pattern in tables.patterns() {
        grants.push(format!("GRANT SELECT ON {} TO {user}", object(pattern)));
    }
    // To see ghost tables there, as in [`grants`].
    for schema in tables.schemas() {
        grants.push(format!("GRANT REFERENCES ON {} TO {user}", whole_schema(&schema)));
    }
    grants.extend(writer_grants(user, tables));
    grants
}

/// On the schemas of the set. For dumps: the snapshot's short lock. And what shows names and definitions, no rows, of ghost
/// tables, which come and go.
const SCHEMA: [&str; 2] = ["LOCK TABLES", "REFERENCES"];

/// All that [`grants`] and its like have on the whole of this schema of the set. A hint that named one of them alone could take
/// the others away: of several patterns that fit a schema the server takes the most specific only.
pub(crate) fn on_schema(user: &str, tables: &TableSet, schema: &str) -> String {
    let rows = tables.has_whole_schema(schema).then_some("SELECT");
    let all: Vec<&str> = rows.into_iter().chain(SCHEMA).collect();
    format!("GRANT {} ON {} TO {user}", all.join(", "), whole_schema(schema))
}

fn object(pattern: &TablePattern) -> String {
    match pattern {
        TablePattern::Table(table) => table.quoted(),
        TablePattern::Schema(schema) => whole_schema(schema),
    }
}

/// `performance_schema` tables that taking a dump reads: who waits for metadata locks, and who holds them.
pub(super) const DUMP_TABLES: [&str; 2] = ["metadata_locks", "threads"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grants_name_every_table_and_nothing_more() {
        let tables = TableSet::parse(&["g.apps", "other.*"]).expect("a set");
        let grants = grants("'tablecast'@'%'", &tables);
        assert!(grants.contains(&"GRANT SELECT ON `g`.`apps` TO 'tablecast'@'%'".to_owned()));
        assert!(grants.contains(&"GRANT SELECT ON `other`.* TO 'tablecast'@'%'".to_owned()));
        assert!(grants.contains(&"GRANT LOCK TABLES ON `g`.* TO 'tablecast'@'%'".to_owned()));
        assert!(grants.contains(&"GRANT REFERENCES ON `g`.* TO 'tablecast'@'%'".to_owned()));
        assert_eq!(grants.len(), 16);
        assert_eq!(
            on_schema("this account", &tables, "other"),
            "GRANT SELECT, LOCK TABLES, REFERENCES ON `other`.* TO this account"
        );
        assert_eq!(on_schema("u", &tables, "g"), "GRANT LOCK TABLES, REFERENCES ON `g`.* TO u");
        // `_` would let the account read schemas that are nobody's business.
        let tables = TableSet::parse(&["my_app.*"]).expect("a set");
        for grant in super::grants("u", &tables).iter().chain(&primary_grants("u", &tables)) {
            assert!(!grant.contains("my_app"), "{grant}");
        }
    }
}
