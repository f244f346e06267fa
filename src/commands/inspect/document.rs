//! The JSON documents of a stream: the head, a sealed page, a dump's manifest, a request, a region's report. Read as
//! their readers do, so that what is shown here as sound is.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fact, HINT, segment};
use crate::binlog::gtid::GtidSet;
use crate::commands::look::{self, Look, Tone};
use crate::commands::output::{Output, big_numbers_as_texts};
use crate::error::{Error, Kind, Result};
use crate::stream::{
    CheckEntry, Entry, Head, Key, Manifest, Page, RegionReport, Request, RequestId, TablesEntry,
};

/// Prints a document by what is in it.
pub fn print(name: &str, bytes: &[u8], about: &[Fact], print: &segment::Print) -> Result<Output> {
    let raw: Value = serde_json::from_slice(bytes).map_err(|cause| {
        Error::new(Kind::Corrupt, format!("inspect {name}: it is not JSON")).caused_by(cause)
    })?;
    let has = |member: &str| raw.get(member).is_some();
    let text = if has("tip") {
        entries(name, &Head::parse(bytes)?.entries, print.look)
    } else if has("pause_us") {
        manifest(name, &Manifest::parse(&id(name, &raw, "id")?, bytes)?, about, print.look)
    } else if has("body_sha256") {
        let id: RequestId = id(name, &raw, "id")?;
        Request::parse(&id, bytes)?;
        plain(name, &raw, print.look)
    } else if has("reported_at") {
        let region: String = id(name, &raw, "region")?;
        Key::region(&region).map_err(|cause| {
            Error::new(Kind::Corrupt, format!("inspect {name}: no region has this name")).caused_by(cause)
        })?;
        RegionReport::parse(&region, bytes)?;
        plain(name, &raw, print.look)
    } else if has("first") && has("last") {
        // A page's key follows from what it says is in it; `Page::parse` holds it to that.
        let key = Key::page(id(name, &raw, "first")?, id(name, &raw, "last")?);
        entries(name, &Page::parse(&key, bytes)?.entries, print.look)
    } else {
        let message = format!("inspect {name}: it is no head, page, manifest, request or report");
        return Err(Error::new(Kind::Corrupt, message).hint(HINT));
    };
    Ok(Output::new(text, json!({"object": name, "document": raw})))
}

fn id<T: for<'de> Deserialize<'de>>(name: &str, raw: &Value, member: &str) -> Result<T> {
    T::deserialize(&raw[member]).map_err(|cause| {
        Error::new(Kind::Corrupt, format!("inspect {name}: member {member:?} cannot be understood"))
            .caused_by(cause)
    })
}

fn entries(name: &str, entries: &[Entry], look: Look) -> String {
    let count = look::count(entries.len() as u64, "entry");
    format!("{name}: sound, {count}\n{}", crate::commands::stream::ls::table(look, entries))
}

fn manifest(name: &str, manifest: &Manifest, about: &[Fact], look: Look) -> String {
    let lines = |set: &GtidSet| set.to_string().replace(',', ",\n");
    let chunks = manifest.chunks().count() as u64;
    let mut facts = vec![("dump", manifest.id.to_string())];
    facts.extend(about.iter().cloned());
    facts.extend([
        ("stream", manifest.stream.to_string()),
        ("taken", look::moment(manifest.taken_at)),
        ("written by", format!("{}, from MySQL {}", manifest.writer, manifest.server_version)),
        (
            "holds",
            format!(
                "{} in {}, {}",
                look::count(manifest.rows(), "row"),
                look::count(chunks, "chunk"),
                look::size(manifest.bytes())
            ),
        ),
        ("pause", format!("{}.{:03} ms", manifest.pause_us / 1000, manifest.pause_us % 1000)),
        ("snapshot", lines(&manifest.snapshot)),
    ]);
    if !manifest.absent.is_empty() {
        let absent: Vec<_> = manifest.absent.iter().map(ToString::to_string).collect();
        facts.push(("not there", absent.join(", ")));
    }
    let rows = manifest.tables.iter().map(|table| {
        vec![
            table.table.to_string(),
            look::number(table.rows),
            look::number(table.chunks.len() as u64),
            look::size(table.bytes()),
            look::size(table.raw_bytes()),
            look::size(table.largest_statement),
            table.checksum.to_string(),
        ]
    });
    let header = ["table", "rows", "chunks", "size", "raw", "statement", "checksum"];
    format!("{name}: sound\n{}\n\n{}", look.facts(&facts), look.table(&header, &[1, 2, 3, 4, 5], rows))
}

/// A change of the table set, which is nowhere but in its entry.
pub fn tables(entry: &Entry, change: &TablesEntry, about: &[Fact], look: Look) -> Output {
    let name = format!("entry {}", entry.seq.0);
    let mut facts = about.to_vec();
    facts.extend([
        ("table set", format!("{} (version {})", change.tables, change.version)),
        ("behind", format!("transaction {}", look::number(change.at.0))),
        ("changed", look::moment(change.changed_at)),
    ]);
    if let Some(gtid) = &change.source_gtid {
        facts.push(("at the source", gtid.to_string()));
    }
    for added in &change.added {
        let rows = if added.has_rows { "with rows: regions wait for the next full dump" } else { "empty" };
        facts.push(("added", format!("{}, {rows}", added.table)));
    }
    for removed in &change.removed {
        facts.push(("removed", removed.to_string()));
    }
    let mut text = format!("{name}: sound\n{}", look.facts(&facts));
    for added in &change.added {
        text.push_str(&format!(
            "\n\n{}\n{}",
            look.paint(Tone::Strong, &added.table.to_string()),
            added.create_table
        ));
    }
    Output::new(text, json!({"object": name, "document": big_numbers_as_texts(entry.raw())}))
}

/// A check: what was summed up. Which rows these are stands in its object.
pub fn check(entry: &Entry, check: &CheckEntry, about: &[Fact], look: Look) -> Output {
    let name = format!("entry {}", entry.seq.0);
    let mut facts = about.to_vec();
    facts.extend([
        (
            "check",
            format!("{} behind transaction {}", look::count(check.rows(), "row"), look::number(check.at.0)),
        ),
        ("read", look::moment(check.checked_at)),
    ]);
    if let Some(names) = &check.names {
        facts.push(("rows", format!("{}, {}", names.key, look::size(names.size))));
    }
    let rows = check.ranges.iter().map(|range| {
        vec![
            range.table.to_string(),
            if range.key.is_empty() { "all rows, no key".to_owned() } else { range.to_string() },
            look::number(range.rows),
            range.checksum.to_string(),
        ]
    });
    let table = look.table(&["table", "rows", "count", "checksum"], &[2], rows);
    let text = format!("{name}: sound\n{}\n\n{table}", look.facts(&facts));
    Output::new(text, json!({"object": name, "document": big_numbers_as_texts(entry.raw())}))
}

/// A small document: its members as they are.
fn plain(name: &str, raw: &Value, look: Look) -> String {
    let members = raw.as_object().into_iter().flatten().filter(|(member, _)| *member != "sha256");
    let facts: Vec<(&str, String)> = members
        .map(|(member, value)| {
            (member.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    format!("{name}: sound\n{}", look.facts(&facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong argument it would be only if a person had given that name.
    #[test]
    fn a_report_of_a_region_that_no_region_can_be_called_is_corrupt() {
        let bytes = br#"{"reported_at": "2026-01-02T03:04:05Z", "region": ""}"#;
        let how = segment::Print { look: Look { color: false }, json: false, quiet: false, rows: false };
        let refused = print("report.json", bytes, &[], &how).err().unwrap();
        assert_eq!(refused.kind(), Kind::Corrupt);
    }
}
