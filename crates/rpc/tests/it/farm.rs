//! A farm of one test: an authority, tasks, servers and their clients.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use api::gitmirror::{
    mirror_service_client::MirrorServiceClient, mirror_service_server::MirrorServiceServer,
};
use rpc::{Authority, Channel, Identity, Server, reverse};
use runtime::Tasks;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::mirror::Mirror;

pub(crate) type Client = MirrorServiceClient<Channel>;

pub(crate) struct Farm {
    pub(crate) authority: Authority,
    pub(crate) tasks: Tasks,
    /// Holds the authority's files.
    _dir: TempDir,
}

impl Farm {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        Self { authority, tasks: Tasks::new(CancellationToken::new()), _dir: dir }
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.authority.issue_service(name).unwrap()
    }

    pub(crate) fn machine(&self, name: &str) -> Identity {
        let hosts = ["linux-amd64".parse().unwrap()];
        self.authority.issue_machine(&name.parse().unwrap(), &hosts).unwrap()
    }

    pub(crate) fn server(&self, tasks: &Tasks) -> Server {
        Server::new("gitmirror", tasks.clone()).grpc(mirror()).tls(&self.identity("gitmirror"))
    }

    /// Serves a mirror with mutual TLS.
    pub(crate) async fn serve(&self) -> SocketAddr {
        start(self.server(&self.tasks), loopback()).await
    }

    pub(crate) fn channel(&self, addr: SocketAddr) -> Channel {
        rpc::connect(&format!("https://{addr}"), Some(&self.identity("coordinator"))).unwrap()
    }

    pub(crate) fn client(&self, addr: SocketAddr) -> Client {
        client(self.channel(addr))
    }

    /// Serves `/reverse`; machines that dial in arrive in the channel.
    pub(crate) async fn coordinator(&self) -> (SocketAddr, mpsc::Receiver<reverse::Incoming>) {
        let (sender, receiver) = mpsc::channel(16);
        let on_connect = Arc::new(move |incoming| sender.try_send(incoming).unwrap());
        let server = Server::new("coordinator", self.tasks.clone())
            .http(reverse::router(on_connect))
            .tls(&self.identity("coordinator"));
        (start(server, loopback()).await, receiver)
    }

    /// Dials `/reverse` as a machine and answers as a mirror until `cancel`.
    pub(crate) async fn dial(&self, addr: SocketAddr, cancel: CancellationToken) -> Serving {
        let mut headers = http::HeaderMap::new();
        headers.insert(reverse::VERSION_HEADER, "1.2.3".parse().unwrap());
        let machine = self.machine("m1");
        let stream = reverse::dial(&format!("https://{addr}"), &machine, headers, None).await.unwrap();
        let service = Server::new("buildlet", self.tasks.clone()).grpc(mirror()).service();
        let (done, ended) = tokio::sync::oneshot::channel();
        self.tasks.job("buildlet", async move {
            let _ = done.send(reverse::serve(stream, service, cancel).await);
        });
        Serving { ended }
    }

    /// Ends everything; whatever panicked fails the test.
    pub(crate) async fn finish(self) {
        self.tasks.shutdown().cancel();
        self.tasks.finish(Duration::from_secs(10)).await.unwrap();
    }
}

/// The dialling side of a reversed connection.
pub(crate) struct Serving {
    pub(crate) ended: tokio::sync::oneshot::Receiver<Result<(), reverse::ServeError>>,
}

pub(crate) fn mirror() -> MirrorServiceServer<Mirror> {
    MirrorServiceServer::new(Mirror).max_decoding_message_size(rpc::MAX_MESSAGE)
}

pub(crate) fn client(channel: Channel) -> Client {
    MirrorServiceClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE)
}

pub(crate) fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub(crate) async fn start(server: Server, addr: SocketAddr) -> SocketAddr {
    let bound = server.bind(addr).await.unwrap();
    let addr = bound.addr();
    bound.start();
    addr
}

/// Forwards connections to `target` until told to fall silent: then nothing moves, but nothing is closed.
pub(crate) async fn proxy(tasks: &Tasks, target: SocketAddr) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (silent, ended) = (CancellationToken::new(), tasks.shutdown());
    let (job, quiet) = (tasks.clone(), silent.clone());
    tasks.job("proxy", async move {
        while let Some(Ok((mut near, _))) = ended.run_until_cancelled(listener.accept()).await {
            let (quiet, ended) = (quiet.clone(), ended.clone());
            job.job("proxied connection", async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                let _ = quiet.run_until_cancelled(copy_bidirectional(&mut near, &mut far)).await;
                if quiet.is_cancelled() {
                    ended.cancelled().await;
                }
            });
        }
    });
    (addr, silent)
}

/// Fails the test if it takes longer.
pub(crate) async fn within<T>(seconds: u64, what: &str, future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(seconds), future).await;
    ended.unwrap_or_else(|_| panic!("{what}: not within {seconds} s"))
}
