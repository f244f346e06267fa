//! What a mini-replica's own filters leave out.
//!
//! A replica logs a transaction that its filter emptied as any other, with its GTID: from the binlog alone nobody
//! can see that rows of the table set were in it. So the filters are read and compared with the table set.
//! The rules are the server's (`Rpl_filter::tables_ok` and `db_ok` in sql/rpl_filter.cc; Reference Manual,
//! "Evaluation of Table-Level Replication Options"). A schema that is rewritten on the way is not looked at.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::error::Result;
use crate::mysql;

const CHANNELS: &str = "SELECT c.CHANNEL_NAME, COALESCE(f.FILTER_NAME, ''), COALESCE(f.FILTER_RULE, ''), \
     CAST(UNIX_TIMESTAMP(f.ACTIVE_SINCE) * 1000000 AS SIGNED) \
     FROM performance_schema.replication_connection_status c \
     LEFT JOIN performance_schema.replication_applier_filters f ON f.CHANNEL_NAME = c.CHANNEL_NAME \
     WHERE c.CHANNEL_NAME NOT LIKE 'group\\_replication%'";

/// The filters of one replication channel, or those that a new channel gets.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    do_db: Vec<String>,
    ignore_db: Vec<String>,
    do_table: Vec<String>,
    ignore_table: Vec<String>,
    wild_do: Vec<String>,
    wild_ignore: Vec<String>,
    /// When the newest of the rules came into force, in microseconds since 1970; 0: that is not known.
    since_us: i64,
}

impl Filters {
    pub(crate) fn add(&mut self, name: &str, rules: &str) {
        let list = match name {
            "REPLICATE_DO_DB" => &mut self.do_db,
            "REPLICATE_IGNORE_DB" => &mut self.ignore_db,
            "REPLICATE_DO_TABLE" => &mut self.do_table,
            "REPLICATE_IGNORE_TABLE" => &mut self.ignore_table,
            "REPLICATE_WILD_DO_TABLE" => &mut self.wild_do,
            "REPLICATE_WILD_IGNORE_TABLE" => &mut self.wild_ignore,
            _ => return,
        };
        list.extend(rules.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(str::to_owned));
    }

    /// Whether there are rules, and all of them name what is let in: a processor's are so.
    pub(crate) fn only_names(&self) -> bool {
        let names = !self.do_table.is_empty() || !self.wild_do.is_empty();
        let others = [&self.do_db, &self.ignore_db, &self.ignore_table, &self.wild_ignore];
        names && others.iter().all(|rules| rules.is_empty())
    }

    /// No rule: everything is let in.
    pub(crate) fn is_empty(&self) -> bool {
        let Filters { do_db, ignore_db, do_table, ignore_table, wild_do, wild_ignore, .. } = self;
        [do_db, ignore_db, do_table, ignore_table, wild_do, wild_ignore].iter().all(|list| list.is_empty())
    }

    pub(crate) fn lets_in(&self, table: &TableName) -> bool {
        let schema_ok = match self.do_db.is_empty() {
            false => self.do_db.contains(&table.schema),
            true => !self.ignore_db.contains(&table.schema),
        };
        // As the server joins them, whatever stands in the names.
        let name = format!("{}.{}", table.schema, table.table);
        let is_like = |rule: &String| matches(rule.as_bytes(), name.as_bytes());
        schema_ok
            && if self.do_table.contains(&name) {
                true
            } else if self.ignore_table.contains(&name) {
                false
            } else if self.wild_do.iter().any(is_like) {
                true
            } else if self.wild_ignore.iter().any(is_like) {
                false
            } else {
                self.do_table.is_empty() && self.wild_do.is_empty()
            }
    }

    /// Whether CREATE DATABASE passes: where there are wild rules, only one that is like the name and a dot lets it
    /// through (`Rpl_filter::db_ok_with_wild_table`).
    pub(crate) fn lets_schema_in(&self, schema: &str) -> bool {
        let schema_ok = match self.do_db.is_empty() {
            false => self.do_db.iter().any(|rule| rule == schema),
            true => !self.ignore_db.iter().any(|rule| rule == schema),
        };
        let key = format!("{schema}.");
        let is_like = |rule: &String| matches(rule.as_bytes(), key.as_bytes());
        schema_ok
            && (self.wild_do.iter().any(is_like)
                || (self.wild_do.is_empty() && !self.wild_ignore.iter().any(is_like)))
    }
}

/// Whether `name` is like the pattern of a wild rule: `%` any run of bytes, `_` one, `\` takes the next as it is.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], name) => name.is_empty(),
        ([b'%', rest @ ..], name) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        ([b'\\', wanted, rest @ ..], [first, name @ ..]) => wanted == first && matches(rest, name),
        ([b'_', rest @ ..], [_, name @ ..]) => matches(rest, name),
        ([wanted, rest @ ..], [first, name @ ..]) => wanted == first && matches(rest, name),
        _ => false,
    }
}

const GLOBAL: &str = "SELECT COALESCE(FILTER_NAME, ''), COALESCE(FILTER_RULE, ''), CONFIGURED_BY = 'STARTUP_OPTIONS' \
     FROM performance_schema.replication_applier_global_filters";

/// The filters that a new replication channel of this server gets.
#[derive(Debug, Default)]
pub(crate) struct ForNew {
    pub in_force: Filters,
    /// Those of its my.cnf, as far as it shows them.
    pub configured: Filters,
    /// Some were set since it started. What its my.cnf has in their place cannot be seen before it restarts.
    pub is_overridden: bool,
}

pub(crate) async fn of_new_channels(conn: &mut Conn, server: &str) -> Result<ForNew> {
    let doing = format!("read performance_schema.replication_applier_global_filters at {server}");
    let rows: Vec<(String, String, bool)> =
        conn.query(GLOBAL).await.map_err(|cause| mysql::error(cause, &doing))?;
    let mut found = ForNew::default();
    for (name, rules, is_configured) in &rows {
        found.in_force.add(name, rules);
        match is_configured {
            true => found.configured.add(name, rules),
            false => found.is_overridden = true,
        }
    }
    Ok(found)
}

/// The patterns of the set that no replication channel of this server lets in, all or in part. Empty at a primary.
pub(crate) async fn left_out(conn: &mut Conn, server: &str, set: &TableSet) -> Result<Vec<String>> {
    let patterns = without(&channels(conn, server).await?, set);
    Ok(patterns.iter().map(ToString::to_string).collect())
}

/// What the channels of a server do not let in.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// Tables by name: those that the set lists, and those that are known of its schemas. Sorted.
    pub tables: Vec<TableName>,
    /// Whole schemas of the set of which a table that nobody has named yet would not be let in.
    pub schemas: Vec<TablePattern>,
    /// Since when the filters are as they are, by the server's own clock. What they were before nobody can find out.
    pub since: Option<DateTime<Utc>>,
}

/// What no replication channel of this server lets in, of the set and of the tables that are `known` in it: a filter may
/// let a schema in and leave out one table of it. Nothing at a primary.
pub(crate) async fn known_left_out(
    conn: &mut Conn,
    server: &str,
    set: &TableSet,
    known: impl Iterator<Item = &TableName>,
) -> Result<LeftOut> {
    let channels = channels(conn, server).await?;
    let mut found = LeftOut::default();
    for pattern in without(&channels, set) {
        match pattern {
            TablePattern::Table(table) => found.tables.push(table),
            TablePattern::Schema(_) => found.schemas.push(pattern),
        }
    }
    found.tables.extend(known.filter(|table| set.names(table) && loses(&channels, table)).cloned());
    found.tables.sort();
    found.tables.dedup();
    let newest = channels.values().map(|filters| filters.since_us).max().filter(|us| *us > 0);
    found.since = newest.and_then(DateTime::from_timestamp_micros);
    Ok(found)
}

/// Since when the filters of every channel are as they are, if each of them tells.
pub(crate) async fn unchanged_since(conn: &mut Conn, server: &str) -> Result<Option<DateTime<Utc>>> {
    let channels = channels(conn, server).await?;
    let untold = channels.values().any(|filters| filters.since_us == 0);
    let newest = channels.values().map(|filters| filters.since_us).max().filter(|_| !untold);
    Ok(newest.and_then(DateTime::from_timestamp_micros))
}

/// Whether a replication channel of this server has any filter.
pub(crate) async fn has_any(conn: &mut Conn, server: &str) -> Result<bool> {
    Ok(channels(conn, server).await?.values().any(|filters| !filters.is_empty()))
}

/// Whether no replication channel of this server lets this one table in. False at a primary.
pub(crate) async fn leaves_out(conn: &mut Conn, server: &str, table: &TableName) -> Result<bool> {
    Ok(loses(&channels(conn, server).await?, table))
}

fn loses(channels: &BTreeMap<String, Filters>, table: &TableName) -> bool {
    !channels.is_empty() && !channels.values().any(|filters| filters.lets_in(table))
}

/// Whether a channel lets the table in and not its schema, so that it stops at the table.
pub(crate) async fn lacks_schema_of(conn: &mut Conn, server: &str, table: &TableName) -> Result<bool> {
    let stops = |filters: &Filters| filters.lets_in(table) && !filters.lets_schema_in(&table.schema);
    Ok(channels(conn, server).await?.values().any(stops))
}

async fn channels(conn: &mut Conn, server: &str) -> Result<BTreeMap<String, Filters>> {
    let doing = format!("read performance_schema.replication_applier_filters at {server}");
    let rows: Vec<(String, String, String, Option<i64>)> =
        conn.query(CHANNELS).await.map_err(|cause| mysql::error(cause, &doing))?;
    let mut channels: BTreeMap<String, Filters> = BTreeMap::new();
    for (channel, name, rules, since_us) in &rows {
        let filters = channels.entry(channel.clone()).or_default();
        filters.add(name, rules);
        filters.since_us = filters.since_us.max(since_us.unwrap_or_default());
    }
    Ok(channels)
}

fn without(channels: &BTreeMap<String, Filters>, set: &TableSet) -> Vec<TablePattern> {
    let lost = |pattern: &&TablePattern| match pattern {
        TablePattern::Table(table) => loses(channels, table),
        // Of a whole schema, any table that is not named anywhere.
        TablePattern::Schema(schema) => loses(channels, &TableName::new(schema, "any table of it")),
    };
    set.patterns().filter(lost).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(rules: &[(&str, &str)], set: &[&str]) -> Vec<String> {
        let mut filters = Filters::default();
        for (name, rule) in rules {
            filters.add(name, rule);
        }
        let channels = BTreeMap::from([(String::new(), filters)]);
        let patterns = without(&channels, &TableSet::parse(set).expect("a set"));
        patterns.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn i3_a_table_that_the_mini_replica_does_not_get_is_named() {
        let rules =
            [("REPLICATE_DO_TABLE", "g._apps_gho,g.apps"), ("REPLICATE_WILD_DO_TABLE", "h.%,k.a\\_b")];
        assert_eq!(lost(&rules, &["g.apps", "h.x", "k.a_b"]), Vec::<String>::new());
        assert_eq!(lost(&rules, &["g.apps", "g.partners", "k.axb", "h.*"]), ["g.partners", "k.axb"]);
        assert_eq!(lost(&rules, &["g.*"]), ["g.*"], "only two of its tables");
    }

    #[test]
    fn a_wild_rule_keeps_create_database_out_unless_it_is_for_the_whole_schema() {
        let with = |rules: &[(&str, &str)]| {
            let mut filters = Filters::default();
            rules.iter().for_each(|(name, rule)| filters.add(name, rule));
            filters
        };
        assert!(with(&[]).lets_schema_in("tablecast"));
        assert!(with(&[("REPLICATE_DO_TABLE", "g.apps,tablecast.table_set")]).lets_schema_in("tablecast"));
        let wild = [("REPLICATE_DO_TABLE", "tablecast.table_set"), ("REPLICATE_WILD_DO_TABLE", "g.%")];
        assert!(!with(&wild).lets_schema_in("tablecast"));
        assert!(with(&[("REPLICATE_WILD_DO_TABLE", "g.%,tablecast.%")]).lets_schema_in("tablecast"));
        assert!(!with(&[("REPLICATE_WILD_DO_TABLE", "tablecast.table\\_set")]).lets_schema_in("tablecast"));
        assert!(!with(&[("REPLICATE_DO_DB", "g")]).lets_schema_in("tablecast"));
    }

    #[test]
    fn what_is_ignored_is_left_out_and_no_rule_lets_everything_in() {
        assert_eq!(lost(&[("REPLICATE_IGNORE_TABLE", "g.apps")], &["g.apps", "g.plans"]), ["g.apps"]);
        assert_eq!(lost(&[("REPLICATE_WILD_IGNORE_TABLE", "g.a%")], &["g.apps", "g.plans"]), ["g.apps"]);
        assert_eq!(lost(&[("REPLICATE_IGNORE_DB", "g")], &["g.apps", "h.t"]), ["g.apps"]);
        assert_eq!(lost(&[("REPLICATE_DO_DB", "h")], &["g.apps", "h.t"]), ["g.apps"]);
        assert_eq!(lost(&[], &["g.apps", "h.*"]), Vec::<String>::new());
        assert!(without(&BTreeMap::new(), &TableSet::parse(&["g.apps"]).expect("a set")).is_empty());
    }
}
