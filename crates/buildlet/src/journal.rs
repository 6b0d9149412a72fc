//! What a buildlet must know of its predecessor: the lease, its execs, and how far fencing has come.
//!
//! Lines of JSON, appended. They are not flushed to the disk: a buildlet that is killed
//! loses nothing, and when the machine goes down its execs go down with it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use types::{ExecId, Fence};

use crate::{exec::End, lease::Lease};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A lease is to begin when the last one is gone.
    Next(Lease),
    /// A lease began.
    Lease(Lease),
    /// The lease ended.
    Released,
    /// An exec began.
    Exec {
        /// Its name.
        id: ExecId,
        /// The command's process.
        pid: u32,
    },
    /// Output before an offset is gone.
    Freed {
        /// Whose.
        id: ExecId,
        /// The offset.
        until: u64,
    },
    /// An exec ended.
    End {
        /// Its name.
        id: ExecId,
        /// How.
        end: End,
    },
}

/// What a journal says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// The highest token.
    pub highest: Option<Fence>,
    /// The lease, if it has not ended.
    pub lease: Option<Lease>,
    /// The lease that was to begin.
    pub next: Option<Lease>,
    /// The execs of the lease in order.
    pub execs: BTreeMap<ExecId, PastExec>,
}

/// An exec of the past.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PastExec {
    /// The command's process id.
    pub pid: u32,
    /// Output before this is gone.
    pub freed: u64,
    /// How it ended; none if it ran when the buildlet died.
    pub end: Option<End>,
}

impl Past {
    /// Goes on to what was after something happened.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Next(lease) => {
                self.highest = self.highest.max(Some(lease.fence));
                self.next = Some(lease);
            }
            Entry::Lease(lease) => {
                self.highest = self.highest.max(Some(lease.fence));
                self.lease = Some(lease);
                self.next = None;
                self.execs.clear();
            }
            Entry::Released => {
                self.lease = None;
                self.execs.clear();
            }
            Entry::Exec { id, pid } => self.execs.entry(id).or_default().pid = pid,
            Entry::Freed { id, until } => self.execs.entry(id).or_default().freed = until,
            Entry::End { id, end } => self.execs.entry(id).or_default().end = Some(end),
        }
    }
}

/// The journal of a running buildlet.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    bytes: usize,
}

/// A journal longer than this is begun anew with the next lease. Not with each: replacing a file costs more than a build
/// of a moment should.
const LONG: usize = 1 << 20;

impl Journal {
    /// Opens the journal in a folder and says what it tells.
    pub(crate) fn open(folder: &Path) -> io::Result<(Self, Past)> {
        let path = folder.join("journal");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut past = Past::default();
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(entry) => past.apply(entry),
                // The last line may be torn when the machine went down.
                Err(error) => tracing::warn!("skipped a line of `{}`: {error}", path.display()),
            }
        }
        let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        Ok((Self { path, file, bytes: text.len() }, past))
    }

    /// Adds what happened.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let line = line(entry)?;
        self.bytes += line.len();
        self.file.write_all(&line)
    }

    /// A lease begins; nothing from before it matters.
    pub(crate) fn begin(&mut self, lease: Lease) -> io::Result<()> {
        if self.bytes < LONG {
            return self.append(&Entry::Lease(lease));
        }
        let new = self.path.with_extension("new");
        std::fs::write(&new, line(&Entry::Lease(lease))?)?;
        // The old one is closed by that: Windows lets nobody take the place of a file that is open.
        self.file = OpenOptions::new().append(true).open(&new)?;
        std::fs::rename(&new, &self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn line(entry: &Entry) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use types::LeaseId;

    use super::*;
    use crate::exec::How;

    fn lease(fence: u64) -> Lease {
        Lease { id: LeaseId(uuid::Uuid::from_u128(1)), fence: Fence(fence) }
    }

    #[test]
    fn a_journal_tells_what_became_of_the_lease_and_its_execs() {
        let folder = tempfile::tempdir().unwrap();
        let ids = [1, 2].map(|id| ExecId(uuid::Uuid::from_u128(id)));
        let end =
            End { how: How::Exited(3), output_bytes: 9, elapsed: Duration::from_millis(5), leftovers: 1 };
        {
            let (mut journal, past) = Journal::open(folder.path()).unwrap();
            assert_eq!(past, Past::default());
            journal.append(&Entry::Next(lease(9))).unwrap();
            journal.begin(lease(10)).unwrap();
            journal.append(&Entry::Exec { id: ids[0], pid: 77 }).unwrap();
            journal.append(&Entry::End { id: ids[0], end: end.clone() }).unwrap();
            journal.append(&Entry::Exec { id: ids[1], pid: 78 }).unwrap();
            journal.append(&Entry::Freed { id: ids[1], until: 4096 }).unwrap();
        }
        std::fs::OpenOptions::new()
            .append(true)
            .open(folder.path().join("journal"))
            .unwrap()
            .write_all(b"{\"Exe")
            .unwrap();
        let (mut journal, past) = Journal::open(folder.path()).unwrap();
        assert_eq!((past.highest, past.lease), (Some(Fence(10)), Some(lease(10))));
        assert_eq!(past.execs[&ids[0]], PastExec { pid: 77, freed: 0, end: Some(end) });
        assert_eq!(past.execs[&ids[1]], PastExec { pid: 78, freed: 4096, end: None });
        journal.append(&Entry::Released).unwrap();
        journal.bytes = LONG;
        journal.begin(lease(11)).unwrap();
        journal.append(&Entry::Released).unwrap();
        assert!(std::fs::metadata(folder.path().join("journal")).unwrap().len() < 300);
        let (_, past) = Journal::open(folder.path()).unwrap();
        assert_eq!((past.highest, past.lease, past.execs.len()), (Some(Fence(11)), None, 0));
    }
}
