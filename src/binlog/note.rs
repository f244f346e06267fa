//! The note: what a segment says about a transaction beside the transaction itself, first of all its GTID at
//! the source.
//!
//! An IGNORABLE_LOG_EVENT (28) with LOG_EVENT_IGNORABLE_F: servers and mysqlbinlog skip it. It stands right after
//! the GTID event of its transaction. Its body: `tablecast` and a zero byte, a version byte, JSON. A reader takes
//! version 1 and ignores keys that it does not know; another version is `Kind::TooNew`.

use serde::{Deserialize, Serialize};

use super::event::{Checksum, Event, FLAG_IGNORABLE, Header, kind};
use super::gtid::Gtid;
use crate::error::{Error, Kind, Result};

const SIGNATURE: &[u8] = b"tablecast\0";
const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What the source calls this transaction.
    pub source_gtid: Gtid,
    /// For DDL whose meaning depends on its database's default: schema and collation, as at the source then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schema_collations: Vec<(String, String)>,
}

impl Note {
    /// With a checksum; the position is set by the writer of the file.
    pub fn to_event(&self, timestamp: u32, server_id: u32) -> Result<Event> {
        let mut body = SIGNATURE.to_vec();
        body.push(VERSION);
        serde_json::to_writer(&mut body, self).map_err(|cause| {
            let what = format!("write the note of {}", self.source_gtid);
            Error::new(Kind::Failed, what).caused_by(cause)
        })?;
        let header = Header {
            timestamp,
            kind: kind::IGNORABLE,
            server_id,
            size: 0,
            log_pos: 0,
            flags: FLAG_IGNORABLE,
        };
        Ok(Event::build(header, &body, Checksum::Crc32))
    }

    /// None if it is not a note but somebody else's ignorable event, or another event altogether.
    pub fn from_event(event: &Event) -> Result<Option<Note>> {
        let body = match event.body().strip_prefix(SIGNATURE) {
            Some(body) if event.kind() == kind::IGNORABLE => body,
            _ => return Ok(None),
        };
        match body.split_first() {
            Some((&VERSION, json)) => serde_json::from_slice(json).map(Some).map_err(|cause| {
                let what = format!("read the note that ends at {}", event.header().log_pos);
                Error::new(Kind::Corrupt, what).caused_by(cause)
            }),
            Some((version, _)) => {
                let what = format!("read a note: version {version}, this program reads {VERSION}");
                Err(Error::new(Kind::TooNew, what)
                    .hint("a newer tablecast wrote this stream: update this one"))
            }
            None => Err(Error::new(Kind::Corrupt, "read a note: it ends before its version")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            source_gtid: "3e11fa47-71ca-11e1-9e33-c80aa9429562:nightly:7".parse().unwrap(),
            schema_collations: vec![("g".to_owned(), "utf8mb4_0900_ai_ci".to_owned())],
        }
    }

    #[test]
    fn a_note_round_trips() {
        let event = note().to_event(1, 2).unwrap();
        assert_eq!(event.header().flags, FLAG_IGNORABLE);
        assert_eq!(Note::from_event(&event).unwrap(), Some(note()));
    }

    #[test]
    fn an_ignorable_event_of_somebody_else_is_not_a_note() {
        let header = note().to_event(1, 2).unwrap().header();
        let event = Event::build(header, b"tablecaster\0", Checksum::Crc32);
        assert_eq!(Note::from_event(&event).unwrap(), None);
    }

    #[test]
    fn a_note_of_a_newer_version_says_so() {
        let header = note().to_event(1, 2).unwrap().header();
        let event = Event::build(header, b"tablecast\0\x02{}", Checksum::Crc32);
        let error = Note::from_event(&event).unwrap_err();
        assert_eq!(error.kind(), Kind::TooNew);
        assert_eq!(error.to_string(), "read a note: version 2, this program reads 1");
    }

    #[test]
    fn a_note_of_the_same_version_may_say_more() {
        let header = note().to_event(1, 2).unwrap().header();
        let body = br#"{"source_gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:7","weather":"fine"}"#;
        let body = [b"tablecast\0\x01".as_slice(), body].concat();
        let event = Event::build(header, &body, Checksum::Crc32);
        assert!(Note::from_event(&event).unwrap().unwrap().schema_collations.is_empty());
    }
}
