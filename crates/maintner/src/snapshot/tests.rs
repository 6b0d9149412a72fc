//! Tests of snapshots.

use std::fs;

use super::*;
use crate::{
    generate::{self, Layout, Scale},
    replay,
};

fn log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    generate::write(dir.path(), 11, Scale::TINY, Layout::Days).unwrap();
    // Two days: the first is frozen.
    let first = segment_files(dir.path()).unwrap().remove(0);
    let whole = fs::read(&first.path).unwrap();
    let mut frames = crate::log::record::Frames::new(&whole);
    let mut payloads = Vec::new();
    while let Some(payload) = frames.read().unwrap() {
        payloads.push(payload);
    }
    let half = payloads.len() / 2;
    let write = |name: &str, part: &[std::ops::Range<usize>]| {
        let mut out = Vec::new();
        for payload in part {
            let offset = out.len() as u64;
            crate::log::record::write_header(&mut out, offset, payload.len());
            out.extend_from_slice(&whole[payload.clone()]);
        }
        fs::write(dir.path().join(name), out).unwrap();
    };
    write("maintner-2015-01-01.mutlog", &payloads[..half]);
    write("maintner-2015-01-02.mutlog", &payloads[half..]);
    dir
}

fn frozen(corpus: &Corpus) -> Vec<(u32, Vec<u8>)> {
    let sections = corpus.freeze().unwrap();
    sections.iter().filter(|section| !section.is_index()).map(Frozen::to_bytes).collect()
}

#[test]
fn a_snapshot_and_what_comes_after_it_are_the_whole_log() {
    let dir = log();
    assert_eq!(write(dir.path()).unwrap(), 1);
    let (with, opened) = open(dir.path()).unwrap();
    let (without, replayed) = replay(dir.path()).unwrap();
    assert_eq!(opened.from_snapshot, 1);
    assert!(opened.replayed.mutations > 0 && opened.replayed.mutations < replayed.mutations);
    assert_eq!(with.check(), Vec::<String>::new());
    assert!(frozen(&with) == frozen(&without));
}

#[test]
fn a_snapshot_that_covers_all_is_not_written_again() {
    let dir = log();
    write(dir.path()).unwrap();
    let before = fs::metadata(dir.path().join(FILE)).unwrap().modified().unwrap();
    assert_eq!(write(dir.path()).unwrap(), 1);
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().modified().unwrap(), before);
}

#[test]
fn a_snapshot_that_is_damaged_anywhere_is_thrown_away() {
    let dir = log();
    write(dir.path()).unwrap();
    let path = dir.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    let (header, body) = read_header(&whole).unwrap();
    let start = whole.len() - body.len();
    // Nothing reads what is between the parts.
    let is_padding = |at: usize| {
        at >= start
            && !header.sections.iter().any(|one| (one.offset..one.offset + one.len).contains(&(at - start)))
    };
    let segments = segment_files(dir.path()).unwrap();
    let mut at = 0;
    while at < whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        assert_eq!(load(&path, &segments).is_err(), !is_padding(at), "byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert!(load(&path, &segments).is_err(), "cut at {at}");
        at += if at < 1000 { 7 } else { whole.len() / 61 };
    }
    fs::write(&path, &whole[..100]).unwrap();
    let (corpus, opened) = open(dir.path()).unwrap();
    assert_eq!(opened.from_snapshot, 0);
    assert!(frozen(&corpus) == frozen(&replay(dir.path()).unwrap().0));
}

#[test]
fn a_snapshot_of_another_log_is_thrown_away() {
    let (dir, other) = (log(), tempfile::tempdir().unwrap());
    write(dir.path()).unwrap();
    generate::write(other.path(), 12, Scale::TINY, Layout::Days).unwrap();
    fs::copy(dir.path().join(FILE), other.path().join(FILE)).unwrap();
    assert_eq!(open(other.path()).unwrap().1.from_snapshot, 0);
}
