//! Wires the parts, binds the listeners, owns shutdown.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use api::{
    apipb::maintner_service_server::MaintnerServiceServer,
    coordinator::{
        build_service_server::BuildServiceServer, enrolment_service_server::EnrolmentServiceServer,
        farm_service_server::FarmServiceServer, gomote_service_server::GomoteServiceServer,
        machine_service_server::MachineServiceServer, retry_service_server::RetryServiceServer,
        why_service_server::WhyServiceServer,
    },
    maintner::{
        mutation_service_client::MutationServiceClient, mutation_service_server::MutationServiceServer,
        query_service_server::QueryServiceServer,
    },
};
use pages::{NavEntry, Options};
use rpc::Listener;
use runtime::Tasks;
use store::{Blobs, Database, Leadership, LocalBlobs, Postgres, logs::LogStore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::Timestamp;

use crate::{
    Config, ConfigError,
    core::State,
    doors::Doors,
    engine::{self, Engine, Ports, Urls},
    enrol::{Book, Door},
    find::{Mirror, Project},
    grpc::{Builds, Enrolment, Farmland, Gomote, Mutations, Operators, Queries, Retries, SshDoor, Why},
    ports::{NoWitness, RecordsError},
    records::{MIGRATIONS, SqlRecords, read},
    releases::{self, Releases},
    review::GerritReviews,
    sessions::Sessions,
    settings::Settings,
    shell::{FarmLogs, Hub, Inbox, Tuning},
    snapshots,
    ssh::{Ssh, SshAuthority},
    view::{PagesSource, Viewer},
};

/// How long calls and tasks may take to end after shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// What a machine without a certificate may ask for: to be enrolled, to be told why it cannot connect, and a buildlet.
const GUESTS: &[&str] = &["/farmer.coordinator.v1.EnrolmentService/Enroll", "/reverse", "/buildlet/"];

/// Why the coordinator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The data folder cannot be made.
    #[error("the folder `{}` cannot be made", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] store::OpenError),
    /// What the configuration names cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database was closed while it was waited for.
    #[error("the records were closed")]
    Closed,
    /// The bytes cannot be reached.
    #[error("the store of bytes cannot be opened")]
    Blobs(#[from] store::BlobError),
    /// The rows cannot be read now.
    #[error("the records cannot be reached")]
    Records(#[source] RecordsError),
    /// The rows cannot be understood.
    #[error("the state of the farm cannot be read back")]
    Restore(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another service's URL is not one.
    #[error("the URL `{url}` cannot be used")]
    Peer {
        /// The URL.
        url: String,
        /// Why.
        source: rpc::ConnectError,
    },
    /// No HTTP client can be made.
    #[error("an HTTP client cannot be made")]
    Http(#[source] reqwest::Error),
    /// A listener cannot be bound.
    #[error(transparent)]
    Listen(#[from] rpc::BindError),
    /// SSH cannot be spoken.
    #[error("SSH cannot be spoken at `{0}`")]
    Ssh(SocketAddr, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl BindError {
    fn of(error: RecordsError) -> Self {
        if error.is_transient() { Self::Records(error) } else { Self::Restore(error.into()) }
    }

    /// Whose turn it is.
    pub fn failure(&self) -> runtime::Failure {
        match self {
            Self::Peer { .. }
            | Self::Config(_)
            | Self::Open(store::OpenError::BadUrl { .. } | store::OpenError::BadAuthority { .. })
            | Self::Listen(rpc::BindError::PlainNotLoopback(_) | rpc::BindError::NoIdentity(_)) => {
                runtime::Failure::Configuration
            }
            Self::Restore(_) => runtime::Failure::Bug,
            Self::Folder { .. }
            | Self::Open(_)
            | Self::Records(_)
            | Self::Closed
            | Self::Blobs(_)
            | Self::Ssh(..)
            | Self::Http(_)
            | Self::Listen(_) => runtime::Failure::Unavailable,
        }
    }
}

/// A coordinator that is bound and ready to run.
pub struct Server {
    internal: rpc::Bound,
    public: rpc::Bound,
    ssh: Option<(Ssh, Listener)>,
    tasks: Tasks,
    engine: Engine,
    settings: Settings,
    hub: Hub,
    logs: LogStore,
    database: Database,
    leadership: Leadership,
    config: Config,
}

/// What all parts are made of.
struct Ground {
    database: Database,
    leadership: Leadership,
    blobs: Arc<dyn Blobs>,
    logs: LogStore,
    hub: Hub,
    state: State,
    settings: Settings,
    mirror: Mirror,
    project: (Mutations, Queries),
    book: Book,
    ports: Ports,
    started: Timestamp,
}

impl Server {
    /// Opens the database, listens, waits to lead, and takes up what was going on. While another coordinator leads,
    /// whoever connects here is handed on to it.
    ///
    /// # Errors
    ///
    /// [`BindError`], with the next step where there is one.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let tasks = Tasks::new(CancellationToken::new());
        let path = &config.data;
        std::fs::create_dir_all(path).map_err(|source| BindError::Folder { path: path.clone(), source })?;
        let database = open_records(&config).await?;
        let mut doors = Doors::open(&config).await?;
        let (leadership, leads) = Box::pin(doors.until_leading(&database, &config)).await?;
        let relays = doors.relays();
        let ground = ground(&config, &tasks, (database, leadership)).await?;
        let (ways, inbox) = engine::ways(&ground.ports, &ground.settings, &tasks);
        let planner = ways.planner.clone();
        let viewer = Viewer::new(ways.handle.clone(), ground.database.clone(), ground.logs.clone());
        let builds = Builds {
            viewer: viewer.clone(),
            planner: planner.clone(),
            mirror: ground.mirror.clone(),
            settings: ground.settings.clone(),
            hub: ground.hub.clone(),
        };
        let farmland = Farmland {
            viewer: viewer.clone(),
            planner: planner.clone(),
            settings: ground.settings.clone(),
            hub: ground.hub.clone(),
            started: ground.started,
            clock: config.clock.clone(),
        };
        let releases = Releases::new(
            ground.database.clone(),
            Arc::clone(&ground.blobs),
            ground.book.clone(),
            config.clock.clone(),
        );
        let operators = Operators {
            book: ground.book.clone(),
            releases,
            settings: ground.settings.clone(),
            handle: ways.handle.clone(),
        };
        let services = (builds, farmland, operators);
        let door = Door::new(ground.book.gate(), ways.machines.clone(), tasks.clone());
        let internal = internal(&config, &tasks, &services, &door)
            .http(relays)
            .http(snapshots::router(Arc::clone(&ground.blobs)))
            .on(doors.internal)?;
        let sessions = Sessions {
            viewer: viewer.clone(),
            planner: planner.clone(),
            settings: ground.settings.clone(),
            door,
            hub: ground.hub.clone(),
            tasks: tasks.clone(),
        };
        let source = PagesSource {
            viewer,
            planner,
            mirror: ground.mirror.clone(),
            settings: ground.settings.clone(),
            hub: ground.hub.clone(),
            clock: config.clock.clone(),
            started: ground.started,
            version: config.version.clone(),
            leads,
        };
        let ssh = doors.ssh.map(|listener| speak_ssh(&config, &sessions, listener)).transpose()?;
        let door = ssh.as_ref().map(|(ssh, listener)| SshDoor {
            authority: Arc::clone(&ssh.authority),
            address: listener.addr(),
            clock: config.clock.clone(),
        });
        let further = (Gomote { sessions, ssh: door }, ground.project.clone());
        let public = public(&config, &tasks, services, further, source).on(doors.public)?;
        Ok(assemble(config, ground, tasks, (internal, public, ssh), (ways, inbox)))
    }

    /// Where services and buildlets connect.
    pub fn addr(&self) -> SocketAddr {
        self.internal.addr()
    }

    /// Where people connect.
    pub fn public_addr(&self) -> SocketAddr {
        self.public.addr()
    }

    /// Where people come into sessions by SSH, if they do.
    pub fn ssh_addr(&self) -> Option<SocketAddr> {
        self.ssh.as_ref().map(|(_, listener)| listener.addr())
    }

    /// Serves until `shutdown`, or until something fails that must not. Builds go on meanwhile: the machines run them,
    /// and whoever starts next takes them up.
    ///
    /// # Errors
    ///
    /// The first failure of a part.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let tasks = self.tasks;
        let ours = tasks.shutdown();
        self.engine.start(&tasks, &ours);
        self.settings.follow(&tasks, &self.hub, &self.config.clock);
        self.internal.start();
        self.public.start();
        if let Some((ssh, listener)) = self.ssh {
            tasks.service("ssh", ssh.run(listener, ours.clone()));
        }
        let logs = self.logs;
        tasks.job("sweep of logs", async move {
            match logs.sweep().await {
                Ok(0) => {}
                Ok(removed) => info!("removed {removed} objects that no log names"),
                Err(error) => warn!("logs cannot be swept: {error}"),
            }
        });
        let (leadership, until) = (self.leadership, ours.clone());
        tasks.service("leadership", async move {
            tokio::select! {
                () = until.cancelled() => Ok(()),
                // What this process holds in memory is old from now on.
                () = leadership.lost() => {
                    Err(runtime::Failure::Unavailable.of(anyhow::anyhow!("another coordinator leads now")))
                }
            }
        });
        let stop = ours.clone();
        tasks.job("shutdown", async move {
            tokio::select! {
                () = shutdown.cancelled() => stop.cancel(),
                () = stop.cancelled() => {}
            }
        });
        let ended = tasks.finish(GRACE).await;
        // Whoever waits to lead does so at once. A server that does not answer must not keep us.
        let _ = tokio::time::timeout(GRACE, self.database.close()).await;
        ended
    }
}

async fn ground(
    config: &Config,
    tasks: &Tasks,
    (database, leadership): (Database, Leadership),
) -> Result<Ground, BindError> {
    let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&config.data.join("bytes")).await?);
    let logs = LogStore::new(database.clone(), Arc::clone(&blobs), config.clock.clone(), tasks.clone());
    let ended = read::count_ended(&database).await.map_err(|error| BindError::of(error.into()))?;
    let started = config.clock.now();
    let connect = |url: &str| {
        rpc::connect(url, Some(&config.identity))
            .map_err(|source| BindError::Peer { url: url.to_owned(), source })
    };
    let log = connect(&config.maintnerd)?;
    let changes = Project::new(&log);
    let queries = Queries::new(&log);
    let maintnerd = MutationServiceClient::new(log).max_decoding_message_size(rpc::MAX_MESSAGE);
    let mirror = Mirror::new(connect(&config.gitmirror)?);
    let records = Arc::new(SqlRecords(database.clone()));
    let ports = Ports {
        records: records.clone(),
        found: records.clone(),
        words: records,
        changes: Arc::new(changes),
        reviews: Arc::new(GerritReviews::new().map_err(BindError::Http)?),
        logs: Arc::new(FarmLogs { logs: logs.clone(), database: database.clone() }),
        blobs: Arc::clone(&blobs),
        mutations: Arc::new(maintnerd.clone()),
        commits: Arc::new(mirror.clone()),
        clock: config.clock.clone(),
        new_id: Arc::new(runtime::new_id),
        witness: Arc::new(NoWitness),
        tuning: Tuning::default(),
    };
    let state = engine::restore(&ports).await.map_err(BindError::of)?;
    let book = Book::open(
        database.clone(),
        config.authority.clone(),
        config.clock.clone(),
        config.certificate_lifetime,
    );
    Ok(Ground {
        book: book.await.map_err(|error| BindError::of(error.into()))?,
        mirror,
        project: (Mutations(maintnerd), queries),
        ports,
        database,
        leadership,
        blobs,
        logs,
        hub: Hub::new(ended),
        state,
        settings: Settings::new(config.farm.clone(), config.farm_path.clone()),
        started,
    })
}

/// Opens the database: what `farm.toml` names, or a file.
async fn open_records(config: &Config) -> Result<Database, BindError> {
    let Some(records) = &config.farm.records else {
        return Ok(Database::open(&config.data.join("coordinator.db"), MIGRATIONS).await?);
    };
    let options = Postgres {
        url: records.url.clone(),
        password: config.records_password()?,
        ca: records.ca.clone(),
        schema: "coordinator",
    };
    Ok(Database::connect(options, MIGRATIONS).await?)
}

fn internal(
    config: &Config,
    tasks: &Tasks,
    services: &(Builds, Farmland, Operators),
    door: &Door,
) -> rpc::Server {
    rpc::Server::new("coordinator", tasks.clone())
        .tls(&config.identity)
        .grpc(BuildServiceServer::new(services.0.clone()).max_decoding_message_size(rpc::MAX_MESSAGE))
        .grpc(FarmServiceServer::new(services.1.clone()))
        .grpc(EnrolmentServiceServer::new(Enrolment { book: services.2.book.clone() }))
        .guests(GUESTS)
        .admission(services.2.book.gate().admission())
        .http(door.router())
        .http(releases::router(services.2.releases.clone()))
}

fn public(
    config: &Config,
    tasks: &Tasks,
    services: (Builds, Farmland, Operators),
    (gomote, (mutations, queries)): (Gomote, (Mutations, Queries)),
    source: PagesSource,
) -> rpc::Server {
    let mut options = Options::new(config.farm.name.clone(), config.clock.clone(), tasks.shutdown());
    for (title, path) in &config.navigation {
        options = options.with_nav(NavEntry::new(title, path));
    }
    rpc::Server::new("pages", tasks.clone())
        .plain_loopback()
        .grpc_auth(rpc::bearer(&config.token))
        .grpc(BuildServiceServer::new(services.0).max_decoding_message_size(rpc::MAX_MESSAGE))
        .grpc(FarmServiceServer::new(services.1))
        .grpc(MachineServiceServer::new(services.2).max_decoding_message_size(rpc::MAX_MESSAGE))
        .grpc(GomoteServiceServer::new(gomote).max_decoding_message_size(rpc::MAX_MESSAGE))
        .grpc(MutationServiceServer::new(mutations))
        .grpc(QueryServiceServer::new(queries.clone()))
        .grpc(MaintnerServiceServer::new(queries))
        .grpc(WhyServiceServer::new(Why { source: source.clone() }))
        .grpc(RetryServiceServer::new(Retries { source: source.clone() }))
        .http(pages::router(Arc::new(source), options).merge(config.pages.clone()))
}

fn speak_ssh(config: &Config, sessions: &Sessions, listener: Listener) -> Result<(Ssh, Listener), BindError> {
    let authority = SshAuthority::open(&config.data.join("ssh"))
        .map_err(|error| BindError::Ssh(listener.addr(), error.into()))?;
    let (clock, tasks) = (config.clock.clone(), sessions.tasks.clone());
    let ssh = Ssh { sessions: sessions.clone(), authority: Arc::new(authority), clock, tasks };
    Ok((ssh, listener))
}

fn assemble(
    config: Config,
    ground: Ground,
    tasks: Tasks,
    (internal, public, ssh): (rpc::Bound, rpc::Bound, Option<(Ssh, Listener)>),
    ways: (engine::Ways, Inbox),
) -> Server {
    let own = format!("https://{}", internal.addr());
    let url = if config.url.is_empty() { own.as_str() } else { config.url.as_str() };
    let slashless = |url: &str| Arc::<str>::from(url.trim_end_matches('/'));
    let pages = Arc::from(format!("http://{}", public.addr()));
    let urls = Urls { gitmirror: slashless(&config.gitmirror), own: slashless(url), pages };
    let Ground { ports, state, settings, hub, logs, database, leadership, .. } = ground;
    let engine = Engine::new(ports, state, ways, (settings.clone(), hub.clone(), urls), &tasks);
    Server { internal, public, ssh, tasks, engine, settings, hub, logs, database, leadership, config }
}
