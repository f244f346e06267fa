//! The service's description is a valid OpenAPI 3.1 document, says what the service does, and docs/http.md says the
//! same.

use std::collections::BTreeSet;
use std::fmt::Write;

use reqwest::Method;
use serde_json::Value;
use tablecast::clock::{Clock, SystemClock};
use tablecast::http::api::Report;
use tablecast::http::openapi::document;
use tablecast::http::problem::KINDS;
use tablecast::stream::{
    Chain, DumpId, FORMAT, Paused, RegionReport, ReportedDrift, ReportedFailure, ReportedQuarantine,
    ReportedRestore, Seq, StreamTx,
};

use super::kit::{Answer, Desk, Place, client, operations};
use crate::cli::docs::{between, hold};

/// Every object in the document.
fn walk<'v>(value: &'v Value, see: &mut impl FnMut(&'v Value)) {
    see(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        Value::Object(members) => members.values().for_each(|member| walk(member, see)),
        _ => {}
    }
}

#[test]
fn the_description_is_valid_openapi_3_1() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["info"]["title"], "Tablecast");
    // Every reference leads somewhere, and everything that is described is referred to.
    let mut referred = BTreeSet::new();
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("a reference inside the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            referred.insert(reference.rsplit('/').next().unwrap().to_owned());
        }
    });
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(referred.contains(name), "nothing refers to the schema {name}");
    }
    // 3.1 knows no `nullable`: that was 3.0.
    walk(&document, &mut |value| assert!(value.get("nullable").is_none(), "{value}"));
    let tags: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].clone().to_string()).collect();
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations() {
        let place = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].to_string()), "{place}: two have its operationId");
        assert!(operation["summary"].is_string(), "{place} has no summary");
        for tag in operation["tags"].as_array().unwrap() {
            assert!(tags.contains(&tag.to_string()), "{place}: tag {tag}");
        }
        let templates: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let empty = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&empty);
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        for parameter in in_path.clone() {
            assert!(
                templates.contains(&parameter["name"].as_str().unwrap()) && parameter["required"] == true,
                "{place}"
            );
        }
        assert_eq!(in_path.count(), templates.len(), "{place}");
        assert!(
            parameters
                .iter()
                .all(|parameter| parameter["schema"].is_object() && parameter["description"].is_string())
        );
        for security in operation["security"].as_array().unwrap_or(&empty) {
            assert!(security.as_object().unwrap().keys().all(|name| schemes.contains_key(name)), "{place}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(
                response["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{place} {status}"
            );
            let number: u16 = status.parse().unwrap();
            if number >= 400 {
                assert!(KINDS.iter().any(|(_, known, _)| known.as_u16() == number), "{place} {status}");
                let content = response["content"].as_object().unwrap();
                let is_page = path == "/" || path.starts_with("/runbooks");
                let expected = if is_page { "text/html" } else { "application/problem+json" };
                assert!(content.contains_key(expected), "{place} {status}: {content:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_route_is_there_as_described_and_no_other_method_is() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let described = operations();
    let paths: BTreeSet<&str> = described.iter().map(|(_, path, _)| path.as_str()).collect();
    for path in paths {
        let url = format!("{}{}", served.url, path.replace("{id}", "x").replace("{name}", "eu1"));
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let is_described = described
                .iter()
                .any(|(known, at, _)| *at == path && known.eq_ignore_ascii_case(method.as_str()));
            let answer = Answer::of(client().request(method.clone(), &url)).await;
            assert_eq!(is_described, answer.status != 405, "{method} {path}: {answer:?}");
            assert_ne!(answer.status, 404, "{method} {path}");
        }
    }
    let given = Answer::of(client().get(format!("{}/openapi.json", served.url))).await;
    assert_eq!(given.json(), document());
    let printed = Desk::new(&place, "").command("source.toml", &["openapi"]).output().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).unwrap(), document());
}

#[test]
fn a_report_as_a_region_sends_it_is_as_described() {
    let now = SystemClock.now();
    let stream = uuid::Uuid::from_u128(7);
    let report = RegionReport {
        format: FORMAT,
        region: "eu1".into(),
        stream,
        seq: Seq::ZERO,
        chain: Chain::genesis(stream),
        last_tx: StreamTx::ZERO,
        base_tx: StreamTx::ZERO,
        as_of: Some(now),
        lag_seconds: Some(1),
        quarantined: vec![ReportedQuarantine {
            table: "g.a".parse().unwrap(),
            since_tx: StreamTx(1),
            since: now,
            error: "1032".into(),
        }],
        left_out: vec!["g.out".parse().unwrap()],
        drifted: vec![ReportedDrift {
            table: "g.apps".parse().unwrap(),
            at_tx: StreamTx(1),
            found_at: now,
            what: "id 7 differs".into(),
        }],
        checked_at: Some(now),
        restoring: vec![ReportedRestore {
            tables: vec!["g.a".parse().unwrap()],
            dump: DumpId::new(now, 1),
            state: "loading".into(),
            rows: 1,
            rows_total: 2,
        }],
        ghosts: Some(vec!["g._a_gho".parse().unwrap()]),
        last_error: Some("x".into()),
        failure: Some(ReportedFailure {
            at: now,
            job: "apply".into(),
            kind: "history".into(),
            exit_code: 10,
            hint: Some("y".into()),
            runbook: "docs/exit-codes.md#history".into(),
        }),
        paused: Some(Paused { reason: "x".into(), by: "ada@db3".into(), since: now, until: None }),
        version: "tablecast".into(),
        reported_at: now,
        extra: Default::default(),
    };
    let sent = serde_json::to_value(&report).unwrap();
    let described = serde_json::to_value(Report::from(report)).unwrap();
    assert_eq!(sent, described, "what is sent, and what the description and the answers have");
    let schema = &document()["components"]["schemas"]["Report"]["properties"];
    for member in sent.as_object().unwrap().keys() {
        assert!(schema.get(member).is_some(), "{member} is not described");
    }
}

#[test]
fn the_routes_and_refusals_are_documented_as_they_are() {
    let mut routes = "| route | | scope | answers |\n|---|---|---|---|\n".to_owned();
    for (method, path, operation) in operations() {
        let empty = Vec::new();
        let security = operation["security"].as_array().unwrap_or(&empty);
        let mut scopes: Vec<&str> = security
            .iter()
            .flat_map(|needed| needed.as_object().unwrap().values())
            .flat_map(|scopes| scopes.as_array().unwrap())
            .filter_map(Value::as_str)
            .collect();
        scopes.dedup();
        let scope = match (security.is_empty(), scopes.is_empty()) {
            (true, _) => "no token".to_owned(),
            (false, true) => "any".to_owned(),
            _ => scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(" or "),
        };
        let statuses =
            operation["responses"].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let summary = operation["summary"].as_str().unwrap();
        let _ = writeln!(routes, "| `{} {path}` | {summary} | {scope} | {statuses} |", method.to_uppercase());
    }
    let mut problems = "| status | type | title |\n|---|---|---|\n".to_owned();
    for (name, status, title) in KINDS {
        let _ = writeln!(problems, "| {} | `urn:tablecast:problem:{name}` | {title} |", status.as_u16());
    }
    let text =
        between("http.md", "<!-- routes: made from src/http -->\n", "<!-- end of routes -->\n", &routes);
    hold("http.md", &text);
    let begin = "<!-- problems: made from src/http/problem.rs -->\n";
    let text = between("http.md", begin, "<!-- end of problems -->\n", &problems);
    hold("http.md", &text);
}
