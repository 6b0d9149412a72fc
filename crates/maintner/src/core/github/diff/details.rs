//! What belongs to an issue: comments, events, reviews.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
};

use api::maintpb::{
    GithubCheck, GithubChecks, GithubIssueCommentMutation, GithubIssueEvent, GithubIssueMutation, GithubPull,
    GithubReview, GithubReviewComment, GithubUser,
};
use prost::Message as _;
use types::Timestamp;

use super::{At, Issue, status, user, wire};
use crate::core::{Corpus, github::Comment};

/// Things in one mutation.
const AT_ONCE: usize = 100;
/// And their bytes, but for one that is longer.
const BYTES_AT_ONCE: usize = 1 << 20;

/// A comment, as GitHub shows it now.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenComment {
    /// GitHub's number of it.
    pub id: i64,
    /// Who wrote it; nobody if their account is deleted.
    pub user: Option<GithubUser>,
    /// What it says.
    pub body: String,
    /// When it was written.
    pub created: Timestamp,
    /// When it was last edited.
    pub updated: Timestamp,
}

/// What belongs to an issue, as far as it was looked at.
#[derive(Debug, Clone, Default)]
pub struct SeenDetails {
    /// Comments.
    pub comments: Vec<SeenComment>,
    /// Whether these are all comments: others are deleted.
    pub all_comments: bool,
    /// When all comments that were new had been seen, by GitHub's clock.
    pub comments_at: Option<Timestamp>,
    /// Events.
    pub events: Vec<GithubIssueEvent>,
    /// When all events had been seen.
    pub events_at: Option<Timestamp>,
    /// Reviews.
    pub reviews: Vec<GithubReview>,
    /// When all reviews had been seen.
    pub reviews_at: Option<Timestamp>,
    /// Comments on lines.
    pub review_comments: Vec<GithubReviewComment>,
    /// Whether these are all comments on lines: others are deleted.
    pub all_review_comments: bool,
    /// When all comments on lines had been seen.
    pub review_comments_at: Option<Timestamp>,
    /// What a pull request wants to merge where.
    pub pull: Option<GithubPull>,
    /// What all checks say of its head.
    pub checks: Option<GithubChecks>,
    /// When both had been seen, or need not be seen.
    pub pull_at: Option<Timestamp>,
}

/// A part of what is new.
enum News {
    Comment(GithubIssueCommentMutation),
    Event(Box<GithubIssueEvent>),
    Review(GithubReview),
    ReviewComment(Box<GithubReviewComment>),
}

impl News {
    fn len(&self) -> usize {
        match self {
            Self::Comment(comment) => comment.encoded_len(),
            Self::Event(event) => event.encoded_len(),
            Self::Review(review) => review.encoded_len(),
            Self::ReviewComment(comment) => comment.encoded_len(),
        }
    }
}

/// What is new in the details of an issue that exists, in pieces, the times in the last; nothing of any other.
pub fn details(corpus: &Corpus, at: At<'_>, number: i32, seen: &SeenDetails) -> Vec<GithubIssueMutation> {
    let Some(known) = at.known(corpus, number).filter(Issue::is_complete) else { return Vec::new() };
    let mut news: Vec<News> = comments(&known, &seen.comments).map(News::Comment).collect();
    let events: BTreeSet<i64> = known.events().map(|event| event.id()).collect();
    // What happened stays as it was told first.
    let new = seen.events.iter().filter(|event| event.id != 0 && !events.contains(&event.id));
    news.extend(each_last(new, |event| event.id).map(|event| News::Event(Box::new(event.clone()))));
    let reviews: BTreeMap<i64, GithubReview> =
        known.reviews().map(|review| (review.id(), review.whole())).collect();
    let new = seen.reviews.iter().filter(|review| review.id != 0);
    let changed =
        each_last(new, |review| review.id).filter(|review| reviews.get(&review.id) != Some(*review));
    news.extend(changed.cloned().map(News::Review));
    news.extend(review_comments(&known, &seen.review_comments));
    let mut pieces = Vec::new();
    let mut rest = news.into_iter().peekable();
    while rest.peek().is_some() {
        pieces.push(piece(at, number, &mut rest));
    }
    let last = last(at, &known, seen);
    match pieces.last_mut() {
        Some(piece) => {
            piece.deleted_comments = last.deleted_comments;
            piece.deleted_review_comments = last.deleted_review_comments;
            piece.review_comment_status = last.review_comment_status;
            piece.comment_status = last.comment_status;
            piece.event_status = last.event_status;
            piece.review_status = last.review_status;
            piece.pull = last.pull;
            piece.checks = last.checks;
            piece.pull_status = last.pull_status;
        }
        None if last != at.issue(number) => pieces.push(last),
        None => {}
    }
    pieces
}

/// As much as one mutation should hold.
fn piece(at: At<'_>, number: i32, news: &mut Peekable<impl Iterator<Item = News>>) -> GithubIssueMutation {
    let mut piece = at.issue(number);
    let (mut count, mut bytes) = (0, 0);
    while let Some(one) = news.next_if(|one| count == 0 || bytes + one.len() <= BYTES_AT_ONCE) {
        (count, bytes) = (count + 1, bytes + one.len());
        match one {
            News::Comment(comment) => piece.comment.push(comment),
            News::Event(event) => piece.event.push(*event),
            News::Review(review) => piece.review.push(review),
            News::ReviewComment(comment) => piece.review_comments.push(*comment),
        }
        if count == AT_ONCE {
            break;
        }
    }
    piece
}

/// What is said when all that is new was said: what is gone, and up to when all is known.
fn last(at: At<'_>, known: &Issue<'_>, seen: &SeenDetails) -> GithubIssueMutation {
    let mut last = at.issue(known.number());
    if seen.all_comments {
        let there: BTreeSet<i64> = seen.comments.iter().map(|comment| comment.id).collect();
        last.deleted_comments =
            known.comments().map(|comment| comment.id()).filter(|id| !there.contains(id)).collect();
    }
    let later = |known: Option<Timestamp>, seen: Option<Timestamp>| {
        seen.filter(|seen| known.is_none_or(|known| known < *seen))
    };
    last.comment_status = later(known.comments_synced(), seen.comments_at).map(status);
    last.event_status = later(known.events_synced(), seen.events_at).map(status);
    if seen.all_review_comments {
        let there: BTreeSet<i64> = seen.review_comments.iter().map(|comment| comment.id).collect();
        let ids = known.review_comments().map(|comment| comment.id);
        last.deleted_review_comments = ids.filter(|id| !there.contains(id)).collect();
    }
    last.review_comment_status = later(known.review_comments_synced(), seen.review_comments_at).map(status);
    last.review_status = later(known.reviews_synced(), seen.reviews_at).map(status);
    last.pull = seen.pull.clone().filter(|pull| known.pull().unwrap_or_default() != *pull);
    let checks = seen.checks.clone().map(sorted);
    last.checks = checks.filter(|checks| known.checks().unwrap_or_default() != *checks);
    last.pull_status = later(known.pull_synced(), seen.pull_at).map(status);
    last
}

/// Checks in their order, whatever the order in which pages showed them; of those shown twice the later word.
fn sorted(mut checks: GithubChecks) -> GithubChecks {
    let all = std::mem::take(&mut checks.checks);
    let by_name = |check: GithubCheck| ((check.app.clone(), check.name.clone(), check.id), check);
    checks.checks = all.into_iter().map(by_name).collect::<BTreeMap<_, _>>().into_values().collect();
    checks
}

fn review_comments(issue: &Issue<'_>, seen: &[GithubReviewComment]) -> Vec<News> {
    let known: BTreeMap<i64, GithubReviewComment> =
        issue.review_comments().map(|comment| (comment.id, comment)).collect();
    let all = each_last(seen.iter().filter(|comment| comment.id != 0), |comment| comment.id);
    let news = all.filter(|comment| known.get(&comment.id) != Some(*comment));
    news.map(|comment| News::ReviewComment(Box::new(comment.clone()))).collect()
}

/// Of things with the same number only the last: pages may show one twice.
fn each_last<'s, T: 's>(
    all: impl DoubleEndedIterator<Item = &'s T>,
    id: impl Fn(&T) -> i64,
) -> impl Iterator<Item = &'s T> {
    let mut said = BTreeSet::new();
    let mut kept: Vec<&T> = all.rev().filter(|one| said.insert(id(one))).collect();
    kept.reverse();
    kept.into_iter()
}

fn comments<'s>(
    issue: &Issue<'_>,
    seen: &'s [SeenComment],
) -> impl Iterator<Item = GithubIssueCommentMutation> + use<'s> {
    let known: BTreeMap<i64, Comment<'_>> = issue.comments().map(|comment| (comment.id(), comment)).collect();
    let all = each_last(seen.iter().filter(|comment| comment.id != 0), |comment| comment.id);
    let news: Vec<_> = all.filter_map(|seen| comment(known.get(&seen.id), seen)).collect();
    news.into_iter()
}

fn comment(known: Option<&Comment<'_>>, seen: &SeenComment) -> Option<GithubIssueCommentMutation> {
    let mut said = GithubIssueCommentMutation { id: seen.id, ..GithubIssueCommentMutation::default() };
    said.user = match known {
        // That its author is gone now cannot be said of a comment.
        Some(known) if seen.user.is_some() => user(known.user(), seen.user.as_ref()),
        Some(_) => None,
        None => seen.user.clone(),
    };
    if known.is_none_or(|known| known.body() != seen.body) {
        said.body.clone_from(&seen.body);
    }
    if known.and_then(Comment::created) != Some(seen.created) {
        said.created = Some(wire(seen.created));
    }
    if known.and_then(Comment::updated) != Some(seen.updated) {
        said.updated = Some(wire(seen.updated));
    }
    let empty = GithubIssueCommentMutation { id: seen.id, ..GithubIssueCommentMutation::default() };
    (known.is_none() || said != empty).then_some(said)
}
