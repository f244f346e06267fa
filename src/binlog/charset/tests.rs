use proptest::prelude::*;

use super::*;

const ALL: [Charset; 14] = [
    Charset::Utf8,
    Charset::Ascii,
    Charset::Binary,
    Charset::Sjis,
    Charset::Cp932,
    Charset::Gbk,
    Charset::Gb2312,
    Charset::Gb18030,
    Charset::Big5,
    Charset::Ujis,
    Charset::Eucjpms,
    Charset::Euckr,
    Charset::Single("latin1"),
    Charset::Single("cp1251"),
];

#[test]
fn a_backslash_or_backquote_byte_may_be_the_tail_of_a_character() {
    assert_eq!(Charset::Sjis.decode(b"\x95\x5c").unwrap(), "表");
    assert_eq!(Charset::Cp932.decode(b"\x83\x5c\x81\x5b").unwrap(), "ソー");
    assert_eq!(Charset::Gbk.decode(b"\x81\x60").unwrap(), "乣");
    assert_eq!(Charset::Big5.decode(b"\xa5\x5c").unwrap(), "功");
    assert_eq!(Charset::Gb18030.decode(b"\x81\x30\x86\x38").unwrap(), "À");
    assert_eq!(Charset::Euckr.decode(b"\xb0\xa1").unwrap(), "가");
    assert_eq!(Charset::Ujis.decode(b"\xc9\xbd").unwrap(), "表");
    assert_eq!(Charset::Sjis.char_len(b"\x95\x5cx"), 2);
    assert_eq!(Charset::Gb18030.char_len(b"\x81\x30\x86\x38"), 4);
    assert_eq!(Charset::Ujis.char_len(b"\x8f\xb0\xa1"), 3);
}

#[test]
fn single_byte_sets_mean_what_mysql_takes_them_for() {
    assert_eq!(Charset::Single("latin1").decode(b"t\xe4\x80\x81").unwrap(), "tä€\u{81}");
    assert_eq!(Charset::Single("cp1251").decode(b"\xf2").unwrap(), "т");
    assert_eq!(Charset::Single("koi8r").decode(b"\xd4").unwrap(), "т");
    assert_eq!(Charset::Single("cp850").decode(b"\x84").unwrap(), "ä");
    assert!(Charset::Single("latin7").decode(b"\xa1").is_ok());
    assert!(Charset::Single("hebrew").decode(b"\xbf").is_err());
    for (name, upper) in single::TABLES {
        assert_eq!(upper.chars().count(), 128, "{name}");
    }
}

#[test]
fn a_character_that_mysql_reads_otherwise_than_the_encoding_standard_is_refused() {
    for (charset, bytes) in [
        (Charset::Sjis, &b"\x81\x5f"[..]),
        (Charset::Ujis, b"\xa1\xc0"),
        (Charset::Big5, b"\xa1\x45"),
        (Charset::Gb18030, b"\xa6\xd9"),
        (Charset::Gb2312, b"\xa1\xa4"),
        (Charset::Utf8, b"\xe4"),
        (Charset::Ascii, b"\xe4"),
    ] {
        let why = charset.decode(bytes).unwrap_err();
        assert!(why.contains(charset.name()), "{why}");
    }
    assert!(Charset::NotAscii("utf16").decode(b"ab").is_err());
}

#[test]
fn every_collation_of_a_server_has_its_character_set() {
    for (id, name) in [
        (8, "latin1"),
        (13, "sjis"),
        (28, "gbk"),
        (33, "utf8mb4"),
        (45, "utf8mb4"),
        (63, "binary"),
        (95, "cp932"),
        (249, "gb18030"),
        (255, "utf8mb4"),
        (309, "utf8mb4"),
        (54, "utf16"),
        (10, "swe7"),
        (84, "big5"),
    ] {
        assert_eq!(Charset::of_collation(id).unwrap().name(), name, "{id}");
    }
    assert!(Charset::of_collation(0).unwrap_err().to_string().contains("collation id 0"));
    assert!(Charset::of_collation(5000).is_err());
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
        for charset in ALL {
            let _ = charset.decode(&bytes);
            prop_assert!(charset.char_len(&bytes) <= bytes.len());
        }
    }
}
