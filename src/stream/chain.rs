//! The chain (I2): entry n carries a hash over entry n-1's hash and its own content, so a region that has
//! applied n can tell at once whether an index still holds that very history.
//!
//! `chain(n) = SHA-256(chain(n-1) ‖ canonical(entry n without its member "chain"))`, where
//! `chain(0) = SHA-256("tablecast:" ‖ stream UUID in lower-case hyphenated text)` and canonical is JSON with
//! the members of every object sorted by the bytes of their names, no white space, integers in decimal, and
//! strings escaped as `serde_json` does (`\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t`, `\u00xx` below 0x20,
//! everything else as it is). The hash covers the entry as it is stored, members this version does not know
//! included, so a reader of an earlier minor version verifies what a later one wrote.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::hex::{from_hex, hex};

/// One link's value. Text form: 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// What the first entry of a stream is chained to.
    pub fn genesis(stream: Uuid) -> Self {
        Self(Sha256::digest(format!("tablecast:{stream}")).into())
    }

    /// The value of the entry whose canonical text, without `chain`, is `entry`.
    pub(super) fn next(&self, entry: &str) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(entry).finalize().into())
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({self})")
    }
}

impl FromStr for Chain {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        from_hex(text).map(Self).ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("read chain {text:?}: not 64 lower-case hex digits"))
        })
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Chain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
