//! A cursor over a statement's tokens, with what every kind of statement needs: keywords and names.

use super::Statement;
use super::lexer::{Doubt, Lexer, Token, TokenKind, Versioned};
use crate::binlog::name::TableName;

/// Tokens are lexed when they are asked for: behind the first words of a CREATE PROCEDURE nothing is read.
pub(super) struct Cursor<'a> {
    statement: Statement<'a>,
    lexer: Lexer<'a>,
    ahead: Vec<Token<'a>>,
    at: usize,
    ended: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(statement: &Statement<'a>, versioned: Versioned) -> Result<Self, Doubt> {
        let lexer = Lexer::new(statement, versioned)?;
        Ok(Self { statement: *statement, lexer, ahead: Vec::new(), at: 0, ended: false })
    }

    /// The other ways in which some server may read what has been read.
    pub fn other_readings(&self) -> Vec<Versioned> {
        let comment = self.lexer.saw_versioned.then_some(Versioned::Comment);
        let code = self.lexer.saw_six_digits.then_some(Versioned::CodeAfterFiveDigits);
        comment.into_iter().chain(code).collect()
    }

    /// Whether there was no comment and no semicolon in what has been read.
    pub fn is_plain(&self) -> bool {
        !self.lexer.saw_comment
    }

    /// The token `n` places ahead.
    pub fn peek(&mut self, n: usize) -> Result<Option<&Token<'a>>, Doubt> {
        while !self.ended && self.ahead.len() <= self.at + n {
            match self.lexer.next()? {
                Some(token) => self.ahead.push(token),
                None => self.ended = true,
            }
        }
        Ok(self.ahead.get(self.at + n))
    }

    pub fn next(&mut self) -> Result<Option<&Token<'a>>, Doubt> {
        if self.peek(0)?.is_none() {
            return Ok(None);
        }
        self.at += 1;
        Ok(self.ahead.get(self.at - 1))
    }

    /// The token before the cursor.
    pub fn previous(&self) -> Option<&Token<'a>> {
        self.back(0)
    }

    /// The tokens before the cursor, the last one first.
    pub fn backwards(&self) -> impl Iterator<Item = &Token<'a>> {
        self.ahead[..self.at].iter().rev()
    }

    /// The token `n` places before the one before the cursor.
    pub fn back(&self, n: usize) -> Option<&Token<'a>> {
        self.backwards().nth(n)
    }

    pub fn at_end(&mut self) -> Result<bool, Doubt> {
        Ok(self.peek(0)?.is_none())
    }

    /// Whether these keywords come next.
    pub fn sees(&mut self, keywords: &[&str]) -> Result<bool, Doubt> {
        for (n, keyword) in keywords.iter().enumerate() {
            if !self.peek(n)?.is_some_and(|token| token.is_word(keyword)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Steps over these keywords if they come next.
    pub fn takes(&mut self, keywords: &[&str]) -> Result<bool, Doubt> {
        let seen = self.sees(keywords)?;
        if seen {
            self.at += keywords.len();
        }
        Ok(seen)
    }

    /// Steps over the one of these keywords that comes next.
    pub fn takes_any(&mut self, keywords: &[&'static str]) -> Result<Option<&'static str>, Doubt> {
        for keyword in keywords {
            if self.takes(&[keyword])? {
                return Ok(Some(keyword));
            }
        }
        Ok(None)
    }

    pub fn needs(&mut self, keyword: &str) -> Result<(), Doubt> {
        if self.takes(&[keyword])? { Ok(()) } else { Err(self.unexpected(keyword)) }
    }

    pub fn sees_punct(&mut self, punct: u8) -> Result<bool, Doubt> {
        Ok(self.peek(0)?.is_some_and(|token| token.is_punct(punct)))
    }

    pub fn takes_punct(&mut self, punct: u8) -> Result<bool, Doubt> {
        let seen = self.sees_punct(punct)?;
        self.at += usize::from(seen);
        Ok(seen)
    }

    /// What stands where something else was needed, for the error.
    pub fn unexpected(&mut self, wanted: &str) -> Doubt {
        match self.peek(0) {
            Ok(Some(token)) => {
                let shown = String::from_utf8_lossy(&token.bytes[..token.bytes.len().min(40)]).into_owned();
                format!("'{}' stands where {wanted} is expected", shown.escape_debug())
            }
            Ok(None) => format!("it ends where {wanted} is expected"),
            Err(doubt) => doubt,
        }
    }

    pub fn needs_end(&mut self) -> Result<(), Doubt> {
        if self.at_end()? { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    /// An identifier, as UTF-8.
    pub fn identifier(&mut self) -> Result<String, Doubt> {
        let charset = self.statement.charset;
        let name = match self.peek(0)? {
            Some(token) if matches!(token.kind, TokenKind::Word | TokenKind::Name | TokenKind::Quoted) => {
                let name = charset.decode(&token.bytes)?;
                // Names are utf8mb3 to the server: what is beyond becomes a question mark.
                name.chars().map(|c| if u32::from(c) > 0xFFFF { '?' } else { c }).collect()
            }
            _ => return Err(self.unexpected("a name")),
        };
        self.at += 1;
        Ok(name)
    }

    /// `t`, `db.t` or `.t`; without a database it is the default one's.
    pub fn table(&mut self) -> Result<TableName, Doubt> {
        if self.takes_punct(b'.')? {
            let table = self.identifier()?;
            return self.in_default_schema(table);
        }
        let first = self.identifier()?;
        if self.takes_punct(b'.')? {
            return Ok(TableName::new(first, self.identifier()?));
        }
        self.in_default_schema(first)
    }

    pub fn in_default_schema(&self, table: String) -> Result<TableName, Doubt> {
        if self.statement.default_schema.is_empty() {
            return Err(format!("the table '{table}' has no database, and there was no default one"));
        }
        Ok(TableName::new(self.statement.default_schema, table))
    }

    pub fn default_schema(&self) -> &'a str {
        self.statement.default_schema
    }

    /// `a, db.b, …`
    pub fn tables(&mut self) -> Result<Vec<TableName>, Doubt> {
        let mut tables = vec![self.table()?];
        while self.takes_punct(b',')? {
            tables.push(self.table()?);
        }
        Ok(tables)
    }

    /// Every name in the rest that could be a table's: over-wide on purpose.
    pub fn every_possible_table(&mut self) -> Result<Vec<TableName>, Doubt> {
        let is_name =
            |token: &Token| matches!(token.kind, TokenKind::Word | TokenKind::Name | TokenKind::Quoted);
        let mut tables = Vec::new();
        while let Some(token) = self.peek(0)? {
            if !is_name(token) {
                self.at += 1;
                continue;
            }
            // `t.column`, or a keyword before `.t`: each part may also be a table of the default database.
            let first = self.identifier()?;
            if self.sees_punct(b'.')? && self.peek(1)?.is_some_and(is_name) {
                self.at += 1;
                let second = self.identifier()?;
                tables.extend(self.in_default_schema(second.clone()).ok());
                tables.push(TableName::new(&first, second));
            }
            tables.extend(self.in_default_schema(first).ok());
        }
        tables.sort();
        tables.dedup();
        Ok(tables)
    }
}
