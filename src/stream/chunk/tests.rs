//! Chunks as they are written, and everything that is none. The judge of what a server would make of a text is a
//! lexer of this file's own, which knows nothing of the grammar.

use std::io::{self, Read};

use proptest::prelude::*;

use super::*;
use crate::binlog::name::shadow_name;
use crate::error::{Kind, Result};

/// How much more than usual is tried: TABLECAST_ROUNDS=100 for a long run.
fn cases(usual: u32) -> ProptestConfig {
    let rounds = std::env::var("TABLECAST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    ProptestConfig::with_cases(usual.saturating_mul(rounds))
}

const NO_LIMITS: Limits = Limits { statement: u64::MAX, raw_size: u64::MAX };

fn target() -> TableName {
    shadow_name(&TableName::new("g", "apps"))
}

fn columns(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("c`{number}")).collect()
}

fn write(rows: &[Vec<u8>], columns: &[String]) -> (Vec<u8>, ChunkStats) {
    let mut writer = ChunkWriter::new(Vec::new(), &target(), columns).unwrap();
    for row in rows {
        writer.row(row).unwrap();
    }
    writer.finish().unwrap()
}

/// Every statement in `bytes`, and what there was in all.
fn read(bytes: impl Read, columns: &[String], limits: Limits) -> Result<(Vec<Vec<u8>>, ChunkStats)> {
    let mut reader = ChunkReader::new(bytes, &target(), columns, limits)?;
    let mut statements = Vec::new();
    while let Some(statement) = reader.next()? {
        statements.push(statement.text.to_vec());
    }
    Ok((statements, reader.finish()?))
}

/// A reader that gives its bytes in pieces of a few.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

/// The tokens that a server with backslash escapes finds, `Err` where it finds an error: words, quoted names as
/// `` ` ``, literals as `v`, and punctuation.
fn server_tokens(text: &[u8]) -> Result<String, &'static str> {
    let mut tokens = String::new();
    let mut at = 0;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | 0x80..);
    let string = |mut at: usize| -> Result<usize, &'static str> {
        loop {
            match (text.get(at).ok_or("an open string")?, text.get(at + 1)) {
                (b'\\', _) => at += 2,
                (b'\'', Some(b'\'')) => at += 2,
                (b'\'', _) => return Ok(at + 1),
                _ => at += 1,
            }
        }
    };
    while at < text.len() {
        match text[at] {
            b' ' | b'\n' | b'\t' | b'\r' => at += 1,
            b'#' => return Err("a comment"),
            b'-' if text[at..].starts_with(b"--") => return Err("a comment, or two minuses"),
            b'/' if text[at..].starts_with(b"/*") => return Err("a comment"),
            b'\'' => {
                at = string(at + 1)?;
                tokens.push('v');
            }
            b'`' => {
                at += 1;
                loop {
                    match (text.get(at).ok_or("an open name")?, text.get(at + 1)) {
                        (b'`', Some(b'`')) => at += 2,
                        (b'`', _) => break,
                        _ => at += 1,
                    }
                }
                at += 1;
                tokens.push('`');
            }
            // A dot behind a quoted name is no number's.
            b'.' => {
                at += 1;
                tokens.push('.');
            }
            byte if word(byte) || byte == b'-' => {
                let from = at;
                at += 1;
                while at < text.len()
                    && (word(text[at])
                        || (text[at] == b'-'
                            && text[at - 1] == b'e'
                            && text[from] != b'_'
                            && !text[from].is_ascii_alphabetic()))
                {
                    at += 1;
                }
                match &text[from..at] {
                    b"_utf8mb4" if text.get(at) == Some(&b'\'') => {}
                    b"NULL" => tokens.push('v'),
                    word if word[0].is_ascii_digit() || word[0] == b'-' => tokens.push('v'),
                    word => tokens.push_str(&format!("<{}>", String::from_utf8_lossy(word))),
                }
            }
            punct => {
                at += 1;
                tokens.push(punct as char);
            }
        }
    }
    Ok(tokens)
}

/// I6: what a statement may be to a server.
fn is_nothing_but_an_insert(statement: &[u8], columns: usize) -> bool {
    let Ok(tokens) = server_tokens(statement) else { return false };
    let list = |what: &str| format!("({})", vec![what; columns].join(","));
    let Some(rows) = tokens.strip_prefix(&format!("<INSERT><INTO>`.`{}<VALUES>", list("`"))) else {
        return false;
    };
    let row = list("v");
    rows.len() % (row.len() + 1) == row.len()
        && rows == vec![row.as_str(); rows.len() / (row.len() + 1) + 1].join(",")
}

fn string_body() -> impl Strategy<Value = Vec<u8>> {
    let escape = prop::sample::select(vec!["\\\\", "\\'", "\\0", "\\n", "\\r", "\\Z"])
        .prop_map(|e| e.as_bytes().to_vec());
    let hostile = prop::sample::select(vec![
        "; DROP TABLE t; -- ",
        "/*! */",
        "*/",
        "(",
        ");\n",
        "),\n(",
        "`",
        "\"",
        "#",
        "--",
        "\0",
        "\n",
        "\r\n",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let raw = prop::collection::vec(any::<u8>(), 0..20)
        .prop_map(|bytes| bytes.into_iter().filter(|byte| !matches!(byte, b'\'' | b'\\')).collect());
    prop::collection::vec(prop_oneof![escape, hostile, raw], 0..6)
        .prop_map(|parts: Vec<Vec<u8>>| parts.concat())
}

fn literal() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"NULL".to_vec()),
        "-?[0-9]{1,20}(\\.[0-9]{1,10})?(e-?[0-9]{1,3})?".prop_map(String::into_bytes),
        "0x([0-9A-F]{2}){1,40}".prop_map(String::into_bytes),
        string_body().prop_map(|body| [b"'", &body[..], b"'"].concat()),
        string_body().prop_map(|body| [b"_utf8mb4'", &body[..], b"'"].concat()),
    ]
}

fn rows() -> impl Strategy<Value = (usize, Vec<Vec<u8>>)> {
    (0usize..5).prop_flat_map(|columns| {
        let row = prop::collection::vec(literal(), columns)
            .prop_map(|literals| [&b"("[..], &literals.join(&b','), b")"].concat());
        (Just(columns), prop::collection::vec(row, 1..12))
    })
}

/// Bytes that mean something to the grammar, or to a server.
fn telling_byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(b"'\\`\"(),;\n \t-/*!#0x9AaeENULL._\0\x80\xff".to_vec()), any::<u8>()]
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn what_is_written_is_read_statement_by_statement((count, rows) in rows(), piece in 1usize..40) {
        let columns = columns(count);
        let (bytes, written) = write(&rows, &columns);
        prop_assert_eq!(written.rows, rows.len() as u64);
        prop_assert_eq!(written.raw_size, bytes.len() as u64);
        prop_assert_eq!(written.checksum, rows.iter().map(|row| RowsChecksum::of_row(row)).sum());
        for limits in [NO_LIMITS, Limits { statement: written.largest_statement, raw_size: written.raw_size }] {
            let (statements, found) = read(Trickle(&bytes, piece), &columns, limits).unwrap();
            prop_assert_eq!(found, written);
            let mut reader = ChunkReader::new(&bytes[..], &target(), &columns, limits).unwrap();
            let mut tuples: Vec<Vec<u8>> = Vec::new();
            while let Some(statement) = reader.next().unwrap() {
                tuples.extend(statement.tuples().map(<[u8]>::to_vec));
            }
            prop_assert_eq!(&tuples, &rows);
            prop_assert_eq!(peek(&bytes), Some((target(), columns.clone())));
            let mut again = HEADER.as_bytes().to_vec();
            for statement in &statements {
                prop_assert!(is_nothing_but_an_insert(statement, count), "{}", statement.escape_ascii());
                again.extend_from_slice(statement);
                again.extend_from_slice(b";\n");
            }
            prop_assert_eq!(&again, &bytes);
        }
    }

    /// I6: whatever is done to a chunk, what passes is an INSERT of values into exactly that table.
    #[test]
    fn a_chunk_that_was_changed_is_refused_or_still_nothing_but_rows(
        (count, rows) in rows(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, telling_byte(), any::<prop::sample::Index>()), 1..4),
        piece in 1usize..40,
    ) {
        let columns = columns(count);
        let (mut bytes, _) = write(&rows, &columns);
        for (at, how, with, length) in edits {
            let at = HEADER.len().min(bytes.len()) + at.index(bytes.len().saturating_sub(HEADER.len()) + 1);
            let at = at.min(bytes.len());
            match how {
                0 if at < bytes.len() => bytes[at] = with,
                1 => bytes.insert(at, with),
                2 => bytes.truncate(at),
                _ => {
                    let end = at + length.index(bytes.len() - at + 1);
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        let (size, mut given) = (bytes.len() as u64, HEADER.as_bytes().to_vec());
        let mut reader = match ChunkReader::new(Trickle(&bytes, piece), &target(), &columns, NO_LIMITS) {
            Ok(reader) => reader,
            Err(error) => {
                prop_assert!(matches!(error.kind(), Kind::Gate | Kind::Corrupt));
                return Ok(());
            }
        };
        loop {
            match reader.next() {
                Ok(Some(statement)) => {
                    prop_assert!(is_nothing_but_an_insert(statement.text, count), "{}", statement.text.escape_ascii());
                    given.extend_from_slice(statement.text);
                    given.extend_from_slice(b";\n");
                }
                Ok(None) => {
                    // Nothing was passed over.
                    prop_assert_eq!(&given, &bytes);
                    prop_assert_eq!(reader.finish().unwrap().raw_size, size);
                    break;
                }
                Err(error) => {
                    prop_assert!(matches!(error.kind(), Kind::Gate | Kind::Corrupt), "{error:?}");
                    break;
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_refused_and_none_makes_it_panic(mut bytes in prop::collection::vec(telling_byte(), 1..200), headed: bool) {
        if headed {
            bytes.splice(0..0, HEADER.bytes());
        }
        prop_assert!(read(&bytes[..], &columns(2), NO_LIMITS).is_err());
    }

    /// I6: a row that the grammar takes is values and nothing else, whatever it was made of.
    #[test]
    fn no_made_up_row_means_anything_else_to_a_server(mut row in prop::collection::vec(telling_byte(), 0..40), columns in 0usize..4) {
        row.insert(0, b'(');
        row.push(b')');
        if let Ok(Some(end)) = grammar::tuple(&row, columns) {
            let list = format!("({})", vec!["v"; columns].join(","));
            prop_assert_eq!(server_tokens(&row[..end]).unwrap(), list, "{}", row.escape_ascii());
        }
    }
}

/// I6, case by case.
#[test]
fn anything_but_rows_of_this_table_is_refused() {
    let columns = columns(2);
    let insert = insert_into(&target(), &columns);
    let accepted = |body: &str| read([HEADER, body].concat().as_bytes(), &columns, NO_LIMITS);
    for row in [
        "(1,2)",
        "(-1,-0e0)",
        "(1.5e0,1e-308)",
        "(NULL,NULL)",
        "(0x00,0xFFEE)",
        "('','a')",
        "(0,00)",
        "('/* -- # ; \" `','\\\\')",
        "('\\'','\n\r\0\u{1a}')",
        "(_utf8mb4'{}',_utf8mb4'\\'')",
        "('\\0\\n\\r\\Z\\\\\\'',1)",
    ] {
        let (statements, stats) =
            accepted(&format!("{insert}{row};\n")).unwrap_or_else(|e| panic!("{row}: {e:?}"));
        assert_eq!((statements.len(), stats.rows), (1, 1), "{row}");
    }
    for row in [
        // Other expressions.
        "(1,2",
        "(1)",
        "(1,2,3)",
        "()",
        "(1,)",
        "(,1)",
        "(1, 2)",
        "( 1,2)",
        "(1 ,2)",
        "(1,2 )",
        "(1\n,2)",
        "(+1,2)",
        "(1.,2)",
        "(.5,2)",
        "(1e,2)",
        "(1e+5,2)",
        "(1E5,2)",
        "(--1,2)",
        "(-,2)",
        "(1-1,2)",
        "(1a,2)",
        "(1.5.5,2)",
        "(0x,2)",
        "(0x1,2)",
        "(0xab,2)",
        "(0X00,2)",
        "(x'00',2)",
        "(X'00',2)",
        "(b'1',2)",
        "(0b1,2)",
        "(null,2)",
        "(NULLS,2)",
        "(NUL,2)",
        "(TRUE,2)",
        "(DEFAULT,2)",
        "(c1,2)",
        "(`c1`,2)",
        "(@@version,2)",
        "(@a,2)",
        "(@a:=1,2)",
        "(NOW(),2)",
        "(SLEEP(10),2)",
        "((SELECT 1),2)",
        "((1),2)",
        "(LOAD_FILE('/etc/passwd'),2)",
        "(1,2)(3,4)",
        "(?,2)",
        "(\\N,2)",
        "(1/*a*/,2)",
        "(1/*!99999 ,3*/,2)",
        "(1--\n,2)",
        "(1#\n,2)",
        // Strings.
        "('a,2)",
        "('a''b',2)",
        "('a' 'b',2)",
        "('a'\n'b',2)",
        "(\"a\",2)",
        "(n'a',2)",
        "(N'a',2)",
        "(_latin1'a',2)",
        "(_utf8mb4 'a',2)",
        "(_utf8mb40x41,2)",
        "(_utf8mb4\"a\",2)",
        "(_binary'a',2)",
        "('\\a',2)",
        "('\\t',2)",
        "('\\%',2)",
        "('\\b',2)",
        "('\\\"',2)",
        "('\\',2)",
        "('\\x',2)",
        "('a' COLLATE utf8mb4_bin,2)",
        "('a'+1,2)",
        "('a'||'b',2)",
        // Behind the row.
        "(1,2) ",
        "(1,2) ON DUPLICATE KEY UPDATE c1=1",
        "(1,2) AS new",
        "(1,2),",
        "(1,2), (3,4)",
        "(1,2),(3,4)",
        "(1,2);",
        "(1,2)\n",
        "(1,2);DROP TABLE g.apps",
        "(1,2);\nDROP TABLE g.apps",
        "(1,2); -- x",
        "(1,2),\n-- x\n(3,4)",
        "(1,2)/**/",
        "(1,2),\n",
        "(1,2),\n;",
    ] {
        let error = accepted(&format!("{insert}{row};\n")).expect_err(row);
        assert!(matches!(error.kind(), Kind::Gate | Kind::Corrupt), "{row}: {error:?}");
    }
    let good = format!("{insert}(1,2);\n");
    let (same, other) = (target(), TableName::new("g", "apps"));
    for (what, body) in [
        ("another table", insert_into(&other, &columns) + "(1,2);\n"),
        ("another schema", insert_into(&TableName::new("mysql", &same.table), &columns) + "(1,2);\n"),
        ("another column", insert_into(&same, &["c`0".into(), "c`2".into()]) + "(1,2);\n"),
        ("columns in another order", insert_into(&same, &["c`1".into(), "c`0".into()]) + "(1,2);\n"),
        ("fewer columns", insert_into(&same, &["c`0".into()]) + "(1);\n"),
        ("no columns", good.replace(" (`c``0`,`c``1`)", "")),
        ("lower case", good.replace("INSERT", "insert")),
        ("REPLACE", good.replace("INSERT", "REPLACE")),
        ("INSERT IGNORE", good.replace("INSERT", "INSERT IGNORE")),
        ("SELECT", good.replace("VALUES\n(1,2)", "SELECT 1,2")),
        ("no line break", good.replace("VALUES\n", "VALUES ")),
        ("a carriage return", good.replace(";\n", ";\r\n")),
        ("no rows", format!("{insert};\n")),
        ("no end", good.trim_end_matches(";\n").to_owned()),
        ("no line break at the end", good.trim_end().to_owned()),
        ("an empty line", format!("{good}\n")),
        ("an empty statement", format!("{good};\n")),
        ("a comment", format!("-- x\n{good}")),
        ("a comment of C", format!("/* x */{good}")),
        ("an executable comment", format!("/*!80000 DROP TABLE g.apps */{good}")),
        ("another statement behind", format!("{good}DROP TABLE g.apps;\n")),
        ("another statement before", format!("DROP TABLE g.apps;\n{good}")),
        ("the header twice", format!("{HEADER}{good}")),
        ("a client's command", format!("\\! touch /tmp/x\n{good}")),
        ("DELIMITER", format!("DELIMITER //\n{good}")),
        ("a zero at the end", format!("{good}\0")),
    ] {
        let error = accepted(&body).expect_err(what);
        assert!(matches!(error.kind(), Kind::Gate | Kind::Corrupt), "{what}: {error:?}");
    }
    for header in
        ["", "SET NAMES utf8mb4;\n", &HEADER[1..], &HEADER.replace("binary", "gbk"), &HEADER.to_lowercase()]
    {
        let bytes = [header, &good].concat();
        assert_eq!(read(bytes.as_bytes(), &columns, NO_LIMITS).unwrap_err().kind(), Kind::Gate, "{header:?}");
    }
    assert!(accepted(&good.repeat(3)).is_ok());
    assert_eq!(accepted("").unwrap().1.rows, 0);
}

#[test]
fn a_refusal_says_where_and_what() {
    let columns = columns(1);
    let body = format!("{HEADER}{}(1),\n(SLEEP(9));\n", insert_into(&target(), &columns));
    let error = read(body.as_bytes(), &columns, NO_LIMITS).unwrap_err();
    let at = body.find("SLEEP").unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "gate: refuse a chunk at byte {at}, behind row 0: SLEEP(9));\\n: a value is NULL, a number, 0x…, '…' or \
             _utf8mb4'…'"
        )
    );
}

#[test]
fn a_table_without_insertable_columns_has_empty_rows() {
    let (bytes, stats) = write(&[b"()".to_vec(), b"()".to_vec()], &[]);
    assert_eq!(read(&bytes[..], &[], NO_LIMITS).unwrap().1, stats);
    assert!(bytes.ends_with(b" () VALUES\n(),\n();\n"));
}

#[test]
fn statements_end_near_64_kib_and_a_longer_row_stands_alone() {
    let columns = columns(1);
    let row = |bytes: usize| format!("('{}')", "x".repeat(bytes)).into_bytes();
    let mut rows = vec![row(10_000); 30];
    rows.insert(7, row(5_000_000));
    let (bytes, stats) = write(&rows, &columns);
    let (statements, found) = read(&bytes[..], &columns, NO_LIMITS).unwrap();
    assert_eq!(found, stats);
    let prefix = insert_into(&target(), &columns).len();
    assert_eq!(stats.largest_statement as usize, prefix + 5_000_004);
    let longer = statements.iter().filter(|statement| statement.len() as u64 > STATEMENT).count();
    assert_eq!((longer, statements.len()), (1, 7));
}

#[test]
fn limits_hold_for_statements_for_bytes_and_for_bombs() {
    let columns = columns(1);
    let (bytes, stats) = write(&[format!("('{}')", "x".repeat(3_000_000)).into_bytes()], &columns);
    let exact = Limits { statement: stats.largest_statement, raw_size: stats.raw_size };
    read(&bytes[..], &columns, exact).unwrap();
    for limits in [
        Limits { statement: exact.statement - 1, ..exact },
        Limits { statement: 1_000, ..exact },
        Limits { statement: 0, ..exact },
        Limits { raw_size: exact.raw_size - 1, ..exact },
        Limits { raw_size: 10, ..exact },
    ] {
        assert_eq!(read(&bytes[..], &columns, limits).unwrap_err().kind(), Kind::Corrupt, "{limits:?}");
    }
    // An endless string is given up as soon as it is longer than it may be.
    let endless = format!("{HEADER}{}('", insert_into(&target(), &columns));
    let mut input = io::Cursor::new(endless.into_bytes()).chain(io::repeat(b'x'));
    let mut reader =
        ChunkReader::new(&mut input, &target(), &columns, Limits { statement: 1 << 20, raw_size: u64::MAX })
            .unwrap();
    assert_eq!(reader.next().unwrap_err().kind(), Kind::Corrupt);
    assert!(reader.held() < 4 << 20, "{}", reader.held());
}

#[test]
fn a_chunk_is_what_its_manifest_says_or_it_is_corrupt() {
    use std::io::Write;

    use crate::stream::{Chunk, Codec, DumpId, Key, Md5};
    let columns = columns(2);
    let rows: Vec<Vec<u8>> = (0..1_000).map(|n| format!("({n},'row {n}')").into_bytes()).collect();
    let (plain, stats) = write(&rows, &columns);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let id = DumpId::new(chrono::DateTime::UNIX_EPOCH, 7);
    for (codec, bytes) in
        [(Codec::Gzip, gzip(&plain)), (Codec::Zstd, zstd::encode_all(&plain[..], 1).unwrap())]
    {
        let chunk = Chunk {
            key: Key::chunk(&id, 0, 0, codec),
            size: bytes.len() as u64,
            md5: Md5::of(&bytes),
            raw_size: stats.raw_size,
            codec,
            rows: stats.rows,
            checksum: stats.checksum,
            largest_statement: stats.largest_statement,
        };
        let finish = |chunk: &Chunk, bytes: Vec<u8>| {
            open(chunk, io::Cursor::new(bytes), &target(), &columns)?.finish()
        };
        assert_eq!(finish(&chunk, bytes.clone()).unwrap(), stats);
        for wrong in [
            Chunk { rows: 999, ..chunk.clone() },
            Chunk { checksum: RowsChecksum(7), ..chunk.clone() },
            Chunk { raw_size: stats.raw_size + 1, ..chunk.clone() },
            Chunk { raw_size: stats.raw_size - 1, ..chunk.clone() },
            Chunk { largest_statement: stats.largest_statement + 1, ..chunk.clone() },
            Chunk { largest_statement: stats.largest_statement - 1, ..chunk.clone() },
        ] {
            assert_eq!(finish(&wrong, bytes.clone()).unwrap_err().kind(), Kind::Corrupt, "{wrong:?}");
        }
        for cut in [0, 1, 20, bytes.len() / 2, bytes.len() - 1] {
            finish(&chunk, bytes[..cut].to_vec()).unwrap_err();
        }
    }
}

#[test]
fn a_row_that_nobody_could_read_is_not_written() {
    let mut writer = ChunkWriter::new(Vec::new(), &target(), &columns(2)).unwrap();
    for row in ["", "(1)", "(1,2) ", "(1,2),(3,4)", "(1,'a", "(1,NOW())", "1,2"] {
        assert_eq!(writer.row(row.as_bytes()).unwrap_err().kind(), Kind::Failed, "{row}");
    }
    writer.row(b"(1,2)").unwrap();
    assert_eq!(writer.finish().unwrap().1.rows, 1);
}

#[test]
#[ignore = "measures: cargo test --release chunk -- --ignored --nocapture"]
fn how_fast_a_chunk_is_read() {
    let columns = columns(4);
    let text =
        "83868641912-28773972837-60736120486-75162659906-27563526494-20381887404-41576422241-93426793964";
    let rows: Vec<Vec<u8>> = (0..300_000u64)
        .map(|n| format!("({n},{},'{text}','{}')", n * 7919, &text[..59]).into_bytes())
        .collect();
    let (bytes, stats) = write(&rows, &columns);
    for _ in 0..3 {
        let begin = std::time::Instant::now();
        let mut reader = ChunkReader::new(&bytes[..], &target(), &columns, NO_LIMITS).unwrap();
        while reader.next().unwrap().is_some() {}
        assert_eq!(reader.finish().unwrap(), stats);
        let seconds = begin.elapsed().as_secs_f64();
        println!(
            "{:.0} MB/s, {:.0} ns a row",
            bytes.len() as f64 / 1e6 / seconds,
            seconds * 1e9 / rows.len() as f64
        );
    }
}
