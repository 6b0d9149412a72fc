//! `kill -9` of a process that appends.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use maintner::{Log, log::verify};

use crate::{numbered, numbers, small};

const FOLDER: &str = "MAINTNER_TEST_LOG";

/// Not a test by itself: the process that the test below starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_appends() {
    let Ok(dir) = std::env::var(FOLDER) else { return };
    let log = Log::open(Path::new(&dir), small()).unwrap();
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
    let mut acknowledged = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::the_child_appends", "--nocapture"])
            .env(FOLDER, dir.path())
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
    let log = Log::open(dir.path(), small()).unwrap();
    let all = numbers(&log, 0);
    assert!(all.len() as u64 >= acknowledged, "{} of {acknowledged} are left", all.len());
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(verify(dir.path()).unwrap().problems, vec![]);
}
