//! What the head and the pages have in common: the format version, and the seal.
//!
//! A document is one JSON object whose last member is `"sha256"`, the SHA-256 of every byte before that
//! member's name. So one flipped bit anywhere in it is refused, in members too that the chain does not cover
//! (`as_of`, `covered`), and without anything outside the document to compare with. It is no protection
//! against people who write to the bucket; the chain is what a region holds against those.
//!
//! Within a major format, later minor versions may add members to the outermost object, to entries and to
//! segments' descriptions. A reader passes over the ones it does not know, and a writer puts them back.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::hex::hex;

/// The format of a stored document. A reader refuses another major than its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Format {
    pub major: u32,
    pub minor: u32,
}

/// The format that this version writes.
pub const FORMAT: Format = Format { major: 1, minor: 2 };

/// The member that ends every document, as it is written: `,` and a line break stand before it.
const SEAL: &str = "\"sha256\":\"";
const END: &str = "\"}\n";

/// The text of a document: one member a line in the order given, items of arrays named in `lines` one a
/// line too, sealed.
pub(super) fn render(members: &[(&str, Value)], extra: &Map<String, Value>, lines: &[&str]) -> Vec<u8> {
    let mut text = String::from("{");
    let extra = extra.iter().map(|(name, value)| (name.as_str(), value));
    for (name, value) in members.iter().map(|(name, value)| (*name, value)).chain(extra) {
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
    let seal = hex(&Sha256::digest(&text));
    text.push_str(SEAL);
    text.push_str(&seal);
    text.push_str(END);
    text.into_bytes()
}

/// The members of a document, its format checked before anything else is looked at. Whether the seal holds
/// is [`check_seal`]'s to say, last: a document edited by hand is better told what is wrong in it.
pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let corrupt = |why: &str| Error::new(Kind::Corrupt, format!("read {what}: {why}"));
    let value: Value =
        serde_json::from_slice(bytes).map_err(|e| corrupt("not a JSON document").caused_by(e))?;
    let Value::Object(members) = value else { return Err(corrupt("not a JSON object")) };
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
    Ok(members)
}

/// Whether the document is, to the byte, what was written.
pub(super) fn check_seal(what: &str, bytes: &[u8]) -> Result<()> {
    let length = SEAL.len() + 64 + END.len();
    let holds = bytes.len().checked_sub(length).is_some_and(|at| {
        let (text, seal) = bytes.split_at(at);
        seal == format!("{SEAL}{}{END}", hex(&Sha256::digest(text))).as_bytes()
    });
    if holds {
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
    render(&[("format", format)], &members, lines)
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
