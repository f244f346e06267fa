//! An upgrade over runs that are killed in the middle.

use super::kit::{Two, Version};

/// I7: what one version has left half done when it was killed, the other brings to its end.
#[tokio::test(flavor = "multi_thread")]
async fn i7_what_one_version_has_left_half_done_the_other_ends() {
    use Version::{Before, This};
    let two = Two::of("up_kills").await;
    two.write(1).await;
    two.at_source(Before, "stream init --table @.*").ends(0, &[]);
    two.at_source(Before, "dump take --all-tables").ends(0, &[]);
    two.in_region(Before, "bootstrap").ends(0, &[]);
    let mut n = 1;
    for (first, then) in [(Before, This), (This, Before)] {
        for at in ["upload.after_segment_put", "upload.before_head_swap", "upload.after_head_swap"] {
            n += 1;
            two.write(n).await;
            two.killed("source", first, "upload", at);
            two.goes_on(then, then).await;
        }
        for at in ["dump.before_append", "dump.after_append"] {
            two.killed("source", first, "dump take --all-tables", at);
            n += 1;
            two.write(n).await;
            two.goes_on(then, then).await;
        }
        for at in
            ["restore.shadows_made", "restore.chunk_loaded", "restore.caught_up", "restore.after_rename"]
        {
            two.at_source(first, "dump take --mandatory --all-tables").ends(0, &[]);
            n += 1;
            two.write(n).await;
            two.at_source(first, "upload").ends(0, &[]);
            two.killed("region", first, "apply", at);
            two.goes_on(then, then).await;
        }
    }
}
