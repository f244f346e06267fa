//! docs/metrics.md is made from the catalogue and the rules; the rules, their runbooks and the dashboard name nothing that
//! is not there.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use tablecast::metrics::{ALL, Place};

use crate::cli::docs::{between, hold};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An alert, as the file has it.
struct Alert {
    name: String,
    severity: String,
    summary: String,
    description: String,
    runbook: String,
}

fn rules() -> String {
    read("scripts/package/prometheus/tablecast.rules.yml")
}

fn alerts() -> Vec<Alert> {
    let rules = rules();
    let alerts = rules.split("- alert: ").skip(1).map(|text| {
        let after = |name: &str| {
            let found = text.lines().find_map(|line| line.trim().strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {text}")).trim().trim_matches('"').to_owned()
        };
        Alert {
            name: text.lines().next().expect("a name").to_owned(),
            severity: after("labels: {severity:").trim_end_matches('}').to_owned(),
            summary: after("summary:"),
            description: after("description:"),
            runbook: after("runbook_url:"),
        }
    });
    alerts.collect()
}

/// Every word that looks like a metric.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("tablecast_")).map(str::to_owned).collect()
}

#[test]
fn the_metrics_and_alerts_are_documented_as_they_are() {
    let mut table = "| metric | type | labels | where | |\n|---|---|---|---|---|\n".to_owned();
    for metric in ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let place = match metric.place {
            Place::File => "file",
            Place::Service => "service",
            Place::Both => "both",
        };
        let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
        let _ = writeln!(table, "| `{name}` | {kind} | {} | {place} | {help} |", labels.join(" "));
    }
    let (begin, end) =
        ("<!-- metrics: made from src/metrics/catalogue.rs -->\n", "<!-- end of metrics -->\n");
    hold("metrics.md", &between("metrics.md", begin, end, &table));
    let mut table = "| alert | severity | means | runbook |\n|---|---|---|---|\n".to_owned();
    for Alert { name, severity, description, runbook, .. } in alerts() {
        // In a row of a table.
        let description = description.replace('|', "\\|");
        let link = runbook.strip_prefix("docs/").expect("a page of docs/");
        let title = link.trim_start_matches("runbooks/");
        let _ = writeln!(table, "| `{name}` | {severity} | {description} | [{title}]({link}) |");
    }
    let (begin, end) = (
        "<!-- alerts: made from scripts/package/prometheus/tablecast.rules.yml -->\n",
        "<!-- end of alerts -->\n",
    );
    hold("metrics.md", &between("metrics.md", begin, end, &table));
}

#[test]
fn every_metric_that_rules_and_dashboard_name_is_one_that_the_code_tells() {
    let known: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
    let dashboard = read("scripts/package/grafana/tablecast.json");
    let document: Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut expressions = String::new();
    let mut ids = BTreeSet::new();
    for panel in document["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels have one id");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            assert!(!named(expression).is_empty(), "{expression}");
            let _ = writeln!(expressions, "{expression}");
        }
    }
    for variable in document["templating"]["list"].as_array().expect("variables") {
        let _ = writeln!(expressions, "{}", variable["definition"].as_str().unwrap_or_default());
    }
    let of_rules: BTreeSet<String> = named(&rules());
    let odd: Vec<_> =
        named(&expressions).union(&of_rules).filter(|name| !known.contains(*name)).cloned().collect();
    assert!(odd.is_empty(), "nobody tells {odd:?}");
    // Other parts of the documentation name metrics, too.
    for page in ["docs/install.md", "docs/http.md", "docs/metrics.md"] {
        let odd: Vec<_> = named(&read(page)).into_iter().filter(|name| !known.contains(name)).collect();
        let odd: Vec<_> =
            odd.iter().filter(|name| !name.ends_with("_eu1") && !name.contains("_apps")).collect();
        assert!(odd.is_empty(), "{page}: nobody tells {odd:?}");
    }
}

#[test]
fn every_alert_says_what_it_means_and_its_runbook_names_it() {
    let mut seen = BTreeSet::new();
    for Alert { name, severity, summary, description, runbook } in alerts() {
        assert!(seen.insert(name.clone()), "{name} stands there twice");
        assert!(["critical", "warning"].contains(&severity.as_str()), "{name}: {severity}");
        assert!(!summary.is_empty() && description.ends_with('.'), "{name}");
        let (page, anchor) = runbook.split_once('#').unwrap_or((&runbook, ""));
        let text = read(page);
        assert!(text.contains(&format!("`{name}`")), "{page} does not name {name}");
        assert!(anchor.is_empty() || text.contains(&format!("# {anchor}\n")), "{page} has no {anchor}");
    }
    // And no page names one that is gone.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    for page in std::fs::read_dir(folder).expect("runbooks") {
        let text = std::fs::read_to_string(page.expect("a page").path()).expect("text");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        for word in words.filter(|word| word.len() > "Tablecast".len() && word.starts_with("Tablecast")) {
            assert!(seen.contains(word), "there is no alert {word}");
        }
    }
}
