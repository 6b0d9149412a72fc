//! Appending, reading, opening again.

use std::{fs, time::Duration};

use maintner::{
    Log, Options,
    log::{OpenError, verify},
};
use proptest::prelude::*;
use tokio::{task::JoinSet, time::timeout};

use crate::{number_of, numbered, numbers, small};

async fn filled(dir: &std::path::Path, count: u64) -> Log {
    let log = Log::open(dir, small()).unwrap();
    for number in 0..count {
        assert_eq!(log.append(&[numbered(number, 10)]).await.unwrap(), number + 1);
    }
    log
}

async fn read_to(log: &Log, position: u64, end: u64) -> Vec<u64> {
    let mut reader = log.reader(position);
    let mut all = Vec::new();
    while reader.position() < end {
        let batch = timeout(Duration::from_secs(10), reader.next()).await.unwrap().unwrap();
        assert_eq!(batch.range().start, position + all.len() as u64);
        all.extend(batch.decode().unwrap().iter().map(number_of));
    }
    all
}

#[tokio::test]
async fn a_log_is_read_from_every_position_also_after_it_was_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 500).await;
    let history = log.history();
    for position in (0..500).step_by(7) {
        assert_eq!(read_to(&log, position, 500).await, (position..500).collect::<Vec<_>>());
    }
    log.close().await;
    let log = Log::open(dir.path(), small()).unwrap();
    assert_eq!((log.extent().position, log.history()), (500, history));
    for position in (0..500).step_by(13) {
        assert_eq!(read_to(&log, position, 500).await, (position..500).collect::<Vec<_>>());
        assert_eq!(numbers(&log, position), (position..500).collect::<Vec<_>>());
    }
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.mutations, report.problems), (500, vec![]));
    assert!(report.segments > 5, "{} segments", report.segments);
    assert_eq!(report.bytes, log.extent().bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_from_zero_see_the_order_of_concurrent_appends_without_gap_or_repeat() {
    const APPENDERS: u64 = 8;
    const EACH: u64 = 150;
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..6 {
        let log = log.clone();
        readers.spawn(async move { read_to(&log, 0, APPENDERS * EACH).await });
    }
    let mut appenders = JoinSet::new();
    for appender in 0..APPENDERS {
        let log = log.clone();
        appenders.spawn(async move {
            for number in 0..EACH {
                log.append(&[numbered(appender * EACH + number, 5)]).await.unwrap();
            }
        });
    }
    while let Some(done) = appenders.join_next().await {
        done.unwrap();
    }
    let order = numbers(&log, 0);
    while let Some(seen) = readers.join_next().await {
        assert_eq!(seen.unwrap(), order);
    }
    for appender in 0..APPENDERS {
        let range = appender * EACH..(appender + 1) * EACH;
        let own: Vec<u64> = order.iter().copied().filter(|number| range.contains(number)).collect();
        assert_eq!(own, range.collect::<Vec<_>>(), "one appender's mutations keep their order");
    }
}

#[tokio::test]
async fn what_one_append_brings_stays_together_and_an_empty_one_waits() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), Options::default()).unwrap();
    let many: Vec<_> = (0..2500).map(|number| numbered(number, 0)).collect();
    assert_eq!(log.append(&many).await.unwrap(), 2500);
    assert_eq!(log.append(&[]).await.unwrap(), 2500);
    let mut reader = log.reader(0);
    for expected in [0..1000, 1000..2000, 2000..2500] {
        assert_eq!(reader.next().await.unwrap().range(), expected);
    }
    assert!(reader.is_caught_up());
}

#[tokio::test]
async fn a_mutation_larger_than_a_segment_gets_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small()).unwrap();
    log.append(&[numbered(0, 10), numbered(1, 5000), numbered(2, 10)]).await.unwrap();
    assert_eq!(numbers(&log, 0), [0, 1, 2]);
    assert_eq!(verify(dir.path()).unwrap().segments, 3);
    let huge = log.append(&[numbered(3, 16 * 1024 * 1024)]).await.unwrap_err();
    assert!(huge.to_string().contains("too large"), "{huge}");
    assert_eq!(log.append(&[numbered(3, 0)]).await.unwrap(), 4);
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 3).await;
    let refused = Log::open(dir.path(), small()).err().unwrap();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    log.close().await;
    assert_eq!(Log::open(dir.path(), small()).unwrap().extent().position, 3);
}

#[tokio::test]
async fn a_reader_that_waits_hears_that_the_log_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let log = filled(dir.path(), 1).await;
    let mut reader = log.reader(1);
    drop(log);
    assert!(reader.next().await.is_err());
}

#[tokio::test]
async fn damage_in_a_frozen_segment_is_found_by_verify_and_a_missing_one_by_opening() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 200).await.close().await;
    let frozen = files(dir.path()).into_iter().find(|name| name.starts_with("0001.")).unwrap();
    let path = dir.path().join(&frozen);
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    let at = bad.iter().rposition(|byte| *byte == b'x').unwrap();
    bad[at] = b'y';
    fs::write(&path, &bad).unwrap();
    let problems = verify(dir.path()).unwrap().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.path == path && problem.what.contains("another hash")));
    fs::remove_file(&path).unwrap();
    let missing = Log::open(dir.path(), small()).err().unwrap().to_string();
    assert!(missing.contains(&frozen) && missing.contains("is missing"), "{missing}");
    fs::write(&path, &good[1..]).unwrap();
    let short = Log::open(dir.path(), small()).err().unwrap().to_string();
    assert!(short.contains(&frozen) && short.contains("bytes"), "{short}");
}

#[tokio::test]
async fn a_stray_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 100).await.close().await;
    fs::write(dir.path().join("9999.growing.mutlog"), b"").unwrap();
    let stray = Log::open(dir.path(), small()).err().unwrap().to_string();
    assert!(stray.contains("9999.growing.mutlog` is no segment of this log"), "{stray}");
}

pub(crate) fn files(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The growing segment is cut at any byte: whole records stay, and appending goes on.
    #[test]
    fn a_torn_tail_is_cut_off_and_the_log_goes_on(cut in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path(), 70).await.close().await;
            let growing = files(dir.path()).into_iter().find(|name| name.contains("growing")).unwrap();
            let path = dir.path().join(growing);
            let bytes = fs::read(&path).unwrap();
            let cut = cut.index(bytes.len() + 1);
            fs::write(&path, &bytes[..cut]).unwrap();
            let log = Log::open(dir.path(), small()).unwrap();
            let kept = log.extent().position;
            let lost = 70 - kept;
            assert!((cut < bytes.len()) == (lost > 0), "cut at {cut} of {} lost {lost}", bytes.len());
            log.append(&[numbered(kept, 10)]).await.unwrap();
            assert_eq!(numbers(&log, 0), (0..=kept).collect::<Vec<_>>());
            log.close().await;
            assert_eq!(verify(dir.path()).unwrap().problems, vec![]);
        });
    }

    /// Any byte of any file is flipped: opening or reading says so or all is as before, and nothing panics.
    #[test]
    fn a_flipped_byte_never_panics(file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            filled(dir.path(), 70).await.close().await;
            let names: Vec<String> = files(dir.path()).into_iter().filter(|name| name != "lock").collect();
            let path = dir.path().join(&names[file.index(names.len())]);
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            let problems = verify(dir.path()).map(|report| report.problems.len());
            let growing = path.to_str().unwrap().contains("growing");
            assert!(growing || !matches!(problems, Ok(0)), "the flip at {at} of {} went unseen", path.display());
            if let Ok(log) = Log::open(dir.path(), small()) {
                let _ = log.replay(0, |_, _| ());
                log.close().await;
            }
        });
    }
}
