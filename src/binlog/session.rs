//! The session context of a Query event, and the SET statements that put any session into it.

use super::charset::Charset;
use super::query::QueryEvent;
use crate::Result;

/// The status variables of a Query event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusVars {
    pub raw: Vec<u8>,
}

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

/// The whole context in which a statement ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub timestamp: u32,
    pub microseconds: Option<u32>,
    /// The default database; empty if there was none.
    pub schema: String,
    pub thread_id: u32,
    pub sql_mode: Option<u64>,
    pub charset: Option<Charsets>,
    pub updated_schemas: UpdatedSchemas,
}

impl Session {
    /// The context of a Query event. `timestamp` is that of the event's header.
    pub fn of(_timestamp: u32, _query: &QueryEvent) -> Result<Session> {
        todo!()
    }

    /// character_set_client, as [`set_statements`](Self::set_statements) sets it.
    pub fn client_charset(&self) -> Result<Charset> {
        todo!()
    }

    /// sql_mode, as [`set_statements`](Self::set_statements) sets it.
    pub fn effective_sql_mode(&self) -> u64 {
        todo!()
    }

    /// ASCII statements that put any session, whatever the server's own defaults, into exactly this context:
    /// [`constant_statements`] and then [`varying_statements`](Self::varying_statements). The default
    /// database is not among them.
    pub fn set_statements(&self, server: (u16, u16, u16)) -> Vec<String> {
        let mut all = constant_statements(server);
        all.extend(self.varying_statements(server));
        all
    }

    /// Only what can differ from statement to statement. The session must be in the constant state.
    pub fn varying_statements(&self, _server: (u16, u16, u16)) -> Vec<String> {
        todo!()
    }
}

/// The part of the context that no event carries: the same for every statement, once for each connection.
pub fn constant_statements(_server: (u16, u16, u16)) -> Vec<String> {
    todo!()
}
