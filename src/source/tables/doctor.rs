//! Whether the table set could be changed: what `doctor` says of it. A stream works without.

use crate::binlog::name::quote;
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::mysql;
use crate::source::preflight::{Check, on_schema};
use crate::source::{moment, passed_over, replica_filters, set_table};
use crate::stream::Head;

const NAME: &str = "table set";
const OWN: &str = "tablecast";
/// In that schema on the server that is written to.
pub(crate) const PRIVILEGES: [&str; 4] = ["CREATE", "SELECT", "INSERT", "LOCK TABLES"];

pub(crate) async fn check(config: &Config, head: &Head) -> Check {
    match look(config, head).await {
        Ok(message) => Check::passed(NAME, message),
        Err(error) if error.kind() == Kind::History => Check::of_error(NAME, &error),
        Err(error) => Check::warning(
            NAME,
            format!("`tablecast tables` could not change the table set: {}", chain(&error)),
            error.hint_text().unwrap_or("docs/tables.md says what it needs"),
        ),
    }
}

async fn look(config: &Config, head: &Head) -> Result<String> {
    let (mut conn, server) = set_table::writer(config).await?;
    set_table::writes_rows(&mut conn, &server).await?;
    let privileges = mysql::Privileges::read(&mut conn)
        .await
        .map_err(|error| error.during(format!("look at {server}")))?;
    let own = PRIVILEGES.iter().map(|privilege| (*privilege, OWN.to_owned()));
    let theirs = head.table_set.tables.schemas().into_iter().map(|schema| ("LOCK TABLES", schema));
    if let Some((privilege, schema)) =
        own.chain(theirs).find(|(privilege, schema)| !privileges.in_schema(privilege, schema))
    {
        let lacks = format!("at {server} the account lacks {privilege} on {}.*", quote(&schema));
        let grant = match schema == OWN {
            true => {
                format!("GRANT {} ON {} TO this account", PRIVILEGES.join(", "), mysql::whole_schema(OWN))
            }
            false => on_schema("this account", &head.table_set.tables, &schema),
        };
        let grant = privileges.fit(grant);
        return Err(Error::new(Kind::Denied, lacks)
            .hint(format!("{grant} there; `tablecast grants` prints all that is needed")));
    }
    if config.primary.is_some() {
        passes_the_filter(config).await?;
    }
    let known = head.table_set.version;
    let versions = set_table::versions(&mut conn, &server, head.stream, known).await?;
    let executed = moment::executed(&mut conn, &server).await?;
    let _ = conn.disconnect().await;
    if let Some(error) = passed_over::of(versions.as_deref().unwrap_or_default(), &server, head, &executed) {
        return Err(error);
    }
    Ok(match versions {
        None => {
            format!("version {known}; the first `tablecast tables add` makes tablecast.table_set at {server}")
        }
        Some(newer) if newer.is_empty() => format!("version {known}, which is also the newest at {server}"),
        Some(newer) => {
            format!("version {known}; upload has {} changes to come to", newer.len())
        }
    })
}

/// A change travels as a row like any other: a mini-replica must let it in.
async fn passes_the_filter(config: &Config) -> Result<()> {
    let source = config.mysql.to_string();
    let mut conn = mysql::connect(&config.mysql).await?;
    let name = set_table::name();
    let is_left_out = replica_filters::leaves_out(&mut conn, &source, &name).await?;
    let _ = conn.disconnect().await;
    if is_left_out {
        return Err(Error::new(
            Kind::Usage,
            format!("the replication filter of the source {source} leaves out {name}"),
        )
        .hint("let it in (CHANGE REPLICATION FILTER, and my.cnf), or `tablecast processor rebuild`"));
    }
    set_table::would_stop_the_source(config).await
}
