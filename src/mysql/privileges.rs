//! What an account may do to tables, as its own SHOW GRANTS tells it: roles that are active included, nothing tried.
//!
//! Statements like ALTER cannot be tried without changing something. What SHOW GRANTS has is what the server goes by. Of
//! several patterns that fit a schema it takes the most specific only
//! (<https://dev.mysql.com/doc/refman/8.4/en/request-access.html>): after `GRANT TRIGGER ON my\_app.*` an older
//! `GRANT SELECT ON my_app.*` no longer counts (as measured on 9.7), so a hint names all that is needed on a schema, not only what
//! is missing. With `partial_revokes` there are no patterns: a name stands for itself.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::error;
use crate::Result;
use crate::binlog::name::{TableName, TablePattern, quote};

/// A name in a pattern that the server reads, as of GRANT or of a wild rule: each character for itself.
pub fn literal(name: &str) -> String {
    name.replace('_', "\\_").replace('%', "\\%")
}

/// A schema as GRANT has it, and it alone: `_` and `%` in its name would stand for other schemas, too.
pub fn whole_schema(schema: &str) -> String {
    format!("{}.*", quote(&literal(schema)))
}

/// The same GRANT for a server with `partial_revokes`, which takes names as they stand, a backslash before `_` or `%` too (as
/// measured on 9.7): there it would be for a schema that nobody has.
pub fn by_name(grant: &str) -> String {
    let Some((privileges, rest)) = grant.split_once(" ON ") else { return grant.to_owned() };
    let (object, to) = rest.rsplit_once(" TO ").map_or((rest, None), |(object, to)| (object, Some(to)));
    let object = object.replace("\\_", "_").replace("\\%", "%");
    to.map_or_else(|| format!("{privileges} ON {object}"), |to| format!("{privileges} ON {object} TO {to}"))
}

/// The privileges of the account that asks.
#[derive(Clone, Debug)]
pub struct Privileges {
    rows: Vec<Row>,
    /// Names of schemas stand for themselves.
    by_name: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    /// A partial revoke.
    takes: bool,
    names: Vec<String>,
    on: On,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum On {
    Everything,
    /// A pattern as GRANT has it, with `_`, `%` and the backslash.
    Schema(String),
    Table(TableName),
}

impl Privileges {
    /// Those of this connection's account.
    pub async fn read(conn: &mut Conn) -> Result<Privileges> {
        let grants: Vec<String> =
            conn.query("SHOW GRANTS").await.map_err(|cause| error(cause, "read the account's grants"))?;
        let setting = "SHOW GLOBAL VARIABLES LIKE 'partial_revokes'";
        let found: Option<(String, String)> =
            conn.query_first(setting).await.map_err(|cause| error(cause, setting))?;
        let by_name = found.is_some_and(|(_, value)| value.eq_ignore_ascii_case("ON"));
        Ok(Privileges { by_name, ..Privileges::of(&grants) })
    }

    /// A GRANT that names a schema as [`whole_schema`] has it, for this server.
    pub fn fit(&self, grant: String) -> String {
        if self.by_name { by_name(&grant) } else { grant }
    }

    fn of(grants: &[String]) -> Privileges {
        Privileges { rows: grants.iter().filter_map(|grant| row(grant)).collect(), by_name: false }
    }

    /// Whether it holds for every table of the schema, those to come included.
    pub fn in_schema(&self, privilege: &str, schema: &str) -> bool {
        let here = |row: &&Row| match &row.on {
            On::Schema(name) if self.by_name => name == schema,
            On::Schema(pattern) => is_like(schema, pattern),
            On::Everything | On::Table(_) => false,
        };
        let has = |row: &Row| row.has(privilege);
        let taken = self.rows.iter().filter(|row| row.takes).filter(here).any(has);
        let given: Vec<&Row> = self.rows.iter().filter(|row| !row.takes).filter(here).collect();
        let closest = given.iter().map(|row| row.closeness()).max();
        given.into_iter().any(|row| has(row) && Some(row.closeness()) == closest)
            || (self.everywhere(privilege) && !taken)
    }

    /// Whether it holds for this table.
    pub fn on_table(&self, privilege: &str, table: &TableName) -> bool {
        let own = |row: &Row| matches!(&row.on, On::Table(name) if name == table);
        self.in_schema(privilege, &table.schema)
            || self.rows.iter().any(|row| !row.takes && own(row) && row.has(privilege))
    }

    /// Whether it holds for all that there is.
    pub fn everywhere(&self, privilege: &str) -> bool {
        self.rows.iter().any(|row| !row.takes && row.on == On::Everything && row.has(privilege))
    }
}

impl Row {
    /// How specific the pattern of a schema is: by where its first wildcard stands (`get_sort`, sql/auth/sql_auth_cache.cc).
    fn closeness(&self) -> usize {
        let On::Schema(pattern) = &self.on else { return 0 };
        let mut bytes = pattern.bytes().enumerate();
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'_' | b'%' => return at.min(126),
                _ => {}
            }
        }
        usize::MAX
    }

    fn has(&self, privilege: &str) -> bool {
        self.names.iter().any(|name| name == privilege || name == "ALL PRIVILEGES")
    }
}

/// One row of SHOW GRANTS; `None`: a role, a proxy, a routine.
fn row(grant: &str) -> Option<Row> {
    let (takes, rest, to) = match grant.strip_prefix("GRANT ") {
        Some(rest) => (false, rest, " TO `"),
        None => (true, grant.strip_prefix("REVOKE ")?, " FROM `"),
    };
    let (names, rest) = rest.split_once(" ON ")?;
    let (object, _) = rest.rsplit_once(to)?;
    let on = match object {
        "*.*" => On::Everything,
        _ => match object.parse().ok()? {
            TablePattern::Schema(pattern) => On::Schema(pattern),
            TablePattern::Table(table) => On::Table(table),
        },
    };
    // Privileges on columns, `SELECT (a, b)`, fall apart here and match nothing: they are not on the table.
    let names = names.split(',').map(|name| name.trim().to_owned()).collect();
    Some(Row { takes, names, on })
}

/// LIKE, as the server reads a schema in a GRANT.
fn is_like(text: &str, pattern: &str) -> bool {
    fn from(text: &[u8], pattern: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'%', rest @ ..] => (0..=text.len()).any(|at| from(&text[at..], rest)),
            [b'_', rest @ ..] => !text.is_empty() && from(&text[1..], rest),
            [b'\\', c @ (b'_' | b'%' | b'\\'), rest @ ..] | [c, rest @ ..] => {
                text.first() == Some(c) && from(&text[1..], rest)
            }
        }
    }
    from(text.as_bytes(), pattern.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_the_server_shows_them() {
        let grants = [
            "GRANT USAGE ON *.* TO `tc`@`%`",
            "GRANT REPLICATION_APPLIER ON *.* TO `tc`@`%`",
            "GRANT SELECT, INSERT ON `g\\_1`.* TO `tc`@`%` WITH GRANT OPTION",
            "GRANT ALL PRIVILEGES ON `all`.* TO `tc`@`%`",
            "GRANT SELECT (`a`, `b`), ALTER, INSERT (`a`) ON `h`.`t``1` TO `tc`@`%`",
            "GRANT EXECUTE ON PROCEDURE `g`.`p` TO `tc`@`%`",
            "GRANT `role`@`%` TO `tc`@`%`",
        ];
        let found = Privileges::of(&grants.map(str::to_owned));
        assert!(found.in_schema("INSERT", "g_1") && !found.in_schema("INSERT", "gx1"));
        assert!(!found.in_schema("ALTER", "g_1") && found.in_schema("ALTER", "all"));
        let table = TableName::new("h", "t`1");
        assert!(found.on_table("ALTER", &table) && !found.in_schema("ALTER", "h"));
        assert!(!found.on_table("SELECT", &table) && !found.on_table("INSERT", &table));
        assert!(!found.everywhere("SELECT") && found.everywhere("REPLICATION_APPLIER"));
    }

    #[test]
    fn a_schema_stands_for_no_other() {
        assert_eq!(whole_schema("g"), "`g`.*");
        assert_eq!(whole_schema("my_app%`"), "`my\\_app\\%```.*");
        let found = Privileges::of(&[format!("GRANT SELECT ON {} TO `tc`@`%`", whole_schema("my_app"))]);
        assert!(found.in_schema("SELECT", "my_app") && !found.in_schema("SELECT", "my1app"));
    }

    #[test]
    fn of_several_patterns_for_a_schema_the_most_specific_counts() {
        let rows = [
            "GRANT SELECT ON `my%`.* TO `tc`@`%`",
            "GRANT SELECT, INSERT ON `my_app`.* TO `tc`@`%`",
            "GRANT TRIGGER ON `my\\_app`.* TO `tc`@`%`",
        ];
        let found = Privileges::of(&rows.map(str::to_owned));
        assert!(found.in_schema("TRIGGER", "my_app") && !found.in_schema("INSERT", "my_app"));
        assert!(found.in_schema("SELECT", "my1app") && found.in_schema("SELECT", "myth"));
        assert!(found.in_schema("INSERT", "my1app") && !found.in_schema("INSERT", "myth"));
        let by_name = Privileges { by_name: true, ..found };
        assert!(by_name.in_schema("INSERT", "my_app") && !by_name.in_schema("TRIGGER", "my_app"));
        assert_eq!(
            by_name.fit("GRANT A ON `my\\_a`.* TO 'x\\_y'@'%'".into()),
            "GRANT A ON `my_a`.* TO 'x\\_y'@'%'"
        );
        // What is given everywhere counts beside.
        let found =
            Privileges::of(&["GRANT ALL PRIVILEGES ON *.* TO `r`@`%`".to_owned(), rows[2].to_owned()]);
        assert!(found.in_schema("LOCK TABLES", "my_app"));
    }

    #[test]
    fn a_partial_revoke_takes_what_is_given_everywhere() {
        let grants = ["GRANT SELECT, INSERT ON *.* TO `tc`@`%`", "REVOKE INSERT ON `g`.* FROM `tc`@`%`"];
        let found = Privileges::of(&grants.map(str::to_owned));
        assert!(found.in_schema("SELECT", "g") && !found.in_schema("INSERT", "g"));
        assert!(found.in_schema("INSERT", "h"));
    }
}
