//! How fast records and logs are written, and how fast a place in a large log is found.
//!
//! `cargo bench -p store` prints one line for each figure.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use runtime::{Tasks, system_clock};
use store::{
    Batch, Database, LocalBlobs, Migration,
    logs::{LogStore, MIGRATION_SQL},
    values,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use types::ExecId;

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: MIGRATION_SQL },
    Migration {
        version: 2,
        sql: "CREATE TABLE record (id BIGINT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL)",
    },
];
const MIB: u64 = 1 << 20;

#[expect(clippy::print_stdout, reason = "a benchmark says its figures")]
fn say(line: &str) {
    println!("{line}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let database = Database::open(&folder.path().join("records.db"), MIGRATIONS).await?;
        batches(&database).await?;
        logs(folder.path(), database).await
    })
}

async fn batches(database: &Database) -> Result<(), Box<dyn std::error::Error>> {
    let mut took = Vec::new();
    for id in 0..500 {
        let start = Instant::now();
        database.write(record(-1 - id)).await?;
        took.push(start.elapsed());
    }
    took.sort();
    say(&format!("one small batch, alone: median {:?}, 99th of 100 {:?}", took[250], took[495]));
    for writers in [16, 256] {
        let total = 20_000;
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for writer in 0..writers {
            let database = database.clone();
            tasks.spawn(async move {
                for step in 0..total / writers {
                    let id = i64::from(writers) * 1_000_000 + i64::from(writer) * 100_000 + i64::from(step);
                    database.write(record(id)).await?;
                }
                Ok::<_, store::WriteError>(())
            });
        }
        for outcome in tasks.join_all().await {
            outcome?;
        }
        let rate = f64::from(total) / start.elapsed().as_secs_f64();
        say(&format!("small batches of {writers} tasks: {rate:.0} batches/s"));
    }
    Ok(())
}

/// Two statements, as most of the farm's batches have.
fn record(id: i64) -> Batch {
    let mut batch = Batch::new();
    batch.push(
        "INSERT INTO record (id, name, state) VALUES ($1, $2, $3)",
        values![id, "linux-amd64", "queued"],
    );
    batch.push_guarded("UPDATE record SET state = $2 WHERE id = $1", values![id, "running"]);
    batch
}

async fn logs(folder: &Path, database: Database) -> Result<(), Box<dyn std::error::Error>> {
    let blobs = LocalBlobs::open(&folder.join("blobs")).await?;
    let tasks = Tasks::new(CancellationToken::new());
    let logs = LogStore::new(database, Arc::new(blobs), system_clock(), tasks);
    let piece: Bytes = (0..)
        .map(|n: u64| {
            format!(
                "ok  \texample.org/package/{:x}\t{}.{:03}s\n",
                n.wrapping_mul(2_654_435_761),
                n % 7,
                n % 997
            )
        })
        .scan(0, |size, line| {
            *size += line.len();
            (*size <= 256 << 10).then_some(line)
        })
        .collect::<String>()
        .into();
    for mib in [100, 1024] {
        let exec = ExecId(runtime::new_id());
        let start = Instant::now();
        let mut writer = logs.writer(exec).await?;
        while writer.accepted() < mib * MIB {
            writer.push(writer.accepted(), piece.clone()).await?;
        }
        writer.finish().await?;
        let rate = mib as f64 / start.elapsed().as_secs_f64();
        say(&format!("one log of {mib} MiB: {rate:.0} MiB/s until durable"));
        seek(&logs, exec, "while it is sealed").await?;
        logs.settled(exec).await;
        say(&format!("  sealed {:?} after it was begun", start.elapsed()));
        seek(&logs, exec, "sealed").await?;
    }
    tiny(&logs).await
}

async fn seek(logs: &LogStore, exec: ExecId, when: &str) -> Result<(), Box<dyn std::error::Error>> {
    let info = logs.info(exec).await?;
    let mut took: Vec<(Duration, Duration)> = Vec::new();
    for step in 0..100_u64 {
        let byte = step * 7_919_999 % info.bytes;
        let start = Instant::now();
        logs.read(exec, byte..byte + 4096).await?;
        let read = start.elapsed();
        let line = step * 104_729 % info.line_ends;
        let start = Instant::now();
        logs.byte_of_line(exec, line).await?;
        took.push((read, start.elapsed()));
    }
    let (mut reads, mut lines): (Vec<_>, Vec<_>) = took.into_iter().unzip();
    reads.sort();
    lines.sort();
    say(&format!(
        "  {when}: 4 KiB at any byte in {:?} (worst {:?}), any line found in {:?} (worst {:?})",
        reads[50], reads[99], lines[50], lines[99]
    ));
    Ok(())
}

async fn tiny(logs: &LogStore) -> Result<(), Box<dyn std::error::Error>> {
    let count = 5000;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let logs = logs.clone();
        tasks.spawn(async move {
            for _ in 0..count / 50 {
                let mut writer = logs.writer(ExecId(runtime::new_id())).await?;
                writer.push(0, Bytes::from_static(&[b'x'; 200])).await?;
                writer.finish().await?;
            }
            Ok::<_, store::logs::LogError>(())
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }
    say(&format!("tiny logs of 50 tasks: {:.0} logs/s", f64::from(count) / start.elapsed().as_secs_f64()));
    Ok(())
}
