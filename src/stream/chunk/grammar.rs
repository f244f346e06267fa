//! One row of a chunk. This is what keeps anything but values out of a region: what is not here is refused.
//!
//! Sources: <https://dev.mysql.com/doc/refman/8.4/en/string-literals.html> (escapes),
//! <https://dev.mysql.com/doc/refman/8.4/en/hexadecimal-literals.html>,
//! <https://dev.mysql.com/doc/refman/8.4/en/number-literals.html>. Of each, the smallest part that every value can
//! be written in.

/// What is wrong, and how many bytes into the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub at: usize,
    pub why: &'static str,
}

/// Why a text cannot be taken.
enum Stop {
    /// It may go on well: more bytes are needed to tell.
    Incomplete,
    Bad(Bad),
}

type Step = Result<usize, Stop>;

fn bad(at: usize, why: &'static str) -> Stop {
    Stop::Bad(Bad { at, why })
}

/// The end of the tuple of `columns` literals that `text` begins with; `None` if `text` ends before it does.
pub(super) fn tuple(text: &[u8], columns: usize) -> Result<Option<usize>, Bad> {
    match whole(text, columns) {
        Ok(end) => Ok(Some(end)),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Bad(bad)) => Err(bad),
    }
}

fn whole(text: &[u8], columns: usize) -> Step {
    let mut at = expect(text, 0, b'(', "a row begins with (")?;
    for column in 0..columns {
        if column > 0 {
            at = expect(text, at, b',', "a comma, and the next of the table's columns")?;
        }
        at = literal(text, at)?;
    }
    expect(text, at, b')', "a row ends with ) behind the last of the table's columns")
}

fn byte(text: &[u8], at: usize) -> Result<u8, Stop> {
    text.get(at).copied().ok_or(Stop::Incomplete)
}

fn expect(text: &[u8], at: usize, wanted: u8, why: &'static str) -> Step {
    if byte(text, at)? == wanted { Ok(at + 1) } else { Err(bad(at, why)) }
}

fn word(text: &[u8], at: usize, word: &[u8], why: &'static str) -> Step {
    let there = &text[at..text.len().min(at + word.len())];
    match word.strip_prefix(there) {
        Some([]) => Ok(at + word.len()),
        Some(_) => Err(Stop::Incomplete),
        None => Err(bad(at, why)),
    }
}

fn literal(text: &[u8], at: usize) -> Step {
    const WHAT: &str = "a value is NULL, a number, 0x…, '…' or _utf8mb4'…'";
    match byte(text, at)? {
        b'\'' => string(text, at + 1),
        b'0' if byte(text, at + 1)? == b'x' => hex(text, at + 2),
        b'0'..=b'9' | b'-' => number(text, at),
        b'N' => word(text, at, b"NULL", WHAT),
        b'_' => string(text, word(text, at, b"_utf8mb4'", WHAT)?),
        _ => Err(bad(at, WHAT)),
    }
}

/// The end of the digits at `at`, of which there is at least one.
fn digits(text: &[u8], at: usize) -> Step {
    let count = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    // Whatever follows is another's business, but it must be known that no digit does.
    match byte(text, at + count)? {
        _ if count > 0 => Ok(at + count),
        _ => Err(bad(at, "a digit is missing in a number")),
    }
}

fn number(text: &[u8], mut at: usize) -> Step {
    if byte(text, at)? == b'-' {
        at += 1;
    }
    at = digits(text, at)?;
    if byte(text, at)? == b'.' {
        at = digits(text, at + 1)?;
    }
    if byte(text, at)? == b'e' {
        at += 1;
        if byte(text, at)? == b'-' {
            at += 1;
        }
        at = digits(text, at)?;
    }
    Ok(at)
}

fn hex(text: &[u8], from: usize) -> Step {
    let is_digit = |byte: u8| byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'A') < 6;
    let mut at = from;
    // Whole blocks without a branch in them, so that the compiler makes vectors of them.
    while let Some(block) = text[at..].first_chunk::<32>() {
        if !block.iter().fold(true, |all, byte| all & is_digit(*byte)) {
            break;
        }
        at += block.len();
    }
    at += text[at..].iter().take_while(|byte| is_digit(**byte)).count();
    byte(text, at)?;
    match at - from {
        count if count > 0 && count.is_multiple_of(2) => Ok(at),
        _ => Err(bad(from, "0x needs an even number of the digits 0-9A-F")),
    }
}

/// The end of the string whose content begins at `at`.
fn string(text: &[u8], mut at: usize) -> Step {
    loop {
        at = quote_or_backslash(text, at).ok_or(Stop::Incomplete)?;
        if text[at] == b'\'' {
            return Ok(at + 1);
        }
        if !matches!(byte(text, at + 1)?, b'\\' | b'\'' | b'0' | b'n' | b'r' | b'Z') {
            return Err(bad(at, "the escapes in a string are \\\\ \\' \\0 \\n \\r \\Z"));
        }
        at += 2;
    }
}

/// Where the next `'` or `\` is: eight bytes at a time.
fn quote_or_backslash(text: &[u8], mut at: usize) -> Option<usize> {
    const LOW: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    const QUOTES: u64 = u64::from_le_bytes([b'\''; 8]);
    const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);
    // The lowest byte of `word` that is zero has its highest bit set in the result; those above it may, too.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    while let Some(block) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*block);
        let found = zeros(word ^ QUOTES) | zeros(word ^ BACKSLASHES);
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    text[at..].iter().position(|byte| matches!(byte, b'\'' | b'\\')).map(|found| at + found)
}
