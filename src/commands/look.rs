//! How results look to people: aligned, calm, numbers with units, times with their age, colour only on a
//! terminal. What is not known is said to be unknown, never shown as 0.

use chrono::{DateTime, Utc};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

pub use crate::figures::{count, duration, moment, number, size};

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
            table.add_row(row.iter().map(|cell| hide(cell)));
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
        header.into_iter().chain(lines.map(show)).collect::<Vec<_>>().join("\n")
    }
}

/// What paints, and characters without a width (variation selectors, which no text of ours has) that stand for it while a
/// table is laid out: it counts the bytes of a colour as columns.
const PAINT: [(&str, char); 6] = [
    ("\x1b[32m", '\u{e0100}'),
    ("\x1b[33m", '\u{e0101}'),
    ("\x1b[31m", '\u{e0102}'),
    ("\x1b[2m", '\u{e0103}'),
    ("\x1b[1m", '\u{e0104}'),
    ("\x1b[0m", '\u{e0105}'),
];

fn hide(cell: &str) -> String {
    let cell = cell.replace(|c| PAINT.iter().any(|(_, sign)| *sign == c), "");
    PAINT.iter().fold(cell, |cell, (code, sign)| cell.replace(code, &sign.to_string()))
}

fn show(line: &str) -> String {
    PAINT.iter().fold(line.to_owned(), |line, (code, sign)| line.replace(*sign, code))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        // Colours take no room.
        let painted = Look { color: true };
        let row = |tone, name: &str| vec![painted.paint(tone, name), "1".to_owned()];
        let colored =
            painted.table(&["state", "rows"], &[1], [row(Tone::Good, "ok"), row(Tone::Dim, "silent")]);
        let bare = PAINT.iter().fold(colored.clone(), |text, (code, _)| text.replace(code, ""));
        assert_eq!(bare, "STATE   ROWS\nok         1\nsilent     1");
        assert!(colored.contains("\x1b[32mok\x1b[0m "), "{colored:?}");
        let facts = look.facts(&[("a", "1".to_owned()), ("long", "x\ny".to_owned())]);
        assert_eq!(facts, "a      1\nlong   x\n       y");
    }
}
