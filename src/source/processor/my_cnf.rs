//! The my.cnf of a binlog processor: what makes a MySQL server the mini-replica that one stream is read from.

use sha2::{Digest, Sha256};

use crate::source::processor::rules::Rules;

/// The text of the file. `server_id`: from the stream's name where nobody names one.
pub fn my_cnf(stream: &str, set: &str, rules: &Rules, server_id: Option<u32>) -> String {
    let id = server_id.unwrap_or_else(|| server_id_of(stream));
    let filters = rules.lines().join("\n");
    format!(
        "\
# The binlog processor of the Tablecast stream {stream}: a replica of the primary that keeps these tables only:
# {set}
# Made by `tablecast processor config`; make it anew whenever the table set changes. Names are those of MySQL 8.0.26
# and later. Put it where mysqld reads it (/etc/mysql/conf.d/), restart mysqld, then `tablecast processor create`.
# A transaction by XA on any table, also one that is not named here, stops a filtered replica (error 3898): where
# applications use XA, take a full replica as [mysql].

[mysqld]
# Any number that no other server of this replication topology has.
server_id = {id}

# The stream is read from this server's own binary log, by GTID.
gtid_mode = ON
enforce_gtid_consistency = ON
log_bin = binlog
log_replica_updates = ON
loose_binlog_format = ROW
# A week: as long may `tablecast upload` stand still before it needs the primary's binary logs instead.
binlog_expire_logs_seconds = 604800

# A crash or a power cut loses nothing, and leaves no half transaction in the relay log.
sync_binlog = 1
innodb_flush_log_at_trx_commit = 1
relay_log_recovery = ON
replica_preserve_commit_order = ON

# Nobody writes here but replication. CLONE brings the primary's events along: they must not run a second time.
super_read_only = ON
event_scheduler = OFF
default_time_zone = '+00:00'
max_allowed_packet = 1G

# `tablecast processor create` and `rebuild` copy the primary with this plugin.
plugin_load_add = mysql_clone.so

# What is let in: the tables of the set, the names that gh-ost and pt-online-schema-change use for them, the table set
# itself, and statements on schemas (the rule '%.').
{filters}
"
    )
}

/// The same at every call, and unlikely to be anybody else's. Upload itself connects with a number of the upper half.
fn server_id_of(stream: &str) -> u32 {
    let digest = Sha256::digest(format!("processor\0{stream}"));
    (u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) & 0x7FFF_FFFF).max(1)
}
