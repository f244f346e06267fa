//! What has been counted: by heading and name, in the order of their names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// Headings of which the greatest of all runs counts, where others are summed up.
const GREATEST: [&str; 2] = ["memory (KiB)", "longest (ms)"];

#[derive(Default)]
pub struct Figures(Mutex<BTreeMap<(&'static str, String), u64>>);

impl Figures {
    pub fn count(&self, heading: &'static str, name: impl Into<String>) {
        self.add(heading, name, 1);
    }

    pub fn add(&self, heading: &'static str, name: impl Into<String>, more: u64) {
        *self.all().entry((heading, name.into())).or_default() += more;
    }

    /// The greatest of what is told.
    pub fn most(&self, heading: &'static str, name: impl Into<String>, value: u64) {
        let mut all = self.all();
        let most = all.entry((heading, name.into())).or_default();
        *most = value.max(*most);
    }

    pub fn get(&self, heading: &'static str, name: &str) -> u64 {
        self.all().get(&(heading, name.to_owned())).copied().unwrap_or_default()
    }

    pub fn sum(&self, heading: &'static str) -> u64 {
        self.all().iter().filter(|((of, _), _)| *of == heading).map(|(_, value)| value).sum()
    }

    /// Adds another run's.
    pub fn take_in(&self, other: &Figures) {
        for ((heading, name), value) in other.all().iter() {
            match GREATEST.contains(heading) {
                true => self.most(heading, name, *value),
                false => self.add(heading, name, *value),
            }
        }
    }

    /// All of them, and none is left.
    pub fn taken(&self) -> Figures {
        Figures(Mutex::new(std::mem::take(&mut *self.all())))
    }

    pub fn table(&self) -> String {
        let (mut text, mut last) = (String::new(), "");
        for ((heading, name), value) in self.all().iter() {
            if *heading != last {
                let _ = writeln!(text, "{heading}");
                last = heading;
            }
            let _ = writeln!(text, "  {name:<44} {value:>10}");
        }
        text
    }

    pub fn json(&self) -> Value {
        let mut document = json!({});
        for ((heading, name), value) in self.all().iter() {
            document[*heading][name] = json!(value);
        }
        document
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, String), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
