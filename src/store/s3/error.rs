//! What S3's refusals and faults mean to an operator.
//! Codes: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::{Error, Kind};

/// What a failed request amounts to, before anybody words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 304: what the caller has is still what is there.
    NotModified,
    /// 404 on the object.
    Missing,
    /// 412: the condition of a write does not hold.
    ConditionFailed,
    /// 409: somebody writes the same key right now; to be tried again.
    Busy,
    /// 501: the server does not know conditional writes.
    NotImplemented,
    /// 405: the server does not know this request, or does not let anybody make it.
    NotAllowed,
    Other,
}

/// By the status; under 200 (an answer that was begun before the server knew) the code alone tells.
pub(super) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Answer {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (status, error.code()) {
        (_, Some("NoSuchBucket")) => Answer::Other,
        (Some(200), Some("PreconditionFailed")) => Answer::ConditionFailed,
        (Some(200), Some("ConditionalRequestConflict" | "OperationAborted")) => Answer::Busy,
        (Some(200), Some("NoSuchUpload" | "NoSuchKey")) => Answer::Missing,
        (Some(200), Some("NotImplemented")) => Answer::NotImplemented,
        (Some(304), _) => Answer::NotModified,
        (Some(404), _) => Answer::Missing,
        (Some(405), _) => Answer::NotAllowed,
        (Some(412), _) => Answer::ConditionFailed,
        (Some(409), _) => Answer::Busy,
        (Some(501), _) => Answer::NotImplemented,
        _ => Answer::Other,
    }
}

/// The error for `doing` (operation and object).
pub(super) fn error<E>(doing: String, cause: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let status = cause.raw_response().map(|response| response.status().as_u16());
    let code = cause.code().map(str::to_owned);
    let (kind, why, hint) = match (status, code.as_deref()) {
        (_, Some("NoSuchBucket")) => (
            Kind::Denied,
            "there is no such bucket".to_owned(),
            Some("make the bucket, or mend `store` (and `s3.endpoint`, `s3.region`) in the config"),
        ),
        (_, Some("RequestTimeTooSkewed")) => (
            Kind::Denied,
            "this machine's clock and the server's are too far apart".to_owned(),
            Some("set this machine's clock (chronyc tracking, timedatectl)"),
        ),
        (
            _,
            Some(
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "ExpiredToken"
                | "NotSignedUp",
            ),
        ) => (
            Kind::Denied,
            format!("the server does not accept these credentials ({})", code.unwrap_or_default()),
            Some(
                "see which credentials are in use: AWS_ACCESS_KEY_ID, AWS_PROFILE, or the role of this machine",
            ),
        ),
        (
            _,
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"),
        ) => (
            Kind::Denied,
            "the bucket is in another region than asked".to_owned(),
            Some("set `s3.region` in the config to the bucket's region"),
        ),
        (Some(301 | 307), _) => (
            Kind::Denied,
            "the bucket is in another region than asked".to_owned(),
            Some("set `s3.region` in the config to the bucket's region"),
        ),
        (Some(401 | 403), _) | (_, Some("AccessDenied")) => (
            Kind::Denied,
            format!("access denied ({})", code.as_deref().unwrap_or("403")),
            Some(
                "a source needs s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket on the prefix, a \
                 region s3:GetObject and s3:ListBucket; without s3:ListBucket a missing object looks like this",
            ),
        ),
        (Some(404), _) => (Kind::NotFound, "there is no such object".to_owned(), None),
        (Some(501), _) => (
            Kind::Denied,
            "the server does not know this kind of request".to_owned(),
            Some("use an S3 server that knows If-Match and If-None-Match on PUT"),
        ),
        (Some(status), code) => {
            (Kind::Store, format!("the server answered {status} {}", code.unwrap_or_default()), None)
        }
        (None, _) if credentials_are_missing(&cause) => (
            Kind::Denied,
            "there are no credentials, or they could not be got".to_owned(),
            Some(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give this machine a role; \
                 /etc/tablecast/environment is read by the systemd units only (docs/install.md#by-hand)",
            ),
        ),
        (None, _) if region_is_missing(&cause) => (
            Kind::Usage,
            "no region is known".to_owned(),
            Some("set `s3.region` in the config, or AWS_REGION"),
        ),
        (None, _) => match &cause {
            SdkError::TimeoutError(_) => (Kind::Store, "no answer in time".to_owned(), None),
            _ => (
                Kind::Store,
                "the server could not be reached".to_owned(),
                Some(
                    "is `s3.endpoint` in the config right (without one it is Amazon's own), and is the network up? A \
                     following run, and the next one from cron, tries again",
                ),
            ),
        },
    };
    let error = Error::new(kind, format!("{doing}: {}", why.trim_end())).caused_by(cause);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn credentials_are_missing(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|e| e.is::<CredentialsError>())
}

fn region_is_missing(error: &(dyn StdError + 'static)) -> bool {
    // The endpoint rules' own error type is private; this is its text.
    chain(error).any(|e| e.to_string().contains("A region must be set"))
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e: &&'a (dyn StdError + 'static)| (*e).source())
}
