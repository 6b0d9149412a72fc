//! A process that is killed in the middle of writing loses nothing that it was told is durable, and leaves nothing half.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use runtime::{Tasks, system_clock};
use store::{Batch, Blobs, Database, LocalBlobs, Migration, logs::LogStore, values};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::ExecId;
use uuid::Uuid;

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sql: "CREATE TABLE pair (id BIGINT NOT NULL, half BIGINT NOT NULL, PRIMARY KEY (id, half))",
    },
    Migration { version: 2, sql: store::logs::MIGRATION_SQL },
];
const CHILD: &str = "STORE_TEST_CRASH";
const TASKS: i64 = 8;
/// The child is killed once it has said this many lines; it is then writing more.
const LINES: usize = 400;

fn exec(task: i64) -> ExecId {
    ExecId(Uuid::from_u128(task as u128 + 1))
}

/// The bytes of a log: any position says what byte is there.
fn pattern(start: u64, len: usize) -> Bytes {
    (start..start + len as u64).map(|byte| (byte % 251) as u8).collect()
}

async fn open(folder: &Path) -> (Database, LocalBlobs, LogStore) {
    let database = Database::open(&folder.join("records.db"), MIGRATIONS).await.unwrap();
    let blobs = LocalBlobs::open(&folder.join("blobs")).await.unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let logs = LogStore::new(database.clone(), Arc::new(blobs.clone()), system_clock(), tasks);
    (database, blobs, logs)
}

/// Writes for ever, and says on standard output what is durable.
async fn write_for_ever(folder: PathBuf) {
    let (database, blobs, logs) = open(&folder).await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (database, blobs, logs) = (database.clone(), blobs.clone(), logs.clone());
        tasks.spawn(async move {
            let mut log = logs.writer(exec(task)).await.unwrap();
            for step in 0.. {
                let id = step * TASKS + task;
                let mut batch = Batch::new();
                for half in 0..2 {
                    batch.push("INSERT INTO pair (id, half) VALUES ($1, $2)", values![id, half]);
                }
                database.write(batch).await.unwrap();
                let size = 1 + (id as usize * 7919) % 60_000;
                blobs.put(&format!("blob/{}/{id}", id % 3), pattern(0, size)).await.unwrap();
                log.push(log.accepted(), pattern(log.accepted(), size)).await.unwrap();
                log.flush().await.unwrap();
                let line = format!("durable {task} {id} {size} {}\n", log.position());
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_kill_and_nothing_is_half() {
    if let Some(folder) = std::env::var_os(CHILD) {
        write_for_ever(folder.into()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "crash::what_was_acknowledged_outlives_a_kill_and_nothing_is_half"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        said.push(line.unwrap());
        if said.len() == LINES {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(said.len() >= LINES, "the writer ended by itself: {said:?}");

    let (database, blobs, logs) = open(folder.path()).await;
    let rows = database.read("SELECT id, half FROM pair", []).await.unwrap();
    let ids = |half| {
        let of_half = rows.iter().filter(|row| row.int("half").unwrap() == half);
        of_half.map(|row| row.int("id").unwrap()).collect::<HashSet<_>>()
    };
    assert_eq!(ids(0), ids(1), "a batch is half there");
    let mut ends = [0; TASKS as usize];
    let mut acknowledged = 0;
    for line in &said {
        let Some(numbers) = line.strip_prefix("durable ") else { continue };
        // The kill may have cut the last line short.
        let numbers: Vec<u64> = numbers.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [task, id, size, end] = numbers[..] else { continue };
        assert!(ids(0).contains(&(id as i64)), "batch {id} is lost");
        let blob = blobs.read(&format!("blob/{}/{id}", id % 3), 0..u64::MAX).await.unwrap();
        assert!(blob == pattern(0, size as usize), "blob {id} is not whole");
        ends[task as usize] = end.max(ends[task as usize]);
        acknowledged += 1;
    }
    assert!(acknowledged >= LINES - TASKS as usize);
    for task in 0..TASKS {
        let len = logs.len(exec(task)).await.unwrap();
        assert!(len >= ends[task as usize], "log {task} lost bytes: {len} of {}", ends[task as usize]);
        let log = logs.read(exec(task), 0..u64::MAX).await.unwrap();
        assert!(log == pattern(0, len as usize), "log {task} is not what was written");
    }
    // What a blob or a chunk was written to before it got its name is gone.
    for entry in blobs.list("blob/").await.unwrap() {
        let id: usize = entry.key.rsplit('/').next().unwrap().parse().unwrap();
        assert_eq!(entry.bytes, 1 + (id as u64 * 7919) % 60_000, "blob {id} is half there");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("blobs/.tmp")).unwrap().count(), 0);
    logs.sweep().await.unwrap();
    assert_eq!(logs.sweep().await.unwrap(), 0);
}
