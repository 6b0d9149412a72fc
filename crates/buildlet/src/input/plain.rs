//! Input where a pipe cannot be written to without waiting: a thread of the runtime waits for it. There are no terminals.

use std::{
    io::{self, PipeWriter, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use super::{InputError, Size};
use crate::platform::{AsHandle, Handle};

/// How much is written at a time: what was taken is known to this.
const STEP: usize = 4 << 10;

/// Our end of an exec's input.
#[derive(Debug)]
pub(crate) struct ExecInput(Arc<Mutex<Pipe>>);

#[derive(Debug)]
struct Pipe {
    sink: PipeWriter,
    /// Bytes that the command has, or has room for.
    taken: u64,
}

fn no_terminals() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the buildlet has no terminals on this system")
}

impl ExecInput {
    /// A pipe. Returns the command's end, too.
    pub(crate) fn pipe() -> io::Result<(Self, Handle)> {
        let (reader, sink) = io::pipe()?;
        Ok((Self(Arc::new(Mutex::new(Pipe { sink, taken: 0 }))), reader.into()))
    }

    /// A terminal, which there is none of.
    pub(crate) fn of_terminal(_size: Size) -> io::Result<(Self, Handle, Handle)> {
        Err(no_terminals())
    }

    /// Writes what was not taken before, and waits for room; returns how much was taken in all. What it has taken when
    /// it is dropped, it knows: the thread goes on with what it has.
    pub(crate) async fn send(&mut self, offset: u64, data: &[u8]) -> Result<u64, InputError> {
        let (pipe, data) = (self.0.clone(), data.to_vec());
        let sent = tokio::task::spawn_blocking(move || {
            pipe.lock().unwrap_or_else(PoisonError::into_inner).send(offset, &data)
        });
        sent.await.unwrap_or_else(|error| Err(InputError::Io(io::Error::other(error))))
    }

    /// Says that nothing follows: it is to be dropped for that.
    #[expect(clippy::unused_async, reason = "a terminal is written to for that")]
    pub(crate) async fn close(&self) -> bool {
        true
    }

    /// The terminal, if it is one.
    #[expect(clippy::unused_self, reason = "other systems have terminals")]
    pub(crate) fn terminal(&self) -> Option<Handle> {
        None
    }
}

impl Pipe {
    fn send(&mut self, offset: u64, data: &[u8]) -> Result<u64, InputError> {
        let known = self.taken.checked_sub(offset).ok_or(InputError::Gap { taken: self.taken, offset })?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        for piece in data.get(known..).unwrap_or_default().chunks(STEP) {
            match self.sink.write_all(piece) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(InputError::Closed),
                written => written.map_err(InputError::Io)?,
            }
            self.taken += piece.len() as u64;
        }
        Ok(self.taken)
    }
}

/// Says how large a terminal is.
pub(crate) fn resize(_terminal: impl AsHandle, _size: Size) -> io::Result<()> {
    Err(no_terminals())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_that_is_sent_again_is_passed_over_and_a_gap_is_refused() {
        let (mut input, reader) = ExecInput::pipe().unwrap();
        assert_eq!(input.send(0, b"hello ").await.unwrap(), 6);
        assert_eq!(input.send(3, b"lo world").await.unwrap(), 11);
        assert!(matches!(input.send(12, b"x").await, Err(InputError::Gap { taken: 11, offset: 12 })));
        assert!(input.close().await && input.terminal().is_none());
        drop(input);
        assert_eq!(io::read_to_string(std::fs::File::from(reader)).unwrap(), "hello world");
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_is_closed() {
        let (mut input, reader) = ExecInput::pipe().unwrap();
        drop(reader);
        assert!(matches!(input.send(0, b"x").await, Err(InputError::Closed)));
        assert!(ExecInput::of_terminal(Size { rows: 1, columns: 1 }).is_err());
    }
}
