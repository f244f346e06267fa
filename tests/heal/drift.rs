//! Drift made by hand in a region ends healed without a person, and the region tells afterwards what happened.

use std::time::Duration;

use super::system::{System, TABLES, reader, writer};

/// I4, I5, I8: whatever somebody does to a region's copy, it is right again by itself, no reader sees a broken or an older
/// state on the way, and the other region does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn drift_of_every_kind_heals_without_a_person() {
    let mut system = System::new().await;
    system.start_all();
    system
        .wait_until("the first apply", async |system| system.is_equal(0).await && system.is_equal(1).await)
        .await;
    let writing = writer(&system.primary);
    let mut reading = Vec::new();
    for (number, region) in system.regions.iter().enumerate() {
        for table in TABLES {
            reading.push(reader(region, table, number == 0 && table == "g.apps"));
        }
    }

    for (what, statement, table) in [
        ("a row is deleted", "DELETE FROM g.apps WHERE id = 2", "g.apps"),
        (
            "a row is there before the source's",
            "INSERT INTO g.flags (id, v, body) SELECT MAX(id) + 8, NULL, '0' FROM g.flags",
            "g.flags",
        ),
        ("a column is gone", "ALTER TABLE g.plans DROP COLUMN price", "g.plans"),
        ("a table is gone", "DROP TABLE g.apps", "g.apps"),
    ] {
        let before = system.run("eu", &["status"], 0);
        system.regions[0].sql(statement).await;
        system.wait_until(what, async |system| system.quarantined("eu").contains(&table.to_owned())).await;
        // I7: in the middle of healing, every process dies and is started again.
        for (name, config, args) in [
            ("eu", "eu", &["apply", "--follow"][..]),
            ("upload", "source", &["upload", "--follow"]),
            ("serve", "source", &["serve"]),
        ] {
            system.kill(name);
            system.start(name, config, args);
        }
        system.wait_until(what, async |system| system.quarantined("eu").is_empty()).await;
        assert_ne!(
            before["last_tx"],
            system.run("eu", &["status"], 0)["last_tx"],
            "{what}: the stream went on"
        );
    }

    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(writing.end().await > 20, "the writer wrote");
    system
        .wait_until("both regions equal the source", async |system| {
            system.is_equal(0).await && system.is_equal(1).await
        })
        .await;
    for reading in reading {
        assert!(reading.end().await > 20, "the reader read");
    }
    for region in &system.regions {
        for table in TABLES {
            assert_eq!(region.show_create(table).await, system.primary.show_create(table).await);
        }
    }
    // Nobody restored anything in the other region.
    let done: u64 =
        system.regions[0].value("SELECT COUNT(*) FROM tablecast.restore WHERE state = 'done'").await;
    let there: u64 =
        system.regions[1].value("SELECT COUNT(*) FROM tablecast.restore WHERE why <> 'bootstrap'").await;
    assert!(done >= 4, "{done} restores");
    assert_eq!(there, 0);
}
