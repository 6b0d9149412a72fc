//! What all systems of the Unix family answer in the same way.

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use cap_std::fs::{Dir, MetadataExt as _, PermissionsExt as _};
use rustix::{
    fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, fstatvfs, futimens, openat, statvfs, unlinkat},
    io::Errno,
    process::{Pid, Signal, geteuid, kill_process, umask},
};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use std::os::fd::{AsFd as AsHandle, OwnedFd as Handle};

/// Where programs are looked for if the buildlet itself has no PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Variables that name the home folder.
pub(crate) const HOME_VARIABLES: &[&str] = &["HOME"];
/// Variables that name the folder for temporary files.
pub(crate) const TMP_VARIABLES: &[&str] = &["TMPDIR"];
/// Variables of the machine that no program can do without.
pub(crate) const NEEDED_VARIABLES: &[&str] = &[];
/// The shell that programs start.
pub(crate) const SHELL: Option<&str> = Some("/bin/sh");
/// What a name may lack to name a program.
pub(crate) const PROGRAM_ENDINGS: &[&str] = &[""];

/// Has a file that is made get a mode.
pub(crate) fn with_mode(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    options.mode(mode)
}

/// Makes a folder, and those above it, for this user only.
pub(crate) fn make_private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Has files be made as builds expect them, whatever the machine's owner is used to.
pub(crate) fn make_files_as_usual() {
    umask(Mode::from_raw_mode(0o022));
}

/// A path as programs like it; here every path is.
pub(crate) fn plain_path(path: PathBuf) -> PathBuf {
    path
}

/// A name in an archive as one of a file.
#[expect(clippy::unnecessary_wraps, reason = "not every system takes every name")]
pub(crate) fn file_name(bytes: &[u8]) -> Result<OsString, &'static str> {
    Ok(OsStr::from_bytes(bytes).to_owned())
}

/// Where a link in an archive leads.
#[expect(clippy::unnecessary_wraps, reason = "not every system takes every name")]
pub(crate) fn link_target(bytes: Vec<u8>) -> Option<OsString> {
    Some(OsString::from_vec(bytes))
}

/// Bytes that builds may still use on the file system of a folder.
pub(crate) fn free_bytes(folder: impl AsHandle) -> io::Result<u64> {
    let status = fstatvfs(folder)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// The same for a path.
pub(crate) fn free_bytes_at(folder: &Path) -> io::Result<u64> {
    let status = statvfs(folder)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Fills a buffer from a place in a file.
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(buffer, offset)
}

/// Makes a file that was not there. What lay in its place is removed, not followed.
pub(crate) fn new_file(parent: &Dir, name: &OsStr, mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode as _);
    let made = match openat(parent, name, flags, mode) {
        Err(Errno::EXIST) => {
            unlinkat(parent, name, AtFlags::empty()).and_then(|()| openat(parent, name, flags, mode))
        }
        made => made,
    };
    Ok(made?.into())
}

/// Says when a file was changed last, in seconds since 1970.
pub(crate) fn set_modified(file: &File, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds as _, tv_nsec: 0 };
    Ok(futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

/// Makes a symbolic link.
pub(crate) fn symlink(parent: &Dir, target: &OsStr, name: &OsStr) -> io::Result<()> {
    parent.symlink_contents(target, name)
}

/// Sets the mode of what lies below a folder.
pub(crate) fn set_mode(dir: &Dir, path: &Path, mode: u32) -> io::Result<()> {
    dir.set_permissions(path, cap_std::fs::Permissions::from_mode(mode))
}

/// The lower nine bits of a mode.
pub(crate) fn mode(metadata: &cap_std::fs::Metadata) -> u32 {
    metadata.mode() & 0o777
}

/// When something was changed last: seconds since 1970, and nanoseconds.
pub(crate) fn modified(metadata: &cap_std::fs::Metadata) -> (i64, i32) {
    (metadata.mtime(), metadata.mtime_nsec() as i32)
}

/// Bytes on disk.
pub(crate) fn bytes_on_disk(metadata: &cap_std::fs::Metadata) -> u64 {
    metadata.blocks() * 512
}

/// Whether a signal has this number.
pub(crate) fn is_signal(number: i32) -> bool {
    Signal::from_named_raw(number).is_some()
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether others than its owner may use a file.
pub(crate) fn is_open_to_others(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o077 != 0
}

/// Whether a file belongs to the user of this process.
pub(crate) fn is_ours(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == geteuid().as_raw()
}

/// Whether a file is one that this process can run.
pub(crate) fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Whether this process may write to what is there.
pub(crate) fn is_writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// The machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn send(pid: u32, signal: Signal) {
    // It may have ended by itself.
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// Asks a buildlet to end.
pub(crate) fn ask_to_end(pid: u32) {
    send(pid, Signal::TERM);
}

/// Ends a process.
pub(crate) fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

/// Asks a buildlet to end once it has nothing to do.
pub(crate) fn ask_to_drain(pid: u32, _state: &Path) {
    send(pid, Signal::USR1);
}

/// Hears of [`ask_to_drain`].
#[derive(Debug)]
pub(crate) struct DrainAsked(tokio::signal::unix::Signal);

impl DrainAsked {
    /// From now on.
    pub(crate) fn listen(_state: &Path) -> io::Result<Self> {
        signal(SignalKind::user_defined1()).map(Self)
    }

    /// Waits until somebody asks.
    pub(crate) async fn wait(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
