//! Who can still change a guarded table, by which grant, and the statement that closes it.
//!
//! Everything that an account may switch on counts, whether it is on by default or not: roles, roles of roles, and
//! mandatory ones. A privilege that a partial revoke takes away for a schema does not count there. A grant serves every
//! account of its user whose host it admits. Pure; `read` asks the server.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::definers::What;
use super::grantee::{Grantee, matches};
use super::taken::{Privileges, unwanted};
use crate::binlog::name::{TableName, quote};
use crate::config::Guard;

/// An account that can log in, or a role.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: Grantee,
    pub is_locked: bool,
}

/// What a grant is on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum On {
    Everything,
    /// As the grant has it, a pattern unless partial revokes are on.
    Schema(String),
    Table(TableName),
    Column(TableName, String),
    /// A procedure or a function: only EXECUTE, which leads to no table by itself.
    Routine(What, TableName),
}

/// Privileges of one account or role on something.
#[derive(Clone, Debug)]
pub struct Grant {
    pub to: Grantee,
    pub on: On,
    pub privileges: Privileges,
    /// Of a grant on everything: what partial revokes take away, by schema.
    pub without: BTreeMap<String, Privileges>,
}

/// All that the server's grant tables say about it.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub accounts: Vec<Account>,
    pub grants: Vec<Grant>,
    /// A role, and who has it.
    pub roles: Vec<(Grantee, Grantee)>,
    pub mandatory: Vec<Grantee>,
    /// Who may act as whom.
    pub proxies: Vec<(Grantee, Grantee)>,
    pub partial_revokes: bool,
}

/// Privileges of a whole server that lead past the guard, and how.
const OF_SERVER: [(&str, &str); 11] = [
    ("SUPER", "BINLOG: row changes that fire no trigger, where it may write to the table"),
    ("BINLOG_ADMIN", "BINLOG: row changes that fire no trigger, where it may write to the table"),
    ("REPLICATION_APPLIER", "BINLOG: row changes that fire no trigger, where it may write to the table"),
    ("CREATE USER", "takes over another account by its password"),
    ("ROLE_ADMIN", "gives itself any role"),
    // https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_init_connect
    (
        "SYSTEM_VARIABLES_ADMIN",
        "init_connect: has others run a statement when they connect; with ROLE_ADMIN mandatory_roles, too",
    ),
    // 8.0 and 8.1; from 8.2 on it is two.
    ("SET_USER_ID", "makes routines and events that act as another account"),
    ("SET_ANY_DEFINER", "makes routines and events that act as another account"),
    ("CLONE_ADMIN", "replaces everything on the server"),
    ("REPLICATION_SLAVE_ADMIN", "lets another server replicate into this one"),
    ("GROUP_REPLICATION_ADMIN", "lets another server replicate into this one"),
];

/// What of an opening a function, a trigger or a view can do as well.
pub(super) const WRITES_ROWS: &str = "writes rows";
pub(super) const WRITES_GRANTS: &str = "writes the grant tables in the schema mysql";

/// A way past the guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Opening {
    /// Who can use it.
    pub account: Grantee,
    /// It cannot log in; a view, a routine or a proxy may act as it.
    pub locked: bool,
    /// Has it by this role, or logs in as this account.
    pub by: Option<String>,
    pub privileges: Vec<String>,
    /// `*.*`, `` `g`.* `` or a table.
    pub on: String,
    /// What can be done with it.
    pub allows: Vec<String>,
    /// Those of the guarded tables that it is open for.
    pub tables: BTreeSet<TableName>,
    pub close: String,
}

impl World {
    /// Every way past the guard of these tables; `bare`: those of them that are not guarded now, where everybody who
    /// may write can. `own`: Tablecast's account, which is told apart.
    pub fn openings(
        &self,
        mode: Guard,
        tables: &BTreeSet<TableName>,
        bare: &BTreeSet<TableName>,
        own: &Grantee,
    ) -> Vec<Opening> {
        let mut found = BTreeSet::new();
        for account in self.logins().filter(|account| account.name != *own) {
            found.extend(self.of_account(account, mode, tables, bare));
        }
        let closable: BTreeSet<Grantee> = found.iter().map(|opening| opening.account.clone()).collect();
        for (who, target) in &self.proxies {
            let acts_as = |name: &&Grantee| {
                **name != *who
                    && (target.user.is_empty() || target.user == name.user)
                    && (target.host.is_empty() || target.host == "%" || target.host == name.host)
            };
            // Who is told for itself already need not be told again.
            if who == own
                || closable.contains(who)
                || !self.accounts.iter().any(|account| account.name == *who)
            {
                continue;
            }
            let Some(name) = closable.iter().find(acts_as) else { continue };
            found.insert(Opening {
                account: who.clone(),
                locked: false,
                by: Some(format!("logs in as {name}")),
                privileges: vec!["PROXY".to_owned()],
                on: target.to_string(),
                allows: vec![format!("everything that {name} can")],
                tables: tables.clone(),
                close: format!("REVOKE PROXY ON {target} FROM {who}"),
            });
        }
        found.into_iter().collect()
    }

    /// Accounts that somebody may log in as. A role that nobody can is told with those who have it.
    fn logins(&self) -> impl Iterator<Item = &Account> {
        let roles: BTreeSet<&Grantee> =
            self.roles.iter().map(|(role, _)| role).chain(&self.mandatory).collect();
        let is_role = move |account: &Account| account.is_locked && roles.contains(&account.name);
        self.accounts.iter().filter(move |account| !account.name.is_servers_own() && !is_role(account))
    }

    /// The ways past the guard that one account, or role, has.
    pub(super) fn of_account(
        &self,
        account: &Account,
        mode: Guard,
        tables: &BTreeSet<TableName>,
        bare: &BTreeSet<TableName>,
    ) -> BTreeSet<Opening> {
        let mut found = BTreeSet::new();
        let name = &account.name;
        for holder in self.held_by(name) {
            for grant in self.grants.iter().filter(|grant| self.serves(grant, &holder, name)) {
                let by = (holder != *name).then(|| format!("role {holder}"));
                found.extend(self.opening(grant, account, by, mode, tables, bare));
            }
        }
        found
    }

    /// Who may log in and has such a grant, by a role too.
    pub(super) fn holders(&self, is_it: impl Fn(&Grant) -> bool) -> BTreeSet<Grantee> {
        let such: Vec<&Grant> = self.grants.iter().filter(|grant| is_it(grant)).collect();
        let has = |account: &&Account| {
            let name = &account.name;
            let serves = |holder: &Grantee| such.iter().any(|grant| self.serves(grant, holder, name));
            !such.is_empty() && self.held_by(name).iter().any(serves)
        };
        self.logins().filter(has).map(|account| account.name.clone()).collect()
    }

    /// Whether a grant gives this privilege on a table, a view or, from its schema or from everything, a routine.
    pub(super) fn gives(&self, grant: &Grant, privilege: &str, on: &TableName) -> bool {
        let revoked = grant.without.get(&on.schema);
        grant.privileges.contains(privilege)
            && grant.on.reaches(on, self.partial_revokes)
            && !revoked.is_some_and(|revoked| revoked.contains(privilege))
    }

    /// The account with every role that it can have.
    fn held_by(&self, account: &Grantee) -> BTreeSet<Grantee> {
        let mut held: BTreeSet<Grantee> = self.mandatory.iter().cloned().collect();
        held.insert(account.clone());
        loop {
            let more: Vec<Grantee> = self
                .roles
                .iter()
                .filter(|(role, to)| held.contains(to) && !held.contains(role))
                .map(|(role, _)| role.clone())
                .collect();
            if more.is_empty() {
                return held;
            }
            held.extend(more);
        }
    }

    fn serves(&self, grant: &Grant, holder: &Grantee, account: &Grantee) -> bool {
        if grant.to == *holder {
            return true;
        }
        // On everything it is the account's own row; below that, whatever row fits user and client.
        let fits = holder == account && grant.to.may_serve(account);
        let is_for_all = grant.to.user.is_empty() && matches!(grant.on, On::Schema(_));
        (fits || is_for_all) && grant.on != On::Everything
    }

    fn opening(
        &self,
        grant: &Grant,
        account: &Account,
        by: Option<String>,
        mode: Guard,
        tables: &BTreeSet<TableName>,
        bare: &BTreeSet<TableName>,
    ) -> Option<Opening> {
        let (mut privileges, mut reached, mut allows) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for table in tables {
            let all = if bare.contains(table) { Guard::Grants } else { mode };
            let reach = grant.on.reaches(table, self.partial_revokes);
            for privilege in unwanted(all).iter().filter(|name| reach && grant.privileges.contains(**name)) {
                let revoked = grant.without.get(&table.schema);
                if revoked.is_some_and(|revoked| revoked.contains(*privilege)) {
                    continue;
                }
                privileges.insert((*privilege).to_owned());
                allows.insert(allows_what(privilege).to_owned());
                reached.insert(table.clone());
            }
        }
        if grant.on == On::Everything {
            for (privilege, how) in OF_SERVER {
                if grant.privileges.contains(privilege) {
                    privileges.insert(privilege.to_owned());
                    allows.insert(how.to_owned());
                    reached.extend(tables.iter().cloned());
                }
            }
        }
        let writes_mysql = grant.on.reaches(&TableName::new("mysql", "db"), self.partial_revokes)
            && !grant.without.contains_key("mysql");
        for privilege in ["INSERT", "UPDATE"] {
            if writes_mysql && grant.privileges.contains(privilege) {
                privileges.insert(privilege.to_owned());
                allows.insert(WRITES_GRANTS.to_owned());
                reached.extend(tables.iter().cloned());
            }
        }
        if privileges.is_empty() || reached.is_empty() {
            return None;
        }
        let privileges: Vec<String> = privileges.into_iter().collect();
        let close = self.close(grant, &privileges, &reached);
        Some(Opening {
            account: account.name.clone(),
            locked: account.is_locked,
            by,
            on: grant.on.quoted(),
            allows: allows.into_iter().collect(),
            tables: reached,
            privileges,
            close,
        })
    }

    fn close(&self, grant: &Grant, privileges: &[String], tables: &BTreeSet<TableName>) -> String {
        let list = match &grant.on {
            On::Column(_, column) => {
                privileges.iter().map(|name| format!("{name} ({})", quote(column))).collect::<Vec<_>>()
            }
            _ => privileges.to_vec(),
        };
        let from = grant.to.quoted();
        if grant.on != On::Everything || !self.partial_revokes {
            return format!("REVOKE {} ON {} FROM {from}", list.join(", "), grant.on.quoted());
        }
        // With partial revokes on, a privilege on everything can be taken for one schema.
        let (of_server, of_tables): (Vec<String>, Vec<String>) =
            list.into_iter().partition(|name| OF_SERVER.iter().any(|(known, _)| known == name));
        let mut statements = Vec::new();
        let schemas: BTreeSet<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
        if !of_tables.is_empty() {
            let on = schemas
                .into_iter()
                .chain(of_tables.iter().any(|name| name == "INSERT" || name == "UPDATE").then_some("mysql"));
            statements.extend(
                on.map(|schema| {
                    format!("REVOKE {} ON {}.* FROM {from}", of_tables.join(", "), quote(schema))
                }),
            );
        }
        if !of_server.is_empty() {
            statements.push(format!("REVOKE {} ON *.* FROM {from}", of_server.join(", ")));
        }
        statements.join("; ")
    }
}

impl On {
    fn reaches(&self, table: &TableName, literal: bool) -> bool {
        match self {
            On::Everything => true,
            On::Schema(pattern) if literal => *pattern == table.schema,
            On::Schema(pattern) => matches(pattern, &table.schema),
            On::Table(of) | On::Column(of, _) => of == table,
            On::Routine(..) => false,
        }
    }

    fn quoted(&self) -> String {
        match self {
            On::Everything => "*.*".to_owned(),
            On::Schema(pattern) => format!("{}.*", quote(pattern)),
            On::Table(table) | On::Column(table, _) => table.quoted(),
            On::Routine(what, name) => format!("{} {}", what.to_string().to_uppercase(), name.quoted()),
        }
    }
}

fn allows_what(privilege: &str) -> &'static str {
    match privilege {
        "INSERT" | "UPDATE" | "DELETE" => WRITES_ROWS,
        "ALTER" => "ALTER TABLE",
        "DROP" => "DROP, TRUNCATE and, with ALTER, RENAME",
        "INDEX" => "CREATE and DROP INDEX",
        _ => "DROP TRIGGER: takes the guard away",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::guard::taken::parse;

    fn who(user: &str) -> Grantee {
        Grantee::new(user, "%")
    }

    fn account(user: &str) -> Account {
        Account { name: who(user), is_locked: false }
    }

    fn grant(user: &str, on: On, list: &str) -> Grant {
        Grant { to: who(user), on, privileges: parse(list), without: BTreeMap::new() }
    }

    fn apps() -> TableName {
        TableName::new("g", "apps")
    }

    fn open(world: &World, mode: Guard) -> Vec<(String, String, String)> {
        let tables = BTreeSet::from([apps()]);
        let found = world.openings(mode, &tables, &BTreeSet::new(), &who("tablecast"));
        found
            .into_iter()
            .map(|opening| (opening.account.user, opening.by.unwrap_or_default(), opening.close))
            .collect()
    }

    fn texts(of: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        of.iter().map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string())).collect()
    }

    #[test]
    fn triggers_leave_open_what_they_cannot_stop_at_every_level() {
        let accounts = ["app", "dba", "dev", "one", "tablecast"].map(account).to_vec();
        let grants = vec![
            grant("app", On::Schema("g".into()), "Select,Insert,Update,Delete"),
            grant("dba", On::Everything, "Select,Alter"),
            grant("dev", On::Schema("_".into()), "Drop"),
            grant("one", On::Table(apps()), "Trigger"),
            grant("tablecast", On::Everything, "Super"),
        ];
        let world = World { accounts, grants, ..World::default() };
        let expected = [
            ("dba", "", "REVOKE ALTER ON *.* FROM 'dba'@'%'"),
            ("dev", "", "REVOKE DROP ON `_`.* FROM 'dev'@'%'"),
            ("one", "", "REVOKE TRIGGER ON `g`.`apps` FROM 'one'@'%'"),
        ];
        assert_eq!(open(&world, Guard::Triggers), texts(&expected));
        let found = open(&world, Guard::Grants);
        assert_eq!(found[0].2, "REVOKE DELETE, INSERT, UPDATE ON `g`.* FROM 'app'@'%'");
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn a_table_without_its_triggers_is_open_to_whoever_may_write() {
        let grants = vec![grant("app", On::Column(apps(), "v".into()), "Update")];
        let world = World { accounts: vec![account("app")], grants, ..World::default() };
        assert!(open(&world, Guard::Triggers).is_empty());
        let tables = BTreeSet::from([apps()]);
        let found = world.openings(Guard::Triggers, &tables, &tables, &who("tablecast"));
        assert_eq!(found[0].close, "REVOKE UPDATE (`v`) ON `g`.`apps` FROM 'app'@'%'");
    }

    #[test]
    fn roles_of_roles_and_mandatory_ones_are_resolved_default_or_not() {
        let mut accounts = vec![account("dev"), account("other")];
        for role in ["outer", "inner", "everybody"] {
            accounts.push(Account { name: who(role), is_locked: true });
        }
        let grants = vec![
            grant("inner", On::Schema("g".into()), "Alter"),
            grant("everybody", On::Table(apps()), "Drop"),
        ];
        let roles = vec![(who("outer"), who("dev")), (who("inner"), who("outer"))];
        let world = World { accounts, grants, roles, mandatory: vec![who("everybody")], ..World::default() };
        let expected = [
            ("dev", "role 'everybody'@'%'", "REVOKE DROP ON `g`.`apps` FROM 'everybody'@'%'"),
            ("dev", "role 'inner'@'%'", "REVOKE ALTER ON `g`.* FROM 'inner'@'%'"),
            ("other", "role 'everybody'@'%'", "REVOKE DROP ON `g`.`apps` FROM 'everybody'@'%'"),
        ];
        assert_eq!(open(&world, Guard::Triggers), texts(&expected));
    }

    #[test]
    fn partial_revokes_count_where_they_are_and_close_one_schema() {
        let without = BTreeMap::from([("g".to_owned(), parse("Alter"))]);
        let mut all = grant("dba", On::Everything, "Alter,Drop,Super");
        all.without = without;
        // With partial revokes on, a schema's name in a grant is no pattern.
        let grants = vec![all, grant("dev", On::Schema("%".into()), "Alter")];
        let accounts = vec![account("dba"), account("dev")];
        let world = World { accounts, grants, partial_revokes: true, ..World::default() };
        let close = "REVOKE DROP ON `g`.* FROM 'dba'@'%'; REVOKE SUPER ON *.* FROM 'dba'@'%'";
        assert_eq!(open(&world, Guard::Triggers), texts(&[("dba", "", close)]));
    }

    #[test]
    fn a_grant_serves_every_account_of_its_user_that_its_host_admits() {
        let local = Account { name: Grantee::new("app", "localhost"), is_locked: false };
        let grants = vec![
            grant("app", On::Table(apps()), "Alter"),
            // On everything only the account's own row counts.
            grant("app", On::Everything, "Drop"),
            grant("", On::Schema("g".into()), "Index"),
        ];
        let world = World { accounts: vec![local], grants, ..World::default() };
        let expected = [
            ("app", "", "REVOKE ALTER ON `g`.`apps` FROM 'app'@'%'"),
            ("app", "", "REVOKE INDEX ON `g`.* FROM ''@'%'"),
        ];
        let mut found = open(&world, Guard::Triggers);
        found.sort_by(|a, b| a.2.cmp(&b.2));
        assert_eq!(found, texts(&expected));
    }

    #[test]
    fn who_may_log_in_as_such_an_account_is_told_and_the_servers_own_are_not() {
        let server = Account { name: Grantee::new("mysql.session", "localhost"), is_locked: true };
        let accounts = vec![account("dba"), account("door"), account("far"), server];
        let grants = vec![
            grant("dba", On::Table(apps()), "Alter"),
            Grant { to: Grantee::new("mysql.session", "localhost"), ..grant("", On::Everything, "Super") },
        ];
        let proxies = vec![(who("door"), who("dba")), (who("far"), who("nobody"))];
        let world = World { accounts, grants, proxies, ..World::default() };
        let expected = [
            ("dba", "", "REVOKE ALTER ON `g`.`apps` FROM 'dba'@'%'"),
            ("door", "logs in as 'dba'@'%'", "REVOKE PROXY ON 'dba'@'%' FROM 'door'@'%'"),
        ];
        assert_eq!(open(&world, Guard::Triggers), texts(&expected));
    }
}
