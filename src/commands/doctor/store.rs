//! The store, with the credentials of this role: reading, and at the source writing under conditions.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::super::look;
use super::super::run::Run;
use super::{Check, Outcome, ends_with};
use crate::config::Role;
use crate::error::{Kind, Result};
use crate::store::{self, Body, Store};
use crate::stream::{self, Head, Key};

/// A clock that is off by more makes the ages in `status` wrong.
pub const SKEW: Duration = Duration::from_secs(5);
/// A clock that is off by more makes S3 refuse every request (RequestTimeTooSkewed).
const S3_SKEW: Duration = Duration::from_secs(15 * 60);

pub async fn checks(run: &Run, checks: &mut Vec<Check>) -> (Option<Arc<dyn Store>>, Option<Head>) {
    let store = match run.store().await {
        Ok(store) => store,
        Err(error) => {
            checks.push(Check::failed(run, "store", &error));
            return (None, None);
        }
    };
    let head = match head(run, &*store, checks).await {
        Ok(head) => head,
        // It has been said that the store cannot be read: trying on would say the same again.
        Err(()) => return (Some(store), None),
    };
    if run.config.role == Role::Source {
        conditions(run, &*store, checks).await;
        match clock(run, &*store).await {
            Ok(check) => checks.push(check),
            Err(error) => checks.push(Check::failed(run, "store clock", &error)),
        }
    } else if let Some(head) = &head {
        newest_object(run, &*store, head, checks).await;
    }
    (Some(store), head)
}

/// The head, if there is a stream; an error if the store does not answer as it should.
async fn head(run: &Run, store: &dyn Store, checks: &mut Vec<Check>) -> Result<Option<Head>, ()> {
    match run.head(store).await {
        Ok(head) => {
            let entries = match head.last_seq.0 {
                0 => "no entry yet".to_owned(),
                last => format!("entry {}", look::number(last)),
            };
            let (url, as_of) = (store.url(), look::time(head.as_of, run.now()));
            let message = format!("{url}: stream {}, {entries}, complete to {as_of}", head.stream);
            checks.push(Check::passed("store", message));
            checks.push(signature(run, &head));
            Ok(Some(head))
        }
        Err(error) if error.is_not_found() => {
            let (outcome, breaks, hint) = match run.config.role {
                Role::Source => (
                    Outcome::Warning,
                    "`tablecast upload` has no stream to write to",
                    "tablecast stream init --table DB.T …",
                ),
                Role::Region => (
                    Outcome::Failed,
                    "`tablecast apply` has nothing to follow",
                    "check `store` in the config; at the source: tablecast stream init",
                ),
            };
            let message = format!("{} can be read, but holds no stream", store.url());
            checks.push(Check::finding("store", outcome, message, breaks, hint));
            Ok(None)
        }
        Err(error) => {
            checks.push(Check::failed(run, "store", &error));
            Err(())
        }
    }
}

/// Whether the head, which has been read and so is signed as this config asks, is signed at all, and anybody asks.
fn signature(run: &Run, head: &Head) -> Check {
    const NAME: &str = "signature";
    let is_believed = run.config.sign_key.is_some() || !run.config.trusted.is_empty();
    match (&head.signature, run.config.role) {
        (None, _) => Check::passed(
            NAME,
            "index.json is not signed: whoever can write to the bucket can extend the stream (docs/security.md)",
        ),
        (Some(signature), _) if !is_believed => Check::finding(
            NAME,
            Outcome::Warning,
            format!("index.json is signed by key {}, and this config asks for no signature", signature.key),
            match run.config.role {
                Role::Source => "every command that writes the index ends with 2 (usage)",
                Role::Region => "this region believes an index as well that somebody else has written",
            },
            match run.config.role {
                Role::Source => "[sign] key_file = \"…\", the file with that key",
                Role::Region => {
                    "[trust] public_keys = [\"…\"]: `tablecast key --show FILE` at the source prints it"
                }
            },
        ),
        (Some(signature), Role::Source) if run.config.sign_key.is_none() => Check::finding(
            NAME,
            Outcome::Warning,
            format!("index.json is signed by key {}, which [trust] names; there is no [sign]", signature.key),
            "every command that writes the index ends with 2 (usage)",
            "[sign] key_file = \"…\", if this is where the stream is written",
        ),
        (Some(signature), _) => {
            Check::passed(NAME, format!("index.json is signed by key {}, which is trusted", signature.key))
        }
    }
}

/// Whether writes under a condition are refused when they must be.
async fn conditions(run: &Run, store: &dyn Store, checks: &mut Vec<Check>) {
    const NAME: &str = "store conditions";
    match store::probe(store).await {
        Ok(probe) if probe.is_sound() => {
            let works = "put, get, list and delete work, and conditions are honoured";
            checks.push(Check::passed(
                NAME,
                match probe.whole_files_only {
                    None => works.to_owned(),
                    Some(why) => {
                        format!("{works}; large files go in one PUT each, up to 5 GiB: the server {why}")
                    }
                },
            ));
        }
        Ok(probe) => checks.push(Check::finding(
            NAME,
            Outcome::Failed,
            probe.findings.join("\n"),
            "two uploads at once would overwrite each other's index without a word",
            "use a server that honours If-Match and If-None-Match",
        )),
        Err(error) => checks.push(Check::failed(run, NAME, &error)),
    }
}

/// A fresh object's time of change is the store's clock.
async fn clock(run: &Run, store: &dyn Store) -> Result<Check> {
    let key = Key::probe(Uuid::new_v4());
    store.create(&key, Body::Bytes(b"clock")).await?;
    let now = run.now();
    let stat = store.stat(&key).await;
    store.delete(&key).await?;
    // The store's time has whole seconds: up to one of them is no skew.
    let skew = (now - stat?.modified).abs().to_std().unwrap_or_default();
    Ok(skew_check(run, "store clock", "the store", skew, S3_SKEW))
}

/// Judges how far this machine's clock is from another's.
pub fn skew_check(run: &Run, name: &str, other: &str, skew: Duration, fatal: Duration) -> Check {
    let shown = look::duration(skew);
    let hint = "keep this machine's clock with NTP (chrony, systemd-timesyncd)";
    if skew > fatal {
        let message = format!("this machine's clock is {shown} off from that of {other}");
        return Check::finding(name, Outcome::Failed, message, ends_with(run, Kind::Denied), hint);
    }
    if skew > SKEW {
        let message = format!("this machine's clock is {shown} off from that of {other}");
        return Check::finding(name, Outcome::Warning, message, "lag and ages are wrong by as much", hint);
    }
    Check::passed(
        name,
        format!("agrees with {other} to {}", look::duration(skew.max(Duration::from_secs(1)))),
    )
}

/// The newest segment can be found with this role's credentials: an index that may be read is not enough.
async fn newest_object(run: &Run, store: &dyn Store, head: &Head, checks: &mut Vec<Check>) {
    const NAME: &str = "store objects";
    let Some(segment) = head.entries.iter().rev().find_map(stream::Entry::segment) else { return };
    checks.push(match store.stat(&segment.key).await {
        Ok(stat) if stat.size == segment.size => {
            Check::passed(NAME, format!("{} is there ({})", segment.key, look::size(stat.size)))
        }
        Ok(stat) => Check::finding(
            NAME,
            Outcome::Failed,
            format!("{} has {} bytes, the index says {}", segment.key, stat.size, segment.size),
            ends_with(run, Kind::Corrupt),
            "restore the object from an older version of it; `tablecast verify` checks all of them",
        ),
        Err(error) => Check::failed(run, NAME, &error),
    });
}
