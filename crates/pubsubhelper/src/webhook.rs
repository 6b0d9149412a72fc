//! GitHub's webhook. What is not right is answered with 200 all the same, or GitHub would queue it and in the end switch
//! the webhook off; it is counted and logged, and published to nobody.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::events::{Event, GithubEvent, event::Source};
use axum::{Router, body::Body, extract::State, routing::post};
use http::{HeaderMap, StatusCode};
use opentelemetry::{KeyValue, metrics::Counter};
use runtime::clock::SharedClock;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    log::{Log, Published},
    signature,
};

/// The largest body.
pub(crate) const LARGEST: usize = 5 << 20;
/// The world can make us log: no more than one line in so long.
const QUIET: Duration = Duration::from_secs(10);

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Published,
    Duplicate,
    /// Nothing that we tell: it is about no repository.
    Ignored,
    TooLarge,
    BadSignature,
    BadHeaders,
    BadBody,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::TooLarge => "too_large",
            Self::BadSignature => "bad_signature",
            Self::BadHeaders => "bad_headers",
            Self::BadBody => "bad_body",
        }
    }

    /// What somebody should do about it.
    fn advice(self) -> Option<&'static str> {
        match self {
            Self::Published | Self::Duplicate | Self::Ignored => None,
            Self::TooLarge => Some("its body is over 5 MiB"),
            Self::BadSignature => Some(
                "its signature or secret is wrong: compare the secret here with the one at GitHub or Gerrit",
            ),
            Self::BadHeaders => Some("it has no X-GitHub-Event or X-GitHub-Delivery"),
            Self::BadBody => {
                Some("its body is not JSON: set the content type of the webhook to application/json")
            }
        }
    }
}

/// Counts and logs what became of deliveries.
pub(crate) struct Notes {
    deliveries: Counter<u64>,
    warned: Mutex<Option<Instant>>,
}

impl Default for Notes {
    fn default() -> Self {
        let deliveries = runtime::telemetry::meter().u64_counter("pubsubhelper.webhook.deliveries").build();
        Self { deliveries, warned: Mutex::default() }
    }
}

impl Notes {
    pub(crate) fn note(&self, verdict: Verdict) {
        self.deliveries.add(1, &[KeyValue::new("result", verdict.word())]);
        let Some(advice) = verdict.advice() else {
            debug!(result = verdict.word(), "webhook delivery: {}", verdict.word());
            return;
        };
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= QUIET) {
            *warned = Some(Instant::now());
            warn!(result = verdict.word(), "a webhook delivery is not published: {advice}");
        }
    }
}

/// Takes deliveries.
pub(crate) struct Webhook {
    secret: SecretString,
    log: Log,
    clock: SharedClock,
    notes: Notes,
}

impl Webhook {
    /// Signed with a secret, published into a log.
    pub(crate) fn new(secret: SecretString, log: Log, clock: SharedClock) -> Self {
        Self { secret, log, clock, notes: Notes::default() }
    }

    /// `POST /github-webhook`.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new().route("/github-webhook", post(deliver)).with_state(self)
    }

    async fn take(&self, headers: &HeaderMap, body: Body) -> Verdict {
        let Ok(body) = axum::body::to_bytes(body, LARGEST).await else { return Verdict::TooLarge };
        let signature =
            headers.get("X-Hub-Signature-256").map(http::HeaderValue::as_bytes).unwrap_or_default();
        if !signature::is_right(&self.secret, &body, signature) {
            return Verdict::BadSignature;
        }
        let text =
            |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
        let (Some(kind), Some(delivery)) = (text("X-GitHub-Event"), text("X-GitHub-Delivery")) else {
            return Verdict::BadHeaders;
        };
        let Ok(payload) = serde_json::from_slice::<Payload>(&body) else { return Verdict::BadBody };
        let Some(event) = payload.into_event(kind, delivery) else { return Verdict::Ignored };
        let now = self.clock.now();
        let event = Event { received: Some(rpc::timestamp(now)), source: Some(Source::Github(event)) };
        match self.log.publish(delivery, event, now) {
            Published::New => Verdict::Published,
            Published::Duplicate => Verdict::Duplicate,
        }
    }
}

async fn deliver(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> StatusCode {
    let verdict = webhook.take(&headers, body).await;
    webhook.notes.note(verdict);
    StatusCode::OK
}

/// What we read of a delivery. GitHub adds fields at any time, and what is told of one kind is missing in another.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Payload {
    action: Option<String>,
    repository: Option<Repository>,
    issue: Option<Numbered>,
    pull_request: Option<Numbered>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    check_run: Option<Checked>,
    check_suite: Option<Checked>,
    /// The commit of a commit status.
    sha: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Checked {
    head_sha: String,
}

#[derive(Debug, Deserialize)]
struct Repository {
    full_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Numbered {
    number: i64,
}

impl Payload {
    /// None if it is about no repository.
    fn into_event(self, kind: &str, delivery: &str) -> Option<GithubEvent> {
        let repository = self.repository?;
        let (owner, name) = repository.full_name.split_once('/')?;
        if owner.is_empty() || name.is_empty() || name.contains('/') {
            return None;
        }
        let numbered = self.issue.or(self.pull_request);
        let commit = match kind {
            "check_run" => self.check_run.map(|run| run.head_sha),
            "check_suite" => self.check_suite.map(|suite| suite.head_sha),
            "status" => self.sha,
            _ => None,
        };
        Some(GithubEvent {
            kind: kind.to_owned(),
            action: self.action.unwrap_or_default(),
            owner: owner.to_owned(),
            repository: name.to_owned(),
            number: numbered.map_or(0, |numbered| numbered.number),
            r#ref: self.reference.filter(|_| kind == "push").unwrap_or_default(),
            delivery_id: delivery.to_owned(),
            commit: commit.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, json: &str) -> Option<String> {
        let event = serde_json::from_str::<Payload>(json).ok()?.into_event(kind, "id")?;
        Some(format!(
            "{} {} {}/{} {} {}{}",
            event.kind, event.action, event.owner, event.repository, event.number, event.r#ref, event.commit
        ))
    }

    #[test]
    fn what_an_event_is_about_is_read() {
        let of = r#""repository":{"full_name":"golang/go"}"#;
        let cases = [
            ("push", format!(r#"{{"ref":"refs/heads/main",{of}}}"#), "push  golang/go 0 refs/heads/main"),
            ("create", format!(r#"{{"ref":"v1","ref_type":"tag",{of}}}"#), "create  golang/go 0 "),
            (
                "issues",
                format!(r#"{{"action":"opened","issue":{{"number":7}},{of}}}"#),
                "issues opened golang/go 7 ",
            ),
            (
                "pull_request",
                format!(r#"{{"action":"closed","number":8,"pull_request":{{"number":8}},{of}}}"#),
                "pull_request closed golang/go 8 ",
            ),
            (
                "check_run",
                format!(r#"{{"action":"completed","sha":"x","check_run":{{"head_sha":"abc","id":1}},{of}}}"#),
                "check_run completed golang/go 0 abc",
            ),
            ("status", format!(r#"{{"sha":"def","state":"success",{of}}}"#), "status  golang/go 0 def"),
            ("watch", format!(r#"{{"action":"started","issue":null,{of}}}"#), "watch started golang/go 0 "),
        ];
        for (kind, json, expected) in cases {
            assert_eq!(check(kind, &json).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_about_no_repository_is_no_event() {
        for json in [
            "{}",
            r#"{"zen":"x"}"#,
            r#"{"repository":{"full_name":"x"}}"#,
            r#"{"repository":{"full_name":"a/b/c"}}"#,
            "[]",
            "x",
        ] {
            assert_eq!(check("ping", json), None, "{json}");
        }
    }
}
