//! Tests of the rule.

use api::maintpb::{GitCommit, GitMutation, GitRef, RepositoryMutation};

use super::*;

fn hash(n: u32) -> CommitHash {
    format!("{n:040x}").parse().unwrap()
}

fn commit(n: u32, parents: &[u32]) -> Mutation {
    let lines =
        parents.iter().map(|parent| format!("parent {}\n", hash(*parent))).collect::<Vec<_>>().concat();
    let raw =
        format!("tree {}\n{lines}author A <a> 1 +0000\ncommitter A <a> 1 +0000\n\ncommit {n}\n", hash(0));
    let commit = GitCommit { sha1: hash(n).to_string(), raw: raw.into(), diff_tree: None };
    Mutation { git: Some(GitMutation { repo: None, commit: Some(commit) }), ..Default::default() }
}

fn head(name: &str, n: u32) -> Mutation {
    let refs = vec![GitRef { r#ref: name.into(), sha1: hash(n).to_string() }];
    let repository = RepositoryMutation { repository: "one".into(), refs, deleted_refs: Vec::new() };
    Mutation { repository: Some(repository), ..Default::default() }
}

fn built(build: u64, attempt: u32, n: u32, outcome: &str) -> Mutation {
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

/// The builds that the rule speaks about after a line 1–2–3 on main.
fn check(results: &[Mutation], expected: &[(u64, u32)]) {
    let mut rule = GreenToRed::default();
    let history = [commit(1, &[]), commit(2, &[1]), commit(3, &[2]), head("refs/heads/main", 3)];
    let found: Vec<(u64, u32)> = history
        .iter()
        .chain(results)
        .flat_map(|mutation| rule.step(mutation))
        .map(|finding| (finding.build, u32::from_str_radix(&finding.commit.to_string(), 16).unwrap()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn green_then_red_is_found_in_either_order() {
    check(&[built(1, 1, 1, "passed"), built(2, 1, 2, "failed")], &[(2, 2)]);
    check(&[built(2, 1, 2, "timed_out"), built(1, 1, 1, "passed")], &[(2, 2)]);
}

#[test]
fn red_after_red_and_without_a_parent_is_not() {
    check(&[built(1, 1, 1, "failed"), built(2, 1, 2, "failed"), built(3, 1, 3, "passed")], &[]);
}

#[test]
fn what_says_nothing_about_the_commit_is_left_out() {
    check(&[built(1, 1, 1, "passed"), built(2, 1, 2, "infrastructure"), built(2, 2, 2, "passed")], &[]);
    check(&[built(1, 1, 1, "infrastructure"), built(2, 1, 2, "failed"), built(1, 2, 1, "passed")], &[(2, 2)]);
}

#[test]
fn a_failure_that_passed_meanwhile_is_no_finding() {
    check(&[built(2, 1, 2, "failed"), built(2, 2, 2, "passed"), built(1, 1, 1, "passed")], &[]);
}

#[test]
fn tries_other_builders_and_repeats_are_left_out() {
    let mut tried = built(2, 1, 2, "failed");
    tried.build_result.as_mut().unwrap().is_try = true;
    let mut other = built(4, 1, 2, "failed");
    other.build_result.as_mut().unwrap().builder = "windows".into();
    check(&[built(1, 1, 1, "passed"), tried, other], &[]);
    let again = built(2, 1, 2, "failed");
    check(&[built(1, 1, 1, "passed"), again.clone(), again], &[(2, 2)]);
}

#[test]
fn a_commit_that_is_on_no_branch_is_left_out() {
    let mut rule = GreenToRed::default();
    let history = [
        commit(1, &[]),
        commit(2, &[1]),
        head("refs/heads/main", 1),
        head("refs/tags/v1", 2),
        built(1, 1, 1, "passed"),
        built(2, 1, 2, "failed"),
    ];
    assert_eq!(history.iter().flat_map(|mutation| rule.step(mutation)).count(), 0);
}

#[test]
fn a_merge_is_compared_with_the_branch_it_was_made_on() {
    let mut rule = GreenToRed::default();
    let history = [
        commit(1, &[]),
        commit(2, &[1]),
        commit(3, &[1, 2]),
        head("refs/heads/main", 3),
        built(1, 1, 2, "passed"),
        built(2, 1, 3, "failed"),
    ];
    assert_eq!(history.iter().flat_map(|mutation| rule.step(mutation)).count(), 0);
    assert_eq!(rule.step(&built(3, 1, 1, "passed")).len(), 1);
}
