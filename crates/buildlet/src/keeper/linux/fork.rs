//! The one audited use of `unsafe` in this crate: `fork` without `exec`, `unshare`, and `signal`.
//!
//! A warden could be a program started anew, but that costs a dynamic link of the whole binary for each exec: about a
//! millisecond, where a fork of the keeper costs a tenth of that. A child of `fork` may do anything only if its parent
//! had one thread; otherwise locks may be held for ever by threads that it does not have. So that is checked each time.
//!
//! `unshare` has the same condition: what it takes from other threads' view may be a descriptor table that they rely on.
#![expect(
    unsafe_code,
    reason = "`fork`, `unshare` and `signal` have no safe form; what is said at each makes them sound"
)]

use std::{io, os::unix::fs::MetadataExt, panic::AssertUnwindSafe};

use rustix::{process::Pid, thread::UnshareFlags};

/// Gives this process namespaces of its own.
pub(super) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    if threads()? != 1 {
        return Err(io::Error::other("the keeper has more than one thread"));
    }
    // SAFETY: There is no other thread that could lose descriptors or file system state that it counts on.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }.map_err(io::Error::from)
}

/// Has signals do what they do by default, here and in all that is started from here. Who starts a buildlet in the
/// background may have it ignore some, and a shell cannot trap what was ignored when it began.
pub(super) fn heed_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGCHLD, libc::SIGALRM]
        .into_iter()
        .chain([libc::SIGUSR1, libc::SIGUSR2, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU])
    {
        // SAFETY: No function is installed, so none can run at a wrong moment.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Runs `child` in a process of its own, which ends with it. Returns the process's id.
pub(super) fn fork(child: impl FnOnce()) -> io::Result<Pid> {
    if threads()? != 1 {
        return Err(io::Error::other("the keeper has more than one thread"));
    }
    // SAFETY: This process has one thread, as was just checked, and only that thread could start another. So no lock
    // can be held by a thread that the child lacks, and the child may allocate and call anything, as its parent may.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // A panic must not unwind into the keeper's loop, of which this is a copy.
            let code = i32::from(std::panic::catch_unwind(AssertUnwindSafe(child)).is_err());
            // SAFETY: `_exit` has no preconditions. It skips the exit handlers and buffers that belong to the keeper.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Pid::from_raw(pid).expect("fork returns a positive id to the parent")),
    }
}

/// How many threads this process has: a folder for each lies in `/proc/self/task`, and a folder's link count is that
/// of its subfolders plus two.
fn threads() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness runs each test on a thread of its own.
        let error = fork(|| {}).unwrap_err();
        assert_eq!(error.to_string(), "the keeper has more than one thread");
    }
}
