//! What the head and the pages have in common: the format version, and the seal.
//!
//! A document is one JSON object whose last member is `"sha256"`, the SHA-256 of every byte before that
//! member's name. So one flipped bit anywhere in it is refused, in members too that the chain does not cover
//! (`as_of`, `covered`), and without anything outside the document to compare with. It is no protection
//! against people who write to the bucket; the chain is what a region holds against those.
//!
//! Within a major format, later minor versions may add members to the outermost object, to entries and to
//! segments' descriptions. A reader passes over the ones it does not know, and a writer puts them back.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::entry::Entry;
use super::page::MAX_ENTRIES;
use super::values::{self, Bounded, Budget};
use crate::error::{Error, Kind, Result};
use crate::hex::hex;

/// The format of a stored document. A reader refuses another major than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Format {
    pub major: u32,
    pub minor: u32,
}

/// The format that this version writes.
pub const FORMAT: Format = Format { major: 1, minor: 4 };

/// The member that ends every document, as it is written: `,` and a line break stand before it.
const SEAL: &str = "\"sha256\":\"";
const END: &str = "\"}\n";

/// How long an entry's text is.
const USUAL_ENTRY: usize = 800;

/// The text of a document: one member a line in the order given, items of arrays named in `lines` one a
/// line too, then the entries if it is one that holds any, sealed.
pub(super) fn render(
    members: &[(&str, Value)],
    entries: Option<&[Entry]>,
    extra: &Map<String, Value>,
    lines: &[&str],
) -> Vec<u8> {
    // Grown by and by, a text of some hundred KB would stand there twice.
    let mut text = String::with_capacity(entries.map_or(0, |entries| entries.len() * USUAL_ENTRY) + 1024);
    text.push('{');
    let members = members.iter().map(|(name, value)| (*name, value));
    for (name, value) in members {
        push(&mut text, name, value, lines);
    }
    if let Some(entries) = entries {
        text.push_str("\"entries\":[");
        for (i, entry) in entries.iter().enumerate() {
            text.push_str(if i == 0 { "\n " } else { ",\n " });
            entry.write_to(&mut text);
        }
        text.push_str("],\n");
    }
    for (name, value) in extra {
        push(&mut text, name, value, lines);
    }
    sealed(text.into_bytes())
}

/// A document from all that stands before its seal.
pub(super) fn sealed(mut text: Vec<u8>) -> Vec<u8> {
    let seal = hex(&Sha256::digest(&text));
    text.extend_from_slice(SEAL.as_bytes());
    text.extend_from_slice(seal.as_bytes());
    text.extend_from_slice(END.as_bytes());
    text
}

/// What stands before the seal of a document; none, if there is no seal that fits.
pub(super) fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (text, seal) = bytes.split_at(bytes.len().checked_sub(SEAL.len() + 64 + END.len())?);
    (seal == format!("{SEAL}{}{END}", hex(&Sha256::digest(text))).as_bytes()).then_some(text)
}

fn push(text: &mut String, name: &str, value: &Value, lines: &[&str]) {
    text.push_str(&Value::from(name).to_string());
    text.push(':');
    match value {
        Value::Array(items) if lines.contains(&name) && !items.is_empty() => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i == 0 { "\n " } else { ",\n " });
                text.push_str(&item.to_string());
            }
            text.push(']');
        }
        value => text.push_str(&value.to_string()),
    }
    text.push_str(",\n");
}

/// The members of a document, its format checked before anything else is looked at. Whether the seal holds
/// is [`check_seal`]'s to say, last: a document edited by hand is better told what is wrong in it.
pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let corrupt = |why: &str| Error::new(Kind::Corrupt, format!("read {what}: {why}"));
    let value = values::parse(bytes).map_err(|e| corrupt("not a JSON document").caused_by(e))?;
    let Value::Object(members) = value else { return Err(corrupt("not a JSON object")) };
    check_format(what, &members)?;
    Ok(members)
}

/// The same of a head or a page: its entries apart, each understood by itself, as a thousand of them are large as JSON
/// values.
pub(super) fn parse_parts(what: &str, bytes: &[u8]) -> Result<Parts> {
    let parts: Parts = match serde_json::from_slice(bytes) {
        Ok(parts) => parts,
        Err(error) => {
            // In a later format the entries may be anything.
            parse(what, bytes)?;
            let why = format!("read {what}: its entries are no list");
            return Err(Error::new(Kind::Corrupt, why).caused_by(error));
        }
    };
    check_format(what, &parts.members)?;
    Ok(parts)
}

pub(super) struct Parts {
    pub members: Map<String, Value>,
    entries: Option<Entries>,
}

impl Parts {
    /// The entries, all of them understood.
    pub fn take_entries(&mut self, what: &str) -> Result<Vec<Entry>> {
        let missing = || Error::new(Kind::Corrupt, format!("read {what}: no member \"entries\""));
        self.entries.take().ok_or_else(missing)?.0
    }
}

/// Whatever is wrong with an entry, the format is looked at first.
struct Entries(Result<Vec<Entry>>);

/// Reads them one by one, and no further than to the first that is wrong: of thousands that are, each would be an error.
struct EntriesSeed<'b>(&'b Budget);

impl<'de> DeserializeSeed<'de> for EntriesSeed<'_> {
    type Value = Entries;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entries, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed<'_> {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        let wrong = loop {
            let Some(raw) = items.next_element_seed(Bounded(self.0))? else {
                return Ok(Entries(Ok(entries)));
            };
            match Entry::parse(raw) {
                _ if entries.len() == MAX_ENTRIES => {
                    break Error::new(
                        Kind::Corrupt,
                        format!("read entries: more than {MAX_ENTRIES} in one object"),
                    );
                }
                Ok(entry) => entries.push(entry),
                Err(error) => break error,
            }
        };
        drop(entries);
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entries(Err(wrong)))
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Parts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
                let mut parts = Parts { members: Map::new(), entries: None };
                let budget = Budget::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "entries" {
                        parts.entries = Some(map.next_value_seed(EntriesSeed(&budget))?);
                    } else {
                        parts.members.insert(name, map.next_value_seed(Bounded(&budget))?);
                    }
                }
                Ok(parts)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Looks at the format of a document and at nothing else in it.
pub(super) fn check_format_of(what: &str, bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Claims {
        format: Format,
        #[serde(default)]
        writer: String,
    }
    let claims: Claims = serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Kind::Corrupt, format!("read {what}: not a JSON document")).caused_by(e))?;
    let members = [("format", json(&claims.format)), ("writer", claims.writer.into())];
    check_format(what, &members.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

fn check_format(what: &str, members: &Map<String, Value>) -> Result<()> {
    let corrupt = |why: &str| Error::new(Kind::Corrupt, format!("read {what}: {why}"));
    let format = members.get("format").ok_or_else(|| corrupt("no member \"format\""))?;
    let format = Format::deserialize(format).map_err(|e| corrupt("unreadable \"format\"").caused_by(e))?;
    if format.major > FORMAT.major {
        let writer = members.get("writer").and_then(Value::as_str).unwrap_or("a later version");
        return Err(Error::new(
            Kind::TooNew,
            format!(
                "read {what}: it is in format {}.{}, written by {writer}; this is tablecast {}, which reads \
                 format {}",
                format.major,
                format.minor,
                env!("CARGO_PKG_VERSION"),
                FORMAT.major
            ),
        )
        .hint(format!(
            "install a tablecast that reads format {} ({writer} does) here, then run again",
            format.major
        )));
    }
    if format.major < FORMAT.major {
        return Err(corrupt(&format!("format {} was never in use", format.major)));
    }
    Ok(())
}

/// Whether the document is, to the byte, what was written.
pub(super) fn check_seal(what: &str, bytes: &[u8]) -> Result<()> {
    if unsealed(bytes).is_some() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Corrupt,
        format!(
            "read {what}: its member \"sha256\" does not fit its bytes: they are not as they were written"
        ),
    )
    .hint(
        "restore this object from a backup or an older version of it; it is not meant to be edited by hand",
    ))
}

/// A document whose members are all those of `value`, sealed: `format` first, the others by name.
pub(super) fn seal<T: Serialize>(value: &T, lines: &[&str]) -> Vec<u8> {
    let Value::Object(mut members) = json(value) else { return Vec::new() };
    let format = members.remove("format").unwrap_or_default();
    // Among the members that are passed on, if somebody sends a stored document as it was read.
    members.remove("sha256");
    render(&[("format", format)], None, &members, lines)
}

/// A document that [`seal`] wrote. Whether its seal holds is [`check_seal`]'s to say.
pub(super) fn unseal<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    let mut members = parse(what, bytes)?;
    members.remove("sha256");
    serde_json::from_value(Value::Object(members)).map_err(|e| {
        Error::new(Kind::Corrupt, format!("read {what}: a member is missing or cannot be understood"))
            .caused_by(e)
    })
}

/// Takes one member out of a document.
pub(super) fn take<T: DeserializeOwned>(
    what: &str,
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<T> {
    let value = members.remove(name).unwrap_or(Value::Null);
    serde_json::from_value(value).map_err(|e| {
        Error::new(Kind::Corrupt, format!("read {what}: member {name:?} cannot be understood")).caused_by(e)
    })
}

/// A member as JSON. Documents hold text, integers, lists and maps by text; none of these can fail.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Value {
    serde_json::to_value(value).expect("text, integers, lists and maps by text always serialise")
}
