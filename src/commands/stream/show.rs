//! `tablecast stream show`: the head, as people can read it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::commands::look::{self, Tone};
use crate::commands::output::{Output, big_numbers_as_texts};
use crate::commands::run::Run;
use crate::error::Result;
use crate::store::{Listed, Store};
use crate::stream::{DumpRef, Head, Key};

/// Show the head: identity, tables, how far the stream has come
#[derive(clap::Args, Clone)]
pub struct Args {
    /// Print the tables' definitions too
    #[arg(long)]
    definitions: bool,

    /// Count objects and bytes too: lists the bucket, which takes a while for an old stream
    #[arg(long)]
    objects: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let store = run.store().await?;
        let head = run.head(&*store).await?;
        let objects = if self.objects { Some(Objects::count(&*store).await?) } else { None };
        let mut text = run.look.facts(&facts(&head, objects.as_ref(), run));
        let rows = head.definitions.iter().map(|definition| {
            let since = match definition.since_tx.0 {
                0 => "stream init".to_owned(),
                tx => format!("transaction {}", look::number(tx)),
            };
            vec![definition.table.to_string(), since]
        });
        if !head.definitions.is_empty() {
            text.push_str("\n\n");
            text.push_str(&run.look.table(&["table", "definition since"], &[], rows));
        }
        if self.definitions {
            for definition in &head.definitions {
                let name = run.look.paint(Tone::Strong, &definition.table.to_string());
                text.push_str(&format!("\n\n{name}\n{}", definition.create_table));
            }
        }
        let text = format!("{text}\n");
        Ok(Output::new(text.trim_end(), to_json(&head, objects.as_ref(), self.definitions, run.now())))
    }
}

fn facts(head: &Head, objects: Option<&Objects>, run: &Run) -> Vec<(&'static str, String)> {
    let now = run.now();
    let patterns: Vec<_> = head.table_set.tables.patterns().map(ToString::to_string).collect();
    let none = || "none yet".to_owned();
    let mut facts = vec![
        ("stream", format!("{} ({})", head.name, head.stream)),
        ("store", run.config.store.to_string()),
        ("made", look::time(head.created_at, now)),
        ("written by", format!("{}, format {}.{}", head.writer, head.format.major, head.format.minor)),
        ("tables", format!("{} (version {})", patterns.join(", "), head.table_set.version)),
        ("complete to", look::time(head.as_of, now)),
        ("entries", if head.last_seq.0 == 0 { none() } else { look::number(head.last_seq.0) }),
        ("transactions", if head.last_tx.0 == 0 { none() } else { look::number(head.last_tx.0) }),
    ];
    if let Some(signature) = &head.signature {
        let checked = match run.config.sign_key.is_some() || !run.config.trusted.is_empty() {
            true => "trusted",
            false => "not checked: this config has no [trust]",
        };
        facts.push(("signed", format!("by key {}, {checked}", signature.key)));
    }
    if let Some(region) = &head.source_region {
        facts.push(("source in", region.clone()));
    }
    if head.set_changed.as_ref().is_some_and(|changed| changed.owes_dump) {
        let why = "a full dump: tables came in that hold rows, and every region waits for them";
        facts.push(("owed", why.to_owned()));
    }
    if let Some(gap) = &head.gap {
        let tables: Vec<_> = gap.tables.iter().map(ToString::to_string).collect();
        let found = look::time(gap.found_at, now);
        facts.push(("left out", format!("{} by the source's filter, found {found}", tables.join(", "))));
    }
    if let Some(paused) = head.pause(now) {
        facts.push(("paused", paused.to_string()));
    }
    if let Some(refused) = &head.refused {
        facts.push(("refused", format!("{}\n{}", look::time(refused.found_at, now), refused.why)));
    }
    if let Some(floor) = head.floor {
        facts.push((
            "pruned",
            format!(
                "entries up to {}, transactions up to {}",
                look::number(floor.seq.0),
                look::number(floor.tx.0)
            ),
        ));
    }
    facts.push((
        "full dump",
        match head.full_dump() {
            Some(DumpRef { seq, dump, .. }) => format!(
                "{} at transaction {}, entry {}, taken {}: {}, {}",
                dump.id,
                look::number(dump.at.0),
                look::number(seq.0),
                look::time(dump.taken_at, now),
                look::count(dump.rows, "row"),
                look::size(dump.bytes)
            ),
            None => {
                "none: a new region has nothing to begin with (`tablecast dump take --all-tables`)".to_owned()
            }
        },
    ));
    let later = head.dumps.len() - usize::from(head.full_dump().is_some());
    if later > 0 {
        facts.push(("other dumps", look::number(later as u64)));
    }
    if let Some(checked) = &head.checked {
        let next = checked.next.as_ref().map_or_else(|| "the first table".to_owned(), ToString::to_string);
        let took = look::number(checked.took_ms);
        facts.push(("rows checked", format!("{}, in {took} ms; next {next}", look::time(checked.at, now))));
    }
    if let Some(objects) = objects {
        let segments = look::count(objects.segments, "segment");
        facts.push((
            "objects",
            format!(
                "{segments}, {}, {} of dumps; {}",
                look::count(objects.pages, "sealed page"),
                look::count(objects.dumps, "object"),
                look::size(objects.bytes)
            ),
        ));
    }
    facts.push(("chain", head.tip.to_string()));
    facts.push(("covered", head.covered.to_string().replace(',', ",\n")));
    facts
}

fn to_json(head: &Head, objects: Option<&Objects>, definitions: bool, now: DateTime<Utc>) -> Value {
    let known = head.definitions.iter().map(|definition| {
        let mut known = json!({"table": definition.table, "since_tx": definition.since_tx});
        if definitions {
            known["create_table"] = json!(definition.create_table);
        }
        known
    });
    let mut value = json!({
        "stream": head.name,
        "uuid": head.stream,
        "format": {"major": head.format.major, "minor": head.format.minor},
        "created_at": head.created_at,
        "writer": head.writer,
        "table_set": {"version": head.table_set.version, "tables": head.table_set.tables},
        "signed_by": head.signature.as_ref().map(|signature| signature.key),
        "source_region": head.source_region,
        "owes_dump": head.set_changed.as_ref().is_some_and(|changed| changed.owes_dump),
        "gap": head.gap,
        "refused": head.refused,
        "paused": head.pause(now),
        "as_of": head.as_of,
        "last_seq": head.last_seq,
        "last_tx": head.last_tx,
        "chain": head.tip,
        "covered": head.covered,
        "floor": head.floor,
        "checked": head.checked,
        "full_dump": head.full_dump(),
        "dumps": head.dumps.len(),
        "definitions": known.collect::<Value>(),
    });
    if let Some(objects) = objects {
        value["objects"] = json!({"segments": objects.segments, "pages": objects.pages, "dump_objects": objects.dumps, "bytes": objects.bytes});
    }
    big_numbers_as_texts(value)
}

/// What lies in the bucket, orphans of killed runs included.
struct Objects {
    segments: u64,
    pages: u64,
    dumps: u64,
    bytes: u64,
}

impl Objects {
    async fn count(store: &dyn Store) -> Result<Objects> {
        let segments = store.list(Key::SEGMENTS).await?;
        let pages = store.list(Key::PAGES).await?;
        let dumps = store.list(Key::DUMPS).await?;
        let bytes = segments.iter().chain(&pages).chain(&dumps).map(|object| object.size).sum();
        let count = |objects: &[Listed]| objects.len() as u64;
        Ok(Objects { segments: count(&segments), pages: count(&pages), dumps: count(&dumps), bytes })
    }
}
