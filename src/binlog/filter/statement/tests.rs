//! What single statements mean for a set, as events with the status variables that 9.7.4 was seen to write.

use super::*;

/// What the server noted with a statement.
#[derive(Clone, Copy, Default)]
struct Noted<'a> {
    /// Q_UPDATED_DB_NAMES
    updated: &'a [&'a str],
    /// Q_DDL_LOGGED_WITH_XID
    xid: bool,
    /// The collation id of character_set_client; 0 is utf8mb4.
    client: u16,
}

const MADE: Noted<'_> = Noted { updated: &["g"], xid: true, client: 0 };

fn event(schema: &str, text: &str, noted: Noted<'_>) -> Event {
    let mut raw = vec![4];
    let client = if noted.client == 0 { 255 } else { noted.client };
    for id in [client, 255, 255] {
        raw.extend(u16::to_le_bytes(id));
    }
    if !noted.updated.is_empty() {
        raw.extend([12, noted.updated.len() as u8]);
        for name in noted.updated {
            raw.extend(name.as_bytes());
            raw.push(0);
        }
    }
    if noted.xid {
        raw.push(17);
        raw.extend(9u64.to_le_bytes());
    }
    let query = QueryEvent {
        thread_id: 1,
        exec_time: 0,
        error_code: 0,
        schema: schema.into(),
        status: StatusVars { raw },
        text: text.into(),
    };
    let header = Header { timestamp: 1, kind: kind::QUERY, server_id: 7, size: 0, log_pos: 900, flags: 0 };
    Event::build(header, &query.encode_body(), Checksum::Crc32)
}

fn meaning(patterns: &[&str], schema: &str, text: &str, noted: Noted<'_>) -> Result<Meaning> {
    meaning_of(&event(schema, text, noted), &TableSet::parse(patterns).unwrap())
}

fn passes(patterns: &[&str], schema: &str, text: &str, noted: Noted<'_>) {
    let meaning = meaning(patterns, schema, text, noted);
    assert!(matches!(meaning, Ok(Meaning::Nothing)), "{text}: {meaning:?}");
}

fn is_kept(patterns: &[&str], text: &str, noted: Noted<'_>) {
    let meaning = meaning(patterns, "g", text, noted);
    assert!(matches!(meaning, Ok(Meaning::Keep(..))), "{text}: {meaning:?}");
}

fn refused(patterns: &[&str], schema: &str, text: &str, noted: Noted<'_>) -> String {
    let error = meaning(patterns, schema, text, noted).expect_err(text);
    assert_eq!(error.kind(), Kind::Gate, "{text}: {error}");
    assert!(error.hint_text().is_some(), "{text}: {error}");
    error.to_string()
}

#[test]
fn i6_what_the_gate_of_a_region_would_refuse_is_not_shipped() {
    for (text, outside) in [
        (
            "ALTER TABLE g.t ENGINE=MyISAM",
            "ALTER TABLE on g.t, which is in the table set, reaches outside the table: ENGINE",
        ),
        ("CREATE TABLE t (a INT) ENGINE=MEMORY", "ENGINE"),
        ("CREATE TABLE t (a INT) DATA DIRECTORY='/x'", "DATA DIRECTORY"),
        ("ALTER TABLE t DISCARD TABLESPACE", "TABLESPACE"),
        ("ALTER TABLE t SECONDARY_ENGINE=RAPID", "SECONDARY_ENGINE"),
        ("CREATE TABLE t (a INT) CONNECTION='x'", "CONNECTION"),
    ] {
        assert!(refused(&["g.t"], "g", text, MADE).ends_with(outside), "{text}");
        passes(&["h.t"], "g", text, MADE);
    }
    for text in [
        "CREATE TABLE t (a INT) ENGINE=InnoDB TABLESPACE=innodb_file_per_table",
        "ALTER TABLE t SECONDARY_ENGINE=NULL",
    ] {
        is_kept(&["g.t"], text, MADE);
    }
}

#[test]
fn i3_rows_that_a_region_could_number_otherwise_are_refused() {
    let text = "ALTER TABLE t ADD id INT AUTO_INCREMENT PRIMARY KEY";
    assert!(refused(&["g.t"], "g", text, MADE).contains("adds an AUTO_INCREMENT column to g.t"));
    passes(&["g.u"], "g", text, MADE);
    is_kept(&["g.t"], "ALTER TABLE t DROP PRIMARY KEY, ADD id INT AUTO_INCREMENT PRIMARY KEY", MADE);
    // A ghost is empty when it is altered.
    is_kept(&["g.t"], "ALTER TABLE _t_gho ADD id INT AUTO_INCREMENT PRIMARY KEY", MADE);
    is_kept(&["g.*"], "ALTER TABLE _t_new ADD id INT AUTO_INCREMENT PRIMARY KEY", MADE);
}

#[test]
fn i6_create_if_not_exists_that_made_nothing_does_not_travel() {
    let nothing = Noted { xid: false, ..MADE };
    let text = "CREATE TABLE IF NOT EXISTS t (a INT)";
    passes(&["g.*"], "g", text, nothing);
    is_kept(&["g.*"], text, MADE);
    is_kept(&["g.*"], "CREATE TABLE IF NOT EXISTS t (a INT) START TRANSACTION", nothing);
    is_kept(&["g.*"], "DROP TABLE IF EXISTS t", nothing);
    // Another engine's table has no number either.
    refused(&["g.*"], "g", "CREATE TABLE IF NOT EXISTS t (a INT) ENGINE=MyISAM", nothing);
}

const CHECKSUM: &str = "REPLACE INTO `percona`.`checksums` (db, tbl, chunk, chunk_index, lower_boundary, \
     upper_boundary, this_cnt, this_crc) SELECT 'g', 't', '1', 'PRIMARY', '1', '99', COUNT(*) AS cnt, \
     COALESCE(LOWER(CONV(BIT_XOR(CAST(CRC32(CONCAT_WS('#', `id`, convert(`a` using utf8mb4), CONCAT(ISNULL(`a`)))) \
     AS UNSIGNED)), 10, 16)), 0) AS crc FROM `g`.`t` FORCE INDEX(`PRIMARY`) WHERE ((`id` >= '1')) AND \
     ((`id` <= '99')) /*checksum chunk*/";

#[test]
fn i3_pt_table_checksum_does_not_stop_the_stream() {
    let both = Noted { updated: &["percona", "g"], ..Noted::default() };
    passes(&["g.t"], "g", CHECKSUM, both);
    passes(&["g.*"], "g", CHECKSUM, both);
    // Where foreign keys lead on from the table, the server names no databases.
    passes(&["g.t"], "g", CHECKSUM, Noted::default());
    let percona = Noted { updated: &["percona"], ..Noted::default() };
    for text in [
        "UPDATE `percona`.`checksums` SET chunk_time = '0.1', master_crc = 'x', master_cnt = '3' WHERE db = 'g' \
         AND tbl = 't' AND chunk = '1'",
        "DELETE FROM `percona`.`checksums` WHERE db = 'g' AND tbl = 't'",
    ] {
        passes(&["g.*"], "g", text, percona);
    }
}

#[test]
fn i3_what_only_looks_like_a_checksum_is_refused() {
    let both = Noted { updated: &["percona", "g"], ..Noted::default() };
    for (from, to) in [
        ("COUNT(*)", "g.count(1)"),
        ("COUNT(*)", "`count`(1)"),
        ("COUNT(*)", "mine (1)"),
        ("COUNT(*)", "/*!99999 mine(1), */ COUNT(*)"),
        ("upper_boundary, ", ""),
        ("`percona`.`checksums`", "`g`.`t`"),
        ("REPLACE INTO", "INSERT INTO"),
    ] {
        let text = CHECKSUM.replacen(from, to, 1);
        assert_ne!(text, CHECKSUM);
        refused(&["g.t"], "x", &text, both);
    }
}

#[test]
fn i3_a_statement_that_changed_nothing_of_the_sets_databases_is_foreign_whatever_it_names() {
    let elsewhere = Noted { updated: &["p"], ..Noted::default() };
    passes(&["g.*"], "g", "INSERT INTO p.checks VALUES (80, 80)", elsewhere);
    let both = Noted { updated: &["p", "g"], ..Noted::default() };
    for text in ["INSERT INTO p.c SELECT * FROM g.t", "INSERT INTO p.c VALUES (1)", "UPDATE p.v SET a = 1"] {
        refused(&["g.t"], "p", text, both);
        refused(&["g.t"], "p", "INSERT INTO p.parent VALUES (1)", Noted::default());
    }
}

#[test]
fn i3_a_statement_that_cannot_be_read_stops_the_stream_only_if_it_may_be_about_the_set() {
    const SWE7: u16 = 10;
    let elsewhere = Noted { updated: &["p"], ..Noted::default() };
    for text in ["NEWER STATEMENT ON p.t", "NEWER ON apps_x.t, xapps.t, apps2.t"] {
        passes(&["apps.t"], "p", text, elsewhere);
    }
    passes(&["apps.t"], "", "CREATE USER a", Noted { client: SWE7, updated: &["mysql"], ..elsewhere });
    for text in [
        "NEWER STATEMENT ON apps.t",
        "NEWER `Apps`.t",
        "NEWER /*!800161apps.t */",
        "NEWER \u{a0}apps\u{a0}.t",
        "NEWER apps",
        // In another character set the byte could be a blank.
        "NEWER `appsé`.t",
    ] {
        refused(&["apps.t"], "p", text, elsewhere);
    }
    let text = "NEWER STATEMENT ON t";
    refused(&["apps.t"], "apps", text, elsewhere);
    refused(&["apps.t"], "p", text, Noted { updated: &["p", "apps"], ..elsewhere });
    refused(&["apps.t"], "p", text, Noted::default());
    // Such a name could be other bytes in another character set.
    refused(&["`ap-ps`.t"], "p", text, elsewhere);
}
