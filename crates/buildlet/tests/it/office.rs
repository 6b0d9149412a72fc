//! A farm's office for machines: it signs certificates, takes machines in, and says which buildlet to run.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::coordinator::{
    Certificate, EnrollRequest, EnrollResponse, RenewRequest, RenewResponse,
    enrolment_service_server::{EnrolmentService, EnrolmentServiceServer},
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rpc::{Authority, Peer, reverse};
use runtime::Tasks;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use types::{HostType, MachineName};

use crate::harness::{DEADLINE, until};

/// The one token that is good.
pub(crate) const TOKEN: &str = "sesame";

pub(crate) struct Office {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) desk: Desk,
    address: SocketAddr,
    incoming: mpsc::Receiver<reverse::Incoming>,
    _shutdown: tokio_util::sync::DropGuard,
}

/// What the office knows. Clones are the same.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) authority: Arc<Authority>,
    pub(crate) lifetime: Arc<Mutex<Duration>>,
    pub(crate) approved: Arc<Mutex<bool>>,
    pub(crate) asked: Arc<AtomicU64>,
    pub(crate) renewed: Arc<AtomicU64>,
    published: Arc<Mutex<Option<Published>>>,
}

#[derive(Clone)]
struct Published {
    number: u64,
    body: String,
    /// What is delivered as the binary, whatever was signed.
    binary: Vec<u8>,
}

/// What is wrong with a release.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    ForeignSignature,
    Truncated,
}

impl Office {
    pub(crate) async fn open() -> Self {
        runtime::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::create(&folder.path().join("ca")).unwrap());
        let desk = Desk {
            authority,
            lifetime: Arc::new(Mutex::new(Duration::from_hours(1))),
            approved: Arc::default(),
            asked: Arc::default(),
            renewed: Arc::default(),
            published: Arc::default(),
        };
        let shutdown = CancellationToken::new();
        let (sender, incoming) = mpsc::channel(16);
        let on_connect: reverse::OnConnect = Arc::new(move |connection| {
            let _ = sender.try_send(connection);
        });
        let releases = axum::Router::new()
            .route("/buildlet/release/{channel}/{os}/{arch}", get(release))
            .route("/buildlet/binary/{digest}", get(binary))
            .with_state(desk.clone());
        let server = rpc::Server::new("office", Tasks::new(shutdown.clone()))
            .tls(&desk.authority.issue_service("coordinator").unwrap())
            .guests(&["/farmer.coordinator.v1.EnrolmentService/Enroll", "/buildlet/"])
            .grpc(EnrolmentServiceServer::new(desk.clone()))
            .http(reverse::router(on_connect))
            .http(releases);
        let bound = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = bound.addr();
        bound.start();
        Self { folder, desk, address, incoming, _shutdown: shutdown.drop_guard() }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file with the token and the authority.
    pub(crate) fn token_file(&self, secret: &str) -> PathBuf {
        let path = self.path("token");
        fs::write(&path, format!("# a comment\n{secret}\n{}", self.desk.authority.certificate_pem()))
            .unwrap();
        path
    }

    /// The next machine that dials in.
    pub(crate) async fn connected(&mut self) -> reverse::Incoming {
        tokio::time::timeout(DEADLINE, self.incoming.recv()).await.expect("nobody dials in").unwrap()
    }

    /// Publishes a binary.
    pub(crate) fn publish(&self, binary: &str, flaw: Flaw) {
        let mut published = self.desk.published.lock().unwrap();
        let number = published.as_ref().map_or(0, |known| known.number) + 1;
        let (os, arch) = platform();
        let manifest = serde_json::json!({
            "number": number,
            "platform": format!("{os}/{arch}"),
            "channel": "stable",
            "version": number.to_string(),
            "digest": blake3::hash(binary.as_bytes()).to_hex().to_string(),
            "bytes": binary.len(),
            "to_come": "unknown fields are fine",
        })
        .to_string();
        let other = Authority::open_or_create(&self.path("other-ca")).unwrap();
        let authority = if flaw == Flaw::ForeignSignature { &other } else { &*self.desk.authority };
        let seal = hex::encode(authority.seal(manifest.as_bytes()).unwrap());
        let body = serde_json::json!({ "manifest": manifest, "seal": seal }).to_string();
        let mut binary = binary.as_bytes().to_vec();
        if flaw == Flaw::Truncated {
            binary.truncate(binary.len() / 2);
        }
        *published = Some(Published { number, body, binary });
    }

    /// A program that is a buildlet, told from others by the variable that its builds see.
    pub(crate) fn buildlet(mark: &str) -> String {
        let program = env!("CARGO_BIN_EXE_buildlet");
        format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec {program} --version\nexec {program} \"$@\" --env MARK={mark}\n"
        )
    }

    /// Runs the program to its end.
    pub(crate) fn run(args: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_buildlet")).args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Starts the program.
    pub(crate) fn start(args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_buildlet"));
        Running(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

fn platform() -> (&'static str, &'static str) {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    (std::env::consts::OS, arch)
}

/// A process that is asked to end when it is dropped: what it has started must end with it.
pub(crate) struct Running(Child);

impl Running {
    /// Ends it in order.
    pub(crate) async fn end(mut self) {
        self.terminate();
        until("the end of the process", || self.0.try_wait().unwrap().is_some()).await;
    }

    fn terminate(&self) {
        if let Some(pid) = Pid::from_raw(self.0.id().cast_signed()) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.terminate();
            let _ = self.0.wait();
        }
    }
}

impl Desk {
    fn sign(&self, csr_pem: &str, name: &str) -> Certificate {
        let lifetime = *self.lifetime.lock().unwrap();
        let (name, hosts): (MachineName, Vec<HostType>) =
            (name.parse().unwrap(), vec!["linux".parse().unwrap()]);
        let signed = self.authority.sign_machine(csr_pem, &name, &hosts, lifetime).unwrap();
        Certificate {
            certificate_pem: signed.certificate_pem,
            authority_pem: self.authority.certificate_pem().to_owned(),
            lifetime: Some(rpc::duration(lifetime)),
            host_types: vec!["linux".to_owned()],
            now: None,
        }
    }
}

#[tonic::async_trait]
impl EnrolmentService for Desk {
    async fn enroll(
        &self,
        request: tonic::Request<EnrollRequest>,
    ) -> Result<tonic::Response<EnrollResponse>, tonic::Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let request = request.into_inner();
        let certificate = match request.token.as_str() {
            TOKEN => Some(self.sign(&request.csr_pem, &request.name)),
            "" => self.approved.lock().unwrap().then(|| self.sign(&request.csr_pem, &request.name)),
            _ => return Err(rpc::status(Code::Unauthenticated, "BAD_TOKEN", "the token is used up")),
        };
        Ok(tonic::Response::new(EnrollResponse { certificate }))
    }

    async fn renew(
        &self,
        request: tonic::Request<RenewRequest>,
    ) -> Result<tonic::Response<RenewResponse>, tonic::Status> {
        let Some(Peer::Machine { name, .. }) = rpc::peer(&request).cloned() else {
            return Err(tonic::Status::unauthenticated("no machine"));
        };
        self.renewed.fetch_add(1, Ordering::Relaxed);
        let certificate = self.sign(&request.into_inner().csr_pem, name.as_str());
        Ok(tonic::Response::new(RenewResponse { certificate: Some(certificate) }))
    }
}

async fn release(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    let Some(published) = desk.published.lock().unwrap().clone() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{}\"", published.number);
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::ETAG, tag)], published.body).into_response()
}

async fn binary(State(desk): State<Desk>, Path(_): Path<String>) -> Response {
    desk.published.lock().unwrap().clone().unwrap().binary.into_response()
}
