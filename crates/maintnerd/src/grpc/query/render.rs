//! Objects of the corpus as messages.

use api::maintner::{
    Change, ChangeMessage, ChangeStatus, ChangedFile, Check, Comment, Commit, GetChangeResponse,
    InlineComment, Issue, IssueKind, IssueState, Participant, ParticipantRole, PatchSet, PullRequest,
    TextRange, Vote,
};
use maintner::core::{self, MilestoneOf, Role, Status, User};
use types::CommitHash;

/// Longer texts are cut, so that what has many of them fits a message.
const MAX_TEXT: usize = 64 * 1024;
/// The most files of one commit, messages of one change, and so on.
const MAX_PARTS: usize = 10_000;
/// All texts of one change together.
const MAX_TEXTS: usize = rpc::MAX_MESSAGE / 4;

/// The beginning of a long text, up to the end of a character.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

pub(super) fn commit(commit: &maintner::Commit<'_>, with_files: bool) -> Commit {
    let file = |file: core::FileChange<'_>| ChangedFile {
        path: file.path.into_owned(),
        added: file.added,
        deleted: file.deleted,
        binary: file.binary,
    };
    let files = commit.files().take(if with_files { MAX_PARTS } else { 0 });
    Commit {
        commit: commit.hash().to_string(),
        parents: commit.parents().map(|parent: CommitHash| parent.to_string()).collect(),
        author: commit.author().to_owned(),
        committer: commit.committer().to_owned(),
        authored: Some(rpc::timestamp(commit.authored())),
        committed: Some(rpc::timestamp(commit.committed())),
        message: cut(&commit.message()).to_owned(),
        generation: commit.generation(),
        files: files.map(file).collect(),
    }
}

/// The status that a filter names; none if it names none.
pub(super) fn status_of(status: ChangeStatus) -> Option<Status> {
    match status {
        ChangeStatus::Unspecified => None,
        ChangeStatus::New => Some(Status::New),
        ChangeStatus::Merged => Some(Status::Merged),
        ChangeStatus::Abandoned => Some(Status::Abandoned),
        ChangeStatus::Draft => Some(Status::Draft),
    }
}

fn status(status: Status) -> ChangeStatus {
    match status {
        Status::New => ChangeStatus::New,
        Status::Merged => ChangeStatus::Merged,
        Status::Abandoned => ChangeStatus::Abandoned,
        Status::Draft => ChangeStatus::Draft,
    }
}

pub(super) fn change(change: &core::Change<'_>) -> Change {
    let vote = |vote: core::Vote<'_>| Vote {
        label: vote.label.to_owned(),
        voter: vote.voter.to_owned(),
        value: i32::from(vote.value),
        patch_set: vote.patch_set,
    };
    Change {
        project: change.project().name().to_owned(),
        number: change.number(),
        change_id: change.change_id().unwrap_or_default(),
        status: status(change.status()).into(),
        private: change.is_private(),
        work_in_progress: change.is_work_in_progress(),
        subject: change.subject(),
        branch: change.branch().to_owned(),
        topic: change.topic().to_owned(),
        hashtags: change.hashtags().map(str::to_owned).collect(),
        owner: change.owner().to_owned(),
        created: Some(rpc::timestamp(change.created())),
        updated: Some(rpc::timestamp(change.updated())),
        patch_set: change.version(),
        commit: change.commit().hash().to_string(),
        votes: change.votes().map(vote).collect(),
        attention: change.attention().map(str::to_owned).collect(),
    }
}

/// A change and what belongs to it, without a resume token.
pub(super) fn whole_change(whole: &core::Change<'_>) -> GetChangeResponse {
    let patch_sets = whole.patch_sets().take(MAX_PARTS);
    let person = |(who, role): (&str, Role)| {
        let role = match role {
            Role::Reviewer => ParticipantRole::Reviewer,
            Role::Cc => ParticipantRole::Cc,
            Role::Removed => return None,
        };
        Some(Participant { who: who.to_owned(), role: role.into() })
    };
    GetChangeResponse {
        change: Some(change(whole)),
        patch_sets: patch_sets
            .map(|one| PatchSet { number: one.number, commit: one.commit.hash().to_string() })
            .collect(),
        messages: messages(whole),
        people: whole.people().filter_map(person).take(MAX_PARTS).collect(),
        issues: whole.issues().map(|(repository, number)| format!("{repository}#{number}")).collect(),
        resume_token: String::new(),
        comments: inline_comments(whole),
    }
}

fn inline_comments(change: &core::Change<'_>) -> Vec<InlineComment> {
    let range = |[start, end]: [(u32, u32); 2]| TextRange {
        start_line: start.0,
        start_character: start.1,
        end_line: end.0,
        end_character: end.1,
    };
    let comment = |said: core::InlineComment| InlineComment {
        uuid: said.uuid,
        patch_set: said.patch_set,
        file: said.file,
        line: said.line,
        range: said.range.map(range),
        side: said.side,
        author: said.author,
        created: Some(rpc::timestamp(said.written)),
        text: cut(&said.message).to_owned(),
        unresolved: said.unresolved,
        in_reply_to: said.parent,
        tag: said.tag,
    };
    let mut bytes = 0;
    let fits = |comment: &InlineComment| {
        bytes += comment.text.len() + comment.file.len();
        bytes < MAX_TEXTS
    };
    change.comments().into_iter().map(comment).take(MAX_PARTS).take_while(fits).collect()
}

fn messages(change: &core::Change<'_>) -> Vec<ChangeMessage> {
    let message = |meta: core::Meta<'_>| {
        let message = meta.message()?;
        Some(ChangeMessage {
            author: meta.author().to_owned(),
            created: Some(rpc::timestamp(message.commit.committed())),
            patch_set: message.patch_set,
            text: cut(&message.text).to_owned(),
        })
    };
    let mut bytes = 0;
    let fits = |message: &ChangeMessage| {
        bytes += message.text.len();
        bytes < MAX_TEXTS
    };
    change.metas().filter_map(message).take(MAX_PARTS).take_while(fits).collect()
}

fn login(user: Option<User<'_>>) -> String {
    user.map_or_else(String::new, |user| user.login.to_owned())
}

pub(super) fn issue(issue: &core::Issue<'_>) -> Issue {
    let repository = issue.repository();
    let milestone = match issue.milestone() {
        MilestoneOf::Some(milestone) => milestone.title.to_owned(),
        MilestoneOf::Unknown | MilestoneOf::None => String::new(),
    };
    let kind = if issue.is_pull_request() { IssueKind::PullRequest } else { IssueKind::Issue };
    let state = if issue.is_closed() { IssueState::Closed } else { IssueState::Open };
    Issue {
        repository: format!("{}/{}", repository.owner(), repository.name()),
        number: issue.number(),
        kind: kind.into(),
        state: state.into(),
        locked: issue.is_locked(),
        title: issue.title().into_owned(),
        author: login(issue.user()),
        labels: issue.labels().map(|label| label.name.to_owned()).collect(),
        assignees: issue.assignees().map(|user| user.login.to_owned()).collect(),
        milestone,
        created: Some(rpc::timestamp(issue.created())),
        updated: Some(rpc::timestamp(issue.last_modified())),
        closed: issue.closed_at().map(rpc::timestamp),
        comments: u32::try_from(issue.comments().len()).unwrap_or(u32::MAX),
    }
}

/// What a pull request wants to merge where; its checks if they are of its head.
pub(super) fn pull_request(issue: &core::Issue<'_>) -> Option<PullRequest> {
    let pull = issue.pull()?;
    let checks = issue.checks().filter(|checks| checks.sha == pull.head_sha);
    let check = |check: api::maintpb::GithubCheck| Check {
        name: check.name,
        app: check.app,
        conclusion: check.conclusion,
        url: check.url,
        completed: check.completed,
    };
    Some(PullRequest {
        head: pull.head_sha,
        head_ref: pull.head_ref,
        head_repository: pull.head_repository,
        base_ref: pull.base_ref,
        draft: pull.draft,
        merged: pull.merged_at,
        merge_commit: pull.merge_commit,
        checks: checks.into_iter().flat_map(|checks| checks.checks).take(MAX_PARTS).map(check).collect(),
    })
}

pub(super) fn comment(comment: &core::Comment<'_>) -> Comment {
    let issue = comment.issue();
    let repository = issue.repository();
    Comment {
        issue: format!("{}/{}#{}", repository.owner(), repository.name(), issue.number()),
        id: comment.id(),
        author: login(comment.user()),
        created: comment.created().map(rpc::timestamp),
        updated: comment.updated().map(rpc::timestamp),
        body: cut(&comment.body()).to_owned(),
    }
}
