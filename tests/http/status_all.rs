//! `tablecast status --all`: the same truth as the page's, in the terminal, from the service or from the bucket.

use std::process::Output;

use serde_json::Value;
use tablecast::http::tokens::Scope;

use super::kit::{region_token, token};
use super::scene::Scene;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    #[track_caller]
    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.stdout.contains(part), "no {part:?} in:\n{}\n{}", self.stdout, self.stderr);
        }
    }
}

fn run(scene: &Scene, config: &str, args: &[&str]) -> Ran {
    Ran::of(scene.desk.command(config, &[&["status", "--all"], args].concat()).output().unwrap())
}

/// A region's config that leads to this URL.
fn region(scene: &Scene, url: &str) {
    scene.desk.write("token", &format!("{}\n", region_token("eu1").text));
    scene.desk.write(
        "region.toml",
        &format!(
            "role = \"region\"\nstream = \"apps\"\nstore = \"{}\"\n[mysql]\nhost = \"127.0.0.1\"\nport = 1\n\
             [region]\nname = \"eu1\"\ntables = [\"g.*\"]\n{}\n",
            scene.store.url(),
            match url {
                "" => String::new(),
                url => format!("source_url = \"{url}\"\ntoken_file = \"token\""),
            },
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_region_is_told_in_a_table_by_the_service_or_else_by_the_bucket_and_it_says_which() {
    let scene = Scene::silent(20).await;
    region(&scene, &scene.served.url);
    let by_service = run(&scene, "region.toml", &[]);
    assert_eq!(by_service.code, 0, "{}", by_service.stderr);
    by_service.says(&["as told by", &format!("the service, {}", scene.served.url), "REGION", "all there"]);
    by_service.says(&["!! ap1 has been silent for", "docs/runbooks/silent-region.md", "what to do next"]);
    assert!(!by_service.stdout.contains('\x1b'), "no colour but on a terminal");
    let line = |region: &str| {
        let found = by_service.stdout.lines().find(|line| line.starts_with(region));
        found.unwrap_or_else(|| panic!("{}", by_service.stdout)).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("ap1")[..4], ["ap1", "silent", "unknown", "unknown"]);
    assert_eq!((line("eu1")[1], line("us1")[1]), ("ok", "ok"));
    // The columns stand below each other.
    let at = |start: &str, text: &str| {
        by_service.stdout.lines().find(|line| line.starts_with(start)).unwrap().find(text).unwrap()
    };
    assert_eq!(at("REGION", "STATE"), at("ap1", "silent"));
    // From the source, and from a region without a service: the bucket.
    region(&scene, "");
    for config in ["source.toml", "region.toml"] {
        let ran = run(&scene, config, &["--json"]);
        let json = ran.json();
        assert_eq!((ran.code, &json["from"]["kind"]), (0, &Value::from("bucket")), "{json}");
        assert_eq!((&json["schema_version"], &json["code"]), (&1.into(), &0.into()));
        let states: Vec<_> =
            json["regions"].as_array().unwrap().iter().map(|region| region["state"].clone()).collect();
        assert_eq!(states, ["silent", "ok", "ok"]);
        assert_eq!(json["advice"][0]["runbook"], "docs/runbooks/silent-region.md");
        assert_eq!(json["advice"][0]["region"], "ap1");
    }
    // A service that does not answer: the bucket, and why.
    region(&scene, "http://127.0.0.1:9");
    let fallen_back = run(&scene, "region.toml", &[]);
    assert_eq!(fallen_back.code, 0, "{}", fallen_back.stderr);
    fallen_back.says(&["the bucket, file://", "the service cannot be reached", "ap1 has been silent"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_or_unreadable_fails_the_limit_as_who_lags_does() {
    let scene = Scene::lagging(20).await;
    let within = run(&scene, "source.toml", &["--fail-if-lag", "1h", "--json"]);
    assert_eq!(within.code, 0, "{}", within.stdout);
    let beyond = run(&scene, "source.toml", &["--fail-if-lag", "5m", "--json"]);
    assert_eq!((beyond.code, &beyond.json()["kind"]), (4, &"finding".into()));
    let message = beyond.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("us1 1") && !message.contains("eu1"), "{message}");
    scene.put("ap1", b"{", scene.now).await;
    let unread = run(&scene, "source.toml", &["--fail-if-lag", "1h"]);
    assert_eq!(unread.code, 4);
    assert!(unread.stderr.contains("ap1 unknown"), "{}", unread.stderr);
    unread.says(&["Nobody knows how ap1 is"]);
    let silent = Scene::silent(20).await;
    let ran = run(&silent, "source.toml", &["--fail-if-lag", "1d"]);
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("ap1 (silent) unknown"), "{}", ran.stderr);
    // Of whom nobody has heard nothing is known.
    let nobody = Scene::new(2).await;
    let ran = run(&nobody, "source.toml", &["--fail-if-lag", "1d"]);
    assert_eq!(ran.code, 4, "{}", ran.stdout);
    assert!(ran.stderr.contains("no region has reported"), "{}", ran.stderr);
    assert_eq!(run(&nobody, "source.toml", &[]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_quarantine_anywhere_ends_with_3_and_a_token_that_may_not_read_is_named() {
    let scene = Scene::quarantined(12).await;
    let ran = run(&scene, "source.toml", &[]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("g.apps in eu1, g.plans in eu1"), "{}", ran.stderr);
    ran.says(&[
        "2 in quarantine",
        "1 in quarantine, being restored",
        "1,204,000 of about 2,988,000",
        "1 min 35 s",
    ]);
    // The bucket would hide it.
    region(&scene, &scene.served.url);
    let few = token("few", Some("eu1"), &[Scope::Report]);
    scene.desk.write("token", &few.text);
    scene.desk.write("tokens.toml", &few.entry);
    for _ in 0..100 {
        if run(&scene, "region.toml", &[]).stderr.contains("403") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let refused = run(&scene, "region.toml", &["--json"]);
    assert_eq!(refused.code, 12, "{}", refused.stdout);
    let json = refused.json();
    assert!(json["causes"].to_string().contains("has not the scope `read`"), "{json}");
    assert!(json["hint"].as_str().unwrap().contains("tokens file"), "{json}");
}
