//! `tablecast status --all`: every region, as the source's service sees them; where there is none, or it does not answer, as
//! the bucket shows them, which is where the service has it from. It says which it was.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::super::look::{self, Tone, UNKNOWN};
use super::super::output::{Output, as_json};
use super::super::run::Run;
use crate::error::{Error, Kind, Result, chain};
use crate::http::advice::{self, Advice, Weight};
use crate::http::api::{Region, RegionState, Status};
use crate::http::{client, overview};
use crate::source::dump::queue::Known;

/// Where the answer is from.
struct Told {
    /// `service` or `bucket`.
    kind: &'static str,
    place: String,
    /// Why it is not from the service, where there is one.
    why: Option<String>,
}

pub async fn run(run: &Run, limit: Option<Duration>) -> Result<Output> {
    let (status, from) = ask(run).await?;
    let now = run.now();
    let advice = advice::of(&status, None, now);
    let verdict = lag_verdict(&status, limit, now).or_else(|| quarantine_verdict(&status));
    let mut json = as_json(&status)?;
    json["from"] = json!({"kind": from.kind, "place": from.place, "why": from.why});
    json["advice"] = advice.iter().map(advice_json).collect();
    Ok(Output::new(text(run, &status, &from, &advice), json).with_verdict(verdict))
}

async fn ask(run: &Run) -> Result<(Status, Told)> {
    let doing = || format!("status --all of {}", run.config.stream);
    let mut why = None;
    if let Some(service) = client::of(&run.config) {
        match service.status().await {
            Ok(status) if status.stream.name != run.config.stream => {
                let message =
                    format!("{}: {} serves stream {}", doing(), service.url(), plain(&status.stream.name));
                return Err(Error::new(Kind::Usage, message)
                    .hint("source_url in [region] names another stream's service"));
            }
            Ok(status) => {
                return Ok((status, Told { kind: "service", place: service.url().to_owned(), why: None }));
            }
            // A token or a certificate does not mend itself, and the bucket would hide it.
            Err(error) if matches!(error.kind(), Kind::Denied | Kind::Usage) => {
                return Err(error.during(doing()));
            }
            Err(error) => why = Some(chain(&error)),
        }
    }
    let looking = async {
        let store = run.store().await?;
        let head = run.head(&*store).await?;
        crate::store::head::check_name(&run.config.stream, &head, &store.url())?;
        let known = Known::load(&*store, &run.config.files.cache_dir);
        let status = overview::of_bucket(&*store, &head, &known, run.now()).await?;
        Ok::<_, Error>((status, store.url()))
    };
    match looking.await {
        Ok((status, place)) => Ok((status, Told { kind: "bucket", place, why })),
        Err(error) => {
            let also = why.map_or_else(String::new, |why| format!(" (nor the service: {why})"));
            Err(error.during(format!("{}: the bucket cannot be asked{also}", doing())))
        }
    }
}

fn advice_json(advice: &Advice) -> serde_json::Value {
    json!({
        "weight": match advice.weight {
            Weight::Bad => "bad",
            Weight::Warn => "warn",
            Weight::Note => "note",
        },
        "region": advice.region,
        "what": advice.what,
        "next": advice.next,
        "runbook": advice.file(),
    })
}

fn text(run: &Run, status: &Status, from: &Told, advice: &[Advice]) -> String {
    let (look, now) = (run.look, run.now());
    let (word, weight) = advice::stream_state(status, now);
    let complete = status.stream.as_of.map_or_else(|| UNKNOWN.to_owned(), |as_of| look::time(as_of, now));
    let source = match &from.why {
        Some(why) => format!("the {}, {}\n{}", from.kind, from.place, look.paint(Tone::Warn, &plain(why))),
        None => format!("the {}, {}", from.kind, from.place),
    };
    let facts = look.facts(&[
        ("stream", format!("{} ({})", status.stream.name, status.stream.stream)),
        ("as told by", source),
        ("source", look.paint(weight.map_or(Tone::Good, tone), word)),
        ("complete to", complete),
        ("stream at", super::place(status.stream.last_seq, status.stream.last_tx)),
    ]);
    let mut parts = vec![facts, regions(run, status)];
    if !status.pending.is_empty() {
        let jobs = status.pending.iter().map(|job| {
            let tables = if job.all_tables { "all tables".to_owned() } else { plain(&job.tables.join(", ")) };
            let rows = match (job.rows, job.rows_total) {
                (0, 0) => UNKNOWN.to_owned(),
                (rows, 0) => look::number(rows),
                (rows, total) => format!("{} of about {}", look::number(rows), look::number(total)),
            };
            let left = job
                .eta_seconds
                .map_or_else(|| UNKNOWN.to_owned(), |eta| look::duration(Duration::from_secs(eta)));
            let state = if job.state == crate::http::api::JobState::Running { "running" } else { "queued" };
            vec![tables, state.to_owned(), plain(&job.regions.join(", ")), rows, left]
        });
        parts.push(look.table(&["dump of", "state", "for", "rows", "time left"], &[], jobs));
    }
    if !advice.is_empty() {
        let lines: Vec<String> = advice
            .iter()
            .map(|advice| {
                let sign = match advice.weight {
                    Weight::Bad => "!!",
                    Weight::Warn => " !",
                    Weight::Note => "  ",
                };
                let what = look.paint(tone(advice.weight), &format!("{sign} {}", plain(&advice.what)));
                format!("{what}\n   {}\n   {}", plain(&advice.next), look.paint(Tone::Dim, &advice.file()))
            })
            .collect();
        parts.push(format!("{}\n{}", look.paint(Tone::Strong, "what to do next"), lines.join("\n")));
    }
    parts.join("\n\n")
}

fn regions(run: &Run, status: &Status) -> String {
    let (look, now) = (run.look, run.now());
    if status.regions.is_empty() && status.unreadable.is_empty() {
        return "no region has reported yet; one does when its config has source_url and token_file"
            .to_owned();
    }
    let unknown = || UNKNOWN.to_owned();
    let known = status.regions.iter().map(|region| {
        let report = &region.report;
        let is_silent = region.state == RegionState::Silent;
        let lag = lag(region, now).map_or_else(unknown, look::duration);
        let behind = match region.behind_entries {
            _ if is_silent => unknown(),
            Some(0) => "nothing".to_owned(),
            Some(entries) => look::count(entries, "entry"),
            None => unknown(),
        };
        let tables = match (report.quarantined.len(), report.restoring.len()) {
            _ if is_silent => unknown(),
            (0, 0) if !report.drifted.is_empty() => format!("{} with other rows", report.drifted.len()),
            (0, 0) => "all there".to_owned(),
            (quarantined, 0) => format!("{quarantined} in quarantine"),
            (0, _) => "being restored".to_owned(),
            (quarantined, _) => format!("{quarantined} in quarantine, being restored"),
        };
        let age = format!("{} ago", look::duration(Duration::from_secs(region.age_seconds)));
        let state = look.paint(state_tone(region.state), region.state.name());
        vec![plain(&report.region), state, lag, behind, age, tables]
    });
    let unreadable = status.unreadable.iter().map(|there| {
        let age = (now - there.received_at).to_std().unwrap_or_default();
        let state = look.paint(Tone::Bad, UNKNOWN);
        vec![
            plain(&there.region),
            state,
            unknown(),
            unknown(),
            format!("{} ago", look::duration(age)),
            unknown(),
        ]
    });
    let mut rows: Vec<Vec<String>> = known.chain(unreadable).collect();
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    look.table(&["region", "state", "lag", "to apply", "reported", "tables"], &[], rows)
}

fn state_tone(state: RegionState) -> Tone {
    match state {
        RegionState::Ok => Tone::Good,
        RegionState::Restoring | RegionState::Behind | RegionState::Paused => Tone::Warn,
        RegionState::Silent | RegionState::Failing | RegionState::Quarantined => Tone::Bad,
    }
}

fn tone(weight: Weight) -> Tone {
    match weight {
        Weight::Bad => Tone::Bad,
        Weight::Warn => Tone::Warn,
        Weight::Note => Tone::Dim,
    }
}

/// A time that lies further ahead comes from a clock that is off, this machine's or the source's: then nobody knows a lag.
const AHEAD: TimeDelta = TimeDelta::seconds(5);

/// A region's lag, as far as anybody knows.
fn lag(region: &Region, now: DateTime<Utc>) -> Option<Duration> {
    let as_of = region.report.as_of.filter(|_| region.state != RegionState::Silent)?;
    let lag = Some(now - as_of).filter(|lag| *lag >= -AHEAD)?;
    Some(lag.max(TimeDelta::zero()).to_std().unwrap_or_default())
}

/// What is over the limit, or unknown. Where no region has reported, nothing is known.
fn lag_verdict(status: &Status, limit: Option<Duration>, now: DateTime<Utc>) -> Option<Error> {
    let limit = limit?;
    let mut found = Vec::new();
    let mut judge = |name: &str, lag: Option<Duration>| match lag {
        Some(lag) if lag <= limit => {}
        Some(lag) => found.push(format!("{name} {}", look::duration(lag))),
        None => found.push(format!("{name} {UNKNOWN}")),
    };
    judge("the stream", status.lag_seconds.map(Duration::from_secs));
    for region in &status.regions {
        match region.state {
            RegionState::Silent => judge(&format!("{} (silent)", region.report.region), None),
            _ => judge(&region.report.region, lag(region, now)),
        }
    }
    status.unreadable.iter().for_each(|there| judge(&there.region, None));
    if status.regions.is_empty() && status.unreadable.is_empty() {
        judge("no region has reported: all of them", None);
    }
    if found.is_empty() {
        return None;
    }
    let message = format!(
        "status --all of {}: the lag is above {}, or unknown: {}",
        status.stream.name,
        look::duration(limit),
        plain(&found.join(", "))
    );
    Some(Error::new(Kind::Finding, message).hint("`tablecast status --all` says for each what to do next"))
}

fn quarantine_verdict(status: &Status) -> Option<Error> {
    let tables: Vec<String> = status
        .regions
        .iter()
        .flat_map(|region| {
            region
                .report
                .quarantined
                .iter()
                .map(|table| format!("{} in {}", table.table, region.report.region))
        })
        .collect();
    if tables.is_empty() {
        return None;
    }
    let message =
        format!("status --all of {}: in quarantine: {}", status.stream.name, plain(&tables.join(", ")));
    Some(Error::new(Kind::Partly, message).hint(
        "all other tables go on; `tablecast quarantine list` in the region says why, docs/runbooks/quarantined-table.md what you can do",
    ))
}

/// What others wrote, without what would steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
