//! Every byte of a log is flipped, and it is cut at every byte: whatever is said, it is said by name, and what came
//! before is as it was.

use std::{error::Error as _, fs, path::Path};

use maintner::{
    Log,
    log::{OpenError, RecordError, record::RecordReader, record::write_header, verify},
};

use crate::{log::files, numbered, numbers, small};

/// A log of two frozen segments and one that grows, closed.
async fn some(dir: &Path) {
    let log = Log::open(dir, small()).unwrap();
    for number in 0..75 {
        log.append(&[numbered(number, 10)]).await.unwrap();
    }
    log.close().await;
}

/// The payloads that can be read of a file, and what ended it.
fn read(path: &Path) -> (Vec<Vec<u8>>, Option<RecordError>) {
    let file = fs::File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let mut reader = RecordReader::new(file.into(), path, 0, len);
    let mut payloads = Vec::new();
    loop {
        match reader.read() {
            Ok(Some(payload)) => payloads.push(payload.to_vec()),
            Ok(None) => return (payloads, None),
            Err(error) => return (payloads, Some(error)),
        }
    }
}

fn error_chain(error: &OpenError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn every_flipped_byte_of_every_frozen_file_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    some(dir.path()).await;
    for name in files(dir.path()).into_iter().filter(|name| name != "lock" && !name.contains("growing")) {
        let path = dir.path().join(&name);
        let good = fs::read(&path).unwrap();
        // The manifest is text that is read by meaning, so there each bit is another case.
        let bits = if name == "manifest.json" { 0..8 } else { 0..1 };
        for (at, bit) in (0..good.len()).flat_map(|at| bits.clone().map(move |bit| (at, bit))) {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            fs::write(&path, &bad).unwrap();
            let named = match verify(dir.path()) {
                Ok(report) => report.problems.iter().any(|problem| problem.path == path),
                Err(error) => error_chain(&error).contains(&name),
            };
            // In the manifest a name or number may have become another file's: then that one is named.
            let found = named
                || name == "manifest.json"
                    && !verify(dir.path()).is_ok_and(|report| report.problems.is_empty());
            assert!(found, "bit {bit} of byte {at} of `{name}` is another, and nobody says so");
        }
        fs::write(&path, &good).unwrap();
    }
    assert_eq!(verify(dir.path()).unwrap().problems, vec![]);
}

#[tokio::test]
async fn every_flipped_byte_of_the_growing_file_leaves_what_came_before_and_is_named_if_it_ends_reading() {
    let dir = tempfile::tempdir().unwrap();
    some(dir.path()).await;
    let name = files(dir.path()).into_iter().find(|name| name.contains("growing")).unwrap();
    let path = dir.path().join(name);
    let good = fs::read(&path).unwrap();
    let (payloads, error) = read(&path);
    assert!(error.is_none() && payloads.len() > 3, "{error:?}");
    let mut ends = vec![0];
    for payload in &payloads {
        let mut header = Vec::new();
        let begin = ends[ends.len() - 1];
        write_header(&mut header, begin as u64, payload.len());
        ends.push(begin + header.len() + payload.len());
    }
    for at in 0..good.len() {
        for bit in [0x01, 0x10, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            fs::write(&path, &bad).unwrap();
            let whole = ends.iter().rposition(|end| *end <= at).unwrap();
            let (found, error) = read(&path);
            assert!(found.len() >= whole, "byte {at} took what came before it");
            assert_eq!(found[..whole], payloads[..whole]);
            match error {
                None => {}
                Some(RecordError::Torn { offset, .. } | RecordError::Corrupt { offset, .. }) => {
                    assert!(offset >= ends[whole] as u64, "byte {at} is not at {offset}");
                }
                Some(other) => panic!("{other}"),
            }
        }
    }
}

#[tokio::test]
async fn a_log_cut_at_any_byte_opens_with_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    some(dir.path()).await;
    let name = files(dir.path()).into_iter().find(|name| name.contains("growing")).unwrap();
    let path = dir.path().join(name);
    let good = fs::read(&path).unwrap();
    let before = 75 - read(&path).0.len() as u64;
    // Every byte of the last two records, and then every seventh.
    for cut in (0..good.len()).filter(|cut| good.len() - cut < 90 || cut % 7 == 0) {
        fs::write(&path, &good[..cut]).unwrap();
        let whole = before + read(&path).0.len() as u64;
        let log = Log::open(dir.path(), small()).unwrap();
        assert_eq!(numbers(&log, 0), (0..whole).collect::<Vec<_>>(), "cut at {cut}");
        log.close().await;
    }
}

#[test]
fn a_record_larger_than_any_mutation_may_be_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("maintner-2024-01-01.mutlog");
    let mut bytes = Vec::new();
    write_header(&mut bytes, 0, 100 << 20);
    bytes.resize(bytes.len() + (100 << 20), b'x');
    fs::write(&path, &bytes).unwrap();
    let refused = error_chain(&Log::open(dir.path(), small()).err().unwrap());
    assert!(
        refused.contains("maintner-2024-01-01.mutlog") && refused.contains("larger than any"),
        "{refused}"
    );
    assert_eq!(fs::metadata(&path).unwrap().len(), bytes.len() as u64, "it was changed");
    assert!(!dir.path().join("manifest.json").exists());
    let problems = verify(dir.path()).unwrap().problems;
    assert_eq!((problems.len(), problems[0].offset), (1, Some(0)), "{problems:?}");
}
