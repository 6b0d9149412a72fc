//! The review host with its changes, and maintnerd's answers about them. It remembers what was known to whom, so that it
//! can tell a vote that should not have been cast.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use api::{
    maintner::{Change, ChangeMessage, ChangeStatus, GetChangeResponse, Vote},
    maintpb::{GerritMutation, GitRef, Mutation},
};
use async_trait::async_trait;
use coordinator::{
    core::TrySet,
    ports::{Changes, Place, ReviewError, Reviews, Saying, Standing},
};
use tonic::Status;
use types::{CommitHash, Outcome};

use crate::{context::lock, coordinator::Life, fault::Fault, judge::Invariant, world::World};

/// The project, as the mutation log calls it: `farm.toml` of the world names its host.
const PROJECT: &str = "127.0.0.1/example";
const ASKS: &str = "Run-TryBot";
const ANSWERS: &str = "TryBot-Result";

/// All changes.
#[derive(Default)]
pub(crate) struct Host {
    changes: Mutex<BTreeMap<u32, Reviewed>>,
}

/// A change.
#[derive(Default)]
struct Reviewed {
    patch_sets: Vec<CommitHash>,
    /// Of the newest patch set.
    asked: bool,
    answer: i8,
    open: bool,
    tags: BTreeSet<String>,
    /// How many patch sets there were when the coordinator last looked.
    looked: usize,
    /// Patch sets that were not asked for, or no longer, at some time.
    unasked: BTreeSet<CommitHash>,
}

impl Reviewed {
    fn newest(&self) -> Option<CommitHash> {
        self.patch_sets.last().copied()
    }

    /// Something is done to it.
    fn stirs(&mut self) {
        self.unasked.extend(self.newest());
    }

    fn asks(&self) -> bool {
        self.open && self.asked && self.answer == 0
    }

    fn told(&self, number: u32) -> Change {
        let vote = |label: &str, value: i32| Vote {
            label: label.to_owned(),
            voter: "7@host".to_owned(),
            value,
            patch_set: self.patch_sets.len() as u32,
        };
        let mut votes = Vec::new();
        votes.extend(self.asked.then(|| vote(ASKS, 1)));
        votes.extend((self.answer != 0).then(|| vote(ANSWERS, self.answer.into())));
        let status = if self.open { ChangeStatus::New } else { ChangeStatus::Abandoned };
        Change {
            project: PROJECT.to_owned(),
            number,
            status: status.into(),
            branch: crate::project::BRANCH.to_owned(),
            patch_set: self.patch_sets.len() as u32,
            commit: self.newest().map(|commit| commit.to_string()).unwrap_or_default(),
            votes,
            ..Change::default()
        }
    }
}

impl World {
    /// Something happens to a change, and the mutation log tells of it.
    fn change_moves(&self, number: u32, what: &str, change: impl FnOnce(&mut Reviewed)) {
        change(lock(&self.host.changes).entry(number).or_default());
        self.context.judge.note(&self.context, || format!("change {number}: {what}"));
        let gerrit = GerritMutation {
            project: PROJECT.to_owned(),
            refs: vec![GitRef {
                r#ref: format!("refs/changes/{:02}/{number}/meta", number % 100),
                sha1: "0".repeat(40),
            }],
            ..GerritMutation::default()
        };
        self.log.add(Mutation { gerrit: Some(gerrit), ..Mutation::default() });
    }

    /// A new patch set, asked for at once or not.
    pub(crate) fn upload(&self, number: u32, commit: CommitHash, asked: bool) {
        self.change_moves(number, "upload", |change| {
            change.stirs();
            change.patch_sets.push(commit);
            (change.asked, change.answer, change.open) = (asked, 0, true);
        });
    }

    /// Somebody asks for a try, or no longer.
    pub(crate) fn vote(&self, number: u32, asked: bool) {
        self.change_moves(number, if asked { "asks" } else { "asks no longer" }, |change| {
            change.stirs();
            change.asked = asked;
        });
    }

    /// Somebody removes the answer: they want another.
    pub(crate) fn ask_again(&self, number: u32) {
        self.change_moves(number, "its answer is removed", |change| {
            change.stirs();
            change.answer = 0;
        });
    }

    /// Nobody wants it any more.
    pub(crate) fn abandon(&self, number: u32) {
        self.change_moves(number, "is given up", |change| {
            change.stirs();
            change.open = false;
        });
    }

    /// Whether a patch set may have been called off.
    pub(crate) fn was_unasked(&self, commit: CommitHash) -> bool {
        lock(&self.host.changes).values().any(|change| change.unasked.contains(&commit))
    }

    /// Changes that ask for a try, with the commits that wait for an answer.
    pub(crate) fn unanswered(&self) -> Vec<(u32, CommitHash)> {
        let changes = lock(&self.host.changes);
        let asking = changes.iter().filter(|(_, change)| change.asks());
        asking.filter_map(|(number, change)| Some((*number, change.newest()?))).collect()
    }

    /// What is wrong with a vote, if something is.
    fn wrong_vote(&self, set: Option<&TrySet>, commit: CommitHash, value: i8) -> Option<String> {
        let Some(set) = set else { return Some("a vote for what was never tried".to_owned()) };
        if set.commit != commit {
            return Some(format!("a vote on {commit} for what {} was tried for", set.commit));
        }
        let tables = lock(&self.tables);
        // One that was begun again has ended more than once.
        let outcomes: Vec<Vec<Outcome>> =
            set.builds.iter().map(|build| tables.ends_of(build.number)).collect();
        let ever = |of: [Outcome; 2]| move |ends: &Vec<Outcome>| ends.iter().any(|end| of.contains(end));
        let right = if value == 1 {
            outcomes.iter().all(ever([Outcome::Passed, Outcome::Skipped])) && !outcomes.is_empty()
        } else {
            let failed = outcomes.iter().any(ever([Outcome::Failed, Outcome::TimedOut]));
            failed && outcomes.iter().all(|ends| !ends.is_empty())
        };
        (!right).then(|| format!("a vote of {value:+} on {commit}, whose builds ended {outcomes:?}"))
    }
}

pub(crate) struct SimReviews {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl SimReviews {
    async fn call(&self) -> Result<(), ReviewError> {
        let context = &self.world.context;
        context.judge.call();
        // Mostly at once, sometimes for so long that much happens meanwhile.
        let longest = if context.once_in(5) { 8_000 } else { 60 };
        context.pause(0, longest).await;
        self.life.check().await;
        if context.strikes(Fault::ReviewsDown, |weather| weather.reviews_down) {
            return Err(ReviewError::Unavailable("it does not run".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Reviews for SimReviews {
    async fn look(&self, _: &Place, number: u32) -> Result<Option<Standing>, ReviewError> {
        self.call().await?;
        let mut changes = lock(&self.world.host.changes);
        let Some(change) = changes.get_mut(&number) else { return Ok(None) };
        change.looked = change.patch_sets.len();
        let commit = change.newest();
        Ok(commit.map(|commit| Standing { commit, open: change.open, tags: change.tags.clone() }))
    }

    async fn say(&self, _: &Place, number: u32, saying: &Saying) -> Result<(), ReviewError> {
        self.call().await?;
        let judge = &self.world.context.judge;
        let set = lock(&self.world.tables).try_set(&saying.tag);
        if let Some((_, value)) = saying.vote
            && let Some(what) = self.world.wrong_vote(set.as_ref(), saying.commit, value)
        {
            judge.broken(Invariant::Truth, what);
        }
        self.world.change_moves(number, &saying.tag, |change| {
            if !change.tags.insert(saying.tag.clone()) {
                judge.broken(Invariant::Vote, format!("`{}` was said twice", saying.tag));
            }
            let known = change.patch_sets[..change.looked].last();
            if known != Some(&saying.commit) {
                let what = format!("{} was spoken of though a newer patch set was known", saying.commit);
                judge.broken(Invariant::Vote, what);
            }
            // A vote on an older patch set does not count for the newest.
            if let Some((_, value)) = saying.vote
                && change.newest() == Some(saying.commit)
            {
                change.stirs();
                change.answer = value;
            }
        });
        if self.world.context.strikes(Fault::ReviewAnswerLost, |weather| weather.review_answer_lost) {
            return Err(ReviewError::Unavailable("the connection broke".to_owned()));
        }
        Ok(())
    }
}

pub(crate) struct SimChanges {
    pub(crate) world: Arc<World>,
    pub(crate) life: Arc<Life>,
}

impl SimChanges {
    async fn call(&self) -> Result<(), Status> {
        let context = &self.world.context;
        context.judge.call();
        context.pause(0, 20).await;
        self.life.check().await;
        if context.weather().maintnerd_down > 0 {
            return Err(Status::unavailable("maintnerd does not run"));
        }
        Ok(())
    }
}

#[async_trait]
impl Changes for SimChanges {
    async fn change(&self, _: &str, number: u32) -> Result<Option<GetChangeResponse>, Status> {
        self.call().await?;
        let changes = lock(&self.world.host.changes);
        let found = |change: &Reviewed| GetChangeResponse {
            change: Some(change.told(number)),
            messages: Vec::<ChangeMessage>::new(),
            ..GetChangeResponse::default()
        };
        Ok(changes.get(&number).map(found))
    }

    async fn open(&self, _: &str) -> Result<Vec<Change>, Status> {
        self.call().await?;
        let changes = lock(&self.world.host.changes);
        Ok(changes
            .iter()
            .filter(|(_, change)| change.open)
            .map(|(number, change)| change.told(*number))
            .collect())
    }
}
