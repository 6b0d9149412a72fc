//! The keeper's own loop: forks wardens, and ends what killed wardens leave.

use std::{
    collections::{HashSet, VecDeque},
    io::{self, Write},
    iter,
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
use crate::Args;

/// How often the dead are looked after while wardens run.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// How many wardens wait for execs. To join a control group can take the system longer than a short exec lasts, so one is
/// not enough for execs that follow each other.
pub(crate) const SPARES: usize = 2;
/// How long wardens have to end their trees once the buildlet is gone.
const FAREWELL: Duration = Duration::from_secs(3);

/// A request: one byte, with descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Fork a warden: its socket, the spool, and what else the exec needs.
    Start,
    /// Have the first waiting warden that has joined no control groups join some ahead of its exec: that can take the
    /// system milliseconds.
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
pub(crate) fn serve(args: &Args) -> io::Result<()> {
    let sealing = Sealing::of(args);
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
    let mut serving =
        Serving { socket, way, wardens: HashSet::new(), spares: VecDeque::new(), held: Vec::new() };
    serving.fork_spares();
    serving.run()
}

struct Serving {
    socket: UnixStream,
    /// None if commands see the work folder where it is.
    way: Option<Way>,
    wardens: HashSet<Pid>,
    /// The wardens that wait for execs; they get them in this order.
    spares: VecDeque<Spare>,
    held: Vec<OwnedFd>,
}

/// A warden that waits for an exec.
struct Spare {
    socket: UnixStream,
    /// Was told to join groups.
    joined: bool,
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
            let idle = self.wardens.len() <= self.spares.len();
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

    /// Hands an exec to the first warden that waits for one, and has another wait in its place.
    fn start(&mut self, fds: Vec<OwnedFd>) {
        let lent: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let handed = |spare: &Spare| descriptors::send(&spare.socket, Request::Start.byte(), &lent).is_ok();
        // One that was killed takes nothing, then it is the next one's.
        let taken = iter::from_fn(|| self.spares.pop_front()).any(|spare| handed(&spare));
        if !taken {
            // The descriptors go either way, so that a failure shows as a socket that closes.
            let _ = self.fork_spare().is_ok_and(|spare| handed(&spare));
        }
        drop(lent);
        drop(fds);
        self.fork_spares();
    }

    /// Passes groups on to a warden that waits. If none does, the exec comes with them again.
    fn join(&mut self, groups: &[OwnedFd]) {
        if let Some(spare) = self.spares.iter_mut().find(|spare| !spare.joined) {
            let lent: Vec<_> = groups.iter().map(AsFd::as_fd).collect();
            spare.joined = descriptors::send(&spare.socket, Request::Join.byte(), &lent).is_ok();
        }
    }

    /// Has as many wardens wait as should.
    fn fork_spares(&mut self) {
        while self.spares.len() < SPARES {
            let Ok(spare) = self.fork_spare() else { return };
            self.spares.push_back(spare);
        }
    }

    /// Forks a warden ahead of its exec, which then need not wait for that.
    fn fork_spare(&mut self) -> io::Result<Spare> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut ours = Some(ours);
        let spares = &mut self.spares;
        let pid = fork::fork(|| {
            // Only the keeper may have its ends of these: it is by their end that wardens see that of the keeper.
            ours.take();
            spares.clear();
            warden::run(theirs);
        })?;
        self.wardens.insert(pid);
        let socket = ours.ok_or_else(|| io::Error::other("a warden took the keeper's end"))?;
        Ok(Spare { socket, joined: false })
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
        self.spares.clear();
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
