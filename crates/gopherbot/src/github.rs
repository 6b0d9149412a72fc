//! GitHub's REST API, as far as the bot needs it.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use runtime::SharedClock;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use crate::{Host, HostError, Target};

/// Comments in one answer; GitHub gives no more.
const PER_PAGE: usize = 100;
/// Beyond this a commit has more comments than anyone reads.
const MAX_PAGES: usize = 100;
/// GitHub asks for a minute when it does not say how long.
const UNSAID_LIMIT: Duration = Duration::from_mins(1);
/// However GitHub's clock stands to ours, we come back to look.
const LONGEST_LIMIT: Duration = Duration::from_hours(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// The real GitHub, or one of your own.
pub struct GithubHost {
    client: reqwest::Client,
    url: String,
    token: SecretString,
    clock: SharedClock,
    /// GitHub asks for a second between things that people are told of.
    pace: Duration,
    last_write: Mutex<Option<Instant>>,
}

impl GithubHost {
    /// A host that speaks to the API at `url`.
    pub fn new(url: &str, token: SecretString, clock: SharedClock, pace: Duration) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().user_agent("farmer-gopherbot").timeout(PATIENCE).build()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { client, url, token, clock, pace, last_write: Mutex::default() })
    }

    fn request(&self, method: Method, target: &Target) -> RequestBuilder {
        let Target { owner, repository, commit } = target;
        let path = format!("repos/{}/{}/commits/{commit}/comments", segment(owner), segment(repository));
        self.client
            .request(method, format!("{}/{path}", self.url))
            .bearer_auth(self.token.expose_secret())
            .header(header::ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28")
    }

    async fn send(&self, request: RequestBuilder, target: &Target) -> Result<Response, HostError> {
        let response = request.send().await.map_err(|error| HostError::Failed(describe(error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let limit = self.limit(&response);
        let status = response.status();
        let message = message(response).await;
        Err(classify(status, limit, message, target))
    }

    /// How long GitHub wants us to wait, if it does.
    fn limit(&self, response: &Response) -> Option<Duration> {
        let number = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        if let Some(seconds) = number("retry-after") {
            return Some(Duration::from_secs(seconds.max(1).unsigned_abs()).min(LONGEST_LIMIT));
        }
        if number("x-ratelimit-remaining") == Some(0) {
            let reset = number("x-ratelimit-reset")?;
            let left = reset.saturating_sub(self.clock.now().seconds()).max(1).unsigned_abs();
            return Some(Duration::from_secs(left).min(LONGEST_LIMIT));
        }
        None
    }
}

#[async_trait]
impl Host for GithubHost {
    async fn has_comment(&self, target: &Target, text: &str) -> Result<bool, HostError> {
        for page in 1..=MAX_PAGES {
            let query = [("per_page", PER_PAGE), ("page", page)];
            let response = self.send(self.request(Method::GET, target).query(&query), target).await?;
            let comments: Vec<Value> =
                response.json().await.map_err(|error| HostError::Failed(describe(error)))?;
            let contains = |comment: &Value| comment["body"].as_str().is_some_and(|body| body.contains(text));
            if comments.iter().any(contains) {
                return Ok(true);
            }
            if comments.len() < PER_PAGE {
                return Ok(false);
            }
        }
        Err(HostError::Refused(format!("more than {} comments on one commit", MAX_PAGES * PER_PAGE)))
    }

    async fn comment(&self, target: &Target, body: &str) -> Result<(), HostError> {
        let mut last = self.last_write.lock().await;
        if let Some(last) = *last {
            tokio::time::sleep_until(last + self.pace).await;
        }
        let posted =
            self.send(self.request(Method::POST, target).json(&json!({ "body": body })), target).await;
        *last = Some(Instant::now());
        posted.map(|_| ())
    }

    fn is_rehearsal(&self) -> bool {
        false
    }
}

/// A name as one part of a path.
fn segment(name: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes()
        .map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn classify(status: StatusCode, limit: Option<Duration>, message: String, target: &Target) -> HostError {
    // A secondary limit may come without headers, and is then known by its text alone.
    let limited =
        limit.or_else(|| message.to_lowercase().contains("secondary rate limit").then_some(UNSAID_LIMIT));
    match (status.as_u16(), limited) {
        (403 | 429, Some(after)) => HostError::Limited { after },
        (429, None) => HostError::Limited { after: UNSAID_LIMIT },
        (401, _) => HostError::Unauthorized(message),
        (404 | 410 | 451, _) => HostError::Gone(target.to_string()),
        (400..=499, _) if status != StatusCode::REQUEST_TIMEOUT => {
            HostError::Refused(format!("{status}: {message}"))
        }
        _ => HostError::Failed(format!("{status}: {message}")),
    }
}

/// What GitHub says is wrong.
async fn message(response: Response) -> String {
    let text = response.text().await.unwrap_or_default();
    let parsed: Option<Value> = serde_json::from_str(&text).ok();
    let said = parsed.as_ref().and_then(|value| value["message"].as_str()).unwrap_or(&text);
    said.chars().take(200).collect()
}

/// An error with its causes, without the address.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_told_apart() {
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let target = Target { owner: "o".into(), repository: "r".into(), commit };
        let after = Duration::from_secs(7);
        let check = |status: u16, limit, message: &str| {
            classify(StatusCode::from_u16(status).unwrap(), limit, message.into(), &target)
        };
        assert_eq!(check(403, Some(after), "slow down"), HostError::Limited { after });
        assert_eq!(check(429, None, ""), HostError::Limited { after: UNSAID_LIMIT });
        let secondary = "You have exceeded a secondary rate limit";
        assert_eq!(check(403, None, secondary), HostError::Limited { after: UNSAID_LIMIT });
        assert!(matches!(check(403, None, "forbidden"), HostError::Refused(_)));
        assert!(matches!(check(401, None, ""), HostError::Unauthorized(_)));
        for gone in [404, 410, 451] {
            assert!(matches!(check(gone, None, ""), HostError::Gone(_)), "{gone}");
        }
        assert!(matches!(check(422, None, ""), HostError::Refused(_)));
        for failed in [408, 500, 502, 503] {
            assert!(matches!(check(failed, None, ""), HostError::Failed(_)), "{failed}");
        }
    }

    #[test]
    fn names_cannot_leave_their_part_of_the_path() {
        assert_eq!(segment("go-1.2_x"), "go-1.2_x");
        assert_eq!(segment("a/../b?c"), "a%2F..%2Fb%3Fc");
    }
}
