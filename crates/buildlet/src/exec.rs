//! One exec: its warden, its spool, and what is known of it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use types::ExecId;

use crate::{
    cgroup::Group,
    input::{ExecInput, InputError},
    keeper::{Ended, FromWarden, StopReason, ToWarden, Warden, WardenReader, WardenWriter},
    platform::Handle,
    spool::Spool,
};

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How.
    pub how: How,
    /// All bytes it wrote.
    pub output_bytes: u64,
    /// How long it ran.
    pub elapsed: Duration,
    /// Processes that it left behind and that were ended.
    pub leftovers: u32,
}

/// The manner of an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// It never ran: why.
    NotStarted(String),
    /// By us.
    Stopped(StopReason),
}

impl End {
    /// As a warden tells it.
    fn of(ended: &Ended) -> Self {
        let how = match (ended.stopped, ended.code, ended.signal) {
            (Some(reason), ..) => How::Stopped(reason),
            (None, Some(code), _) => How::Exited(code),
            (None, None, Some(signal)) => How::Signalled(signal),
            (None, None, None) => How::Stopped(StopReason::BuildletDied),
        };
        Self {
            how,
            output_bytes: ended.bytes,
            elapsed: Duration::from_micros(ended.elapsed_us),
            leftovers: ended.leftovers,
        }
    }

    /// Of an exec that nobody watched to its end.
    pub fn unwatched(output_bytes: u64) -> Self {
        let how = How::Stopped(StopReason::BuildletDied);
        Self { how, output_bytes, elapsed: Duration::ZERO, leftovers: 0 }
    }
}

/// How far an exec has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes in the spool.
    pub(crate) bytes: u64,
    /// How it ended; none while it runs.
    pub(crate) end: Option<End>,
}

/// An exec, running or ended.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: ExecId,
    /// The command's process id; 0 if it was not started.
    pub(crate) pid: u32,
    pub(crate) spool: Spool,
    progress: watch::Sender<Progress>,
    /// None once it has ended.
    writer: Mutex<Option<WardenWriter>>,
    /// Where input goes; none if the command has all its input already, or has ended.
    input: Mutex<Option<ExecInput>>,
    pub(crate) limits: Limits,
    /// What counts and bounds its processes and memory, if anything does; none once it has ended.
    group: std::sync::Mutex<Option<Group>>,
}

/// What an exec may use; none means as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u32>,
    /// In the work folder.
    pub(crate) work_bytes: Option<u64>,
}

/// What an exec begins with.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) id: ExecId,
    pub(crate) spool: Spool,
    pub(crate) warden: Warden,
    pub(crate) input: Option<ExecInput>,
    pub(crate) limits: Limits,
    pub(crate) group: Option<Group>,
}

/// What remains to be done about an exec while it runs.
#[derive(Debug)]
pub(crate) struct Watching {
    exec: Arc<Exec>,
    reader: WardenReader,
}

/// What watching an exec to its end found.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) end: End,
    /// Processes that could not be ended.
    pub(crate) remaining: u32,
    /// The warden vanished, so what it looked after must be ended otherwise.
    pub(crate) warden_lost: bool,
}

impl Exec {
    /// An exec of a warden that was just asked to start it: waits until it runs, or has failed to.
    pub(crate) async fn begin(beginning: Beginning) -> (Arc<Self>, Option<Watching>) {
        let Beginning { id, spool, warden, input, limits, group } = beginning;
        let (mut reader, writer) = warden.split();
        let (pid, end) = match reader.next().await {
            Ok(Some(FromWarden::Started { pid })) => (pid, None),
            Ok(Some(FromWarden::NotStarted { reason })) => {
                let how = How::NotStarted(reason);
                (0, Some(End { how, output_bytes: 0, elapsed: Duration::ZERO, leftovers: 0 }))
            }
            // The command was faster, and has killed the warden: to follow it shows that, and then what is left is ended.
            _ => (0, None),
        };
        let runs = end.is_none();
        let exec = Arc::new(Self {
            id,
            pid,
            spool,
            progress: watch::Sender::new(Progress { bytes: 0, end }),
            writer: Mutex::new(runs.then_some(writer)),
            input: Mutex::new(input.filter(|_| runs)),
            limits,
            group: std::sync::Mutex::new(group.filter(|_| runs)),
        });
        let watching = runs.then(|| Watching { exec: exec.clone(), reader });
        (exec, watching)
    }

    /// An exec that has ended.
    pub(crate) fn ended(id: ExecId, pid: u32, spool: Spool, end: End) -> Arc<Self> {
        let progress = watch::Sender::new(Progress { bytes: end.output_bytes, end: Some(end) });
        Arc::new(Self {
            id,
            pid,
            spool,
            progress,
            writer: Mutex::default(),
            input: Mutex::default(),
            limits: Limits::default(),
            group: std::sync::Mutex::default(),
        })
    }

    /// Writes to its input; see [`ExecInput::send`].
    pub(crate) async fn send_input(&self, offset: u64, data: &[u8], close: bool) -> Result<u64, InputError> {
        let mut input = self.input.lock().await;
        let Some(sink) = input.as_mut() else { return Err(InputError::Closed) };
        let mut progress = self.progress();
        let taken = tokio::select! {
            taken = sink.send(offset, data) => taken?,
            _ = progress.wait_for(|progress| progress.end.is_some()) => return Err(InputError::Closed),
        };
        if close && sink.close().await {
            *input = None;
        }
        Ok(taken)
    }

    /// The terminal, if it has one.
    pub(crate) async fn terminal(&self) -> Option<Handle> {
        self.input.lock().await.as_ref()?.terminal()
    }

    /// Sends the command a signal, if it runs.
    pub(crate) async fn signal(&self, number: i32) {
        if let Some(writer) = self.writer.lock().await.as_mut() {
            writer.send(&ToWarden::Signal { number }).await;
        }
    }

    /// Which limit of its control group it has hit.
    pub(crate) fn group_hit(&self) -> Option<StopReason> {
        self.group.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref()?.hit()
    }

    /// Whether a control group bounds its processes and memory.
    pub(crate) fn has_group(&self) -> bool {
        self.group.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some()
    }

    /// Follows how far it comes.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Whether it runs.
    pub(crate) fn runs(&self) -> bool {
        self.progress.borrow().end.is_none()
    }

    /// Has it ended, if it runs: after a grace, or at once if that is zero.
    pub(crate) async fn stop(&self, reason: StopReason, grace: Duration) {
        if let Some(writer) = self.writer.lock().await.as_mut() {
            writer.send(&ToWarden::Stop { reason, grace_ms: grace.as_millis() as u64 }).await;
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.progress().wait_for(|progress| progress.end.is_some()).await;
    }
}

impl Watching {
    /// Follows what the warden tells until it is over. Does not yet show the end: see [`Watching::publish`].
    pub(crate) async fn follow(&mut self) -> Watched {
        loop {
            match self.reader.next().await {
                Ok(Some(FromWarden::Output { bytes })) => {
                    self.exec.progress.send_modify(|progress| progress.bytes = bytes);
                }
                Ok(Some(FromWarden::Ended(ended))) => {
                    return Watched { end: End::of(&ended), remaining: ended.remaining, warden_lost: false };
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let bytes = self.exec.spool.length().unwrap_or(0);
                    return Watched { end: End::unwatched(bytes), remaining: 0, warden_lost: true };
                }
            }
        }
    }

    /// Shows the end to all who wait for it.
    pub(crate) async fn publish(self, end: End) {
        self.exec.writer.lock().await.take();
        self.exec.group.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        self.exec.progress.send_modify(|progress| {
            progress.bytes = end.output_bytes;
            progress.end = Some(end);
        });
        // After the end is known, so that whoever waits to write gives way.
        self.exec.input.lock().await.take();
    }

    /// The exec.
    pub(crate) fn exec(&self) -> &Arc<Exec> {
        &self.exec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_reason_counts_before_the_code_that_it_led_to() {
        let ended = |stopped, code, signal| {
            let ended = Ended { code, signal, stopped, bytes: 1, elapsed_us: 2, leftovers: 3, remaining: 0 };
            End::of(&ended).how
        };
        assert_eq!(ended(None, Some(3), None), How::Exited(3));
        assert_eq!(ended(None, None, Some(11)), How::Signalled(11));
        assert_eq!(ended(Some(StopReason::TimedOut), Some(0), None), How::Stopped(StopReason::TimedOut));
    }
}
