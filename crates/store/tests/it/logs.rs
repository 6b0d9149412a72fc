//! What the log store promises.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use runtime::{FakeClock, Tasks};
use store::{
    Blobs, Database, LocalBlobs, Migration,
    logs::{CHUNK_BYTES, LogError, LogState, LogStore, MIGRATION_SQL, Merged, Part},
};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use types::{ExecId, Timestamp};
use uuid::Uuid;

const MIGRATIONS: &[Migration] = &[Migration { version: 1, sql: MIGRATION_SQL }];
const LONG: Duration = Duration::from_mins(1);

struct Store {
    folder: TempDir,
    logs: LogStore,
    database: Database,
    blobs: LocalBlobs,
    clock: FakeClock,
}

async fn store() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(&folder.path().join("logs.db"), MIGRATIONS).await.unwrap();
    let blobs = LocalBlobs::open(&folder.path().join("blobs")).await.unwrap();
    let clock = FakeClock::new(Timestamp::from_seconds(1000));
    let tasks = Tasks::new(CancellationToken::new());
    let logs = LogStore::new(database.clone(), Arc::new(blobs.clone()), clock.shared(), tasks);
    Store { folder, logs, database, blobs, clock }
}

fn exec() -> ExecId {
    ExecId(runtime::new_id())
}

impl Store {
    async fn rows(&self) -> usize {
        self.database.read("SELECT start FROM log_chunk", []).await.unwrap().len()
    }

    async fn objects(&self) -> Vec<String> {
        self.blobs.list("").await.unwrap().into_iter().map(|entry| entry.key).collect()
    }
}

/// Lines that do not compress to nothing.
fn lines(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut text = Vec::new();
    for number in 0..count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("line {number} {:x}\n", state >> (state % 48)).as_bytes());
    }
    text
}

/// Bytes that do not compress at all; those of a shorter one begin those of a longer one.
fn noise(len: usize) -> Bytes {
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

#[tokio::test]
async fn a_tiny_log_is_one_row_and_no_file() {
    let store = store().await;
    for _ in 0..20 {
        let exec = exec();
        let mut writer = store.logs.writer(exec).await.unwrap();
        writer.push(0, Bytes::from(vec![b'x'; 200])).await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(store.logs.read(exec, 0..1000).await.unwrap(), vec![b'x'; 200]);
    }
    assert_eq!((store.rows().await, store.objects().await.len()), (20, 0));
}

#[tokio::test]
async fn a_log_without_bytes_is_finished_all_the_same() {
    let store = store().await;
    let exec = exec();
    store.logs.writer(exec).await.unwrap().finish().await.unwrap();
    let info = store.logs.info(exec).await.unwrap();
    assert!(info.finished && info.bytes == 0 && info.line_ends == 0);
    assert_eq!(store.logs.lines(exec).await.unwrap(), 0);
    assert_eq!(store.logs.byte_of_line(exec, 0).await.unwrap(), Some(0));
    assert_eq!(store.logs.byte_of_line(exec, 1).await.unwrap(), None);
    assert!(store.logs.read(exec, 0..10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_log_that_was_never_written_reads_as_empty() {
    let store = store().await;
    let exec = exec();
    assert!(store.logs.read(exec, 0..10).await.unwrap().is_empty());
    assert_eq!((store.logs.len(exec).await.unwrap(), store.logs.lines(exec).await.unwrap()), (0, 0));
    assert_eq!(store.logs.line_of(exec, 5).await.unwrap(), 0);
    assert!(!store.logs.info(exec).await.unwrap().finished);
}

#[tokio::test]
async fn what_is_pushed_becomes_durable_by_itself() {
    let store = store().await;
    let exec = exec();
    let mut writer = store.logs.writer(exec).await.unwrap();
    let mut durable = writer.durable();
    writer.push(0, Bytes::from_static(b"hello")).await.unwrap();
    timeout(LONG, durable.wait_for(|bytes| *bytes == 5)).await.unwrap().unwrap();
    assert_eq!(&store.logs.read(exec, 0..9).await.unwrap()[..], b"hello");
}

#[tokio::test]
async fn repeats_are_ignored_and_gaps_refused() {
    let store = store().await;
    let exec = exec();
    let mut writer = store.logs.writer(exec).await.unwrap();
    writer.push(0, Bytes::from_static(b"0123")).await.unwrap();
    writer.push(0, Bytes::from_static(b"0123")).await.unwrap();
    writer.push(2, Bytes::from_static(b"2345")).await.unwrap();
    let error = writer.push(7, Bytes::from_static(b"7")).await.unwrap_err();
    assert!(matches!(error, LogError::Gap { expected: 6, found: 7 }), "{error:?}");
    writer.push(6, Bytes::from_static(b"6")).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(&store.logs.read(exec, 0..99).await.unwrap()[..], b"0123456");

    let mut again = store.logs.writer(exec).await.unwrap();
    assert_eq!(again.position(), 7);
    again.push(3, Bytes::from_static(b"3456")).await.unwrap();
    assert!(matches!(again.push(7, Bytes::from_static(b"7")).await, Err(LogError::Finished(7))));
    again.flush().await.unwrap();
    again.finish().await.unwrap();
    assert_eq!(store.logs.len(exec).await.unwrap(), 7);
}

#[tokio::test]
async fn a_last_word_comes_with_the_end_and_only_once() {
    let store = store().await;
    let exec = exec();
    let mut writer = store.logs.writer(exec).await.unwrap();
    writer.push(0, Bytes::from_static(b"output\n")).await.unwrap();
    assert!(!writer.is_finished());
    writer.finish_with(Bytes::from_static(b"last\n")).await.unwrap();
    let again = store.logs.writer(exec).await.unwrap();
    assert!(again.is_finished());
    again.finish_with(Bytes::from_static(b"last\n")).await.unwrap();
    assert_eq!(&store.logs.read(exec, 0..99).await.unwrap()[..], b"output\nlast\n");
    assert_eq!(store.logs.lines(exec).await.unwrap(), 2);
}

#[tokio::test]
async fn a_new_writer_takes_over_where_durable_bytes_end() {
    let store = store().await;
    let exec = exec();
    let mut first = store.logs.writer(exec).await.unwrap();
    first.push(0, Bytes::from_static(b"durable ")).await.unwrap();
    first.flush().await.unwrap();
    let mut second = store.logs.writer(exec).await.unwrap();
    assert_eq!(second.position(), 8);
    let error = first.flush().await.unwrap_err();
    assert!(matches!(error, LogError::Superseded) && error.is_transient(), "{error:?}");
    second.push(8, Bytes::from_static(b"more")).await.unwrap();
    drop(second);
    // Dropped, it makes durable what it has; a third one waits for that, or pushes it again.
    let mut third = store.logs.writer(exec).await.unwrap();
    assert!([8, 12].contains(&third.position()));
    third.push(8, Bytes::from_static(b"more")).await.unwrap();
    third.finish().await.unwrap();
    assert_eq!(&store.logs.read(exec, 0..99).await.unwrap()[..], b"durable more");
}

#[tokio::test]
async fn followers_see_a_log_grow_and_end() {
    let store = store().await;
    let exec = exec();
    let mut early = store.logs.subscribe(exec).await.unwrap();
    assert_eq!(*early.borrow(), LogState::default());
    let mut writer = store.logs.writer(exec).await.unwrap();
    writer.push(0, Bytes::from_static(b"abc")).await.unwrap();
    timeout(LONG, early.wait_for(|state| state.bytes == 3)).await.unwrap().unwrap();
    let late = store.logs.subscribe(exec).await.unwrap();
    assert_eq!(*late.borrow(), LogState { bytes: 3, finished: false });
    writer.finish().await.unwrap();
    timeout(LONG, early.wait_for(|state| state.finished)).await.unwrap().unwrap();
    timeout(LONG, async { while early.changed().await.is_ok() {} }).await.unwrap();
    let after = store.logs.subscribe(exec).await.unwrap();
    assert_eq!(*after.borrow(), LogState { bytes: 3, finished: true });
}

#[tokio::test]
async fn a_large_log_is_read_and_searched_while_it_runs_and_after() {
    let store = store().await;
    let exec = exec();
    let text = lines(200_000);
    assert!(text.len() > 10 * CHUNK_BYTES);
    let mut writer = store.logs.writer(exec).await.unwrap();
    for (index, piece) in text.chunks(70_001).enumerate() {
        writer.push(index as u64 * 70_001, Bytes::copy_from_slice(piece)).await.unwrap();
        if index == 20 {
            writer.flush().await.unwrap();
        }
    }
    writer.flush().await.unwrap();
    assert!(store.objects().await.len() > 1);
    check(&store.logs, exec, &text).await;
    writer.finish().await.unwrap();
    store.logs.settled(exec).await;
    let objects = store.objects().await;
    assert!(objects.len() == 1 && objects[0].ends_with("-sealed"), "{objects:?}");
    check(&store.logs, exec, &text).await;
    assert_eq!(store.logs.sweep().await.unwrap(), 0);
    store.logs.remove(exec).await.unwrap();
    assert_eq!((store.rows().await, store.objects().await.len()), (0, 0));
}

async fn check(logs: &LogStore, exec: ExecId, text: &[u8]) {
    let len = text.len() as u64;
    assert_eq!(logs.read(exec, 0..u64::MAX).await.unwrap(), text);
    let chunk = CHUNK_BYTES as u64;
    for (start, end) in
        [(0, 1), (chunk - 1, chunk + 1), (chunk, 2 * chunk), (len - 5, len + 5), (len, len + 1), (9, 9)]
    {
        let expected = &text[start.min(len) as usize..end.min(len) as usize];
        assert_eq!(logs.read(exec, start..end).await.unwrap(), expected, "{start}..{end}");
    }
    assert_eq!(logs.lines(exec).await.unwrap(), 200_000);
    for line in [0, 1, 17, 77_777, 199_999, 200_000] {
        let start = logs.byte_of_line(exec, line).await.unwrap().unwrap();
        let expected = format!("line {line} ");
        let found = logs.read(exec, start..start + expected.len() as u64).await.unwrap();
        assert!(line == 200_000 || found == expected.as_bytes(), "line {line} is at {start}: {found:?}");
        assert_eq!(logs.line_of(exec, start).await.unwrap(), line);
    }
    assert_eq!(logs.byte_of_line(exec, 200_001).await.unwrap(), None);
}

#[tokio::test]
async fn sealing_joins_what_dripped_and_keeps_when_it_was_written() {
    let store = store().await;
    let exec = exec();
    let mut writer = store.logs.writer(exec).await.unwrap();
    for step in 0..30_u64 {
        writer.push(step * 2, Bytes::from_static(b"x\n")).await.unwrap();
        writer.flush().await.unwrap();
        store.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(store.rows().await, 30);
    writer.finish().await.unwrap();
    store.logs.settled(exec).await;
    assert_eq!((store.rows().await, store.objects().await.len()), (3, 0));
    assert_eq!(store.logs.read(exec, 0..99).await.unwrap(), "x\n".repeat(30));
    assert_eq!(store.logs.line_of(exec, 41).await.unwrap(), 20);
    assert_eq!(store.logs.byte_of_line(exec, 25).await.unwrap(), Some(50));
    let info = store.logs.info(exec).await.unwrap();
    assert!(info.finished && info.bytes == 60 && info.line_ends == 30);
    for byte in 0..60 {
        let written = store.logs.time_of(exec, byte).await.unwrap().unwrap().seconds();
        let exact = 1000 + byte as i64 / 2;
        assert!((exact - 10..=exact).contains(&written), "byte {byte}: {written}");
    }
    assert_eq!(store.logs.time_of(exec, 60).await.unwrap(), None);
}

#[tokio::test]
async fn what_no_chunk_is_in_is_swept() {
    let store = store().await;
    let id = exec();
    let mut writer = store.logs.writer(id).await.unwrap();
    writer.push(0, noise(100_000)).await.unwrap();
    writer.flush().await.unwrap();
    let live = store.objects().await;
    assert_eq!(live.len(), 1);
    let stray = format!("logs/00/{}-77", Uuid::nil().simple());
    store.blobs.put(&stray, Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(store.logs.sweep().await.unwrap(), 1);
    assert_eq!(store.objects().await, live);
}

#[tokio::test]
async fn a_failed_write_says_why_and_a_new_writer_goes_on_from_what_is_durable() {
    let store = store().await;
    let exec = exec();
    let mut writer = store.logs.writer(exec).await.unwrap();
    writer.push(0, noise(50_000)).await.unwrap();
    writer.flush().await.unwrap();
    // Without the folder for unfinished files nothing more can be written.
    let temporary = store.folder.path().join("blobs/.tmp");
    std::fs::remove_dir(&temporary).unwrap();
    writer.push(0, noise(100_000)).await.unwrap();
    let error = writer.flush().await.unwrap_err();
    assert!(matches!(error, LogError::Blob(_)) && error.is_transient(), "{error:?}");
    assert_eq!(writer.position(), 50_000);
    assert!(matches!(writer.push(100_000, noise(1)).await, Err(LogError::Superseded)));

    std::fs::create_dir(&temporary).unwrap();
    let mut writer = store.logs.writer(exec).await.unwrap();
    assert_eq!(writer.position(), 50_000);
    writer.push(0, noise(100_000)).await.unwrap();
    writer.finish().await.unwrap();
    assert!(store.logs.read(exec, 0..u64::MAX).await.unwrap() == noise(100_000));
}

#[tokio::test]
async fn a_broken_chunk_is_said_to_be_broken() {
    let store = store().await;
    let exec = exec();
    let mut writer = store.logs.writer(exec).await.unwrap();
    writer.push(0, lines(20_000).into()).await.unwrap();
    writer.finish().await.unwrap();
    store.logs.settled(exec).await;
    let object = store.objects().await.remove(0);
    let mut bytes = store.blobs.read(&object, 0..u64::MAX).await.unwrap().to_vec();
    bytes.truncate(bytes.len() / 2);
    store.blobs.put(&object, bytes.into()).await.unwrap();
    let error = store.logs.read(exec, 0..u64::MAX).await.unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn logs_read_as_one_when_merged() {
    let store = store().await;
    let mut parts = Vec::new();
    for word in ["one\n", "two\n", "three\n"] {
        let exec = exec();
        let mut writer = store.logs.writer(exec).await.unwrap();
        writer.push(0, Bytes::from_static(word.as_bytes())).await.unwrap();
        writer.finish().await.unwrap();
        parts.push(Part { exec, bytes: 0..word.len() as u64 });
    }
    let merged = Merged::new(parts);
    assert_eq!(merged.len(), 14);
    assert_eq!(&merged.read(&store.logs, 0..99).await.unwrap()[..], b"one\ntwo\nthree\n");
    assert_eq!(&merged.read(&store.logs, 2..10).await.unwrap()[..], b"e\ntwo\nth");
    assert_eq!(&merged.read(&store.logs, 5..6).await.unwrap()[..], b"w");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// Pushes in pieces of any size, with repeats, flushes and writers that come and go.
    #[test]
    fn a_log_is_what_was_pushed_however_it_was_pushed(
        pieces in prop::collection::vec((prop_oneof![0..200_usize, 0..600_000_usize], 0..100_u64, 0..4_u8), 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store().await;
            let exec = exec();
            let all = lines(150_000);
            let mut end = 0_u64;
            let mut writer = store.logs.writer(exec).await.unwrap();
            for (size, back, then) in pieces {
                let start = end.saturating_sub(back);
                let stop = (end + size as u64).min(all.len() as u64);
                let piece = Bytes::copy_from_slice(&all[start as usize..stop as usize]);
                writer.push(start, piece).await.unwrap();
                end = stop;
                match then {
                    0 => writer.flush().await.unwrap(),
                    1 => {
                        writer = store.logs.writer(exec).await.unwrap();
                        end = writer.position();
                    }
                    _ => {}
                }
            }
            writer.finish().await.unwrap();
            let expected = &all[..end as usize];
            let line_ends = expected.split(|byte| *byte == b'\n').count() as u64 - 1;
            for _ in 0..2 {
                prop_assert!(store.logs.read(exec, 0..u64::MAX).await.unwrap() == expected);
                prop_assert_eq!(store.logs.info(exec).await.unwrap().line_ends, line_ends);
                if line_ends > 0 {
                    let start = store.logs.byte_of_line(exec, line_ends).await.unwrap().unwrap();
                    prop_assert_eq!(expected[start as usize - 1], b'\n');
                    prop_assert_eq!(store.logs.line_of(exec, start).await.unwrap(), line_ends);
                }
                // Once more when it is sealed.
                store.logs.settled(exec).await;
            }
            Ok(())
        })?;
    }
}
