//! What an apply costs when nothing is new, and what a store that fails does to it; S3 over a real socket.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::kit::Stream;
use crate::support::granted;
use crate::support::mysql::Server;
use crate::support::once_within;
use crate::support::s3::{Asked, BUCKET, Fault, S3Server};

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// A stream in a folder, mirrored into a bucket, and a region that reads the bucket.
struct Mirror {
    stream: Stream,
    region: Server,
    s3: S3Server,
    config: PathBuf,
}

impl Mirror {
    async fn new(schema: &'static str) -> Mirror {
        let stream = Stream::new(schema, APPS).await;
        stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
        stream.upload().await;
        let (region, s3) = (Server::start(&[]), S3Server::start());
        let config = stream.region_file(&region, granted::USER, &["@.*"]);
        let text = std::fs::read_to_string(&config).unwrap();
        let folder = format!("file://{}", stream.bucket().display());
        let text = text.replace(&folder, &format!("s3://{BUCKET}/apps"));
        let endpoint = s3.endpoint();
        let s3_config =
            format!("[s3]\nregion = \"us-east-1\"\nendpoint = \"{endpoint}\"\npath_style = true\n");
        std::fs::write(&config, format!("{text}{s3_config}")).unwrap();
        let mirror = Mirror { stream, region, s3, config };
        mirror.mirror();
        mirror
    }

    fn mirror(&self) {
        let root = self.stream.bucket();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for file in std::fs::read_dir(folder).unwrap() {
                let path = file.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => self.s3.put(&key(&root, &path), std::fs::read(&path).unwrap()),
                }
            }
        }
    }

    fn apply(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.arg("--config").arg(&self.config).arg("apply").envs(self.s3.env());
        command.output().unwrap()
    }

    fn succeeds(&self) {
        let output = self.apply();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn key(root: &Path, path: &Path) -> String {
    format!("apps/{}", path.strip_prefix(root).unwrap().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_apply_costs_one_conditional_get_and_a_tenth_of_a_second() {
    let mirror = Mirror::new("co_idle").await;
    mirror.succeeds();
    mirror.stream.assert_equal(&mirror.region).await;
    let before = mirror.stream.state(&mirror.region).await;
    mirror.s3.asked();
    once_within(Duration::from_millis(100), || {
        mirror.succeeds();
        let head = Asked { kind: "GetObject", key: "apps/index.json".into(), conditional: true, md5: false };
        assert_eq!(mirror.s3.asked(), [head]);
    });
    assert_eq!(before, mirror.stream.state(&mirror.region).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_costs_the_head_and_its_segments() {
    let mirror = Mirror::new("co_new").await;
    mirror.succeeds();
    for id in 2..5 {
        mirror.stream.sql(&format!("INSERT INTO @.apps VALUES ({id}, 'b')")).await;
        mirror.stream.upload().await;
    }
    mirror.mirror();
    mirror.s3.asked();
    mirror.succeeds();
    let asked: Vec<_> = mirror.s3.asked().into_iter().map(|asked| asked.kind).collect();
    assert_eq!(asked, ["GetObject"; 4]);
    mirror.stream.assert_equal(&mirror.region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_leaves_the_region_as_it_was() {
    let mirror = Mirror::new("co_fault").await;
    let before = mirror.stream.state(&mirror.region).await;
    mirror.s3.remove("apps/index.json");
    let output = mirror.apply();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(before, mirror.stream.state(&mirror.region).await);
    mirror.mirror();
    // Answers that end in the middle are asked for again.
    mirror.s3.fail("GetObject", [Fault::Truncated, Fault::Truncated]);
    mirror.succeeds();
    mirror.stream.assert_equal(&mirror.region).await;
}
