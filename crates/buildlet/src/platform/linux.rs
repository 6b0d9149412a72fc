//! What only Linux answers, or answers in its own way.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FallocateFlags, IFlags, MemfdFlags, fallocate, ioctl_getflags, ioctl_setflags, memfd_create},
    mount::UnmountFlags,
    process::{DumpableBehavior, Pid, set_dumpable_behavior, test_kill_process},
    system::sysinfo,
};

use crate::tree;

/// Keeps this process's memory and environment, with the machine's key, from other processes of the same user: builds
/// are such.
pub(crate) fn hide_memory() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// The load average over one minute.
pub(crate) fn load() -> f64 {
    let fixed = sysinfo().loads[0];
    fixed as f64 / 65536.0
}

/// Memory in bytes.
pub(crate) fn memory_bytes() -> u64 {
    let info = sysinfo();
    // Their width is the processor's.
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// For how long the machine has been up, if the system says.
pub(crate) fn uptime() -> Option<Duration> {
    u64::try_from(sysinfo().uptime).ok().map(Duration::from_secs)
}

/// Whether a process lives. One that is dead, but not yet waited for, does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let process = Pid::from_raw(pid.cast_signed());
    process.is_some_and(|process| test_kill_process(process).is_ok() && !crate::keeper::is_exiting(process))
}

/// A file without a name, in memory.
pub(crate) fn nameless_file(_folder: &Path) -> io::Result<File> {
    Ok(memfd_create("stdin", MemfdFlags::CLOEXEC)?.into())
}

/// Gives the disk space of a file's beginning back.
pub(crate) fn give_back(file: &Path, until: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(OpenOptions::new().write(true).open(file)?, flags, 0, until)?)
}

/// Asks the file system to put each folder in here into another part of the disk, as it does in the root folder. Only
/// more speed: not every file system has that, nor is every folder ours.
pub(crate) fn spread(folder: &Path) {
    let Ok(folder) = File::open(folder) else { return };
    if let Ok(flags) = ioctl_getflags(&folder) {
        let _ = ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
}

/// What is mounted below a folder.
pub(crate) fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let info = std::fs::read("/proc/self/mountinfo")?;
    Ok(tree::mounts_below(&String::from_utf8_lossy(&info), folder))
}

/// Removes a mount.
pub(crate) fn unmount(mount: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(mount, UnmountFlags::NOFOLLOW)?)
}
