//! What execs may use, and noticing that one uses more.
//!
//! Time and output are bounded by the warden, memory and processes by the kernel where it has control groups for us.
//! Here is what remains: hearing from the kernel that a bound was hit, looking at processes where there are no control
//! groups, and at the work folder and the disk.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Machine;
use crate::{
    exec::{End, Exec, How, Limits},
    keeper::{GRACE, StopReason},
    platform, tree,
};

/// How often limits are looked at while something runs.
const BUSY: Duration = Duration::from_millis(100);
/// How soon after nothing ran.
const IDLE: Duration = Duration::from_secs(1);
/// The work folder is measured for so small a part of the time at most.
const MEASURING: u32 = 20;

impl Limits {
    /// What is asked for, within what is allowed.
    pub(super) fn within(self, allowed: &Self) -> Self {
        fn least<T: Ord>(asked: Option<T>, allowed: Option<T>) -> Option<T> {
            asked.into_iter().chain(allowed).min()
        }
        Self {
            memory_bytes: least(self.memory_bytes, allowed.memory_bytes),
            processes: least(self.processes, allowed.processes),
            work_bytes: least(self.work_bytes, allowed.work_bytes),
        }
    }
}

impl Machine {
    /// Looks at limits for ever.
    pub(crate) async fn watch_limits(&self) {
        let mut measure_at = Instant::now();
        loop {
            let running = self.running();
            tokio::time::sleep(if running.is_empty() { IDLE } else { BUSY }).await;
            self.check_disk(&running).await;
            for exec in &running {
                if let Some(reason) = self.over(exec).await {
                    exec.stop(reason, Duration::ZERO).await;
                }
            }
            if Instant::now() >= measure_at {
                measure_at = Instant::now() + self.measure_work(&running).await * MEASURING;
            }
        }
    }

    /// Ends running execs when the disk is nearly full.
    async fn check_disk(&self, running: &[Arc<Exec>]) {
        if running.is_empty() {
            return;
        }
        let free = platform::free_bytes(self.parts.folder.dir()).unwrap_or(u64::MAX);
        let free_spool = platform::free_bytes_at(&self.parts.spool).unwrap_or(u64::MAX);
        if free.min(free_spool) >= self.parts.disk_floor_bytes {
            return;
        }
        let floor = self.parts.disk_floor_bytes;
        tracing::warn!("ending {} execs: less than {floor} bytes are free", running.len());
        for exec in running {
            exec.stop(StopReason::DiskFull, GRACE).await;
        }
    }

    /// Ends execs that fill the work folder; returns how long the measuring took.
    async fn measure_work(&self, running: &[Arc<Exec>]) -> Duration {
        let bounded: Vec<_> =
            running.iter().filter_map(|exec| Some((exec, exec.limits.work_bytes?))).collect();
        if bounded.is_empty() {
            return Duration::ZERO;
        }
        let begin = Instant::now();
        let folder = self.parts.folder.clone();
        let measured = tokio::task::spawn_blocking(move || tree::size(&folder.dir())).await;
        let bytes = measured.unwrap_or(0);
        for (exec, _) in bounded.into_iter().filter(|(_, bound)| bytes > *bound) {
            exec.stop(StopReason::WorkFolderFull, Duration::ZERO).await;
        }
        begin.elapsed()
    }
}

/// What the kernel ended for a limit did not end by itself.
pub(super) fn see(exec: &Exec, end: &mut End) {
    let failed = matches!(end.how, How::Signalled(_)) || matches!(end.how, How::Exited(code) if code != 0);
    if failed && let Some(reason) = exec.group_hit() {
        end.how = How::Stopped(reason);
    }
}

impl Machine {
    /// Which limit an exec is over now.
    async fn over(&self, exec: &Exec) -> Option<StopReason> {
        if exec.has_group() {
            return exec.group_hit();
        }
        let Limits { memory_bytes, processes, .. } = exec.limits;
        if memory_bytes.is_none() && processes.is_none() {
            return None;
        }
        let usage = self.parts.keeper.usage(exec.pid).await;
        if processes.is_some_and(|bound| usage.processes > bound) {
            return Some(StopReason::TooManyProcesses);
        }
        memory_bytes.is_some_and(|bound| usage.memory_bytes > bound).then_some(StopReason::OutOfMemory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_kept_within_what_is_allowed() {
        let asked = Limits { memory_bytes: Some(5), processes: None, work_bytes: Some(9) };
        let allowed = Limits { memory_bytes: Some(7), processes: Some(3), work_bytes: Some(8) };
        let both = Limits { memory_bytes: Some(5), processes: Some(3), work_bytes: Some(8) };
        assert_eq!(asked.within(&allowed), both);
        assert_eq!(Limits::default().within(&Limits::default()), Limits::default());
    }
}
