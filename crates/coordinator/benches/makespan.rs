//! How long the tests of a build take on many machines: `cargo bench -p coordinator --bench makespan`.
//!
//! The core decides, in virtual time, who runs which shard, from shards packed by estimates that are off by up to 30 %.
//! Beside it: longest-first list scheduling of single tests that knows how long each really takes and starts one command
//! a machine; and the bound that no schedule beats, max(total / machines, longest). All pay what a machine costs before it
//! can begin, and this core a start for each command.
//!
//! `data/*.txt` hold durations as recorded, each with how at its top; lists whose names begin with `seeded` are drawn from
//! a distribution by a fixed seed.

#![expect(clippy::print_stdout, reason = "its figures are its product")]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use buildspec::plan::{Limits as PackLimits, expected, shards};
use coordinator::core::{
    Accept, Action, Arrival, Assignment, BuildKey, Class, Connection, Event, Limits, ListedTest, MachineInfo,
    NewBuild, Plan, SnapshotPlan, Stamp, State, Task, TaskResult, TestPlan, step,
};
use types::{CommitHash, LeaseId, Outcome, Timestamp};
use uuid::Uuid;

/// How long a helper takes to fetch the snapshot; that long the list takes on the main machine less.
const FETCH: f64 = 2.0;
const LIST: f64 = 1.0;
/// How long a command takes to start.
const COMMAND: f64 = 0.03;
const MACHINES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const RECORDED: &[(&str, &str)] = &[
    ("go-std", include_str!("data/go-std.txt")),
    ("this-workspace", include_str!("data/this-workspace.txt")),
];

fn main() {
    let mut lists: Vec<(String, Vec<f64>)> =
        RECORDED.iter().map(|(name, text)| ((*name).to_owned(), parse(text))).collect();
    lists.extend(seeded());
    println!("{} lists; a helper fetches for {FETCH} s, a command starts in {COMMAND} s", lists.len());
    println!("list, machines, tests, sum s, longest-first s, this core s, ratio, bound s, ratio to bound");
    let mut ratios = Vec::new();
    for (index, (name, real)) in lists.iter().enumerate() {
        for machines in MACHINES {
            let mut random = Random(index as u64 * 1000 + machines as u64 + 1);
            let known: Vec<f64> = real.iter().map(|took| took * (0.7 + 0.6 * random.unit())).collect();
            let ours = Run::new(real, &known, machines).run();
            let best = longest_first(real, machines);
            let total: f64 = real.iter().sum();
            let bound = (total / machines as f64).max(real.iter().copied().fold(0.0, f64::max));
            let ratio = ours / best;
            println!(
                "{name}, {machines}, {}, {total:.1}, {best:.2}, {ours:.2}, {ratio:.3}, {bound:.2}, {:.3}",
                real.len(),
                ours / bound
            );
            ratios.push((ratio, format!("{name} on {machines}")));
        }
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let within = |share: f64| ratios.iter().filter(|(ratio, _)| *ratio <= 1.0 + share).count();
    let (worst, whose) = &ratios[ratios.len() - 1];
    println!(
        "{} runs: median {:.3}, 90 % below {:.3}, worst {worst:.3} ({whose}); {} within 5 %, {} within 15 %",
        ratios.len(),
        ratios[ratios.len() / 2].0,
        ratios[ratios.len() * 9 / 10].0,
        within(0.05),
        within(0.15)
    );
}

/// Lines of `SECONDS NAME`; those that begin with `#` are for people. Nothing takes less than a millisecond, as the farm
/// records it.
fn parse(text: &str) -> Vec<f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split(' ').next()?.parse::<f64>().ok()?.max(0.001))).collect()
}

/// Lists that were never measured: 28 of four kinds.
fn seeded() -> Vec<(String, Vec<f64>)> {
    type Draw = fn(&mut Random) -> f64;
    let kinds: [(&str, Draw); 4] = [
        ("even", |random| 0.5 + random.unit()),
        ("exponential", |random| -3.0 * (1.0 - random.unit()).ln()),
        ("log-normal", |random| (0.3 + 1.2 * random.normal()).exp()),
        ("heavy-tailed", |random| (0.4 / (1.0 - random.unit()).powf(0.8)).min(180.0)),
    ];
    let counts = [40, 120, 250, 500, 900, 2000, 5000];
    let mut lists = Vec::new();
    for (kind, draw) in kinds {
        for count in counts {
            let mut random = Random(count as u64 * 31 + kind.len() as u64);
            let list = (0..count).map(|_| draw(&mut random).max(0.001)).collect();
            lists.push((format!("seeded-{kind}-{count}"), list));
        }
    }
    lists
}

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        for _ in 0..2 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
        }
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// When the last test ends if each goes, the longest first, to the machine that is free first.
fn longest_first(real: &[f64], machines: usize) -> f64 {
    let micros = |seconds: f64| (seconds * 1e6) as u64;
    let mut tests: Vec<u64> = real.iter().map(|took| micros(*took)).collect();
    tests.sort_unstable_by_key(|took| Reverse(*took));
    let mut free: BinaryHeap<Reverse<u64>> = (0..machines)
        .map(|machine| Reverse(micros(COMMAND + if machine == 0 { 0.0 } else { FETCH - LIST })))
        .collect();
    let mut last = 0;
    for took in tests {
        let Some(Reverse(at)) = free.pop() else { break };
        last = last.max(at + took);
        free.push(Reverse(at + took));
    }
    last as f64 / 1e6
}

/// One build in virtual time.
struct Run<'a> {
    state: State,
    real: &'a [f64],
    known: &'a [f64],
    machines: usize,
    now: Timestamp,
    steps: u64,
    /// What ends when.
    due: BTreeMap<(Timestamp, LeaseId), Assignment>,
    began: Timestamp,
    ended: Option<Timestamp>,
}

impl<'a> Run<'a> {
    fn new(real: &'a [f64], known: &'a [f64], machines: usize) -> Self {
        let now = Timestamp::from_seconds(1_700_000_000);
        let state = State::new(Limits::default());
        let due = BTreeMap::new();
        Self { state, real, known, machines, now, steps: 0, due, began: now, ended: None }
    }

    /// From the end of the list to the end of the last test, in seconds.
    fn run(mut self) -> f64 {
        for machine in 0..self.machines {
            self.connect(machine);
        }
        let build = self.build();
        self.step(Event::Accept(Accept { token: 1, builds: vec![build], ..Accept::default() }));
        while self.ended.is_none() {
            let Some(((at, _), assignment)) = self.due.pop_first() else { break };
            self.now = at;
            let result = self.result(&assignment.task);
            self.step(Event::TaskEnded { lease: assignment.lease, task: assignment.task, result });
        }
        self.ended.unwrap_or(self.now).since(self.began).as_secs_f64()
    }

    fn step(&mut self, event: Event) {
        self.steps += 1;
        let stamp = Stamp { now: self.now, seed: Uuid::from_u128(u128::from(self.steps) << 40) };
        for action in step(&mut self.state, event, stamp).actions {
            match action {
                Action::Run(assignment) => {
                    let at = self.now + Duration::from_secs_f64(self.takes(&assignment));
                    self.due.insert((at, assignment.lease), *assignment);
                }
                Action::Stop(lease) | Action::EndLease { lease, .. } => {
                    self.due.retain(|(_, other), _| *other != lease);
                }
                Action::Ended(_) => self.ended = Some(self.now),
                _ => {}
            }
        }
    }

    fn takes(&self, assignment: &Assignment) -> f64 {
        match assignment.task {
            Task::List(_) => LIST,
            Task::SnapshotFetch(_) => FETCH,
            Task::Shard(..) => {
                let index = |name: &String| name.parse::<usize>().unwrap_or(0);
                COMMAND + assignment.tests.iter().map(|name| self.real[index(name)]).sum::<f64>()
            }
            _ => 1.0,
        }
    }

    fn result(&mut self, task: &Task) -> TaskResult {
        match task {
            Task::List(_) => {
                self.began = self.now;
                TaskResult::Listed(self.pack())
            }
            Task::Make(_) | Task::Shard(..) => {
                TaskResult::Command { outcome: Outcome::Passed, reason: String::new(), ended: self.now }
            }
            _ => TaskResult::Done { detail: String::new(), bytes: 1 },
        }
    }

    /// As the shell does it, from estimates.
    fn pack(&self) -> Vec<Vec<ListedTest>> {
        let names: Vec<String> = (0..self.real.len()).map(|index| index.to_string()).collect();
        let seconds = |name: &str| name.parse::<usize>().ok().map(|index| self.known[index]);
        let limits = PackLimits {
            target_seconds: 10.0,
            max_shards: 1000,
            machines: self.machines,
            max_bytes: 24 << 10,
        };
        let test = |index: usize| ListedTest {
            name: index.to_string(),
            millis: ((self.known[index] * 1000.0) as u32).max(1),
        };
        let packed = shards(&names, &expected(&names, &seconds), limits);
        packed.into_iter().map(|shard| shard.into_iter().map(test).collect()).collect()
    }

    fn connect(&mut self, machine: usize) {
        let arrival = Arrival {
            info: MachineInfo {
                name: format!("machine-{machine:02}").parse().expect("a name"),
                host_types: vec!["host".parse().expect("a name")],
                version: "1".to_owned(),
                platform: "linux/amd64".to_owned(),
                reuse: "wiped".to_owned(),
                work_folder: "/work".to_owned(),
                pid: 1,
            },
            connection: Connection(machine as u64 + 1),
            lease: None,
            execs: Vec::new(),
            problem: String::new(),
            draining: false,
        };
        self.step(Event::Connected(arrival));
    }

    fn build(&self) -> NewBuild {
        let plan = Plan {
            builder: "builder".parse().expect("a name"),
            host: "host".parse().expect("a name"),
            make: vec!["./make".to_owned()],
            tests: Some(TestPlan {
                list: Some("./list".to_owned()),
                run: "./run {tests}".to_owned(),
                nul: false,
                shard_millis: 10_000,
                max_shards: 1000,
                patterns: Vec::new(),
            }),
            environment: Vec::new(),
            secrets: Vec::new(),
            folder: String::new(),
            source_folder: String::new(),
            make_seconds: 600,
            test_seconds: 600,
            helpers: self.machines as u32 - 1,
            keep_going: false,
            snapshot: Some(SnapshotPlan { exclude: Vec::new(), movable: true }),
        };
        NewBuild {
            key: BuildKey {
                repository: "repository".parse().expect("a name"),
                builder: plan.builder.clone(),
                commit: CommitHash::from_bytes([1; 20]),
                variant: String::new(),
            },
            plan: Arc::new(plan),
            snapshot_base: "base".to_owned(),
            subject: String::new(),
            author: String::new(),
            git_ref: "refs/heads/main".to_owned(),
            class: Class::Batch,
            is_try: false,
            commit_time: Timestamp::from_seconds(1),
            verdict: None,
        }
    }
}
