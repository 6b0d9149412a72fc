//! One repository: brings what its refs reach into the log, and then the refs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::{
    gitmirror::{ListCommitsRequest, ListCommitsResponse, mirror_service_client::MirrorServiceClient},
    maintpb::GitCommit,
};
use maintner::log::AppendError;
use rpc::{Channel, watch::IDLE_LIMIT};
use sha1::{Digest as _, Sha1};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};
use types::CommitHash;

use crate::{
    ledger::{History, Ledger},
    notes,
    sources::Sources,
    subject::{Move, Subject, Subjects},
};

/// Refs of a repository by name; none for one that is gone.
pub(crate) type Changes = BTreeMap<String, Option<CommitHash>>;

/// Refs that are moved by one mutation.
const REFS_AT_ONCE: usize = 500;
/// Tips that are named to gitmirror so that it leaves out what they reach.
const EXCLUDED: usize = 1000;

/// Moves of refs that wait for the importer; only the last of each ref.
#[derive(Default)]
pub(crate) struct Mailbox {
    changes: Mutex<Changes>,
    news: Notify,
}

impl Mailbox {
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves moves for the importer.
    pub(crate) fn put(&self, changes: Changes) {
        self.changes().extend(changes);
        self.news.notify_one();
    }

    /// Takes the moves back that could not be applied, unless there are later ones.
    fn put_back(&self, changes: Changes) {
        let mut waiting = self.changes();
        for (name, commit) in changes {
            waiting.entry(name).or_insert(commit);
        }
    }

    fn take(&self) -> Changes {
        std::mem::take(&mut *self.changes())
    }
}

/// Why moves of refs are not in the log yet.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    /// The log takes no more: this process cannot go on.
    #[error("cannot append to the mutation log")]
    Append(#[from] AppendError),
    /// gitmirror cannot list the commits.
    #[error("cannot list commits: {}", .0.message())]
    Mirror(Status),
    /// What gitmirror listed is not what it says.
    #[error("gitmirror listed `{0}` with the content of another commit")]
    WrongCommit(String),
    /// gitmirror listed the history of a commit without the commit.
    #[error("gitmirror did not list `{0}`")]
    Missing(CommitHash),
}

pub(crate) struct Importer {
    pub(crate) repository: String,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) mirror: MirrorServiceClient<Channel>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) subjects: Arc<Subjects>,
    /// The pause after a failure, unless there is news.
    pub(crate) retry: Duration,
}

impl Importer {
    /// Works until cancelled. Fails only if the log does.
    pub(crate) async fn run(self, cancel: CancellationToken) -> anyhow::Result<()> {
        let mut failures = 0_u32;
        loop {
            let pause = self.retry * 2_u32.pow(failures.min(5));
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = self.mailbox.news.notified() => {}
                () = tokio::time::sleep(pause), if failures > 0 => {}
            }
            let changes = self.mailbox.take();
            self.sources.begin(&self.repository);
            let applied = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                applied = self.apply(&changes) => applied,
            };
            match applied {
                Ok(()) => {
                    failures = 0;
                    self.sources.end(&self.repository, Ok(()));
                }
                Err(ImportError::Append(error)) => return Err(error.into()),
                Err(error) => {
                    if failures == 0 {
                        warn!(repo.name = %self.repository, "import of `{}`: {error}, trying again", self.repository);
                    }
                    failures += 1;
                    self.sources.end(&self.repository, Err(error.to_string()));
                    self.mailbox.put_back(changes);
                }
            }
        }
    }

    /// Brings all that can be brought; one ref whose commits cannot be had does not hold up the others.
    async fn apply(&self, changes: &Changes) -> Result<(), ImportError> {
        // As it is now: a repository may become a project at a Gerrit while we run.
        let subject = self.subjects.of(&self.repository);
        let changed = self.changed(&subject, changes).await;
        let mut failed = Ok(());
        for some in changed.chunks(REFS_AT_ONCE) {
            match self.apply_some(&subject, some).await {
                Err(ImportError::Mirror(status)) if is_about_commits(&status) && some.len() > 1 => {
                    for one in some {
                        match self.apply_some(&subject, std::slice::from_ref(one)).await {
                            Err(error @ ImportError::Mirror(_)) => failed = Err(error),
                            other => other?,
                        }
                    }
                }
                other => other?,
            }
        }
        failed
    }

    /// The changes that are no news to the log are left out: nothing is doubled after a restart.
    async fn changed(&self, subject: &Subject, changes: &Changes) -> Vec<Move> {
        let corpus = self.ledger.corpus().await;
        let is_news =
            |(name, commit): &(&String, &Option<CommitHash>)| subject.is_news(&corpus, name, **commit);
        changes.iter().filter(is_news).map(|(name, commit)| (name.clone(), *commit)).collect()
    }

    async fn apply_some(&self, subject: &Subject, changes: &[Move]) -> Result<(), ImportError> {
        let tips: Vec<CommitHash> = changes.iter().filter_map(|(_, commit)| *commit).collect();
        let request = self.missing(subject, changes, &tips).await;
        let last = match request {
            Some(request) => self.import(subject, request).await?,
            None => Vec::new(),
        };
        self.check_tips(&tips, &last).await?;
        let corpus = self.ledger.corpus().await;
        let touched = notes::touched(&corpus, subject, changes, &last);
        drop(corpus);
        let comments = notes::read(&self.mirror, subject, touched).await.map_err(ImportError::Mirror)?;
        debug!(repo.name = %self.repository, "{} refs of `{}` moved", changes.len(), self.repository);
        // The last commits go with the refs, so that a small push costs one sync; comments, too, since nobody looks for
        // them once the log has the state that they came with.
        self.ledger.append_history(subject, History { commits: last, comments, moves: changes }).await?;
        Ok(())
    }

    /// What to ask for: nothing if the log holds all tips, and then it holds what they reach.
    async fn missing(
        &self,
        subject: &Subject,
        changes: &[Move],
        tips: &[CommitHash],
    ) -> Option<ListCommitsRequest> {
        let corpus = self.ledger.corpus().await;
        let mut include: Vec<CommitHash> =
            tips.iter().filter(|tip| corpus.commit(tip).is_none()).copied().collect();
        include.sort_unstable();
        include.dedup();
        if include.is_empty() {
            return None;
        }
        // A branch that went on is the common case, and then its old tip says all.
        let old = |(name, _): &Move| subject.stood(&corpus, name);
        let mut exclude: Vec<CommitHash> = changes.iter().filter_map(old).collect();
        if exclude.len() < changes.len() {
            exclude.extend(corpus.refs(&self.repository).map(|(_, commit)| commit).take(EXCLUDED));
        }
        exclude.sort_unstable();
        exclude.dedup();
        let text = |commits: Vec<CommitHash>| commits.iter().map(CommitHash::to_string).collect();
        let (include, exclude) = (text(include), text(exclude));
        Some(ListCommitsRequest { repository: self.repository.clone(), include, exclude, limit: 0 })
    }

    /// Appends commits as they come, but for the last ones, which it answers.
    async fn import(
        &self,
        subject: &Subject,
        request: ListCommitsRequest,
    ) -> Result<Vec<GitCommit>, ImportError> {
        let mut stream =
            self.mirror.clone().list_commits(request).await.map_err(ImportError::Mirror)?.into_inner();
        let mut last: Vec<GitCommit> = Vec::new();
        let mut count = 0;
        while let Some(response) = next(&mut stream).await.map_err(ImportError::Mirror)? {
            for commit in &response.commits {
                check_hash(commit)?;
            }
            count += response.commits.len();
            let before = std::mem::replace(&mut last, response.commits);
            if !before.is_empty() {
                let history = History { commits: before, ..History::default() };
                self.ledger.append_history(subject, history).await?;
            }
        }
        if count > 1000 {
            info!(repo.name = %self.repository, "imported {count} commits of `{}`", self.repository);
        }
        Ok(last)
    }

    /// A ref is never logged before its commit.
    async fn check_tips(&self, tips: &[CommitHash], last: &[GitCommit]) -> Result<(), ImportError> {
        let corpus = self.ledger.corpus().await;
        for tip in tips {
            let text = tip.to_string();
            if corpus.commit(tip).is_none() && !last.iter().any(|commit| commit.sha1 == text) {
                return Err(ImportError::Missing(*tip));
            }
        }
        Ok(())
    }
}

/// The next commits; silence is an error.
async fn next(stream: &mut Streaming<ListCommitsResponse>) -> Result<Option<ListCommitsResponse>, Status> {
    let silent = |_| Status::unavailable("no word from gitmirror");
    timeout(IDLE_LIMIT, stream.message()).await.map_err(silent)?
}

/// Whether another set of refs may fare better.
fn is_about_commits(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition | Code::Internal
    )
}

/// What enters the log is what its name says, for ever.
fn check_hash(commit: &GitCommit) -> Result<(), ImportError> {
    let header = format!("commit {}\0", commit.raw.len());
    let digest = Sha1::new().chain_update(header).chain_update(&commit.raw).finalize();
    if hex::encode(digest) == commit.sha1 {
        Ok(())
    } else {
        Err(ImportError::WrongCommit(commit.sha1.clone()))
    }
}
