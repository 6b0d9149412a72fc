//! What the corpus and Gerrit's REST API say about one change, in the same words.
//!
//! Left out is what one side does not have. NoteDb, from which the corpus reads, does not tell what Gerrit computes
//! (whether a change can be merged or submitted, its actions, its size), what it keeps elsewhere (names, avatars,
//! stars, drafts), and for whom an answer is made (permitted labels, what is reviewed). REST does not tell who was
//! removed. White space at the end of a message is nothing. Of messages the corpus has what Go's maintner has: what people wrote on a patch set, and votes.

use std::collections::{BTreeMap, BTreeSet};

use maintner::{
    Change, Commit,
    core::{InlineComment, Role, Status},
};
use serde_json::{Value, json};

/// What is compared of every change. Both sides must have each.
pub(crate) const FIELDS: &[&str] = &[
    "number",
    "project",
    "branch",
    "topic",
    "hashtags",
    "change_id",
    "subject",
    "status",
    "created",
    "updated",
    "is_private",
    "is_work_in_progress",
    "owner",
    "patch_set",
    "commit",
    "patch_sets",
    "votes",
    "reviewers",
    "ccs",
    "attention",
    "messages",
    "comments",
];

/// Options of REST that say all of it.
pub(crate) const OPTIONS: &str = "o=ALL_REVISIONS&o=ALL_COMMITS";

/// A change, field by field.
pub(crate) type Fields = BTreeMap<&'static str, Value>;

/// What the corpus says.
pub(crate) fn ours(change: &Change<'_>) -> Fields {
    let project = change.project().name();
    let with = |role: Role| {
        let accounts = change.people().filter(|(_, is)| *is == role).map(|(who, _)| account(who));
        json!(accounts.collect::<BTreeSet<_>>())
    };
    BTreeMap::from([
        ("number", json!(change.number())),
        ("project", json!(project.split_once('/').map(|(_, name)| name))),
        ("branch", json!(change.branch().strip_prefix("refs/heads/"))),
        ("topic", json!(change.topic())),
        ("hashtags", json!(change.hashtags().collect::<BTreeSet<_>>())),
        ("change_id", json!(change.change_id())),
        ("subject", json!(change.subject())),
        ("status", json!(status(change.status()))),
        ("created", json!(change.created().seconds())),
        ("updated", json!(change.updated().seconds())),
        ("is_private", json!(change.is_private())),
        ("is_work_in_progress", json!(change.is_work_in_progress())),
        ("owner", json!(change.owner_account())),
        ("patch_set", json!(change.version())),
        ("commit", json!(change.commit().hash().to_string())),
        (
            "patch_sets",
            change.patch_sets().map(|one| (one.number.to_string(), our_commit(&one.commit))).collect(),
        ),
        (
            "votes",
            json!(
                change
                    .votes()
                    .filter(|vote| vote.value != 0)
                    .map(|vote| (vote.label, account(vote.voter), i64::from(vote.value)))
                    .collect::<BTreeSet<_>>()
            ),
        ),
        ("reviewers", with(Role::Reviewer)),
        ("ccs", with(Role::Cc)),
        ("attention", json!(change.attention().map(account).collect::<BTreeSet<_>>())),
        ("messages", our_messages(change)),
        ("comments", change.comments().iter().map(our_comment).collect()),
    ])
}

fn our_commit(commit: &Commit<'_>) -> Value {
    json!({
        "commit": commit.hash().to_string(),
        "parents": commit.parents().map(|parent| parent.to_string()).collect::<Vec<_>>(),
        "author": commit.author(),
        "authored": commit.authored().seconds(),
        "committer": commit.committer(),
        "committed": commit.committed().seconds(),
        "message": commit.message(),
    })
}

fn our_messages(change: &Change<'_>) -> Value {
    let said = change.metas().filter_map(|meta| {
        let message = meta.message()?;
        Some(json!({
            "id": meta.commit().hash().to_string(),
            "patch_set": message.patch_set,
            "author": account(meta.author()),
            "written": meta.commit().committed().seconds(),
            "text": message.text,
            "tag": meta.tag(),
        }))
    });
    said.collect()
}

fn our_comment(comment: &InlineComment) -> (String, Value) {
    let range = comment.range.map(|[(start_line, start_character), (end_line, end_character)]| {
        json!({
            "start_line": start_line,
            "start_character": start_character,
            "end_line": end_line,
            "end_character": end_character,
        })
    });
    let said = json!({
        "patch_set": comment.patch_set,
        "file": comment.file,
        "line": comment.line,
        "range": range,
        "is_of_parent": comment.side <= 0,
        "author": account(&comment.author),
        "written": comment.written.seconds(),
        "text": comment.message,
        "unresolved": comment.unresolved,
        "answers": comment.parent,
        "tag": comment.tag,
    });
    (comment.uuid.clone(), said)
}

fn status(status: Status) -> &'static str {
    match status {
        Status::New => "NEW",
        Status::Merged => "MERGED",
        Status::Abandoned => "ABANDONED",
        Status::Draft => "DRAFT",
    }
}

/// The number of the account of `account@server`.
fn account(who: &str) -> i64 {
    who.split('@').next().and_then(|number| number.parse().ok()).unwrap_or(-1)
}

/// What REST says.
pub(crate) fn theirs(detail: &Value, comments: &Value) -> Fields {
    let or = |key: &str, default: Value| detail.get(key).cloned().unwrap_or(default);
    let accounts = |role: &str| {
        let all = detail["reviewers"][role].as_array().into_iter().flatten();
        json!(all.map(|one| one["_account_id"].as_i64()).collect::<BTreeSet<_>>())
    };
    BTreeMap::from([
        ("number", or("_number", Value::Null)),
        ("project", or("project", Value::Null)),
        ("branch", or("branch", Value::Null)),
        ("topic", or("topic", json!(""))),
        ("hashtags", json!(texts(&detail["hashtags"]))),
        ("change_id", or("change_id", Value::Null)),
        ("subject", or("subject", Value::Null)),
        ("status", or("status", Value::Null)),
        ("created", seconds(&detail["created"])),
        ("updated", seconds(&detail["updated"])),
        ("is_private", or("is_private", json!(false))),
        ("is_work_in_progress", or("work_in_progress", json!(false))),
        ("owner", detail["owner"]["_account_id"].clone()),
        ("patch_set", or("current_revision_number", Value::Null)),
        ("commit", or("current_revision", Value::Null)),
        (
            "patch_sets",
            entries(&detail["revisions"])
                .map(|(commit, revision)| {
                    (revision["_number"].to_string(), their_commit(commit, &revision["commit"]))
                })
                .collect(),
        ),
        ("votes", their_votes(&detail["labels"])),
        ("reviewers", accounts("REVIEWER")),
        ("ccs", accounts("CC")),
        (
            "attention",
            json!(
                entries(&detail["attention_set"])
                    .filter_map(|(account, _)| account.parse::<i64>().ok())
                    .collect::<BTreeSet<_>>()
            ),
        ),
        ("messages", their_messages(&detail["messages"])),
        ("comments", their_comments(comments)),
    ])
}

fn their_commit(name: &str, commit: &Value) -> Value {
    let person = |key: &str| {
        let text = |part: &str| commit[key][part].as_str().unwrap_or_default();
        format!("{} <{}>", text("name"), text("email"))
    };
    let parents = commit["parents"].as_array().into_iter().flatten();
    json!({
        "commit": name,
        "parents": parents.map(|parent| parent["commit"].clone()).collect::<Vec<_>>(),
        "author": person("author"),
        "authored": seconds(&commit["author"]["date"]),
        "committer": person("committer"),
        "committed": seconds(&commit["committer"]["date"]),
        "message": commit["message"],
    })
}

fn their_votes(labels: &Value) -> Value {
    let all = entries(labels).flat_map(|(label, votes)| {
        let votes = votes["all"].as_array().into_iter().flatten();
        votes.map(move |vote| (label, vote["_account_id"].as_i64(), vote["value"].as_i64().unwrap_or(0)))
    });
    json!(all.filter(|(_, _, value)| *value != 0).collect::<BTreeSet<_>>())
}

fn their_messages(messages: &Value) -> Value {
    let said = messages.as_array().into_iter().flatten().filter(|message| {
        let text = message["message"].as_str().unwrap_or_default();
        let rest = text.strip_prefix("Patch Set ").or_else(|| text.strip_prefix("Uploaded patch set "));
        rest.is_some_and(|rest| rest.trim_start_matches(|char: char| char.is_ascii_digit()).starts_with(':'))
    });
    said.map(|message| {
        json!({
            "id": message["id"],
            "patch_set": message["_revision_number"],
            "author": message["author"]["_account_id"],
            "written": seconds(&message["date"]),
            "text": message["message"].as_str().map(str::trim_end),
            "tag": message.get("tag").cloned().unwrap_or(json!("")),
        })
    })
    .collect()
}

fn their_comments(files: &Value) -> Value {
    let comments = entries(files)
        .flat_map(|(file, comments)| comments.as_array().into_iter().flatten().map(move |one| (file, one)));
    let said = comments.map(|(file, comment)| {
        let or = |key: &str, default: Value| comment.get(key).cloned().unwrap_or(default);
        let said = json!({
            "patch_set": comment["patch_set"],
            "file": file,
            "line": or("line", json!(0)),
            "range": comment["range"],
            "is_of_parent": comment["side"] == "PARENT",
            "author": comment["author"]["_account_id"],
            "written": seconds(&comment["updated"]),
            "text": comment["message"],
            "unresolved": or("unresolved", json!(false)),
            "answers": or("in_reply_to", json!("")),
            "tag": or("tag", json!("")),
        });
        (comment["id"].as_str().unwrap_or_default().to_owned(), said)
    });
    said.collect()
}

fn texts(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// `2026-11-21 17:31:07.000000000`, in UTC.
fn seconds(date: &Value) -> Value {
    let text = date.as_str().unwrap_or_default().replace(' ', "T") + "Z";
    text.parse::<jiff::Timestamp>().map_or(Value::Null, |time| json!(time.as_second()))
}
