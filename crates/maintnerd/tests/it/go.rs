//! Go's own maintner follows our `/logs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use api::maintpb::{
    BoolChange, GithubIssueCommentMutation, GithubIssueMutation, GithubLabel, GithubMutation, GithubUser,
    Mutation,
};
use maintner::{
    Log,
    generate::{Generator, Layout, Scale, write},
};
use prost_types::Timestamp;

use crate::logs::{Follower, world};

const ISSUES: i32 = 200;
/// Of the log that is generated.
const SEED: u64 = 6;

fn at(seconds: i32) -> Timestamp {
    Timestamp { seconds: 1_700_000_000 + i64::from(seconds), nanos: 0 }
}

fn user(id: i64) -> GithubUser {
    GithubUser { id, login: format!("user-{id}") }
}

/// An issue with as many comments as its number says, modulo 5.
fn issue(number: i32) -> Mutation {
    let comment = (0..number % 5).map(|nth| GithubIssueCommentMutation {
        id: i64::from(number) * 100 + i64::from(nth),
        user: Some(user(i64::from(nth))),
        body: format!("comment {nth} on {number}: für alle ✓"),
        created: Some(at(number + nth)),
        updated: Some(at(number + nth)),
    });
    let issue = GithubIssueMutation {
        owner: "example".into(),
        repo: "project".into(),
        number,
        id: i64::from(number) + 1_000_000,
        title: format!("issue {number}"),
        user: Some(user(7)),
        created: Some(at(number)),
        updated: Some(at(number)),
        body: "x".repeat(500),
        closed: (number % 3 == 0).then_some(BoolChange { val: true }),
        comment: comment.collect(),
        ..Default::default()
    };
    Mutation { github_issue: Some(issue), ..Default::default() }
}

fn labels() -> Mutation {
    let label = GithubLabel { id: 5, name: "NeedsFix".into() };
    let github = GithubMutation {
        owner: "example".into(),
        repo: "project".into(),
        labels: vec![label],
        ..Default::default()
    };
    Mutation { github: Some(github), ..Default::default() }
}

/// The follower, if there is time and all that it needs.
fn built() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    testkit::skip::long(2).then(|| testkit::go::maintner("Go's own maintner as a follower", folder)).flatten()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gos_own_maintner_loads_our_log_and_follows_it_live() {
    let Some(program) = built() else { return };
    let mut world = world(20_000, Duration::from_secs(55)).await;
    world.stop_maintnerd().await;
    let log =
        Log::open(&world.log_dir(), maintner::Options { max_segment_bytes: 20_000, ..Default::default() })
            .unwrap();
    log.append(&[labels()]).await.unwrap();
    for number in 1..=ISSUES {
        log.append(&[issue(number)]).await.unwrap();
    }
    log.close().await;
    world.start_maintnerd().await;
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.arg(format!("http://{}/logs", world.logs())).arg(cache.path());
    let mut follower = Follower::start(command);
    let comments: i32 = (1..=ISSUES).map(|number| number % 5).sum();
    let counts = |commits: usize| {
        serde_json::json!({
            "repositories": 1, "issues": ISSUES, "comments": comments,
            "projects": 0, "changes": 0, "commits": commits, "check": "",
        })
    };
    follower.says(|said| *said == counts(0)).await;
    // Commits arrive from a mirror; results of builds, which the original does not know, between them.
    let line = world.mirror.line(None, 30);
    for (at, commit) in line.iter().enumerate() {
        world.mirror.push("one", "refs/heads/main", commit);
        crate::results::append(&world, vec![crate::results::result(at as u64 + 1, 1, "passed")])
            .await
            .unwrap();
    }
    follower.says(|said| *said == counts(30)).await;
    // And goes on after a restart.
    world.restart().await;
    let next = world.mirror.commit(&[line.last().unwrap()]);
    world.mirror.push("one", "refs/heads/main", &next);
    follower.says(|said| *said == counts(31)).await;
    drop(follower);
    world.end().await;
}

/// How many issues, comments, changes and commits are left when all that is generated was applied.
fn generated() -> [usize; 4] {
    let (mut comments, mut changes, mut commits) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for mutation in Generator::new(SEED, Scale::SMALL) {
        commits.extend(mutation.git.into_iter().filter_map(|git| Some(git.commit?.sha1)));
        if let Some(gerrit) = mutation.gerrit {
            commits.extend(gerrit.commits.into_iter().map(|commit| commit.sha1));
            let metas = gerrit.refs.into_iter().map(|one| one.r#ref).filter(|name| name.ends_with("/meta"));
            changes.extend(metas.map(|name| (gerrit.project.clone(), name)));
        }
        if let Some(issue) = mutation.github_issue {
            let key = (issue.repo, issue.number);
            if issue.not_exist {
                comments.insert(key, None);
            } else if let Some(all) = comments.entry(key).or_insert_with(|| Some(BTreeSet::new())) {
                all.extend(issue.comment.iter().map(|comment| comment.id));
            }
        }
    }
    let there: Vec<_> = comments.into_values().flatten().collect();
    [there.len(), there.iter().map(BTreeSet::len).sum(), changes.len(), commits.len()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gos_own_maintner_counts_what_was_generated() {
    let Some(program) = built() else { return };
    let mut world = world(1 << 20, Duration::from_secs(55)).await;
    world.stop_maintnerd().await;
    std::fs::remove_dir_all(world.log_dir()).unwrap();
    write(&world.log_dir(), SEED, Scale::SMALL, Layout::Days).unwrap();
    let expected = generated();
    world.start_maintnerd().await;
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.arg(format!("http://{}/logs", world.logs())).arg(cache.path());
    let mut follower = Follower::start(command);
    let counts = |said: &serde_json::Value| {
        ["issues", "comments", "changes", "commits"]
            .map(|name| said[name].as_u64().unwrap_or(u64::MAX) as usize)
    };
    let said = follower.says(|said| counts(said) == expected).await;
    assert_eq!(said.last().unwrap()["check"], "");
    let commit = world.mirror.commit(&[]);
    world.mirror.push("one", "refs/heads/main", &commit);
    let [issues, comments, changes, commits] = expected;
    follower.says(|said| counts(said) == [issues, comments, changes, commits + 1]).await;
    drop(follower);
    world.end().await;
}
