//! A build that has ended is begun again: another attempt of the same build, with budgets of its own. What the attempts
//! before came to is kept.

use std::collections::BTreeSet;

use types::BuildNumber;

use super::{Build, BuildRow, ListedTest, Progress, Row, turn::Turn};

/// A build that is to be begun again, as it is stored.
#[derive(Debug, Clone)]
pub struct Retry {
    /// As it was accepted.
    pub row: BuildRow,
    /// How many attempts it had.
    pub attempts: u32,
    /// The tests that are run, if not all: what the others came to stands.
    pub only: Vec<String>,
    /// Why, and for whom.
    pub reason: String,
}

impl Turn<'_> {
    /// Begins a build again. One that goes on, or that was begun again since it was looked up, stays as it is.
    pub(super) fn retry(&mut self, retry: Retry) {
        let Retry { row, attempts, only, reason } = retry;
        let number = row.number;
        let later = self.state.recent.attempts(&row.key).is_some_and(|known| known != attempts);
        if later || self.state.keys.contains_key(&row.key) || number >= BuildNumber(self.state.next_build) {
            return;
        }
        self.state.keys.insert(row.key.clone(), number);
        // A result of a build that was called off before its first attempt was reported as of the first.
        let attempts = attempts.max(1);
        self.save(Row::Retry { number, attempts, at: self.now, only: only.clone(), reason });
        let build = Build {
            earlier: attempts,
            attempts,
            only: only.into(),
            waiting_since: self.now,
            ..Build::new(row, Progress::Queued)
        };
        self.state.builds.insert(number, Box::new(build));
        self.try_build_again(number);
        self.changed(number);
    }
}

impl Build {
    /// Of the tests that were listed those that are run. Linear in the tests.
    pub(super) fn wanted(&self, listed: Vec<Vec<ListedTest>>) -> Vec<Vec<ListedTest>> {
        let only: BTreeSet<&str> = self.only.iter().map(String::as_str).collect();
        if !listed.iter().flatten().any(|test| only.contains(test.name.as_str())) {
            return listed;
        }
        let mut kept = listed;
        for shard in &mut kept {
            shard.retain(|test| only.contains(test.name.as_str()));
        }
        kept.retain(|shard| !shard.is_empty());
        kept
    }
}
