//! Taking mutations apart, as far as that needs nothing of what came before them: so it can be done ahead, by many, in
//! any order. What is left for the fold is to look names up and to put things into their place.
//!
//! All is read in place ([`super::wire`]); a [`Batch`] holds references into the log, in a few long vectors.

mod gerrit;
mod github;

use std::ops::Range;

use api::maintpb::BuildResult;
use prost::Message as _;
use types::CommitHash;

use super::{
    gerrit::ChangeRef,
    github::ReviewCommentCell,
    notes::{self, Note},
    parse::scan_commit,
    payloads::Span,
    strings::{Name, Texts},
    wire::{DecodeError, Fields},
};

pub(super) use github::{
    CommentDraft, EventDraft, IssueDraft, MilestoneDraft, RepositoryDraft, ReviewDraft, UserDraft,
};

/// A part of one of the vectors of a batch.
pub(super) type Part = Range<u32>;

/// Mutations that were taken apart, in their order.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    pub(super) steps: Vec<Step<'a>>,
    pub(super) github_steps: Vec<GithubStep>,
    pub(super) issues: Vec<IssueDraft<'a>>,
    pub(super) comments: Vec<CommentDraft<'a>>,
    pub(super) events: Vec<EventDraft<'a>>,
    pub(super) reviews: Vec<ReviewDraft<'a>>,
    pub(super) review_comments: Vec<ReviewCommentCell>,
    pub(super) users: Vec<UserDraft<'a>>,
    pub(super) labels: Vec<(i64, Name<'a>)>,
    pub(super) numbers: Vec<i64>,
    pub(super) repositories: Vec<RepositoryDraft<'a>>,
    pub(super) commits: Vec<CommitDraft<'a>>,
    pub(super) parents: Vec<CommitHash>,
    pub(super) notes: Vec<Note<'a>>,
    pub(super) refs: Vec<RefDraft<'a>>,
    pub(super) gone: Vec<&'a [u8]>,
    pub(super) inline: Vec<InlineDraft<'a>>,
    pub(super) results: Vec<BuildResult>,
    pub(super) texts: Texts<'a>,
    pub(super) github_texts: Texts<'a>,
    mutations: u64,
}

/// What of GitHub is to be applied next.
#[derive(Debug, Clone, Copy)]
pub(super) enum GithubStep {
    Issue(u32),
    Repository(u32),
}

/// What of the rest is to be applied next.
#[derive(Debug, Clone)]
pub(super) enum Step<'a> {
    Commit(u32),
    Gerrit {
        project: Name<'a>,
        commits: Part,
        refs: Part,
        gone: Part,
        inline: Part,
    },
    Git {
        repository: &'a [u8],
        refs: Part,
        gone: Part,
    },
    Result(u32),
    /// So many parts of the mutation make no sense.
    Malformed(u64),
    /// Nothing of the mutation is known here.
    Skipped,
}

impl Step<'_> {
    /// The commits that it brings.
    pub(super) fn commits(&self) -> Part {
        match self {
            Step::Commit(at) => *at..at + 1,
            Step::Gerrit { commits, .. } => commits.clone(),
            _ => 0..0,
        }
    }

    /// The refs of changes that it moves.
    pub(super) fn change_refs(&self) -> Part {
        match self {
            Step::Gerrit { refs, .. } => refs.clone(),
            _ => 0..0,
        }
    }
}

/// A commit.
#[derive(Debug, Clone)]
pub(super) struct CommitDraft<'a> {
    pub(super) hash: CommitHash,
    /// The whole `GitCommit`: headers, message and diff are read again when they are asked for.
    pub(super) span: Span,
    pub(super) author: Name<'a>,
    pub(super) committer: Name<'a>,
    pub(super) committed: i64,
    pub(super) parents: Part,
    pub(super) notes: Part,
}

/// A ref, and where it stands now.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefDraft<'a> {
    pub(super) name: &'a [u8],
    pub(super) hash: CommitHash,
    /// If it is one of a change at a Gerrit: which, and what of it.
    pub(super) change: Option<(u32, ChangeRef)>,
}

/// An inline comment of a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct InlineDraft<'a> {
    pub(super) change: u32,
    pub(super) uuid: Name<'a>,
    /// The whole `GerritComment`.
    pub(super) span: Span,
}

/// A payload and its address, from which those of its parts follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payload<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: u64,
}

impl Payload<'_> {
    /// Where a part of the payload is.
    #[inline]
    pub(super) fn span(&self, part: &[u8]) -> Span {
        let offset = part.as_ptr() as usize - self.bytes.as_ptr() as usize;
        Span::new(self.at + offset as u64, part.len())
    }
}

/// The parts of one mutation, which apply in another order than they may be written.
#[derive(Default)]
struct Parts<'a> {
    issue: Option<&'a [u8]>,
    git: Option<&'a [u8]>,
    github: Option<&'a [u8]>,
    gerrit: Option<&'a [u8]>,
    repository: Option<&'a [u8]>,
    result: Option<&'a [u8]>,
}

/// What is new in a vector since it had this length.
pub(super) fn since<T>(vector: &[T], start: usize) -> Part {
    start as u32..vector.len() as u32
}

impl<'a> Batch<'a> {
    /// Takes the next mutation apart. Its bytes lie at this address of the corpus that the batch is for.
    ///
    /// # Errors
    ///
    /// The bytes are no mutation, and the batch is as it was, but for what nothing refers to.
    pub fn add(&mut self, at: u64, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let (steps, github_steps) = (self.steps.len(), self.github_steps.len());
        let added = self.add_parts(Payload { bytes, at });
        if added.is_err() {
            self.steps.truncate(steps);
            self.github_steps.truncate(github_steps);
        } else {
            self.mutations += 1;
        }
        added
    }

    /// Forgets all that was added, and keeps the memory for what comes next.
    pub fn clear(&mut self) {
        let Self {
            steps,
            github_steps,
            issues,
            comments,
            events,
            reviews,
            review_comments,
            users,
            labels,
            numbers,
            repositories,
            commits,
            parents,
            notes,
            refs,
            gone,
            inline,
            results,
            texts,
            github_texts,
            mutations,
        } = self;
        steps.clear();
        github_steps.clear();
        issues.clear();
        comments.clear();
        events.clear();
        reviews.clear();
        review_comments.clear();
        users.clear();
        labels.clear();
        numbers.clear();
        repositories.clear();
        commits.clear();
        parents.clear();
        notes.clear();
        refs.clear();
        gone.clear();
        inline.clear();
        results.clear();
        texts.clear();
        github_texts.clear();
        *mutations = 0;
    }

    /// How many mutations were added.
    pub fn mutations(&self) -> u64 {
        self.mutations
    }

    /// Whether what was taken apart refers to the bytes.
    pub(super) fn refers(&self) -> bool {
        !self.commits.is_empty() || !self.issues.is_empty() || !self.inline.is_empty()
    }

    fn add_parts(&mut self, payload: Payload<'a>) -> Result<(), DecodeError> {
        let mut parts = Parts::default();
        let mut fields = Fields(payload.bytes);
        while let Some((number, value)) = fields.next()? {
            let part = match number {
                1 => &mut parts.issue,
                2 => &mut parts.git,
                3 => &mut parts.github,
                4 => &mut parts.gerrit,
                100 => &mut parts.repository,
                101 => &mut parts.result,
                _ => continue,
            };
            *part = Some(value.bytes()?);
        }
        let before = self.steps.len() + self.github_steps.len();
        if let Some(part) = parts.issue {
            self.add_issue(payload, part)?;
        }
        if let Some(part) = parts.github {
            self.add_repository(part)?;
        }
        if let Some(part) = parts.git {
            self.add_git(payload, part)?;
        }
        if let Some(part) = parts.gerrit {
            self.add_gerrit(payload, part)?;
        }
        if let Some(part) = parts.repository {
            self.add_refs(part)?;
        }
        if let Some(part) = parts.result {
            let result = BuildResult::decode(part).map_err(|_| DecodeError("a result that is none"))?;
            self.steps.push(Step::Result(self.results.len() as u32));
            self.results.push(result);
        }
        if self.steps.len() + self.github_steps.len() == before {
            self.steps.push(Step::Skipped);
        }
        Ok(())
    }

    fn malformed(&mut self) {
        self.steps.push(Step::Malformed(1));
    }

    /// Takes a commit apart. Nothing is added if it is none.
    fn add_commit(&mut self, payload: Payload<'a>, message: &'a [u8]) -> Result<bool, DecodeError> {
        let (mut name, mut raw) = (&b""[..], &b""[..]);
        let mut fields = Fields(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => name = value.bytes()?,
                2 => raw = value.bytes()?,
                _ => {}
            }
        }
        let (parents, notes) = (self.parents.len(), self.notes.len());
        let header = scan_commit(raw, |parent| self.parents.push(parent));
        let (Some(hash), Ok(header)) = (super::parse::parse_hash(name), header) else {
            self.parents.truncate(parents);
            return Ok(false);
        };
        notes::read(header.author, header.message, |mut note| {
            for name in note.names().into_iter().flatten() {
                *name = self.texts.name(name.bytes);
            }
            self.notes.push(note);
        });
        let author = self.texts.name(header.author.name);
        // Most commits were committed by their author, or by whom the one before was: NoteDb's are by Gerrit itself.
        let before = self.commits.last().map(|draft| draft.committer);
        let same = [Some(author), before].into_iter().flatten();
        let committer = same.into_iter().find(|name| name.bytes == header.committer.name);
        self.commits.push(CommitDraft {
            hash,
            span: payload.span(message),
            author,
            committer: committer.unwrap_or_else(|| self.texts.name(header.committer.name)),
            committed: header.committer.seconds,
            parents: since(&self.parents, parents),
            notes: since(&self.notes, notes),
        });
        Ok(true)
    }
}

/// The elements of a part.
#[inline]
pub(super) fn part<'b, T>(vector: &'b [T], part: &Part) -> &'b [T] {
    &vector[part.start as usize..part.end as usize]
}
