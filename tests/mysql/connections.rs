//! Control connections, the raw client's login, locks.

use std::path::Path;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tablecast::config::{MysqlConfig, Tls, TlsMode};
use tablecast::mysql::wire::{Reply, Wire};
use tablecast::mysql::{Held, Lock, connect};
use tablecast::{Error, Kind};

use crate::support::mysql::Server;

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");

/// Both clients must agree on who gets in.
async fn both(config: &MysqlConfig) -> Result<(), Error> {
    let controls = connect(config).await.map(drop);
    let raw = Wire::connect(config).await.map(drop);
    match (controls, raw) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(one), Err(two)) => {
            assert_eq!(one.kind(), two.kind(), "{one:?} | {two:?}");
            Err(two)
        }
        (one, two) => panic!("the two clients differ: {one:?} | {two:?}"),
    }
}

async fn greets(config: &MysqlConfig) {
    let mut wire = Wire::connect(config).await.unwrap();
    let Reply::Rows { rows, .. } = wire.query(b"SELECT CURRENT_USER()", "ask").await.unwrap() else {
        panic!("no rows");
    };
    let user = String::from_utf8(rows[0][0].clone().unwrap()).unwrap();
    assert!(user.starts_with(&config.user), "{user}");
}

#[tokio::test]
async fn a_control_session_is_the_same_whatever_the_server_has_as_defaults() {
    let server = Server::start(&[
        "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES",
        "--default-time-zone=+09:30",
        "--character-set-server=latin1",
        "--autocommit=0",
        "--completion-type=CHAIN",
        "--transaction-isolation=READ-COMMITTED",
        "--group-concat-max-len=8",
        "--lc-time-names=de_DE",
        "--wait-timeout=3",
    ]);
    let mut conn = connect(&server.config()).await.unwrap();
    let row: (String, String, u8, String, String, String) = conn
        .query_first(
            "SELECT @@sql_mode, @@time_zone, @@autocommit, @@completion_type, @@transaction_isolation, \
             @@character_set_client",
        )
        .await
        .unwrap()
        .unwrap();
    let expected =
        ("".into(), "+00:00".into(), 1, "NO_CHAIN".into(), "REPEATABLE-READ".into(), "utf8mb4".into());
    assert_eq!(row, expected);
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal_that_names_the_account() {
    let mut config = Server::shared().config_as("root", "wrong");
    let error = both(&config).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains(&format!("root@127.0.0.1:{}", config.port)), "{error}");
    assert!(error.hint_text().is_some());
    config.user = "nobody".into();
    assert_eq!(both(&config).await.unwrap_err().kind(), Kind::Denied);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_may_pass() {
    let mut config = Server::shared().config();
    config.port = 1;
    let error = both(&config).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Mysql);
    assert!(error.is_transient());
    config.socket = Some("/nonexistent/mysqld.sock".into());
    assert_eq!(both(&config).await.unwrap_err().kind(), Kind::Mysql);
}

#[tokio::test]
async fn every_way_to_prove_a_password_works_on_every_transport() {
    let server = Server::start(&[]);
    server
        .sql(
            "CREATE USER sha2 IDENTIFIED WITH caching_sha2_password BY 'päss wörd'; \
             CREATE USER long_one IDENTIFIED WITH caching_sha2_password BY \
             'a-very-long-password-a-very-long-password-a-very-long-password-a-very-long-password'; \
             CREATE USER none IDENTIFIED WITH caching_sha2_password BY ''; \
             CREATE USER old256 IDENTIFIED WITH sha256_password BY 'old'",
        )
        .await;
    let long = "a-very-long-password-".repeat(4);
    let mut accounts = vec![
        ("sha2", "päss wörd"),
        ("long_one", long.trim_end_matches('-')),
        ("none", ""),
        ("old256", "old"),
    ];
    // MySQL 9 no longer has it.
    if server.try_sql("CREATE USER native IDENTIFIED WITH mysql_native_password BY 'native'").await.is_ok() {
        accounts.push(("native", "native"));
    }
    for (user, password) in accounts {
        for transport in ["tcp", "tls", "socket"] {
            let mut config = server.config_as(user, password);
            match transport {
                "tls" => config.tls.mode = TlsMode::Require,
                "socket" => config.socket = Some(server.socket.clone()),
                _ => {}
            }
            // What the server remembers of earlier logins decides between the full and the fast proof: once
            // with nothing remembered, once with the login just made.
            server.sql("FLUSH PRIVILEGES").await;
            greets(&config).await;
            greets(&config).await;
            let mut wrong = config.clone();
            wrong.password = server.config_as(user, "wrong").password;
            assert_eq!(Wire::connect(&wrong).await.err().map(|e| e.kind()), Some(Kind::Denied), "{user}");
            if user != "old256" {
                both(&config).await.unwrap();
            }
        }
    }
}

fn with_tls(server: &Server, host: &str, mode: TlsMode, ca: Option<&str>) -> MysqlConfig {
    let ca = ca.map(|file| Path::new(CERTIFICATES).join(file));
    MysqlConfig { host: Some(host.into()), tls: Tls { mode, ca }, ..server.config() }
}

#[tokio::test]
async fn a_certificate_is_checked_when_the_config_says_verify() {
    let file = |name: &str, option: &str| format!("--{option}={CERTIFICATES}/{name}");
    let (ca, cert, key) =
        (file("ca.pem", "ssl-ca"), file("server.pem", "ssl-cert"), file("server.key", "ssl-key"));
    let server = Server::start(&[&ca, &cert, &key, "--require-secure-transport=ON"]);

    both(&with_tls(&server, "127.0.0.1", TlsMode::Require, None)).await.unwrap();
    both(&with_tls(&server, "localhost", TlsMode::Verify, Some("ca.pem"))).await.unwrap();
    let wire = Wire::connect(&with_tls(&server, "localhost", TlsMode::Verify, Some("ca.pem"))).await.unwrap();
    assert!(wire.is_tls());

    for (host, mode, ca, why) in [
        ("127.0.0.1", TlsMode::Verify, Some("ca.pem"), "the certificate is for another host"),
        ("localhost", TlsMode::Verify, Some("other-ca.pem"), "another authority"),
        ("localhost", TlsMode::Verify, None, "no public authority"),
        ("127.0.0.1", TlsMode::Off, None, "the server wants TLS"),
    ] {
        let error = both(&with_tls(&server, host, mode, ca)).await.expect_err(why);
        assert_eq!(error.kind(), Kind::Denied, "{why}: {error:?}");
        assert!(error.hint_text().is_some(), "{why}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_the_config_wants_it() {
    let server = Server::start(&["--tls-version="]);
    let error = both(&with_tls(&server, "127.0.0.1", TlsMode::Require, None)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
}

#[tokio::test]
async fn statements_of_any_size_and_number_come_back_with_one_reply_each() {
    let mut wire = Wire::connect(&Server::shared().config()).await.unwrap();
    // Around the length at which a packet is continued in the next, both ways.
    for len in [16_777_215 - 30, 16_777_215 - 9, 16_777_215 - 8, 16_777_215, 33_554_430 - 9, 40_000_000] {
        let sql = format!("SELECT '{}'", "x".repeat(len));
        let Reply::Rows { rows, .. } = wire.query(sql.as_bytes(), "select").await.unwrap() else {
            panic!("no rows");
        };
        assert_eq!(rows[0][0].as_ref().unwrap().len(), len);
    }
    let Reply::Done(done) = wire.query(b"SET @a=1; SELECT @a, NULL; SET @b=2", "several").await.unwrap()
    else {
        panic!("no OK");
    };
    assert!(done.has_more);
    let Reply::Rows { rows, has_more } = wire.reply().await.unwrap() else { panic!("no rows") };
    assert_eq!((rows, has_more), (vec![vec![Some(b"1".to_vec()), None]], true));
    assert!(matches!(wire.reply().await.unwrap(), Reply::Done(done) if !done.has_more));

    for number in 0..50 {
        wire.queue(tablecast::mysql::wire::command::QUERY, format!("SELECT {number}").as_bytes());
    }
    wire.queue(tablecast::mysql::wire::command::QUERY, b"SELECT nonsense");
    wire.flush().await.unwrap();
    for number in 0..50 {
        let Reply::Rows { rows, .. } = wire.reply().await.unwrap() else { panic!("no rows") };
        assert_eq!(rows[0][0].as_deref(), Some(number.to_string().as_bytes()));
    }
    assert!(matches!(wire.reply().await.unwrap(), Reply::Error(error) if error.code == 1054));
}

#[tokio::test]
async fn a_lock_keeps_others_out_until_it_is_released_or_its_holder_dies() {
    let config = Server::shared().config();
    let name = "tablecast:a-stream-whose-name-is-much-longer-than-get-lock-admits-for-its-names";
    let mut first = Lock::acquire(&config, name, Duration::ZERO).await.unwrap();
    first.verify().await.unwrap();
    let refused = Lock::acquire(&config, name, Duration::from_millis(300)).await.err().unwrap();
    assert_eq!(refused.kind(), Kind::Locked);
    assert!(refused.to_string().contains("(connection "), "{refused}");
    first.release().await.unwrap();

    let mut second = Lock::acquire(&config, name, Duration::ZERO).await.unwrap();
    let waiting = tokio::spawn({
        let config = config.clone();
        async move { Lock::acquire(&config, name, Duration::from_secs(30)).await }
    });
    let holders: Vec<u64> = Server::shared()
        .rows(
            "SELECT t.PROCESSLIST_ID FROM performance_schema.metadata_locks l JOIN performance_schema.threads t \
             ON t.THREAD_ID = l.OWNER_THREAD_ID WHERE l.OBJECT_TYPE = 'USER LEVEL LOCK' \
             AND l.LOCK_STATUS = 'GRANTED' AND l.OBJECT_NAME LIKE 'tablecast:a-stream%'",
        )
        .await;
    Server::shared().sql(&format!("KILL {}", holders[0])).await;
    let third = waiting.await.unwrap().unwrap();
    assert!(second.verify().await.is_err(), "a lock whose connection was killed is not held");
    drop(third);
    Lock::acquire(&config, name, Duration::from_secs(10)).await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_read_only_server_is_a_refusal_with_a_hint() {
    let server = Server::start(&["--super-read-only=ON"]);
    let mut conn = connect(&server.config()).await.unwrap();
    let cause = conn.query_drop("CREATE DATABASE g").await.unwrap_err();
    let error = tablecast::mysql::error(cause, "create g");
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hint_text().unwrap().contains("super_read_only"));
}

#[tokio::test]
async fn a_server_and_its_replica_say_what_they_are() {
    let [source, replica] = Server::start_all([&[], &["--read-only=ON", "--binlog-row-image=MINIMAL"]]);
    replica.replicate_from(&source, "").await;
    source.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY); INSERT INTO g.t VALUES (1)").await;
    replica.catch_up(&source).await;

    let mut conn = connect(&replica.config()).await.unwrap();
    let facts = tablecast::mysql::server(&mut conn).await.unwrap();
    assert!(facts.version >= (8, 0, 0));
    assert_eq!((facts.gtid_mode.as_str(), facts.log_bin, facts.read_only), ("ON", true, true));
    assert_eq!((facts.binlog_row_image.as_str(), facts.binlog_format.as_str()), ("MINIMAL", "ROW"));
    let channels = tablecast::mysql::replica_status(&mut conn).await.unwrap();
    assert_eq!(channels.len(), 1);
    assert!(channels[0].io_running && channels[0].sql_running);
    assert_eq!(channels[0].source_port, source.port);
    let status = tablecast::mysql::binary_log_status(&mut conn).await.unwrap().unwrap();
    assert_eq!(
        status.executed.parse::<tablecast::binlog::gtid::GtidSet>().unwrap(),
        source.gtid_executed().await
    );

    replica.sql("STOP REPLICA IO_THREAD").await;
    let channels = tablecast::mysql::replica_status(&mut conn).await.unwrap();
    assert!(!channels[0].io_running && channels[0].sql_running);
    let mut conn = connect(&source.config()).await.unwrap();
    assert!(tablecast::mysql::replica_status(&mut conn).await.unwrap().is_empty());
}
