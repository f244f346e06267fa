//! What the guard looks like now, what it is to look like, and the steps between. `--dry-run` prints them, a run
//! carries them out.
//!
//! New triggers are made before old ones go, so a table is never without. Looking again after all steps finds none
//! left: that is how apply keeps the guard, and how a run that was killed is carried on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::grantee::Grantee;
use super::row::Wish;
use super::taken::{self, Place, Privileges, Taken};
use super::trigger::{self, Change, Voice};
use crate::binlog::name::{TableName, TableSet, is_own};
use crate::config::{Config, Guard};
use crate::region::apply::pass::region_of;
use crate::stream::{Head, Seq};
use crate::{Error, Result, mysql};

const TRIGGERS: &str = include_str!("../../../sql/region/guard_triggers.sql");
const TABLES: &str = include_str!("../../../sql/region/guard_tables.sql");

/// Which tables are the guard's, and what their triggers say.
#[derive(Clone, Debug)]
pub struct Scope {
    region: TableSet,
    /// Without it, every table that the region would let in.
    stream: Option<TableSet>,
    pub voice: Voice,
    /// The set has changed behind the region's position: what it was there is not known here. Until the region has come
    /// past that, no table is guarded that was not, and none is let go of.
    is_behind: bool,
}

impl Scope {
    /// As the stream's head has it, for a region that has come to entry `at`. A table of the region's list that is not
    /// in the stream is the region's own.
    pub fn new(config: &Config, head: Option<&Head>, at: Seq) -> Result<Scope> {
        let changed = head.and_then(|head| head.set_changed.as_ref());
        Ok(Scope {
            is_behind: changed.is_some_and(|changed| changed.seq > at),
            region: region_of(config)?.tables.clone(),
            stream: head.map(|head| head.table_set.tables.clone()),
            voice: Voice {
                stream: config.stream.clone(),
                source_region: head.and_then(|head| head.source_region.clone()),
            },
        })
    }

    /// Whether the guard is over this table: of the set, or a ghost of one, which may take its place at any moment.
    pub fn covers(&self, table: &TableName) -> bool {
        self.region.admits(table) && self.stream.as_ref().is_none_or(|set| set.admits(table))
    }

    /// The table that the message names.
    pub fn base(&self, table: &TableName) -> TableName {
        self.region.ghost_of(table).unwrap_or_else(|| table.clone())
    }

    pub fn schemas(&self) -> BTreeSet<String> {
        self.region.schemas()
    }
}

/// A trigger whose name is the guard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub name: String,
    pub on: TableName,
    pub event: String,
    pub timing: String,
    pub body: String,
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Base tables that the guard is over.
    pub tables: BTreeSet<TableName>,
    /// In the region's schemas, and this stream's elsewhere.
    pub triggers: Vec<Trigger>,
    /// On tables and columns of the region's schemas, of others; `None`: not looked at.
    pub grants: Option<Vec<(Place, Privileges)>>,
    /// Everybody, looked at with the grants.
    pub accounts: BTreeSet<Grantee>,
    pub taken: Vec<Taken>,
}

impl Seen {
    /// Which changes of each table its triggers refuse as they should.
    pub fn refused(&self, scope: &Scope) -> BTreeMap<&TableName, BTreeSet<Change>> {
        let mut refused: BTreeMap<&TableName, BTreeSet<Change>> =
            self.tables.iter().map(|table| (table, BTreeSet::new())).collect();
        for trigger in &self.triggers {
            let Some(refused) = refused.get_mut(&trigger.on) else { continue };
            if scope.voice.is_right(&trigger.body, &scope.base(&trigger.on)) {
                refused.extend(Change::ALL.into_iter().filter(|change| trigger.refuses(*change)));
            }
        }
        refused
    }

    /// Whether a table lacks a trigger, whatever those that are there say.
    pub fn lacks_any(&self) -> bool {
        let refuses = |table: &TableName, change: Change| {
            self.triggers.iter().any(|trigger| trigger.on == *table && trigger.refuses(change))
        };
        self.tables.iter().any(|table| !Change::ALL.into_iter().all(|change| refuses(table, change)))
    }

    /// Tables that lack one of their triggers.
    pub fn bare(&self, scope: &Scope) -> BTreeSet<TableName> {
        let all = self.refused(scope).into_iter();
        all.filter(|(_, refused)| refused.len() < Change::ALL.len()).map(|(table, _)| table.clone()).collect()
    }
}

impl Trigger {
    fn of((schema, name, table, event, timing, body): Row) -> Trigger {
        Trigger { name, on: TableName::new(schema, table), event, timing, body }
    }

    fn refuses(&self, change: Change) -> bool {
        self.timing == "BEFORE" && self.event == change.name()
    }
}

/// Tables and triggers; grants by themselves, because only some may read them.
pub async fn look(conn: &mut Conn, scope: &Scope) -> Result<Seen> {
    let mut seen = look_near(conn, scope).await?;
    seen.triggers.extend(triggers_far(conn, scope).await?);
    seen.taken = taken::read(conn, &scope.voice.stream).await?;
    Ok(seen)
}

/// The tables that the guard is over, and the triggers in their schemas: what tells whether one of them is bare.
pub async fn look_near(conn: &mut Conn, scope: &Scope) -> Result<Seen> {
    let mut tables = BTreeSet::new();
    for schema in scope.schemas() {
        let found: Vec<(String, String)> = conn
            .exec(TABLES, (&schema,))
            .await
            .map_err(|error| mysql::error(error, &format!("look for the tables of {schema}")))?;
        tables.extend(found.into_iter().map(|(schema, table)| TableName::new(schema, table)));
    }
    tables.retain(|table| scope.covers(table));
    Ok(Seen { tables, triggers: triggers_near(conn, scope).await?, ..Seen::default() })
}

/// The guard's triggers in the region's schemas: those of other streams' tables are many where a server has many streams.
async fn triggers_near(conn: &mut Conn, scope: &Scope) -> Result<Vec<Trigger>> {
    let query = format!("{TRIGGERS} AND TRIGGER_SCHEMA = ?");
    let mut near = Vec::new();
    for schema in scope.schemas() {
        let found: Vec<Row> = conn.exec(&query, (schema,)).await.map_err(unread)?;
        near.extend(found.into_iter().map(Trigger::of));
    }
    Ok(near)
}

/// Those in other schemas that are this stream's: their tables were let in once.
async fn triggers_far(conn: &mut Conn, scope: &Scope) -> Result<Vec<Trigger>> {
    let query = format!("{TRIGGERS} AND ACTION_STATEMENT LIKE ?");
    let found: Vec<Row> = conn.exec(query, (format!("%{}%", scope.voice.mark()),)).await.map_err(unread)?;
    let schemas = scope.schemas();
    Ok(found.into_iter().map(Trigger::of).filter(|trigger| !schemas.contains(&trigger.on.schema)).collect())
}

/// Schema, name, table, event, timing, body.
type Row = (String, String, String, String, String, String);

fn unread(error: mysql_async::Error) -> Error {
    mysql::error(error, "look for the guard's triggers")
}

/// Every trigger of the guard's that this account can see.
pub async fn triggers(conn: &mut Conn) -> Result<Vec<Trigger>> {
    let rows: Vec<Row> = conn.query(TRIGGERS).await.map_err(unread)?;
    Ok(rows.into_iter().map(Trigger::of).collect())
}

/// Whether the grants have to be looked at: what is to be taken, or has been.
pub fn needs_grants(wish: &Wish, seen: &Seen) -> bool {
    wish.takes_grants() || !seen.taken.is_empty()
}

/// Reads the grants on these tables.
pub async fn look_at_grants(conn: &mut Conn, scope: &Scope, seen: &mut Seen, own: &Grantee) -> Result<()> {
    let mut schemas = scope.schemas();
    schemas.extend(seen.taken.iter().map(|taken| taken.place.table.schema.clone()));
    seen.accounts = taken::accounts(conn).await?;
    seen.grants = Some(taken::grants_on_tables(conn, &schemas, own).await?);
    Ok(())
}

/// The account that a connection acts as.
pub async fn own_account(conn: &mut Conn) -> Result<Grantee> {
    let own: Option<String> = conn
        .query_first("SELECT CURRENT_USER()")
        .await
        .map_err(|error| mysql::error(error, "ask for the own account"))?;
    own.map(|text| Grantee::of_text(&text))
        .ok_or_else(|| Error::new(crate::Kind::Mysql, "ask for the own account: there is none"))
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A trigger is made on this table.
    Make { on: TableName, name: String, statement: String },
    /// A trigger of the guard's goes.
    Drop { on: TableName, statement: String },
    /// Privileges are taken or given back.
    Grants(taken::Change),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Make { statement, .. } | Step::Drop { statement, .. } => f.write_str(statement),
            Step::Grants(change) => {
                let mut statements = Vec::new();
                if !change.revoke.is_empty() {
                    statements.push(change.place.revoke(&change.revoke));
                }
                if !change.give.is_empty() {
                    statements.push(change.place.grant(&change.give));
                }
                if statements.is_empty() {
                    statements.push(format!("-- what is remembered of {} is settled", change.place.to));
                }
                f.write_str(&statements.join(";\n"))
            }
        }
    }
}

/// The steps from what is there to what is wanted.
pub fn plan(wish: &Wish, scope: &Scope, seen: &Seen) -> Vec<Step> {
    let mut steps = Vec::new();
    if wish.mode == Guard::Triggers {
        let mut taken: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for trigger in &seen.triggers {
            taken.entry(&trigger.on.schema).or_default().insert(trigger.name.clone());
        }
        let mark = scope.voice.mark();
        let marked = seen.triggers.iter().filter(|trigger| trigger.body.contains(&mark));
        let marked: BTreeSet<&TableName> = marked.map(|trigger| &trigger.on).collect();
        for (table, refused) in seen.refused(scope) {
            let base = scope.base(table);
            // A ghost is guarded as its table is.
            if scope.is_behind && !marked.contains(table) && !marked.contains(&base) {
                continue;
            }
            let names = taken.entry(&table.schema).or_default();
            for change in Change::ALL.into_iter().filter(|change| !refused.contains(change)) {
                let name = trigger::free_name(table, change, names);
                let statement = scope.voice.create(&name, change, table, &base);
                names.insert(name.clone());
                steps.push(Step::Make { on: table.clone(), name, statement });
            }
        }
    }
    steps.extend(needless(wish, scope, seen).into_iter().map(|trigger| Step::Drop {
        on: trigger.on.clone(),
        statement: trigger::drop(&trigger.on.schema, &trigger.name),
    }));
    if let Some(grants) = &seen.grants {
        let is_remembered = |table: &TableName| seen.taken.iter().any(|taken| taken.place.table == *table);
        let unwanted = |table: &TableName| {
            let takes = match scope.is_behind {
                // What is taken stays taken, and no more is.
                true => is_remembered(table),
                false => scope.covers(table),
            };
            if takes && wish.takes_grants() { taken::unwanted(wish.mode) } else { &[] }
        };
        let is_account = |who: &Grantee| seen.accounts.contains(who);
        steps.extend(taken::changes(grants, &seen.taken, unwanted, is_account).into_iter().map(Step::Grants));
    }
    steps
}

/// Triggers of the guard's that are one too many: on tables that left the set, of another mode, twice, outdated.
/// Those of other streams on other tables are left alone.
fn needless<'s>(wish: &Wish, scope: &Scope, seen: &'s Seen) -> Vec<&'s Trigger> {
    let mut kept: BTreeSet<(&'s TableName, &'s str)> = BTreeSet::new();
    let is_needless = |trigger: &&'s Trigger| {
        if is_own(&trigger.on) {
            // On a shadow: a restore is about to swap it in.
            return false;
        }
        if !scope.covers(&trigger.on) {
            let is_kept = scope.is_behind && wish.mode == Guard::Triggers;
            return !is_kept && trigger.body.contains(&scope.voice.mark());
        }
        let is_right = Change::ALL.into_iter().any(|change| trigger.refuses(change))
            && scope.voice.is_right(&trigger.body, &scope.base(&trigger.on));
        wish.mode != Guard::Triggers || !is_right || !kept.insert((&trigger.on, &trigger.event))
    };
    seen.triggers.iter().filter(is_needless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let set = |list: &[&str]| TableSet::parse(list).unwrap();
        Scope {
            region: set(&["g.*", "h.plans"]),
            stream: Some(set(&["g.apps", "g.plans", "h.plans"])),
            voice: Voice { stream: "s".into(), source_region: Some("eu".into()) },
            is_behind: false,
        }
    }

    fn wish(mode: Guard) -> Wish {
        Wish { mode, by_command: true, since: None, by: None, reason: None, problem: None }
    }

    fn seen(tables: &[&str]) -> Seen {
        let scope = scope();
        let tables = tables.iter().map(|table| table.parse().unwrap());
        Seen { tables: tables.filter(|table| scope.covers(table)).collect(), ..Seen::default() }
    }

    /// Does to what is seen what the steps would do at a server.
    fn carry_out(seen: &mut Seen, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Make { on, statement, .. } => {
                    let quoted: Vec<&str> = statement.split('`').collect();
                    let event =
                        Change::ALL.iter().find(|c| statement.contains(&format!("BEFORE {}", c.name())));
                    seen.triggers.push(Trigger {
                        name: quoted[3].to_owned(),
                        on: on.clone(),
                        event: event.unwrap().name().to_owned(),
                        timing: "BEFORE".into(),
                        body: statement.clone(),
                    });
                }
                Step::Drop { statement, .. } => {
                    seen.triggers.retain(|trigger| !statement.contains(&format!("`{}`", trigger.name)));
                }
                Step::Grants(_) => {}
            }
        }
        let names: BTreeSet<&String> = seen.triggers.iter().map(|trigger| &trigger.name).collect();
        assert_eq!(names.len(), seen.triggers.len(), "names are one to a schema");
    }

    fn rename(seen: &mut Seen, from: &str, to: &str) {
        let (from, to): (TableName, TableName) = (from.parse().unwrap(), to.parse().unwrap());
        seen.tables.remove(&from);
        seen.tables.insert(to.clone());
        seen.triggers
            .iter_mut()
            .filter(|trigger| trigger.on == from)
            .for_each(|trigger| trigger.on = to.clone());
    }

    #[test]
    fn every_table_of_both_sets_gets_three_triggers_and_then_nothing_is_left_to_do() {
        let mut seen = seen(&["g.apps", "g._apps_gho", "g.local", "h.plans", "h.other"]);
        let steps = plan(&wish(Guard::Triggers), &scope(), &seen);
        assert_eq!(steps.len(), 9, "{steps:?}");
        carry_out(&mut seen, &steps);
        assert!(plan(&wish(Guard::Triggers), &scope(), &seen).is_empty());
        let ghost = TableName::new("g", "_apps_gho");
        let said = seen
            .triggers
            .iter()
            .filter(|t| t.on == ghost)
            .all(|t| t.body.contains("g.apps is written in eu"));
        assert!(said, "{:?}", seen.triggers);
    }

    /// A ghost that took its table's place keeps the ghost's names, and the next ghost finds others.
    #[test]
    fn migrations_one_after_the_other_never_collide() {
        let mut seen = seen(&["g.apps"]);
        for _ in 0..4 {
            seen.tables.insert(TableName::new("g", "_apps_gho"));
            let steps = plan(&wish(Guard::Triggers), &scope(), &seen);
            carry_out(&mut seen, &steps);
            rename(&mut seen, "g.apps", "g._apps_del");
            rename(&mut seen, "g._apps_gho", "g.apps");
            assert!(
                plan(&wish(Guard::Triggers), &scope(), &seen).is_empty(),
                "guarded from the first moment"
            );
            let old = TableName::new("g", "_apps_del");
            seen.tables.remove(&old);
            seen.triggers.retain(|trigger| trigger.on != old);
        }
    }

    #[test]
    fn what_left_the_set_is_lifted_and_what_is_another_streams_is_left_alone() {
        let mut seen = seen(&["g.apps", "g.plans"]);
        let steps = plan(&wish(Guard::Triggers), &scope(), &seen);
        carry_out(&mut seen, &steps);
        let smaller = Scope { stream: Some(TableSet::parse(&["g.apps", "h.plans"]).unwrap()), ..scope() };
        seen.tables.retain(|table| smaller.covers(table));
        let stranger = Voice { stream: "other".into(), source_region: None };
        let theirs = TableName::new("k", "t");
        seen.triggers.push(Trigger {
            name: "tablecast_guard_x".into(),
            on: theirs.clone(),
            event: "INSERT".into(),
            timing: "BEFORE".into(),
            body: stranger.create("n", Change::Insert, &theirs, &theirs),
        });
        let steps = plan(&wish(Guard::Triggers), &smaller, &seen);
        assert_eq!(steps.len(), 3, "{steps:?}");
        assert!(steps.iter().all(|step| matches!(step, Step::Drop { on, .. } if on.table == "plans")));
        carry_out(&mut seen, &steps);
        let steps = plan(&wish(Guard::Off), &smaller, &seen);
        carry_out(&mut seen, &steps);
        assert_eq!(seen.triggers.len(), 1, "{:?}", seen.triggers);
    }

    /// The head is ahead of a region that has been away: a table that left the set since is written by its stream still.
    #[test]
    fn a_region_behind_a_change_of_the_set_lets_go_of_nothing_and_takes_nothing_new() {
        let mut seen = seen(&["g.apps", "g.plans"]);
        let steps = plan(&wish(Guard::Triggers), &scope(), &seen);
        carry_out(&mut seen, &steps);
        let stream = Some(TableSet::parse(&["g.apps", "h.plans"]).unwrap());
        let behind = Scope { stream, is_behind: true, ..scope() };
        seen.tables = ["g.apps", "g._apps_gho", "h.plans"].map(|table| table.parse().unwrap()).into();
        let steps = plan(&wish(Guard::Triggers), &behind, &seen);
        let on: BTreeSet<String> = steps
            .iter()
            .map(|step| match step {
                Step::Make { on, .. } => on.to_string(),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(on, BTreeSet::from(["g._apps_gho".to_owned()]));
        let there = Scope { is_behind: false, ..behind };
        let steps = plan(&wish(Guard::Triggers), &there, &seen);
        assert!(steps.iter().any(|step| matches!(step, Step::Drop { on, .. } if on.table == "plans")));
    }

    #[test]
    fn a_new_message_is_there_before_the_old_one_goes() {
        let mut seen = seen(&["g.apps"]);
        let steps = plan(&wish(Guard::Triggers), &scope(), &seen);
        carry_out(&mut seen, &steps);
        let voice = Voice { stream: "s".into(), source_region: Some("us".into()) };
        let moved = Scope { voice, ..scope() };
        let steps = plan(&wish(Guard::Triggers), &moved, &seen);
        let makes = steps.iter().take_while(|step| matches!(step, Step::Make { .. })).count();
        assert_eq!((makes, steps.len()), (3, 6));
        carry_out(&mut seen, &steps);
        assert!(plan(&wish(Guard::Triggers), &moved, &seen).is_empty());
    }
}
