//! The keeper's own loop: forks wardens, and ends what killed wardens leave.

use std::{
    collections::HashSet,
    io::{self, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    io::IoSliceMut,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    process::{Pid, getpid, set_child_subreaper, setsid},
};

use super::{
    fork,
    process::{self, Reaped},
    warden::{self, Descriptors},
};

/// How often the dead are looked after while wardens run.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// How long wardens have to end their trees once the buildlet is gone.
const FAREWELL: Duration = Duration::from_secs(3);

/// A request: one byte, with descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Fork a warden: its socket, the spool, the folder, perhaps standard input.
    Start,
    /// Hold a descriptor as long as anything of this buildlet lives: its lock.
    Hold,
    /// End what no warden looks after. Answered by two numbers: how many there were, and how many are left.
    Prove,
}

impl Request {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Start => b'S',
            Self::Hold => b'H',
            Self::Prove => b'P',
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Start, Self::Hold, Self::Prove].into_iter().find(|request| request.byte() == byte)
    }
}

/// Serves the buildlet at the other end of standard input until it is gone, then ends everything.
pub(crate) fn serve() -> io::Result<()> {
    // Away from the terminal's and the caller's signals: only the buildlet's end ends us.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Serving { socket, wardens: HashSet::new(), held: Vec::new() }.run()
}

struct Serving {
    socket: UnixStream,
    wardens: HashSet<Pid>,
    held: Vec<OwnedFd>,
}

impl Serving {
    fn run(mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.reap();
            match self.receive()? {
                Some((Request::Start, fds)) => self.start(fds),
                Some((Request::Hold, fds)) => self.held.extend(fds),
                Some((Request::Prove, _)) => self.prove()?,
                None => return self.farewell(),
            }
        }
    }

    /// Waits for a request; looks after the dead meanwhile.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            let interval = Timespec::try_from(REAP_INTERVAL).ok();
            let timeout = if self.wardens.is_empty() { None } else { interval.as_ref() };
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, timeout) {
                Ok(0) => {
                    self.reap();
                }
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the dead; true if any child lives.
    fn reap(&mut self) -> bool {
        loop {
            match process::reap() {
                Reaped::Child(pid, _) => self.wardens.remove(&pid),
                Reaped::Nothing => return true,
                Reaped::NoneLeft => return false,
            };
        }
    }

    fn receive(&mut self) -> io::Result<Option<(Request, Vec<OwnedFd>)>> {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let read = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if read.bytes == 0 {
            return Ok(None);
        }
        let fds = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = fds.flatten().collect();
        let request = Request::from_byte(byte[0])
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a request that is not known"))?;
        Ok(Some((request, fds)))
    }

    fn start(&mut self, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let (Some(control), Some(spool), Some(folder)) = (fds.next(), fds.next(), fds.next()) else { return };
        let descriptors = Descriptors { control, spool, folder, stdin: fds.next() };
        // The descriptors go either way, so a failed fork shows as a socket that closes.
        if let Ok(pid) = fork::fork(|| warden::run(descriptors)) {
            self.wardens.insert(pid);
        }
    }

    /// Waits for wardens that are about to be gone: only when they are is what they left ours. A warden's socket closes a
    /// moment before.
    fn await_dying(&mut self) {
        let begin = tokio::time::Instant::now();
        loop {
            self.reap();
            if !self.wardens.iter().any(|warden| process::is_exiting(*warden)) || begin.elapsed() > FAREWELL {
                return;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Ends children that are no wardens: what is left of wardens that were killed.
    fn prove(&mut self) -> io::Result<()> {
        self.await_dying();
        let (mut strays, mut remaining) = (0, 0);
        if self.reap() {
            strays = process::descendants(&self.wardens).len() as u32;
            remaining = process::kill_all(|_, _| {}, &self.wardens);
        }
        let mut answer = [0; 8];
        answer[..4].copy_from_slice(&strays.to_be_bytes());
        answer[4..].copy_from_slice(&remaining.to_be_bytes());
        self.socket.write_all(&answer)
    }

    /// The buildlet is gone. Wardens see that too; what they do not end in time is ended here.
    fn farewell(mut self) -> io::Result<()> {
        let begin = tokio::time::Instant::now();
        loop {
            self.reap();
            if self.wardens.is_empty() || begin.elapsed() > FAREWELL {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        match process::kill_all(|_, _| {}, &HashSet::new()) {
            0 => Ok(()),
            left => Err(io::Error::other(format!("{left} processes could not be ended"))),
        }
    }
}
