//! What is in force, as TOML that could be a config file and as JSON; secrets never.

use std::fmt::Write;

use serde_json::{Map, json};

use super::{Config, Setting, Value};

impl Config {
    /// The file as if every default had been written out. Defaults say so in a comment.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = String::new();
        let width = self.settings.iter().map(|setting| setting.assignment().len()).max().unwrap_or(0).min(48);
        for setting in self.in_order() {
            let (home, _) = setting.path.rsplit_once('.').unwrap_or(("", setting.path));
            if home != section {
                let _ = write!(out, "\n[{home}]\n");
                section = home.to_owned();
            }
            let assignment = setting.assignment();
            match setting.line {
                Some(_) => writeln!(out, "{assignment}"),
                None => writeln!(out, "{assignment:width$}  # default"),
            }
            .ok();
        }
        out
    }

    /// The same as an object of sections; a secret is `(redacted)`.
    pub fn to_json(&self) -> serde_json::Value {
        let mut root = Map::new();
        for setting in self.in_order() {
            insert(&mut root, setting.path, setting.value.to_json());
        }
        serde_json::Value::Object(root)
    }

    fn in_order(&self) -> Vec<&Setting> {
        let place = |setting: &Setting| super::KEYS.iter().position(|key| key.path == setting.path);
        let mut settings: Vec<_> = self.settings.iter().collect();
        settings.sort_by_key(|setting| place(setting));
        settings.dedup_by_key(|setting| setting.path);
        settings
    }
}

fn insert(object: &mut Map<String, serde_json::Value>, path: &str, value: serde_json::Value) {
    let Some((section, rest)) = path.split_once('.') else {
        object.insert(path.to_owned(), value);
        return;
    };
    if let serde_json::Value::Object(inner) = object.entry(section).or_insert_with(|| json!({})) {
        insert(inner, rest, value);
    }
}

impl Setting {
    fn assignment(&self) -> String {
        let (_, name) = self.path.rsplit_once('.').unwrap_or(("", self.path));
        // As it is in force: nothing in it is to be replaced by a variable when it is read again.
        let text = |text: &str| toml::Value::String(text.replace("${", "$${")).to_string();
        match &self.value {
            Value::Text(value) => format!("{name} = {}", text(value)),
            Value::Number(value) => format!("{name} = {value}"),
            Value::Flag(value) => format!("{name} = {value}"),
            Value::List(values) => {
                format!(
                    "{name} = [{}]",
                    values.iter().map(|value| text(value)).collect::<Vec<_>>().join(", ")
                )
            }
            Value::Redacted => format!("{name} = \"(redacted)\""),
        }
    }
}

impl Value {
    fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Text(text) => json!(text),
            Value::Number(number) => json!(number),
            Value::Flag(flag) => json!(flag),
            Value::List(list) => json!(list),
            Value::Redacted => json!("(redacted)"),
        }
    }
}
