//! The primary goes, or the processor.

use super::machines::{Machines, assert_same, eu1, fact, server};
use super::mini::{Mini, configure, started, with_accounts};
use crate::support::mysql::Server;

const TABLES: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(40)); \
     CREATE TABLE g.plans (id INT PRIMARY KEY, price INT); CREATE DATABASE private; CREATE TABLE private.t (id INT PRIMARY KEY)";
const BOTH: [&str; 2] = ["g.apps", "g.plans"];
const LET_IN: &str = "\"g.apps\", \"g.plans\"";
const PROMOTE: &str = "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF, read_only = OFF";

/// What upload reads is the primary itself; then a replica of it, which is promoted.
#[tokio::test(flavor = "multi_thread")]
async fn fail_over_the_primary_that_is_the_source_and_to_the_source() {
    let machines = Machines::of("fail-over-the-primary");
    let [first, second, third, region] = Server::start_all([&[], &[], &[], &[]]);
    first.sql(TABLES).await;
    second.replicate_from(&first, "").await;
    machines.config("source", &server("mysql", &first));
    machines.config("eu1", &eu1(&region, LET_IN));
    machines.runs("source", &["stream", "init", "--table", "g.*"]).ends(0, &[]);
    machines.goes_on(async |n| first.sql(&format!("INSERT INTO g.apps VALUES (1{n}, 'first')")).await).await;
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    machines.alert("TablecastStreamStandsStill", false);
    second.catch_up(&first).await;
    third.replicate_from(&second, "").await;
    first.kill9();
    machines.runs("source", &["upload"]).ends(1, &[]);
    machines.types("source", "tablecast status").ends(1, &["cannot be looked at"]);
    machines.alert("TablecastStreamStandsStill", true);

    machines.sql(&second, PROMOTE);
    machines.config("source", &server("mysql", &second));
    machines.types("source", "tablecast grants").ends(0, &[]);
    second.sql("INSERT INTO g.apps VALUES (3, 'second')").await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.alert("TablecastStreamStandsStill", false);
    let status = machines.types("source", "tablecast status").ends(0, &["a primary"]);
    assert_eq!(fact(&status, "not read yet"), "0 transactions");
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&BOTH, &second, &region).await;

    // Where the processor itself was promoted: here a full replica.
    machines.config("source", &format!("{}{}", server("mysql", &third), server("primary", &second)));
    third.catch_up(&second).await;
    machines.runs("source", &["upload"]).ends(0, &[]);
    second.kill9();
    machines.sql(&third, PROMOTE);
    third.sql("INSERT INTO g.apps VALUES (4, 'third')").await;
    for _ in 0..2 {
        machines.runs("source", &["upload"]).ends(0, &["replicates from nobody", "as_of stands still"]);
    }
    machines.alert("TablecastStreamStandsStill", true);
    machines.config("source", &format!("{}{}", server("mysql", &third), server("primary", &third)));
    third.sql("INSERT INTO g.apps VALUES (5, 'third')").await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.alert("TablecastStreamStandsStill", false);
    machines.types("source", "tablecast status").ends(0, &["a primary"]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&BOTH, &third, &region).await;
}

/// A processor is pointed at the new primary, which lacks what the old one committed last.
#[tokio::test(flavor = "multi_thread")]
async fn fail_over_the_primary_behind_a_processor() {
    let replica = Server::start(&[]);
    let mini = Mini::of("fail-over-the-primary", TABLES, &BOTH, LET_IN).await;
    let machines = &mini.machines;
    replica.replicate_from(&mini.primary, "").await;
    mini.goes_on().await;
    replica.catch_up(&mini.primary).await;
    machines.alert("TablecastHistoryLost", false);
    machines.alert("TablecastStreamStandsStill", false);
    replica.sql("STOP REPLICA").await;
    mini.primary.sql("INSERT INTO g.apps VALUES (2, 'lost')").await;
    mini.flows().await;
    mini.primary.kill9();
    machines.runs("source", &["upload"]).ends(0, &[]);
    machines.alert("TablecastStreamStandsStill", true);

    machines.sql(&replica, PROMOTE);
    configure(machines, &mini.processor, &replica);
    let port = replica.port.to_string();
    machines.sql(&mini.processor, "STOP REPLICA;");
    machines.sql_with(
        &mini.processor,
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '…', SOURCE_PORT = 3306;",
        &[("…", "127.0.0.1"), ("3306", &port)],
    );
    machines.sql(&mini.processor, "START REPLICA;");
    replica.sql("INSERT INTO g.apps VALUES (3, 'new')").await;
    mini.processor.catch_up(&replica).await;
    machines.types("source", "tablecast doctor").ends(0, &[]);
    let lost = ["it does not have", "which the stream has shipped", "tablecast processor rebuild"];
    machines.types("source", "tablecast upload").ends(10, &lost);
    machines.alert("TablecastHistoryLost", true);
    machines.types("source", "tablecast status").ends(0, &["last error", "which the stream has shipped"]);

    let newest = machines.types("source", "tablecast stream ls").ends(0, &[]).stdout;
    let seq = newest.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).max();
    let seq = seq.unwrap_or_else(|| panic!("{newest}")).to_string();
    machines.types_with("source", "tablecast inspect SEQ --rows", &[("SEQ", &seq)]).ends(0, &["lost"]);
    mini.supervised(|| machines.types("source", "tablecast processor rebuild")).ends(0, &[]);
    machines.types("source", "tablecast upload --resync").ends(0, &[]);
    replica.sql("INSERT INTO g.plans VALUES (1, 1)").await;
    mini.processor.catch_up(&replica).await;
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.types("source", "tablecast status").ends(0, &["a replica"]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&BOTH, &replica, &mini.region).await;
    for over in ["TablecastHistoryLost", "TablecastStreamStandsStill"] {
        machines.alert(over, false);
    }
}

/// Its machine and its data are lost. The new one is restarted with a my.cnf that leaves a table out: nothing is lost by that
/// yet, and then something is.
#[tokio::test(flavor = "multi_thread")]
async fn rebuild_the_processor() {
    let mut mini = Mini::of("rebuild-the-processor", TABLES, &BOTH, LET_IN).await;
    mini.goes_on().await;
    let machines = &mini.machines;
    for over in [
        "TablecastStreamStandsStill",
        "TablecastRunFails",
        "TablecastStreamGap",
        "TablecastSourceFilterWrong",
    ] {
        machines.alert(over, false);
    }
    mini.primary.sql("INSERT INTO g.apps VALUES (3, 'while it is down')").await;
    let lost = std::mem::replace(&mut mini.processor, started(&mini.machines));
    let machines = &mini.machines;
    lost.kill9();
    machines.runs("source", &["upload"]).ends(1, &[]);
    machines.types("source", "tablecast status").ends(1, &["cannot be looked at"]);
    machines.alert("TablecastStreamStandsStill", true);
    machines.alert("TablecastRunFails", true);
    drop(lost);

    // 1. A new and empty one.
    configure(machines, &mini.processor, &mini.primary);
    let donor = machines.types("source", "tablecast grants --primary --processor").ends(0, &[]).stdout;
    super::machines::administrator(&mini.primary, &donor);
    mini.takes_my_cnf("tablecast processor config");
    with_accounts(
        &mini.processor,
        &machines.types("source", "tablecast grants --processor").ends(0, &[]).stdout,
    );
    // 2.
    machines.types("source", "tablecast processor rebuild --dry-run").ends(0, &["CLONE"]);
    mini.supervised(|| machines.types("source", "tablecast processor rebuild")).ends(0, &[]);
    // 3.
    machines.types("source", "tablecast upload").ends(0, &[]);
    let status = machines.types("source", "tablecast status").ends(0, &["a replica"]);
    assert!(!status.stdout.contains("warning"), "{status:?}");
    machines.types("source", "tablecast doctor").ends(0, &["restart"]);
    machines.runs("eu1", &["apply"]).ends(0, &[]);
    assert_same(&BOTH, &mini.primary, &mini.region).await;
    machines.alert("TablecastStreamStandsStill", false);
    machines.alert("TablecastRunFails", false);

    let right = mini.my_cnf();
    let wrong: Vec<&str> = right.lines().filter(|line| !line.contains("plans")).collect();
    mini.takes(&(wrong.join("\n") + "\n"));
    machines.runs("source", &["upload"]).ends(2, &["g.plans"]);
    machines.types("source", "tablecast status").ends(0, &["g.plans"]);
    machines.alert("TablecastSourceFilterWrong", true);
    machines.alert("TablecastStreamGap", false);
    mini.primary.sql("INSERT INTO g.plans VALUES (4, 4); INSERT INTO g.apps VALUES (4, 'four')").await;
    mini.processor.catch_up(&mini.primary).await;
    machines.runs("source", &["upload"]).ends(10, &["g.plans"]);
    machines.types("source", "tablecast status").ends(0, &["g.plans", "left out"]);
    machines.alert("TablecastStreamGap", true);
    machines.alert("TablecastSourceFilterWrong", false);

    mini.takes_my_cnf("tablecast processor config");
    machines.runs("source", &["upload", "--resync"]).ends(10, &["the copy of g.plans"]);
    mini.supervised(|| machines.types("source", "tablecast processor rebuild"))
        .ends(4, &["what was left out"]);
    machines.types("source", "tablecast upload --resync").ends(0, &[]);
    mini.primary.sql("INSERT INTO g.plans VALUES (5, 5)").await;
    mini.flows().await;
    assert_same(&BOTH, &mini.primary, &mini.region).await;
    machines.alert("TablecastStreamGap", false);
    machines.alert("TablecastRunFails", false);
    machines.types("source", "tablecast status").ends(0, &["a replica"]);
    // Its wrong filter cost nothing: the rest of the page is not needed.
    mini.takes(&(wrong.join("\n") + "\n"));
    let machines = &mini.machines;
    machines.runs("source", &["upload"]).ends(2, &["g.plans"]);
    mini.takes(&right);
    machines.types("source", "tablecast upload").ends(0, &[]);
    machines.alert("TablecastSourceFilterWrong", false);
}
