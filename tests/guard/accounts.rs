//! `guard status` names everybody who gets past the guard, and its statements close the way.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use serde_json::Value;

use super::kit::*;
use crate::support::mysql::Server;

fn status(stream: &Stream, region: &Server) -> Value {
    let output = stream.command_of(region, &["guard", "status", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Account and privilege of each opening.
fn openings(status: &Value) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for opening in status["openings"].as_array().expect("known") {
        for privilege in opening["privileges"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            found.insert((text(&opening["account"]), text(privilege)));
        }
    }
    found
}

/// `#` stands for the schema.
const ACCOUNTS: &str = "CREATE USER g_all, g_alter, s_drop, s_wild, t_index, c_upd, by_role, by_default, by_proxy, super1, \
    replays, clean, reader; CREATE ROLE inner_role, outer_role, everybody; GRANT ALL ON *.* TO g_all; GRANT ALTER ON *.* TO g_alter; \
    GRANT DROP ON `#`.* TO s_drop; GRANT TRIGGER ON `ga\\_%`.* TO s_wild; GRANT INDEX ON #.a TO t_index; GRANT UPDATE (v) ON #.a TO c_upd; \
    GRANT ALTER ON #.b TO inner_role; GRANT inner_role TO outer_role; GRANT outer_role TO by_role, by_default; \
    SET DEFAULT ROLE ALL TO by_default; GRANT PROXY ON t_index TO by_proxy; GRANT SUPER ON *.* TO super1; \
    GRANT REPLICATION_APPLIER ON *.* TO replays; GRANT SELECT, INSERT, UPDATE, DELETE ON `#`.* TO clean; GRANT SELECT ON *.* TO reader";

#[tokio::test]
async fn every_account_that_could_still_do_it_is_named_and_each_statement_closes_its_way() {
    for partial_revokes in [0, 1] {
        let schema = ["ga_off", "ga_on"][partial_revokes];
        let stream = Stream::new(schema, TABLES).await.guarded().by_root("guard status");
        stream.upload().await;
        let region = Server::start(&[&format!("--partial-revokes={partial_revokes}")]);
        stream.apply(&region).await.unwrap();
        region.sql(&ACCOUNTS.replace('#', schema)).await;
        let found = openings(&status(&stream, &region));
        let has =
            |user: &str, privilege: &str| found.contains(&(format!("'{user}'@'%'"), privilege.to_owned()));
        for (user, privilege) in [
            ("g_all", "ALTER"),
            ("g_all", "SUPER"),
            ("g_all", "ROLE_ADMIN"),
            ("g_alter", "ALTER"),
            ("s_drop", "DROP"),
            ("t_index", "INDEX"),
            ("by_role", "ALTER"),
            ("by_default", "ALTER"),
            ("by_proxy", "PROXY"),
            ("super1", "SUPER"),
            ("replays", "REPLICATION_APPLIER"),
        ] {
            assert!(has(user, privilege), "{user} {privilege}: {found:?}");
        }
        // A pattern is one only while partial revokes are off.
        assert_eq!(has("s_wild", "TRIGGER"), partial_revokes == 0, "{found:?}");
        for user in ["clean", "reader", "c_upd", "inner_role", "outer_role"] {
            assert!(!found.iter().any(|(account, _)| account.contains(user)), "{user}: {found:?}");
        }
        assert!(found.iter().any(|(account, _)| account == "'root'@'localhost'"), "{found:?}");
        assert!(!found.iter().any(|(account, _)| account.contains("mysql.")), "{found:?}");

        region.sql("SET GLOBAL mandatory_roles = 'everybody'").await;
        region.sql(&format!("GRANT DROP ON {schema}.a TO everybody")).await;
        let found = openings(&status(&stream, &region));
        assert!(found.contains(&("'reader'@'%'".into(), "DROP".into())), "{found:?}");

        // Tablecast's own account is told apart, and it closes everything else by what it was told.
        let mut own = region.connect().await;
        for opening in status(&stream, &region)["openings"].as_array().unwrap() {
            for statement in opening["close"].as_str().unwrap().split("; ") {
                // One statement may close the way of several accounts.
                match own.query_drop(statement).await {
                    Err(mysql_async::Error::Server(error)) if matches!(error.code, 1141 | 1147) => {}
                    result => result.unwrap_or_else(|error| panic!("{statement}: {error}")),
                }
            }
        }
        let left = openings(&status(&stream, &region));
        assert!(left.is_empty(), "{left:?}");
        assert_guarded_but_readable(&stream, &region).await;
    }
}

async fn assert_guarded_but_readable(stream: &Stream, region: &Server) {
    let mut clean = login(region, "clean").await;
    let table = format!("{}.a", stream.schema);
    assert_eq!(outcome(&mut clean, &format!("INSERT INTO {table} VALUES (1, '')")).await.0, REFUSED);
    assert_eq!(outcome(&mut clean, &format!("SELECT * FROM {table}")).await.0, 0);
    for user in ["g_alter", "s_drop", "t_index", "g_all"] {
        let mut conn = login(region, user).await;
        for statement in [
            "TRUNCATE @",
            "DROP TABLE @",
            "ALTER TABLE @ ADD x INT",
            "RENAME TABLE @ TO @x",
            "CREATE INDEX i ON @ (v)",
        ] {
            let (code, said) = outcome(&mut conn, &statement.replace('@', &table)).await;
            assert!(code == DENIED || code == 1044, "{user}: {statement}: {code} {said}");
        }
    }
}

/// What `tablecast grants` prints is enough to see everybody; without it, that it is not known is said.
#[tokio::test]
async fn the_printed_grants_suffice_to_see_everybodys_and_no_password_with_them() {
    let stream = Stream::new("ga_least", TABLES).await.guarded();
    stream.upload().await;
    let region = Server::start(&["--log-bin-trust-function-creators=1"]);
    region.sql("CREATE USER tc@'%', dev@'%'; GRANT ALL ON tablecast.* TO tc@'%'").await;
    let config = stream.region_file(&region, "tc", &["@.*"]);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
        let output = command.arg("--config").arg(&config).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code().unwrap(), text.join("\n"))
    };
    let (code, status) = run(&["guard", "status"]);
    assert!(code == 0 && status.contains("who could get past the guard is not known"), "{code} {status}");
    let (_, grants) = run(&["grants"]);
    assert!(!grants.contains("authentication_string") && !grants.contains("User_attributes"), "{grants}");
    region.client(&[], grants.as_bytes()).unwrap();
    assert_eq!(run(&["apply"]).0, 0);
    region
        .sql(
            "GRANT ALTER ON ga_least.a TO dev@'%'; CREATE DATABASE tools; CREATE PROCEDURE tools.fix() DO 1; \
             CREATE USER ops@'%'; GRANT EXECUTE ON tools.* TO ops@'%'",
        )
        .await;
    let (code, status) = run(&["guard", "status"]);
    assert!(
        code == 0 && status.contains("REVOKE ALTER ON `ga_least`.`a` FROM 'dev'@'%';"),
        "{code} {status}"
    );
    assert!(status.contains("Tablecast is") && status.contains("'tc'@'%'"), "{status}");
    assert!(status.contains("procedure tools.fix: can be used by 'ops'@'%'"), "{status}");
    // What it cannot see is told.
    let unseen = "for want of a privilege: events (EVENT ON *.*), triggers (TRIGGER ON *.*), views (SHOW VIEW ON *.*).";
    assert!(status.contains(unseen) && !status.contains("not known"), "{status}");
    // To take it, the account needs the right to give; the printed comment says so.
    let (code, on) = run(&["guard", "on"]);
    assert!(code == 12 && on.contains("WITH GRANT OPTION"), "{code} {on}");
    let may_take = grants
        .lines()
        .find_map(|line| line.strip_prefix("-- ").filter(|line| line.ends_with("GRANT OPTION;")));
    region.sql(may_take.expect("it is printed")).await;
    let (code, on) = run(&["guard", "on"]);
    assert_eq!(code, 0, "{on}");
    let (_, status) = run(&["guard", "status"]);
    assert!(!status.contains("REVOKE ALTER ON `ga_least`.`a`"), "{status}");
    assert!(status.contains("GRANT ALTER ON `ga_least`.`a` TO 'dev'@'%';"), "{status}");
}
