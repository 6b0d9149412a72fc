//! Output on its way from the command's pipe to the spool, inside the kernel.
//!
//! The command writes to a pipe, not to the spool file itself: `echo >/dev/stderr` opens what it finds there anew and
//! would truncate a file. The warden moves the bytes with `splice`, so they are never copied to user space here.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

/// How much is moved at a time, and how much the pipe holds if the system lets it.
const STEP: usize = 1 << 20;

/// What one step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Some bytes.
    Some,
    /// None now, but writers are left.
    Empty,
    /// None, and none will come.
    Closed,
    /// It writes more than it may. The rest is thrown away.
    OverLimit,
    /// The spool takes no more. The rest is thrown away.
    DiskFull,
}

/// The pipe's reading end and the spool.
pub(super) struct Output {
    pipe: OwnedFd,
    spool: OwnedFd,
    /// Where bytes go once they are not wanted.
    waste: Option<OwnedFd>,
    bytes: u64,
    limit: u64,
    /// The spool's file system cannot splice.
    copies: bool,
}

impl Output {
    /// A pipe into the spool. Returns the end that the command writes to.
    pub(super) fn new(spool: OwnedFd, limit: u64) -> io::Result<(Self, OwnedFd)> {
        let (pipe, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only more speed: a user near the system's limit for pipes keeps a smaller one.
        let _ = fcntl_setpipe_size(&pipe, STEP);
        Ok((Self { pipe, spool, waste: None, bytes: 0, limit, copies: false }, writer))
    }

    /// From a terminal, which must not block, into the spool.
    pub(super) fn of_terminal(terminal: OwnedFd, spool: OwnedFd, limit: u64) -> Self {
        Self { pipe: terminal, spool, waste: None, bytes: 0, limit, copies: true }
    }

    /// Bytes in the spool.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What to poll for bytes.
    pub(super) fn pipe(&self) -> &OwnedFd {
        &self.pipe
    }

    /// Moves what is there, up to one step, without waiting.
    pub(super) fn step(&mut self) -> Moved {
        if self.waste.is_some() {
            return self.throw_away();
        }
        let room = self.limit.saturating_sub(self.bytes).min(STEP as u64) as usize;
        if room == 0 {
            return self.at_limit();
        }
        let moved = if self.copies { self.copy(room) } else { self.splice(room) };
        match moved {
            Err(Errno::INVAL) if !self.copies => {
                self.copies = true;
                let _ = rustix::fs::fcntl_setfl(&self.pipe, OFlags::NONBLOCK);
                self.step()
            }
            Err(Errno::AGAIN) => Moved::Empty,
            // A terminal that nobody has open any more.
            Err(Errno::IO) if self.copies => Moved::Closed,
            Err(_) => {
                self.discard();
                Moved::DiskFull
            }
            moved => outcome(moved),
        }
    }

    /// Throws away all that comes from now on.
    fn discard(&mut self) {
        self.waste = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok();
    }

    /// Exactly as much as it may write is not too much: only another byte is.
    fn at_limit(&mut self) -> Moved {
        self.discard();
        if self.waste.is_none() {
            return Moved::OverLimit;
        }
        match self.throw_away() {
            Moved::Some => Moved::OverLimit,
            other => {
                self.waste = None;
                other
            }
        }
    }

    fn throw_away(&self) -> Moved {
        match &self.waste {
            Some(waste) if !self.copies => outcome(splice_some(&self.pipe, waste, None, STEP)),
            _ => outcome(rustix::io::read(&self.pipe, &mut [0; 16 << 10])),
        }
    }

    fn splice(&mut self, room: usize) -> Result<usize, Errno> {
        let moved = splice_some(&self.pipe, &self.spool, Some(self.bytes), room)?;
        self.bytes += moved as u64;
        Ok(moved)
    }

    fn copy(&mut self, room: usize) -> Result<usize, Errno> {
        let mut buffer = vec![0; room.min(64 << 10)];
        let read = rustix::io::read(&self.pipe, &mut buffer)?;
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let written = rustix::io::pwrite(&self.spool, rest, self.bytes)?;
            self.bytes += written as u64;
            rest = &rest[written..];
        }
        Ok(read)
    }
}

fn splice_some(pipe: impl AsFd, to: impl AsFd, at: Option<u64>, room: usize) -> Result<usize, Errno> {
    loop {
        let mut offset = at.unwrap_or(0);
        let at = at.is_some().then_some(&mut offset);
        match splice(&pipe, None, &to, at, room, SpliceFlags::NONBLOCK) {
            Err(Errno::INTR) => {}
            moved => return moved,
        }
    }
}

fn outcome(moved: Result<usize, Errno>) -> Moved {
    match moved {
        Ok(0) => Moved::Closed,
        Ok(_) => Moved::Some,
        Err(Errno::AGAIN) => Moved::Empty,
        Err(_) => Moved::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(limit: u64) -> (Output, OwnedFd, std::fs::File) {
        let file = tempfile::tempfile().unwrap();
        let (output, writer) = Output::new(file.try_clone().unwrap().into(), limit).unwrap();
        (output, writer, file)
    }

    fn content(file: &std::fs::File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn bytes_reach_the_spool_until_the_last_writer_is_gone() {
        let (mut output, writer, file) = output(100);
        assert_eq!(output.step(), Moved::Empty);
        rustix::io::write(&writer, b"hello ").unwrap();
        assert_eq!(output.step(), Moved::Some);
        rustix::io::write(&writer, b"world").unwrap();
        drop(writer);
        assert_eq!((output.step(), output.step()), (Moved::Some, Moved::Closed));
        assert_eq!(content(&file), b"hello world");
    }

    #[test]
    fn the_limit_is_exact() {
        for (text, last) in [("12345", Moved::Closed), ("123456", Moved::OverLimit)] {
            let (mut output, writer, file) = output(5);
            rustix::io::write(&writer, text.as_bytes()).unwrap();
            drop(writer);
            assert_eq!((output.step(), output.step()), (Moved::Some, last));
            assert_eq!(content(&file), b"12345");
            assert_eq!(output.bytes(), 5);
        }
    }
}
