//! A segment, transaction by transaction: stream and source GTID, commit time, what changed in which table.

use std::collections::BTreeMap;
use std::io::Read;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::rows::{Change, Decoder};
use crate::binlog::event::{self, Event, FormatDescription};
use crate::binlog::name::TableName;
use crate::binlog::query::QueryEvent;
use crate::binlog::segment::{Item, SegmentReader, TransactionHead};
use crate::commands::look::{self, Look, Tone};
use crate::commands::output::{self, Output, Page, big_numbers_as_texts};
use crate::error::{Error, Result};

/// How it is to be printed.
#[derive(Clone, Copy)]
pub struct Print {
    pub look: Look,
    pub json: bool,
    pub quiet: bool,
    /// Every row, not only how many.
    pub rows: bool,
}

/// Rows changed in one table by one transaction.
#[derive(Default)]
struct Tally {
    inserts: u64,
    updates: u64,
    deletes: u64,
}

struct Walk<'p> {
    print: &'p Print,
    page: Page,
    decoder: Decoder,
    tables: BTreeMap<TableName, Tally>,
    statements: Vec<String>,
    transactions: u64,
    rows: u64,
    rows_in_transaction: u64,
    /// Between a transaction's begin and its end.
    is_open: bool,
}

impl Print {
    /// Prints the segment while it is read. A reader that hangs up ends it early and well.
    pub fn segment(
        &self,
        name: &str,
        size: u64,
        about: &[(&str, String)],
        input: impl Read,
    ) -> Result<Output> {
        let mut reader = SegmentReader::new(input, None)?;
        let format = FormatDescription::parse(reader.format_description())?;
        let decoder = Decoder::new(reader.format_description())?;
        let mut walk = Walk {
            print: self,
            page: Page::new(),
            decoder,
            tables: BTreeMap::new(),
            statements: Vec::new(),
            transactions: 0,
            rows: 0,
            rows_in_transaction: 0,
            is_open: false,
        };
        // Which stream it is of, the first transaction says.
        let mut next = reader.next();
        let stream = reader.stream().map_or_else(|| look::UNKNOWN.to_owned(), |stream| stream.to_string());
        let mut still_read = walk.begin(name, size, about, &stream, &format);
        let ended = loop {
            let item = match next {
                Ok(Some(item)) if still_read => item,
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            };
            let printed = match item {
                Item::Begin(head) => Ok(walk.transaction(&head)),
                Item::Event(event) => walk.event(&event),
                Item::End => Ok(walk.end()),
            };
            match printed {
                Ok(is_read) => still_read = is_read,
                Err(error) => break Err(error),
            }
            next = reader.next();
        };
        match ended {
            Ok(()) => {
                walk.finish(still_read);
                Ok(Output::printed())
            }
            // What has been read is printed; with --json the document would stay open, so the failure closes it.
            Err(error) if self.json => {
                walk.abort(&error);
                Ok(Output::printed().with_verdict(Some(error)))
            }
            Err(error) => {
                walk.page.finish();
                Err(error.during(format!("inspect {name}")))
            }
        }
    }
}

impl Walk<'_> {
    fn say(&mut self, text: &str) -> bool {
        self.print.quiet || self.page.text(text)
    }

    fn begin(
        &mut self,
        name: &str,
        size: u64,
        about: &[(&str, String)],
        stream: &str,
        format: &FormatDescription,
    ) -> bool {
        if self.print.json {
            let head = json!({"object": name, "size": size.to_string(), "stream": stream, "server_version": format.server_version});
            let fields = head.to_string();
            let open = format!("{{\"schema_version\":{},", output::SCHEMA_VERSION);
            return self.page.text(&open)
                && self.page.text(fields.trim_start_matches('{').trim_end_matches('}'))
                && self.page.text(",\"transactions\":[");
        }
        let mut facts = about.to_vec();
        facts.extend([
            ("segment", format!("{name} ({})", look::size(size))),
            ("stream", stream.to_owned()),
            ("written by", format!("MySQL {}", format.server_version)),
        ]);
        let text = format!("{}\n", self.print.look.facts(&facts));
        self.say(&text)
    }

    fn transaction(&mut self, head: &TransactionHead) -> bool {
        self.transactions += 1;
        self.rows_in_transaction = 0;
        self.is_open = true;
        let micros = i64::try_from(head.commit_us).unwrap_or(i64::MAX);
        let committed = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
        if self.print.json {
            let fields = big_numbers_as_texts(json!({
                "n": head.n,
                "source_gtid": head.source_gtid,
                "committed_at": committed,
                "depends_on": head.depends_on,
                "length": head.length,
            }));
            let comma = if self.transactions > 1 { "," } else { "" };
            let rows = if self.print.rows { ",\"rows\":[" } else { "" };
            return self.page.text(&format!("{comma}{}{rows}", fields.to_string().trim_end_matches('}')));
        }
        let name = self.print.look.paint(Tone::Strong, &format!("transaction {}", head.n));
        let time = committed.format("%Y-%m-%d %H:%M:%S%.6f UTC");
        let line = format!("\n{name}   {}   {time}   {}\n", head.source_gtid, look::size(head.length));
        self.say(&line)
    }

    fn event(&mut self, event: &Event) -> Result<bool> {
        if event.kind() == event::kind::QUERY {
            let query = QueryEvent::parse_body(event.body())?;
            return Ok(self.statement(&String::from_utf8_lossy(&query.text)));
        }
        if event::kind::is_rows(event.kind()) || event.kind() == event::kind::TABLE_MAP {
            let print = *self.print;
            let mut decoded = Vec::new();
            let table = self.decoder.event(event, print.rows, &mut decoded)?;
            for change in decoded {
                let Some(table) = &table else { break };
                if !self.row(table, &change) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn statement(&mut self, text: &str) -> bool {
        let is_frame = ["BEGIN", "COMMIT", "SAVEPOINT", "ROLLBACK"]
            .iter()
            .any(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)));
        if is_frame {
            return true;
        }
        self.statements.push(text.to_owned());
        if self.print.json {
            return true;
        }
        let shown: String = text.trim().lines().map(|line| format!("  {}\n", line.trim_end())).collect();
        self.say(&shown)
    }

    fn row(&mut self, table: &TableName, change: &Change) -> bool {
        let tally = self.tables.entry(table.clone()).or_default();
        match change {
            Change::Insert { .. } => tally.inserts += 1,
            Change::Update { .. } => tally.updates += 1,
            Change::Delete { .. } => tally.deletes += 1,
        }
        self.rows += 1;
        if !self.print.rows {
            return true;
        }
        self.rows_in_transaction += 1;
        if self.print.json {
            let comma = if self.rows_in_transaction > 1 { "," } else { "" };
            return self.page.text(&format!("{comma}{}", change.to_json(table)));
        }
        let text = format!("  {table}  {}\n", change.to_text());
        self.say(&text)
    }

    fn end(&mut self) -> bool {
        self.is_open = false;
        let tables = std::mem::take(&mut self.tables);
        let statements = std::mem::take(&mut self.statements);
        if self.print.json {
            let counts = tables.iter().map(|(table, tally)| {
                json!({"table": table, "inserts": tally.inserts, "updates": tally.updates, "deletes": tally.deletes})
            });
            let fields =
                big_numbers_as_texts(json!({"tables": counts.collect::<Value>(), "statements": statements}));
            let rows = if self.print.rows { "]" } else { "" };
            return self.page.text(&format!("{rows},{}", fields.to_string().trim_start_matches('{')));
        }
        if self.print.rows {
            return true;
        }
        let width = tables.keys().map(|table| table.to_string().len()).max().unwrap_or(0);
        let lines = tables.iter().map(|(table, tally)| {
            let parts = [(tally.inserts, "inserted"), (tally.updates, "updated"), (tally.deletes, "deleted")];
            let parts = parts.iter().filter(|(count, _)| *count > 0);
            let parts = parts.map(|(count, what)| format!("{} {what}", look::number(*count)));
            format!("  {:width$}   {}\n", table.to_string(), parts.collect::<Vec<_>>().join(", "))
        });
        let text: String = lines.collect();
        self.say(&text)
    }

    fn finish(mut self, still_read: bool) {
        if still_read && self.print.json {
            let _ = self.page.text("],\"code\":0}\n");
        } else if still_read {
            let total = format!(
                "\n{}, {}\n",
                look::count(self.transactions, "transaction"),
                look::count(self.rows, "row change")
            );
            self.say(&total);
        }
        self.page.finish();
    }

    /// Closes what is open in a document whose segment turned out to be damaged, and says so in it.
    fn abort(mut self, error: &Error) {
        let failure = Value::Object(output::failure_json(error)).to_string();
        let transaction = match (self.is_open, self.print.rows) {
            (true, true) => "]}",
            (true, false) => "}",
            (false, _) => "",
        };
        let _ = self.page.text(&format!("{transaction}],{}\n", failure.trim_start_matches('{')));
        self.page.finish();
    }
}
