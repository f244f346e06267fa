//! How S3 is reached: credentials, region, endpoint, time limits, what is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::{Credentials, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use tokio::sync::OnceCell;

use crate::config::S3Config;

const CONNECT: Duration = Duration::from_secs(5);
/// One attempt at a request without a large body, up to the answer's first byte.
const ATTEMPT: Duration = Duration::from_secs(30);
/// The slowest upload that is still waited for, in bytes a second.
const SLOWEST: u64 = 64 * 1024;

/// The clients of a process: one for all streams that are reached in the same way. They share its connections, its TLS
/// roots and its credentials, which are asked for once.
#[derive(Debug, Default)]
pub struct Clients(Mutex<BTreeMap<Reach, Arc<OnceCell<Client>>>>);

/// Region, endpoint, path style.
type Reach = (Option<String>, Option<String>, bool);

impl Clients {
    pub(super) async fn get(&self, config: &S3Config) -> Client {
        let reach = (config.region.clone(), config.endpoint.clone(), config.path_style);
        let cell = {
            // Whoever panicked while holding it left a whole map.
            let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            clients.entry(reach).or_default().clone()
        };
        cell.get_or_init(|| client(config, None)).await.clone()
    }
}

/// A client for `config`; credentials from the AWS chain (environment, profile, web identity, ECS, instance
/// role) unless given. Nothing is sent yet.
pub(super) async fn client(config: &S3Config, credentials: Option<Credentials>) -> Client {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(
            RetryConfig::standard().with_max_attempts(4).with_initial_backoff(Duration::from_millis(200)),
        )
        .timeout_config(timeouts(0));
    loader = match (&config.region, &config.endpoint) {
        (Some(region), _) => loader.region(Region::new(region.clone())),
        // With another server than Amazon's the region is mostly a mere word, and asking the instance's
        // metadata service for it would cost seconds where there is none.
        (None, Some(_)) => loader.region(
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(ProfileFileRegionProvider::new())
                .or_else(Region::new("us-east-1")),
        ),
        (None, None) => loader,
    };
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials);
    }
    let mut builder = aws_sdk_s3::config::Builder::from(&loader.load().await)
        .force_path_style(config.path_style)
        // Content-MD5 is what protects a body. The newer checksums travel in trailers that many servers do
        // not read.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_classifier(TooManyRequests);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    Client::from_conf(builder.build())
}

/// Time limits for a request with a body of `size` bytes. The limit of an attempt covers sending the body, so
/// it grows with that; a body that is being received is watched by the SDK's stalled-stream protection.
pub(super) fn timeouts(size: u64) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT + Duration::from_secs(size / SLOWEST))
        .build()
}

/// Tries again after a 429, which some servers and proxies send; the SDK's own list has 5xx only.
#[derive(Debug)]
struct TooManyRequests;

impl ClassifyRetry for TooManyRequests {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response() {
            Some(response) if response.status().as_u16() == 429 => RetryAction::throttling_error(),
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "429 Too Many Requests"
    }
}
