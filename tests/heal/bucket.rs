//! A bucket that fails for a while in the midst of a restore costs the restore that while, and nothing else.

use std::process::Stdio;
use std::time::Duration;

use super::system::{System, TABLES, reader, writer};

/// I5, I8: first nobody can read rows of dumps, then nobody anything; every process goes on by itself, and what had
/// been begun is carried on, not begun anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fails_in_mid_restore_holds_up_no_other_table_and_the_restore_comes_back_by_itself() {
    let mut system = System::new().await;
    system.start_all();
    system
        .wait_until("the first apply", async |system| system.is_equal(0).await && system.is_equal(1).await)
        .await;
    let writing = writer(&system.primary);
    let reading: Vec<_> = TABLES.iter().map(|table| reader(&system.regions[0], table, false)).collect();

    system.s3.break_down("GetObject", ".sql.");
    system.regions[0].sql("DELETE FROM g.apps WHERE id = 2").await;
    system.wait_until("a dump is being loaded", async |system| loading(system).await == 1).await;
    let before = last_tx(&system).await;
    system.wait_until("the stream goes on", async |system| last_tx(system).await > before + 20).await;
    assert_eq!(loading(&system).await, 1, "the load waits");

    system.s3.break_down("", "");
    tokio::time::sleep(Duration::from_secs(15)).await;
    system.s3.mend();
    let before = last_tx(&system).await;
    system.wait_until("the stream goes on again", async |system| last_tx(system).await > before + 20).await;
    system.wait_until("it is healed", async |system| system.quarantined("eu").is_empty()).await;

    assert!(writing.end().await > 20, "the writer wrote");
    system
        .wait_until("both regions equal the source", async |system| {
            system.is_equal(0).await && system.is_equal(1).await
        })
        .await;
    for reading in reading {
        assert!(reading.end().await > 20, "the reader read");
    }
    let tried: Vec<(String, u32)> = system.regions[0]
        .rows("SELECT state, attempts FROM tablecast.restore WHERE why = 'quarantine'")
        .await;
    assert_eq!(tried, [("done".to_owned(), 0)], "what was begun is what has ended");
}

/// I7: the next run would have to begin again, so this one stays for what it is loading.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_from_cron_that_loads_a_dump_waits_for_the_bucket_with_what_it_has() {
    let mut system = System::new().await;
    system.start("serve", "source", &["serve"]);
    system.start("upload", "source", &["upload", "--follow"]);
    system.regions[0].sql("DELETE FROM g.apps WHERE id = 2").await;
    system.primary.sql("UPDATE g.apps SET v = 1; UPDATE g.plans SET v = 1; UPDATE g.flags SET v = 1").await;
    system
        .wait_until("the other region has it", async |system| {
            system.run("ap", &["apply"], 0);
            system.is_equal(1).await
        })
        .await;
    let run = |system: &System| {
        let mut command = system.command("eu", &["apply"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start tablecast")
    };
    system.s3.break_down("GetObject", ".sql.");
    let running = loop {
        // One that only asks for the dump ends with 3.
        let mut running = run(&system);
        while loading(&system).await == 0 && running.try_wait().expect("look at it").is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if loading(&system).await == 1 {
            break running;
        }
        let ended = running.wait_with_output().expect("wait for tablecast");
        assert_eq!(ended.status.code(), Some(3), "{}", String::from_utf8_lossy(&ended.stderr));
    };
    system.s3.break_down("", "");
    tokio::time::sleep(Duration::from_secs(10)).await;
    system.s3.mend();
    let ended = running.wait_with_output().expect("wait for tablecast");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{text}");
    assert!(text.contains("the store fails, trying again"), "{text}");
    assert!(system.is_equal(0).await);
    let tried: Vec<(String, u32)> = system.regions[0]
        .rows("SELECT state, attempts FROM tablecast.restore WHERE why = 'quarantine'")
        .await;
    assert_eq!(tried, [("done".to_owned(), 0)]);
}

async fn loading(system: &System) -> u64 {
    system.regions[0].value("SELECT COUNT(*) FROM tablecast.restore WHERE state = 'loading'").await
}

/// By the region's own position.
async fn last_tx(system: &System) -> u64 {
    system.regions[0].value("SELECT last_tx FROM tablecast.position").await
}
