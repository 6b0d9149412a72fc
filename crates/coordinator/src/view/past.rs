//! What a failing thing did at other commits: before, and at the tip of the branch.

use std::collections::BTreeSet;

use store::{Database, ReadError, Row};
use types::{BuildNumber, CommitHash, Outcome, Phase};

use super::explain::Tip;
use crate::{core::Shard, records::read::BuildRecord};

/// How many builds are looked back at.
const BACK: usize = 20;
/// How many results of a build are looked through for the tests of a shard.
const RESULTS: usize = 20_000;

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A step before the tests.
    Step(Phase),
    /// All tests, as one command.
    Whole,
    /// One test.
    Test(String),
    /// Some tests of which one or more failed.
    Tests(BTreeSet<String>),
}

/// What a build says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It or a neighbour failed.
    Unclear,
}

impl Item {
    /// What a failure of this name is of.
    pub(super) fn of(name: &str, shard: Option<&Shard>) -> Self {
        match shard.map(|shard| &*shard.tests) {
            None if name == "make" => Self::Step(Phase::Make),
            None => Self::Step(Phase::List),
            Some([]) => Self::Whole,
            Some([test]) => Self::Test(test.clone()),
            Some(tests) => Self::Tests(tests.iter().cloned().collect()),
        }
    }
}

/// What it did at earlier commits.
#[derive(Debug)]
pub(super) struct Before {
    /// At the nearest that says something, and in which build.
    pub(super) nearest: Option<(Said, BuildNumber)>,
    /// If it failed there: the first build of the unbroken row of failures, as far as was looked.
    pub(super) since: Option<BuildNumber>,
    /// The nearest build in which it passed, and its commit.
    pub(super) passed: Option<(BuildNumber, CommitHash)>,
    unbroken: bool,
}

impl Default for Before {
    fn default() -> Self {
        Self { nearest: None, since: None, passed: None, unbroken: true }
    }
}

/// The builds around one, of the same builder on the same branch.
pub(super) struct Past {
    database: Database,
    /// Those of earlier commits that ended with a verdict, the nearest first.
    before: Vec<BuildRecord>,
    /// That of the newest commit, unless it is the one itself.
    tip: Option<BuildRecord>,
    /// The one itself is of the newest commit that has a verdict.
    is_tip: bool,
}

impl Past {
    pub(super) async fn of(database: &Database, record: &BuildRecord) -> Result<Self, ReadError> {
        let placed = place(database, record).await?;
        // A try stands on top of its branch.
        let (git_ref, place) = match &placed {
            Some((git_ref, place)) => (git_ref.clone(), *place),
            None => match branch_of_builder(database, record).await? {
                Some(git_ref) => (git_ref, i64::MAX),
                None => (String::new(), i64::MAX),
            },
        };
        let before = builds(database, record, (&git_ref, place), (EARLIER, BACK)).await?;
        let tip = match &placed {
            Some(_) => builds(database, record, (&git_ref, place), (LATER, 1)).await?.into_iter().next(),
            None => before.first().cloned(),
        };
        let is_tip = placed.is_some() && tip.is_none();
        Ok(Self { database: database.clone(), before, tip, is_tip })
    }

    /// What it did at earlier commits; `deep` says whether to look further than the nearest that says something.
    pub(super) async fn before(&self, item: &Item, deep: bool) -> Result<Before, ReadError> {
        let mut found = Before::default();
        for build in &self.before {
            let Some(said) = self.said(item, build).await? else { continue };
            if said == Said::Failed && found.unbroken {
                found.since = Some(build.number);
            } else {
                found.unbroken = false;
            }
            found.nearest.get_or_insert((said, build.number));
            if said == Said::Passed {
                found.passed = Some((build.number, build.commit));
            }
            if !deep || said == Said::Passed {
                break;
            }
        }
        Ok(found)
    }

    /// How it fares at the tip.
    pub(super) async fn tip(&self, item: &Item) -> Result<Tip, ReadError> {
        let Some(tip) = &self.tip else { return Ok(if self.is_tip { Tip::This } else { Tip::Unknown }) };
        Ok(self.said(item, tip).await?.map_or(Tip::Unknown, |said| Tip::Is(said, tip.number)))
    }

    async fn said(&self, item: &Item, build: &BuildRecord) -> Result<Option<Said>, ReadError> {
        let passed = build.outcome == Some(Outcome::Passed);
        match item {
            Item::Step(_) | Item::Whole if passed => Ok(Some(Said::Passed)),
            Item::Whole => Ok(self.whole(build).await?),
            Item::Step(phase) => {
                let sql = "SELECT outcome FROM steps WHERE build = $1 AND attempt = $2 AND phase = $3 \
                           ORDER BY step DESC LIMIT 1";
                let args = vec![build.number.into(), build.attempts.into(), (*phase).into()];
                let row = self.database.read_first(sql, args).await?;
                // What was not done was not needed: a snapshot was there.
                let outcome = row.map_or(Ok(Outcome::Passed), |row| row.parse("outcome"))?;
                Ok(said(outcome, 1))
            }
            Item::Test(test) => {
                let sql = "SELECT outcome, among FROM test_results WHERE test = $1 AND build = $2 \
                           ORDER BY attempt DESC LIMIT 1";
                let row =
                    self.database.read_first(sql, vec![test.as_str().into(), build.number.into()]).await?;
                row.map_or(Ok(None), |row| said_by(&row))
            }
            Item::Tests(tests) => {
                let sql = "SELECT test, outcome, among FROM test_results WHERE build = $1 ORDER BY attempt LIMIT $2";
                let rows = self.database.read(sql, vec![build.number.into(), RESULTS.into()]).await?;
                let mut all = None;
                for row in &rows {
                    if !tests.contains(row.text("test")?) {
                        continue;
                    }
                    all = match (all, said_by(row)?) {
                        (Some(Said::Failed), _) | (_, Some(Said::Failed)) => Some(Said::Failed),
                        (Some(Said::Unclear), _) | (_, Some(Said::Unclear)) => Some(Said::Unclear),
                        (before, now) => now.or(before),
                    };
                }
                Ok(all)
            }
        }
    }

    /// How the only shard of a build ended.
    async fn whole(&self, build: &BuildRecord) -> Result<Option<Said>, ReadError> {
        let sql = "SELECT outcome FROM shards WHERE build = $1 AND attempt = $2 AND shard = 1";
        let row = self.database.read_first(sql, vec![build.number.into(), build.attempts.into()]).await?;
        let outcome: Option<Outcome> = row.map_or(Ok(None), |row| row.opt_parse("outcome"))?;
        Ok(outcome.and_then(|outcome| said(outcome, 1)))
    }
}

fn said_by(row: &Row) -> Result<Option<Said>, ReadError> {
    Ok(said(row.parse("outcome")?, row.number("among")?))
}

fn said(outcome: Outcome, among: u64) -> Option<Said> {
    match (outcome, among) {
        (Outcome::Passed, _) => Some(Said::Passed),
        (Outcome::Failed | Outcome::TimedOut, 0 | 1) => Some(Said::Failed),
        (Outcome::Failed | Outcome::TimedOut, _) => Some(Said::Unclear),
        _ => None,
    }
}

/// On which branch a build's commit is, and where.
async fn place(database: &Database, record: &BuildRecord) -> Result<Option<(String, i64)>, ReadError> {
    if record.is_try {
        return Ok(None);
    }
    let sql = "SELECT git_ref, place FROM commits WHERE repository = $1 AND commit_hash = $2 \
               AND ($3 = '' OR git_ref = $3) ORDER BY git_ref LIMIT 1";
    let args = vec![(&record.repository).into(), record.commit.into(), record.git_ref.as_str().into()];
    let row = database.read_first(sql, args).await?;
    row.map(|row| Ok((row.text("git_ref")?.to_owned(), row.int("place")?))).transpose()
}

/// The branch of the newest build of a builder that has one.
async fn branch_of_builder(database: &Database, record: &BuildRecord) -> Result<Option<String>, ReadError> {
    let sql = "SELECT git_ref FROM builds WHERE builder = $1 AND repository = $2 AND git_ref <> '' \
               ORDER BY number DESC LIMIT 1";
    let row = database.read_first(sql, vec![(&record.builder).into(), (&record.repository).into()]).await?;
    row.map(|row| Ok(row.text("git_ref")?.to_owned())).transpose()
}

/// Builds of earlier commits, and of later ones.
const EARLIER: &str = "SELECT b.* FROM commits c JOIN builds b ON b.commit_hash = c.commit_hash \
    AND b.repository = c.repository AND b.builder = $1 AND b.variant = '' AND b.is_try = 0 WHERE c.repository = $2 \
    AND c.git_ref = $3 AND c.place < $4 AND b.outcome IN ('passed', 'failed', 'timed_out') ORDER BY c.place DESC LIMIT $5";
const LATER: &str = "SELECT b.* FROM commits c JOIN builds b ON b.commit_hash = c.commit_hash \
    AND b.repository = c.repository AND b.builder = $1 AND b.variant = '' AND b.is_try = 0 WHERE c.repository = $2 \
    AND c.git_ref = $3 AND c.place > $4 AND b.outcome IN ('passed', 'failed', 'timed_out') ORDER BY c.place DESC LIMIT $5";

/// Builds of a builder on a branch that ended with a verdict, the newest commit first.
async fn builds(
    database: &Database,
    record: &BuildRecord,
    (git_ref, place): (&str, i64),
    (sql, limit): (&'static str, usize),
) -> Result<Vec<BuildRecord>, ReadError> {
    let args = vec![
        (&record.builder).into(),
        (&record.repository).into(),
        git_ref.into(),
        place.into(),
        limit.into(),
    ];
    let rows = database.read(sql, args).await?;
    rows.iter().map(BuildRecord::read).collect()
}
