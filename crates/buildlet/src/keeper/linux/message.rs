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

    #[test]
    fn whatever_comes_in_frames_is_read_as_it_was_meant_or_refused() {
        let command = Command {
            argv: vec!["sh".to_owned(), "-c".to_owned(), "true \"\u{1}\"".to_owned()],
            environment: vec![("A".to_owned(), "b".to_owned())],
            work_folder: "/farmer/work".to_owned(),
            folder: "src".to_owned(),
            stdin: true,
            terminal: false,
            sealed: true,
            apart: Some(Apart { network: false }),
            timeout_ms: 5,
            max_output_bytes: 7,
        };
        let ended = Ended {
            code: None,
            signal: Some(9),
            stopped: Some(StopReason::OutOfMemory),
            bytes: 1,
            elapsed_us: 2,
            leftovers: 3,
            remaining: 0,
        };
        let to = [
            ToWarden::Start(command),
            ToWarden::Stop { reason: StopReason::TimedOut, grace_ms: 1 },
            ToWarden::Signal { number: 15 },
        ];
        let from =
            [FromWarden::Started { pid: 7 }, FromWarden::Output { bytes: 9 }, FromWarden::Ended(ended)];
        let told = to.iter().map(|message| frame(message).unwrap());
        let mut examples: Vec<_> = told.chain(from.iter().map(|message| frame(message).unwrap())).collect();
        examples.push(examples.concat());
        testkit::fuzz("frames", &std::env::temp_dir(), &examples, |input| {
            read_all::<ToWarden>(input);
            read_all::<FromWarden>(input);
        });
    }

    /// Reads messages to their end or to what is none; each must come back as it was.
    fn read_all<T>(mut wire: &[u8])
    where
        T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
    {
        while let Ok(Some(message)) = receive::<T>(&mut wire) {
            let again = frame(&message).unwrap();
            assert_eq!(receive::<T>(again.as_slice()).unwrap(), Some(message));
        }
    }
}
