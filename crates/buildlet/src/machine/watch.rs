//! Delivering the output of an exec, from any offset, as it comes.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;
use types::ExecId;

use super::{CallError, Machine};
use crate::{
    exec::{End, Exec, Progress},
    spool,
};

/// The largest piece that is delivered.
const CHUNK: u64 = 256 << 10;
/// Reads up to this are done in place: they come from memory, and handing them to a thread costs more.
const IN_PLACE: u64 = 64 << 10;

/// What is delivered next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Bytes from an offset on.
    Bytes(u64, Bytes),
    /// The end. Nothing follows.
    End(End),
}

/// A reader of one exec's output. It goes on though the lease ends and the spool is removed.
#[derive(Debug)]
pub(crate) struct Watch {
    exec: Arc<Exec>,
    file: Arc<File>,
    progress: watch::Receiver<Progress>,
    offset: u64,
    over: bool,
}

impl Machine {
    /// Reads the output of an exec from an offset on.
    pub(crate) fn watch_exec(&self, id: ExecId, offset: u64) -> Result<Watch, CallError> {
        let exec = self.find(id).ok_or(CallError::UnknownExec(id))?;
        let acknowledged = exec.spool.acknowledged();
        if offset < acknowledged {
            return Err(CallError::Acknowledged { offset, acknowledged });
        }
        let progress = exec.progress();
        let ended = progress.borrow().end.as_ref().map(|end| end.output_bytes);
        if let Some(bytes) = ended.filter(|bytes| offset > *bytes) {
            return Err(CallError::BadRequest(format!(
                "the exec wrote {bytes} bytes, so there is no offset {offset}"
            )));
        }
        // Only the end of the lease removes the file, and the exec with it.
        let file = exec.spool.open().map_err(|_| CallError::UnknownExec(id))?;
        Ok(Watch { file: Arc::new(file), exec, progress, offset, over: false })
    }
}

impl Watch {
    /// Waits for more; none after the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Output, CallError>> {
        if self.over {
            return None;
        }
        let (bytes, end) = {
            let offset = self.offset;
            let more = |progress: &Progress| progress.bytes > offset || progress.end.is_some();
            let progress = self.progress.wait_for(more).await.ok()?;
            (progress.bytes, progress.end.clone())
        };
        if bytes > self.offset {
            return Some(self.read(bytes).await);
        }
        self.over = true;
        end.map(|end| Ok(Output::End(end)))
    }

    async fn read(&mut self, available: u64) -> Result<Output, CallError> {
        let (offset, length) = (self.offset, (available - self.offset).min(CHUNK));
        let read = if length <= IN_PLACE {
            spool::read(&self.file, offset, length as usize)
        } else {
            let file = self.file.clone();
            let read = tokio::task::spawn_blocking(move || spool::read(&file, offset, length as usize)).await;
            read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
        };
        let bytes = read.map_err(CallError::disk("read the spool"))?;
        // A hole of what was given back meanwhile reads as zeros, which must not be taken for output.
        if offset < self.exec.spool.freed() {
            self.over = true;
            return Err(CallError::Acknowledged { offset, acknowledged: self.exec.spool.acknowledged() });
        }
        self.offset += bytes.len() as u64;
        Ok(Output::Bytes(offset, bytes))
    }
}
