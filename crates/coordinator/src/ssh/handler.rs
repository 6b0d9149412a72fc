//! One SSH connection: who it is, and which channels it opens. Requests of a channel are answered here, where they come in
//! order; what they mean is the channel's.

use std::sync::Arc;

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Pty,
    keys::Certificate,
    server::{Auth, ChannelOpenHandle, Handler, Msg, Session},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;
use types::SessionName;

use super::{Ssh, channel, forward};
use crate::sessions::Held;

/// How many channels one connection may have open at once.
const CHANNELS: usize = 64;

/// One connection.
pub(super) struct Client {
    ssh: Ssh,
    /// The session that its certificate is for.
    session: Option<SessionName>,
    logged_in: CancellationToken,
    channels: Arc<Semaphore>,
    /// Cancelled when the connection has ended or is to end: channels that wait for something else do not see it.
    gone: CancellationToken,
    _gone_at_the_end: DropGuard,
}

impl Client {
    pub(super) fn new(ssh: Ssh, gone: CancellationToken) -> Self {
        Self {
            ssh,
            session: None,
            logged_in: CancellationToken::new(),
            channels: Arc::new(Semaphore::new(CHANNELS)),
            gone: gone.clone(),
            _gone_at_the_end: gone.drop_guard(),
        }
    }

    /// Cancelled once the connection has shown a certificate that is right.
    pub(super) fn logged_in(&self) -> CancellationToken {
        self.logged_in.clone()
    }

    /// The way to the session's machine now, for one channel more; none if the session is over, its machine away, or
    /// there are enough.
    async fn room(&self) -> Option<(Held, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.channels).try_acquire_owned().ok()?;
        Some((self.ssh.sessions.hold(self.session.as_ref()?).await.ok()?, permit))
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        certificate: &Certificate,
    ) -> Result<Auth, Self::Error> {
        if let Err(refusal) = self.ssh.authority.check(user, certificate, self.ssh.clock.now()) {
            info!("a certificate for `{}` is refused: {refusal}", user.escape_debug());
            return Ok(Auth::reject());
        }
        let Ok(name) = user.parse::<SessionName>() else { return Ok(Auth::reject()) };
        if let Err(error) = self.ssh.sessions.hold(&name).await {
            info!(session.name = %name, "an SSH connection to session {name} is refused: {error}");
            return Ok(Auth::reject());
        }
        self.session = Some(name);
        self.logged_in.cancel();
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some((held, permit)) = self.room().await else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let served = channel::Served {
            sessions: self.ssh.sessions.clone(),
            tasks: self.ssh.tasks.clone(),
            held,
            gone: self.gone.child_token(),
        };
        self.ssh.tasks.job("ssh channel", async move {
            let _permit = permit;
            Box::pin(channel::serve(served, channel)).await;
        });
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // Only the machine's own ports: a session is no way into the network around it.
        let own = matches!(host, "localhost" | "127.0.0.1" | "::1");
        let (true, Ok(port)) = (own, u16::try_from(port)) else {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
            return Ok(());
        };
        let Some((held, permit)) = self.room().await else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let using = self.ssh.sessions.using(held.session.name.clone());
        let (tasks, gone) = (self.ssh.tasks.clone(), self.gone.child_token());
        self.ssh.tasks.job("ssh port", async move {
            let _used = (permit, using);
            forward::forward((held, port), channel, reply, &tasks, gone).await;
        });
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, channel::takes_variable(name))
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        answer(session, channel, name == channel::FILES)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }
}

fn answer(session: &mut Session, channel: ChannelId, well: bool) -> Result<(), russh::Error> {
    if well { session.channel_success(channel) } else { session.channel_failure(channel) }
}
