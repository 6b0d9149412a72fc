//! The folder of a log that rests in a bucket: made a copy of it when the log is opened.

use std::{fs, io, path::Path};

use sha2::{Digest as _, Sha224};
use tracing::{info, warn};

use super::{
    OpenError, file,
    layout::{self, SegmentName},
    manifest::{Entry, Manifest, sync_dir},
    open::{adopt, mend_whole, write_manifest},
    remote::{self, Remote, Shared},
};

/// Becomes the leader of the log in the bucket, and makes the folder hold what the bucket does, no more and no less.
pub(super) fn of(dir: &Path, shared: &Shared) -> Result<Remote, OpenError> {
    let holder = remote::holder(dir).map_err(failed("name the holder of", dir))?;
    let is_new = remote::is_new(shared)?;
    let local = local_log(dir, is_new)?;
    if let (true, Some(local)) = (is_new, &local) {
        remote::bring(shared, &holder, local, |name| fs::read(file(dir, name))).map_err(|source| {
            OpenError::Bucket { what: format!("cannot bring the log into it: {source}") }
        })?;
    }
    let (remote, growing) = Remote::lead(shared, &holder, local.as_ref())?;
    let manifest = remote.manifest();
    for entry in &manifest.segments {
        fetch(dir, &remote, entry)?;
    }
    remove_others(dir, manifest)?;
    let name = SegmentName::Growing { number: manifest.segments.len() as u32 }.file_name();
    let path = file(dir, &name);
    let have = fs::read(&path).unwrap_or_default();
    if have != growing {
        if have.len() > growing.len() {
            warn!(
                "`{}` holds {} bytes that were never acknowledged: cut off",
                path.display(),
                have.len() - growing.len()
            );
        }
        place(dir, &name, &growing).map_err(failed("write", &path))?;
    }
    write_manifest(dir, manifest)?;
    Ok(remote)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}

/// What the folder holds already: a copy, or a log that is to be brought into the bucket, whole. One without any
/// mutation is none.
fn local_log(dir: &Path, is_new: bool) -> Result<Option<Manifest>, OpenError> {
    let manifest = match Manifest::read(dir)? {
        _ if is_new => mend_whole(dir)?,
        Some(manifest) => manifest,
        None if layout::list(dir)?.is_empty() => return Ok(None),
        None => adopt(dir)?,
    };
    let growing = SegmentName::Growing { number: manifest.segments.len() as u32 };
    let grown = fs::metadata(file(dir, &growing.file_name())).is_ok_and(|metadata| metadata.len() > 0);
    Ok(Some(manifest).filter(|manifest| grown || !manifest.segments.is_empty()))
}

/// A segment that is here with its size is taken as it is, as in every folder.
fn fetch(dir: &Path, remote: &Remote, entry: &Entry) -> Result<(), OpenError> {
    let path = file(dir, &entry.name);
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == entry.bytes) {
        return Ok(());
    }
    let bytes = remote.read(&entry.name)?;
    if hex::encode(Sha224::digest(&bytes)) != entry.sha224 {
        return Err(OpenError::Bucket {
            what: format!("`{}` holds something else than its name says", entry.name),
        });
    }
    place(dir, &entry.name, &bytes).map_err(failed("write", &path))?;
    info!("fetched segment `{}`, {} bytes", entry.name, entry.bytes);
    Ok(())
}

/// Segments that the bucket does not list were never acknowledged as such.
fn remove_others(dir: &Path, manifest: &Manifest) -> Result<(), OpenError> {
    let growing = SegmentName::Growing { number: manifest.segments.len() as u32 };
    for name in layout::list(dir)? {
        let text = name.file_name();
        if name != growing && !manifest.segments.iter().any(|entry| entry.name == text) {
            warn!("`{}` is not in the bucket: removed", file(dir, &text).display());
            fs::remove_file(file(dir, &text)).map_err(failed("remove", &file(dir, &text)))?;
        }
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn place(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = file(dir, "segment.new");
    fs::write(&temporary, bytes)?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, file(dir, name))?;
    sync_dir(dir)
}
