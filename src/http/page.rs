//! `/`: a page for people. Made here, without a script; it shows what `/v1/status` says.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, Utc};

use super::api::{Job, JobState, Region, RegionState, Status};
use super::auth::{Caller, Schemes};
use super::dumps::named;
use super::problem::Problem;
use super::service::Service;
use super::stream::whole;
use super::tokens::Scope;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:75em;color:#222;background:#fff}\
    table{border-collapse:collapse;margin:.5em 0 2em}th,td{text-align:left;padding:.3em 1.2em .3em 0;\
    border-bottom:1px solid #ddd;vertical-align:top}th{font-weight:600;color:#666}\
    .good{color:#176b2c}.warn{color:#8a5a00}.bad{color:#b00020}.dim{color:#666}";

/// The page for people
#[utoipa::path(
    get, path = "/", operation_id = "page", tag = "people",
    responses(
        (status = 200, description = "Regions, jobs and dumps", content_type = "text/html"),
        (status = 401, description = "No token, or a wrong one", content_type = "text/html"),
        (status = 403, description = "A token without the scope `read`", content_type = "text/html"),
        (status = 429, description = "Too many requests; see Retry-After", content_type = "text/html"),
        (status = 500, description = "The service failed", content_type = "text/html"),
        (status = 503, description = "The bucket does not answer; see Retry-After", content_type = "text/html"),
    ),
    security(("browser" = ["read"]), ("token" = ["read"])),
)]
pub async fn page(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    let mut response = match show(&service, &headers).await {
        Ok(response) => response,
        Err(problem) => refusal(problem),
    };
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

async fn show(service: &Service, headers: &HeaderMap) -> Result<Response, Problem> {
    let caller = Caller::of(headers, service, Schemes::Browser)?;
    caller.must_have(Scope::Read)?;
    let status = whole(service).await?;
    Ok(named(&caller, Html(render(&status, service.now()))))
}

fn refusal(problem: Problem) -> Response {
    let hint = problem.hint.as_deref().unwrap_or_default();
    let body = format!(
        "<h1>{}</h1><p>{}</p><p>{}</p>",
        escape(&problem.title),
        escape(&problem.detail),
        escape(hint)
    );
    let html = Html(frame("tablecast", &body));
    // The headers of the problem (the challenge, when to try again) are the browser's business, too.
    let mut response = problem.into_response();
    let status: StatusCode = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut page = (status, html).into_response();
    for (name, value) in headers {
        if let Some(name) =
            name.filter(|name| *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH)
        {
            page.headers_mut().insert(name, value);
        }
    }
    page
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"15\"><title>{}</title>\
         <style>{STYLE}</style></head><body>{body}</body></html>\n",
        escape(title)
    )
}

fn render(status: &Status, now: DateTime<Utc>) -> String {
    let stream = &status.stream;
    let mut body = format!("<h1>{}</h1>", escape(&stream.name));
    let complete = match (stream.as_of, status.lag_seconds) {
        (Some(as_of), Some(lag)) => format!("complete to {} ({} ago)", moment(as_of), age(lag)),
        _ => "nobody knows yet up to when it is complete".to_owned(),
    };
    let _ = write!(
        body,
        "<p>Stream {}, entry {}, transaction {}; {complete}.</p><p class=\"dim\">Tables: {}</p>",
        stream.stream,
        stream.last_seq,
        stream.last_tx,
        escape(&stream.tables.join(", ")),
    );
    body.push_str("<h2>Regions</h2>");
    if status.regions.is_empty() {
        body.push_str(
            "<p>None has reported yet. A region reports when its config has source_url and token_file.</p>",
        );
    } else {
        body.push_str("<table><tr><th>region</th><th>state</th><th>shows the source as of</th><th>to apply</th><th>last report</th><th></th></tr>");
        status.regions.iter().for_each(|region| row(&mut body, region, now));
        body.push_str("</table>");
    }
    body.push_str("<h2>Requests for dumps under way</h2>");
    if status.pending.is_empty() {
        body.push_str("<p>None.</p>");
    } else {
        body.push_str("<table><tr><th>job</th><th>state</th><th>tables</th><th>for</th><th>rows</th><th>asked</th><th></th></tr>");
        status.pending.iter().for_each(|job| job_row(&mut body, job));
        body.push_str("</table>");
    }
    body.push_str("<h2>Dumps in the stream</h2>");
    if stream.dumps.is_empty() {
        body.push_str("<p>None. A new region needs one: <code>tablecast dump take --all-tables</code> at the source.</p>");
    } else {
        body.push_str("<table><tr><th>dump</th><th>entry</th><th>as of transaction</th><th>tables</th><th>rows</th><th>taken</th></tr>");
        for dump in stream.dumps.iter().rev() {
            let tables = if dump.full { "all".to_owned() } else { escape(&dump.tables.join(", ")) };
            let _ = write!(
                body,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{tables}</td><td>{}</td><td>{}</td></tr>",
                escape(&dump.id),
                dump.seq,
                dump.at,
                dump.rows,
                moment(dump.taken_at),
            );
        }
        body.push_str("</table>");
    }
    let _ = write!(body, "<p class=\"dim\">{}, {}</p>", moment(now), escape(&stream.writer));
    frame(&stream.name, &body)
}

fn row(body: &mut String, region: &Region, now: DateTime<Utc>) {
    let report = &region.report;
    let (tone, advice) = match region.state {
        RegionState::Ok => ("good", String::new()),
        RegionState::Paused => (
            "warn",
            report.paused.as_ref().map_or_else(String::new, |paused| {
                let until = paused.until.map_or("somebody resumes it".to_owned(), |until| {
                    until.format("%Y-%m-%d %H:%M:%S UTC").to_string()
                });
                format!("paused by {}, until {until}: {}", escape(&paused.by), escape(&paused.reason))
            }),
        ),
        RegionState::Restoring => ("warn", "a dump is being restored".to_owned()),
        RegionState::Behind => ("warn", "is <code>tablecast apply</code> running there?".to_owned()),
        RegionState::Silent => (
            "bad",
            "it may be down, or cannot reach this service: <code>tablecast doctor</code> there".to_owned(),
        ),
        RegionState::Failing => match &report.last_error {
            Some(error) => ("bad", escape(error)),
            None => ("bad", format!("it follows another stream: {}", report.stream)),
        },
        RegionState::Quarantined => ("warn", String::new()),
    };
    let mut notes = vec![advice];
    for table in &report.quarantined {
        notes.push(format!(
            "{} since {}: {}",
            escape(&table.table),
            moment(table.since),
            escape(&table.error)
        ));
    }
    for restore in &report.restoring {
        notes.push(format!(
            "{} from {}: {}, {} of {} rows",
            escape(&restore.tables.join(", ")),
            escape(&restore.dump),
            escape(&restore.state),
            restore.rows,
            restore.rows_total,
        ));
    }
    notes.retain(|note| !note.is_empty());
    let as_of = report.as_of.map_or_else(
        || "unknown".to_owned(),
        |as_of| {
            format!(
                "{} ({} ago)",
                moment(as_of),
                age(u64::try_from((now - as_of).num_seconds()).unwrap_or(0))
            )
        },
    );
    let behind = region.behind_entries.map_or_else(|| "unknown".to_owned(), |entries| entries.to_string());
    let _ = write!(
        body,
        "<tr><td>{}</td><td class=\"{tone}\">{}</td><td>{as_of}</td><td>{behind}</td><td>{} ago</td><td>{}</td></tr>",
        escape(&report.region),
        region.state.name(),
        age(region.age_seconds),
        notes.join("<br>"),
    );
}

fn job_row(body: &mut String, job: &Job) {
    let tables = if job.all_tables { "all".to_owned() } else { escape(&job.tables.join(", ")) };
    let state = if job.state == JobState::Running { "running" } else { "queued" };
    let rows = match job.rows_total {
        0 => job.rows.to_string(),
        total => format!("{} of about {total}", job.rows),
    };
    let _ = write!(
        body,
        "<tr><td>{}</td><td>{state}</td><td>{tables}</td><td>{}</td><td>{rows}</td><td>{}</td><td>{}</td></tr>",
        escape(&job.id),
        escape(&job.regions.join(", ")),
        moment(job.created_at),
        escape(job.error.as_deref().unwrap_or(&job.reason)),
    );
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Text as HTML text, or as the value of an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
