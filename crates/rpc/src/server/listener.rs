//! An address that is listened on, with those who came before there was a server behind it.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{BindError, listen::CONNECTIONS};
use crate::relay::Way;

/// The pause after a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address that is held. Connections queue there until they are accepted.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    /// Who was accepted and could be handed on to nobody.
    waiting: VecDeque<TcpStream>,
}

impl Listener {
    /// Holds an address.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let socket = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Listen { address, source },
        })?;
        let local = socket.local_addr().map_err(|source| BindError::Listen { address, source })?;
        Ok(Self { socket, local, waiting: VecDeque::new() })
    }

    /// Where it listens, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.local
    }

    /// The next connection. Nothing is lost when this is dropped.
    ///
    /// # Errors
    /// As the system's: mostly for want of file descriptors. A later one may succeed.
    pub async fn accept(&mut self) -> io::Result<TcpStream> {
        match self.waiting.pop_front() {
            Some(stream) => Ok(stream),
            None => Ok(self.socket.accept().await?.0),
        }
    }

    /// Hands everybody who connects on to the leader, until `until`. Then those who have reached it are cut off, so that
    /// they connect anew, and those who have not are the first whom [`Listener::accept`] returns.
    pub async fn hand_on(&mut self, way: Way, until: CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = until.cancelled() => break,
                Some(_) = open.join_next() => continue,
                accepted = self.socket.accept(), if open.len() < CONNECTIONS => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    open.spawn(way.clone().carry(stream, until.clone()));
                }
                Err(error) => {
                    warn!("`{}` cannot accept: {error}", self.local);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while let Some(ended) = open.join_next().await {
            self.waiting.extend(ended.ok().flatten());
        }
    }
}
