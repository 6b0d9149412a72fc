//! The log with the corpus that tells what is in it: the one place where mutations are made.
//!
//! What is in the log already is not appended again. Who decides that holds the corpus until the new mutations have
//! their place in the log, so that order is the same in both; then many may wait for one sync together.

use std::{collections::BTreeSet, path::Path};

use api::maintpb::{BuildResult, GitCommit, GitMutation, GitRepo, Mutation, RepositoryMutation};
use maintner::{
    Corpus, Log, Options, ReplayError,
    log::{AppendError, OpenError, SharedLog, encode},
    snapshot,
};
use tokio::sync::{Mutex, MutexGuard};
use tracing::{info, warn};
use types::CommitHash;

/// The log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenLedgerError {
    #[error("cannot open the mutation log")]
    Open(#[from] OpenError),
    /// Going on would append what is there already, since it could not be read.
    #[error("cannot read the mutation log: check it, and bring it back from a backup")]
    Read(#[from] ReplayError),
}

pub(crate) struct Ledger {
    log: Log,
    corpus: Mutex<Corpus>,
}

impl Ledger {
    /// Opens the log and folds it. Blocks on the disk.
    pub(crate) fn open(
        dir: &Path,
        options: Options,
        shared: Option<&SharedLog>,
    ) -> Result<Self, OpenLedgerError> {
        let log = match shared {
            Some(shared) => Log::open_shared(dir, options, shared)?,
            None => Log::open(dir, options)?,
        };
        let (corpus, opened) = snapshot::open(dir)?;
        let statistics = corpus.statistics();
        info!(
            mutation.position = statistics.mutations,
            "mutation log open: {} mutations, {} commits, {} results of builds; {} segments from a snapshot",
            statistics.mutations,
            corpus.commit_count(),
            corpus.attempt_count(),
            opened.from_snapshot
        );
        if statistics.malformed > 0 {
            warn!("{} parts of mutations in the log made no sense and were left out", statistics.malformed);
        }
        Ok(Self { log, corpus: Mutex::new(corpus) })
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// What the log says now, durable or about to be.
    pub(crate) async fn corpus(&self) -> MutexGuard<'_, Corpus> {
        self.corpus.lock().await
    }

    /// Appends the results that the log does not hold yet; all of them are durable when it answers.
    pub(crate) async fn append_results(&self, results: Vec<BuildResult>) -> Result<(), AppendError> {
        let mut corpus = self.corpus.lock().await;
        let mut mutations = Vec::with_capacity(results.len());
        let mut seen = BTreeSet::new();
        for result in results {
            let key = (result.build, result.attempt);
            if !corpus.has_attempt(key) && seen.insert(key) {
                mutations.push(Mutation { build_result: Some(result), ..Mutation::default() });
            }
        }
        // Also when there is nothing new: what is skipped may be on its way, and must be durable too.
        let pending = self.enqueue(&mut corpus, &mutations).await?;
        drop(corpus);
        pending.durable().await?;
        Ok(())
    }

    /// Appends the commits that the log does not hold yet and then, if there is one, the move of refs; all in one
    /// piece, so that they are durable together. Answers when they are.
    pub(crate) async fn append_history(
        &self,
        repository: &str,
        commits: Vec<GitCommit>,
        refs: Option<RepositoryMutation>,
    ) -> Result<(), AppendError> {
        let mut mutations = Vec::with_capacity(commits.len() + 1);
        let mut corpus = self.corpus.lock().await;
        for commit in commits {
            let known = commit.sha1.parse::<CommitHash>().is_ok_and(|hash| corpus.commit(&hash).is_some());
            if !known {
                let repo = Some(GitRepo { go_repo: repository.into() });
                let git = Some(GitMutation { repo, commit: Some(commit) });
                mutations.push(Mutation { git, ..Mutation::default() });
            }
        }
        mutations.extend(refs.map(|refs| Mutation { repository: Some(refs), ..Mutation::default() }));
        let pending = self.enqueue(&mut corpus, &mutations).await?;
        drop(corpus);
        pending.durable().await?;
        Ok(())
    }

    async fn enqueue(
        &self,
        corpus: &mut Corpus,
        mutations: &[Mutation],
    ) -> Result<maintner::log::Pending, AppendError> {
        let pending = self.log.enqueue(mutations.iter().map(encode).collect()).await?;
        for mutation in mutations {
            corpus.apply(mutation);
        }
        corpus.settle();
        Ok(pending)
    }
}
