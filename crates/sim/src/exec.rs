//! A command that a machine runs, or ran: what it has written, and how it ended.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buildlet::testing::{self as real, StopReason};
use buildlet_client::{EndedByUs, Error, ExecEnd, ExecStatus, How};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::ExecId;

use crate::{command, context::lock};

/// A command.
pub(crate) struct Exec {
    pub(crate) id: ExecId,
    output: Bytes,
    progress: Mutex<Progress>,
    moved: Notify,
    stop: Mutex<Option<EndedByUs>>,
    stopped: CancellationToken,
}

#[derive(Clone, Default)]
struct Progress {
    bytes: u64,
    acknowledged: u64,
    end: Option<ExecEnd>,
}

impl Exec {
    pub(crate) fn new(id: ExecId, output: Bytes) -> Arc<Self> {
        Arc::new(Self {
            id,
            output,
            progress: Mutex::default(),
            moved: Notify::new(),
            stop: Mutex::default(),
            stopped: CancellationToken::new(),
        })
    }

    pub(crate) fn ended(id: ExecId, output: Bytes, end: &real::End) -> Arc<Self> {
        let exec = Self::new(id, output);
        *lock(&exec.progress) = Progress { bytes: end.output_bytes, acknowledged: 0, end: Some(told(end)) };
        exec
    }

    pub(crate) fn status(&self) -> ExecStatus {
        let progress = lock(&self.progress).clone();
        ExecStatus { exec: self.id, pid: 1, output_bytes: progress.bytes, end: progress.end }
    }

    /// Whether this end is that of a make that made.
    pub(crate) fn makes(&self, end: &ExecEnd) -> bool {
        end.how == How::Exited(0) && self.output.starts_with(command::MAKING)
    }

    pub(crate) fn stop(&self, reason: EndedByUs) {
        lock(&self.stop).get_or_insert(reason);
        self.stopped.cancel();
    }

    /// Lets it run on for a while. Answers who ended it, if somebody did before that.
    pub(crate) async fn run_for(&self, step: Duration) -> Option<EndedByUs> {
        tokio::select! {
            biased;
            () = self.stopped.cancelled() => *lock(&self.stop),
            () = tokio::time::sleep(step) => None,
        }
    }

    /// How many bytes it has written.
    pub(crate) fn written(&self) -> u64 {
        lock(&self.progress).bytes
    }

    /// It has written so many bytes.
    pub(crate) fn write(&self, bytes: u64) {
        lock(&self.progress).bytes = bytes;
        self.moved.notify_waiters();
    }

    /// It has ended.
    pub(crate) fn finish(&self, end: ExecEnd) {
        lock(&self.progress).end = Some(end);
        self.moved.notify_waiters();
    }

    /// What is before an offset is stored elsewhere.
    pub(crate) fn acknowledge(&self, offset: u64) {
        let mut progress = lock(&self.progress);
        progress.acknowledged = progress.acknowledged.max(offset);
    }

    /// Waits for its end.
    pub(crate) async fn wait(&self) {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if lock(&self.progress).end.is_some() {
                return;
            }
            moved.await;
        }
    }

    /// What follows an offset: bytes, or the end.
    pub(crate) async fn after(&self, offset: u64) -> Result<Result<Bytes, ExecEnd>, Error> {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let progress = lock(&self.progress);
                if offset < progress.acknowledged {
                    return Err(Error::Acknowledged(format!(
                        "output before {} is gone",
                        progress.acknowledged
                    )));
                }
                if progress.bytes > offset {
                    return Ok(Ok(self.output.slice(offset as usize..progress.bytes as usize)));
                }
                if let Some(end) = &progress.end {
                    return Ok(Err(end.clone()));
                }
            }
            moved.await;
        }
    }
}

/// An end as the journal has it.
pub(crate) fn journaled(end: &ExecEnd) -> real::End {
    let how = match &end.how {
        How::Exited(code) => real::How::Exited(*code),
        How::Signalled(signal) => real::How::Signalled(*signal),
        How::NotStarted(why) => real::How::NotStarted(why.clone()),
        How::Ended(reason) => real::How::Stopped(match reason {
            EndedByUs::Cancelled => StopReason::Cancelled,
            EndedByUs::TimedOut => StopReason::TimedOut,
            EndedByUs::TooMuchOutput => StopReason::TooMuchOutput,
            EndedByUs::Abandoned => StopReason::Abandoned,
            EndedByUs::DiskFull => StopReason::DiskFull,
            EndedByUs::OutOfMemory => StopReason::OutOfMemory,
            EndedByUs::TooManyProcesses => StopReason::TooManyProcesses,
            EndedByUs::WorkFolderFull => StopReason::WorkFolderFull,
            EndedByUs::BuildletDied => StopReason::BuildletDied,
        }),
    };
    real::End { how, output_bytes: end.output_bytes, elapsed: end.elapsed, leftovers: end.leftover_processes }
}

/// An end as the journal had it.
fn told(end: &real::End) -> ExecEnd {
    let how = match &end.how {
        real::How::Exited(code) => How::Exited(*code),
        real::How::Signalled(signal) => How::Signalled(*signal),
        real::How::NotStarted(why) => How::NotStarted(why.clone()),
        real::How::Stopped(reason) => How::Ended(match reason {
            StopReason::Cancelled => EndedByUs::Cancelled,
            StopReason::TimedOut => EndedByUs::TimedOut,
            StopReason::TooMuchOutput => EndedByUs::TooMuchOutput,
            StopReason::Abandoned => EndedByUs::Abandoned,
            StopReason::DiskFull => EndedByUs::DiskFull,
            StopReason::OutOfMemory => EndedByUs::OutOfMemory,
            StopReason::TooManyProcesses => EndedByUs::TooManyProcesses,
            StopReason::WorkFolderFull => EndedByUs::WorkFolderFull,
            StopReason::BuildletDied => EndedByUs::BuildletDied,
        }),
    };
    ExecEnd { how, output_bytes: end.output_bytes, elapsed: end.elapsed, leftover_processes: end.leftovers }
}
