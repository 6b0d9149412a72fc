//! Wires the bot together.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use maintner::{Start, follow};
use rpc::{Bound, Channel, ConnectError};
use runtime::Tasks;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::{Config, actor::Actor, bot::Bot, intents::Intents};

const GRACE: Duration = Duration::from_secs(5);

/// The bot cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its memory cannot be opened.
    #[error("cannot open the bot's intents")]
    Intents(#[source] Box<dyn std::error::Error + Send + Sync>),
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
            Self::Intents(_) | Self::Listen(_) => runtime::Failure::Unavailable,
            Self::Maintnerd(_) => runtime::Failure::Configuration,
        }
    }
}

/// A bot that has its memory and its address, but does nothing yet.
pub struct Server {
    bound: Bound,
    tasks: Tasks,
    channel: Channel,
    bot: Bot,
    actor: Actor,
    intents: Intents,
    runs: bool,
}

impl Server {
    /// Opens the bot's memory and binds the address, where health is answered.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let intents = Intents::open(&config.data.join("gopherbot.db"))
            .await
            .map_err(|error| BindError::Intents(Box::new(error)))?;
        let planned = Arc::new(Notify::new());
        let bot = Bot::new(intents.clone(), &config, Arc::clone(&planned))
            .await
            .map_err(|error| BindError::Intents(Box::new(error)))?;
        let actor = Actor {
            host: Arc::clone(&config.host),
            intents: intents.clone(),
            planned,
            retry: config.limits.retry,
            longest_retry: config.limits.longest_retry,
        };
        let channel = rpc::connect(&config.maintnerd, Some(&config.identity))?;
        let tasks = Tasks::new(CancellationToken::new());
        let bound =
            rpc::Server::new("gopherbot", tasks.clone()).tls(&config.identity).bind(config.listen).await?;
        let runs = config.tasks.iter().any(|task| task == "green-to-red");
        Ok(Self { bound, tasks, channel, bot, actor, intents, runs })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.bound.addr()
    }

    /// Works until asked to stop, or until something fails that it cannot go on without.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { bound, tasks, channel, bot, actor, intents, runs } = self;
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
        tasks.service("speak", actor.run(stop.clone()));
        if runs {
            let bot = Arc::new(Mutex::new(bot));
            let handle = move |update| {
                let bot = Arc::clone(&bot);
                async move { bot.lock().await.handle(update).await }
            };
            tasks
                .service("follow", async move { Ok(follow(channel, Start::Beginning, stop, handle).await?) });
        }
        let ended = tasks.finish(GRACE).await;
        intents.close().await;
        ended
    }
}
