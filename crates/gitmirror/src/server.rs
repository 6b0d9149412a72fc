//! Wires the parts and owns their life.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use api::gitmirror::mirror_service_server::MirrorServiceServer;
use buildspec::Farm;
use rpc::Bound;
use runtime::Tasks;
use rustix::fs::{FlockOperation, flock};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Config, RepositoryConfig, events,
    git::{FindGitError, Git},
    grpc::Mirrors,
    registry::Registry,
    web,
};

/// How long calls and fetches may take to end after we were asked to.
const GRACE: Duration = Duration::from_secs(5);

/// gitmirror cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is no git to work with.
    #[error("cannot use git")]
    Git(#[from] FindGitError),
    /// The data folder cannot be used.
    #[error("cannot use `{}`", path.display())]
    Data {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another gitmirror works there.
    #[error("`{}` is held by another gitmirror: stop it, or choose another data folder", .0.display())]
    Held(PathBuf),
    /// pubsubhelper's address makes no sense.
    #[error("cannot listen to events of `{url}`")]
    Events {
        /// The address.
        url: String,
        /// What is wrong with it.
        source: rpc::ConnectError,
    },
    /// The address cannot be had.
    #[error("cannot serve")]
    Listen(#[from] rpc::BindError),
}

impl BindError {
    /// Whose turn it is.
    pub fn failure(&self) -> runtime::Failure {
        match self {
            Self::Git(_) | Self::Data { .. } | Self::Held(_) => runtime::Failure::Unavailable,
            Self::Listen(rpc::BindError::InUse(_) | rpc::BindError::Listen { .. }) => {
                runtime::Failure::Unavailable
            }
            Self::Events { .. } | Self::Listen(_) => runtime::Failure::Configuration,
        }
    }
}

/// A gitmirror that holds its address and data folder.
pub struct Server {
    bound: Bound,
    registry: Arc<Registry>,
    repositories: Vec<RepositoryConfig>,
    events: Option<rpc::Channel>,
    file: Option<PathBuf>,
    /// Held as long as we run.
    lock: std::fs::File,
}

/// Changes a gitmirror that runs.
#[derive(Clone)]
pub struct Handle(Arc<Registry>);

impl Handle {
    /// Mirrors these repositories from now on and no others. Those that stay as they were are left in peace.
    pub async fn set_repositories(&self, repositories: Vec<RepositoryConfig>) {
        self.0.set(repositories).await;
    }
}

impl Server {
    /// Finds git, takes the data folder and the address, and reads the mirrors that are there.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let failed = |path: PathBuf| move |source| BindError::Data { path, source };
        std::fs::create_dir_all(&config.data).map_err(failed(config.data.clone()))?;
        let data = std::fs::canonicalize(&config.data).map_err(failed(config.data.clone()))?;
        let path = data.join("lock");
        let lock = std::fs::File::create(&path).map_err(failed(path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| BindError::Held(data.clone()))?;
        let incoming = data.join("incoming");
        // What is in there was not finished.
        let _ = std::fs::remove_dir_all(&incoming);
        let git = Git::find(&data.join("home")).await?;
        let mirrors = data.join("mirrors");
        std::fs::create_dir_all(&mirrors).map_err(failed(mirrors.clone()))?;
        let events = config.events.map(|url| {
            rpc::connect(&url, Some(&config.identity)).map_err(|source| BindError::Events { url, source })
        });
        let tasks = Tasks::new(CancellationToken::new());
        let registry = Registry::new(git, mirrors, config.clock, config.timings, tasks.clone());
        let registry = Arc::new(registry);
        let service = MirrorServiceServer::new(Mirrors::new(registry.clone(), incoming))
            .max_decoding_message_size(rpc::MAX_MESSAGE)
            .max_encoding_message_size(rpc::MAX_MESSAGE);
        let server = rpc::Server::new("gitmirror", tasks).tls(&config.identity).grpc(service);
        let bound = server.http(web::router(registry.clone())).bind(config.listen).await?;
        let repositories = config.repositories;
        Ok(Self { bound, registry, repositories, events: events.transpose()?, file: config.file, lock })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.bound.addr()
    }

    /// To change it while it runs.
    pub fn handle(&self) -> Handle {
        Handle(self.registry.clone())
    }

    /// Serves until `shutdown` is cancelled or a part fails.
    ///
    /// # Errors
    /// The first failure of a part.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let tasks = self.registry.tasks.clone();
        // Mirrors are read before anybody is answered: a watcher who found none would take all refs for gone.
        self.registry.set(self.repositories).await;
        info!("gitmirror listens on {}", self.bound.addr());
        self.bound.start();
        if let Some(channel) = self.events {
            tasks.job("events", events::run(channel, self.registry.clone(), tasks.shutdown()));
        }
        if let Some(file) = self.file {
            tasks.job("repositories", follow(file, self.registry.clone()));
        }
        let ended = tasks.shutdown();
        tokio::select! {
            () = shutdown.cancelled() => ended.cancel(),
            result = tasks.clone().finish(GRACE) => return result,
        }
        let result = tasks.finish(GRACE).await;
        drop(self.lock);
        result
    }
}

/// Takes over what changes in `farm.toml`; an invalid edit changes nothing.
async fn follow(file: PathBuf, registry: Arc<Registry>) {
    // Only repositories are ours, and those that are known already are left as they are: the first read applies again.
    let loaded = Arc::new(Farm::default());
    let mut reload = match runtime::config::watch(&file, loaded, &registry.tasks) {
        Ok(reload) => reload,
        Err(error) => {
            warn!("`{}` is not followed: {:#}", file.display(), anyhow::Error::new(error));
            return;
        }
    };
    let shutdown = registry.tasks.shutdown();
    while let Some(change) = shutdown.run_until_cancelled(reload.changed()).await {
        // The watch itself logs what is wrong with the file.
        let Ok(farm) = change else { continue };
        match RepositoryConfig::of_farm(&farm) {
            Ok(repositories) => registry.set(repositories).await,
            Err(error) => warn!("`{}` is not taken over: {error}", file.display()),
        }
    }
}
