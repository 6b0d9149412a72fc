//! `/try` and `/try.json`: how the try of a commit stands, by how the commit's hash begins. Scripts of review hosts read it
//! from pages of theirs.

use axum::{
    Json,
    extract::{Query, State as Extract},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::BuilderName;

use super::farm::rfc3339;
use crate::{
    html::url_encode,
    respond::{self, Format},
    router::Shared,
    source::SourceError,
    view::{ChangeView, State, TryView},
};

/// So much of a hash is needed at least.
const DIGITS: usize = 7;
/// Whoever asks may read it.
const ANYBODY: (HeaderName, &str) = (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");

#[derive(Debug, Deserialize, Default)]
pub(crate) struct Params {
    #[serde(default)]
    commit: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    /// The number of the change, which a Gerrit takes in place of its Change-Id.
    change_id: String,
    commit: String,
    builds: Vec<Build>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    name: BuilderName,
    start_time: String,
    done: bool,
    succeeded: bool,
}

pub(crate) async fn page(Extract(shared): Extract<Shared>, Query(params): Query<Params>) -> Response {
    match find(&shared, &params.commit).await {
        Ok((change, _)) => {
            let repository = url_encode(change.repository.as_str());
            Redirect::to(&format!("/change/{}?repo={repository}", change.number)).into_response()
        }
        Err(error) => respond::error(&shared.options, Format::Html, &error),
    }
}

pub(crate) async fn json(Extract(shared): Extract<Shared>, Query(params): Query<Params>) -> Response {
    match find(&shared, &params.commit).await {
        Ok((change, tried)) => {
            let payload = Payload::of(&change, &tried);
            ([ANYBODY], Json(json!({ "success": true, "payload": payload }))).into_response()
        }
        Err(error) => {
            let status = match error {
                SourceError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::NOT_FOUND,
            };
            let answer = Json(json!({ "success": false, "error": error.to_string() }));
            (status, [ANYBODY], answer).into_response()
        }
    }
}

/// Browsers ask before they ask.
pub(crate) async fn preflight() -> Response {
    let methods = (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS");
    let headers = (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type");
    (StatusCode::NO_CONTENT, [ANYBODY, methods, headers]).into_response()
}

async fn find(shared: &Shared, commit: &str) -> Result<(ChangeView, TryView), SourceError> {
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if commit.len() < DIGITS || !commit.bytes().all(digits) {
        let text = format!("`{commit}` is no commit, nor how one begins: {DIGITS} digits at least");
        return Err(SourceError::Invalid(text));
    }
    let change = shared.source.change_of(commit).await?;
    let tried = change.tries.iter().find(|tried| tried.commit.to_string().starts_with(commit)).cloned();
    let tried = tried.ok_or_else(|| SourceError::NotFound(format!("`{commit}` was not tried lately")))?;
    Ok((change, tried))
}

impl Payload {
    fn of(change: &ChangeView, tried: &TryView) -> Self {
        let builds = tried.builds.iter().map(|build| Build {
            name: build.builder.clone(),
            start_time: rfc3339(tried.begun),
            done: !build.state.is_active(),
            succeeded: matches!(build.state, State::Passed | State::Flaky | State::Skipped),
        });
        Self {
            change_id: change.number.to_string(),
            commit: tried.commit.to_string(),
            builds: builds.collect(),
        }
    }
}
