//! The one text of a JSON value that hashes are taken over; defined in [`chain`](super::chain).

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// The canonical text of `value`, leaving out the member `without` at the top. Fractions are refused: their
/// text differs from one implementation to the next, and no document holds any.
pub(super) fn canonical(value: &Value, without: Option<&str>) -> Result<String> {
    let mut text = String::new();
    write(value, without, &mut text)?;
    Ok(text)
}

/// The canonical text of an object without this member, and where in it the member would stand.
pub(super) fn canonical_without(members: &Map<String, Value>, name: &str) -> Result<(String, usize)> {
    let mut text = String::new();
    let at = write_members(members, Some(name), &mut text)?;
    Ok((text, at))
}

fn write(value: &Value, without: Option<&str>, out: &mut String) -> Result<()> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => {
            if !number.is_u64() && !number.is_i64() {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("read number {number}: documents hold integers below 2^64 only"),
                ));
            }
            out.push_str(&number.to_string());
        }
        Value::String(text) => out.push_str(&Value::from(text.as_str()).to_string()),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, None, out)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            write_members(members, without, out)?;
        }
    }
    Ok(())
}

/// Says where the member `without` would stand.
fn write_members(members: &Map<String, Value>, without: Option<&str>, out: &mut String) -> Result<usize> {
    // Sorted here: whether serde_json's own map sorts depends on a feature any crate may switch on.
    let mut members: Vec<_> = members.iter().collect();
    members.sort_unstable_by_key(|(name, _)| name.as_bytes());
    let (mut is_first, mut at) = (true, None);
    out.push('{');
    for (name, member) in members {
        if without.is_some_and(|without| name.as_str() >= without) {
            at = at.or(Some(out.len()));
        }
        if Some(name.as_str()) == without {
            continue;
        }
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        write(member, None, out)?;
    }
    let end = out.len();
    out.push('}');
    Ok(at.unwrap_or(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_white_space_do_not_matter_and_content_does() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let a = parse(r#"{"b": [1, {"y":true,"x":null}], "a": "\u00e9\n\u0001\"", "chain":"z"}"#);
        assert_eq!(
            canonical(&a, Some("chain")).unwrap(),
            "{\"a\":\"é\\n\\u0001\\\"\",\"b\":[1,{\"x\":null,\"y\":true}]}"
        );
        assert_ne!(canonical(&a, Some("chain")).unwrap(), canonical(&a, None).unwrap());
    }

    #[test]
    fn fractions_are_refused() {
        for text in ["1.5", "1e3", "18446744073709551616"] {
            let value = serde_json::from_str(text).unwrap();
            assert_eq!(canonical(&value, None).unwrap_err().kind(), Kind::Corrupt);
        }
    }
}
