//! Issues, pull requests, and what happens to them.

use api::maintpb::{
    BoolChange, GithubCheck, GithubChecks, GithubCommit, GithubDismissedReviewEvent,
    GithubIssueCommentMutation, GithubIssueEvent, GithubIssueMutation, GithubIssueSyncStatus, GithubLabel,
    GithubMilestone, GithubMutation, GithubPull, GithubReview, GithubTeam, GithubUser, Mutation,
    StringChange,
};
use prost_types::Timestamp;

use super::{Generator, Scale, random::Random, text::line};

const LABELS: &[&str] = &[
    "NeedsInvestigation",
    "NeedsFix",
    "NeedsDecision",
    "help wanted",
    "Documentation",
    "Performance",
    "OS-Windows",
    "OS-Darwin",
    "compiler/runtime",
    "Testing",
    "FrozenDueToAge",
    "release-blocker",
    "early-in-cycle",
    "Proposal",
];
/// Events that only say who did them, and when.
const PLAIN: &[&str] = &[
    "locked",
    "unlocked",
    "subscribed",
    "mentioned",
    "comment_deleted",
    "head_ref_restored",
    "pinned_by_a_later_api",
];
const REPOSITORIES: &[&str] = &["go", "go", "go", "tools", "vscode-go", "net"];

#[derive(Debug, Clone)]
struct Issue {
    repository: usize,
    number: i32,
    pull_request: bool,
    closed: bool,
    gone: bool,
    labels: Vec<usize>,
    last_comment: i64,
}

/// What is there on GitHub.
#[derive(Debug, Clone)]
pub(super) struct Github {
    issues: Vec<Issue>,
    next_numbers: [i32; REPOSITORIES.len()],
    next_id: i64,
    users: usize,
}

impl Github {
    pub(super) fn new(scale: Scale) -> Self {
        let users = 20 + scale.issues / 4;
        Self { issues: Vec::new(), next_numbers: [1; REPOSITORIES.len()], next_id: 20_000_000, users }
    }

    fn id(&mut self) -> i64 {
        self.next_id += 7;
        self.next_id
    }

    /// Mostly a late issue, often one that everybody talks about.
    fn some_issue(&self, random: &mut Random) -> Option<usize> {
        let count = self.issues.len();
        let at = match random.below(4) {
            0 => random.skewed(count.div_ceil(500)) * 500,
            1 => random.below(count),
            _ => count.wrapping_sub(1).wrapping_sub(random.skewed(count)),
        };
        (at < count && !self.issues[at].gone).then_some(at)
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

fn user(number: usize) -> GithubUser {
    GithubUser { id: 100_000 + 17 * number as i64, login: format!("gopher{number}") }
}

/// What a pull request wants to merge after the push with this number.
fn pull(number: i32, push: i64) -> GithubPull {
    GithubPull {
        head_sha: format!("{number:020x}{push:020x}"),
        head_ref: format!("fix-{number}"),
        head_repository: format!("gopher{number}/go"),
        base_ref: "master".into(),
        draft: push % 3 == 0,
        ..GithubPull::default()
    }
}

fn checks(sha: &str, id: i64) -> GithubChecks {
    let check = |(nth, name): (i64, &&str)| GithubCheck {
        id: id + nth,
        name: (*name).into(),
        app: "gopherbot".into(),
        conclusion: if (id + nth) % 4 == 0 { String::new() } else { "success".into() },
        ..GithubCheck::default()
    };
    GithubChecks { sha: sha.into(), checks: (0..).zip(&["build", "cla", "vet"]).map(check).collect() }
}

fn label(number: usize) -> GithubLabel {
    GithubLabel { id: 373_000_000 + number as i64, name: LABELS[number].into() }
}

fn milestone(number: usize) -> GithubMilestone {
    let closed = Some(BoolChange { val: number < 10 });
    GithubMilestone {
        id: 900_000 + number as i64,
        title: format!("Go1.{number}"),
        closed,
        number: number as i64,
    }
}

impl Generator {
    pub(super) fn begin_github(&mut self) {
        let milestones: Vec<GithubMilestone> = (4..24).map(milestone).collect();
        for name in ["go", "tools", "vscode-go", "net"] {
            let github = GithubMutation {
                owner: "golang".into(),
                repo: name.into(),
                labels: (0..LABELS.len()).map(label).collect(),
                milestones: milestones.clone(),
                ..GithubMutation::default()
            };
            self.queue.push_back(Mutation { github: Some(github), ..Mutation::default() });
        }
    }

    fn some_user(&mut self) -> GithubUser {
        user(self.random.skewed(self.github.users))
    }

    /// An empty mutation of this issue.
    fn of(&self, issue: usize) -> GithubIssueMutation {
        let issue = &self.github.issues[issue];
        GithubIssueMutation {
            owner: "golang".into(),
            repo: REPOSITORIES[issue.repository].into(),
            number: issue.number,
            ..GithubIssueMutation::default()
        }
    }

    fn send(&mut self, issue: GithubIssueMutation) {
        self.queue.push_back(Mutation { github_issue: Some(issue), ..Mutation::default() });
    }

    fn status(&self) -> GithubIssueSyncStatus {
        GithubIssueSyncStatus { server_date: Some(at(self.now + 3)) }
    }

    /// One more issue that is there, after some numbers that are not: deleted, or moved elsewhere.
    pub(super) fn new_issue(&mut self) {
        self.left.issues -= 1;
        let gone = usize::from(self.random.once_in(150));
        for nth in (0..=gone).rev() {
            self.add_issue(nth > 0);
        }
    }

    fn add_issue(&mut self, gone: bool) {
        // The first three name the same repository.
        let repository = self.random.below(REPOSITORIES.len()).max(2);
        let number = self.github.next_numbers[repository];
        self.github.next_numbers[repository] += 1;
        let pull_request = self.random.once_in(10);
        let issue = Issue {
            repository,
            number,
            pull_request,
            closed: false,
            gone,
            labels: Vec::new(),
            last_comment: 0,
        };
        self.github.issues.push(issue);
        let mut issue = self.of(self.github.issues.len() - 1);
        if gone {
            issue.not_exist = true;
            return self.send(issue);
        }
        issue.id = self.github.id();
        issue.user = Some(self.some_user());
        (issue.created, issue.updated) = (Some(at(self.now)), Some(at(self.now)));
        issue.title = line(&mut self.random, 7);
        issue.pull_request = pull_request;
        issue.pull = pull_request.then(|| pull(number, issue.id));
        issue.no_milestone = self.random.once_in(3);
        let length = self.random.length(600);
        let body = self.text.some(&mut self.random, length).to_owned();
        // The first third of the log is from before the field for changes of bodies.
        if number < 1000 {
            issue.body = body;
        } else {
            issue.body_change = Some(StringChange { val: body });
        }
        self.send(issue);
    }

    pub(super) fn new_comments(&mut self) {
        let Some(which) = self.github.some_issue(&mut self.random) else { return };
        let count = if self.random.once_in(20) { self.random.between(2, 9) } else { 1 };
        let count = count.min(self.left.comments);
        self.left.comments -= count;
        let mut issue = self.of(which);
        issue.updated = Some(at(self.now));
        issue.comment = (0..count).map(|_| self.comment()).collect();
        self.github.issues[which].last_comment = issue.comment[count - 1].id;
        if self.random.once_in(2) {
            issue.comment_status = Some(self.status());
        }
        self.send(issue);
    }

    fn comment(&mut self) -> GithubIssueCommentMutation {
        let length = self.random.length(260);
        GithubIssueCommentMutation {
            id: self.github.id(),
            user: Some(self.some_user()),
            body: self.text.some(&mut self.random, length).to_owned(),
            // As listed: not always in the order of their time.
            created: Some(at(self.now - self.random.below(400) as i64)),
            updated: Some(at(self.now)),
        }
    }

    pub(super) fn update_issue(&mut self) {
        let Some(which) = self.github.some_issue(&mut self.random) else { return };
        self.left.updates -= 1;
        let mut issue = self.of(which);
        issue.updated = Some(at(self.now));
        let pull_request = self.github.issues[which].pull_request;
        match self.random.below(20) {
            0..7 => self.change_labels(which, &mut issue),
            7..10 => self.close_or_reopen(which, &mut issue),
            10..12 => self.change_milestone(&mut issue),
            12 | 13 => self.assign(&mut issue),
            14 => self.rename(&mut issue),
            15 => self.edit_comment(which, &mut issue),
            16 if self.random.once_in(40) => {
                issue.not_exist = true;
                issue.updated = None;
                self.github.issues[which].gone = true;
            }
            17..19 if pull_request => self.review(&mut issue),
            _ => self.something_else(&mut issue),
        }
        if self.random.once_in(2) && !issue.not_exist {
            issue.event_status = Some(self.status());
        }
        self.send(issue);
    }

    fn event(&mut self, kind: &str) -> GithubIssueEvent {
        GithubIssueEvent {
            id: self.github.id(),
            event_type: kind.into(),
            actor_id: self.some_user().id,
            created: Some(at(self.now)),
            ..GithubIssueEvent::default()
        }
    }

    fn change_labels(&mut self, which: usize, issue: &mut GithubIssueMutation) {
        let number = self.random.skewed(LABELS.len());
        let labels = &mut self.github.issues[which].labels;
        let kind = if let Some(at) = labels.iter().position(|other| *other == number) {
            labels.remove(at);
            issue.remove_label.push(label(number).id);
            "unlabeled"
        } else {
            labels.push(number);
            issue.add_label.push(label(number));
            "labeled"
        };
        let mut event = self.event(kind);
        event.label = Some(GithubLabel { id: 0, name: LABELS[number].into() });
        issue.event.push(event);
    }

    fn close_or_reopen(&mut self, which: usize, issue: &mut GithubIssueMutation) {
        let closed = !self.github.issues[which].closed;
        self.github.issues[which].closed = closed;
        issue.closed = Some(BoolChange { val: closed });
        issue.closed_at = closed.then(|| at(self.now));
        let mut event = self.event(if closed { "closed" } else { "reopened" });
        if closed && self.random.once_in(3) {
            let commit_id = format!("{:016x}{:024x}", self.random.next(), self.random.next());
            event.commit = Some(GithubCommit { owner: "golang".into(), repo: "go".into(), commit_id });
        }
        issue.event.push(event);
    }

    fn change_milestone(&mut self, issue: &mut GithubIssueMutation) {
        let new = milestone(self.random.between(4, 24));
        let mut event = self.event("milestoned");
        event.milestone = Some(GithubMilestone { title: new.title.clone(), ..GithubMilestone::default() });
        issue.event.push(event);
        (issue.milestone_id, issue.milestone_num, issue.milestone_title) = (new.id, new.number, new.title);
    }

    fn assign(&mut self, issue: &mut GithubIssueMutation) {
        let (assignee, assigner) = (self.some_user(), self.some_user());
        let added = !self.random.once_in(3);
        let mut event = self.event(if added { "assigned" } else { "unassigned" });
        (event.assignee_id, event.assigner_id) = (assignee.id, assigner.id);
        issue.event.push(event);
        if added {
            issue.assignees.push(assignee);
        } else {
            issue.deleted_assignees.push(assignee.id);
        }
    }

    fn rename(&mut self, issue: &mut GithubIssueMutation) {
        let mut event = self.event("renamed");
        event.rename_from = line(&mut self.random, 6);
        event.rename_to = line(&mut self.random, 7);
        issue.title.clone_from(&event.rename_to);
        issue.event.push(event);
    }

    fn edit_comment(&mut self, which: usize, issue: &mut GithubIssueMutation) {
        let id = self.github.issues[which].last_comment;
        if id == 0 {
            return self.something_else(issue);
        }
        let length = self.random.length(200);
        let body = self.text.some(&mut self.random, length).to_owned();
        let updated = Some(at(self.now));
        issue.comment.push(GithubIssueCommentMutation { id, body, updated, ..Default::default() });
    }

    fn review(&mut self, issue: &mut GithubIssueMutation) {
        let length = self.random.length(150);
        issue.review.push(GithubReview {
            id: self.github.id(),
            actor_id: self.some_user().id,
            created: Some(at(self.now)),
            body: self.text.some(&mut self.random, length).to_owned(),
            state: (*self.random.pick(&["APPROVED", "COMMENTED", "CHANGES_REQUESTED"])).into(),
            commit_id: format!("{:016x}{:024x}", self.random.next(), self.random.next()),
            actor_association: "CONTRIBUTOR".into(),
            other_json: Vec::new().into(),
        });
        issue.review_status = Some(self.status());
        let id = self.github.id();
        let pull = pull(issue.number, id);
        issue.checks = Some(checks(&pull.head_sha, id));
        issue.pull = Some(pull);
        issue.pull_status = Some(self.status());
    }

    fn something_else(&mut self, issue: &mut GithubIssueMutation) {
        let kind = *self.random.pick(PLAIN);
        let mut event = self.event(kind);
        match kind {
            "locked" | "unlocked" => issue.locked = Some(BoolChange { val: kind == "locked" }),
            "pinned_by_a_later_api" => event.other_json = br#"{"pin":{"slot":2}}"#.to_vec().into(),
            "mentioned" if self.random.once_in(4) => {
                event.event_type = "review_dismissed".into();
                let review_id = self.github.next_id;
                let state = "commented".into();
                let dismissal_message = "outdated".into();
                event.dismissed_review =
                    Some(GithubDismissedReviewEvent { review_id, dismissal_message, state });
            }
            "mentioned" if self.random.once_in(4) => {
                event.event_type = "review_requested".into();
                event.review_requester_id = event.actor_id;
                event.team_reviewer = Some(GithubTeam { id: 77, slug: "runtime".into() });
            }
            _ => {}
        }
        issue.event.push(event);
    }
}
