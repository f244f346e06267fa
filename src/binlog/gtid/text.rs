//! GTIDs as text: what MySQL prints and what it accepts ("GTID Sets" in the Reference Manual).
//!
//! A set is printed on one line, name spaces in MySQL's order, the tags of one UUID behind it:
//! `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3:7:nightly:1-2`. Read are also line breaks and blanks between any
//! two tokens, empty items between commas, upper case, intervals in any order, and the `+` that mysqldump writes
//! before a set.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::{Gtid, GtidSet, MAX_NUMBER, Tag, Tsid};
use crate::error::{Error, Kind};

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uuid = None;
        for (tsid, intervals) in self.intervals() {
            if uuid != Some(tsid.uuid) {
                f.write_str(if uuid.is_some() { "," } else { "" })?;
                write!(f, "{}", tsid.uuid.hyphenated())?;
                uuid = Some(tsid.uuid);
            }
            if let Some(tag) = &tsid.tag {
                write!(f, ":{tag}")?;
            }
            for &(first, last) in intervals {
                write!(f, ":{first}")?;
                if last > first {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<GtidSet, Error> {
        let mut set = GtidSet::new();
        let items = text.trim_start();
        for item in
            items.strip_prefix('+').unwrap_or(items).split(',').map(str::trim).filter(|item| !item.is_empty())
        {
            add_item(&mut set, item).map_err(|why| wrong("GTID set", text, &why))?;
        }
        Ok(set)
    }
}

/// `uuid[:tag]:interval[:interval|:tag]...`
fn add_item(set: &mut GtidSet, item: &str) -> Result<(), String> {
    let mut parts = item.split(':').map(str::trim);
    let mut tsid = Tsid::untagged(parse_uuid(parts.next().unwrap_or_default())?);
    let mut intervals = None;
    for part in parts {
        if part.starts_with(|c: char| c.is_ascii_digit()) {
            let (first, last) = parse_interval(part)?;
            set.insert_range(&tsid, first, last);
            intervals = Some(intervals.unwrap_or(0) + 1);
        } else {
            if intervals.is_none() && tsid.tag.is_some() {
                return Err(format!("no interval follows the tag of {tsid}"));
            }
            tsid.tag =
                Some(Tag::new(part).ok_or_else(|| format!("{part:?} is neither a tag nor an interval"))?);
            intervals = None;
        }
    }
    intervals.map(|_: usize| ()).ok_or_else(|| format!("no interval follows {tsid}"))
}

fn parse_uuid(text: &str) -> Result<Uuid, String> {
    // Only the form with hyphens: MySQL takes no other in a GTID.
    let parsed = (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten();
    parsed.ok_or_else(|| format!("{text:?} is not a UUID"))
}

/// `7` or `7-9`. MySQL reads an interval that ends before it begins as an empty one.
fn parse_interval(text: &str) -> Result<(u64, u64), String> {
    match text.split_once('-') {
        None => parse_number(text).map(|number| (number, number)),
        Some((first, last)) => Ok((parse_number(first.trim_end())?, parse_number(last.trim_start())?)),
    }
}

fn parse_number(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse::<u64>().ok()).flatten();
    number
        .filter(|number| (1..=MAX_NUMBER).contains(number))
        .ok_or_else(|| format!("{text:?} is not a transaction number from 1 to {MAX_NUMBER}"))
}

impl FromStr for Gtid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Gtid, Error> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let parsed = match parts[..] {
            [uuid, number] => parse_gtid(uuid, None, number),
            [uuid, tag, number] => parse_gtid(uuid, Some(tag), number),
            _ => Err("it has the form UUID:NUMBER or UUID:TAG:NUMBER".to_owned()),
        };
        parsed.map_err(|why| wrong("GTID", text, &why))
    }
}

fn parse_gtid(uuid: &str, tag: Option<&str>, number: &str) -> Result<Gtid, String> {
    let uuid = parse_uuid(uuid.trim())?;
    let tag = match tag.map(str::trim) {
        None => None,
        Some(tag) => Some(Tag::new(tag).ok_or_else(|| format!("{tag:?} is not a tag"))?),
    };
    Ok(Gtid { tsid: Tsid { uuid, tag }, number: parse_number(number.trim())? })
}

fn wrong(what: &str, text: &str, why: &str) -> Error {
    // A set of a busy server has megabytes; the beginning says which one it is.
    let shown: String = text.chars().take(120).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    Error::new(Kind::Corrupt, format!("read {what} {shown:?}{more}: {why}"))
}

/// In JSON both are text.
macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Gtid, GtidSet);
