//! CLONE: the recipient drops what it has, gets the donor's data as it is at one moment, and restarts.
//!
//! mysqld restarts itself only under something that supervises it (systemd, mysqld_safe, a container's restart
//! policy); else it stops (error 3707) and somebody has to start it. Either way this waits for it, and tells the old
//! process from the new one by a connection that was there before. The password of the donor's account stands in the
//! statement: the server writes `<secret>` in its place into its general and slow log and into
//! `performance_schema` (`Rewriter_clone` in sql/sql_rewrite.cc), and CLONE is in no binary log.
//! <https://dev.mysql.com/doc/refman/8.4/en/clone-plugin-remote.html>

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};

use super::replicate;
use super::side::{CloneStatus, Side, clone_status};
use crate::config::{MysqlConfig, TlsMode};
use crate::error::{Error, Kind, Result};
use crate::{failpoint, mysql};

const LOOK_EVERY: Duration = Duration::from_secs(1);
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How long a server that answers may know nothing of the CLONE that it was told to make.
const NEVER_BEGAN: Duration = Duration::from_secs(10);
/// ER_RESTART_SERVER_FAILED: the data is there, and nothing restarts the server.
const NOT_SUPERVISED: u16 = 3707;

/// Loads the plugin, which stays loaded.
pub(super) async fn install_plugin(side: &mut Side) -> Result<()> {
    const READ_ONLY: [u16; 2] = [1290, 1836];
    const INSTALL: &str = "INSTALL PLUGIN clone SONAME 'mysql_clone.so'";
    let doing = format!("{INSTALL} at {}", side.name);
    let installed = match side.conn.query_drop(INSTALL).await {
        Err(mysql_async::Error::Server(error)) if READ_ONLY.contains(&error.code) => {
            side.run("SET GLOBAL super_read_only = OFF").await?;
            let installed = side.conn.query_drop(INSTALL).await;
            side.run("SET GLOBAL super_read_only = ON").await?;
            installed
        }
        installed => installed,
    };
    installed.map_err(|cause| {
        let error = mysql::error(cause, &doing);
        error.hint(format!(
            "as an administrator at {}: {INSTALL}; or plugin_load_add = mysql_clone.so in its my.cnf",
            side.name
        ))
    })
}

/// Copies the donor over the recipient, and waits until that has started with the copy.
pub(super) async fn run(recipient: &mut Side, donor: &Side) -> Result<()> {
    let (host, port) = donor.address()?;
    let before = clone_status(&mut recipient.conn, &recipient.name).await?.map(|status| status.begin);
    let watch = mysql::connect(&recipient.config).await?;
    recipient
        .run(&format!("SET GLOBAL clone_valid_donor_list = {}", text(&format!("{host}:{port}"))))
        .await?;
    if let (TlsMode::Verify, Some(ca)) = (donor.config.tls.mode, &donor.config.tls.ca) {
        recipient.run(&format!("SET GLOBAL clone_ssl_ca = {}", text(&ca.to_string_lossy()))).await?;
    }
    let password = donor.config.password.get().await?;
    let password = password.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
    let ssl = if donor.config.tls.mode == TlsMode::Off { "" } else { " REQUIRE SSL" };
    let statement = format!(
        "CLONE INSTANCE FROM {}@{}:{port} IDENTIFIED BY {}{ssl}",
        text(&donor.config.user),
        text(&host),
        text(password)
    );
    let doing = format!("CLONE INSTANCE FROM {} at {}", donor.name, recipient.name);
    let stopped = Stopped {
        before,
        channels: mysql::replica_status(&mut recipient.conn).await?,
        read_only: recipient.server.read_only,
        super_read_only: recipient.server.super_read_only,
    };
    if let Err(error) = stopped.stop(recipient).await {
        stopped.undo_at(recipient).await;
        return Err(error);
    }
    tracing::info!("{doing}");
    failpoint::hit("processor.before_clone");
    let cloning = recipient.conn.query_drop(&statement);
    let cloned = tokio::select! {
        cloned = cloning => cloned,
        never = say_how_far(&recipient.config) => match never {},
    };
    failpoint::hit("processor.after_clone");
    match cloned {
        Ok(()) => {}
        Err(mysql_async::Error::Server(error)) if error.code == NOT_SUPERVISED => tracing::warn!(
            "the copy is there, and mysqld at {} has stopped, because nothing supervises it: start it now",
            recipient.name
        ),
        Err(mysql_async::Error::Server(error)) => {
            let error = mysql::error(mysql_async::Error::Server(error), &doing).hint(format!(
                "its error log and performance_schema.clone_status at {} say more. What it held may be gone \
                 already; run this again when the cause is mended",
                recipient.name
            ));
            stopped.undo_at(recipient).await;
            return Err(error);
        }
        // The restart cuts the connection.
        Err(cause) => tracing::debug!("{doing}: {cause}"),
    }
    let waited = wait(&recipient.config, watch, Awaited::After(stopped.before.clone())).await;
    if waited.is_err() {
        stopped.undo_at(recipient).await;
    }
    waited
}

/// What was changed at the recipient so that CLONE can run there.
struct Stopped {
    /// When the CLONE of before began.
    before: Option<String>,
    /// As they ran, or did not.
    channels: Vec<mysql::ReplicaStatus>,
    read_only: bool,
    super_read_only: bool,
}

impl Stopped {
    async fn stop(&self, recipient: &mut Side) -> Result<()> {
        // CLONE holds the backup lock while it stops replication itself. A worker that has a DDL in hand waits for that lock,
        // and CLONE for the worker: they wait for each other for ever (seen on 9.7).
        replicate::stop(recipient).await?;
        // Error 1290 as soon as there is anything to drop. The restart brings back what my.cnf says.
        if self.read_only {
            recipient.run("SET GLOBAL read_only = OFF").await?;
        }
        Ok(())
    }

    /// [`undo`](Self::undo), on a connection that was not there when it failed: the old one may be what broke.
    async fn undo_at(&self, recipient: &Side) {
        match Side::look(&recipient.config).await {
            Ok(mut again) => self.undo(&mut again).await,
            Err(error) => {
                tracing::warn!("{error}: {} may stay writable, and its replication stopped", recipient.name);
            }
        }
    }

    /// After a CLONE that failed: nobody may write again, and what of replication ran goes on where nothing was dropped. CLONE's
    /// error is the one that matters, so that what fails here is a warning.
    async fn undo(&self, recipient: &mut Side) {
        if is_under_way(recipient, self.before.as_deref()).await {
            tracing::warn!(
                "CLONE still runs at {}: it stays writable and its replication stopped. When that is over, run this again",
                recipient.name
            );
            return;
        }
        let read_only = match (self.super_read_only, self.read_only) {
            (true, _) => recipient.run("SET GLOBAL super_read_only = ON").await,
            (_, true) => recipient.run("SET GLOBAL read_only = ON").await,
            _ => Ok(()),
        };
        if let Err(error) = read_only {
            tracing::warn!("{error}: {} stays writable until somebody does this", recipient.name);
        }
        let is_replica = !self.channels.is_empty();
        if is_replica && !self.read_only {
            tracing::warn!(
                "{} was writable before this began, and is: if a run that was killed has left it so, SET GLOBAL super_read_only = ON",
                recipient.name
            );
        }
        if !is_replica || has_dropped(recipient, self.before.as_deref()).await {
            return;
        }
        if self.channels.iter().all(|channel| !channel.io_running && !channel.sql_running) {
            tracing::warn!(
                "replication at {} did not run before this began, and does not: if a run that was killed has left it so, START \
                 REPLICA",
                recipient.name
            );
        }
        for channel in &self.channels {
            if let Err(error) = replicate::go_on_as(recipient, channel).await {
                tracing::warn!(
                    "{error}: replication at {} stays stopped until somebody does this",
                    recipient.name
                );
            }
        }
    }
}

/// Whether a CLONE since the one that began at `before` runs.
async fn is_under_way(recipient: &mut Side, before: Option<&str>) -> bool {
    let status = clone_status(&mut recipient.conn, &recipient.name).await;
    status.is_ok_and(|status| {
        status.is_some_and(|status| Some(status.begin.as_str()) != before && status.state == "In Progress")
    })
}

/// Whether a CLONE since the one that began at `before` has come to where it drops what the recipient holds. A server that
/// does not say so counts as one that has.
async fn has_dropped(recipient: &mut Side, before: Option<&str>) -> bool {
    const DROPS: &str = "SELECT COUNT(*) FROM performance_schema.clone_progress WHERE STAGE = 'DROP DATA' AND STATE <> 'Not Started'";
    match clone_status(&mut recipient.conn, &recipient.name).await {
        Ok(status) if status.as_ref().map(|status| status.begin.as_str()) == before => false,
        _ => !matches!(recipient.conn.query_first::<u64, _>(DROPS).await, Ok(Some(0))),
    }
}

/// Which CLONE's end is waited for. The server remembers the last one for ever, and a connection that broke says nothing
/// about whether ours has begun.
pub(super) enum Awaited {
    /// The one that began at this time.
    This(String),
    /// One that is not this.
    After(Option<String>),
}

impl Awaited {
    fn is(&self, status: &CloneStatus) -> bool {
        match self {
            Awaited::This(begin) => status.begin == *begin,
            Awaited::After(None) => true,
            Awaited::After(Some(before)) => status.begin != *before,
        }
    }
}

/// Waits for a CLONE that is under way, or over, until the server has started with its copy. `watch` was connected
/// before it ended.
pub(super) async fn wait(config: &MysqlConfig, mut watch: Conn, awaited: Awaited) -> Result<()> {
    let begin = Instant::now();
    let mut none_since = None;
    let mut said = begin;
    let mut say = |what: &str| {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            tracing::warn!("{what} ({} s)", begin.elapsed().as_secs());
        }
    };
    // The old process, for as long as it lives.
    while watch.ping().await.is_ok() {
        if let Ok(Some(status)) = clone_status(&mut watch, "").await
            && status.state == "Failed"
            && awaited.is(&status)
        {
            return Err(failed(config, &status.error));
        }
        say("CLONE is under way");
        sleep(LOOK_EVERY).await;
    }
    loop {
        match mysql::connect(config).await {
            Ok(mut conn) => {
                let status = clone_status(&mut conn, &config.to_string()).await?;
                match status.filter(|status| awaited.is(status)) {
                    Some(status) if status.state == "Completed" => return Ok(()),
                    Some(status) if status.state == "Failed" => return Err(failed(config, &status.error)),
                    Some(status) if status.state == "In Progress" => none_since = None,
                    _ if none_since.get_or_insert_with(Instant::now).elapsed() >= NEVER_BEGAN => {
                        return Err(never_began(config));
                    }
                    _ => {}
                }
                say("CLONE is under way");
            }
            Err(error) if error.kind() == Kind::Denied => {
                return Err(error.hint(
                    "the accounts there are the primary's now: make the one of [mysql] at the primary, as `tablecast grants \
                     --primary --processor` prints it, and the same at the processor (without the log); then run this again",
                ));
            }
            Err(_) => say(&format!("waiting for mysqld at {config}: if nothing restarts it, start it")),
        }
        sleep(LOOK_EVERY).await;
    }
}

fn never_began(config: &MysqlConfig) -> Error {
    Error::new(
        Kind::Mysql,
        format!("CLONE at {config}: the connection broke, and performance_schema.clone_status knows of no new copy"),
    )
    .hint(
        "run this again. If the server has restarted without the clone plugin, which shows that table, load it first: \
         INSTALL PLUGIN clone SONAME 'mysql_clone.so'",
    )
}

fn failed(config: &MysqlConfig, error: &str) -> Error {
    Error::new(Kind::Mysql, format!("CLONE at {config} has failed: {error}"))
        .hint("mend what it says and run this again; its error log says more")
}

enum Never {}

/// The stage and how much of it is done, every ten seconds.
async fn say_how_far(config: &MysqlConfig) -> Never {
    let query = "SELECT STAGE, CAST(COALESCE(ESTIMATE, 0) AS UNSIGNED), CAST(COALESCE(DATA, 0) AS UNSIGNED) \
                 FROM performance_schema.clone_progress WHERE STATE = 'In Progress'";
    let mut conn = mysql::connect(config).await.ok();
    loop {
        sleep(SAY_EVERY).await;
        if let Some(conn) = &mut conn
            && let Ok(Some((stage, estimate, data))) = conn.query_first::<(String, u64, u64), _>(query).await
        {
            tracing::info!("CLONE: {stage}, {} of {} MiB", data >> 20, estimate >> 20);
        }
    }
}

/// A text literal; our sessions have no sql_mode, so a backslash escapes.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}
