//! Privileges on single tables that get past the guard, or can take it away: taken from their accounts, remembered
//! in `tablecast.guard_taken`, and given back exactly when the guard goes off.
//!
//! A row says what is about to be taken before the REVOKE, and what is taken after it. A run that is killed between
//! them leaves a row whose `taking` is there still (the REVOKE has not run) or is not (it has): the next run sees
//! which. Grants on a whole schema or on everything are not touched, because they are for other tables as well: who
//! has one is told by `guard status`, with the statement.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::grantee::Grantee;
use crate::binlog::name::{TableName, quote};
use crate::config::Guard;
use crate::region::position::{is_missing, take};
use crate::{Error, Kind, Result, mysql};

const READ: &str = include_str!("../../../sql/region/guard_taken.sql");
const TAKING: &str = include_str!("../../../sql/region/guard_taking.sql");
const GIVEN: &str = include_str!("../../../sql/region/guard_given.sql");

/// Privileges by the names that GRANT has for them, in capitals.
pub type Privileges = BTreeSet<String>;

/// What the guard leaves to nobody, as a table's privileges. INDEX and ALTER change its definition, DROP is TRUNCATE
/// and RENAME as well, TRIGGER takes the guard's triggers away.
pub fn unwanted(mode: Guard) -> &'static [&'static str] {
    match mode {
        Guard::Triggers => &["ALTER", "DROP", "INDEX", "TRIGGER"],
        Guard::Grants => &["INSERT", "UPDATE", "DELETE", "ALTER", "DROP", "INDEX", "TRIGGER"],
        Guard::Off => &[],
    }
}

/// A grant on a table, or on one of its columns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub to: Grantee,
    pub table: TableName,
    pub column: Option<String>,
}

impl Place {
    /// `INSERT, UPDATE` or, for a column, ``UPDATE (`v`)``.
    fn list(&self, privileges: &Privileges) -> String {
        let one = |privilege: &String| match &self.column {
            Some(column) => format!("{privilege} ({})", quote(column)),
            None => privilege.clone(),
        };
        privileges.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    pub fn revoke(&self, privileges: &Privileges) -> String {
        format!("REVOKE {} ON {} FROM {}", self.list(privileges), self.table.quoted(), self.to.quoted())
    }

    pub fn grant(&self, privileges: &Privileges) -> String {
        format!("GRANT {} ON {} TO {}", self.list(privileges), self.table.quoted(), self.to.quoted())
    }
}

/// What is remembered of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub place: Place,
    pub taken: Privileges,
    pub taking: Privileges,
    /// What the account was left with there.
    pub rest: Privileges,
}

/// A change of the grants of one place, and of what is remembered of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub place: Place,
    /// Remembered before this change.
    pub before: Privileges,
    pub revoke: Privileges,
    pub give: Privileges,
    /// Remembered after it; nothing: the row goes.
    pub after: Privileges,
    /// What the account is left with.
    pub rest: Privileges,
    /// Not given back: the account is gone, or somebody has taken from it all that the guard had left to it.
    pub void: Privileges,
}

/// What is to be done so that the accounts have, on each table, all that is theirs but what is `unwanted` there.
///
/// Who lost the rest of it while the guard was on has lost what the guard had taken as well: nobody gives rights back
/// to whom they were taken from for another reason.
///
/// `there`: grants as they are now. `taken`: what is remembered. Pure.
pub fn changes<'w>(
    there: &[(Place, Privileges)],
    taken: &[Taken],
    unwanted: impl Fn(&TableName) -> &'w [&'w str],
    is_account: impl Fn(&Grantee) -> bool,
) -> Vec<Change> {
    let nothing = Privileges::new();
    let here = |place: &Place| {
        there.iter().find(|(at, _)| at == place).map_or(nothing.clone(), |(_, privileges)| privileges.clone())
    };
    let mut places: BTreeSet<&Place> = there.iter().map(|(place, _)| place).collect();
    places.extend(taken.iter().map(|taken| &taken.place));
    let mut changes = Vec::new();
    for place in places {
        let now = here(place);
        let row = taken.iter().find(|taken| taken.place == *place);
        // What a killed run was about to take, and is not there, it has taken.
        let mut before: Privileges = row
            .map(|row| row.taken.iter().chain(row.taking.difference(&now)).cloned().collect())
            .unwrap_or_default();
        let is_void = !is_account(&place.to)
            || row.is_some_and(|row| !row.rest.is_empty() && row.rest.is_disjoint(&now));
        let void = if is_void { std::mem::take(&mut before) } else { Privileges::new() };
        let unwanted = unwanted(&place.table);
        let is_unwanted = |privilege: &&String| unwanted.contains(&privilege.as_str());
        let revoke: Privileges = now.iter().filter(is_unwanted).cloned().collect();
        let after: Privileges = before.iter().filter(is_unwanted).chain(&revoke).cloned().collect();
        // What the account has got again by somebody else is its own.
        let give: Privileges = before.difference(&after).filter(|p| !now.contains(*p)).cloned().collect();
        let rest: Privileges = now.difference(&revoke).chain(&give).cloned().collect();
        let is_settled = row.is_none_or(|row| row.taking.is_empty() && row.taken == after);
        if !revoke.is_empty() || !give.is_empty() || !is_settled {
            changes.push(Change { place: place.clone(), before, revoke, give, after, rest, void });
        }
    }
    changes
}

/// What is remembered of a stream.
pub async fn read(conn: &mut Conn, stream: &str) -> Result<Vec<Taken>> {
    let doing = format!("read which grants the guard of {stream} has taken");
    let rows: Vec<Row> = match conn.exec(READ, (stream,)).await {
        Ok(rows) => rows,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(mysql::error(error, &doing)),
    };
    let one = |mut row: Row| {
        let column: String = take(&mut row, "column_name")?;
        let (schema, table): (String, String) =
            (take(&mut row, "table_schema")?, take(&mut row, "table_name")?);
        Ok(Taken {
            place: Place {
                to: Grantee::new(
                    take::<String>(&mut row, "account_user")?,
                    take::<String>(&mut row, "account_host")?,
                ),
                table: TableName::new(schema, table),
                column: Some(column).filter(|column| !column.is_empty()),
            },
            taken: parse(&take::<String>(&mut row, "taken")?),
            taking: parse(&take::<String>(&mut row, "taking")?),
            rest: parse(&take::<String>(&mut row, "rest")?),
        })
    };
    rows.into_iter().map(|row| one(row).map_err(|error: Error| error.during(doing.clone()))).collect()
}

/// Puts down what is taken, and what is about to be.
pub async fn remember(
    conn: &mut Conn,
    stream: &str,
    place: &Place,
    taken: &Privileges,
    taking: &Privileges,
    rest: &Privileges,
) -> Result<()> {
    let values = (
        stream,
        &place.table.schema,
        &place.table.table,
        &place.to.user,
        &place.to.host,
        place.column.as_deref().unwrap_or_default(),
        text(taken),
        text(taking),
        text(rest),
    );
    let doing = format!("remember what the guard takes from {} on {}", place.to, place.table);
    conn.exec_drop(TAKING, values).await.map_err(|error| mysql::error(error, &doing))
}

/// Everything of this place has been given back.
pub async fn forget(conn: &mut Conn, stream: &str, place: &Place) -> Result<()> {
    let values = (
        stream,
        &place.table.schema,
        &place.table.table,
        &place.to.user,
        &place.to.host,
        place.column.as_deref().unwrap_or_default(),
    );
    let doing = format!("forget what the guard took from {} on {}", place.to, place.table);
    conn.exec_drop(GIVEN, values).await.map_err(|error| mysql::error(error, &doing))
}

/// Reads a SET of `mysql.tables_priv`, or one of our own lists: `Insert,Update`.
pub fn parse(list: &str) -> Privileges {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_uppercase).collect()
}

fn text(privileges: &Privileges) -> String {
    privileges.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

/// Everybody who has an account, and every role.
pub async fn accounts(conn: &mut Conn) -> Result<BTreeSet<Grantee>> {
    let rows: Vec<(String, String)> =
        conn.query("SELECT User, Host FROM mysql.user").await.map_err(|error| unreadable(error, "tables"))?;
    Ok(rows.into_iter().map(|(user, host)| Grantee::new(user, host)).collect())
}

/// Grants on tables and columns of these schemas, of everybody but `own`.
pub async fn grants_on_tables(
    conn: &mut Conn,
    schemas: &BTreeSet<String>,
    own: &Grantee,
) -> Result<Vec<(Place, Privileges)>> {
    let mut found = Vec::new();
    for schema in schemas {
        const TABLES: &str =
            "SELECT User, Host, Table_name, '', CAST(Table_priv AS CHAR) FROM mysql.tables_priv WHERE Db = ?";
        const COLUMNS: &str = "SELECT User, Host, Table_name, Column_name, CAST(Column_priv AS CHAR) FROM \
            mysql.columns_priv WHERE Db = ?";
        for query in [TABLES, COLUMNS] {
            let rows: Vec<(String, String, String, String, String)> =
                conn.exec(query, (schema,)).await.map_err(|error| unreadable(error, "tables"))?;
            for (user, host, table, column, list) in rows {
                let place = Place {
                    to: Grantee::new(user, host),
                    table: TableName::new(schema, table),
                    column: Some(column).filter(|column| !column.is_empty()),
                };
                let privileges = parse(&list);
                if place.to != *own && !privileges.is_empty() {
                    found.push((place, privileges));
                }
            }
        }
    }
    Ok(found)
}

/// The grant tables are the server's own: nobody reads them without being allowed to.
pub fn unreadable(error: mysql_async::Error, what: &str) -> Error {
    let denied =
        matches!(&error, mysql_async::Error::Server(error) if matches!(error.code, 1142 | 1143 | 1044));
    let error = mysql::error(error, &format!("read who has grants on {what}"));
    match denied && error.kind() == Kind::Denied {
        true => {
            error.hint("this account may not read the schema mysql: `tablecast grants` prints what it needs")
        }
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(list: &str) -> Privileges {
        parse(list)
    }

    fn place() -> Place {
        Place { to: Grantee::new("app", "%"), table: TableName::new("g", "apps"), column: None }
    }

    fn taken(done: &str, about: &str) -> Vec<Taken> {
        vec![Taken { place: place(), taken: set(done), taking: set(about), rest: set("SELECT") }]
    }

    fn of(there: &str, taken: &[Taken], mode: Guard) -> Vec<(Privileges, Privileges, Privileges)> {
        let there = match there {
            "" => vec![],
            list => vec![(place(), set(list))],
        };
        let all = changes(&there, taken, |_| unwanted(mode), |who| who.user == "app");
        all.into_iter().map(|change| (change.revoke, change.give, change.after)).collect()
    }

    #[test]
    fn what_is_taken_is_what_the_account_has_and_the_guard_does_not_leave() {
        let nothing = set("");
        let done = of("Select,Insert,Alter,Grant", &[], Guard::Triggers);
        assert_eq!(done, [(set("ALTER"), nothing.clone(), set("ALTER"))]);
        let done = of("Select,Insert", &taken("ALTER", ""), Guard::Grants);
        assert_eq!(done, [(set("INSERT"), nothing, set("ALTER,INSERT"))]);
        assert!(of("Select", &taken("ALTER", ""), Guard::Grants).is_empty());
        assert!(of("Select,Insert", &[], Guard::Triggers).is_empty());
    }

    #[test]
    fn off_gives_back_exactly_what_was_taken() {
        let nothing = set("");
        let done = of("Select", &taken("ALTER,INSERT", ""), Guard::Off);
        assert_eq!(done, [(nothing.clone(), set("ALTER,INSERT"), nothing.clone())]);
        // The account had nothing else there.
        let alone = vec![Taken { rest: nothing.clone(), ..taken("ALTER", "").remove(0) }];
        let done = of("", &alone, Guard::Off);
        assert_eq!(done, [(nothing.clone(), set("ALTER"), nothing.clone())]);
        // From grants to triggers: rows may be written again as far as privileges go.
        let done = of("Select", &taken("ALTER,INSERT", ""), Guard::Triggers);
        assert_eq!(done, [(nothing, set("INSERT"), set("ALTER"))]);
    }

    #[test]
    fn nothing_is_given_back_to_whom_it_was_taken_from_for_another_reason() {
        let nothing = set("");
        // REVOKE ALL by somebody, while the guard was on.
        let done = of("", &taken("ALTER", ""), Guard::Off);
        assert_eq!(done, [(nothing.clone(), nothing.clone(), nothing.clone())]);
        // Part of it: the account is still in use.
        let two = vec![Taken { rest: set("SELECT,INSERT"), ..taken("ALTER", "").remove(0) }];
        assert_eq!(of("Select", &two, Guard::Off), [(nothing.clone(), set("ALTER"), nothing.clone())]);
        // An account that is gone, which the next of its name is not.
        let gone = Place { to: Grantee::new("gone", "%"), ..place() };
        let row = Taken { place: gone.clone(), taken: set("ALTER"), taking: set(""), rest: set("") };
        let done = changes(&[], &[row], |_| unwanted(Guard::Triggers), |who| who.user == "app");
        assert_eq!(
            (done[0].void.clone(), done[0].after.clone(), done[0].give.clone()),
            (set("ALTER"), nothing.clone(), nothing)
        );
    }

    /// I7: killed between what is put down and the REVOKE, or between the REVOKE and what is put down.
    #[test]
    fn a_revoke_that_was_cut_short_is_known_to_have_run_or_not() {
        let nothing = set("");
        let done = of("Select", &taken("", "ALTER"), Guard::Off);
        assert_eq!(done, [(nothing.clone(), set("ALTER"), nothing.clone())]);
        let done = of("Select,Alter", &taken("", "ALTER"), Guard::Off);
        assert_eq!(done, [(nothing.clone(), nothing.clone(), nothing.clone())]);
        let done = of("Select,Alter", &taken("", "ALTER"), Guard::Triggers);
        assert_eq!(done, [(set("ALTER"), nothing.clone(), set("ALTER"))]);
        let done = of("Select", &taken("", "ALTER"), Guard::Triggers);
        assert_eq!(done, [(nothing.clone(), nothing, set("ALTER"))]);
    }

    #[test]
    fn statements_name_columns_and_quote_names() {
        let mut at = place();
        assert_eq!(at.revoke(&set("Alter,Drop")), "REVOKE ALTER, DROP ON `g`.`apps` FROM 'app'@'%'");
        at.column = Some("a`b".into());
        at.to = Grantee::new("o'x", "10.0.%");
        assert_eq!(at.grant(&set("Update")), "GRANT UPDATE (`a``b`) ON `g`.`apps` TO 'o''x'@'10.0.%'");
    }
}
