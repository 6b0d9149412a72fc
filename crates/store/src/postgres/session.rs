//! One connection, with the statements that it has prepared.

use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc, time::Duration};

use futures_util::{
    future::{MaybeDone, join, maybe_done},
    poll,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use rustls_platform_verifier::BuilderVerifierExt;
use secrecy::ExposeSecret;
use tokio_postgres::{
    Client, Config, Statement,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use super::{Postgres, rows};
use crate::{OpenError, ReadError, Row, Value, batch, error::Engine};

/// How long a connection may take to stand, and to be given up when the other end is silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many statements a connection keeps prepared; more are not expected, and begin it anew.
const PREPARED: usize = 500;

/// How to connect.
pub(crate) struct Link {
    config: Config,
    tls: MakeRustlsConnect,
    schema: &'static str,
    name: String,
    tracker: TaskTracker,
}

impl Link {
    pub(super) fn new(options: &Postgres, tracker: TaskTracker) -> Result<Self, OpenError> {
        let mut config: Config =
            options.url.parse().map_err(|error: tokio_postgres::Error| OpenError::BadUrl {
                problem: std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string),
            })?;
        if let Some(password) = &options.password {
            config.password(password.expose_secret());
        }
        // A server elsewhere speaks TLS, unless the URL says otherwise.
        if !options.url.contains("sslmode=") && !config.get_hosts().iter().all(is_here) {
            config.ssl_mode(SslMode::Require);
        }
        config.application_name(format!("farmer {}", options.schema));
        config.connect_timeout(PATIENCE).keepalives_idle(PATIENCE).tcp_user_timeout(PATIENCE);
        let name = name(&config);
        let tls = MakeRustlsConnect::new(tls(options.ca.as_deref())?);
        Ok(Self { config, tls, schema: options.schema, name, tracker })
    }

    /// What to call the database when speaking to people.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn connect(&self) -> Result<Session, Engine> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        self.tracker.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the database ended: {error}");
            }
        });
        let session = Session { client, prepared: HashMap::new() };
        // The fence waits for who overtakes, and sees that. What was acknowledged must be durable. Neither may depend
        // on the server's defaults; a stricter durability stays.
        session
            .batch(&format!(
                "SET search_path TO \"{}\"; SET default_transaction_isolation TO 'read committed'; SELECT set_config('synchronous_commit', 'on', false) \
                 WHERE current_setting('synchronous_commit') = 'off'",
                self.schema
            ))
            .await?;
        Ok(session)
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(host) => host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        Host::Unix(_) => true,
    }
}

fn name(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{host}/{database}")
}

fn tls(ca: Option<&Path>) -> Result<ClientConfig, OpenError> {
    let bad = |path: &Path, problem: String| OpenError::BadAuthority { path: path.to_owned(), problem };
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(ca.unwrap_or(Path::new("")), error.to_string()))?;
    let Some(path) = ca else {
        let builder = builder
            .with_platform_verifier()
            .map_err(|error| bad(Path::new("the system's"), error.to_string()))?;
        return Ok(builder.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| bad(path, error.to_string()))?;
    for certificate in certificates {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|problem| bad(path, problem))?;
    }
    if roots.is_empty() {
        return Err(bad(path, "it holds no certificate".to_owned()));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A connection.
pub(super) struct Session {
    client: Client,
    prepared: HashMap<&'static str, Statement>,
}

impl Session {
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Statements without arguments, whose rows nobody wants.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Engine> {
        Ok(self.client.batch_execute(sql).await?)
    }

    pub(super) async fn make_schema(&mut self, schema: &'static str) -> Result<(), Engine> {
        // Only who may make schemas can say `IF NOT EXISTS`, even if there is nothing to do.
        let found = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
        if self.query(found, &[schema.into()]).await.is_ok_and(|rows| !rows.is_empty()) {
            return Ok(());
        }
        self.batch(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")).await
    }

    /// One statement; says how many rows it changed.
    pub(super) async fn execute(&mut self, sql: &'static str, args: &[Value]) -> Result<u64, Engine> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.execute_raw(&statement, args).await?)
    }

    /// All rows of a query.
    pub(super) async fn query(&mut self, sql: &'static str, args: &[Value]) -> Result<Vec<Row>, ReadError> {
        let statement = self.prepare(sql).await?;
        let args: Vec<_> = args.iter().map(rows::parameter).collect();
        let found = self.client.query(&statement, &args).await.map_err(Engine::from)?;
        rows::convert(&statement, &found)
    }

    /// The one number that a query answers.
    pub(super) async fn number(&mut self, sql: &'static str) -> Result<i64, Engine> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.query_one(&statement, &[]).await?.try_get(0)?)
    }

    /// The one text that a query answers, if it does.
    pub(super) async fn text(&mut self, sql: &'static str, args: &[Value]) -> Result<Option<String>, Engine> {
        let statement = self.prepare(sql).await?;
        let args: Vec<_> = args.iter().map(rows::parameter).collect();
        let row = self.client.query_opt(&statement, &args).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Begins a transaction, and says what a query about the epoch answers in it.
    pub(super) async fn begin(&mut self, fence: &'static str, epoch: i64) -> Result<Option<String>, Engine> {
        let fence = self.prepare(fence).await?;
        let epoch = Value::Int(epoch);
        let args = [rows::parameter(&epoch)];
        let begin = self.client.batch_execute("BEGIN");
        // Polled in this order, they are sent in this order.
        let (begun, row) = join(begin, self.client.query_opt(&fence, &args)).await;
        begun?;
        Ok(row?.map(|row| row.try_get(0)).transpose()?)
    }

    /// Sends statements one after the other without waiting in between; says how many rows each changed, up to the
    /// first that failed.
    pub(super) async fn execute_all(
        &mut self,
        statements: impl Iterator<Item = &batch::Statement> + Clone,
    ) -> Vec<Result<u64, Engine>> {
        let mut prepared = Vec::new();
        for statement in statements.clone() {
            match self.prepare(statement.sql).await {
                Ok(known) => prepared.push(known),
                Err(error) => {
                    // Those before it are not tried: the whole batch fails as one.
                    let done = prepared.iter().map(|_| Ok(0));
                    return done.chain([Err(error)]).collect();
                }
            }
        }
        let mut running = Vec::new();
        for (statement, prepared) in statements.zip(&prepared) {
            let mut run = Box::pin(maybe_done(self.client.execute_raw(prepared, &statement.args)));
            // Polled once, it is sent.
            let _ = poll!(run.as_mut());
            running.push(run);
        }
        let mut done = Vec::with_capacity(running.len());
        for mut run in running {
            if matches!(*run, MaybeDone::Future(_)) {
                run.as_mut().await;
            }
            let Some(outcome) = run.as_mut().take_output() else { break };
            let failed = outcome.is_err();
            done.push(outcome.map_err(Engine::from));
            if failed {
                break;
            }
        }
        done
    }

    async fn prepare(&mut self, sql: &'static str) -> Result<Statement, Engine> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(sql).await?;
        if self.prepared.len() >= PREPARED {
            self.prepared.clear();
        }
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(url: &str) -> Link {
        runtime::install_crypto();
        let options = Postgres { url: url.to_owned(), password: None, ca: None, schema: "records" };
        Link::new(&options, TaskTracker::new()).unwrap()
    }

    #[test]
    fn a_server_elsewhere_must_speak_tls_unless_the_url_says_otherwise() {
        let mode = |url: &str| link(url).config.get_ssl_mode();
        assert_eq!(mode("postgres://farmer@db.internal/farm"), SslMode::Require);
        assert_eq!(mode("postgres://farmer@127.0.0.1,db.internal/farm"), SslMode::Require);
        assert_eq!(mode("postgres://farmer@db.internal/farm?sslmode=disable"), SslMode::Disable);
        for here in ["localhost", "127.0.0.1", "[::1]"] {
            assert_eq!(mode(&format!("postgres://farmer@{here}/farm")), SslMode::Prefer, "{here}");
        }
        assert_eq!(mode("postgres:///farm?host=/run/postgresql"), SslMode::Prefer);
    }

    #[test]
    fn people_are_told_the_host_and_the_database_and_no_password() {
        let name = |url: &str| link(url).name().to_owned();
        assert_eq!(name("postgres://farmer:opensesame@db.internal/farm"), "postgres://db.internal/farm");
        assert_eq!(name("postgres://farmer@db"), "postgres://db/farmer");
    }
}
