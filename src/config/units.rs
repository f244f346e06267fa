//! Durations ("500ms", "1s", "5m") and sizes ("64MiB") as they are written in the config and on the command
//! line. A bare number is refused: nobody at 3 a.m. should have to know which unit was meant.

use std::time::Duration;

use crate::error::{Error, Kind, Result};

const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads `500ms`, `1s`, `5m`, `2h`, `1d`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    match scaled(text, &DURATIONS) {
        Some(millis) => Ok(Duration::from_millis(millis)),
        None => Err(Error::new(Kind::Usage, format!("{text:?} is not a duration"))
            .hint("write a whole number and a unit: 500ms, 1s, 5m, 2h, 1d")),
    }
}

/// Reads `64MiB`, `1GiB`, `512KiB`, `10MB`.
pub fn parse_size(text: &str) -> Result<u64> {
    scaled(text, &SIZES).ok_or_else(|| {
        Error::new(Kind::Usage, format!("{text:?} is not a size"))
            .hint("write a whole number and a unit: 512KiB, 64MiB, 1GiB")
    })
}

/// The shortest exact form, one that [`parse_duration`] reads back.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    exact(millis, &DURATIONS, "ms")
}

/// The shortest exact form in binary units, one that [`parse_size`] reads back.
pub fn show_size(bytes: u64) -> String {
    exact(bytes, &SIZES[..5], "B")
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn exact(value: u64, units: &[(&str, u64)], smallest: &str) -> String {
    let fitting = units.iter().filter(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match fitting.max_by_key(|(_, factor)| *factor) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => format!("{value}{smallest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read() {
        assert_eq!(parse_duration("500ms").ok(), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("5m").ok(), Some(Duration::from_secs(300)));
        assert_eq!(parse_size("64MiB").ok(), Some(64 << 20));
        assert_eq!(parse_size("10 MB").ok(), Some(10_000_000));
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_a_hint() {
        for bad in
            ["", "5", "m", "5 minutes", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615d"]
        {
            let error = parse_duration(bad).expect_err(bad);
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.hint_text().is_some_and(|hint| hint.contains("5m")));
        }
        assert!(parse_size("64M").is_err());
    }

    proptest! {
        #[test]
        fn shown_values_read_back(value in 0u64..1 << 50) {
            prop_assert_eq!(parse_size(&show_size(value)).ok(), Some(value));
            let duration = Duration::from_millis(value);
            prop_assert_eq!(parse_duration(&show_duration(duration)).ok(), Some(duration));
        }
    }
}
