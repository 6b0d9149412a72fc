//! Opening: taking the folder, adopting what lies there, completing what a crash cut short.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use sha2::Digest as _;
use tracing::{info, warn};

use super::{
    OpenError, RecordError, copy, file,
    index::{Scan, scan},
    layout::{self, LOCK, SegmentName},
    manifest::{Manifest, sync_dir},
    remote::{Remote, Shared},
    state::{Segment, SegmentDigest},
    writer::{Growing, create},
};

/// A log that is ready for its writer.
pub(super) struct Opened {
    pub(super) manifest: Manifest,
    /// The growing one is the last.
    pub(super) segments: Vec<Segment>,
    pub(super) growing: Growing,
    pub(super) lock: File,
    /// The bucket that the log rests in, if it does.
    pub(super) remote: Option<Remote>,
}

pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let lock = take(dir)?;
    open_folder(dir, lock, None)
}

/// Opens the log in a bucket: becomes its leader, and makes the folder a copy of it.
pub(super) fn open_shared(dir: &Path, shared: &Shared) -> Result<Opened, OpenError> {
    let lock = take(dir)?;
    let remote = copy::of(dir, shared)?;
    open_folder(dir, lock, Some(remote))
}

fn open_folder(dir: &Path, lock: File, remote: Option<Remote>) -> Result<Opened, OpenError> {
    let manifest = mend(dir)?;
    let mut segments = frozen_segments(dir, &manifest)?;
    let first = segments.last().map_or(0, Segment::end);
    let (growing, segment) = open_growing(dir, manifest.segments.len() as u32, first)?;
    segments.push(segment);
    Ok(Opened { manifest, segments, growing, lock, remote })
}

/// Adopts what has no manifest, and completes what a crash cut short; but for the tail of the growing segment.
fn mend(dir: &Path) -> Result<Manifest, OpenError> {
    let mut manifest = match Manifest::read(dir)? {
        Some(manifest) => manifest,
        None => adopt(dir)?,
    };
    complete_freezing(dir, &mut manifest)?;
    check_names(dir, &manifest)?;
    Ok(manifest)
}

/// As a writer would find it: whole, to its last record.
pub(super) fn mend_whole(dir: &Path) -> Result<Manifest, OpenError> {
    let manifest = mend(dir)?;
    open_growing(dir, manifest.segments.len() as u32, 0)?;
    Ok(manifest)
}

/// Locks the folder for this process. The lock goes with the process, however it ends.
fn take(dir: &Path) -> Result<File, OpenError> {
    fs::create_dir_all(dir).map_err(|source| OpenError::Io { action: "create", path: dir.into(), source })?;
    let path = file(dir, LOCK);
    let io = |action| {
        let path = path.clone();
        move |source| OpenError::Io { action, path, source }
    };
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io("open"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = lock.read_to_string(&mut process); // only for the message
            return Err(OpenError::Locked { dir: dir.into(), process: process.trim().into() });
        }
        Err(TryLockError::Error(source)) => return Err(io("lock")(source)),
    }
    lock.set_len(0).map_err(io("write"))?;
    writeln!(lock, "{}", std::process::id()).map_err(io("write"))?;
    Ok(lock)
}

/// Begins a history with what lies in a folder without a manifest: a log of Go's maintner, or nothing.
pub(super) fn adopt(dir: &Path) -> Result<Manifest, OpenError> {
    let names = layout::adopt(dir, &layout::list(dir)?)?;
    let mut manifest = Manifest::new();
    let mut mutations = 0;
    for (at, name) in names.iter().enumerate() {
        if matches!(name, SegmentName::Growing { .. }) {
            break;
        }
        let last = at + 1 == names.len() && matches!(name, SegmentName::Daily(_));
        mutations += adopt_segment(dir, name, last, &mut manifest)?;
    }
    if !names.is_empty() {
        info!("adopted {} segments with {mutations} mutations in `{}`", names.len(), dir.display());
    }
    write_manifest(dir, &manifest)?;
    Ok(manifest)
}

/// Reads a segment whole and adds it to the manifest. Go's maintner may have died while writing the last day.
fn adopt_segment(
    dir: &Path,
    name: &SegmentName,
    may_be_torn: bool,
    manifest: &mut Manifest,
) -> Result<u64, OpenError> {
    let path = file(dir, &name.file_name());
    let opened = OpenOptions::new()
        .read(true)
        .write(may_be_torn)
        .open(&path)
        .map_err(|source| OpenError::Io { action: "open", path: path.clone(), source })?;
    let scan = scan_whole(&Arc::new(opened), &path, may_be_torn)?;
    let digest = scan.hasher.finalize().into();
    if let SegmentName::Frozen { digest: named, .. } = name
        && *named != digest
    {
        let what = format!("holds something else than its name says: its SHA-224 is {}", hex::encode(digest));
        return Err(OpenError::Segment { path, what });
    }
    manifest.push(name, scan.bytes, scan.mutations, &digest);
    Ok(scan.mutations)
}

/// Reads a segment to its end. A torn final record is cut off where that may be, and all else that is wrong is said.
fn scan_whole(opened: &Arc<File>, path: &Path, may_be_torn: bool) -> Result<Scan, OpenError> {
    let io = |action| move |source| OpenError::Io { action, path: path.into(), source };
    let len = opened.metadata().map_err(io("look at"))?.len();
    let mut scan = scan(Arc::clone(opened), path, len, |_, _| ());
    match scan.error.take() {
        None => {}
        Some(RecordError::Torn { offset, .. }) if may_be_torn => {
            warn!(
                "`{}` ends inside a record: the last {} bytes, from {offset} on, are cut off; nothing that was \
                 acknowledged is lost",
                path.display(),
                len - offset
            );
            opened.set_len(offset).map_err(io("truncate"))?;
            opened.sync_all().map_err(io("sync"))?;
        }
        Some(error) => return Err(error.into()),
    }
    Ok(scan)
}

/// A crash between renaming a full segment and writing the manifest leaves a frozen segment that is not listed.
fn complete_freezing(dir: &Path, manifest: &mut Manifest) -> Result<(), OpenError> {
    let names = layout::list(dir)?;
    let listed = manifest.segments.len();
    loop {
        let next = manifest.segments.len() as u32;
        let frozen =
            |name: &&SegmentName| matches!(name, SegmentName::Frozen { number, .. } if *number == next);
        let Some(name) = names.iter().find(frozen) else { break };
        adopt_segment(dir, name, false, manifest)?;
    }
    if manifest.segments.len() > listed {
        info!("segment {listed} of the mutation log was frozen, but not listed: done now");
        write_manifest(dir, manifest)?;
    }
    Ok(())
}

/// Every file that looks like a segment must be one of this log: a stray one is a mistake that nobody would notice.
fn check_names(dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let growing = SegmentName::Growing { number: manifest.segments.len() as u32 };
    for name in layout::list(dir)? {
        let text = name.file_name();
        if name != growing && !manifest.segments.iter().any(|entry| entry.name == text) {
            let what = "is no segment of this log: move it away, or bring back the manifest it belongs to";
            return Err(OpenError::Segment { path: file(dir, &text), what: what.into() });
        }
    }
    Ok(())
}

/// Their hashes were checked when they were written, and `verify` checks them again: here only that they are there.
fn frozen_segments(dir: &Path, manifest: &Manifest) -> Result<Vec<Segment>, OpenError> {
    let mut segments: Vec<Segment> = Vec::with_capacity(manifest.segments.len() + 1);
    for entry in &manifest.segments {
        let path = file(dir, &entry.name);
        let len = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::Segment {
                    path,
                    what: "is missing: bring it back from a backup".into(),
                });
            }
            Err(source) => return Err(OpenError::Io { action: "look at", path, source }),
        };
        if len != entry.bytes {
            let what = format!("has {len} bytes, and {} are in the manifest", entry.bytes);
            return Err(OpenError::Segment { path, what });
        }
        let first = segments.last().map_or(0, Segment::end);
        let (mutations, bytes) = (entry.mutations, entry.bytes);
        let digest = SegmentDigest::Frozen(
            entry.digest().map_err(|what| OpenError::Manifest { path: file(dir, layout::MANIFEST), what })?,
        );
        segments.push(Segment { path, first, mutations, bytes, digest, file: None, index: None });
    }
    Ok(segments)
}

fn open_growing(dir: &Path, number: u32, first: u64) -> Result<(Growing, Segment), OpenError> {
    let path = file(dir, &SegmentName::Growing { number }.file_name());
    let io = |action| {
        let path = path.clone();
        move |source| OpenError::Io { action, path, source }
    };
    let opened = Arc::new(create(&path).map_err(io("open"))?);
    let scan = scan_whole(&opened, &path, true)?;
    // What the last process wrote but did not sync is shown from now on, so it must be durable now.
    opened.sync_all().map_err(io("sync"))?;
    sync_dir(dir).map_err(io("sync the folder of"))?;
    let growing = Growing { file: Arc::clone(&opened), number, bytes: scan.bytes, hasher: scan.hasher };
    let (mutations, bytes) = (scan.mutations, scan.bytes);
    let digest = SegmentDigest::Growing(growing.hasher.clone());
    let segment =
        Segment { path, first, mutations, bytes, digest, file: Some(opened), index: Some(scan.index) };
    Ok((growing, segment))
}

pub(super) fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    manifest.write(dir).map_err(|source| OpenError::Io {
        action: "write the manifest of",
        path: dir.into(),
        source,
    })
}
