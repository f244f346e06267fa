//! pt-online-schema-change itself, from Debian's percona-toolkit.

use std::process::{Command, Output};

use super::kit::{become_equal, hook, setup, writer};
use crate::heal::system::System;

/// Runs the tool on a table of the primary, with our plugin.
fn pt_osc(system: &System, table: &str, alter: &str, more: &[&str], variables: &[(&str, &str)]) -> Output {
    let here = env!("CARGO_MANIFEST_DIR");
    let mut command = Command::new(format!("{here}/scripts/mysql"));
    // What `tablecast` needs in the plugin is what it needs in a hook of gh-ost.
    let with = hook(system, "gh-ost-on-before-cut-over--tablecast", table);
    command.envs(with.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.current_dir(system.path(".")).args(["extra", "percona-toolkit", "pt-online-schema-change"]);
    command.args(["--execute", "--no-version-check", "--recursion-method=none", "--charset=utf8mb4"]);
    command.args(["--chunk-size=100", "--sleep=0.05", "--alter", alter]);
    command.arg(format!("--plugin={here}/scripts/hooks/pt-online-schema-change-tablecast.pm"));
    command
        .envs(variables.iter().copied())
        .args(more)
        .arg(format!("h=127.0.0.1,P={},u=root,D=g,t={table}", system.primary.port));
    command.output().expect("run pt-online-schema-change")
}

/// I6: the tool's triggers stay at the source, and what they and the tool write goes to every region to the byte.
#[tokio::test(flavor = "multi_thread")]
async fn pt_online_schema_change_flows_to_every_region_and_its_triggers_do_not() {
    let mut system = System::of(&setup()).await;
    system.start_all();
    let writing = writer(&system.primary);

    let done = pt_osc(
        &system,
        "apps",
        "ADD COLUMN region VARCHAR(16) NOT NULL DEFAULT 'all', ADD KEY (name)",
        &[],
        &[],
    );
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("Successfully altered"), "{text}");
    assert!(text.contains("the cut-over is safe in every region"), "the plugin waited: {text}");
    // The old table is kept.
    let done = pt_osc(
        &system,
        "plans",
        "MODIFY name VARCHAR(200) NOT NULL, DROP KEY status",
        &["--no-drop-old-table"],
        &[],
    );
    assert!(done.status.success(), "{done:?}");

    // A region that is down holds it up; the tool gives up and leaves the table as it was.
    system.kill("ap");
    let refused = pt_osc(&system, "flags", "ADD COLUMN x INT", &[], &[("TABLECAST_GIVE_UP_AFTER", "3s")]);
    let text =
        String::from_utf8_lossy(&refused.stdout).into_owned() + &String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("is not safe in every region"), "{text}");
    let left = system.run("source", &["migrations"], 0);
    assert_eq!(left["migrations"][0]["ghost"], "g._flags_new", "{left:#}");
    system.primary.sql("DROP TABLE g._flags_new").await;
    system.start("ap", "ap", &["apply", "--follow"]);

    assert!(writing.end().await > 10, "the writer wrote");
    assert_eq!(become_equal(&mut system).await, ["_plans_old", "apps", "flags", "plans"]);
    let triggers = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'g'";
    for region in &system.regions {
        assert_eq!(region.value::<u64>(triggers).await, 0, "no trigger travels");
    }
    for region in ["eu", "ap"] {
        assert!(system.quarantined(region).is_empty(), "nothing was in the way");
    }
}
