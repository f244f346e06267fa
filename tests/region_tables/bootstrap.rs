//! New regions of a stream whose set has changed, and new regions that take part of it.

use super::kit::*;

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(40))";

async fn stream(schema: &'static str) -> Stream {
    let stream = Stream::of_set(schema, TABLES, &["@.a"]).await;
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (1, 'x'), (2, 'y')").await;
    stream.upload().await;
    stream
}

#[tokio::test]
async fn a_new_region_whose_dump_lies_before_a_change_of_the_set_follows_it() {
    let stream = stream("bt_before").await;
    dump(&stream, &["a"], FULL).await;
    // No transaction lies between the dump and the change.
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    let region = Server::start(&[]);
    assert_code(&run_list(&stream, &region, &["@.*"], &["bootstrap"], ""), 3);
    assert_eq!(quarantined(&region).await, [row("n", "added")]);
    stream.sql("INSERT INTO @.n VALUES (3, 'z'); INSERT INTO @.a VALUES (2, 'y')").await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    assert_code(&run_list(&stream, &region, &["@.*"], &["apply"], ""), 0);
    assert_same(&stream, &region, &["a", "n"]).await;
    assert_clean(&region).await;
}

#[tokio::test]
async fn a_new_region_whose_dump_lies_behind_a_change_of_the_set_has_it() {
    let stream = stream("bt_behind").await;
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    stream.sql("INSERT INTO @.n VALUES (3, 'z'); INSERT INTO @.a VALUES (2, 'y')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    // Let in by the list, and not of the stream: not in the way, and left as it is.
    region.sql("CREATE DATABASE bt_behind; CREATE TABLE bt_behind.mine (id INT); INSERT INTO bt_behind.mine VALUES (7)").await;
    assert_code(&run_list(&stream, &region, &["@.*"], &["bootstrap"], ""), 0);
    assert_same(&stream, &region, &["a", "n"]).await;
    assert_eq!(region.value::<u32>("SELECT id FROM bt_behind.mine").await, 7);
    assert_eq!(restores(&region).await, [("done".to_owned(), "bootstrap".to_owned())]);
    assert_clean(&region).await;
}

/// From the first entry on, without a dump: the definitions of the head are not those of the beginning.
#[tokio::test]
async fn a_new_region_that_reads_the_stream_from_its_beginning_meets_the_change() {
    let stream = Stream::of_set("bt_start", TABLES, &["@.a"]).await;
    stream.sql("INSERT INTO @.n VALUES (1, 'x')").await;
    // Before the first transaction.
    change_set(&stream, &["@.a", "@.n"], &[("n", true)], &[]).await;
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (2, 'y')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    apply_list(&stream, &region, &["@.*"]).await;
    assert_eq!(quarantined(&region).await, [row("n", "added")]);
    assert_same(&stream, &region, &["a"]).await;
    dump(&stream, &["a", "n"], MANDATORY).await;
    apply_list(&stream, &region, &["@.*"]).await;
    assert_same(&stream, &region, &["a", "n"]).await;
}

/// The set of now does not have it; the dump does, and so may what comes before the change.
#[tokio::test]
async fn rows_under_the_name_of_a_table_that_has_left_since_the_dump_are_not_replaced() {
    let stream = Stream::of_set("bt_left", TABLES, &["@.a", "@.n"]).await;
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (1, 'x')").await;
    dump(&stream, &["a", "n"], FULL).await;
    change_set(&stream, &["@.a"], &[], &["@.n"]).await;
    let region = Server::start(&[]);
    region
        .sql("CREATE DATABASE bt_left; CREATE TABLE bt_left.n (mine INT); INSERT INTO bt_left.n VALUES (7)")
        .await;
    for args in [&["bootstrap", "--dry-run"][..], &["bootstrap"]] {
        let output = run_list(&stream, &region, &["@.*"], args, "");
        assert_code(&output, 1);
        for says in ["holds rows in bt_left.n", "take them out of `tables`"] {
            assert!(said(&output).contains(says), "{says}: {}", said(&output));
        }
    }
    assert_code(&run_list(&stream, &region, &["@.a"], &["bootstrap"], ""), 0);
    assert_same(&stream, &region, &["a"]).await;
    assert_eq!(region.value::<u32>("SELECT mine FROM bt_left.n").await, 7);
}

#[tokio::test]
async fn a_new_region_takes_what_its_list_lets_in() {
    let stream = Stream::new("bt_part", TABLES).await;
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.n VALUES (1, 'x'), (2, 'y')").await;
    dump(&stream, &["a", "n"], FULL).await;
    let region = Server::start(&[]);
    let plan = run_list(&stream, &region, &["@.a"], &["bootstrap", "--dry-run"], "");
    assert!(said(&plan).contains("leave out bt_part.n"), "{}", said(&plan));
    assert_code(&run_list(&stream, &region, &["@.a"], &["bootstrap"], ""), 0);
    assert_same(&stream, &region, &["a"]).await;
    assert!(!exists(&region, &stream, "n").await);
    // The rest comes later, from the same dump.
    stream.sql("INSERT INTO @.n VALUES (3, 'z')").await;
    stream.upload().await;
    assert_code(&run_list(&stream, &region, &["@.*"], &["apply"], ""), 0);
    assert_same(&stream, &region, &["a", "n"]).await;
    assert_clean(&region).await;
}
