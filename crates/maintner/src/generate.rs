//! Logs of projects that never were, by seed and scale: what tests and benchmarks read.
//!
//! Issues with a long tail of comments, changes with many patch sets and the NoteDb commits that Gerrit 3.10 writes,
//! commits with their diffs, refs that move and go. The same seed and scale give the same bytes on every machine, in
//! the format that Go's maintner reads.

mod git;
mod github;
mod notedb;
mod random;
mod review;
mod text;
mod write;

use std::collections::VecDeque;

use api::maintpb::Mutation;

pub use write::{GenerateError, Layout, write};

use git::Git;
use github::Github;
use random::Random;
use review::Review;
use text::Text;

/// How much there is of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Issues and pull requests that exist.
    pub issues: usize,
    /// Comments on them.
    pub comments: usize,
    /// Changes in review.
    pub changes: usize,
    /// Commits: patch sets, NoteDb commits of changes, and those that were pushed.
    pub commits: usize,
    /// Further mutations of issues: labels, milestones, events, reviews, edits.
    pub updates: usize,
}

impl Scale {
    /// For tests: some hundred mutations.
    pub const TINY: Self = Self { issues: 20, comments: 80, changes: 15, commits: 250, updates: 60 };
    /// A hundredth of [`Self::GO`].
    pub const SMALL: Self = Self { issues: 500, comments: 3000, changes: 500, commits: 9000, updates: 1900 };
    /// The Go project after ten years: 1.44 million mutations.
    pub const GO: Self =
        Self { issues: 50_000, comments: 300_000, changes: 50_000, commits: 900_000, updates: 189_000 };

    /// The scale of this name: `tiny`, `small` or `go`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "tiny" => Some(Self::TINY),
            "small" => Some(Self::SMALL),
            "go" => Some(Self::GO),
            _ => None,
        }
    }
}

/// The mutations of a log, in order.
pub struct Generator {
    random: Random,
    text: Text,
    /// Seconds since 1970, as it is in the log.
    now: i64,
    left: Scale,
    github: Github,
    git: Git,
    review: Review,
    queue: VecDeque<Mutation>,
}

impl Generator {
    /// Those of one seed and scale.
    pub fn new(seed: u64, scale: Scale) -> Self {
        let mut random = Random::new(seed);
        let text = Text::new(&mut random);
        let mut generator = Self {
            random,
            text,
            now: 1_415_000_000,
            left: scale,
            github: Github::new(scale),
            git: Git::default(),
            review: Review::new(scale),
            queue: VecDeque::new(),
        };
        generator.begin_github();
        generator.begin_git();
        generator
    }

    /// What is to come next, each as likely as there is left of it.
    fn step(&mut self) -> bool {
        self.now += self.random.length(180) as i64;
        let left = self.left;
        // A change needs two commits, which nobody else may take.
        let free = left.commits.saturating_sub(2 * left.changes);
        let weights = [left.issues, left.comments, left.changes, free, left.updates];
        let total: usize = weights.iter().sum();
        if total == 0 {
            return self.flush_reviews();
        }
        let mut at = self.random.below(total);
        let mut which = 0;
        while at >= weights[which] {
            at -= weights[which];
            which += 1;
        }
        match which {
            0 => self.new_issue(),
            1 => self.new_comments(),
            2 => self.new_change(),
            3 => self.activity(free),
            _ => self.update_issue(),
        }
        true
    }
}

impl Iterator for Generator {
    type Item = Mutation;

    fn next(&mut self) -> Option<Mutation> {
        loop {
            if let Some(next) = self.queue.pop_front() {
                return Some(next);
            }
            if !self.step() {
                return self.queue.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests;
