//! `SHOW CREATE TABLE` as text that is equal exactly when two tables are defined alike.

/// `SHOW CREATE TABLE` (read in a session with `sql_mode=''` and `sql_quote_show_create=1`) without what may
/// differ between two copies of one table:
///
/// - the AUTO_INCREMENT counter;
/// - a column's CHARACTER SET and COLLATE where they are the table's own. The server remembers that they were
///   written out, which CREATE TABLE … SELECT does on its own account, and then prints them
///   (`store_create_info` in sql/sql_show.cc);
/// - the old names of utf8mb3 and its collations, which 8.0 printed up to 8.0.29.
///
/// Everything else is kept to the byte; quoted names, strings and comments are never looked into.
pub fn normalise(show_create: &str) -> String {
    let words = words(show_create);
    let table = table_collation(show_create, &words);
    let mut out = String::with_capacity(show_create.len());
    let mut at = 0;
    let mut i = 0;
    while i < words.len() {
        let word = &words[i];
        match word.depth {
            0 if word.is(show_create, "AUTO_INCREMENT=") => {
                // With its number, which is the rest of the word, and the blank before it.
                out.push_str(show_create[at..word.from].trim_end_matches(' '));
                at = word.to;
            }
            0 => {
                if let Some((name, value)) = show_create[word.from..word.to].split_once('=')
                    && matches!(name, "CHARSET" | "COLLATE")
                {
                    out.push_str(&show_create[at..word.from]);
                    out.push_str(name);
                    out.push('=');
                    out.push_str(&modern(value));
                    at = word.to;
                }
            }
            1 => {
                if let Some((charset, collation, used)) = column_collation(show_create, &words[i..]) {
                    out.push_str(show_create[at..word.from].trim_end_matches(' '));
                    if Some(&collation) != table.as_ref() {
                        out.push_str(&format!(" CHARACTER SET {charset} COLLATE {collation}"));
                    }
                    i += used - 1;
                    at = words[i].to;
                }
            }
            _ => {}
        }
        i += 1;
    }
    out.push_str(&show_create[at..]);
    out
}

/// A run of bytes between blanks, commas and parentheses, outside quotes and comments.
struct Word {
    from: usize,
    to: usize,
    /// How many parentheses are open: 0 before and after the column list, 1 in it.
    depth: usize,
}

impl Word {
    fn is(&self, text: &str, begins: &str) -> bool {
        text[self.from..self.to].starts_with(begins)
    }
}

fn words(text: &str) -> Vec<Word> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        let from = at;
        match bytes[at] {
            quote @ (b'`' | b'\'' | b'"') => at = after_quoted(bytes, at, quote),
            b'/' if bytes[at..].starts_with(b"/*") => {
                // A version comment holds options of its own (`/*!80023 INVISIBLE */`), a partition clause
                // even strings; none of them are ours to change.
                at += 2;
                while at < bytes.len() && !bytes[at..].starts_with(b"*/") {
                    at = match bytes[at] {
                        quote @ (b'`' | b'\'') => after_quoted(bytes, at, quote),
                        _ => at + 1,
                    };
                }
                at = (at + 2).min(bytes.len());
            }
            b'(' => (depth, at) = (depth + 1, at + 1),
            b')' => (depth, at) = (depth.saturating_sub(1), at + 1),
            byte if byte.is_ascii_whitespace() || byte == b',' => at += 1,
            _ => {
                while at < bytes.len()
                    && !bytes[at].is_ascii_whitespace()
                    && !matches!(bytes[at], b'`' | b'\'' | b'"' | b'(' | b')' | b',' | b'/')
                {
                    at += 1;
                }
                at = at.max(from + 1);
                words.push(Word { from, to: at, depth });
            }
        }
    }
    words
}

/// Behind the closing quote. A doubled quote stands for itself; a backslash escapes in strings, not in names.
fn after_quoted(bytes: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote != b'`' => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `CHARACTER SET x`, `CHARACTER SET x COLLATE y` or `COLLATE y` at the beginning of `words`: the column's
/// character set, collation, and how many words say so.
fn column_collation(text: &str, words: &[Word]) -> Option<(String, String, usize)> {
    let word = |i: usize| words.get(i).filter(|word| word.depth == 1).map(|word| &text[word.from..word.to]);
    let collate = |i: usize| (word(i) == Some("COLLATE")).then(|| word(i + 1)).flatten();
    if word(0) == Some("CHARACTER") && word(1) == Some("SET") {
        let charset = modern(word(2)?);
        return Some(match collate(3) {
            Some(collation) => (charset, modern(collation), 5),
            None => (charset.clone(), default_collation(&charset), 3),
        });
    }
    let collation = modern(collate(0)?);
    let charset = collation.split('_').next().unwrap_or_default().to_owned();
    Some((charset, collation, 2))
}

/// The table's default collation, from the options after the column list.
fn table_collation(text: &str, words: &[Word]) -> Option<String> {
    let option = |name: &str| {
        let mut options = words.iter().filter(|word| word.depth == 0).map(|word| &text[word.from..word.to]);
        options.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(modern)
    };
    option("COLLATE").or_else(|| option("CHARSET").map(|charset| default_collation(&charset)))
}

/// utf8 has been called utf8mb3 since 8.0.24 (character set) and 8.0.30 (collations).
fn modern(name: &str) -> String {
    match name.strip_prefix("utf8") {
        Some("") => "utf8mb3".to_owned(),
        Some(rest) if rest.starts_with('_') => format!("utf8mb3{rest}"),
        _ => name.to_owned(),
    }
}

/// What a character set's collation is when none is named, as `information_schema.character_sets` has it.
fn default_collation(charset: &str) -> String {
    let rest = match charset {
        "binary" => return "binary".to_owned(),
        "utf8mb4" => "0900_ai_ci",
        "big5" | "gb18030" | "gb2312" | "gbk" => "chinese_ci",
        "cp932" | "eucjpms" | "sjis" | "ujis" => "japanese_ci",
        "dec8" | "latin1" | "swe7" => "swedish_ci",
        "euckr" => "korean_ci",
        "hp8" => "english_ci",
        "latin5" => "turkish_ci",
        "tis620" => "thai_ci",
        _ => "general_ci",
    };
    format!("{charset}_{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE `t` (\n  \
        `id` int NOT NULL AUTO_INCREMENT,\n  \
        `a` varchar(10) DEFAULT 'AUTO_INCREMENT=7, it''s \\' COLLATE utf8mb4_bin',\n  \
        `COLLATE x` varchar(9) COLLATE utf8mb4_bin GENERATED ALWAYS AS (concat(`a`,_utf8mb4'x')) STORED,\n  \
        `e` enum('CHARACTER SET latin1','b') CHARACTER SET latin1 DEFAULT NULL /*!80023 INVISIBLE */,\n  \
        PRIMARY KEY (`id`)\n\
        ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='AUTO_INCREMENT=9'";

    #[test]
    fn the_counter_goes_and_nothing_else() {
        let counted = TABLE.replace(" DEFAULT CHARSET", " AUTO_INCREMENT=123 DEFAULT CHARSET");
        assert_eq!(normalise(&counted), normalise(TABLE));
        assert!(normalise(TABLE).contains("NOT NULL AUTO_INCREMENT,"));
        assert!(normalise(TABLE).contains("DEFAULT 'AUTO_INCREMENT=7, it''s \\' COLLATE utf8mb4_bin'"));
        assert!(normalise(TABLE).contains("COMMENT='AUTO_INCREMENT=9'"));
        assert!(normalise(TABLE).contains("enum('CHARACTER SET latin1','b')"));
    }

    #[test]
    fn a_collation_that_is_the_tables_own_is_not_told_apart_from_none() {
        let bare = "CREATE TABLE `t` (\n  `c` char(1) DEFAULT NULL\n) ENGINE=InnoDB DEFAULT CHARSET=latin1";
        let told = bare.replace("char(1)", "char(1) CHARACTER SET latin1 COLLATE latin1_swedish_ci");
        let half = bare.replace("char(1)", "char(1) CHARACTER SET latin1");
        let other = bare.replace("char(1)", "char(1) CHARACTER SET latin1 COLLATE latin1_bin");
        assert_eq!(normalise(&told), bare);
        assert_eq!(normalise(&half), bare);
        assert_eq!(normalise(&other), other);
        assert_eq!(normalise(&bare.replace("char(1)", "char(1) COLLATE latin1_bin")), other);
        // The table's own is not its character set's default: the bare column has the table's.
        let binary = format!("{bare} COLLATE=latin1_bin");
        assert_eq!(normalise(&format!("{other} COLLATE=latin1_bin")), binary);
        assert_ne!(normalise(&format!("{told} COLLATE=latin1_bin")), binary);
    }

    #[test]
    fn utf8_is_utf8mb3() {
        let old =
            "CREATE TABLE `t` (\n  `c` char(1) CHARACTER SET utf8 COLLATE utf8_bin\n) DEFAULT CHARSET=utf8";
        let new = "CREATE TABLE `t` (\n  `c` char(1) CHARACTER SET utf8mb3 COLLATE utf8mb3_bin\n) DEFAULT \
                   CHARSET=utf8mb3";
        assert_eq!(normalise(old), new);
        assert_eq!(normalise(new), new);
    }

    #[test]
    fn normalising_twice_changes_nothing_more_and_odd_text_does_no_harm() {
        for text in [
            TABLE,
            "",
            "(",
            "'",
            "`a",
            "/*",
            "CHARACTER SET",
            "((COLLATE",
            "\\'",
            "CHARACTER",
            "é(é COLLATE é",
        ] {
            assert_eq!(normalise(&normalise(text)), normalise(text), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[()'`\"/* ,=\\\\é\na-c]{0,40}(CHARACTER SET|COLLATE|AUTO_INCREMENT=1)?[()'` a]{0,9}") {
            normalise(&text);
        }
    }
}
