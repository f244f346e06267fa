use proptest::prelude::*;

use super::*;

fn query(status: &[u8]) -> QueryEvent {
    QueryEvent {
        thread_id: 7,
        exec_time: 0,
        error_code: 0,
        schema: b"g".to_vec(),
        status: StatusVars { raw: status.to_vec() },
        text: b"DROP TABLE t".to_vec(),
    }
}

fn session(status: &[u8]) -> Session {
    Session::of(1_700_000_000, &query(status)).unwrap()
}

fn refusal(status: &[u8]) -> String {
    Session::of(0, &query(status)).unwrap_err().to_string()
}

#[test]
fn every_status_variable_is_read() {
    let mut raw = Vec::new();
    raw.extend([0]);
    raw.extend((NO_FOREIGN_KEY_CHECKS | AUTO_IS_NULL).to_le_bytes());
    raw.extend([1]);
    raw.extend(0x10_0004u64.to_le_bytes());
    raw.extend(b"\x06\x03std");
    raw.extend(b"\x02\x03std\0");
    raw.extend([3, 5, 0, 2, 0]);
    raw.extend([4, 8, 0, 15, 0, 63, 0]);
    raw.extend(b"\x05\x0dEurope/Berlin");
    raw.extend([7, 4, 0]);
    raw.extend([8, 255, 0]);
    raw.extend([9, 1, 0, 0, 0, 0, 0, 0, 0]);
    raw.extend([10, 1, 2, 3, 4]);
    raw.extend(b"\x0b\x04root\x09localhost");
    raw.extend(b"\x0c\x02g\0h\0");
    raw.extend([13, 0x40, 0xE2, 0x01]);
    raw.extend([16, 0]);
    raw.extend([17, 1, 2, 3, 4, 5, 6, 7, 8]);
    raw.extend([18, 45, 0]);
    raw.extend([19, 1]);
    raw.extend([20, 0xff]);
    raw.extend([21, 1]);
    let session = session(&raw);
    assert_eq!(
        (session.foreign_key_checks, session.unique_checks, session.auto_is_null),
        (false, true, true)
    );
    assert_eq!(session.sql_mode, Some(0x10_0004));
    assert_eq!(session.auto_increment, Some((5, 2)));
    assert_eq!(session.charset, Some(Charsets { client: 8, connection: 15, server: 63 }));
    assert_eq!(session.time_zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!((session.lc_time_names, session.collation_database), (Some(4), Some(255)));
    assert_eq!(session.updated_schemas, UpdatedSchemas::These(vec!["g".into(), "h".into()]));
    assert_eq!(session.microseconds, Some(123_456));
    assert_eq!(session.explicit_defaults_for_timestamp, Some(false));
    assert_eq!(session.default_collation_for_utf8mb4, Some(45));
    assert_eq!(session.sql_require_primary_key, Some(true));
    assert_eq!((session.default_table_encryption, session.enable_cascade_triggers), (None, Some(true)));
    assert!(session.is_atomic_ddl);
    assert_eq!(session.client_charset().unwrap(), Charset::Single("latin1"));

    let statements = session.varying_statements((9, 7, 4));
    assert_eq!(
        statements,
        ["SET sql_mode=1048580, character_set_client=8, collation_connection=15, collation_server=63, \
          default_collation_for_utf8mb4=45, time_zone='Europe/Berlin', lc_time_names=4, foreign_key_checks=0, \
          unique_checks=1, sql_auto_is_null=1, auto_increment_increment=5, auto_increment_offset=2, \
          explicit_defaults_for_timestamp=0, sql_require_primary_key=1, default_table_encryption=0, \
          enable_cascade_triggers=1, pseudo_thread_id=7, timestamp=1700000000.123456"]
    );
}

#[test]
fn what_the_event_does_not_carry_gets_a_fixed_value() {
    let session = session(b"");
    assert_eq!(session.client_charset().unwrap(), Charset::Utf8);
    assert_eq!(
        session.varying_statements((8, 4, 0)),
        [
            "SET sql_mode=1168113696, character_set_client=255, collation_connection=255, collation_server=255, \
          default_collation_for_utf8mb4=255, time_zone='+00:00', lc_time_names=0, foreign_key_checks=1, \
          unique_checks=1, sql_auto_is_null=0, auto_increment_increment=1, auto_increment_offset=1, \
          explicit_defaults_for_timestamp=1, sql_require_primary_key=0, default_table_encryption=0, \
          pseudo_thread_id=7, timestamp=1700000000"
        ]
    );
}

#[test]
fn a_session_in_the_same_state_needs_nothing_and_in_another_only_the_difference() {
    let first = session(&[3, 5, 0, 2, 0]);
    assert_eq!(first.varying_statements_after(&first, (9, 7, 4)), Vec::<String>::new());
    let second = Session { timestamp: 1, ..session(b"") };
    assert_eq!(
        second.varying_statements_after(&first, (9, 7, 4)),
        ["SET auto_increment_increment=1, auto_increment_offset=1, timestamp=1"]
    );
}

#[test]
fn each_version_gets_only_variables_that_it_has() {
    let all = |version| session(b"").set_statements(version).join(";");
    assert!(!all((8, 0, 12)).contains("default_table_encryption"));
    assert!(
        !all((8, 0, 29)).contains("generate_invisible") && all((8, 0, 30)).contains("generate_invisible")
    );
    assert!(!all((8, 0, 44)).contains("restrict_fk") && all((8, 4, 0)).contains("restrict_fk"));
    assert!(!all((9, 6, 0)).contains("cascade") && all((9, 7, 0)).contains("enable_cascade_triggers=0"));
    assert!(all((9, 7, 4)).is_ascii());
}

#[test]
fn an_unknown_status_variable_is_refused_by_its_number() {
    assert_eq!(refusal(&[22, 1]), "read the session of a statement: status variable 22 is unknown");
    assert_eq!(refusal(&[14]), "read the session of a statement: status variable 14 is unknown");
}

#[test]
fn i6_a_sql_mode_that_the_server_would_expand_or_refuse_is_refused() {
    let of = |mode: u64| [&[1][..], &mode.to_le_bytes()].concat();
    for mode in [0x4_0000, 0x4_0003, 0x800_0000, 0x100, 0x1000_0000, 1 << 40] {
        assert!(refusal(&of(mode)).contains("is none that a server writes"), "{mode:#x}");
    }
    // SET sql_mode='ANSI' and 'TRADITIONAL', as 9.7 logs them; the default.
    for mode in [0x4_002F, 0x4DE0_0000, DEFAULT_SQL_MODE, 0] {
        assert_eq!(session(&of(mode)).sql_mode, Some(mode), "{mode:#x}");
    }
}

#[test]
fn a_time_zone_cannot_break_out_of_its_quotes() {
    assert!(refusal(b"\x05\x03a'b").contains("time zone"));
    assert!(refusal(b"\x05\x03a\\b").contains("time zone"));
    assert!(refusal(b"\x05\x01\xff").contains("time zone"));
}

#[test]
fn the_system_time_zone_is_never_set() {
    let session = session(b"\x05\x06SYSTEM");
    assert!(session.is_in_system_zone());
    assert!(session.set_statements((9, 7, 0)).concat().contains("time_zone='+00:00'"));
}

#[test]
fn a_time_zone_is_exchanged_and_nothing_else() {
    let raw = [&[3, 5, 0, 2, 0][..], b"\x05\x06SYSTEM", &[7, 4, 0]].concat();
    let vars = StatusVars { raw };
    assert_eq!(vars.time_zone().unwrap().as_deref(), Some(&b"SYSTEM"[..]));
    let fixed = vars.with_time_zone(Some("+05:30")).unwrap();
    assert_eq!(fixed.raw, [&[3, 5, 0, 2, 0][..], b"\x05\x06+05:30", &[7, 4, 0]].concat());
    assert_eq!(vars.with_time_zone(None).unwrap().raw, [3, 5, 0, 2, 0, 7, 4, 0]);
    let without = StatusVars { raw: vec![7, 4, 0] };
    assert_eq!(without.with_time_zone(Some("+05:30")).unwrap(), without);
}

#[test]
fn too_many_changed_schemas_to_name_are_unknown() {
    assert_eq!(session(&[12, 254]).updated_schemas, UpdatedSchemas::Unknown);
    assert_eq!(session(&[12, 0]).updated_schemas, UpdatedSchemas::Unknown);
    assert_eq!(session(b"").updated_schemas, UpdatedSchemas::Unknown);
    assert!(refusal(&[12, 2, b'g', 0]).contains("1 bytes are needed"));
}

#[test]
fn the_create_of_a_create_select_is_read_in_utf8() {
    let latin1 = [4, 8, 0, 8, 0, 8, 0];
    let written = QueryEvent {
        text: "CREATE TABLE `g`.`tå` (\n  `a` int\n) START TRANSACTION".as_bytes().to_vec(),
        ..query(&latin1)
    };
    let session = Session::of(0, &written).unwrap();
    assert_eq!(session.charset, Some(Charsets { client: 255, connection: 255, server: 8 }));
    let options = "CREATE TABLE `g`.`t` (\n  `a` int\n) START TRANSACTION DEFAULT CHARSET=latin1 COMMENT='å'";
    let written = QueryEvent { text: options.as_bytes().to_vec(), ..written };
    assert_eq!(Session::of(0, &written).unwrap().client_charset().unwrap(), Charset::Utf8);
    // The same words in the user's own statement, in latin1, stays what it is.
    let own = QueryEvent { text: b"CREATE TABLE g.t\xe5 (a int) START TRANSACTION".to_vec(), ..written };
    assert_eq!(Session::of(0, &own).unwrap().client_charset().unwrap(), Charset::Single("latin1"));
}

#[test]
fn a_query_event_reads_back_from_its_bytes() {
    let written = query(&[3, 5, 0, 2, 0]);
    assert_eq!(QueryEvent::parse_body(&written.encode_body()).unwrap(), written);
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(query) = QueryEvent::parse_body(&body) {
            prop_assert_eq!(query.encode_body(), body);
            let _ = Session::of(0, &query);
        }
    }

    #[test]
    fn any_status_variables_are_a_session_or_an_error(raw in proptest::collection::vec(0u8..24, 0..60)) {
        if let Ok(session) = Session::of(0, &query(&raw)) {
            prop_assert!(session.set_statements((9, 7, 4)).iter().all(|set| set.is_ascii()));
        }
    }
}
