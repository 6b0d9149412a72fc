//! What the buildlet and a warden say to each other: frames of a kind, a length and a body.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// A command, as the warden starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    pub(crate) environment: Vec<(String, String)>,
    /// What a program name with a separator is relative to, as the command sees it.
    pub(crate) work_folder: String,
    /// The working folder, relative to that.
    pub(crate) folder: String,
    /// Standard input comes with the request to start; else there is none.
    pub(crate) stdin: bool,
    /// Standard input is a terminal, whose other side comes too, and output goes there.
    pub(crate) terminal: bool,
    /// The command sees only what the keeper's seal shows.
    pub(crate) sealed: bool,
    /// The command gets namespaces of its own.
    pub(crate) apart: Option<Apart>,
    /// How long it may run.
    pub(crate) timeout_ms: u64,
    /// How many bytes it may write.
    pub(crate) max_output_bytes: u64,
}

/// What a command with namespaces of its own shares with the machine nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Apart {
    /// The network.
    pub(crate) network: bool,
}

/// Why an exec is ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopReason {
    /// Somebody called it off.
    Cancelled,
    /// It ran longer than it may.
    TimedOut,
    /// It wrote more than it may.
    TooMuchOutput,
    /// The coordinator was not heard from for too long.
    Abandoned,
    /// The disk is nearly full.
    DiskFull,
    /// It needs more memory than it may have.
    OutOfMemory,
    /// It starts more processes than it may.
    TooManyProcesses,
    /// The work folder holds more than it may.
    WorkFolderFull,
    /// The buildlet or its warden died.
    BuildletDied,
}

/// From the buildlet to a warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToWarden {
    /// Comes once, first.
    Start(Command),
    /// End it: SIGTERM, then SIGKILL after a grace; at once if that is zero.
    Stop { reason: StopReason, grace_ms: u64 },
    /// Send the command a signal.
    Signal { number: i32 },
}

/// From a warden to the buildlet. Bytes are those in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FromWarden {
    /// The command runs.
    Started { pid: u32 },
    /// It could not be started. Nothing follows.
    NotStarted { reason: String },
    /// The spool holds so many bytes.
    Output { bytes: u64 },
    /// It has ended and so has all that it started. Nothing follows.
    Ended(Ended),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Its exit code, if it exited.
    pub(crate) code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    /// Why we ended it, if we did.
    pub(crate) stopped: Option<StopReason>,
    /// All bytes it wrote.
    pub(crate) bytes: u64,
    /// How long it ran.
    pub(crate) elapsed_us: u64,
    /// Processes that it left behind and that were ended.
    pub(crate) leftovers: u32,
    /// Processes that could not be ended: they hang in the kernel.
    pub(crate) remaining: u32,
}

/// The longest frame: arguments and environment of a command with the 1 MiB that Linux allows, and room to quote.
pub(crate) const MAX_FRAME: usize = 16 << 20;

/// One frame: its length, then its body.
pub(crate) fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4).ok().filter(|length| *length as usize <= MAX_FRAME);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is too long"))?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Reads the body of a frame.
pub(crate) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(io::Error::other)
}

/// The length of a body, as its frame begins.
pub(crate) fn body_length(header: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    Ok(length)
}

/// Writes one message to a blocking socket.
pub(crate) fn send<T: Serialize>(mut socket: impl Write, message: &T) -> io::Result<()> {
    socket.write_all(&frame(message)?)
}

/// Reads one message from a blocking socket; none when the other end has closed it.
pub(crate) fn receive<T: for<'a> Deserialize<'a>>(mut socket: impl Read) -> io::Result<Option<T>> {
    let mut header = [0; 4];
    match socket.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut body = vec![0; body_length(header)?];
    socket.read_exact(&mut body)?;
    parse(&body).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_one_after_the_other() {
        let stop = ToWarden::Stop { reason: StopReason::TimedOut, grace_ms: 5000 };
        let mut wire = Vec::new();
        send(&mut wire, &stop).unwrap();
        send(&mut wire, &FromWarden::Output { bytes: 7 }).unwrap();
        let mut reader = wire.as_slice();
        assert_eq!(receive::<ToWarden>(&mut reader).unwrap(), Some(stop));
        assert_eq!(receive(&mut reader).unwrap(), Some(FromWarden::Output { bytes: 7 }));
        assert_eq!(receive::<FromWarden>(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        let error = receive::<ToWarden>([0xff; 8].as_slice()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
