//! The log in a bucket: what is acknowledged is there, and one writes at a time, whoever sleeps or lies.

use std::{
    fmt, fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use maintner::{
    Log,
    log::{
        AppendError, Bucket, BucketError, FolderBucket, Object, ObjectBucket, OpenError, Put, SharedLog,
        Version, verify,
    },
};
use tokio::task::{JoinSet, spawn_blocking};

use crate::{log::files, numbered, numbers, small};

const LONG: Duration = Duration::from_hours(1);

fn folder(dir: &Path, lease: Duration) -> SharedLog {
    SharedLog { bucket: Arc::new(FolderBucket::new(dir)), lease }
}

async fn open(dir: &Path, shared: &SharedLog) -> Result<Log, OpenError> {
    let (dir, shared) = (dir.to_owned(), shared.clone());
    spawn_blocking(move || Log::open_shared(&dir, small(), &shared)).await.unwrap()
}

/// Appends so many more.
async fn grow(log: &Log, count: u64) {
    for number in log.extent().position..log.extent().position + count {
        log.append(&[numbered(number, 10)]).await.unwrap();
    }
}

/// What any bucket must do for the log: filled over two folders, and read from a third.
async fn outlives_its_folders(shared: &SharedLog) {
    let (one, two, three) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(one.path(), shared).await.unwrap();
    let history = log.history();
    grow(&log, 120).await;
    log.close().await;
    let log = open(two.path(), shared).await.unwrap();
    assert_eq!((log.history(), log.extent().position), (history, 120));
    grow(&log, 80).await;
    log.close().await;
    // The first folder is behind now, and is brought up to what the bucket holds.
    let log = open(one.path(), shared).await.unwrap();
    assert_eq!(numbers(&log, 0), (0..200).collect::<Vec<_>>());
    log.close().await;
    let log = open(three.path(), shared).await.unwrap();
    assert_eq!(numbers(&log, 0), (0..200).collect::<Vec<_>>());
    log.close().await;
    let report = verify(three.path()).unwrap();
    assert_eq!((report.mutations, report.problems), (200, vec![]));
    assert!(report.segments > 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_a_bucket_outlives_the_folders_it_was_written_from() {
    let bucket = tempfile::tempdir().unwrap();
    outlives_its_folders(&folder(bucket.path(), LONG)).await;
    outlives_its_folders(&SharedLog { bucket: Arc::new(ObjectBucket::in_memory()), lease: LONG }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_lives_is_left_alone_and_one_that_closed_is_not_waited_for() {
    let (bucket, one, two) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = folder(bucket.path(), Duration::from_secs(5));
    let log = open(one.path(), &shared).await.unwrap();
    let refused = open(two.path(), &shared).await.err().unwrap();
    assert!(matches!(refused, OpenError::Led { .. }), "{refused:?}");
    grow(&log, 3).await;
    log.close().await;
    // The lease is long here: who waits for it does not finish in time.
    let log = open(two.path(), &folder(bucket.path(), LONG)).await.unwrap();
    assert_eq!(log.extent().position, 3);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_through_its_lease_is_deposed_and_can_acknowledge_nothing() {
    let (bucket, one, two) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // It says that it lives once in twenty minutes.
    let sleeper = open(one.path(), &folder(bucket.path(), LONG)).await.unwrap();
    grow(&sleeper, 70).await;
    let next = open(two.path(), &folder(bucket.path(), Duration::from_millis(300))).await.unwrap();
    assert_eq!(next.extent().position, 70);
    // Far enough that all parts the sleeper knew are gone.
    grow(&next, 100).await;
    let error = sleeper.append(&[numbered(9999, 0)]).await.unwrap_err();
    assert!(matches!(error, AppendError::Deposed { .. }), "{error:?}");
    assert!(sleeper.append(&[numbered(9999, 0)]).await.is_err());
    sleeper.close().await;
    grow(&next, 5).await;
    assert_eq!(numbers(&next, 0), (0..175).collect::<Vec<_>>());
    next.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaders_that_take_the_log_from_each_other_lose_and_double_nothing() {
    let bucket = tempfile::tempdir().unwrap();
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    for dir in &folders {
        // As if the folder had been copied with its name: none waits for the other.
        fs::write(dir.path().join("holder"), "the same\n").unwrap();
    }
    let shared = folder(bucket.path(), LONG);
    let mut acknowledged: Vec<u64> = Vec::new();
    let mut before: JoinSet<Vec<u64>> = JoinSet::new();
    for round in 0..15_u64 {
        // The one before appends on until it finds that it is deposed.
        let log = open(folders[round as usize % 3].path(), &shared).await.unwrap();
        while let Some(mine) = before.join_next().await {
            acknowledged.extend(mine.unwrap());
        }
        let mut begun = log.subscribe();
        let appends = log.clone();
        before.spawn(async move {
            let mut mine = Vec::new();
            for number in round * 1_000_000.. {
                match appends.append(&[numbered(number, 5)]).await {
                    Ok(_) => mine.push(number),
                    Err(_) => break,
                }
            }
            appends.close().await;
            mine
        });
        // So that each has something to lose.
        let end = begun.borrow_and_update().position + 3 + round * 2;
        begun.wait_for(|extent| extent.position >= end).await.unwrap();
    }
    let last = tempfile::tempdir().unwrap();
    fs::write(last.path().join("holder"), "the same\n").unwrap();
    let log = open(last.path(), &shared).await.unwrap();
    acknowledged.extend(before.join_next().await.unwrap().unwrap());
    let all = numbers(&log, 0);
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), all.len(), "something is there twice");
    let lost: Vec<_> = acknowledged.iter().filter(|number| sorted.binary_search(number).is_err()).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(acknowledged.len() > 200, "{}", acknowledged.len());
    log.close().await;
    assert_eq!(verify(last.path()).unwrap().problems, vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_a_folder_is_brought_into_an_empty_bucket_and_never_over_another() {
    let (bucket, dir, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Log::open(dir.path(), small()).unwrap();
    let history = log.history();
    grow(&log, 100).await;
    log.close().await;
    // With a tail that a crash cut short, which must not be brought along.
    let growing = files(dir.path()).into_iter().find(|name| name.contains("growing")).unwrap();
    let mut bytes = fs::read(dir.path().join(&growing)).unwrap();
    bytes.extend_from_slice(format!("REC@{:x}+30=abc", bytes.len()).as_bytes());
    fs::write(dir.path().join(&growing), bytes).unwrap();
    let log = open(dir.path(), &folder(bucket.path(), LONG)).await.unwrap();
    assert_eq!((log.history(), log.extent().position), (history, 100));
    grow(&log, 50).await;
    log.close().await;
    let fresh = tempfile::tempdir().unwrap();
    let log = open(fresh.path(), &folder(bucket.path(), LONG)).await.unwrap();
    assert_eq!(numbers(&log, 0), (0..150).collect::<Vec<_>>());
    log.close().await;
    let log = Log::open(other.path(), small()).unwrap();
    grow(&log, 5).await;
    log.close().await;
    let refused = open(other.path(), &folder(bucket.path(), LONG)).await.err().unwrap().to_string();
    assert!(refused.contains("holds another log than this folder"), "{refused}");
    assert_eq!(Log::open(other.path(), small()).unwrap().extent().position, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_folder_holds_beyond_the_bucket_was_never_acknowledged() {
    let (bucket, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(dir.path(), &folder(bucket.path(), LONG)).await.unwrap();
    grow(&log, 70).await;
    log.close().await;
    let growing = files(dir.path()).into_iter().find(|name| name.contains("growing")).unwrap();
    let path = dir.path().join(growing);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(format!("REC@{:x}+3=abc", bytes.len()).as_bytes());
    fs::write(&path, bytes).unwrap();
    let log = open(dir.path(), &folder(bucket.path(), LONG)).await.unwrap();
    assert_eq!(numbers(&log, 0), (0..70).collect::<Vec<_>>());
    log.close().await;
}

/// A bucket that does what it is asked and then says that it failed, once.
struct Liar {
    bucket: FolderBucket,
    lies: AtomicBool,
}

impl fmt::Display for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bucket.fmt(f)
    }
}

impl Liar {
    fn lie<T>(&self, answer: Result<T, BucketError>) -> Result<T, BucketError> {
        if self.lies.swap(false, Ordering::Relaxed) {
            return Err(BucketError { action: "write", key: "x".into(), what: "timed out".into() });
        }
        answer
    }
}

impl Bucket for Liar {
    fn read(&self, key: &str) -> Result<Option<Object>, BucketError> {
        self.bucket.read(key)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<Put, BucketError> {
        self.lie(self.bucket.create(key, bytes))
    }

    fn replace(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Put, BucketError> {
        self.lie(self.bucket.replace(key, bytes, version))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        self.bucket.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.bucket.delete(key)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_failed_after_its_effect_is_in_the_log_at_most_once() {
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for at in 0..8 {
        let liar = Arc::new(Liar { bucket: FolderBucket::new(root.path()), lies: false.into() });
        let log = open(dir.path(), &SharedLog { bucket: Arc::clone(&liar) as _, lease: LONG }).await.unwrap();
        let before = log.extent().position;
        // Some of these lies are told while a segment is frozen.
        for number in before..before + 17 + at {
            log.append(&[numbered(number, 10)]).await.unwrap();
        }
        liar.lies.store(true, Ordering::Relaxed);
        let next = before + 17 + at;
        let error = log.append(&[numbered(next, 10)]).await.unwrap_err();
        assert!(matches!(error, AppendError::Bucket(_)), "{error:?}");
        log.close().await;
        let log = open(dir.path(), &folder(root.path(), LONG)).await.unwrap();
        let end = log.extent().position;
        assert!(end == next || end == next + 1, "{end} after {next}");
        assert_eq!(numbers(&log, 0), (0..end).collect::<Vec<_>>());
        log.close().await;
    }
}

/// The S3 of moto, if it is here.
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    fn start() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if started.is_err() {
            testkit::skip::skipped("the log in S3", "moto_server", "pip install 'moto[server,s3]'");
        }
        Some(Self { child: started.ok()?, port })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const S3: &str = "MAINTNER_TEST_S3";

/// Not a test by itself: run by the one below, with the environment that names the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_keeps_a_log_in_s3() {
    let Ok(url) = std::env::var(S3) else { return };
    runtime::install_crypto();
    let bucket = || Arc::new(ObjectBucket::open(&url).unwrap());
    outlives_its_folders(&SharedLog { bucket: bucket(), lease: LONG }).await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sleeper = open(one.path(), &SharedLog { bucket: bucket(), lease: LONG }).await.unwrap();
    let lease = Duration::from_millis(300);
    let next = open(two.path(), &SharedLog { bucket: bucket(), lease }).await.unwrap();
    let error = sleeper.append(&[numbered(9999, 0)]).await.unwrap_err();
    assert!(matches!(error, AppendError::Deposed { .. }), "{error:?}");
    grow(&next, 5).await;
    assert_eq!(numbers(&next, 0), (0..205).collect::<Vec<_>>());
    next.close().await;
    println!("kept");
}

/// Creates a bucket with the plainest of requests, as soon as the server answers.
fn create_bucket(port: u16) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let request = format!(
        "PUT /farm HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\ncontent-length: 0\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
         SignedHeaders=host, Signature=x\r\n\r\n"
    );
    let mut answer = Vec::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_end(&mut answer).is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}

#[test]
fn a_log_is_kept_in_s3() {
    if !testkit::skip::long(2) {
        return;
    }
    let Some(moto) = Moto::start() else { return };
    let deadline = 600;
    assert!(
        (0..deadline).any(|_| create_bucket(moto.port) || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }),
        "moto does not answer"
    );
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "shared::the_child_keeps_a_log_in_s3", "--nocapture"])
        .env(S3, "s3://farm/log")
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", moto.port))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("kept"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_url_that_is_no_bucket_is_refused_by_name() {
    for url in ["", "bucket", "http://example.com/log", "file:relative"] {
        let refused = ObjectBucket::open(url).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("is not the URL of a bucket"), "{url}: {refused}");
    }
}
