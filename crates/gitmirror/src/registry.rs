//! The repositories that are mirrored now, each with its keeper.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use runtime::{Tasks, clock::SharedClock};
use tokio_util::sync::CancellationToken;
use tracing::info;
use types::RepositoryName;

use crate::{
    RepositoryConfig, Timings, cache::Cache, git::Git, hub::Hub, keeper::Keeper, repository::Repository,
};

/// Bytes of small objects that are kept in memory, for all repositories together.
const CACHE: usize = 16 << 20;

/// The repositories.
pub(crate) struct Registry {
    pub(crate) git: Git,
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: SharedClock,
    pub(crate) timings: Timings,
    pub(crate) tasks: Tasks,
    folder: PathBuf,
    cache: Arc<Cache>,
    entries: Mutex<BTreeMap<RepositoryName, Running>>,
    next_id: AtomicU32,
}

/// A repository and its keeper.
struct Running {
    repository: Arc<Repository>,
    /// Ends the keeper.
    stop: CancellationToken,
    /// The keeper has ended.
    stopped: CancellationToken,
}

impl Registry {
    /// Without any, in a folder of mirrors.
    pub(crate) fn new(git: Git, folder: PathBuf, clock: SharedClock, timings: Timings, tasks: Tasks) -> Self {
        Self {
            git,
            hub: Arc::new(Hub::new()),
            clock,
            timings,
            tasks,
            folder,
            cache: Arc::new(Cache::new(CACHE)),
            entries: Mutex::default(),
            next_id: AtomicU32::new(0),
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<RepositoryName, Running>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them.
    pub(crate) fn find(&self, name: &RepositoryName) -> Option<Arc<Repository>> {
        self.entries().get(name).map(|running| running.repository.clone())
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Repository>> {
        self.entries().values().map(|running| running.repository.clone()).collect()
    }

    /// Mirrors these from now on and no others. Those that stay as they were are left in peace.
    pub(crate) async fn set(&self, configs: Vec<RepositoryConfig>) {
        let configs: BTreeMap<_, _> =
            configs.into_iter().map(|config| (config.name.clone(), config)).collect();
        let ended: Vec<_> = {
            let mut entries = self.entries();
            let keep =
                |running: &Running| configs.get(&running.repository.name) == Some(&running.repository.config);

            entries.extract_if(.., |_, running| !keep(running)).collect()
        };
        for (name, running) in ended {
            running.stop.cancel();
            running.stopped.cancelled().await;
            if !configs.contains_key(&name) {
                info!(repo.name = %name, "repository `{name}` is mirrored no more");
                self.hub.forget(&name);
            }
        }
        let new = configs.into_values().filter(|config| self.find(&config.name).is_none());
        futures_util::future::join_all(new.map(|config| self.start(config))).await;
    }

    async fn start(&self, config: RepositoryConfig) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let shared = (id, self.cache.clone());
        let repository = Arc::new(Repository::new(config, &self.git, &self.folder, shared, &self.timings));
        let keeper =
            Keeper::new(repository.clone(), self.hub.clone(), self.clock.clone(), self.timings.clone());
        keeper.load().await;
        let (stop, stopped) = (self.tasks.shutdown().child_token(), CancellationToken::new());
        let (cancel, done) = (stop.clone(), stopped.clone().drop_guard());
        self.tasks.job("keep mirror", async move {
            keeper.run(cancel).await;
            drop(done);
        });
        let name = repository.name.clone();
        self.entries().insert(name, Running { repository, stop, stopped });
    }
}
