//! What acts as its definer leads past the guard if the definer gets past it: `guard status` names it, with who can use it.

use serde_json::{Value, json};

use super::kit::*;
use crate::support::mysql::Server;

fn status(stream: &Stream, region: &Server) -> (String, Value) {
    let run = |arguments: &[&str]| {
        let output = stream.command_of(region, arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    (run(&["guard", "status"]), serde_json::from_str(&run(&["guard", "status", "--json"])).unwrap())
}

/// What is listed, and who can use it beside root, as its definer or another.
fn listed(status: &Value) -> Vec<(String, Vec<&str>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    status["by_definers"]
        .as_array()
        .expect("known")
        .iter()
        .map(|one| {
            let users = one["users"].as_array().unwrap().iter().map(|user| user.as_str().unwrap());
            let others = users.filter(|user| !user.starts_with("'root'")).collect();
            (format!("{} {}", text(&one["what"]), text(&one["name"])), others)
        })
        .collect()
}

/// `#` stands for the guarded schema.
const ACTING: &str = "CREATE DATABASE tools; CREATE TABLE tools.t (id INT PRIMARY KEY); CREATE USER ops, dev; \
    CREATE PROCEDURE tools.fix() TRUNCATE TABLE #.a; CREATE PROCEDURE tools.mine() SQL SECURITY INVOKER TRUNCATE TABLE #.a; \
    CREATE PROCEDURE tools.unused() DO 1; CREATE FUNCTION tools.f() RETURNS INT DETERMINISTIC RETURN 1; \
    CREATE TRIGGER tools.tr BEFORE INSERT ON tools.t FOR EACH ROW SET NEW.id = NEW.id; \
    CREATE VIEW tools.inner_v AS SELECT id, v FROM #.a; CREATE VIEW tools.v AS SELECT * FROM tools.inner_v; \
    CREATE VIEW tools.w AS SELECT * FROM tools.t; \
    CREATE EVENT tools.nightly ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DO TRUNCATE TABLE #.a; \
    CREATE EVENT tools.off ON SCHEDULE EVERY 1 DAY STARTS '2037-01-01' DISABLE DO TRUNCATE TABLE #.a; \
    GRANT EXECUTE ON PROCEDURE tools.fix TO ops; GRANT EXECUTE ON FUNCTION tools.f TO ops; \
    GRANT EXECUTE ON PROCEDURE tools.mine TO ops; GRANT SELECT, INSERT ON tools.* TO dev";

#[tokio::test]
async fn what_acts_as_somebody_who_gets_past_the_guard_is_named_and_each_statement_closes_it() {
    let (stream, region) = guarded_by_root("gd_acting").await;
    region.sql(&ACTING.replace('#', "gd_acting")).await;
    // It is a way: who may do nothing to the table empties it.
    let mut ops = login(&region, "ops").await;
    assert_eq!(outcome(&mut ops, "TRUNCATE TABLE gd_acting.a").await.0, DENIED);
    assert_eq!(outcome(&mut ops, "CALL tools.fix()").await.0, 0);
    let (text, found) = status(&stream, &region);
    let wanted =
        [("procedure tools.fix".to_owned(), vec!["'ops'@'%'"]), ("event tools.nightly".to_owned(), vec![])];
    let shown: Vec<_> = listed(&found).into_iter().filter(|one| wanted.contains(one)).collect();
    assert_eq!(shown, wanted, "{found:#}");
    // Triggers refuse what only changes rows, and what the server brings along is not a way.
    for not in ["tools.f", "tools.tr", "tools.v", "tools.w", "tools.mine", "tools.off"] {
        assert!(
            !listed(&found).iter().any(|(what, _)| what.ends_with(&format!(" {not}"))),
            "{not}: {found:#}"
        );
    }
    assert!(!listed(&found).iter().any(|(what, _)| what.contains(" sys.")), "{found:#}");
    for says in [
        "procedure tools.fix: can be used by 'ops'@'%'",
        "close: ALTER PROCEDURE `tools`.`fix` SQL SECURITY INVOKER;",
        "event tools.nightly: runs by itself",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert!(!text.contains("tools.unused"), "only who is named anyway may execute it: {text}");

    let on = stream.command_of(&region, &["guard", "on", "--mode", "grants"]).output().unwrap();
    assert_eq!(on.status.code(), Some(0), "{}", String::from_utf8_lossy(&on.stderr));
    let (_, found) = status(&stream, &region);
    for (what, user) in [
        ("procedure tools.fix", "'ops'@'%'"),
        ("function tools.f", "'ops'@'%'"),
        ("trigger tools.tr", "'dev'@'%'"),
        ("view tools.v", "'dev'@'%'"),
    ] {
        assert!(listed(&found).contains(&(what.to_owned(), vec![user])), "{what}: {found:#}");
    }
    assert!(
        !listed(&found).iter().any(|(what, _)| what == "view tools.w"),
        "it shows no such table: {found:#}"
    );
    for one in found["by_definers"].as_array().unwrap() {
        region.sql(one["close"].as_str().unwrap()).await;
    }
    let (_, found) = status(&stream, &region);
    assert_eq!(found["by_definers"], json!([]));
    assert_eq!(outcome(&mut ops, "CALL tools.fix()").await.0, DENIED);
}
