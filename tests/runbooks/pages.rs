//! Every page has a test that follows it.

use std::path::Path;

/// Pages that no test opens, and why.
const WITHOUT: [(&str, &str); 9] = [
    ("clock-skew", IN_WORK),
    ("history-lost", IN_WORK),
    ("lagging-region", IN_WORK),
    ("rebuild-a-region", IN_WORK),
    ("s3-outage", IN_WORK),
    ("silent-region", IN_WORK),
    ("stopped-on-an-error", IN_WORK),
    ("stuck-dump", IN_WORK),
    ("take-a-region-out", IN_WORK),
];
const IN_WORK: &str = "its test is in work";

fn texts(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            self::texts(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_runbook_is_opened_by_a_test_that_follows_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = Vec::new();
    for folder in ["tests/runbooks", "tests/upgrade"] {
        texts(&root.join(folder), &mut tests);
    }
    let mut without = Vec::new();
    for page in std::fs::read_dir(root.join("docs/runbooks")).unwrap() {
        let page = page.unwrap().path();
        let name = page.file_stem().unwrap().to_str().unwrap().to_owned();
        if !tests.iter().any(|text| text.contains(&format!("(\"{name}\""))) {
            without.push(name);
        }
    }
    without.retain(|page| !WITHOUT.iter().any(|(name, why)| name == page && !why.is_empty()));
    assert!(without.is_empty(), "pages that no test opens: {without:?}; write one, or say why not");
}
