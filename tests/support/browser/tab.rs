//! One tab, spoken to by the DevTools protocol over a pipe (<https://chromedevtools.github.io/devtools-protocol/>): for what the
//! browser's own switches cannot do, to turn scripts off and to measure.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use super::{PATIENCE, program};

/// What a tab without scripts shows.
pub struct Shown {
    pub document: String,
    /// How wide the content is, and how wide the window.
    pub widths: (u64, u64),
}

struct Tab {
    browser: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    sent: u64,
    session: Option<String>,
    _folder: tempfile::TempDir,
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}

/// Loads a page in a window of this width, with scripts turned off.
pub fn without_script(url: &str, width: u32) -> Shown {
    let mut tab = Tab::open();
    let target = tab.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
    let attached = tab.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
    tab.session = attached["sessionId"].as_str().map(str::to_owned);
    tab.call("Emulation.setScriptExecutionDisabled", json!({"value": true}));
    let size = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600});
    tab.call("Emulation.setDeviceMetricsOverride", size);
    tab.call("Page.enable", json!({}));
    tab.call("Page.navigate", json!({"url": url}));
    tab.until(|message| message["method"] == "Page.loadEventFired");
    let root = tab.call("DOM.getDocument", json!({"depth": 0}))["root"]["nodeId"].clone();
    let document =
        tab.call("DOM.getOuterHTML", json!({"nodeId": root}))["outerHTML"].as_str().unwrap().to_owned();
    let metrics = tab.call("Page.getLayoutMetrics", json!({}));
    let pixels = |value: &Value| value.as_f64().unwrap().round() as u64;
    let widths = (pixels(&metrics["cssContentSize"]["width"]), u64::from(width));
    Shown { document, widths }
}

impl Tab {
    fn open() -> Tab {
        let folder = tempfile::tempdir().expect("a folder");
        // The protocol is spoken on the descriptors 3 and 4.
        let mut browser = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1", "sh"])
            .arg(program())
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .env("HOME", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let (to, stdout) = (browser.stdin.take().unwrap(), browser.stdout.take().unwrap());
        let (told, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                if let Ok(message) = serde_json::from_slice(&message)
                    && told.send(message).is_err()
                {
                    return;
                }
            }
        });
        Tab { browser, to, from, sent: 0, session: None, _folder: folder }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        let answer = self.until(|message| message["id"] == id);
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].clone()
    }

    fn until(&mut self, is_meant: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.from.recv_timeout(PATIENCE).expect("the browser answers");
            if is_meant(&message) {
                return message;
            }
        }
    }
}
