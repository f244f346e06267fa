//! Tokens of a statement, as MySQL's own lexer finds them (sql/sql_lex.cc, `lex_one_token`).
//!
//! What that lexer would take for an error, or what different servers would read differently, is a doubt: the
//! statement is refused. Executable comments (`/*!80013 … */`) are code: a server blanks the mark of one that
//! it does not execute before it logs the statement. One whose version is above 8.0 could still be a comment to
//! another server, so the caller reads such a statement both ways ([`Lexer::saw_versioned`]).

use std::borrow::Cow;

use super::Statement;
use crate::binlog::charset::Charset;

/// Why a statement cannot be classified with certainty.
pub(super) type Doubt = String;

/// MODE_ANSI_QUOTES and MODE_NO_BACKSLASH_ESCAPES (sql/system_variables.h).
const ANSI_QUOTES: u64 = 0x4;
const NO_BACKSLASH_ESCAPES: u64 = 0x10_0000;

/// Every supported server executes comments marked with this version or an older one.
const OLDEST_SERVER: u32 = 80000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// An unquoted word: a keyword or an identifier.
    Word,
    /// An unquoted word that stands where the server takes no keyword: next to a dot, or after an `@`.
    Name,
    /// An identifier in backquotes, or in double quotes under ANSI_QUOTES.
    Quoted,
    /// A string, hex or bit literal in quotes.
    Text,
    Number,
    Punct(u8),
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: TokenKind,
    /// The identifier's bytes, unquoted; the literal as written.
    pub bytes: Cow<'a, [u8]>,
}

impl Token<'_> {
    pub fn is_word(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.bytes.eq_ignore_ascii_case(keyword.as_bytes())
    }

    pub fn is_punct(&self, punct: u8) -> bool {
        self.kind == TokenKind::Punct(punct)
    }
}

/// How to read executable comments that not every server executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versioned {
    Code,
    Comment,
    /// As code, and the sixth digit of a version is its beginning.
    CodeAfterFiveDigits,
}

pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    charset: Charset,
    ansi_quotes: bool,
    backslash_escapes: bool,
    versioned: Versioned,
    /// Between `/*!` and `*/`.
    in_executable: bool,
    /// A word ended just before `at`, so that a dot there belongs to it.
    after_word: bool,
    /// A dot that belongs to a name ended just before `at`.
    after_dot: bool,
    pub saw_versioned: bool,
    pub saw_six_digits: bool,
    /// A comment of any kind, or the semicolon at the end.
    pub saw_comment: bool,
    /// Where the last token begins.
    began: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(statement: &Statement<'a>, versioned: Versioned) -> Result<Self, Doubt> {
        if let Charset::NotAscii(name) = statement.charset {
            return Err(format!("a client cannot be lexed in the character set {name}"));
        }
        // A client may count the zero at its string's end: the server takes it for the end, too.
        let end = statement.text.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
        Ok(Self {
            text: &statement.text[..end],
            at: 0,
            charset: statement.charset,
            ansi_quotes: statement.sql_mode & ANSI_QUOTES != 0,
            backslash_escapes: statement.sql_mode & NO_BACKSLASH_ESCAPES == 0,
            versioned,
            in_executable: false,
            after_word: false,
            after_dot: false,
            saw_versioned: false,
            saw_six_digits: false,
            saw_comment: false,
            began: 0,
        })
    }

    /// Where in the text the token lies that was read last.
    pub fn span(&self) -> std::ops::Range<usize> {
        self.began..self.at
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.at..]
    }

    /// The next token, or `None` at the end of the statement.
    pub fn next(&mut self) -> Result<Option<Token<'a>>, Doubt> {
        let (after_word, after_dot) =
            (std::mem::take(&mut self.after_word), std::mem::take(&mut self.after_dot));
        if after_dot {
            self.began = self.at;
            return self.name_after_dot().map(Some);
        }
        let start = self.at;
        self.skip_blanks()?;
        let touches_word = after_word && self.at == start;
        let Some(first) = self.peek(0) else {
            return if self.in_executable {
                Err("an executable comment is not closed".into())
            } else {
                Ok(None)
            };
        };
        self.began = self.at;
        match first {
            b'`' => self.quoted_identifier(b'`').map(Some),
            b'"' if self.ansi_quotes => self.quoted_identifier(b'"').map(Some),
            b'\'' | b'"' => self.text_literal(self.at).map(Some),
            b'n' | b'N' | b'x' | b'X' | b'b' | b'B' if self.peek(1) == Some(b'\'') => {
                let start = self.at;
                self.at += 1;
                self.text_literal(start).map(Some)
            }
            b';' => self.semicolon(),
            b'.' => self.dot(touches_word).map(Some),
            b'@' => Ok(Some(self.at_sign())),
            b'0'..=b'9' => self.number_or_name().map(Some),
            b'*' if self.in_executable && self.peek(1) == Some(b'/') => {
                self.at += 2;
                self.in_executable = false;
                self.next()
            }
            0 => Err("a NUL byte outside quotes".into()),
            // Blanks have been skipped. The server has no token for these.
            ..0x20 | 0x7F => Err(format!("the byte {first:02X} outside quotes")),
            _ if self.ident_len()? > 0 => self.word().map(Some),
            _ => Ok(Some(self.punct())),
        }
    }

    fn punct(&mut self) -> Token<'a> {
        let byte = self.text[self.at];
        self.at += 1;
        Token { kind: TokenKind::Punct(byte), bytes: Cow::Borrowed(&self.text[self.at - 1..self.at]) }
    }

    fn token(&self, kind: TokenKind, start: usize) -> Token<'a> {
        Token { kind, bytes: Cow::Borrowed(&self.text[start..self.at]) }
    }

    /// How many bytes the identifier character at `at` has, 0 if there is none.
    fn ident_len(&self) -> Result<usize, Doubt> {
        match self.peek(0) {
            None => Ok(0),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$') => Ok(1),
            Some(0..=0x7F) => Ok(0),
            Some(byte) => {
                let length = self.charset.char_len(self.rest());
                // One byte above ASCII may be a letter, a blank or nothing at all to the server.
                let sure = match length {
                    0 => false,
                    1 => {
                        let c = self.charset.decode(&[byte]).ok().and_then(|text| text.chars().next());
                        c.is_some_and(char::is_alphabetic)
                    }
                    _ => true,
                };
                if sure { Ok(length) } else { Err(format!("the byte {byte:02X} outside quotes")) }
            }
        }
    }

    /// White space and comments; also enters executable comments.
    fn skip_blanks(&mut self) -> Result<(), Doubt> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r'), _) => self.at += 1,
                (Some(b'#'), _) => self.skip_line()?,
                (Some(b'-'), Some(b'-')) => match self.peek(2) {
                    None | Some(0..=b' ' | 0x7F) => self.skip_line()?,
                    Some(0x80..) => return Err("'--' before a byte that may be a blank".into()),
                    Some(_) => return Ok(()),
                },
                (Some(b'/'), Some(b'*')) if self.peek(2) == Some(b'!') => self.executable_comment()?,
                (Some(b'/'), Some(b'*')) => {
                    self.at += 2;
                    self.saw_comment = true;
                    self.skip_comment(false)?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_line(&mut self) -> Result<(), Doubt> {
        self.saw_comment = true;
        let line = self.rest();
        let end = line.iter().position(|&b| b == b'\n').unwrap_or(line.len());
        if line[..end].contains(&0) {
            return Err("a NUL byte in a comment".into());
        }
        self.at += end;
        Ok(())
    }

    /// Up to the end of a comment. A comment that is skipped for its version may have one level of comments
    /// inside (`consume_comment`).
    fn skip_comment(&mut self, nested: bool) -> Result<(), Doubt> {
        let mut inner = false;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'*', Some(b'/')) => {
                    self.at += 2;
                    if !inner {
                        return Ok(());
                    }
                    inner = false;
                }
                (b'/', Some(b'*')) if nested && !inner => {
                    self.at += 2;
                    inner = true;
                }
                _ => self.at += 1,
            }
        }
        Err("a comment is not closed".into())
    }

    /// `/*! …` or `/*!80013 …`. Six digits and a blank are a version to newer servers, and five digits and a digit
    /// of code to older ones. The first `*/` ends it, however many were opened.
    fn executable_comment(&mut self) -> Result<(), Doubt> {
        self.saw_comment = true;
        self.at += 3;
        let digits = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        let ends = match self.rest().get(digits..) {
            Some([b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r', ..] | [b'*', b'/', ..]) => true,
            Some(_) | None => false,
        };
        let known_to_all = match digits {
            0 => true,
            5 | 6 => {
                let version = self.rest()[..5].iter().fold(0, |v, b| v * 10 + u32::from(b - b'0'));
                self.saw_six_digits |= digits == 6 && ends;
                (digits == 5 || !ends) && version <= OLDEST_SERVER
            }
            _ => return Err(format!("an executable comment with a version of {digits} digits")),
        };
        self.saw_versioned |= !known_to_all;
        if !known_to_all && self.versioned == Versioned::Comment {
            return self.skip_comment(true);
        }
        self.at += match self.versioned {
            Versioned::Code if ends => digits,
            _ => digits.min(5),
        };
        self.in_executable = true;
        Ok(())
    }

    /// The end of the statement. Anything after it but blanks is a second one.
    fn semicolon(&mut self) -> Result<Option<Token<'a>>, Doubt> {
        if self.in_executable {
            return Err("';' inside an executable comment".into());
        }
        self.at += 1;
        self.saw_comment = true;
        self.skip_blanks()?;
        if self.in_executable || self.at < self.text.len() {
            return Err("a second statement follows".into());
        }
        Ok(None)
    }

    fn dot(&mut self, touches_word: bool) -> Result<Token<'a>, Doubt> {
        // Away from a word `.5` is a number.
        if !touches_word && matches!(self.peek(1), Some(b'0'..=b'9')) {
            let start = self.at;
            self.at += 1;
            return self.number_tail(start);
        }
        let token = self.punct();
        self.after_dot = self.ident_len()? > 0;
        Ok(token)
    }

    fn name_after_dot(&mut self) -> Result<Token<'a>, Doubt> {
        let start = self.at;
        self.skip_ident()?;
        self.after_word = true;
        Ok(self.token(TokenKind::Name, start))
    }

    fn skip_ident(&mut self) -> Result<(), Doubt> {
        loop {
            match self.ident_len()? {
                0 => return Ok(()),
                length => self.at += length,
            }
        }
    }

    fn word(&mut self) -> Result<Token<'a>, Doubt> {
        let start = self.at;
        self.skip_ident()?;
        let word = &self.text[start..self.at];
        // `$$ … $$` and `$tag$ … $tag$` are strings to a 9.x server.
        if word[0] == b'$' && word[1..].contains(&b'$') {
            return Err("a word with two dollar signs".into());
        }
        Ok(self.word_token(start))
    }

    /// A word directly before `.name` is no keyword to the server.
    fn word_token(&mut self, start: usize) -> Token<'a> {
        self.after_word = true;
        let qualifies = self.peek(0) == Some(b'.')
            && matches!(self.peek(1), Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80..));
        self.token(if qualifies { TokenKind::Name } else { TokenKind::Word }, start)
    }

    fn skip_digits(&mut self) {
        while matches!(self.peek(0), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    /// `12`, `1e5`, `0x1F`, `1.5`, or a name that begins with a digit: `1a`.
    fn number_or_name(&mut self) -> Result<Token<'a>, Doubt> {
        let start = self.at;
        if self.peek(0) == Some(b'0') {
            let radix_digit: fn(&u8) -> bool = match self.peek(1) {
                Some(b'x') => u8::is_ascii_hexdigit,
                Some(b'b') => |b| matches!(b, b'0' | b'1'),
                _ => |_| false,
            };
            let digits = self.rest().iter().skip(2).take_while(|b| radix_digit(b)).count();
            if digits > 0 {
                self.at += 2 + digits;
                if self.ident_len()? == 0 {
                    return Ok(self.token(TokenKind::Number, start));
                }
                self.skip_ident()?;
                return Ok(self.word_token(start));
            }
        }
        self.skip_digits();
        if self.ident_len()? == 0 {
            if self.peek(0) == Some(b'.') {
                self.at += 1;
                return self.number_tail(start);
            }
            return Ok(self.token(TokenKind::Number, start));
        }
        if self.exponent() {
            return Ok(self.token(TokenKind::Number, start));
        }
        self.skip_ident()?;
        Ok(self.word_token(start))
    }

    /// After the dot of a number.
    fn number_tail(&mut self, start: usize) -> Result<Token<'a>, Doubt> {
        self.skip_digits();
        self.exponent();
        Ok(self.token(TokenKind::Number, start))
    }

    fn exponent(&mut self) -> bool {
        if !matches!(self.peek(0), Some(b'e' | b'E')) {
            return false;
        }
        let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
        if !matches!(self.peek(1 + sign), Some(b'0'..=b'9')) {
            return false;
        }
        self.at += 1 + sign;
        self.skip_digits();
        true
    }

    /// `@`, and after it a host or variable name, which may have dots in it.
    fn at_sign(&mut self) -> Token<'a> {
        let token = self.punct();
        if matches!(self.peek(0), Some(b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'.')) {
            let length = self.rest().iter().take_while(|b| b.is_ascii_alphanumeric() || b"_$.".contains(b));
            self.at += length.count();
        }
        token
    }

    /// An identifier in quotes; the quote doubled inside stands for itself.
    fn quoted_identifier(&mut self, quote: u8) -> Result<Token<'a>, Doubt> {
        self.at += 1;
        let start = self.at;
        let mut unquoted: Option<Vec<u8>> = None;
        loop {
            let length = match self.peek(0) {
                None => return Err("a quoted identifier is not closed".into()),
                Some(0) => return Err("a NUL byte in an identifier".into()),
                Some(byte) if byte == quote => {
                    if self.peek(1) != Some(quote) {
                        break;
                    }
                    unquoted.get_or_insert_with(|| self.text[start..self.at].to_vec());
                    self.at += 1;
                    1
                }
                Some(_) => match self.charset.char_len(self.rest()) {
                    0 => return Err("an identifier with bytes that its character set has not".into()),
                    length => length,
                },
            };
            if let Some(name) = &mut unquoted {
                name.extend_from_slice(&self.text[self.at..self.at + length]);
            }
            self.at += length;
        }
        let bytes = match unquoted {
            Some(name) => Cow::Owned(name),
            None => Cow::Borrowed(&self.text[start..self.at]),
        };
        self.at += 1;
        if bytes.is_empty() {
            return Err("an empty identifier".into());
        }
        Ok(Token { kind: TokenKind::Quoted, bytes })
    }

    /// A string from its quote on; `start` is where the token began (`x'…'`).
    fn text_literal(&mut self, start: usize) -> Result<Token<'a>, Doubt> {
        let quote = self.text[self.at];
        self.at += 1;
        loop {
            let length = self.charset.char_len(self.rest());
            if length > 1 {
                self.at += length;
                continue;
            }
            let Some(byte) = self.peek(0) else { return Err("a string is not closed".into()) };
            self.at += 1;
            if byte == b'\\' && self.backslash_escapes {
                // The server steps over one byte here, not over one character.
                if matches!(self.peek(0), Some(0x80..)) && self.charset.has_ascii_tails() {
                    return Err("a backslash before a character of two bytes".into());
                }
                self.at += usize::from(self.at < self.text.len());
            } else if byte == quote {
                if self.peek(0) != Some(quote) {
                    return Ok(self.token(TokenKind::Text, start));
                }
                self.at += 1;
            }
        }
    }
}
