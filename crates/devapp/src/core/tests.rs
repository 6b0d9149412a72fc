//! Tests of the feed.

use api::maintpb::{GitMutation, GitRef, GitRepo};

use super::*;

fn hash(n: u64) -> String {
    format!("{n:040x}")
}

fn commit(n: u64) -> Mutation {
    let raw = format!(
        "tree {}\nauthor Ada Lovelace <ada@example.com> 5 +0000\ncommitter B <b> {n} +0000\n\nsubject {n}\n\nbody\n",
        hash(0)
    );
    let commit = GitCommit { sha1: hash(n), raw: raw.into(), diff_tree: None };
    let repo = Some(GitRepo { go_repo: "one".into() });
    Mutation { git: Some(GitMutation { repo, commit: Some(commit) }), ..Default::default() }
}

fn moved(names: &[&str], n: u64, gone: &[&str]) -> Mutation {
    let refs = names.iter().map(|name| GitRef { r#ref: (*name).into(), sha1: hash(n) }).collect();
    let deleted_refs = gone.iter().map(|name| (*name).into()).collect();
    let repository = RepositoryMutation { repository: "one".into(), refs, deleted_refs };
    Mutation { repository: Some(repository), ..Default::default() }
}

fn words(feed: &Feed) -> Vec<String> {
    let words = |item: &Item| match &item.what {
        What::RefMoved { r#ref, subject, author, new_commits, .. } => {
            format!("{} {ref} {subject:?} by {author}, {new_commits} new", item.at.seconds())
        }
        What::RefDeleted { r#ref } => format!("{} {ref} gone", item.at.seconds()),
        What::BuildEnded { build, outcome, subject, duration_ms, .. } => {
            format!("{} build {build} {outcome} {subject:?} {duration_ms:?}", item.at.seconds())
        }
    };
    feed.newest().map(words).collect()
}

#[test]
fn refs_and_builds_are_told_with_their_commits_newest_first() {
    let mut feed = Feed::default();
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let result = BuildResult {
        build: 7,
        attempt: 1,
        builder: "linux".into(),
        repository: "one".into(),
        commit: hash(20),
        outcome: "failed".into(),
        started: time(30),
        ended: time(32),
        ..Default::default()
    };
    feed.step(&commit(10), None);
    feed.step(&commit(20), None);
    feed.step(&moved(&["refs/heads/main", "refs/tags/v1"], 20, &[]), None);
    feed.step(&Mutation { build_result: Some(result), ..Default::default() }, None);
    feed.step(&moved(&[], 0, &["refs/tags/v1"]), Some(Timestamp::from_seconds(40)));
    assert_eq!(
        words(&feed),
        [
            "40 refs/tags/v1 gone",
            "32 build 7 failed \"subject 20\" Some(2000)",
            "20 refs/tags/v1 \"subject 20\" by Ada Lovelace, 0 new",
            "20 refs/heads/main \"subject 20\" by Ada Lovelace, 2 new",
        ]
    );
    assert!(feed.newest().next().unwrap().heard && !feed.newest().last().unwrap().heard);
}

#[test]
fn memory_is_bounded() {
    let mut feed = Feed::default();
    for n in 1..=5000 {
        feed.step(&commit(n), None);
        feed.step(&moved(&["refs/heads/main"], n, &[]), None);
    }
    assert_eq!(feed.newest().count(), MAX_ITEMS);
    assert_eq!((feed.commits.len(), feed.order.len(), feed.new_commits.len()), (MAX_COMMITS, MAX_COMMITS, 0));
    assert_eq!(words(&feed)[0], "5000 refs/heads/main \"subject 5000\" by Ada Lovelace, 1 new");
}

#[test]
fn what_makes_no_sense_is_left_out() {
    let mut feed = Feed::default();
    let bad = BuildResult { commit: "HEAD".into(), outcome: "passed".into(), ..Default::default() };
    feed.step(&Mutation { build_result: Some(bad), ..Default::default() }, None);
    feed.step(&Mutation::default(), None);
    assert_eq!(feed.newest().count(), 0);
}
