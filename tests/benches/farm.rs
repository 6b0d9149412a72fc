//! Measures a whole farm on this machine: `cargo bench -p farm-tests --bench farm -- [latency|throughput|output|idle]...`.
//!
//! Every figure is printed with what it was measured from. Ratios against the budgets of the project are printed
//! beside it; nothing fails here, a slow machine is no error.

#![expect(clippy::print_stdout, reason = "its figures are its product")]

use std::{path::Path, time::Duration};

use api::coordinator::{
    Build, ListBuildsRequest, Outcome, ReadLogRequest, WatchBuildsRequest,
    build_service_client::BuildServiceClient, watch_builds_response::Event,
};
use api::maintner::{
    WatchMutationsRequest, mutation_service_client::MutationServiceClient,
    watch_mutations_response::Event as Mutations,
};
use rustix::fs::Timespec;
use testkit::{Farm, Options, Repository};
use tokio::time::{Instant, sleep};

const TOML: &str = "[[builders]]\nname = \"small\"\nhost = \"local\"\nmake = [\"cat file-1 > made\"]\n\
    [builders.tests]\nrun = \"cat made\"\n";

#[tokio::main]
async fn main() {
    runtime::install_crypto();
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if is_wanted("latency") {
        latency().await;
    }
    if is_wanted("throughput") {
        throughput(500).await;
    }
    if is_wanted("output") {
        output(100).await;
    }
    if is_wanted("idle") {
        idle(10_000).await;
    }
}

fn repository() -> Repository {
    let names: Vec<_> = (1..=20).map(|number| format!("file-{number}")).collect();
    let mut files: Vec<_> = names.iter().map(|name| (name.as_str(), "some text of a small file\n")).collect();
    files.push(("farmer.toml", TOML));
    Repository::with(&files)
}

struct Client {
    builds: BuildServiceClient<rpc::Channel>,
}

impl Client {
    fn new(farm: &Farm) -> Self {
        let token = std::fs::read_to_string(farm.data().join("token")).expect("read the token");
        let channel = rpc::connect(&farm.url, None).expect("connect").with_bearer(token.trim());
        Self { builds: BuildServiceClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE) }
    }

    /// Waits until a number of builds have ended and answers when that was seen.
    async fn ended(&mut self, count: usize) -> Instant {
        let mut stream = self
            .builds
            .watch_builds(WatchBuildsRequest { numbers: Vec::new() })
            .await
            .expect("watch builds")
            .into_inner();
        let mut ended = std::collections::BTreeSet::new();
        // What ended before the watch began is not delivered: the list tells.
        ended.extend(
            self.all().await.into_iter().filter(|build| build.ended.is_some()).map(|build| build.number),
        );
        while ended.len() < count {
            let response = stream.message().await.expect("the stream goes on").expect("the stream goes on");
            if let Some(Event::Build(build)) = response.event
                && build.ended.is_some()
            {
                ended.insert(build.number);
            }
        }
        Instant::now()
    }

    async fn all(&mut self) -> Vec<Build> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListBuildsRequest { page_size: 1000, page_token, ..ListBuildsRequest::default() };
            let answer = self.builds.list_builds(request).await.expect("list builds").into_inner();
            all.extend(answer.builds);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }

    async fn log(&mut self, number: u64, offset: u64, limit: u64) -> Vec<u8> {
        self.log_so_far(number, offset, limit).await.expect("read the log")
    }

    /// Some of a log; `None` while there is no such build.
    async fn log_so_far(&mut self, number: u64, offset: u64, limit: u64) -> Option<Vec<u8>> {
        let request = ReadLogRequest { number, offset, limit, ..ReadLogRequest::default() };
        let mut stream = self.builds.read_log(request).await.ok()?.into_inner();
        let mut bytes = Vec::new();
        while let Some(piece) = stream.message().await.expect("the stream goes on") {
            bytes.extend_from_slice(&piece.data);
        }
        Some(bytes)
    }

    /// Reads 4 KiB from the middle of the log that grows, for as long as it is polled.
    async fn look_into_middles(&mut self, number: u64, samples: &mut Vec<Sample>) {
        let mut end = 8192;
        loop {
            while self.log_so_far(number, end * 2, 1).await.is_some_and(|byte| !byte.is_empty()) {
                end *= 2;
            }
            let start = Instant::now();
            let offset = end / 2;
            if let Some(piece) = self.log_so_far(number, offset, 4096).await
                && !piece.is_empty()
            {
                samples.push(Sample { offset, piece, seconds: start.elapsed().as_secs_f64() });
            }
        }
    }
}

/// When the ref was moved, in microseconds since 1970.
fn ref_moved(repository: &Path) -> i64 {
    let stat = rustix::fs::stat(repository.join(".git/refs/heads/main")).expect("stat the ref");
    let Timespec { tv_sec, tv_nsec } = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    tv_sec * 1_000_000 + tv_nsec / 1000
}

fn micros(time: Option<prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(what: &str, value: f64, unit: &str, budget: f64) {
    println!("{what}: {value:.1} {unit} (budget {budget}, ratio {:.2})", value / budget);
}

/// From a ref's move to the start of its build and to its result, seen by a client, on an idle farm.
async fn latency() {
    let repository = repository();
    let farm = Farm::start(repository.path(), Options::default()).await;
    let mut client = Client::new(&farm);
    client.ended(1).await;
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for number in 2..22_usize {
        let mut stream = client
            .builds
            .watch_builds(WatchBuildsRequest { numbers: Vec::new() })
            .await
            .expect("watch builds")
            .into_inner();
        repository.commit(&format!("commit {number}"), &[("file-1", &format!("{number}\n"))]);
        let moved = ref_moved(repository.path());
        let build = loop {
            let response = stream.message().await.expect("the stream goes on").expect("the stream goes on");
            match response.event {
                Some(Event::Build(build)) if build.number == number as u64 && build.ended.is_some() => {
                    break build;
                }
                _ => {}
            }
        };
        let seen = runtime::system_clock().now().0;
        started.push((micros(build.started) - moved) as f64 / 1000.0);
        ended.push((seen - moved) as f64 / 1000.0);
    }
    report("latency: ref moved to build started, median of 20", median(&mut started), "ms", 1000.0);
    report("latency: ref moved to result seen by a client, median of 20", median(&mut ended), "ms", 40.0);
}

/// Commits pushed at once, each built; counts afterwards what was kept of each.
async fn throughput(count: usize) {
    let repository = repository();
    let farm = Farm::start(repository.path(), Options::default()).await;
    let mut client = Client::new(&farm);
    client.ended(1).await;
    repository.import(count, |number| ("file-1".to_owned(), format!("content {number}\n")));
    let start = Instant::now();
    repository.git(&["update-ref", "refs/heads/main", "refs/heads/imported"]);
    let seconds = client.ended(count + 1).await.duration_since(start).as_secs_f64();
    println!(
        "throughput: {count} builds in {seconds:.2} s: {:.1} builds/s (budget 100)",
        count as f64 / seconds
    );
    let builds = client.all().await;
    let passed = builds.iter().filter(|build| build.outcome() == Outcome::Passed).count() - 1;
    let mut logs = 0;
    for build in &builds {
        let log = client.log(build.number, 0, 0).await;
        logs += usize::from(String::from_utf8_lossy(&log).contains("content "));
    }
    println!("throughput: of {count}: {passed} results passed, {logs} logs sealed with their own content");
    let results = results_in_the_log(&farm).await;
    println!(
        "throughput: {} results in the mutation log (and 1 of the first commit)",
        results.saturating_sub(1)
    );
}

/// Reads the mutation log as a service of the farm would, to its end, and counts results of builds.
async fn results_in_the_log(farm: &Farm) -> usize {
    let ports = std::fs::read_to_string(farm.data().join("ports.json")).expect("read the ports");
    let port =
        ports.lines().find_map(|line| line.trim().strip_prefix("\"maintnerd\": ")).expect("has a port");
    let authority = rpc::Authority::open(&farm.data().join("ca")).expect("open the authority");
    let identity = authority.issue_service("bench").expect("issue a certificate");
    let url = format!("https://127.0.0.1:{}", port.trim_end_matches(','));
    let channel = rpc::connect(&url, Some(&identity)).expect("connect");
    let mut client = MutationServiceClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE);
    let mut stream =
        client.watch_mutations(WatchMutationsRequest::default()).await.expect("watch mutations").into_inner();
    let mut results = 0;
    loop {
        let response = stream.message().await.expect("the stream goes on").expect("the stream goes on");
        match response.event {
            Some(Mutations::Batch(batch)) => {
                results += batch.mutations.iter().filter(|mutation| mutation.build_result.is_some()).count();
            }
            Some(Mutations::Checkpoint(_)) => return results,
            None => {}
        }
    }
}

/// A build that prints much, and a reader that looks into the middle of what there is so far, again and again.
async fn output(megabytes: u64) {
    let loud = format!(
        "yes 'a line of output that looks like what a build prints, more or less' | head -c {megabytes}000000"
    );
    let toml = |make: &str| format!("[[builders]]\nname = \"loud\"\nhost = \"local\"\nmake = [{make:?}]\n");
    let repository = Repository::with(&[("farmer.toml", &toml("echo quiet"))]);
    let farm = Farm::start(repository.path(), Options::default()).await;
    let (mut client, mut reader) = (Client::new(&farm), Client::new(&farm));
    client.ended(1).await;
    repository.commit("a loud one", &[("farmer.toml", &toml(&loud))]);
    let mut samples = Vec::new();
    tokio::select! {
        _ = client.ended(2) => {}
        () = reader.look_into_middles(2, &mut samples) => {}
    }
    let build = farm.build(2);
    let steps = build["attempts"][0]["steps"].as_array().expect("has steps").clone();
    let make = steps.iter().find(|step| step["phase"] == "make").expect("has a make step");
    let time =
        |key: &str| make[key].as_str().expect("is a time").parse::<jiff::Timestamp>().expect("is a time");
    let seconds = (time("ended") - time("started")).total(jiff::Unit::Second).expect("is short");
    report("output: make step that prints, stored", megabytes as f64 / seconds, "MB/s", 100.0);

    let log = client.log(2, 0, 0).await;
    println!("output: {} bytes are in the log", log.len());
    let right = samples.iter().filter(|sample| {
        let from = sample.offset as usize;
        log.get(from..from + sample.piece.len()) == Some(&sample.piece[..])
    });
    println!(
        "output: {} of {} pieces read while it ran are what the log holds there, the last at byte {}",
        right.count(),
        samples.len(),
        samples.last().map_or(0, |sample| sample.offset),
    );
    let mut times: Vec<_> = samples.iter().map(|sample| sample.seconds * 1000.0).collect();
    if !times.is_empty() {
        println!(
            "output: a piece of 4 KiB from the middle while it ran: median {:.2} ms",
            median(&mut times)
        );
    }
    let start = Instant::now();
    let piece = client.log(2, megabytes * 500_000, 4096).await;
    println!(
        "output: {} bytes from the middle after the end in {:.2} ms",
        piece.len(),
        start.elapsed().as_secs_f64() * 1000.0
    );
}

/// What was read of a log while it grew.
struct Sample {
    offset: u64,
    piece: Vec<u8>,
    seconds: f64,
}

/// What a farm costs that has built much and does nothing; and how fast it starts with that history.
async fn idle(count: usize) {
    let repository = repository();
    let mut farm = Farm::start(repository.path(), Options::default()).await;
    let mut client = Client::new(&farm);
    client.ended(1).await;
    repository.import(count, |number| ("file-1".to_owned(), format!("content {number}\n")));
    let start = Instant::now();
    // One push is built up to its newest 1,000 commits.
    for done in (0..count).step_by(1000).skip(1).chain([count]) {
        let tip = format!("refs/heads/imported~{}", count - done);
        repository.git(&["update-ref", "refs/heads/main", &tip]);
        client.ended(done + 1).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("idle: {count} builds in {seconds:.1} s: {:.1} builds/s", count as f64 / seconds);
    sleep(Duration::from_secs(5)).await;
    measure_idle(&farm, "after the builds").await;
    drop(client);
    farm.stop();
    let start = Instant::now();
    farm.start_again().await;
    report("idle: start to ready with that history", start.elapsed().as_secs_f64() * 1000.0, "ms", 1000.0);
    sleep(Duration::from_secs(5)).await;
    measure_idle(&farm, "after a restart").await;
}

async fn measure_idle(farm: &Farm, when: &str) {
    let pids: Vec<_> =
        std::iter::once(farm.pid()).chain(farm.buildlets().into_iter().map(|(_, pid)| pid)).collect();
    let resident: u64 = pids.iter().map(|pid| resident_kib(*pid)).sum();
    let before: u64 = pids.iter().map(|pid| cpu_ticks(*pid)).sum();
    let window = Duration::from_secs(20);
    sleep(window).await;
    let after: u64 = pids.iter().map(|pid| cpu_ticks(*pid)).sum();
    let each: Vec<_> = pids.iter().map(|pid| resident_kib(*pid) / 1024).collect();
    report(
        &format!("idle: resident memory of {} processes {each:?} {when}", pids.len()),
        resident as f64 / 1024.0,
        "MiB",
        150.0,
    );
    // A tick is 10 ms on Linux.
    report(
        &format!("idle: processor time {when}"),
        (after - before) as f64 / window.as_secs_f64(),
        "% of one core",
        1.0,
    );
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<_> = rest.split(' ').collect();
    [11, 12].iter().filter_map(|index| fields.get(*index)?.parse::<u64>().ok()).sum()
}
