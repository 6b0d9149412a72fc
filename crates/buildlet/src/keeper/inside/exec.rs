//! One exec from its start to its end, as its warden sees it.

use std::{io, process::Stdio, sync::Arc, time::Duration};

use cap_std::{ambient_authority, fs::Dir};
use tokio::{
    process::{Child, Command as TokioCommand},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    output::Output,
    tree::{self, Tree},
};
use crate::keeper::{
    GRACE, StopReason,
    contract::{Command, Ended, FromWarden, Start, ToWarden},
    program::{cannot, find},
};

/// How often the buildlet hears of more output at most.
const NEWS_INTERVAL: Duration = Duration::from_millis(1);
/// How long the last of the output is waited for once the command and all that it started have ended. Only a stranger that
/// was handed the pipe can keep it open then.
const REST: Duration = Duration::from_secs(1);
/// When nothing is due.
const LATER: Duration = Duration::from_hours(1);

/// An exec that runs.
#[derive(Debug)]
pub(super) struct Exec {
    child: Child,
    pid: u32,
    tree: Arc<Tree>,
    output: Output,
    started: Instant,
    deadline: Option<Instant>,
    stopped: Option<StopReason>,
    kill_at: Option<Instant>,
    /// When the buildlet last heard of output, and how much.
    told: (Instant, u64),
}

impl Exec {
    /// Starts a command. The error is for people.
    pub(super) fn start(command: &Command, start: Start) -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot prepare the exec: {error}");
        if command.terminal {
            return Err("the buildlet has no terminals on this system".to_owned());
        }
        let name = command.argv.first().ok_or("no command was given")?;
        let program = find(command, name)?;
        let (output, writer) = Output::new(start.spool, command.max_output_bytes).map_err(failed)?;
        let second = writer.try_clone().map_err(failed)?;
        let folder = folder(command).map_err(failed)?;
        let mut prepared = TokioCommand::new(&program);
        prepared
            .args(&command.argv[1..])
            .env_clear()
            .envs(command.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(start.stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(writer)
            .stderr(second)
            .kill_on_drop(true);
        Tree::prepare(&mut prepared);
        let started = Instant::now();
        let child = prepared.spawn().map_err(|error| cannot(command, &error))?;
        // Only the command may hold the ends of its pipes.
        drop(prepared);
        let tree = Tree::adopt(&child).map_err(|error| cannot(command, &error))?;
        Ok(Self {
            pid: child.id().unwrap_or_default(),
            child,
            tree: Arc::new(tree),
            output,
            started,
            deadline: started.checked_add(Duration::from_millis(command.timeout_ms)),
            stopped: None,
            kill_at: None,
            told: (started, 0),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// What happens next.
    pub(super) async fn next(&mut self, orders: &mut mpsc::Receiver<ToWarden>) -> FromWarden {
        loop {
            let due = self.due();
            tokio::select! {
                status = self.child.wait() => return FromWarden::Ended(self.end(status).await),
                Some(order) = orders.recv() => self.obey(&order),
                Ok(()) = self.output.moved.changed() => {
                    let trouble = self.output.moved.borrow_and_update().trouble;
                    if let Some(reason) = trouble && self.stopped.is_none() {
                        self.stop(reason, GRACE);
                    }
                }
                () = sleep_until(due) => {
                    if let Some(news) = self.news() {
                        return news;
                    }
                }
            }
        }
    }

    fn due(&self) -> Instant {
        let bytes = self.output.moved.borrow().bytes;
        let news = (bytes > self.told.1).then(|| self.told.0 + NEWS_INTERVAL);
        let moments = [self.deadline, self.kill_at, news].into_iter().flatten();
        moments.fold(Instant::now() + LATER, Instant::min)
    }

    /// Does what is due; says how much output there is, if that is.
    fn news(&mut self) -> Option<FromWarden> {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.stop(StopReason::TimedOut, GRACE);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            self.tree.kill();
        }
        let bytes = self.output.moved.borrow().bytes;
        let due = bytes > self.told.1 && now >= self.told.0 + NEWS_INTERVAL;
        due.then(|| {
            self.told = (now, bytes);
            FromWarden::Output { bytes }
        })
    }

    fn obey(&mut self, order: &ToWarden) {
        match order {
            ToWarden::Stop { reason, grace_ms } => self.stop(*reason, Duration::from_millis(*grace_ms)),
            ToWarden::Signal { number } => self.tree.signal(*number),
            ToWarden::Start(_) => {}
        }
    }

    /// Begins to end the command; the first reason counts, the shortest grace too.
    fn stop(&mut self, reason: StopReason, grace: Duration) {
        let first = self.stopped.is_none();
        self.stopped.get_or_insert(reason);
        if grace.is_zero() {
            self.kill_at = None;
            self.tree.kill();
            return;
        }
        if first {
            self.tree.ask_to_end();
        }
        let at = Instant::now() + grace;
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }

    /// The command has ended: what it left is ended too, and the rest of the output taken.
    async fn end(&mut self, status: io::Result<std::process::ExitStatus>) -> Ended {
        let elapsed = self.started.elapsed();
        let (leftovers, remaining) = self.tree.end().await;
        let _ = timeout(REST, self.output.moved.wait_for(|moved| moved.closed)).await;
        let moved = *self.output.moved.borrow();
        if let Some(trouble) = moved.trouble {
            self.stopped.get_or_insert(trouble);
        }
        let status = status.ok();
        Ended {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(tree::ending_signal),
            stopped: self.stopped,
            bytes: moved.bytes,
            elapsed_us: elapsed.as_micros() as u64,
            leftovers,
            remaining,
        }
    }
}

/// The working folder, which lies in the work folder however it is named: the system is asked, not the text.
fn folder(command: &Command) -> io::Result<std::path::PathBuf> {
    let work = std::path::PathBuf::from(&command.work_folder);
    if command.folder.is_empty() {
        return Ok(work);
    }
    let inside = Dir::open_ambient_dir(&work, ambient_authority())?;
    Ok(work.join(inside.canonicalize(&command.folder)?))
}
