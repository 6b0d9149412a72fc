//! GitHub's commit comments, kept in memory: pages, limits, and faults on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use runtime::Tasks;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What goes wrong, once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The comment is posted, but the answer is an error.
    FailAfterPosting,
    /// Too much, says GitHub, and come back in a second.
    Secondary,
}

#[derive(Clone)]
pub(crate) struct FakeGithub {
    pub(crate) url: String,
    state: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    comments: BTreeMap<String, Vec<String>>,
    gone: BTreeSet<String>,
    refused: BTreeSet<String>,
    fault: Option<Fault>,
    limited_until: Option<Instant>,
    too_early: Option<String>,
    requests: usize,
}

#[derive(Deserialize)]
struct Page {
    per_page: usize,
    page: usize,
}

impl FakeGithub {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let mut fake = Self { url: String::new(), state: Arc::default() };
        let router = Router::new()
            .route("/repos/{owner}/{name}/commits/{commit}/comments", get(list).post(post))
            .with_state(fake.clone());
        let server = rpc::Server::new("github", tasks.clone())
            .plain_loopback()
            .http(router)
            .bind("127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        fake.url = format!("http://{}", server.addr());
        server.start();
        fake
    }

    fn state(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap()
    }

    pub(crate) fn comments(&self, commit: &str) -> Vec<String> {
        self.state().comments.get(commit).cloned().unwrap_or_default()
    }

    pub(crate) fn total(&self) -> usize {
        self.state().comments.values().map(Vec::len).sum()
    }

    pub(crate) fn requests(&self) -> usize {
        self.state().requests
    }

    pub(crate) fn asked_too_early(&self) -> Option<String> {
        self.state().too_early.clone()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    pub(crate) fn gone(&self, commit: &str) {
        self.state().gone.insert(commit.into());
    }

    pub(crate) fn refuse(&self, commit: &str) {
        self.state().refused.insert(commit.into());
    }

    /// Comments of others.
    pub(crate) fn fill(&self, commit: &str, count: usize) {
        let texts = (0..count).map(|n| format!("comment {n}"));
        self.state().comments.entry(commit.into()).or_default().extend(texts);
    }

    /// What GitHub answers before it looks at the request.
    fn refuse_all(&self, commit: &str, headers: &HeaderMap) -> Option<Response> {
        let mut state = self.state();
        state.requests += 1;
        let message =
            |status: StatusCode, text: &str| (status, Json(json!({ "message": text }))).into_response();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if header("authorization") != "Bearer token-of-the-bot" || header("user-agent").is_empty() {
            return Some(message(StatusCode::UNAUTHORIZED, "Bad credentials"));
        }
        let now = Instant::now();
        if state.limited_until.is_some_and(|until| now < until) {
            state.too_early = Some(commit.into());
        }
        if state.fault == Some(Fault::Secondary) {
            state.fault = None;
            state.limited_until = Some(now + Duration::from_secs(1));
            let body = Json(json!({ "message": "You have exceeded a secondary rate limit." }));
            return Some((StatusCode::FORBIDDEN, [("retry-after", "1")], body).into_response());
        }
        if state.gone.contains(commit) {
            return Some(message(StatusCode::NOT_FOUND, "Not Found"));
        }
        None
    }
}

async fn list(
    State(github): State<FakeGithub>,
    Path((_, _, commit)): Path<(String, String, String)>,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = github.refuse_all(&commit, &headers) {
        return refused;
    }
    let comments = github.comments(&commit);
    let some = comments.iter().skip((page.page - 1) * page.per_page).take(page.per_page.min(100));
    Json(some.map(|body| json!({ "body": body })).collect::<Vec<Value>>()).into_response()
}

async fn post(
    State(github): State<FakeGithub>,
    Path((owner, name, commit)): Path<(String, String, String)>,
    headers: HeaderMap,
    Json(comment): Json<Value>,
) -> Response {
    if let Some(refused) = github.refuse_all(&commit, &headers) {
        return refused;
    }
    let mut state = github.state();
    if (owner.as_str(), name.as_str()) != ("owner", "name") || state.refused.contains(&commit) {
        let body = Json(json!({ "message": "No commit found for SHA" }));
        return (StatusCode::UNPROCESSABLE_ENTITY, body).into_response();
    }
    let body = comment["body"].as_str().unwrap().to_owned();
    state.comments.entry(commit).or_default().push(body);
    if state.fault == Some(Fault::FailAfterPosting) {
        state.fault = None;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    (StatusCode::CREATED, Json(json!({}))).into_response()
}
