//! `kill -9` of the real program while it appends.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::maintner::{
    AppendBuildResultsRequest, GetLogStatusRequest, WatchMutationsRequest,
    mutation_service_client::MutationServiceClient, watch_mutations_response::Event,
};
use maintner::{Start, Update, follow};
use rpc::{Authority, Channel, Identity};
use runtime::Tasks;
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{PATIENCE, fake::FakeMirror, results::result};

const APPENDERS: u64 = 8;

/// The program, and what it needs to be started again.
struct Daemon {
    child: Child,
    config: PathBuf,
    channel: Channel,
}

impl Daemon {
    async fn start(config: &Path, channel: Channel) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_maintnerd"))
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon = Self { child, config: config.into(), channel };
        daemon.answers().await;
        daemon
    }

    /// Waits until it serves. That it ends by itself is what must not happen.
    async fn answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while self.client().get_log_status(GetLogStatusRequest {}).await.is_err() {
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended by itself");
            assert!(Instant::now() < deadline, "it does not answer");
            ticks.tick().await;
        }
    }

    fn client(&self) -> MutationServiceClient<Channel> {
        MutationServiceClient::new(self.channel.clone()).max_decoding_message_size(rpc::MAX_MESSAGE)
    }

    async fn kill_and_start_again(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        Self::start(&self.config.clone(), self.channel.clone()).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configure(dir: &Path, identity: &Identity, mirror: SocketAddr) -> (PathBuf, SocketAddr) {
    identity.save(dir, "maintnerd").unwrap();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "name = \"test\"\nenvironment = \"local\"\ndata = \"{dir}\"\n\n[listen]\nmaintnerd = \"{listen}\"\n\n\
         [services]\ngitmirror = \"https://{mirror}\"\n\n[tls]\nca = \"{dir}/ca.pem\"\n\
         certificate = \"{dir}/maintnerd.pem\"\nkey = \"{dir}/maintnerd.key\"\n",
        dir = dir.display()
    );
    let path = dir.join("farm.toml");
    std::fs::write(&path, text).unwrap();
    (path, listen)
}

/// Appends results one by one, each until it is acknowledged, as the coordinator's outbox does.
async fn append_until(
    client: MutationServiceClient<Channel>,
    next: Arc<AtomicU64>,
    acknowledged: Arc<AtomicU64>,
    stop: CancellationToken,
) -> BTreeSet<u64> {
    let mut mine = BTreeSet::new();
    while !stop.is_cancelled() {
        let build = next.fetch_add(1, Ordering::Relaxed);
        let results = vec![result(build, 1, "passed")];
        loop {
            let request = AppendBuildResultsRequest { results: results.clone() };
            match client.clone().append_build_results(request).await {
                Ok(_) => break,
                Err(status) => assert!(
                    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded),
                    "{status}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        mine.insert(build);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    mine
}

/// All results in the log, in its order.
async fn all(daemon: &Daemon) -> Vec<u64> {
    let mut stream =
        daemon.client().watch_mutations(WatchMutationsRequest::default()).await.unwrap().into_inner();
    let mut builds = Vec::new();
    loop {
        match crate::within(stream.message()).await.unwrap().unwrap().event {
            Some(Event::Batch(batch)) => {
                builds.extend(batch.mutations.iter().map(|one| one.build_result.as_ref().unwrap().build));
            }
            _ => return builds,
        }
    }
}

/// A reader that was there all the time, through every restart.
async fn read(channel: Channel, read: watch::Sender<Vec<u64>>, stop: CancellationToken) {
    let handle = |update: Update| {
        let told = match update {
            Update::Batch { mutations, .. } => {
                let builds = mutations.iter().map(|one| one.build_result.as_ref().unwrap().build);
                read.send_modify(|all| all.extend(builds));
                Ok(())
            }
            Update::CaughtUp { .. } => Ok(()),
            Update::Restarted => Err("the log is another one"),
        };
        async move { told }
    };
    follow(channel, Start::Beginning, stop, handle).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_maintnerd_loses_and_doubles_nothing_that_it_acknowledged() {
    runtime::install_crypto();
    let rounds = if testkit::skip::long(5) { 100 } else { 10 };
    let dir = tempfile::tempdir().unwrap();
    let identity = Authority::create(&dir.path().join("ca")).unwrap().issue_service("maintnerd").unwrap();
    let others = Tasks::new(CancellationToken::new());
    let mirror = FakeMirror::start(&others, &identity).await;
    let (config, listen) = configure(dir.path(), &identity, mirror.addr);
    let channel = rpc::connect(&format!("https://{listen}"), Some(&identity)).unwrap();
    let mut daemon = Daemon::start(&config, channel).await;
    let (next, acknowledged) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
    let stop = CancellationToken::new();
    let mut appenders = JoinSet::new();
    for _ in 0..APPENDERS {
        let (next, acknowledged) = (Arc::clone(&next), Arc::clone(&acknowledged));
        appenders.spawn(append_until(daemon.client(), next, acknowledged, stop.clone()));
    }
    let (reader, mut read_by) = watch::channel(Vec::new());
    let stop_reading = CancellationToken::new();
    let mut reading = JoinSet::new();
    reading.spawn(read(daemon.channel.clone(), reader, stop_reading.clone()));
    for round in 0..rounds {
        let goal = acknowledged.load(Ordering::Relaxed) + 20 + round % 7;
        let deadline = Instant::now() + PATIENCE;
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        while acknowledged.load(Ordering::Relaxed) < goal {
            assert!(Instant::now() < deadline, "nothing is acknowledged in round {round}");
            ticks.tick().await;
        }
        daemon = daemon.kill_and_start_again().await;
    }
    stop.cancel();
    let mut expected = BTreeSet::new();
    while let Some(mine) = appenders.join_next().await {
        expected.extend(mine.unwrap());
    }
    let found = all(&daemon).await;
    let set: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(set.len(), found.len(), "a result is in the log twice");
    let lost: Vec<_> = expected.difference(&set).collect();
    assert!(lost.is_empty(), "acknowledged, but not in the log: {lost:?}");
    // What it was shown before a kill is what the log holds after it.
    crate::within(read_by.wait_for(|all| all.len() >= found.len())).await.unwrap();
    assert!(*read_by.borrow() == found, "the reader was shown something else");
    stop_reading.cancel();
    reading.join_next().await.unwrap().unwrap();
    drop(daemon);
    let report = maintner::log::verify(&dir.path().join("maintnerd/log")).unwrap();
    assert_eq!((report.mutations, report.problems), (found.len() as u64, vec![]));
    others.shutdown().cancel();
    others.finish(PATIENCE).await.unwrap();
}
