//! What is new in what GitHub shows: the mutation that makes the corpus equal to it.
//!
//! Pure, and nothing for what is known: `diff(apply(diff(corpus, seen)), seen)` is empty. That holds for what one answer
//! of GitHub can say; one that calls the same user by two names contradicts itself, and the last name wins.
//!
//! What the wire cannot say is not said: that a closed issue's time of closing is unknown again, that a title or the
//! text of a comment is empty, and that a pull request is none.

mod details;
mod issue;

use api::maintpb::{
    BoolChange, GithubGone, GithubGoneReason, GithubIssueMutation, GithubIssueSyncStatus, GithubLabel,
    GithubMilestone, GithubMutation, GithubUser,
};
use types::Timestamp;

use super::{Gone, Issue, Repository, User};
use crate::core::Corpus;

pub use details::{SeenComment, SeenDetails, details};
pub use issue::{SeenIssue, issue};

/// A repository at GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<'a> {
    /// Who owns it.
    pub owner: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl At<'_> {
    fn issue(self, number: i32) -> GithubIssueMutation {
        let (owner, repo) = (self.owner.to_owned(), self.name.to_owned());
        GithubIssueMutation { owner, repo, number, ..GithubIssueMutation::default() }
    }

    fn repository(self) -> GithubMutation {
        GithubMutation {
            owner: self.owner.to_owned(),
            repo: self.name.to_owned(),
            ..GithubMutation::default()
        }
    }

    fn known(self, corpus: &Corpus, number: i32) -> Option<Issue<'_>> {
        let repository = corpus.github.find_repository(self.owner, self.name)?;
        Issue::any(corpus, repository, number)
    }
}

fn wire(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.seconds(), nanos: at.subsecond_nanos() }
}

fn status(at: Timestamp) -> GithubIssueSyncStatus {
    GithubIssueSyncStatus { server_date: Some(wire(at)) }
}

/// A user, if somebody else is known, or the same by another name. A user without a number is nobody.
fn user(known: Option<User<'_>>, seen: Option<&GithubUser>) -> Option<GithubUser> {
    match (known, seen.filter(|seen| seen.id != 0)) {
        (None, None) => None,
        (Some(known), Some(seen)) if known.id == seen.id && is_called(known, seen) => None,
        (_, seen) => Some(seen.cloned().unwrap_or_default()),
    }
}

fn is_called(known: User<'_>, seen: &GithubUser) -> bool {
    seen.login.is_empty() || known.login == seen.login
}

/// That an issue does not exist, unless that is known, and as well as now.
pub fn gone(corpus: &Corpus, at: At<'_>, number: i32, gone: &GithubGone) -> Option<GithubIssueMutation> {
    let repository = corpus.github().repository(at.owner, at.name);
    let known = repository.and_then(|repository| repository.why_gone(number));
    let is_known = match known {
        None => false,
        Some(Gone::Unknown) => gone.reason == GithubGoneReason::Unspecified as i32,
        // What became of it later tells nothing of why it went.
        Some(_) => true,
    };
    (!is_known).then(|| {
        let gone = Some(gone.clone()).filter(|gone| *gone != GithubGone::default());
        GithubIssueMutation { not_exist: true, gone, ..at.issue(number) }
    })
}

/// All labels and milestones of a repository, those that are given: what is not there is deleted. The issues that had
/// it come first.
pub fn repository(
    corpus: &Corpus,
    at: At<'_>,
    labels: Option<&[GithubLabel]>,
    milestones: Option<&[GithubMilestone]>,
) -> (Vec<GithubIssueMutation>, Option<GithubMutation>) {
    let known = corpus.github().repository(at.owner, at.name);
    let mut said = at.repository();
    let mut issues = Vec::new();
    if let Some(seen) = labels {
        let all = || known.iter().flat_map(Repository::labels);
        let is_news = |one: &&GithubLabel| {
            one.id != 0
                && all()
                    .find(|known| known.id == one.id)
                    .is_none_or(|known| !one.name.is_empty() && known.name != one.name)
        };
        said.labels = once(seen.iter().filter(is_news).cloned(), |one| one.id);
        let lost = |id: &i64| !seen.iter().any(|one| one.id == *id);
        said.deleted_labels = all().map(|known| known.id).filter(lost).collect();
    }
    if let Some(seen) = milestones {
        let all = || known.iter().flat_map(Repository::milestones);
        let news = seen
            .iter()
            .filter(|one| one.id != 0)
            .filter_map(|one| milestone(all().find(|known| known.id == one.id), one));
        said.milestones = once(news, |one| one.id);
        let lost = |id: &i64| !seen.iter().any(|one| one.id == *id);
        said.deleted_milestones = all().map(|known| known.id).filter(lost).collect();
    }
    if !(said.deleted_labels.is_empty() && said.deleted_milestones.is_empty()) {
        let all = known.iter().flat_map(Repository::issues);
        issues = all.filter_map(|issue| without(at, &issue, &said)).collect();
    }
    let any = said != at.repository();
    (issues, any.then_some(said))
}

/// Each thing once, the first time it is said.
fn once<T>(all: impl Iterator<Item = T>, id: impl Fn(&T) -> i64) -> Vec<T> {
    let mut out: Vec<T> = Vec::new();
    for one in all {
        if !out.iter().any(|other| id(other) == id(&one)) {
            out.push(one);
        }
    }
    out
}

/// What is new of a milestone; its id is always said.
fn milestone(known: Option<super::Milestone<'_>>, seen: &GithubMilestone) -> Option<GithubMilestone> {
    let closed = seen.closed.as_ref().map(|closed| closed.val);
    let news = GithubMilestone {
        id: seen.id,
        title: Some(&seen.title)
            .filter(|title| known.is_none_or(|known| known.title != **title))
            .cloned()
            .unwrap_or_default(),
        closed: closed
            .filter(|closed| known.is_none_or(|known| known.closed != *closed))
            .map(|val| BoolChange { val }),
        number: Some(seen.number)
            .filter(|number| known.is_none_or(|known| known.number != *number))
            .unwrap_or_default(),
    };
    let empty = GithubMilestone { id: seen.id, ..GithubMilestone::default() };
    (known.is_none() || news != empty).then_some(news)
}

/// An issue without the labels and the milestone that are deleted.
fn without(at: At<'_>, issue: &Issue<'_>, said: &GithubMutation) -> Option<GithubIssueMutation> {
    let lost = issue.labels().map(|label| label.id).filter(|id| said.deleted_labels.contains(id));
    let remove_label: Vec<i64> = lost.collect();
    let no_milestone = matches!(issue.milestone(), super::MilestoneOf::Some(milestone)
        if said.deleted_milestones.contains(&milestone.id));
    let any = !remove_label.is_empty() || no_milestone;
    any.then(|| GithubIssueMutation { remove_label, no_milestone, ..at.issue(issue.number()) })
}

/// Up to when all issues of a repository are in the log, if that is later than what is known.
pub fn issues_synced(corpus: &Corpus, at: At<'_>, until: Timestamp) -> Option<GithubMutation> {
    let known = corpus.github().repository(at.owner, at.name).and_then(|known| known.issues_synced());
    let later = known.is_none_or(|known| known < until);
    later.then(|| GithubMutation { issue_status: Some(status(until)), ..at.repository() })
}

#[cfg(test)]
mod tests;
