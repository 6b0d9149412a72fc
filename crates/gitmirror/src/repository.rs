//! One mirrored repository: what RPCs and the keeper share.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::Instant,
};
use tracing::{info, warn};
use types::{CommitHash, RepositoryName, Timestamp};

use crate::{
    RepositoryConfig, Timings,
    cache::Cache,
    diffs::Diffs,
    git::{Git, GitError},
    kept::Kept,
    mirror::{ASKED_REFS, Mirror, file_name},
    objects::{Objects, ReadError},
    origin::Origin,
};

/// A commit that the origin did not have is not asked for again so soon.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Unknown commits that are remembered.
const MOST_UNKNOWN: usize = 1000;

/// A commit cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// Neither the mirror nor the origin has it.
    #[error("repository `{repository}` has no commit `{commit}`, and neither has its origin")]
    Unknown {
        /// The repository.
        repository: RepositoryName,
        /// The commit.
        commit: CommitHash,
    },
    /// The mirror does not have it and the origin could not be asked.
    #[error("the mirror of `{repository}` has no commit `{commit}`, and its origin cannot be asked")]
    Unreachable {
        /// The repository.
        repository: RepositoryName,
        /// The commit.
        commit: CommitHash,
        /// Why not.
        source: GitError,
    },
    /// The mirror could not be read.
    #[error("cannot look for a commit")]
    Read(#[source] ReadError),
}

/// When more than so many are wanted, looking at all is less.
const MOST_WANTED: usize = 50;

/// Which refs of the origin are to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All that are mirrored.
    All,
    /// Those below each name that ends with a slash, and those of the other names. If there are none, somebody asked who
    /// knows more than we: all.
    Refs(BTreeSet<String>),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Refs(BTreeSet::new())
    }
}

/// How a repository is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The branch that the origin's `HEAD` names.
    pub(crate) default_branch: String,
    /// When the mirror last held what the origin had.
    pub(crate) fetched_at: Option<Timestamp>,
    /// What is wrong, for people; none when nothing is.
    pub(crate) fetch_error: Option<String>,
    /// What is wrong with pushing on, by destination.
    pub(crate) push_errors: HashMap<String, String>,
}

impl Status {
    /// All that is wrong, on one line.
    pub(crate) fn error(&self) -> String {
        let mut pushes: Vec<_> = self.push_errors.values().map(String::as_str).collect();
        pushes.sort_unstable();
        self.fetch_error.as_deref().into_iter().chain(pushes).collect::<Vec<_>>().join("; ")
    }
}

/// One repository.
pub(crate) struct Repository {
    pub(crate) name: RepositoryName,
    pub(crate) config: RepositoryConfig,
    pub(crate) mirror: Mirror,
    pub(crate) objects: Objects,
    pub(crate) diffs: Diffs,
    pub(crate) kept: Kept,
    /// The refs of an origin on this machine may have changed. Sticky: what happens while its reader is busy is not lost.
    pub(crate) changed: Notify,
    /// The origin may have something new. Sticky.
    pub(crate) stale: Notify,
    /// Where.
    wanted: Mutex<Wanted>,
    status: Mutex<Status>,
    /// Held while the origin is asked for a commit: the second who asks gets the first one's answer.
    asking: AsyncMutex<HashMap<CommitHash, Instant>>,
}

impl Repository {
    /// In a folder of all mirrors.
    pub(crate) fn new(
        config: RepositoryConfig,
        git: &Git,
        top: &Path,
        shared: (u32, Arc<Cache>),
        timings: &Timings,
    ) -> Self {
        let mirror = Mirror::new(git.clone(), top, &config, timings.clone());
        let objects = Objects::new(git, mirror.folder(), shared.0, shared.1);
        Self {
            name: config.name.clone(),
            diffs: Diffs::new(objects.clone()),
            kept: Kept::new(top.join(file_name(&config.name)).with_extension("kept")),
            mirror,
            objects,
            config,
            changed: Notify::new(),
            stale: Notify::new(),
            wanted: Mutex::default(),
            status: Mutex::default(),
            asking: AsyncMutex::default(),
        }
    }

    /// Asks for a look at the origin now.
    pub(crate) fn tickle(&self) {
        match self.config.origin {
            // What it finds is fetched.
            Origin::Local(_) => {
                self.changed.notify_one();
                if self.lock_status().fetch_error.is_some() {
                    self.stale.notify_one();
                }
            }
            Origin::Remote(_) => {
                *self.lock_wanted() = Wanted::All;
                self.stale.notify_one();
            }
        }
    }

    /// Asks for a look at some refs of the origin now: those below a name that ends with a slash, or one. What is not
    /// mirrored is none of our business.
    pub(crate) fn tickle_refs(&self, refs: String) {
        if matches!(self.config.origin, Origin::Local(_)) {
            return self.tickle();
        }
        if !self.mirror.prefixes().iter().any(|prefix| refs.starts_with(prefix)) {
            return;
        }
        let mut wanted = self.lock_wanted();
        match &mut *wanted {
            Wanted::All => {}
            Wanted::Refs(all) if all.len() >= MOST_WANTED => *wanted = Wanted::All,
            Wanted::Refs(all) => drop(all.insert(refs)),
        }
        drop(wanted);
        self.stale.notify_one();
    }

    /// What is to be looked at, from now on nothing more.
    pub(crate) fn take_wanted(&self) -> Wanted {
        std::mem::take(&mut *self.lock_wanted())
    }

    fn lock_wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it is.
    pub(crate) fn status(&self) -> Status {
        self.lock_status().clone()
    }

    /// The origin was fetched.
    pub(crate) fn fetched(&self, now: Timestamp) {
        let mut status = self.lock_status();
        status.fetched_at = Some(now);
        if status.fetch_error.take().is_some() {
            info!(repo.name = %self.name, "repository `{}` is mirrored again", self.name);
        }
    }

    /// The origin could not be fetched. Logged when it is news.
    pub(crate) fn failed(&self, message: String) {
        let mut status = self.lock_status();
        if status.fetch_error.as_ref() != Some(&message) {
            warn!(repo.name = %self.name, "{message}");
            status.fetch_error = Some(message);
        }
    }

    /// A push to a destination ended.
    pub(crate) fn pushed(&self, to: &Origin, error: Option<String>) {
        let mut status = self.lock_status();
        let known = status.push_errors.get(&to.to_string());
        match error {
            Some(message) if known != Some(&message) => {
                warn!(repo.name = %self.name, "{message}");
                status.push_errors.insert(to.to_string(), message);
            }
            None if status.push_errors.remove(&to.to_string()).is_some() => {
                info!(repo.name = %self.name, "repository `{}` is pushed to `{to}` again", self.name);
            }
            Some(_) | None => {}
        }
    }

    /// The branch that the origin's `HEAD` names.
    pub(crate) fn set_default_branch(&self, branch: String) {
        self.lock_status().default_branch = branch;
    }

    fn lock_status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure of several commits.
    pub(crate) async fn need_all(&self, commits: &[CommitHash]) -> Result<(), CommitError> {
        // Warms the cache in one go; each is then looked at by itself.
        self.objects.read_all(commits).await.map_err(CommitError::Read)?;
        for commit in commits {
            self.need(*commit).await?;
        }
        Ok(())
    }

    /// The raw bytes of a commit; the origin is asked for it if the mirror does not have it.
    pub(crate) async fn need(&self, commit: CommitHash) -> Result<Bytes, CommitError> {
        if let Some(raw) = self.objects.commit(commit).await.map_err(CommitError::Read)? {
            return Ok(raw);
        }
        let unknown = || CommitError::Unknown { repository: self.name.clone(), commit };
        if self.objects.sees_origin() {
            // The first look may have been before the origin was seen.
            let again = self.objects.commit(commit).await.map_err(CommitError::Read)?;
            return again.ok_or_else(unknown);
        }
        let mut asked = self.asking.lock().await;
        if let Some(raw) = self.objects.commit(commit).await.map_err(CommitError::Read)? {
            return Ok(raw);
        }
        asked.retain(|_, at| at.elapsed() < ASK_AGAIN);
        if asked.contains_key(&commit) {
            return Err(unknown());
        }
        match self.mirror.ask(commit).await {
            Ok(()) => {}
            Err(error) if is_denial(error.message()) => {
                if asked.len() < MOST_UNKNOWN {
                    asked.insert(commit, Instant::now());
                }
                return Err(unknown());
            }
            Err(source) => {
                return Err(CommitError::Unreachable { repository: self.name.clone(), commit, source });
            }
        }
        if let Some(raw) = self.objects.commit(commit).await.map_err(CommitError::Read)? {
            return Ok(raw);
        }
        // It is a tag, a tree or a file.
        let _ = self.mirror.delete_ref(&format!("{ASKED_REFS}{commit}")).await;
        Err(unknown())
    }

    /// Ends processes that nobody used for so long.
    pub(crate) fn end_idle(&self, after: Duration) {
        self.objects.end_idle(after);
        self.diffs.end_idle(after);
    }
}

/// Whether the origin answered that it has no such object, rather than not at all.
fn is_denial(message: &str) -> bool {
    ["not our ref", "unadvertised object", "couldn't find remote ref", "did not send all necessary objects"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_no_outage() {
        assert!(is_denial("fatal: remote error: upload-pack: not our ref 1234"));
        assert!(is_denial("error: Server does not allow request for unadvertised object 1234"));
        assert!(!is_denial("fatal: unable to access 'https://host/': Could not resolve host: host"));
        assert!(!is_denial("fatal: '/x' does not appear to be a git repository"));
    }
}
