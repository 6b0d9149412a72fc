//! Invented builds and their logs.

use std::{fmt::Write as _, time::Duration};

use types::{BuildNumber, MachineName, Phase, Timestamp};

use super::{NOW, before, commit, farm, name};
use crate::{
    testing::FakeSource,
    view::{
        AttemptLine, BuildView, Elsewhere, Failure, KnownIssue, LogLine, LogSection, LogSummary, MachineUse,
        Reuse, ShardView, Snapshot, SnapshotUse, State, StepView, TestCount,
    },
};

/// The line that the invented log is opened at.
pub(in crate::testing) const FAILURE_LINE: u64 = 4809;

/// The build that [`show_more`] lets run.
pub const RUNNING: BuildNumber = BuildNumber(48_220);

/// 9,214 tests over four machines; one failed.
pub fn failed_build() -> BuildView {
    let started = before(22 * 60 + 234);
    let machine = |suffix: u32| -> MachineName { name(&format!("linux-arm64-{suffix}")) };
    BuildView {
        number: BuildNumber(48_213),
        attempt: 1,
        attempts: vec![AttemptLine {
            number: 1,
            state: State::Failed,
            reason: "net/http: TestServeReuse failed".to_owned(),
            started,
            ended: Some(before(22 * 60)),
        }],
        builder: name("linux-arm64"),
        host: name("linux-arm64"),
        repository: name("example"),
        branch: Some("main".to_owned()),
        is_try: false,
        commit: commit(0, 30 * 60),
        state: State::Failed,
        percent: None,
        phase: None,
        reason: "net/http: TestServeReuse failed in shard 3".to_owned(),
        likely_cause: Some("It passes at the commit before and on 11 other builders.".to_owned()),
        tests: Some(TestCount { total: 9214, failed: 1 }),
        created: started - Duration::from_secs(4),
        started: Some(started),
        ended: Some(before(22 * 60)),
        waiting: None,
        failures: failures(),
        steps: steps(started),
        shards: shards(started),
        snapshot: Some(Snapshot {
            r#use: SnapshotUse::Made,
            bytes: Some(61_000_000),
            from: None,
            detail: String::new(),
        }),
        reuse: Reuse::Wiped,
        machines: [(7, true, ""), (2, false, ""), (11, false, "lost: no heartbeat for 3 s"), (4, false, "")]
            .map(|(suffix, main, note)| MachineUse { name: machine(suffix), main, note: note.to_owned() })
            .to_vec(),
        log: LogSummary { bytes: 1_204_112, lines: 9214, finished: true },
        elsewhere: [
            ("linux-amd64", State::Passed),
            ("windows-amd64", State::Passed),
            ("linux-s390x", State::Waiting),
        ]
        .map(|(builder, state)| Elsewhere { builder: name(builder), build: Some(BuildNumber(48_200)), state })
        .to_vec(),
        previous: Some(BuildNumber(48_190)),
        next: None,
        notes: vec!["linux-arm64-11 was lost at 2:23; shard 6 was running again 17 s later.".to_owned()],
        can_cancel: false,
    }
}

/// A build that waits for a machine and can be called off.
pub fn waiting_build() -> BuildView {
    BuildView {
        number: BuildNumber(48_218),
        attempt: 0,
        attempts: Vec::new(),
        builder: name("linux-s390x"),
        host: name("linux-s390x"),
        state: State::Waiting,
        reason: String::new(),
        likely_cause: None,
        tests: None,
        created: before(119),
        started: None,
        ended: None,
        waiting: farm::farm().queue.first().map(|item| item.waiting.clone()),
        failures: Vec::new(),
        steps: Vec::new(),
        shards: Vec::new(),
        snapshot: None,
        machines: Vec::new(),
        log: LogSummary::default(),
        notes: Vec::new(),
        can_cancel: true,
        ..failed_build()
    }
}

/// A build whose tests run, at its second attempt.
pub fn running_build() -> BuildView {
    let failed = failed_build();
    let started = before(160);
    let moved = started.since(failed.started.unwrap_or(started));
    let steps = failed.steps.iter().map(|step| StepView {
        started: step.started + moved,
        ended: step.ended.map(|end| end + moved),
        ..step.clone()
    });
    let steps = steps.filter(|step| step.started < NOW && step.state != State::Infrastructure);
    let line = |number, state, ended| AttemptLine {
        number,
        state,
        reason: if number == 1 { "the machine was lost".to_owned() } else { String::new() },
        started: before(600),
        ended,
    };
    BuildView {
        number: RUNNING,
        attempt: 2,
        attempts: vec![line(1, State::Infrastructure, Some(before(300))), line(2, State::Running, None)],
        builder: name("linux-amd64"),
        host: name("linux-amd64"),
        state: State::Running,
        percent: Some(43),
        phase: Some(Phase::Test),
        reason: String::new(),
        likely_cause: None,
        started: Some(started),
        ended: None,
        failures: Vec::new(),
        steps: steps
            .map(|step| match step.ended {
                Some(end) if end > NOW => StepView { ended: None, state: State::Running, ..step },
                _ => step,
            })
            .collect(),
        shards: failed
            .shards
            .iter()
            .map(|shard| ShardView {
                state: match shard.number {
                    1 | 4 => State::Passed,
                    2 | 5 | 6 => State::Running,
                    _ => State::Waiting,
                },
                tries: 1,
                note: String::new(),
                started: shard.started.filter(|_| shard.number <= 6),
                ended: shard.ended.filter(|_| matches!(shard.number, 1 | 4)),
                machine: shard.machine.clone().filter(|_| shard.number <= 6),
                line: shard.line.filter(|_| shard.number <= 1),
                ..shard.clone()
            })
            .collect(),
        log: LogSummary { bytes: 60_000, lines: 800, finished: false },
        machines: failed
            .machines
            .iter()
            .map(|one| MachineUse { note: String::new(), ..one.clone() })
            .collect(),
        notes: Vec::new(),
        can_cancel: true,
        ..failed
    }
}

/// Adds a build that runs and one that waits.
pub fn show_more(source: &FakeSource) {
    source.set_build(running_build());
    source.set_build(waiting_build());
    let text = log_text().lines().take(800).collect::<Vec<_>>().join("\n") + "\n";
    source.set_log(RUNNING, text.into_bytes(), false);
    source.set_log(waiting_build().number, Vec::new(), false);
}

fn failures() -> Vec<Failure> {
    let line = |number, text: &str, hit| LogLine { number, text: text.to_owned(), hit };
    vec![
        Failure {
            name: "net/http: TestServeReuse".to_owned(),
            test: Some("net/http".to_owned()),
            state: State::Failed,
            shard: Some(3),
            machine: Some(name("linux-arm64-7")),
            duration_ms: Some(420),
            detail: String::new(),
            is_new: Some(true),
            known: None,
            lines: vec![
                line(4801, "ok  \tnet/http/cookiejar\t0.113s", false),
                line(4807, "=== RUN   TestServeReuse", false),
                line(4808, "    serve_test.go:412: first request on a new connection: 200", false),
                line(4809, "    serve_test.go:419: second request: deadline 0s, want 30s", true),
                line(4810, "    serve_test.go:431: connection was reused after its deadline", true),
                line(4811, "--- FAIL: TestServeReuse (0.42s)", false),
                line(4812, "FAIL", false),
                line(4813, "FAIL\tnet/http\t12.881s", false),
            ],
        },
        Failure {
            name: "os/exec: TestPipeLookPathLeak".to_owned(),
            test: None,
            state: State::Flaky,
            shard: Some(6),
            machine: Some(name("linux-arm64-4")),
            duration_ms: None,
            detail: "failed once, passed again on another machine".to_owned(),
            is_new: Some(false),
            known: Some(KnownIssue {
                text: "issue 51122".to_owned(),
                url: "https://example.org/51122".to_owned(),
            }),
            lines: Vec::new(),
        },
    ]
}

/// A phase, the machine's suffix, the shard, from and to in seconds, how it ended.
type Done = (Phase, Option<u32>, Option<u32>, u64, u64, State);

fn steps(started: Timestamp) -> Vec<StepView> {
    let all: &[Done] = &[
        (Phase::Source, Some(7), None, 4, 9, State::Passed),
        (Phase::Make, Some(7), None, 9, 74, State::Passed),
        (Phase::SnapshotStore, Some(7), None, 74, 78, State::Passed),
        (Phase::List, Some(7), None, 78, 84, State::Passed),
        (Phase::Test, Some(7), Some(1), 84, 130, State::Passed),
        (Phase::Test, Some(7), Some(2), 130, 176, State::Passed),
        (Phase::Test, Some(7), Some(3), 176, 231, State::Failed),
        (Phase::Queued, Some(2), None, 78, 82, State::Passed),
        (Phase::SnapshotFetch, Some(2), None, 82, 93, State::Passed),
        (Phase::Test, Some(2), Some(4), 93, 160, State::Passed),
        (Phase::Test, Some(2), Some(5), 160, 226, State::Passed),
        (Phase::SnapshotFetch, Some(11), None, 80, 88, State::Passed),
        (Phase::Test, Some(11), Some(6), 88, 143, State::Infrastructure),
        (Phase::Queued, Some(4), None, 144, 151, State::Passed),
        (Phase::SnapshotFetch, Some(4), None, 151, 160, State::Passed),
        (Phase::Test, Some(4), Some(6), 160, 205, State::Passed),
        (Phase::Test, Some(4), Some(7), 205, 219, State::Passed),
        (Phase::Test, Some(4), Some(8), 219, 227, State::Passed),
        (Phase::Test, Some(4), Some(9), 227, 233, State::Passed),
        (Phase::Finish, Some(7), None, 233, 234, State::Passed),
    ];
    let step =
        |(phase, machine, shard, from, to, state): &(Phase, Option<u32>, Option<u32>, u64, u64, State)| {
            StepView {
                phase: *phase,
                machine: machine.map(|suffix| name(&format!("linux-arm64-{suffix}"))),
                shard: *shard,
                started: started + Duration::from_secs(*from),
                ended: Some(started + Duration::from_secs(*to)),
                state: *state,
                detail: if *state == State::Infrastructure {
                    "no heartbeat for 3 s".to_owned()
                } else {
                    String::new()
                },
            }
        };
    all.iter().map(step).collect()
}

fn shards(started: Timestamp) -> Vec<ShardView> {
    let packages = [
        "archive/...",
        "bufio",
        "net/http",
        "crypto/...",
        "encoding/...",
        "os/exec",
        "fmt",
        "go/...",
        "time",
    ];
    (1..=9_u32)
        .map(|number| ShardView {
            number,
            state: if number == 3 { State::Failed } else { State::Passed },
            tests: vec![packages[number as usize - 1].to_owned()],
            test_count: 1023 + u64::from(number == 9) * 7,
            machine: Some(name(match number {
                1..=3 => "linux-arm64-7",
                4 | 5 => "linux-arm64-2",
                _ => "linux-arm64-4",
            })),
            tries: if number == 6 { 2 } else { 1 },
            started: Some(started + Duration::from_secs(84 + u64::from(number))),
            ended: Some(started + Duration::from_secs(130 + u64::from(number) * 3)),
            note: if number == 6 { "repeated: linux-arm64-11 was lost".to_owned() } else { String::new() },
            line: Some(u64::from(number) * 1000 + 200),
        })
        .collect()
}

/// 9,214 lines, with the failure at 4,809.
pub fn log_text() -> String {
    let mut text = String::new();
    let failed = failures();
    for line in 1..=9214_u64 {
        let known = failed[0].lines.iter().find(|one| one.number == line);
        let written = match (known, line) {
            (Some(one), _) => writeln!(text, "{}", one.text),
            (None, 1..=1200) => writeln!(text, "building package {line} of 1200: compile, assemble, pack"),
            (None, _) => writeln!(text, "ok  \texample/package{line}\t0.{:03}s", line * 37 % 1000),
        };
        written.expect("a string takes all");
    }
    text
}

/// The parts of [`log_text`].
pub(in crate::testing) fn sections() -> Vec<LogSection> {
    let section = |name: &str, first_line, lines, state, ms| LogSection {
        name: name.to_owned(),
        first_line,
        lines,
        state,
        duration_ms: Some(ms),
    };
    let mut all = vec![
        section("make", 1, 1180, State::Passed, 65_000),
        section("list tests", 1181, 19, State::Passed, 6000),
    ];
    // The third holds the failure, and is longer than the others.
    let begins = [1200, 2400, 3600, 4900, 5600, 6300, 7000, 7700, 8400, 9215];
    for (shard, bounds) in begins.windows(2).enumerate() {
        let state = if shard == 2 { State::Failed } else { State::Passed };
        let name = format!("shard {}", shard + 1);
        all.push(section(&name, bounds[0], bounds[1] - bounds[0], state, 41_000 + shard as u64 * 1000));
    }
    all
}
