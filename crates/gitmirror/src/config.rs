//! What gitmirror is told at start.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use buildspec::Farm;
use runtime::{clock::SharedClock, telemetry};
use types::RepositoryName;

use crate::{Origin, ParseOriginError};

/// Everything that gitmirror needs to know.
pub struct Config {
    /// Where to serve gRPC and archives; port 0 picks one.
    pub listen: SocketAddr,
    /// Who we are.
    pub identity: rpc::Identity,
    /// The folder of the mirrors; made if missing, ours alone.
    pub data: PathBuf,
    /// The wall clock.
    pub clock: SharedClock,
    /// What is mirrored.
    pub repositories: Vec<RepositoryConfig>,
    /// pubsubhelper's URL, if there is one: its events save waiting for the next poll.
    pub events: Option<String>,
    /// How long things may take.
    pub timings: Timings,
    /// Logs, traces and metrics; used by `main` only.
    pub telemetry: telemetry::Config,
    /// The `farm.toml` to follow while running: repositories may come and go. None if somebody else calls
    /// [`crate::Handle::set_repositories`].
    pub file: Option<PathBuf>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not a valid `farm.toml`.
    #[error(transparent)]
    File(#[from] runtime::config::Errors),
    /// Repositories have origins that git could not fetch; a line for each.
    #[error("{}", lines(.0))]
    Origins(Vec<(RepositoryName, ParseOriginError)>),
    /// There are no certificates.
    #[error("`{}` has no [tls]: a service that runs by itself needs certificates", .0.display())]
    NoTls(PathBuf),
    /// The certificates cannot be used.
    #[error("cannot load the certificates")]
    Tls(#[from] rpc::TlsError),
}

fn lines(errors: &[(RepositoryName, ParseOriginError)]) -> String {
    let line = |(name, error): &(RepositoryName, ParseOriginError)| format!("repository `{name}`: {error}");
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Config {
    /// What `farm.toml` says to gitmirror.
    ///
    /// # Errors
    /// [`LoadError`], with everything that is wrong.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let farm: Farm = runtime::config::load(path)?;
        let repositories = RepositoryConfig::of_farm(&farm)?;
        let tls = farm.tls.ok_or_else(|| LoadError::NoTls(path.to_owned()))?;
        Ok(Self {
            listen: farm.listen.gitmirror,
            identity: rpc::Identity::load(&tls.certificate, &tls.key, &tls.ca)?,
            data: farm.data.join("gitmirror"),
            clock: runtime::system_clock(),
            repositories,
            events: farm.webhook.map(|_| farm.services.pubsubhelper),
            timings: Timings::default(),
            telemetry: farm.telemetry,
            file: Some(path.to_owned()),
        })
    }
}

/// One repository.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositoryConfig {
    /// The farm's name of it.
    pub name: RepositoryName,
    /// Where it is fetched from.
    pub origin: Origin,
    /// How often the origin is asked for news when nothing tickles it.
    pub poll: Duration,
    /// Mirrored beside branches and tags: the beginnings of the names of refs, for example `refs/changes/`.
    pub also: Vec<String>,
    /// Where branches and tags are pushed on to.
    pub push_to: Vec<Origin>,
    /// The project at a Gerrit that it is, `host/project`. Only told on; what of its changes is mirrored, `also` says.
    pub gerrit_project: Option<String>,
    /// Where that Gerrit's REST API is. Only told on.
    pub gerrit_url: Option<String>,
}

/// Where a Gerrit keeps changes: patch sets and the state of each.
pub(crate) const CHANGES: &str = "refs/changes/";

impl RepositoryConfig {
    /// Branches and tags of an origin, asked every 15 s.
    pub fn new(name: RepositoryName, origin: Origin) -> Self {
        Self {
            name,
            origin,
            poll: Duration::from_secs(15),
            also: Vec::new(),
            push_to: Vec::new(),
            gerrit_project: None,
            gerrit_url: None,
        }
    }

    /// One of a farm.
    ///
    /// # Errors
    /// Every origin or mirror that git could not use.
    pub fn of_repository(repository: &buildspec::Repository) -> Result<Self, Vec<ParseOriginError>> {
        let mut wrong = Vec::new();
        let mut parse = |text: &String| text.parse::<Origin>().map_err(|error| wrong.push(error)).ok();
        let origin = parse(&repository.origin);
        let push_to = repository.mirrors.iter().filter_map(parse).collect();
        let Some(origin) = origin.filter(|_| wrong.is_empty()) else { return Err(wrong) };
        let gerrit_project = repository.gerrit.as_ref().map(buildspec::GerritProject::key);
        Ok(Self {
            poll: repository.poll,
            also: gerrit_project.iter().map(|_| CHANGES.to_owned()).collect(),
            push_to,
            gerrit_project,
            gerrit_url: repository.gerrit.as_ref().map(|gerrit| gerrit.url.clone()),
            ..Self::new(repository.name.clone(), origin)
        })
    }

    /// Whether it may be a project of this name, at whatever Gerrit.
    pub(crate) fn is_project(&self, project: &str) -> bool {
        let host = self.gerrit_project.as_deref().and_then(|key| key.strip_suffix(project));
        host.is_some_and(|host| host.ends_with('/'))
    }

    /// The repositories of a farm.
    ///
    /// # Errors
    /// [`LoadError::Origins`], with every origin or mirror that git could not use.
    pub fn of_farm(farm: &Farm) -> Result<Vec<Self>, LoadError> {
        let mut wrong = Vec::new();
        let mut repositories = Vec::new();
        for repository in &farm.repositories {
            match Self::of_repository(repository) {
                Ok(config) => repositories.push(config),
                Err(errors) => {
                    wrong.extend(errors.into_iter().map(|error| (repository.name.clone(), error)));
                }
            }
        }
        if wrong.is_empty() { Ok(repositories) } else { Err(LoadError::Origins(wrong)) }
    }
}

/// How long things may take. The defaults are right outside of tests.
#[derive(Debug, Clone, PartialEq)]
pub struct Timings {
    /// After the first sign that a folder's refs changed, wait so long for others.
    pub debounce: Duration,
    /// How long after a change its objects are copied from a folder. Until then they are read there.
    pub settle: Duration,
    /// The first wait after a failed fetch; doubled each time.
    pub first_retry: Duration,
    /// The longest wait after a failed fetch.
    pub last_retry: Duration,
    /// A fetch is killed after this.
    pub fetch: Duration,
    /// Asking the origin for one commit is given up after this.
    pub ask: Duration,
    /// How long an uploaded commit is kept.
    pub keep_tries: Duration,
    /// How often a mirror is tidied.
    pub upkeep: Duration,
    /// A git process that nobody asked anything for so long is ended.
    pub idle: Duration,
    /// How often a watch that has nothing to say says so.
    pub checkpoint: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(1),
            settle: Duration::from_secs(1),
            first_retry: Duration::from_secs(1),
            last_retry: Duration::from_mins(1),
            fetch: Duration::from_mins(10),
            ask: Duration::from_secs(30),
            keep_tries: Duration::from_hours(168),
            upkeep: Duration::from_hours(1),
            idle: Duration::from_mins(1),
            checkpoint: Duration::from_secs(20),
        }
    }
}
