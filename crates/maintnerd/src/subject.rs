//! What a repository is in the log: a plain one, or a project at a Gerrit too.
//!
//! Branches and tags of every repository are moved under the farm's name of it. A project at a Gerrit has all its refs,
//! those of its changes included, and its commits under the name that Go's maintner has for it, so that its programs
//! read them. Plain repositories have their commits under the farm's name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use api::{
    gitmirror::Repository,
    maintpb::{
        GerritComment, GerritMutation, GitCommit, GitMutation, GitRef, GitRepo, Mutation, RepositoryMutation,
    },
};
use maintner::{
    Corpus,
    core::{Project, keeps_ref},
};
use types::CommitHash;

/// Comments in one mutation: each may be long.
const COMMENTS_AT_ONCE: usize = 100;
/// Where Gerrit keeps changes.
const CHANGES: &str = "refs/changes/";

/// A ref and where it stands; nowhere if it is gone.
pub(crate) type Move = (String, Option<CommitHash>);

/// A repository, as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The farm's name of it.
    pub(crate) repository: String,
    /// `host/project`, if it is at a Gerrit.
    pub(crate) project: Option<String>,
}

impl Subject {
    /// What the corpus knows of its project, if it is one.
    pub(crate) fn project<'a>(&self, corpus: &'a Corpus) -> Option<Project<'a>> {
        corpus.gerrit().project(self.project.as_deref()?)
    }

    /// Whether a ref belongs to what the log has under the farm's name. At a Gerrit, changes do not.
    fn is_plain(&self, name: &str) -> bool {
        self.project.is_none() || !name.starts_with(CHANGES)
    }

    fn is_news_of_plain(&self, corpus: &Corpus, name: &str, commit: Option<CommitHash>) -> bool {
        self.is_plain(name) && corpus.find_ref(&self.repository, name) != commit
    }

    fn is_news_of_project(&self, corpus: &Corpus, name: &str, commit: Option<CommitHash>) -> bool {
        self.project.is_some()
            && keeps_ref(name)
            && self.project(corpus).and_then(|project| project.stands(name)) != commit
    }

    /// Whether the log says something else of a ref so far.
    pub(crate) fn is_news(&self, corpus: &Corpus, name: &str, commit: Option<CommitHash>) -> bool {
        self.is_news_of_plain(corpus, name, commit) || self.is_news_of_project(corpus, name, commit)
    }

    /// Where a ref stood that the log knows.
    pub(crate) fn stood(&self, corpus: &Corpus, name: &str) -> Option<CommitHash> {
        if self.is_plain(name) {
            return corpus.find_ref(&self.repository, name);
        }
        // What stands there may be missing still, and with it all that it reaches.
        self.project(corpus)?.stands(name).filter(|commit| corpus.commit(commit).is_some())
    }

    /// The names of all refs that stand somewhere in the log.
    pub(crate) fn all_refs(&self, corpus: &Corpus) -> Vec<String> {
        let plain = corpus.refs(&self.repository).map(|(name, _)| name.to_owned());
        plain.chain(self.project(corpus).into_iter().flat_map(|project| project.all_refs())).collect()
    }

    /// The mutation that brings a commit.
    pub(crate) fn commit(&self, commit: GitCommit) -> Mutation {
        if let Some(project) = self.project.clone() {
            let gerrit = GerritMutation { project, commits: vec![commit], ..GerritMutation::default() };
            return Mutation { gerrit: Some(gerrit), ..Mutation::default() };
        }
        let repo = Some(GitRepo { go_repo: self.repository.clone() });
        Mutation { git: Some(GitMutation { repo, commit: Some(commit) }), ..Mutation::default() }
    }

    /// The mutations that bring inline comments, as far as they are new or say something else now.
    pub(crate) fn comments(&self, corpus: &Corpus, comments: Vec<GerritComment>) -> Vec<Mutation> {
        let (Some(project), false) = (&self.project, comments.is_empty()) else { return Vec::new() };
        let known = corpus.gerrit().project(project);
        let of = |change: i32| {
            let all =
                known.iter().flat_map(move |known| known.comments_of(u32::try_from(change).unwrap_or(0)));
            all.map(|comment| (comment.uuid.clone(), comment)).collect::<BTreeMap<_, _>>()
        };
        let mut by_change: BTreeMap<i32, Vec<GerritComment>> = BTreeMap::new();
        for comment in comments {
            by_change.entry(comment.change).or_default().push(comment);
        }
        let mut mutations = Vec::new();
        for (change, comments) in by_change {
            let known = of(change);
            let news: Vec<_> =
                comments.into_iter().filter(|comment| known.get(&comment.uuid) != Some(comment)).collect();
            mutations.extend(news.chunks(COMMENTS_AT_ONCE).map(|some| {
                let (project, comments) = (project.clone(), some.to_vec());
                let gerrit = GerritMutation { project, comments, ..GerritMutation::default() };
                Mutation { gerrit: Some(gerrit), ..Mutation::default() }
            }));
        }
        mutations
    }

    /// The mutations that move refs, as far as they are news: those of the project first, so that whoever hears of a
    /// branch finds the change that it brought merged.
    pub(crate) fn moves(&self, corpus: &Corpus, moves: &[Move]) -> Vec<Mutation> {
        let mut mutations = Vec::new();
        let (refs, deleted_refs) = parts(moves, |name, commit| self.is_news_of_project(corpus, name, commit));
        if let Some(project) = self.project.clone()
            && !(refs.is_empty() && deleted_refs.is_empty())
        {
            let gerrit = GerritMutation { project, refs, deleted_refs, ..GerritMutation::default() };
            mutations.push(Mutation { gerrit: Some(gerrit), ..Mutation::default() });
        }
        let (refs, deleted_refs) = parts(moves, |name, commit| self.is_news_of_plain(corpus, name, commit));
        if !(refs.is_empty() && deleted_refs.is_empty()) {
            let repository = RepositoryMutation { repository: self.repository.clone(), refs, deleted_refs };
            mutations.push(Mutation { repository: Some(repository), ..Mutation::default() });
        }
        mutations
    }
}

/// The moves that are wanted: refs that stand somewhere, and names of those that are gone.
fn parts(moves: &[Move], wanted: impl Fn(&str, Option<CommitHash>) -> bool) -> (Vec<GitRef>, Vec<String>) {
    let (mut refs, mut gone) = (Vec::new(), Vec::new());
    for (name, commit) in moves.iter().filter(|(name, commit)| wanted(name, *commit)) {
        match commit {
            Some(commit) => refs.push(GitRef { r#ref: name.clone(), sha1: commit.to_string() }),
            None => gone.push(name.clone()),
        }
    }
    (refs, gone)
}

/// Which repositories are at a Gerrit, as gitmirror said last: it follows the configuration while it runs.
#[derive(Default)]
pub(crate) struct Subjects {
    projects: Mutex<BTreeMap<String, Place>>,
}

/// Where a repository is beside the farm; all is empty for a plain one.
struct Place {
    /// `host/project`.
    project: String,
    /// Where the REST API of that Gerrit is.
    url: String,
}

impl Subjects {
    fn projects(&self) -> MutexGuard<'_, BTreeMap<String, Place>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what gitmirror says of its repositories.
    pub(crate) fn learn(&self, listed: &[Repository]) {
        let place =
            |one: &Repository| Place { project: one.gerrit_project.clone(), url: one.gerrit_url.clone() };
        self.projects().extend(listed.iter().map(|one| (one.name.clone(), place(one))));
    }

    /// Where Gerrits are, and the `host/project` of each project that is followed there.
    pub(crate) fn gerrits(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let projects = self.projects();
        for place in projects.values().filter(|place| !place.project.is_empty() && !place.url.is_empty()) {
            all.entry(place.url.clone()).or_default().insert(place.project.clone());
        }
        all
    }

    /// Whether what is known of a repository explains that it has this ref.
    pub(crate) fn explains(&self, repository: &str, name: &str) -> bool {
        let projects = self.projects();
        projects.get(repository).is_some_and(|at| !at.project.is_empty() || !name.starts_with(CHANGES))
    }

    /// A repository as it is now.
    pub(crate) fn of(&self, repository: &str) -> Subject {
        let projects = self.projects();
        let project =
            projects.get(repository).map(|at| at.project.clone()).filter(|project| !project.is_empty());
        Subject { repository: repository.to_owned(), project }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "refs/heads/main";
    const META: &str = "refs/changes/34/1234/meta";

    fn subject(project: Option<&str>) -> Subject {
        Subject { repository: "one".into(), project: project.map(ToOwned::to_owned) }
    }

    fn hash(digit: u8) -> CommitHash {
        CommitHash::from_bytes([digit; 20])
    }

    #[test]
    fn a_move_is_news_once_for_the_repository_and_once_for_the_project() {
        let moves: Vec<Move> = [MAIN, META, "refs/changes/34/1234/robot-comments", "refs/changes/34/1234/1"]
            .map(|name| (name.to_owned(), Some(hash(1))))
            .into();
        let subject = subject(Some("host/a"));
        let mut corpus = Corpus::default();
        let said = subject.moves(&corpus, &moves);
        assert_eq!(said.len(), 2);
        assert_eq!(said[0].gerrit.as_ref().map(|gerrit| gerrit.refs.len()), Some(3), "not the robots'");
        assert_eq!(said[1].repository.as_ref().map(|plain| plain.refs.len()), Some(1), "not the change");
        for mutation in &said {
            corpus.apply(mutation);
        }
        assert!(subject.moves(&corpus, &moves).is_empty());
        let mut known = subject.all_refs(&corpus);
        known.sort_unstable();
        known.dedup();
        assert_eq!(known, ["refs/changes/34/1234/1", META, MAIN]);
        let gone: Vec<Move> = known.into_iter().map(|name| (name, None)).collect();
        for mutation in subject.moves(&corpus, &gone) {
            corpus.apply(&mutation);
        }
        assert!(subject.all_refs(&corpus).is_empty());
        assert!(gone.iter().all(|(name, _)| !subject.is_news(&corpus, name, None)));
    }

    #[test]
    fn a_repository_without_a_gerrit_keeps_what_looks_like_a_change_to_itself() {
        let moves = vec![(META.to_owned(), Some(hash(1)))];
        let said = subject(None).moves(&Corpus::default(), &moves);
        assert_eq!(said.len(), 1);
        assert!(said[0].gerrit.is_none() && said[0].repository.is_some());
    }

    #[test]
    fn what_gitmirror_said_last_counts() {
        let subjects = Subjects::default();
        let listed = |project: &str| Repository {
            name: "one".into(),
            gerrit_project: project.into(),
            ..Repository::default()
        };
        assert!(!subjects.explains("one", MAIN));
        subjects.learn(&[listed("")]);
        assert!(subjects.explains("one", MAIN) && !subjects.explains("one", META));
        subjects.learn(&[listed("host/a")]);
        assert!(subjects.explains("one", META));
        assert_eq!(subjects.of("one"), subject(Some("host/a")));
        assert_eq!(subjects.of("two").project, None);
        assert!(subjects.gerrits().is_empty(), "an older gitmirror does not say where it is");
        subjects.learn(&[Repository { gerrit_url: "https://host".into(), ..listed("host/a") }]);
        let expected = BTreeMap::from([("https://host".to_owned(), BTreeSet::from(["host/a".to_owned()]))]);
        assert_eq!(subjects.gerrits(), expected);
    }
}
