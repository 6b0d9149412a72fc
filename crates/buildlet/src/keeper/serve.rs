//! The keeper's own loop: forks wardens, and ends what killed wardens leave.

use std::{
    collections::HashSet,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    process::{Pid, getpid, set_child_subreaper, setsid},
};

use super::{
    descriptors, fork, message,
    process::{self, Reaped},
    seal::{Sealing, Way},
    warden,
};

/// How often the dead are looked after while wardens run.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// How long wardens have to end their trees once the buildlet is gone.
const FAREWELL: Duration = Duration::from_secs(3);

/// A request: one byte, with descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Fork a warden: its socket, the spool, and what else the exec needs.
    Start,
    /// Have the warden that waits join control groups ahead of its exec: to join one can take the system milliseconds.
    Join,
    /// Hold a descriptor as long as anything of this buildlet lives: its lock.
    Hold,
    /// End what no warden looks after. Answered by two numbers: how many there were, and how many are left.
    Prove,
    /// Another folder has taken the work folder's place: show commands that. Answered by what went wrong, if anything did.
    Follow,
}

impl Request {
    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Start => b'S',
            Self::Join => b'J',
            Self::Hold => b'H',
            Self::Prove => b'P',
            Self::Follow => b'F',
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Start, Self::Join, Self::Hold, Self::Prove, Self::Follow]
            .into_iter()
            .find(|request| request.byte() == byte)
    }
}

/// Serves the buildlet at the other end of standard input until it is gone, then ends everything.
pub(crate) fn serve(sealing: &Sealing) -> io::Result<()> {
    // Away from the terminal's and the caller's signals: only the buildlet's end ends us.
    let _ = setsid();
    fork::heed_signals();
    set_child_subreaper(Some(getpid()))?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    let (view, way) = sealing.enter();
    message::send(&socket, &view)?;
    let mut serving = Serving { socket, way, wardens: HashSet::new(), spare: None, held: Vec::new() };
    serving.spare = serving.fork_spare().ok();
    serving.run()
}

struct Serving {
    socket: UnixStream,
    /// None if commands see the work folder where it is.
    way: Option<Way>,
    wardens: HashSet<Pid>,
    /// The warden that waits for an exec.
    spare: Option<UnixStream>,
    held: Vec<OwnedFd>,
}

impl Serving {
    fn run(mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.reap();
            match self.receive()? {
                Some((Request::Start, fds)) => self.start(fds),
                Some((Request::Join, fds)) => self.join(&fds),
                Some((Request::Hold, fds)) => self.held.extend(fds),
                Some((Request::Prove, _)) => self.prove()?,
                Some((Request::Follow, _)) => {
                    let followed = self.way.as_ref().map_or(Ok(()), Way::follow);
                    message::send(&self.socket, &followed.err().map(|error| error.to_string()))?;
                }
                None => return self.farewell(),
            }
        }
    }

    /// Waits for a request; looks after the dead meanwhile.
    fn wait(&mut self) -> io::Result<()> {
        loop {
            let interval = Timespec::try_from(REAP_INTERVAL).ok();
            let idle = self.wardens.len() <= usize::from(self.spare.is_some());
            let timeout = if idle { None } else { interval.as_ref() };
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
        let Some((byte, fds)) = descriptors::receive(&self.socket)? else { return Ok(None) };
        let request = Request::from_byte(byte)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a request that is not known"))?;
        Ok(Some((request, fds)))
    }

    /// Hands an exec to the warden that waits for one, and has another wait for the next.
    fn start(&mut self, fds: Vec<OwnedFd>) {
        let lent: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let handed = |spare: &UnixStream| descriptors::send(spare, Request::Start.byte(), &lent).is_ok();
        let taken = self.spare.take().is_some_and(|spare| handed(&spare));
        if !taken {
            // It was killed, or could not be forked. The descriptors go either way, so that a failure shows as a
            // socket that closes.
            let _ = self.fork_spare().is_ok_and(|spare| handed(&spare));
        }
        drop(lent);
        drop(fds);
        self.spare = self.fork_spare().ok();
    }

    /// Passes groups on to the warden that waits. If none does, the exec comes with them again.
    fn join(&self, groups: &[OwnedFd]) {
        if let Some(spare) = &self.spare {
            let lent: Vec<_> = groups.iter().map(AsFd::as_fd).collect();
            let _ = descriptors::send(spare, Request::Join.byte(), &lent);
        }
    }

    /// Forks a warden ahead of its exec, which then need not wait for that.
    fn fork_spare(&mut self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = Some(ours);
        let pid = fork::fork(|| {
            // Only the keeper's end may be left: it is by its end that the warden sees that of the keeper.
            ours.take();
            warden::run(theirs);
        })?;
        self.wardens.insert(pid);
        ours.ok_or_else(|| io::Error::other("a warden took the keeper's end"))
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

    /// Whether there is a child that is no warden, as far as the system tells.
    fn has_strays(&self) -> bool {
        process::children().is_none_or(|children| children.iter().any(|child| !self.wardens.contains(child)))
    }

    /// Ends children that are no wardens: what is left of wardens that were killed.
    fn prove(&mut self) -> io::Result<()> {
        self.await_dying();
        let (mut strays, mut remaining) = (0, 0);
        if self.reap() && self.has_strays() {
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
        self.spare = None;
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
