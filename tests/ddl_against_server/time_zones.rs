//! The time zone SYSTEM (I3): what it stands for at the source travels, not its name.

use std::path::Path;

use tablecast::Kind;
use tablecast::binlog::event::{Checksum, kind, read_event};
use tablecast::binlog::filter::{Filter, Step, SystemZone};
use tablecast::binlog::name::TableSet;
use tablecast::binlog::query::QueryEvent;
use tablecast::binlog::session::Session;

use super::Tail;
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;

const STATEMENTS: &str = "SET time_zone='SYSTEM'; \
    CREATE TABLE g.apps (id INT PRIMARY KEY, t TIMESTAMP DEFAULT '2024-06-01 12:00:00', d DATETIME); \
    INSERT INTO g.apps VALUES (1, '2024-06-01 12:00:00', NOW()); \
    ALTER TABLE g.apps MODIFY d TIMESTAMP NULL; \
    SET time_zone='Europe/Berlin'; ALTER TABLE g.apps ADD u TIMESTAMP DEFAULT '2024-06-01 12:00:00'";

/// The time zones of the kept statements.
async fn zones(server: &Server, zone: SystemZone) -> tablecast::Result<Vec<Option<String>>> {
    let set = TableSet::parse(&["g.apps"]).unwrap();
    let mut filter = Filter::new(set, Path::new(&std::env::temp_dir())).with_system_zone(zone);
    let mut zones = Vec::new();
    for event in Tail::open(server).await.events() {
        let Step::Kept(mut transaction) = filter.push(event)? else { continue };
        let mut input = transaction.events.reader()?;
        while let Some(event) = read_event(&mut input, Checksum::Crc32, "the spool")? {
            if event.kind() == kind::QUERY {
                let query = QueryEvent::parse(&event)?;
                zones.push(Session::of(event.header().timestamp, &query)?.time_zone);
            }
        }
    }
    Ok(zones)
}

#[tokio::test]
async fn i3_a_regions_host_never_decides_what_the_zone_system_means() {
    let server = Server::start(&[]);
    server.sql(&format!("CREATE DATABASE g; {STATEMENTS}")).await;
    let of = |zone: &str| Some(zone.to_owned());
    let berlin = of("Europe/Berlin");
    let written = zones(&server, SystemZone::AsWritten).await.unwrap();
    assert_eq!(written, [of("SYSTEM"), of("SYSTEM"), of("SYSTEM"), berlin.clone()]);
    let fixed = zones(&server, SystemZone::Fixed("+05:30".to_owned())).await.unwrap();
    assert_eq!(fixed, [of("+05:30"), of("+05:30"), of("+05:30"), berlin.clone()]);

    let error = zones(&server, SystemZone::Varies).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Gate);
    assert!(format!("{error:?}").contains("ran in the time zone SYSTEM"), "{error:?}");
    assert!(error.hint_text().unwrap().contains("SET PERSIST time_zone"));
    // Rows alone pass, without a zone.
    server
        .sql("FLUSH BINARY LOGS; SET time_zone='SYSTEM'; INSERT INTO g.apps (id, t) VALUES (2, '2024-06-01')")
        .await;
    assert_eq!(zones(&server, SystemZone::AsWritten).await.unwrap(), [of("SYSTEM")]);
    assert_eq!(zones(&server, SystemZone::Varies).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_source_with_one_offset_at_all_times_or_a_zone_by_name_passes_preflight() {
    let server = Server::start(&["--default-time-zone=SYSTEM"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.toml");
    let text = format!(
        "role = \"source\"\nstream = \"s\"\nstore = \"file:///nowhere\"\n\
         [mysql]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\n",
        server.port
    );
    granted::write(&path, &text, &["g.*"]);
    let config = tablecast::config::load(&path).unwrap();
    for wanted in ["time_zone is SYSTEM, which is ", "time_zone is +05:30"] {
        let checks = tablecast::source::preflight::checks(&config, None).await.unwrap();
        let check = checks.iter().find(|check| check.name == "time zone").unwrap();
        assert!(check.message.starts_with(wanted), "{check:?}");
        server.sql("SET GLOBAL time_zone='+05:30'").await;
    }
}
