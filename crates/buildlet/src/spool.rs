//! The output of one exec, on disk until the coordinator has it safe.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};
use types::ExecId;

use crate::platform;

/// Space is given back in steps of this size: smaller ones cost more than they bring.
const STEP: u64 = 1 << 20;

/// A spool file. Offsets in it are those of the output, also when its beginning has been given back. It is open only
/// while somebody reads: a lease may have more execs than a process may have files.
#[derive(Debug)]
pub(crate) struct Spool {
    path: PathBuf,
    /// Output before this is safe elsewhere.
    acknowledged: AtomicU64,
    /// Disk space before this was given back.
    freed: AtomicU64,
}

impl Spool {
    /// A new, empty spool. Also gives the file that output is written to.
    pub(crate) fn create(folder: &Path, exec: ExecId) -> io::Result<(Self, File)> {
        let path = folder.join(exec.to_string());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = platform::with_mode(&mut options, 0o600).open(&path)?;
        Ok((Self::of(path, 0), file))
    }

    /// The spool of an exec that an earlier buildlet ran, of which some may be gone.
    pub(crate) fn reopen(folder: &Path, exec: ExecId, freed: u64) -> Self {
        Self::of(folder.join(exec.to_string()), freed)
    }

    fn of(path: PathBuf, freed: u64) -> Self {
        Self { path, acknowledged: freed.into(), freed: freed.into() }
    }

    /// Bytes in it, those that are gone included.
    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    /// The first byte that may still be read.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// The first byte whose disk space was not given back.
    pub(crate) fn freed(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }

    /// The file, for a reader that may outlive the spool.
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Notes that output before an offset is safe elsewhere. Returns the offset before which disk space may be given
    /// back now, if that is worth while.
    pub(crate) fn acknowledge(&self, offset: u64) -> Option<u64> {
        self.acknowledged.fetch_max(offset, Ordering::Relaxed);
        let until = offset / STEP * STEP;
        (self.freed.fetch_max(until, Ordering::Relaxed) < until).then_some(until)
    }

    /// Gives disk space back. A file system that cannot keeps it until the lease ends.
    pub(crate) fn free(&self, until: u64) {
        if let Err(error) = platform::give_back(&self.path, until) {
            tracing::debug!("cannot give space of `{}` back: {error}", self.path.display());
        }
    }

    /// Removes the file; readers that have it go on.
    pub(crate) fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove `{}`: {error}", self.path.display());
        }
    }
}

/// Reads a piece of a spool.
pub(crate) fn read(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = BytesMut::zeroed(length);
    platform::read_exact_at(file, &mut bytes, offset)?;
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_acknowledged_is_given_back_in_steps_and_offsets_stay() {
        let folder = tempfile::tempdir().unwrap();
        let exec = ExecId(uuid::Uuid::from_u128(7));
        let (spool, mut writer) = Spool::create(folder.path(), exec).unwrap();
        let content: Vec<u8> = (0..3 * STEP).map(|at| (at % 251) as u8).collect();
        writer.write_all(&content).unwrap();
        assert_eq!(spool.acknowledge(STEP - 1), None);
        assert_eq!(spool.acknowledge(2 * STEP + 5), Some(2 * STEP));
        assert_eq!(spool.acknowledge(2 * STEP), None);
        spool.free(2 * STEP);
        assert_eq!(spool.acknowledged(), 2 * STEP + 5);
        assert_eq!(spool.length().unwrap(), 3 * STEP);
        let rest = read(&spool.open().unwrap(), 2 * STEP, STEP as usize).unwrap();
        assert_eq!(rest, content[2 * STEP as usize..]);
        drop(spool);
        assert_eq!(Spool::reopen(folder.path(), exec, 2 * STEP).acknowledged(), 2 * STEP);
    }
}
