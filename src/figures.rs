//! Figures as people read them: thousands apart, and the noun in its number. `--json` has them plain.

/// `1,234,567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 transaction`, `1,234 transactions`.
pub fn count(value: u64, one: &str) -> String {
    let plural = match one.strip_suffix('y') {
        _ if value == 1 => one.to_owned(),
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{one}s"),
    };
    format!("{} {plural}", number(value))
}

/// Reads a number as it is shown, or without its commas.
pub fn parse(text: &str) -> Result<u64, std::num::ParseIntError> {
    text.replace(',', "").parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_is_shown() {
        for value in [0, 999, 1_500, 1_234_567] {
            assert_eq!((parse(&number(value)), parse(&value.to_string())), (Ok(value), Ok(value)));
        }
        assert!(parse("1,x").is_err() && parse("").is_err());
    }
}
