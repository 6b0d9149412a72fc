//! What reaches a buildlet from the network or in an archive, changed at random: whatever it is, there is an answer, and
//! nothing is written where it must not be.

use std::{ffi::OsString, path::PathBuf};

use api::buildlet as wire;
use cap_std::{ambient_authority, fs::Dir};
use prost::Message as _;
use testkit::fuzz;

use crate::{
    enroll::TokenFile,
    fetch::Archive,
    folder::RelativePath,
    golang,
    grpc::checked,
    journal::Journal,
    keeper::ToWarden,
    names,
    tree::{self, Bounds, Format, UnpackError, unpack},
};

/// Where inputs that fail are kept.
fn kept() -> PathBuf {
    std::env::temp_dir()
}

/// Archives as people and programs make them, and some that are made to do harm.
fn archives() -> Vec<Vec<u8>> {
    use tar::EntryType::{Directory, Fifo, Link, Regular, Symlink, XGlobalHeader, XHeader};
    let kinds = [
        vec![
            (Directory, "a", ""),
            (Regular, "a/b", ""),
            (Regular, "a/c", ""),
            (Symlink, "a/l", "b"),
            (Link, "h", "a/b"),
        ],
        vec![(Symlink, "up", ".."), (Regular, "up/escaped", ""), (Link, "hard", "up/x")],
        vec![(Regular, "../escaped", ""), (Regular, "/escaped", ""), (Fifo, "pipe", "")],
        vec![(XGlobalHeader, "pax", ""), (XHeader, "pax", ""), (Regular, "x", "")],
        vec![
            (Regular, "f", ""),
            (Directory, "f", ""),
            (Regular, "f/g", ""),
            (Symlink, "f", "/"),
            (Regular, "f/h", ""),
        ],
    ];
    kinds.iter().map(|entries| archive(entries)).collect()
}

fn archive(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link) in entries {
        let content: &[u8] = match kind {
            tar::EntryType::Regular => b"some content of a file",
            tar::EntryType::XHeader | tar::EntryType::XGlobalHeader => b"19 path=dir/other\n",
            _ => b"",
        };
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Makes the sums of what looks like headers right: else nearly all that was changed would end there.
fn mend(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn archives_never_write_outside_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    let around = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
    around.write("x", "not to be touched").unwrap();
    let bounds = Bounds { now: 1 << 31, floor_bytes: 0, most_bytes: 16 << 20 };
    let plain = archives();
    let packed = plain.iter().flat_map(|tar| [gzip(tar), zstd::encode_all(tar.as_slice(), 1).unwrap()]);
    let examples: Vec<_> = plain.iter().cloned().chain(packed).collect();
    let mut turn = 0_u32;
    fuzz("archives", &kept(), &examples, |input| {
        turn = turn.wrapping_add(1);
        let mut input = input.to_vec();
        if turn.is_multiple_of(2) {
            mend(&mut input);
        }
        let format = match input.first() {
            Some(0x1f) => Format::TarGz,
            Some(0x28) => Format::TarZst,
            _ => Format::Tar,
        };
        around.create_dir("into").unwrap();
        let into = around.open_dir("into").unwrap();
        match unpack(input.as_slice(), format, &into, bounds) {
            // A name that is too long, a link to a folder: the disk's own errors, named.
            Ok(_) | Err(UnpackError::Archive(_) | UnpackError::Write { .. }) => {}
            Err(UnpackError::BrokenOff) => panic!("all of it came"),
        }
        tree::empty(&into, &[]).unwrap();
        around.remove_dir("into").unwrap();
        let mut left: Vec<_> = around.entries().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(
            (left, around.read_to_string("x").unwrap().as_str()),
            (vec!["x".into()], "not to be touched")
        );
    });
}

#[test]
fn requests_are_taken_or_refused() {
    let lease = Some(wire::Lease { id: uuid::Uuid::from_u128(1).to_string(), fence: 7 });
    let start = wire::StartExecRequest {
        lease,
        exec_id: uuid::Uuid::from_u128(2).to_string(),
        argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
        environment: vec![wire::EnvironmentVariable { name: "A".to_owned(), value: "b".to_owned() }],
        folder: "src/sub".to_owned(),
        timeout: Some(prost_types::Duration { seconds: 5, nanos: 7 }),
        terminal: Some(wire::Terminal { rows: 24, columns: 80 }),
        ..Default::default()
    };
    let texts = ["../a/./b//c", "C:\\x", "https://h:1/a/b.tar.gz?x=1", "com1.txt", "/etc/passwd"];
    let examples: Vec<_> =
        texts.iter().map(|text| text.as_bytes().to_vec()).chain([start.encode_to_vec()]).collect();
    fuzz("requests", &kept(), &examples, |input| {
        if let Ok(request) = wire::StartExecRequest::decode(input) {
            let _ = checked(request);
        }
        let text = String::from_utf8_lossy(input);
        if let Ok(path) = RelativePath::parse(&text) {
            let inside = path
                .as_path()
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
            assert!(inside, "{path:?}");
        }
        if names::check(&text).is_ok() {
            assert!(!text.contains(['\\', ':']) && !text.ends_with(['.', ' ']), "{text:?}");
        }
        let _ = Archive::parse(&text);
    });
}

#[test]
fn files_and_command_lines_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let id = uuid::Uuid::from_u128(1);
    let examples = [
        format!("{{\"Exec\":{{\"id\":\"{id}\",\"pid\":7}}}}\n\"Released\"\n").into_bytes(),
        b"# token\nsecret\n-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n".to_vec(),
        b"buildlet\n-coordinator=h:1\n-reverse-type=host-foo\n-reboot=false".to_vec(),
        serde_json::to_vec(&ToWarden::Signal { number: 9 }).unwrap(),
    ];
    fuzz("files", &kept(), &examples, |input| {
        std::fs::write(&journal, input).unwrap();
        // What is no text is an error, not another past.
        let _ = Journal::open(folder.path());
        let _ = serde_json::from_slice::<ToWarden>(input);
        let text = String::from_utf8_lossy(input);
        let _ = TokenFile::parse(&text);
        let around = golang::Surroundings {
            variable: &|name| (name == "HOME").then(|| "/h".to_owned()),
            exists: &|_| true,
        };
        let _ = golang::translate(text.lines().map(OsString::from).collect(), &around);
    });
}
