//! A region's own rows under the name of a table that comes into the stream's set: nothing that nobody has named replaces
//! them, whatever ties them to what is restored.

use super::kit::*;

const A: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40))";

/// A region that follows `a`, with a table `n` of its own that refers to it.
async fn region_with_its_own(schema: &'static str) -> (Stream, Server) {
    let stream = Stream::of_set(schema, A, &["@.a"]).await;
    let region = Server::start(&[]);
    stream
        .sql(
            "INSERT INTO @.a VALUES (1, 'x'), (2, 'y'); CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(40)); \
             INSERT INTO @.n VALUES (1, 'x')",
        )
        .await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region
        .sql(
            &"CREATE TABLE @.n (mine INT PRIMARY KEY, FOREIGN KEY (mine) REFERENCES @.a (id)); INSERT INTO @.n VALUES (1)"
                .replace('@', schema),
        )
        .await;
    (stream, region)
}

async fn assert_its_own(stream: &Stream, region: &Server) {
    let held = quarantined(region).await;
    assert!(held.contains(&row("n", "own")), "{held:?}");
    let mine: Vec<u32> = region.rows(&format!("SELECT mine FROM {}.n", stream.schema)).await;
    assert_eq!(mine, [1]);
}

/// The key is why it fails, and is what ties the table to the one that fails, before the stream has it at all.
#[tokio::test]
async fn i5_a_table_that_was_tied_to_one_in_quarantine_before_it_came_in_is_its_own_all_the_same() {
    let (stream, region) = region_with_its_own("ow_tied").await;
    stream.sql("DELETE FROM @.a WHERE id = 1").await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    run_list(&stream, &region, &["@.*"], &["apply"], "");
    assert_its_own(&stream, &region).await;
    stream.sql("INSERT INTO @.a VALUES (3, 'z'); INSERT INTO @.n VALUES (3, 'z')").await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    run_list(&stream, &region, &["@.*"], &["apply"], "");
    assert_its_own(&stream, &region).await;
}

/// The dump that mends the one in quarantine is from behind the change that the region has not come to.
#[tokio::test]
async fn i5_a_dump_from_ahead_does_not_bring_what_the_region_has_never_met() {
    let (stream, region) = region_with_its_own("ow_ahead").await;
    stream.sql("DELETE FROM @.a WHERE id = 1").await;
    stream.upload().await;
    let last = last_tx(&stream).await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    dump(&stream, &["a", "n"], SOME).await;
    let until = tablecast::region::apply::Options { until: Some(last), ..options() };
    stream.apply_with(&config(&stream, &region, &["@.*"]), until).await.unwrap();
    let tables: Vec<String> =
        region.rows("SELECT CAST(tables AS CHAR) FROM tablecast.restore WHERE state = 'done'").await;
    assert_eq!(tables, ["[\"ow_ahead.a\"]"]);
    assert_its_own(&stream, &region).await;
    run_list(&stream, &region, &["@.*"], &["apply"], "");
    assert_its_own(&stream, &region).await;
}

/// Somebody asks for one table, or for all: only what is named itself is given up.
#[tokio::test]
async fn what_is_tied_to_a_table_that_is_asked_for_is_replaced_only_if_it_is_named_too() {
    let (stream, region) = region_with_its_own("ow_asked").await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    run_list(&stream, &region, &["@.*"], &["apply"], "");
    assert_its_own(&stream, &region).await;
    let before = restores(&region).await;
    for args in [&["restore", "ow_asked.a", "--dry-run"][..], &["restore", "ow_asked.a"]] {
        let output = run_list(&stream, &region, &["@.*"], args, "");
        assert_code(&output, 1);
        let says = "restore ow_asked.a: ow_asked.n is tied to it by foreign keys and holds rows that are not the stream's";
        assert!(said(&output).contains(says), "{}", said(&output));
    }
    assert_eq!(restores(&region).await, before);
    dump(&stream, &["a", "n"], FULL).await;
    let output = run_list(&stream, &region, &["@.*"], &["restore", "--all"], "");
    assert!(said(&output).contains("leaves ow_asked.n as it is"), "{}", said(&output));
    assert_its_own(&stream, &region).await;
    assert_code(&run_list(&stream, &region, &["@.*"], &["restore", "ow_asked.a", "ow_asked.n"], ""), 0);
    assert_same(&stream, &region, &["a", "n"]).await;
    assert_eq!(quarantined(&region).await, []);
}

/// A table of its own has no triggers, and the head is read to see that: what the run is for does not hang on it.
#[tokio::test]
async fn a_head_that_cannot_be_read_for_the_guard_fails_no_run_that_has_nothing_to_do() {
    let stream = Stream::of_set("ow_idle", A, &["@.a"]).await.guarded();
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("CREATE TABLE ow_idle.mine (id INT)").await;
    assert_code(&run_list(&stream, &region, &["@.*"], &["apply"], ""), 0);
    let output = run_list(&stream, &region, &["@.*"], &["apply"], "apply.idle_head=fail");
    assert_code(&output, 0);
    assert!(said(&output).contains("failpoint apply.idle_head"), "{}", said(&output));
}
