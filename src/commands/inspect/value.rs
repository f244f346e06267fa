//! A column's value as people and programs see it. Only for looking at: what is applied never passes here.

use chrono::{DateTime, Utc};
use mysql_common::binlog::value::BinlogValue;
use mysql_common::constants::{ColumnFlags, ColumnType};
use mysql_common::packets::Column;
use mysql_common::value::Value;

use crate::hex::hex;

/// Longer values are cut for people, never for programs.
const SHOWN_CHARACTERS: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Null,
    /// Numbers, dates, times: as SQL writes them, without quotes.
    Plain(String),
    Text(String),
    /// Bytes that are no text in UTF-8.
    Bytes(Vec<u8>),
    Json(serde_json::Value),
    /// A JSON column's change in parts: path and what happens there.
    Partial(Vec<String>),
}

pub fn show(value: BinlogValue<'_>, column: &Column) -> Shown {
    match value {
        BinlogValue::Value(value) => plain(value, column),
        BinlogValue::Jsonb(json) => match serde_json::Value::try_from(json) {
            Ok(json) => Shown::Json(json),
            Err(error) => Shown::Plain(format!("(JSON that cannot be decoded: {error})")),
        },
        BinlogValue::JsonDiff(changes) => {
            let changes = changes.iter().map(|change| {
                let value = change.value().map(|value| serde_json::Value::try_from(value.clone()));
                let value = match value {
                    Some(Ok(value)) => format!(" {value}"),
                    Some(Err(error)) => format!(" ({error})"),
                    None => String::new(),
                };
                format!("{:?} {}{value}", change.operation(), change.path_str())
            });
            Shown::Partial(changes.collect())
        }
    }
}

fn plain(value: Value, column: &Column) -> Shown {
    let kind = column.column_type();
    let is_timestamp = matches!(kind, ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2);
    let is_number = matches!(
        kind,
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL | ColumnType::MYSQL_TYPE_YEAR
    );
    let is_date = matches!(kind, ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE);
    let is_unsigned = column.flags().contains(ColumnFlags::UNSIGNED_FLAG);
    match value {
        Value::NULL => Shown::Null,
        Value::Int(seconds) if is_timestamp => timestamp(&seconds.to_string()),
        Value::Bytes(bytes) if is_timestamp => timestamp(&String::from_utf8_lossy(&bytes)),
        // mysql_common reads a MEDIUMINT's three bytes without their sign.
        Value::Int(number) if kind == ColumnType::MYSQL_TYPE_INT24 && !is_unsigned && number >= 1 << 23 => {
            Shown::Plain((number - (1 << 24)).to_string())
        }
        Value::Int(number) => Shown::Plain(number.to_string()),
        Value::UInt(number) => Shown::Plain(number.to_string()),
        Value::Float(number) => Shown::Plain(number.to_string()),
        Value::Double(number) => Shown::Plain(number.to_string()),
        Value::Date(year, month, day, 0, 0, 0, 0) if is_date => {
            Shown::Plain(format!("{year:04}-{month:02}-{day:02}"))
        }
        Value::Date(year, month, day, hour, minute, second, micros) => {
            let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
            Shown::Plain(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction}"))
        }
        Value::Time(is_negative, days, hours, minutes, seconds, micros) => {
            let sign = if is_negative { "-" } else { "" };
            let hours = u64::from(days) * 24 + u64::from(hours);
            let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
            Shown::Plain(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}"))
        }
        // A YEAR is counted from 1900, and 0 stands for the year 0000.
        Value::Bytes(year) if kind == ColumnType::MYSQL_TYPE_YEAR && year == b"1900" => {
            Shown::Plain("0000".to_owned())
        }
        Value::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) if is_number => Shown::Plain(text),
            Ok(text) if is_printable(&text) => Shown::Text(text),
            Ok(text) => Shown::Bytes(text.into_bytes()),
            Err(error) => Shown::Bytes(error.into_bytes()),
        },
    }
}

fn is_printable(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

/// Seconds since 1970, perhaps with a fraction; 0 is MySQL's zero date.
fn timestamp(text: &str) -> Shown {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let at = seconds.parse().ok().and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0));
    Shown::Plain(match at {
        Some(at) if at.timestamp() == 0 => "0000-00-00 00:00:00".to_owned(),
        Some(at) if fraction.is_empty() => at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Some(at) => format!("{}.{fraction} UTC", at.format("%Y-%m-%d %H:%M:%S")),
        None => text.to_owned(),
    })
}

impl Shown {
    pub fn to_text(&self) -> String {
        match self {
            Shown::Null => "NULL".to_owned(),
            Shown::Plain(text) => text.clone(),
            Shown::Text(text) => match text.char_indices().nth(SHOWN_CHARACTERS) {
                Some((at, _)) => format!("'{}'… ({} bytes)", text[..at].escape_debug(), text.len()),
                None => format!("'{}'", text.escape_debug()),
            },
            Shown::Bytes(bytes) if bytes.len() > SHOWN_CHARACTERS / 2 => {
                format!("0x{}… ({} bytes)", hex(&bytes[..SHOWN_CHARACTERS / 2]), bytes.len())
            }
            Shown::Bytes(bytes) => format!("0x{}", hex(bytes)),
            Shown::Json(json) => cut(&json.to_string()),
            Shown::Partial(changes) => cut(&changes.join("; ")),
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Shown::Null => serde_json::Value::Null,
            Shown::Plain(text) | Shown::Text(text) => text.clone().into(),
            Shown::Bytes(bytes) => format!("0x{}", hex(bytes)).into(),
            Shown::Json(json) => json.clone(),
            Shown::Partial(changes) => changes.clone().into(),
        }
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Value, kind: ColumnType) -> String {
        show(BinlogValue::Value(value), &Column::new(kind)).to_text()
    }

    #[test]
    fn values_look_as_in_sql() {
        use ColumnType::*;
        assert_eq!(shown(Value::NULL, MYSQL_TYPE_LONG), "NULL");
        assert_eq!(shown(Value::Int(-5), MYSQL_TYPE_LONG), "-5");
        assert_eq!(shown(Value::Bytes(b"it's".to_vec()), MYSQL_TYPE_VARCHAR), r"'it\'s'");
        assert_eq!(shown(Value::Bytes(vec![0, 255]), MYSQL_TYPE_BLOB), "0x00ff");
        assert_eq!(shown(Value::Bytes(b"1.50".to_vec()), MYSQL_TYPE_NEWDECIMAL), "1.50");
        assert_eq!(shown(Value::Date(2026, 11, 21, 8, 4, 5, 0), MYSQL_TYPE_DATETIME2), "2026-11-21 08:04:05");
        assert_eq!(shown(Value::Int(0), MYSQL_TYPE_TIMESTAMP), "0000-00-00 00:00:00");
        assert_eq!(
            shown(Value::Bytes(b"1795248245.120000".to_vec()), MYSQL_TYPE_TIMESTAMP2),
            "2026-11-21 08:04:05.120000 UTC"
        );
    }

    #[test]
    fn a_long_value_is_cut_for_people_and_whole_for_programs() {
        let long = show(
            BinlogValue::Value(Value::Bytes(vec![b'x'; 5000])),
            &Column::new(ColumnType::MYSQL_TYPE_BLOB),
        );
        assert!(long.to_text().ends_with("… (5000 bytes)"));
        assert_eq!(long.to_json().as_str().map(str::len), Some(5000));
    }
}
