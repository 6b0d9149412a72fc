//! What calls cost over loopback TLS, dialled and reversed: `cargo bench -p rpc`. The targets: a unary call within
//! 150 µs; over the reversed connection three quarters of what a raw TLS stream carries in the same run, and 85 % of what
//! a dialled one does. Ratios come first.

#[expect(dead_code, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
#[path = "../tests/it/farm.rs"]
mod farm;
#[expect(clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../tests/it/mirror.rs"]
mod mirror;
#[path = "calls/raw.rs"]
mod raw;

use std::time::Duration;

use api::gitmirror::{ListCommitsRequest, TickleRequest, UploadBundleRequest, upload_bundle_request::Part};
use futures_util::{future::join_all, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::farm::{Client, Farm, client};

const CALLS: usize = 5000;
const AT_ONCE: usize = 64;
const CHUNK: usize = 256 << 10;
const CHUNKS: usize = 4096;
/// How often streams are measured, in turns.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let dialled = farm.client(addr);
    let (addr, mut connected) = farm.coordinator().await;
    let _serving = farm.dial(addr, CancellationToken::new()).await;
    let incoming = connected.recv().await.expect("the machine that was just started dials in");
    let reversed = client(incoming.channel);
    compare(&dialled, &reversed).await;
    measure("dialled", dialled).await;
    measure("reversed", reversed).await;
    farm.finish().await;
}

/// What the reversed connection carries beside a raw stream and beside a dialled connection.
async fn compare(dialled: &Client, reversed: &Client) {
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rates[0].push(raw::stream(CHUNK, CHUNKS).await);
        rates[1].push(download(dialled.clone()).await);
        rates[2].push(download(reversed.clone()).await);
    }
    let [raw, dialled, reversed] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        // The fastest too, which says more when the machine is busy.
        (rates[ROUNDS / 2], rates[ROUNDS - 1])
    });
    for (what, other, bound) in [("raw TLS", raw, 0.75), ("dialled", dialled, 0.85)] {
        let (median, best) = (reversed.0 / other.0, reversed.1 / other.1);
        let figure = format!(
            "{median:.2}, of the fastest {best:.2} (bound {bound}): {:.0} of {:.0} MB/s",
            reversed.0, other.0
        );
        say("reversed", &format!("of {what}"), &figure);
    }
}

async fn measure(kind: &str, client: Client) {
    let latency = median(&client).await;
    say(kind, "unary, median", &format!("{} µs", latency.as_micros()));
    say(kind, "unary, 64 at once", &format!("{:.0} calls/s", rate(&client).await));
    say(kind, "download", &format!("{:.0} MB/s", download(client.clone()).await));
    say(kind, "upload", &format!("{:.0} MB/s", upload(client).await));
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn say(kind: &str, what: &str, figure: &str) {
    println!("{kind:9} {what:18} {figure}");
}

async fn call(client: &mut Client) {
    client.tickle(TickleRequest::default()).await.expect("the server runs");
}

async fn median(client: &Client) -> Duration {
    let mut client = client.clone();
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        call(&mut client).await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[CALLS / 2]
}

async fn rate(client: &Client) -> f64 {
    let begun = Instant::now();
    let callers = (0..AT_ONCE).map(|_| {
        let mut client = client.clone();
        async move {
            for _ in 0..CALLS / AT_ONCE {
                call(&mut client).await;
            }
        }
    });
    join_all(callers).await;
    (CALLS / AT_ONCE * AT_ONCE) as f64 / begun.elapsed().as_secs_f64()
}

async fn download(mut client: Client) -> f64 {
    let begun = Instant::now();
    let request = ListCommitsRequest { repository: "flood".to_owned(), ..ListCommitsRequest::default() };
    let mut commits = client.list_commits(request).await.expect("the server runs").into_inner();
    let mut total = 0;
    while let Some(message) = commits.message().await.expect("the stream ends well") {
        total += message.commits[0].raw.len();
    }
    assert_eq!(total, CHUNK * CHUNKS, "nothing is lost");
    megabytes(total, begun)
}

async fn upload(mut client: Client) -> f64 {
    let begun = Instant::now();
    let chunk = UploadBundleRequest { part: Some(Part::Chunk(vec![7; CHUNK].into())) };
    let chunks = stream::iter(std::iter::repeat_n(chunk, CHUNKS));
    let answer = client.upload_bundle(chunks).await.expect("the server runs").into_inner();
    assert_eq!(answer.r#ref, (CHUNK * CHUNKS).to_string(), "nothing is lost");
    megabytes(CHUNK * CHUNKS, begun)
}

fn megabytes(bytes: usize, begun: Instant) -> f64 {
    bytes as f64 / 1e6 / begun.elapsed().as_secs_f64()
}
