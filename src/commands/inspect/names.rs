//! The rows that a check was made of: how many of which table, and each row's key.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::{Value, json};

use super::Fact;
use super::segment::Print;
use crate::commands::look;
use crate::commands::output::{Output, Page, big_numbers_as_texts};
use crate::error::Result;
use crate::stream::check::read_names;

impl Print {
    /// Prints the rows while they are read.
    pub fn names(&self, name: &str, size: u64, about: &[Fact], plain: impl BufRead) -> Result<Output> {
        let (mut page, mut values) = (Page::new(), Vec::new());
        let mut is_read = true;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        read_names(name, plain, |table, row| {
            *counts.entry(table.to_string()).or_default() += 1;
            if self.rows && self.json {
                values.push(json!({"table": table, "key": row.key, "mark": format!("{:08x}", row.mark)}));
            } else if self.rows && !self.quiet && is_read {
                is_read = page.line(&format!("{table}  {:08x}  {}", row.mark, row.key));
            }
            Ok(())
        })?;
        page.finish();
        let mut facts = vec![("object", format!("{name} ({})", look::size(size)))];
        facts.extend(about.iter().cloned());
        facts.extend(
            counts.iter().map(|(table, count)| ("rows", format!("{} of {table}", look::number(*count)))),
        );
        let mut json = json!({"object": name, "rows": counts});
        if self.rows {
            json["values"] = Value::Array(values);
        }
        Ok(Output::new(format!("{name}: sound\n{}", self.look.facts(&facts)), big_numbers_as_texts(json)))
    }
}
