//! The services of a farm in one process: bound in the order in which they need each other's addresses, then run.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use buildspec::Repository;
use rpc::Identity;
use runtime::{Failure, Tasks};

use super::{
    data::{DataFolder, Ports, loopback},
    farm_file::Wanted,
};

/// The entry of devapp in the navigation of the farm's pages.
const RECENT: (&str, &str) = ("Recent", "/recent");

/// Bound services.
pub(crate) struct Services {
    /// Where pages and commands connect.
    pub(crate) public: SocketAddr,
    /// Where buildlets connect.
    pub(crate) coordinator: SocketAddr,
    /// Who signs the certificates of this farm.
    pub(crate) authority: Arc<rpc::Authority>,
    servers: Servers,
}

struct Servers {
    pubsubhelper: pubsubhelper::Server,
    gitmirror: gitmirror::Server,
    maintnerd: maintnerd::Server,
    coordinator: coordinator::Server,
    gopherbot: gopherbot::Server,
    devapp: devapp::Server,
}

/// What every service is told.
struct Common<'a> {
    wanted: &'a Wanted,
    data: &'a DataFolder,
    authority: &'a Arc<rpc::Authority>,
    ports: Ports,
}

impl Services {
    /// Binds all of them. Ports of an earlier run are used again, so that buildlets that still run find us.
    pub(crate) async fn bind(
        wanted: &Wanted,
        data: &DataFolder,
        listen: Option<SocketAddr>,
    ) -> anyhow::Result<Self> {
        let authority =
            rpc::Authority::open_or_create(&data.folder("ca")?).context("open the farm's authority")?;
        let authority = Arc::new(authority);
        let common = Common { wanted, data, authority: &authority, ports: data.ports() };
        let pubsubhelper = common.pubsubhelper().await?;
        let events = https(pubsubhelper.addr());
        let gitmirror = common.gitmirror(&events).await?;
        let mirror = https(gitmirror.addr());
        let maintnerd = common.maintnerd(&mirror, &events).await?;
        let log = https(maintnerd.addr());
        let devapp = common.devapp(&log).await?;
        let gopherbot = common.gopherbot(&log).await?;
        let pages = pubsubhelper.webhook_router().unwrap_or_default().merge(devapp.router());
        let coordinator = common.coordinator(&mirror, &log, pages, listen).await?;
        let ports = Ports {
            public: coordinator.public_addr().port(),
            coordinator: coordinator.addr().port(),
            ssh: coordinator.ssh_addr().map_or(0, |address| address.port()),
            gitmirror: gitmirror.addr().port(),
            maintnerd: maintnerd.addr().port(),
            pubsubhelper: pubsubhelper.addr().port(),
        };
        data.keep_ports(ports)?;
        Ok(Self {
            public: coordinator.public_addr(),
            coordinator: coordinator.addr(),
            authority,
            servers: Servers { pubsubhelper, gitmirror, maintnerd, coordinator, gopherbot, devapp },
        })
    }

    /// Runs all of them until shutdown; one that fails ends the farm.
    pub(crate) fn run(self, tasks: &Tasks) {
        let stop = || tasks.shutdown();
        let Servers { pubsubhelper, gitmirror, maintnerd, coordinator, gopherbot, devapp } = self.servers;
        tasks.service("pubsubhelper", pubsubhelper.run(stop()));
        tasks.service("gitmirror", gitmirror.run(stop()));
        tasks.service("maintnerd", maintnerd.run(stop()));
        tasks.service("coordinator", coordinator.run(stop()));
        tasks.service("gopherbot", gopherbot.run(stop()));
        tasks.service("devapp", devapp.run(stop()));
    }
}

/// The address that is asked for; if any port will do, then the one of the run before, unless others have it now: who
/// follows this farm finds it again.
fn as_before(wanted: SocketAddr, before: u16, is_free: impl FnOnce(SocketAddr) -> bool) -> SocketAddr {
    let same = SocketAddr::new(wanted.ip(), before);
    if wanted.port() == 0 && before != 0 && is_free(same) { same } else { wanted }
}

fn is_free(address: SocketAddr) -> bool {
    std::net::TcpListener::bind(address).is_ok()
}

fn https(address: SocketAddr) -> String {
    format!("https://{address}")
}

impl Common<'_> {
    fn identity(&self, service: &str) -> anyhow::Result<Identity> {
        self.authority.issue_service(service).with_context(|| format!("issue the certificate of {service}"))
    }

    async fn pubsubhelper(&self) -> anyhow::Result<pubsubhelper::Server> {
        let clock = runtime::system_clock();
        let mut config = pubsubhelper::Config::new(
            loopback(self.ports.pubsubhelper),
            self.identity("pubsubhelper")?,
            clock,
        );
        if let Some(webhook) = &self.wanted.farm.webhook {
            config.set_secrets(webhook).map_err(|error| Failure::Configuration.of(error))?;
        }
        pubsubhelper::Server::bind(config)
            .await
            .map_err(|error| error.failure().of(error))
            .context("start pubsubhelper")
    }

    async fn gitmirror(&self, events: &str) -> anyhow::Result<gitmirror::Server> {
        let repositories =
            self.wanted.farm.repositories.iter().map(mirrored).collect::<anyhow::Result<_>>()?;
        let config = gitmirror::Config {
            listen: loopback(self.ports.gitmirror),
            identity: self.identity("gitmirror")?,
            data: self.data.folder("gitmirror")?,
            file: self.wanted.path.clone(),
            clock: runtime::system_clock(),
            repositories,
            events: Some(events.to_owned()),
            timings: gitmirror::Timings::default(),
            telemetry: self.wanted.farm.telemetry.clone(),
        };
        gitmirror::Server::bind(config)
            .await
            .map_err(|error| error.failure().of(error))
            .context("start gitmirror")
    }

    async fn maintnerd(&self, mirror: &str, events: &str) -> anyhow::Result<maintnerd::Server> {
        let config = maintnerd::Config {
            listen: loopback(self.ports.maintnerd),
            listen_logs: self.wanted.farm.listen.logs,
            identity: self.identity("maintnerd")?,
            gitmirror: mirror.to_owned(),
            pubsubhelper: Some(events.to_owned()),
            github: maintnerd::GithubRepository::all(&self.wanted.farm),
            data: self.data.folder("maintnerd")?,
            clock: runtime::system_clock(),
            log: maintner::Options::default(),
            bucket: self.wanted.farm.mutation_log.clone(),
            logs: maintnerd::LogsConfig::default(),
            limits: maintnerd::Limits::default(),
            telemetry: self.wanted.farm.telemetry.clone(),
        };
        maintnerd::Server::bind(config)
            .await
            .map_err(|error| Failure::Unavailable.of(error))
            .context("start maintnerd")
    }

    async fn coordinator(
        &self,
        mirror: &str,
        log: &str,
        pages: axum::Router,
        listen: Option<SocketAddr>,
    ) -> anyhow::Result<coordinator::Server> {
        let wanted = listen.unwrap_or(self.wanted.farm.listen.public);
        let ssh = self.wanted.farm.listen.ssh.unwrap_or(loopback(0));
        let config = coordinator::Config {
            farm: self.wanted.farm.clone(),
            farm_path: self.wanted.path.clone(),
            listen: loopback(self.ports.coordinator),
            advertise: None,
            listen_ssh: Some(as_before(ssh, self.ports.ssh, is_free)),
            listen_public: as_before(wanted, self.ports.public, is_free),
            identity: self.identity("coordinator")?,
            authority: Some(self.authority.clone()),
            certificate_lifetime: coordinator::CERTIFICATE_LIFETIME,
            token: self.data.token()?,
            gitmirror: mirror.to_owned(),
            maintnerd: log.to_owned(),
            url: String::new(),
            data: self.data.folder("coordinator")?,
            clock: runtime::system_clock(),
            pages,
            navigation: vec![(RECENT.0.to_owned(), RECENT.1.to_owned())],
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        coordinator::Server::bind(config)
            .await
            .map_err(|error| error.failure().of(error))
            .context("start the coordinator")
    }

    async fn gopherbot(&self, log: &str) -> anyhow::Result<gopherbot::Server> {
        let identity = self.identity("gopherbot")?;
        let mut config = gopherbot::Config::of(&self.wanted.farm, identity, runtime::system_clock())
            .map_err(|error| Failure::Configuration.of(error))?;
        config.listen = loopback(0);
        config.maintnerd = log.to_owned();
        config.data = self.data.folder("gopherbot")?;
        gopherbot::Server::bind(config)
            .await
            .map_err(|error| Failure::Unavailable.of(error))
            .context("start gopherbot")
    }

    async fn devapp(&self, log: &str) -> anyhow::Result<devapp::Server> {
        let identity = self.identity("devapp")?;
        let mut config = devapp::Config::of(&self.wanted.farm, identity, runtime::system_clock());
        config.listen = loopback(0);
        config.maintnerd = log.to_owned();
        devapp::Server::bind(config)
            .await
            .map_err(|error| Failure::Unavailable.of(error))
            .context("start devapp")
    }
}

fn mirrored(repository: &Repository) -> anyhow::Result<gitmirror::RepositoryConfig> {
    gitmirror::RepositoryConfig::of_repository(repository).map_err(|errors| {
        let origins = errors.into_iter().map(|error| (repository.name.clone(), error)).collect();
        Failure::Configuration.of(gitmirror::LoadError::Origins(origins))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farm_that_takes_any_port_takes_the_same_again() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(as_before(at("127.0.0.1:0"), 4000, |_| true), at("127.0.0.1:4000"));
        assert_eq!(as_before(at("127.0.0.1:0"), 4000, |_| false), at("127.0.0.1:0"));
        assert_eq!(as_before(at("127.0.0.1:0"), 0, |_| true), at("127.0.0.1:0"));
        assert_eq!(as_before(at("[::]:8790"), 4000, |_| true), at("[::]:8790"));
    }
}
