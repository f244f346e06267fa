//! `/v1/migrations`: online migrations in flight, and whether their cut-over is safe in every region.
//!
//! Beside the bucket this looks at the source's MySQL, which nothing else of the service does: at most once a second,
//! however many ask.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::api::{Migration, Migrations};
use super::auth::Caller;
use super::dumps::{named, part};
use super::problem::{Problem, Usual};
use super::service::Service;
use super::tokens::Scope;
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet};
use crate::config::Config;
use crate::source::migrations::{self as source, Look, Question, Reported};
use crate::stream::{Head, Key};

/// How old the look at the source may be that an answer is made from.
const LOOK_AGE: Duration = Duration::from_secs(1);
/// How long the source may take.
const LOOK_TIME: Duration = Duration::from_secs(10);
/// How long a page waits for it, which shows the rest without it; and how long one that did not answer is left alone.
const GLANCE_TIME: Duration = Duration::from_secs(2);
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// The source's MySQL, as a service sees it.
pub struct Sight {
    config: Config,
    seen: Mutex<Option<(Instant, TableSet, Arc<Look>)>>,
    /// A page asks it again after this.
    away_until: std::sync::Mutex<Option<Instant>>,
}

impl Sight {
    pub fn new(config: Config) -> Sight {
        Sight { config, seen: Mutex::new(None), away_until: std::sync::Mutex::new(None) }
    }

    /// What the source looked like at most a second ago.
    async fn look(&self, set: &TableSet) -> Result<Arc<Look>, Problem> {
        let mut seen = self.seen.lock().await;
        if let Some((at, of, look)) = &*seen
            && at.elapsed() < LOOK_AGE
            && of == set
        {
            return Ok(look.clone());
        }
        let unavailable = || {
            Problem::new("unavailable", "the source's MySQL cannot be looked at now")
                .hint("the service's log says why; `tablecast doctor` at the source tries it")
                .retry_after(5)
        };
        let looked = tokio::time::timeout(LOOK_TIME, source::look(&self.config, set)).await;
        let look = match looked {
            Ok(Ok(look)) => Arc::new(self.without_names(look)),
            Ok(Err(error)) => {
                tracing::error!(error = ?error, "the source's MySQL cannot be looked at");
                return Err(unavailable());
            }
            Err(_) => {
                tracing::error!("the source's MySQL does not answer within {} s", LOOK_TIME.as_secs());
                return Err(unavailable());
            }
        };
        *seen = Some((Instant::now(), set.clone(), look.clone()));
        Ok(look)
    }
}

impl Sight {
    /// Accounts, hosts and ports are the log's business.
    fn without_names(&self, mut look: Look) -> Look {
        let primary = self.config.primary.as_ref().map(|primary| (primary.to_string(), "the primary"));
        let source = (self.config.mysql.to_string(), "the source");
        for warning in look.warnings.iter_mut().chain(&mut look.blockers) {
            tracing::warn!("{warning}");
            for (name, called) in primary.iter().chain([&source]) {
                *warning = warning.replace(name, called);
            }
        }
        look
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    executed: Option<String>,
    /// Names with commas between them.
    ignore: Option<String>,
}

/// List online migrations in flight
///
/// For each: how far every region is with it, and whether its cut-over is safe everywhere. The answer is measured against
/// what the source has executed now, which moves on; to wait for one state, give `executed` of the first answer with
/// each further question.
#[utoipa::path(
    get, path = "/v1/migrations", operation_id = "listMigrations", tag = "migrations",
    params(
        ("executed" = Option<String>, Query, description = "Measure against this state of the source: `executed` of an earlier answer"),
        ("ignore" = Option<String>, Query, description = "Regions that need not be safe, with commas between them"),
    ),
    responses(
        Usual,
        (status = 200, description = "The migrations", body = Migrations),
        (status = 400, description = "A query that cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"])),
)]
pub async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.must_have(Scope::Read)?;
    let answer = answer(&service, asked, None).await?;
    Ok(named(&caller, Json(answer)))
}

/// Show the online migration of a table
#[utoipa::path(
    get, path = "/v1/migrations/{table}", operation_id = "showMigration", tag = "migrations",
    params(
        ("table" = String, Path, description = "The table that is migrated, not its ghost"),
        ("executed" = Option<String>, Query, description = "Measure against this state of the source: `executed` of an earlier answer"),
        ("ignore" = Option<String>, Query, description = "Regions that need not be safe, with commas between them"),
    ),
    responses(
        Usual,
        (status = 200, description = "The migration", body = Migration),
        (status = 400, description = "A query that cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No migration of this table is in flight", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"])),
)]
pub async fn show(
    State(service): State<Arc<Service>>,
    caller: Caller,
    table: Result<Path<String>, PathRejection>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    caller.must_have(Scope::Read)?;
    let missing = || {
        Problem::new("not-found", "no migration of this table is in flight")
            .hint("GET /v1/migrations lists those that are")
    };
    let table: TableName = part(table).parse().map_err(|_| missing())?;
    let answer = answer(&service, asked, Some(&table)).await?;
    // Of several, of which all but one are left behind, the one that is in the way.
    let (safe, unsafe_ones): (Vec<_>, Vec<_>) = answer.migrations.into_iter().partition(|one| one.safe);
    let migration = unsafe_ones.into_iter().chain(safe).next().ok_or_else(missing)?;
    Ok(named(&caller, Json(migration)))
}

/// The same for a page: `None` where the source does not answer at once.
pub async fn glance(service: &Service, head: &Head, reports: &[Reported]) -> Option<Migrations> {
    let away = || service.sight.away_until.lock().unwrap_or_else(PoisonError::into_inner);
    if away().is_some_and(|until| Instant::now() < until) {
        return None;
    }
    let looking = service.sight.look(&head.table_set.tables);
    let Ok(Ok(look)) = tokio::time::timeout(GLANCE_TIME, looking).await else {
        *away() = Some(Instant::now() + LEFT_ALONE);
        return None;
    };
    let answer = source::judge(&Question {
        look: &look,
        executed: &look.executed,
        need: None,
        head,
        reports,
        ignored: &BTreeSet::new(),
        only: None,
        now: service.now(),
    });
    Some(Migrations::from(&answer))
}

async fn answer(
    service: &Service,
    asked: Result<Query<Asked>, QueryRejection>,
    only: Option<&TableName>,
) -> Result<Migrations, Problem> {
    let Query(asked) = asked.map_err(|error| Problem::new("malformed", error.body_text()))?;
    let executed: Option<GtidSet> = match &asked.executed {
        Some(text) => {
            Some(text.parse().map_err(|_| Problem::new("malformed", "`executed` is no set of GTIDs"))?)
        }
        None => None,
    };
    let ignored: BTreeSet<String> = asked
        .ignore
        .iter()
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    // The source first: what it has executed by then is in the head, or is not shipped.
    let set = service.head().await?.table_set.tables.clone();
    let look = service.sight.look(&set).await?;
    let head = service.head().await?;
    let reports = source::reports(&*service.store, Key::REGIONS).await?;
    let answer = source::judge(&Question {
        look: &look,
        executed: executed.as_ref().unwrap_or(&look.executed),
        need: None,
        head: &head,
        reports: &reports,
        ignored: &ignored,
        only,
        now: service.now(),
    });
    Ok(Migrations::from(&answer))
}
