//! Output on its way from the command's pipe to the spool, by a thread for each exec: not every system can wait for a pipe
//! and for something else at once.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::keeper::StopReason;

/// How much is moved at a time.
const STEP: usize = 64 << 10;

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Bytes in the spool.
    pub(super) bytes: u64,
    /// Nobody can write any more.
    pub(super) closed: bool,
    /// Why the exec is to be ended.
    pub(super) trouble: Option<StopReason>,
}

/// The output of one exec.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) moved: watch::Receiver<Moved>,
    /// What comes from now on is thrown away.
    over: Arc<AtomicBool>,
}

impl Drop for Output {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Output {
    /// A pipe into the spool. Returns the end that the command writes to.
    pub(super) fn new(spool: File, limit: u64) -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let (sender, moved) = watch::channel(Moved::default());
        let over = Arc::new(AtomicBool::new(false));
        let mover = Mover { reader, spool, limit, sender, over: over.clone() };
        std::thread::Builder::new().name("output".to_owned()).spawn(move || mover.run())?;
        Ok((Self { moved, over }, writer))
    }
}

struct Mover {
    reader: PipeReader,
    spool: File,
    limit: u64,
    sender: watch::Sender<Moved>,
    over: Arc<AtomicBool>,
}

impl Mover {
    /// Until the last writer is gone. The command is never kept waiting for a spool that takes no more: the rest is read
    /// and thrown away.
    fn run(mut self) {
        let mut buffer = vec![0; STEP];
        loop {
            match self.reader.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(read) => self.take(&buffer[..read]),
            }
        }
        self.sender.send_modify(|moved| moved.closed = true);
    }

    fn take(&mut self, bytes: &[u8]) {
        let before = *self.sender.borrow();
        if before.trouble.is_some() || self.over.load(Ordering::Relaxed) {
            return;
        }
        let room = self.limit.saturating_sub(before.bytes).min(bytes.len() as u64) as usize;
        let written = self.spool.write_all(&bytes[..room]);
        let trouble = match written {
            Err(_) => Some(StopReason::DiskFull),
            Ok(()) => (room < bytes.len()).then_some(StopReason::TooMuchOutput),
        };
        // After a failure nobody knows how much of it is there.
        let added = if trouble == Some(StopReason::DiskFull) { 0 } else { room as u64 };
        self.sender.send_modify(|moved| {
            moved.bytes += added;
            moved.trouble = trouble;
        });
    }
}
