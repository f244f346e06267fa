//! The two numbers of a stream: an entry's place in the index, and a transaction's place in the stream.
//!
//! Both are dense from 1; 0 means "before the first". In documents they are JSON integers; in text they have
//! twenty digits, so that names sort as the numbers do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The largest number that any document may hold: MySQL's GTID numbers end below 2^63.
pub const MAX: u64 = i64::MAX as u64;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);

            /// The one after this.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:020}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let bad = || {
                    Error::new(Kind::Corrupt, format!(concat!("read ", $what, " {:?}: not twenty digits"), text))
                };
                if text.len() != 20 || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(bad());
                }
                let number: u64 = text.parse().map_err(|_| bad())?;
                if number > MAX { Err(bad()) } else { Ok(Self(number)) }
            }
        }
    };
}

number! {
    /// An entry's number in the stream.
    Seq, "entry number"
}

number! {
    /// A transaction's number in the stream: the `n` of `<stream uuid>:<n>`.
    StreamTx, "transaction number"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_sort_as_text() {
        for n in [0, 1, 9, 10, 12_345_678_901, MAX] {
            assert_eq!(Seq(n).to_string().parse::<Seq>().unwrap(), Seq(n));
            assert_eq!(Seq(n).to_string().len(), 20);
        }
        assert!(Seq(9).to_string() < Seq(10).to_string());
    }

    #[test]
    fn only_twenty_digits_are_a_number() {
        for text in ["", "1", "0000000000000000000a", "+0000000000000000001", "000000000000000000001"] {
            assert_eq!(text.parse::<StreamTx>().unwrap_err().kind(), Kind::Corrupt, "{text}");
        }
        assert!("99999999999999999999".parse::<StreamTx>().is_err());
    }
}
