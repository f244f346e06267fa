//! Named points at which the tests kill the process, as `kill -9` would, or make it wait.
//!
//! `TABLECAST_FAILPOINTS=upload.segment_put=kill` ends the process at that point by SIGKILL;
//! `name=kill@3` at the third time it comes by; `name=sleep:500` waits 500 ms there; `name=until:PATH` waits until that
//! file is there; `name=fail` makes it an error, at points that may fail.
//! Compiled to nothing without the feature `failpoints`.

/// Passes the named point.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// Passes a named point that may fail.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &str) -> crate::Result<()> {
    Ok(())
}

/// Passes the named point, or does there what `TABLECAST_FAILPOINTS` says.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    if let Some(action) = armed(name) {
        perform(name, &action);
    }
}

/// The same where an error may come, too.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) -> crate::Result<()> {
    match armed(name) {
        Some(action) if action == "fail" => {
            Err(crate::Error::new(crate::Kind::Mysql, format!("failpoint {name}: it fails here")))
        }
        Some(action) => {
            perform(name, &action);
            Ok(())
        }
        None => Ok(()),
    }
}

/// What is to be done this time.
#[cfg(feature = "failpoints")]
fn armed(name: &str) -> Option<String> {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex};

    struct Armed {
        action: String,
        at: u64,
        seen: u64,
    }
    static ARMED: LazyLock<Mutex<HashMap<String, Armed>>> = LazyLock::new(|| {
        let spec = std::env::var("TABLECAST_FAILPOINTS").unwrap_or_default();
        let armed = spec.split(',').filter_map(|part| part.split_once('=')).map(|(name, action)| {
            let (action, at) = action.split_once('@').unwrap_or((action, "1"));
            let at = at.parse().expect("TABLECAST_FAILPOINTS: a count after @");
            (name.to_owned(), Armed { action: action.to_owned(), at, seen: 0 })
        });
        Mutex::new(armed.collect())
    });
    let mut armed = ARMED.lock().expect("no panic while armed failpoints are held");
    let point = armed.get_mut(name)?;
    point.seen += 1;
    (point.seen == point.at).then(|| point.action.clone())
}

#[cfg(feature = "failpoints")]
fn perform(name: &str, action: &str) {
    match action.split_once(':') {
        None if action == "kill" => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal is on its way; nothing after this point may happen.
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        Some(("sleep", millis)) => {
            let millis = millis.parse().expect("TABLECAST_FAILPOINTS: sleep:MILLISECONDS");
            std::thread::sleep(std::time::Duration::from_millis(millis));
        }
        Some(("until", path)) => {
            while !std::path::Path::new(path).exists() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        _ => panic!("TABLECAST_FAILPOINTS: unknown action {action:?} at {name}"),
    }
}
