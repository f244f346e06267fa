//! Properties. Guards I6: whatever a bucket holds, the gate answers, and a name is found exactly.

use proptest::prelude::*;

use super::*;

/// Statements with `\u{1}` wherever a blank or comment may be put.
const TEMPLATES: [&str; 12] = [
    "DROP\u{1}TABLE\u{1}`g`\u{1}.\u{1}`t`",
    "DROP\u{1}TEMPORARY\u{1}TABLE\u{1}IF\u{1}EXISTS\u{1}`g`.`t`\u{1},\u{1}`u`\u{1}RESTRICT",
    "RENAME\u{1}TABLE\u{1}`g`.`t`\u{1}TO\u{1}`h`.`u`\u{1},\u{1}a\u{1}TO\u{1}b",
    "TRUNCATE\u{1}TABLE\u{1}g.t",
    "CREATE\u{1}TABLE\u{1}IF\u{1}NOT\u{1}EXISTS\u{1}g.t\u{1}(\u{1}a\u{1}INT\u{1}REFERENCES\u{1}h.p\u{1}(\u{1}b\u{1})\u{1})\u{1}ENGINE\u{1}=\u{1}InnoDB",
    "CREATE\u{1}TABLE\u{1}t\u{1}(\u{1}LIKE\u{1}`g`\u{1}.\u{1}`s`\u{1})",
    "ALTER\u{1}TABLE\u{1}g.t\u{1}ADD\u{1}COLUMN\u{1}c\u{1}INT\u{1},\u{1}RENAME\u{1}TO\u{1}h\u{1}.\u{1}`u`",
    "ALTER\u{1}TABLE\u{1}t\u{1}EXCHANGE\u{1}PARTITION\u{1}p\u{1}WITH\u{1}TABLE\u{1}g.u",
    "CREATE\u{1}UNIQUE\u{1}INDEX\u{1}i\u{1}ON\u{1}g.t\u{1}(\u{1}a\u{1})",
    "DROP\u{1}DATABASE\u{1}IF\u{1}EXISTS\u{1}g",
    "INSERT\u{1}INTO\u{1}`g`\u{1}.\u{1}`t`\u{1}VALUES\u{1}(\u{1}1\u{1})",
    "CREATE\u{1}TABLE\u{1}t\u{1}SELECT\u{1}*\u{1}FROM\u{1}`g`.`u`",
];

const BLANKS: [&str; 9] = [
    " ",
    "\n",
    "\t \r\n",
    "/* x */",
    "/**/ ",
    " -- y\n",
    " # `'\"\n",
    "/* `'; DROP TABLE x */",
    "\u{b}/*+ h */\u{c}",
];

fn filled(template: &str, picks: &[usize]) -> String {
    let mut text = String::new();
    for (i, part) in template.split('\u{1}').enumerate() {
        if i > 0 {
            text.push_str(BLANKS[picks[i % picks.len()] % BLANKS.len()]);
        }
        text.push_str(part);
    }
    text
}

fn identifier() -> impl Strategy<Value = String> {
    "[^\u{0}\u{10000}-\u{10FFFF}]{1,12}"
}

fn charsets() -> impl Strategy<Value = Charset> {
    prop::sample::select(vec![
        Charset::Utf8,
        Charset::Binary,
        Charset::Ascii,
        Charset::Sjis,
        Charset::Gbk,
        Charset::Gb18030,
        Charset::Big5,
        Charset::Ujis,
        Charset::Euckr,
        Charset::Single("latin1"),
        Charset::NotAscii("ucs2"),
    ])
}

/// Words and marks from which statements are made, so that random texts get past the first word.
const PIECES: [&str; 40] = [
    "CREATE",
    "ALTER",
    "DROP",
    "RENAME",
    "TRUNCATE",
    "TABLE",
    "TO",
    "IF",
    "EXISTS",
    "NOT",
    "g",
    ".",
    "t",
    "`t`",
    "\"t\"",
    "'x'",
    "(",
    ")",
    ",",
    ";",
    "/*",
    "*/",
    "/*!50001",
    "/*!90001",
    "--",
    "#",
    "\n",
    "REFERENCES",
    "LIKE",
    "SELECT",
    "UNION",
    "=",
    "ENGINE",
    "PARTITION",
    "BY",
    "@",
    "\\",
    "1e5",
    "INSERT",
    "WITH",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn blanks_and_comments_between_tokens_change_nothing(
        template in prop::sample::select(TEMPLATES.to_vec()),
        picks in prop::collection::vec(0usize..BLANKS.len(), 1..8),
    ) {
        let plain = class(&template.replace('\u{1}', " "));
        let text = filled(template, &picks);
        prop_assert_eq!(class(&text), plain, "{}", text);
    }

    #[test]
    fn code_in_an_executable_comment_is_the_same_code(template in prop::sample::select(TEMPLATES.to_vec())) {
        let text = template.replace('\u{1}', " ");
        prop_assert_eq!(class(&format!("/*!50003 {text} */")), class(&text));
    }

    #[test]
    fn every_identifier_in_quotes_is_found_exactly(
        schema in identifier(), table in identifier(), other in identifier(), ansi in any::<bool>(),
    ) {
        let quote = |name: &str| match ansi {
            true => format!("\"{}\"", name.replace('"', "\"\"")),
            false => format!("`{}`", name.replace('`', "``")),
        };
        let (t, o) = (TableName::new(schema, table), TableName::new("d", other));
        let (q, r) = (format!("{}.{}", quote(&t.schema), quote(&t.table)), quote(&o.table));
        let sql_mode = if ansi { ANSI_QUOTES } else { 0 };
        let of = |text: &str| {
            let ddl = ddl_of(&Statement { sql_mode, ..statement(text) });
            (ddl.targets, ddl.references)
        };
        let (both, none) = (vec![t.clone(), o.clone()], Vec::<TableName>::new());
        prop_assert_eq!(of(&format!("DROP TABLE {q},{r}")), (both.clone(), none.clone()));
        prop_assert_eq!(of(&format!("RENAME TABLE {q} TO {r}")), (both.clone(), none.clone()));
        prop_assert_eq!(of(&format!("ALTER TABLE {q} RENAME {r}")), (both.clone(), none.clone()));
        prop_assert_eq!(of(&format!("ALTER TABLE {q} EXCHANGE PARTITION p WITH TABLE {r}")), (both, none));
        let parent = TableName::new(&t.schema, &o.table);
        prop_assert_eq!(of(&format!("CREATE TABLE {q} LIKE {r}")), (vec![t.clone()], vec![o]));
        let child = format!("CREATE TABLE {q} (a INT, FOREIGN KEY (a) REFERENCES {r} (b))");
        prop_assert_eq!(of(&child), (vec![t], vec![parent]));
    }

    #[test]
    fn any_bytes_are_classified_or_refused(
        text in prop::collection::vec(any::<u8>(), 0..80), charset in charsets(), sql_mode in any::<u64>(),
    ) {
        let _ = classify(&Statement { text: &text, default_schema: "d", charset, sql_mode });
    }

    #[test]
    fn any_words_are_classified_or_refused(
        pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..20),
        charset in charsets(), sql_mode in prop::sample::select(vec![0, ANSI_QUOTES, NO_BACKSLASH_ESCAPES]),
        glue in prop::sample::select(vec!["", " "]),
    ) {
        let text = pieces.join(glue);
        let _ = classify(&Statement { text: text.as_bytes(), default_schema: "d", charset, sql_mode });
    }

    #[test]
    fn a_second_statement_never_passes(template in prop::sample::select(TEMPLATES.to_vec()), blank in prop::sample::select(BLANKS.to_vec())) {
        let text = template.replace('\u{1}', " ");
        prop_assert_eq!(class(&format!("{text}{blank};{blank}")), class(&text));
        let second = format!("{text}{blank};{blank}{text}");
        prop_assert!(refused(&second).contains("a second statement"));
    }
}
