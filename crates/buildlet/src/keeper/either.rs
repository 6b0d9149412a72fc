//! The keeper on Linux: a process of its own, or, where the kernel has no child subreapers, the one that lives in the
//! buildlet. Every kernel of these ten years has them; what emulates one may not.

use std::io;

use super::{
    contract::{Command, FromWarden, KeeperError, Proof, Start, ToWarden, Usage, View},
    inside, linux,
};
use crate::{
    Config,
    platform::{AsHandle, Handle},
};

/// The keeper.
#[derive(Debug, Clone)]
pub(crate) enum Keeper {
    Apart(linux::Keeper),
    Inside(inside::Keeper),
}

/// Asks whichever keeper there is.
macro_rules! ask {
    ($enumeration:ident, $of:expr, $keeper:ident => $answer:expr) => {
        match $of {
            $enumeration::Apart($keeper) => $answer,
            $enumeration::Inside($keeper) => $answer,
        }
    };
}

impl Keeper {
    /// The keeper of a buildlet.
    pub(crate) fn spawn(config: &Config) -> Result<Self, KeeperError> {
        match rustix::process::child_subreaper() {
            Ok(_) => linux::Keeper::spawn(config).map(Self::Apart),
            Err(error) => {
                tracing::warn!("what leaves the process group of an exec is not found again: {error}");
                inside::Keeper::spawn(config).map(Self::Inside)
            }
        }
    }

    /// Whether execs join control groups.
    pub(crate) fn joins_groups(&self) -> bool {
        ask!(Self, self, keeper => keeper.joins_groups())
    }

    /// Whether [`Self::usage`] knows.
    pub(crate) fn knows_usage(&self) -> bool {
        ask!(Self, self, keeper => keeper.knows_usage())
    }

    /// What commands will see of the machine. Asked once, first.
    pub(crate) async fn view(&self) -> Result<View, KeeperError> {
        ask!(Self, self, keeper => keeper.view().await)
    }

    /// Shows commands the folder that has taken the work folder's place. Only when nothing runs.
    pub(crate) async fn follow(&self) -> Result<(), KeeperError> {
        ask!(Self, self, keeper => keeper.follow().await)
    }

    /// Waits until the keeper is dead, which it never should be.
    pub(crate) async fn died(&self) {
        ask!(Self, self, keeper => keeper.died().await);
    }

    /// Asks it to end, with all that it still keeps, and waits for that.
    pub(crate) async fn dismiss(&self) {
        ask!(Self, self, keeper => keeper.dismiss().await);
    }

    /// Has something be held for as long as anything of this buildlet lives.
    pub(crate) async fn hold(&self, handle: impl AsHandle + Send) -> Result<(), KeeperError> {
        ask!(Self, self, keeper => keeper.hold(handle).await)
    }

    /// Has the next exec join control groups now.
    pub(crate) async fn join(&self, groups: &[Handle]) -> Result<(), KeeperError> {
        ask!(Self, self, keeper => keeper.join(groups).await)
    }

    /// Starts a command. Its warden says whether that worked.
    pub(crate) async fn start(&self, command: &Command, start: Start) -> Result<Warden, KeeperError> {
        match self {
            Self::Apart(keeper) => keeper.start(command, start).await.map(Warden::Apart),
            Self::Inside(keeper) => keeper.start(command, start).await.map(Warden::Inside),
        }
    }

    /// What a command, by its process, and all that came of it use, as far as that is known.
    pub(crate) async fn usage(&self, pid: u32) -> Usage {
        ask!(Self, self, keeper => keeper.usage(pid).await)
    }

    /// Ends what no warden looks after.
    pub(crate) async fn prove(&self) -> Result<Proof, KeeperError> {
        ask!(Self, self, keeper => keeper.prove().await)
    }
}

/// One exec's warden.
#[derive(Debug)]
pub(crate) enum Warden {
    Apart(linux::Warden),
    Inside(inside::Warden),
}

impl Warden {
    /// The halves: what it tells, and what it is told.
    pub(crate) fn split(self) -> (WardenReader, WardenWriter) {
        match self {
            Self::Apart(warden) => {
                let (reader, writer) = warden.split();
                (WardenReader::Apart(reader), WardenWriter::Apart(writer))
            }
            Self::Inside(warden) => {
                let (reader, writer) = warden.split();
                (WardenReader::Inside(reader), WardenWriter::Inside(writer))
            }
        }
    }
}

/// What a warden tells.
#[derive(Debug)]
pub(crate) enum WardenReader {
    Apart(linux::WardenReader),
    Inside(inside::WardenReader),
}

impl WardenReader {
    /// The next message; none when the warden is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Option<FromWarden>> {
        ask!(Self, self, reader => reader.next().await)
    }
}

/// What a warden is told.
#[derive(Debug)]
pub(crate) enum WardenWriter {
    Apart(linux::WardenWriter),
    Inside(inside::WardenWriter),
}

impl WardenWriter {
    /// Tells the warden something. It may be gone already: then what was asked for has happened.
    pub(crate) async fn send(&mut self, message: &ToWarden) {
        ask!(Self, self, writer => writer.send(message).await);
    }
}
