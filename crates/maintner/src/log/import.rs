//! Copies a log that somebody else wrote into a folder of its own.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    Log, OpenError, Options, Report,
    layout::{self, SegmentName},
    verify,
};

/// A log that was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder to import to is in use.
    #[error("`{}` is not empty: import into a new folder", .0.display())]
    NotEmpty(PathBuf),
    /// There is nothing to import.
    #[error("`{}` holds no log: no `maintner-*.mutlog` and no `NNNN.*.mutlog`", .0.display())]
    Nothing(PathBuf),
    /// The log is damaged, or one of the folders cannot be used.
    #[error("cannot import the log")]
    Open(#[from] OpenError),
}

/// Copies the segments in `from`, which Go's maintner or we wrote, to the new folder `to`, adopts them as a log with a
/// history of its own, and checks every record of it. `from` is only read. Blocks on the disk.
///
/// # Errors
/// [`ImportError`]. What was copied by then is left for a look; the folder is no log unless all of it was adopted.
pub fn import(from: &Path, to: &Path) -> Result<Report, ImportError> {
    let names = layout::list(from)?;
    if names.is_empty() {
        return Err(ImportError::Nothing(from.into()));
    }
    layout::adopt(from, &names)?;
    let io = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { action, path, source }
    };
    fs::create_dir_all(to).map_err(io("create", to))?;
    if fs::read_dir(to).map_err(io("list", to))?.next().is_some() {
        return Err(ImportError::NotEmpty(to.into()));
    }
    for name in &names {
        copy(from, to, name).map_err(io("copy", &from.join(name.file_name())))?;
    }
    drop(Log::open(to, Options::default())?);
    Ok(verify(to)?)
}

fn copy(from: &Path, to: &Path, name: &SegmentName) -> io::Result<()> {
    let name = name.file_name();
    let mut source = File::open(from.join(&name))?;
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to.join(&name))?;
    io::copy(&mut source, &mut copy)?;
    copy.sync_all()
}
