//! What the bot does at GitHub.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use github::{Client, Error, Options, Token, segment};
use runtime::SharedClock;
use serde_json::{Value, json};
use tokio::{sync::Mutex, time::Instant};

use crate::{Host, HostError, Target};

/// Comments in one answer; GitHub gives no more.
const PER_PAGE: usize = 100;
/// Beyond this a commit has more comments than anyone reads.
const MAX_PAGES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// The real GitHub, or one of your own.
pub struct GithubHost {
    client: Client,
    /// GitHub asks for a second between things that people are told of.
    pace: Duration,
    last_write: Mutex<Option<Instant>>,
}

impl GithubHost {
    /// A host that speaks to the API at `url`, with the token in a file.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(url: &str, token: PathBuf, clock: SharedClock, pace: Duration) -> Result<Self, Error> {
        let client = Client::new(Options {
            url: url.to_owned(),
            token: Token::File(token),
            agent: "farmer-gopherbot",
            patience: PATIENCE,
            pace: Duration::ZERO,
            reserve: None,
            clock,
        })?;
        Ok(Self { client, pace, last_write: Mutex::default() })
    }
}

fn path(target: &Target) -> String {
    let Target { owner, repository, commit } = target;
    format!("/repos/{}/{}/commits/{commit}/comments", segment(owner), segment(repository))
}

#[async_trait]
impl Host for GithubHost {
    async fn has_comment(&self, target: &Target, text: &str) -> Result<bool, HostError> {
        for page in 1..=MAX_PAGES {
            let path = format!("{}?per_page={PER_PAGE}&page={page}", path(target));
            let said = self.client.fetch(&path).await.and_then(|reply| reply.json());
            let said = said.map_err(|error| told_apart(error, target))?;
            let Value::Array(comments) = said else {
                return Err(HostError::Failed("the answer is no list of comments".into()));
            };
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
        let posted = self.client.post(&path(target), &json!({ "body": body })).await;
        *last = Some(Instant::now());
        posted.map(|_| ()).map_err(|error| told_apart(error, target))
    }

    fn is_rehearsal(&self) -> bool {
        false
    }
}

fn told_apart(error: Error, target: &Target) -> HostError {
    let text = error.to_string();
    match error {
        Error::Limited { after } => HostError::Limited { after },
        Error::Unauthorized(message) => HostError::Unauthorized(message),
        Error::Token { .. } => HostError::Unauthorized(text),
        Error::Gone { .. } => HostError::Gone(target.to_string()),
        Error::Moved { .. } | Error::Refused { .. } => HostError::Refused(text),
        Error::Failed(message) => HostError::Failed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_told_apart() {
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let target = Target { owner: "o".into(), repository: "r".into(), commit };
        let after = Duration::from_secs(7);
        let message = || "m".to_owned();
        let check = |error| told_apart(error, &target);
        assert_eq!(check(Error::Limited { after }), HostError::Limited { after });
        assert!(matches!(check(Error::Refused { status: 422, message: message() }), HostError::Refused(_)));
        assert!(matches!(check(Error::Moved { to: message() }), HostError::Refused(_)));
        assert!(matches!(check(Error::Unauthorized(message())), HostError::Unauthorized(_)));
        assert!(matches!(check(Error::Gone { status: 410, message: message() }), HostError::Gone(_)));
        assert_eq!(check(Error::Failed(message())), HostError::Failed(message()));
    }
}
