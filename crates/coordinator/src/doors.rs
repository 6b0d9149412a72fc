//! The addresses of this process, from before it leads on: whoever comes while another coordinator leads is handed on to
//! that one, whatever he wants. So every replica serves everything, and only one decides.

use tokio::{join, sync::watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use rpc::{
    Listener,
    relay::{self, Way},
};
use store::{Database, Leadership};

use crate::{Config, server::BindError};

const PAGES: &str = "pages";
const SSH: &str = "ssh";

/// What is listened on.
pub(crate) struct Doors {
    pub(crate) internal: Listener,
    pub(crate) public: Listener,
    pub(crate) ssh: Option<Listener>,
}

impl Doors {
    /// Listens, so that a port that is taken is said before anything is done.
    pub(crate) async fn open(config: &Config) -> Result<Self, BindError> {
        // Handed on, it would be spoken in the clear as well.
        if !config.listen_public.ip().is_loopback() {
            return Err(rpc::BindError::PlainNotLoopback(config.listen_public).into());
        }
        let ssh = match config.listen_ssh {
            Some(address) => Some(Listener::bind(address).await?),
            None => None,
        };
        let (internal, public) = (Listener::bind(config.listen), Listener::bind(config.listen_public));
        Ok(Self { internal: internal.await?, public: public.await?, ssh })
    }

    /// Waits until this process leads, and meanwhile hands on whoever comes. With a SQLite file that is at once. Also says,
    /// in words, since when and where it leads, if there can be others.
    pub(crate) async fn until_leading(
        &mut self,
        database: &Database,
        config: &Config,
    ) -> Result<(Leadership, String), BindError> {
        let (leader, known) = watch::channel(String::new());
        let through =
            |name| Way::through(known.clone(), name, &config.identity).map_err(rpc::BindError::from);
        let (pages, ssh) = (through(PAGES)?, through(SSH)?);
        let leads = CancellationToken::new();
        let own = self.advertised(config);
        let winning = async {
            let won = database.lead(&own, &leader).await;
            leads.cancel();
            won
        };
        let told = async {
            let mut known = known.clone();
            while leads.run_until_cancelled(known.changed()).await.is_some_and(|changed| changed.is_ok()) {
                match known.borrow_and_update().as_str() {
                    "" => info!("nobody is known to lead: whoever connects is held"),
                    leader => info!("following: whoever connects is handed on to the leader at {leader}"),
                }
            }
        };
        let direct = Way::direct(known.clone());
        let handing_on = async {
            let Self { internal, public, ssh: listener } = self;
            let by_ssh = async {
                if let Some(listener) = listener {
                    listener.hand_on(ssh, leads.clone()).await;
                }
            };
            join!(internal.hand_on(direct, leads.clone()), public.hand_on(pages, leads.clone()), by_ssh);
        };
        let (won, ..) = join!(winning, told, handing_on);
        let leadership = won.ok_or(BindError::Closed)?;
        let words = match (leadership.epoch(), own.as_str()) {
            (0, _) => String::new(),
            (epoch, "") => {
                warn!(
                    "other coordinators with these records cannot hand anybody on to this one: set `advertise` of \
                     [listen], or FARMER_ADVERTISE, to the HOST:PORT at which they reach it"
                );
                format!("leading, as number {epoch}")
            }
            (epoch, own) => format!("leading, as number {epoch}, at {own}"),
        };
        if !words.is_empty() {
            info!("{words}");
        }
        Ok((leadership, words))
    }

    /// Where other coordinators reach this one: what is configured, or what is listened on if that is one address.
    fn advertised(&self, config: &Config) -> String {
        let bound = self.internal.addr();
        match &config.advertise {
            Some(address) => address.clone(),
            None if bound.ip().is_unspecified() => String::new(),
            None => bound.to_string(),
        }
    }

    /// What replicas that follow hand their clients on by.
    pub(crate) fn relays(&self) -> axum::Router {
        let mut listeners = vec![(PAGES, self.public.addr())];
        listeners.extend(self.ssh.as_ref().map(|listener| (SSH, listener.addr())));
        relay::router("coordinator", listeners)
    }
}
