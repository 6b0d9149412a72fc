//! Runs one command on a machine to its end: starts it (once, by its name), follows its output into the log from
//! wherever the log is durable, and tells the buildlet what it may forget. The same code begins and re-attaches.

use std::time::Duration;

use buildlet_client::{EndedByUs, Error, ExecEnd, ExecEvent, ExecSpec, How, Lease};
use bytes::Bytes;
use futures_util::StreamExt;
use store::logs::LogError;
use types::{ExecId, Outcome, Timestamp};

use super::perform::{Line, Worker};
use crate::{
    core::{Mutation, TaskResult},
    ports::ExecLog,
};

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

impl Broken {
    /// Whether it is the machine that cannot, and not the network or what it asked.
    pub(super) fn is_of_machine(&self) -> bool {
        match self {
            Self::Machine(error) => {
                matches!(error, Error::NotClean(_) | Error::Malformed(_) | Error::Other { .. })
            }
            Self::Gone | Self::Log(_) => false,
        }
    }
}

/// A command that ran to its end; its log is durable.
pub(super) struct Ended {
    pub(super) end: ExecEnd,
    pub(super) at: Timestamp,
    timeout: Option<Duration>,
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
            biased;
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
    line.buildlet.start_exec(lease, exec, spec).await?;
    if writer.is_finished() {
        // We were killed between its end and ours. The log may hold more than was written: our own last line.
        let status = line.buildlet.status().await?;
        let known = status.execs.into_iter().find(|status| status.exec == exec).and_then(|status| status.end);
        let end = known.ok_or_else(|| Error::Unavailable("a finished command has no end".to_owned()))?;
        return Ok(Ended { end, at: worker.clock.now(), timeout: spec.timeout });
    }
    let mut events = line.buildlet.watch_exec(exec, writer.position()).await?;
    let mut acknowledged = writer.position();
    loop {
        match events.next().await {
            Some(Ok(ExecEvent::Output { offset, data })) => {
                let received = offset + data.len() as u64;
                writer.push(offset, data).await?;
                let early = Mutation::AcknowledgeFirst.is(worker.tuning.mutation);
                let durable = if early { received } else { writer.position() };
                if durable >= acknowledged + worker.tuning.acknowledge_bytes
                    && line.buildlet.acknowledge(exec, durable).await.is_ok()
                {
                    // One that fails costs disk on the machine and nothing else.
                    acknowledged = durable;
                }
            }
            Some(Ok(ExecEvent::Ended(end))) => {
                let ended = Ended { end, at: worker.clock.now(), timeout: spec.timeout };
                if !Mutation::SkipLog.is(worker.tuning.mutation) {
                    finish(worker, exec, writer, &ended).await?;
                }
                return Ok(ended);
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Error::Unavailable("the stream was broken off".to_owned()).into()),
        }
    }
}

/// Ends the log, with a line of ours if the farm did something to the command that its own output does not tell.
async fn finish(
    worker: &Worker,
    exec: ExecId,
    mut writer: Box<dyn ExecLog>,
    ended: &Ended,
) -> Result<(), LogError> {
    let Some(told) = ended.told() else { return writer.finish_with(Bytes::new()).await };
    writer.flush().await?;
    let written = writer.position();
    let last = worker.logs.read(exec, written.saturating_sub(1)..written).await?;
    let begin = if last.is_empty() || last.as_ref() == b"\n" { "" } else { "\n" };
    writer.finish_with(Bytes::from(format!("{begin}farmer: {told}\n"))).await
}

impl Ended {
    /// What the end means. Only what the farm did itself is a fault of the farm.
    pub(super) fn result(&self, has_folder: bool, planted: Option<Mutation>) -> TaskResult {
        let outcome = match &self.end.how {
            How::Exited(0) => Some(Outcome::Passed),
            How::Exited(_)
            | How::Signalled(_)
            | How::Ended(
                EndedByUs::TooMuchOutput
                | EndedByUs::OutOfMemory
                | EndedByUs::TooManyProcesses
                | EndedByUs::WorkFolderFull,
            ) => Some(Outcome::Failed),
            // The shell itself always starts; the builder's folder may not be there.
            How::NotStarted(_) => has_folder.then_some(Outcome::Failed),
            How::Ended(EndedByUs::TimedOut) => Some(Outcome::TimedOut),
            How::Ended(
                EndedByUs::Cancelled | EndedByUs::Abandoned | EndedByUs::DiskFull | EndedByUs::BuildletDied,
            ) if Mutation::FaultFails.is(planted) => Some(Outcome::Failed),
            How::Ended(_) if Mutation::FaultPasses.is(planted) => Some(Outcome::Passed),
            How::Ended(
                EndedByUs::Cancelled | EndedByUs::Abandoned | EndedByUs::DiskFull | EndedByUs::BuildletDied,
            ) => None,
        };
        if let Some(outcome) = outcome {
            return TaskResult::Command { outcome, reason: self.reason(), ended: self.at };
        }
        let of_machine = matches!(self.end.how, How::Ended(EndedByUs::DiskFull | EndedByUs::BuildletDied));
        TaskResult::Fault { reason: self.reason(), of_machine }
    }

    /// Why it is no success; empty if it is one.
    fn reason(&self) -> String {
        match &self.end.how {
            How::Exited(0) => String::new(),
            How::Exited(code) => format!("exit status {code}"),
            How::Signalled(signal) => format!("ended by signal {signal}"),
            How::NotStarted(reason) => format!("it could not be started: {reason}"),
            How::Ended(EndedByUs::TimedOut) => {
                // The limit, and not how long it took: that includes the time it was given to end.
                let after = self.timeout.unwrap_or(Duration::from_secs(self.end.elapsed.as_secs()));
                format!("timed out after {}", humantime::format_duration(after))
            }
            How::Ended(EndedByUs::TooMuchOutput) => {
                format!("wrote more than {} bytes", self.end.output_bytes)
            }
            How::Ended(EndedByUs::OutOfMemory) => "used more memory than it may".to_owned(),
            How::Ended(EndedByUs::TooManyProcesses) => "started more processes than it may".to_owned(),
            How::Ended(EndedByUs::WorkFolderFull) => "put more into the work folder than it may".to_owned(),
            How::Ended(EndedByUs::Cancelled) => "the machine ended it".to_owned(),
            How::Ended(EndedByUs::Abandoned) => {
                "the machine did not hear from the coordinator for too long".to_owned()
            }
            How::Ended(EndedByUs::DiskFull) => "the disk of the machine is full".to_owned(),
            How::Ended(EndedByUs::BuildletDied) => "the buildlet died meanwhile".to_owned(),
        }
    }

    /// What happened to the command, if its own output cannot tell.
    fn told(&self) -> Option<String> {
        match (&self.end.how, self.end.leftover_processes) {
            (How::Exited(_), 0) => None,
            (How::Exited(_), 1) => Some("ended a process that it left behind".to_owned()),
            (How::Exited(_), count) => Some(format!("ended {count} processes that it left behind")),
            _ => Some(self.reason()),
        }
    }
}
