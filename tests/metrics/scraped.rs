//! The whole way, with a real Prometheus: it scrapes the service with a token, and an alert goes off and ends.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tablecast::clock::{Clock, SystemClock};

use super::promtool;
use crate::http::kit::{Answer, Desk, Place, admin, client, region_token};
use crate::many::kit::PATIENCE;

/// A Prometheus of the tests' own; killed when dropped.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// Scrapes this service each second, with the rules of the package, which wait for nothing here.
    fn start(folder: &Path, service: &str, token: &str) -> Prometheus {
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/package/prometheus/tablecast.rules.yml");
        let rules = std::fs::read_to_string(rules).unwrap();
        let at_once =
            rules.lines().filter(|line| !line.trim().starts_with("for: ")).collect::<Vec<_>>().join("\n");
        std::fs::write(folder.join("rules.yml"), at_once).unwrap();
        std::fs::write(folder.join("token"), token).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n\
             - job_name: tablecast\n  authorization: {{credentials_file: token}}\n  static_configs: [{{targets: ['{service}']}}]\n"
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        // Free a moment ago; should somebody else have taken it since, Prometheus ends and the test says so.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql"))
            .args(["extra", "prometheus", "prometheus", "--config.file=prometheus.yml"])
            .args(["--storage.tsdb.path=data", "--log.level=error"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { child, url: format!("http://127.0.0.1:{port}/api/v1") }
    }

    async fn ask(&mut self, path: &str) -> Value {
        assert!(self.child.try_wait().unwrap().is_none(), "Prometheus has ended");
        match client().get(format!("{}/{path}", self.url)).send().await {
            Ok(answer) => answer.json().await.unwrap_or_default(),
            Err(_) => Value::Null,
        }
    }

    /// The alerts that fire.
    async fn firing(&mut self) -> Vec<String> {
        let answer = self.ask("alerts").await;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&[String]) -> bool) {
        let began = Instant::now();
        loop {
            let firing = self.firing().await;
            if is_so(&firing) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {firing:?}, {}", self.ask("targets").await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_real_prometheus_reads_the_service_and_the_alert_of_a_quarantined_table_goes_off_and_ends() {
    let place = Place::directory();
    let (_, head) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let report = |quarantined: Value| {
        let body = json!({
            "format": {"major": 1, "minor": 0}, "region": "eu1", "stream": head.stream, "seq": 0, "chain": head.tip,
            "last_tx": 0, "base_tx": 0, "as_of": SystemClock.now(), "version": "tablecast 0.1.0",
            "reported_at": SystemClock.now(), "quarantined": quarantined,
        });
        Answer::of(served.request(Method::PUT, "/v1/regions/eu1", &admin().text).json(&body))
    };
    let table = json!([{"table": "g.a", "since_tx": 7, "since": SystemClock.now(), "error": "1032"}]);
    assert_eq!(report(table).await.status, 204);
    let folder = tempfile::tempdir().unwrap();
    // Got where it is not there yet, which may take its time.
    promtool(&["--version"], "");
    let mut prometheus = Prometheus::start(folder.path(), served.address(), &region_token("eu1").text);
    prometheus.until("it goes off", |firing| firing == ["TablecastTableQuarantined"]).await;
    let answer = prometheus.ask("query?query=tablecast_build_info").await;
    let labels = &answer["data"]["result"][0]["metric"];
    // No label of ours is renamed by the scrape.
    assert_eq!((&labels["stream"], &labels["job"]), (&json!("apps"), &json!("tablecast")), "{answer}");
    assert!(labels.as_object().unwrap().keys().all(|label| !label.starts_with("exported_")), "{answer}");
    assert_eq!(report(json!([])).await.status, 204);
    prometheus.until("it ends", |firing| firing.is_empty()).await;
}
