//! Waiting until a region shows a transaction of the source: `tablecast wait`, and the routines that it prints for SQL.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error as Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kit::{PATIENCE, World};
use crate::quarantine::kit::applied;
use crate::support::mysql::Server;

/// Has a DBA run what the command prints.
fn install(world: &World) {
    let printed = world.run("region.toml", &["wait", "--print-sql"]);
    assert!(printed.status.success(), "{printed:?}");
    world.region.client(&[], &printed.stdout).unwrap();
    // Once more is no error.
    world.region.client(&[], &printed.stdout).unwrap();
}

async fn call(conn: &mut Conn, set: &str, seconds: f64) -> mysql_async::Result<Option<i32>> {
    let mut result =
        conn.exec_iter("CALL tablecast.wait_for_source_gtid(NULL, ?, ?)", (set, seconds)).await?;
    let rows: Vec<i32> = result.collect().await?;
    result.drop_result().await?;
    Ok(rows.first().copied())
}

async fn executed(server: &Server) -> String {
    server.gtid_executed().await.to_string().replace('\n', "")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_waits_on_one_connection_and_outlives_its_loss() {
    let world = World::new("fr_wait", "", "").await;
    world.insert(1).await;
    let wanted = executed(&world.source).await;
    let waiting = || {
        let mut command =
            world.command("region.toml", &["wait", "--source-gtid", &wanted, "--timeout", "80s"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // Before the first apply there is nothing to look at, and that is no error.
    let child = waiting();
    let others =
        "SELECT id FROM information_schema.PROCESSLIST WHERE id <> CONNECTION_ID() AND user LIKE 'tc\\_%'";
    let mut seen = Vec::new();
    let begin = std::time::Instant::now();
    while seen.len() < 20 {
        assert!(begin.elapsed() < PATIENCE);
        let ids: Vec<u64> = world.region.rows(others).await;
        seen.extend(ids);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let last = seen[seen.len() - 1];
    assert!(seen[seen.len() - 5..].iter().all(|id| *id == last), "one connection is kept: {seen:?}");
    let _ = world.region.try_sql(&format!("KILL {last}")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.done("source.toml", &["upload"]);
    world.done("region.toml", &["apply"]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("shown after"));
}

/// A server that hangs keeps nobody beyond the time, and makes no other failure of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_ends_in_time_on_a_server_that_does_not_answer() {
    let world = World::new("fr_hangs", "", "").await;
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    world.done("region.toml", &["apply"]);
    world.insert(2).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = std::fs::read_to_string(world.path("region.toml")).unwrap();
    let (there, here) = (format!("port = {}\n", world.region.port), format!("port = {port}\n"));
    std::fs::write(world.path("hangs.toml"), text.replace(&there, &here)).unwrap();
    let answered = Arc::new(AtomicBool::new(false));
    let (server, has_answered) = (world.region.port, answered.clone());
    let proxy = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        // The position is read by a prepared statement (COM_STMT_EXECUTE), behind the login. Once that is answered the
        // command has worked, and gets no further answer.
        let mut is_read = false;
        loop {
            tokio::select! {
                Ok(n) = client.read(&mut up) => match n {
                    0 => return,
                    n => {
                        is_read |= n > 4 && up[4] == 0x17;
                        server.write_all(&up[..n]).await.unwrap();
                    }
                },
                Ok(n) = server.read(&mut down) => {
                    client.write_all(&down[..n]).await.unwrap();
                    if is_read {
                        has_answered.store(true, Ordering::Relaxed);
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    });
    let wanted = executed(&world.source).await;
    let mut command =
        world.command("hangs.toml", &["wait", "--source-gtid", &wanted, "--timeout", "4s", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").unwrap();
    proxy.abort();
    assert!(answered.load(Ordering::Relaxed), "the position was read");
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(found.contains("this region lacks"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sql_it_returns_when_the_transaction_is_visible_and_not_before() {
    let world = World::new("fr_sql", "", "").await;
    // A DBA may have made the schema before apply did.
    world.region.sql("CREATE DATABASE tablecast DEFAULT CHARACTER SET latin1").await;
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    world.done("region.toml", &["apply"]);
    install(&world);
    let mut conn = world.region.connect().await;
    let shown = executed(&world.source).await;
    assert_eq!(call(&mut conn, &shown, 0.0).await.unwrap(), Some(0));
    world.insert(2).await;
    let wanted = executed(&world.source).await;
    let early: Option<i32> =
        conn.exec_first("SELECT tablecast.shows_source_gtid('fr_sql', ?)", (&wanted,)).await.unwrap();
    assert_eq!(early, Some(1));
    for seconds in [0.3, -1e300, f64::MIN_POSITIVE] {
        assert_eq!(call(&mut conn, &wanted, seconds).await.unwrap(), Some(1), "the time is over");
    }
    // However long it may wait: it ends when its connection does. (Of a time that cannot be told it never would.)
    let named: Option<i32> =
        conn.exec_first("CALL tablecast.wait_for_source_gtid('fr_sql', ?, 1e300)", (&shown,)).await.unwrap();
    assert_eq!(named, Some(0));
    // With autocommit on and off, under every isolation.
    for (id, session) in [
        (3, "SET autocommit = 1, transaction_isolation = 'REPEATABLE-READ'"),
        (4, "SET autocommit = 0, transaction_isolation = 'REPEATABLE-READ'"),
        (5, "SET autocommit = 0, transaction_isolation = 'SERIALIZABLE', completion_type = 'CHAIN'"),
        (6, "SET autocommit = 1, transaction_isolation = 'READ-COMMITTED'"),
    ] {
        world.insert(id).await;
        let wanted = executed(&world.source).await;
        let mut conn = world.region.connect().await;
        conn.query_drop(session).await.unwrap();
        let waits = tokio::spawn(async move {
            let result = call(&mut conn, &wanted, PATIENCE.as_secs_f64()).await;
            let there: Option<u32> = conn.query_first("SELECT MAX(id) FROM fr_sql.t").await.unwrap();
            let kept: Option<String> = conn.query_first("SELECT @@transaction_isolation").await.unwrap();
            (result, there, kept)
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waits.is_finished(), "{session}: nothing has been shipped yet");
        world.done("source.toml", &["upload"]);
        world.done("region.toml", &["apply"]);
        let (result, there, kept) = waits.await.unwrap();
        assert_eq!((result.unwrap(), there), (Some(0), Some(id)), "{session}: it can be read right behind");
        assert!(session.contains(&kept.unwrap()), "{session}: the session's isolation is as it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sql_it_refuses_what_could_only_mislead() {
    let world = World::new("fr_refuse", "", "").await;
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    world.done("region.toml", &["apply"]);
    install(&world);
    let wanted = executed(&world.source).await;
    let refusal = async |conn: &mut Conn, set: &str| match call(conn, set, 1.0).await {
        Err(Failure::Server(error)) => (error.state.clone(), error.message.clone()),
        other => panic!("{other:?}"),
    };
    // An open transaction would go on seeing what it saw.
    for begin in ["START TRANSACTION", "SET autocommit = 0; SELECT COUNT(*) FROM fr_refuse.t"] {
        let mut conn = world.region.connect().await;
        conn.query_drop(begin).await.unwrap();
        let (state, message) = refusal(&mut conn, &wanted).await;
        assert_eq!(state, "25001", "{begin}: {message}");
        assert!(message.contains("COMMIT, then wait"), "{message}");
        conn.query_drop("COMMIT").await.unwrap();
        assert_eq!(call(&mut conn, &wanted, 1.0).await.unwrap(), Some(0), "{begin}");
    }
    // A transaction that is refused is still what it was.
    let mut conn = world.region.connect().await;
    conn.query_drop(
        "CREATE DATABASE own; CREATE TABLE own.t (id INT PRIMARY KEY); BEGIN; INSERT INTO own.t VALUES (1)",
    )
    .await
    .unwrap();
    refusal(&mut conn, &wanted).await;
    conn.query_drop("ROLLBACK").await.unwrap();
    assert_eq!(world.region.value::<u64>("SELECT COUNT(*) FROM own.t").await, 0);
    let (_, message) = refusal(&mut conn, "no set").await;
    assert!(message.contains("GTID"), "{message}");
    let named = conn.query_drop("CALL tablecast.wait_for_source_gtid('no such', '', 1)").await;
    assert!(named.unwrap_err().to_string().contains("no such stream"));
    world.region.sql("INSERT INTO tablecast.position (name, stream, store, seq, chain, last_tx, covered, applied_at) \
                      SELECT 'other', stream, store, seq, chain, last_tx, '', applied_at FROM tablecast.position").await;
    let (_, message) = refusal(&mut conn, &wanted).await;
    assert!(message.contains("several streams"), "{message}");
    let named: Option<i32> =
        conn.exec_first("CALL tablecast.wait_for_source_gtid('fr_refuse', ?, 1)", (&wanted,)).await.unwrap();
    assert_eq!(named, Some(0));
    // Nobody can do more by the routines than without them.
    world
        .region
        .sql(
            "CREATE USER app; GRANT EXECUTE ON PROCEDURE tablecast.wait_for_source_gtid TO app; \
             GRANT EXECUTE ON FUNCTION tablecast.shows_source_gtid TO app",
        )
        .await;
    let as_app = async || {
        let mut conn = mysql_async::Conn::new(
            mysql_async::OptsBuilder::default()
                .ip_or_hostname("127.0.0.1")
                .tcp_port(world.region.port)
                .user(Some("app")),
        )
        .await
        .unwrap();
        conn.exec_first::<i32, _, _>("CALL tablecast.wait_for_source_gtid('fr_refuse', ?, 1)", (&wanted,))
            .await
    };
    assert!(
        matches!(as_app().await, Err(Failure::Server(error)) if error.code == 1143 || error.code == 1142)
    );
    world
        .region
        .sql(
            "GRANT SELECT (name, covered) ON tablecast.position TO app; GRANT SELECT (name) ON tablecast.quarantine TO app",
        )
        .await;
    assert_eq!(as_app().await.unwrap(), Some(0), "with the grants that are printed");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sql_a_table_in_quarantine_is_told_as_the_command_tells_it() {
    let (stream, region) = applied("fr_quarantine").await;
    let printed = stream.command_of(&region, &["wait", "--print-sql"]).output().unwrap();
    region.client(&[], &printed.stdout).unwrap();
    region.sql("DELETE FROM fr_quarantine.a WHERE id = 2").await;
    stream.sql("UPDATE @.a SET v = 'new' WHERE id = 2").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let (wanted, mut conn) = (executed(stream.source).await, region.connect().await);
    // The source that tests share may have gone on: only what this stream has covered is asked for.
    let covered: String = region.value("SELECT covered FROM tablecast.position").await;
    assert!(!wanted.is_empty());
    assert_eq!(call(&mut conn, &covered, 1.0).await.unwrap(), Some(2));
}
