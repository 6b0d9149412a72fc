//! A PostgreSQL server of a test's own, by `tests/real/postgres`.

use std::path::PathBuf;

use crate::real::Server;

/// A running server. It ends, and leaves nothing, when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    _server: Server,
    /// As libpq takes it, without the password.
    pub url: String,
    /// The file that holds the password.
    pub password: PathBuf,
    /// The certificate of whoever signed the server's.
    pub ca: PathBuf,
}

impl Postgres {
    /// Starts one. Where that is not possible, says that `test` is skipped and why.
    ///
    /// # Panics
    /// When the script does something else than it says.
    pub fn start(test: &str) -> Option<Self> {
        let server = Server::start("postgres", "PostgreSQL server", test)?;
        let (url, password, ca) = (server.value("url"), server.value("password"), server.value("ca"));
        Some(Self { _server: server, url, password: password.into(), ca: ca.into() })
    }
}
