//! What comes of a command, as its process group. What begins a group or session of its own has left, and is not found
//! again: this is the most that every system of the Unix family has.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::keeper::contract::Usage;

/// How long processes that got SIGKILL may take to go. Longer means that they hang in the kernel.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The signal that ended a process, if one did.
pub(super) fn ending_signal(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// The process group of a command.
#[derive(Debug)]
pub(super) struct Tree {
    group: Pid,
}

impl Tree {
    /// Has a command begin a group.
    pub(super) fn prepare(command: &mut Command) {
        command.process_group(0);
    }

    /// The group of a command that was prepared.
    pub(super) fn adopt(child: &Child) -> io::Result<Self> {
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        Ok(Self { group: pid.ok_or_else(|| io::Error::other("it has ended before it began"))? })
    }

    /// Sends all of it a signal.
    pub(super) fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = kill_process_group(self.group, signal);
        }
    }

    /// Asks all of it to end.
    pub(super) fn ask_to_end(&self) {
        let _ = kill_process_group(self.group, Signal::TERM);
    }

    /// Ends all of it.
    pub(super) fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }

    /// What it uses: not known.
    #[expect(clippy::unused_self, reason = "other systems know")]
    pub(super) fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Ends what is left once the command has ended and was waited for. Says whether anything was, and whether it still is:
    /// how many there are, nobody can ask.
    pub(super) async fn end(&self) -> (u32, u32) {
        if test_kill_process_group(self.group).is_err() {
            return (0, 0);
        }
        let begin = Instant::now();
        let mut pause = Duration::from_micros(100);
        while begin.elapsed() < KILL_TIMEOUT {
            self.kill();
            if test_kill_process_group(self.group).is_err() {
                return (1, 0);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        (1, 1)
    }
}
