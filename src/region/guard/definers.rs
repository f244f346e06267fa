//! What acts as its definer: procedures, functions, events, triggers and views with SQL SECURITY DEFINER. Whoever may use
//! one can do what its definer can, so it is a way past the guard if the definer gets past it.
//!
//! What a body does cannot be told from its text: a procedure may prepare any statement. So a procedure or an event counts
//! in whatever schema it is. A function or a trigger can change rows only, and a view only those of the tables that it
//! shows; that counts where rows can be changed. Pure; [`read`] asks the server.

pub(super) mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::accounts::{Grant, On, Opening, WRITES_GRANTS, WRITES_ROWS, World};
use super::grantee::Grantee;
use super::trigger::PREFIX;
use crate::binlog::name::TableName;
use crate::config::Guard;

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Procedure,
    Function,
    Event,
    Trigger,
    View,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            What::Procedure => "procedure",
            What::Function => "function",
            What::Event => "event",
            What::Trigger => "trigger",
            What::View => "view",
        })
    }
}

/// One of them, as the server has it.
#[derive(Clone, Debug)]
pub struct Acting {
    pub what: What,
    pub name: TableName,
    pub definer: Grantee,
    /// What a function or a trigger does, what a view selects; `None`: not seen.
    pub body: Option<String>,
    /// Of a trigger: its table, and the change that it comes with.
    pub on: Option<(TableName, String)>,
    /// Of a view: the tables that it shows, through other views too.
    pub shows: BTreeSet<TableName>,
    /// Of a view: what is to follow its text.
    pub check_option: Option<String>,
}

/// A way past the guard that leads over a definer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ByDefiner {
    pub definer: Grantee,
    pub what: What,
    pub name: TableName,
    /// Who can use it; nobody need for an event, which runs by itself.
    pub users: BTreeSet<Grantee>,
    /// What the definer could do by it.
    pub allows: BTreeSet<String>,
    /// Those of the guarded tables that it is open for.
    pub tables: BTreeSet<TableName>,
    pub close: String,
}

impl World {
    /// What acts as somebody who gets past the guard, and who can use it.
    pub fn by_definers(
        &self,
        acting: &[Acting],
        mode: Guard,
        tables: &BTreeSet<TableName>,
        bare: &BTreeSet<TableName>,
        own: &Grantee,
    ) -> Vec<ByDefiner> {
        let mut known: BTreeMap<&Grantee, BTreeSet<Opening>> = BTreeMap::new();
        let mut found = BTreeSet::new();
        for one in acting {
            let is_guards = one.what == What::Trigger && one.name.table.starts_with(PREFIX);
            // What the server brings along acts as accounts of its own.
            if one.definer.is_servers_own() || is_guards {
                continue;
            }
            let of_definer = known.entry(&one.definer).or_insert_with(|| {
                let account = self.accounts.iter().find(|account| account.name == one.definer);
                account.map(|account| self.of_account(account, mode, tables, bare)).unwrap_or_default()
            });
            let users = self.users(one, own);
            if users.is_empty() && one.what != What::Event {
                continue;
            }
            let (mut allows, mut reached) = (BTreeSet::new(), BTreeSet::new());
            for opening in of_definer.iter() {
                let (can, on) = one.can(opening);
                if !can.is_empty() {
                    allows.extend(can);
                    reached.extend(on);
                }
            }
            if !allows.is_empty() {
                found.insert(ByDefiner {
                    definer: one.definer.clone(),
                    what: one.what,
                    name: one.name.clone(),
                    users,
                    allows,
                    tables: reached,
                    close: one.close(),
                });
            }
        }
        found.into_iter().collect()
    }

    fn users(&self, one: &Acting, own: &Grantee) -> BTreeSet<Grantee> {
        let may_use = |grant: &Grant| match (one.what, &one.on) {
            (What::Procedure | What::Function, _) => {
                let is_it = grant.on == On::Routine(one.what, one.name.clone());
                (is_it && grant.privileges.contains("EXECUTE")) || self.gives(grant, "EXECUTE", &one.name)
            }
            (What::Trigger, Some((table, change))) => self.gives(grant, change, table),
            (What::View, _) => {
                ["INSERT", "UPDATE", "DELETE"].iter().any(|change| self.gives(grant, change, &one.name))
            }
            (What::Event | What::Trigger, _) => false,
        };
        let mut users = self.holders(may_use);
        users.retain(|user| user != own && *user != one.definer);
        users
    }
}

impl Acting {
    /// What of the definer's can be done by it, and to which tables.
    fn can(&self, opening: &Opening) -> (Vec<String>, BTreeSet<TableName>) {
        let mentions_mysql =
            self.body.as_ref().is_none_or(|body| body.to_ascii_lowercase().contains("mysql"));
        let shown: BTreeSet<TableName> = opening.tables.intersection(&self.shows).cloned().collect();
        let shows_mysql = self.shows.iter().any(|table| table.schema == "mysql");
        let counts = |what: &&String| match self.what {
            What::Procedure | What::Event => true,
            What::Function | What::Trigger => {
                *what == WRITES_ROWS || (*what == WRITES_GRANTS && mentions_mysql)
            }
            What::View => {
                (*what == WRITES_ROWS && !shown.is_empty()) || (*what == WRITES_GRANTS && shows_mysql)
            }
        };
        let allows: Vec<String> = opening.allows.iter().filter(counts).cloned().collect();
        let tables = match self.what {
            What::View if !shows_mysql => shown,
            _ => opening.tables.clone(),
        };
        (allows, tables)
    }

    fn close(&self) -> String {
        let name = self.name.quoted();
        match (self.what, &self.body) {
            (What::Procedure, _) => format!("ALTER PROCEDURE {name} SQL SECURITY INVOKER"),
            (What::Function, _) => format!("ALTER FUNCTION {name} SQL SECURITY INVOKER"),
            (What::Event, _) => format!("ALTER EVENT {name} DISABLE"),
            (What::Trigger, _) => format!("DROP TRIGGER {name}"),
            (What::View, Some(body)) => {
                let check = self.check_option.as_ref().map(|check| format!(" WITH {check} CHECK OPTION"));
                format!("ALTER SQL SECURITY INVOKER VIEW {name} AS {body}{}", check.unwrap_or_default())
            }
            (What::View, None) => format!("DROP VIEW {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::Account;
    use super::super::taken::parse;
    use super::*;

    fn who(user: &str) -> Grantee {
        Grantee::new(user, "%")
    }

    fn name(text: &str) -> TableName {
        text.parse().unwrap()
    }

    fn acting(what: What, text: &str, definer: &str) -> Acting {
        Acting {
            what,
            name: name(text),
            definer: who(definer),
            body: Some("SELECT 1".to_owned()),
            on: None,
            shows: BTreeSet::new(),
            check_option: None,
        }
    }

    fn grant(user: &str, on: On, list: &str) -> Grant {
        Grant { to: who(user), on, privileges: parse(list), without: BTreeMap::new() }
    }

    /// `root` can do all, `dba` may alter g.apps, `app` may execute h.p and write to the schema h.
    fn world() -> World {
        let accounts = ["root", "dba", "app", "other", "tablecast"];
        World {
            accounts: accounts.map(|user| Account { name: who(user), is_locked: false }).to_vec(),
            grants: vec![
                grant("root", On::Everything, "Insert,Update,Delete,Alter,Drop,Execute"),
                grant("tablecast", On::Everything, "Insert,Update,Delete,Alter,Drop,Execute"),
                grant("dba", On::Table(name("g.apps")), "Insert,Update,Delete,Alter"),
                grant("app", On::Routine(What::Procedure, name("h.p")), "Execute"),
                grant("app", On::Schema("h".into()), "Insert,Update"),
                grant("other", On::Schema("f".into()), "Execute"),
            ],
            ..World::default()
        }
    }

    fn found(acting: &[Acting], mode: Guard) -> Vec<(String, Vec<String>, String)> {
        let tables = BTreeSet::from([name("g.apps")]);
        let found = world().by_definers(acting, mode, &tables, &BTreeSet::new(), &who("tablecast"));
        let users = |one: &ByDefiner| one.users.iter().map(|user| user.user.clone()).collect();
        found
            .iter()
            .map(|one| (format!("{} {}", one.what, one.name), users(one), one.close.clone()))
            .collect()
    }

    fn expected(of: &[(&str, &[&str], &str)]) -> Vec<(String, Vec<String>, String)> {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        of.iter().map(|(what, users, close)| (what.to_string(), texts(users), close.to_string())).collect()
    }

    #[test]
    fn a_procedure_of_whoever_gets_past_counts_for_those_who_may_execute_it_and_an_event_for_itself() {
        let all = [
            acting(What::Procedure, "h.p", "dba"),
            // Nobody but the definers may execute it.
            acting(What::Procedure, "z.p", "root"),
            acting(What::Procedure, "f.p", "tablecast"),
            acting(What::Event, "z.e", "dba"),
            acting(What::Procedure, "h.p", "app"),
            acting(What::Procedure, "h.p", "gone"),
            Acting { definer: Grantee::new("mysql.sys", "localhost"), ..acting(What::Procedure, "f.s", "x") },
        ];
        let close = ["h", "f"].map(|schema| format!("ALTER PROCEDURE `{schema}`.`p` SQL SECURITY INVOKER"));
        let wanted = [
            ("procedure h.p", &["app", "root"][..], close[0].as_str()),
            ("event z.e", &[], "ALTER EVENT `z`.`e` DISABLE"),
            ("procedure f.p", &["other", "root"], &close[1]),
        ];
        assert_eq!(found(&all, Guard::Triggers), expected(&wanted));
    }

    #[test]
    fn what_can_change_rows_only_counts_where_rows_can_be_changed() {
        let trigger =
            Acting { on: Some((name("h.t"), "UPDATE".to_owned())), ..acting(What::Trigger, "h.tr", "dba") };
        let view = |text: &str, shows: &str| Acting {
            shows: BTreeSet::from([name(shows)]),
            check_option: Some("CASCADED".to_owned()),
            ..acting(What::View, text, "dba")
        };
        let all = [
            acting(What::Function, "f.f", "dba"),
            trigger,
            Acting { name: name("h.tablecast_guard_1"), on: None, ..acting(What::Trigger, "h.x", "root") },
            view("h.v", "g.apps"),
            view("h.w", "h.t"),
        ];
        // The guard's triggers refuse all of that.
        assert_eq!(found(&all, Guard::Triggers), []);
        let wanted = [
            ("function f.f", &["other", "root"][..], "ALTER FUNCTION `f`.`f` SQL SECURITY INVOKER"),
            ("trigger h.tr", &["app", "root"], "DROP TRIGGER `h`.`tr`"),
            (
                "view h.v",
                &["app", "root"],
                "ALTER SQL SECURITY INVOKER VIEW `h`.`v` AS SELECT 1 WITH CASCADED CHECK OPTION",
            ),
        ];
        assert_eq!(found(&all, Guard::Grants), expected(&wanted));
        // The grant tables are rows, too, for those who may write to them.
        let writes = [
            Acting { body: Some("UPDATE MySQL.user".into()), ..acting(What::Function, "f.f", "root") },
            Acting { body: None, ..acting(What::Function, "f.g", "root") },
            acting(What::Function, "f.h", "root"),
            Acting { definer: who("root"), ..view("h.v", "mysql.user") },
        ];
        let names: Vec<String> = found(&writes, Guard::Triggers).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["function f.f", "function f.g", "view h.v"]);
    }
}
