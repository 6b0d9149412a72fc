//! Invented pasts of a machine, a builder and a test.

use types::{BuildNumber, Phase};

use super::{
    before, commit,
    farm::{builders, farm, sessions},
    name,
};
use crate::view::{
    BuilderHistory, BuilderRun, FaultRecord, FaultShare, LeaseRecord, MachineHistory, PhaseTime, Sibling,
    State, TestHistory, TestLine, TestRun,
};

/// The machine `linux-amd64-1`: at work, of an older version, with one fault.
pub fn machine_history() -> MachineHistory {
    let machines = farm().machines;
    let lease = |at: u64| LeaseRecord {
        build: BuildNumber(48_213 - at * 3),
        builder: name(["linux-amd64", "linux-amd64-race"][at as usize % 2]),
        commit: commit(at as usize, 600 * at + 120),
        state: match at {
            0 => State::Running,
            3 => State::Failed,
            7 => State::Infrastructure,
            _ => State::Passed,
        },
        main: at % 4 != 2,
        since: before(600 * at + 40),
        ended: (at > 0).then(|| before(600 * at - 190)),
        reason: if at == 0 { String::new() } else { "its attempt has ended".to_owned() },
    };
    MachineHistory {
        machine: machines[0].clone(),
        farm_version: "0.0.1".to_owned(),
        owners: vec!["builders".to_owned()],
        share: FaultShare { leases: 12, faulty: 1 },
        siblings: vec![Sibling {
            machine: machines[1].clone(),
            share: FaultShare { leases: 250, faulty: 3 },
        }],
        sibling_count: 1,
        leases: (0..12).map(lease).collect(),
        sessions: sessions().split_off(2),
        faults: vec![FaultRecord {
            build: BuildNumber(48_192),
            phase: Phase::Source,
            at: before(4100),
            detail: "the archive could not be fetched: connection reset".to_owned(),
        }],
    }
}

/// The builder `linux-s390x`: red for three commits, a build waiting.
pub fn builder_history() -> BuilderHistory {
    let view = builders();
    let run = |at: usize| {
        let state = match at {
            0 => State::Running,
            1 => State::Infrastructure,
            2..5 => State::Failed,
            9 => State::Flaky,
            _ => State::Passed,
        };
        let tests = 155 + at as u64 * 7 % 12;
        let phases = [(Phase::Queued, 4), (Phase::Source, 5), (Phase::Make, 65), (Phase::Test, tests)];
        BuilderRun {
            number: BuildNumber(48_214 - at as u64 * 4),
            commit: commit(at, 120 + 3600 * at as u64),
            state,
            reason: if state == State::Failed {
                "`net/http`: exit status 1".to_owned()
            } else {
                String::new()
            },
            ended: (at > 0).then(|| before(3600 * at as u64 - 200)),
            phases: if at == 0 {
                Vec::new()
            } else {
                phases.map(|(phase, seconds)| PhaseTime { phase, ms: seconds * 1000 }).to_vec()
            },
        }
    };
    BuilderHistory {
        name: name("linux-s390x"),
        repository: name("example"),
        definition: view.builders.iter().find(|one| one.name.as_str() == "linux-s390x").cloned(),
        host: view.hosts.iter().find(|one| one.name.as_str() == "linux-s390x").cloned(),
        queue: farm().queue.into_iter().take(1).collect(),
        queue_length: 1,
        builds: (0..24).map(run).collect(),
    }
}

/// The test `net/http` on three builders: it flakes on `linux-amd64`, fails on `linux-s390x`, is often unclear on the third.
pub fn test_history() -> TestHistory {
    let line = |builder: &str, length: usize, state_of: fn(usize) -> (State, u64)| TestLine {
        builder: name(builder),
        repository: name("example"),
        runs: (0..length)
            .map(|at| {
                let (state, among) = state_of(at);
                TestRun {
                    build: BuildNumber(48_214 - at as u64 * 4),
                    attempt: 1,
                    shard: 3,
                    commit: commit(at, 120 + 3600 * at as u64),
                    state,
                    among,
                    machine: None,
                    duration_ms: (among == 1).then_some(14_000 + at as u64 * 130),
                    ended: before(3600 * at as u64 + 20),
                }
            })
            .collect(),
    };
    let mut flaky = line("linux-amd64", 80, |at| (if at == 30 { State::TimedOut } else { State::Passed }, 1));
    // The same commit once more, and it passed.
    flaky.runs[29].commit = flaky.runs[30].commit.clone();
    flaky.runs[29].attempt = 2;
    flaky.runs[29].build = flaky.runs[30].build;
    TestHistory {
        name: "net/http".to_owned(),
        builders: vec![
            flaky,
            line("linux-s390x", 24, |at| {
                (if (0..3).contains(&at) { State::Failed } else { State::Passed }, 1)
            }),
            line("windows-amd64", 24, |at| (if at == 5 { State::Failed } else { State::Passed }, 12)),
        ],
        kept_builds: 20_000,
    }
}
