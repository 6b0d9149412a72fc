//! The Go tree to a machine and back, beside what `tar`, `gzip` and `zstd` take for the same in the same run. Ratios come
//! first: they are what the bounds are about.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench fails by panicking and prints its figures"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use buildlet_client::ArchiveFormat;
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

#[expect(dead_code, reason = "made for the tests, which use all of it")]
#[path = "../tests/it/harness.rs"]
mod harness;

use harness::{Farm, Machine};

const ROUNDS: usize = 5;
/// What is sent at a time.
const CHUNK: usize = 1 << 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let memory = Path::new("/dev/shm");
    let folder = tempfile::tempdir_in(memory).unwrap();
    let Some(archive) = go_tree(folder.path()) else {
        return println!("skipped: there is no Go tree: install Go");
    };
    let farm = Farm::start_below(memory).await;
    let mut machine = farm.listening().await;
    let (mut tar, mut ours) = (Vec::new(), Vec::new());
    let bytes = Bytes::from(fs::read(&archive).unwrap());
    for _ in 0..ROUNDS {
        tar.push(extract(&archive, &folder.path().join("by-tar")));
        ours.push(write(&mut machine, &bytes, ArchiveFormat::TarGz).await);
    }
    report("Go tree written, of `tar xzf`", &ours, &tar, 0.5);
    let peak = memory_of(&machine, "VmHWM:");
    println!("{:.2} of 64 MiB: the buildlet at its peak, {peak:.1} MiB", peak / 64.0);
    read_back(&mut machine, &bytes, &folder.path().join("by-tar")).await;
}

/// The tree that a farm of the Go project unpacks all day, as tar.gz.
fn go_tree(folder: &Path) -> Option<PathBuf> {
    let root = Command::new("go").args(["env", "GOROOT"]).output().ok()?;
    let root = String::from_utf8(root.stdout).ok()?;
    let archive = folder.join("go.tar.gz");
    let made = Command::new("tar")
        .args(["czf".as_ref(), archive.as_os_str()])
        .args(["-C", root.trim(), "src", "test", "lib", "misc", "api", "doc"])
        .status();
    made.ok()?.success().then_some(archive)
}

fn extract(archive: &Path, into: &Path) -> Duration {
    let _ = fs::remove_dir_all(into);
    fs::create_dir(into).unwrap();
    let begin = Instant::now();
    let done = Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(done.success());
    begin.elapsed()
}

async fn write(machine: &mut Machine, bytes: &Bytes, format: ArchiveFormat) -> Duration {
    let lease = machine.lease();
    // The lease begins before, so that the wiping of the last tree is not counted.
    machine.client.remove(lease, &["none".to_owned()]).await.unwrap();
    let pieces: Vec<_> =
        (0..bytes.len()).step_by(CHUNK).map(|at| bytes.slice(at..bytes.len().min(at + CHUNK))).collect();
    let begin = Instant::now();
    machine.client.write_tree(lease, "", format, stream::iter(pieces)).await.unwrap();
    begin.elapsed()
}

async fn read_back(machine: &mut Machine, bytes: &Bytes, tree: &Path) {
    write(machine, bytes, ArchiveFormat::TarGz).await;
    let lease = machine.held();
    let (mut pipe, mut ours) = (Vec::new(), Vec::new());
    let (mut pipe_size, mut size) = (0, 0);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let script = format!(
            "tar c -C '{}' . | zstd -T0 -3 -c >'{1}' && stat -c %s '{1}'",
            tree.display(),
            tree.with_extension("zst").display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        pipe.push(begin.elapsed());
        pipe_size = String::from_utf8(output.stdout).unwrap().trim().parse::<usize>().unwrap();
        let begin = Instant::now();
        let exclude = ["home".to_owned(), "tmp".to_owned()];
        let mut chunks = machine.client.read_tree(lease, "", &exclude).await.unwrap();
        size = 0;
        while let Some(chunk) = chunks.next().await {
            size += chunk.unwrap().len();
        }
        ours.push(begin.elapsed());
    }
    report("Go tree read, of `tar c | zstd -T0 -3`", &ours, &pipe, 1.1);
    let ratio = size as f64 / pipe_size as f64;
    println!("{ratio:.2} (bound 1.05): its size, {:.1} MB, of {:.1} MB", mega(size), mega(pipe_size));
}

fn mega(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// The ratio of medians, and of the fastest, which says more when the machine is busy.
fn report(what: &str, ours: &[Duration], theirs: &[Duration], bound: f64) {
    let sorted = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort();
        times
    };
    let (ours, theirs) = (sorted(ours), sorted(theirs));
    let ratio = |at: usize| ours[at].as_secs_f64() / theirs[at].as_secs_f64();
    let middle = ours.len() / 2;
    println!(
        "{:.2}, of the fastest {:.2} (bound {bound}): {what}: {:.0?} of {:.0?}",
        ratio(middle),
        ratio(0),
        ours[middle],
        theirs[middle],
    );
}

/// A figure of `/proc/PID/status` in MiB.
fn memory_of(machine: &Machine, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", machine.process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}
