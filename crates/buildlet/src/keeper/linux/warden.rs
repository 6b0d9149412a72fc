//! A warden: the parent of one command and the heir of all that the command starts.

use std::{
    collections::HashSet,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use cap_std::{ambient_authority, fs::Dir};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{
        Pid, PidfdFlags, Signal, WaitStatus, fchdir, getpid, kill_process_group, pidfd_open,
        set_child_subreaper, setsid,
    },
};
use tokio::time::Instant;

use super::{
    apart::{self, FromFirst, Input},
    descriptors,
    message::{self, Command, Ended, FromWarden, StopReason, ToWarden},
    output::{Moved, Output},
    process::{self, Reaped},
    serve::Request,
    start::{self, Streams},
};
use crate::keeper::GRACE;

/// How often orphans that died are waited for, so that they do not pile up.
const REAP_INTERVAL: Duration = Duration::from_secs(1);
/// How often the buildlet hears of more output at most.
const NEWS_INTERVAL: Duration = Duration::from_millis(1);

/// Waits for an exec and runs it from its start to its end. Nobody is left to tell of errors but the other end of the
/// exec's socket. All that can be done before there is an exec is done before: it costs the exec nothing.
pub(super) fn run(keeper: UnixStream) {
    let _ = setsid();
    let prepared = set_child_subreaper(Some(getpid()));
    // If memory runs out, the system should choose a build, and not the buildlet.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    let mut joined = Joined::default();
    let fds = loop {
        let Ok(Some((byte, fds))) = descriptors::receive(&keeper) else { return };
        match Request::from_byte(byte) {
            // What cannot be joined now is tried again with the exec, which then says why.
            Some(Request::Join) => fds.iter().for_each(|group| joined.join(group).unwrap_or_default()),
            _ => break fds,
        }
    };
    drop(keeper);
    let mut fds = fds.into_iter();
    let (Some(control), Some(spool)) = (fds.next(), fds.next()) else { return };
    let control = UnixStream::from(control);
    let Ok(Some(ToWarden::Start(command))) = message::receive(&control) else { return };
    // Standard input, then the other side if that is a terminal, then the lists of control groups to join.
    let stdin = if command.stdin { fds.next() } else { None };
    let terminal = if command.terminal { fds.next() } else { None };
    let exec = prepared
        .map_err(Into::into)
        .and_then(|()| prepare(&command, &mut joined, fds))
        .map_err(|error| format!("cannot prepare the exec: {error}"))
        .and_then(|()| Exec::start(&control, &command, spool, stdin, terminal));
    match exec {
        Ok(exec) => exec.watch(),
        Err(reason) => {
            let _ = message::send(&control, &FromWarden::NotStarted { reason });
        }
    }
}

/// The control groups that this process has joined, by the device and inode of their lists.
#[derive(Default)]
struct Joined(HashSet<(u64, u64)>);

impl Joined {
    fn join(&mut self, list: &OwnedFd) -> std::io::Result<()> {
        let status = rustix::fs::fstat(list)?;
        if !self.0.contains(&(status.st_dev, status.st_ino)) {
            rustix::io::write(list, b"0")?;
            self.0.insert((status.st_dev, status.st_ino));
        }
        Ok(())
    }
}

/// Joins the groups that set limits, and goes to the working folder, as the command sees it.
fn prepare(
    command: &Command,
    joined: &mut Joined,
    groups: impl Iterator<Item = OwnedFd>,
) -> std::io::Result<()> {
    for group in groups {
        joined.join(&group)?;
    }
    let work = Dir::open_ambient_dir(&command.work_folder, ambient_authority())?;
    let folder = if command.folder.is_empty() { work } else { work.open_dir(&command.folder)? };
    Ok(fchdir(&folder)?)
}

/// An exec that runs.
struct Exec<'a> {
    control: &'a UnixStream,
    /// The command, or the first process of its namespaces.
    main: Pid,
    /// What that process tells.
    first: Option<UnixStream>,
    pidfd: OwnedFd,
    output: Output,
    output_closed: bool,
    status: Option<WaitStatus>,
    started: Instant,
    deadline: Option<Instant>,
    stopped: Option<StopReason>,
    kill_at: Option<Instant>,
    /// When the buildlet last heard of output, and how much.
    told: (Instant, u64),
    /// The buildlet is gone.
    orphaned: bool,
}

impl<'a> Exec<'a> {
    fn start(
        control: &'a UnixStream,
        command: &Command,
        spool: OwnedFd,
        stdin: Option<OwnedFd>,
        terminal: Option<OwnedFd>,
    ) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot prepare the exec: {error}");
        let (output, input) = match (terminal, stdin) {
            (Some(terminal), Some(inner)) => {
                (Output::of_terminal(terminal, spool, command.max_output_bytes), Input::Terminal(inner))
            }
            (_, stdin) => {
                let (output, writer) = Output::new(spool, command.max_output_bytes).map_err(failed)?;
                (output, Input::Streams(Streams { stdin, output: writer }))
            }
        };
        let started = Instant::now();
        let (main, first) = match (command.apart, input) {
            (Some(apart), input) => {
                apart::start(command, apart, input).map(|(main, first)| (main, Some(first)))?
            }
            (None, Input::Streams(streams)) => (start::start(command, streams)?, None),
            (None, Input::Terminal(terminal)) => (start::start_on(&terminal, command)?, None),
        };
        let pidfd = pidfd_open(main, PidfdFlags::empty()).map_err(|error| {
            process::kill_all(|_, _| {}, &HashSet::new());
            failed(error.into())
        })?;
        let exec = Self {
            control,
            main,
            first,
            pidfd,
            output,
            output_closed: false,
            status: None,
            started,
            deadline: started.checked_add(Duration::from_millis(command.timeout_ms)),
            stopped: None,
            kill_at: None,
            told: (started, 0),
            orphaned: false,
        };
        exec.tell(&FromWarden::Started { pid: main.as_raw_nonzero().get() as u32 });
        Ok(exec)
    }

    fn tell(&self, message: &FromWarden) {
        // If the buildlet is gone, the next poll says so.
        let _ = message::send(self.control, message);
    }

    fn watch(mut self) {
        while !self.is_over() {
            self.wait_and_handle();
        }
        let elapsed = self.started.elapsed();
        let (leftovers, remaining) = self.end_leftovers();
        self.take_rest();
        let (code, signal, also) = self.manner();
        let leftovers = leftovers + also;
        self.tell(&FromWarden::Ended(Ended {
            code,
            signal,
            stopped: self.stopped,
            bytes: self.output.bytes(),
            elapsed_us: elapsed.as_micros() as u64,
            leftovers,
            remaining,
        }));
    }

    /// The command's exit code or signal, and how many processes ended with its namespaces.
    fn manner(&self) -> (Option<i32>, Option<i32>, u32) {
        if let Some(first) = &self.first
            && let Ok(Some(FromFirst::Ended { code, signal, leftovers })) = message::receive(first)
        {
            return (code, signal, leftovers);
        }
        let status = self.status;
        (status.and_then(WaitStatus::exit_status), status.and_then(WaitStatus::terminating_signal), 0)
    }

    /// Over when the command has ended by itself, or when all that we end has ended or had its time.
    fn is_over(&mut self) -> bool {
        if self.orphaned {
            return true;
        }
        let all_gone = self.reap();
        let ended = self.status.is_some();
        match self.kill_at {
            None => ended,
            Some(at) => all_gone || Instant::now() >= at,
        }
    }

    /// Waits for what has died; true if nothing is left.
    fn reap(&mut self) -> bool {
        loop {
            match process::reap() {
                Reaped::Child(pid, status) if pid == self.main => self.status = Some(status),
                Reaped::Child(..) => {}
                Reaped::Nothing => return false,
                Reaped::NoneLeft => return true,
            }
        }
    }

    fn wait_and_handle(&mut self) {
        let timeout = Timespec::try_from(self.timeout()).ok();
        let [control, output, main] = {
            let idle = PollFlags::empty();
            let pipe = if self.output_closed { idle } else { PollFlags::IN };
            let main = if self.status.is_some() { idle } else { PollFlags::IN };
            // A closed pipe would wake us for ever, so it is looked at no more.
            let pipe_fd = if self.output_closed { self.control.as_fd() } else { self.output.pipe().as_fd() };
            let main_fd = if self.status.is_some() { self.control.as_fd() } else { self.pidfd.as_fd() };
            let mut fds = [
                PollFd::new(self.control, PollFlags::IN),
                PollFd::from_borrowed_fd(pipe_fd, pipe),
                PollFd::from_borrowed_fd(main_fd, main),
            ];
            let _ = poll(&mut fds, timeout.as_ref());
            fds.map(|fd| fd.revents())
        };
        if !control.is_empty() {
            self.hear();
        }
        if !output.is_empty() && !self.output_closed {
            self.take_output();
        }
        if main.is_empty() {
            self.pass_news();
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.deadline = None;
            self.stop(StopReason::TimedOut, GRACE);
        }
    }

    fn timeout(&self) -> Duration {
        let now = Instant::now();
        let news = (self.output.bytes() > self.told.1).then(|| self.told.0 + NEWS_INTERVAL);
        let soon = if self.kill_at.is_some() { Duration::from_millis(10) } else { REAP_INTERVAL };
        let moments = [self.deadline, self.kill_at, news].into_iter().flatten();
        moments.map(|at| at.saturating_duration_since(now)).fold(soon, Duration::min)
    }

    fn hear(&mut self) {
        match message::receive(self.control) {
            Ok(Some(ToWarden::Stop { reason, grace_ms })) => {
                self.stop(reason, Duration::from_millis(grace_ms));
            }
            Ok(Some(ToWarden::Signal { number })) => self.signal(number),
            Ok(Some(ToWarden::Start(_))) => {}
            Ok(None) | Err(_) => self.orphaned = true,
        }
    }

    /// Signals the command and those that are in its process group still.
    fn signal(&self, number: i32) {
        let Some(signal) = Signal::from_named_raw(number) else { return };
        if self.first.is_none() {
            let _ = kill_process_group(self.main, signal);
            return;
        }
        let mut processes = process::descendants(&HashSet::new());
        processes.retain(|process| *process != self.main);
        process::signal_all(&processes, signal);
    }

    fn take_output(&mut self) {
        match self.output.step() {
            Moved::Some | Moved::Empty => {}
            Moved::Closed => self.output_closed = true,
            Moved::OverLimit => self.stop(StopReason::TooMuchOutput, GRACE),
            Moved::DiskFull => self.stop(StopReason::DiskFull, GRACE),
        }
    }

    /// Takes what is left in the pipe. No writer lives, unless it was handed to a stranger, who is not waited for.
    fn take_rest(&mut self) {
        let reason = loop {
            match self.output.step() {
                Moved::Some => {}
                Moved::Empty | Moved::Closed => return,
                Moved::OverLimit => break StopReason::TooMuchOutput,
                Moved::DiskFull => break StopReason::DiskFull,
            }
        };
        self.stopped.get_or_insert(reason);
    }

    /// Tells the buildlet of more output: at once after a pause, else once in a while.
    fn pass_news(&mut self) {
        let (bytes, now) = (self.output.bytes(), Instant::now());
        if bytes > self.told.1 && now >= self.told.0 + NEWS_INTERVAL {
            self.told = (now, bytes);
            self.tell(&FromWarden::Output { bytes });
        }
    }

    /// Begins to end the command; the first reason counts, the shortest grace too.
    fn stop(&mut self, reason: StopReason, grace: Duration) {
        self.stopped.get_or_insert(reason);
        let at = Instant::now() + grace;
        if self.kill_at.is_none() && !grace.is_zero() {
            process::signal_all(&process::descendants(&HashSet::new()), Signal::TERM);
        }
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }

    /// Ends what is left and counts it: how many there were, and how many cannot be ended.
    fn end_leftovers(&mut self) -> (u32, u32) {
        if self.reap() {
            return (0, 0);
        }
        let main = self.main;
        let leftovers =
            process::descendants(&HashSet::new()).iter().filter(|process| **process != main).count() as u32;
        let status = &mut self.status;
        let remaining = process::kill_all(
            |pid, end| {
                if pid == main {
                    *status = Some(end);
                }
            },
            &HashSet::new(),
        );
        (leftovers, remaining)
    }
}
