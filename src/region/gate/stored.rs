//! The gate for what stands in the index itself: definitions of tables and names of collations. Whoever can write
//! to the bucket writes these, too, and a region makes tables and schemas by them.

use crate::binlog::charset::Charset;
use crate::binlog::ddl::{Class, Statement, TableDdl, TableVerb, classify};
use crate::binlog::name::{TableName, TableSet};
use crate::{Error, Kind, Result};

/// Lets a definition through that makes this one table and reaches nothing else. It is read as
/// [`create`](crate::region::definitions::create) runs it: in UTF-8, without any sql_mode, in the table's schema.
pub fn definition(tables: &TableSet, table: &TableName, create_table: &str) -> Result<()> {
    let refuse = |why: String| {
        Error::new(Kind::Gate, format!("gate: refuse the definition of {table} in the index: {why}"))
    };
    let class = classify(&Statement {
        text: create_table.as_bytes(),
        default_schema: &table.schema,
        charset: Charset::Utf8,
        sql_mode: 0,
    })
    .map_err(|error| refuse("it is not understood".to_owned()).hint(FORGED).caused_by(error))?;
    let Class::Table(TableDdl {
        verb: TableVerb::Create,
        targets,
        references,
        temporary: false,
        row_create: false,
        if_exists: false,
        reaches_outside,
        ..
    }) = class
    else {
        return Err(refuse("it is no CREATE TABLE as a server shows it".to_owned()).hint(FORGED));
    };
    if !tables.admits(table) || targets != [table.clone()] {
        let made: Vec<String> = targets.iter().map(ToString::to_string).collect();
        return Err(refuse(format!("it makes {}", made.join(", "))).hint(FORGED));
    }
    if !reaches_outside.is_empty() {
        let outside = reaches_outside.join(", ");
        return Err(refuse(format!("it reaches outside the table: {outside}")).hint(FORGED));
    }
    match references.iter().find(|parent| !tables.admits(parent)) {
        None => Ok(()),
        Some(parent) => Err(refuse(format!("it points at {parent}, which is not in this region's list")).hint(
            format!(
                "if {parent} is in this region too, add it to `tables` in [region] of the config; else make {table} \
                 by hand without that foreign key, and know that no region can keep it"
            ),
        )),
    }
}

const FORGED: &str = "nothing was run; upload never writes this: somebody else has written to the bucket. Compare \
                      index.json with older versions of it";

/// Lets a name of a collation through that needs no quotes anywhere.
pub fn collation(name: &str) -> Result<()> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(Error::new(Kind::Gate, format!("gate: refuse {name:?}: no collation is called so")).hint(FORGED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let tables = TableSet::parse(&["g.t", "g.p"]).unwrap();
        let error = definition(&tables, &TableName::new("g", "t"), text).expect_err(text);
        assert_eq!(error.kind(), Kind::Gate, "{text}");
        assert!(error.hint_text().is_some(), "{text}");
        error.to_string()
    }

    /// I6.
    #[test]
    fn a_definition_that_does_more_than_make_its_table_is_refused() {
        for (text, says) in [
            ("CREATE TABLE `t` (id INT); DROP DATABASE victim", "not understood"),
            ("CREATE TABLE `t` (id INT);\nCREATE USER backdoor", "not understood"),
            ("DROP DATABASE victim", "no CREATE TABLE"),
            ("CREATE USER backdoor", "no CREATE TABLE"),
            ("GRANT ALL ON *.* TO tablecast", "no CREATE TABLE"),
            ("DROP TABLE t", "no CREATE TABLE"),
            ("ALTER TABLE t RENAME TO p", "no CREATE TABLE"),
            ("CREATE TEMPORARY TABLE t (id INT)", "no CREATE TABLE"),
            ("CREATE TABLE IF NOT EXISTS t (id INT)", "no CREATE TABLE"),
            ("CREATE TABLE t (id INT) START TRANSACTION", "no CREATE TABLE"),
            ("CREATE TABLE t SELECT * FROM mysql.user", "no CREATE TABLE"),
            ("CREATE TABLE t (id INT) TABLE mysql.user", "no CREATE TABLE"),
            ("CREATE TABLE h.t (id INT)", "it makes h.t"),
            ("CREATE TABLE p (id INT)", "it makes g.p"),
            ("CREATE TABLE tablecast.position (id INT)", "it makes tablecast.position"),
            ("CREATE TABLE t LIKE mysql.user", "points at mysql.user"),
            ("CREATE TABLE t (id INT REFERENCES h.p (id))", "points at h.p"),
            ("CREATE TABLE t (id INT, FOREIGN KEY (id) REFERENCES private (id))", "points at g.private"),
            ("CREATE TABLE t (id INT) DATA DIRECTORY='/tmp'", "DATA DIRECTORY"),
            ("CREATE TABLE t (id INT) ENGINE=FEDERATED CONNECTION='mysql://x'", "ENGINE, CONNECTION"),
            ("CREATE TABLE t (id INT, b TEXT DEFAULT (`load_file`('/etc/passwd')))", "LOAD_FILE"),
            ("CREATE TABLE t (id INT /*!50100 , x INT) ; DROP TABLE p */", "not understood"),
            ("", "not understood"),
        ] {
            let message = refusal(text);
            assert!(message.contains(says), "{text}: {message} does not say {says:?}");
        }
    }

    #[test]
    fn a_definition_as_a_server_shows_it_passes() {
        let tables = TableSet::parse(&["g.t", "g.p"]).unwrap();
        for text in [
            "CREATE TABLE `t` (\n  `id` int NOT NULL,\n  `s` varchar(9) DEFAULT 'it''s; \\\\ # --',\n  `g` geometry NOT \
             NULL /*!80003 SRID 4326 */,\n  `i` int DEFAULT NULL /*!80023 INVISIBLE */,\n  `v` int GENERATED ALWAYS AS \
             ((`id` + 1)) VIRTUAL,\n  PRIMARY KEY (`id`),\n  KEY `k` (`i`) /*!80000 INVISIBLE */,\n  CONSTRAINT `c` \
             CHECK ((`id` > 0)),\n  CONSTRAINT `f` FOREIGN KEY (`i`) REFERENCES `p` (`id`) ON DELETE CASCADE\n) \
             ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='a;b' /*!80016 ENCRYPTION='N' */",
            "CREATE TABLE `t` (\n  `id` int NOT NULL\n) ENGINE=InnoDB DEFAULT CHARSET=latin1\n/*!50100 PARTITION BY RANGE \
             (`id`)\n(PARTITION p0 VALUES LESS THAN (10) ENGINE = InnoDB,\n PARTITION p1 VALUES LESS THAN MAXVALUE ENGINE \
             = InnoDB) */",
        ] {
            definition(&tables, &TableName::new("g", "t"), text).unwrap();
        }
    }

    #[test]
    fn a_collation_is_a_plain_name() {
        collation("utf8mb4_0900_ai_ci").unwrap();
        for name in ["", "a b", "x; DROP DATABASE g", "x'", "binary -- ", "ä"] {
            assert_eq!(collation(name).unwrap_err().kind(), Kind::Gate, "{name}");
        }
    }
}
