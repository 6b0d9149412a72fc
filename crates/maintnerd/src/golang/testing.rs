//! A small Go project at Gerrit, said in mutations.

use std::collections::BTreeMap;

use api::maintpb::{GerritComment, GerritMutation, GitCommit, GitRef, Mutation};
use maintner::Corpus;
use sha1::{Digest as _, Sha1};

/// A corpus that tests add to.
#[derive(Debug, Default)]
pub(crate) struct Fixture {
    pub(crate) corpus: Corpus,
    clock: i64,
    /// What was said last, by project and ref.
    refs: BTreeMap<(String, String), String>,
}

impl Fixture {
    fn apply(&mut self, project: &str, name: &str, raw: String) -> String {
        let digest =
            Sha1::new().chain_update(format!("commit {}\0", raw.len())).chain_update(&raw).finalize();
        let sha1 = hex::encode(digest);
        let gerrit = GerritMutation {
            project: format!("go.googlesource.com/{project}"),
            commits: vec![GitCommit { sha1: sha1.clone(), raw: raw.into(), diff_tree: None }],
            refs: vec![GitRef { r#ref: name.into(), sha1: sha1.clone() }],
            ..GerritMutation::default()
        };
        self.corpus.apply(&Mutation { gerrit: Some(gerrit), ..Mutation::default() });
        self.refs.insert((project.into(), name.into()), sha1.clone());
        sha1
    }

    fn commit(&mut self, project: &str, name: &str, author: &str, message: &str) -> String {
        self.clock += 1;
        let parent = self.refs.get(&(project.to_owned(), name.to_owned()));
        let parent = parent.map_or_else(String::new, |parent| format!("parent {parent}\n"));
        let time = self.clock;
        let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let raw = format!(
            "tree {tree}\n{parent}author {author} {time} +0000\ncommitter {author} {time} +0000\n\n{message}\n"
        );
        self.apply(project, name, raw)
    }

    /// Commits to a branch. Answers with the commit's name.
    pub(crate) fn commit_at(&mut self, project: &str, branch: &str, time: i64, title: &str) -> String {
        self.clock = time - 1;
        self.commit(project, &format!("refs/heads/{branch}"), "Ada <ada@example.com>", title)
    }

    /// Makes a branch with a commit of its own.
    pub(crate) fn branch(&mut self, project: &str, branch: &str) {
        self.commit(
            project,
            &format!("refs/heads/{branch}"),
            "Ada <ada@example.com>",
            &format!("{project} {branch}"),
        );
    }

    /// Makes a branch where another stands.
    pub(crate) fn fork(&mut self, project: &str, from: &str, to: &str) {
        let name = |branch: &str| format!("refs/heads/{branch}");
        let sha1 = self.refs[&(project.to_owned(), name(from))].clone();
        let gerrit = GerritMutation {
            project: format!("go.googlesource.com/{project}"),
            refs: vec![GitRef { r#ref: name(to), sha1: sha1.clone() }],
            ..GerritMutation::default()
        };
        self.corpus.apply(&Mutation { gerrit: Some(gerrit), ..Mutation::default() });
        self.refs.insert((project.into(), name(to)), sha1);
    }

    /// Makes a tag with a commit of its own.
    pub(crate) fn tag(&mut self, project: &str, tag: &str) {
        self.commit(project, &format!("refs/tags/{tag}"), "Ada <ada@example.com>", tag);
    }

    /// Uploads a change.
    pub(crate) fn change(&mut self, project: &str, number: u32, branch: &str) {
        let commit = self.upload(project, number, 1);
        let footers = format!("Branch: {branch}\nStatus: new\nCommit: {commit}\nSubject: a change");
        self.note(project, number, "Create change\n\nUploaded patch set 1.", 1, &footers);
    }

    /// Uploads another patch set of a change, with another diff.
    pub(crate) fn patch_set(&mut self, project: &str, number: u32, patch_set: u32) {
        let commit = self.upload(project, number, patch_set);
        self.note(
            project,
            number,
            &format!("Create patch set {patch_set}"),
            patch_set,
            &format!("Commit: {commit}"),
        );
    }

    fn upload(&mut self, project: &str, number: u32, patch_set: u32) -> String {
        let name = format!("refs/changes/{:02}/{number}/{patch_set}", number % 100);
        let message = format!("a change, {patch_set}\n\nChange-Id: I{number:040x}");
        self.commit(project, &name, "Ada <ada@example.com>", &message)
    }

    /// Adds a message to a change, with a footer. Answers when it was said.
    pub(crate) fn say(&mut self, project: &str, number: u32, text: &str, footer: &str) -> i64 {
        self.note(project, number, &format!("Update patch set 1\n\n{text}"), 1, footer);
        self.clock
    }

    /// Adds a comment on the first patch set as a whole.
    pub(crate) fn write(&mut self, project: &str, number: i32, author: &str, seconds: i64, text: &str) {
        let comment = GerritComment {
            change: number,
            uuid: format!("{author}-{text}"),
            patch_set: 1,
            file: "/PATCHSET_LEVEL".into(),
            author: author.into(),
            written: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            message: text.into(),
            ..GerritComment::default()
        };
        let project = format!("go.googlesource.com/{project}");
        let gerrit = GerritMutation { project, comments: vec![comment], ..GerritMutation::default() };
        self.corpus.apply(&Mutation { gerrit: Some(gerrit), ..Mutation::default() });
    }

    fn note(&mut self, project: &str, number: u32, text: &str, patch_set: u32, footers: &str) {
        let name = format!("refs/changes/{:02}/{number}/meta", number % 100);
        let message = format!("{text}\n\nPatch-set: {patch_set}\n{footers}");
        self.commit(project, &name, "Gerrit User 7 <7@62eb7196>", &message);
    }
}
