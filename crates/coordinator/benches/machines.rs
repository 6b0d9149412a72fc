//! A thousand machines: each is enrolled, has its own certificate, TLS connection and HTTP/2 session, dials in, survives
//! a `kill -9` of the coordinator, and runs a command. The coordinator is a process of its own, this very program started
//! again, so that its memory can be read.
//!
//! `cargo xtask bench machines`; `MACHINES=100` for fewer.

#![expect(clippy::unwrap_used, reason = "a failed step ends the benchmark")]
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(dead_code, reason = "the fakes are those of the tests, which use more of them")]

#[path = "../tests/it/buildlet.rs"]
mod buildlet;
#[path = "../tests/it/peers.rs"]
mod peers;

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use api::{
    buildlet::buildlet_service_server::BuildletServiceServer,
    coordinator::{
        CreateTokenRequest, EnrollRequest, GetFarmRequest, GetFarmResponse,
        enrolment_service_client::EnrolmentServiceClient, farm_service_client::FarmServiceClient,
        machine_service_client::MachineServiceClient,
    },
    gitmirror::mirror_service_server::MirrorServiceServer,
    maintner::mutation_service_server::MutationServiceServer,
};
use buildspec::Farm;
use futures_util::{StreamExt as _, stream};
use rpc::{Authority, Identity, KeyRequest, Trust};
use runtime::Tasks;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{buildlet::FakeBuildlet, peers::FakeProject};

const TOKEN: &str = "secret";
/// What a machine waits at first and at most before it dials again, as the buildlet does.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(4));
const DEADLINE: Duration = Duration::from_mins(2);

fn main() {
    runtime::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match std::env::var("COORDINATOR") {
        Ok(folder) => runtime.block_on(coordinate(Path::new(&folder))),
        Err(_) => runtime.block_on(Box::pin(measure())),
    }
}

/// The coordinator's process: says where it listens, and serves until it is killed.
async fn coordinate(folder: &Path) {
    let authority = Arc::new(Authority::open(&folder.join("ca")).unwrap());
    let data = folder.join("data");
    let peers = std::env::var("PEERS").unwrap();
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let config = coordinator::Config {
        farm: Farm::local("example".parse().unwrap(), "/example", data.clone()),
        farm_path: None,
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        advertise: None,
        listen_public: SocketAddr::from(([127, 0, 0, 1], 0)),
        listen_ssh: None,
        identity: authority.issue_service("coordinator").unwrap(),
        authority: Some(authority),
        certificate_lifetime: coordinator::CERTIFICATE_LIFETIME,
        token: TOKEN.to_owned(),
        gitmirror: peers.clone(),
        maintnerd: peers,
        url: String::new(),
        data,
        clock: runtime::system_clock(),
        pages: axum::Router::new(),
        navigation: Vec::new(),
        version: "bench".to_owned(),
    };
    let server = coordinator::Server::bind(config).await.unwrap();
    println!("{} {}", server.addr(), server.public_addr());
    server.run(CancellationToken::new()).await.unwrap();
}

struct Coordinator {
    process: Child,
    internal: SocketAddr,
    public: SocketAddr,
}

impl Coordinator {
    fn start(folder: &Path, peers: SocketAddr, port: u16) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .env("COORDINATOR", folder)
            .env("PEERS", format!("https://{peers}"))
            .env("PORT", port.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (internal, public) = line.trim().split_once(' ').unwrap();
        Self { process, internal: internal.parse().unwrap(), public: public.parse().unwrap() }
    }

    fn url(&self) -> String {
        format!("https://{}", self.internal)
    }

    fn channel(&self) -> rpc::Channel {
        rpc::connect(&format!("http://{}", self.public), None).unwrap().with_bearer(TOKEN)
    }

    async fn farm(&self) -> GetFarmResponse {
        let request = rpc::request(GetFarmRequest {});
        FarmServiceClient::new(self.channel()).get_farm(request).await.unwrap().into_inner()
    }

    /// How long it takes until so many machines are connected and have answered their status.
    async fn until_connected(&self, count: usize) -> Duration {
        let begin = Instant::now();
        loop {
            let farm = self.farm().await;
            let there = farm.machines.iter().filter(|machine| machine.state != "lost").count();
            if there >= count {
                return begin.elapsed();
            }
            assert!(begin.elapsed() < DEADLINE, "only {there} of {count} machines are connected");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Resident memory in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn measure() {
    let count: usize = std::env::var("MACHINES").map_or(1000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(&folder.path().join("ca")).unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let project = FakeProject::new();
    let peers = rpc::Server::new("peers", tasks.clone())
        .tls(&authority.issue_service("gitmirror").unwrap())
        .grpc(MirrorServiceServer::new(project.clone()))
        .grpc(MutationServiceServer::new(project.clone()))
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let peers_address = peers.addr();
    peers.start();
    let mut coordinator = Coordinator::start(folder.path(), peers_address, 0);

    let begin = Instant::now();
    let identities = enrol(&coordinator, authority.certificate_pem(), count).await;
    println!("{count} machines enrolled: {:.1} s", begin.elapsed().as_secs_f64());

    let before = coordinator.memory();
    let machines: Vec<FakeBuildlet> =
        (0..count).map(|number| FakeBuildlet::new(&format!("m{number}"), tasks.clone())).collect();
    let url = coordinator.url();
    for (machine, identity) in machines.iter().zip(identities) {
        tasks.job("machine", dial(url.clone(), identity, machine.clone(), tasks.clone()));
    }
    let took = coordinator.until_connected(count).await;
    println!("{count} machines connected: {:.1} s", took.as_secs_f64());
    let each = coordinator.memory().saturating_sub(before) / count as u64;
    println!("memory of the coordinator for each connected machine: {each} KiB (bound: 100 KiB)");

    let port = coordinator.internal.port();
    coordinator.kill();
    let begin = Instant::now();
    let restarted = Coordinator::start(folder.path(), peers_address, port);
    restarted.until_connected(count).await;
    println!(
        "{count} machines back after a kill -9 and a restart: {:.1} s (bound: 10 s)",
        begin.elapsed().as_secs_f64()
    );
    run_on_each(&restarted, &project, &machines, folder.path()).await;
    drop(restarted);
    tasks.shutdown().cancel();
    let _ = tasks.finish(Duration::from_secs(5)).await;
}

/// One builder for each machine; each command waits until all have begun, so that each machine gets exactly one.
async fn run_on_each(
    coordinator: &Coordinator,
    project: &FakeProject,
    machines: &[FakeBuildlet],
    folder: &Path,
) {
    let gate = folder.join("gate");
    let made = Command::new("mkfifo").arg(&gate).status().unwrap();
    assert!(made.success());
    let builder = |number: usize| {
        format!(
            "[[builders]]\nname = \"b{number}\"\nhost = \"local\"\nmake = [\"read x < {} || true\"]\n",
            gate.display()
        )
    };
    let file: String = (0..machines.len()).map(builder).collect();
    let begin = Instant::now();
    project.push('a', None, &file);
    while machines.iter().any(|machine| machine.started() == 0) {
        assert!(begin.elapsed() < DEADLINE, "not every machine got its command");
        sleep(Duration::from_millis(50)).await;
    }
    println!("each machine runs a command: {:.1} s after the push", begin.elapsed().as_secs_f64());
    while coordinator.farm().await.builds_ended < machines.len() as u64 {
        assert!(begin.elapsed() < DEADLINE, "not every build ended");
        // A reader comes in when there is a writer, and sees the end of the file when there is none.
        drop(std::fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap());
        sleep(Duration::from_millis(50)).await;
    }
    let commands: usize = machines.iter().map(FakeBuildlet::started).sum();
    println!("{commands} commands ended, one each: {:.1} s after the push", begin.elapsed().as_secs_f64());
    assert_eq!(commands, machines.len());
}

/// Gets each machine its certificate, a few at a time.
async fn enrol(coordinator: &Coordinator, authority: &str, count: usize) -> Vec<Identity> {
    let request = CreateTokenRequest { host_types: vec!["local".to_owned()], uses: 0, lifetime: None };
    let mut operator = MachineServiceClient::new(coordinator.channel());
    let secret = operator.create_token(request).await.unwrap().into_inner().secret;
    let channel = rpc::connect_via(&coordinator.url(), Trust::Guest(authority), None).unwrap();
    let client = EnrolmentServiceClient::new(channel);
    let one = |number: usize| {
        let (mut client, token) = (client.clone(), secret.clone());
        async move {
            let name = format!("m{number}");
            let key = KeyRequest::make(&name.parse().unwrap()).unwrap();
            let csr_pem = key.csr_pem.clone();
            let request = EnrollRequest { csr_pem, name, host_types: Vec::new(), token };
            let certificate = client.enroll(request).await.unwrap().into_inner().certificate.unwrap();
            Identity {
                certificate_pem: certificate.certificate_pem,
                key_pem: key.key_pem,
                ca_pem: certificate.authority_pem,
            }
        }
    };
    stream::iter(0..count).map(one).buffered(16).collect().await
}

/// Dials again and again, as a buildlet does.
async fn dial(url: String, identity: Identity, machine: FakeBuildlet, tasks: Tasks) {
    let shutdown = tasks.shutdown();
    let service = rpc::Server::new("buildlet", tasks).grpc(BuildletServiceServer::new(machine)).service();
    let mut longest = PAUSES.0;
    while !shutdown.is_cancelled() {
        let dialled = rpc::reverse::dial(&url, &identity, http::HeaderMap::new(), None).await;
        if let Ok(stream) = dialled {
            longest = PAUSES.0;
            let _ = rpc::reverse::serve(stream, service.clone(), shutdown.clone()).await;
        }
        let part = (runtime::new_id().as_u128() & 0xffff) as f64 / 65536.0;
        sleep(longest.mul_f64(0.25 + 0.75 * part)).await;
        longest = (longest * 2).min(PAUSES.1);
    }
}
