//! Passwords and tokens that do not fit any more, and new ones. S3's keys and the service's certificate are not tried here: the S3
//! server of these tests knows one key, and tests/http replaces certificates.

use super::machines::{Machines, eu1, server_as, token};
use crate::ops::kit::until;
use crate::support::mysql::Server;

const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); \
     CREATE USER tablecast@'%' IDENTIFIED BY 'old'; GRANT ALL ON *.* TO tablecast@'%'; \
     CREATE USER donor@'%' IDENTIFIED BY 'old'; GRANT ALL ON *.* TO donor@'%'";

#[tokio::test(flavor = "multi_thread")]
async fn rotate_credentials_and_tokens() {
    let machines = Machines::of("rotate-credentials-and-tokens");
    let [primary, source, region] = Server::start_all([&[], &[], &[]]);
    primary.sql(SETUP).await;
    source.replicate_from(&primary, "").await;
    source.catch_up(&primary).await;
    source
        .sql("STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_USER = 'donor', SOURCE_PASSWORD = 'old'; START REPLICA")
        .await;
    machines.secret("mysql.pw", "old");
    machines.secret("primary.pw", "old");
    let [serve, reports] = machines.service();
    let account = |section, server, user, file| {
        server_as(section, server, user, &format!("password_file = \"{}\"\n", machines.path(file).display()))
    };
    let accounts = account("mysql", &source, "tablecast", "mysql.pw")
        + &account("primary", &primary, "donor", "primary.pw");
    machines.config("source", &(accounts + &serve));
    machines.config("eu1", &(eu1(&region, "\"g.apps\"") + &reports));
    let (old, old_entry) =
        token(&machines.runs("source", &["token", "--region", "eu1", "--name", "eu1-2025"]));
    machines.secret("eu1.token", &old);
    machines.secret("tokens.toml", &old_entry);
    machines.runs("source", &["stream", "init", "--table", "g.apps"]).ends(0, &[]);
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    machines.alert("TablecastDenied", false);
    let service = machines.serve().await;

    // Somebody has changed it, and told nobody.
    primary.sql("ALTER USER tablecast@'%' IDENTIFIED BY 'unknown'; INSERT INTO g.apps VALUES (1)").await;
    source.catch_up(&primary).await;
    machines.runs("source", &["upload"]).ends(12, &["Access denied for user 'tablecast'"]);
    machines.types("source", "tablecast status").ends(12, &["Access denied"]);
    machines.alert("TablecastDenied", true);
    machines.types("source", "tablecast doctor").ends(4, &["Access denied"]);
    machines.types("source", "tablecast config show").ends(0, &["mysql.pw"]);

    // MySQL's password, with both good for a while.
    let retain = "ALTER USER tablecast@'%' IDENTIFIED BY '…' RETAIN CURRENT PASSWORD;";
    let discard = "ALTER USER tablecast@'%' DISCARD OLD PASSWORD;";
    machines.sql_with(&primary, retain, &[("…", "new")]);
    source.catch_up(&primary).await;
    machines.secret("mysql.pw", "unknown");
    machines.types("source", "tablecast doctor").ends(0, &[]);
    machines.secret("mysql.pw", "new");
    machines.types("source", "tablecast doctor").ends(0, &[]);
    machines.sql(&primary, discard);
    source.catch_up(&primary).await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.alert("TablecastDenied", false);

    // That of [primary], by which the source replicates.
    machines.sql_with(&primary, retain, &[("tablecast", "donor"), ("…", "new")]);
    machines.secret("primary.pw", "new");
    machines.types("source", "tablecast doctor").ends(0, &[]);
    let replicate = "STOP REPLICA; CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD = '…'; START REPLICA";
    machines.sql_with(&source, replicate, &[("…", "new")]);
    machines.sql_with(&primary, discard, &[("tablecast", "donor")]);
    source.sql("STOP REPLICA; START REPLICA").await;
    primary.sql("INSERT INTO g.apps VALUES (2)").await;
    source.catch_up(&primary).await;

    // The region's token.
    machines.types("eu1", "tablecast doctor").ends(0, &["as token \"eu1-2025\""]);
    let fresh = machines.types("source", "tablecast token --region eu1 --name eu1-2026").ends(0, &[]);
    let (new, new_entry) = token(&fresh);
    machines.secret("tokens.toml", &(old_entry + &new_entry));
    machines.types("eu1", "tablecast doctor").ends(0, &["as token \"eu1-2025\""]);
    machines.secret("eu1.token", &new);
    until("the service takes up the new entry", || async {
        machines.types("eu1", "tablecast doctor").stdout.contains("as token \"eu1-2026\"")
    })
    .await;
    machines.secret("tokens.toml", &new_entry);
    machines.secret("eu1.token", &old);
    until("the service refuses the old token", || async {
        machines.types("eu1", "tablecast doctor").code == 4
    })
    .await;
    machines.secret("eu1.token", &new);

    // Verify.
    for machine in ["source", "eu1"] {
        let ran = machines.types(machine, "tablecast doctor; echo $?");
        assert_eq!(ran.stdout.lines().last(), Some("0"), "{ran:?}");
    }
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    super::machines::assert_same(&["g.apps"], &primary, &region).await;
    service.end().await;
}
