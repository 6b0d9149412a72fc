//! What is wanted at once. It stays noted until it was looked at, also while something else is being read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use types::CommitHash;

/// What is to be looked at: what takes longest comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wake {
    /// The checks of a commit.
    Commit(CommitHash),
    Issue(i32),
    Repository,
}

/// What is wanted of one repository.
#[derive(Default)]
pub(crate) struct Wakes {
    noted: Mutex<BTreeSet<Wake>>,
    news: Notify,
}

impl Wakes {
    fn noted(&self) -> MutexGuard<'_, BTreeSet<Wake>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, wake: Wake) {
        self.noted().insert(wake);
        self.news.notify_one();
    }

    pub(super) fn take(&self) -> BTreeSet<Wake> {
        std::mem::take(&mut *self.noted())
    }

    /// Whether something is noted.
    pub(super) fn any(&self) -> bool {
        !self.noted().is_empty()
    }

    /// Waits until something is noted.
    pub(super) async fn noticed(&self) {
        self.news.notified().await;
    }
}

/// All repositories that are followed, by `owner/name` in small letters.
#[derive(Default, Clone)]
pub(crate) struct Hub(Arc<BTreeMap<String, Arc<Wakes>>>);

impl Hub {
    pub(crate) fn new(all: impl IntoIterator<Item = (String, Arc<Wakes>)>) -> Self {
        Self(Arc::new(all.into_iter().map(|(key, wakes)| (key.to_lowercase(), wakes)).collect()))
    }

    /// Something happened to an issue, or to the repository if the number is none of an issue.
    pub(crate) fn wake(&self, key: &str, number: i64) {
        let Some(wakes) = self.0.get(key) else { return };
        wakes.note(match i32::try_from(number) {
            Ok(number) if number > 0 => Wake::Issue(number),
            _ => Wake::Repository,
        });
    }

    /// A check said something of a commit.
    pub(crate) fn wake_commit(&self, key: &str, commit: CommitHash) {
        if let Some(wakes) = self.0.get(key) {
            wakes.note(Wake::Commit(commit));
        }
    }

    /// Anything may have happened.
    pub(crate) fn wake_all(&self) {
        self.0.values().for_each(|wakes| wakes.note(Wake::Repository));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_stays_noted_until_it_is_taken_and_reaches_its_repository_only() {
        let (one, other) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
        let hub = Hub::new([("O/One".into(), Arc::clone(&one)), ("o/other".into(), Arc::clone(&other))]);
        hub.wake("o/one", 7);
        hub.wake("o/one", 7);
        hub.wake("o/one", i64::MAX);
        hub.wake("o/nobody", 1);
        assert_eq!(one.take(), BTreeSet::from([Wake::Repository, Wake::Issue(7)]));
        assert!(one.take().is_empty() && other.take().is_empty());
        hub.wake_all();
        assert_eq!(other.take(), BTreeSet::from([Wake::Repository]));
    }
}
