//! Follows an origin on this machine: reads its refs in its folder after each sign of a change, and tells the watchers
//! those whose commits can be read there. No git is started on this way.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

use tokio::time::sleep;
use tracing::{debug, warn};
use types::CommitHash;

use crate::{
    Origin, Timings,
    fetch::{Fetcher, KeepError},
    hub::RefTable,
    objects::ReadError,
    repository::Repository,
    scan::{Folder, Refs, ScanError, Scanner},
    tree,
    watch::Watch,
};

/// What a target of a ref is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readable {
    /// This commit, once peeled.
    Commit(CommitHash),
    /// Something that is built by nobody: a tag of a tree or of a file.
    NoCommit,
}

/// Follows one origin; remembers what it read there.
pub(crate) struct Follower {
    fetcher: Arc<Fetcher>,
    repository: Arc<Repository>,
    timings: Timings,
    /// None while it is at work on another thread.
    scanner: Option<Scanner>,
    watch: Option<Watch>,
    /// The refs that the watchers know; none if they may not know all.
    known: Option<Refs>,
    /// What the targets of those refs are.
    commits: HashMap<CommitHash, Readable>,
}

impl Follower {
    /// Of the repository that is fetched.
    pub(crate) fn new(fetcher: Arc<Fetcher>, timings: Timings) -> Self {
        let repository = fetcher.repository.clone();
        Self {
            fetcher,
            repository,
            timings,
            scanner: None,
            watch: None,
            known: None,
            commits: HashMap::new(),
        }
    }

    /// Reads the origin's refs after each sign of a change, and now and then without any.
    pub(crate) async fn run(mut self) {
        let mut pause = self.timings.first_retry;
        loop {
            let next = match self.read_folder().await {
                Ok(()) => {
                    pause = self.timings.first_retry;
                    self.repository.config.poll
                }
                Err(error) => {
                    self.repository.failed(self.fetcher.describe(&error));
                    self.known = None;
                    let next = pause;
                    pause = (pause * 2).min(self.timings.last_retry);
                    next
                }
            };
            tokio::select! {
                () = self.repository.changed.notified() => sleep(self.timings.debounce).await,
                () = sleep(next) => {}
            }
        }
    }

    async fn read_folder(&mut self) -> Result<(), KeepError> {
        let Origin::Local(path) = &self.repository.config.origin else { return Ok(()) };
        let folder = Folder::locate(path)?;
        if self.repository.mirror.make().await? {
            self.repository.objects.reset();
        }
        self.repository.objects.set_origin(Some(folder.objects()));
        // The watch begins before the scan, so that nothing falls between them.
        self.watch(&folder);
        let refs = match self.scan(folder.clone()).await {
            // A format that we do not know: git does. Watchers hear of it after the fetch.
            Err(KeepError::Scan(ScanError::Odd(_))) => {
                self.fetcher.by_fetch.store(true, Ordering::SeqCst);
                self.repository.stale.notify_one();
                self.known = None;
                return Ok(());
            }
            refs => refs?,
        };
        if self.known.as_ref() == Some(&refs) {
            return Ok(());
        }
        if folder.is_shallow() {
            // Where its history ends is known to the mirror only after a fetch.
            self.fetcher.fetch().await?;
        }
        let all = self.tell(&refs, !folder.is_shallow()).await?;
        self.fetcher.by_fetch.store(!all, Ordering::SeqCst);
        self.repository.stale.notify_one();
        self.known = all.then_some(refs);
        Ok(())
    }

    /// Tells the watchers the refs of the origin's folder. Says whether it could tell all of them: one whose commit
    /// cannot be read stays as it was.
    async fn tell(&mut self, refs: &Refs, with_parents: bool) -> Result<bool, KeepError> {
        self.look_up(refs, with_parents).await?;
        let before = self.fetcher.hub.table(&self.repository.name);
        let mut all = true;
        let mut table = RefTable::new();
        for (name, target) in &refs.targets {
            let commit = match self.commits.get(target) {
                Some(Readable::Commit(commit)) => Some(*commit),
                Some(Readable::NoCommit) => None,
                None => {
                    all = false;
                    before.get(name).copied()
                }
            };
            table.extend(commit.map(|commit| (name.clone(), commit)));
        }
        self.fetcher.tell_default_branch(&refs.head, &table);
        let moved = self.fetcher.hub.publish(&self.repository.name, table);
        debug!(repo.name = %self.repository.name, moved, "refs of `{}` moved: {moved}", self.repository.name);
        Ok(all)
    }

    /// Learns what the targets of refs are, as far as they can be read with their tree and parents.
    async fn look_up(&mut self, refs: &Refs, with_parents: bool) -> Result<(), KeepError> {
        let wanted: HashSet<_> = refs.targets.values().copied().collect();
        self.commits.retain(|target, _| wanted.contains(target));
        let new: Vec<_> = wanted.into_iter().filter(|target| !self.commits.contains_key(target)).collect();
        let objects = &self.repository.objects;
        for (target, commit) in new.iter().zip(objects.peel(&new).await?) {
            let Some(commit) = commit else {
                // It may be missing, or a tag of something else.
                if objects.read(*target).await?.is_some() {
                    self.commits.insert(*target, Readable::NoCommit);
                }
                continue;
            };
            let Some(raw) = objects.commit(commit).await? else { continue };
            let head = tree::commit(&raw).map_err(ReadError::from)?;
            let mut needed = vec![head.tree];
            if with_parents {
                needed.extend(head.parents);
            }
            if objects.read_all(&needed).await?.iter().all(Option::is_some) {
                self.commits.insert(*target, Readable::Commit(commit));
            }
        }
        Ok(())
    }

    /// Watches the folder, if that is not done. Without a watch there is still the poll.
    fn watch(&mut self, folder: &Folder) {
        if self.watch.as_ref().is_some_and(|watch| watch.is_current(folder)) {
            return;
        }
        let weak = Arc::downgrade(&self.repository);
        let changed = move || {
            if let Some(repository) = weak.upgrade() {
                repository.changed.notify_one();
            }
        };
        let had_one = self.watch.take().is_some();
        match Watch::new(folder, changed) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) if had_one || self.known.is_none() => {
                let name = &self.repository.name;
                warn!(repo.name = %name, "changes of `{name}` are seen by polling only: {error}");
            }
            Err(_) => {}
        }
        if had_one {
            // Another repository may stand there now, with other objects.
            self.repository.objects.reset();
        }
    }

    /// Reads the refs on a thread that may block.
    async fn scan(&mut self, folder: Folder) -> Result<Refs, KeepError> {
        let mut scanner =
            self.scanner.take().unwrap_or_else(|| Scanner::new(self.repository.mirror.prefixes().to_vec()));
        let (scanner, refs) = tokio::task::spawn_blocking(move || {
            let refs = scanner.scan(&folder);
            (scanner, refs)
        })
        .await?;
        self.scanner = Some(scanner);
        Ok(refs?)
    }
}
