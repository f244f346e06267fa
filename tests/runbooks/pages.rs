//! Every page has a test that follows it.

use std::path::Path;

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
    assert!(without.is_empty(), "pages that no test opens: {without:?}");
}
