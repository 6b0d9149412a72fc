//! All refs of all repositories as the farm knows them, and whoever watches them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast::{self, error::RecvError};
use types::{CommitHash, RepositoryName};

/// Batches of moves that a watcher may be behind. A repository's moves that are seen at once are one batch, so this is
/// reached only by who has stopped reading.
const BEHIND: usize = 1024;

/// The refs of one repository, peeled, by full name.
pub(crate) type RefTable = BTreeMap<String, CommitHash>;

/// A ref as it is now; without a commit, it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) repository: RepositoryName,
    pub(crate) name: String,
    pub(crate) commit: Option<CommitHash>,
}

/// The refs and their watchers.
pub(crate) struct Hub {
    tables: Mutex<BTreeMap<RepositoryName, Arc<RefTable>>>,
    moves: broadcast::Sender<Arc<[Move]>>,
}

impl Hub {
    /// Without any refs.
    pub(crate) fn new() -> Self {
        Self { tables: Mutex::default(), moves: broadcast::Sender::new(BEHIND) }
    }

    /// Sets the refs of a repository and tells the watchers what moved. Gives the number of moves.
    pub(crate) fn publish(&self, repository: &RepositoryName, table: RefTable) -> usize {
        // The lock is held while sending, so that a new watcher gets each move either in its snapshot or after it.
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.get(repository).cloned().unwrap_or_default();
        let moves = difference(repository, &known, &table);
        tables.insert(repository.clone(), Arc::new(table));
        let count = moves.len();
        self.send(moves);
        count
    }

    /// Sets some refs of a repository, those below each name that ends with a slash and those of the other names, and
    /// tells the watchers what moved. Takes time proportional to them unless somebody reads the table.
    pub(crate) fn publish_part(&self, repository: &RepositoryName, names: &[String], part: &RefTable) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let table = Arc::make_mut(tables.entry(repository.clone()).or_default());
        let mut known = RefTable::new();
        for name in names {
            let below = table.range(name.clone()..).take_while(|(one, _)| is_among(one, name));
            known.extend(below.map(|(one, commit)| (one.clone(), *commit)));
        }
        let moves = difference(repository, &known, part);
        for one in &moves {
            match one.commit {
                Some(commit) => table.insert(one.name.clone(), commit),
                None => table.remove(&one.name),
            };
        }
        self.send(moves);
    }

    /// Forgets a repository that is mirrored no more: its refs are gone.
    pub(crate) fn forget(&self, repository: &RepositoryName) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tables.remove(repository) {
            self.send(difference(repository, &known, &RefTable::new()));
        }
    }

    /// The refs of a repository.
    pub(crate) fn table(&self, repository: &RepositoryName) -> Arc<RefTable> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.get(repository).cloned().unwrap_or_default()
    }

    /// The refs as they are, and a watcher of all that moves from then on.
    pub(crate) fn watch(&self) -> (Vec<(RepositoryName, Arc<RefTable>)>, Watcher) {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = tables.iter().map(|(name, table)| (name.clone(), table.clone())).collect();
        (snapshot, Watcher { moves: self.moves.subscribe(), pending: VecDeque::new() })
    }

    fn send(&self, moves: Vec<Move>) {
        if !moves.is_empty() {
            // Nobody may be watching.
            let _ = self.moves.send(moves.into());
        }
    }
}

/// Why there are no more moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The watcher did not read for too long.
    TooSlow,
    /// The server is ending.
    Closed,
}

/// Gets moves, in their order.
pub(crate) struct Watcher {
    moves: broadcast::Receiver<Arc<[Move]>>,
    pending: VecDeque<Move>,
}

impl Watcher {
    /// The next move. Nothing is lost when this is dropped before it ends.
    pub(crate) async fn next(&mut self) -> Result<Move, Ended> {
        loop {
            if let Some(next) = self.pending.pop_front() {
                return Ok(next);
            }
            match self.moves.recv().await {
                Ok(batch) => self.pending.extend(batch.iter().cloned()),
                Err(RecvError::Lagged(_)) => return Err(Ended::TooSlow),
                Err(RecvError::Closed) => return Err(Ended::Closed),
            }
        }
    }
}

/// Whether a ref is the named one, or below a name that ends with a slash.
fn is_among(one: &str, name: &str) -> bool {
    if name.ends_with('/') { one.starts_with(name) } else { one == name }
}

fn difference(repository: &RepositoryName, old: &RefTable, new: &RefTable) -> Vec<Move> {
    let change = |name: &String, commit| Move { repository: repository.clone(), name: name.clone(), commit };
    // Deletions first: a branch `a` may have made room for `a/b`.
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| change(name, None));
    let moved = new.iter().filter(|(name, commit)| old.get(*name) != Some(commit));
    gone.chain(moved.map(|(name, commit)| change(name, Some(*commit)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(list: &[(&str, u8)]) -> RefTable {
        list.iter().map(|(name, byte)| ((*name).to_owned(), CommitHash::from_bytes([*byte; 20]))).collect()
    }

    fn show(next: &Move) -> String {
        format!("{} {}", next.name, next.commit.map_or("gone".into(), |commit| commit.short()))
    }

    #[tokio::test]
    async fn a_watcher_gets_the_state_and_then_every_move_once() {
        let hub = Hub::new();
        let name: RepositoryName = "a".parse().unwrap();
        assert_eq!(hub.publish(&name, table(&[("x", 1), ("y", 1)])), 2);
        let (snapshot, mut watcher) = hub.watch();
        assert_eq!(*snapshot[0].1, table(&[("x", 1), ("y", 1)]));
        assert_eq!(hub.publish(&name, table(&[("x", 1), ("y", 1)])), 0);
        hub.publish(&name, table(&[("x", 2), ("x/z", 3)]));
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(show(&watcher.next().await.unwrap()));
        }
        assert_eq!(seen, ["y gone", "x 02020202", "x/z 03030303"]);
        hub.forget(&name);
        assert_eq!(show(&watcher.next().await.unwrap()), "x gone");
    }

    #[tokio::test]
    async fn some_refs_are_told_by_themselves_and_the_others_stay() {
        let hub = Hub::new();
        let name: RepositoryName = "a".parse().unwrap();
        hub.publish(&name, table(&[("c/1/1", 1), ("c/1/2", 1), ("c/12/1", 1), ("h", 1), ("h/x", 1)]));
        let (_, mut watcher) = hub.watch();
        let part = |names: &[&str], refs: &[(&str, u8)]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            hub.publish_part(&name, &names, &table(refs));
        };
        part(&["c/1/"], &[("c/1/1", 1), ("c/1/3", 2)]);
        part(&["h", "none"], &[("h", 2)]);
        part(&["c/1/"], &[("c/1/1", 1), ("c/1/3", 2)]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(show(&watcher.next().await.unwrap()));
        }
        assert_eq!(seen, ["c/1/2 gone", "c/1/3 02020202", "h 02020202"]);
        let left = table(&[("c/1/1", 1), ("c/1/3", 2), ("c/12/1", 1), ("h", 2), ("h/x", 1)]);
        assert_eq!(*hub.table(&name), left);
    }

    #[tokio::test]
    async fn who_does_not_read_is_ended_and_costs_the_others_nothing() {
        let hub = Hub::new();
        let name: RepositoryName = "a".parse().unwrap();
        let (_, mut slow) = hub.watch();
        for round in 0..=BEHIND {
            hub.publish(&name, table(&[("x", (round % 2) as u8)]));
        }
        assert_eq!(slow.next().await, Err(Ended::TooSlow));
    }
}
