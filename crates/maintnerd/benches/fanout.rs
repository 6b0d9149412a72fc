//! A thousand readers: how late they are, what each costs, and whether one that stopped harms the others.
//!
//! The server is a process of its own, so that its memory and processor time are its own. The readers do not decode:
//! they take the resume token at the end of each response, and know from it what had arrived by then.
#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/it/fake.rs"]
mod fake;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{
    maintner::{
        AppendBuildResultsRequest, GetLogStatusRequest, MutationFilter, WatchMutationsRequest,
        mutation_service_client::MutationServiceClient,
    },
    maintpb::BuildResult,
};
use bytes::Buf as _;
use maintnerd::{Config, Limits, LogsConfig, Server};
use prost::Message as _;
use rpc::{Authority, Channel, Identity};
use runtime::Tasks;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstEncoder};

const FOLDER: &str = "FANOUT_FOLDER";
const READERS: usize = 1000;
const REPOSITORIES: usize = 50;
/// A reader that takes nothing for so long is cut off by the server of this benchmark.
const SLOW: Duration = Duration::from_secs(5);
const SECONDS: u64 = 15;

/// The server, in a process of its own; ends when its input is closed.
async fn serve(dir: &Path) {
    let identity = Authority::open_or_create(&dir.join("ca")).unwrap().issue_service("maintnerd").unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let mirror = fake::FakeMirror::start(&tasks, &identity).await;
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        listen_logs: None,
        identity: identity.clone(),
        gitmirror: format!("https://{}", mirror.addr),
        pubsubhelper: None,
        github: Vec::new(),
        data: dir.join("data"),
        clock: runtime::system_clock(),
        log: maintner::Options::default(),
        bucket: None,
        logs: LogsConfig::default(),
        limits: Limits { slow_reader: SLOW, ..Limits::default() },
        telemetry: runtime::telemetry::Config::default(),
    };
    let server = Server::bind(config).await.unwrap();
    println!("{}", server.addr());
    std::io::stdout().flush().unwrap();
    tasks.service("maintnerd", server.run(tasks.shutdown()));
    let stop = tasks.shutdown();
    tokio::task::spawn_blocking(move || {
        let _ = std::io::stdin().read(&mut [0]);
        stop.cancel();
    });
    tasks.finish(Duration::from_secs(5)).await.unwrap();
}

struct Process {
    child: Child,
    url: String,
    identity: Identity,
    _dir: tempfile::TempDir,
}

impl Process {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(&dir.path().join("ca")).unwrap();
        let identity = authority.issue_service("bench").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(FOLDER, dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, url: format!("https://{}", address.trim()), identity, _dir: dir }
    }

    fn channel(&self) -> Channel {
        rpc::connect(&self.url, Some(&self.identity)).unwrap()
    }

    /// A line of `/proc/PID/status` in KiB.
    fn kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Processor time so far.
    fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    async fn position(&self) -> u64 {
        let status = MutationServiceClient::new(self.channel()).get_log_status(GetLogStatusRequest {}).await;
        status.unwrap().into_inner().position
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a reader keeps of a response.
struct Seen {
    bytes: usize,
    position: u64,
}

/// Takes the token, which comes last, and leaves the rest alone.
struct Glance;

impl Decoder for Glance {
    type Item = Seen;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Seen>, Status> {
        let bytes = buffer.remaining();
        let mut tail = vec![0; bytes.min(80)];
        buffer.advance(bytes - tail.len());
        buffer.copy_to_slice(&mut tail);
        let text = String::from_utf8_lossy(&tail);
        let position = text.rsplit_once('.').and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
        Ok(Some(Seen { bytes, position: position.unwrap() }))
    }
}

#[derive(Default)]
struct GlanceCodec;

impl Codec for GlanceCodec {
    type Encode = WatchMutationsRequest;
    type Decode = Seen;
    type Encoder = ProstEncoder<WatchMutationsRequest>;
    type Decoder = Glance;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<WatchMutationsRequest, WatchMutationsRequest>::default().encoder()
    }

    fn decoder(&mut self) -> Glance {
        Glance
    }
}

async fn watch(channel: Channel, request: WatchMutationsRequest) -> tonic::Streaming<Seen> {
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE);
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/farmer.maintner.v1.MutationService/WatchMutations");
    client.server_streaming(tonic::Request::new(request), path, GlanceCodec).await.unwrap().into_inner()
}

fn from_now(filter: Option<MutationFilter>) -> WatchMutationsRequest {
    WatchMutationsRequest { from_now: true, filter, ..WatchMutationsRequest::default() }
}

fn repository(number: usize) -> String {
    format!("repository-{:02}", number % REPOSITORIES)
}

/// When each mutation was handed to the server, by its number.
type Handed = Arc<Mutex<(u64, Vec<Instant>)>>;

/// What one reader saw: the lateness of the oldest that a response can hold, for each response.
#[derive(Default)]
struct Tally {
    lags: Vec<Duration>,
    bytes: usize,
    end: u64,
}

/// Reads until the position is reached.
async fn read_to(
    mut stream: tonic::Streaming<Seen>,
    handed: Handed,
    mut goal: tokio::sync::watch::Receiver<u64>,
) -> Tally {
    let mut tally = Tally::default();
    let mut before = stream.message().await.unwrap().unwrap().position;
    loop {
        let goal_now = *goal.borrow_and_update();
        if before >= goal_now {
            break;
        }
        let seen = tokio::select! {
            seen = stream.message() => seen.unwrap().unwrap(),
            _ = goal.changed() => continue,
        };
        let arrived = Instant::now();
        tally.bytes += seen.bytes;
        if seen.position > before {
            let handed = handed.lock().unwrap();
            let oldest = (before - handed.0) as usize;
            tally.lags.extend(handed.1.get(oldest).map(|at| arrived.saturating_duration_since(*at)));
        }
        before = seen.position;
    }
    tally.end = before;
    tally
}

struct Load {
    name: &'static str,
    /// Appended each second, by so many calls.
    rate: u64,
    calls: u64,
    /// Bytes of padding in each.
    padding: usize,
    /// The part of the mutations that each reader gets.
    share: u64,
}

/// Appends at the rate for a while.
async fn append(process: &Process, load: &Load, handed: &Handed) -> u64 {
    let mut client = MutationServiceClient::new(process.channel());
    let mut number = handed.lock().unwrap().0;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.calls as u32);
    for _ in 0..load.calls * SECONDS {
        // When it is due, so that a late append counts as late.
        let due = ticks.tick().await;
        let results: Vec<BuildResult> = (0..load.rate / load.calls)
            .map(|_| {
                number += 1;
                BuildResult {
                    build: number,
                    attempt: 1,
                    builder: "linux-amd64".into(),
                    repository: repository(number as usize),
                    commit: format!("{number:040x}"),
                    outcome: "failed".into(),
                    reason: "x".repeat(load.padding),
                    ..BuildResult::default()
                }
            })
            .collect();
        handed.lock().unwrap().1.extend(results.iter().map(|_| due));
        client.append_build_results(AppendBuildResultsRequest { results }).await.unwrap();
    }
    number
}

async fn lag(process: &Process, load: &Load, connections: usize) {
    let first = process.position().await;
    let handed: Handed = Arc::new(Mutex::new((first, Vec::new())));
    let (goal, reached) = tokio::sync::watch::channel(u64::MAX);
    let mut readers = JoinSet::new();
    let channels: Vec<Channel> = (0..connections).map(|_| process.channel()).collect();
    for reader in 0..READERS {
        let filter = (load.share > 1)
            .then(|| MutationFilter { repositories: vec![repository(reader)], ..MutationFilter::default() });
        let stream = watch(channels[reader % connections].clone(), from_now(filter)).await;
        readers.spawn(read_to(stream, Arc::clone(&handed), reached.clone()));
    }
    // One that never reads, from the beginning of the log, beside others on the same connection.
    let stopped = watch(channels[0].clone(), WatchMutationsRequest::default()).await;
    let (cpu, ours, begun) = (process.cpu(), own_cpu(), Instant::now());
    let last = append(process, load, &handed).await;
    let took = begun.elapsed().as_secs_f64();
    let (cpu, ours) = (process.cpu().saturating_sub(cpu), own_cpu().saturating_sub(ours));
    // A reader whose filter lets nothing of the very end through is there when it has what it can get.
    goal.send(last.saturating_sub(load.share.min(REPOSITORIES as u64) * u64::from(load.share > 1))).unwrap();
    let tallies = readers.join_all().await;
    let mut lags: Vec<Duration> = tallies.iter().flat_map(|tally| tally.lags.iter().copied()).collect();
    lags.sort_unstable();
    let bytes: usize = tallies.iter().map(|tally| tally.bytes).sum();
    let deliveries = (last - first) as f64 / load.share as f64 * READERS as f64 / took;
    let at = |part: f64| lags[((lags.len() - 1) as f64 * part) as usize];
    println!(
        "{}: p99 lag {:.3} of the 1 s allowed (median {:?}, p99 {:?}, worst {:?})",
        load.name,
        at(0.99).as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!(
        "    {:.0} appended/s, {deliveries:.0} deliveries/s, {:.0} MB/s out, {:.0} responses/s; processors: server \
         {:.2}, readers {:.2}; server RSS {} MiB",
        (last - first) as f64 / took,
        bytes as f64 / took / 1e6,
        lags.len() as f64 / took,
        cpu.as_secs_f64() / took,
        ours.as_secs_f64() / took,
        process.kib("VmRSS") / 1024
    );
    println!("    the reader that stopped: {}", end_of(stopped).await);
}

/// What became of a reader that did not read: it is told when it reads on.
async fn end_of(mut stream: tonic::Streaming<Seen>) -> String {
    let mut bytes = 0;
    loop {
        match tokio::time::timeout(Duration::from_secs(10), stream.message()).await {
            Ok(Ok(Some(seen))) => bytes += seen.bytes,
            Ok(Ok(None)) => return "ended without a status".into(),
            Ok(Err(status)) => {
                let reason = rpc::reason(&status).unwrap_or_default();
                return format!("cut off with {:?} ({reason}) after {bytes} bytes", status.code());
            }
            Err(_) => return format!("was not cut off, {bytes} bytes"),
        }
    }
}

fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// What a reader costs that has caught up and gets nothing.
async fn idle(connections: usize) {
    let process = Process::start();
    process.position().await;
    let before = process.kib("RssAnon");
    let channels: Vec<Channel> = (0..connections).map(|_| process.channel()).collect();
    let mut streams = Vec::new();
    for reader in 0..READERS {
        let mut stream = watch(channels[reader % connections].clone(), from_now(None)).await;
        stream.message().await.unwrap().unwrap();
        streams.push(stream);
    }
    let each = (process.kib("RssAnon") - before) as f64 / READERS as f64;
    println!(
        "an idle reader on {}: {:.2} of the 64 KiB allowed ({each:.1} KiB)",
        if connections == READERS {
            "a connection of its own".into()
        } else {
            format!("one of {connections} connections")
        },
        each / 64.0
    );
}

#[tokio::main]
async fn main() {
    runtime::install_crypto();
    if let Some(dir) = std::env::var_os(FOLDER) {
        serve(Path::new(&dir)).await;
        return;
    }
    let size = |padding: usize| {
        BuildResult { reason: "x".repeat(padding), ..BuildResult::default() }.encoded_len() + 80
    };
    idle(8).await;
    idle(READERS).await;
    let process = Process::start();
    let filtered =
        Load { name: "filtered", rate: 5000, calls: 100, padding: 100, share: REPOSITORIES as u64 };
    lag(&process, &filtered, 8).await;
    drop(process);
    let process = Process::start();
    let whole = Load { name: "unfiltered", rate: 300, calls: 100, padding: 600, share: 1 };
    println!("unfiltered mutations are of about {} bytes", size(whole.padding));
    // So that the reader that stops has something to stop at.
    let history = Load { name: "history", rate: 4000, calls: 20, padding: 600, share: 1 };
    let begin: Handed = Arc::new(Mutex::new((process.position().await, Vec::new())));
    append(&process, &Load { ..history }, &begin).await;
    lag(&process, &whole, 8).await;
}
