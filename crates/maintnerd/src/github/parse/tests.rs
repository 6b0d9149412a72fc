use std::path::PathBuf;

use serde_json::json;

use super::*;

const AT: &str = "2026-11-20T19:33:45Z";

#[test]
fn an_issue_is_read_as_github_shows_it() {
    let shown = json!({
        "id": 7, "number": 3, "created_at": AT, "updated_at": AT, "title": "t", "body": null, "user": null,
        "assignees": [{ "id": 2, "login": "b" }, null], "labels": [{ "id": 4, "name": "l", "color": "f" }],
        "milestone": { "id": 5, "number": 1, "title": "m", "state": "closed" }, "state": "closed",
        "closed_at": AT, "closed_by": { "id": 2, "login": "b" }, "locked": true, "pull_request": {},
        "comments": 12, "sub_issues_summary": { "total": 0 }
    });
    let (seen, comments) = issue(&shown).unwrap();
    assert_eq!((seen.number, seen.body.as_str(), seen.user.clone(), comments), (3, "", None, Some(12)));
    assert!(seen.closed && seen.locked && seen.pull_request && seen.closed_at == Some(seen.created));
    assert_eq!((seen.assignees.len(), seen.labels[0].name.as_str()), (1, "l"));
    assert_eq!(seen.milestone.unwrap().closed, Some(BoolChange { val: true }));
    for (bad, value) in [("number", json!(0)), ("updated_at", json!("soon")), ("id", Value::Null)] {
        let mut shown = shown.clone();
        shown[bad] = value;
        assert!(issue(&shown).is_err(), "{bad}");
    }
    assert!(issue(&Value::Null).is_err() && issue(&json!([])).is_err());
}

#[test]
fn what_is_not_known_of_an_event_is_kept() {
    let shown = json!({
        "id": 9, "node_id": "x", "url": "u", "actor": { "id": 2, "login": "b" }, "event": "spun", "created_at": AT,
        "commit_id": "abc", "commit_url": "https://api.github.com/repos/O/R/commits/abc", "lock_reason": "spam",
        "label": { "name": "l", "color": "f" }, "performed_via_github_app": null, "speed": { "rpm": [33] },
        "milestone": "of another shape"
    });
    let event = event(&shown).unwrap();
    assert_eq!((event.event_type.as_str(), event.actor_id), ("spun", 2));
    let commit = event.commit.unwrap();
    assert_eq!((commit.owner.as_str(), commit.repo.as_str(), commit.commit_id.as_str()), ("O", "R", "abc"));
    assert_eq!(event.label.unwrap().name, "l");
    let rest = std::str::from_utf8(&event.other_json).unwrap();
    assert_eq!(rest, r#"{"milestone":"of another shape","speed":{"rpm":[33]}}"#);
}

#[test]
fn every_kind_of_event_is_understood() {
    let of = |more: Value| {
        let mut shown = json!({ "id": 9, "event": "x", "created_at": AT });
        shown.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event(&shown).unwrap()
    };
    let renamed = of(json!({ "rename": { "from": "a", "to": "b" } }));
    assert_eq!((renamed.rename_from.as_str(), renamed.rename_to.as_str()), ("a", "b"));
    let assigned = of(json!({ "assignee": { "id": 1 }, "assigner": { "id": 2 } }));
    assert_eq!((assigned.assignee_id, assigned.assigner_id), (1, 2));
    let asked = of(json!({ "requested_reviewer": { "id": 1 }, "review_requester": { "id": 2 } }));
    assert_eq!((asked.reviewer_id, asked.review_requester_id), (1, 2));
    let team = of(json!({ "requested_team": { "id": 3, "slug": "s" } }));
    assert_eq!(team.team_reviewer, Some(GithubTeam { id: 3, slug: "s".into() }));
    let dismissed = of(json!({ "dismissed_review": { "review_id": 4, "state": "approved" } }));
    assert_eq!(dismissed.dismissed_review.unwrap().review_id, 4);
    let planned = of(json!({ "milestone": { "title": "m" } }));
    assert_eq!(planned.milestone.unwrap().title, "m");
    assert!(event(&json!({ "event": "x" })).is_err() && event(&Value::Null).is_err());
}

#[test]
fn a_review_is_read_unless_nobody_else_sees_it() {
    let shown = json!({
        "id": 9, "user": { "id": 2 }, "body": "b", "state": "APPROVED", "submitted_at": AT, "commit_id": "abc",
        "author_association": "MEMBER", "html_url": "h", "pull_request_url": "p", "_links": {}, "node_id": "n",
        "mood": "good"
    });
    let seen = review(&shown).unwrap().unwrap();
    assert_eq!(
        (seen.state.as_str(), seen.commit_id.as_str(), &*seen.other_json),
        ("APPROVED", "abc", &br#"{"mood":"good"}"#[..])
    );
    assert_eq!(review(&json!({ "id": 9, "state": "PENDING" })).unwrap(), None);
    assert!(review(&json!({ "state": "APPROVED" })).is_err());
}

/// Whatever GitHub's own examples of webhooks hold is understood: the same objects as the API shows.
#[test]
fn githubs_own_examples_are_understood() {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let named = std::env::var_os("FARMER_WEBHOOK_EXAMPLES").map(PathBuf::from);
    let Some(dir) = named.or_else(|| Some(home?.join(".cache/farmer-real/webhooks-examples"))) else {
        return;
    };
    let Ok(text) = std::fs::read_to_string(dir.join("api.github.com/index.json")) else {
        let how = "npm install @octokit/webhooks-examples, and let FARMER_WEBHOOK_EXAMPLES name its folder";
        testkit::skipped("GitHub's own examples", "examples", how);
        return;
    };
    let kinds: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut understood = 0;
    for kind in &kinds {
        for body in kind["examples"].as_array().into_iter().flatten() {
            let is = |name: &str| kind["name"] == name;
            if body["issue"]["state"].is_string() && !is("issue_comment") {
                issue(&body["issue"]).unwrap_or_else(|error| panic!("{error}: {}", body["issue"]));
                understood += 1;
            }
            if is("issue_comment") {
                comment(&body["comment"]).unwrap_or_else(|error| panic!("{error}: {}", body["comment"]));
                understood += 1;
            }
            if is("label") {
                label(&body["label"]).unwrap();
                understood += 1;
            }
            if body["milestone"].is_object() && is("milestone") {
                milestone(&body["milestone"]).unwrap();
                understood += 1;
            }
            if is("pull_request_review_comment") {
                let seen = review_comment(&body["comment"]).unwrap();
                assert!(seen.review_id > 0 && !seen.path.is_empty());
                understood += 1;
            }
            if is("pull_request_review") {
                review(&body["review"]).unwrap();
                understood += 1;
            }
        }
    }
    assert!(understood > 40, "{understood}");
}
