//! The session context of a Query event, and the SET statements that put any session into it.
//!
//! A statement's text means something only together with its session: sql_mode, character sets, time zone,
//! explicit_defaults_for_timestamp and more decide what table a CREATE TABLE makes. The server writes a part of
//! that into each event (the status variables); what it does not write, it leaves to the server that replays,
//! so here every such variable gets a fixed value, and nothing of a region's own defaults is left.
//!
//! Privileges: SESSION_VARIABLES_ADMIN is enough for all of it, with one exception: default_table_encryption,
//! if the value differs from the region's global one, needs SYSTEM_VARIABLES_ADMIN and TABLE_ENCRYPTION_ADMIN.
//! The server checks that only for a change, so nobody needs it who has no encryption; else the refusal (1227)
//! names the variable.
//!
//! Left out on purpose: collation_database (it matters to LOAD DATA and CREATE DATABASE, which never run; USE
//! sets it), and variables that change speed and not meaning.

use super::charset::Charset;
use super::query::QueryEvent;
use crate::error::{Error, Kind, Result};
use status::Status;

pub use status::StatusVars;

mod status;
#[cfg(test)]
mod tests;

/// Flags of Q_FLAGS2_CODE (sql/query_options.h). OPTION_NOT_AUTOCOMMIT is there too, and without meaning for a
/// statement that commits by itself.
const AUTO_IS_NULL: u32 = 1 << 14;
const NO_FOREIGN_KEY_CHECKS: u32 = 1 << 26;
const RELAXED_UNIQUE_CHECKS: u32 = 1 << 27;

/// utf8mb4_0900_ai_ci, the default of every supported server.
pub const UTF8MB4: u16 = 255;

/// ONLY_FULL_GROUP_BY, STRICT_TRANS_TABLES, NO_ZERO_IN_DATE, NO_ZERO_DATE, ERROR_FOR_DIVISION_BY_ZERO,
/// NO_ENGINE_SUBSTITUTION: the default of every supported server. Each event names its own.
const DEFAULT_SQL_MODE: u64 = 0x20 | 0x20_0000 | 0x80_0000 | 0x100_0000 | 0x400_0000 | 0x4000_0000;

/// Every mode that a server of 8.0 or newer takes (sql/system_variables.h).
const SQL_MODES: u64 = 0x3_EFFC_00FF;

/// Modes that stand for others: a server that is told to set them sets those, too, and then logs them all.
const COMPOSITE_SQL_MODES: [(u64, u64); 2] = [
    // ANSI: REAL_AS_FLOAT, PIPES_AS_CONCAT, ANSI_QUOTES, IGNORE_SPACE, ONLY_FULL_GROUP_BY
    (0x4_0000, 0x1 | 0x2 | 0x4 | 0x8 | 0x20),
    // TRADITIONAL: STRICT_TRANS_TABLES, STRICT_ALL_TABLES, NO_ZERO_IN_DATE, NO_ZERO_DATE,
    // ERROR_FOR_DIVISION_BY_ZERO, NO_ENGINE_SUBSTITUTION
    (0x800_0000, 0x20_0000 | 0x40_0000 | 0x80_0000 | 0x100_0000 | 0x400_0000 | 0x4000_0000),
];

/// Which schemas a statement changed, as the server recorded it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpdatedSchemas {
    /// Not recorded, or more than the event can name.
    #[default]
    Unknown,
    These(Vec<String>),
}

/// Collation ids of character_set_client, collation_connection and collation_server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charsets {
    pub client: u16,
    pub connection: u16,
    pub server: u16,
}

/// The whole context in which a statement ran. Where the event says nothing, [`Session::of`] leaves `None` and
/// [`varying_statements`](Self::varying_statements) sets the fixed value that is given here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub timestamp: u32,
    pub microseconds: Option<u32>,
    /// The default database; empty if there was none.
    pub schema: String,
    /// pseudo_thread_id: whose temporary tables are meant.
    pub thread_id: u32,
    /// foreign_key_checks; on.
    pub foreign_key_checks: bool,
    /// unique_checks; on.
    pub unique_checks: bool,
    /// sql_auto_is_null; off.
    pub auto_is_null: bool,
    /// The default of a new server.
    pub sql_mode: Option<u64>,
    /// auto_increment_increment and auto_increment_offset; 1 and 1.
    pub auto_increment: Option<(u16, u16)>,
    /// utf8mb4 with its default collation, all three.
    pub charset: Option<Charsets>,
    /// UTC. The server notes it only for statements that depend on it.
    pub time_zone: Option<String>,
    /// The number of a locale; 0, en_US.
    pub lc_time_names: Option<u16>,
    pub collation_database: Option<u16>,
    /// On.
    pub explicit_defaults_for_timestamp: Option<bool>,
    /// utf8mb4_0900_ai_ci.
    pub default_collation_for_utf8mb4: Option<u16>,
    /// Off.
    pub sql_require_primary_key: Option<bool>,
    /// Off.
    pub default_table_encryption: Option<bool>,
    /// Off; a server has it since 9.7.
    pub enable_cascade_triggers: Option<bool>,
    pub updated_schemas: UpdatedSchemas,
    /// The event has a transaction number of its own: DDL that the source's InnoDB committed as one.
    pub is_atomic_ddl: bool,
}

impl Session {
    /// The context of a Query event. `timestamp` is that of the event's header.
    pub fn of(timestamp: u32, query: &QueryEvent) -> Result<Session> {
        let refused =
            |what: String| Err(Error::new(Kind::Gate, format!("read the session of a statement: {what}")));
        let status = Status::parse(&query.status)?;
        let Ok(schema) = String::from_utf8(query.schema.clone()) else {
            return refused("the default database's name is no UTF-8".into());
        };
        let time_zone = match status.time_zone.map(String::from_utf8) {
            None => None,
            Some(Ok(zone)) if is_plain_zone(&zone) => Some(zone),
            Some(_) => return refused("the time zone's name has characters that no zone has".into()),
        };
        // I6: the classifier lexes by these bits. What the server would expand or refuse when it is told to set
        // them must not be taken for what it says.
        if let Some(mode) = status.sql_mode.filter(|&mode| !is_logged_sql_mode(mode)) {
            return refused(format!("sql_mode {mode:#x} is none that a server writes"));
        }
        let flags = status.flags2.unwrap_or(0);
        let charset = if server_wrote_it_in_utf8(&query.text) {
            let server = status.charset.map_or(UTF8MB4, |charset| charset.server);
            Some(Charsets { client: UTF8MB4, connection: UTF8MB4, server })
        } else {
            status.charset
        };
        Ok(Session {
            timestamp,
            microseconds: status.microseconds,
            schema,
            thread_id: query.thread_id,
            foreign_key_checks: flags & NO_FOREIGN_KEY_CHECKS == 0,
            unique_checks: flags & RELAXED_UNIQUE_CHECKS == 0,
            auto_is_null: flags & AUTO_IS_NULL != 0,
            sql_mode: status.sql_mode,
            auto_increment: status.auto_increment,
            charset,
            time_zone,
            lc_time_names: status.lc_time_names,
            collation_database: status.collation_database,
            explicit_defaults_for_timestamp: status.explicit_defaults_for_timestamp,
            default_collation_for_utf8mb4: status.default_collation_for_utf8mb4,
            sql_require_primary_key: status.sql_require_primary_key,
            default_table_encryption: status.default_table_encryption,
            enable_cascade_triggers: status.enable_cascade_triggers,
            updated_schemas: status.updated_schemas,
            is_atomic_ddl: status.has_xid,
        })
    }

    pub fn charsets(&self) -> Charsets {
        self.charset.unwrap_or(Charsets { client: UTF8MB4, connection: UTF8MB4, server: UTF8MB4 })
    }

    /// character_set_client, as [`set_statements`](Self::set_statements) sets it.
    pub fn client_charset(&self) -> Result<Charset> {
        Charset::of_collation(self.charsets().client)
    }

    /// sql_mode, as [`set_statements`](Self::set_statements) sets it.
    pub fn effective_sql_mode(&self) -> u64 {
        self.sql_mode.unwrap_or(DEFAULT_SQL_MODE)
    }

    /// ASCII statements that put any session, whatever the server's own defaults, into exactly this context:
    /// [`constant_statements`] and then [`varying_statements`](Self::varying_statements). The default
    /// database is not among them.
    pub fn set_statements(&self, server: (u16, u16, u16)) -> Vec<String> {
        let mut all = constant_statements(server);
        all.extend(self.varying_statements(server));
        all
    }

    /// Only what can differ from statement to statement. The session must be in the constant state and outside
    /// a transaction: explicit_defaults_for_timestamp cannot be set in one (1766).
    pub fn varying_statements(&self, server: (u16, u16, u16)) -> Vec<String> {
        as_statements(&self.assignments(server))
    }

    /// As [`varying_statements`](Self::varying_statements), for a session that is in the state of `before`.
    pub fn varying_statements_after(&self, before: &Session, server: (u16, u16, u16)) -> Vec<String> {
        let before = before.assignments(server);
        let mut changed = self.assignments(server);
        changed.retain(|assignment| !before.contains(assignment));
        as_statements(&changed)
    }

    /// Whether the statement depended on the system time zone of its server, which no event names.
    pub fn is_in_system_zone(&self) -> bool {
        self.time_zone.as_deref().is_some_and(|zone| zone.eq_ignore_ascii_case("SYSTEM"))
    }

    /// `SYSTEM` is never set: in a region it would be another zone.
    fn replayed_zone(&self) -> &str {
        self.time_zone.as_deref().filter(|_| !self.is_in_system_zone()).unwrap_or("+00:00")
    }

    fn assignments(&self, server: (u16, u16, u16)) -> Vec<(&'static str, String)> {
        let number = |flag: bool| u8::from(flag).to_string();
        let charsets = self.charsets();
        let (increment, offset) = self.auto_increment.unwrap_or((1, 1));
        let timestamp = match self.microseconds {
            Some(microseconds) => format!("{}.{microseconds:06}", self.timestamp),
            None => self.timestamp.to_string(),
        };
        let mut set = vec![
            ("sql_mode", self.effective_sql_mode().to_string()),
            ("character_set_client", charsets.client.to_string()),
            ("collation_connection", charsets.connection.to_string()),
            ("collation_server", charsets.server.to_string()),
            (
                "default_collation_for_utf8mb4",
                self.default_collation_for_utf8mb4.unwrap_or(UTF8MB4).to_string(),
            ),
            ("time_zone", format!("'{}'", self.replayed_zone())),
            ("lc_time_names", self.lc_time_names.unwrap_or(0).to_string()),
            ("foreign_key_checks", number(self.foreign_key_checks)),
            ("unique_checks", number(self.unique_checks)),
            ("sql_auto_is_null", number(self.auto_is_null)),
            ("auto_increment_increment", increment.to_string()),
            ("auto_increment_offset", offset.to_string()),
            ("explicit_defaults_for_timestamp", number(self.explicit_defaults_for_timestamp.unwrap_or(true))),
            ("sql_require_primary_key", number(self.sql_require_primary_key.unwrap_or(false))),
        ];
        if server >= (8, 0, 16) {
            set.push(("default_table_encryption", number(self.default_table_encryption.unwrap_or(false))));
        }
        if server >= (9, 7, 0) {
            set.push(("enable_cascade_triggers", number(self.enable_cascade_triggers.unwrap_or(false))));
        }
        set.push(("pseudo_thread_id", self.thread_id.to_string()));
        set.push(("timestamp", timestamp));
        set
    }
}

/// The part of the context that no event carries: the same for every statement, once for each connection,
/// outside a transaction and before gtid_next is set.
pub fn constant_statements(server: (u16, u16, u16)) -> Vec<String> {
    let mut set = vec![
        ("autocommit", "1"),
        ("completion_type", "0"),
        // Rows are looked up by key, never by range; fewer gap locks let more transactions run side by side.
        ("transaction_isolation", "'READ-COMMITTED'"),
        ("transaction_read_only", "0"),
        // BINLOG refuses rows under STATEMENT (1663).
        ("binlog_format", "'ROW'"),
        ("binlog_row_image", "'FULL'"),
        ("binlog_row_value_options", "''"),
        // IDEMPOTENT would turn rows that do not fit into silence.
        ("rbr_exec_mode", "'STRICT'"),
        ("default_storage_engine", "'InnoDB'"),
        ("default_tmp_storage_engine", "'InnoDB'"),
        // The source has already let the statement in, perhaps without; what it made is compared afterwards.
        ("innodb_strict_mode", "0"),
        // What functions give in generated columns and defaults.
        ("div_precision_increment", "4"),
        ("default_week_format", "0"),
        ("group_concat_max_len", "1024"),
        ("block_encryption_mode", "'aes-128-ecb'"),
        ("sql_safe_updates", "0"),
        ("character_set_results", "'utf8mb4'"),
        ("character_set_filesystem", "'binary'"),
        // What SHOW CREATE TABLE says on this connection.
        ("sql_quote_show_create", "1"),
        ("show_create_table_verbosity", "0"),
    ];
    if server >= (8, 0, 18) {
        set.push(("show_create_table_skip_secondary_engine", "0"));
    }
    if server >= (8, 0, 30) {
        set.push(("sql_generate_invisible_primary_key", "0"));
        set.push(("show_gipk_in_create_table_and_information_schema", "1"));
    }
    if server >= (8, 4, 0) {
        // A replica relaxes it too: the source has already let the key in.
        set.push(("restrict_fk_on_non_standard_key", "0"));
    }
    let set: Vec<(&str, String)> = set.into_iter().map(|(name, value)| (name, value.to_string())).collect();
    as_statements(&set)
}

/// One statement, and so one round trip: a SET takes effect as a whole or not at all.
fn as_statements(set: &[(&'static str, String)]) -> Vec<String> {
    if set.is_empty() {
        return Vec::new();
    }
    let assignments: Vec<String> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
    vec![format!("SET {}", assignments.join(", "))]
}

fn is_logged_sql_mode(mode: u64) -> bool {
    mode & !SQL_MODES == 0
        && COMPOSITE_SQL_MODES.iter().all(|&(whole, parts)| mode & whole == 0 || mode & parts == parts)
}

/// Names of zones stand in quotes in a SET statement that must mean the same under every sql_mode.
fn is_plain_zone(zone: &str) -> bool {
    zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_/:. ".contains(&b))
}

/// The CREATE TABLE of a CREATE … SELECT is written by the server, in UTF-8, while the event names the client's
/// character set (seen with 9.7.4: sql_insert.cc takes the text from store_create_info). Read in that set, names
/// and defaults beyond ASCII would come out as others; a native replica makes that mistake.
fn server_wrote_it_in_utf8(text: &[u8]) -> bool {
    if !text.starts_with(b"CREATE TABLE ") || text.is_ascii() {
        return false;
    }
    let Ok(text) = std::str::from_utf8(text) else { return false };
    text.split_once("\n)").is_some_and(|(_, options)| options.contains(" START TRANSACTION"))
}
