//! What a region goes by when it reads the stream: its own list, beside what the stream may hold.
//!
//! Only what the list lets in ever runs (I6). What the list leaves out and the stream's set has, now or in an earlier
//! version, is read and passed over. What is in neither is refused: nobody has ever asked for it to travel.

use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::stream::Head;

/// The tables of a region, and those of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `tables` in `[region]`: what may run here.
    pub list: TableSet,
    /// What the stream has, or had: read, and left out where the list does not have it.
    stream: TableSet,
    /// What the stream has now; `None`: not known, the list counts alone.
    set: Option<TableSet>,
}

impl Scope {
    /// A stream of which nothing is known beyond the list.
    pub fn of_list(list: &TableSet) -> Scope {
        Scope { list: list.clone(), stream: list.clone(), set: None }
    }

    /// The stream behind this head. Entries of its past may hold tables that have left its set since.
    pub fn of(list: &TableSet, head: &Head) -> Scope {
        let former = head.set_changed.iter().flat_map(|changed| changed.former.iter());
        let patterns: Vec<TablePattern> = head.table_set.tables.patterns().chain(former).cloned().collect();
        // Made of parts of sets that were read: there is at least one, and none is a system table's.
        let stream = TableSet::new(patterns).unwrap_or_else(|_| head.table_set.tables.clone());
        Scope { list: list.clone(), stream, set: Some(head.table_set.tables.clone()) }
    }

    /// The same with another set than the head's, which is that of its end.
    pub fn with_set(self, set: &TableSet) -> Scope {
        Scope { set: Some(set.clone()), ..self }
    }

    /// Whether this is a table that the region keeps as the source has it: on its list, and in the stream's set.
    pub fn follows(&self, table: &TableName) -> bool {
        self.list.names(table) && self.set.as_ref().is_none_or(|set| set.names(table))
    }

    /// Whether it is such a table or the ghost of one.
    pub fn admits(&self, table: &TableName) -> bool {
        self.list.admits(table) && self.set.as_ref().is_none_or(|set| set.admits(table))
    }

    /// Whether the stream may come to it here on the way from a dump of its past: let in, and the stream's now or in an
    /// earlier version of its set.
    pub fn may_meet(&self, table: &TableName) -> bool {
        self.list.admits(table) && self.stream.admits(table)
    }

    /// Whether the table may stand in the stream.
    pub fn knows(&self, table: &TableName) -> bool {
        self.list.admits(table) || self.stream.admits(table)
    }
}

/// The tables of the stream's set, as far as the head knows them, that the list does not let in: sorted.
pub fn left_out(list: &TableSet, head: &Head) -> Vec<TableName> {
    let known = head.definitions.iter().map(|definition| &definition.table);
    let mut tables: Vec<TableName> = known
        .chain(head.table_set.tables.listed())
        .filter(|table| head.table_set.tables.names(table) && !list.admits(table))
        .cloned()
        .collect();
    tables.sort();
    tables.dedup();
    tables
}

/// The entries of the list that fit no table that the stream has: a name that is misspelt, or of a table that is not in
/// the set yet, or not any more.
pub fn unknown<'a>(list: &'a TableSet, head: &Head) -> Vec<&'a TablePattern> {
    let set = &head.table_set.tables;
    let known = || head.definitions.iter().map(|definition| &definition.table).chain(set.listed());
    let fits = |pattern: &TablePattern| match pattern {
        TablePattern::Table(name) => known().any(|table| table == name),
        TablePattern::Schema(schema) => {
            set.has_whole_schema(schema) || known().any(|table| table.schema == *schema)
        }
    };
    list.patterns().filter(|pattern| !fits(pattern)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_the_stream_has_and_the_list_lacks_is_known_and_not_let_in() {
        let set = |names: &[&str]| TableSet::parse(names).unwrap();
        let name = |text: &str| text.parse::<TableName>().unwrap();
        let head = Head::new(Uuid::from_u128(1), "apps", set(&["g.a", "g.b", "h.*"]), DateTime::UNIX_EPOCH);
        let scope = Scope::of(&set(&["g.a", "g.x"]), &head);
        let known = ["g.a", "g.x", "g.b", "g._b_gho", "h.any"];
        assert!(known.iter().all(|table| scope.knows(&name(table))));
        assert!(!scope.knows(&name("g.c")) && !scope.knows(&name("mysql.user")));
        assert!(!scope.list.admits(&name("g._b_gho")));
        assert_eq!(left_out(&scope.list, &head), [name("g.b")]);
        let misspelt = set(&["g.a", "g.bb", "h.*", "g.*", "i.*"]);
        let unknown: Vec<String> = unknown(&misspelt, &head).iter().map(ToString::to_string).collect();
        assert_eq!(unknown, ["g.bb", "i.*"]);
        // What the list has and the set has not is the region's own.
        assert!(scope.follows(&name("g.a")) && scope.admits(&name("g._a_gho")));
        assert!(
            !scope.follows(&name("g.x")) && !scope.admits(&name("g._x_gho")) && !scope.follows(&name("g.b"))
        );
        assert!(scope.with_set(&set(&["g.x"])).follows(&name("g.x")));
    }
}
