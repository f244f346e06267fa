//! Disks that are full, each a small tmpfs: the spool's, and that of a region's tables. One with a region's binary log is not here:
//! MySQL looks for room once a minute. A restore without room is that of tests/restore/room.rs.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::machines::{Machines, assert_same, eu1, fact, server};
use crate::ops::kit::until;
use crate::support::mysql::Server;
use crate::support::not_tested;

/// A disk of one MiB, in a mount namespace that ends with it.
struct Disk(Child);

impl Disk {
    /// `None` where this machine lets nobody mount anything.
    async fn at(folder: &std::path::Path) -> Option<Disk> {
        std::fs::create_dir(folder).unwrap();
        let script = "mount -t tmpfs -o size=1m tmpfs \"$1\" && touch \"$1/mounted\" && exec cat >/dev/null";
        for isolated in [&["--mount"][..], &["--mount", "--user", "--map-root-user"]] {
            let mut unshare = Command::new("unshare");
            unshare.args(isolated).args(["sh", "-c", script, "sh"]).arg(folder).stderr(Stdio::null());
            // Its end ends with this process.
            unshare.stdin(Stdio::piped());
            let Ok(child) = unshare.spawn() else { continue };
            let mut disk = Disk(child);
            let mut ended = false;
            until("a disk is mounted or is not", || {
                ended = disk.0.try_wait().unwrap().is_some();
                let there = disk.path(folder).join("mounted").exists();
                async move { ended || there }
            })
            .await;
            if !ended {
                return Some(disk);
            }
        }
        None
    }

    fn path(&self, folder: &std::path::Path) -> PathBuf {
        format!("/proc/{}/root{}", self.0.id(), folder.display()).into()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_full() {
    let machines = Machines::of("disk-full");
    let [source, region] = Server::start_all([&[], &[]]);
    source.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, body LONGBLOB)").await;
    region.sql("CREATE DATABASE g").await;
    let folder = machines.path("small");
    let Some(disk) = Disk::at(&folder).await else {
        not_tested("docs/runbooks/disk-full.md", "no file system can be mounted");
        return;
    };
    assert!(region.restart_on_small_disk("g", 40, 26));
    let spool = disk.path(&folder).display().to_string();
    let cache = machines.path("cache").display().to_string();
    let files = format!("[files]\ncache_dir = \"{cache}\"\nspool_dir = \"{spool}\"\n");
    machines.config("source", &(server("mysql", &source) + &files));
    machines.config("eu1", &eu1(&region, "\"g.*\""));
    machines.runs("source", &["stream", "init", "--table", "g.apps"]).ends(0, &[]);
    source.sql("INSERT INTO g.apps VALUES (1, 'one')").await;
    for _ in 0..2 {
        machines.runs("source", &["upload"]).ends(0, &[]);
        machines.runs("eu1", &["apply"]).ends(0, &[]);
    }
    for over in ["TablecastRunFails", "TablecastNoSuccess"] {
        machines.alert(over, false);
    }

    // Of a thousand bytes each, which nothing packs.
    let rows = async |from: u32, count: u32| {
        let sql = format!(
            "SET cte_max_recursion_depth = 100000; INSERT INTO g.apps WITH RECURSIVE n (id) AS (SELECT {from} UNION ALL \
             SELECT id + 1 FROM n WHERE id < {from} + {count}) SELECT id, RANDOM_BYTES(1000) FROM n"
        );
        source.sql(&sql).await;
    };

    // The spool.
    rows(1000, 4000).await;
    for _ in 0..2 {
        machines.runs("source", &["upload"]).ends(1, &["No space left on device", &spool]);
    }
    machines.types("source", "tablecast status").ends(0, &["last error", "No space left on device"]);
    for on in ["TablecastRunFails", "TablecastNoSuccess"] {
        machines.alert(on, true);
    }
    machines.types("source", "tablecast doctor").ends(4, &["warn  spool folder", "FAIL  last run"]);
    machines
        .types_with("source", "df -h /var/cache/tablecast", &[("/var/cache/tablecast", &spool)])
        .ends(0, &["Avail"]);
    machines.page.has("spool_dir");
    machines.reconfigure("source", &spool, &machines.path("large").display().to_string());
    let ran = machines.types_with("source", "tablecast apply; echo $?", &[("apply", "upload")]);
    assert_eq!(ran.stdout.lines().last(), Some("0"), "{ran:?}");
    for over in ["TablecastRunFails", "TablecastNoSuccess"] {
        machines.alert(over, false);
    }

    // The region's data.
    rows(10_000, 12_000).await;
    machines.runs("source", &["upload"]).ends(0, &[]);
    for _ in 0..2 {
        machines.runs("eu1", &["apply"]).ends(1, &["is full", "the server has no room for it"]);
    }
    machines.types("eu1", "tablecast status").ends(0, &["last error", "is full"]);
    machines.alert("TablecastRunFails", true);
    machines.types("eu1", "tablecast doctor");
    machines.sql(&region, "SHOW BINARY LOGS;");
    std::fs::remove_file(region.ballast("g")).unwrap();

    let ran = machines.types("eu1", "tablecast apply; echo $?");
    assert_eq!(ran.stdout.lines().last(), Some("0"), "{ran:?}");
    let status = machines.types("eu1", "tablecast status").ends(0, &[]);
    assert_eq!(fact(&status, "to apply"), "nothing");
    assert!(!status.stdout.contains("last error"), "{status:?}");
    machines.alert("TablecastRunFails", false);
    assert_same(&["g.apps"], &source, &region).await;
}
