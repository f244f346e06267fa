//! Named points at which the tests kill the process, as `kill -9` would, or make it wait.
//!
//! `TABLECAST_FAILPOINTS=upload.segment_put=kill` ends the process at that point by SIGKILL;
//! `name=kill@3` at the third time it comes by; `name=sleep:500` waits 500 ms there.
//! Compiled to nothing without the feature `failpoints`.

/// Passes the named point.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// Passes the named point, or does there what `TABLECAST_FAILPOINTS` says.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
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
    let action = {
        let mut armed = ARMED.lock().expect("no panic while armed failpoints are held");
        let Some(point) = armed.get_mut(name) else { return };
        point.seen += 1;
        if point.seen != point.at {
            return;
        }
        point.action.clone()
    };
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
        _ => panic!("TABLECAST_FAILPOINTS: unknown action {action:?} at {name}"),
    }
}
