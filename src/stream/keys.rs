//! Names of the objects under a stream's prefix. Every key is formed here and parsed here, and nowhere else.
//!
//! ```text
//! index.json                                       the head
//! index/<first seq>-<last seq>.json                a sealed page
//! segments/<first tx>-<last tx>-<utc>.binlog.gz    a segment (.zst: zstd)
//! dumps/<utc>-<id>/manifest.json                   what a dump holds
//! dumps/<utc>-<id>/<table>-<chunk>.sql.gz          some of one table's rows (.zst: zstd)
//! checks/<seq>-<utc>.rows.gz                       which rows a check was made of
//! requests/<id>.json                               somebody waits for a dump
//! requests/newest.json                             the request that was queued last, as it was made
//! regions/<name>.json                              a region's last report
//! probe/<uuid>                                     made and removed by the probe for conditional writes
//! ```
//! Numbers of entries and transactions have twenty digits, times are UTC to the millisecond, so the order of a listing is the order of
//! the stream.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::dump::DumpId;
use super::ids::{Seq, StreamTx};
use super::request::RequestId;
use crate::error::{Error, Kind, Result};

pub(super) const TIME: &str = "%Y%m%dT%H%M%S%3fZ";

/// The name of an object, relative to the stream's prefix: segments of `[A-Za-z0-9._-]`, joined by `/`,
/// none of them empty or beginning with a dot. So no key leads out of the prefix, out of a directory store's
/// root, or to the files that a directory store keeps for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// What a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyKind {
    Head,
    Page { first: Seq, last: Seq },
    Segment { first: StreamTx, last: StreamTx, made: DateTime<Utc>, codec: Codec },
    Manifest { dump: DumpId },
    Chunk { dump: DumpId, table: usize, chunk: usize, codec: Codec },
    Check { seq: Seq, made: DateTime<Utc> },
    Request { id: RequestId },
    NewestRequest,
    Region { name: String },
    Probe { id: Uuid },
}

/// How a segment or a chunk is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    Gzip,
    Zstd,
}

impl Codec {
    /// The end of a key: `gz` or `zst`.
    pub fn suffix(self) -> &'static str {
        match self {
            Codec::Gzip => "gz",
            Codec::Zstd => "zst",
        }
    }

    fn from_suffix(suffix: &str) -> Option<Self> {
        [Codec::Gzip, Codec::Zstd].into_iter().find(|codec| codec.suffix() == suffix)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        })
    }
}

impl Key {
    /// Any key, as read from a document or a listing.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        let fits = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if text.len() <= 512 && text.split('/').all(fits) {
            Ok(Self(text))
        } else {
            Err(Error::new(Kind::Corrupt, format!("read key {text:?}: not a name that an object can have")))
        }
    }

    pub fn head() -> Self {
        Self("index.json".into())
    }

    pub fn page(first: Seq, last: Seq) -> Self {
        Self(format!("{}{first}-{last}.json", Self::PAGES))
    }

    pub fn segment(first: StreamTx, last: StreamTx, made: DateTime<Utc>, codec: Codec) -> Self {
        Self(format!("{}{first}-{last}-{}.binlog.{}", Self::SEGMENTS, made.format(TIME), codec.suffix()))
    }

    pub fn manifest(dump: &DumpId) -> Self {
        Self(format!("{}{dump}/manifest.json", Self::DUMPS))
    }

    /// Chunk `chunk` of the dump's table number `table`, both counted from 0.
    pub fn chunk(dump: &DumpId, table: usize, chunk: usize, codec: Codec) -> Self {
        Self(format!("{}{dump}/{table:06}-{chunk:08}.sql.{}", Self::DUMPS, codec.suffix()))
    }

    /// The names of the rows that entry `seq`, a check, sums up.
    pub fn check(seq: Seq, made: DateTime<Utc>) -> Self {
        Self(format!("{}{seq}-{}.rows.gz", Self::CHECKS, made.format(TIME)))
    }

    pub fn request(id: &RequestId) -> Self {
        Self(format!("{}{id}.json", Self::REQUESTS))
    }

    /// The request that was queued last, as it was made: whoever queues one replaces this first.
    pub fn newest_request() -> Self {
        Self(format!("{}newest.json", Self::REQUESTS))
    }

    /// The region `name`'s report. Letters, digits and hyphens stand as they are, every other byte as `_` and two
    /// hex digits. `Kind::Usage` if no region can be called that.
    pub fn region(name: &str) -> Result<Self> {
        if name.is_empty() || name.len() > MAX_REGION_NAME {
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "read the region's name {name:?}: it has {} bytes, not 1 to {MAX_REGION_NAME}",
                    name.len()
                ),
            ));
        }
        let mut text = String::from(Self::REGIONS);
        for byte in name.bytes() {
            match byte {
                b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(byte.into()),
                odd => text.push_str(&format!("_{odd:02x}")),
            }
        }
        Ok(Self(text + ".json"))
    }

    pub fn probe(id: Uuid) -> Self {
        Self(format!("{}{id}", Self::PROBES))
    }

    /// What the sealed pages' keys begin with, for listings.
    pub const PAGES: &'static str = "index/";
    /// What the segments' keys begin with, for listings.
    pub const SEGMENTS: &'static str = "segments/";
    /// What the dumps' keys begin with, for listings.
    pub const DUMPS: &'static str = "dumps/";
    /// What the checks' keys begin with, for listings.
    pub const CHECKS: &'static str = "checks/";
    /// What the requests' keys begin with, for listings.
    pub const REQUESTS: &'static str = "requests/";
    /// What the regions' reports' keys begin with, for listings.
    pub const REGIONS: &'static str = "regions/";
    /// What the probe's keys begin with, for listings.
    pub const PROBES: &'static str = "probe/";

    /// What this key says; `Kind::Corrupt` if it is none of Tablecast's.
    pub fn parse(&self) -> Result<KeyKind> {
        self.parsed().ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("read key {self}: not a name that tablecast gives to objects"))
        })
    }

    fn parsed(&self) -> Option<KeyKind> {
        let text = self.0.as_str();
        let kind = if text == "index.json" {
            KeyKind::Head
        } else if let Some(rest) = text.strip_prefix(Self::PAGES) {
            let (first, last) = rest.strip_suffix(".json")?.split_once('-')?;
            KeyKind::Page { first: first.parse().ok()?, last: last.parse().ok()? }
        } else if let Some(rest) = text.strip_prefix(Self::SEGMENTS) {
            let (rest, codec) = rest.split_once(".binlog.")?;
            let mut parts = rest.split('-');
            let (first, last, made) = (parts.next()?, parts.next()?, parts.next()?);
            KeyKind::Segment {
                first: first.parse().ok()?,
                last: last.parse().ok()?,
                made: NaiveDateTime::parse_from_str(made, TIME).ok()?.and_utc(),
                codec: Codec::from_suffix(codec)?,
            }
        } else if let Some(rest) = text.strip_prefix(Self::DUMPS) {
            let (dump, object) = rest.split_once('/')?;
            let dump = dump.parse().ok()?;
            match object.split_once(".sql.") {
                None if object == "manifest.json" => KeyKind::Manifest { dump },
                None => return None,
                Some((numbers, codec)) => {
                    let (table, chunk) = numbers.split_once('-')?;
                    let codec = Codec::from_suffix(codec)?;
                    KeyKind::Chunk { dump, table: table.parse().ok()?, chunk: chunk.parse().ok()?, codec }
                }
            }
        } else if let Some(rest) = text.strip_prefix(Self::CHECKS) {
            let (seq, made) = rest.strip_suffix(".rows.gz")?.split_once('-')?;
            let made = NaiveDateTime::parse_from_str(made, TIME).ok()?.and_utc();
            KeyKind::Check { seq: seq.parse().ok()?, made }
        } else if text == Self::newest_request().0 {
            KeyKind::NewestRequest
        } else if let Some(rest) = text.strip_prefix(Self::REQUESTS) {
            KeyKind::Request { id: rest.strip_suffix(".json")?.parse().ok()? }
        } else if let Some(rest) = text.strip_prefix(Self::REGIONS) {
            KeyKind::Region { name: region_name(rest.strip_suffix(".json")?)? }
        } else {
            KeyKind::Probe { id: text.strip_prefix(Self::PROBES)?.parse().ok()? }
        };
        // One object has one name: what does not form this very text again was not formed here.
        let formed = match &kind {
            KeyKind::Head => Self::head(),
            KeyKind::Page { first, last } => Self::page(*first, *last),
            KeyKind::Segment { first, last, made, codec } => Self::segment(*first, *last, *made, *codec),
            KeyKind::Manifest { dump } => Self::manifest(dump),
            KeyKind::Chunk { dump, table, chunk, codec } => Self::chunk(dump, *table, *chunk, *codec),
            KeyKind::Check { seq, made } => Self::check(*seq, *made),
            KeyKind::Request { id } => Self::request(id),
            KeyKind::NewestRequest => Self::newest_request(),
            KeyKind::Region { name } => Self::region(name).ok()?,
            KeyKind::Probe { id } => Self::probe(*id),
        };
        (formed == *self).then_some(kind)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest name of a region, in bytes.
const MAX_REGION_NAME: usize = 64;

/// The name that [`Key::region`] wrote as `text`.
fn region_name(text: &str) -> Option<String> {
    let mut name = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        name.push(match byte {
            b'_' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(name).ok()
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_that_is_formed_is_parsed_to_what_it_was_formed_from(
            first in 0u64..=i64::MAX as u64, last in 0u64..=i64::MAX as u64,
            millis in 0i64..4_102_444_800_000, gzip: bool, id: u128, random: u32,
            table in 0usize..10_000_000, chunk in 0usize..1_000_000_000, region in "\\PC{1,12}",
        ) {
            let made = DateTime::from_timestamp_millis(millis).unwrap();
            let codec = if gzip { Codec::Gzip } else { Codec::Zstd };
            let (dump, request) = (DumpId::new(made, random), RequestId::new(id));
            let (id, head) = (Uuid::from_u128(id), Key::head());
            prop_assert_eq!(dump.made(), made);
            for (key, kind) in [
                (head, KeyKind::Head),
                (Key::page(Seq(first), Seq(last)), KeyKind::Page { first: Seq(first), last: Seq(last) }),
                (
                    Key::segment(StreamTx(first), StreamTx(last), made, codec),
                    KeyKind::Segment { first: StreamTx(first), last: StreamTx(last), made, codec },
                ),
                (Key::manifest(&dump), KeyKind::Manifest { dump: dump.clone() }),
                (
                    Key::chunk(&dump, table, chunk, codec),
                    KeyKind::Chunk { dump: dump.clone(), table, chunk, codec },
                ),
                (Key::check(Seq(first), made), KeyKind::Check { seq: Seq(first), made }),
                (Key::request(&request), KeyKind::Request { id: request.clone() }),
                (Key::newest_request(), KeyKind::NewestRequest),
                (Key::region(&region).unwrap(), KeyKind::Region { name: region.clone() }),
                (Key::probe(id), KeyKind::Probe { id }),
            ] {
                prop_assert_eq!(key.parse().unwrap(), kind);
                prop_assert_eq!(Key::new(key.as_str()).unwrap(), key);
            }
        }

        #[test]
        fn parsing_any_text_never_panics_and_accepts_only_names_formed_here(text in "(index|segments|dumps|checks|requests|regions|probe)?/?[-0-9A-Z./a-z]{0,60}") {
            if let Ok(key) = Key::new(text.clone()) {
                let _ = key.parse();
            }
        }
    }

    #[test]
    fn a_key_never_leads_out_of_the_prefix() {
        for text in ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", ".a", "a b", "a\\b", "a\0", "ä"]
        {
            assert_eq!(Key::new(text).unwrap_err().kind(), Kind::Corrupt, "{text:?}");
        }
    }

    #[test]
    fn listing_order_is_stream_order() {
        let at = |s| DateTime::from_timestamp(s, 0).unwrap();
        let a = Key::segment(StreamTx(9), StreamTx(10), at(2_000_000_000), Codec::Gzip);
        let b = Key::segment(StreamTx(11), StreamTx(1000), at(1_000_000_000), Codec::Zstd);
        assert!(a < b);
        assert_eq!(
            b.as_str(),
            "segments/00000000000000000011-00000000000000001000-20010909T014640000Z.binlog.zst"
        );
    }
}
