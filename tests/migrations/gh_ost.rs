//! The recorded gh-ost session: whole, interrupted and begun again, with a region that is down, and with one that is
//! made in the middle of it.

use serde_json::{Value, json};

use super::kit::{Session, arrived, become_equal, hook, play, setup, writer};
use crate::heal::system::{System, connect};

fn one<'a>(answer: &'a Value, table: &str) -> &'a Value {
    let migrations = answer["migrations"].as_array().expect("migrations");
    migrations.iter().find(|one| one["table"] == table).unwrap_or_else(|| panic!("no {table}: {answer:#}"))
}

fn region<'a>(migration: &'a Value, name: &str) -> &'a Value {
    let regions = migration["regions"].as_array().expect("regions");
    regions.iter().find(|one| one["region"] == name).unwrap_or_else(|| panic!("no {name}: {migration:#}"))
}

/// I3, I4: a migration flows to every region to the byte, also one that was given up and begun again, and a region
/// that is down for the whole of it has nothing to catch up with by hand. Meanwhile `migrations` and the hooks tell how far the regions are.
#[tokio::test(flavor = "multi_thread")]
async fn gh_ost_flows_to_every_region_and_waits_for_them_where_it_is_asked_to() {
    let mut system = System::of(&setup()).await;
    system.start_all();
    let mut conn = connect(system.primary.port).await;
    let writing = writer(&system.primary);
    let none = system.run("source", &["migrations"], 0);
    assert_eq!((&none["migrations"], &none["leftovers"]), (&json!([]), &json!([])), "{none:#}");
    assert!(hook(&system, "gh-ost-on-validated--tablecast", "apps").status().unwrap().success());

    // A whole one, with the hook before the cut-over.
    let apps = Session::of("apps");
    play(&mut conn, apps.copying()).await;
    system
        .wait_until("both regions have reported", async |system| {
            let seen = system.run("source", &["migrations"], 0);
            one(&seen, "g.apps")["regions"].as_array().is_some_and(|regions| regions.len() == 2)
        })
        .await;
    let seen = system.run("source", &["migrations"], 0);
    let migration = one(&seen, "g.apps");
    assert_eq!(
        (&migration["tool"], &migration["ghost"]),
        (&json!("gh-ost"), &json!("g._apps_gho")),
        "{seen:#}"
    );
    assert_eq!(migration["regions"].as_array().unwrap().len(), 2, "{seen:#}");
    let waited = hook(&system, "gh-ost-on-before-cut-over--tablecast", "apps").output().unwrap();
    assert!(waited.status.success(), "{waited:?}");
    // The same from a region, over HTTP: against a state that was there.
    let client = crate::http::kit::client();
    let path = system.url(&format!("/v1/migrations/g.apps?executed={}", seen["executed"].as_str().unwrap()));
    let told: Value =
        client.get(path).bearer_auth(system.token("eu")).send().await.unwrap().json().await.unwrap();
    assert_eq!((&told["safe"], &told["held_up_by"]), (&json!(true), &json!([])), "{told:#}");
    // To people it is shown as well, beside the upload that runs. A source that does not answer at once is asked later.
    let mut page = String::new();
    for _ in 0..90 {
        let shown =
            client.get(system.url("/")).basic_auth("x", Some(system.token("eu"))).send().await.unwrap();
        page = shown.text().await.unwrap();
        if page.contains("<dd>running</dd>") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    for part in ["<dd>running</dd>", "scope=\"row\">g.apps</th>", "data-label=\"Tool\">gh-ost</td>"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let all = system.run("eu", &["status", "--all"], 0);
    assert_eq!(all["from"]["kind"], "service", "{all:#}");
    assert_eq!(all["regions"].as_array().unwrap().len(), 2, "{all:#}");
    play(&mut conn, apps.ending()).await;

    // One that was interrupted, with a region down from before its beginning to behind its end.
    system.kill("ap");
    let plans = Session::of("plans").with_timestamp();
    let half = plans.copying().len() / 2;
    play(&mut conn, &plans.copying()[..half]).await;
    play(&mut conn, &["DROP TABLE IF EXISTS g._plans_gho".to_owned()]).await;
    play(&mut conn, plans.copying()).await;
    arrived(&mut system, 0).await;
    let late = system.run("source", &["migrations", "g.plans", "--wait-safe", "--timeout", "4s"], 4);
    let migration = one(&late, "g.plans");
    assert_eq!(region(migration, "ap")["state"], "behind", "{late:#}");
    assert!(late["message"].as_str().unwrap().contains("region ap: behind by"), "{late:#}");
    system.run("source", &["migrations", "g.plans", "--wait-safe", "--ignore-region", "ap"], 0);
    system.run("source", &["migrations", "g.plans", "--ignore-region", "pa"], 2);

    // gh-ost keeps from cutting over as long as a file is there. The hook's parent is this process, as gh-ost would be.
    let flag = system.path("postpone");
    std::fs::write(&flag, "").unwrap();
    let postponed = hook(&system, "gh-ost-on-begin-postponed--tablecast", "plans")
        .env("TABLECAST_POSTPONE_FLAG", &flag)
        .output()
        .unwrap();
    assert!(postponed.status.success(), "{postponed:?}");
    assert!(flag.exists(), "a region is down");
    system.start("ap", "ap", &["apply", "--follow"]);
    system.wait_until("the flag is removed", async |_| !flag.exists()).await;
    play(&mut conn, plans.ending()).await;

    // What is left of the first is dropped later.
    let left = system.run("source", &["migrations"], 0);
    let names = [json!("g._apps_del"), json!("g._plans_20251121081530_del")];
    let left: Vec<&Value> = left["leftovers"].as_array().unwrap().iter().map(|left| &left["table"]).collect();
    assert_eq!(left, names.iter().collect::<Vec<_>>());
    play(&mut conn, &["DROP TABLE g._apps_del".to_owned()]).await;
    assert!(writing.end().await > 10, "the writer wrote");
    let names = become_equal(&mut system).await;
    assert_eq!(names, ["_plans_20251121081530_del", "apps", "flags", "plans"]);
    for region in ["eu", "ap"] {
        assert!(system.quarantined(region).is_empty(), "nothing was in the way");
    }
}

/// I5: a region that is made from a dump in the middle of a migration has no ghost table. It is told as unsafe, the
/// cut-over does not put a table into its place that lacks rows, and a dump brings the table without a person.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_made_in_the_middle_of_a_migration_is_told_and_mends_itself() {
    let mut system = System::of(&setup()).await;
    system.start_all();
    let mut conn = connect(system.primary.port).await;
    let writing = writer(&system.primary);
    let session = Session::of("apps");
    let half = session.copying().len() / 2;
    play(&mut conn, &session.copying()[..half]).await;

    system.kill("ap");
    system.regions[1].sql("DROP DATABASE g; DROP DATABASE tablecast; RESET BINARY LOGS AND GTIDS").await;
    system.run("source", &["dump", "take", "--all-tables"], 0);
    system.run("ap", &["bootstrap"], 0);
    system.start("ap", "ap", &["apply", "--follow"]);
    arrived(&mut system, 1).await;
    // Before anything of the ghost has come its way, and after. Until a region has what has been written so far it is told as
    // behind.
    let late = async |system: &mut System, ap: &[&str], eu: &[&str]| {
        let asked = ["migrations", "g.apps", "--wait-safe", "--timeout", "8s"];
        system
            .wait_until(&format!("ap is told as {ap:?}, eu as {eu:?}"), async |system| {
                let answer = system.run("source", &asked, 4);
                let is = |name, one_of: &[&str]| {
                    let state = &region(one(&answer, "g.apps"), name)["state"];
                    one_of.iter().any(|it| state == it)
                };
                is("ap", ap) && is("eu", eu)
            })
            .await;
    };
    late(&mut system, &["no-ghost", "quarantined"], &["complete", "behind"]).await;
    play(&mut conn, &session.copying()[half..]).await;
    system
        .wait_until("the ghost that is not there is noticed", async |system| {
            system.quarantined("ap").contains(&"g._apps_gho".to_owned())
        })
        .await;
    late(&mut system, &["quarantined"], &["complete"]).await;
    system.run("source", &["migrations", "g.apps", "--wait-safe", "--ignore-region", "ap"], 0);

    play(&mut conn, session.ending()).await;
    let done = "SELECT COUNT(*) FROM tablecast.restore WHERE state = 'done' AND why = 'quarantine'";
    system
        .wait_until("a dump brings the table", async |system| {
            system.regions[1].value::<u64>(done).await > 0
                && !system.quarantined("ap").contains(&"g.apps".to_owned())
        })
        .await;
    // The old table never was there. It is told until it is gone at the source.
    assert_eq!(system.quarantined("ap"), ["g._apps_del"]);
    play(&mut conn, &["DROP TABLE g._apps_del".to_owned()]).await;
    assert!(writing.end().await > 10, "the writer wrote");
    assert_eq!(become_equal(&mut system).await, ["apps", "flags", "plans"]);
    assert!(system.quarantined("ap").is_empty());
    assert_eq!(system.regions[0].value::<u64>(done).await, 0, "the other region noticed nothing");
}
