//! Who asks: the token of a request, its limits, and what it allows.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::limits::Limits;
use super::problem::Problem;
use super::service::Service;
use super::tokens::{Scope, Token};

/// The token's name, for the log.
#[derive(Clone, Debug)]
pub struct Name(pub String);

/// Whoever has sent a valid token and has not asked too often.
#[derive(Clone, Debug)]
pub struct Caller {
    pub token: Token,
}

/// How a token may be presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schemes {
    /// `Authorization: Bearer TOKEN`.
    Bearer,
    /// Also as the password of HTTP Basic, with any user name: what a browser can send.
    Browser,
}

impl Caller {
    /// Checks the token of a request, and its limits.
    pub fn of(headers: &HeaderMap, service: &Service, schemes: Schemes) -> Result<Caller, Problem> {
        Self::counted(headers, service, schemes, Limits::token)
    }

    /// The same for a request that waits for news.
    pub fn waiting(headers: &HeaderMap, service: &Service) -> Result<Caller, Problem> {
        Self::counted(headers, service, Schemes::Bearer, Limits::news)
    }

    fn counted(
        headers: &HeaderMap,
        service: &Service,
        schemes: Schemes,
        count: fn(&Limits, &str) -> Result<(), Problem>,
    ) -> Result<Caller, Problem> {
        let tokens = service.tokens.get();
        match presented(headers, schemes) {
            Some(presented) => {
                if let Some(token) = tokens.find(&presented) {
                    count(&service.limits, &token.name)?;
                    return Ok(Caller { token: token.clone() });
                }
                service.limits.wrong()?;
                Err(unauthenticated("the token is not one of this service's", schemes, true))
            }
            None => {
                service.limits.wrong()?;
                Err(unauthenticated("the request comes without a token", schemes, false))
            }
        }
    }

    pub fn must_have(&self, scope: Scope) -> Result<(), Problem> {
        if self.token.may(scope) {
            return Ok(());
        }
        Err(Problem::new("missing-scope", format!("token {:?} has not the scope `{scope}`", self.token.name))
            .hint("give it the scope in the source's tokens file"))
    }

    pub fn must_act_for(&self, region: &str) -> Result<(), Problem> {
        if self.token.acts_for(region) {
            return Ok(());
        }
        let own = match &self.token.region {
            Some(own) => format!("region {own:?} only"),
            None => "no region".to_owned(),
        };
        Err(Problem::new("other-region", format!("token {:?} acts for {own}", self.token.name)).hint(
            "`region.name` in the region's config and `region` in the source's tokens file must be the same",
        ))
    }

    /// The region that this caller is, unless it administers all of them.
    pub fn region(&self) -> Option<&str> {
        match self.token.may(Scope::Admin) {
            true => None,
            false => Some(self.token.region.as_deref().unwrap_or_default()),
        }
    }
}

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        Caller::of(&parts.headers, service, Schemes::Bearer)
    }
}

fn presented(headers: &HeaderMap, schemes: Schemes) -> Option<String> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return None };
    let (scheme, value) = value.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("Bearer") {
        return Some(value.to_owned());
    }
    if scheme.eq_ignore_ascii_case("Basic") && schemes == Schemes::Browser {
        let pair = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
        return pair.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

fn unauthenticated(why: &str, schemes: Schemes, was_wrong: bool) -> Problem {
    let challenge = match (schemes, was_wrong) {
        (Schemes::Browser, _) => "Basic realm=\"tablecast\", charset=\"UTF-8\"",
        (Schemes::Bearer, true) => "Bearer realm=\"tablecast\", error=\"invalid_token\"",
        (Schemes::Bearer, false) => "Bearer realm=\"tablecast\"",
    };
    let hint = match schemes {
        Schemes::Bearer => {
            "send Authorization: Bearer TOKEN; `tablecast token` at the source makes a token, and its tokens file has to \
             list it"
        }
        Schemes::Browser => "log in with any user name and a token as the password",
    };
    Problem::new("unauthenticated", why)
        .hint(hint)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
