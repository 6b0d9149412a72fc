//! What is not shown any more: a tombstone with the reason, as far as GitHub tells one.

use std::sync::Arc;

use api::maintpb::{GithubGone, GithubGoneReason};
use github::Error;
use maintner::core::diff;
use serde_json::Value;

use super::{PassError, Reader, of_issue};

impl Reader {
    /// GitHub answers so when it is asked for an issue.
    pub(super) async fn vanished(&mut self, number: i32, error: Error) -> Result<(), PassError> {
        // If we may not see the repository any more, no issue of it is shown either.
        self.check_itself(true).await?;
        let told = self.last_event(number).await;
        let (reason, moved_to) = match &error {
            Error::Moved { to } => {
                let moved_to = self.place(to).await;
                if moved_to == format!("{}#{number}", self.repository.key()) {
                    return Err(error.into());
                }
                (GithubGoneReason::Transferred, moved_to)
            }
            Error::Gone { status, .. } => {
                let untold =
                    if *status == 410 { GithubGoneReason::Deleted } else { GithubGoneReason::Absent };
                (told.unwrap_or(untold), String::new())
            }
            _ => return Err(error.into()),
        };
        let gone = GithubGone { reason: reason.into(), moved_to };
        let repository = Arc::clone(&self.repository);
        self.append(|corpus| {
            diff::gone(corpus, repository.at(), number, &gone).map(of_issue).into_iter().collect()
        })
        .await
    }

    /// What the last that happened to an issue says of where it went.
    async fn last_event(&self, number: i32) -> Option<GithubGoneReason> {
        let corpus = self.ledger.corpus().await;
        let repository = corpus.github().repository(&self.repository.owner, &self.repository.name)?;
        match repository.issue(number)?.events().next_back()?.kind() {
            "converted_to_discussion" => Some(GithubGoneReason::Converted),
            "transferred" => Some(GithubGoneReason::Transferred),
            _ => None,
        }
    }

    /// `owner/name#number` of the issue at an address; empty if we may not see it.
    async fn place(&self, to: &str) -> String {
        let Ok(shown) = self.client.fetch(to).await.and_then(|reply| reply.json()) else {
            return by_address(to).unwrap_or_default();
        };
        of_json(&shown).or_else(|| by_address(to)).unwrap_or_default()
    }
}

fn of_json(shown: &Value) -> Option<String> {
    let (_, repository) = shown["repository_url"].as_str()?.split_once("/repos/")?;
    Some(format!("{repository}#{}", shown["number"].as_i64()?))
}

fn by_address(to: &str) -> Option<String> {
    let (repository, number) = to.split_once("/repos/")?.1.split_once("/issues/")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{repository}#{number}"))
}

#[cfg(test)]
mod tests {
    use super::by_address;

    #[test]
    fn an_address_may_tell_where_an_issue_went() {
        let place = |to: &str| by_address(to);
        assert_eq!(place("https://api.github.com/repos/o/r/issues/7").as_deref(), Some("o/r#7"));
        assert_eq!(place("https://api.github.com/repositories/12/issues/7"), None);
        assert_eq!(place("https://api.github.com/repos/o/r/issues/7/comments"), None);
    }
}
