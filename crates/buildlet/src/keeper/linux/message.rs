//! How the buildlet and a warden say things to each other: frames of a length and a body.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

pub(super) use crate::keeper::contract::{Apart, Command, Ended, FromWarden, StopReason, ToWarden};

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
