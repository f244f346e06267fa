//! Global transaction identifiers: one transaction (`Gtid`), the name space it counts in (`Tsid`: a UUID with
//! an optional tag, since MySQL 8.3), and sets of them.
//!
//! Formats: "GTID Format and Storage" and "GTID Sets" of the MySQL Reference Manual; `libs/mysql/gtid` of
//! mysql-server. Text that is not a GTID is `Kind::Corrupt` and names the text.

pub(in crate::binlog) mod bytes;
mod set;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use uuid::Uuid;

pub use set::GtidSet;

/// The largest number a transaction can have: MySQL keeps 2^63-1 for itself.
pub const MAX_NUMBER: u64 = i64::MAX as u64 - 1;

/// A tag: a letter or underscore, then letters, digits and underscores; at most 32, lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// Where transactions are counted: a server's (or stream's) UUID, perhaps with a tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tsid {
    pub uuid: Uuid,
    pub tag: Option<Tag>,
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    pub tsid: Tsid,
    /// From 1 to `MAX_NUMBER`.
    pub number: u64,
}

impl Tag {
    pub const MAX_LEN: usize = 32;

    /// Normalises to lower case, as the server does. None if it is not a tag.
    pub fn new(text: &str) -> Option<Tag> {
        let mut bytes = text.bytes();
        let first = bytes.next()?;
        let fits = text.len() <= Self::MAX_LEN
            && (first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
        fits.then(|| Tag(text.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tsid {
    pub fn untagged(uuid: Uuid) -> Tsid {
        Tsid { uuid, tag: None }
    }
}

impl From<Uuid> for Tsid {
    fn from(uuid: Uuid) -> Tsid {
        Tsid::untagged(uuid)
    }
}

impl Gtid {
    /// Without a tag.
    pub fn new(uuid: Uuid, number: u64) -> Gtid {
        Gtid { tsid: Tsid::untagged(uuid), number }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uuid.hyphenated())?;
        match &self.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tsid, self.number)
    }
}

/// In messages and test output a GTID reads as itself.
macro_rules! debug_as_display {
    ($($name:ty),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
debug_as_display!(Tag, Tsid, Gtid, GtidSet);
