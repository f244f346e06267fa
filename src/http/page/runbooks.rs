//! `/runbooks`: the pages of docs/runbooks, carried in the program, so that whoever follows a link at night needs neither a
//! network nor a checkout, and reads what fits the version that runs.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::markdown::{self, Target};
use super::markup::Html;
use super::{answer, document, looked_at};
use crate::http::auth::{Caller, Schemes};
use crate::http::dumps::part;
use crate::http::problem::Problem;
use crate::http::service::Service;
use crate::http::tokens::Scope;

macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        /// Name and text.
        const PAGES: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../docs/runbooks/", $name, ".md"))),)*
            (ABOVE[0], include_str!("../../../docs/exit-codes.md")),
            (ABOVE[1], include_str!("../../../docs/pause.md")),
        ];
    };
}

/// Pages that are no runbooks, and lie one folder above them: errors and pauses point there.
const ABOVE: [&str; 2] = ["exit-codes", "pause"];

pages![
    "lagging-region",
    "silent-region",
    "stopped-on-an-error",
    "quarantined-table",
    "drifted-table",
    "stuck-dump",
    "stuck-migration",
    "history-lost",
    "gate-refusal",
    "s3-outage",
    "corrupt-object",
    "disk-full",
    "clock-skew",
    "add-a-table",
    "remove-a-table",
    "fail-over-the-primary",
    "rebuild-the-processor",
    "rebuild-a-region",
    "take-a-region-out",
    "restore-by-hand",
    "rotate-credentials-and-tokens",
    "sign-the-stream",
    "upgrade-and-rollback",
];

/// The list of runbooks
#[utoipa::path(
    get, path = "/runbooks", operation_id = "runbooks", tag = "people",
    responses(
        (status = 200, description = "What there are", content_type = "text/html"),
        (status = 401, description = "No token, or a wrong one", content_type = "text/html"),
        (status = 403, description = "A token without the scope `read`", content_type = "text/html"),
        (status = 429, description = "Too many requests; see Retry-After", content_type = "text/html"),
    ),
    security(("browser" = ["read"]), ("token" = ["read"])),
)]
pub async fn list(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response {
    answer(may_read(&service, &headers).map(|caller| looked_at(&caller, index())))
}

/// A runbook
#[utoipa::path(
    get, path = "/runbooks/{name}", operation_id = "runbook", tag = "people",
    params(("name" = String, Path, description = "As in docs/runbooks, without `.md`")),
    responses(
        (status = 200, description = "The page", content_type = "text/html"),
        (status = 401, description = "No token, or a wrong one", content_type = "text/html"),
        (status = 403, description = "A token without the scope `read`", content_type = "text/html"),
        (status = 404, description = "No runbook of this name", content_type = "text/html"),
        (status = 429, description = "Too many requests; see Retry-After", content_type = "text/html"),
    ),
    security(("browser" = ["read"]), ("token" = ["read"])),
)]
pub async fn show(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let name = part(name);
    let shown = || {
        let caller = may_read(&service, &headers)?;
        let html = page(&name).ok_or_else(|| {
            Problem::new("not-found", "there is no runbook of this name")
                .hint("/runbooks lists those there are")
        })?;
        Ok(looked_at(&caller, html))
    };
    answer(shown())
}

fn may_read(service: &Service, headers: &HeaderMap) -> Result<Caller, Problem> {
    let caller = Caller::of(headers, service, Schemes::Browser)?;
    caller.must_have(Scope::Read)?;
    Ok(caller)
}

/// What a runbook calls itself.
pub fn title_of(name: &str) -> &str {
    PAGES.iter().find(|(known, _)| *known == name).map_or(name, |(_, text)| title(text))
}

/// The first heading of a page.
fn title(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
}

fn index() -> Html {
    let items: Html = PAGES
        .iter()
        .map(|(name, text)| Html::of("<li><a href=\"/runbooks/{}\">{}</a></li>", &[name, &title(text)]))
        .collect();
    document(
        "Runbooks",
        &Html::of(
            "<article class=\"text\"><h1>Runbooks</h1><p>Symptom, alert, check, mend, verify.</p><ul>{}</ul></article>",
            &[&items],
        ),
    )
}

fn page(name: &str) -> Option<Html> {
    let name = name.strip_suffix(".md").unwrap_or(name);
    let (name, text) = PAGES.iter().find(|(known, _)| *known == name)?;
    let target = |link: &str| target(name, link);
    Some(document(
        title(text),
        &Html::of("<article class=\"text\">{}</article>", &[&markdown::html(text, &target)]),
    ))
}

/// Where a link of a page leads here.
fn target(from: &str, link: &str) -> Target {
    let (file, section) = link.split_once('#').map_or((link, None), |(file, section)| (file, Some(section)));
    if link.starts_with("https://") || file.is_empty() {
        return Target::Url(link.to_owned());
    }
    let path = match (ABOVE.contains(&from), file.strip_prefix("../")) {
        (true, _) => file.to_owned(),
        (false, Some(above)) => above.to_owned(),
        (false, None) => format!("runbooks/{file}"),
    };
    let name = path.strip_suffix(".md").unwrap_or(&path);
    let name = name.strip_prefix("runbooks/").or_else(|| ABOVE.into_iter().find(|above| *above == name));
    match name.filter(|name| PAGES.iter().any(|(known, _)| known == name)) {
        Some(name) => {
            Target::Url(format!("/runbooks/{name}{}", section.map(|s| format!("#{s}")).unwrap_or_default()))
        }
        None => Target::Elsewhere(match path.strip_prefix("../") {
            Some(above) => above.to_owned(),
            None => format!("docs/{path}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_runbook_is_carried_and_every_link_within_them_leads_to_a_heading() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks");
        for file in std::fs::read_dir(folder).expect("the folder") {
            let name = file.expect("a file").file_name().into_string().expect("a name");
            let name = name.strip_suffix(".md").expect("a page").to_owned();
            assert!(PAGES.iter().any(|(known, _)| *known == name), "{name} is not carried");
        }
        for (name, _) in PAGES {
            let html = page(name).expect("it is there").into_string();
            for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()) {
                let (file, section) = link.split_once('#').unwrap_or((link, ""));
                let at = match file.strip_prefix("/runbooks/") {
                    Some(other) => page(other).unwrap_or_else(|| panic!("{name}: {link}")).into_string(),
                    None if file.is_empty() => html.clone(),
                    None => continue,
                };
                assert!(section.is_empty() || at.contains(&format!("id=\"{section}\"")), "{name}: {link}");
            }
        }
        assert!(page("no-such").is_none());
        assert!(index().into_string().contains("<a href=\"/runbooks/lagging-region\">A region lags</a>"));
    }
}
