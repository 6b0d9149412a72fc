//! The auditor's part: one issue after the other is read again as if nothing were known, and what the log lacks is
//! appended. So is seen what GitHub never told: an issue that was deleted, a comment that a list left out.

use api::maintpb::{GithubIssueMutation, Mutation};
use maintner::core::Repository;
use types::Timestamp;

use super::{PassError, Reader};
use crate::pace;

impl Reader {
    /// How many issues there are to audit, those that are gone included.
    pub(in crate::github) async fn count(&self) -> u64 {
        self.numbers().await.len() as u64
    }

    /// Looks at the next issue. Answers which one had drifted from the log, if it had.
    pub(in crate::github) async fn audit(&mut self, now: Timestamp) -> Result<Option<i32>, PassError> {
        self.begin();
        let Some(number) = self.next_to_audit(now).await else { return Ok(None) };
        self.audited = Some(number);
        // What has changed is no drift: the next pass brings it.
        if self.is_stale(number).await {
            return Ok(None);
        }
        let before = self.facts(number).await.map(|facts| facts.updated());
        let audited = self.audit_one(number).await;
        let drift = self.outcome.drift > 0 && before == self.facts(number).await.map(|facts| facts.updated());
        self.isolate(number, audited)?;
        Ok(drift.then_some(number))
    }

    async fn audit_one(&mut self, number: i32) -> Result<(), PassError> {
        self.look(number).await?;
        match self.facts(number).await {
            Some(facts) => self.see(number, &facts, true).await,
            None => Ok(()),
        }
    }

    /// The numbers of all issues, those that are gone included, in order.
    async fn numbers(&self) -> Vec<i32> {
        let corpus = self.ledger.corpus().await;
        let known = corpus.github().repository(&self.repository.owner, &self.repository.name);
        let there = known.iter().flat_map(Repository::issues).map(|issue| issue.number());
        let mut all: Vec<i32> = there.chain(known.iter().flat_map(Repository::gone)).collect();
        all.sort_unstable();
        all
    }

    async fn next_to_audit(&self, now: Timestamp) -> Option<i32> {
        let all = self.numbers().await;
        let at = match self.audited {
            Some(last) => all.partition_point(|number| *number <= last),
            None => pace::beginning(all.len(), now, pace::ISSUES_WITHIN),
        };
        all.get(at).or_else(|| all.first()).copied()
    }
}

/// Whether a mutation repairs something. That people call themselves by another name is told by no list.
pub(super) fn is_drift(mutation: &Mutation) -> bool {
    let Some(issue) = &mutation.github_issue else { return false };
    let mut issue = issue.clone();
    (issue.user, issue.closed_by) = (None, None);
    // No issue changes with its checks.
    issue.checks = None;
    issue.assignees.clear();
    issue.comment.iter_mut().for_each(|comment| comment.user = None);
    issue
        .comment
        .retain(|comment| !comment.body.is_empty() || comment.created.is_some() || comment.updated.is_some());
    super::is_news(&Mutation { github_issue: Some::<GithubIssueMutation>(issue), ..Mutation::default() })
}
