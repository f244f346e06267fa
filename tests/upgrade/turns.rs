//! One after the other, in every order of an upgrade and of the way back.

use super::kit::{Two, Version};
use crate::support::mysql::Server;

/// I1, I3: nothing is lost or doubled over an upgrade, the half-upgraded time, and the way back; each reads what the other wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_and_a_region_of_the_version_before_go_on_with_this_one_and_back_again() {
    use Version::{Before, This};
    let two = Two::of("up_turns").await;
    two.write(1).await;
    two.at_source(Before, "stream init --table @.*").ends(0, &[]);
    two.at_source(Before, "dump take --all-tables").ends(0, &[]);
    two.in_region(Before, "bootstrap").ends(0, &[]);
    let mut n = 1;
    // Regions first, then the source; and back: the source first, then the regions. The other order too.
    for (source, region) in [(Before, Before), (Before, This), (This, This), (This, Before), (Before, Before)]
    {
        n += 1;
        two.write(n).await;
        two.stream.sql(&format!("ALTER TABLE @.plans ADD COLUMN more{n} INT NOT NULL DEFAULT {n}")).await;
        n += 1;
        two.stream.sql(&format!("INSERT INTO @.plans (id, price) VALUES ({n}, 1)")).await;
        two.goes_on(source, region).await;
        two.at_source(source, "verify").ends(0, &[]);
        two.in_region(region, "status").ends(0, &[]);
        two.in_region(region, "doctor").ends(0, &[]);
        two.at_source(source, "doctor").ends(0, &[]);
    }
    // What one has dumped the other restores, in a region that is new.
    for (source, region) in [(Before, This), (This, Before)] {
        two.at_source(source, "dump take --all-tables").ends(0, &[]);
        n += 1;
        two.write(n).await;
        two.at_source(source, "upload").ends(0, &[]);
        let other = Server::start(&[]);
        two.in_other(&other, region, "bootstrap").ends(0, &[]);
        two.in_other(&other, region, "apply").ends(0, &[]);
        two.stream.assert_equal(&other).await;
    }
    n += 1;
    two.write(n).await;
    two.goes_on(This, This).await;
    two.at_source(This, "stream prune --keep 0s --keep-entries 1 --no-reports").ends(0, &[]);
    n += 1;
    two.write(n).await;
    two.goes_on(Before, This).await;
}

/// I8: a table that one version has put into quarantine, and a pause that one has begun, are known to the other, which ends them.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_version_has_isolated_or_paused_the_other_knows_and_ends() {
    use Version::{Before, This};
    for (first, then) in [(Before, This), (This, Before)] {
        let two = Two::of(if first == Before { "up_states" } else { "up_states_back" }).await;
        two.at_source(first, "stream init --table @.*").ends(0, &[]);
        two.write(1).await;
        two.goes_on(first, first).await;
        // No dump is there from which it would mend itself.
        two.region.sql(&format!("DELETE FROM {}.apps", two.stream.schema)).await;
        two.write(2).await;
        two.at_source(first, "upload").ends(0, &[]);
        two.in_region(first, "apply").ends(3, &[".apps"]);
        two.in_region(first, "pause --reason upgrade --for 1h").ends(0, &[]);

        two.in_region(then, "apply").ends(14, &["upgrade"]);
        two.in_region(then, "resume").ends(0, &[]);
        two.write(3).await;
        two.at_source(then, "upload").ends(0, &[]);
        two.in_region(then, "apply").ends(3, &[".apps"]);
        two.in_region(then, "quarantine list").ends(0, &[".apps", "conflict"]);
        two.at_source(then, "dump take @.apps").ends(0, &[]);
        two.in_region(then, "apply").ends(0, &[]);
        two.in_region(then, "quarantine list").ends(0, &["no table is in quarantine"]);
        two.goes_on(first, first).await;
    }
}
