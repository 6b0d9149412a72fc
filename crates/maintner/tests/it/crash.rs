//! `kill -9` of a process that appends.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use maintner::{
    Log,
    log::{FolderBucket, SharedLog, verify},
};

use crate::{numbered, numbers, small};

const FOLDER: &str = "MAINTNER_TEST_LOG";
const BUCKET: &str = "MAINTNER_TEST_BUCKET";

/// Not a test by itself: the process that the test below starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_appends() {
    let Ok(dir) = std::env::var(FOLDER) else { return };
    let log = match std::env::var(BUCKET) {
        Err(_) => Log::open(Path::new(&dir), small()).unwrap(),
        Ok(bucket) => {
            let bucket = Arc::new(FolderBucket::new(Path::new(&bucket)));
            // A folder is not made to wait for the lease of its own dead process.
            let shared = SharedLog { bucket, lease: Duration::from_hours(1) };
            let dir = dir.clone();
            tokio::task::spawn_blocking(move || Log::open_shared(Path::new(&dir), small(), &shared))
                .await
                .unwrap()
                .unwrap()
        }
    };
    let begin = log.extent().position;
    println!("begin {begin}");
    for number in begin.. {
        let end = log.append(&[numbered(number, 20)]).await.unwrap();
        println!("acknowledged {end}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_killed_writer_loses_and_doubles_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = kill_again_and_again(dir.path(), None);
    let log = Log::open(dir.path(), small()).unwrap();
    check(&log, acknowledged);
}

#[test]
fn nor_does_one_whose_log_rests_in_a_bucket() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let acknowledged = kill_again_and_again(dir.path(), Some(bucket.path()));
    // From the bucket alone.
    let (fresh, root) = (tempfile::tempdir().unwrap(), FolderBucket::new(bucket.path()));
    let shared = SharedLog { bucket: Arc::new(root), lease: Duration::from_millis(50) };
    let log = Log::open_shared(fresh.path(), small(), &shared).unwrap();
    check(&log, acknowledged);
}

fn check(log: &Log, acknowledged: u64) {
    let all = numbers(log, 0);
    assert!(all.len() as u64 >= acknowledged, "{} of {acknowledged} are left", all.len());
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(verify(log.dir()).unwrap().problems, vec![]);
}

/// Answers how many were acknowledged.
fn kill_again_and_again(dir: &Path, bucket: Option<&Path>) -> u64 {
    let mut acknowledged = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_child_appends", "--nocapture"])
            .env(FOLDER, dir)
            .envs(bucket.map(|bucket| (BUCKET, bucket)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let goal = acknowledged + 20 + round * 3;
        let mut ended = true;
        for line in lines.by_ref() {
            if let Some(end) = line.strip_prefix("acknowledged ") {
                acknowledged = end.parse().unwrap();
                if acknowledged >= goal {
                    ended = false;
                    break;
                }
            }
        }
        assert!(!ended, "the child ended by itself in round {round}");
        child.kill().unwrap();
        // What it said between our last look and its end counts too.
        for line in lines {
            if let Some(Ok(end)) = line.strip_prefix("acknowledged ").map(str::parse) {
                acknowledged = end;
            }
        }
        child.wait().unwrap();
    }
    acknowledged
}
