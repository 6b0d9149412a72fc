//! Wires devapp together.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use pages::Options;
use rpc::{Bound, Channel, ConnectError};
use runtime::Tasks;
use tokio_util::sync::CancellationToken;

use crate::{Config, page, recent::Recent};

const GRACE: Duration = Duration::from_secs(5);

/// devapp cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen")]
    Listen(#[from] rpc::BindError),
    /// The address of maintnerd makes no sense.
    #[error("cannot reach `maintnerd`")]
    Maintnerd(#[from] ConnectError),
}

impl BindError {
    /// Whose turn it is.
    pub fn failure(&self) -> runtime::Failure {
        match self {
            Self::Listen(_) => runtime::Failure::Unavailable,
            Self::Maintnerd(_) => runtime::Failure::Configuration,
        }
    }
}

/// A devapp that has its address, but does nothing yet.
pub struct Server {
    bound: Bound,
    tasks: Tasks,
    channel: Channel,
    recent: Recent,
    router: Router,
}

impl Server {
    /// Binds the address.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let tasks = Tasks::new(CancellationToken::new());
        let channel = rpc::connect(&config.maintnerd, Some(&config.identity))?;
        let recent = Recent::new(config.clock.clone());
        let mut options = Options::new(config.farm_name, config.clock, tasks.shutdown());
        options.hosts.extend(config.hosts.iter().cloned());
        options.nav = config.nav;
        let router = page::router(recent.clone(), options);
        let bound = rpc::Server::new("devapp", tasks.clone())
            .plain_loopback()
            .allowed_hosts(config.hosts)
            .http(router.clone().merge(pages::router_assets()))
            .bind(config.listen)
            .await?;
        Ok(Self { bound, tasks, channel, recent, router })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.bound.addr()
    }

    /// The pages, to be mounted on another listener too. Style sheet and script come from there.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Follows the stream and serves until asked to stop.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { bound, tasks, channel, recent, .. } = self;
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
        bound.start();
        tasks.service("follow", async move { Ok(recent.follow(channel, stop).await?) });
        tasks.finish(GRACE).await
    }
}
