//! The MySQL server: what the role's own preflight finds, and the server's clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;

use super::super::run::Run;
use super::store::skew_check;
use super::{Check, Outcome, ends_with, mend, standing};
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::source::standstill;
use crate::store::Store;
use crate::stream::Head;
use crate::{mysql, region, source};

pub async fn checks(
    run: &Run,
    store: Option<&dyn Store>,
    head: Option<&Head>,
    checks: &mut Vec<Check>,
) -> Result<()> {
    let began = checks.len();
    match run.config.role {
        Role::Source => {
            for check in source::preflight::checks(&run.config, head).await? {
                let outcome = match check.outcome {
                    source::preflight::Outcome::Passed => Outcome::Passed,
                    source::preflight::Outcome::Warning => Outcome::Warning,
                    source::preflight::Outcome::Failed => Outcome::Failed,
                };
                let mut taken = take(run, check.name, outcome, check.kind, check.message, check.hint);
                if check.name == standstill::NAME && taken.breaks.is_some() {
                    taken.breaks = Some(standstill::BREAKS.to_owned());
                }
                checks.push(taken);
            }
        }
        Role::Region => {
            // The head has been read and judged already; without one there is nothing to compare with.
            let store = store.filter(|_| head.is_some());
            for check in region::preflight::checks(&run.config, store).await? {
                let outcome = match check.outcome {
                    region::preflight::Outcome::Passed => Outcome::Passed,
                    region::preflight::Outcome::Warning => Outcome::Warning,
                    region::preflight::Outcome::Failed => Outcome::Failed,
                };
                checks.push(take(run, check.name, outcome, check.kind, check.message, check.hint));
            }
        }
    }
    // Without a connection there is no clock to compare with, and that has been said.
    let is_connected = checks.get(began).is_some_and(|first| first.outcome == Outcome::Passed);
    if is_connected {
        match clock(run).await {
            Ok(check) => checks.push(check),
            Err(error) => checks.push(Check::failed(run, "mysql clock", &error)),
        }
        if let Err(error) = standing::checks(run, head, checks).await {
            checks.push(Check::failed(run, standing::LAST_RUN, &error));
        }
    }
    if let Some(primary) = &run.config.primary {
        checks.push(match mysql::connect(primary).await {
            Ok(_) => Check::passed("primary", format!("connected to {primary}")),
            Err(error) => Check {
                breaks: Some(
                    "what has to be changed on the primary cannot be (`tables`, `processor`); upload needs it only for what the source \
                     cannot send any more".to_owned(),
                ),
                outcome: Outcome::Warning,
                ..Check::failed(run, "primary", &error)
            },
        });
    }
    Ok(())
}

fn take(run: &Run, name: &str, outcome: Outcome, kind: Kind, message: String, hint: Option<String>) -> Check {
    let breaks = (outcome == Outcome::Failed).then(|| ends_with(run, kind));
    let hint = match outcome {
        Outcome::Failed => Some(mend(hint.as_deref(), kind)),
        _ => hint,
    };
    Check { name: name.to_owned(), outcome, message, hint, breaks }
}

/// The server's clock gives `as_of`, this machine's the lag: they must agree.
async fn clock(run: &Run) -> Result<Check> {
    const DOING: &str = "read the server's clock";
    let mut conn = mysql::connect(&run.config.mysql).await?;
    let before = run.now();
    let there: Option<String> = conn
        .query_first("SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')")
        .await
        .map_err(|error| mysql::error(error, DOING))?;
    let here = before + (run.now() - before) / 2;
    let there: DateTime<Utc> = there
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new(Kind::Mysql, format!("{DOING}: it told none")))?;
    let skew = (here - there).abs().to_std().unwrap_or_default();
    Ok(skew_check(run, "mysql clock", &run.config.mysql.to_string(), skew, Duration::MAX))
}
