//! The service's description of itself: OpenAPI 3.1, made from the routes' own code.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{api, dumps, health, metrics, migrations, page, problem, regions, stream, tokens};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tablecast",
        description = "The service at the source: regions ask for dumps, report where they stand and wait for news. Every refusal is a \
                       problem document (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        page::page, page::runbooks::list, page::runbooks::show, health::livez, health::readyz, metrics::metrics, serve,
        dumps::request, dumps::list, dumps::show, dumps::cancel,
        migrations::list, migrations::show,
        regions::list, regions::show, regions::report,
        stream::status, stream::stream, stream::token,
    ),
    components(schemas(
        api::DumpRequest, api::Job, api::JobState, api::Jobs, api::Report, api::Failure, api::Paused, api::Region, api::Regions, api::Stream,
        api::Status, api::Migrations, api::Migration, api::MigrationRegion, api::TokenInfo, tokens::Scope, problem::Problem, health::Health,
    )),
    modifiers(&Security),
    tags(
        (name = "dumps", description = "Asking for dumps"),
        (name = "migrations", description = "Online migrations, and whether their cut-over is safe"),
        (name = "regions", description = "Where the regions stand"),
        (name = "stream", description = "The stream, and everything at once"),
        (name = "health", description = "For load balancers and supervisors"),
        (name = "people", description = "For browsers"),
    ),
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let scheme = |scheme, about: &str| {
            SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(about)).build())
        };
        components.add_security_scheme(
            "token",
            scheme(
                HttpAuthScheme::Bearer,
                "A token of the tokens file. Scopes: read, dump, report, admin (which holds the others, for every region).",
            ),
        );
        components.add_security_scheme(
            "browser",
            scheme(HttpAuthScheme::Basic, "Any user name, and a token as the password."),
        );
    }
}

/// The description as JSON.
pub fn document() -> serde_json::Value {
    // Names and texts only: nothing in it that JSON could not hold.
    serde_json::to_value(Document::openapi()).unwrap_or_default()
}

/// The route that a path is of, as the description has it.
pub fn route(path: &str) -> Option<&'static str> {
    static ROUTES: LazyLock<Vec<String>> =
        LazyLock::new(|| Document::openapi().paths.paths.into_keys().collect());
    let fits = |route: &&String| {
        let (mut known, mut given) = (route.split('/'), path.split('/'));
        loop {
            match (known.next(), given.next()) {
                (None, None) => return true,
                (Some(known), Some(given)) if known == given || known.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    ROUTES.iter().find(fits).map(String::as_str)
}

/// This description
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json")),
)]
pub async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], TEXT.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_of_one_route_or_none() {
        for (path, known) in [
            ("/", Some("/")),
            ("/v1/dumps", Some("/v1/dumps")),
            ("/v1/dumps/17", Some("/v1/dumps/{id}")),
            ("/v1/dumps/17/x", None),
            ("/nothing", None),
            ("", None),
        ] {
            assert_eq!(route(path), known, "{path}");
        }
    }
}
