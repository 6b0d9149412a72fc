//! Tries of changes under review. A set is the builders that try one patch set. It begins when a change asks for a try and
//! did not before, and ends with one word to the change. What is no longer asked for is called off, and nothing more is
//! said of it.
//!
//! A set is kept for as long as its change asks, also when it has ended: that is how the same wish, told again, begins
//! nothing. Once the change has stopped asking, by our vote or by anybody's, the next wish is a new one.

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, CommitHash, Outcome, RepositoryName, Timestamp};
use uuid::Uuid;

use super::{Action, Mutation, NewBuild, Row, turn::Turn};

/// A change under review.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeKey {
    /// Where.
    pub repository: RepositoryName,
    /// Its number at its review host.
    pub number: u32,
}

/// How a change stands now, as far as tries go.
#[derive(Debug, Clone)]
pub struct TryNews {
    /// The change.
    pub change: ChangeKey,
    /// What it asks for, or why it does not.
    pub wish: Result<TryWish, String>,
}

/// What a change asks for.
#[derive(Debug, Clone)]
pub struct TryWish {
    /// Of which patch set.
    pub patch_set: u32,
    /// Its commit.
    pub commit: CommitHash,
    /// What it was made on; none if it has no parent.
    pub base: Option<CommitHash>,
    /// Which wish it is: another one for the same patch set begins anew.
    pub ask: String,
    /// The builds.
    pub builds: Vec<NewBuild>,
    /// What could not be done as it was asked, a line each.
    pub notes: Vec<String>,
}

/// The builders that try one patch set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrySet {
    /// Its name: a UUIDv7.
    pub id: Uuid,
    /// The change.
    pub change: ChangeKey,
    /// The patch set.
    pub patch_set: u32,
    /// Its commit.
    pub commit: CommitHash,
    /// What it was made on.
    pub base: Option<CommitHash>,
    /// Which wish it answers.
    pub ask: String,
    /// The change still asks for it.
    pub open: bool,
    /// When it began.
    pub begun: Timestamp,
    /// When and how it ended.
    pub end: Option<(Timestamp, TryEnd)>,
    /// The builds.
    pub builds: Vec<TryBuild>,
    /// What could not be done as it was asked, a line each.
    pub notes: Vec<String>,
}

/// A build of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryBuild {
    /// Its number.
    pub number: BuildNumber,
    /// The builder.
    pub builder: BuilderName,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Of one that failed, or passed though something failed first: what, in short.
    #[serde(default)]
    pub note: String,
}

/// How much is noted of a build.
const NOTE: usize = 300;

/// How a set ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TryEnd {
    /// Everything passed.
    Passed,
    /// Something failed, by the change's fault as far as it is known.
    Failed,
    /// Nothing failed, and not everything was built to its end: no vote follows.
    Unfinished,
    /// The change no longer asked for it.
    Superseded,
}

/// Something that is to be said of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// A set has begun.
    Begun,
    /// The first of its builds has failed, and others run.
    Failing,
    /// It has ended: with a vote, unless it is unfinished.
    Ended,
}

impl TrySet {
    /// The builds that have not ended.
    pub fn pending(&self) -> impl Iterator<Item = BuildNumber> + '_ {
        self.builds.iter().filter(|build| build.outcome.is_none()).map(|build| build.number)
    }

    /// The builds that failed.
    pub fn failed(&self) -> impl Iterator<Item = &TryBuild> {
        self.builds.iter().filter(|build| build.outcome.is_some_and(is_failure))
    }

    fn answers(&self, wish: &TryWish) -> bool {
        (self.patch_set, self.commit, &self.ask) == (wish.patch_set, wish.commit, &wish.ask)
    }

    /// How it ends, once all builds have.
    fn verdict(&self, planted: Option<Mutation>) -> TryEnd {
        let any = |is: fn(Outcome) -> bool| self.builds.iter().filter_map(|build| build.outcome).any(is);
        let blames = Mutation::BlameFault.is(planted) && any(|outcome| outcome == Outcome::Infrastructure);
        if any(is_failure) || blames {
            TryEnd::Failed
        } else if any(|outcome| !matches!(outcome, Outcome::Passed | Outcome::Skipped))
            || !any(|outcome| outcome == Outcome::Passed)
        {
            TryEnd::Unfinished
        } else {
            TryEnd::Passed
        }
    }
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::TimedOut)
}

impl TryEnd {
    /// All.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Unfinished, Self::Superseded];

    /// The word for it, as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
            Self::Superseded => "superseded",
        }
    }

    /// The end of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == word)
    }

    /// The vote that follows, if one does.
    pub const fn vote(self) -> Option<i8> {
        match self {
            Self::Passed => Some(1),
            Self::Failed => Some(-1),
            Self::Unfinished | Self::Superseded => None,
        }
    }
}

impl Word {
    /// All.
    pub const ALL: [Self; 3] = [Self::Begun, Self::Failing, Self::Ended];

    /// The word for it, as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Failing => "failing",
            Self::Ended => "ended",
        }
    }

    /// Itself, as stored.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// Whether it need not be said any more, as its set stands.
    pub fn is_stale(self, set: &TrySet) -> bool {
        match &set.end {
            None => false,
            Some((_, end)) => self != Self::Ended || *end == TryEnd::Superseded,
        }
    }
}

impl Turn<'_> {
    /// Hears how a change stands.
    pub(super) fn take_try(&mut self, news: TryNews) {
        let TryNews { change, wish } = news;
        match wish {
            Err(reason) => self.close_try(&change, &reason),
            Ok(wish) => {
                if self.state.tries.get(&change).is_some_and(|set| set.answers(&wish)) {
                    return;
                }
                let reason = format!("patch set {} of the change is tried instead", wish.patch_set);
                self.close_try(&change, &reason);
                self.begin_try(&change, wish);
            }
        }
    }

    fn begin_try(&mut self, change: &ChangeKey, wish: TryWish) {
        let id = self.new_id();
        let mut builds = Vec::new();
        for mut build in wish.builds {
            // Each set has builds of its own, which end with it.
            build.key.variant = format!("try-{}", id.as_simple());
            let builder = build.key.builder.clone();
            let (outcome, note) = match &build.verdict {
                Some((outcome, reason)) => (Some(*outcome), note(*outcome, 0, reason)),
                None => (None, String::new()),
            };
            let number = self.accept_one(build);
            if outcome.is_none() {
                self.state.tried.insert(number, change.clone());
            }
            builds.push(TryBuild { number, builder, outcome, note });
        }
        let set = TrySet {
            id,
            change: change.clone(),
            patch_set: wish.patch_set,
            commit: wish.commit,
            base: wish.base,
            ask: wish.ask,
            open: true,
            begun: self.now,
            end: None,
            builds,
            notes: wish.notes,
        };
        let runs = set.pending().next().is_some();
        self.state.tries.insert(change.clone(), set);
        if runs {
            self.keep_try(change, Some(Word::Begun));
        } else {
            self.end_try(change);
        }
    }

    /// The change no longer asks for what is tried.
    fn close_try(&mut self, change: &ChangeKey, reason: &str) {
        let Some(mut set) = self.state.tries.remove(change) else { return };
        set.open = false;
        let pending: Vec<BuildNumber> = set.pending().collect();
        if set.end.is_none() {
            set.end = Some((self.now, TryEnd::Superseded));
        }
        for build in set.builds.iter_mut().filter(|build| build.outcome.is_none()) {
            build.outcome = Some(Outcome::Cancelled);
        }
        self.save(Row::Try(Box::new(set)));
        for number in pending {
            self.state.tried.remove(&number);
            self.cancel(number, reason);
        }
    }

    /// A build has ended: its set hears of it, if it has one.
    pub(super) fn try_build_ended(&mut self, number: BuildNumber, (outcome, note): (Outcome, String)) {
        let Some(change) = self.state.tried.remove(&number) else { return };
        let Some(set) = self.state.tries.get_mut(&change) else { return };
        let failed_before = set.failed().next().is_some();
        for build in set.builds.iter_mut().filter(|build| build.number == number) {
            (build.outcome, build.note) = (Some(outcome), note.clone());
        }
        if set.pending().next().is_none() {
            self.end_try(&change);
        } else {
            let first = is_failure(outcome) && !failed_before;
            self.keep_try(&change, first.then_some(Word::Failing));
        }
    }

    /// A build is begun again that had ended: a set that has not waits for it. Linear in the sets.
    pub(super) fn try_build_again(&mut self, number: BuildNumber) {
        let waits = |set: &TrySet| set.end.is_none() && set.builds.iter().any(|build| build.number == number);
        let Some(set) = self.state.tries.values_mut().find(|set| waits(set)) else { return };
        for build in set.builds.iter_mut().filter(|build| build.number == number) {
            (build.outcome, build.note) = (None, String::new());
        }
        let change = set.change.clone();
        self.state.tried.insert(number, change.clone());
        self.keep_try(&change, None);
    }

    fn end_try(&mut self, change: &ChangeKey) {
        let (now, planted) = (self.now, self.state.limits.mutation);
        if let Some(set) = self.state.tries.get_mut(change) {
            set.end = Some((now, set.verdict(planted)));
        }
        self.keep_try(change, Some(Word::Ended));
    }

    /// Stores a set, and what is to be said of it.
    fn keep_try(&mut self, change: &ChangeKey, word: Option<Word>) {
        let Some(set) = self.state.tries.get(change).cloned() else { return };
        let id = set.id;
        self.save(Row::Try(Box::new(set)));
        if let Some(word) = word {
            self.save(Row::Word { set: id, word, at: self.now });
            self.act(Action::Speak);
        }
    }
}

/// What reviewers are told of how a build ended, beside its outcome: one line, and not all of a long one.
pub(super) fn note(outcome: Outcome, flakes: u32, reason: &str) -> String {
    if !is_failure(outcome) && flakes == 0 {
        return String::new();
    }
    let plain = |char: char| if char.is_control() { ' ' } else { char };
    let mut note: String = reason.chars().map(plain).take(NOTE).collect();
    if reason.chars().nth(NOTE).is_some() {
        note.push('…');
    }
    note
}

impl super::State {
    /// What is tried of a change that asks for it, or was last.
    pub fn try_set(&self, change: &ChangeKey) -> Option<&TrySet> {
        self.tries.get(change)
    }

    /// All changes that ask for a try, with what is tried of them.
    pub fn try_sets(&self) -> impl Iterator<Item = &TrySet> {
        self.tries.values()
    }

    /// Sets and builds know each other.
    pub(super) fn check_tries(&self) -> Result<(), String> {
        let mut pending = 0;
        for (change, set) in &self.tries {
            let name = || format!("the try of change {} of {}", change.number, change.repository);
            if set.pending().next().is_none() != set.end.is_some() {
                return Err(format!("{} has ended and goes on, or neither", name()));
            }
            for number in set.pending() {
                pending += 1;
                if !self.builds.contains_key(&number) || self.tried.get(&number) != Some(change) {
                    return Err(format!("{} waits for build {number}, which does not run", name()));
                }
            }
        }
        if pending == self.tried.len() { Ok(()) } else { Err("a build is tried for no change".to_owned()) }
    }
}
