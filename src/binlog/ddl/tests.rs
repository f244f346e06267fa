use super::*;

mod lexing;
mod properties;
mod tables;

fn statement(text: &str) -> Statement<'_> {
    Statement { text: text.as_bytes(), default_schema: "d", charset: Charset::Utf8, sql_mode: 0 }
}

const ANSI_QUOTES: u64 = 4;
const NO_BACKSLASH_ESCAPES: u64 = 0x10_0000;

fn class(text: &str) -> Class {
    classify(&statement(text)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    doubt(&statement(text))
}

/// The reason why the statement is refused.
fn doubt(statement: &Statement<'_>) -> String {
    match classify(statement) {
        Ok(class) => panic!("{} was taken for {class:?}", String::from_utf8_lossy(statement.text)),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Gate);
            assert!(error.hint_text().is_some());
            error.to_string()
        }
    }
}

fn names(tables: &[TableName]) -> String {
    tables.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(" ")
}

fn ddl(text: &str) -> TableDdl {
    ddl_of(&statement(text))
}

fn ddl_of(statement: &Statement<'_>) -> TableDdl {
    match classify(statement) {
        Ok(Class::Table(ddl)) => ddl,
        other => panic!("{}: {other:?}", String::from_utf8_lossy(statement.text)),
    }
}

fn targets(text: &str) -> String {
    names(&ddl(text).targets)
}

fn schema(text: &str) -> (SchemaVerb, String, Option<String>, Option<String>) {
    match class(text) {
        Class::Schema(ddl) => (ddl.verb, ddl.schema, ddl.charset, ddl.collation),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn statements_of_transactions() {
    assert_eq!(class("BEGIN"), Class::Begin);
    assert_eq!(class("COMMIT"), Class::Commit);
    assert_eq!(class("ROLLBACK"), Class::Rollback);
    assert_eq!(class("SAVEPOINT `a b`"), Class::Savepoint);
    assert_eq!(class("ROLLBACK TO `a`"), Class::RollbackToSavepoint);
    assert_eq!(class("RELEASE SAVEPOINT a"), Class::ReleaseSavepoint);
    for text in [
        "XA START X'61',X'',1",
        "XA END X'61',X'',1",
        "XA PREPARE X'61',X'',1",
        "XA COMMIT X'61',X'',1 ONE PHASE",
    ] {
        assert_eq!(class(text), Class::Xa, "{text}");
    }
    for text in
        ["SAVEPOINT a #", "SAVEPOINT a -- ", "SAVEPOINT a;", "ROLLBACK TO /* x */ a", "/*!50001 COMMIT */"]
    {
        assert!(refused(text).contains("a comment or a semicolon"), "{text}");
    }
    assert!(refused("COMMIT AND CHAIN").contains("'AND' stands where the end is expected"));
    assert!(refused("XA RECOVER").contains("'RECOVER'"));
}

#[test]
fn ddl_on_databases() {
    let some = |text: &str| Some(text.to_string());
    assert_eq!(schema("create database if not exists `a.b`"), (SchemaVerb::Create, "a.b".into(), None, None));
    assert_eq!(
        schema("CREATE SCHEMA g DEFAULT CHARACTER SET = UTF8MB4 COLLATE 'utf8mb4_bin' ENCRYPTION='N'"),
        (SchemaVerb::Create, "g".into(), some("utf8mb4"), some("utf8mb4_bin"))
    );
    assert_eq!(
        schema("CREATE DATABASE g CHARSET latin1"),
        (SchemaVerb::Create, "g".into(), some("latin1"), None)
    );
    assert_eq!(
        schema("ALTER DATABASE g COLLATE=latin1_bin"),
        (SchemaVerb::Alter, "g".into(), None, some("latin1_bin"))
    );
    assert_eq!(
        schema("ALTER DATABASE DEFAULT CHARACTER SET binary"),
        (SchemaVerb::Alter, "d".into(), some("binary"), None)
    );
    assert_eq!(schema("ALTER SCHEMA g READ ONLY = 1"), (SchemaVerb::Alter, "g".into(), None, None));
    assert_eq!(schema("/*!40000 DROP DATABASE IF EXISTS `g`*/"), (SchemaVerb::Drop, "g".into(), None, None));
    assert!(refused("DROP DATABASE g, h").contains("','"));
    assert!(refused("CREATE DATABASE g SOMETHING = 1").contains("'SOMETHING' stands where an option"));
}

#[test]
fn what_touches_no_table_is_other() {
    for (text, what) in [
        ("CREATE USER 'a'@'%' IDENTIFIED WITH 'caching_sha2_password' AS '$A$005$\\0\u{1}x'", "USER"),
        ("ALTER USER CURRENT_USER() IDENTIFIED BY 'x'", "USER"),
        ("DROP ROLE IF EXISTS r", "ROLE"),
        ("RENAME USER a TO b", "RENAME USER"),
        ("GRANT ALL ON g.apps TO a", "GRANT"),
        ("REVOKE ALL ON g.apps FROM a", "REVOKE"),
        ("SET PASSWORD FOR 'a'@'%'='x'", "SET PASSWORD"),
        (
            "CREATE DEFINER=`root`@`localhost` PROCEDURE g.p() BEGIN DROP TABLE g.apps; SELECT 1; END",
            "PROCEDURE",
        ),
        ("CREATE DEFINER=root@localhost FUNCTION f() RETURNS INT RETURN 1", "FUNCTION"),
        ("CREATE AGGREGATE FUNCTION f RETURNS STRING SONAME 'x.so'", "FUNCTION"),
        (
            "CREATE DEFINER=CURRENT_USER() TRIGGER g.a BEFORE INSERT ON g.apps FOR EACH ROW SET @a = 1",
            "TRIGGER",
        ),
        ("ALTER DEFINER = 'a'@'h' EVENT e ENABLE", "EVENT"),
        ("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM g.apps", "EVENT"),
        (
            "CREATE OR REPLACE ALGORITHM=UNDEFINED DEFINER=`r`@`%` SQL SECURITY DEFINER VIEW `v` AS select 1",
            "VIEW",
        ),
        ("DROP VIEW IF EXISTS v", "VIEW"),
        ("CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'h')", "SERVER"),
        ("ALTER UNDO TABLESPACE u SET INACTIVE", "TABLESPACE"),
        ("CREATE OR REPLACE SPATIAL REFERENCE SYSTEM 5000 NAME 'x'", "SPATIAL REFERENCE SYSTEM"),
        ("INSTALL PLUGIN p SONAME 'p.so'", "INSTALL"),
        ("ALTER INSTANCE ROTATE INNODB MASTER KEY", "INSTANCE"),
    ] {
        assert_eq!(class(text), Class::Other(what), "{text}");
    }
}

#[test]
fn maintenance_names_its_tables() {
    let Class::Maintenance { what, tables } = class("OPTIMIZE LOCAL TABLES g.a, b") else { panic!() };
    assert_eq!((what, names(&tables).as_str()), ("OPTIMIZE", "g.a d.b"));
    let Class::Maintenance { tables, .. } = class("ANALYZE TABLE a UPDATE HISTOGRAM ON c WITH 4 BUCKETS")
    else {
        panic!()
    };
    assert_eq!(names(&tables), "d.a");
    assert!(matches!(class("FLUSH TABLES g.a"), Class::Maintenance { what: "FLUSH", .. }));
}

#[test]
fn row_changes_as_statements_name_every_table_that_they_may_mean() {
    for (text, expected) in [
        ("INSERT INTO g.apps VALUES (1)", "g.apps"),
        ("insert apps select * from h . `o.x` as o", "d.apps"),
        ("insert apps select * from h . `o.x` as o", "h.`o.x`"),
        ("UPDATE a JOIN g.apps b ON a.id = b.id SET b.x = 1", "g.apps"),
        ("UPDATE a JOIN g.apps b ON a.id = b.id SET b.x = 1", "d.a"),
        ("DELETE FROM .apps", "d.apps"),
        ("LOAD DATA INFILE 'x' INTO TABLE `g`.`apps`", "g.apps"),
        ("WITH c AS (SELECT 1) DELETE FROM g.apps", "g.apps"),
        ("(SELECT 1) UNION TABLE g.apps", "g.apps"),
        ("CREATE TABLE h.n SELECT * FROM g.apps", "g.apps"),
        ("CREATE TABLE h.n (a INT) ENGINE=InnoDB AS SELECT * FROM g.apps", "h.n"),
        ("CREATE TABLE h.n TABLE g.apps", "g.apps"),
        ("CREATE TABLE h.n AS VALUES ROW(1)", "h.n"),
        ("CREATE TABLE h.n WITH c AS (TABLE g.apps) TABLE c", "g.apps"),
        ("CREATE TABLE g.n IGNORE (SELECT 1)", "g.n"),
    ] {
        let Class::RowStatement { tables, .. } = class(text) else { panic!("{text}") };
        assert!(names(&tables).split(' ').any(|name| name == expected), "{text}: {}", names(&tables));
    }
    assert!(matches!(class("CALL g.p()"), Class::RowStatement { what: "CALL", .. }));
    assert!(matches!(class("DO g.f()"), Class::RowStatement { what: "DO", .. }));
}

#[test]
fn what_is_not_known_is_refused_with_its_beginning() {
    for text in [
        "",
        ";",
        "HANDLER t OPEN",
        "BINLOG 'AAAA'",
        "SET GLOBAL a = 1",
        "SET @@SESSION.sql_log_bin=0",
        "USE g",
        "PREPARE s FROM 'DROP TABLE g.t'",
        "EXECUTE s",
        "IMPORT TABLE FROM 'x'",
        "LOCK TABLES g.t WRITE",
        "CREATE EXTERNAL TABLE g.t (a INT)",
        "CREATE VECTOR INDEX i ON g.t (a)",
        "CREATE SEQUENCE s",
        "SHUTDOWN",
        "`DROP` TABLE g.t",
        "DROP",
        "DROP TEMPORARY",
        "CREATE",
        "ALTER",
        "1",
        "'DROP TABLE g.t'",
        "CLONE INSTANCE",
        "KILL 1",
        "PURGE BINARY LOGS",
        "RESET BINARY LOGS AND GTIDS",
        "CHANGE REPLICATION SOURCE TO a=1",
        "TABLE g.t",
    ] {
        let message = refused(text);
        assert!(message.starts_with("classify the statement '"), "{message}");
    }
    let long = refused(&format!("HANDLER {}\n", "x".repeat(200)));
    assert!(long.contains("HANDLER xxx") && long.contains('…') && long.len() < 300);
    assert!(refused("FOO \n\u{7}").contains("FOO \\n\\u{7}"));
}
