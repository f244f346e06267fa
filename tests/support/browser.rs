//! A real browser without a window: Debian's `chromium-headless-shell`, which scripts/test brings.

pub mod tab;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a page may take, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
    /// Of the page's own time, which passes as fast as the machine can: timers run, and nobody waits.
    pub lives: Duration,
}

pub const DESKTOP: View = View { width: 1200, height: 1400, is_dark: false, lives: Duration::from_secs(2) };

fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("TABLECAST_TEST_BROWSER") {
        return given.into();
    }
    let names =
        ["chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found =
        names.iter().find_map(|name| folders.iter().map(|dir| dir.join(name)).find(|file| file.is_file()));
    found.unwrap_or_else(|| {
        panic!("no browser here; scripts/test installs Debian's chromium-headless-shell, TABLECAST_TEST_BROWSER names another")
    })
}

/// The page's document as it is once it has lived for that time.
pub fn document(url: &str, view: View) -> String {
    run(url, view, &["--dump-dom".to_owned()])
}

/// Writes a picture of the page.
pub fn picture(url: &str, view: View, file: &Path) {
    run(url, view, &[format!("--screenshot={}", file.display())]);
    assert!(file.metadata().is_ok_and(|file| file.len() > 0), "no picture at {}", file.display());
}

fn run(url: &str, view: View, what: &[String]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("output");
    let log = folder.path().join("log");
    let file = |path: &Path| Stdio::from(std::fs::File::create(path).expect("a file"));
    let mut child = Command::new(program())
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .args([
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--force-color-profile=srgb",
        ])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("--window-size={},{}", view.width, view.height))
        .arg(format!("--virtual-time-budget={}", view.lives.as_millis()))
        .arg(format!("--blink-settings=preferredColorScheme={}", if view.is_dark { 0 } else { 1 }))
        .args(what)
        .arg(url)
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(file(&output))
        .stderr(file(&log))
        .spawn()
        .expect("the browser starts");
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().expect("a process of ours") {
            Some(status) => break status,
            None if begin.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the browser is not done within {PATIENCE:?}:\n{}", read(&log));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "the browser ends with {status}:\n{}", read(&log));
    read(&output)
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
