//! docs/security.md names tests: they are there.

use std::path::Path;

fn texts(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    ["tests", "src"].iter().for_each(|folder| texts(&root.join(folder), &mut all));
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let (mut named, mut missing) = (0, Vec::new());
    for name in page.split('`').skip(1).step_by(2) {
        let is_name = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let is_there = match name.split_once("::") {
            Some((module, file)) if is_name(module) && is_name(file) => {
                root.join("tests").join(module).join(file).with_extension("rs").is_file()
            }
            None if is_name(name) && name.matches('_').count() > 2 => all.contains(&format!("fn {name}(")),
            _ => continue,
        };
        named += 1;
        if !is_there {
            missing.push(name);
        }
    }
    assert!(named > 35, "{named}");
    assert!(missing.is_empty(), "{missing:?}");
}
