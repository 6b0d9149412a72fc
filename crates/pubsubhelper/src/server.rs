//! Wires the parts and owns their life.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api::events::event_service_server::EventServiceServer;
use axum::Router;
use rpc::Bound;
use runtime::Tasks;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{Config, gerrit::GerritHook, grpc::Events, log::Log, webhook::Webhook};

/// How long calls may take to end after we were asked to.
const GRACE: Duration = Duration::from_secs(5);

/// pubsubhelper cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address of the stream cannot be had.
    #[error("cannot serve events")]
    Listen(#[source] rpc::BindError),
    /// The address of the webhook cannot be had.
    #[error("cannot serve the webhook")]
    Public(#[source] rpc::BindError),
}

impl BindError {
    /// Whose turn it is.
    pub fn failure(&self) -> runtime::Failure {
        let (Self::Listen(error) | Self::Public(error)) = self;
        match error {
            rpc::BindError::InUse(_) | rpc::BindError::Listen { .. } => runtime::Failure::Unavailable,
            _ => runtime::Failure::Configuration,
        }
    }
}

/// A pubsubhelper that holds its addresses.
pub struct Server {
    tasks: Tasks,
    bound: Bound,
    public: Option<Bound>,
    webhook: Option<Router>,
}

impl Server {
    /// Takes the addresses.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let tasks = Tasks::new(CancellationToken::new());
        let log = Log::new(runtime::new_id().as_u64_pair().1);
        let github =
            config.webhook_secret.map(|secret| Webhook::new(secret, log.clone(), config.clock.clone()));
        let gerrit =
            config.gerrit_secret.map(|secret| GerritHook::new(secret, log.clone(), config.clock.clone()));
        let routers = [
            github.map(|webhook| Arc::new(webhook).router()),
            gerrit.map(|webhook| Arc::new(webhook).router()),
        ];
        let webhook = routers.into_iter().flatten().reduce(Router::merge);
        let events = EventServiceServer::new(Events::new(log, config.checkpoint))
            .max_decoding_message_size(rpc::MAX_MESSAGE);
        let server = rpc::Server::new("pubsubhelper", tasks.clone()).tls(&config.identity).grpc(events);
        let bound = server.bind(config.listen).await.map_err(BindError::Listen)?;
        let public = match (config.public_listen, &webhook) {
            (Some(address), Some(webhook)) => {
                let server = rpc::Server::new("pubsubhelper-webhook", tasks.clone())
                    .plain_loopback()
                    .allowed_hosts(config.public_hosts)
                    .http(webhook.clone());
                Some(server.bind(address).await.map_err(BindError::Public)?)
            }
            _ => None,
        };
        Ok(Self { tasks, bound, public, webhook })
    }

    /// Where the stream of events is served.
    pub fn addr(&self) -> SocketAddr {
        self.bound.addr()
    }

    /// Where the webhook is served by ourselves.
    pub fn public_addr(&self) -> Option<SocketAddr> {
        self.public.as_ref().map(Bound::addr)
    }

    /// `POST /github-webhook` and `POST /gerrit-webhook/SECRET`, for somebody else to serve: those that have a secret.
    pub fn webhook_router(&self) -> Option<Router> {
        self.webhook.clone()
    }

    /// Serves until `shutdown` is cancelled or a part fails.
    ///
    /// # Errors
    /// The first failure of a part.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        info!("pubsubhelper listens on {}", self.bound.addr());
        self.bound.start();
        if let Some(public) = self.public {
            info!("pubsubhelper takes webhooks on {}", public.addr());
            public.start();
        }
        tokio::select! {
            () = shutdown.cancelled() => self.tasks.shutdown().cancel(),
            result = self.tasks.clone().finish(GRACE) => return result,
        }
        self.tasks.finish(GRACE).await
    }
}
