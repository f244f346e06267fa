//! Online migrations under the guard: their ghosts are guarded before they take their table's place.

use super::kit::*;

/// As gh-ost does it (the names of tests/fixtures/gh-ost-session.sql), with the rows copied in between.
const GHOST: [&str; 4] = [
    "CREATE TABLE @._a_ghc (id BIGINT AUTO_INCREMENT PRIMARY KEY, hint VARCHAR(64)); CREATE TABLE @._a_gho LIKE @.a; \
     ALTER TABLE @._a_gho ADD c# INT, ADD KEY (v)",
    "INSERT INTO @._a_ghc (hint) VALUES ('copy'); INSERT IGNORE INTO @._a_gho (id, v) SELECT id, v FROM @.a; UPDATE @.a SET v = 'm'; \
     REPLACE INTO @._a_gho (id, v) SELECT id, v FROM @.a",
    "CREATE TABLE @._a_del (id INT AUTO_INCREMENT PRIMARY KEY) COMMENT='ghost-cut-over-sentry'; DROP TABLE @._a_del; \
     RENAME TABLE @.a TO @._a_del, @._a_gho TO @.a",
    "DROP TABLE @._a_ghc; DROP TABLE @._a_del; INSERT INTO @.a (id, v) VALUES (#, 'after')",
];

/// As pt-online-schema-change does it; its triggers do not travel.
const PT: [&str; 4] = [
    "CREATE TABLE @._a_new LIKE @.a; ALTER TABLE @._a_new ADD p# INT",
    "INSERT IGNORE INTO @._a_new (id, v) SELECT id, v FROM @.a",
    "RENAME TABLE @.a TO @._a_old, @._a_new TO @.a",
    "DROP TABLE IF EXISTS @._a_old; INSERT INTO @.a (id, v) VALUES (1#, 'after')",
];

/// I6: nobody gets a row in between, whether the migration comes in one segment or in many, and names never collide.
#[tokio::test(flavor = "multi_thread")]
async fn no_local_write_gets_through_while_tables_are_migrated_one_after_the_other() {
    let (stream, region) = guarded("gd_migrates").await;
    let intruder = Intruder::start(&region, "gd_migrates.a".into()).await;
    for round in 3..6 {
        for steps in [GHOST, PT] {
            for step in steps {
                stream.sql(&step.replace('#', &round.to_string())).await;
                stream.upload().await;
                if round > 3 {
                    stream.apply(&region).await.unwrap();
                }
            }
            // The first round came as one pass of several segments.
            stream.apply(&region).await.unwrap();
            stream.assert_equal(&region).await;
            assert_guarded(&stream, &region, &["a", "b"]).await;
        }
    }
    for steps in [GHOST, PT] {
        // In one segment: made, filled and swapped in between two looks at the guard.
        stream.sql(&steps.join("; ").replace('#', "7")).await;
        stream.upload().await;
        stream.apply(&region).await.unwrap();
        stream.assert_equal(&region).await;
    }
    intruder.assert_never_wrote().await;
    let names = triggers(&region, "gd_migrates").await;
    assert_eq!(names.len(), 6, "{names:?}");
    let mut app = login(&region, "app").await;
    assert_eq!(outcome(&mut app, "DELETE FROM gd_migrates.a").await, (REFUSED, message("gd_migrates", "a")));
}

/// I7: killed right before and right after the cut-over, in the segment that also made the ghost.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_over_that_was_cut_short_leaves_no_moment_without_a_guard() {
    let (stream, region) = guarded("gd_cut").await;
    let intruder = Intruder::start(&region, "gd_cut.a".into()).await;
    stream.sql(&GHOST.join("; ").replace('#', "8")).await;
    stream.upload().await;
    // Each DDL of the segment in turn, and each trigger that is made on the way.
    for point in [
        "apply.after_ddl=kill@2",
        "apply.after_ddl=kill@2",
        "guard.trigger_made=kill@4",
        "apply.before_ddl=kill@2",
        "apply.after_ddl=kill",
    ] {
        let killed = stream.run(&region, point);
        assert!(killed.status.code().is_none() || killed.status.success(), "{point}: {killed:?}");
    }
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    intruder.assert_never_wrote().await;
    assert_guarded(&stream, &region, &["a", "b"]).await;
}
