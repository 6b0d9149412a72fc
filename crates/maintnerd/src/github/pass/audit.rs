//! The auditor's part: a few issues at a time are read again as if nothing were known, and what the log lacks is
//! appended. So is seen what GitHub never told: an issue that was deleted, a comment that a list left out.

use api::maintpb::{GithubIssueMutation, Mutation};

use super::{PassError, Reader};

/// Issues that are read again in one round.
const SAMPLE: usize = 5;

impl Reader {
    /// Looks at the next few issues. Answers how many of them had drifted from the log.
    pub(in crate::github) async fn audit(&mut self) -> Result<u64, PassError> {
        self.begin();
        let sample = self.sample().await;
        self.audited = sample.last().copied().unwrap_or(0);
        let mut drifted = 0;
        for number in sample {
            // What has changed is no drift: the next pass brings it.
            if self.is_stale(number).await {
                continue;
            }
            let before = self.facts(number).await.map(|facts| facts.updated());
            let audited = self.audit_one(number).await;
            let drift =
                self.outcome.drift > 0 && before == self.facts(number).await.map(|facts| facts.updated());
            drifted += u64::from(drift);
            self.outcome.drift = 0;
            self.isolate(number, audited)?;
        }
        Ok(drifted)
    }

    async fn audit_one(&mut self, number: i32) -> Result<(), PassError> {
        self.look(number).await?;
        match self.facts(number).await {
            Some(facts) => self.see(number, &facts, true).await,
            None => Ok(()),
        }
    }

    /// The next numbers, of issues that exist and of those that are gone.
    async fn sample(&self) -> Vec<i32> {
        let corpus = self.ledger.corpus().await;
        let Some(known) = corpus.github().repository(&self.repository.owner, &self.repository.name) else {
            return Vec::new();
        };
        let after = |number: &i32| *number > self.audited;
        let mut sample: Vec<i32> =
            known.issues().map(|issue| issue.number()).filter(after).take(SAMPLE).collect();
        sample.extend(known.gone().filter(after).take(SAMPLE));
        sample.sort_unstable();
        sample.truncate(SAMPLE);
        sample
    }
}

/// Whether a mutation repairs something. That people call themselves by another name is told by no list.
pub(super) fn is_drift(mutation: &Mutation) -> bool {
    let Some(issue) = &mutation.github_issue else { return false };
    let mut issue = issue.clone();
    (issue.user, issue.closed_by) = (None, None);
    issue.assignees.clear();
    issue.comment.iter_mut().for_each(|comment| comment.user = None);
    issue
        .comment
        .retain(|comment| !comment.body.is_empty() || comment.created.is_some() || comment.updated.is_some());
    super::is_news(&Mutation { github_issue: Some::<GithubIssueMutation>(issue), ..Mutation::default() })
}
