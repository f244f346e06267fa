//! The page for people, in a real browser: what it says in each state, with and without a script, and that nothing which
//! somebody else wrote becomes a part of it. TABLECAST_SCREENSHOTS=FOLDER also writes pictures of the four states.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use tablecast::stream::{Refused, ReportedQuarantine, RequestState, StreamTx};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::kit::{Answer, client, region_token};
use super::scene::Scene;
use crate::support::browser::{self, DESKTOP, View};

/// What a reader reads: without tags, styles and scripts, with single spaces.
fn text(document: &str) -> String {
    let mut text = String::new();
    let mut rest = document;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let skip = ["script", "style", "title"].iter().find(|name| rest[1..].starts_with(*name));
        let end = match skip {
            Some(name) => rest.find(&format!("</{name}>")).map_or(rest.len(), |at| at + name.len() + 3),
            None => rest.find('>').map_or(rest.len(), |at| at + 1),
        };
        rest = &rest[end..];
        text.push(' ');
    }
    text.push_str(rest);
    let text = text.replace("&nbsp;", " ").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(document: &str, parts: &[&str]) {
    let text = text(document);
    for part in parts {
        assert!(text.contains(part), "the page does not say {part:?}:\n{text}");
    }
}

/// The row of a region in the first table.
fn row<'a>(document: &'a str, region: &str) -> &'a str {
    let at =
        document.find(&format!("href=\"#region-{region}\"")).unwrap_or_else(|| panic!("no row of {region}"));
    document[at..].split("</tr>").next().unwrap()
}

/// How many minutes a scene has behind it: an hour where somebody looks at its picture.
fn minutes() -> i64 {
    if std::env::var_os("TABLECAST_SCREENSHOTS").is_some() { 75 } else { 12 }
}

/// Writes the pictures of a state, if somebody wants them.
fn pictures(scene: &Scene, name: &str, height: u32) {
    let Some(folder) = std::env::var_os("TABLECAST_SCREENSHOTS") else { return };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).unwrap();
    let view = |suffix: &str, view: View| {
        browser::picture(&scene.url("/"), view, &folder.join(format!("{name}-{suffix}.png")));
    };
    view("light", View { height, ..DESKTOP });
    view("dark", View { height, is_dark: true, ..DESKTOP });
    view("phone", View { width: 360, height: 2_600, ..DESKTOP });
}

#[tokio::test(flavor = "multi_thread")]
async fn all_well_is_one_glance() {
    let scene = Scene::all_well(minutes()).await;
    let page = browser::document(&scene.url("/"), DESKTOP);
    says(
        &page,
        &["All is well: 3 of 3 regions are up to date", "refreshed", "Upload unknown", "MySQL did not tell"],
    );
    assert!(!page.contains("What to do next"), "{page}");
    for region in ["ap1", "eu1", "us1"] {
        says(row(&page, region), &["ok", "nothing", "all there", "ago"]);
        assert!(page.contains(&format!("aria-label=\"Lag of {region} over the last hour: last ")), "{page}");
    }
    // What the service saw of the hour, and of the stream what its own entries tell.
    says(&page, &["Applied a minute", "Shipped a minute"]);
    assert!(!page.contains("Shipped a minute</strong> last unknown"), "{page}");
    assert!(page.contains("class=\"line\" d=\"M"), "{page}");
    // Without a script it is the same page, which loads itself again; on a phone nothing is wider than the window.
    let plain = browser::tab::without_script(&scene.url("/"), 360);
    let parts = ["All is well: 3 of 3 regions are up to date", "loads itself again every 15 seconds"];
    says(&plain.document, &parts);
    assert!(!text(&plain.document).contains("refreshed"), "{}", plain.document);
    assert!(plain.document.contains("<meta http-equiv=\"refresh\""), "{}", plain.document);
    assert_eq!(plain.widths, (360, 360));
    pictures(&scene, "all-well", 1_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_lags_says_by_how_much_and_where_to_look() {
    let scene = Scene::lagging(minutes()).await;
    let page = browser::document(&scene.url("/?hours=6"), DESKTOP);
    says(
        &page,
        &[
            "1 thing is worth a look",
            "us1 is 1",
            "behind the source, with",
            "Is tablecast apply running there?",
        ],
    );
    says(row(&page, "us1"), &["behind", "min", "entries"]);
    says(row(&page, "eu1"), &["ok", "nothing"]);
    assert!(page.contains("<a href=\"/runbooks/lagging-region\">Runbook: A region lags</a>"), "{page}");
    assert!(page.contains("aria-current=\"true\">6 h"), "{page}");
    pictures(&scene, "lagging", 1_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_in_quarantine_and_their_dumps_are_told_with_how_far_they_are() {
    let scene = Scene::quarantined(minutes()).await;
    let page = browser::document(&scene.url("/"), DESKTOP);
    says(
        &page,
        &[
            "1 thing needs attention, 2 more worth a look; 1 of 3 regions are up to date",
            "g.plans is in quarantine in eu1: it grows stale, and no dump is asked for",
            "tablecast restore g.plans",
            "g.apps is in quarantine in eu1, waiting for a dump that is asked for",
            "g.partners is being restored in ap1",
            "error 1062: Duplicate entry",
            "184,220 of about 402,118 (45 %)",
            "1,204,000 of about 2,988,000 (40 %)",
            "about 1 min 35 s",
            "row 17 is not there",
        ],
    );
    says(row(&page, "eu1"), &["quarantined", "2 in quarantine"]);
    assert!(page.contains("/runbooks/quarantined-table#mend"), "{page}");
    let phone = browser::tab::without_script(&scene.url("/"), 360);
    assert_eq!(phone.widths, (360, 360));
    pictures(&scene, "quarantined", 2_350);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_region_stays_listed_and_nothing_of_it_is_a_number_that_nobody_knows() {
    let scene = Scene::silent(minutes().max(20)).await;
    let page = browser::document(&scene.url("/"), DESKTOP);
    says(
        &page,
        &[
            "1 thing needs attention; 2 of 3 regions are up to date",
            "ap1 has been silent for",
            "tablecast doctor",
            "when last heard: the source as of",
        ],
    );
    let silent = row(&page, "ap1");
    says(silent, &["silent", "min"]);
    assert_eq!(text(silent).matches("unknown").count(), 3, "lag, to apply, tables: {silent}");
    assert!(page.contains("<rect class=\"gap\""), "the time without a report is hatched: {page}");
    assert!(page.contains("/runbooks/silent-region"), "{page}");
    pictures(&scene, "silent", 1_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_refusals_failures_and_what_cannot_be_read_are_told_with_who_and_why() {
    let mut scene = Scene::new(8).await;
    scene.head.paused = Some(scene.pause("the primary moves house"));
    scene.head.refused = Some(Refused {
        why: "a statement that mixes tables of the set with others".into(),
        hint: "`tablecast upload --resync` goes on behind it".into(),
        found_at: scene.now,
    });
    scene.write().await;
    let soon = TimeDelta::seconds(5);
    scene
        .report("eu1", soon, soon, |report| report.paused = Some(scene.pause("a backup of the region")))
        .await;
    let failure = scene.failure("history", "take a dump of it");
    scene
        .report("us1", soon, soon, |report| {
            report.last_error = Some("apply of apps: the chain is broken at entry 7".into());
            report.failure = Some(failure);
        })
        .await;
    scene.put("ap1", b"{", scene.now).await;
    scene.report("sa1", soon, soon, |report| report.reported_at += TimeDelta::minutes(7)).await;
    let page = browser::document(&scene.url("/"), DESKTOP);
    says(
        &page,
        &[
            "Source ■ stopped",
            "Upload has stopped since",
            "a statement that mixes tables",
            "Upload is paused by ada@db3 since",
            "until somebody resumes it: the primary moves house",
            "Apply in eu1 is paused by ada@db3",
            "The last run in us1 failed: apply of apps: the chain is broken at entry 7",
            "take a dump of it",
            "Nobody knows how ap1 is: its last report cannot be read",
            "The clock of sa1 is about 7 min",
        ],
    );
    says(row(&page, "us1"), &["failing"]);
    for runbook in ["gate-refusal", "history-lost", "clock-skew", "pause"] {
        assert!(page.contains(&format!("/runbooks/{runbook}\"")), "{runbook}: {page}");
    }
    // Of a region that nobody can read nothing is a number.
    let unread = text(&page);
    let row = unread.split("ap1 ? unknown").nth(1).unwrap_or_else(|| panic!("{unread}"));
    assert!(row.trim_start().starts_with("unknown unknown"), "{row}");
}

/// I6's cousin for readers: whatever a region, an error or a reason says is text.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_text_and_never_a_part_of_the_page() {
    let scene = Scene::new(4).await;
    let hostile = "</pre></details><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \" ' & \u{202e}";
    let soon = TimeDelta::seconds(5);
    scene
        .report("eu1", soon, soon, |report| {
            report.last_error = Some(hostile.into());
            report.version = hostile.into();
            report.paused = Some(scene.pause(hostile));
            report.quarantined = vec![ReportedQuarantine {
                table: tablecast::binlog::name::TableName::new(
                    "g",
                    "<script>document.title='owned'</script>`; rm -rf /",
                ),
                since_tx: StreamTx(1),
                since: scene.now,
                error: hostile.into(),
            }];
        })
        .await;
    scene
        .job("eu1", "g.a", |job| {
            job.reason = hostile.into();
            job.advance(RequestState::Running, scene.now).unwrap();
            job.error = Some(hostile.into());
        })
        .await;
    let page = browser::document(&scene.url("/"), DESKTOP);
    says(&page, &["<script>document.title='owned'</script>", "onerror"]);
    assert!(!page.contains("<title>owned") && !page.contains("<img"), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "its own: {page}");
    assert_eq!(browser::tab::without_script(&scene.url("/"), 360).widths, (360, 360), "nor does it break it");
    // And a browser runs nothing but that, even if something came through.
    let answer =
        Answer::of(client().get(&scene.served.url).basic_auth("x", Some(&region_token("us1").text))).await;
    let policy = answer.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert!(
        !answer.text.contains("http://")
            || answer.text.matches("http://").count()
                == answer.text.matches("http://www.w3.org/2000/svg").count()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_refreshes_itself_and_turns_stale_when_nobody_answers() {
    let scene = Scene::all_well(3).await;
    let page = browser::document(&scene.url("/"), View { lives: Duration::from_secs(12), ..DESKTOP });
    // Timers may be a tick late.
    let is_fresh = (1..=4).any(|seconds| text(&page).contains(&format!("refreshed {seconds} s ago")));
    assert!(is_fresh, "{}", text(&page));
    says(&page, &["stop refreshing"]);
    assert!(page.contains("id=\"stale\" role=\"alert\" hidden"), "{page}");
    scene.served.logs("path=\"/\"").await;
    // Something that gives the page once, and then hangs up.
    let answer =
        Answer::of(client().get(&scene.served.url).basic_auth("x", Some(&region_token("us1").text))).await;
    let (policy, body) = (answer.header("content-security-policy").to_owned(), answer.text);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8_192];
            let read = socket.read(&mut request).await.unwrap_or(0);
            // A browser may open connections that it does not use.
            if read == 0 || count.fetch_add(1, Ordering::SeqCst) > 0 {
                continue;
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-security-policy: {policy}\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.write_all(body.as_bytes()).await.unwrap();
        }
    });
    let page = browser::document(&url, View { lives: Duration::from_secs(25), ..DESKTOP });
    assert!(asked.load(Ordering::SeqCst) >= 3, "it tries again");
    assert!(page.contains("<body class=\"stale\""), "{page}");
    says(&page, &["s old: the service does not answer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runbooks_are_read_where_they_are_needed() {
    let scene = Scene::new(1).await;
    let page = browser::document(&scene.url("/runbooks/lagging-region"), DESKTOP);
    says(&page, &["A region lags", "tablecast status --fail-if-lag 5m", "Upload does not run"]);
    assert!(
        page.contains("<h3 id=\"upload-does-not-run\">") && page.contains("href=\"/runbooks/gate-refusal\""),
        "{page}"
    );
    says(
        &browser::document(&scene.url("/runbooks"), DESKTOP),
        &["Runbooks", "A region is silent", "A clock is wrong"],
    );
    let get = |path: &str| {
        Answer::of(
            client()
                .get(format!("{}{path}", scene.served.url))
                .basic_auth("x", Some(&region_token("us1").text)),
        )
    };
    let missing = get("/runbooks/no-such").await;
    assert_eq!((missing.status, missing.header("content-type")), (404, "text/html; charset=utf-8"));
    let stranger = Answer::of(client().get(format!("{}/runbooks/lagging-region", scene.served.url))).await;
    assert_eq!(stranger.status, 401);
    assert!(stranger.header("www-authenticate").starts_with("Basic "));
}
