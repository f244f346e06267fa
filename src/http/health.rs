//! `/livez` and `/readyz`: for load balancers and supervisors. Without a token, and without anything that is
//! worth one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::service::Service;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    pub status: String,
}

fn ok() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// Is the process alive?
#[utoipa::path(
    get, path = "/livez", operation_id = "livez", tag = "health",
    responses((status = 200, description = "It is", body = Health)),
)]
pub async fn livez() -> Json<Health> {
    ok()
}

/// Can it serve: does the bucket answer, and is there a stream?
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health",
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It cannot; the log says why", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn readyz(State(service): State<Arc<Service>>) -> Result<Json<Health>, Problem> {
    match service.head().await {
        Ok(_) => Ok(ok()),
        // Why is for those with a token, and for the log.
        Err(_) => {
            Err(Problem::new("unavailable", "the stream cannot be read from the bucket").retry_after(5))
        }
    }
}
