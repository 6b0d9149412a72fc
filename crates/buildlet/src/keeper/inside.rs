//! The keeper where it is no process of its own: it lives in the buildlet, and each exec's warden is the one that reads
//! what becomes of it.
//!
//! What a command has started is known as far as the system tells ([`tree::Tree`]): on Windows a job holds all of it and
//! ends it when the buildlet ends, however that happens; elsewhere it is the command's process group, and what leaves the
//! group is not found again. Nothing is hidden from commands, and the status says so. On Linux it serves where there are
//! no child subreapers.

#[cfg(unix)]
#[path = "inside/group.rs"]
mod tree;
#[cfg(windows)]
#[path = "inside/job.rs"]
mod tree;

mod exec;
mod output;

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::contract::{Command, FromWarden, KeeperError, Proof, Start, ToWarden, Usage, View};
use crate::{Config, platform::AsHandle};
use exec::Exec;
use tree::Tree;

/// How many wardens wait for execs: none is needed.
#[cfg(not(target_os = "linux"))]
pub(crate) const SPARES: usize = 0;
/// What a warden may be told before it has heard what it was told before: whoever tells it more waits.
const ORDERS: usize = 8;

/// Serves a buildlet as its keeper, which none here needs.
#[cfg(not(target_os = "linux"))]
pub(crate) fn serve(_args: &crate::Args) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the keeper is no process of its own on this system"))
}

/// Ends what an earlier buildlet left: on Windows nothing ever is, elsewhere it cannot be found.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_marked(_marks: &[String]) -> usize {
    0
}

/// The keeper.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    work: PathBuf,
    running: Running,
}

/// What runs, by the command's process.
#[derive(Debug, Clone, Default)]
struct Running(Arc<Mutex<HashMap<u32, Arc<Tree>>>>);

impl Running {
    fn held(&self) -> MutexGuard<'_, HashMap<u32, Arc<Tree>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::unused_async, reason = "a keeper that is a process of its own is waited for")]
impl Keeper {
    /// The keeper of a buildlet.
    #[expect(clippy::unnecessary_wraps, reason = "a process of its own may not be started")]
    pub(crate) fn spawn(config: &Config) -> Result<Self, KeeperError> {
        Ok(Self::of(config.work.clone()))
    }

    fn of(work: PathBuf) -> Self {
        Self { work, running: Running::default() }
    }

    /// Whether execs join control groups.
    #[expect(clippy::unused_self, reason = "a process of its own has its wardens join them")]
    pub(crate) fn joins_groups(&self) -> bool {
        false
    }

    /// Whether [`Self::usage`] knows: a job is looked into, a process group says nothing.
    #[expect(clippy::unused_self, reason = "a process of its own always knows")]
    pub(crate) fn knows_usage(&self) -> bool {
        cfg!(windows)
    }

    /// What commands will see of the machine: all that their user can.
    pub(crate) async fn view(&self) -> Result<View, KeeperError> {
        let open = Some("the buildlet can hide nothing on this system".to_owned());
        Ok(View { work_folder: self.work.display().to_string(), open, follows: false })
    }

    /// Shows commands another work folder: they see it where it is.
    pub(crate) async fn follow(&self) -> Result<(), KeeperError> {
        Ok(())
    }

    /// Waits until the keeper is dead, which it is with the buildlet only.
    pub(crate) async fn died(&self) {
        std::future::pending::<()>().await;
    }

    /// Ends what it still keeps.
    pub(crate) async fn dismiss(&self) {
        self.running.held().values().for_each(|tree| tree.kill());
    }

    /// Holds something for as long as anything of this buildlet lives: the buildlet itself does.
    pub(crate) async fn hold(&self, _handle: impl AsHandle + Send) -> Result<(), KeeperError> {
        Ok(())
    }

    /// Joins control groups, of which there are none.
    pub(crate) async fn join(&self, _groups: &[crate::platform::Handle]) -> Result<(), KeeperError> {
        Ok(())
    }

    /// Starts a command. Its warden says whether that worked.
    pub(crate) async fn start(&self, command: &Command, start: Start) -> Result<Warden, KeeperError> {
        let (sender, orders) = mpsc::channel(ORDERS);
        let stage = match Exec::start(command, start) {
            Ok(exec) => {
                self.running.held().insert(exec.pid(), exec.tree().clone());
                Stage::Started(Box::new(exec))
            }
            Err(reason) => Stage::NotStarted(reason),
        };
        let reader = WardenReader { stage, orders, running: self.running.clone() };
        Ok(Warden { reader, writer: WardenWriter(sender) })
    }

    /// What a command, by its process, and all that came of it use, if the system says.
    pub(crate) async fn usage(&self, pid: u32) -> Usage {
        self.running.held().get(&pid).map(|tree| tree.usage()).unwrap_or_default()
    }

    /// Ends what no warden looks after.
    pub(crate) async fn prove(&self) -> Result<Proof, KeeperError> {
        let left: Vec<_> = self.running.held().drain().map(|(_, tree)| tree).collect();
        let mut proof = Proof { strays: 0, remaining: 0 };
        for tree in left {
            let (strays, remaining) = tree.end().await;
            proof.strays += strays;
            proof.remaining += remaining;
        }
        Ok(proof)
    }
}

/// One exec's warden.
#[derive(Debug)]
pub(crate) struct Warden {
    reader: WardenReader,
    writer: WardenWriter,
}

impl Warden {
    /// The halves: what it tells, and what it is told.
    pub(crate) fn split(self) -> (WardenReader, WardenWriter) {
        (self.reader, self.writer)
    }
}

/// What a warden tells. Whoever reads it to its end does the warden's work by that; dropped before, it ends the exec.
#[derive(Debug)]
pub(crate) struct WardenReader {
    stage: Stage,
    orders: mpsc::Receiver<ToWarden>,
    running: Running,
}

#[derive(Debug)]
enum Stage {
    NotStarted(String),
    Started(Box<Exec>),
    Runs(Box<Exec>),
    Over,
}

impl WardenReader {
    /// The next message; none once the exec is over.
    pub(crate) async fn next(&mut self) -> io::Result<Option<FromWarden>> {
        if let Stage::Runs(exec) = &mut self.stage {
            let message = exec.next(&mut self.orders).await;
            if let FromWarden::Ended(_) = &message {
                self.leave();
            }
            return Ok(Some(message));
        }
        Ok(match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::NotStarted(reason) => Some(FromWarden::NotStarted { reason }),
            Stage::Started(exec) => {
                let pid = exec.pid();
                self.stage = Stage::Runs(exec);
                Some(FromWarden::Started { pid })
            }
            Stage::Runs(_) | Stage::Over => None,
        })
    }

    fn leave(&mut self) {
        if let Stage::Started(exec) | Stage::Runs(exec) = std::mem::replace(&mut self.stage, Stage::Over) {
            self.running.held().remove(&exec.pid());
        }
    }
}

impl Drop for WardenReader {
    fn drop(&mut self) {
        if let Stage::Started(exec) | Stage::Runs(exec) = &self.stage {
            exec.tree().kill();
        }
        self.leave();
    }
}

/// What a warden is told.
#[derive(Debug)]
pub(crate) struct WardenWriter(mpsc::Sender<ToWarden>);

impl WardenWriter {
    /// Tells the warden something. It may be gone already: then what was asked for has happened.
    pub(crate) async fn send(&mut self, message: &ToWarden) {
        let _ = self.0.send(message.clone()).await;
    }
}

#[cfg(test)]
#[path = "inside/tests.rs"]
mod tests;
