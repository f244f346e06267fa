//! Dumps that upload would never take, in a bucket whose index vouches for them: a new region reads nothing else.

use super::kit::{Dumped, LITTLE, Site, anew, new_region};

/// I6: a chunk holds rows for one table, and nothing else that a server would do.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_chunk_with_another_statement_than_rows_for_its_table_runs_nothing() {
    let dumped = Dumped::of("sc_chunks").await;
    let region = new_region("sc_chunks").await;
    let site = Site::new();
    let config = site.config(&dumped.stream, &region, &["@.apps"]);
    let rows = String::from_utf8(dumped.rows.clone()).unwrap();
    let (header, insert) = rows.split_once("INSERT INTO ").unwrap();
    let insert = format!("INSERT INTO {insert}");
    let (into, values) = insert.split_once(" VALUES").unwrap();
    assert!(values.contains("'one'"), "{insert}");
    let of_itself = |literal: &str| format!("{header}{}", insert.replace("'one'", literal));
    let key = dumped.manifest.tables[0].chunks[0].key.as_str();
    let before = site.outside(&region).await;
    for text in [
        format!("{header}DROP TABLE victim.t;\n"),
        format!("{rows}DROP TABLE victim.t;\n"),
        format!("{rows}CREATE USER evil;\n"),
        format!("{header}{} VALUES{values}", into.replace("`sc_chunks`", "`victim`")),
        format!("{header}INSERT INTO `victim`.`t` (`id`,`s`) VALUES\n(7,'evil');\n"),
        format!("{header}{} VALUES{values}", into.replace(".`", ".`x`; DROP TABLE victim.t; -- `")),
        format!("{header}{into} SELECT 1, authentication_string FROM mysql.user;\n"),
        format!("{header}{into} TABLE victim.t;\n"),
        format!("{header}REPLACE{}", &insert["INSERT".len()..]),
        format!("{header}UPDATE victim.t SET s = 'evil';\n"),
        format!("{header}DELETE FROM victim.t;\n"),
        format!(
            "{header}{}",
            insert.replace(";\n", " ON DUPLICATE KEY UPDATE name = LOAD_FILE('/etc/passwd');\n")
        ),
        of_itself("LOAD_FILE('/etc/passwd')"),
        of_itself("(SELECT s FROM victim.t)"),
        of_itself("SLEEP(1000)"),
        of_itself("@@datadir"),
        of_itself("'a' /*! , (3, USER()) */"),
        of_itself("'a\\'); DROP TABLE victim.t; -- '"),
        of_itself("'a''); DROP TABLE victim.t; -- '"),
        format!("{header}{}", insert.replace("VALUES", "VALUES /*!80000 ROW(1,USER()), */")),
        format!("{header}-- \n{insert}"),
        format!("{header}LOAD DATA INFILE '/etc/passwd' INTO TABLE victim.t;\n"),
        format!("{header}SELECT s FROM victim.t INTO OUTFILE '/tmp/tablecast-hostile';\n"),
        format!("SET GLOBAL super_read_only=0;\n{rows}"),
        format!("{header}SET GLOBAL general_log=1;\n{insert}"),
    ] {
        assert_ne!(text, rows);
        dumped.publish(&dumped.with_rows(text.as_bytes()));
        site.put(&dumped.stream);
        // The restore waits for a better dump: 3.
        let ran = site.watch(&config, "bootstrap").within(LITTLE, 3, &[key, "hint:"]);
        // What is one literal after all is none of the rows that were dumped.
        let is_told =
            ["gate: refuse a chunk", "the manifest says"].iter().any(|why| ran.stderr.contains(why));
        assert!(is_told, "{text}: {ran:?}");
        assert_eq!(site.outside(&region).await, before, "{text}");
        anew(&region, "sc_chunks").await;
    }
    // The control.
    let statement = dumped.manifest.tables[0].largest_statement;
    dumped.publish(&dumped.with_chunk(&dumped.pack(&dumped.rows), dumped.rows.len() as u64, statement));
    site.put(&dumped.stream);
    site.run(&config, "bootstrap").ends(0, &[]);
    assert_eq!(
        dumped.stream.source.checksum("sc_chunks.apps").await,
        region.checksum("sc_chunks.apps").await
    );
}

/// I6: a definition makes its own table and reaches nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_definition_that_carries_more_than_its_table_makes_nothing() {
    let dumped = Dumped::of("sc_definitions").await;
    let region = new_region("sc_definitions").await;
    let site = Site::new();
    let config = site.config(&dumped.stream, &region, &["@.apps"]);
    let before = site.outside(&region).await;
    let columns = "`id` int NOT NULL, `name` varchar(80) DEFAULT NULL, PRIMARY KEY (`id`)";
    let made = |rest: &str| format!("CREATE TABLE `apps` ({columns}) ENGINE=InnoDB{rest}");
    let with = |more: &str| format!("CREATE TABLE `apps` ({columns}, {more}) ENGINE=InnoDB");
    for text in [
        made(" DATA DIRECTORY='/tmp'"),
        made(" TABLESPACE=mysql"),
        made(" PARTITION BY HASH(id) (PARTITION p DATA DIRECTORY='/tmp')"),
        made("; DROP TABLE victim.t"),
        made(";\nCREATE USER evil IDENTIFIED BY 'x'"),
        made(" /*!; DROP TABLE victim.t */"),
        made(" /*!80000 ; GRANT ALL ON *.* TO evil */"),
        made(" AS SELECT * FROM victim.t"),
        made(" /*! AS SELECT id, s AS name FROM victim.t */"),
        format!(
            "CREATE TABLE `apps` ({columns}) ENGINE=FEDERATED CONNECTION='mysql://root@127.0.0.1/victim/t'"
        ),
        format!("CREATE TABLE `apps` ({columns}) ENGINE=CSV"),
        format!("CREATE TABLE `apps` ({columns}) ENGINE=MERGE UNION=(victim.t)"),
        format!("CREATE TABLE victim.apps ({columns})"),
        format!("CREATE TABLE `apps`.`apps` ({columns})"),
        "CREATE TABLE `apps` LIKE victim.t".to_owned(),
        with("`f` text DEFAULT (LOAD_FILE('/etc/passwd'))"),
        with("`f` text DEFAULT (/*!80000 load_file*/('/etc/passwd'))"),
        with("CONSTRAINT `k` FOREIGN KEY (`id`) REFERENCES `victim`.`t` (`id`)"),
        "INSERT INTO `apps` SELECT 1, s FROM victim.t".to_owned(),
        "CREATE VIEW `apps` AS SELECT 1 AS id, s AS name FROM victim.t".to_owned(),
    ] {
        let mut manifest = dumped.manifest.clone();
        manifest.tables[0].create_table.clone_from(&text);
        dumped.publish(&manifest);
        site.put(&dumped.stream);
        let ran = site.watch(&config, "bootstrap").within(LITTLE, 15, &["sc_definitions.apps", "hint:"]);
        assert_eq!(site.outside(&region).await, before, "{text}: {ran:?}");
    }
    // What the server itself does not take into an expression, or what makes other columns than there are rows for: nothing is
    // left of it either, whatever it is refused with.
    for text in [
        with("`f` int DEFAULT (SLEEP(1000))"),
        with("`f` int GENERATED ALWAYS AS (SLEEP(1000)) STORED"),
        with("CONSTRAINT `c` CHECK (LOAD_FILE('/etc/passwd') IS NULL)"),
        with("`f` int DEFAULT (victim.stored(1))"),
        "CREATE TABLE `apps` (`id` int)".to_owned(),
    ] {
        let mut manifest = dumped.manifest.clone();
        manifest.tables[0].create_table.clone_from(&text);
        dumped.publish(&manifest);
        site.put(&dumped.stream);
        let ran = site.run(&config, "bootstrap");
        assert!([1, 3, 15].contains(&ran.code), "{text}: {ran:?}");
        assert_eq!(site.outside(&region).await, before, "{text}: {ran:?}");
        anew(&region, "sc_definitions").await;
    }
}
