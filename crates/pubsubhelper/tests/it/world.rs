//! A pubsubhelper that runs, a GitHub that signs, and a reader.

use std::{net::SocketAddr, time::Duration};

use api::events::{
    GerritEvent, GithubEvent, WatchEventsRequest, WatchEventsResponse, event::Source,
    event_service_client::EventServiceClient, watch_events_response::Event,
};
use hmac::{Hmac, KeyInit, Mac};
use pubsubhelper::{Config, Server};
use rpc::{Authority, Channel};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

pub(crate) const SECRET: &str = "between us";
pub(crate) const GERRIT_SECRET: &str = "8f14e45fceea167a";
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    _dir: TempDir,
    authority: Authority,
    url: String,
    public: Option<SocketAddr>,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let identity = authority.issue_service("pubsubhelper").unwrap();
        let mut config = Config::new(([127, 0, 0, 1], 0).into(), identity, runtime::system_clock());
        config.webhook_secret = Some(SECRET.to_owned().into());
        config.gerrit_secret = Some(GERRIT_SECRET.to_owned().into());
        config.public_listen = Some(([127, 0, 0, 1], 0).into());
        config.checkpoint = Duration::from_millis(100);
        change(&mut config);
        let server = Server::bind(config).await.unwrap();
        let (url, public) = (format!("https://{}", server.addr()), server.public_addr());
        assert_eq!(server.webhook_router().is_some(), public.is_some());
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(Box::pin(server.run(shutdown.clone())));
        Self { _dir: dir, authority, url, public, shutdown, tasks }
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        timeout(DEADLINE, self.tasks.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    }

    pub(crate) fn public(&self) -> Option<SocketAddr> {
        self.public
    }

    pub(crate) fn client(&self) -> EventServiceClient<Channel> {
        let identity = self.authority.issue_service("test").unwrap();
        EventServiceClient::new(rpc::connect(&self.url, Some(&identity)).unwrap())
    }

    pub(crate) async fn watch(&self, resume_token: &str) -> Result<Reader, Status> {
        let request = WatchEventsRequest { resume_token: resume_token.to_owned() };
        let stream = self.client().watch_events(request).await?.into_inner();
        Ok(Reader { stream, token: String::new() })
    }

    /// A reader of what comes from now on.
    pub(crate) async fn reader(&self) -> Reader {
        let mut reader = self.watch("").await.unwrap();
        assert!(reader.next().await.is_none(), "the first response is a checkpoint");
        reader
    }

    /// Delivers as GitHub does. Gives the status.
    pub(crate) async fn deliver(&self, kind: &str, delivery: &str, body: &[u8]) -> u16 {
        let signature = sign(body);
        let headers =
            [("X-GitHub-Event", kind), ("X-GitHub-Delivery", delivery), ("X-Hub-Signature-256", &signature)];
        self.post("/github-webhook", &headers, body).await
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        let address = self.public.unwrap();
        let mut request = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        request.push_str("Content-Type: application/json\r\n");
        for (name, value) in headers {
            request.push_str(&[name, ": ", value, "\r\n"].concat());
        }
        request.push_str(&["Content-Length: ", &body.len().to_string(), "\r\n\r\n"].concat());
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let send = async {
            // A server that has read enough may close.
            let _ = write.write_all(request.as_bytes()).await;
            let _ = write.write_all(body).await;
        };
        let mut answer = [0; 12];
        let ((), answered) =
            timeout(DEADLINE, async { tokio::join!(send, read.read_exact(&mut answer)) }).await.unwrap();
        answered.unwrap();
        str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
    }
}

pub(crate) fn sign(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

pub(crate) struct Reader {
    stream: Streaming<WatchEventsResponse>,
    /// Of the last response.
    pub(crate) token: String,
}

impl Reader {
    /// The next event; none for a checkpoint.
    pub(crate) async fn next(&mut self) -> Option<GithubEvent> {
        self.source().await.map(|source| match source {
            Source::Github(event) => event,
            Source::Gerrit(event) => panic!("{event:?} is of Gerrit"),
        })
    }

    /// The next event of a Gerrit, past checkpoints.
    pub(crate) async fn gerrit(&mut self) -> GerritEvent {
        loop {
            match self.source().await {
                Some(Source::Gerrit(event)) => return event,
                Some(Source::Github(event)) => panic!("{event:?} is of GitHub"),
                None => {}
            }
        }
    }

    async fn source(&mut self) -> Option<Source> {
        let response = timeout(DEADLINE, self.stream.message()).await.expect("no word from the stream");
        let response = response.unwrap().unwrap();
        self.token = response.resume_token;
        match response.event.unwrap() {
            Event::Checkpoint(_) => None,
            Event::Happened(event) => {
                assert!(event.received.is_some());
                Some(event.source.unwrap())
            }
        }
    }

    /// The next event, past checkpoints.
    pub(crate) async fn event(&mut self) -> GithubEvent {
        loop {
            if let Some(event) = self.next().await {
                return event;
            }
        }
    }
}
