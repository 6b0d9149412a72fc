//! Issues and what belongs to them, in arenas. Mutations are applied as Go's maintner does, so that both see the same.

mod apply;
pub mod diff;
mod view;
mod warm;

use std::collections::BTreeMap;

use types::Timestamp;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    payloads::Span,
    pool::{List, Pool},
    rows::Rows,
    strings::Text,
    table::{Table, mix},
};

pub use view::{
    Assignment, Comment, Event, Github, Gone, Issue, Label, Milestone, MilestoneOf, Repository, Review, Team,
    User,
};

/// A time that was never told.
const NEVER: i64 = i64::MIN;

const NOT_EXIST: u32 = 1;
const PULL_REQUEST: u32 = 2;
const CLOSED: u32 = 4;
const LOCKED: u32 = 8;
/// Why it does not exist: the upper half of the flags.
const REASON: u32 = 16;

/// In place of the index of an issue, a label or a milestone's repository: it is deleted. The row stays, since others
/// have its index.
const DELETED: u32 = u32::MAX;

/// No milestone was told; or that there is none. Otherwise the index plus two.
const MILESTONE_UNKNOWN: u32 = 0;
const MILESTONE_NONE: u32 = 1;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RepositoryRow {
    owner: Text,
    name: Text,
    issues_synced: i64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct IssueRow {
    id: i64,
    created: i64,
    updated: i64,
    closed_at: i64,
    comments_synced: i64,
    events_synced: i64,
    reviews_synced: i64,
    review_comments_synced: i64,
    pull_synced: i64,
    /// A `GithubPull`.
    pull: Span,
    /// A `GithubChecks`.
    checks: Span,
    title: Span,
    body: Span,
    labels: List,
    assignees: List,
    comments: List,
    events: List,
    reviews: List,
    review_comments: List,
    repository: u32,
    number: i32,
    /// An index plus one.
    user: u32,
    closed_by: u32,
    milestone: u32,
    flags: u32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct CommentRow {
    id: i64,
    created: i64,
    updated: i64,
    body: Span,
    issue: u32,
    /// An index plus one.
    user: u32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct EventRow {
    id: i64,
    created: i64,
    actor: i64,
    span: Span,
    issue: u32,
    kind: Text,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ReviewRow {
    id: i64,
    created: i64,
    actor: i64,
    span: Span,
    issue: u32,
    state: Text,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct UserRow {
    id: i64,
    login: Text,
    unused: u32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct LabelRow {
    id: i64,
    repository: u32,
    name: Text,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct MilestoneRow {
    id: i64,
    number: i64,
    repository: u32,
    title: Text,
    /// 0 or 1, and 2 if it was never told.
    closed: u32,
    unused: u32,
}

/// A comment on lines of a pull request, and where it is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ReviewCommentCell {
    pub(super) id: i64,
    pub(super) span: Span,
}

/// All that is known of GitHub.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) repositories: Rows<RepositoryRow>,
    pub(super) issues: Rows<IssueRow>,
    pub(super) comments: Rows<CommentRow>,
    pub(super) events: Rows<EventRow>,
    pub(super) reviews: Rows<ReviewRow>,
    pub(super) users: Rows<UserRow>,
    pub(super) labels: Rows<LabelRow>,
    pub(super) milestones: Rows<MilestoneRow>,
    /// Labels, assignees, comments, events and reviews of issues, in their orders.
    pub(super) lists: Pool<u32>,
    /// Comments on lines of pull requests.
    pub(super) review_comments: Pool<ReviewCommentCell>,
    /// By owner and name.
    pub(super) repository_order: BTreeMap<(String, String), u32>,
    /// By repository and number.
    pub(super) issue_order: BTreeMap<(u32, i32), u32>,
    pub(super) label_order: BTreeMap<(u32, i64), u32>,
    pub(super) milestone_order: BTreeMap<(u32, i64), u32>,
    pub(super) issue_table: Table,
    pub(super) comment_table: Table,
    pub(super) event_table: Table,
    pub(super) review_table: Table,
    pub(super) user_table: Table,
}

fn key(first: u32, second: i64) -> u64 {
    mix(u64::from(first), second as u64)
}

fn time(at: i64) -> Option<Timestamp> {
    (at != NEVER).then_some(Timestamp(at))
}

impl State {
    /// Makes what is in order again from the things themselves. Nothing if an index leads nowhere.
    pub(super) fn index(&mut self, text: impl Fn(Text) -> String) -> Option<()> {
        for (at, row) in (0..).zip(self.repositories.iter()) {
            self.repository_order.insert((text(row.owner), text(row.name)), at);
        }
        let repositories = self.repositories.len() as u32;
        let issues = self.issues.len() as u32;
        let mut order = Vec::with_capacity(self.issues.len());
        for (at, row) in (0..).zip(self.issues.iter()) {
            order.push(((row.repository, row.number), at));
        }
        order.sort_unstable();
        self.issue_order = order.into_iter().collect();
        let labels = (0..).zip(self.labels.iter()).filter(|(_, row)| row.repository != DELETED);
        self.label_order = labels.map(|(at, row)| ((row.repository, row.id), at)).collect();
        let milestones = (0..).zip(self.milestones.iter()).filter(|(_, row)| row.repository != DELETED);
        self.milestone_order = milestones.map(|(at, row)| ((row.repository, row.id), at)).collect();
        let users = self.users.len() as u32;
        let inside = self.issues.iter().all(|row| row.repository < repositories && row.user <= users)
            && self
                .comments
                .iter()
                .all(|row| row.issue == DELETED || row.issue < issues && row.user <= users)
            && self.events.iter().all(|row| row.issue < issues)
            && self.reviews.iter().all(|row| row.issue < issues);
        inside.then_some(())
    }

    pub(super) fn review_comment_count(row: &IssueRow) -> usize {
        row.review_comments.len()
    }

    pub(super) fn find_repository(&self, owner: &str, name: &str) -> Option<u32> {
        self.repository_order.get(&(owner.to_owned(), name.to_owned())).copied()
    }

    fn find_issue(&self, repository: u32, number: i32) -> Option<u32> {
        let hash = key(repository, i64::from(number));
        self.issue_table.find(hash, |at| {
            let row = &self.issues[at as usize];
            row.repository == repository && row.number == number
        })
    }

    fn find_comment(&self, issue: u32, id: i64) -> Option<u32> {
        self.comment_table.find(key(issue, id), |at| {
            let row = &self.comments[at as usize];
            row.issue == issue && row.id == id
        })
    }

    fn find_user(&self, id: i64) -> Option<u32> {
        self.user_table.find(key(0, id), |at| self.users[at as usize].id == id)
    }

    /// What is wrong with the lists of issues.
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if self.issue_order.len() != self.issues.len() {
            problems.push(format!(
                "{} issues are there, {} in order",
                self.issues.len(),
                self.issue_order.len()
            ));
        }
        let mut comments = 0;
        for (at, issue) in (0..).zip(self.issues.iter()) {
            let list = self.lists.get(issue.comments);
            comments += list.len();
            let order = |row: u32| self.comments.get(row as usize).map(|row| (row.created, row.id));
            if !list.is_sorted_by_key(|row| order(*row)) {
                problems.push(format!("the comments of issue {} are not in order", issue.number));
            }
            if self.find_issue(issue.repository, issue.number) != Some(at) {
                problems.push(format!("issue {} is not found by its number", issue.number));
            }
        }
        let there = self.comments.iter().filter(|row| row.issue != DELETED).count();
        if comments != there {
            problems.push(format!("{there} comments are there, {comments} in issues"));
        }
    }
}
