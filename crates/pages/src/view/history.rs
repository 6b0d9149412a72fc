//! What became of one machine, one builder, one test.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::{BuildNumber, BuilderName, MachineName, Phase, RepositoryName, Share, Timestamp};

use super::{BuilderView, CommitRef, HostView, MachineView, QueueItem, SessionView, State};

/// A machine, for whoever looks after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineHistory {
    /// The machine as it is now.
    pub machine: MachineView,
    /// The version of the farm, which the machine's should be near.
    pub farm_version: String,
    /// Who looks after machines of its kind.
    pub owners: Vec<String>,
    /// Of its newest leases, how many went wrong by its fault.
    pub share: FaultShare,
    /// Other machines that serve one of its host types, and how each is. May be cut.
    pub siblings: Vec<Sibling>,
    /// How many of them there are.
    pub sibling_count: u64,
    /// What it was leased for lately, the newest first.
    pub leases: Vec<LeaseRecord>,
    /// The sessions that it holds or held lately, the newest first.
    #[serde(default)]
    pub sessions: Vec<SessionView>,
    /// What it could not do under those leases, the newest first.
    pub faults: Vec<FaultRecord>,
}

/// A machine of the same kind, to compare with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sibling {
    /// The machine as it is now.
    pub machine: MachineView,
    /// Of its newest leases, how many went wrong by its fault.
    pub share: FaultShare,
}

/// Of how many leases how many saw a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultShare {
    /// How many leases were looked at: the newest.
    pub leases: u64,
    /// Under how many of them the machine could not do something.
    pub faulty: u64,
}

/// A lease that a machine has or had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// The build.
    pub build: BuildNumber,
    /// Its builder.
    pub builder: BuilderName,
    /// Its commit.
    pub commit: CommitRef,
    /// How the build stands.
    pub state: State,
    /// False if the machine helped.
    pub main: bool,
    /// Since when.
    pub since: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it ended; may be empty.
    pub reason: String,
}

/// Something that a machine could not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// The build.
    pub build: BuildNumber,
    /// What was done.
    pub phase: Phase,
    /// When it failed.
    pub at: Timestamp,
    /// Why, in words.
    pub detail: String,
}

/// A builder and what it built lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuilderHistory {
    /// Its name.
    pub name: BuilderName,
    /// What it builds.
    pub repository: RepositoryName,
    /// How it is defined now; absent if it is no more.
    pub definition: Option<BuilderView>,
    /// The kind of machine it runs on now.
    pub host: Option<HostView>,
    /// What of it waits, in the order of service. May be cut.
    pub queue: Vec<QueueItem>,
    /// How much of it waits.
    pub queue_length: u64,
    /// Its builds, the newest first, without tries. May be cut.
    pub builds: Vec<BuilderRun>,
}

/// A build of a builder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuilderRun {
    /// The build.
    pub number: BuildNumber,
    /// Its commit.
    pub commit: CommitRef,
    /// How it stands.
    pub state: State,
    /// What decided it; may be empty.
    pub reason: String,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How its last attempt passed its time, in order. Where phases overlap the first counts, so that together they
    /// are the whole.
    pub phases: Vec<PhaseTime>,
}

/// How long a phase lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// How long.
    pub ms: u64,
}

/// A test on all its builders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestHistory {
    /// Its name.
    pub name: String,
    /// One line for each builder, by name.
    pub builders: Vec<TestLine>,
    /// Results of so many builds of the farm are kept.
    pub kept_builds: u64,
}

/// A test on one builder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestLine {
    /// The builder.
    pub builder: BuilderName,
    /// What was built.
    pub repository: RepositoryName,
    /// Its runs, the newest first. May be cut.
    pub runs: Vec<TestRun>,
}

/// One run of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestRun {
    /// The build.
    pub build: BuildNumber,
    /// The attempt.
    pub attempt: u32,
    /// The shard.
    pub shard: u32,
    /// The commit.
    pub commit: CommitRef,
    /// How its shard ended.
    pub state: State,
    /// How many tests ran in that shard. A shard of several that failed does not say which of them did.
    pub among: u64,
    /// Where it ran, if that is known.
    #[serde(default)]
    pub machine: Option<MachineName>,
    /// How long it took; known if it was alone.
    pub duration_ms: Option<u64>,
    /// When it ended.
    pub ended: Timestamp,
}

/// What a run says of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestVerdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// Nothing for sure: it or a neighbour failed.
    Unclear,
}

/// How a test stands on a builder, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The newest run that is clear failed.
    Fails,
    /// It or a neighbour failed in the newest run.
    MayFail,
    /// It passes, and lately failed at a commit at which it also passed.
    Flakes,
    /// It passes.
    Passes,
}

/// A commit at which a test both passed and failed on one builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flake<'a> {
    /// A run that failed.
    pub failed: &'a TestRun,
    /// At how many commits it did so.
    pub commits: u64,
}

impl TestRun {
    /// What it says of the test.
    pub fn verdict(&self) -> TestVerdict {
        match (self.state, self.among) {
            (State::Passed, _) => TestVerdict::Passed,
            (State::Failed | State::TimedOut, 0 | 1) => TestVerdict::Failed,
            _ => TestVerdict::Unclear,
        }
    }
}

impl TestLine {
    /// How many runs passed, failed, and are unclear.
    pub fn counts(&self) -> (u64, u64, u64) {
        let of = |verdict| self.runs.iter().filter(|run| run.verdict() == verdict).count() as u64;
        (of(TestVerdict::Passed), of(TestVerdict::Failed), of(TestVerdict::Unclear))
    }

    /// The newest proof that it flakes: nothing but chance differs between two runs at one commit. Linear in the runs,
    /// with a logarithm.
    pub fn flake(&self) -> Option<Flake<'_>> {
        let at = |run: &TestRun| run.commit.hash;
        let passed = self.runs.iter().filter(|run| run.verdict() == TestVerdict::Passed).map(at);
        let passed: BTreeSet<_> = passed.collect();
        let both = self
            .runs
            .iter()
            .filter(|run| run.verdict() == TestVerdict::Failed && passed.contains(&run.commit.hash));
        let commits = both.clone().map(at).collect::<BTreeSet<_>>().len() as u64;
        both.clone().next().map(|failed| Flake { failed, commits })
    }

    /// At how many of the commits at which it was run it both failed and passed.
    pub fn flake_rate(&self) -> Share {
        let clear = self.runs.iter().filter(|run| run.verdict() != TestVerdict::Unclear);
        let all = clear.map(|run| run.commit.hash).collect::<BTreeSet<_>>().len() as u64;
        Share { of: self.flake().map_or(0, |flake| flake.commits), all }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        if !self.failing().is_empty() {
            Standing::Fails
        } else if self.runs.first().is_some_and(|run| run.verdict() == TestVerdict::Unclear) {
            Standing::MayFail
        } else if self.flake().is_some() {
            Standing::Flakes
        } else {
            Standing::Passes
        }
    }

    /// The runs since it fails, if the newest that is clear failed: the newest first.
    pub fn failing(&self) -> Vec<&TestRun> {
        let clear = self.runs.iter().filter(|run| run.verdict() != TestVerdict::Unclear);
        clear.take_while(|run| run.verdict() == TestVerdict::Failed).collect()
    }
}

impl MachineHistory {
    /// True if it runs another version than the farm.
    pub fn is_of_another_version(&self) -> bool {
        !self.machine.version.is_empty() && self.machine.version != self.farm_version
    }
}
