//! The fold itself, in two halves: GitHub, and all that is in git, which is Gerrit too.
//!
//! Neither looks at what the other keeps, not even at its texts. So both can be applied at the same time, each in the
//! order of the log, and what comes of it is the same however they take turns.

use std::collections::BTreeMap;

use types::CommitHash;

use super::{
    builds::Builds,
    commits::Commits,
    corpus::Statistics,
    decode::{Batch, GithubStep, Part, Step, part},
    gerrit::{self, Around},
    github,
    payloads::Payloads,
    strings::Strings,
};

/// So many steps wait for memory together: what they look at must stay near until they are applied.
const TOGETHER: usize = 64;

/// What GitHub says.
pub(crate) struct GithubHalf<'c> {
    pub(super) strings: &'c mut Strings,
    pub(super) state: &'c mut github::State,
    pub(super) malformed: &'c mut u64,
}

/// Commits, changes, refs and results.
pub(crate) struct GitHalf<'c> {
    pub(super) strings: &'c mut Strings,
    pub(super) payloads: &'c Payloads,
    pub(super) commits: &'c mut Commits,
    pub(super) gerrit: &'c mut gerrit::State,
    pub(super) builds: &'c mut Builds,
    pub(super) repositories: &'c mut BTreeMap<String, BTreeMap<String, CommitHash>>,
    pub(super) statistics: &'c mut Statistics,
}

/// A half of the fold.
pub(crate) trait Half: Send {
    /// Applies its half of the next mutations.
    fn apply(&mut self, batch: &Batch<'_>);
}

impl Half for GithubHalf<'_> {
    fn apply(&mut self, batch: &Batch<'_>) {
        self.strings.begin(&batch.github_texts);
        for steps in batch.github_steps.chunks(TOGETHER) {
            self.state.warm(self.strings, batch, steps);
            for step in steps {
                *self.malformed += match step {
                    GithubStep::Issue(at) => {
                        self.state.apply_issue(self.strings, batch, &batch.issues[*at as usize])
                    }
                    GithubStep::Repository(at) => {
                        self.state.apply_repository(self.strings, batch, &batch.repositories[*at as usize])
                    }
                };
            }
        }
    }
}

impl Half for GitHalf<'_> {
    fn apply(&mut self, batch: &Batch<'_>) {
        self.statistics.mutations += batch.mutations();
        self.strings.begin(&batch.texts);
        for steps in batch.steps.chunks(TOGETHER) {
            self.commits.warm(batch, steps);
            self.gerrit.warm(self.strings, batch, steps);
            for step in steps {
                self.apply_step(batch, step);
            }
        }
    }
}

impl GitHalf<'_> {
    fn apply_step(&mut self, batch: &Batch<'_>, step: &Step<'_>) {
        match step {
            Step::Commit(at) => self.apply_commits(batch, &(*at..at + 1), 0),
            Step::Gerrit { project, commits, refs, gone, inline } => {
                let project = self.gerrit.project(self.strings, *project);
                let origin = u16::try_from(project + 1).unwrap_or(0);
                self.apply_commits(batch, commits, origin);
                self.apply_change_refs(batch, project, refs, gone);
                for comment in part(&batch.inline, inline) {
                    self.gerrit.set_comment(self.strings, project, comment);
                }
            }
            Step::Git { repository, refs, gone } => self.apply_refs(batch, repository, refs, gone),
            Step::Result(at) => {
                let known = self.builds.add(self.strings, &batch.results[*at as usize]);
                self.statistics.malformed += u64::from(!known);
            }
            Step::Malformed(parts) => self.statistics.malformed += parts,
            Step::Skipped => self.statistics.skipped += 1,
        }
    }

    fn around(&mut self) -> (&mut gerrit::State, Around<'_>) {
        let Self { strings, commits, payloads, gerrit, .. } = self;
        (gerrit, Around { strings, commits, payloads })
    }

    fn apply_commits(&mut self, batch: &Batch<'_>, commits: &Part, origin: u16) {
        for draft in part(&batch.commits, commits) {
            if let Some(awaited) = self.commits.add(self.strings, batch, draft, origin) {
                let (state, mut around) = self.around();
                state.arrived(&mut around, awaited);
            }
        }
    }

    fn apply_change_refs(&mut self, batch: &Batch<'_>, project: u32, refs: &Part, gone: &Part) {
        let (state, mut around) = self.around();
        for name in part(&batch.gone, gone) {
            state.delete_ref(&mut around, project, name);
        }
        for draft in part(&batch.refs, refs) {
            state.set_ref(&mut around, project, draft);
        }
    }

    fn apply_refs(&mut self, batch: &Batch<'_>, repository: &[u8], refs: &Part, gone: &Part) {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let known = self.repositories.entry(text(repository)).or_default();
        for name in part(&batch.gone, gone) {
            known.remove(&text(name));
        }
        for draft in part(&batch.refs, refs) {
            known.insert(text(draft.name), draft.hash);
        }
    }
}
