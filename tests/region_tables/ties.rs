//! Foreign keys between what has been let go of and what stays: named with what comes of them, which then comes, and with
//! the statement that mends it.

use super::kit::*;

const TABLES: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.zones (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.plans (id INT PRIMARY KEY, v VARCHAR(40), zone INT, \
                        CONSTRAINT in_zone FOREIGN KEY (zone) REFERENCES @.zones (id)); \
                      CREATE TABLE @.orders (id INT PRIMARY KEY, v VARCHAR(40), app INT); \
                      CREATE TABLE @.notes (id INT PRIMARY KEY, v VARCHAR(40), app INT)";

/// Nobody but the region has these: whoever takes a table out of the set cannot know of them.
const KEYS: &str = "ALTER TABLE @.orders ADD CONSTRAINT of_app FOREIGN KEY (app) REFERENCES @.apps (id); \
                    ALTER TABLE @.notes ADD CONSTRAINT on_app FOREIGN KEY (app) REFERENCES @.zones (id) ON DELETE CASCADE";

const ROWS: &str = "INSERT INTO @.apps VALUES (1, 'x'), (2, 'y'); INSERT INTO @.zones VALUES (1, 'x'), (2, 'y'); \
                    INSERT INTO @.plans VALUES (1, 'x', 1); INSERT INTO @.orders VALUES (1, 'x', 1); \
                    INSERT INTO @.notes VALUES (1, 'x', 2)";

#[tokio::test]
async fn a_key_of_the_regions_own_that_ties_what_goes_to_what_stays_is_named_and_mended_as_it_says() {
    let stream = Stream::new("ti_set", TABLES).await;
    let region = Server::start(&[]);
    stream.sql(ROWS).await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql(&KEYS.replace('@', "ti_set")).await;
    let doctor = run_list(&stream, &region, &["@.*"], &["doctor"], "");
    assert!(said(&doctor).contains("none ties a table of the stream to another"), "{}", said(&doctor));
    dump(&stream, &["apps", "zones", "plans", "orders", "notes"], FULL).await;
    change_set(&stream, &["@.apps", "@.zones", "@.plans"], &[], &["@.*"]).await;
    let output = run_list(&stream, &region, &["@.*"], &["apply"], "");
    assert_code(&output, 0);
    let mend = "run here: ALTER TABLE `ti_set`.`orders` DROP FOREIGN KEY `of_app`";
    let because = [
        "foreign key of_app of ti_set.orders, which this region does not follow, leads to ti_set.apps",
        "error 1451",
        "may delete or change rows of ti_set.notes here (ON DELETE CASCADE)",
        "no dump can replace ti_set.apps",
        mend,
    ];
    let status = run_list(&stream, &region, &["@.*"], &["status"], "");
    let doctor = run_list(&stream, &region, &["@.*"], &["doctor"], "");
    for output in [&output, &status, &doctor] {
        assert_code(output, 0);
        for says in because {
            assert!(said(output).contains(says), "{says}: {}", said(output));
        }
        // Both of its ends are followed.
        assert!(!said(output).contains("in_zone"), "{}", said(output));
    }
    // As told: the source's DELETE is refused here, and so is the restore, until that statement has run.
    stream.sql("DELETE FROM @.apps WHERE id = 1; INSERT INTO @.zones VALUES (3, 'z')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    assert_eq!(quarantined(&region).await, [row("apps", "conflict")]);
    dump(&stream, &["apps"], SOME).await;
    stream.apply(&region).await.unwrap();
    assert_eq!(quarantined(&region).await, [row("apps", "conflict")]);
    let json = run_list(&stream, &region, &["@.*"], &["status", "--json"], "");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let ties = json["ties"].as_array().unwrap();
    assert_eq!(ties.len(), 2, "{json:#}");
    for tie in ties {
        region.sql(tie["statement"].as_str().unwrap()).await;
    }
    stream.apply(&region).await.unwrap();
    assert_same(&stream, &region, &["apps"]).await;
    assert_eq!(quarantined(&region).await, []);
}

#[tokio::test]
async fn what_the_regions_list_lets_go_of_is_looked_at_too_in_either_direction() {
    let stream = Stream::new("ti_list", TABLES).await;
    let region = Server::start(&[]);
    stream.sql(ROWS).await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql(&KEYS.replace('@', "ti_list")).await;
    region
        .sql("CREATE DATABASE ti_own; CREATE TABLE ti_own.mine (id INT, FOREIGN KEY (id) REFERENCES ti_list.plans (id))")
        .await;
    let list = ["@.apps", "@.plans"];
    let report = apply_list(&stream, &region, &list).await;
    // The region's own table has come by nobody's leave: `status` has that key. One is of the list itself.
    assert_eq!(report.warnings.len(), 3, "{:#?}", report.warnings);
    let says = |what: &str| report.warnings.iter().any(|warning| warning.contains(what));
    assert!(says("`orders` DROP FOREIGN KEY `of_app`"), "{:#?}", report.warnings);
    assert!(says("leads to ti_list.zones, which this region does not follow"), "{:#?}", report.warnings);
    assert!(says("at the source, if it has this key too (it travels), else here"), "{:#?}", report.warnings);
    let status = run_list(&stream, &region, &list, &["status"], "");
    assert!(said(&status).contains("of ti_own.mine, which this region does not follow"), "{}", said(&status));
    // As told: a row whose parent does not come any more is refused.
    stream.sql("INSERT INTO @.zones VALUES (9, 'z'); INSERT INTO @.plans VALUES (9, 'x', 9)").await;
    stream.upload().await;
    apply_list(&stream, &region, &list).await;
    assert_eq!(quarantined(&region).await, [row("plans", "conflict")]);
}
