//! An issue or pull request: what a list of them says of each.

use api::maintpb::{BoolChange, GithubIssueMutation, GithubLabel, GithubMilestone, GithubUser, StringChange};
use types::Timestamp;

use super::{At, Issue, is_called, user, wire};
use crate::core::{Corpus, github::MilestoneOf};

/// An issue, as GitHub shows it now.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenIssue {
    /// Its number in the repository.
    pub number: i32,
    /// GitHub's number of it among all.
    pub id: i64,
    /// When it was opened.
    pub created: Timestamp,
    /// When GitHub last saw a change to it.
    pub updated: Timestamp,
    /// Its title.
    pub title: String,
    /// What it says; empty for nothing.
    pub body: String,
    /// Who opened it; nobody if their account is deleted.
    pub user: Option<GithubUser>,
    /// Who it is assigned to.
    pub assignees: Vec<GithubUser>,
    /// Its labels.
    pub labels: Vec<GithubLabel>,
    /// Its milestone.
    pub milestone: Option<GithubMilestone>,
    /// Whether it is closed.
    pub closed: bool,
    /// When, if it is.
    pub closed_at: Option<Timestamp>,
    /// Who closed it, if that is shown.
    pub closed_by: Option<GithubUser>,
    /// Whether only few may comment on it.
    pub locked: bool,
    /// Whether it is a pull request.
    pub pull_request: bool,
}

/// What is new in an issue.
pub fn issue(corpus: &Corpus, at: At<'_>, seen: &SeenIssue) -> Option<GithubIssueMutation> {
    let known = at.known(corpus, seen.number);
    let mut said = at.issue(seen.number);
    plain(&mut said, known.as_ref(), seen);
    flags(&mut said, known.as_ref(), seen);
    people(&mut said, known.as_ref(), seen);
    labels(&mut said, known.as_ref(), seen);
    milestone(&mut said, known.as_ref(), seen);
    let is_back = known.as_ref().is_some_and(Issue::is_gone);
    (is_back || said != at.issue(seen.number)).then_some(said)
}

fn plain(said: &mut GithubIssueMutation, known: Option<&Issue<'_>>, seen: &SeenIssue) {
    if known.is_none_or(|known| known.id() == 0) {
        said.id = seen.id;
    }
    if !known.is_some_and(Issue::is_dated) {
        said.created = Some(wire(seen.created));
    }
    if known.and_then(Issue::updated) != Some(seen.updated) {
        said.updated = Some(wire(seen.updated));
    }
    if !seen.title.is_empty() && known.is_none_or(|known| known.title() != seen.title) {
        said.title.clone_from(&seen.title);
    }
    let body = known.map(Issue::body).unwrap_or_default();
    if body != seen.body {
        said.body_change = Some(StringChange { val: seen.body.clone() });
    }
}

fn flags(said: &mut GithubIssueMutation, known: Option<&Issue<'_>>, seen: &SeenIssue) {
    let change = |before: bool, now: bool| (before != now).then_some(BoolChange { val: now });
    said.closed = change(known.is_some_and(Issue::is_closed), seen.closed);
    said.locked = change(known.is_some_and(Issue::is_locked), seen.locked);
    said.pull_request = seen.pull_request && !known.is_some_and(Issue::is_pull_request);
    if let Some(closed_at) = seen.closed_at
        && known.and_then(Issue::closed_at) != Some(closed_at)
    {
        said.closed_at = Some(wire(closed_at));
    }
}

fn people(said: &mut GithubIssueMutation, known: Option<&Issue<'_>>, seen: &SeenIssue) {
    said.user = user(known.and_then(Issue::user), seen.user.as_ref());
    // Lists may not show who closed an issue; that one that is open was closed by nobody is certain.
    if seen.closed_by.is_some() || !seen.closed {
        let closed_by = seen.closed_by.as_ref().filter(|_| seen.closed);
        said.closed_by = user(known.and_then(Issue::closed_by), closed_by);
    }
    let before: Vec<_> = known.iter().flat_map(|known| known.assignees()).collect();
    for one in seen.assignees.iter().filter(|one| one.id != 0) {
        let is_known = before.iter().any(|known| known.id == one.id && is_called(*known, one));
        if !is_known && !said.assignees.iter().any(|said| said.id == one.id) {
            said.assignees.push(one.clone());
        }
    }
    let lost =
        before.iter().map(|known| known.id).filter(|id| !seen.assignees.iter().any(|one| one.id == *id));
    said.deleted_assignees = lost.collect();
}

fn labels(said: &mut GithubIssueMutation, known: Option<&Issue<'_>>, seen: &SeenIssue) {
    let before: Vec<_> = known.iter().flat_map(|known| known.labels()).collect();
    for one in seen.labels.iter().filter(|one| one.id != 0) {
        let is_known =
            before.iter().any(|known| known.id == one.id && (one.name.is_empty() || known.name == one.name));
        if !is_known && !said.add_label.iter().any(|said| said.id == one.id) {
            said.add_label.push(one.clone());
        }
    }
    let lost = before.iter().map(|known| known.id).filter(|id| !seen.labels.iter().any(|one| one.id == *id));
    said.remove_label = lost.collect();
}

fn milestone(said: &mut GithubIssueMutation, known: Option<&Issue<'_>>, seen: &SeenIssue) {
    let before = known.map_or(MilestoneOf::Unknown, Issue::milestone);
    match (before, seen.milestone.as_ref().filter(|seen| seen.id != 0)) {
        (MilestoneOf::None, None) => {}
        (_, None) => said.no_milestone = true,
        // What it is called is told for the repository.
        (MilestoneOf::Some(before), Some(seen)) if before.id == seen.id => {}
        (_, Some(seen)) => {
            said.milestone_id = seen.id;
            said.milestone_num = seen.number;
            said.milestone_title.clone_from(&seen.title);
        }
    }
}
