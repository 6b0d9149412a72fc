//! A coordinator with its neighbours, for one test.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use api::{
    buildlet::buildlet_service_server::BuildletServiceServer,
    coordinator::{
        Build, GetBuildRequest, GetFarmRequest, ListBuildsRequest, ReadLogRequest,
        build_service_client::BuildServiceClient, farm_service_client::FarmServiceClient,
        machine_service_client::MachineServiceClient,
    },
    gitmirror::mirror_service_server::MirrorServiceServer,
    maintner::mutation_service_server::MutationServiceServer,
};
use buildspec::Farm;
use coordinator::{Config, Server};
use rpc::Authority;
use runtime::Tasks;
use tempfile::TempDir;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{buildlet::FakeBuildlet, peers::FakeProject};

/// Every wait ends within this, or the test has failed.
const DEADLINE: Duration = Duration::from_secs(30);
const TOKEN: &str = "secret";

pub(crate) struct TestFarm {
    pub(crate) project: FakeProject,
    pub(crate) tasks: Tasks,
    pub(crate) authority: Arc<Authority>,
    peers: SocketAddr,
    folder: TempDir,
    push_builds: u32,
    running: Option<Running>,
}

struct Running {
    internal: SocketAddr,
    public: SocketAddr,
    stop: CancellationToken,
    done: oneshot::Receiver<anyhow::Result<()>>,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl TestFarm {
    pub(crate) async fn start() -> Self {
        Self::start_with(buildspec::Repository::PUSH_BUILDS).await
    }

    /// One that builds so many commits of a push.
    pub(crate) async fn start_with(push_builds: u32) -> Self {
        runtime::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::open_or_create(&folder.path().join("ca")).unwrap());
        let tasks = Tasks::new(CancellationToken::new());
        let project = FakeProject::new();
        let peers = rpc::Server::new("peers", tasks.clone())
            .tls(&authority.issue_service("gitmirror").unwrap())
            .grpc(MirrorServiceServer::new(project.clone()))
            .grpc(MutationServiceServer::new(project.clone()))
            .bind(loopback())
            .await
            .unwrap();
        let address = peers.addr();
        peers.start();
        let mut farm = Self { project, tasks, authority, peers: address, folder, push_builds, running: None };
        farm.start_coordinator().await;
        farm
    }

    pub(crate) async fn start_coordinator(&mut self) {
        let peers = format!("https://{}", self.peers);
        let data: PathBuf = self.folder.path().join("data");
        let mut farm = Farm::local("example".parse().unwrap(), "/example", data.clone());
        farm.repositories[0].push_builds = self.push_builds;
        let config = Config {
            farm,
            farm_path: None,
            listen: loopback(),
            advertise: None,
            listen_public: loopback(),
            listen_ssh: None,
            identity: self.authority.issue_service("coordinator").unwrap(),
            authority: Some(self.authority.clone()),
            certificate_lifetime: coordinator::CERTIFICATE_LIFETIME,
            token: TOKEN.to_owned(),
            gitmirror: peers.clone(),
            maintnerd: peers,
            url: String::new(),
            data,
            clock: runtime::system_clock(),
            pages: axum::Router::new(),
            navigation: Vec::new(),
            version: "test".to_owned(),
        };
        let server = Server::bind(config).await.unwrap();
        let (internal, public) = (server.addr(), server.public_addr());
        let stop = CancellationToken::new();
        let run = server.run(stop.clone());
        let (ended, done) = oneshot::channel();
        self.tasks.job("coordinator", async move {
            let _ = ended.send(run.await);
        });
        self.running = Some(Running { internal, public, stop, done });
    }

    pub(crate) async fn stop_coordinator(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        timeout(DEADLINE, running.done).await.unwrap().unwrap().unwrap();
    }

    /// A machine that is connected until the token is cancelled.
    pub(crate) async fn connect(&self, buildlet: &FakeBuildlet) -> CancellationToken {
        let name = buildlet.name.parse().unwrap();
        let identity = self.authority.issue_machine(&name, &["local".parse().unwrap()]).unwrap();
        self.connect_as(buildlet, &identity, "").await.unwrap()
    }

    /// The same with a certificate, and a word for which of its lives this is.
    pub(crate) async fn connect_as(
        &self,
        buildlet: &FakeBuildlet,
        identity: &rpc::Identity,
        instance: &str,
    ) -> Result<CancellationToken, rpc::reverse::DialError> {
        let mut headers = http::HeaderMap::new();
        headers.insert(rpc::reverse::INSTANCE_HEADER, instance.parse().unwrap());
        let stream = rpc::reverse::dial(&self.internal_url(), identity, headers, None).await?;
        let service = rpc::Server::new("buildlet", self.tasks.clone())
            .grpc(BuildletServiceServer::new(buildlet.clone()))
            .service();
        let cut = CancellationToken::new();
        let serve = rpc::reverse::serve(stream, service, cut.clone());
        let cutting = cut.clone();
        self.tasks.job("connection", async move {
            // Cut, not closed: as when a machine loses power.
            tokio::select! {
                _ = serve => {}
                () = cutting.cancelled() => {}
            }
        });
        Ok(cut)
    }

    /// Where machines and services connect.
    pub(crate) fn internal_url(&self) -> String {
        format!("https://{}", self.running.as_ref().unwrap().internal)
    }

    /// What operators do.
    pub(crate) fn operator(&self) -> MachineServiceClient<rpc::Channel> {
        MachineServiceClient::new(self.channel())
    }

    /// The state of a machine as the farm sees it, once it is as wanted.
    pub(crate) async fn machine_state(&self, name: &str, wanted: &str) {
        let wait = async {
            loop {
                let farm = self.farm_client().get_farm(GetFarmRequest {}).await.unwrap().into_inner();
                if farm.machines.iter().any(|machine| machine.name == name && machine.state == wanted) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("machine {name} is not {wanted}"));
    }

    pub(crate) fn machine(&self, name: &str) -> FakeBuildlet {
        FakeBuildlet::new(name, self.tasks.clone())
    }

    pub(crate) fn channel(&self) -> rpc::Channel {
        let url = format!("http://{}", self.running.as_ref().unwrap().public);
        rpc::connect(&url, None).unwrap().with_bearer(TOKEN)
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.running.as_ref().unwrap().public
    }

    pub(crate) fn client(&self) -> BuildServiceClient<rpc::Channel> {
        BuildServiceClient::new(self.channel())
    }

    pub(crate) fn farm_client(&self) -> FarmServiceClient<rpc::Channel> {
        FarmServiceClient::new(self.channel())
    }

    pub(crate) async fn build(&self, number: u64) -> Option<Build> {
        self.client().get_build(GetBuildRequest { number }).await.ok()?.into_inner().build
    }

    pub(crate) async fn builds(&self) -> Vec<Build> {
        self.client().list_builds(ListBuildsRequest::default()).await.unwrap().into_inner().builds
    }

    /// The build once it is as wanted.
    pub(crate) async fn until(&self, number: u64, wanted: impl Fn(&Build) -> bool) -> Build {
        let wait = async {
            loop {
                if let Some(build) = self.build(number).await.filter(&wanted) {
                    return build;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if let Ok(build) = timeout(DEADLINE, wait).await {
            return build;
        }
        panic!("build {number} is not as wanted: {:#?}", self.build(number).await)
    }

    /// The build once it has ended.
    pub(crate) async fn ended(&self, number: u64) -> Build {
        self.until(number, |build| build.outcome != 0).await
    }

    /// The merged log, read to its end.
    pub(crate) async fn log(&self, number: u64, follow: bool) -> String {
        let request = ReadLogRequest { number, follow, ..ReadLogRequest::default() };
        let read = async {
            let mut stream = self.client().read_log(request).await.unwrap().into_inner();
            let mut bytes = Vec::new();
            while let Some(piece) = stream.message().await.unwrap() {
                assert_eq!(piece.offset, bytes.len() as u64, "no gap and no repeat");
                bytes.extend_from_slice(&piece.data);
            }
            String::from_utf8(bytes).unwrap()
        };
        timeout(DEADLINE, read).await.unwrap()
    }

    /// Waits for a number of results in the mutation log, and answers their outcomes.
    pub(crate) async fn results(&self, count: usize) -> Vec<String> {
        let wait = async {
            loop {
                let results = self.project.results.lock().unwrap().clone();
                if results.len() >= count {
                    return results.into_iter().map(|result| result.outcome).collect();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, wait).await.unwrap()
    }

    pub(crate) async fn finish(mut self) {
        self.stop_coordinator().await;
        self.tasks.shutdown().cancel();
        self.tasks.finish(Duration::from_secs(5)).await.unwrap();
    }
}
