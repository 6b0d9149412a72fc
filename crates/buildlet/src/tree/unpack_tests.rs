//! Archives that do harm, and ones that are merely odd.

use std::{fs, io::Write, os::unix::fs::MetadataExt};

use cap_std::ambient_authority;
use tar::{Builder, Header};

use super::*;

/// No bounds but of time.
const BOUNDS: Bounds = Bounds { now: 2_000_000_000, floor_bytes: 0, most_bytes: u64::MAX };

/// A folder to unpack into, with another beside it that must stay empty.
struct Place {
    temporary: tempfile::TempDir,
    into: Dir,
}

impl Place {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("in")).unwrap();
        fs::create_dir(temporary.path().join("out")).unwrap();
        let into = Dir::open_ambient_dir(temporary.path().join("in"), ambient_authority()).unwrap();
        Self { temporary, into }
    }

    fn unpack(&self, archive: &[u8]) -> Result<u64, UnpackError> {
        let result = unpack(archive, Format::Tar, &self.into, BOUNDS);
        let out = fs::read_dir(self.temporary.path().join("out")).unwrap().count();
        assert_eq!(out, 0, "it escaped");
        let beside = fs::read_dir(self.temporary.path()).unwrap().count();
        assert_eq!(beside, 2, "it escaped");
        result
    }

    fn refuses(&self, archive: &[u8]) {
        let error = self.unpack(archive).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(_)), "{error:?}");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.temporary.path().join("in").join(path)).unwrap()
    }
}

/// One entry: a kind, a name as it stands in the header, what it links to, and content.
fn entry(kind: EntryType, name: &str, link: &str, content: &str, mode: u32) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(EntryType::Regular, name, "", content, 0o644)
}

fn symlink(name: &str, target: &str) -> Vec<u8> {
    entry(EntryType::Symlink, name, target, "", 0o777)
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn files_folders_and_links_are_made() {
    let place = Place::new();
    let made = place.unpack(&archive(&[
        entry(EntryType::XGlobalHeader, "pax_global_header", "", "30 comment=0123456789abcdef01\n", 0o666),
        entry(EntryType::Directory, "./", "", "", 0o755),
        entry(EntryType::Directory, "a/", "", "", 0o755),
        entry(EntryType::Regular, "a/run", "", "#!/bin/sh\n", 0o755),
        file("deep/er/x", "x"),
        symlink("a/link", "run"),
        symlink("broken", "/does/not/exist"),
        entry(EntryType::Link, "a/hard", "a/run", "", 0o755),
    ]));
    assert_eq!(made.unwrap(), 6);
    assert_eq!(place.read("a/link"), "#!/bin/sh\n");
    let metadata = fs::metadata(place.temporary.path().join("in/a/hard")).unwrap();
    assert_eq!((metadata.mode() & 0o111, metadata.mtime(), metadata.nlink()), (0o111, 1_000_000_000, 2));
    assert_eq!(
        fs::read_link(place.temporary.path().join("in/broken")).unwrap(),
        Path::new("/does/not/exist")
    );
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["/etc/x", "../out/x", "a/../../out/x", ".."] {
        Place::new().refuses(&archive(&[file(name, "x")]));
    }
}

#[test]
fn links_that_lead_out_are_not_followed() {
    let place = Place::new();
    let out = place.temporary.path().join("out").display().to_string();
    for target in [out.as_str(), "../out", "a/../../out"] {
        let place = Place::new();
        place.refuses(&archive(&[file("a/b", ""), symlink("l", target), file("l/x", "x")]));
    }
    place.refuses(&archive(&[symlink("l", &out), entry(EntryType::Directory, "l/d", "", "", 0o755)]));
    Place::new().refuses(&archive(&[symlink("l", ".."), symlink("m", "l/out"), file("m/x", "x")]));
}

#[test]
fn a_file_replaces_a_link_and_does_not_write_through_it() {
    let place = Place::new();
    let target = place.temporary.path().join("out/x").display().to_string();
    place.unpack(&archive(&[symlink("x", &target), file("x", "mine")])).unwrap();
    assert_eq!(place.read("x"), "mine");
    place
        .unpack(&archive(&[symlink("d", "../out"), entry(EntryType::Directory, "d", "", "", 0o755)]))
        .unwrap();
    assert!(place.temporary.path().join("in/d").symlink_metadata().unwrap().is_dir());
    // What comes after goes into the folder, though the link led to another one before.
    place
        .unpack(&archive(&[
            file("e/x", "e"),
            symlink("l", "e"),
            file("l/y", "through the link"),
            entry(EntryType::Directory, "l", "", "", 0o755),
            file("l/z", "in the folder"),
        ]))
        .unwrap();
    assert_eq!(
        (place.read("e/y").as_str(), place.read("l/z").as_str()),
        ("through the link", "in the folder")
    );
    assert!(!place.temporary.path().join("in/e/z").exists());
}

#[test]
fn hard_links_lead_nowhere_outside() {
    let place = Place::new();
    let secret = place.temporary.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    for target in [secret.to_str().unwrap(), "../secret", "no/such"] {
        let archive = archive(&[entry(EntryType::Link, "x", target, "", 0o644)]);
        let error = unpack(archive.as_slice(), Format::Tar, &place.into, BOUNDS).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(_)), "{error:?}");
    }
    assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
    fs::remove_file(secret).unwrap();
    // A hard link to a symbolic link is that link again, not what it names.
    place.refuses(&archive(&[
        symlink("l", "../out"),
        entry(EntryType::Link, "m", "l", "", 0o644),
        file("m/x", "x"),
    ]));
}

#[test]
fn devices_and_pipes_are_refused() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        Place::new().refuses(&archive(&[entry(kind, "x", "", "", 0o644)]));
    }
}

#[test]
fn what_is_no_archive_or_is_cut_short_is_refused() {
    Place::new().refuses(&[b'x'; 2048]);
    let whole = archive(&[file("x", &"y".repeat(5000))]);
    Place::new().refuses(&whole[..2048]);
    for format in [Format::TarGz, Format::TarZst] {
        let error = unpack(whole.as_slice(), format, &Place::new().into, BOUNDS).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(_)), "{error:?}");
    }
}

#[test]
fn folders_not_for_writing_are_filled_first() {
    let place = Place::new();
    place
        .unpack(&archive(&[
            entry(EntryType::Directory, "ro", "", "", 0o555),
            entry(EntryType::Directory, "ro/in", "", "", 0o555),
            entry(EntryType::Regular, "ro/in/x", "", "x", 0o444),
        ]))
        .unwrap();
    let mode =
        |path: &str| fs::metadata(place.temporary.path().join("in").join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("ro"), mode("ro/in"), mode("ro/in/x")), (0o555, 0o555, 0o444));
}

#[test]
fn long_names_and_several_gzip_members_are_read() {
    let place = Place::new();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(150));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    builder.append_data(&mut header, &long, b"hi".as_slice()).unwrap();
    let bytes = builder.into_inner().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (first, second) = bytes.split_at(700);
    let members = [gzip(first), gzip(second)].concat();
    assert_eq!(unpack(members.as_slice(), Format::TarGz, &place.into, BOUNDS).unwrap(), 1);
    assert_eq!(place.read(&long), "hi");
}

#[test]
fn formats_are_told_by_the_ending() {
    assert_eq!(Format::of_path("/a/b.tar.gz"), Some(Format::TarGz));
    assert_eq!(Format::of_path("/a/b.tar"), Some(Format::Tar));
    assert_eq!(Format::of_path("/a/b.tar.zst"), Some(Format::TarZst));
    assert_eq!(Format::of_path("/a/b.zip"), None);
}

#[test]
fn a_file_that_is_larger_than_a_batch_is_whole() {
    let place = Place::new();
    let large = "0123456789abcdef".repeat(100_000);
    assert_eq!(place.unpack(&archive(&[file("a/large", &large), file("a/small", "s")])).unwrap(), 2);
    assert!(place.read("a/large") == large);
    assert_eq!(place.read("a/small"), "s");
    let metadata = fs::metadata(place.temporary.path().join("in/a/large")).unwrap();
    assert_eq!(metadata.mtime(), 1_000_000_000);
}

#[test]
fn a_bomb_ends_at_what_may_be_written() {
    let full = |packed: &[u8], bounds| {
        let place = Place::new();
        let error = unpack(packed, Format::TarGz, &place.into, bounds).unwrap_err();
        assert!(
            matches!(&error, UnpackError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error:?}"
        );
        fs::read_dir(place.temporary.path().join("in")).unwrap().count()
    };
    // Ten gigabytes, of which the archive has as much as anybody cares to read.
    let mut header = Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(10 << 30);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_cksum();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(header.as_bytes()).unwrap();
    packer.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = packer.finish().unwrap();
    assert!(bomb.len() < 1 << 20);
    assert_eq!(full(&bomb, Bounds { most_bytes: 4 << 20, ..BOUNDS }), 1);
    assert_eq!(full(&bomb, Bounds { floor_bytes: u64::MAX, ..BOUNDS }), 0);
}
