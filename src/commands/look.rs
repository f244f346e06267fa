//! How results look to people: aligned, calm, numbers with units, times with their age, colour only on a
//! terminal. What is not known is said to be unknown, never shown as 0.

use std::time::Duration;

use chrono::{DateTime, Utc};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

pub use crate::figures::{count, number};

pub const UNKNOWN: &str = "unknown";

/// Whether stdout gets colours.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub color: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warn,
    Bad,
    Dim,
    Strong,
}

impl Look {
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Label and value, one a line, values aligned.
    pub fn facts(self, facts: &[(&str, String)]) -> String {
        let width = facts.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let lines = facts.iter().map(|(label, value)| {
            let label = self.paint(Tone::Dim, &format!("{label:<width$}"));
            let value = value.replace('\n', &format!("\n{:width$}   ", ""));
            format!("{label}   {value}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// A table without borders; `right` names the columns that hold numbers.
    pub fn table(
        self,
        header: &[&str],
        right: &[usize],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> String {
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .force_no_tty();
        table.set_header(header.iter().map(|name| Cell::new(name.to_uppercase())));
        for row in rows {
            table.add_row(row);
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if right.contains(&at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text = table.to_string();
        let mut lines = text.lines().map(str::trim_end);
        let header = lines.next().map(|line| self.paint(Tone::Dim, line));
        header.into_iter().chain(lines.map(str::to_owned)).collect::<Vec<_>>().join("\n")
    }
}

/// `512 B`, `1.5 KiB`, `64.0 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let two = |first: u64, unit: &str, second: u64, small: &str| match second {
        0 => format!("{first} {unit}"),
        _ => format!("{first} {unit} {second} {small}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{} s", seconds),
        (0, 0, minutes) => two(minutes, "min", seconds % 60, "s"),
        (0, hours, minutes) => two(hours, "h", minutes, "min"),
        (days, hours, _) => two(days, "d", hours, "h"),
    }
}

/// `2026-11-21 08:04:05 UTC (12 s ago)`; `unknown` for the epoch, which stands for a time that nobody has told yet.
pub fn time(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    if at == DateTime::UNIX_EPOCH {
        return UNKNOWN.to_owned();
    }
    let age = match (now - at).to_std() {
        Ok(age) => format!("{} ago", duration(age)),
        Err(_) => format!("in {}", duration((at - now).to_std().unwrap_or_default())),
    };
    format!("{} ({age})", moment(at))
}

/// `2026-11-21 08:04:05 UTC`.
pub fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_sizes_carry_units() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(0, "entry"), "0 entries");
        assert_eq!(count(1_200, "transaction"), "1,200 transactions");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1024), "1.0 KiB");
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(size(64 << 20), "64.0 MiB");
    }

    #[test]
    fn durations_have_at_most_two_units() {
        let shown = [0, 59, 60, 200, 3_600, 7_500, 86_400, 273_600].map(|s| duration(Duration::from_secs(s)));
        assert_eq!(shown, ["0 s", "59 s", "1 min", "3 min 20 s", "1 h", "2 h 5 min", "1 d", "3 d 4 h"]);
    }

    #[test]
    fn times_carry_their_age_in_both_directions() {
        let at = DateTime::from_timestamp(1_795_248_245, 0).expect("a time");
        assert_eq!(time(at, at + chrono::Duration::seconds(12)), "2026-11-21 08:04:05 UTC (12 s ago)");
        assert_eq!(time(at, at - chrono::Duration::seconds(90)), "2026-11-21 08:04:05 UTC (in 1 min 30 s)");
    }

    #[test]
    fn a_table_is_aligned_and_has_no_borders() {
        let look = Look { color: false };
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcd".to_owned(), "1,000".to_owned()]];
        assert_eq!(look.table(&["name", "rows"], &[1], rows), "NAME   ROWS\na         1\nbcd   1,000");
        let facts = look.facts(&[("a", "1".to_owned()), ("long", "x\ny".to_owned())]);
        assert_eq!(facts, "a      1\nlong   x\n       y");
    }
}
