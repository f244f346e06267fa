//! The page itself: the verdict, what to do next, then source, regions, dumps and migrations.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::chart::{self, Window};
use super::history::History;
use super::markup::Html;
use super::tables::{facts, table, text};
use super::{SCRIPT, head, runbooks};
use crate::figures::{count, duration, moment, number, size};
use crate::http::advice::{self, Advice, Weight};
use crate::http::api::{Dump, Job, JobState, Migration, Migrations, Region, RegionState, Status, Unreadable};

/// What the charts may show.
pub const HOURS: [u32; 3] = [1, 6, 24];
/// With more regions than this none is unfolded that is well.
const UNFOLDED: usize = 6;
/// So many tables are named in one place.
const NAMED: usize = 8;

const UNKNOWN: &str = "unknown";

/// What a page is made from.
pub struct Seen<'a> {
    pub status: &'a Status,
    /// `None`: the source's MySQL did not tell.
    pub migrations: Option<&'a Migrations>,
    pub history: &'a History,
    pub now: DateTime<Utc>,
    pub hours: u32,
}

/// How something is, for the eye: a colour, and a sign for whoever sees none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    Warn,
    Bad,
    Unknown,
}

impl Mark {
    fn class(self) -> &'static str {
        match self {
            Mark::Good => "good",
            Mark::Warn => "warn",
            Mark::Bad => "bad",
            Mark::Unknown => "unknown",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Mark::Good => "●",
            Mark::Warn => "▲",
            Mark::Bad => "■",
            Mark::Unknown => "?",
        }
    }

    fn of(weight: Weight) -> Mark {
        match weight {
            Weight::Bad => Mark::Bad,
            Weight::Warn => Mark::Warn,
            Weight::Note => Mark::Unknown,
        }
    }

    fn badge(self, word: &str) -> Html {
        Html::of(
            "<span class=\"badge {}\"><span aria-hidden=\"true\">{}</span> {}</span>",
            &[&self.class(), &self.sign(), &word],
        )
    }

    /// The page's icon, in the same colours.
    fn icon(self) -> Html {
        match self {
            Mark::Good => Html::of(
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' fill='%232da44e'/%3E%3C/svg%3E",
                &[],
            ),
            Mark::Warn => Html::of(
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M8 2l7 12H1z' fill='%23d4a72c'/%3E%3C/svg%3E",
                &[],
            ),
            Mark::Bad => Html::of(
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M2 2h12v12H2z' fill='%23cf222e'/%3E%3C/svg%3E",
                &[],
            ),
            Mark::Unknown => Html::of(
                "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='5' fill='none' stroke='%23818b98' stroke-width='3'/%3E%3C/svg%3E",
                &[],
            ),
        }
    }
}

impl Seen<'_> {
    pub fn document(&self) -> Html {
        let advice = advice::of(self.status, self.migrations, self.now);
        let (mark, verdict) = self.verdict(&advice);
        let troubles = advice.iter().filter(|advice| advice.weight != Weight::Note).count();
        let name = &self.status.stream.name;
        let title = match (mark, troubles) {
            (Mark::Good, _) => format!("{} {name}", mark.sign()),
            (_, 0) => format!("? {name}"),
            _ => format!("{} {troubles} · {name}", mark.sign()),
        };
        let at = self.now.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let main: Html = [
            chart::definitions(),
            Html::of(
                "<section class=\"verdict {}\" aria-label=\"Verdict\"><p><span aria-hidden=\"true\">{}</span> {}</p></section>",
                &[&mark.class(), &mark.sign(), &verdict],
            ),
            next(&advice),
            self.source(),
            self.regions(&advice),
            self.migrations(),
            self.pending(),
            self.dumps(),
        ]
        .into_iter()
        .collect();
        let script = Html::of("<script>", &[]).and_static(SCRIPT).and_static("</script>");
        Html::of(
            "<!doctype html>\n<html lang=\"en\"><head>{}<title>{} · Tablecast</title><link rel=\"icon\" href=\"{}\">\
             <noscript><meta http-equiv=\"refresh\" content=\"15\"></noscript></head><body>\
             <a class=\"skip\" href=\"#main\">Skip to the content</a>\
             <header><p class=\"brand\"><a href=\"/\">Tablecast</a></p><h1>{}</h1>\
             <p id=\"fresh\">As of <time datetime=\"{}\">{}</time><span id=\"since\"></span></p>\
             <nav aria-label=\"Pages\"><a href=\"#regions\">Regions</a> <a href=\"#dumps\">Dumps</a> <a href=\"/runbooks\">Runbooks</a></nav></header>\
             <div id=\"stale\" role=\"alert\" hidden></div><main id=\"main\">{}</main>\
             <footer><p>Stream <code>{}</code>. Head written by {}. Programs read <a href=\"/v1/status\">/v1/status</a>, described in \
             <a href=\"/openapi.json\">/openapi.json</a>.</p><noscript><p>Without a script this page loads itself again every 15 seconds.</p></noscript></footer>\
             {}</body></html>\n",
            &[
                &head(),
                &title,
                &mark.icon(),
                name,
                &at,
                &moment(self.now),
                &main,
                &self.status.stream.stream.to_string(),
                &self.status.stream.writer,
                &script,
            ],
        )
    }

    /// Everything in one sentence.
    fn verdict(&self, advice: &[Advice]) -> (Mark, String) {
        let of = |weight| advice.iter().filter(|advice| advice.weight == weight).count();
        let things =
            |number: usize| if number == 1 { "1 thing".to_owned() } else { format!("{number} things") };
        let all = self.status.regions.len() + self.status.unreadable.len();
        let well = self.status.regions.iter().filter(|region| region.state == RegionState::Ok).count();
        let regions = match all {
            0 => "no region has reported yet".to_owned(),
            1 => format!("{well} of 1 region is up to date"),
            _ => format!("{well} of {all} regions are up to date"),
        };
        match (of(Weight::Bad), of(Weight::Warn)) {
            (0, 0) if all == 0 => (Mark::Unknown, "No region has reported yet".to_owned()),
            (0, 0) => (Mark::Good, format!("All is well: {regions}")),
            (0, warn) => {
                let verb = if warn == 1 { "is" } else { "are" };
                (Mark::Warn, format!("{} {verb} worth a look; {regions}", things(warn)))
            }
            (bad, warn) => {
                let verb = if bad == 1 { "needs" } else { "need" };
                let more = if warn == 0 { String::new() } else { format!(", {warn} more worth a look") };
                (Mark::Bad, format!("{} {verb} attention{more}; {regions}", things(bad)))
            }
        }
    }

    fn window(&self) -> Window {
        Window { now: self.now, hours: self.hours }
    }

    fn source(&self) -> Html {
        let stream = &self.status.stream;
        let (word, weight) = advice::stream_state(self.status, self.now);
        let mark = weight
            .map_or(Mark::Good, |weight| if word == UNKNOWN { Mark::Unknown } else { Mark::of(weight) });
        let complete = stream.as_of.map_or_else(unknown, |as_of| text(self.ago(as_of)));
        let lag = self.status.lag_seconds.map_or_else(unknown, |lag| text(seconds(lag)));
        let upload = match self.migrations {
            Some(there) if there.uploading => text("running"),
            Some(_) => text("not running now"),
            None => Html::of("unknown <span class=\"dim\">(the source’s MySQL did not tell)</span>", &[]),
        };
        let not_shipped =
            self.migrations.map_or_else(unknown, |there| text(count(there.not_shipped, "transaction")));
        let position = format!("entry {}, transaction {}", number(stream.last_seq), number(stream.last_tx));
        let set = format!("version {}: {}", stream.table_set_version, named(&stream.tables));
        let facts = facts(&[
            ("Lag", lag),
            ("Complete to", complete),
            ("Upload", upload),
            ("Not shipped yet", not_shipped),
            ("Stream at", text(position)),
            ("Table set", text(set)),
        ]);
        Html::of(
            "<section aria-labelledby=\"source\" class=\"card\"><h2 id=\"source\">Source {}</h2>{}{}</section>",
            &[
                &mark.badge(word),
                &facts,
                &chart::charts(&self.history.stream(), self.window(), "the stream", "shipped"),
            ],
        )
    }

    fn regions(&self, advice: &[Advice]) -> Html {
        let status = self.status;
        if status.regions.is_empty() && status.unreadable.is_empty() {
            return Html::of(
                "<section aria-labelledby=\"regions\" class=\"card\"><h2 id=\"regions\">Regions</h2><p>None has reported yet. A region reports when its \
                 config has <code>source_url</code> and <code>token_file</code>; one that never has is not listed here.</p></section>",
                &[],
            );
        }
        let known = status.regions.iter().map(|region| (region.report.region.as_str(), self.row(region)));
        let unknown =
            status.unreadable.iter().map(|there| (there.region.as_str(), self.unreadable_row(there)));
        let mut rows: Vec<_> = known.chain(unknown).collect();
        rows.sort_by_key(|(name, _)| *name);
        let header = ["Region", "State", "Lag", "To apply", "Last report", "Tables", "Lag so far"];
        let overview =
            table("Every region and how it is", "wide", &header, rows.into_iter().map(|(_, row)| row));
        let hours: Html = HOURS
            .iter()
            .map(|hours| match *hours == self.hours {
                true => Html::of(
                    "<a href=\"/?hours={}#regions\" aria-current=\"true\">{} h</a> ",
                    &[hours, hours],
                ),
                false => Html::of("<a href=\"/?hours={}#regions\">{} h</a> ", &[hours, hours]),
            })
            .collect();
        // Those in trouble; without any all, if they are few.
        let unfolds = status.regions.len() <= UNFOLDED && advice.iter().all(|advice| advice.region.is_none());
        let details: Html =
            status.regions.iter().map(|region| self.region(region, advice, unfolds)).collect();
        Html::of(
            "<section aria-labelledby=\"regions\"><div class=\"card\"><div class=\"between\"><h2 id=\"regions\">Regions</h2>\
             <nav class=\"hours\" aria-label=\"What the charts show\">Charts: {}</nav></div>{}</div>{}</section>",
            &[&hours, &overview, &details],
        )
    }

    fn row(&self, region: &Region) -> Vec<Html> {
        let report = &region.report;
        let is_silent = region.state == RegionState::Silent;
        let lag = match report.as_of {
            Some(as_of) if !is_silent => text(span(self.now - as_of)),
            _ => unknown(),
        };
        let behind = match region.behind_entries {
            Some(0) if !is_silent => text("nothing"),
            Some(entries) if !is_silent => text(count(entries, "entry")),
            _ => unknown(),
        };
        let mut tables = Vec::new();
        if !report.quarantined.is_empty() {
            tables.push(format!("{} in quarantine", report.quarantined.len()));
        }
        if !report.restoring.is_empty() {
            let count: usize = report.restoring.iter().map(|there| there.tables.len()).sum();
            tables.push(format!("{count} being restored"));
        }
        if !report.drifted.is_empty() {
            tables.push(format!("{} with other rows than the source", report.drifted.len()));
        }
        let tables = match (tables.is_empty(), is_silent) {
            (_, true) => unknown(),
            (true, _) => text("all there"),
            (false, _) => text(tables.join(", ")),
        };
        vec![
            Html::of("<a href=\"#region-{}\">{}</a>", &[&report.region, &report.region]),
            mark(region.state).badge(region.state.name()),
            lag,
            behind,
            text(format!("{} ago", seconds(region.age_seconds))),
            tables,
            chart::spark(&self.history.region(&report.region), self.window()),
        ]
    }

    fn unreadable_row(&self, there: &Unreadable) -> Vec<Html> {
        let age = text(format!("{} ago", span(self.now - there.received_at)));
        let spark = chart::spark(&self.history.region(&there.region), self.window());
        vec![text(&*there.region), Mark::Unknown.badge(UNKNOWN), unknown(), unknown(), age, unknown(), spark]
    }

    /// All there is to know of a region, to be unfolded.
    fn region(&self, region: &Region, advice: &[Advice], unfolds: bool) -> Html {
        let report = &region.report;
        let is_silent = region.state == RegionState::Silent;
        let shows = match (report.as_of, is_silent) {
            (None, _) => unknown(),
            (Some(as_of), false) => text(format!("the source as it was {}", self.ago(as_of))),
            (Some(as_of), true) => Html::of(
                "unknown <span class=\"dim\">(when last heard: the source as of {})</span>",
                &[&moment(as_of)],
            ),
        };
        let mut known = vec![
            ("Shows", shows),
            ("Last report", text(self.ago(region.received_at))),
            (
                "Position",
                text(format!("entry {}, transaction {}", number(report.seq), number(report.last_tx))),
            ),
            ("Program", text(&*report.version)),
        ];
        if !report.left_out.is_empty() {
            known.push((
                "Not let in",
                text(format!("{} (its own list leaves them out)", named(&report.left_out))),
            ));
        }
        if let Some(checked_at) = report.checked_at {
            known.push(("Rows compared", text(self.ago(checked_at))));
        }
        if let Some(ghosts) = report.ghosts.as_ref().filter(|ghosts| !ghosts.is_empty()) {
            known.push(("Ghost tables", text(named(ghosts))));
        }
        let mut parts = vec![facts(&known)];
        if let Some(error) = &report.last_error {
            parts.push(Html::of("<h4>Last error</h4><pre tabindex=\"0\">{}</pre>", &[error]));
        }
        if !report.quarantined.is_empty() {
            let rows = report.quarantined.iter();
            let rows =
                rows.map(|there| self.bad_table(&there.table, there.since, there.since_tx, &there.error));
            let caption = format!("Tables of {} in quarantine", report.region);
            let header = ["Table", "Since", "From transaction", "Because"];
            parts.push(Html::of("<h4>In quarantine</h4>{}", &[&table(&caption, "wide", &header, rows)]));
        }
        if !report.drifted.is_empty() {
            let rows = report.drifted.iter();
            let rows =
                rows.map(|there| self.bad_table(&there.table, there.found_at, there.at_tx, &there.what));
            let caption = format!("Tables of {} whose rows are not those of the source", report.region);
            let header = ["Table", "Found", "At transaction", "Which"];
            let drifted = table(&caption, "wide", &header, rows);
            parts.push(Html::of("<h4>Other rows than the source</h4>{}", &[&drifted]));
        }
        if !report.restoring.is_empty() {
            let rows = report.restoring.iter().map(|there| {
                let progress = progress(there.rows, there.rows_total, "restored");
                vec![text(named(&there.tables)), text(&*there.state), progress, text(&*there.dump)]
            });
            let caption = format!("Restores under way in {}", report.region);
            let header = ["Tables", "State", "Rows", "From dump"];
            parts.push(Html::of("<h4>Being restored</h4>{}", &[&table(&caption, "wide", &header, rows)]));
        }
        parts.push(chart::charts(
            &self.history.region(&report.region),
            self.window(),
            &report.region,
            "applied",
        ));
        let is_open = unfolds || advice::worst(advice, &report.region).is_some();
        let open = if is_open { Html::of(" open", &[]) } else { Html::new() };
        Html::of(
            "<details class=\"card\" id=\"region-{}\"{}><summary id=\"unfold-{}\"><h3>{}</h3> {}</summary>{}</details>",
            &[
                &report.region,
                &open,
                &report.region,
                &report.region,
                &mark(region.state).badge(region.state.name()),
                &parts.into_iter().collect::<Html>(),
            ],
        )
    }

    fn migrations(&self) -> Html {
        let body = match self.migrations {
            None => Html::of(
                "<p>Unknown: the source’s MySQL did not tell. <code>tablecast migrations</code> there does.</p>",
                &[],
            ),
            Some(there) if there.migrations.is_empty() => Html::of("<p>None in flight.</p>", &[]),
            Some(there) => {
                let header = ["Table", "Cut-over", "Tool", "Since", "Regions"];
                let rows = there.migrations.iter().map(|one| self.migration(one));
                table("Online migrations in flight", "wide", &header, rows)
            }
        };
        let leftovers =
            self.migrations.map(|there| &there.leftovers).filter(|leftovers| !leftovers.is_empty());
        let leftovers = leftovers.map_or_else(Html::new, |leftovers| {
            Html::of("<p class=\"dim\">Left behind by migrations that are over: {}</p>", &[&named(leftovers)])
        });
        Html::of(
            "<section aria-labelledby=\"migrations\" class=\"card\"><h2 id=\"migrations\">Migrations</h2>{}{}</section>",
            &[&body, &leftovers],
        )
    }

    fn migration(&self, one: &Migration) -> Vec<Html> {
        let verdict = match one.safe {
            true => Mark::Good.badge("safe everywhere"),
            false => Mark::Warn.badge("not safe yet"),
        };
        let regions = one.regions.iter().map(|region| match &region.why {
            Some(why) => format!("{}: {} ({why})", region.region, region.state.name()),
            None => format!("{}: {}", region.region, region.state.name()),
        });
        let regions: Html = regions.map(|line| Html::of("<div>{}</div>", &[&line])).collect();
        let since = one.since.map_or_else(unknown, |since| text(self.ago(since)));
        vec![text(&*one.table), verdict, text(&*one.tool), since, regions]
    }

    fn pending(&self) -> Html {
        let header = ["Tables", "State", "Rows", "Time left", "For", "Asked", "Because"];
        let body = match self.status.pending.is_empty() {
            true => Html::of("<p>None is asked for.</p>", &[]),
            false => {
                let rows = self.status.pending.iter().map(|job| self.job(job));
                table("Dumps that are asked for or being taken", "wide", &header, rows)
            }
        };
        Html::of(
            "<section aria-labelledby=\"dumps\" class=\"card\"><h2 id=\"dumps\">Dumps under way</h2>{}</section>",
            &[&body],
        )
    }

    fn job(&self, job: &Job) -> Vec<Html> {
        let tables = if job.all_tables { "all tables".to_owned() } else { named(&job.tables) };
        let id = Html::of("{}<div class=\"dim id\">{}</div>", &[&tables, &job.id]);
        let state = match (job.state, job.error.is_some()) {
            (JobState::Running, _) => Html::of("<span class=\"badge\">running</span>", &[]),
            (_, false) => Html::of("<span class=\"badge\">queued</span>", &[]),
            (_, true) => Mark::Warn.badge("queued again"),
        };
        let left = match (job.state, job.eta_seconds) {
            (JobState::Running, Some(eta)) => text(format!("about {}", seconds(eta))),
            _ => unknown(),
        };
        let rows = match job.state {
            JobState::Running => progress(job.rows, job.rows_total, "written"),
            _ => text("not begun"),
        };
        let why = match &job.error {
            Some(error) => Html::of("<span class=\"error\">{}</span>", &[error]),
            None => text(&*job.reason),
        };
        vec![id, state, rows, left, text(job.regions.join(", ")), text(self.ago(job.created_at)), why]
    }

    fn dumps(&self) -> Html {
        let dumps = &self.status.stream.dumps;
        let body = match dumps.is_empty() {
            true => Html::of(
                "<p>None. A new region needs one: <code>tablecast dump take --all-tables</code> at the source.</p>",
                &[],
            ),
            false => {
                let header = ["Dump", "Tables", "Rows", "Size", "As of transaction", "Taken"];
                table(
                    "Dumps in the stream, the newest first",
                    "wide",
                    &header,
                    dumps.iter().rev().map(|dump| self.dump(dump)),
                )
            }
        };
        Html::of(
            "<section aria-labelledby=\"kept\" class=\"card\"><h2 id=\"kept\">Dumps in the stream</h2>{}</section>",
            &[&body],
        )
    }

    fn dump(&self, dump: &Dump) -> Vec<Html> {
        let mut tables = if dump.full { "all tables".to_owned() } else { named(&dump.tables) };
        if dump.mandatory {
            tables.push_str(", for every region");
        }
        let id = Html::of("<span class=\"id\">{}</span>", &[&dump.id]);
        vec![
            id,
            text(tables),
            text(number(dump.rows)),
            text(size(dump.bytes)),
            text(number(dump.at)),
            text(self.ago(dump.taken_at)),
        ]
    }

    /// A row for a table that is not as it should be.
    fn bad_table(&self, name: &str, since: DateTime<Utc>, tx: u64, why: &str) -> Vec<Html> {
        let why = Html::of("<span class=\"error\">{}</span>", &[&why]);
        vec![text(name), text(self.ago(since)), text(number(tx)), why]
    }

    /// `12 s ago, 08:04:05 UTC`; of another day with its date.
    fn ago(&self, at: DateTime<Utc>) -> String {
        let at_what_time = match at.date_naive() == self.now.date_naive() {
            true => at.format("%H:%M:%S UTC").to_string(),
            false => moment(at),
        };
        match self.now < at {
            true => format!("{} ahead of this clock, {at_what_time}", span(at - self.now)),
            false => format!("{} ago, {at_what_time}", span(self.now - at)),
        }
    }
}

/// What to do next, the worst first.
fn next(advice: &[Advice]) -> Html {
    if advice.is_empty() {
        return Html::new();
    }
    let items: Html = advice
        .iter()
        .map(|advice| {
            let (mark, name) = match advice.weight {
                Weight::Note => ("note", "Note: "),
                Weight::Warn => ("warn", "Worth a look: "),
                Weight::Bad => ("bad", "Needs attention: "),
            };
            let sign = if advice.weight == Weight::Note { "i" } else { Mark::of(advice.weight).sign() };
            Html::of(
                "<li class=\"{}\"><span class=\"sign\" aria-hidden=\"true\">{}</span><div><p class=\"what\"><span class=\"heard\">{}</span>{}</p>\
                 <p>{} <a href=\"/runbooks/{}\">Runbook: {}</a></p></div></li>",
                &[
                    &mark,
                    &sign,
                    &name,
                    &advice.what,
                    &Html::with_code(&advice.next),
                    &advice.page(),
                    &runbooks::title_of(advice.runbook),
                ],
            )
        })
        .collect();
    Html::of(
        "<section aria-labelledby=\"next\" class=\"card\"><h2 id=\"next\">What to do next</h2><ul class=\"next\">{}</ul></section>",
        &[&items],
    )
}

fn mark(state: RegionState) -> Mark {
    match state {
        RegionState::Ok => Mark::Good,
        RegionState::Restoring | RegionState::Behind | RegionState::Paused => Mark::Warn,
        RegionState::Silent | RegionState::Failing | RegionState::Quarantined => Mark::Bad,
    }
}

fn unknown() -> Html {
    text(UNKNOWN)
}

/// How far, as numbers and as a bar. Of how many is not always known.
fn progress(rows: u64, total: u64, what: &'static str) -> Html {
    if total == 0 {
        return Html::of("{} {} <span class=\"dim\">of an unknown number</span>", &[&number(rows), &what]);
    }
    let percent = u64::try_from(u128::from(rows) * 100 / u128::from(total)).unwrap_or(100).min(100);
    Html::of(
        "<progress max=\"100\" value=\"{}\" aria-label=\"{} of about {} rows {}\"></progress><div>{} of about {} ({} %)</div>",
        &[&percent, &number(rows), &number(total), &what, &number(rows), &number(total), &percent],
    )
}

fn named(names: &[String]) -> String {
    let first = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn seconds(seconds: u64) -> String {
    duration(Duration::from_secs(seconds))
}

/// A time in the future has no age.
fn span(delta: TimeDelta) -> String {
    duration(delta.to_std().unwrap_or_default())
}
