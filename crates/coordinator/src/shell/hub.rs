//! What many want to hear of: changes, results, problems.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use pages::view::LiveEvent;
use tokio::sync::{Notify, broadcast, watch};
use types::{BuildNumber, Timestamp};

/// How many changes a slow listener may be behind before it must look at everything again.
const BEHIND: usize = 4096;

/// Told to everybody. Clones are the same hub.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    changed: broadcast::Sender<Change>,
    live: broadcast::Sender<LiveEvent>,
    ended: AtomicU64,
    outbox: Notify,
    words: Notify,
    problems: Mutex<BTreeMap<String, Problem>>,
    sessions: watch::Sender<()>,
}

/// A build has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) number: BuildNumber,
    /// It will not change again: whoever waits for its end hears of it at once.
    pub(crate) ended: bool,
}

/// Something that is wrong, until it is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) text: String,
    pub(crate) next_step: String,
    pub(crate) since: Timestamp,
}

impl Hub {
    /// `ended` is how many builds have ended so far.
    pub(crate) fn new(ended: u64) -> Self {
        Self(Arc::new(Inner {
            changed: broadcast::channel(BEHIND).0,
            live: broadcast::channel(BEHIND).0,
            ended: AtomicU64::new(ended),
            outbox: Notify::new(),
            words: Notify::new(),
            problems: Mutex::default(),
            sessions: watch::channel(()).0,
        }))
    }

    /// Says that a session has changed.
    pub(crate) fn session_changed(&self) {
        self.0.sessions.send_replace(());
        self.tell(|| LiveEvent::Farm);
    }

    /// Wakes whoever watches sessions: there are few, so each looks again at any change.
    pub(crate) fn sessions(&self) -> watch::Receiver<()> {
        self.0.sessions.subscribe()
    }

    /// Says that a build has changed.
    pub(crate) fn change(&self, number: BuildNumber, ended: bool) {
        // Nobody listening is fine.
        let _ = self.0.changed.send(Change { number, ended });
    }

    /// Builds as they change.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changed.subscribe()
    }

    /// Tells open pages. What is told is only made when somebody listens.
    pub(crate) fn tell(&self, event: impl FnOnce() -> LiveEvent) {
        if self.0.live.receiver_count() > 0 {
            let _ = self.0.live.send(event());
        }
    }

    /// What pages hear.
    pub(crate) fn live(&self) -> broadcast::Receiver<LiveEvent> {
        self.0.live.subscribe()
    }

    /// A build has ended, and its result is in the outbox.
    pub(crate) fn result(&self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        self.0.outbox.notify_one();
    }

    /// Waits for a result in the outbox.
    pub(crate) async fn results(&self) {
        self.0.outbox.notified().await;
    }

    /// Something is to be said of a change, and its row is there.
    pub(crate) fn speak(&self) {
        self.0.words.notify_one();
    }

    /// Waits for something that is to be said.
    pub(crate) async fn words(&self) {
        self.0.words.notified().await;
    }

    /// Builds that have ended since the farm was made.
    pub(crate) fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Shows a problem until it is taken back. A second one of the same name replaces the first.
    pub(crate) fn problem(&self, name: impl Into<String>, text: String, next_step: &str, since: Timestamp) {
        let name = name.into();
        let mut problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let since = problems.get(&name).filter(|known| known.text == text).map_or(since, |known| known.since);
        problems.insert(name, Problem { text, next_step: next_step.to_owned(), since });
        drop(problems);
        self.tell(|| LiveEvent::Farm);
    }

    /// Takes a problem back.
    pub(crate) fn solved(&self, name: &str) {
        let removed = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if removed.is_some() {
            self.tell(|| LiveEvent::Farm);
        }
    }

    /// What is wrong now, by name.
    pub(crate) fn problems(&self) -> Vec<(String, Problem)> {
        let problems = self.0.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.iter().map(|(name, problem)| (name.clone(), problem.clone())).collect()
    }
}
