//! Nothing waits without a reason (architecture.md D7): what for, since when, what would end it.

use types::{BuildNumber, HostType, Timestamp};

use super::{Build, Machine, Progress, ShardState, State, Task};

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
        }
    }
}

impl State {
    /// Why a build waits; none when something of it runs.
    pub fn wait_reason(&self, number: BuildNumber) -> Option<WaitReason> {
        let build = self.builds.get(&number)?;
        match &build.progress {
            Progress::Resting(until) => Some(WaitReason {
                code: WaitCode::BackingOff,
                text: format!(
                    "attempt {} of {} ended by a fault of the farm: {}",
                    build.attempts, self.limits.attempts, build.last_fault
                ),
                unblock: format!(
                    "it is tried again {} s after that",
                    until.since(build.waiting_since).as_secs()
                ),
                since: build.waiting_since,
            }),
            Progress::Queued => Some(self.machine_wait(build)),
            Progress::Running(_) if build.needs_machine() => Some(self.machine_wait(build)),
            Progress::Running(attempt) => {
                let main = self.leases.get(&attempt.main?)?;
                if main.task != Task::Wait {
                    return None;
                }
                let running =
                    attempt.shards.iter().filter(|s| matches!(s.state, ShardState::Running(_))).count();
                Some(WaitReason {
                    code: WaitCode::ShardsRunning,
                    text: format!("{running} shards run on other machines"),
                    unblock: "they end".to_owned(),
                    since: main.task_since,
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
            return Some(self.machine_wait(build));
        }
        let ahead =
            attempt.shards.iter().filter(|s| s.state == ShardState::Waiting && s.number < shard).count();
        let machines = attempt.leases().count();
        Some(WaitReason {
            code: WaitCode::ShardsRunning,
            text: format!("{ahead} shards are before it, for {machines} machines"),
            unblock: "one of the build's machines ends its shard".to_owned(),
            since: attempt.shards.iter().filter_map(|s| s.started).min().unwrap_or(attempt.started),
        })
    }

    fn machine_wait(&self, build: &Build) -> WaitReason {
        let host = &build.plan.host;
        let connected: Vec<&Machine> = self.machines_of(host).filter(|m| m.connection.is_some()).collect();
        let ahead = self.queue.ahead(build.number);
        let (code, text, unblock) = if connected.is_empty() {
            let text = format!("no machine of host type `{host}` is connected");
            (WaitCode::NoMachine, text, format!("a machine of host type `{host}` connects"))
        } else if ahead > 0 {
            let text = format!("{ahead} builds for `{host}` are served before it");
            (WaitCode::BehindOthers, text, "they have been given machines".to_owned())
        } else {
            let works =
                connected.iter().map(|machine| self.describe(machine)).take(4).collect::<Vec<_>>().join(", ");
            let text = format!("none of {} machines of `{host}` is free: {works}", connected.len());
            (WaitCode::AllBusy, text, "one of them is free again".to_owned())
        };
        WaitReason { code, text, unblock, since: build.waiting_since }
    }

    /// Machines that serve a host type, by name.
    pub fn machines_of(&self, host: &HostType) -> impl Iterator<Item = &Machine> {
        self.machines.values().filter(move |machine| machine.info.host_types.contains(host))
    }

    fn describe(&self, machine: &Machine) -> String {
        let name = &machine.info.name;
        match machine.lease.and_then(|id| self.leases.get(&id)) {
            Some(lease) => format!("`{name}` works on {}", lease.works_on()),
            None => format!("`{name}` is {}", machine.state()),
        }
    }
}
