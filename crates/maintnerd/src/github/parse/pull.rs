//! Pull requests and what checks say of their heads.

use api::maintpb::{GithubCheck, GithubPull};
use serde::Deserialize;
use serde_json::Value;

use super::{ParseError, User, positive, wire};

#[derive(Debug, Deserialize)]
struct Pull {
    number: i32,
    state: String,
    draft: Option<bool>,
    merged: Option<bool>,
    merged_at: Option<jiff::Timestamp>,
    merged_by: Option<User>,
    merge_commit_sha: Option<String>,
    head: Side,
    base: Side,
}

#[derive(Debug, Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    branch: String,
    sha: String,
    /// None if it is deleted.
    repo: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    full_name: String,
}

/// A pull request, as GitHub shows it now.
pub(crate) struct SeenPull {
    pub(crate) number: i32,
    pub(crate) open: bool,
    pub(crate) pull: GithubPull,
}

/// What a pull request wants to merge where.
pub(crate) fn pull(value: &Value) -> Result<SeenPull, ParseError> {
    let shown = Pull::deserialize(value)?;
    let merged = shown.merged.unwrap_or(shown.merged_at.is_some());
    let pull = GithubPull {
        head_sha: shown.head.sha,
        head_ref: shown.head.branch,
        head_repository: shown.head.repo.map(|repo| repo.full_name).unwrap_or_default(),
        base_ref: shown.base.branch,
        draft: shown.draft.unwrap_or(false),
        merged,
        merged_at: shown.merged_at.map(wire),
        merged_by: shown.merged_by.map_or(0, |user| user.id),
        // Before, it is a commit that GitHub makes to try, and makes again whenever it likes.
        merge_commit: shown.merge_commit_sha.filter(|_| merged).unwrap_or_default(),
    };
    if pull.head_sha.is_empty() {
        return Err(ParseError::Empty("head.sha"));
    }
    Ok(SeenPull { number: shown.number, open: shown.state == "open", pull })
}

#[derive(Debug, Deserialize)]
struct Run {
    id: i64,
    name: String,
    conclusion: Option<String>,
    html_url: Option<String>,
    details_url: Option<String>,
    completed_at: Option<jiff::Timestamp>,
    app: Option<App>,
}

#[derive(Debug, Deserialize)]
struct App {
    slug: Option<String>,
}

/// A run of a check.
pub(crate) fn check_run(value: &Value) -> Result<GithubCheck, ParseError> {
    let run = Run::deserialize(value)?;
    Ok(GithubCheck {
        id: positive(run.id)?,
        name: run.name,
        app: run.app.and_then(|app| app.slug).unwrap_or_default(),
        conclusion: run.conclusion.unwrap_or_default(),
        url: run.details_url.or(run.html_url).unwrap_or_default(),
        completed: run.completed_at.map(wire),
    })
}

#[derive(Debug, Deserialize)]
struct Status {
    id: i64,
    context: String,
    state: String,
    target_url: Option<String>,
    updated_at: Option<jiff::Timestamp>,
}

/// A commit status: what was there before checks, and still is.
pub(crate) fn commit_status(value: &Value) -> Result<GithubCheck, ParseError> {
    let status = Status::deserialize(value)?;
    let over = status.state != "pending";
    Ok(GithubCheck {
        id: positive(status.id)?,
        name: status.context,
        app: String::new(),
        conclusion: Some(status.state).filter(|_| over).unwrap_or_default(),
        url: status.target_url.unwrap_or_default(),
        completed: status.updated_at.filter(|_| over).map(wire),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: &str = "2026-11-20T19:33:45Z";

    #[test]
    fn a_pull_request_is_read_before_and_after_it_is_merged() {
        let mut shown = json!({
            "number": 7, "state": "open", "draft": true, "merged": false, "merged_at": null, "merged_by": null,
            "merge_commit_sha": "abc", "head": { "ref": "fix", "sha": "def", "repo": { "full_name": "a/go" } },
            "base": { "ref": "master", "sha": "012", "repo": { "full_name": "golang/go" } }, "mergeable": null
        });
        let seen = pull(&shown).unwrap();
        let expected = GithubPull {
            head_sha: "def".into(),
            head_ref: "fix".into(),
            head_repository: "a/go".into(),
            base_ref: "master".into(),
            draft: true,
            ..GithubPull::default()
        };
        assert_eq!((seen.number, seen.open, &seen.pull), (7, true, &expected));
        let merged = json!({
            "state": "closed", "draft": false, "merged": true, "merged_at": AT, "merged_by": { "id": 5, "login": "x" }
        });
        shown.as_object_mut().unwrap().extend(merged.as_object().unwrap().clone());
        shown["head"]["repo"] = Value::Null;
        let seen = pull(&shown).unwrap();
        let said = (seen.open, seen.pull.merged, seen.pull.merged_by, &*seen.pull.merge_commit);
        assert_eq!(said, (false, true, 5, "abc"));
        assert!(seen.pull.merged_at.is_some() && seen.pull.head_repository.is_empty());
        shown["head"]["sha"] = "".into();
        assert!(pull(&shown).is_err() && pull(&json!({ "number": 7, "state": "open" })).is_err());
    }

    #[test]
    fn checks_and_statuses_have_no_conclusion_until_they_are_over() {
        let run = |conclusion: Value| {
            let shown = json!({
                "id": 4, "name": "build", "status": "x", "conclusion": conclusion, "html_url": "h",
                "details_url": null, "completed_at": null, "app": { "slug": "actions" }, "output": {}
            });
            check_run(&shown).unwrap()
        };
        assert_eq!(
            (run(Value::Null).conclusion.as_str(), &*run("failure".into()).conclusion),
            ("", "failure")
        );
        assert_eq!((&*run(Value::Null).url, &*run(Value::Null).app), ("h", "actions"));
        let status = |state: &str| {
            let shown =
                json!({ "id": 4, "context": "ci", "state": state, "target_url": "t", "updated_at": AT });
            commit_status(&shown).unwrap()
        };
        assert_eq!((&*status("pending").conclusion, status("pending").completed), ("", None));
        assert!(&*status("error").conclusion == "error" && status("error").completed.is_some());
        assert!(check_run(&json!({ "id": 0, "name": "x" })).is_err());
    }
}
