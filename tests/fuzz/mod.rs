//! The corpus of the fuzz targets, through the same bodies, without a fuzzer: what was once understood, or once went
//! wrong, stays so. `scripts/fuzz` looks for more.

use std::path::Path;

mod bodies;

/// All of it together: it lies in the repository.
const MOST: u64 = 96 << 10;

#[test]
fn every_file_of_the_corpus_goes_through_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut bytes = 0;
    for (target, body) in bodies::TARGETS {
        let mut count = 0;
        for file in std::fs::read_dir(corpus.join(target)).expect(target) {
            let path = file.expect("an entry").path();
            let data = std::fs::read(&path).expect("a file");
            // Told before it panics: the panic does not know the file.
            println!("{}", path.display());
            body(&data);
            bytes += data.len() as u64;
            count += 1;
        }
        assert!(count >= 3, "{target}: {count} files");
    }
    assert!(bytes <= MOST, "{bytes} bytes: `scripts/fuzz --minimize` makes it smaller");
}

#[test]
fn every_target_is_known_to_the_fuzzer_and_to_the_corpus() {
    let crate_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml");
    let text = std::fs::read_to_string(crate_file).expect("a file");
    let known: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
        .collect();
    let bodies: Vec<&str> = bodies::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, bodies);
}
