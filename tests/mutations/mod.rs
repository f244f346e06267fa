//! Each patch in this folder breaks one invariant, and names tests of which one must fail then: `scripts/mutations` builds
//! the program once with all of them in it, and turns them on one at a time. Here only that they are what that script takes,
//! that they fit the code as it is, and that docs/reliability.md lists them.

use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

struct Mutation {
    name: String,
    path: PathBuf,
    patch: String,
}

impl Mutation {
    /// The values of one member of its head.
    fn head(&self, member: &str) -> Vec<&str> {
        let lines = self.patch.lines().take_while(|line| !line.starts_with("diff "));
        lines.filter_map(|line| line.strip_prefix(member)?.strip_prefix(": ")).collect()
    }

    fn one(&self, member: &str) -> &str {
        match self.head(member).as_slice() {
            [one] => one,
            found => panic!("{}: {member}: {found:?}", self.path.display()),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(ROOT).join("tests/mutations")
}

fn mutations() -> Vec<Mutation> {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<Mutation> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .map(|path| Mutation {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            patch: std::fs::read_to_string(&path).unwrap(),
            path,
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(found.len() >= 20, "{} mutations", found.len());
    found
}

/// The text of the file that a module's tests stand in.
fn text_of(under: &str, module: &str) -> String {
    let file = format!("{ROOT}/{under}/{}", module.replace("::", "/"));
    // A module of tests at the end of what it tests.
    let around = file.strip_suffix("/tests").unwrap_or(&file);
    let there = [format!("{file}.rs"), format!("{file}/mod.rs"), format!("{around}.rs")];
    let text = there.iter().find_map(|path| std::fs::read_to_string(path).ok());
    text.unwrap_or_else(|| panic!("none of {there:?}"))
}

#[test]
fn every_mutation_says_what_it_breaks_and_names_tests_that_are_there() {
    for mutation in mutations() {
        let at = mutation.path.display();
        assert!(!mutation.one("Invariant").is_empty() && !mutation.one("Breaks").is_empty(), "{at}");
        let asked: Vec<&str> = mutation.patch.split("mutation::on(\"").skip(1).collect();
        let is_own = |asked: &&str| asked.split('"').next() == Some(mutation.name.as_str());
        assert!(!asked.is_empty() && asked.iter().all(is_own), "{at} asks for another one");
        let tests = mutation.head("Test").into_iter().map(|test| ("tests", test));
        let units = mutation.head("Unit").into_iter().map(|test| ("src", test));
        let all: Vec<(&str, &str)> = tests.chain(units).collect();
        assert!(!all.is_empty(), "{at} names no test");
        for (under, test) in all {
            let (module, name) = test.rsplit_once("::").unwrap();
            assert!(text_of(under, module).contains(&format!("fn {name}(")), "{at}: no test {test}");
        }
    }
}

#[test]
fn every_mutation_applies_to_the_code_as_it_is_alone_and_with_all_others() {
    let switch = folder().join("switch.diff");
    let paths: Vec<PathBuf> = mutations().into_iter().map(|mutation| mutation.path).collect();
    let all: Vec<&PathBuf> = std::iter::once(&switch).chain(&paths).collect();
    for patches in paths.iter().map(|path| vec![path]).chain([all]) {
        let applied =
            Command::new("git").args(["apply", "--check"]).args(&patches).current_dir(ROOT).output();
        let Ok(applied) = applied else {
            let what = "whether the patches of tests/mutations apply";
            return crate::support::not_tested(what, "there is no git");
        };
        let said = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success(), "{patches:?}: {said}make it again from the code as it is");
    }
}

#[test]
fn the_page_lists_every_mutation_with_a_test_that_catches_it() {
    const HEADER: &str = "| mutation | invariant | what it breaks | caught by |\n|---|---|---|---|\n";
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/reliability.md")).unwrap();
    let (_, table) = page.split_once(HEADER).expect("the table of mutations");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(|cell| cell.trim_matches('`')).collect())
        .collect();
    let mutations = mutations();
    for mutation in &mutations {
        let Some(row) = rows.iter().find(|row| row[0] == mutation.name) else {
            panic!("docs/reliability.md does not list {}: scripts/mutations prints its line", mutation.name);
        };
        let caught: Vec<&str> = [mutation.head("Unit"), mutation.head("Test")].concat();
        assert_eq!(row[1..3], [mutation.one("Invariant"), mutation.one("Breaks")], "{}", mutation.name);
        assert!(caught.contains(&row[3]), "{}: {} is none of {caught:?}", mutation.name, row[3]);
    }
    assert_eq!(rows.len(), mutations.len(), "docs/reliability.md lists some that are not there");
}
