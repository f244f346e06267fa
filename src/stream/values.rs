//! JSON as values, as many as a document may have: text of two bytes a value would take up more than ten times its size.

use std::cell::Cell;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Most values in one document, members' names not counted. A head of 1,000 entries, each of which names 1,000 tables, has
/// half as many.
const MOST: usize = 2_000_000;

/// What is left for the rest of a document.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub fn new() -> Self {
        Self(Cell::new(MOST))
    }

    fn take<E: Error>(&self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom(format_args!("more than {MOST} values")))?);
        Ok(())
    }
}

/// Reads one value, with all that is in it.
pub(super) struct Bounded<'b>(pub &'b Budget);

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.take()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Bounded(self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            map.insert(name, members.next_value_seed(Bounded(self.0))?);
        }
        Ok(Value::Object(map))
    }
}

/// A whole text.
pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Bounded(&Budget::new()).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_the_library_reads_it() {
        for text in [
            r#"{"a": [1, -2, 18446744073709551615, 1.5, null, true, "x\u00e9\n"], "b": {"c": {}}, "a2": []}"#,
            r#"{"a": 1, "a": 2}"#,
            "7",
            " \"x\" ",
        ] {
            assert_eq!(
                parse(text.as_bytes()).unwrap(),
                serde_json::from_str::<Value>(text).unwrap(),
                "{text}"
            );
        }
        for wrong in ["", "{", "[1,]", "1 2", "{\"a\":1}}", &"[".repeat(1_000)] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_has_more_values_than_any_document_is_given_up() {
        let many = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
        assert!(parse(many(MOST - 1).as_bytes()).is_ok());
        for text in [many(MOST), format!("{{\"a\":{}}}", many(MOST)), format!("[{}[]]", "[],".repeat(MOST))] {
            assert!(parse(text.as_bytes()).unwrap_err().to_string().contains("more than 2000000 values"));
        }
    }
}
