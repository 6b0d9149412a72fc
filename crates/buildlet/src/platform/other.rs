//! What systems of the Unix family answer that are not Linux: macOS, the BSDs, illumos and their like.
//!
//! `unsafe` for two functions of the C library that say how busy and how large the machine is; they have no safe form.
#![expect(
    unsafe_code,
    reason = "`getloadavg` and `sysconf` have no safe form; what is said at each makes them sound"
)]

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, test_kill_process};

/// Keeps this process's memory from others: left to the system's own rules here.
pub(crate) fn hide_memory() -> io::Result<()> {
    Ok(())
}

/// The load average over one minute; 0 if the system does not say.
pub(crate) fn load() -> f64 {
    #[cfg(any(target_os = "android", target_os = "haiku", target_os = "nto"))]
    return 0.0;
    #[cfg(not(any(target_os = "android", target_os = "haiku", target_os = "nto")))]
    {
        let mut loads = [0.0];
        // SAFETY: It writes as many numbers as it is told there is room for: one.
        let read = unsafe { libc::getloadavg(loads.as_mut_ptr(), 1) };
        if read == 1 { loads[0] } else { 0.0 }
    }
}

/// Memory in bytes; 0 if the system does not say.
pub(crate) fn memory_bytes() -> u64 {
    // SAFETY: It takes a number and returns one.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(size).unwrap_or(0))
}

/// For how long the machine has been up: each of these systems has its own way to say, so none does.
pub(crate) fn uptime() -> Option<Duration> {
    None
}

/// Whether a process lives.
pub(crate) fn is_alive(pid: u32) -> bool {
    Pid::from_raw(pid.cast_signed()).is_some_and(|process| test_kill_process(process).is_ok())
}

/// A file without a name.
pub(crate) fn nameless_file(folder: &Path) -> io::Result<File> {
    let path = folder.join(runtime::new_id().to_string());
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// Gives the disk space of a file's beginning back: these systems keep it until the file goes.
pub(crate) fn give_back(_file: &Path, _until: u64) -> io::Result<()> {
    Ok(())
}

/// A hint to Linux's file systems.
pub(crate) fn spread(_folder: &Path) {}

/// What is mounted below a folder: only root could, and the removal of the folder fails then and says so.
pub(crate) fn mounts_below(_folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(Vec::new())
}

/// Removes a mount.
pub(crate) fn unmount(_mount: &Path) -> io::Result<()> {
    Ok(())
}
