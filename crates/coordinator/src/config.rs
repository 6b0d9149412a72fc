//! What the coordinator is told when it starts.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use buildspec::Farm;
use runtime::{SharedClock, config::Errors};
use secrecy::SecretString;

/// The variable that holds the database's password where `[records]` names no file; as every client of PostgreSQL.
const PASSWORD: &str = "PGPASSWORD";

/// The variable that says where other coordinators reach this one, where `[listen]` does not: for those that share one
/// file, but no address.
const ADVERTISE: &str = "FARMER_ADVERTISE";

/// How long a machine's certificate is good, unless said: one that was away for a week is enrolled again.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// Everything that the coordinator needs to know.
#[derive(Clone)]
pub struct Config {
    /// The operator's file: repositories, hosts, policies.
    pub farm: Farm,
    /// Where it was read from: followed for edits, if given.
    pub farm_path: Option<PathBuf>,
    /// Where services and buildlets connect, by mTLS: gRPC, `/reverse` and `/snapshot`.
    pub listen: SocketAddr,
    /// Where other coordinators with the same records reach that, `HOST:PORT`; without it, the address itself unless it is
    /// every one. No address that replicas share.
    pub advertise: Option<String>,
    /// Where people connect: pages, and gRPC with the bearer token.
    pub listen_public: SocketAddr,
    /// Where people come into debugging sessions by SSH; not at all unless said. It is no matter of TLS: SSH has
    /// certificates of its own.
    pub listen_ssh: Option<SocketAddr>,
    /// Our own certificate.
    pub identity: rpc::Identity,
    /// What signs machines' certificates; without it, none is enrolled here.
    pub authority: Option<Arc<rpc::Authority>>,
    /// How long a machine's certificate is good. It renews it when half of that has passed.
    pub certificate_lifetime: Duration,
    /// The bearer token of the public gRPC.
    pub token: String,
    /// gitmirror's URL.
    pub gitmirror: String,
    /// maintnerd's URL.
    pub maintnerd: String,
    /// Our own internal URL, as buildlets reach it for snapshots; empty means the address that is listened on.
    pub url: String,
    /// The folder of the database and the bytes; made if need be.
    pub data: PathBuf,
    /// Wall time.
    pub clock: SharedClock,
    /// Further pages of the public listener, such as devapp's.
    pub pages: axum::Router,
    /// Their entries of the navigation: title and path.
    pub navigation: Vec<(String, String)>,
    /// The version, as pages show it.
    pub version: String,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] Errors),
    /// A service that runs alone needs certificates.
    #[error("`{}` has no [tls]: a coordinator that runs alone needs `ca`, `certificate` and `key`", .0.display())]
    NoTls(PathBuf),
    /// The certificates cannot be read.
    #[error("the certificates of `{}` cannot be used", .path.display())]
    Tls {
        /// The file that names them.
        path: PathBuf,
        /// Why.
        source: rpc::TlsError,
    },
    /// The password of the database cannot be read.
    #[error("the password of the records cannot be read from `{}`", .path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no token.
    #[error("the token cannot be read from `{}`", .path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Config {
    /// Reads `farm.toml` for a coordinator that runs alone. The bearer token is the file `token` of the data folder.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let farm: Farm = runtime::config::load(path)?;
        let tls = farm.tls.as_ref().ok_or_else(|| ConfigError::NoTls(path.to_owned()))?;
        let identity = rpc::Identity::load(&tls.certificate, &tls.key, &tls.ca)
            .map_err(|source| ConfigError::Tls { path: path.to_owned(), source })?;
        let load = |key: &PathBuf| rpc::Authority::load(&tls.ca, key).map(Arc::new);
        let authority = tls.ca_key.as_ref().map(load).transpose();
        let authority = authority.map_err(|source| ConfigError::Tls { path: path.to_owned(), source })?;
        let token_path = farm.data.join("token");
        let token = std::fs::read_to_string(&token_path)
            .map_err(|source| ConfigError::Token { path: token_path, source })?
            .trim()
            .to_owned();
        Ok(Self {
            farm_path: Some(path.to_owned()),
            listen: farm.listen.coordinator,
            advertise: farm.listen.advertise.clone().or_else(|| std::env::var(ADVERTISE).ok()),
            listen_public: farm.listen.public,
            listen_ssh: farm.listen.ssh,
            identity,
            authority,
            certificate_lifetime: CERTIFICATE_LIFETIME,
            token,
            gitmirror: farm.services.gitmirror.clone(),
            maintnerd: farm.services.maintnerd.clone(),
            url: farm.services.coordinator.clone(),
            data: farm.data.join("coordinator"),
            clock: runtime::system_clock(),
            pages: axum::Router::new(),
            navigation: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            farm,
        })
    }

    /// The password of the database, if one is known.
    pub(crate) fn records_password(&self) -> Result<Option<SecretString>, ConfigError> {
        let file = self.farm.records.as_ref().and_then(|records| records.password.as_ref());
        let Some(path) = file else { return Ok(std::env::var(PASSWORD).ok().map(SecretString::from)) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Password { path: path.clone(), source })?;
        Ok(Some(text.trim_end_matches(['\r', '\n']).into()))
    }
}
