//! What Gerrit's `webhooks` plugin posts: the events of its stream. They are not signed, so who posts must know an
//! address with a secret in it.
//!
//! As with GitHub, what makes no sense is answered with 200, or Gerrit would send it again.

use std::sync::Arc;

use api::events::{Event, GerritEvent, event::Source};
use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    routing::post,
};
use http::StatusCode;
use runtime::clock::SharedClock;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    log::{Log, Published},
    signature,
    webhook::{LARGEST, Notes, Verdict},
};

/// Takes events.
pub(crate) struct GerritHook {
    secret: SecretString,
    log: Log,
    clock: SharedClock,
    notes: Notes,
}

impl GerritHook {
    /// For those who know a secret, published into a log.
    pub(crate) fn new(secret: SecretString, log: Log, clock: SharedClock) -> Self {
        Self { secret, log, clock, notes: Notes::default() }
    }

    /// `POST /gerrit-webhook/SECRET`.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new().route("/gerrit-webhook/{secret}", post(deliver)).with_state(self)
    }

    async fn take(&self, body: Body) -> Verdict {
        let Ok(body) = axum::body::to_bytes(body, LARGEST).await else { return Verdict::TooLarge };
        let Ok(payload) = serde_json::from_slice::<Payload>(&body) else { return Verdict::BadBody };
        let Some(event) = payload.into_event() else { return Verdict::Ignored };
        let now = self.clock.now();
        let event = Event { received: Some(rpc::timestamp(now)), source: Some(Source::Gerrit(event)) };
        // It has no name of its own, and two votes in one second may look the same: each is told.
        match self.log.publish(&runtime::new_id().to_string(), event, now) {
            Published::New => Verdict::Published,
            Published::Duplicate => Verdict::Duplicate,
        }
    }
}

async fn deliver(State(hook): State<Arc<GerritHook>>, Path(secret): Path<String>, body: Body) -> StatusCode {
    if !signature::is_same(&hook.secret, &secret) {
        hook.notes.note(Verdict::BadSignature);
        return StatusCode::NOT_FOUND;
    }
    let verdict = hook.take(body).await;
    hook.notes.note(verdict);
    StatusCode::OK
}

/// What we read of an event. Versions of Gerrit name the project here or there, and numbers are texts in some.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    project: Value,
    change: Option<Change>,
    #[serde(rename = "refUpdate")]
    ref_update: Option<RefUpdate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    project: String,
    number: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RefUpdate {
    project: String,
    #[serde(rename = "refName")]
    reference: String,
}

/// A text, or the name of an object.
fn name(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["name"].as_str())
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::String(text) => text.parse().ok(),
        other => u32::try_from(other.as_u64()?).ok(),
    }
}

/// The change that a ref belongs to, as `refs/changes/34/1234/meta` does to 1234.
fn change_of(reference: &str) -> Option<u32> {
    let (_, rest) = reference.strip_prefix("refs/changes/")?.split_once('/')?;
    rest.split('/').next()?.parse().ok()
}

impl Payload {
    /// None if it is about no project.
    fn into_event(self) -> Option<GerritEvent> {
        let moved = self.ref_update.unwrap_or_default();
        let change = self.change.unwrap_or_default();
        let named = [name(&self.project).unwrap_or_default(), &change.project, &moved.project];
        let project = named.into_iter().find(|name| !name.is_empty())?.to_owned();
        let number = number(&change.number).or_else(|| change_of(&moved.reference)).unwrap_or(0);
        // Some tell the name of a branch only.
        let reference = Some(moved.reference).filter(|name| number == 0 && name.starts_with("refs/"));
        Some(GerritEvent { kind: self.kind, project, change: number, r#ref: reference.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Option<String> {
        let event = serde_json::from_str::<Payload>(json).ok()?.into_event()?;
        Some(format!("{} {} {} {}", event.kind, event.project, event.change, event.r#ref))
    }

    #[test]
    fn what_an_event_is_about_is_read_whatever_version_tells_it() {
        let cases = [
            (
                r#"{"type":"comment-added","change":{"project":"a/b","branch":"main","number":7},"project":{"name":"a/b"}}"#,
                "comment-added a/b 7 ",
            ),
            (
                r#"{"type":"patchset-created","change":{"project":"a","number":"12"},"patchSet":{}}"#,
                "patchset-created a 12 ",
            ),
            (
                r#"{"type":"ref-updated","refUpdate":{"project":"a","refName":"refs/heads/main"}}"#,
                "ref-updated a 0 refs/heads/main",
            ),
            (
                r#"{"type":"ref-updated","project":"a","refUpdate":{"refName":"refs/changes/34/1234/meta"}}"#,
                "ref-updated a 1234 ",
            ),
            (r#"{"type":"ref-updated","refUpdate":{"project":"a","refName":"main"}}"#, "ref-updated a 0 "),
            (r#"{"type":"project-created","projectName":"a","project":"a"}"#, "project-created a 0 "),
        ];
        for (json, expected) in cases {
            assert_eq!(check(json).as_deref(), Some(expected), "{json}");
        }
        for json in ["{}", "[]", "x", r#"{"type":"x","change":{"number":-1}}"#, r#"{"project":7}"#] {
            assert_eq!(check(json), None, "{json}");
        }
    }
}
