//! What a mutation is about, told from its bytes without decoding them, and what a reader wants to see of it.
//!
//! The writer labels each mutation once; then a thousand readers decide by comparing numbers. What it belongs to is
//! kept as a hash of 64 bits: two names with the same one would be delivered together, which is once in the age of the
//! universe for names that chance gave, and harmless for those that somebody searched for.

use std::hash::{DefaultHasher, Hasher as _};

/// What a mutation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An issue or pull request at GitHub.
    GithubIssue,
    /// A commit.
    GitCommit,
    /// Labels and milestones at GitHub.
    GithubRepository,
    /// Commits and refs of a project at Gerrit.
    GerritProject,
    /// Refs of one of the farm's repositories.
    Repository,
    /// The result of a build.
    BuildResult,
}

/// What is known about one mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    /// One bit for a kind; none if the mutation is of no kind that we know.
    kind: u8,
    /// A hash of what it belongs to.
    scope: u64,
}

/// It has parts of several kinds, which is rare: only its bytes tell.
const SEVERAL: Label = Label { kind: u8::MAX, scope: 0 };

/// A mutation in the end of the log that is in memory: what it is about, and where its bytes end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) label: Label,
    pub(super) end: u32,
}

/// Which mutations a reader wants: those whose kind is listed and whose repository or project is. What is not listed
/// at all is not asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    kinds: u8,
    scopes: Vec<u64>,
}

impl Filter {
    /// Lets pass what is of one of the kinds, and belongs to one of the repositories or projects. No kinds are all
    /// kinds; neither repositories nor projects are all of both.
    pub fn new<'n>(
        repositories: impl IntoIterator<Item = &'n str>,
        projects: impl IntoIterator<Item = &'n str>,
        kinds: impl IntoIterator<Item = Kind>,
    ) -> Self {
        let repositories = repositories.into_iter().map(|name| scope(Space::Repository, name.as_bytes()));
        let projects = projects.into_iter().map(|name| scope(Space::Project, name.as_bytes()));
        let mut scopes: Vec<u64> = repositories.chain(projects).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self { kinds: kinds.into_iter().fold(0, |kinds, kind| kinds | bit(kind)), scopes }
    }

    /// Whether everything passes.
    pub fn is_all(&self) -> bool {
        self.kinds == 0 && self.scopes.is_empty()
    }

    /// Whether an encoded mutation passes.
    pub fn passes(&self, mutation: &[u8]) -> bool {
        self.is_all() || parts(mutation).any(|part| self.admits(part))
    }

    /// As [`Self::passes`], for a mutation whose label is known.
    pub(super) fn passes_label(&self, label: Label, mutation: &[u8]) -> bool {
        if label == SEVERAL { self.passes(mutation) } else { self.is_all() || self.admits(label) }
    }

    fn admits(&self, label: Label) -> bool {
        (self.kinds == 0 || self.kinds & label.kind != 0)
            && (self.scopes.is_empty()
                || (label.kind != 0 && self.scopes.binary_search(&label.scope).is_ok()))
    }
}

/// The label of an encoded mutation.
pub(super) fn label(mutation: &[u8]) -> Label {
    let mut parts = parts(mutation);
    let first = parts.next().unwrap_or(Label { kind: 0, scope: 0 });
    if parts.next().is_some() { SEVERAL } else { first }
}

fn bit(kind: Kind) -> u8 {
    1 << kind as u8
}

/// Whose names these are.
#[derive(Clone, Copy)]
enum Space {
    Repository = 1,
    Project = 2,
}

fn scope(space: Space, name: &[u8]) -> u64 {
    // Keyed by nothing, so that the same name has the same hash everywhere in the process.
    let mut hasher = DefaultHasher::new();
    hasher.write_u8(space as u8);
    hasher.write(name);
    hasher.finish()
}

/// One label for each part of a mutation. What cannot be read has none.
fn parts(mutation: &[u8]) -> impl Iterator<Item = Label> {
    fields(mutation).filter_map(|(number, part)| part_label(number, part))
}

/// The numbers are those of `maintpb.Mutation` and of the messages in it.
fn part_label(number: u64, part: &[u8]) -> Option<Label> {
    let of = |kind, space, name: &[u8]| Some(Label { kind: bit(kind), scope: scope(space, name) });
    match number {
        1 => of(Kind::GithubIssue, Space::Repository, &owner_and_name(part)),
        2 => of(Kind::GitCommit, Space::Repository, field(field(part, 1), 1)),
        3 => of(Kind::GithubRepository, Space::Repository, &owner_and_name(part)),
        4 => of(Kind::GerritProject, Space::Project, field(part, 1)),
        100 => of(Kind::Repository, Space::Repository, field(part, 1)),
        101 => of(Kind::BuildResult, Space::Repository, field(part, 4)),
        _ => None,
    }
}

fn owner_and_name(part: &[u8]) -> Vec<u8> {
    let (mut owner, mut name) = (&b""[..], &b""[..]);
    for (number, value) in fields(part).filter(|(number, _)| *number <= 2) {
        *(if number == 1 { &mut owner } else { &mut name }) = value;
    }
    [owner, b"/", name].concat()
}

/// The bytes of a length-delimited field, or nothing.
fn field(message: &[u8], wanted: u64) -> &[u8] {
    fields(message).find(|(number, _)| *number == wanted).map_or(&[], |(_, value)| value)
}

/// The length-delimited fields of a message, up to the first thing that cannot be read.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut rest)?;
            let skipped = match tag & 7 {
                0 => {
                    varint(&mut rest)?;
                    continue;
                }
                1 => 8,
                2 => usize::try_from(varint(&mut rest)?).ok()?,
                5 => 4,
                _ => return None,
            };
            let (value, after) = rest.split_at_checked(skipped)?;
            rest = after;
            if tag & 7 == 2 {
                return Some((tag >> 3, value));
            }
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use api::maintpb::{
        BuildResult, GerritMutation, GitCommit, GitMutation, GitRepo, GithubIssueMutation, GithubMutation,
        Mutation, RepositoryMutation,
    };
    use proptest::prelude::*;

    use super::{super::encode, *};

    fn issue(owner: &str, repo: &str) -> Mutation {
        // A long body before and after nothing: what the label needs comes first and is found at once.
        let issue = GithubIssueMutation {
            owner: owner.into(),
            repo: repo.into(),
            number: 7,
            body: "x".repeat(1000),
            ..Default::default()
        };
        Mutation { github_issue: Some(issue), ..Default::default() }
    }

    fn commit(repository: &str) -> Mutation {
        let commit = GitCommit { sha1: "0".repeat(40), raw: vec![b'y'; 300].into(), diff_tree: None };
        let git = GitMutation { repo: Some(GitRepo { go_repo: repository.into() }), commit: Some(commit) };
        Mutation { git: Some(git), ..Default::default() }
    }

    fn gerrit(project: &str) -> Mutation {
        let gerrit = GerritMutation { project: project.into(), ..Default::default() };
        Mutation { gerrit: Some(gerrit), ..Default::default() }
    }

    fn result(repository: &str) -> Mutation {
        let result =
            BuildResult { build: 9, attempt: 1, repository: repository.into(), ..Default::default() };
        Mutation { build_result: Some(result), ..Default::default() }
    }

    fn all() -> Vec<Mutation> {
        let labels = GithubMutation { owner: "golang".into(), repo: "go".into(), ..Default::default() };
        let refs = RepositoryMutation { repository: "golang/go".into(), ..Default::default() };
        vec![
            issue("golang", "go"),
            commit("golang/go"),
            Mutation { github: Some(labels), ..Default::default() },
            gerrit("golang/go"),
            Mutation { repository: Some(refs), ..Default::default() },
            result("golang/go"),
        ]
    }

    const KINDS: [Kind; 6] = [
        Kind::GithubIssue,
        Kind::GitCommit,
        Kind::GithubRepository,
        Kind::GerritProject,
        Kind::Repository,
        Kind::BuildResult,
    ];

    fn passing(filter: &Filter) -> Vec<usize> {
        let passes = |mutation: &Mutation| {
            let bytes = encode(mutation);
            let passes = filter.passes(&bytes);
            assert_eq!(filter.passes_label(label(&bytes), &bytes), passes, "{mutation:?}");
            passes
        };
        all().iter().enumerate().filter(|(_, mutation)| passes(mutation)).map(|(at, _)| at).collect()
    }

    #[test]
    fn each_kind_is_told_from_the_bytes() {
        for (at, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(passing(&Filter::new([], [], [kind])), [at]);
        }
        assert_eq!(passing(&Filter::default()), [0, 1, 2, 3, 4, 5]);
        assert!(Filter::new([], [], []).is_all());
    }

    #[test]
    fn repositories_and_projects_of_the_same_name_are_not_mixed_up() {
        assert_eq!(passing(&Filter::new(["golang/go"], [], [])), [0, 1, 2, 4, 5]);
        assert_eq!(passing(&Filter::new([], ["golang/go"], [])), [3]);
        assert_eq!(passing(&Filter::new(["golang/go"], ["golang/go"], [])), [0, 1, 2, 3, 4, 5]);
        assert_eq!(passing(&Filter::new(["golang/g"], ["olang/go"], [])), [0_usize; 0]);
        assert_eq!(passing(&Filter::new(["golang/go"], [], [Kind::GitCommit, Kind::GerritProject])), [1]);
    }

    #[test]
    fn a_mutation_of_several_parts_passes_if_one_does() {
        let both = Mutation { gerrit: gerrit("a/b").gerrit, ..issue("golang", "go") };
        let bytes = encode(&both);
        assert_eq!(label(&bytes), SEVERAL);
        for (filter, passes) in [
            (Filter::new(["golang/go"], [], []), true),
            (Filter::new([], ["a/b"], [Kind::GerritProject]), true),
            (Filter::new([], ["a/b"], [Kind::GithubIssue]), false),
            (Filter::new(["a/b"], [], []), false),
        ] {
            assert_eq!(filter.passes_label(label(&bytes), &bytes), passes, "{filter:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_label_and_none_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let filter = Filter::new(["golang/go"], [], []);
            prop_assert_eq!(filter.passes_label(label(&bytes), &bytes), filter.passes(&bytes));
        }
    }
}
