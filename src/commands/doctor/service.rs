//! The HTTP service: at the source what it needs, in a region whether it answers, knows the token, and serves the same
//! stream.

use super::super::run::Run;
use super::{Check, Outcome};
use crate::config::{Role, ServeConfig};
use crate::error::Kind;
use crate::http::client::{self, Client};
use crate::http::serve;
use crate::http::tokens::Scope;
use crate::stream::Head;

const NAME: &str = "service";
const REGION_BREAKS: &str =
    "a table in quarantine gets no dump by itself, and the source does not see this region";

pub async fn checks(run: &Run, head: Option<&Head>, checks: &mut Vec<Check>) {
    match run.config.role {
        Role::Source => {
            if let Some(serve) = &run.config.serve {
                checks.push(files(run, serve));
            }
        }
        Role::Region => {
            if let Some(client) = client::of(&run.config) {
                asked(run, &client, head, checks).await;
            }
        }
    }
}

fn files(run: &Run, serve: &ServeConfig) -> Check {
    const BREAKS: &str = "`tablecast serve` cannot start, or lets nobody in";
    match serve::files(serve) {
        Ok(files) => {
            let tokens = files.tokens.get();
            if tokens.is_empty() {
                let message = format!("{} has no token", serve.tokens_file.display());
                let hint = "tablecast token --region NAME, and add the entry that it prints";
                return Check::finding(NAME, Outcome::Warning, message, BREAKS, hint);
            }
            let names = tokens.names().collect::<Vec<_>>().join(", ");
            Check::passed(
                NAME,
                format!("{} tokens ({names}); would listen on {}", tokens.len(), serve.listen),
            )
        }
        Err(error) => Check { breaks: Some(BREAKS.to_owned()), ..Check::failed(run, NAME, &error) },
    }
}

/// Asks the service for real, with this region's token.
async fn asked(run: &Run, client: &Client, head: Option<&Head>, checks: &mut Vec<Check>) {
    let finding =
        |message: String, hint: &str| Check::finding(NAME, Outcome::Failed, message, REGION_BREAKS, hint);
    let token = match client.token().await {
        Ok(token) => token,
        Err(error) => {
            let mut check =
                Check { breaks: Some(REGION_BREAKS.to_owned()), ..Check::failed(run, NAME, &error) };
            if error.kind() == Kind::NotFound {
                check.hint = Some("is source_url the service of tablecast?".to_owned());
            }
            checks.push(check);
            return;
        }
    };
    let own = run.config.region.as_ref().map(|region| region.name.as_str()).unwrap_or_default();
    let is_admin = token.scopes.contains(&Scope::Admin);
    let missing: Vec<_> = [Scope::Read, Scope::Dump, Scope::Report]
        .into_iter()
        .filter(|scope| !is_admin && !token.scopes.contains(scope))
        .map(|scope| scope.to_string())
        .collect();
    if !is_admin && token.region.as_deref() != Some(own) {
        let acts = token.region.as_deref().unwrap_or("no region");
        checks.push(finding(
            format!("{}: token {:?} acts for {acts}, this region is {own:?}", client.url(), token.name),
            "use this region's own token; `tablecast token --region NAME` at the source makes one",
        ));
        return;
    }
    if !missing.is_empty() {
        checks.push(finding(
            format!("{}: token {:?} lacks {}", client.url(), token.name, missing.join(" and ")),
            "add the scopes in the source's tokens file; the service takes them up by itself",
        ));
        return;
    }
    checks.push(match (client.stream().await, head) {
        (Ok(stream), Some(head)) if stream.stream != head.stream => finding(
            format!("{} serves stream {}, this region's store holds {}", client.url(), stream.stream, head.stream),
            "`store` in this config and in the source's must name the same place, or source_url another service",
        ),
        (Ok(stream), _) => Check::passed(NAME, format!("{} serves stream {}, as token {:?}", client.url(), stream.name, token.name)),
        (Err(error), _) => Check { breaks: Some(REGION_BREAKS.to_owned()), ..Check::failed(run, NAME, &error) },
    });
}
