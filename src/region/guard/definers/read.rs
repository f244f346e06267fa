//! What acts as its definer, as the server's dictionary has it, and who may execute it.
//!
//! The dictionary shows an account what it has privileges on (<https://dev.mysql.com/doc/refman/8.4/en/information-schema-introduction.html#information-schema-privileges>):
//! what may be missing for want of them is told.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use mysql_async::prelude::{FromRow, Queryable};

use super::{Acting, What};
use crate::binlog::name::TableName;
use crate::region::guard::accounts::{Grant, On, World};
use crate::region::guard::grantee::Grantee;
use crate::region::guard::taken::{Privileges, parse, unreadable};
use crate::{Result, mysql};

const ROUTINES: &str = "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE, DEFINER, ROUTINE_DEFINITION \
    FROM information_schema.ROUTINES WHERE SECURITY_TYPE = 'DEFINER' AND ROUTINE_TYPE IN ('PROCEDURE', 'FUNCTION')";
/// One that is disabled runs for nobody, and whoever enables it becomes its definer.
const EVENTS: &str =
    "SELECT EVENT_SCHEMA, EVENT_NAME, DEFINER FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'";
const TRIGGERS: &str = "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, DEFINER, ACTION_STATEMENT, EVENT_OBJECT_SCHEMA, \
    EVENT_OBJECT_TABLE, EVENT_MANIPULATION FROM information_schema.TRIGGERS";
const VIEWS: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, DEFINER, VIEW_DEFINITION, CHECK_OPTION \
    FROM information_schema.VIEWS WHERE SECURITY_TYPE = 'DEFINER' AND IS_UPDATABLE = 'YES'";
const SHOWN: &str = "SELECT VIEW_SCHEMA, VIEW_NAME, TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEW_TABLE_USAGE \
    WHERE VIEW_SCHEMA <> 'sys'";

/// Privileges on everything without which some of them are not seen, and what that is.
const SIGHT: [(&[&str], &str); 4] = [
    (&["SHOW_ROUTINE", "SELECT"], "procedures and functions"),
    (&["EVENT"], "events"),
    (&["TRIGGER"], "triggers"),
    (&["SHOW VIEW", "SELECT"], "views"),
];

/// What an account must be allowed for [`acting`] and [`executes`] beyond what it has on its schemas, as GRANT names
/// it. EVENT and TRIGGER on everything would let it take others' away: they are left to whoever wants to know.
pub const NEEDED: [&str; 2] = ["SELECT ON `mysql`.`procs_priv`", "SHOW_ROUTINE ON *.*"];

/// Everything that acts as its definer.
pub async fn acting(conn: &mut Conn) -> Result<Vec<Acting>> {
    let mut all = Vec::new();
    let plain = |what, name, definer: String, body| Acting {
        what,
        name,
        definer: Grantee::of_text(&definer),
        body,
        on: None,
        shows: BTreeSet::new(),
        check_option: None,
    };
    type Routine = (String, String, String, String, Option<String>);
    for (schema, name, kind, definer, body) in rows::<Routine>(conn, ROUTINES).await? {
        let what = if kind == "FUNCTION" { What::Function } else { What::Procedure };
        all.push(plain(what, TableName::new(schema, name), definer, body));
    }
    for (schema, name, definer) in rows::<(String, String, String)>(conn, EVENTS).await? {
        all.push(plain(What::Event, TableName::new(schema, name), definer, None));
    }
    type Trigger = (String, String, String, Option<String>, String, String, String);
    for (schema, name, definer, body, of_schema, of, change) in rows::<Trigger>(conn, TRIGGERS).await? {
        let trigger = plain(What::Trigger, TableName::new(schema, name), definer, body);
        all.push(Acting { on: Some((TableName::new(of_schema, of), change.to_uppercase())), ..trigger });
    }
    let mut shown: BTreeMap<TableName, BTreeSet<TableName>> = BTreeMap::new();
    for (schema, view, of_schema, of) in rows::<(String, String, String, String)>(conn, SHOWN).await? {
        shown.entry(TableName::new(schema, view)).or_default().insert(TableName::new(of_schema, of));
    }
    type View = (String, String, String, Option<String>, String);
    for (schema, name, definer, body, check) in rows::<View>(conn, VIEWS).await? {
        let body = body.filter(|body| !body.is_empty());
        let view = plain(What::View, TableName::new(schema, name), definer, body);
        let shows = through(&view.name, &shown);
        all.push(Acting { shows, check_option: (check != "NONE").then_some(check), ..view });
    }
    Ok(all)
}

/// The tables that a view shows, through other views too.
fn through(view: &TableName, shown: &BTreeMap<TableName, BTreeSet<TableName>>) -> BTreeSet<TableName> {
    let (mut found, mut next) = (BTreeSet::new(), vec![view]);
    while let Some(name) = next.pop() {
        for table in shown.get(name).into_iter().flatten() {
            if found.insert(table.clone()) {
                next.push(table);
            }
        }
    }
    found
}

/// Adds who may execute what to the grants of a world that has been read.
pub async fn executes(conn: &mut Conn, world: &mut World) -> Result<()> {
    const EVERYWHERE: &str = "SELECT User, Host FROM mysql.user WHERE Execute_priv = 'Y'";
    const SCHEMAS: &str = "SELECT User, Host, Db FROM mysql.db WHERE Execute_priv = 'Y'";
    const ROUTINES: &str = "SELECT User, Host, Db, Routine_name, CAST(Routine_type AS CHAR), CAST(Proc_priv AS CHAR) FROM mysql.procs_priv";
    let execute = Privileges::from(["EXECUTE".to_owned()]);
    let mut found = Vec::new();
    for (user, host) in granted::<(String, String)>(conn, EVERYWHERE).await? {
        let to = Grantee::new(user, host);
        let without = world.grants.iter().filter(|grant| grant.to == to && grant.on == On::Everything);
        let without = without.flat_map(|grant| grant.without.clone()).collect();
        found.push(Grant { to, on: On::Everything, privileges: execute.clone(), without });
    }
    let mut more = |to, on, privileges| {
        found.push(Grant { to, on, privileges, without: BTreeMap::new() });
    };
    for (user, host, schema) in granted::<(String, String, String)>(conn, SCHEMAS).await? {
        more(Grantee::new(user, host), On::Schema(schema), execute.clone());
    }
    type OfRoutine = (String, String, String, String, String, String);
    for (user, host, schema, name, kind, list) in granted::<OfRoutine>(conn, ROUTINES).await? {
        let what = if kind == "FUNCTION" { What::Function } else { What::Procedure };
        more(Grantee::new(user, host), On::Routine(what, TableName::new(schema, name)), parse(&list));
    }
    world.grants.extend(found);
    Ok(())
}

/// What the account may not see everything of, and the privilege on everything that shows it.
pub async fn unseen(conn: &mut Conn) -> Result<Vec<String>> {
    let lines: Vec<String> =
        conn.query("SHOW GRANTS").await.map_err(|error| mysql::error(error, "read the account's grants"))?;
    let mut own = Privileges::new();
    for line in &lines {
        let list = line.strip_prefix("GRANT ").and_then(|line| line.split_once(" ON *.* TO "));
        own.extend(list.into_iter().flat_map(|(list, _)| list.split(',')).map(|name| name.trim().to_owned()));
    }
    let sees = |one_of: &[&str]| {
        own.contains("ALL PRIVILEGES") || one_of.iter().any(|privilege| own.contains(*privilege))
    };
    let unseen = SIGHT.iter().filter(|(one_of, _)| !sees(one_of));
    Ok(unseen.map(|(one_of, what)| format!("{what} ({} ON *.*)", one_of[0])).collect())
}

async fn rows<T: FromRow + Send + 'static>(conn: &mut Conn, query: &str) -> Result<Vec<T>> {
    conn.query(query).await.map_err(|error| mysql::error(error, "read what acts as its definer"))
}

async fn granted<T: FromRow + Send + 'static>(conn: &mut Conn, query: &str) -> Result<Vec<T>> {
    conn.query(query).await.map_err(|error| unreadable(error, "routines"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_shows_what_the_views_in_it_show() {
        let name = |text: &str| text.parse::<TableName>().unwrap();
        let uses = [("g.v", vec!["g.w", "g.a"]), ("g.w", vec!["g.b", "g.v"]), ("g.x", vec!["g.c"])];
        let shown = uses.map(|(view, of)| (name(view), of.into_iter().map(name).collect())).into();
        let found = through(&name("g.v"), &shown);
        assert_eq!(found, ["g.w", "g.a", "g.b", "g.v"].map(name).into());
    }
}
