//! Connections to MySQL: options and TLS, errors, locks, and the binlog connection.
