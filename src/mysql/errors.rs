//! What MySQL's error numbers mean to us: refused, history lost, or just an error. Nobody else looks at the
//! numbers of a failed login or a missing privilege.
//!
//! Numbers: <https://dev.mysql.com/doc/mysql-errors/en/server-error-reference.html>.

use std::error::Error as StdError;

use mysql_async::{DriverError, IoError, ServerError};

use crate::{Error, Kind};

/// The error for a failed `doing`, e.g. `read SHOW CREATE TABLE of g.apps`.
pub fn error(cause: mysql_async::Error, doing: &str) -> Error {
    match &cause {
        mysql_async::Error::Server(server) => {
            let (kind, hint) = meaning(server.code, &server.message);
            with_hint(Error::new(kind, doing), hint).caused_by(innermost(cause))
        }
        _ => Error::new(Kind::Mysql, doing).caused_by(innermost(cause)),
    }
}

/// The error inside the driver's wrappings, each of which repeats the text of what it wraps: "Input/output error:
/// Input/output error: Connection refused".
fn innermost(cause: mysql_async::Error) -> Box<dyn StdError + Send + Sync> {
    match cause {
        mysql_async::Error::Io(IoError::Io(io)) => io.into(),
        mysql_async::Error::Io(IoError::Tls(tls)) => tls.into(),
        mysql_async::Error::Driver(driver) => driver.into(),
        mysql_async::Error::Server(server) => server.into(),
        mysql_async::Error::Url(url) => url.into(),
        mysql_async::Error::Other(other) => other,
    }
}

/// The same while a connection is made: here a failure of TLS is a refusal, not something that passes.
pub(super) fn connecting(cause: mysql_async::Error, doing: &str) -> Error {
    match &cause {
        mysql_async::Error::Io(IoError::Tls(_)) => tls_refused(doing).caused_by(innermost(cause)),
        mysql_async::Error::Io(IoError::Io(io)) if is_tls(io) => {
            tls_refused(doing).caused_by(innermost(cause))
        }
        mysql_async::Error::Io(_) => unreachable_server(doing).caused_by(innermost(cause)),
        mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            no_tls_there(doing).caused_by(innermost(cause))
        }
        mysql_async::Error::Driver(DriverError::UnknownAuthPlugin { .. }) => {
            unknown_method(doing).caused_by(innermost(cause))
        }
        _ => error(cause, doing),
    }
}

/// Whether a handshake failed over TLS itself, rather than by a connection that broke.
pub(super) fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// The error for an ERR packet that our own client received.
pub fn server_error(code: u16, state: &str, message: &str, doing: &str) -> Error {
    let (kind, hint) = meaning(code, message);
    let cause = ServerError { code, message: message.to_owned(), state: state.to_owned() };
    with_hint(Error::new(kind, doing), hint).caused_by(cause)
}

/// Whether the server, or the account, had no connection to spare.
pub fn lacks_connections(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(server) = error.downcast_ref::<ServerError>() {
            return NO_CONNECTION.contains(&server.code);
        }
        cause = error.source();
    }
    false
}

pub(super) fn tls_refused(doing: &str) -> Error {
    Error::new(Kind::Denied, doing).hint(
        "the TLS handshake failed: with tls mode \"verify\" the server's certificate must name the host as a \
         subjectAltName and be signed by `ca`; \"require\" encrypts without checking the certificate",
    )
}

pub(super) fn no_tls_there(doing: &str) -> Error {
    Error::new(Kind::Denied, doing)
        .hint("this server offers no TLS: give it certificates, or set tls = { mode = \"off\" }")
}

/// MySQL answers a user that does not exist with a method of its whim, so that nobody can tell.
pub(super) fn unknown_method(doing: &str) -> Error {
    Error::new(Kind::Denied, doing).hint(
        "no such user at this server (`tablecast grants` prints how to make it), or one with an authentication method that \
         Tablecast does not speak: caching_sha2_password is the one to use",
    )
}

pub(super) fn unreachable_server(doing: &str) -> Error {
    Error::new(Kind::Mysql, doing).hint("is the server up, and are host, port or socket right?")
}

fn with_hint(error: Error, hint: Option<&str>) -> Error {
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
const NO_CONNECTION: [u16; 3] = [1040, 1203, 1226];

const LOGIN: &str = "check user and password, and that there is an account whose host part fits: `tablecast grants` prints \
                     how to make it, with all that it needs";

const NO_ROOM: &str = "the server has no room for it: its error log names the file; free or add space there. Nothing is \
                       lost, and it is tried again";

/// Whether the server lacked room, on disk or in memory: nothing is wrong with what it was given, and it may go well
/// the next time.
pub fn lacks_room(code: u16) -> bool {
    // ER_DISK_FULL, ER_ERROR_ON_WRITE, ER_OUTOFMEMORY, ER_OUT_OF_RESOURCES, ER_RECORD_FILE_FULL, ER_GET_ERRNO
    matches!(code, 1021 | 1026 | 1037 | 1041 | 1114 | 1030)
}

fn meaning(code: u16, message: &str) -> (Kind, Option<&'static str>) {
    match code {
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
        1045 | 1698 => (Kind::Denied, Some(LOGIN)),
        // ER_HOST_NOT_PRIVILEGED, ER_HOST_IS_BLOCKED
        1130 => (Kind::Denied, Some("no account of this server admits this host: see `tablecast grants`")),
        1129 => (Kind::Denied, Some("too many failed logins from this host: FLUSH HOSTS at the server")),
        // Database, table, column, routine, grant option, and the dynamic privileges.
        1044 | 1142 | 1143 | 1227 | 1370 | 1410 | 3530 | 3879 => {
            (Kind::Denied, Some("the account lacks a privilege: `tablecast grants` prints the ones it needs"))
        }
        // ER_MUST_CHANGE_PASSWORD, ER_MUST_CHANGE_PASSWORD_LOGIN
        1820 | 1862 => {
            (Kind::Denied, Some("the account's password has expired: ALTER USER … IDENTIFIED BY …"))
        }
        // ER_ACCOUNT_HAS_BEEN_LOCKED
        3118 => (Kind::Denied, Some("the account is locked: ALTER USER … ACCOUNT UNLOCK")),
        // ER_SECURE_TRANSPORT_REQUIRED
        3159 => (
            Kind::Denied,
            Some("this server takes encrypted connections only: tls = { mode = \"require\" } or \"verify\""),
        ),
        // ER_OPTION_PREVENTS_STATEMENT
        1290 if message.contains("read-only") => {
            (Kind::Denied, Some("the server is read-only: SET GLOBAL super_read_only=0, read_only=0"))
        }
        // ER_READ_ONLY_MODE
        1836 => (Kind::Denied, Some("the server is read-only: SET GLOBAL super_read_only=0, read_only=0")),
        // ER_SOURCE_FATAL_ERROR_READING_BINLOG: several troubles under one number, told apart by their text.
        1236 if message.contains("purged") => (
            Kind::History,
            Some(
                "the source no longer has every binlog that the stream still needs: point [mysql] at another \
                 server that has them, or run `tablecast upload --resync`, which takes a dump of all tables and goes \
                 on behind it",
            ),
        ),
        1236 if message.contains("anonymous transaction") => (
            Kind::Gate,
            Some(
                "a transaction without a GTID is in the binlog: the source needs gtid_mode=ON at all times. If it \
                 changed tables of the set, the stream cannot carry that: make a new one",
            ),
        ),
        1236 if message.contains("server_uuid/server_id") => {
            (Kind::Mysql, Some("another replica of this source uses the same server_id or UUID"))
        }
        code if NO_CONNECTION.contains(&code) => {
            (Kind::Mysql, Some("the server or the account has no connection to spare"))
        }
        // ER_DISK_FULL, ER_ERROR_ON_WRITE, ER_RECORD_FILE_FULL
        1021 | 1026 | 1114 => (Kind::Mysql, Some(NO_ROOM)),
        // ER_GET_ERRNO
        1030 if message.contains("error 28 ") => (Kind::Mysql, Some(NO_ROOM)),
        // ER_NET_PACKET_TOO_LARGE
        1153 => (Kind::Mysql, Some("raise max_allowed_packet at the server, up to 1 GiB")),
        _ => (Kind::Mysql, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_privilege_and_a_read_only_server_are_refusals() {
        for (code, message) in [
            (1044, "Access denied for user 'a'@'%' to database 'g'"),
            (1045, "Access denied for user 'a'@'%' (using password: YES)"),
            (1142, "SELECT command denied to user 'a'@'%' for table 't'"),
            (1227, "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s)"),
            (1290, "The MySQL server is running with the --super-read-only option so it cannot execute this"),
            (3118, "Access denied for user 'a'@'%'. Account is locked."),
        ] {
            let error = server_error(code, "HY000", message, "do it");
            assert_eq!(error.kind(), Kind::Denied, "{code}");
            assert!(error.hint_text().is_some(), "{code}");
        }
    }

    #[test]
    fn purged_binlogs_are_lost_history_and_other_binlog_troubles_are_not() {
        let purged = "Cannot replicate because the source purged required binary logs.";
        assert_eq!(server_error(1236, "HY000", purged, "read").kind(), Kind::History);
        let size = "log event entry exceeded max_allowed_packet";
        assert_eq!(server_error(1236, "HY000", size, "read").kind(), Kind::Mysql);
    }

    #[test]
    fn a_full_disk_is_told_what_it_needs() {
        for (code, message) in [
            (1114, "The table '_tablecast_0011223344556677_new' is full"),
            (1021, "Disk full (./g/apps.ibd); waiting for someone to free some space..."),
            (1030, "Got error 28 - 'No space left on device' from storage engine"),
        ] {
            let error = server_error(code, "HY000", message, "load");
            assert_eq!((error.kind(), error.hint_text()), (Kind::Mysql, Some(NO_ROOM)), "{code}");
            assert!(lacks_room(code), "{code}");
        }
    }

    #[test]
    fn an_option_that_forbids_something_else_is_no_read_only_server() {
        let message = "The MySQL server is running with the --secure-file-priv option so it cannot execute";
        assert_eq!(server_error(1290, "HY000", message, "load").kind(), Kind::Mysql);
    }

    #[test]
    fn no_text_stands_twice_in_the_chain_of_causes() {
        let refused = || std::io::Error::from_raw_os_error(111);
        let server = ServerError { code: 1064, message: "near 'x'".into(), state: "42000".into() };
        let lookup = std::io::Error::other("failed to lookup address information");
        for (cause, expected) in [
            (mysql_async::Error::Io(IoError::Io(refused())), "Connection refused (os error 111)"),
            (mysql_async::Error::Io(IoError::Io(lookup)), "failed to lookup address information"),
            (mysql_async::Error::Server(server), "ERROR 1064 (42000): near 'x'"),
            (
                mysql_async::Error::Driver(DriverError::ConnectionClosed),
                "Connection to the server is closed.",
            ),
        ] {
            let error = connecting(cause, "connect to MySQL x@127.0.0.1:1");
            let cause = error.source().expect("a cause");
            assert_eq!(cause.to_string(), expected);
            let mut next = cause.source();
            while let Some(inner) = next {
                assert!(!expected.contains(&inner.to_string()), "{expected}: {inner}");
                next = inner.source();
            }
        }
    }
}
