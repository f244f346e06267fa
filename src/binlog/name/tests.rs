use proptest::prelude::*;

use super::*;

fn set(texts: &[&str]) -> TableSet {
    TableSet::parse(texts).unwrap()
}

fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

fn refusal(text: &str) -> String {
    let error = text.parse::<TablePattern>().unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.hint_text().unwrap().contains("schema.table"));
    error.to_string()
}

#[test]
fn a_bad_name_is_refused_with_what_is_wrong() {
    assert_eq!(refusal("apps"), "read the table name 'apps': it needs schema.table, and there is no schema");
    assert_eq!(refusal("g."), "read the table name 'g.': a part of it is empty");
    assert_eq!(refusal(".t"), "read the table name '.t': a part of it is empty");
    assert_eq!(refusal(""), "read the table name '': it needs schema.table, and there is no schema");
    assert_eq!(refusal("g.a.b"), "read the table name 'g.a.b': '.b' follows the table's name");
    assert!(refusal("g.a b").contains("' ' cannot stand in a name outside backquotes"));
    assert!(refusal("*.*").contains("'*' cannot stand"));
    assert!(refusal("g.app*").contains("'*' cannot stand"));
    assert!(refusal("`g.t").contains("a backquote is not closed"));
    assert!(refusal(&format!("g.{}", "x".repeat(65))).contains("more than 64 characters"));
    assert!(refusal("g.\u{1F600}").contains("U+1F600"));
    assert!("g.*".parse::<TableName>().unwrap_err().to_string().contains("a pattern stands"));
}

#[test]
fn names_and_patterns_are_strings_in_json() {
    let parsed: TableSet = serde_json::from_str(r#"["g.*", "h.apps", "`a.b`.`c``d`"]"#).unwrap();
    assert!(parsed.names(&TableName::new("a.b", "c`d")));
    assert_eq!(serde_json::to_string(&parsed).unwrap(), r#"["`a.b`.`c``d`","h.apps","g.*"]"#);
    let error = serde_json::from_str::<TableSet>(r#"["apps"]"#).unwrap_err().to_string();
    assert!(error.contains("needs schema.table"), "{error}");
    assert!(serde_json::from_str::<TableSet>("[]").unwrap_err().to_string().contains("empty"));
}

#[test]
fn a_set_never_reaches_into_a_system_schema() {
    for text in ["mysql.user", "sys.*", "tablecast.position", "MySQL.user", "information_schema.*"] {
        assert!(TableSet::parse(&[text]).unwrap_err().to_string().contains("of the server's"), "{text}");
    }
    assert!(!set(&["g.*"]).admits(&TableName::new("mysql", "user")));
}

#[test]
fn ghosts_are_admitted_and_belong_to_their_table() {
    let set = set(&["g.apps", "g._x_old"]);
    let ghosts = [
        "_apps_gho",
        "_apps_ghc",
        "_apps_del",
        "_apps_20251121081530_del",
        "_apps_new",
        "_apps_old",
        "___apps_new",
    ];
    for ghost in ghosts {
        let ghost = TableName::new("g", ghost);
        assert_eq!(set.ghost_of(&ghost), Some(name("g.apps")), "{ghost}");
        assert!(set.admits(&ghost) && !set.names(&ghost));
    }
    let strangers = [
        "apps_gho",
        "_app_gho",
        "_apps",
        "_apps_2025_del",
        "_apps_20251121081530_gho",
        "__apps_gho",
        "_gho",
        "_x_new",
    ];
    for stranger in strangers {
        assert!(!set.admits(&TableName::new("g", stranger)), "{stranger}");
    }
    assert!(!set.admits(&TableName::new("h", "_apps_gho")));
    // Listed by name: a table of its own.
    assert!(set.names(&name("g._x_old")) && set.ghost_of(&name("g._x_old")).is_none());
}

#[test]
fn a_ghost_whose_name_gh_ost_cut_is_found() {
    let long = "t".repeat(64);
    let set = set(&[&format!("g.{long}")]);
    let ghost = TableName::new("g", format!("_{}_gho", &long[..59]));
    assert_eq!(ghost.table.len(), 64);
    assert_eq!(set.ghost_of(&ghost), Some(TableName::new("g", &long)));
    assert!(!set.admits(&TableName::new("g", format!("_{}_gho", &long[..58]))));
}

#[test]
fn a_schema_pattern_names_every_table_but_ghosts() {
    let set = set(&["g.*", "h.t"]);
    assert!(set.names(&name("g.anything")) && !set.names(&name("h.other")));
    assert!(!set.names(&name("g._a_gho")));
    assert_eq!(set.ghost_of(&name("g._a_gho")), Some(name("g.a")));
    assert!(set.has_schema("g") && set.has_schema("h") && !set.has_schema("i"));
    assert!(set.has_whole_schema("g") && !set.has_whole_schema("h"));
    assert_eq!(set.schemas(), BTreeSet::from(["g".into(), "h".into()]));
}

#[test]
fn names_are_compared_with_their_case() {
    let set = set(&["g.Apps"]);
    assert!(!set.admits(&name("g.apps")) && !set.admits(&name("G.Apps")));
}

#[test]
fn a_set_knows_what_lies_within_it_and_what_it_meets() {
    assert!(set(&["g.a"]).is_within(&set(&["g.*"])));
    assert!(set(&["g.a", "g.b"]).is_within(&set(&["g.a", "g.b", "h.c"])));
    assert!(!set(&["g.*"]).is_within(&set(&["g.a"])));
    assert!(!set(&["g.a", "h.c"]).is_within(&set(&["g.*"])));
    assert!(set(&["g.a"]).intersects(&set(&["g.*"])) && set(&["g.*"]).intersects(&set(&["g.a"])));
    assert!(!set(&["g.a"]).intersects(&set(&["g.b", "h.*"])));
}

proptest! {
    #[test]
    fn every_name_reads_back_from_its_text(
        schema in "[^\u{0}\u{10000}-\u{10FFFF}]{0,7}[a-z.`]",
        table in "[^\u{0}\u{10000}-\u{10FFFF}]{0,7}[a-z.`*]",
    ) {
        let name = TableName::new(schema, table);
        prop_assert_eq!(name.to_string().parse::<TableName>().unwrap(), name.clone());
        let pattern = TablePattern::Schema(name.schema);
        prop_assert_eq!(pattern.to_string().parse::<TablePattern>().unwrap(), pattern);
    }

    #[test]
    fn any_text_is_a_name_or_a_refusal(text in "\\PC{0,20}") {
        let _ = text.parse::<TablePattern>();
    }

    #[test]
    fn a_ghost_is_never_of_a_table_outside_the_set(table in "_{0,3}[ab]{0,2}(_[0-9]{14})?(_gho|_ghc|_del|_new|_old)?") {
        let set = set(&["g.a", "g.ab"]);
        if let Some(base) = set.ghost_of(&TableName::new("g", table)) {
            prop_assert!(set.names(&base));
        }
    }
}
