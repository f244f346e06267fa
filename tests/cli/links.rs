//! Every link of every page leads somewhere: a file that is there, and a heading in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages under a folder; not those of builds and of version control.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The lines of a page that are text: not between fences.
fn text(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What a link may name behind its `#`: headings in small letters, without signs, blanks as dashes, and a number from the
/// second of a name on.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in text(page) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let mut shown = String::new();
        let mut rest = heading.trim();
        while let Some((before, (label, after))) = link(rest) {
            shown += before;
            shown += label;
            rest = after;
        }
        shown += rest;
        let name: String = shown
            .to_lowercase()
            .chars()
            .filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign))
            .map(|sign| if sign == ' ' { '-' } else { sign })
            .collect();
        let numbered = (1..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !anchors.contains(name));
        anchors.extend(free);
    }
    anchors
}

/// The first link: what stands before it, its label, and what stands behind its target.
fn link(text: &str) -> Option<(&str, (&str, &str))> {
    let middle = text.find("](")?;
    let begin = text[..middle].rfind('[')?;
    let end = middle + text[middle..].find(')')?;
    Some((&text[..begin], (&text[begin + 1..middle], &text[end + 1..])))
}

/// The targets of a page's links.
fn targets(page: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for line in text(page) {
        // Code in a line shows what it says.
        let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        let mut rest = line.as_str();
        while let Some(at) = rest.find("](") {
            let (target, behind) = rest[at + 2..].split_once(')').unwrap_or((&rest[at + 2..], ""));
            targets.push(target.split_whitespace().next().unwrap_or_default().to_owned());
            rest = behind;
        }
    }
    targets
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let mut all = Vec::new();
    pages(root(), &mut all);
    let (mut looked_at, mut dead) = (0, Vec::new());
    for page in &all {
        for target in targets(&fs::read_to_string(page).unwrap()) {
            looked_at += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match file {
                "" => page.clone(),
                file => plain(&page.parent().unwrap().join(file)),
            };
            let is_there = match anchor {
                // A page that is read in the middle of the night, perhaps without a way to the internet.
                _ if target.contains("://") => false,
                "" => file.exists(),
                anchor => fs::read_to_string(&file).is_ok_and(|text| anchors(&text).contains(anchor)),
            };
            if !is_there {
                dead.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
    assert!(all.len() > 40 && looked_at > 300, "{} pages, {looked_at} links", all.len());
}

/// Pages that nobody finds are not read.
#[test]
fn the_index_leads_to_every_page_of_the_docs() {
    let docs = root().join("docs");
    let mut all = Vec::new();
    pages(&docs, &mut all);
    let mut found = BTreeSet::from([docs.join("README.md")]);
    let mut next = vec![docs.join("README.md")];
    while let Some(page) = next.pop() {
        for target in targets(&fs::read_to_string(&page).unwrap()) {
            let file = plain(&page.parent().unwrap().join(target.split('#').next().unwrap_or_default()));
            if file.extension().is_some_and(|end| end == "md") && found.insert(file.clone()) && file.starts_with(&docs) {
                next.push(file);
            }
        }
    }
    let lost: Vec<_> = all.iter().filter(|page| !found.contains(*page)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_link_and_its_anchor_are_found_where_they_stand() {
    let page = "# Title: of `this`\n\nSee [a](b.md#c) and `[no](link)`; [x](#y).\n```\n[no](z)\n# no\n```\n## [Two](t.md)\n## Two\n";
    assert_eq!(targets(page), ["b.md#c", "#y", "t.md"]);
    let anchors: Vec<String> = anchors(page).into_iter().collect();
    assert_eq!(anchors, ["title-of-this", "two", "two-1"]);
}
