//! The lexer against what MySQL's own does. Guards I6: a text that two servers, or the gate and the server,
//! would read differently never passes.

use super::*;

fn bytes(text: &[u8], charset: Charset) -> Statement<'_> {
    Statement { text, default_schema: "d", charset, sql_mode: 0 }
}

#[test]
fn comments_and_blanks_stand_between_any_tokens() {
    assert_eq!(targets("/* a */DROP/**/TABLE--\tx\n`g`/*b*/ . # '\n `t`\r\n;  -- end"), "g.t");
    assert_eq!(targets("DROP TABLE g.t -- "), "g.t");
    assert_eq!(targets("DROP TABLE g.t --"), "g.t");
    assert_eq!(targets("DROP TABLE g.t; /* x */ # y"), "g.t");
    assert_eq!(targets("DROP TABLE/*+ hint */g.t"), "g.t");
    assert_eq!(targets("\u{b}DROP\u{c}TABLE\rg.t"), "g.t");
    assert!(refused("DROP TABLE g.t --x").contains("'-'"));
    assert!(refused("DROP TABLE g.t /* x").contains("a comment is not closed"));
    assert!(refused("DROP TABLE g.t /* /* */ */").contains("'*'"));
}

#[test]
fn a_second_statement_is_refused() {
    for text in [
        "DROP TABLE g.t; DROP TABLE h.t",
        "DROP TABLE g.t;;",
        "DROP TABLE g.t; /*!50000 DROP TABLE x */",
        "BEGIN; COMMIT",
    ] {
        assert!(refused(text).contains("a second statement follows"), "{text}");
    }
    assert!(refused("/*!50000 DROP TABLE g.t; */").contains("';' inside an executable comment"));
}

#[test]
fn executable_comments_are_code() {
    assert_eq!(targets("DROP TABLE /*! g.t */"), "g.t");
    assert_eq!(targets("DROP TABLE g.a /*!50001 , g.b */"), "g.a g.b");
    assert_eq!(targets("/*!50001 DROP /* x */ TABLE */ g.a"), "g.a");
    // MySQL: the first */ ends it, however many were opened.
    assert_eq!(targets("DROP TABLE g.a /*!50001 , g.b /*!50002 , g.c */ , g.d"), "g.a g.b g.c g.d");
    assert!(refused("DROP TABLE g.a /*!50001 , g.b /*!50002 , g.c */ */").contains("'*'"));
    assert!(refused("DROP TABLE g.a /*!50001 , g.b").contains("an executable comment is not closed"));
}

#[test]
fn what_depends_on_the_version_of_the_server_is_refused() {
    for text in [
        "DROP TABLE g.a /*!90000 , g.b */",
        "DROP TABLE /*!99999 g.a # */ private.t\n/* */",
        "/*!99999 DROP TABLE g.a */",
        "CREATE TABLE /*!80013 IF NOT EXISTS */ g.a (b INT)",
    ] {
        let message = refused(text);
        assert!(message.contains("version") || message.contains("not closed"), "{text}: {message}");
    }
    // To 9.7 the version 8.0.34; to an older server 08003 and then a 4.
    assert!(refused("DROP TABLE g.a /*!080034 , g.b */").contains("version"));
    assert!(refused("DROP TABLE g.a /*!0800345 , g.b */").contains("a version of 7 digits"));
    assert_eq!(targets("CREATE TABLE g.t (a INT) /*!080016 ENCRYPTION='N' */"), "g.t");
    assert!(refused("DROP TABLE g.a /*!8000 , g.b */").contains("a version of 4 digits"));
    // Nothing that matters here depends on it.
    assert_eq!(targets("CREATE TABLE g.t (a INT) /*!80016 ENCRYPTION='N' */"), "g.t");
    assert_eq!(targets("CREATE TABLE g.t (a INT /*!80023 INVISIBLE */)"), "g.t");
}

#[test]
fn quotes_follow_the_sql_mode() {
    let ansi = Statement { sql_mode: ANSI_QUOTES, ..statement(r#"DROP TABLE "g"."a""b.c""#) };
    assert_eq!(ddl_of(&ansi).targets, [TableName::new("g", "a\"b.c")]);
    assert!(refused(r#"DROP TABLE "g"."t""#).contains("a name is expected"));
    // Without backslash escapes the first string ends at the second quote.
    let text = r"CREATE TABLE g.a (b INT COMMENT 'x\', c INT REFERENCES h.p(i) COMMENT ', d INT)";
    assert_eq!(names(&ddl(text).references), "");
    let text = r"CREATE TABLE g.a (b INT COMMENT 'x\', c INT REFERENCES h.p(i))";
    let plain = Statement { sql_mode: NO_BACKSLASH_ESCAPES, ..statement(text) };
    assert_eq!(names(&ddl_of(&plain).references), "h.p");
    assert!(refused(text).contains("a string is not closed"));
    assert_eq!(targets("CREATE TABLE g.a (b INT COMMENT 'it''s ; -- /*', c INT DEFAULT \"'\")"), "g.a");
}

#[test]
fn names_may_be_odd() {
    assert_eq!(ddl("DROP TABLE `a``b` . `c.d e`").targets, [TableName::new("a`b", "c.d e")]);
    assert_eq!(targets("DROP TABLE 1a.2b, $x, _y, a$b.c$d"), "1a.2b d.$x d._y a$b.c$d");
    assert_eq!(targets("DROP TABLE g.1t, .t, g.select, drop.table"), "g.1t d.t g.select drop.table");
    assert_eq!(targets("DROP TABLE tést.日本語"), "tést.日本語");
    assert_eq!(ddl("DROP TABLE `x\ny`.`\t`").targets, [TableName::new("x\ny", "\t")]);
    assert_eq!(targets("DROP TABLE 0xZ.0b2, 0x1Fg"), "0xZ.0b2 d.0x1Fg");
    // Numbers, and so syntax errors.
    for text in [
        "DROP TABLE 1e5",
        "DROP TABLE 0x1F",
        "DROP TABLE g .1t",
        "DROP TABLE `g`.1t",
        "DROP TABLE 12",
        "DROP TABLE 1.t",
    ] {
        refused(text);
    }
    // The server's names are utf8mb3.
    assert_eq!(targets("DROP TABLE `a\u{1F600}b`"), "d.a?b");
    assert!(refused("DROP TABLE ``").contains("an empty identifier"));
    assert!(refused("DROP TABLE `g").contains("not closed"));
    assert!(refused("DROP TABLE $$a$$").contains("two dollar signs"));
    assert!(refused("DROP TABLE g.'t'").contains("a name is expected"));
}

#[test]
fn literals_of_every_kind_are_stepped_over() {
    let text = "CREATE TABLE g.t (a BIT(3) DEFAULT b'101', b BLOB DEFAULT (x'00FF'), c CHAR(9) DEFAULT _utf8mb4'a' \
                COLLATE utf8mb4_bin, d CHAR(3) DEFAULT n'x', e INT DEFAULT 0x1F, f DOUBLE DEFAULT -1.5e-3, g INT DEFAULT .5, \
                h JSON, i INT AS (h->'$.a') , j INT AS (h->>\"$.b\"))";
    assert_eq!(targets(text), "g.t");
}

#[test]
fn nul_bytes_and_line_ends() {
    assert_eq!(targets("CREATE TABLE g.t (a INT COMMENT 'x\0y\r\n')\r\n"), "g.t");
    assert_eq!(targets("DROP TABLE g.a\0"), "g.a");
    assert!(refused("CREATE TABLE g.n (\u{1} LIKE h.x)").contains("the byte 01 outside quotes"));
    assert!(refused("DROP TABLE g.a\0, g.b").contains("a NUL byte outside quotes"));
    assert!(refused("DROP TABLE `g\0`.a").contains("a NUL byte in an identifier"));
    assert!(refused("DROP TABLE g.a -- x\0y").contains("a NUL byte in a comment"));
}

#[test]
fn tails_that_look_like_quotes_and_backslashes_are_none() {
    // sjis 表 is 95 5C, ソ 83 5C; gbk 81 60; big5 功 A5 5C.
    let sjis =
        bytes(b"CREATE TABLE g.\x95\x5c (a INT COMMENT '\x83\x5c', b INT REFERENCES h.p(i))", Charset::Sjis);
    assert_eq!(names(&ddl_of(&sjis).targets), "g.表");
    assert_eq!(names(&ddl_of(&sjis).references), "h.p");
    let gbk = bytes(b"DROP TABLE `g`.`\x81\x60`, x", Charset::Gbk);
    assert_eq!(names(&ddl_of(&gbk).targets), "g.乣 d.x");
    // The same bytes to a server that takes them for latin1: `, then another name begins.
    let latin1 = bytes(b"DROP TABLE `g`.`\x81\x60`, x", Charset::Single("latin1"));
    assert!(doubt(&latin1).contains("not closed"));
    let big5 = bytes(b"CREATE TABLE g.t (a INT COMMENT '\xa5\x5c' , b INT REFERENCES h.p(i))", Charset::Big5);
    assert_eq!(names(&ddl_of(&big5).references), "h.p");
    let escaped = bytes(b"CREATE TABLE g.t (a INT COMMENT '\\\x95\x5c')", Charset::Sjis);
    assert!(doubt(&escaped).contains("a backslash before a character of two bytes"));
    let broken = bytes(b"DROP TABLE `g`.`a\x81`", Charset::Gbk);
    assert!(doubt(&broken).contains("not closed"), "{}", doubt(&broken));
    let broken = bytes(b"DROP TABLE `g`.`a\x81 `", Charset::Gbk);
    assert!(doubt(&broken).contains("its character set has not"));
}

#[test]
fn names_are_read_in_the_clients_character_set() {
    assert_eq!(names(&ddl_of(&bytes(b"DROP TABLE t\xe4", Charset::Single("latin1"))).targets), "d.tä");
    assert_eq!(names(&ddl_of(&bytes(b"DROP TABLE `t\xd4`", Charset::Single("koi8r"))).targets), "d.tт");
    // A connection in `binary`: names are UTF-8, and only in quotes.
    let binary = "DROP TABLE `tä`".as_bytes();
    assert_eq!(names(&ddl_of(&bytes(binary, Charset::Binary)).targets), "d.tä");
    assert!(doubt(&bytes("DROP TABLE tä".as_bytes(), Charset::Binary)).contains("outside quotes"));
    assert!(doubt(&bytes(b"DROP TABLE `t\xe4`", Charset::Binary)).contains("no known character"));
    assert!(doubt(&bytes(b"DROP TABLE `t\xe4`", Charset::Utf8)).contains("its character set has not"));
    // A no-break space is a blank to latin1.
    assert!(doubt(&bytes(b"DROP TABLE\xa0t", Charset::Single("latin1"))).contains("A0 outside quotes"));
    assert!(doubt(&bytes(b"DROP TABLE t", Charset::NotAscii("utf16"))).contains("utf16"));
    // Strings may hold anything.
    assert_eq!(
        names(&ddl_of(&bytes(b"CREATE TABLE t (a INT COMMENT '\xff\xfe')", Charset::Utf8)).targets),
        "d.t"
    );
}
