//! The way into sessions by plain OpenSSH: `ssh`, `scp`, `sftp`, `rsync -e ssh`, `ssh -L`. Who has a short-lived certificate
//! for a session, signed by this farm, may use that session's machine; nothing else is accepted. The coordinator speaks
//! SSH, the machine knows nothing of it: channels become commands and connections under the session's lease.

mod authority;
mod channel;
mod forward;
mod handler;
mod line;
mod output;

use std::{sync::Arc, time::Duration};

use rpc::Listener;
use runtime::{SharedClock, Tasks};
use russh::{
    MethodKind, MethodSet,
    server::{Config, run_stream},
};
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use authority::{AuthorityError, SshAuthority};
use handler::Client;
use line::Line;

use crate::sessions::Sessions;

/// How many connections may be open. Whoever comes later waits.
const CONNECTIONS: usize = 256;
/// How long one may take to show its certificate.
const LOGIN: Duration = Duration::from_secs(30);
/// How often a silent connection is asked whether it lives; after three times without an answer it does not.
const ALIVE: Duration = Duration::from_secs(20);
/// How long one may take nothing that is sent. One that lives answers [`ALIVE`]'s question before.
const STUCK: Duration = Duration::from_mins(2);
/// How many messages of a channel may wait for a command that takes no input, 32 KiB each at the most. Then russh reads
/// nothing more of the whole connection.
const MESSAGES: usize = 512;
/// How often it is looked whether a client has hung up: russh does not see it while it reads nothing.
const LOOK: Duration = Duration::from_secs(1);
/// The pause after a connection could not be taken in.
const PAUSE: Duration = Duration::from_secs(1);

/// What speaks SSH. Clones are the same.
#[derive(Clone)]
pub(crate) struct Ssh {
    pub(crate) sessions: Sessions,
    pub(crate) authority: Arc<SshAuthority>,
    pub(crate) clock: SharedClock,
    pub(crate) tasks: Tasks,
}

impl Ssh {
    /// Takes connections in until shutdown.
    pub(crate) async fn run(self, mut listener: Listener, shutdown: CancellationToken) -> anyhow::Result<()> {
        let config = Arc::new(self.config());
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accept = async {
                let permit = Arc::clone(&room).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                accepted = accept => accepted,
            };
            match (permit, accepted) {
                (Ok(permit), Ok(stream)) => {
                    let serve =
                        self.clone().serve(Arc::clone(&config), stream, permit, shutdown.child_token());
                    self.tasks.job("ssh connection", serve);
                }
                (_, Err(error)) => {
                    warn!("an SSH connection cannot be taken in: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
                // The semaphore is never closed.
                (Err(_), Ok(_)) => return Ok(()),
            }
        }
    }

    fn config(&self) -> Config {
        Config {
            methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
            keys: vec![self.authority.host_key().clone()],
            auth_rejection_time: Duration::from_millis(200),
            auth_rejection_time_initial: Some(Duration::ZERO),
            keepalive_interval: Some(ALIVE),
            keepalive_max: 3,
            channel_buffer_size: MESSAGES,
            inactivity_timeout: Some(STUCK),
            ..Config::default()
        }
    }

    /// Serves one connection to its end. russh has tasks of its own for it, which end with the line.
    async fn serve(
        self,
        config: Arc<Config>,
        stream: TcpStream,
        _permit: OwnedSemaphorePermit,
        cut: CancellationToken,
    ) {
        let _cut_at_the_end = cut.clone().drop_guard();
        let (stream, watched) = match twice(stream) {
            Ok(both) => both,
            Err(error) => return debug!("an SSH connection has no second handle: {error}"),
        };
        // Keys that are typed are to go at once.
        let _ = stream.set_nodelay(true);
        let client = Client::new(self, cut.clone());
        let logged_in = client.logged_in();
        let line = Line::new(stream, cut.clone());
        let serve = async {
            match run_stream(config, line, client).await {
                Ok(running) => running.await,
                Err(error) => Err(error),
            }
        };
        let late = async {
            if tokio::time::timeout(LOGIN, logged_in.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = cut.cancelled() => {}
            () = late => debug!("an SSH connection showed no certificate in time"),
            () = hung_up(watched) => {}
            // Anybody may connect and speak nonsense.
            ended = Box::pin(serve) => if let Err(error) = ended {
                debug!("an SSH connection ended: {error}");
            },
        }
    }
}

/// A connection, and the same to look at.
fn twice(stream: TcpStream) -> std::io::Result<(TcpStream, TcpStream)> {
    let stream = stream.into_std()?;
    let watched = TcpStream::from_std(stream.try_clone()?)?;
    Ok((TcpStream::from_std(stream)?, watched))
}

/// Waits until the other end sends no more, also while what it has sent is not read.
async fn hung_up(watched: TcpStream) {
    while let Ok(ready) = watched.ready(Interest::READABLE).await
        && !ready.is_read_closed()
    {
        tokio::time::sleep(LOOK).await;
    }
}
