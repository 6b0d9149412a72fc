//! Tests of the fold.

use api::maintpb::{BuildResult, GitCommit, GitMutation, GitRef, RepositoryMutation};
use types::Outcome;

use super::*;

fn hash(n: u32) -> CommitHash {
    format!("{n:040x}").parse().unwrap()
}

fn commit(n: u32, parents: &[u32]) -> Mutation {
    let parents =
        parents.iter().map(|parent| format!("parent {}\n", hash(*parent))).collect::<Vec<_>>().concat();
    let raw = format!(
        "tree {}\n{parents}author Ada <ada@example.com> {n} +0000\ncommitter Bob <bob@example.com> {n} +0000\n\n\
         commit {n}\n",
        hash(0)
    );
    let commit = GitCommit { sha1: hash(n).to_string(), raw: raw.into(), diff_tree: None };
    Mutation { git: Some(GitMutation { repo: None, commit: Some(commit) }), ..Default::default() }
}

fn moved(name: &str, to: Option<u32>) -> Mutation {
    let refs = to.map(|n| GitRef { r#ref: name.into(), sha1: hash(n).to_string() });
    let deleted_refs = if to.is_none() { vec![name.into()] } else { Vec::new() };
    let repository =
        RepositoryMutation { repository: "one".into(), refs: refs.into_iter().collect(), deleted_refs };
    Mutation { repository: Some(repository), ..Default::default() }
}

fn result(build: u64, attempt: u32, n: u32, outcome: &str) -> Mutation {
    let result = BuildResult {
        build,
        attempt,
        builder: "linux".into(),
        repository: "one".into(),
        commit: hash(n).to_string(),
        outcome: outcome.into(),
        ..Default::default()
    };
    Mutation { build_result: Some(result), ..Default::default() }
}

fn fold(mutations: &[Mutation]) -> Corpus {
    let mut corpus = Corpus::default();
    for mutation in mutations {
        corpus.apply(mutation);
    }
    corpus
}

#[test]
fn commits_refs_and_results_are_found_again() {
    let corpus = fold(&[
        commit(1, &[]),
        commit(2, &[1]),
        moved("refs/heads/main", Some(2)),
        result(7, 1, 2, "failed"),
        result(7, 2, 2, "passed"),
    ]);
    let two = corpus.commit(&hash(2)).unwrap();
    assert_eq!((&*two.subject(), two.author()), ("commit 2", "Ada <ada@example.com>"));
    assert_eq!(two.first_parent(), Some(hash(1)));
    assert_eq!(corpus.find_ref("one", "refs/heads/main"), Some(hash(2)));
    let outcomes: Vec<Outcome> = corpus.attempts(hash(2), "linux").map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Passed]);
    assert_eq!(corpus.attempts(hash(2), "windows").count(), 0);
    assert_eq!(corpus.check(), Vec::<String>::new());
}

#[test]
fn a_commit_before_its_parent_is_filled_in_later() {
    let mut corpus = fold(&[commit(3, &[2, 1])]);
    assert_eq!(corpus.commit_count(), 1);
    assert!(corpus.commit(&hash(2)).is_none(), "a commit that is only named must not be reachable");
    assert_eq!(corpus.check().len(), 2);
    corpus.apply(&commit(2, &[1]));
    corpus.apply(&commit(1, &[]));
    assert_eq!(corpus.check(), Vec::<String>::new());
    assert!(corpus.has_ancestor(&hash(3), &hash(1)));
    assert!(!corpus.has_ancestor(&hash(1), &hash(3)));
    assert!(!corpus.has_ancestor(&hash(1), &hash(1)), "a commit is not its own ancestor");
}

#[test]
fn a_repeat_changes_nothing() {
    let all = [commit(1, &[]), moved("refs/heads/main", Some(1)), result(1, 1, 1, "passed")];
    let mut corpus = fold(&all);
    corpus.apply(&all[0]);
    corpus.apply(&result(1, 1, 1, "failed"));
    assert_eq!((corpus.commit_count(), corpus.attempt_count()), (1, 1));
    assert_eq!(corpus.attempt((1, 1)).unwrap().outcome, Outcome::Passed);
}

#[test]
fn a_deleted_ref_is_gone() {
    let corpus = fold(&[commit(1, &[]), moved("refs/heads/old", Some(1)), moved("refs/heads/old", None)]);
    assert_eq!(corpus.refs("one").count(), 0);
    assert_eq!(corpus.repositories().collect::<Vec<_>>(), ["one"]);
}

#[test]
fn what_is_not_modelled_is_skipped_and_what_makes_no_sense_is_counted() {
    let unknown = Mutation::default();
    let mut bad = commit(1, &[]);
    bad.git.as_mut().unwrap().commit.as_mut().unwrap().sha1 = "HEAD".into();
    let corpus = fold(&[
        unknown,
        bad,
        moved("refs/heads/main", Some(1)),
        result(0, 1, 1, "passed"),
        result(1, 1, 1, "great"),
    ]);
    let expected = Statistics { mutations: 5, skipped: 1, malformed: 3 };
    assert_eq!(corpus.statistics(), expected);
    assert_eq!(corpus.check().len(), 2);
}
