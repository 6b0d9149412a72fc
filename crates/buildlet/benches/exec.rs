//! What an exec costs over real connections with TLS, dialled and reversed: turnaround; over the reversed one output and
//! the end of a lease; and what an idle buildlet holds. Beside each figure stands the bound that it is held to in a
//! release build.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its figures"
)]

use std::time::Duration;

use buildlet_client::ExecSpec;
use futures_util::stream;
use tokio::time::Instant;

#[expect(dead_code, reason = "made for the tests, which use all of it")]
#[path = "../tests/it/harness.rs"]
mod harness;

use harness::{Farm, Machine, sh};

const ROUNDS: usize = 300;
/// Sequential execs of `/bin/true`.
const EXECS: usize = 500;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    memory(&machine, "idle buildlet");
    let mut direct = farm.listening().await;
    let (direct, reversed) = (turnaround(&mut direct).await, turnaround(&mut machine).await);
    println!("{:.2} of 1.0 ms: exec of /bin/true, direct: {}", share(&direct, 1.0), median(direct));
    println!("{:.2} of 1.2 ms: exec of /bin/true, reversed: {}", share(&reversed, 1.2), median(reversed));
    end_of_lease(&mut machine).await;
    output(&mut machine).await;
    memory(&machine, "buildlet after all this");
}

/// The median, and the fastest, which says more when the machine is busy.
fn median(mut times: Vec<Duration>) -> String {
    times.sort();
    format!("{:?}, at best {:?}", times[times.len() / 2], times[0])
}

/// How large a share of a bound in milliseconds the median is.
fn share(times: &[Duration], bound: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0 / bound
}

/// Each exec is started, watched to its end, and its output spooled.
async fn turnaround(machine: &mut Machine) -> Vec<Duration> {
    let lease = machine.lease();
    let spec = ExecSpec { argv: vec!["/bin/true".to_owned()], ..ExecSpec::default() };
    let mut times = Vec::new();
    for _ in 0..EXECS {
        let begin = Instant::now();
        machine.run_spec(lease, &spec).await;
        times.push(begin.elapsed());
    }
    machine.client.end_lease(lease).await.unwrap();
    times
}

async fn end_of_lease(machine: &mut Machine) {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..20 {
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, format!("src/{}/{number}.txt", number % 4), b"hello".as_slice())
            .unwrap();
    }
    let archive = bytes::Bytes::from(builder.into_inner().unwrap());
    let (mut writes, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let lease = machine.lease();
        let begin = Instant::now();
        let chunks = stream::iter([archive.clone()]);
        machine.client.write_tree(lease, "", buildlet_client::ArchiveFormat::Tar, chunks).await.unwrap();
        writes.push(begin.elapsed());
        machine.run(lease, "true").await;
        let begin = Instant::now();
        machine.client.end_lease(lease).await.unwrap();
        ends.push(begin.elapsed());
    }
    println!("tree of 20 files written, under a new lease: {:?}", median(writes));
    println!("end of a lease with 20 files and one exec: {:?} (bound 2 ms)", median(ends));
}

async fn output(machine: &mut Machine) {
    let lease = machine.lease();
    let size = 400_000_000_u64;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let exec = harness::new_exec();
        let begin = Instant::now();
        machine.client.start_exec(lease, exec, &sh(&format!("head -c {size} /dev/zero"))).await.unwrap();
        let mut events = machine.client.watch_exec(exec, 0).await.unwrap();
        while let Some(event) = events.next().await {
            event.unwrap();
        }
        rates.push(size as f64 / 1e6 / begin.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!("output of one exec: {:.0} MB/s (bound 300 MB/s)", rates[1]);
    machine.client.end_lease(lease).await.unwrap();
}

fn memory(machine: &Machine, when: &str) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", machine.process.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    println!("{when}: {} (bound 10 MiB when idle)", resident.trim());
}
