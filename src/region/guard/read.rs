//! Who gets past the guard, out of the server's grant tables, as [`World`] has them, and its dictionary.
//!
//! Read from the schema mysql, column by column, so that an account need not see password hashes for it
//! (<https://dev.mysql.com/doc/refman/8.4/en/grant-tables.html>).

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::accounts::{Account, Grant, On, Opening, World};
use super::definers::{self, Acting, ByDefiner};
use super::grantee::{Grantee, roles_of};
use super::plan::Scope;
use super::taken::{Privileges, grants_on_tables, unreadable};
use crate::binlog::name::TableName;
use crate::config::Guard;
use crate::error::chain_and_hint;
use crate::region::position::take;
use crate::{Kind, Result, mysql};

/// Columns of `mysql.user` and the privilege that each stands for. The first seven are in `mysql.db`, too.
const COLUMNS: [(&str, &str); 9] = [
    ("Insert_priv", "INSERT"),
    ("Update_priv", "UPDATE"),
    ("Delete_priv", "DELETE"),
    ("Alter_priv", "ALTER"),
    ("Drop_priv", "DROP"),
    ("Index_priv", "INDEX"),
    ("Trigger_priv", "TRIGGER"),
    ("Super_priv", "SUPER"),
    ("Create_user_priv", "CREATE USER"),
];
const OF_SCHEMAS: usize = 7;

/// Who gets past the guard.
#[derive(Clone, Debug, Default)]
pub struct Openings {
    pub of_accounts: Vec<Opening>,
    /// `None`: not known.
    pub by_definers: Option<Vec<ByDefiner>>,
    /// What may act as its definer, and cannot be seen for want of a privilege.
    pub unseen: Vec<String>,
    pub warnings: Vec<String>,
}

impl Openings {
    /// Those who could use one of them.
    pub fn accounts(&self) -> BTreeSet<&Grantee> {
        let users = self.by_definers.iter().flatten().flat_map(|one| &one.users);
        self.of_accounts.iter().map(|opening| &opening.account).chain(users).collect()
    }
}

/// Looks for every way past the guard of these tables; see [`World::openings`]. That the account may not read who has
/// which grant is an error; where it may not read who can execute what, that alone is not known.
pub async fn openings(
    conn: &mut Conn,
    scope: &Scope,
    mode: Guard,
    tables: &BTreeSet<TableName>,
    bare: &BTreeSet<TableName>,
    own: &Grantee,
) -> Result<Openings> {
    let mut schemas = scope.schemas();
    let acting = definers::read::acting(conn).await?;
    // Their grants on views, and on the tables of triggers, count as well.
    let on = |one: &Acting| one.on.as_ref().map_or(&one.name, |(table, _)| table).schema.clone();
    schemas.extend(acting.iter().map(on));
    let mut world = world(conn, &schemas).await?;
    let mut found = Openings {
        of_accounts: world.openings(mode, tables, bare, own),
        unseen: definers::read::unseen(conn).await?,
        ..Openings::default()
    };
    match definers::read::executes(conn, &mut world).await {
        Ok(()) => found.by_definers = Some(world.by_definers(&acting, mode, tables, bare, own)),
        Err(error) if error.kind() == Kind::Denied => found.warnings.push(format!(
            "which procedures, events, triggers and views lead past the guard is not known: {}",
            chain_and_hint(&error)
        )),
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// What an account must be allowed to read for [`openings`], as GRANT names it.
pub fn needed() -> Vec<String> {
    let mut columns = vec!["`Host`", "`User`", "`account_locked`"];
    let own: Vec<String> = COLUMNS.iter().map(|(column, _)| format!("`{column}`")).collect();
    columns.extend(own.iter().map(String::as_str));
    columns.push("`Execute_priv`");
    let mut needed = vec![format!("SELECT ({}) ON `mysql`.`user`", columns.join(", "))];
    for table in ["db", "tables_priv", "columns_priv", "global_grants", "role_edges", "proxies_priv"] {
        needed.push(format!("SELECT ON `mysql`.`{table}`"));
    }
    needed.extend(definers::read::NEEDED.map(str::to_owned));
    needed
}

/// Everybody's grants, as far as they can matter to tables of these schemas.
async fn world(conn: &mut Conn, schemas: &BTreeSet<String>) -> Result<World> {
    let mut world = World::default();
    let settings: Option<(Option<String>, bool)> = conn
        .query_first("SELECT @@GLOBAL.mandatory_roles, @@GLOBAL.partial_revokes")
        .await
        .map_err(|error| mysql::error(error, "read mandatory_roles"))?;
    let (mandatory, partial_revokes) = settings.unwrap_or_default();
    world.mandatory = roles_of(&mandatory.unwrap_or_default());
    world.partial_revokes = partial_revokes;
    users(conn, &mut world).await?;
    let columns: Vec<&str> = COLUMNS[..OF_SCHEMAS].iter().map(|(column, _)| *column).collect();
    let query = format!("SELECT User, Host, Db, {} FROM mysql.db", columns.join(", "));
    for mut row in rows(conn, &query, "schemas").await? {
        let (to, on) = (name(&mut row)?, On::Schema(take(&mut row, "Db")?));
        let privileges = privileges(&mut row, OF_SCHEMAS)?;
        world.grants.push(Grant { to, on, privileges, without: BTreeMap::new() });
    }
    // Of these schemas, and of the server's own: who writes there gives itself what it wants.
    let mut schemas = schemas.clone();
    schemas.insert("mysql".to_owned());
    for (place, privileges) in grants_on_tables(conn, &schemas, &Grantee::new("", "")).await? {
        let on = match place.column {
            Some(column) => On::Column(place.table, column),
            None => On::Table(place.table),
        };
        world.grants.push(Grant { to: place.to, on, privileges, without: BTreeMap::new() });
    }
    for mut row in
        rows(conn, "SELECT USER AS User, HOST AS Host, PRIV FROM mysql.global_grants", "all").await?
    {
        let (to, privilege) = (name(&mut row)?, take::<String>(&mut row, "PRIV")?.to_uppercase());
        let privileges = Privileges::from([privilege]);
        world.grants.push(Grant { to, on: On::Everything, privileges, without: BTreeMap::new() });
    }
    const ROLES: &str = "SELECT FROM_USER, FROM_HOST, TO_USER, TO_HOST FROM mysql.role_edges";
    world.roles = pairs(conn, ROLES, "roles").await?;
    const PROXIES: &str = "SELECT User, Host, Proxied_user, Proxied_host FROM mysql.proxies_priv";
    world.proxies = pairs(conn, PROXIES, "other accounts").await?;
    Ok(world)
}

async fn users(conn: &mut Conn, world: &mut World) -> Result<()> {
    let columns: Vec<&str> = COLUMNS.iter().map(|(column, _)| *column).collect();
    let query = format!("SELECT User, Host, account_locked, {} FROM mysql.user", columns.join(", "));
    let mut without = partial_revokes(conn, world.partial_revokes).await?;
    for mut row in rows(conn, &query, "everything").await? {
        let to = name(&mut row)?;
        let is_locked = take::<String>(&mut row, "account_locked")? == "Y";
        world.accounts.push(Account { name: to.clone(), is_locked });
        let privileges = privileges(&mut row, COLUMNS.len())?;
        let without = without.remove(&to).unwrap_or_default();
        world.grants.push(Grant { to, on: On::Everything, privileges, without });
    }
    Ok(())
}

/// What partial revokes take from each account, by schema.
async fn partial_revokes(
    conn: &mut Conn,
    are_on: bool,
) -> Result<BTreeMap<Grantee, BTreeMap<String, Privileges>>> {
    let mut all = BTreeMap::new();
    if !are_on {
        return Ok(all);
    }
    const QUERY: &str = "SELECT User, Host, Restriction.Db, Restriction.List FROM mysql.user, JSON_TABLE(\
        COALESCE(User_attributes->'$.Restrictions', '[]'), '$[*]' COLUMNS (\
        Db VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PATH '$.Database', List JSON PATH '$.Privileges')) \
        AS Restriction";
    for mut row in rows(conn, QUERY, "all but some schemas").await? {
        let to = name(&mut row)?;
        let (schema, list): (String, String) = (take(&mut row, "Db")?, take(&mut row, "List")?);
        let privileges = serde_json::from_str::<Vec<String>>(&list).unwrap_or_default();
        let of: &mut BTreeMap<String, Privileges> = all.entry(to).or_default();
        of.entry(schema).or_default().extend(privileges.into_iter().map(|name| name.to_uppercase()));
    }
    Ok(all)
}

async fn rows(conn: &mut Conn, query: &str, what: &str) -> Result<Vec<Row>> {
    conn.query(query).await.map_err(|error| unreadable(error, what))
}

async fn pairs(conn: &mut Conn, query: &str, what: &str) -> Result<Vec<(Grantee, Grantee)>> {
    let rows: Vec<(String, String, String, String)> =
        conn.query(query).await.map_err(|error| unreadable(error, what))?;
    let pair = |(user, host, of_user, of_host)| (Grantee::new(user, host), Grantee::new(of_user, of_host));
    Ok(rows.into_iter().map(pair).collect::<Vec<(Grantee, Grantee)>>())
}

fn name(row: &mut Row) -> Result<Grantee> {
    Ok(Grantee::new(take::<String>(row, "User")?, take::<String>(row, "Host")?))
}

fn privileges(row: &mut Row, count: usize) -> Result<Privileges> {
    let mut found = Privileges::new();
    for (column, privilege) in &COLUMNS[..count] {
        if take::<String>(row, column)? == "Y" {
            found.insert((*privilege).to_owned());
        }
    }
    Ok(found)
}
