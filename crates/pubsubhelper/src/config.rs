//! What pubsubhelper is told at start.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use buildspec::{Farm, Webhook};
use runtime::{clock::SharedClock, telemetry};
use secrecy::SecretString;

/// Everything that pubsubhelper needs to know.
pub struct Config {
    /// Where to serve the stream of events; port 0 picks one.
    pub listen: SocketAddr,
    /// Who we are.
    pub identity: rpc::Identity,
    /// The wall clock.
    pub clock: SharedClock,
    /// The secret that GitHub signs with. Without one there is no webhook.
    pub webhook_secret: Option<SecretString>,
    /// The secret in the address that Gerrit posts to. Without one there is no webhook for Gerrit.
    pub gerrit_secret: Option<SecretString>,
    /// Where to serve the webhook, plain HTTP on loopback: what ends TLS stands before it. None if somebody else serves
    /// [`crate::Server::webhook_router`].
    pub public_listen: Option<SocketAddr>,
    /// Names under which the world reaches the webhook: the `Host` of requests to a plain listener is checked.
    pub public_hosts: Vec<String>,
    /// How often a watch that has nothing to say says so.
    pub checkpoint: Duration,
    /// Logs, traces and metrics; used by `main` only.
    pub telemetry: telemetry::Config,
}

/// How often a watch says that there is nothing.
pub(crate) const CHECKPOINT: Duration = Duration::from_secs(20);

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not a valid `farm.toml`.
    #[error(transparent)]
    File(#[from] runtime::config::Errors),
    /// There are no certificates.
    #[error("`{}` has no [tls]: a service that runs by itself needs certificates", .0.display())]
    NoTls(PathBuf),
    /// The certificates cannot be used.
    #[error("cannot load the certificates")]
    Tls(#[from] rpc::TlsError),
    /// The webhook's secret cannot be read.
    #[error("cannot read the webhook's secret from `{}`", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The webhook's secret would let anybody in.
    #[error("the webhook's secret in `{}` is empty: write a random one there and tell it GitHub or Gerrit", .0.display())]
    EmptySecret(PathBuf),
}

impl Config {
    /// With defaults for all but where and who.
    pub fn new(listen: SocketAddr, identity: rpc::Identity, clock: SharedClock) -> Self {
        Self {
            listen,
            identity,
            clock,
            webhook_secret: None,
            gerrit_secret: None,
            public_listen: None,
            public_hosts: Vec::new(),
            checkpoint: CHECKPOINT,
            telemetry: telemetry::Config::default(),
        }
    }

    /// What `farm.toml` says to pubsubhelper.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let farm: Farm = runtime::config::load(path)?;
        let tls = farm.tls.ok_or_else(|| LoadError::NoTls(path.to_owned()))?;
        let identity = rpc::Identity::load(&tls.certificate, &tls.key, &tls.ca)?;
        let mut config = Self::new(farm.listen.pubsubhelper, identity, runtime::system_clock());
        config.telemetry = farm.telemetry;
        if let Some(webhook) = farm.webhook {
            config.set_secrets(&webhook)?;
            config.public_listen = Some(farm.listen.webhook);
        }
        Ok(config)
    }

    /// Reads the secrets of webhooks.
    ///
    /// # Errors
    /// [`LoadError::Secret`] and [`LoadError::EmptySecret`].
    pub fn set_secrets(&mut self, webhook: &Webhook) -> Result<(), LoadError> {
        self.webhook_secret = webhook.secret.as_deref().map(read_secret).transpose()?;
        self.gerrit_secret = webhook.gerrit_secret.as_deref().map(read_secret).transpose()?;
        Ok(())
    }
}

/// Reads a webhook's secret from its file; a line end after it does not count.
fn read_secret(path: &Path) -> Result<SecretString, LoadError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LoadError::Secret { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(LoadError::EmptySecret(path.to_owned())),
        secret => Ok(secret.to_owned().into()),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_secret_is_read_without_its_line_end_and_may_not_be_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "abc\n").unwrap();
        assert_eq!(read_secret(&path).unwrap().expose_secret(), "abc");
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(read_secret(&path), Err(LoadError::EmptySecret(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_secret(&path), Err(LoadError::Secret { .. })));
    }
}
