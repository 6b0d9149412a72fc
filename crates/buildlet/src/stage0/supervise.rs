//! Running the buildlet: from its start to its end, and on.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Stage0Args,
    fetch::Source,
    shelf::{Binary, Shelf},
};
use crate::{platform, server::living};

/// The first and the longest pause after a buildlet that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The pause between attempts to reach the farm at the start.
const NETWORK: Duration = Duration::from_secs(2);
/// How long a buildlet may take to end when we are told to.
const GRACE: Duration = Duration::from_secs(30);
/// No buildlet that nobody has asked to end does so earlier than this: it has to connect and to serve a lease.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How often a buildlet that is no child of ours is looked for.
const LOOK: Duration = Duration::from_millis(500);

/// Keeps a buildlet running.
pub(super) struct Supervisor {
    args: Stage0Args,
    url: String,
    state: PathBuf,
    own: PathBuf,
    source: Source,
    shelf: Shelf,
    shutdown: CancellationToken,
    /// What was said last about the farm, so that an outage fills no log.
    said: String,
    runs: u32,
}

/// How a buildlet ended.
enum Ended {
    /// We are told to end.
    Shutdown,
    /// In order: drained, or ended by somebody.
    InOrder,
    /// Not in order.
    Failed(String),
}

impl Supervisor {
    pub(super) fn new(
        args: Stage0Args,
        (url, state): (String, PathBuf),
        source: Source,
        shelf: Shelf,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        Ok(Self { args, url, state, own, source, shelf, shutdown, said: String::new(), runs: 0 })
    }

    /// Runs one buildlet after another until shutdown.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        self.wait_for_network().await;
        let mut pause = PAUSES.0;
        while !self.shutdown.is_cancelled() {
            let _ = self.ask().await;
            let binary = self.shelf.choose(&self.own);
            let begin = Instant::now();
            let ended = match self.start(&binary) {
                Ok(process) => self.watch(process, &binary).await,
                Err(error) => Ended::Failed(format!("it cannot be started: {error:#}")),
            };
            match ended {
                Ended::Shutdown => break,
                Ended::InOrder => {
                    self.shelf.worked(&binary);
                    pause = PAUSES.0;
                    self.runs += 1;
                    self.reboot_if_due().await;
                }
                Ended::Failed(why) => {
                    self.judge(&binary, begin.elapsed(), &why);
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.shutdown.cancelled() => {}
                    }
                    let steady = begin.elapsed() > self.args.probation;
                    pause = if steady { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
                }
            }
        }
        Ok(())
    }

    /// A binary that fails again and again soon after its start is bad.
    fn judge(&mut self, binary: &Binary, lived: Duration, why: &str) {
        warn!("the buildlet ended: {why}");
        if lived < self.args.probation && self.shelf.failed(binary) {
            let next = self.shelf.choose(&self.own);
            let what = next.digest.as_deref().map_or("this program itself", |_| "the last good one");
            warn!("the new buildlet does not work: it is not run again; {what} takes its place");
        }
    }

    async fn wait_for_network(&mut self) {
        let begin = Instant::now();
        while self.ask().await.is_err() && begin.elapsed() < self.args.network_wait {
            tokio::select! {
                () = sleep(NETWORK) => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    /// Asks the farm; what is wrong is said once.
    async fn ask(&mut self) -> Result<(), ()> {
        match self.source.ask(&mut self.shelf).await {
            Ok(()) => {
                self.said.clear();
                Ok(())
            }
            Err(error) => {
                let text = format!("{error:#}");
                if text != self.said {
                    warn!("no news about buildlets: {text}");
                    self.said = text;
                }
                Err(())
            }
        }
    }

    /// Starts a buildlet, or adopts one that a stage0 before us has left.
    fn start(&self, binary: &Binary) -> anyhow::Result<Process> {
        if let Some(pid) = living(&self.state.join("pid")) {
            info!("a buildlet runs already (process {pid}): it goes on");
            return Ok(Process::Adopted(pid, self.state.join("pid")));
        }
        let mut command = Command::new(&binary.path);
        if !self.args.buildlet.iter().any(|word| word.starts_with("--coordinator")) {
            command.args(["--coordinator", &self.url]);
        }
        command.arg("--state").arg(&self.state).arg("--supervised").args(&self.args.buildlet);
        let child = command.stdin(Stdio::null()).spawn().context("start the buildlet")?;
        info!("started `{}`", binary.path.display());
        Ok(Process::Child(Box::new(child)))
    }

    /// From the start of a buildlet to its end. Asks for news meanwhile; if there are any, the buildlet is asked to end
    /// once it has nothing to do.
    async fn watch(&mut self, mut process: Process, binary: &Binary) -> Ended {
        let begin = Instant::now();
        let (mut good, mut draining) = (false, false);
        loop {
            let probation = self.args.probation.saturating_sub(begin.elapsed());
            tokio::select! {
                ended = process.ended() => return match ended {
                    Ended::InOrder if !draining && process.is_child() && begin.elapsed() < AT_ONCE => {
                        Ended::Failed("it ended at once, as no buildlet does".to_owned())
                    }
                    ended => ended,
                },
                () = self.shutdown.cancelled() => {
                    process.end().await;
                    return Ended::Shutdown;
                }
                () = sleep(probation), if !good => {
                    good = true;
                    self.shelf.worked(binary);
                }
                () = sleep(self.args.ask_every), if good && !draining => {
                    let _ = self.ask().await;
                    if self.shelf.choose(&self.own) != *binary || self.days_are_over() {
                        info!("the buildlet is to end once it has nothing to do");
                        draining = true;
                        if let Some(pid) = process.id() {
                            platform::ask_to_drain(pid, &self.state);
                        }
                    }
                }
            }
        }
    }

    fn days_are_over(&self) -> bool {
        let up = platform::uptime().unwrap_or_default().as_secs();
        self.args.reboot_after_days.is_some_and(|days| up >= days * 86_400)
    }

    async fn reboot_if_due(&mut self) {
        let runs = self.args.reboot_after.is_some_and(|limit| self.runs >= limit);
        if !runs && !self.days_are_over() {
            return;
        }
        info!("rebooting");
        let mut words = self.args.reboot_command.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("reboot"));
        match command.args(words).stdin(Stdio::null()).status().await {
            // The machine is about to go: what is started now would be killed.
            Ok(status) if status.success() => drop(timeout(GRACE, self.shutdown.cancelled()).await),
            Ok(status) => warn!("cannot reboot: `{}` ends with {status}", self.args.reboot_command),
            Err(error) => warn!("cannot reboot: `{}`: {error}", self.args.reboot_command),
        }
        self.runs = 0;
    }
}

/// A buildlet's process.
enum Process {
    Child(Box<Child>),
    /// No child of ours: its pid, and the file that names it.
    Adopted(u32, PathBuf),
}

impl Process {
    async fn ended(&mut self) -> Ended {
        match self {
            Self::Child(child) => match child.wait().await {
                Ok(status) if status.success() => Ended::InOrder,
                Ok(status) => Ended::Failed(describe(status)),
                Err(error) => Ended::Failed(format!("nobody knows how: {error}")),
            },
            Self::Adopted(pid, file) => {
                gone(*pid, file).await;
                Ended::InOrder
            }
        }
    }

    fn is_child(&self) -> bool {
        matches!(self, Self::Child(_))
    }

    fn id(&self) -> Option<u32> {
        match self {
            Self::Child(child) => child.id(),
            Self::Adopted(pid, _) => Some(*pid),
        }
    }

    /// Ends it, in order if it can.
    async fn end(&mut self) {
        self.id().into_iter().for_each(platform::ask_to_end);
        if timeout(GRACE, self.ended()).await.is_err() {
            warn!("killed the buildlet: it did not end");
            self.id().into_iter().for_each(platform::kill);
        }
    }
}

async fn gone(pid: u32, file: &Path) {
    while living(file) == Some(pid) {
        sleep(LOOK).await;
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(78) => "its options cannot be used (exit code 78): its log says why".to_owned(),
        _ => status.to_string(),
    }
}
