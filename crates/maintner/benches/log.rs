//! What the log costs: appends with their sync, replay, delivery to many readers.
#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use std::{io::Write as _, time::Duration};

use api::maintpb::{GitCommit, GitMutation, Mutation};
use maintner::{Corpus, Log, Options, log::encode};
use prost::Message as _;
use tokio::{task::JoinSet, time::Instant};

/// A commit as it is in most logs: some 700 bytes.
fn commit(number: u64) -> Mutation {
    let raw = format!(
        "tree {number:040x}\nparent {:040x}\nauthor Ada Lovelace <ada@example.com> {number} +0000\n\
         committer Ada Lovelace <ada@example.com> {number} +0000\n\nlog: commit {number}\n\n{}\n",
        number.saturating_sub(1),
        "What it does and why. ".repeat(20)
    );
    let commit = GitCommit { sha1: format!("{number:040x}"), raw: raw.into(), diff_tree: None };
    Mutation { git: Some(GitMutation { repo: None, commit: Some(commit) }), ..Default::default() }
}

/// What the disk alone takes.
fn floor() {
    let file = tempfile::NamedTempFile::new_in(std::env::temp_dir()).unwrap();
    let mut took: Vec<Duration> = (0..300)
        .map(|number| {
            let begun = Instant::now();
            (&mut file.as_file()).write_all(&encode(&commit(number))).unwrap();
            file.as_file().sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!("one write and one sync alone: median {:?}, p99 {:?}", took[150], took[297]);
}

async fn appends(appenders: u64, each: u64) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), Options::default()).unwrap();
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for appender in 0..appenders {
        let log = log.clone();
        running.spawn(async move {
            let mut took = Vec::new();
            for number in 0..each {
                let begun = Instant::now();
                log.append(&[commit(appender * each + number)]).await.unwrap();
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took: Vec<Duration> = running.join_all().await.concat();
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("appends of {appenders:>3} at a time: {rate:>9.0}/s, median {median:?}, p99 {p99:?}");
    log.close().await;
}

/// Fills a log, and reads it in three ways.
async fn replay(count: u64) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), Options::default()).unwrap();
    let begun = Instant::now();
    for start in (0..count).step_by(500) {
        let some: Vec<Mutation> = (start..(start + 500).min(count)).map(commit).collect();
        log.append(&some).await.unwrap();
    }
    let megabytes = log.extent().bytes as f64 / 1e6;
    let say = |what: &str, begun: Instant| {
        let seconds = begun.elapsed().as_secs_f64();
        println!("{what:<28} {:>7.0} MB/s, {:>9.0} mutations/s", megabytes / seconds, count as f64 / seconds);
    };
    say("import in batches of 500:", begun);
    log.close().await;
    let begun = Instant::now();
    let log = Log::open(dir.path(), Options::default()).unwrap();
    println!("open again:                  {:?}", begun.elapsed());
    let begun = Instant::now();
    let mut bytes = 0;
    log.replay(0, |_, payload| bytes += payload.len()).unwrap();
    assert!(bytes > 0);
    say("replay, framing only:", begun);
    let begun = Instant::now();
    let mut decoded = 0;
    log.replay(0, |_, payload| decoded += usize::from(Mutation::decode(payload).unwrap().git.is_some()))
        .unwrap();
    assert_eq!(decoded as u64, count);
    say("replay, decoding:", begun);
    let begun = Instant::now();
    let mut corpus = Corpus::default();
    log.replay(0, |_, payload| corpus.apply(&Mutation::decode(payload).unwrap())).unwrap();
    assert_eq!(corpus.commit_count() as u64, count);
    say("replay into a corpus:", begun);
    log.close().await;
}

/// Readers that have caught up get everything that is appended.
async fn fan_out(readers: u64, count: u64) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), Options::default()).unwrap();
    let mut running = JoinSet::new();
    for _ in 0..readers {
        let mut reader = log.reader(0);
        running.spawn(async move {
            while reader.position() < count {
                reader.next().await.unwrap();
            }
        });
    }
    let begun = Instant::now();
    for number in 0..count {
        log.enqueue(vec![encode(&commit(number))]).await.unwrap();
    }
    running.join_all().await;
    let rate = (readers * count) as f64 / begun.elapsed().as_secs_f64();
    println!("delivery to {readers} readers: {rate:.0} mutations/s");
    log.close().await;
}

#[tokio::main]
async fn main() {
    floor();
    appends(1, 500).await;
    appends(64, 100).await;
    replay(50_000).await;
    fan_out(200, 5000).await;
}
