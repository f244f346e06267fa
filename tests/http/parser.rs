//! The parser of requests meets what nobody would send on purpose: it refuses with a document, and never panics.

use proptest::prelude::*;
use serde_json::{Value, json};
use tablecast::binlog::name::TableSet;
use tablecast::clock::{Clock, SystemClock};
use tablecast::http::api::DumpRequest;
use tablecast::http::{body, dumps};
use tablecast::stream::{Head, RegionReport};
use uuid::Uuid;

fn head() -> Head {
    Head::new(Uuid::from_u128(7), "apps", TableSet::parse(&["g.*", "h.one"]).unwrap(), SystemClock.now())
}

/// Takes a body as the service does; whatever comes of it must be a request for tables of the set, or a problem.
fn take(bytes: &[u8]) {
    let asked = match body::parse::<DumpRequest>(bytes) {
        Ok(asked) => asked,
        Err(problem) => {
            assert_eq!(problem.status, 400);
            assert!(problem.detail.len() < 2_000, "{}", problem.detail);
            return;
        }
    };
    let head = head();
    match dumps::new_request(&head, &asked, Some("key")) {
        Ok(new) => {
            assert!(!new.tables.is_empty() && !new.all_tables && !new.mandatory);
            assert!(new.tables.iter().all(|table| head.table_set.tables.names(table)));
            assert!(new.tables.iter().all(|table| new.tables.contains(&table.to_string().parse().unwrap())));
        }
        Err(problem) => {
            assert_eq!(problem.status, 422);
            assert!(problem.detail.len() < 2_000, "{}", problem.detail);
        }
    }
    // A body for the one route is none for the other, whatever it is.
    assert!(body::parse::<RegionReport>(bytes).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z`.*]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("(region|tables|reason|x)", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        take(&bytes);
    }

    #[test]
    fn any_json_document(value in any_json()) {
        take(value.to_string().as_bytes());
    }

    #[test]
    fn a_good_request_with_any_names_and_reason(
        region in ".{0,80}", tables in prop::collection::vec("(g|h|`g.x`|[^.]{0,5})[.].{0,70}", 0..5), reason in ".{0,600}",
    ) {
        take(json!({"region": region, "tables": tables, "reason": reason}).to_string().as_bytes());
    }

    #[test]
    fn a_good_request_damaged_anywhere(at in 0usize..70, byte: u8, cut: bool) {
        let good = br#"{"region":"eu1","tables":["g.apps","h.one"],"reason":"row 7 is gone"}"#;
        let mut bytes = good.to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        take(&bytes);
    }
}

#[test]
fn depth_and_numbers_beyond_all_bounds_are_refused() {
    for (open, close) in [("[", "]"), ("{\"tables\":", "}"), ("{\"a\":[", "]}")] {
        take(format!("{}{}", open.repeat(20_000), close.repeat(20_000)).as_bytes());
    }
    for number in ["1e400", "-1e400", "9".repeat(10_000).as_str(), "0.0000000000000000000000001e-999", "-0"] {
        take(format!("{{\"region\":{number},\"tables\":[{number}]}}").as_bytes());
    }
    for text in ["\\ud800", "\\u0000", "\\udc00\\ud800", "\u{202e}g.a", "g.\u{1f4a9}", "g.a\\u0000b"] {
        take(format!("{{\"region\":\"eu1\",\"tables\":[\"{text}\"]}}").as_bytes());
    }
    take(json!({"region": "eu1", "tables": vec!["g.a"; 20_000]}).to_string().as_bytes());
}
