//! The processor is made again in the middle of an online migration.

use super::kit::{PROCESSOR, Supervisor, World, both, primary_section};
use crate::heal::system::connect;
use crate::migrations::kit::{Session, play, setup, writer};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const TABLES: [&str; 3] = ["g.apps", "g.plans", "g.flags"];

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_processor_rebuilt_in_the_middle_of_a_gh_ost_migration_loses_nothing_of_it() {
    let primary = Server::start(&[]);
    primary.sql(&setup()).await;
    let planned = Stream::plan(&primary, &["g.*"], "").await;
    let set: Vec<&str> = TABLES.iter().flat_map(|table| ["--table", table]).collect();
    let printed = planned.run(&[&["processor", "config"], &set[..]].concat(), "");
    assert!(printed.status.success(), "{}", both(&printed));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("my.cnf");
    std::fs::write(&file, &printed.stdout).expect("write it");
    let processor = Server::start(&[&format!("--defaults-file={}", file.display())]);
    processor.replicate_from(&primary, "").await;
    processor.catch_up(&primary).await;
    let world = World::by(PROCESSOR, &processor, &primary_section(&primary), &TABLES).await;
    world.runs(&["dump", "take", "--all-tables"], 0);
    world.bootstrap();

    let writing = writer(&primary);
    let mut conn = connect(primary.port).await;
    let apps = Session::of("apps");
    let (first, second) = apps.copying().split_at(apps.copying().len() / 2);
    play(&mut conn, first).await;
    world.runs(&["upload"], 0);
    {
        let _systemd = Supervisor::of(&processor);
        let says = world.runs(&["processor", "rebuild"], 0);
        assert!(says.contains("CLONE") && says.contains("(my.cnf)") && !says.contains("FAIL"), "{says}");
    }
    play(&mut conn, second).await;
    play(&mut conn, apps.ending()).await;
    writing.end().await;
    processor.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    let head = world.stream.head().await;
    assert_eq!(primary.gtid_executed().await.difference(&head.covered).to_string(), "");
    assert!(head.dumps.iter().all(|known| !known.dump.resync), "no resync");
    assert!(primary.show_create("g.apps").await.contains("`region`"), "the migration is over");
    world.regions_are_equal_to(&primary, &["g.apps", "g.plans", "g.flags", "g._apps_del"]).await;
}
