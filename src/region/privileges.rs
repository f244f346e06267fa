//! The privileges that apply, restore and the guard need on a region's server: one list, which `grants` prints and
//! `doctor` looks for.

use std::collections::BTreeSet;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::guard::{self, Grantee};
use super::preflight::{Check, Outcome};
use crate::binlog::name::{TableName, TableSet, quote};
use crate::config::Guard;
use crate::mysql::{Privileges, whole_schema};
use crate::stream::Head;
use crate::{Error, Kind, Result, mysql};

/// To run transactions under the stream's GTIDs; `Session::prove` tries them.
const REPLAY: &str = "REPLICATION_APPLIER, SESSION_VARIABLES_ADMIN, CONNECTION_ADMIN";

/// On the schema tablecast.
const OWN: [&str; 8] = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX"];

/// What the server asks for when it runs row events that BINLOG brings, if the account has not the like of it
/// (`Rows_log_event::do_apply_event`, sql/log_event.cc): all that it then says is 1105.
const ROWS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// On the tables: for rows, DDL, comparing, restoring and the guard.
const TABLES: [&str; 10] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES", TRIGGER];

/// For the guard alone.
const TRIGGER: &str = "TRIGGER";

/// To tell who keeps a restored table from taking its place.
const WAITS: [&str; 2] = ["metadata_locks", "threads"];

/// Of what Tablecast keeps in a region.
pub const SCHEMA: &str = "tablecast";

/// The least privileges that `user` needs in a region that lets in `tables`, without a trailing semicolon.
pub fn grants(user: &str, tables: &TableSet, mode: Guard) -> Vec<String> {
    let mut grants = vec![
        format!("GRANT {REPLAY} ON *.* TO {user}"),
        grant(&OWN, SCHEMA, user),
        // To see foreign keys of other tables on these: without it they would follow a table that is replaced. And
        // to see what the server keeps out of its binlog.
        format!("GRANT REFERENCES, REPLICATION CLIENT ON *.* TO {user}"),
    ];
    grants.extend(WAITS.map(|table| format!("GRANT SELECT ON {} TO {user}", waits(table).quoted())));
    // Ghost tables come and go under names that no grant on a table can list beforehand.
    grants.extend(tables.schemas().iter().map(|schema| on_schema(schema, user)));
    grants.extend(guard::grants(user, tables, mode));
    grants
}

/// All that is needed on the whole of a schema of the region's tables. A hint that named one of them alone could take the others
/// away: of several patterns that fit a schema the server takes the most specific only.
fn on_schema(schema: &str, user: &str) -> String {
    grant(&TABLES, schema, user)
}

/// That for the account of this connection, as a hint has it.
pub(super) async fn mend(conn: &mut Conn, schema: &str) -> Result<String> {
    let grant = Privileges::read(conn).await?.fit(on_schema(schema, "this account"));
    Ok(format!("{grant}: `tablecast grants`"))
}

fn grant(privileges: &[&str], schema: &str, user: &str) -> String {
    format!("GRANT {} ON {} TO {user}", privileges.join(", "), whole_schema(schema))
}

fn waits(table: &str) -> TableName {
    TableName::new("performance_schema", table)
}

/// What of the list the account lacks. `mode`: what the guard needs.
pub(super) async fn checks(
    conn: &mut Conn,
    tables: &TableSet,
    head: Option<&Head>,
    mode: Guard,
) -> Vec<Check> {
    const NAME: &str = "table privileges";
    let looked = async {
        let account = own_account(conn).await?;
        Ok::<_, Error>((account, Privileges::read(conn).await?))
    };
    let (account, privileges) = match looked.await {
        Ok(found) => found,
        Err(error) => return vec![Check::failed(NAME, &error)],
    };
    let mut checks = Vec::new();
    for schema in tables.schemas() {
        let known = head.into_iter().flat_map(|head| &head.definitions).map(|definition| &definition.table);
        let known: Vec<&TableName> =
            known.filter(|table| table.schema == schema && tables.names(table)).collect();
        let wanted = TABLES.into_iter().filter(|name| *name != TRIGGER || mode == Guard::Triggers);
        let missing: Vec<&str> = wanted.filter(|name| !privileges.in_schema(name, &schema)).collect();
        if missing.is_empty() {
            continue;
        }
        let on_each =
            |name: &&str| !known.is_empty() && known.iter().all(|table| privileges.on_table(name, table));
        let (partly, wholly): (Vec<&str>, Vec<&str>) = missing.iter().copied().partition(on_each);
        let hint = format!("{}; `tablecast grants` prints all", privileges.fit(on_schema(&schema, &account)));
        let lacks = |names: &[&str]| format!("{account} lacks {} on {}.*", names.join(", "), quote(&schema));
        // Without its triggers apply goes on.
        checks.push(match wholly.iter().any(|name| *name != TRIGGER) {
            true => Check { hint: Some(hint), kind: Kind::Denied, ..Check::fails(NAME, lacks(&wholly)) },
            false if wholly.is_empty() => Check::warning(
                NAME,
                format!(
                    "{}: it has them on the single tables, which is not enough for a restore or a migration: they \
                     make new tables beside",
                    lacks(&partly)
                ),
                hint,
            ),
            false => Check::warning(NAME, format!("{}: the write guard cannot be set", lacks(&wholly)), hint),
        });
    }
    if checks.is_empty() {
        let schemas: Vec<String> =
            tables.schemas().iter().map(|schema| format!("{}.*", quote(schema))).collect();
        checks.push(Check::passed(NAME, format!("all that is needed on {}", schemas.join(", "))));
    }
    checks.extend(others(&privileges, &account));
    checks
}

/// What is needed beside the tables.
fn others(privileges: &Privileges, account: &str) -> Vec<Check> {
    const NAME: &str = "other privileges";
    let mut checks = Vec::new();
    let own: Vec<&str> = OWN.into_iter().filter(|name| !privileges.in_schema(name, SCHEMA)).collect();
    if !own.is_empty() {
        let message = format!("{account} lacks {} on `{SCHEMA}`.*", own.join(", "));
        let hint = format!("{}; `tablecast grants` prints all", grant(&OWN, SCHEMA, account));
        checks.push(Check { hint: Some(hint), kind: Kind::Denied, ..Check::fails(NAME, message) });
    }
    if !privileges.everywhere("REFERENCES") {
        checks.push(Check::warning(
            NAME,
            format!(
                "{account} lacks REFERENCES on *.*: it cannot see whether foreign keys of other tables hang on one that a \
                 restore replaces"
            ),
            format!("GRANT REFERENCES ON *.* TO {account}"),
        ));
    }
    if let Some(table) = WAITS.into_iter().map(waits).find(|table| !privileges.on_table("SELECT", table)) {
        checks.push(Check::warning(
            NAME,
            format!(
                "{account} lacks SELECT on {table}: who keeps a restored table from its place cannot be told"
            ),
            format!("GRANT SELECT ON {} TO {account}", table.quoted()),
        ));
    }
    checks
}

/// Why rows of these tables cannot be changed by this account, if that is why: BINLOG does not say it.
pub(super) async fn denied_rows(
    conn: &mut Conn,
    tables: &BTreeSet<TableName>,
    doing: &str,
) -> Result<Option<Error>> {
    let privileges = Privileges::read(conn).await?;
    let mut lacking: Vec<(String, &TableName)> = Vec::new();
    for table in tables {
        let missing: Vec<&str> = ROWS.into_iter().filter(|name| !privileges.on_table(name, table)).collect();
        if !missing.is_empty() {
            lacking.push((missing.join(", "), table));
        }
    }
    if lacking.is_empty() {
        return Ok(None);
    }
    let account = own_account(conn).await?;
    let lacks: Vec<String> = lacking.iter().map(|(names, table)| format!("{names} on {table}")).collect();
    let schemas: BTreeSet<&str> = lacking.iter().map(|(_, table)| table.schema.as_str()).collect();
    let mends: Vec<String> =
        schemas.iter().map(|schema| privileges.fit(on_schema(schema, &account))).collect();
    let error = Error::new(Kind::Denied, format!("{doing}: {account} lacks {}", lacks.join(", and ")));
    Ok(Some(error.hint(format!(
        "{}; nothing of this transaction was kept. `tablecast grants` prints all that is needed",
        mends.join("; ")
    ))))
}

async fn own_account(conn: &mut Conn) -> Result<String> {
    let own: Option<String> = conn
        .query_first("SELECT CURRENT_USER()")
        .await
        .map_err(|error| mysql::error(error, "ask for the own account"))?;
    Ok(own.map_or_else(|| "this account".to_owned(), |own| Grantee::of_text(&own).quoted()))
}

impl Check {
    fn fails(name: &'static str, message: String) -> Check {
        Check { outcome: Outcome::Failed, ..Check::passed(name, message) }
    }
}
