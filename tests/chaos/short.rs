//! The machine itself, for half a minute: that it works, and that its checks can fail.

use clap::Parser;

use super::Options;
use super::runs::{Outcome, run};

/// What was found.
async fn found(args: &[&str]) -> (Vec<String>, Outcome) {
    let options = Options::parse_from([&["scripts/chaos", "--quiet", "--no-namespaces"], args].concat());
    let outcome = run(&options, options.seed.expect("a seed")).await.expect("a run");
    (outcome.violations.clone(), outcome)
}

/// I1 to I8: nothing that is killed, cut off or changed behind its back makes a region differ for good.
#[tokio::test(flavor = "multi_thread")]
async fn i1_to_i8_hold_while_programs_are_killed_the_store_fails_and_somebody_changes_a_region() {
    let only = "kill-upload,kill-apply,reset,store,drift,two-at-once";
    let (violations, outcome) =
        found(&["--seed", "7", "--minutes", "0.3", "--only", only, "--writers", "3"]).await;
    assert!(violations.is_empty(), "{violations:#?}\n{}", outcome.figures.table());
    assert!(outcome.figures.sum("faults") > 3, "{}", outcome.figures.table());
    assert!(outcome.figures.get("transactions", "committed") > 50, "{}", outcome.figures.table());
}

/// One row of one table that somebody changed where no transaction comes by any more.
#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_differs_in_one_region_is_found_and_named() {
    let (violations, outcome) = found(&["--seed", "8", "--minutes", "0.1", "--calm", "--sabotage"]).await;
    let [violation] = &violations[..] else { panic!("{violations:#?}\n{}", outcome.figures.table()) };
    assert!(
        violation.starts_with("I3, I4: g.t") && violation.contains("where the source has id="),
        "{violation}"
    );
    std::fs::remove_dir_all(outcome.folder).expect("it was kept");
}
