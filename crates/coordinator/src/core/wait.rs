//! Nothing waits without a reason (architecture.md D7): what for, since when, what would end it, and how long that may
//! take if it can be told.

use std::{collections::BTreeSet, time::Duration};

use types::{BuildNumber, HostType, MachineName, Timestamp};

use super::{
    Attempt, Build, Machine, Mutation, Progress, ShardState, Stage, State, Task, build::HELPER_FAULTS,
};

/// How many machines a reason names.
const SHOWN: usize = 4;
/// How many machines are looked at for one that could help.
const MACHINES_LOOK: usize = 256;

/// Why something waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitReason {
    /// The kind.
    pub code: WaitCode,
    /// In words, with names and numbers.
    pub text: String,
    /// What would end the wait, in words.
    pub unblock: String,
    /// Since when.
    pub since: Timestamp,
    /// How much longer it may take, as machines lately were kept. None if nobody can tell.
    pub estimate: Option<Duration>,
}

/// The kinds of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitCode {
    /// No machine of the host type is connected.
    NoMachine,
    /// All machines of the host type work.
    AllBusy,
    /// Others are served first.
    BehindOthers,
    /// It rests after an infrastructure fault.
    BackingOff,
    /// Shards run elsewhere.
    ShardsRunning,
    /// Helpers are asked for, and there is no snapshot that they could begin with.
    NoSnapshot,
    /// Helpers are asked for, and no other machine can use the snapshot: it is tied to a work folder.
    SnapshotTied,
    /// Helpers are asked for, and the last ones could not begin.
    HelpersFailed,
    /// A shard failed; another machine is to run it again.
    RunAgain,
}

impl WaitCode {
    /// The word for it, as in the protocol.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoMachine => "NO_MACHINE",
            Self::AllBusy => "ALL_BUSY",
            Self::BehindOthers => "BEHIND_OTHERS",
            Self::BackingOff => "BACKING_OFF",
            Self::ShardsRunning => "SHARDS_RUNNING",
            Self::NoSnapshot => "NO_SNAPSHOT",
            Self::SnapshotTied => "SNAPSHOT_TIED",
            Self::HelpersFailed => "HELPERS_FAILED",
            Self::RunAgain => "RUN_AGAIN",
        }
    }
}

impl State {
    /// Why a build waits; none when something of it runs.
    pub fn wait_reason(&self, number: BuildNumber) -> Option<WaitReason> {
        let build = self.builds.get(&number)?;
        match &build.progress {
            Progress::Resting(_) if Mutation::NoReason.is(self.limits.mutation) => None,
            Progress::Resting(until) => Some(WaitReason {
                code: WaitCode::BackingOff,
                text: format!(
                    "{} of the {} faults of the farm that it may have are used up, the last: {}",
                    build.faults, self.limits.attempts, build.last_fault
                ),
                unblock: format!(
                    "it is tried again {} s after that",
                    until.since(build.waiting_since).as_secs()
                ),
                since: build.waiting_since,
                estimate: None,
            }),
            Progress::Queued => Some(self.build_wait(build)),
            Progress::Running(_) if build.needs_machine() => Some(self.build_wait(build)),
            Progress::Running(attempt) => {
                let main = self.leases.get(&attempt.main?)?;
                if main.task != Task::Wait {
                    return None;
                }
                let running =
                    attempt.shards.iter().filter(|s| matches!(s.state, ShardState::Running(_))).count();
                if running == 0
                    && let Some(doubted) = attempt.shards.iter().find_map(|shard| self.elsewhere(shard))
                {
                    return Some(doubted);
                }
                Some(WaitReason {
                    code: WaitCode::ShardsRunning,
                    text: match running {
                        1 => "its last shard runs on another machine".to_owned(),
                        _ => format!("{running} shards run on other machines"),
                    },
                    unblock: "they end".to_owned(),
                    since: main.task_since,
                    estimate: None,
                })
            }
        }
    }

    /// Why a shard of a running build waits; none when it does not.
    pub fn shard_wait(&self, number: BuildNumber, shard: u32) -> Option<WaitReason> {
        let build = self.builds.get(&number)?;
        let attempt = build.attempt()?;
        let entry = attempt.shards.get((shard as usize).checked_sub(1)?)?;
        if entry.state != ShardState::Waiting {
            return None;
        }
        if build.needs_machine() {
            return Some(self.build_wait(build));
        }
        if let Some(doubted) = self.elsewhere(entry) {
            return Some(doubted);
        }
        let ahead =
            attempt.shards.iter().filter(|s| s.state == ShardState::Waiting && s.number < shard).count();
        let machines = attempt.leases().count();
        let machines = counted(machines, "machine");
        Some(WaitReason {
            code: WaitCode::ShardsRunning,
            text: match ahead {
                0 => format!("it is next, for {machines} of the build"),
                1 => format!("1 shard is before it, for {machines}"),
                _ => format!("{ahead} shards are before it, for {machines}"),
            },
            unblock: "one of the build's machines ends its shard".to_owned(),
            since: attempt.shards.iter().filter_map(|s| s.started).min().unwrap_or(attempt.started),
            estimate: None,
        })
    }

    fn build_wait(&self, build: &Build) -> WaitReason {
        let mut reason = self.machine_wait(&build.plan.host, self.ahead(build), build.waiting_since);
        if !build.last_fault.is_empty() {
            reason.text = format!("{}; before, {}", reason.text, build.last_fault);
        }
        reason
    }

    /// Why something that needs a machine has none, with so much served before it.
    pub(super) fn machine_wait(&self, host: &HostType, ahead: usize, since: Timestamp) -> WaitReason {
        let connected = self.fleet.connected(host);
        let count = connected.len();
        let (code, text, unblock) = if count == 0 {
            let text = format!("no machine of host type `{host}` is connected");
            (WaitCode::NoMachine, text, format!("a machine of host type `{host}` connects"))
        } else if self.fleet.fit(host) == 0 {
            let text = format!("no machine of host type `{host}` takes work: {}", self.describe_some(host));
            (WaitCode::NoMachine, text, "one of them is mended, or another connects".to_owned())
        } else if ahead > 0 {
            let are = if ahead == 1 { "is" } else { "are" };
            let text = format!("{} for `{host}` {are} served before it", self.counted_ahead(host, ahead));
            (WaitCode::BehindOthers, text, "they have been given machines".to_owned())
        } else {
            let some = self.describe_some(host);
            let text = match count {
                1 => format!("the one machine of `{host}` is not free: {some}"),
                _ => format!("none of {count} machines of `{host}` is free: {some}"),
            };
            (WaitCode::AllBusy, text, "one of them is free again".to_owned())
        };
        let estimate = self.fleet.estimate(host, ahead);
        WaitReason { code, text, unblock, since, estimate }
    }

    /// Why a build that would put further machines to use has fewer than it asks for; none when it has all of them, asks
    /// for none, or is not that far.
    pub fn helper_wait(&self, number: BuildNumber) -> Option<WaitReason> {
        let build = self.builds.get(&number)?;
        let attempt = build.attempt()?;
        let lacks = build.plan.is_sharded()
            && attempt.stage == Stage::Testing
            && (attempt.helpers.len() as u32) < build.plan.helpers
            && attempt.shards.iter().any(|shard| shard.state == ShardState::Waiting);
        if !lacks || build.needs_machine() {
            return None;
        }
        let since = attempt.shards.iter().filter_map(|s| s.started).min().unwrap_or(attempt.started);
        let (code, text, unblock) = self.lacks_helpers(build, attempt);
        Some(WaitReason { code, text, unblock: unblock.to_owned(), since, estimate: None })
    }

    fn lacks_helpers(&self, build: &Build, attempt: &Attempt) -> (WaitCode, String, &'static str) {
        let (host, asked) = (&build.plan.host, build.plan.helpers);
        let wanted =
            format!("it asks for {} and has {}", counted(asked as usize, "helper"), attempt.helpers.len());
        let Some(snapshot) = &attempt.snapshot else {
            let text = format!("{wanted}: no snapshot is kept that they could begin with");
            return (WaitCode::NoSnapshot, text, "set `snapshot.enabled` for its builder");
        };
        if attempt.helper_faults >= HELPER_FAULTS {
            let text = format!("{wanted}: {} helpers could not begin", attempt.helper_faults);
            return (WaitCode::HelpersFailed, text, "the next attempt begins; the steps of this one say why");
        }
        let held: BTreeSet<&MachineName> =
            attempt.leases().filter_map(|id| Some(&self.leases.get(&id)?.machine)).collect();
        let mut others = self.fleet.connected(host).filter(|name| !held.contains(name)).peekable();
        if others.peek().is_none() {
            let text = format!("{wanted}: no other machine of host type `{host}` is connected");
            return (WaitCode::NoMachine, text, "one connects");
        }
        let able = others
            .take(MACHINES_LOOK)
            .filter(|name| self.snapshot_key(build, name).as_ref() == Some(snapshot))
            .take(SHOWN)
            .filter_map(|name| self.machines.get(name))
            .map(|machine| self.describe(machine))
            .collect::<Vec<_>>();
        if able.is_empty() {
            let text = format!(
                "{wanted}: what make left is tied to its work folder, `snapshot.movable` is not set, and no other \
                 machine works in a folder of the same path"
            );
            return (WaitCode::SnapshotTied, text, "set `snapshot.movable` if what make leaves can be moved");
        }
        if self.queue.is_empty(host) {
            let text = format!("{wanted}: no other machine is free: {}", able.join(", "));
            return (WaitCode::AllBusy, text, "one of them is free again");
        }
        let text = format!("{wanted}: builds of `{host}` that have no machine at all are served before it");
        (WaitCode::BehindOthers, text, "they have been given machines")
    }

    /// Machines that serve a host type, by name.
    pub fn machines_of(&self, host: &HostType) -> impl Iterator<Item = &Machine> {
        self.fleet.known(host).filter_map(|name| self.machines.get(name))
    }

    fn describe_some(&self, host: &HostType) -> String {
        let shown = self.fleet.connected(host).take(SHOWN).filter_map(|name| self.machines.get(name));
        shown.map(|machine| self.describe(machine)).collect::<Vec<_>>().join(", ")
    }

    fn describe(&self, machine: &Machine) -> String {
        let name = &machine.info.name;
        match self.holding(machine) {
            Some(held) if held.build.is_none() => format!("`{name}` is held by {}", held.works_on),
            Some(held) => format!("`{name}` works on {}", held.works_on),
            None if !machine.problem.is_empty() => {
                format!("`{name}` is {}: {}", machine.state(), machine.problem)
            }
            None if !machine.quarantine.is_empty() => {
                format!("`{name}` is {}: {}", machine.state(), machine.quarantine)
            }
            None if machine.suspected => {
                format!("`{name}` rests until it is known whether it or a commit is to blame")
            }
            None => format!("`{name}` is {}", machine.state()),
        }
    }
}

impl State {
    /// What is served before something, as people say it.
    fn counted_ahead(&self, host: &HostType, ahead: usize) -> String {
        counted(ahead, if self.applicants(host) == 0 { "build" } else { "build or session" })
    }
}

/// So many of something, as people say it.
fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}
