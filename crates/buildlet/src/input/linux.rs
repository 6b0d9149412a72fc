//! Input on Linux: a pipe or a terminal, written to without a thread.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, fcntl_setfl, open},
    pipe::{PipeFlags, pipe_with},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::net::unix::pipe::Sender;

use super::{InputError, Size};

/// Ctrl-D at the beginning of a line: how a terminal says that nothing follows.
const END: &[u8] = &[4];

/// Our end of an exec's input.
#[derive(Debug)]
pub(crate) struct ExecInput {
    /// A terminal is written to as a pipe is.
    sink: Sender,
    terminal: bool,
    /// Bytes that the command has, or has room for.
    taken: u64,
}

impl ExecInput {
    /// A pipe. Returns the command's end, too.
    pub(crate) fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((Self::of(writer, false)?, reader))
    }

    /// A terminal. Returns the command's side, and ours once more, for its output.
    pub(crate) fn of_terminal(size: Size) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&outer)?;
        unlockpt(&outer)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let inner = open(ptsname(&outer, Vec::new())?, flags, Mode::empty())?;
        resize(&outer, size)?;
        let output = outer.try_clone()?;
        Ok((Self::of(outer, true)?, inner, output))
    }

    fn of(sink: OwnedFd, terminal: bool) -> io::Result<Self> {
        fcntl_setfl(&sink, if terminal { OFlags::NONBLOCK | OFlags::RDWR } else { OFlags::NONBLOCK })?;
        Ok(Self { sink: Sender::from_owned_fd_unchecked(sink)?, terminal, taken: 0 })
    }

    /// Writes what was not taken before, and waits for room; returns how much was taken in all. What it has taken when
    /// it is dropped, it knows.
    pub(crate) async fn send(&mut self, offset: u64, data: &[u8]) -> Result<u64, InputError> {
        let known = self.taken.checked_sub(offset).ok_or(InputError::Gap { taken: self.taken, offset })?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let mut rest = data.get(known..).unwrap_or_default();
        while !rest.is_empty() {
            let written = self.write(rest).await?;
            self.taken += written as u64;
            rest = &rest[written..];
        }
        Ok(self.taken)
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, InputError> {
        loop {
            self.sink.writable().await.map_err(InputError::Io)?;
            match self.sink.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(InputError::Closed),
                written => return written.map_err(InputError::Io),
            }
        }
    }

    /// Says that nothing follows; true if it is to be dropped for that.
    pub(crate) async fn close(&self) -> bool {
        if self.terminal {
            let _ = self.write(END).await;
        }
        !self.terminal
    }

    /// The terminal, if it is one.
    pub(crate) fn terminal(&self) -> Option<OwnedFd> {
        if self.terminal { self.sink.as_fd().try_clone_to_owned().ok() } else { None }
    }
}

/// Says how large a terminal is.
pub(crate) fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_that_is_sent_again_is_passed_over_and_a_gap_is_refused() {
        let (mut input, reader) = ExecInput::pipe().unwrap();
        assert_eq!(input.send(0, b"hello ").await.unwrap(), 6);
        assert_eq!(input.send(3, b"lo world").await.unwrap(), 11);
        assert_eq!(input.send(0, b"hello").await.unwrap(), 11);
        assert!(matches!(input.send(12, b"x").await, Err(InputError::Gap { taken: 11, offset: 12 })));
        assert!(input.close().await);
        drop(input);
        let text = io::read_to_string(std::fs::File::from(reader)).unwrap();
        assert_eq!(text, "hello world");
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_is_closed() {
        let (mut input, reader) = ExecInput::pipe().unwrap();
        drop(reader);
        assert!(matches!(input.send(0, b"x").await, Err(InputError::Closed)));
    }
}
