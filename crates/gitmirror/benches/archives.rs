//! Archives of a tree of 20 files, and of 12,000, over the real port.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and fails by panicking")]

#[path = "../tests/it/world.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod world;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use world::{Origin, World};

/// As many as a client and two buildlets ask for at once.
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let (count, files) = if full { (500, 12_000) } else { (5, 100) };
    let origin = Origin::new();
    for number in 0..20 {
        origin.write(
            &format!("src/{}/file{number}.rs", number % 4),
            format!("fn f{number}() {{}}\n").repeat(100),
        );
    }
    origin.commit_all("files");
    let commits: Vec<_> =
        (0..count).map(|number| origin.commit("src/0/file0.rs", format!("{number}"))).collect();
    let last = commits[commits.len() - 1].clone();
    let world = World::new(vec![origin.config("one")]).await;
    world.watch().await.until_at("one refs/heads/main", &last).await;
    measure(&world, "tar of each of the commits", &commits, "tar").await;
    measure(&world, "tar of one commit", &vec![last.clone(); count], "tar").await;
    measure(&world, "tar.zst of one commit", &vec![last; count], "tar.zst").await;
    for number in 0..files {
        origin.write(
            &format!("many/{}/{}/{number}", number % 40, number % 7),
            "0123456789\n".repeat(number % 1000),
        );
    }
    let large = origin.commit_all("many files");
    world.watch().await.until_at("one refs/heads/main", &large).await;
    measure(&world, &format!("tar of {files} files"), std::slice::from_ref(&large), "tar").await;
    measure(&world, &format!("tar.zst of {files} files"), &[large], "tar.zst").await;
}

async fn measure(world: &World, what: &str, commits: &[String], packing: &str) {
    let (begun, cpu) = (Instant::now(), cpu_ticks());
    let sizes = stream::iter(commits).map(|commit| async move {
        let (status, bytes) = world.get(&format!("/archive/one/{commit}.{packing}")).await;
        assert!(status.is_success());
        bytes.len()
    });
    let bytes: usize = sizes.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().sum();
    let (count, seconds) = (commits.len() as f64, begun.elapsed().as_secs_f64());
    // The client's work is in it: it runs in this process.
    let cpu = (cpu_ticks() - cpu) as f64 * 10.0 / count;
    let (rate, size) = (count / seconds, bytes as f64 / count / 1e6);
    println!(
        "{what}: {rate:.0} archives/s of {size:.2} MB, {cpu:.1} ms CPU each without git's, {seconds:.2} s in all"
    );
}

/// User and system time of this process, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
