//! The feed as something that is followed and read at the same time.

use std::{
    convert::Infallible,
    sync::{Arc, RwLock, RwLockReadGuard},
};

use maintner::{FollowError, Start, Update, follow};
use rpc::Channel;
use runtime::SharedClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::{Feed, Item};

/// What happened lately. Clones are the same.
#[derive(Clone)]
pub(crate) struct Recent {
    feed: Arc<RwLock<State>>,
    /// Counts changes, so that live pages hear of them.
    changes: watch::Sender<u64>,
    clock: SharedClock,
}

#[derive(Default)]
struct State {
    feed: Feed,
    /// Whether all that the log had when we came is in the feed.
    caught_up: bool,
}

impl Recent {
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { feed: Arc::default(), changes: watch::Sender::new(0), clock }
    }

    /// Follows the stream until cancelled.
    pub(crate) async fn follow(
        self,
        channel: Channel,
        cancel: CancellationToken,
    ) -> Result<(), FollowError<Infallible>> {
        let handle = move |update| {
            self.handle(update);
            std::future::ready(Ok(()))
        };
        follow(channel, Start::Beginning, cancel, handle).await
    }

    fn handle(&self, update: Update) {
        // The feed is only ever added to, so one that a panic left behind is as good as before.
        let mut state = self.feed.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        match update {
            Update::Batch { mutations, .. } => {
                let heard_at = state.caught_up.then(|| self.clock.now());
                for mutation in &mutations {
                    state.feed.step(mutation, heard_at);
                }
            }
            Update::CaughtUp { .. } if state.caught_up => return,
            Update::CaughtUp { .. } => state.caught_up = true,
            Update::Restarted => *state = State::default(),
        }
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.feed.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The last items, newest first.
    pub(crate) fn newest(&self, limit: usize) -> Vec<Item> {
        self.read().feed.newest().take(limit).cloned().collect()
    }

    /// Whether the log was read to its end.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.read().caught_up
    }

    /// Hears of changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
