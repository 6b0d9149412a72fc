//! Invented farms.

use types::{BuildNumber, Fence, LeaseId, Phase};

use super::{NOW, SUBJECTS, before, commit, name};
use crate::view::{
    BuilderView, BuildersView, Configuration, FarmView, HostView, LastBuild, LeaseView, MachineState,
    MachineView, PhaseStat, PoolView, Problem, QueueItem, RecentBuild, RepositoryStatus, Reuse,
    ServiceHealth, SessionState, SessionView, Severity, State, Waiting,
};

/// A farm with five machines, a queue, and two things wrong.
pub fn farm() -> FarmView {
    FarmView {
        environment: "local".to_owned(),
        version: "0.0.0".to_owned(),
        started: before(3 * 3600 + 240),
        builds_ended: 48_212,
        problems: problems(),
        machines: machines(),
        queue: queue(),
        queue_length: 2,
        leases: vec![LeaseView {
            id: name::<LeaseId>("019a9f5e-7a00-7000-8000-000000000001"),
            fence: Fence(912),
            machine: name("linux-amd64-1"),
            works_on: "48220.1".to_owned(),
            build: Some(BuildNumber(48_213)),
            builder: Some(name("linux-arm64")),
            commit: Some(commit(0, 120).hash),
            is_try: false,
            since: before(40),
            expires: None,
        }],
        sessions: sessions(),
        recent: recent(),
        configuration: Configuration {
            path: Some("farm.toml".to_owned()),
            loaded: before(3 * 3600),
            errors: vec!["farm.toml:12:5: unknown key `hots`: did you mean `host`?".to_owned()],
            refused: Some(before(100)),
        },
        pools: vec![PoolView {
            name: "reverse".to_owned(),
            kind: "machines that dial in".to_owned(),
            tier: "full".to_owned(),
            expected: 6,
            connected: 5,
            busy: 2,
            waiting: 2,
            problem: String::new(),
        }],
        phases: [
            (Phase::Queued, 4, 220),
            (Phase::Source, 5, 9),
            (Phase::Make, 65, 90),
            (Phase::Test, 154, 300),
        ]
        .map(|(phase, median, p95)| PhaseStat {
            phase,
            count: 4812,
            median_ms: median * 1000,
            p95_ms: p95 * 1000,
        })
        .to_vec(),
        services: ["coordinator", "gitmirror", "maintnerd", "pubsubhelper"]
            .map(|one| ServiceHealth { name: one.to_owned(), up: true, detail: String::new() })
            .to_vec(),
        repositories: vec![RepositoryStatus {
            name: name("example"),
            origin: "https://example.org/example.git".to_owned(),
            fetched: Some(before(9 * 60)),
            build_file: "farmer.toml".to_owned(),
            problem: "the host does not answer".to_owned(),
        }],
    }
}

fn problems() -> Vec<Problem> {
    vec![
        Problem {
            severity: Severity::Error,
            text: "`linux-s390x-1` is lost: no heartbeat for 12 min".to_owned(),
            next_step: "Look at the machine; `farmer buildlet` on it connects it again.".to_owned(),
            since: Some(before(12 * 60)),
        },
        Problem {
            severity: Severity::Warning,
            text: "the mirror of `example` is 9 min old: the host does not answer".to_owned(),
            next_step: "It is tried again every 15 s.".to_owned(),
            since: Some(before(9 * 60)),
        },
    ]
}

fn queue() -> Vec<QueueItem> {
    let item = |build, builder: &str, code: &str, text: &str, unblock: &str, seconds, position| QueueItem {
        build: BuildNumber(build),
        work: format!("{build}.1"),
        builder: name(builder),
        commit: commit(0, 120).hash,
        subject: SUBJECTS[0].to_owned(),
        class: "batch".to_owned(),
        waiting: Waiting {
            code: code.to_owned(),
            text: text.to_owned(),
            unblock: unblock.to_owned(),
            since: before(seconds),
            position: Some(position),
            eta_ms: (code == "ALL_BUSY").then_some(360_000),
        },
    };
    let busy = "the only `linux-s390x` is busy with 48201.1";
    let none = "no `windows-arm64` is connected";
    vec![
        item(48_218, "linux-s390x", "ALL_BUSY", busy, "48201.1 ends", 119, 1),
        item(48_219, "windows-arm64", "NO_MACHINE", none, "a machine of that kind connects", 3000, 2),
    ]
}

/// One that is used, one that waits, one that is over.
pub(super) fn sessions() -> Vec<SessionView> {
    let session = |one: &str, host: &str, state, created| SessionView {
        name: name(one),
        owner: "ada".to_owned(),
        group: String::new(),
        host: name(host),
        builder: Some(name(host)),
        repeats: String::new(),
        state,
        machine: None,
        created: before(created),
        expires: NOW + std::time::Duration::from_mins(25),
        waiting: None,
        ended: None,
        reason: String::new(),
    };
    let busy = Waiting {
        code: "ALL_BUSY".to_owned(),
        text: "the only `linux-s390x` is busy with 48201.1".to_owned(),
        unblock: "48201.1 ends".to_owned(),
        since: before(60),
        position: Some(1),
        eta_ms: None,
    };
    vec![
        SessionView {
            machine: Some(name("linux-amd64-2")),
            repeats: "48213.1.7".to_owned(),
            ..session("ada-linux-amd64-0", "linux-amd64", SessionState::Ready, 900)
        },
        SessionView {
            waiting: Some(busy),
            ..session("ada-linux-s390x-0", "linux-s390x", SessionState::Waiting, 60)
        },
        SessionView {
            ended: Some(before(3600)),
            reason: "nobody used it for 30 min".to_owned(),
            machine: Some(name("linux-amd64-1")),
            ..session("ada-linux-amd64-1", "linux-amd64", SessionState::Ended, 9000)
        },
    ]
}

fn machines() -> Vec<MachineView> {
    let all = [
        ("linux-amd64-1", "linux-amd64", MachineState::Leased, "48220.1", 2),
        ("linux-amd64-2", "linux-amd64", MachineState::Idle, "", 1),
        ("linux-arm64-7", "linux-arm64", MachineState::Cleaning, "", 1),
        ("linux-s390x-1", "linux-s390x", MachineState::Lost, "", 720),
        ("windows-amd64-1", "windows-amd64", MachineState::Idle, "", 2),
    ];
    all.map(|(machine, host, state, works_on, seen)| MachineView {
        name: name(machine),
        host_types: vec![name(host)],
        pool: "reverse".to_owned(),
        state,
        since: before(seen + 38),
        works_on: works_on.to_owned(),
        build: (!works_on.is_empty()).then_some(BuildNumber(48_213)),
        version: "0.0.0".to_owned(),
        platform: host.replace('-', "/"),
        seen: before(seen),
        connected: (state != MachineState::Lost).then(|| before(7200)),
        reuse: Reuse::Wiped,
        problem: if state == MachineState::Lost {
            "no heartbeat for 12 min".to_owned()
        } else {
            String::new()
        },
        next_step: if state == MachineState::Lost {
            "Start `farmer buildlet` on it again.".to_owned()
        } else {
            String::new()
        },
    })
    .to_vec()
}

fn recent() -> Vec<RecentBuild> {
    let states =
        [State::Passed, State::Failed, State::Passed, State::Infrastructure, State::Flaky, State::Passed];
    let reason = |state| match state {
        State::Failed => "net/http: TestServeReuse failed",
        State::Infrastructure => "the machine was lost, budget of retries spent",
        State::Flaky => "passed at the second attempt",
        _ => "",
    };
    let recent = states.iter().enumerate().map(|(at, state)| RecentBuild {
        number: BuildNumber(48_214 - at as u64),
        builder: name(["linux-arm64", "linux-amd64", "windows-amd64"][at % 3]),
        commit: commit(at, 0).hash,
        subject: SUBJECTS[at].to_owned(),
        state: *state,
        reason: reason(*state).to_owned(),
        ended: before(8 + at as u64 * 130),
        duration_ms: 234_000 - at as u64 * 11_000,
    });
    recent.collect()
}

/// A farm right after its first start.
pub(in crate::testing) fn empty_farm() -> FarmView {
    FarmView {
        problems: Vec::new(),
        machines: Vec::new(),
        queue: Vec::new(),
        queue_length: 0,
        leases: Vec::new(),
        sessions: Vec::new(),
        recent: Vec::new(),
        pools: Vec::new(),
        phases: Vec::new(),
        repositories: Vec::new(),
        builds_ended: 0,
        configuration: Configuration { path: None, loaded: NOW, errors: Vec::new(), refused: None },
        ..farm()
    }
}

/// Four builders on three host types, one of which has no machine.
pub fn builders() -> BuildersView {
    let builder = |one: &str, host: &str, state, helpers| BuilderView {
        name: name(one),
        repository: name("example"),
        host: name(host),
        helpers,
        owners: vec!["builders".to_owned()],
        known_issues: Vec::new(),
        last: Some(LastBuild { number: BuildNumber(48_213), state, ended: before(22 * 60) }),
    };
    let host = |one: &str, expected, connected| HostView {
        name: name(one),
        pool: "reverse".to_owned(),
        tier: "full".to_owned(),
        reuse: Reuse::Wiped,
        expected,
        connected,
        waiting: u64::from(connected < expected),
        owners: vec!["builders".to_owned()],
        tags: vec![one.replace('-', ", ")],
        problem: if connected == 0 {
            "no machine of this kind is connected".to_owned()
        } else {
            String::new()
        },
    };
    BuildersView {
        builders: vec![
            builder("linux-amd64", "linux-amd64", State::Passed, 3),
            builder("linux-amd64-race", "linux-amd64", State::Flaky, 3),
            builder("linux-s390x", "linux-s390x", State::Failed, 0),
            BuilderView { last: None, ..builder("windows-amd64", "windows-amd64", State::Passed, 1) },
        ],
        hosts: vec![host("linux-amd64", 2, 2), host("linux-s390x", 1, 0), host("windows-amd64", 1, 1)],
    }
}
