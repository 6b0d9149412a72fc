//! GitHub's JSON, as far as the log has a place for it.
//!
//! Lenient, as GitHub adds fields and kinds of events whenever it likes: what is not known of an event or review is kept
//! as JSON beside it. What lacks a number or a time is an error, and never half of a thing.

mod pull;

use api::maintpb::{
    BoolChange, GithubCommit, GithubDismissedReviewEvent, GithubIssueEvent, GithubLabel, GithubMilestone,
    GithubReview, GithubReviewComment, GithubTeam, GithubUser,
};
use maintner::core::diff::{SeenComment, SeenIssue};
use serde::Deserialize;
use serde_json::{Map, Value};
use types::Timestamp;

pub(crate) use pull::{check_run, commit_status, pull};

/// What is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("`{0}` is not positive")]
    Number(&'static str),
    #[error("`{0}` is empty")]
    Empty(&'static str),
}

#[derive(Debug, Deserialize)]
struct User {
    id: i64,
    #[serde(default)]
    login: String,
}

#[derive(Debug, Deserialize)]
struct Label {
    id: i64,
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
struct Milestone {
    id: i64,
    number: i64,
    #[serde(default)]
    title: String,
    #[serde(default)]
    state: String,
}

#[derive(Debug, Deserialize)]
struct Issue {
    id: i64,
    number: i32,
    created_at: jiff::Timestamp,
    updated_at: jiff::Timestamp,
    title: Option<String>,
    body: Option<String>,
    user: Option<User>,
    assignees: Option<Vec<Option<User>>>,
    labels: Option<Vec<Label>>,
    milestone: Option<Milestone>,
    state: String,
    closed_at: Option<jiff::Timestamp>,
    closed_by: Option<User>,
    locked: Option<bool>,
    pull_request: Option<Value>,
    comments: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Comment {
    id: i64,
    user: Option<User>,
    body: Option<String>,
    created_at: jiff::Timestamp,
    updated_at: Option<jiff::Timestamp>,
}

impl From<User> for GithubUser {
    fn from(user: User) -> Self {
        Self { id: user.id, login: user.login }
    }
}

impl From<Label> for GithubLabel {
    fn from(label: Label) -> Self {
        Self { id: label.id, name: label.name }
    }
}

impl From<Milestone> for GithubMilestone {
    fn from(milestone: Milestone) -> Self {
        let closed = Some(BoolChange { val: milestone.state == "closed" });
        Self { id: milestone.id, title: milestone.title, closed, number: milestone.number }
    }
}

fn time(at: jiff::Timestamp) -> Timestamp {
    Timestamp(at.as_microsecond())
}

fn wire(at: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

/// An issue, and how many comments GitHub says it has.
pub(crate) fn issue(value: &Value) -> Result<(SeenIssue, Option<usize>), ParseError> {
    let issue = Issue::deserialize(value)?;
    if issue.number <= 0 {
        return Err(ParseError::Number("number"));
    }
    let seen = SeenIssue {
        number: issue.number,
        id: issue.id,
        created: time(issue.created_at),
        updated: time(issue.updated_at),
        title: issue.title.unwrap_or_default(),
        body: issue.body.unwrap_or_default(),
        user: issue.user.map(Into::into),
        assignees: issue.assignees.into_iter().flatten().flatten().map(Into::into).collect(),
        labels: issue.labels.into_iter().flatten().map(Into::into).collect(),
        milestone: issue.milestone.map(Into::into),
        closed: issue.state == "closed",
        closed_at: issue.closed_at.map(time),
        closed_by: issue.closed_by.map(Into::into),
        locked: issue.locked.unwrap_or(false),
        pull_request: issue.pull_request.is_some(),
    };
    Ok((seen, issue.comments))
}

/// A comment on an issue.
pub(crate) fn comment(value: &Value) -> Result<SeenComment, ParseError> {
    let comment = Comment::deserialize(value)?;
    Ok(SeenComment {
        id: positive(comment.id)?,
        user: comment.user.map(Into::into),
        body: comment.body.unwrap_or_default(),
        created: time(comment.created_at),
        updated: time(comment.updated_at.unwrap_or(comment.created_at)),
    })
}

fn positive(id: i64) -> Result<i64, ParseError> {
    if id > 0 { Ok(id) } else { Err(ParseError::Number("id")) }
}

/// A label of a repository.
pub(crate) fn label(value: &Value) -> Result<GithubLabel, ParseError> {
    let label = Label::deserialize(value)?;
    Ok(GithubLabel { id: positive(label.id)?, name: label.name })
}

/// A milestone of a repository.
pub(crate) fn milestone(value: &Value) -> Result<GithubMilestone, ParseError> {
    let milestone = Milestone::deserialize(value)?;
    positive(milestone.id)?;
    Ok(milestone.into())
}

/// What may be known of an event. Each is taken out of the map, so that what is left is what is not known.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(value: &Value) -> Self {
        let mut map = value.as_object().cloned().unwrap_or_default();
        map.retain(|_, value| !value.is_null());
        Self(map)
    }

    fn take<T: for<'d> Deserialize<'d>>(&mut self, name: &str) -> Result<Option<T>, ParseError> {
        Ok(self.0.remove(name).map(T::deserialize).transpose()?)
    }

    /// A field that may have another shape some day: then it is left among what is not known.
    fn try_take<T: for<'d> Deserialize<'d>>(&mut self, name: &str) -> Option<T> {
        let taken = T::deserialize(self.0.get(name)?).ok()?;
        self.0.remove(name);
        Some(taken)
    }

    fn id(&mut self) -> Result<i64, ParseError> {
        positive(self.take("id")?.unwrap_or(0))
    }

    fn user(&mut self, name: &str) -> i64 {
        self.try_take::<User>(name).map_or(0, |user| user.id)
    }

    /// What is left, without what says nothing.
    fn rest(mut self, without: &[&str]) -> Vec<u8> {
        self.0.retain(|name, _| !without.contains(&name.as_str()));
        if self.0.is_empty() { Vec::new() } else { Value::Object(self.0).to_string().into_bytes() }
    }
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Titled {
    title: String,
}

#[derive(Debug, Deserialize)]
struct Rename {
    from: String,
    to: String,
}

#[derive(Debug, Deserialize)]
struct Team {
    id: i64,
    slug: String,
}

#[derive(Debug, Deserialize)]
struct Dismissed {
    review_id: i64,
    #[serde(default)]
    state: String,
    dismissal_message: Option<String>,
}

/// Something that happened to an issue.
pub(crate) fn event(value: &Value) -> Result<GithubIssueEvent, ParseError> {
    let mut fields = Fields::of(value);
    let id = fields.id()?;
    let created: Option<jiff::Timestamp> = fields.take("created_at")?;
    let (from, to) =
        fields.try_take("rename").map(|rename: Rename| (rename.from, rename.to)).unwrap_or_default();
    let dismissed = fields.try_take("dismissed_review").map(|review: Dismissed| GithubDismissedReviewEvent {
        review_id: review.review_id,
        dismissal_message: review.dismissal_message.unwrap_or_default(),
        state: review.state,
    });
    Ok(GithubIssueEvent {
        id,
        event_type: fields.try_take("event").unwrap_or_default(),
        actor_id: fields.user("actor"),
        created: created.map(wire),
        label: fields.try_take("label").map(|label: Named| GithubLabel { id: 0, name: label.name }),
        milestone: fields.try_take("milestone").map(|milestone: Titled| GithubMilestone {
            title: milestone.title,
            ..GithubMilestone::default()
        }),
        assignee_id: fields.user("assignee"),
        assigner_id: fields.user("assigner"),
        commit: commit(&mut fields),
        rename_from: from,
        rename_to: to,
        reviewer_id: fields.user("requested_reviewer"),
        review_requester_id: fields.user("review_requester"),
        dismissed_review: dismissed,
        team_reviewer: fields
            .try_take("requested_team")
            .map(|team: Team| GithubTeam { id: team.id, slug: team.slug }),
        other_json: fields.rest(&["url", "node_id", "lock_reason"]).into(),
    })
}

/// The commit of an event, whose repository is in its address only.
fn commit(fields: &mut Fields) -> Option<GithubCommit> {
    let commit_id: String = fields.try_take("commit_id")?;
    let url: String = fields.try_take("commit_url").unwrap_or_default();
    let place = url.split_once("/repos/").and_then(|(_, rest)| rest.split_once("/commits/"));
    let (owner, repo) = place.and_then(|(place, _)| place.split_once('/')).unwrap_or_default();
    Some(GithubCommit { owner: owner.to_owned(), repo: repo.to_owned(), commit_id })
}

/// A review of a pull request; none if it is not submitted yet.
pub(crate) fn review(value: &Value) -> Result<Option<GithubReview>, ParseError> {
    let mut fields = Fields::of(value);
    let id = fields.id()?;
    let state: String = fields.take("state")?.unwrap_or_default();
    let created: Option<jiff::Timestamp> = fields.take("submitted_at")?;
    if state == "PENDING" {
        return Ok(None);
    }
    Ok(Some(GithubReview {
        id,
        actor_id: fields.user("user"),
        created: created.map(wire),
        body: fields.try_take("body").unwrap_or_default(),
        state,
        commit_id: fields.try_take("commit_id").unwrap_or_default(),
        actor_association: fields.try_take("author_association").unwrap_or_default(),
        other_json: fields.rest(&["node_id", "html_url", "pull_request_url", "_links"]).into(),
    }))
}

#[derive(Debug, Deserialize)]
struct ReviewComment {
    id: i64,
    pull_request_review_id: Option<i64>,
    user: Option<User>,
    body: Option<String>,
    path: Option<String>,
    line: Option<i32>,
    start_line: Option<i32>,
    original_line: Option<i32>,
    side: Option<String>,
    commit_id: Option<String>,
    original_commit_id: Option<String>,
    in_reply_to_id: Option<i64>,
    created_at: jiff::Timestamp,
    updated_at: jiff::Timestamp,
}

/// A comment on lines of a pull request.
pub(crate) fn review_comment(value: &Value) -> Result<GithubReviewComment, ParseError> {
    let comment = ReviewComment::deserialize(value)?;
    Ok(GithubReviewComment {
        id: positive(comment.id)?,
        review_id: comment.pull_request_review_id.unwrap_or(0),
        actor_id: comment.user.map_or(0, |user| user.id),
        body: comment.body.unwrap_or_default(),
        path: comment.path.unwrap_or_default(),
        line: comment.line.unwrap_or(0),
        start_line: comment.start_line.unwrap_or(0),
        original_line: comment.original_line.unwrap_or(0),
        side: comment.side.unwrap_or_default(),
        commit_id: comment.commit_id.unwrap_or_default(),
        original_commit_id: comment.original_commit_id.unwrap_or_default(),
        in_reply_to: comment.in_reply_to_id.unwrap_or(0),
        created: Some(wire(comment.created_at)),
        updated: Some(wire(comment.updated_at)),
    })
}

#[cfg(test)]
mod tests;
