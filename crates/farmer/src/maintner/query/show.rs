//! Objects as lines of text, and as JSON whose names are those of the messages.

use api::{
    apipb::{DashCommit, GerritTryWorkItem, GoRelease, HasAncestorResponse},
    maintner::{
        Change, ChangeStatus, Check, Comment, Commit, GetChangeResponse, GetIssueResponse, InlineComment,
        Issue, IssueKind, IssueState, ParticipantRole, PullRequest, Ref, TextRange,
    },
};
use serde_json::{Value, json};

use super::Shown;

fn time(at: Option<prost_types::Timestamp>) -> String {
    at.map_or_else(String::new, |at| at.to_string())
}

fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}

fn indented(text: &str) -> String {
    join(text.trim_end().lines().map(|line| format!("\n    {line}")))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().concat()
}

pub(super) fn one_ref(one: &Ref) -> Shown {
    let Ref { name, commit } = one;
    Shown { text: format!("{commit} {name}"), json: json!({ "name": name, "commit": commit }) }
}

pub(super) fn commit(one: &Commit) -> Shown {
    let files = one.files.iter().map(|file| {
        if file.binary {
            format!("\n  binary {}", file.path)
        } else {
            format!("\n  +{} -{} {}", file.added, file.deleted, file.path)
        }
    });
    let parents = join(one.parents.iter().map(|parent| format!("\nparent {parent}")));
    let text = format!(
        "commit {}{parents}\nauthor {}, {}\ncommitter {}, {}\n{}\n{}",
        one.commit,
        one.author,
        time(one.authored),
        one.committer,
        time(one.committed),
        indented(&one.message),
        join(files)
    );
    let file = |file: &api::maintner::ChangedFile| json!({ "path": file.path, "added": file.added, "deleted": file.deleted, "binary": file.binary });
    let json = json!({
        "commit": one.commit,
        "parents": one.parents,
        "author": one.author,
        "committer": one.committer,
        "authored": time(one.authored),
        "committed": time(one.committed),
        "message": one.message,
        "generation": one.generation,
        "files": one.files.iter().map(file).collect::<Vec<_>>(),
    });
    Shown { text, json }
}

fn status(change: &Change) -> &'static str {
    match change.status() {
        ChangeStatus::Unspecified => "unknown",
        ChangeStatus::New => "new",
        ChangeStatus::Merged => "merged",
        ChangeStatus::Abandoned => "abandoned",
        ChangeStatus::Draft => "draft",
    }
}

fn change_json(one: &Change) -> Value {
    let vote = |vote: &api::maintner::Vote| json!({ "label": vote.label, "voter": vote.voter, "value": vote.value, "patch_set": vote.patch_set });
    json!({
        "project": one.project,
        "number": one.number,
        "change_id": one.change_id,
        "status": status(one),
        "private": one.private,
        "work_in_progress": one.work_in_progress,
        "subject": one.subject,
        "branch": one.branch,
        "topic": one.topic,
        "hashtags": one.hashtags,
        "owner": one.owner,
        "created": time(one.created),
        "updated": time(one.updated),
        "patch_set": one.patch_set,
        "commit": one.commit,
        "votes": one.votes.iter().map(vote).collect::<Vec<_>>(),
        "attention": one.attention,
    })
}

pub(super) fn change(one: &Change) -> Shown {
    let votes = join(one.votes.iter().map(|vote| format!(" {}{:+}", vote.label, vote.value)));
    let wip = if one.work_in_progress { " (work in progress)" } else { "" };
    let text = format!(
        "{}~{} {}{wip} {} {}{votes}",
        one.project,
        one.number,
        status(one),
        short(&one.commit),
        one.subject
    );
    Shown { text, json: change_json(one) }
}

pub(super) fn whole_change(whole: &GetChangeResponse) -> Shown {
    let one = whole.change.clone().unwrap_or_default();
    let said = whole.messages.iter().map(|message| {
        let author = if message.author.is_empty() { "Gerrit" } else { &message.author };
        format!("\n{author}, {}:{}", time(message.created), indented(&message.text))
    });
    let written = whole.comments.iter().map(|comment| {
        let line = if comment.line == 0 { String::new() } else { format!(":{}", comment.line) };
        let (who, when) = (&comment.author, time(comment.created));
        let place = format!("{}{line} of patch set {}", comment.file, comment.patch_set);
        let open = if comment.unresolved { ", unresolved" } else { "" };
        format!("\n{who}, {when}, on {place}{open}:{}", indented(&comment.text))
    });
    let text = change(&one).text + &join(said.chain(written));
    let message = |message: &api::maintner::ChangeMessage| {
        json!({
            "author": message.author,
            "created": time(message.created),
            "patch_set": message.patch_set,
            "text": message.text,
        })
    };
    let person = |person: &api::maintner::Participant| {
        let role = if person.role() == ParticipantRole::Cc { "cc" } else { "reviewer" };
        json!({ "who": person.who, "role": role })
    };
    let patch_set = |one: &api::maintner::PatchSet| json!({ "number": one.number, "commit": one.commit });
    let comment = |one: &InlineComment| {
        let range = |range: &TextRange| json!({ "start_line": range.start_line, "start_character": range.start_character, "end_line": range.end_line, "end_character": range.end_character });
        json!({
            "uuid": one.uuid,
            "patch_set": one.patch_set,
            "file": one.file,
            "line": one.line,
            "range": one.range.as_ref().map(range),
            "side": one.side,
            "author": one.author,
            "created": time(one.created),
            "text": one.text,
            "unresolved": one.unresolved,
            "in_reply_to": one.in_reply_to,
            "tag": one.tag,
        })
    };
    let json = json!({
        "change": change_json(&one),
        "patch_sets": whole.patch_sets.iter().map(patch_set).collect::<Vec<_>>(),
        "messages": whole.messages.iter().map(message).collect::<Vec<_>>(),
        "comments": whole.comments.iter().map(comment).collect::<Vec<_>>(),
        "people": whole.people.iter().map(person).collect::<Vec<_>>(),
        "issues": whole.issues,
    });
    Shown { text, json }
}

fn state(issue: &Issue) -> &'static str {
    if issue.state() == IssueState::Closed { "closed" } else { "open" }
}

fn issue_json(one: &Issue) -> Value {
    json!({
        "repository": one.repository,
        "number": one.number,
        "kind": if one.kind() == IssueKind::PullRequest { "pull_request" } else { "issue" },
        "state": state(one),
        "locked": one.locked,
        "title": one.title,
        "author": one.author,
        "labels": one.labels,
        "assignees": one.assignees,
        "milestone": one.milestone,
        "created": time(one.created),
        "updated": time(one.updated),
        "closed": time(one.closed),
        "comments": one.comments,
    })
}

pub(super) fn issue(one: &Issue) -> Shown {
    let labels = if one.labels.is_empty() { String::new() } else { format!(" [{}]", one.labels.join(", ")) };
    let text = format!("{}#{} {} {}{labels}", one.repository, one.number, state(one), one.title);
    Shown { text, json: issue_json(one) }
}

pub(super) fn whole_issue(whole: &GetIssueResponse) -> Shown {
    let one = whole.issue.clone().unwrap_or_default();
    let changes = join(whole.changes.iter().map(|change| format!("\nchange {change}")));
    let author = format!("\n{}, {}:", one.author, time(one.created));
    let (pull, pull_json) =
        whole.pull_request.as_ref().map(pull_request).map(|pull| (pull.text, pull.json)).unwrap_or_default();
    let text = format!("{}{pull}{changes}{author}{}", issue(&one).text, indented(&whole.body));
    let json = json!({
        "issue": issue_json(&one), "body": whole.body, "changes": whole.changes, "pull_request": pull_json,
    });
    Shown { text, json }
}

fn pull_request(one: &PullRequest) -> Shown {
    let state = match (one.merged.is_some(), one.draft) {
        (true, _) => ", merged",
        (false, true) => ", draft",
        (false, false) => "",
    };
    let said = |check: &Check| {
        let conclusion = if check.conclusion.is_empty() { "not over" } else { &check.conclusion };
        format!("\ncheck {} {conclusion} {}", check.name, check.url).trim_end().to_owned()
    };
    let from =
        if one.head_repository.is_empty() { "a repository that is gone" } else { &one.head_repository };
    let text = format!(
        "\n{} of {from}, {}, to {}{state}{}",
        one.head_ref,
        short(&one.head),
        one.base_ref,
        join(one.checks.iter().map(said))
    );
    let check = |check: &Check| {
        json!({
            "name": check.name,
            "app": check.app,
            "conclusion": check.conclusion,
            "url": check.url,
            "completed": time(check.completed),
        })
    };
    let json = json!({
        "head": one.head,
        "head_ref": one.head_ref,
        "head_repository": one.head_repository,
        "base_ref": one.base_ref,
        "draft": one.draft,
        "merged": time(one.merged),
        "merge_commit": one.merge_commit,
        "checks": one.checks.iter().map(check).collect::<Vec<_>>(),
    });
    Shown { text, json }
}

pub(super) fn comment(one: &Comment) -> Shown {
    let text = format!("{} {}, {}:{}", one.issue, one.author, time(one.created), indented(&one.body));
    let json = json!({
        "issue": one.issue,
        "id": one.id,
        "author": one.author,
        "created": time(one.created),
        "updated": time(one.updated),
        "body": one.body,
    });
    Shown { text, json }
}

pub(super) fn ancestry(answer: HasAncestorResponse) -> Shown {
    let text = match (answer.unknown_commit, answer.has_ancestor) {
        (true, _) => "the log does not hold the commit",
        (false, true) => "yes",
        (false, false) => "no",
    };
    let json = json!({ "has_ancestor": answer.has_ancestor, "unknown_commit": answer.unknown_commit });
    Shown { text: text.to_owned(), json }
}

pub(super) fn release(one: &GoRelease) -> Shown {
    let text = format!(
        "{} {}, {} {}",
        one.tag_name,
        short(&one.tag_commit),
        one.branch_name,
        short(&one.branch_commit)
    );
    let json = json!({
        "major": one.major,
        "minor": one.minor,
        "patch": one.patch,
        "tag_name": one.tag_name,
        "tag_commit": one.tag_commit,
        "branch_name": one.branch_name,
        "branch_commit": one.branch_commit,
    });
    Shown { text, json }
}

pub(super) fn work(item: &GerritTryWorkItem) -> Shown {
    let with = if item.go_branch.is_empty() {
        String::new()
    } else {
        format!(" with {}", item.go_branch.join(", "))
    };
    let text =
        format!("{} {} {} patch set {}{with}", item.project, item.branch, short(&item.commit), item.version);
    let wish = |wish: &api::apipb::TryVoteMessage| json!({ "message": wish.message, "author_id": wish.author_id, "version": wish.version });
    let versions = item.go_version.iter().map(|version| format!("{}.{}", version.major, version.minor));
    let json = json!({
        "project": item.project,
        "branch": item.branch,
        "change_id": item.change_id,
        "commit": item.commit,
        "version": item.version,
        "author_email": item.author_email,
        "go_commit": item.go_commit,
        "go_branch": item.go_branch,
        "go_version": versions.collect::<Vec<_>>(),
        "try_message": item.try_message.iter().map(wish).collect::<Vec<_>>(),
    });
    Shown { text, json }
}

pub(super) fn dashboard_commit(one: &DashCommit) -> Shown {
    let go = if one.go_commit_at_time.is_empty() {
        String::new()
    } else {
        format!(" (go {})", short(&one.go_commit_at_time))
    };
    let text = format!("{} {} {}{go}", short(&one.commit), one.branch, one.title);
    let json = json!({
        "commit": one.commit,
        "author_name": one.author_name,
        "author_email": one.author_email,
        "commit_time_sec": one.commit_time_sec,
        "title": one.title,
        "branch": one.branch,
        "go_commit_at_time": one.go_commit_at_time,
        "go_commit_latest": one.go_commit_latest,
    });
    Shown { text, json }
}
