//! What the guard needs, as `doctor` and `grants` tell it before the first change.
//!
//! Whether triggers can be made is tried on a table that does not exist: the server asks for the privileges first (1419
//! for the whole server, 1142 for the schema) and for the table (1146) after them, as measured on 9.7. Nothing is made.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::command::standing;
use super::keep::TRUST;
use super::plan::{self, Scope};
use super::{read, row};
use crate::binlog::name::{TableSet, quote};
use crate::config::{Config, Guard};
use crate::error::chain;
use crate::region::preflight::Check;
use crate::region::privileges;
use crate::stream::Head;
use crate::{Error, Kind, Result, mysql};

const NAME: &str = "write guard";
const ACCOUNTS: &str = "guard accounts";

/// ER_NO_SUCH_TABLE: the privileges suffice.
const NO_TABLE: u16 = 1146;
/// ER_BAD_DB_ERROR: the schema will be made.
const NO_SCHEMA: u16 = 1049;
const NEEDS_SUPER: u16 = 1419;

/// The guard's preconditions. None of them stops apply.
pub async fn checks(conn: &mut Conn, config: &Config, head: Option<&Head>) -> Vec<Check> {
    let checked = async {
        let scope = Scope::new(config, head, standing(conn, config).await?)?;
        let wish = row::wish(conn, config).await?;
        Ok::<_, Error>(match wish.mode {
            Guard::Off => vec![Check::passed(NAME, "off: local writes to the tables are not refused")],
            Guard::Triggers => {
                vec![
                    triggers(conn, &scope, wish.problem.as_deref()).await?,
                    accounts(conn, &scope, Guard::Triggers).await,
                ]
            }
            Guard::Grants => vec![
                match wish.problem {
                    None => Check::passed(NAME, "by grants"),
                    Some(problem) => Check::warning(NAME, problem, "`tablecast guard status` has the rest"),
                },
                accounts(conn, &scope, Guard::Grants).await,
            ],
        })
    };
    match checked.await {
        Ok(checks) => checks,
        Err(error) => vec![Check::warning(
            NAME,
            chain(&error),
            error
                .hint_text()
                .unwrap_or("local writes may not be refused: `tablecast guard status`")
                .to_owned(),
        )],
    }
}

async fn triggers(conn: &mut Conn, scope: &Scope, problem: Option<&str>) -> Result<Check> {
    let seen = plan::look(conn, scope).await?;
    let bare: Vec<String> = seen.bare(scope).iter().map(ToString::to_string).collect();
    if let Some((message, hint)) = cannot(conn, scope).await? {
        return Ok(Check::warning(
            NAME,
            format!(
                "triggers cannot be made: local writes to {} tables are not refused: {message}",
                bare.len()
            ),
            hint,
        ));
    }
    Ok(match (bare.is_empty(), problem) {
        (true, None) => {
            Check::passed(NAME, format!("triggers refuse local writes to {} tables", seen.tables.len()))
        }
        (true, Some(problem)) => Check::warning(NAME, problem, "`tablecast guard status` has the rest"),
        (false, problem) => Check::warning(
            NAME,
            format!(
                "not guarded: {}{}",
                bare.join(", "),
                problem.map(|p| format!(": {p}")).unwrap_or_default()
            ),
            "the next `tablecast apply` sets the guard, `tablecast guard on` does it now",
        ),
    })
}

/// Why no triggers can be made, and what mends it.
async fn cannot(conn: &mut Conn, scope: &Scope) -> Result<Option<(String, String)>> {
    for schema in scope.schemas() {
        let name = quote(&schema);
        // No table has this name: `is_own` names end otherwise.
        let tried = conn
            .query_drop(format!(
                "CREATE TRIGGER {name}.`tablecast_guard_probe` BEFORE INSERT ON {name}.`_tablecast_guard_probe` FOR EACH ROW \
                 SIGNAL SQLSTATE '45000'"
            ))
            .await;
        match tried {
            Ok(()) => {
                // Somebody has made a table of that name.
                let dropped = conn.query_drop(format!("DROP TRIGGER {name}.`tablecast_guard_probe`")).await;
                dropped.map_err(|error| mysql::error(error, "take the probe of the guard away"))?;
            }
            Err(mysql_async::Error::Server(error)) if matches!(error.code, NO_TABLE | NO_SCHEMA) => {}
            Err(mysql_async::Error::Server(error)) if error.code == NEEDS_SUPER => {
                return Ok(Some((format!("ERROR {NEEDS_SUPER}: {}", error.message), TRUST.to_owned())));
            }
            Err(error) => {
                let error = mysql::error(error, &format!("try to make a trigger in {schema}"));
                if error.kind() != Kind::Denied {
                    return Err(error);
                }
                let hint = match error.hint_text() {
                    Some(hint) if !hint.contains("tablecast grants") => hint.to_owned(),
                    _ => privileges::mend(conn, &schema).await?,
                };
                return Ok(Some((chain(&error), hint)));
            }
        }
    }
    Ok(None)
}

async fn accounts(conn: &mut Conn, scope: &Scope, mode: Guard) -> Check {
    let counted = async {
        let seen = plan::look(conn, scope).await?;
        let own = plan::own_account(conn).await?;
        let found = read::openings(conn, scope, mode, &seen.tables, &Default::default(), &own).await?;
        Ok::<_, Error>((found.accounts().len(), found.warnings))
    };
    match counted.await {
        Ok((_, warnings)) if !warnings.is_empty() => {
            Check::warning(ACCOUNTS, warnings.join("; "), "`tablecast grants` prints what it needs")
        }
        Ok((0, _)) => Check::passed(ACCOUNTS, "nobody else gets past it"),
        Ok((n, _)) => Check::passed(
            ACCOUNTS,
            format!("{n} could get past it or change the tables; `tablecast guard status` names them"),
        ),
        Err(error) => Check::warning(
            ACCOUNTS,
            format!("who could get past it is not known: {}", chain(&error)),
            error.hint_text().unwrap_or("`tablecast guard status`").to_owned(),
        ),
    }
}

/// What the account needs for the guard beyond the privileges on the tables; without a trailing semicolon.
pub fn grants(user: &str, tables: &TableSet, mode: Guard) -> Vec<String> {
    if mode == Guard::Off {
        return Vec::new();
    }
    // To tell who could get past it. Of mysql.user no column that holds a password.
    let mut grants: Vec<String> =
        read::needed().into_iter().map(|needed| format!("GRANT {needed} TO {user}")).collect();
    if mode == Guard::Grants {
        grants.extend(may_take(user, tables));
    }
    grants
}

/// Adds the right to take and give what the account itself has on these schemas.
pub fn may_take(user: &str, tables: &TableSet) -> Vec<String> {
    let one = |schema: &String| {
        format!("GRANT USAGE ON {} TO {user} WITH GRANT OPTION", mysql::whole_schema(schema))
    };
    tables.schemas().iter().map(one).collect()
}
