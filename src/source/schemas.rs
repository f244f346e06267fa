//! The default collation of each schema of the set, followed through the binlog.
//!
//! A CREATE TABLE that names no character set takes its schema's, at the moment it runs. `CREATE DATABASE` and
//! `ALTER DATABASE` do not travel, so upload follows them and notes with each such statement what held then.

use std::collections::BTreeMap;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::ddl::{SchemaDdl, SchemaVerb};
use crate::binlog::name::TableSet;
use crate::error::Result;
use crate::mysql;
use crate::stream::AddedTable;
use crate::stream::head::SchemaDefaults;

/// The defaults as the source has them now, of those schemas of the set that exist.
pub(crate) async fn read(
    conn: &mut Conn,
    server: &str,
    set: &TableSet,
) -> Result<BTreeMap<String, SchemaDefaults>> {
    let mut schemas = read_all(conn, server).await?;
    schemas.retain(|schema, _| set.has_schema(schema));
    Ok(schemas)
}

async fn read_all(conn: &mut Conn, server: &str) -> Result<BTreeMap<String, SchemaDefaults>> {
    let doing = format!("read information_schema.SCHEMATA at {server}");
    let rows: Vec<(String, String)> = conn
        .query("SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    Ok(rows.into_iter().map(|(schema, collation)| (schema, SchemaDefaults { collation })).collect())
}

/// Follows the defaults through the binlog.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    /// Also of schemas that are not the set's: they may come into it.
    known: BTreeMap<String, SchemaDefaults>,
    /// What the source has now, for a schema that nothing has been recorded of.
    now: BTreeMap<String, SchemaDefaults>,
    /// Default collation by character set.
    defaults: BTreeMap<String, String>,
    /// Collation by id.
    ids: BTreeMap<u16, String>,
}

impl Schemas {
    pub(crate) async fn new(
        conn: &mut Conn,
        server: &str,
        known: BTreeMap<String, SchemaDefaults>,
    ) -> Result<Self> {
        let doing = format!("read information_schema.COLLATIONS at {server}");
        let rows: Vec<(u64, String, Option<String>, Option<String>)> = conn
            .query("SELECT ID, COLLATION_NAME, CHARACTER_SET_NAME, IS_DEFAULT FROM information_schema.COLLATIONS")
            .await
            .map_err(|cause| mysql::error(cause, &doing))?;
        let mut schemas = Self { known, now: read_all(conn, server).await?, ..Self::default() };
        for (id, collation, charset, is_default) in rows {
            if let (Some(charset), Some("Yes")) = (charset, is_default.as_deref()) {
                schemas.defaults.insert(charset, collation.clone());
            }
            if let Ok(id) = u16::try_from(id) {
                schemas.ids.insert(id, collation);
            }
        }
        Ok(schemas)
    }

    /// The default collation that a statement meets in this schema.
    pub(crate) fn collation(&self, schema: &str) -> Option<&str> {
        self.known.get(schema).or_else(|| self.now.get(schema)).map(|defaults| defaults.collation.as_str())
    }

    /// What has been recorded of the set's schemas, for the head.
    pub(crate) fn known(&self, set: &TableSet) -> BTreeMap<String, SchemaDefaults> {
        let ours = self.known.iter().filter(|(schema, _)| set.has_schema(schema));
        ours.map(|(schema, defaults)| (schema.clone(), defaults.clone())).collect()
    }

    /// The set is another one from here on. Of schemas that come in, what is known of them counts from now on: what
    /// the change says, else what the source has.
    pub(crate) fn take_on(&mut self, set: &TableSet, added: &[AddedTable]) {
        for added in added {
            let collation = added.collation.clone();
            self.known.insert(added.table.schema.clone(), SchemaDefaults { collation });
        }
        for schema in set.schemas() {
            if let (None, Some(now)) = (self.known.get(&schema), self.now.get(&schema)) {
                self.known.insert(schema, now.clone());
            }
        }
    }

    /// A CREATE, ALTER or DROP DATABASE in the binlog. `server_collation` is the session's
    /// `collation_server`, which a CREATE DATABASE takes that names none.
    pub(crate) fn changed(&mut self, ddl: &SchemaDdl, server_collation: Option<u16>) {
        let named = match (&ddl.collation, &ddl.charset) {
            (Some(collation), _) => Some(collation.to_lowercase()),
            (None, Some(charset)) => self.default_of(&charset.to_lowercase()),
            (None, None) => None,
        };
        let of_server = || server_collation.and_then(|id| self.ids.get(&id).cloned());
        let collation = match ddl.verb {
            SchemaVerb::Create => named.or_else(of_server),
            // Only its encryption or read-only option.
            SchemaVerb::Alter => match named {
                Some(collation) => Some(collation),
                None => return,
            },
            SchemaVerb::Drop => None,
        };
        match collation {
            Some(collation) => {
                self.known.insert(ddl.schema.clone(), SchemaDefaults { collation });
            }
            // Gone, or not to be known from the statement: what the source has now stands in.
            None => {
                self.known.remove(&ddl.schema);
            }
        }
    }

    fn default_of(&self, charset: &str) -> Option<String> {
        // The server prints utf8 as utf8mb3 and reads both.
        let charset = if charset == "utf8" { "utf8mb3" } else { charset };
        self.defaults
            .get(charset)
            .or_else(|| self.defaults.get("utf8").filter(|_| charset == "utf8mb3"))
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas() -> Schemas {
        let mut schemas = Schemas::default();
        schemas.defaults.insert("latin1".to_owned(), "latin1_swedish_ci".to_owned());
        schemas.defaults.insert("utf8mb3".to_owned(), "utf8mb3_general_ci".to_owned());
        schemas.ids.insert(255, "utf8mb4_0900_ai_ci".to_owned());
        schemas
    }

    fn ddl(verb: SchemaVerb, charset: Option<&str>, collation: Option<&str>) -> SchemaDdl {
        SchemaDdl {
            verb,
            schema: "g".to_owned(),
            charset: charset.map(str::to_owned),
            collation: collation.map(str::to_owned),
        }
    }

    #[test]
    fn a_schema_has_what_its_last_statement_gave_it() {
        let mut schemas = schemas();
        schemas.changed(&ddl(SchemaVerb::Create, None, None), Some(255));
        assert_eq!(schemas.collation("g"), Some("utf8mb4_0900_ai_ci"));
        schemas.changed(&ddl(SchemaVerb::Alter, Some("LATIN1"), None), Some(255));
        assert_eq!(schemas.collation("g"), Some("latin1_swedish_ci"));
        schemas.changed(&ddl(SchemaVerb::Alter, None, None), Some(255));
        assert_eq!(schemas.collation("g"), Some("latin1_swedish_ci"));
        schemas.changed(&ddl(SchemaVerb::Alter, Some("utf8"), Some("utf8mb3_bin")), None);
        assert_eq!(schemas.collation("g"), Some("utf8mb3_bin"));
        schemas.changed(&ddl(SchemaVerb::Alter, Some("utf8"), None), None);
        assert_eq!(schemas.collation("g"), Some("utf8mb3_general_ci"));
        schemas.changed(&ddl(SchemaVerb::Drop, None, None), None);
        assert_eq!(schemas.collation("g"), None);
    }

    #[test]
    fn what_nothing_has_been_recorded_of_is_as_the_source_has_it_now() {
        let mut schemas = schemas();
        let latin1 = SchemaDefaults { collation: "latin1_bin".to_owned() };
        schemas.now.insert("g".to_owned(), latin1);
        assert_eq!(schemas.collation("g"), Some("latin1_bin"));
        assert!(schemas.known(&TableSet::parse(&["g.*"]).expect("a set")).is_empty());
    }
}
