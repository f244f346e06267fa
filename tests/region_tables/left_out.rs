//! Tables that the region's own list does not let in: read, passed over, told; and what happens when the list changes.

use super::kit::*;

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.b (id INT PRIMARY KEY, v VARCHAR(40))";

/// I6.
#[tokio::test]
async fn i6_what_the_list_leaves_out_is_passed_over_and_told() {
    let stream = Stream::new("lo_rows", TABLES).await;
    let region = Server::start(&[]);
    region
        .sql("CREATE DATABASE lo_rows; CREATE TABLE lo_rows.b (mine INT); INSERT INTO lo_rows.b VALUES (7)")
        .await;
    stream
        .sql(
            "INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.b VALUES (1, 'x'); \
             BEGIN; UPDATE @.a SET v = 'y'; UPDATE @.b SET v = 'y'; INSERT INTO @.a VALUES (2, 'z'); COMMIT; \
             ALTER TABLE @.b ADD COLUMN more INT; CREATE TABLE @.d (id INT PRIMARY KEY); INSERT INTO @.d VALUES (1); \
             TRUNCATE TABLE @.b; CREATE TABLE @._b_gho LIKE @.b; INSERT INTO @._b_gho VALUES (1, 'x', 1); \
             RENAME TABLE @.b TO @._b_del, @._b_gho TO @.b; DROP TABLE @._b_del; INSERT INTO @.a VALUES (3, 'w')",
        )
        .await;
    stream.upload().await;
    let list = ["@.a"];
    let report = apply_list(&stream, &region, &list).await;
    assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
    let left_out: Vec<String> = report.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(left_out, ["lo_rows.b", "lo_rows.d"]);
    assert_same(&stream, &region, &["a"]).await;
    let mine: i32 = region.value("SELECT mine FROM lo_rows.b").await;
    assert_eq!(mine, 7, "a local table of the same name is nobody else's");
    assert!(!exists(&region, &stream, "d").await && !exists(&region, &stream, "_b_gho").await);
    // Nothing is wrong with that, and whoever asks is told.
    assert_code(&run_list(&stream, &region, &list, &["apply"], ""), 0);
    let status = run_list(&stream, &region, &list, &["status"], "");
    assert_code(&status, 0);
    assert!(
        said(&status).contains("lo_rows.b, lo_rows.d: not let in by this region's list"),
        "{}",
        said(&status)
    );
    let status = run_list(&stream, &region, &list, &["status", "--json"], "");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["left_out"], serde_json::json!(["lo_rows.b", "lo_rows.d"]));
    let doctor = run_list(&stream, &region, &list, &["doctor"], "");
    assert_code(&doctor, 0);
    assert!(said(&doctor).contains("does not let in lo_rows.b, lo_rows.d"), "{}", said(&doctor));
    // A name that is mistyped takes a table out: whoever looks sees it.
    let list = ["@.aa"];
    let apply = run_list(&stream, &region, &list, &["apply"], "");
    assert_code(&apply, 0);
    assert!(said(&apply).contains("no longer lets in lo_rows.a: "), "{}", said(&apply));
    for command in ["status", "doctor"] {
        let output = run_list(&stream, &region, &list, &[command], "");
        assert_code(&output, 0);
        assert!(said(&output).contains("lo_rows.aa: "), "{}", said(&output));
        assert!(said(&output).contains("the stream has no such table"), "{}", said(&output));
    }
}

/// I6.
#[tokio::test]
async fn i6_a_statement_that_names_both_does_here_what_it_can_and_nothing_else() {
    let tables = "CREATE TABLE @.a (id INT PRIMARY KEY); CREATE TABLE @.b (id INT PRIMARY KEY); \
                  CREATE TABLE @.c (id INT PRIMARY KEY); CREATE TABLE @.d (id INT PRIMARY KEY); \
                  CREATE TABLE @.e (id INT PRIMARY KEY); CREATE TABLE @.f (id INT PRIMARY KEY)";
    let stream = Stream::new("lo_both", tables).await;
    let region = Server::start(&[]);
    region
        .sql(
            "CREATE DATABASE lo_both; CREATE TABLE lo_both.b (mine INT); INSERT INTO lo_both.b VALUES (7); \
              CREATE TABLE lo_both.d2 (mine INT); INSERT INTO lo_both.d2 VALUES (8)",
        )
        .await;
    let list = ["@.a", "@.c", "@.e", "@.f", "@.g"];
    stream.sql("INSERT INTO @.a VALUES (1); INSERT INTO @.c VALUES (1); INSERT INTO @.d VALUES (1)").await;
    stream.upload().await;
    apply_list(&stream, &region, &list).await;
    stream
        .sql(
            "DROP TABLE @.a, @.b; RENAME TABLE @.c TO @.d2; INSERT INTO @.e VALUES (1), (2); \
             CREATE TABLE @.b2 (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES @.e (id)); \
             CREATE TABLE @.g LIKE @.d; INSERT INTO @.g VALUES (5); \
             ALTER TABLE @.f ADD COLUMN p INT, ADD FOREIGN KEY (p) REFERENCES @.d (id); INSERT INTO @.f VALUES (1, 1)",
        )
        .await;
    stream.upload().await;
    apply_list(&stream, &region, &list).await;
    for gone in ["a", "c", "b2", "d"] {
        assert!(!exists(&region, &stream, gone).await, "{gone}");
    }
    let mine: (i32, i32) = region.rows("SELECT x.mine, y.mine FROM lo_both.b x, lo_both.d2 y").await[0];
    assert_eq!(mine, (7, 8), "what is not let in is never touched");
    assert_same(&stream, &region, &["e"]).await;
    assert_eq!(quarantined(&region).await, [row("f", "tied"), row("g", "tied")]);
    // g comes with a dump; f cannot be made here as it is at the source, and says what would help.
    dump(&stream, &["e", "f", "g"], SOME).await;
    apply_list(&stream, &region, &list).await;
    assert_same(&stream, &region, &["g", "e"]).await;
    assert_eq!(quarantined(&region).await, [row("f", "tied")]);
    let message: String = region.value("SELECT message FROM tablecast.restore WHERE state = 'wanted'").await;
    assert!(message.contains("refers to lo_both.d, which this region's list does not let in"), "{message}");
    // Parents that are let in have children elsewhere: no reason to refuse their restore.
    assert_code(&run_list(&stream, &region, &list, &["restore", "lo_both.e"], ""), 0);
}

/// A region whose first look at the stream meets a foreign key to what it does not let in.
#[tokio::test]
async fn a_child_of_a_table_that_is_left_out_is_refused_by_name() {
    let tables = "CREATE TABLE @.p (id INT PRIMARY KEY); \
                  CREATE TABLE @.c (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES @.p (id))";
    let stream = Stream::new("lo_child", tables).await;
    let region = Server::start(&[]);
    let error = stream.apply_with(&config(&stream, &region, &["@.c"]), options()).await.unwrap_err();
    crate::apply::kit::assert_error(
        &error,
        tablecast::Kind::Gate,
        "it points at lo_child.p, which is not in this region's list",
        "add it to `tables`",
    );
}

/// I5, I3: what comes onto the list was not followed until then, whatever is there under its name.
#[tokio::test]
async fn a_table_that_the_list_lets_in_later_comes_with_a_dump() {
    let stream = Stream::new("lo_later", TABLES).await.stopping();
    let region = Server::start(&[]);
    region.sql(&format!("CREATE DATABASE lo_later; {}", TABLES.replace('@', "lo_later"))).await;
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.b VALUES (1, 'x'), (2, 'y')").await;
    stream.upload().await;
    apply_list(&stream, &region, &["@.a"]).await;
    region.sql("INSERT INTO lo_later.b VALUES (1, 'stale')").await;
    // The list alone changes, and nothing new is in the stream.
    let plan = run_list(&stream, &region, &["@.a", "@.b"], &["apply", "--dry-run"], "");
    assert!(said(&plan).contains("put lo_later.b into quarantine until a dump brings it"), "{}", said(&plan));
    assert_eq!(quarantined(&region).await, []);
    let output = run_list(&stream, &region, &["@.a", "@.b"], &["apply"], "");
    assert_code(&output, 3);
    assert_eq!(quarantined(&region).await, [row("b", "own")]);
    stream.sql("INSERT INTO @.b VALUES (3, 'z'); INSERT INTO @.a VALUES (2, 'y')").await;
    stream.upload().await;
    apply_list(&stream, &region, &["@.a", "@.b"]).await;
    assert_eq!(all(&region, &stream, "b").await, [(1, Some("stale".to_owned()))]);
    assert_same(&stream, &region, &["a"]).await;
    dump(&stream, &["b"], SOME).await;
    // It was never the stream's: nobody but a person has it replaced, or puts it out of the way.
    assert_code(&run_list(&stream, &region, &["@.a", "@.b"], &["apply"], ""), 3);
    region.sql("TRUNCATE TABLE lo_later.b").await;
    let output = run_list(&stream, &region, &["@.a", "@.b"], &["apply"], "");
    assert_code(&output, 0);
    assert!(said(&output).contains("restored lo_later.b: 3 rows from dump"), "{}", said(&output));
    assert_clean(&region).await;
    assert_same(&stream, &region, &["a", "b"]).await;

    // Off the list again: as it is, whatever comes, and no quarantine.
    stream.sql("INSERT INTO @.b VALUES (4, 'w')").await;
    stream.upload().await;
    let report = apply_list(&stream, &region, &["@.a"]).await;
    assert_eq!((report.left_out.len(), report.quarantined.len()), (1, 0));
    stream.sql("DELETE FROM @.b WHERE id < 3; INSERT INTO @.a VALUES (3, 'z')").await;
    stream.upload().await;
    apply_list(&stream, &region, &["@.a"]).await;
    assert_eq!(all(&region, &stream, "b").await.len(), 3);
    // And on it: the dump that is there and the stream behind it bring it at once.
    apply_list(&stream, &region, &["@.*"]).await;
    assert_clean(&region).await;
    assert_same(&stream, &region, &["a", "b"]).await;
}

/// A quarantine ends with the place on the list, and nothing of it is forgotten when the table comes back.
#[tokio::test]
async fn a_table_in_quarantine_that_goes_off_the_list_comes_back_by_a_dump_only() {
    let stream = Stream::new("lo_held", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.b VALUES (1, 'x')").await;
    stream.upload().await;
    apply_list(&stream, &region, &["@.*"]).await;
    region.sql("DELETE FROM lo_held.b").await;
    stream.sql("UPDATE @.b SET v = 'y'").await;
    stream.upload().await;
    apply_list(&stream, &region, &["@.*"]).await;
    assert_eq!(quarantined(&region).await, [row("b", "conflict")]);
    apply_list(&stream, &region, &["@.a"]).await;
    assert_eq!(quarantined(&region).await, []);
    assert_eq!(restores(&region).await, [("superseded".to_owned(), "quarantine".to_owned())]);
    apply_list(&stream, &region, &["@.*"]).await;
    assert_eq!(quarantined(&region).await, [row("b", "let_in")]);
    dump(&stream, &["a", "b"], FULL).await;
    apply_list(&stream, &region, &["@.*"]).await;
    assert_same(&stream, &region, &["a", "b"]).await;
    assert_clean(&region).await;
}

/// A dump for every region, in a region that takes part of it.
#[tokio::test]
async fn a_mandatory_dump_brings_what_the_list_lets_in() {
    let stream = Stream::new("lo_whole", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.b VALUES (1, 'x')").await;
    stream.upload().await;
    apply_list(&stream, &region, &["@.a"]).await;
    dump(&stream, &["a", "b"], MANDATORY).await;
    stream.sql("INSERT INTO @.a VALUES (2, 'x'); INSERT INTO @.b VALUES (2, 'x')").await;
    stream.upload().await;
    let report = apply_list(&stream, &region, &["@.a"]).await;
    assert_eq!(restores(&region).await, [("done".to_owned(), "mandatory".to_owned())]);
    assert_eq!(report.restored[0].tables, ["lo_whole.a"]);
    assert!(!exists(&region, &stream, "b").await);
    assert_same(&stream, &region, &["a"]).await;
    // One that holds nothing for it is nothing to wait for.
    dump(&stream, &["b"], MANDATORY_SOME).await;
    apply_list(&stream, &region, &["@.a"]).await;
    assert_eq!(restores(&region).await.len(), 1);
}

const MANDATORY_SOME: crate::restore::kit::Kind =
    crate::restore::kit::Kind { full: false, mandatory: true, resync: false };
