//! Runs one command on a machine to its end: starts it (once, by its name), follows its output into the log from
//! wherever the log is durable, and tells the buildlet what it may forget. The same code begins and re-attaches.

use std::time::Duration;

use buildlet_client::{EndedByUs, Error, ExecEnd, ExecEvent, ExecSpec, How, Lease};
use store::logs::{LogError, LogWriter};
use types::{ExecId, Outcome, Timestamp};

use super::perform::{Line, Worker};
use crate::core::TaskResult;

/// Output is acknowledged when this much of it has become durable; the rest goes with the lease.
const ACKNOWLEDGE: u64 = 4 << 20;
/// How often a command is gone back to while its connection stands.
const TRIES: u32 = 5;

/// Why a command was not followed to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The connection is gone: another will come, or the machine is lost. Not for us to tell.
    #[error("the connection is gone")]
    Gone,
    /// The machine refuses.
    #[error(transparent)]
    Machine(#[from] Error),
    /// The log cannot be kept.
    #[error("its log could not be kept")]
    Log(#[from] LogError),
}

/// A command that ran to its end; its log is durable.
pub(super) struct Ended {
    pub(super) end: ExecEnd,
    pub(super) at: Timestamp,
}

/// Runs or re-attaches.
pub(super) async fn run(
    worker: &Worker,
    line: &Line,
    lease: Lease,
    exec: ExecId,
    spec: &ExecSpec,
) -> Result<Ended, Broken> {
    let mut pause = Duration::from_millis(50);
    for _ in 1..TRIES {
        match follow(worker, line, lease, exec, spec).await {
            Err(Broken::Machine(error)) if error.is_transient() => {}
            Err(Broken::Log(error)) if error.is_transient() => {}
            other => return other,
        }
        tokio::select! {
            () = line.closed.cancelled() => return Err(Broken::Gone),
            () = tokio::time::sleep(pause) => pause *= 3,
        }
    }
    follow(worker, line, lease, exec, spec).await
}

async fn follow(
    worker: &Worker,
    line: &Line,
    lease: Lease,
    exec: ExecId,
    spec: &ExecSpec,
) -> Result<Ended, Broken> {
    let mut writer = worker.logs.writer(exec).await?;
    line.client.start_exec(lease, exec, spec).await?;
    let mut events = line.client.watch_exec(exec, writer.position()).await?;
    let mut acknowledged = writer.position();
    loop {
        match events.next().await {
            Some(Ok(ExecEvent::Output { offset, data })) => {
                writer.push(offset, data).await?;
                acknowledge(line, exec, &writer, &mut acknowledged).await;
            }
            Some(Ok(ExecEvent::Ended(end))) => {
                let at = worker.clock.now();
                writer.finish().await?;
                return Ok(Ended { end, at });
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Error::Unavailable("the stream was broken off".to_owned()).into()),
        }
    }
}

/// An acknowledgement that fails costs disk on the machine and nothing else.
async fn acknowledge(line: &Line, exec: ExecId, writer: &LogWriter, acknowledged: &mut u64) {
    let durable = writer.position();
    if durable >= *acknowledged + ACKNOWLEDGE && line.client.acknowledge(exec, durable).await.is_ok() {
        *acknowledged = durable;
    }
}

impl Ended {
    /// What the end means. Only what the farm did itself is a fault of the farm.
    pub(super) fn result(&self, has_folder: bool) -> TaskResult {
        let command = |outcome, reason: String| TaskResult::Command { outcome, reason, ended: self.at };
        let fault = |reason: &str| TaskResult::Fault { reason: reason.to_owned() };
        match &self.end.how {
            How::Exited(0) => command(Outcome::Passed, String::new()),
            How::Exited(code) => command(Outcome::Failed, format!("exit status {code}")),
            How::Signalled(signal) => command(Outcome::Failed, format!("ended by signal {signal}")),
            // The shell itself always starts; the builder's folder may not be there.
            How::NotStarted(reason) if has_folder => {
                command(Outcome::Failed, format!("it could not be started: {reason}"))
            }
            How::NotStarted(reason) => fault(&format!("it could not be started: {reason}")),
            How::Ended(EndedByUs::TimedOut) => {
                let after = humantime::format_duration(Duration::from_secs(self.end.elapsed.as_secs()));
                command(Outcome::TimedOut, format!("timed out after {after}"))
            }
            How::Ended(EndedByUs::TooMuchOutput) => {
                command(Outcome::Failed, format!("wrote more than {} bytes", self.end.output_bytes))
            }
            How::Ended(EndedByUs::Cancelled) => fault("the machine ended it"),
            How::Ended(EndedByUs::Abandoned) => {
                fault("the machine did not hear from the coordinator for too long")
            }
            How::Ended(EndedByUs::DiskFull) => fault("the disk of the machine is full"),
            How::Ended(EndedByUs::BuildletDied) => fault("the buildlet died meanwhile"),
        }
    }
}
