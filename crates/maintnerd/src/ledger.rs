//! The log with the corpus that tells what is in it: the one place where mutations are made.
//!
//! What is in the log already is not appended again. Who decides that holds the corpus until the new mutations have
//! their place in the log, so that order is the same in both; then many may wait for one sync together.
//!
//! The corpus refers to the log for what is long, but to copies of our own for what came since the log was read. When
//! there are too many of these, it is read again.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use api::maintpb::{BuildResult, GerritComment, GitCommit, Mutation};
use maintner::{
    Corpus, Log, Options, ReplayError, ResumeToken,
    log::{AppendError, OpenError, SharedLog, encode},
    replay::threads,
    snapshot,
};
use tokio::{
    sync::{RwLock, RwLockReadGuard, Semaphore},
    task::spawn_blocking,
};
use tracing::{info, warn};
use types::CommitHash;

use crate::subject::{Move, Subject};

/// The log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenLedgerError {
    #[error("cannot open the mutation log")]
    Open(#[from] OpenError),
    /// Going on would append what is there already, since it could not be read.
    #[error("cannot read the mutation log: check it, and bring it back from a backup")]
    Read(#[from] ReplayError),
}

/// When the corpus holds more bytes of copies than this, it is read again from the log.
const MOST_COPIED: usize = 64 * 1024 * 1024;

/// No question is answered any more.
#[derive(Debug, thiserror::Error)]
#[error("maintnerd is ending, and answers no more")]
pub(crate) struct Ending;

/// What is known of a repository, in the order in which it enters the log.
#[derive(Default)]
pub(crate) struct History<'m> {
    pub(crate) commits: Vec<GitCommit>,
    /// Inline comments of changes.
    pub(crate) comments: Vec<GerritComment>,
    pub(crate) moves: &'m [Move],
}

pub(crate) struct Ledger {
    log: Log,
    folded: RwLock<Folded>,
    most_copied: usize,
    /// How many questions are thought about at a time; others wait.
    questions: Semaphore,
}

/// The corpus, and when it is to be read again.
struct Folded {
    corpus: Corpus,
    read_again_at: usize,
}

/// What the corpus says to a question, and at which place of the log.
pub(crate) struct Answer<T> {
    pub(crate) value: T,
    pub(crate) token: ResumeToken,
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
        Ok(Self::new(log, corpus, MOST_COPIED))
    }

    fn new(log: Log, corpus: Corpus, most_copied: usize) -> Self {
        let folded = RwLock::new(Folded { corpus, read_again_at: most_copied });
        Self { log, folded, most_copied, questions: Semaphore::new(threads()) }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// What the log says now, durable or about to be.
    pub(crate) async fn corpus(&self) -> RwLockReadGuard<'_, Corpus> {
        RwLockReadGuard::map(self.folded.read().await, |folded| &folded.corpus)
    }

    /// Answers a question about what the log says, on a thread where it may take its time. The answer is given when all
    /// that it may speak of is durable.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Corpus) -> T + Send + 'static,
    ) -> Result<Answer<T>, Ending> {
        let turn = self.questions.acquire().await.map_err(|_| Ending)?;
        let ledger = Arc::clone(self);
        let asked = spawn_blocking(move || {
            let folded = ledger.folded.blocking_read();
            (question(&folded.corpus), folded.corpus.statistics().mutations)
        });
        let (value, position) = match asked.await {
            Ok(answered) => answered,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Ending),
        };
        drop(turn);
        self.durable(position).await.map_err(|_| Ending)?;
        Ok(Answer { value, token: self.log.token(position) })
    }

    /// Waits until so many mutations are durable.
    async fn durable(&self, position: u64) -> Result<(), AppendError> {
        let mut extent = self.log.subscribe();
        let reached = extent.wait_for(|extent| extent.position >= position).await;
        reached.map(|_| ()).map_err(|_| AppendError::Closed)
    }

    /// Appends the results that the log does not hold yet; all of them are durable when it answers.
    pub(crate) async fn append_results(&self, results: Vec<BuildResult>) -> Result<(), AppendError> {
        let mut folded = self.folded.write().await;
        let corpus = &folded.corpus;
        let mut mutations = Vec::with_capacity(results.len());
        let mut seen = BTreeSet::new();
        for result in results {
            let key = (result.build, result.attempt);
            if !corpus.has_attempt(key) && seen.insert(key) {
                mutations.push(Mutation { build_result: Some(result), ..Mutation::default() });
            }
        }
        // Also when there is nothing new: what is skipped may be on its way, and must be durable too.
        let pending = self.enqueue(&mut folded, &mutations).await?;
        drop(folded);
        pending.durable().await?;
        Ok(())
    }

    /// Appends the part of it that the log does not hold yet, in its order and in one piece, so that it is durable
    /// together. Answers when it is.
    pub(crate) async fn append_history(
        &self,
        subject: &Subject,
        history: History<'_>,
    ) -> Result<(), AppendError> {
        let mut folded = self.folded.write().await;
        let corpus = &folded.corpus;
        let is_new = |commit: &GitCommit| {
            commit.sha1.parse::<CommitHash>().is_ok_and(|hash| corpus.commit(&hash).is_none())
        };
        let commits = history.commits.into_iter().filter(is_new);
        let mut mutations: Vec<Mutation> = commits.map(|commit| subject.commit(commit)).collect();
        mutations.extend(subject.comments(corpus, history.comments));
        mutations.extend(subject.moves(corpus, history.moves));
        let pending = self.enqueue(&mut folded, &mutations).await?;
        drop(folded);
        pending.durable().await?;
        Ok(())
    }

    /// Appends those comments of a change that the log does not hold, if its state is still the one that they were read
    /// from. Answers how many when they are durable.
    pub(crate) async fn repair_comments(
        &self,
        subject: &Subject,
        (change, state): (u32, CommitHash),
        comments: Vec<GerritComment>,
    ) -> Result<u64, AppendError> {
        let mut folded = self.folded.write().await;
        let corpus = &folded.corpus;
        let known = subject.project(corpus).and_then(|project| project.change(change));
        let now = known.and_then(|change| Some(change.metas().next_back()?.commit().hash()));
        if now != Some(state) {
            return Ok(0);
        }
        let mutations = subject.comments(corpus, comments);
        let pending = self.enqueue(&mut folded, &mutations).await?;
        drop(folded);
        pending.durable().await?;
        let gerrit = mutations.iter().filter_map(|mutation| mutation.gerrit.as_ref());
        Ok(gerrit.map(|gerrit| gerrit.comments.len() as u64).sum())
    }

    /// Appends what is new by the corpus that it gets: nobody else appends between. Answers when it is durable.
    pub(crate) async fn append_news(
        &self,
        news: impl FnOnce(&Corpus) -> Vec<Mutation>,
    ) -> Result<(), AppendError> {
        let mut folded = self.folded.write().await;
        let mutations = news(&folded.corpus);
        if mutations.is_empty() {
            return Ok(());
        }
        let pending = self.enqueue(&mut folded, &mutations).await?;
        drop(folded);
        pending.durable().await?;
        Ok(())
    }

    async fn enqueue(
        &self,
        folded: &mut Folded,
        mutations: &[Mutation],
    ) -> Result<maintner::log::Pending, AppendError> {
        let pending = self.log.enqueue(mutations.iter().map(encode).collect()).await?;
        for mutation in mutations {
            folded.corpus.apply(mutation);
        }
        folded.corpus.settle();
        if folded.corpus.copied_bytes() > folded.read_again_at {
            self.read_again(folded).await?;
        }
        Ok(pending)
    }

    /// Makes the corpus anew from what is in the log, and so lets go of all copies. If that fails the corpus stays as it
    /// is, which is right but takes more memory.
    async fn read_again(&self, folded: &mut Folded) -> Result<(), AppendError> {
        let position = folded.corpus.statistics().mutations;
        self.durable(position).await?;
        let dir = self.log.dir().to_owned();
        let open = move || snapshot::open(&dir).map(|(corpus, _)| Box::new(corpus));
        match spawn_blocking(open).await {
            Ok(Ok(corpus)) if corpus.statistics().mutations == position => {
                *folded = Folded { corpus: *corpus, read_again_at: self.most_copied };
            }
            Ok(Ok(corpus)) => {
                let found = corpus.statistics().mutations;
                warn!("the mutation log was read again and holds {found} mutations instead of {position}");
                folded.read_again_at += self.most_copied;
            }
            Ok(Err(error)) => {
                let cause = &error as &dyn std::error::Error;
                warn!(error = cause, "cannot read the mutation log again: {error}");
                folded.read_again_at += self.most_copied;
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(AppendError::Closed), // the runtime is going down
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(build: u64) -> BuildResult {
        BuildResult {
            build,
            attempt: 1,
            builder: "linux".into(),
            repository: "one".into(),
            commit: format!("{build:040x}"),
            outcome: "passed".into(),
            ..BuildResult::default()
        }
    }

    fn commit(number: u64) -> GitCommit {
        let person = format!("Ada <ada@example.com> {number} +0000");
        let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        let text = "x".repeat(1000);
        let raw = format!("tree {tree}\nauthor {person}\ncommitter {person}\n\ncommit {number}\n\n{text}\n");
        GitCommit { sha1: format!("{number:040x}"), raw: raw.into(), diff_tree: None }
    }

    #[tokio::test]
    async fn what_was_appended_is_let_go_of_and_still_known() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), Options::default()).unwrap();
        let most = 600 * 1024;
        let ledger = Arc::new(Ledger::new(log, Corpus::default(), most));
        let subject = Subject { repository: "one".into(), project: None };
        let brought = |commits| History { commits, ..History::default() };
        for start in (1..=2000).step_by(100) {
            let commits = (start..start + 100).map(commit).collect();
            ledger.append_history(&subject, brought(commits)).await.unwrap();
            assert!(ledger.corpus().await.copied_bytes() <= most, "copies are kept without bound");
        }
        ledger.append_results(vec![result(1), result(2), result(1)]).await.unwrap();
        ledger.append_history(&subject, brought(vec![commit(7)])).await.unwrap();
        let question = |corpus: &Corpus| -> Vec<bool> {
            (1..=2000u64)
                .map(|number| {
                    let hash = format!("{number:040x}").parse().unwrap();
                    corpus.commit(&hash).is_some_and(|found| found.subject() == format!("commit {number}"))
                })
                .collect()
        };
        let answer = ledger.ask(question).await.unwrap();
        assert!(answer.value.iter().all(|known| *known));
        assert_eq!(answer.token.position, 2002, "nothing is appended twice");
        assert_eq!(ledger.log().extent().position, 2002);
        ledger.log().close().await;
    }
}
