//! The stream's set changes: tables that come in, with rows and without, tables that go out, and all of it at once in a
//! region that was down.

use super::kit::*;

const A: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40))";

fn table(name: &str) -> String {
    format!("CREATE TABLE @.{name} (id INT PRIMARY KEY, v VARCHAR(40))")
}

#[tokio::test]
async fn an_empty_table_is_made_where_the_stream_says_and_what_is_here_otherwise_waits() {
    let stream = Stream::of_set("ad_empty", A, &["@.a"]).await;
    let region = Server::start(&[]);
    let list = ["@.a", "@.n1", "@.n2", "@.n3", "@.n4"];
    stream.sql("INSERT INTO @.a VALUES (1, 'x')").await;
    stream.upload().await;
    apply_list(&stream, &region, &list).await;
    for name in ["n1", "n2", "n3", "n4", "n5"] {
        stream.sql(&table(name)).await;
    }
    region.sql(&format!("{}; {}", table("n2"), table("n4")).replace('@', "ad_empty")).await;
    region
        .sql("CREATE TABLE ad_empty.n3 (id INT PRIMARY KEY); INSERT INTO ad_empty.n4 VALUES (9, 'stale')")
        .await;
    let added = [("n1", false), ("n2", false), ("n3", false), ("n4", false), ("n5", false)];
    change_set(&stream, &["@.a", "@.n1", "@.n2", "@.n3", "@.n4", "@.n5"], &added, &[]).await;
    for name in ["n1", "n2", "n3", "n4", "n5", "a"] {
        stream.sql(&format!("INSERT INTO @.{name} VALUES (5, 'new')")).await;
    }
    stream.upload().await;
    let plan = run_list(&stream, &region, &list, &["apply", "--dry-run"], "");
    for says in ["create the table ad_empty.n1, empty", "leave out ad_empty.n5", "to version 2"] {
        assert!(said(&plan).contains(says), "{says}: {}", said(&plan));
    }
    assert!(!exists(&region, &stream, "n1").await);
    let report = apply_list(&stream, &region, &list).await;
    assert_same(&stream, &region, &["a", "n1", "n2"]).await;
    assert_eq!(quarantined(&region).await, [row("n3", "definition"), row("n4", "own")]);
    assert_eq!(report.left_out.len(), 1);
    let error: String = region.value("SELECT error FROM tablecast.quarantine WHERE table_name = 'n4'").await;
    assert!(error.contains("with rows that are not the stream's"), "{error}");
    dump(&stream, &["a", "n1", "n2", "n3", "n4", "n5"], MANDATORY).await;
    apply_list(&stream, &region, &list).await;
    // What is somebody's is replaced when somebody says so.
    assert_eq!(all(&region, &stream, "n4").await, [(9, Some("stale".to_owned()))]);
    assert_eq!(quarantined(&region).await, [row("n4", "own")]);
    assert_code(&run_list(&stream, &region, &list, &["restore", "ad_empty.n4"], ""), 0);
    assert_same(&stream, &region, &["a", "n1", "n2", "n3", "n4"]).await;
    assert_clean(&region).await;
}

/// I3, I5, I8: not a row of it is shown before all of them are.
#[tokio::test]
async fn a_table_with_rows_waits_for_the_dump_of_the_whole_set_and_everything_else_goes_on() {
    let stream = Stream::of_set("ad_rows", A, &["@.a"]).await.stopping();
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.sql(&format!("{}; INSERT INTO @.n VALUES (1, 'before'), (2, 'before')", table("n"))).await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    stream.sql("INSERT INTO @.n VALUES (3, 'after'); INSERT INTO @.a VALUES (2, 'y'); ALTER TABLE @.n ADD COLUMN w INT").await;
    stream.upload().await;
    // A region that stops at conflicts takes it, too: it is none.
    let output = run_list(&stream, &region, &["@.*"], &["apply"], "");
    assert_code(&output, 3);
    assert_eq!(quarantined(&region).await, [row("n", "added")]);
    assert!(!exists(&region, &stream, "n").await);
    assert_same(&stream, &region, &["a"]).await;
    // It asks for nothing: the dump comes by itself.
    assert_eq!(restores(&region).await, []);
    let listed = run_list(&stream, &region, &["@.*"], &["quarantine", "list"], "");
    assert!(said(&listed).contains("waits for the dump of the whole set"), "{}", said(&listed));
    stream.sql("UPDATE @.n SET v = 'more', w = id; INSERT INTO @.a VALUES (3, 'z')").await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    stream.sql("INSERT INTO @.n VALUES (4, 'last', 4)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_same(&stream, &region, &["a", "n"]).await;
    assert_clean(&region).await;
    let why: Vec<String> = region.rows("SELECT why FROM tablecast.restore WHERE state = 'done'").await;
    assert_eq!(why, ["mandatory"]);
}

/// What was never the stream's is not replaced by a dump that nobody here has asked for.
#[tokio::test]
async fn a_regions_own_table_of_that_name_is_left_to_a_person() {
    let stream = Stream::of_set("ad_own", A, &["@.a"]).await;
    let region = Server::start(&[]);
    stream
        .sql(&format!("INSERT INTO @.a VALUES (1, 'x'); {}; INSERT INTO @.n VALUES (1, 'x')", table("n")))
        .await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("CREATE TABLE ad_own.n (mine INT); INSERT INTO ad_own.n VALUES (7)").await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    stream.sql("INSERT INTO @.n VALUES (2, 'y')").await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    stream.sql("INSERT INTO @.n VALUES (3, 'z'); INSERT INTO @.a VALUES (2, 'y')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(quarantined(&region).await, [row("n", "own")]);
    assert_eq!(region.value::<i32>("SELECT mine FROM ad_own.n").await, 7);
    assert_same(&stream, &region, &["a"]).await;
    // Out of the way, the stream's comes by itself.
    region.sql("RENAME TABLE ad_own.n TO ad_own.mine").await;
    stream.apply(&region).await.unwrap();
    assert_same(&stream, &region, &["a", "n"]).await;
    assert_eq!(region.value::<i32>("SELECT mine FROM ad_own.mine").await, 7);
}

/// It was set aside as the region's own, and is that also when the set has let it go and has it again: a kill in between
/// makes no difference.
#[tokio::test]
async fn i7_a_regions_own_table_that_goes_and_comes_again_is_still_its_own() {
    let stream = Stream::of_set("ad_still", A, &["@.a"]).await;
    stream
        .sql(&format!("INSERT INTO @.a VALUES (1, 'x'); {}; INSERT INTO @.n VALUES (1, 'x')", table("n")))
        .await;
    stream.upload().await;
    let regions = Server::start_all([&[], &[]]);
    for region in &regions {
        stream.apply(region).await.unwrap();
        region.sql("CREATE TABLE ad_still.n (mine INT); INSERT INTO ad_still.n VALUES (7)").await;
    }
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    for region in &regions {
        stream.apply(region).await.unwrap();
        assert_eq!(quarantined(region).await, [row("n", "own")]);
        // A restore that was given up has brought nothing.
        region
            .sql(
                "INSERT INTO tablecast.restore (name, why, tables, state, message, wanted_at) SELECT name, 'mandatory', \
                 '[\"ad_still.n\"]', 'superseded', 'restore 2 brings these, too', UTC_TIMESTAMP(6) FROM tablecast.position",
            )
            .await;
    }
    change_set(&stream, &["@.a"], &[], &["@.n"]).await;
    for (region, failpoint) in regions.iter().zip(["", "tables.let_go=kill"]) {
        run_list(&stream, region, &["@.*"], &["apply"], failpoint);
        stream.apply(region).await.unwrap();
        assert_eq!(quarantined(region).await, []);
    }
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    for region in &regions {
        stream.apply(region).await.unwrap();
        assert_eq!(quarantined(region).await, [row("n", "own")]);
        assert_eq!(region.value::<i32>("SELECT mine FROM ad_still.n").await, 7);
    }
}

/// Versions before this one put it down as a restore that is none.
#[tokio::test]
async fn what_an_earlier_version_let_go_of_is_still_known_to_have_been_the_streams() {
    let stream = Stream::of_set("ad_note", &format!("{A}; {}", table("n")), &["@.*"]).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (1, 'x')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    change_set(&stream, &["@.a"], &[], &["@.*"]).await;
    stream.apply(&region).await.unwrap();
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM tablecast.former WHERE NOT own").await, 1);
    region
        .sql(
            "DROP TABLE tablecast.former; INSERT INTO tablecast.restore (name, why, tables, state, message, wanted_at) \
             SELECT name, 'quarantine', '[\"ad_note.n\"]', 'superseded', \
             'out of the list of tables: an ordinary table from then on', UTC_TIMESTAMP(6) FROM tablecast.position",
        )
        .await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    stream.sql("INSERT INTO @.n VALUES (2, 'y')").await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    stream.apply(&region).await.unwrap();
    assert_eq!(restores(&region).await, [("done".to_owned(), "mandatory".to_owned())]);
    let former: Vec<(String, bool)> = region.rows("SELECT table_name, own FROM tablecast.former").await;
    assert_eq!(former, [("n".to_owned(), false)]);
    assert_same(&stream, &region, &["a", "n"]).await;
    // A note that the earlier version has made since does not undo what is known by now.
    region
        .sql(
            "INSERT INTO tablecast.former SELECT name, 'ad_note', 'x', 1, 5, UTC_TIMESTAMP(6) FROM tablecast.position; \
             INSERT INTO tablecast.restore (name, why, tables, state, message, wanted_at) \
             SELECT name, 'quarantine', '[\"ad_note.x\"]', 'superseded', \
             'out of the list of tables: an ordinary table from then on', UTC_TIMESTAMP(6) FROM tablecast.position",
        )
        .await;
    change_set(&stream, &["@.a"], &[], &["@.n"]).await;
    stream.apply(&region).await.unwrap();
    assert_eq!(restores(&region).await.len(), 1, "the note is taken over");
    let former: Vec<(String, bool)> =
        region.rows("SELECT table_name, own FROM tablecast.former ORDER BY 1").await;
    assert_eq!(former, [("n".to_owned(), false), ("x".to_owned(), true)]);
}

/// I3, I5: what happened to a table while it was outside is in no segment; only a dump from behind it has it.
#[tokio::test]
async fn a_region_that_was_down_over_add_remove_and_add_again_ends_as_the_source() {
    let stream = Stream::of_set("ad_again", A, &["@.a"]).await.stopping();
    let [never, once, early] = Server::start_all([&[], &[], &[]]);
    stream
        .sql(&format!(
            "INSERT INTO @.a VALUES (1, 'x'); {}; INSERT INTO @.n VALUES (1, 'one'), (2, 'two')",
            table("n")
        ))
        .await;
    stream.upload().await;
    for region in [&never, &once, &early] {
        stream.apply(region).await.unwrap();
    }
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    stream.sql("INSERT INTO @.n VALUES (3, 'three'); INSERT INTO @.a VALUES (2, 'y')").await;
    stream.upload().await;
    stream.apply(&early).await.unwrap();
    dump(&stream, &["a", "n"], MANDATORY).await;
    stream.sql("INSERT INTO @.n VALUES (4, 'four'); INSERT INTO @.a VALUES (3, 'z')").await;
    stream.upload().await;
    stream.apply(&once).await.unwrap();
    assert_same(&stream, &once, &["a", "n"]).await;
    change_set(&stream, &["@.a"], &[], &["@.n"]).await;
    stream.sql("DELETE FROM @.n WHERE id < 4; INSERT INTO @.n VALUES (5, 'outside'); INSERT INTO @.a VALUES (4, 'w')").await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    stream.sql("INSERT INTO @.n VALUES (6, 'six'); UPDATE @.a SET v = 'end'").await;
    stream.upload().await;
    // One of them comes here before the second dump is there: its old copy is not gone on with.
    stream.apply(&once).await.unwrap();
    assert_eq!(quarantined(&once).await, [row("n", "added")]);
    dump(&stream, &["a", "n"], MANDATORY).await;
    stream.sql("UPDATE @.n SET v = CONCAT(v, '!')").await;
    stream.upload().await;
    for region in [&never, &once, &early] {
        stream.apply(region).await.unwrap();
        assert_same(&stream, region, &["a", "n"]).await;
        assert_clean(region).await;
    }
}

/// A dump from before the table went out is not used for it when it is in again, empty.
#[tokio::test]
async fn a_dump_from_before_a_table_went_out_is_not_used_for_it() {
    let stream = Stream::of_set("ad_hole", &format!("{A}; {}", table("n")), &["@.*"]).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.n VALUES (1, 'old'), (2, 'old')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    dump(&stream, &["a", "n"], FULL).await;
    change_set(&stream, &["@.a"], &[], &["@.*"]).await;
    stream.sql("DELETE FROM @.n").await;
    region.sql("DELETE FROM ad_hole.n").await;
    change_set(&stream, &["@.a", "@.n"], &[("n", false)], &[]).await;
    stream.sql("INSERT INTO @.n VALUES (7, 'new')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_same(&stream, &region, &["n"]).await;
    region.sql("DELETE FROM ad_hole.n").await;
    stream.sql("UPDATE @.n SET v = 'newer'; ALTER TABLE @.n COMMENT 'x'").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(quarantined(&region).await, [row("n", "conflict")]);
    assert_eq!(all(&region, &stream, "n").await, [], "no row of the old dump");
    dump(&stream, &["n"], SOME).await;
    stream.apply(&region).await.unwrap();
    assert_same(&stream, &region, &["n"]).await;
}

#[tokio::test]
async fn a_table_that_is_removed_stays_as_an_ordinary_one() {
    let stream =
        Stream::of_set("ad_removed", &format!("{A}; {}; {}", table("n"), table("m")), &["@.*"]).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (1, 'x'); INSERT INTO @.m VALUES (1, 'x')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    // One of those that go is in quarantine, and its restore wanted.
    region.sql("DELETE FROM ad_removed.n").await;
    stream.sql("UPDATE @.n SET v = 'y'").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(quarantined(&region).await, [row("n", "conflict")]);
    change_set(&stream, &["@.a"], &[], &["@.*"]).await;
    stream
        .sql("INSERT INTO @.m VALUES (2, 'outside'); DROP TABLE @.n; INSERT INTO @.a VALUES (2, 'y')")
        .await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.quarantined.len(), report.waiting.len()), (0, 0));
    assert_eq!(restores(&region).await, [("superseded".to_owned(), "quarantine".to_owned())], "that of n");
    assert_same(&stream, &region, &["a"]).await;
    assert!(exists(&region, &stream, "n").await);
    assert_eq!(all(&region, &stream, "m").await.len(), 1);
    // Local changes of it, its definition too, are nobody's concern.
    region
        .sql("INSERT INTO ad_removed.m VALUES (9, 'mine'); ALTER TABLE ad_removed.m ADD COLUMN mine INT")
        .await;
    stream.sql("INSERT INTO @.a VALUES (3, 'y')").await;
    stream.upload().await;
    assert_code(&run_list(&stream, &region, &["@.*"], &["apply"], ""), 0);
    assert_code(&run_list(&stream, &region, &["@.*"], &["doctor"], ""), 0);
    // A region that begins from nothing reads rows of what has left since, and of nothing else.
    let late = Server::start(&[]);
    apply_list(&stream, &late, &["@.a"]).await;
    assert_same(&stream, &late, &["a"]).await;
    assert!(!exists(&late, &stream, "m").await);
}

/// What a restore that is given up has loaded is not left lying about.
#[tokio::test]
async fn the_shadow_of_a_restore_that_is_given_up_is_dropped() {
    let stream = Stream::of_set("ad_shadow", &format!("{A}; {}", table("n")), &["@.*"]).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (1, 'x')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    dump(&stream, &["n"], SOME).await;
    stream.apply(&region).await.unwrap();
    let killed =
        run_list(&stream, &region, &["@.*"], &["restore", "ad_shadow.n"], "restore.rows_loaded=kill");
    assert_eq!(killed.status.code(), None);
    let shadows = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_NAME LIKE '\\_tablecast\\_%'";
    assert_eq!(region.value::<u64>(shadows).await, 1);
    change_set(&stream, &["@.a"], &[], &["@.*"]).await;
    stream.apply(&region).await.unwrap();
    assert_eq!(restores(&region).await, [("superseded".to_owned(), "asked".to_owned())]);
    assert_eq!(region.value::<u64>(shadows).await, 0);
}

/// A restore that is under way loses what the set loses, and brings the rest.
#[tokio::test]
async fn a_restore_goes_on_without_a_table_that_is_removed() {
    let stream = Stream::of_set("ad_trim", &format!("{A}; {}", table("n")), &["@.*"]).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (1, 'x')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    dump(&stream, &["a", "n"], MANDATORY).await;
    change_set(&stream, &["@.a"], &[], &["@.*"]).await;
    stream.sql("INSERT INTO @.a VALUES (2, 'y')").await;
    stream.upload().await;
    region.sql("UPDATE ad_trim.n SET v = 'mine'").await;
    // The entry of the dump, and the one that takes a table out, are met in one pass.
    stream.apply(&region).await.unwrap();
    assert_eq!(restores(&region).await[0], ("done".to_owned(), "mandatory".to_owned()));
    assert_same(&stream, &region, &["a"]).await;
    assert_eq!(all(&region, &stream, "n").await, [(1, Some("mine".to_owned()))]);
}
