//! What a token can do at every route of the service, and what nobody can without one: a route that is added and not named
//! here fails these tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reqwest::header::AUTHORIZATION;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tablecast::http::tokens::Scope;

use super::kit::files;
use crate::http::kit::{Answer, Desk, Place, Served, admin, client, operations, region_token, token};
use crate::support::report_of;

/// What of another region is at a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// Nothing of anybody: no token is asked for.
    Nobody,
    /// Who the token itself is.
    Itself,
    /// What whoever has `read` may see of everybody.
    All,
    /// What it may see of its own jobs without `read`, and of everybody's with it.
    OwnJobs,
    /// What only the region itself may do.
    Deeds,
}

fn of(method: &str, path: &str) -> Of {
    match (method, path) {
        ("get", "/livez" | "/readyz" | "/openapi.json") => Of::Nobody,
        ("get", "/v1/token") => Of::Itself,
        ("get", "/" | "/runbooks" | "/runbooks/{name}" | "/metrics") => Of::All,
        ("get", "/v1/migrations" | "/v1/migrations/{table}" | "/v1/regions" | "/v1/regions/{name}") => {
            Of::All
        }
        ("get", "/v1/stream" | "/v1/status") => Of::All,
        ("get", "/v1/dumps" | "/v1/dumps/{id}") => Of::OwnJobs,
        ("post", "/v1/dumps") | ("put", "/v1/regions/{name}") | ("delete", "/v1/dumps/{id}") => Of::Deeds,
        _ => panic!("{method} {path}: say here what a token of one region can do there for another one"),
    }
}

/// The routes as the service's code has them: methods and path.
fn routes() -> BTreeSet<(String, String)> {
    let code =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/service.rs")).unwrap();
    let mut routes = BTreeSet::new();
    for line in code.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (path, handlers) = line.split_once('"').unwrap();
        for method in ["get", "post", "put", "delete", "patch", "head", "any"] {
            let is_there =
                handlers.contains(&format!(" {method}(")) || handlers.contains(&format!(".{method}("));
            if is_there {
                routes.insert((method.to_owned(), path.to_owned()));
            }
        }
    }
    routes
}

#[test]
fn every_route_of_the_service_is_described_and_judged_here() {
    let described: BTreeSet<_> = operations().into_iter().map(|(method, path, _)| (method, path)).collect();
    assert_eq!(routes(), described, "in the code, and in the description");
    for (method, path) in &described {
        let _: Of = of(method, path);
    }
}

/// A service with a region us1 that has a job and has reported.
struct Scene {
    place: Place,
    served: Served,
    _desk: Desk,
    /// What us1 has reported, and the job that it waits for.
    report: Value,
    job: String,
}

impl Scene {
    async fn of(tokens: &[String]) -> Scene {
        let place = Place::directory();
        let (_, head) = place.stream().await;
        let desk = Desk::new(&place, "");
        desk.write("tokens.toml", &tokens.join("\n"));
        let served = desk.serve();
        let us1 = region_token("us1").text;
        let asked = Answer::of(served.ask(&us1, "us1", &["g.a"])).await;
        assert_eq!(asked.status, 202, "{asked:?}");
        let job = asked.json()["id"].as_str().unwrap().to_owned();
        let report = serde_json::to_value(report_of("us1", head.stream)).unwrap();
        let put = served.request(Method::PUT, "/v1/regions/us1", &us1).json(&report);
        assert_eq!(Answer::of(put).await.status, 204);
        Scene { place, served, _desk: desk, report, job }
    }

    /// A request that us1 could make of this route, without a token.
    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let name = if path.starts_with("/runbooks") { "gate-refusal" } else { "us1" };
        let path = path.replace("{id}", &self.job).replace("{name}", name).replace("{table}", "g.a");
        let request = client().request(method.clone(), format!("{}{path}", self.served.url));
        match method {
            Method::POST => request.json(&json!({"region": "us1", "tables": ["g.b"], "reason": "x"})),
            Method::PUT => request.json(&self.report),
            _ => request,
        }
    }

    async fn answer(&self, method: &str, path: &str, token: &str) -> Answer {
        Answer::of(self.request(method, path).bearer_auth(token)).await
    }

    /// What lies in the bucket.
    fn bucket(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let Place::Directory(folder) = &self.place else { unreachable!("it is one") };
        let mut objects = BTreeMap::new();
        files(folder.path(), &mut objects);
        objects
    }

    /// Each of these deeds is one that us1 can do.
    async fn assert_us1_can(self) {
        let (before, us1) = (self.bucket(), region_token("us1").text);
        for (method, path, _) in operations().iter().filter(|(method, path, _)| of(method, path) == Of::Deeds)
        {
            let answer = self.answer(method, path, &us1).await;
            assert!(answer.status < 300, "{method} {path}: {answer:?}");
        }
        assert_ne!(self.bucket(), before);
    }
}

#[tokio::test]
async fn without_its_token_nobody_is_told_or_does_anything_at_any_route() {
    let scene = Scene::of(&[region_token("us1").entry, admin().entry]).await;
    let before = scene.bucket();
    let us1 = region_token("us1").text;
    let encoded = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    // None at all; none in its place; an unknown one; a true one, cut, with more behind it, in another case, as another scheme.
    let wrong = [
        None,
        Some("Bearer ".to_owned()),
        Some("Bearer tablecast_wrong".to_owned()),
        Some(format!("Bearer {}", &us1[..us1.len() - 1])),
        Some(format!("Bearer {us1}x")),
        Some(format!("Bearer {}", us1.to_uppercase())),
        Some(format!("Token {us1}")),
        Some(format!("Basic {}", encoded("x:tablecast_wrong"))),
    ];
    for (at, given) in wrong.iter().enumerate() {
        for (method, path, _) in operations() {
            let mut request = scene.request(&method, &path);
            if let Some(given) = given {
                request = request.header(AUTHORIZATION, given);
            }
            let answer = Answer::of(request).await;
            match of(&method, &path) {
                Of::Nobody => assert_eq!(answer.status, 200, "{method} {path}: {answer:?}"),
                // So many wrong ones come here that it looks like somebody trying.
                _ => {
                    assert!([401, 429].contains(&answer.status), "{method} {path}, {at}: {answer:?}");
                    let tells = ["us1", "g.a", &scene.job].iter().any(|part| answer.text.contains(part));
                    assert!(!tells, "{method} {path}: {answer:?}");
                }
            }
        }
    }
    assert_eq!(scene.bucket(), before, "nobody has changed anything");
    scene.assert_us1_can().await;
}

#[tokio::test]
async fn a_token_of_one_region_does_nothing_for_another_at_any_route() {
    // eu1's token with every scope that a region's token can have, and those with one of them each; no `admin`.
    let scopes = [Scope::Read, Scope::Dump, Scope::Report];
    let all = region_token("eu1");
    let [read, dump, report] = scopes.map(|scope| token(&format!("eu1-{scope}"), Some("eu1"), &[scope]));
    // And one of nobody.
    let nobody = token("nobody", None, &[Scope::Read]);
    let tokens = [("all", &all), ("read", &read), ("dump", &dump), ("report", &report), ("nobody", &nobody)];
    let mut entries = vec![region_token("us1").entry, admin().entry];
    entries.extend(tokens.iter().map(|(_, token)| token.entry.clone()));
    let scene = Scene::of(&entries).await;
    let before = scene.bucket();
    for (method, path, operation) in &operations() {
        let declared: Vec<&str> = operation["security"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|needed| needed.as_object().unwrap().values())
            .flat_map(|scopes| scopes.as_array().unwrap())
            .filter_map(Value::as_str)
            .collect();
        for (what, token) in tokens {
            let answer = scene.answer(method, path, &token.text).await;
            let place = format!("{method} {path} with the token {what}");
            let reads = ["all", "read", "nobody"].contains(&what);
            match of(method, path) {
                Of::Nobody | Of::Itself => assert!(answer.status < 300, "{place}: {answer:?}"),
                // 503: there is no MySQL here in which migrations could be looked for.
                Of::All if reads => assert!([200, 404, 503].contains(&answer.status), "{place}: {answer:?}"),
                Of::OwnJobs if reads => assert_eq!(answer.status, 200, "{place}: {answer:?}"),
                // It is as if the other's job were not there.
                Of::OwnJobs if what == "dump" && path.contains("{id}") => {
                    assert_eq!(answer.status, 404, "{place}: {answer:?}");
                }
                Of::OwnJobs if what == "dump" => {
                    assert_eq!((answer.status, answer.json()["total"].clone()), (200, json!(0)), "{place}");
                }
                Of::All | Of::OwnJobs => assert_eq!(answer.status, 403, "{place}: {answer:?}"),
                // 404: what it does not see, or does not wait for, is not there for it.
                Of::Deeds if path.contains("{id}") => {
                    assert!([403, 404].contains(&answer.status), "{place}: {answer:?}");
                }
                Of::Deeds => assert_eq!(answer.status, 403, "{place}: {answer:?}"),
            }
            // What the description says of scopes is so.
            let has =
                what == "all" || declared.contains(&what) || (what == "nobody" && declared.contains(&"read"));
            assert!(declared.is_empty() || has || answer.status == 403, "{place}: {answer:?}");
        }
    }
    assert_eq!(scene.bucket(), before, "nobody has changed anything");
    scene.assert_us1_can().await;
}
