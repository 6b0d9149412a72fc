//! What was covered: each kind of fault, each event of the core with each of its effects, each move of a build, a lease
//! and a shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use crate::{
    fault::Fault,
    kinds::{EFFECTS, EVENTS, STAGES, event_name},
};

/// How often each kind of fault was seen, and in how many seeds each transition was taken.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    faults: BTreeMap<Fault, u64>,
    effects: BTreeMap<(usize, usize), u64>,
    moves: BTreeMap<(usize, usize), u64>,
}

/// In how many seeds of a run a transition must be expected to be asked for: then none is missed by bad luck.
const SURELY: u64 = 30;

/// Every transition that a farm takes. Written by `cargo xtask sim --write-transitions`, and reviewed.
const KNOWN: &str = include_str!("transitions.txt");

impl Coverage {
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Faults so far.
    pub(crate) fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How many faults of how many kinds.
    pub(crate) fn kinds(&self) -> (u64, u64) {
        (self.faults(), self.faults.len() as u64)
    }

    pub(crate) fn effect(&mut self, event: usize, effect: usize) {
        self.effects.insert((event, effect), 1);
    }

    pub(crate) fn moved(&mut self, from: usize, to: usize) {
        self.moves.insert((from, to), 1);
    }

    /// Adds what further seeds covered.
    pub(crate) fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (pair, count) in &other.effects {
            *self.effects.entry(*pair).or_default() += count;
        }
        for (pair, count) in &other.moves {
            *self.moves.entry(*pair).or_default() += count;
        }
    }

    /// Each transition by name, with in how many seeds it was taken.
    fn transitions(&self) -> BTreeMap<String, u64> {
        let effects = self.effects.iter().map(|((event, effect), count)| {
            (format!("{} => {}", event_name(*event), EFFECTS[*effect]), *count)
        });
        let moves = self
            .moves
            .iter()
            .map(|((from, to), count)| (format!("{} -> {}", STAGES[*from], STAGES[*to]), *count));
        effects.chain(moves).collect()
    }

    /// The file of transitions, as this run would write it.
    pub(crate) fn file(&self, seeds: u64) -> String {
        let mut text = format!(
            "# Every transition that was seen, and in how many of 10,000 seeds. One that is not here is reviewed before it is added.\n\
             # Of {EVENTS} kinds of events with {} of effects, and {} stages of builds, leases and shards.\n\
             # Written by `cargo xtask sim --write-transitions`.\n",
            EFFECTS.len(),
            STAGES.len()
        );
        for (name, count) in self.transitions() {
            let _ = writeln!(text, "{:>10}  {name}", count * 10_000 / seeds.max(1));
        }
        text
    }

    /// What a run of so many seeds should have seen and has not, and what it has seen that is new.
    pub(crate) fn gaps(&self, seeds: u64) -> (Vec<String>, Vec<String>) {
        let mut missing: Vec<String> = Vec::new();
        if seeds >= 100 {
            let unseen = Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault));
            missing.extend(unseen.map(|fault| format!("fault {fault:?}")));
        }
        let taken = self.transitions();
        let unseen = asked_for(KNOWN, seeds).filter(|name| !taken.contains_key(*name));
        missing.extend(unseen.map(str::to_owned));
        let known: BTreeSet<&str> = entries(KNOWN).map(|(name, _)| name).collect();
        let new = taken.keys().filter(|name| !known.contains(name.as_str()));
        (missing, new.cloned().collect())
    }

    /// A summary of so many seeds in lines.
    pub(crate) fn lines(&self, seeds: u64) -> Vec<String> {
        let mut lines: Vec<String> = Fault::ALL
            .iter()
            .map(|fault| format!("  {:>9}  {fault:?}", self.faults.get(fault).copied().unwrap_or(0)))
            .collect();
        let (known, asked) = (entries(KNOWN).count(), asked_for(KNOWN, seeds).count());
        lines.insert(0, format!("{} kinds of faults:", Fault::ALL.len()));
        lines.push(format!(
            "transitions taken: {} events with effects, {} moves; of {} and {} that the types allow; known: {known}; asked for in so many seeds: {asked}",
            self.effects.len(),
            self.moves.len(),
            EVENTS * EFFECTS.len(),
            STAGES.len() * STAGES.len()
        ));
        lines
    }
}

/// The transitions that are known, each with in how many of 10,000 seeds it is taken. The text is our own file.
fn entries(known: &str) -> impl Iterator<Item = (&str, u64)> {
    known.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (count, name) = line.trim_start().split_once("  ")?;
        Some((name, count.parse().ok()?))
    })
}

/// The transitions that a run of so many seeds meets surely.
fn asked_for(known: &str, seeds: u64) -> impl Iterator<Item = &str> {
    let sure = move |count: u64| count.saturating_mul(seeds) / 10_000 >= SURELY;
    entries(known).filter(move |(_, count)| sure(*count)).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rare_is_asked_for_only_of_a_run_that_meets_it_surely() {
        let known =
            "# how often\n      9000  tick => run\n       400  lift => run\n        20  cancel => stop\n";
        let asked = |seeds| asked_for(known, seeds).collect::<Vec<_>>();
        assert_eq!(asked(10_000), ["tick => run", "lift => run"]);
        assert_eq!(asked(60), ["tick => run"]);
        assert!(asked(10).is_empty());
    }

    #[test]
    fn a_transition_that_is_not_taken_is_missing_and_a_new_one_is_named() {
        let (missing, new) = Coverage::default().gaps(60);
        let asked: Vec<&str> = asked_for(KNOWN, 60).collect();
        assert!(!asked.is_empty(), "nothing is asked for: the list of transitions is empty");
        assert_eq!((missing, new), (asked.into_iter().map(str::to_owned).collect(), Vec::new()));
        let mut coverage = Coverage::default();
        coverage.moved(0, 0);
        assert_eq!(coverage.gaps(60).1, ["build: new -> build: new"]);
    }
}
