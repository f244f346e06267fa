//! The one error type of Tablecast, and the one place that says what each kind of error means to an
//! operator: exit code, whether the next run may simply try again, and which runbook helps.
//!
//! A message says operation, object and value (`read segments/…: md5 is X, the index says Y`). The cause is
//! attached as `source`, never formatted into the message. `hint` says what to do.

use std::error::Error as StdError;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as anyone has to act differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Anything not named below.
    Failed,
    /// A wrong argument, or a config file that cannot be used.
    Usage,
    /// Part of the work was done: one of several streams failed, or a table is quarantined.
    Partly,
    /// A check found something: lag, a doctor's finding, a verify mismatch.
    Finding,
    /// The stream's history does not fit: chain broken, index went back, the source lost transactions.
    History,
    /// Another run holds the lock.
    Locked,
    /// MySQL or the store refused us: credentials, privileges, a read-only server.
    Denied,
    /// The stream's format is newer than this version reads.
    TooNew,
    /// The stream or the region is paused.
    Paused,
    /// The gate: a statement or row change that must not travel or must not run.
    Gate,
    /// An object's bytes are not what the index says they are, or cannot be decoded.
    Corrupt,
    /// An object that the index names, or that was asked for, is not there.
    NotFound,
    /// A compare-and-swap lost: somebody else wrote first.
    Conflict,
    /// A row change did not fit the region's rows (1032, 1062, 1146…): the copy has drifted.
    Drift,
    /// A region's table or schema is defined otherwise than at the source.
    Definition,
    /// The store could not be reached or answered with a fault; the next run may try again.
    Store,
    /// MySQL could not be reached or answered with an error not named above.
    Mysql,
    /// Ended by SIGINT.
    Interrupted,
    /// Ended by SIGTERM.
    Terminated,
}

impl Kind {
    /// Every kind, in the order of their exit codes.
    pub const ALL: [Kind; 19] = [
        Kind::Failed,
        Kind::Corrupt,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Drift,
        Kind::Definition,
        Kind::Store,
        Kind::Mysql,
        Kind::Usage,
        Kind::Partly,
        Kind::Finding,
        Kind::History,
        Kind::Locked,
        Kind::Denied,
        Kind::TooNew,
        Kind::Paused,
        Kind::Gate,
        Kind::Interrupted,
        Kind::Terminated,
    ];

    /// The process's exit code, as documented in docs/exit-codes.md.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed
            | Kind::Corrupt
            | Kind::NotFound
            | Kind::Conflict
            | Kind::Drift
            | Kind::Definition
            | Kind::Store
            | Kind::Mysql => 1,
            Kind::Usage => 2,
            Kind::Partly => 3,
            Kind::Finding => 4,
            Kind::History => 10,
            Kind::Locked => 11,
            Kind::Denied => 12,
            Kind::TooNew => 13,
            Kind::Paused => 14,
            Kind::Gate => 15,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }

    /// The name used in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Usage => "usage",
            Kind::Partly => "partly",
            Kind::Finding => "finding",
            Kind::History => "history",
            Kind::Locked => "locked",
            Kind::Denied => "denied",
            Kind::TooNew => "format_too_new",
            Kind::Paused => "paused",
            Kind::Gate => "gate",
            Kind::Corrupt => "corrupt",
            Kind::NotFound => "not_found",
            Kind::Conflict => "conflict",
            Kind::Drift => "drift",
            Kind::Definition => "definition",
            Kind::Store => "store",
            Kind::Mysql => "mysql",
            Kind::Interrupted => "interrupted",
            Kind::Terminated => "terminated",
        }
    }

    /// Of a name as above; a newer program may know more kinds.
    pub fn of_name(name: &str) -> Kind {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or(Kind::Failed)
    }

    /// The page that says what to do.
    pub fn runbook(self) -> String {
        format!("docs/exit-codes.md#{}", self.name())
    }

    /// Whether a following process (`--follow`) tries again by itself after a pause.
    pub fn is_transient(self) -> bool {
        matches!(self, Kind::Store | Kind::Mysql | Kind::Conflict)
    }
}

/// An error with its kind, a message for people, perhaps a hint, perhaps a cause.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    /// What the operator should do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The cause, printed below the message.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Wraps this error in what was being done; kind and hint stay.
    pub fn during(self, operation: impl Into<String>) -> Self {
        let (kind, hint) = (self.0.kind, self.0.hint.clone());
        let mut outer = Error::new(kind, operation).caused_by(self);
        outer.0.hint = hint;
        outer
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub fn is_not_found(&self) -> bool {
        self.0.kind == Kind::NotFound
    }

    pub fn is_conflict(&self) -> bool {
        self.0.kind == Kind::Conflict
    }

    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source:?}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// A text as it stands in one line: control characters, which messages of a server quote, are blanks.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// An error with its causes on one line, for logs and for what is kept of it.
pub fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The same, and what to do.
pub fn chain_and_hint(error: &Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{}; {hint}", chain(error)),
        None => chain(error),
    }
}
