//! After the copy: filters, then replication by GTID from where the copy ends.

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};

use super::clone::text;
use super::doctor;
use super::rules::Rules;
use super::side::Side;
use crate::config::{MysqlConfig, TlsMode};
use crate::error::{Error, Kind, Result};
use crate::source::replica_filters;
use crate::{failpoint, mysql};

/// How long replication may take to run.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an error of the receiver may be one that goes by.
const HICCUP: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The longest that replication takes: `SOURCE_PASSWORD` in the Reference Manual.
const LONGEST_PASSWORD: usize = 32;

/// The account by which the processor will replicate, refused if it cannot.
pub(super) async fn password(primary: &MysqlConfig) -> Result<String> {
    let secret = primary.password.get().await?;
    let secret = secret.as_ref().map(|secret| secret.expose_secret()).unwrap_or_default();
    if secret.len() > LONGEST_PASSWORD {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "replicate from {primary}: MySQL takes no password longer than {LONGEST_PASSWORD} bytes there"
            ),
        )
        .hint("give the account of [primary] a shorter one (ALTER USER … IDENTIFIED BY …)"));
    }
    Ok(secret.to_owned())
}

/// Sees to the filters of the channel that is made next. The warning to give, if my.cnf lacks them.
pub(super) async fn filter(processor: &mut Side, rules: &Rules) -> Result<Option<String>> {
    let found = replica_filters::of_new_channels(&mut processor.conn, &processor.name).await?;
    // The restart behind CLONE may have brought back what nobody saw before.
    doctor::my_cnf(rules, &found, &processor.name, true)?;
    // The donor's channels came with the copy, or a run was killed behind this.
    stop(processor).await?;
    if rules.fit(&found.in_force) {
        return Ok(found.is_overridden.then(|| warning(&processor.name)));
    }
    processor.run(&rules.statement()).await?;
    failpoint::hit("processor.after_filters");
    Ok(Some(warning(&processor.name)))
}

fn warning(server: &str) -> String {
    format!(
        "{}. Put the output of `tablecast processor config` there before it does",
        doctor::until_restart(server)
    )
}

/// CHANGE REPLICATION SOURCE TO, in the words of this version, and without the password.
pub(super) fn change_source(processor: &Side, donor: &Side, password: &str) -> Result<String> {
    let (host, port) = donor.address()?;
    let (statement, prefix) = match processor.server.version >= (8, 0, 23) {
        true => ("CHANGE REPLICATION SOURCE TO", "SOURCE"),
        false => ("CHANGE MASTER TO", "MASTER"),
    };
    let tls = match (donor.config.tls.mode, &donor.config.tls.ca) {
        (TlsMode::Off, _) => format!("{prefix}_SSL=0, GET_{prefix}_PUBLIC_KEY=1"),
        (TlsMode::Require, _) => format!("{prefix}_SSL=1"),
        (TlsMode::Verify, ca) => {
            let ca = ca.as_ref().map(|ca| format!(", {prefix}_SSL_CA={}", text(&ca.to_string_lossy())));
            format!("{prefix}_SSL=1, {prefix}_SSL_VERIFY_SERVER_CERT=1{}", ca.unwrap_or_default())
        }
    };
    Ok(format!(
        "{statement} {prefix}_HOST={}, {prefix}_PORT={port}, {prefix}_USER={}, {prefix}_PASSWORD={}, \
         {prefix}_AUTO_POSITION=1, {tls}, {prefix}_CONNECT_RETRY=10, {prefix}_RETRY_COUNT=86400",
        text(&host),
        text(&donor.config.user),
        text(password)
    ))
}

/// Points the processor at the primary, in the place of any other channel, and waits until both threads run.
pub(super) async fn begin(processor: &mut Side, donor: &Side) -> Result<()> {
    let password = password(&donor.config).await?;
    let word = word(processor);
    let channels = stop(processor).await?;
    for channel in channels.iter().map(|channel| &channel.channel).filter(|name| !name.is_empty()) {
        processor.run(&format!("RESET {word} ALL FOR CHANNEL {}", text(channel))).await?;
    }
    let statement = change_source(processor, donor, &password)?;
    processor.run(&statement).await?;
    failpoint::hit("processor.after_change_source");
    processor.run(&format!("START {word}")).await?;
    failpoint::hit("processor.after_start");
    runs(processor).await
}

fn word(processor: &Side) -> &'static str {
    if processor.server.version >= (8, 0, 22) { "REPLICA" } else { "SLAVE" }
}

/// Starts what ran of a channel.
pub(super) async fn go_on_as(processor: &mut Side, channel: &mysql::ReplicaStatus) -> Result<()> {
    let threads = match (channel.io_running, channel.sql_running) {
        (true, true) => "",
        (true, false) => " IO_THREAD",
        (false, true) => " SQL_THREAD",
        (false, false) => return Ok(()),
    };
    let (word, name) = (word(processor), text(&channel.channel));
    processor.run(&format!("START {word}{threads} FOR CHANNEL {name}")).await
}

/// Stops every channel, and says what they were like.
pub(super) async fn stop(processor: &mut Side) -> Result<Vec<mysql::ReplicaStatus>> {
    let word = word(processor);
    let channels = mysql::replica_status(&mut processor.conn).await?;
    if !channels.is_empty() {
        processor.run(&format!("STOP {word}")).await?;
    }
    Ok(channels)
}

async fn runs(processor: &mut Side) -> Result<()> {
    let begin = Instant::now();
    loop {
        let channels = mysql::replica_status(&mut processor.conn).await?;
        if !channels.is_empty() && channels.iter().all(|channel| channel.io_running && channel.sql_running) {
            return Ok(());
        }
        let sql_error = channels.iter().map(|c| &c.last_sql_error).find(|error| !error.is_empty());
        let io_error = channels.iter().map(|c| &c.last_io_error).find(|error| !error.is_empty());
        let error = sql_error.or(io_error.filter(|_| begin.elapsed() >= HICCUP));
        if error.is_some() || begin.elapsed() >= PATIENCE {
            let says = error.map_or("its threads do not start", String::as_str);
            return Err(Error::new(Kind::Mysql, format!("replicate to {}: {says}", processor.name)).hint(
                "SHOW REPLICA STATUS at the processor says more; when it is mended, run this again, or START REPLICA",
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}
