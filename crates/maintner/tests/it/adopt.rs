//! Folders that Go's maintner wrote.

use std::{fs, path::Path};

use maintner::{
    Log,
    log::{encode, record::write_header, verify},
};
use sha2::{Digest as _, Sha224};

use crate::{log::files, numbered, numbers, small};

fn segment(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        let payload = encode(&numbered(number, 3));
        let offset = bytes.len() as u64;
        write_header(&mut bytes, offset, payload.len());
        bytes.extend_from_slice(&payload);
    }
    bytes
}

fn frozen(dir: &Path, number: u32, bytes: &[u8]) -> String {
    let name = format!("{number:04}.{}.mutlog", hex::encode(Sha224::digest(bytes)));
    fs::write(dir.join(&name), bytes).unwrap();
    name
}

async fn continues(dir: &Path, count: u64) {
    let log = Log::open(dir, small()).unwrap();
    assert_eq!(numbers(&log, 0), (0..count).collect::<Vec<_>>());
    log.append(&[numbered(count, 0)]).await.unwrap();
    let history = log.history();
    log.close().await;
    assert_eq!(verify(dir).unwrap().problems, vec![]);
    let log = Log::open(dir, small()).unwrap();
    assert_eq!(log.history(), history);
    assert_eq!(numbers(&log, 0), (0..=count).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_folder_of_days_is_adopted_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("maintner-2024-02-29.mutlog"), segment(10..15)).unwrap();
    fs::write(dir.path().join("maintner-2024-02-03.mutlog"), segment(0..10)).unwrap();
    fs::write(dir.path().join("README"), "not ours").unwrap();
    continues(dir.path(), 15).await;
    let names = files(dir.path());
    assert!(names.contains(&"maintner-2024-02-29.mutlog".to_owned()), "{names:?}");
    assert!(names.contains(&"0002.growing.mutlog".to_owned()), "{names:?}");
}

#[tokio::test]
async fn a_folder_of_numbered_segments_is_adopted_with_and_without_a_growing_one() {
    let dir = tempfile::tempdir().unwrap();
    frozen(dir.path(), 0, &segment(0..10));
    frozen(dir.path(), 1, &segment(10..12));
    continues(dir.path(), 12).await;

    let dir = tempfile::tempdir().unwrap();
    frozen(dir.path(), 0, &segment(0..10));
    fs::write(dir.path().join("0001.growing.mutlog"), segment(10..12)).unwrap();
    continues(dir.path(), 12).await;
}

#[tokio::test]
async fn a_torn_last_day_is_cut_off_and_a_torn_day_before_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (first, last) = (segment(0..10), segment(10..15));
    let cut = segment(10..14).len() + 5;
    fs::write(dir.path().join("maintner-2024-01-01.mutlog"), &first).unwrap();
    fs::write(dir.path().join("maintner-2024-01-02.mutlog"), &last[..cut]).unwrap();
    continues(dir.path(), 14).await;

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("maintner-2024-01-01.mutlog"), &first[..first.len() - 1]).unwrap();
    fs::write(dir.path().join("maintner-2024-01-02.mutlog"), &last).unwrap();
    let refused = Log::open(dir.path(), small()).err().unwrap();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("maintner-2024-01-01.mutlog` ends inside the record at"), "{cause}");
    assert!(!dir.path().join("manifest.json").exists(), "nothing is changed when adopting fails");
}

#[tokio::test]
async fn a_gap_and_a_wrong_hash_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    frozen(dir.path(), 0, &segment(0..10));
    let name = frozen(dir.path(), 2, &segment(10..12));
    let refused = Log::open(dir.path(), small()).err().unwrap().to_string();
    assert!(refused.contains(&name) && refused.contains("is not segment 1"), "{refused}");

    let dir = tempfile::tempdir().unwrap();
    let name = frozen(dir.path(), 0, &segment(0..10));
    fs::write(dir.path().join(&name), segment(0..9)).unwrap();
    let refused = Log::open(dir.path(), small()).err().unwrap().to_string();
    assert!(refused.contains(&name) && refused.contains("its SHA-224 is"), "{refused}");
}

#[tokio::test]
async fn a_crash_while_freezing_is_completed() {
    for next_exists in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), small()).unwrap();
        for number in 0..100 {
            log.append(&[numbered(number, 0)]).await.unwrap();
        }
        let history = log.history();
        log.close().await;
        let growing = files(dir.path()).into_iter().find(|name| name.contains("growing")).unwrap();
        let number: u32 = growing[..4].parse().unwrap();
        let bytes = fs::read(dir.path().join(&growing)).unwrap();
        fs::remove_file(dir.path().join(&growing)).unwrap();
        frozen(dir.path(), number, &bytes);
        if next_exists {
            fs::write(dir.path().join(format!("{:04}.growing.mutlog", number + 1)), b"").unwrap();
        }
        let log = Log::open(dir.path(), small()).unwrap();
        assert_eq!(log.history(), history);
        assert_eq!(numbers(&log, 0), (0..100).collect::<Vec<_>>());
        log.close().await;
        assert_eq!(verify(dir.path()).unwrap().problems, vec![]);
    }
}
