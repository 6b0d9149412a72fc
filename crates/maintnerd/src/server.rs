//! Wires maintnerd together: the log, its sources, its readers.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::bail;
use api::{
    apipb::maintner_service_server::MaintnerServiceServer, events::event_service_client::EventServiceClient,
    gitmirror::mirror_service_client::MirrorServiceClient,
    maintner::query_service_server::QueryServiceServer,
};
use maintner::log::{Bucket, FolderBucket, ObjectBucket, OpenBucketError, OpenError, SharedLog};
use rpc::{Bound, Channel, ConnectError};
use runtime::Tasks;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Auditor,
    config::Config,
    events,
    gerrit::Gerrits,
    github::{self, Around, Hub, Source, Wakes},
    grpc::{CompatApi, MutationApi, QueryApi, Readers, SharedFrames},
    ledger::{Ledger, OpenLedgerError},
    logs::logs_router,
    mirror::Mirror,
    sources::Sources,
    votes::Votes,
};

/// What is done must be durable before the process ends; that takes milliseconds.
const GRACE: Duration = Duration::from_secs(5);

/// maintnerd cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The log cannot be used.
    #[error("cannot use the mutation log")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The log is held by another process.
    #[error("cannot have the mutation log for itself")]
    Locked(#[source] OpenError),
    /// The bucket of the log makes no sense.
    #[error("cannot use the bucket of the mutation log")]
    Bucket(#[source] OpenBucketError),
    /// The address cannot be listened on.
    #[error("cannot listen")]
    Listen(#[from] rpc::BindError),
    /// There is no way to speak to GitHub.
    #[error("cannot make a client for GitHub: {0}")]
    Github(String),
    /// There is no way to ask Gerrit.
    #[error("cannot make an HTTP client")]
    Http(#[from] reqwest::Error),
    /// The address of another service makes no sense.
    #[error("cannot reach `{service}`")]
    Peer {
        /// Which service.
        service: &'static str,
        /// Why.
        source: ConnectError,
    },
}

impl BindError {
    /// Whose turn it is.
    pub fn failure(&self) -> runtime::Failure {
        match self {
            Self::Locked(_) | Self::Listen(_) => runtime::Failure::Unavailable,
            Self::Peer { .. } | Self::Bucket(_) => runtime::Failure::Configuration,
            Self::Log(_) | Self::Github(_) | Self::Http(_) => runtime::Failure::Bug,
        }
    }
}

impl From<OpenLedgerError> for BindError {
    fn from(error: OpenLedgerError) -> Self {
        match error {
            OpenLedgerError::Open(error @ (OpenError::Locked { .. } | OpenError::Led { .. })) => {
                Self::Locked(error)
            }
            other => Self::Log(Box::new(other)),
        }
    }
}

/// The log in the bucket at a URL.
fn shared(url: &str, lease: Duration) -> Result<SharedLog, BindError> {
    let bucket: Arc<dyn Bucket> = match url.strip_prefix("file://").filter(|path| path.starts_with('/')) {
        Some(path) => Arc::new(FolderBucket::new(Path::new(path))),
        None => Arc::new(ObjectBucket::open(url).map_err(BindError::Bucket)?),
    };
    Ok(SharedLog { bucket, lease })
}

/// A maintnerd that has its log and its address, but does nothing yet.
pub struct Server {
    bound: Bound,
    bound_logs: Option<Bound>,
    tasks: Tasks,
    ledger: Arc<Ledger>,
    mirror: Arc<Mirror>,
    votes: Votes,
    mirror_client: MirrorServiceClient<Channel>,
    events_client: Option<EventServiceClient<Channel>>,
    issues: Issues,
    config: Config,
}

/// Those who read repositories at GitHub, and how to wake them.
struct Issues {
    readers: Vec<Source>,
    hub: Hub,
}

impl Issues {
    fn new(config: &Config, around: &Around) -> Result<Self, BindError> {
        let clients = github::clients(&config.github, &config.limits, &config.clock)
            .map_err(|error| BindError::Github(error.to_string()))?;
        let (mut readers, mut wakes) = (Vec::new(), Vec::new());
        for (repository, (client, sharing)) in config.github.iter().zip(clients) {
            let noted = Arc::<Wakes>::default();
            wakes.push((repository.key(), Arc::clone(&noted)));
            readers.push(Source::new(repository.clone(), (client, sharing), noted, around.clone()));
        }
        Ok(Self { readers, hub: Hub::new(wakes) })
    }
}

impl Server {
    /// Opens the log, reads it, and binds the address.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let shared = config.bucket.as_deref().map(|url| shared(url, config.limits.lease)).transpose()?;
        let (dir, options) = (config.data.join("log"), config.log);
        let opening =
            tokio::task::spawn_blocking(move || Ledger::open(&dir, options, shared.as_ref()).map(Arc::new));
        let ledger = opening.await.map_err(|error| BindError::Log(Box::new(error)))??;
        let connect = |service, url: &str| {
            rpc::connect(url, Some(&config.identity)).map_err(|source| BindError::Peer { service, source })
        };
        let mirror_client = MirrorServiceClient::new(connect("gitmirror", &config.gitmirror)?)
            .max_decoding_message_size(rpc::MAX_MESSAGE);
        let events_client = match &config.pubsubhelper {
            Some(url) => Some(EventServiceClient::new(connect("pubsubhelper", url)?)),
            None => None,
        };
        let tasks = Tasks::new(CancellationToken::new());
        let sources = Arc::new(Sources::new(mirror_client.clone(), config.limits.status));
        let around = Around {
            ledger: Arc::clone(&ledger),
            sources: Arc::clone(&sources),
            limits: config.limits,
            clock: Arc::clone(&config.clock),
        };
        let issues = Issues::new(&config, &around)?;
        let api = MutationApi {
            ledger: Arc::clone(&ledger),
            sources: Arc::clone(&sources),
            tasks: tasks.clone(),
            limits: config.limits,
            readers: Readers::default(),
        };
        let (verdicts, follow) = watch::channel(Arc::default());
        let compat = CompatApi::new(Arc::clone(&ledger), follow);
        let bound = rpc::Server::new("maintnerd", tasks.clone())
            .tls(&config.identity)
            .grpc(SharedFrames::new(api))
            .grpc(QueryServiceServer::new(QueryApi { ledger: Arc::clone(&ledger) }))
            .grpc(MaintnerServiceServer::new(compat.clone()))
            .http(logs_router(ledger.log().clone(), config.logs.clone(), tasks.shutdown()))
            .bind(config.listen)
            .await?;
        let bound_logs = match config.listen_logs {
            None => None,
            Some(address) => {
                let router = logs_router(ledger.log().clone(), config.logs.clone(), tasks.shutdown());
                let server = rpc::Server::new("maintnerd's logs", tasks.clone()).plain_loopback();
                Some(server.grpc(MaintnerServiceServer::new(compat)).http(router).bind(address).await?)
            }
        };
        let mirror = Mirror::new(
            mirror_client.clone(),
            Arc::clone(&ledger),
            Arc::clone(&sources),
            tasks.clone(),
            config.limits,
            config.clock.clone(),
        );
        let votes = Votes {
            ledger: Arc::clone(&ledger),
            subjects: Arc::clone(&mirror.subjects),
            sources,
            gerrits: Gerrits::new()?,
            verdicts,
            clock: config.clock.clone(),
            limits: config.limits,
        };
        Ok(Self {
            bound,
            bound_logs,
            tasks,
            ledger,
            mirror,
            votes,
            mirror_client,
            events_client,
            issues,
            config,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.bound.addr()
    }

    /// Where `/logs` is served in the clear, if it is.
    pub fn logs_addr(&self) -> Option<SocketAddr> {
        self.bound_logs.as_ref().map(Bound::addr)
    }

    /// Serves until asked to stop, or until something fails that it cannot go on without.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            bound,
            bound_logs,
            tasks,
            ledger,
            mirror,
            votes,
            mirror_client,
            events_client,
            issues,
            config,
        } = self;
        let stop = tasks.shutdown();
        tasks.job("wait for the end", {
            let stop = stop.clone();
            async move {
                tokio::select! {
                    () = shutdown.cancelled() => stop.cancel(),
                    () = stop.cancelled() => {}
                }
            }
        });
        tasks.service("mutation log", watch_log(Arc::clone(&ledger), stop.clone()));
        tasks.job("snapshots", maintner::snapshot::keep(ledger.log().clone(), stop.clone()));
        bound.start();
        if let Some(logs) = bound_logs {
            logs.start();
        }
        tasks.service("audit", Auditor::new(Arc::clone(&mirror)).run());
        tasks.service("refs", mirror.run());
        for reader in issues.readers {
            tasks.service("github", reader.run(stop.clone()));
        }
        tasks.service("votes", votes.run(stop.clone()));
        if let Some(events) = events_client {
            tasks.service("events", events::run(events, mirror_client, issues.hub, config.limits, stop));
        }
        let ended = tasks.finish(GRACE).await;
        ledger.log().close().await;
        ended
    }
}

/// Ends the process when the log takes no more: what it holds is not known any more, and opening it again tells.
async fn watch_log(ledger: Arc<Ledger>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut extent = ledger.log().subscribe();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = extent.changed() => if changed.is_err() {
                bail!("the mutation log takes no more");
            }
        }
    }
}
