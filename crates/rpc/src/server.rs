//! Servers: every service is served by this builder, so that all of them have health, reflection, deadlines, limits,
//! metrics and the same rules about who may connect.

mod call;
mod guard;
mod listen;
mod listener;
mod metrics;
mod outgoing;

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::response::IntoResponse;
use futures_util::FutureExt as _;
use http::{HeaderMap, Request};
use tokio_rustls::TlsAcceptor;
use tonic::{body::Body, server::NamedService, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

use runtime::Tasks;

use crate::{Admission, Identity, TlsError};

pub use call::Service;
use guard::Guard;
pub use guard::{GrpcAuth, bearer};
pub use listener::Listener;

/// A server that cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there already.
    #[error("address `{0}` is in use: stop what listens there, or choose another")]
    InUse(SocketAddr),
    /// Plain HTTP on an address that other machines reach.
    #[error("will not listen on `{0}` without TLS: only loopback addresses may be served in the clear")]
    PlainNotLoopback(SocketAddr),
    /// Neither TLS nor plain was chosen.
    #[error("no identity to listen on `{0}` with")]
    NoIdentity(SocketAddr),
    /// The identity cannot be used.
    #[error("cannot use the identity to listen with")]
    Identity(#[from] TlsError),
    /// The system refuses.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a listener speaks.
enum Transport {
    Undecided,
    Plain,
    Tls(Identity),
}

/// Builds a server: what it serves, to whom, and where.
pub struct Server {
    name: &'static str,
    tasks: Tasks,
    transport: Transport,
    routes: Routes,
    served: Vec<&'static str>,
    http: Option<axum::Router>,
    allowed_hosts: Vec<String>,
    auth: Option<GrpcAuth>,
    guests: Option<&'static [&'static str]>,
    admission: Option<Admission>,
    concurrency: usize,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server that serves nothing yet. It runs as tasks of `tasks`, and drains when those are asked to end.
    pub fn new(name: &'static str, tasks: Tasks) -> Self {
        Self {
            name,
            tasks,
            transport: Transport::Undecided,
            routes: Routes::default(),
            served: Vec::new(),
            http: None,
            allowed_hosts: Vec::new(),
            auth: None,
            guests: None,
            admission: None,
            concurrency: 1024,
        }
    }

    /// Speaks TLS with this identity, to clients that show a certificate of the same authority.
    pub fn tls(mut self, identity: &Identity) -> Self {
        self.transport = Transport::Tls(identity.clone());
        self
    }

    /// Also lets clients without a certificate in, to the paths that begin with one of these and to no others. A client that
    /// shows a certificate must show a good one.
    pub fn guests(mut self, paths: &'static [&'static str]) -> Self {
        self.guests = Some(paths);
        self
    }

    /// Refuses at the handshake, as revoked, whom this says no to. For servers with TLS.
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Speaks plain HTTP, on loopback addresses only. Requests must name this machine as their host, so that a web page
    /// from elsewhere cannot reach it through a name that resolves to 127.0.0.1.
    pub fn plain_loopback(mut self) -> Self {
        self.transport = Transport::Plain;
        self
    }

    /// More names that requests to a plain listener may have as their host, without port.
    pub fn allowed_hosts(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.allowed_hosts.extend(names);
        self
    }

    /// Checks the headers of each gRPC call but health checks; refused ones answer `UNAUTHENTICATED`. See [`bearer`].
    pub fn grpc_auth(mut self, auth: GrpcAuth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// How many calls may be worked on at the same time, 1024 unless said; more answer `UNAVAILABLE` (`SERVER_BUSY`).
    /// A streamed response counts until it begins.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }

    /// Serves a gRPC service. Health and reflection of it come with it.
    pub fn grpc<S>(mut self, service: S) -> Self
    where
        S: tower::Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes = self.routes.add_service(service);
        self.served.push(S::NAME);
        self
    }

    /// Serves pages and downloads: whatever is no gRPC call. Several routers are merged; one of them may have a fallback.
    pub fn http(mut self, router: axum::Router) -> Self {
        self.http = Some(match self.http {
            Some(existing) => existing.merge(router),
            None => router,
        });
        self
    }

    /// What answers requests, without a listener: for [`crate::reverse::serve`].
    pub fn service(self) -> Service {
        self.build(Guard::default()).0
    }

    /// Binds the address. Connections queue there until [`Bound::start`].
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(self, address: SocketAddr) -> Result<Bound, BindError> {
        self.may_listen(address)?;
        self.on(Listener::bind(address).await?)
    }

    /// As [`Server::bind`], where somebody listens for it already.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn on(mut self, listener: Listener) -> Result<Bound, BindError> {
        let address = listener.addr();
        self.may_listen(address)?;
        let mut guard = Guard { auth: self.auth.take(), ..Guard::default() };
        let tls = match std::mem::replace(&mut self.transport, Transport::Undecided) {
            Transport::Undecided => return Err(BindError::NoIdentity(address)),
            Transport::Plain => {
                guard.hosts = Some(std::mem::take(&mut self.allowed_hosts));
                None
            }
            Transport::Tls(identity) => {
                guard.guests = self.guests;
                let config = identity.server_config(self.guests.is_some(), self.admission.take())?;
                Some(TlsAcceptor::from(config))
            }
        };
        let (name, tasks, guests) = (self.name, self.tasks.clone(), guard.guests.is_some());
        let (service, health) = self.build(guard);
        Ok(Bound { name, tasks, listener, tls, guests, service, health })
    }

    /// Whether such an address may be listened on as was chosen.
    fn may_listen(&self, address: SocketAddr) -> Result<(), BindError> {
        match self.transport {
            Transport::Undecided => Err(BindError::NoIdentity(address)),
            Transport::Plain if !address.ip().is_loopback() => Err(BindError::PlainNotLoopback(address)),
            Transport::Plain | Transport::Tls(_) => Ok(()),
        }
    }

    fn build(self, guard: Guard) -> (Service, Health) {
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let mut reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(api::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for name in &self.served {
            reflection = reflection.with_service_name(*name);
        }
        let reflection = reflection.build_v1().expect("generated descriptors are valid");
        let grpc =
            self.routes.add_service(health_service).add_service(reflection).prepare().into_axum_router();
        let health = Health { reporter, served: self.served.into() };
        // Nobody else holds the health yet, so this is done at once.
        let _ = health.set_serving(true).now_or_never();
        let service = Service::new(call::Parts {
            name: self.name,
            grpc,
            http: self.http,
            guard,
            concurrency: self.concurrency,
            tasks: self.tasks,
        });
        (service, health)
    }
}

/// What the health service says about each service of a server. `SERVING` from the start until shutdown, unless told.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    served: Arc<[&'static str]>,
}

impl Health {
    /// Says whether all services of the server can do their work.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in self.served.iter().chain([&""]) {
            self.reporter.set_service_status(*name, status).await;
        }
    }
}

/// A server that holds its address.
pub struct Bound {
    name: &'static str,
    tasks: Tasks,
    listener: Listener,
    tls: Option<TlsAcceptor>,
    guests: bool,
    service: Service,
    health: Health,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").field("name", &self.name).field("addr", &self.addr()).finish_non_exhaustive()
    }
}

impl Bound {
    /// Where it listens, with the real port.
    pub fn addr(&self) -> SocketAddr {
        self.listener.addr()
    }

    /// The handle to what the health service says.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves, as a task of the server's tasks, until they are asked to end: then calls in progress are finished,
    /// and streams are ended with `UNAVAILABLE` (`SHUTTING_DOWN`) so that their readers go elsewhere.
    pub fn start(self) {
        let (name, tasks) = (self.name, self.tasks.clone());
        tasks.service(name, listen::run(self));
    }
}

/// Reads a header as text.
fn text<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
