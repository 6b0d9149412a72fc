//! How long the core takes to decide, and what an item that waits costs: `cargo bench -p coordinator --bench schedule`.
//!
//! 200,000 builds wait for 60 host types in 4 classes and 20 shares (5 repositories with 4 branches, or people, each), on
//! 5,000 machines. Then a storm: machines end what they do and take the next, builds come in and are called off, urgent
//! ones take machines from batch work, machines are lost and come back. Every step is timed. What has to hold is checked
//! after it. Everything follows from one seed, printed, which the first argument replaces.

#![expect(clippy::print_stdout, reason = "its figures are its product")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use coordinator::core::{
    Accept, Action, Arrival, Assignment, BuildKey, Class, Connection, Event, Limits, ListedTest, MachineInfo,
    NewBuild, Plan, Row, SnapshotPlan, Stamp, State, Task, TaskResult, TestPlan, step,
};
use tokio::time::Instant;
use types::{BuildNumber, CommitHash, Fence, LeaseId, MachineName, Outcome, Timestamp};
use uuid::Uuid;

const HOSTS: u64 = 60;
const MACHINES: u64 = 5_000;
const ITEMS: u64 = 200_000;
const STEPS: usize = 400_000;

fn main() {
    let seed = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1);
    println!("seed {seed}");
    let mut world = World::new(seed);
    let before = resident();
    for _ in 0..ITEMS {
        world.accept();
    }
    let used = resident().saturating_sub(before);
    println!(
        "{ITEMS} items that wait: {} MiB of resident memory, {} bytes an item",
        used >> 20,
        used / ITEMS
    );
    report("accepting one", &mut world.took);
    for machine in 0..MACHINES {
        world.connect(machine);
    }
    report("a machine connects and is given a build", &mut world.took);
    world.state.check().expect("every invariant holds");
    for _ in 0..STEPS {
        world.happen();
    }
    report("a step of the storm", &mut world.took);
    println!("  it was: {:?}", world.counts);
    println!("  at its end {} wait and {} run", world.state.waiting_len(), world.state.leases().count());
    world.state.check().expect("every invariant holds");
    println!("every invariant holds");
    let asked = Instant::now();
    let shown = world.state.waiting(200);
    println!("the first {} in order of service, for a page: {:?}", shown.len(), asked.elapsed());
    reasons(&world);
}

/// What `farmer why` costs: for builds all over the queue.
fn reasons(world: &World) {
    let all: Vec<BuildNumber> = world.state.builds().map(|build| build.number).step_by(97).collect();
    let mut took = Vec::new();
    let mut told = 0;
    for number in &all {
        let asked = Instant::now();
        told += usize::from(world.state.wait_reason(*number).is_some());
        took.push(asked.elapsed());
    }
    report(&format!("why a build waits ({told} of {} do)", all.len()), &mut took);
}

fn report(what: &str, took: &mut Vec<Duration>) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let total: Duration = took.iter().sum();
    let mean = total / took.len() as u32;
    println!(
        "{what}: {} times, mean {mean:?}, p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        took.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    took.clear();
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// What happened how often.
#[derive(Debug, Default)]
struct Counts {
    tasks_ended: u64,
    accepted: u64,
    called_off: u64,
    machines_lost: u64,
    machines_back: u64,
    made_room: u64,
    ended: u64,
}

struct World {
    state: State,
    random: Random,
    plans: Vec<Arc<Plan>>,
    running: BTreeMap<LeaseId, Assignment>,
    cleaning: Vec<(MachineName, Fence)>,
    lost: Vec<u64>,
    connections: u64,
    now: Timestamp,
    steps: u64,
    accepted: u64,
    took: Vec<Duration>,
    counts: Counts,
}

fn plan(host: u64, helpers: u32) -> Arc<Plan> {
    Arc::new(Plan {
        builder: format!("builder-{host}-{helpers}").parse().expect("a name"),
        host: format!("host-{host}").parse().expect("a name"),
        make: vec!["./make".to_owned()],
        tests: Some(TestPlan {
            list: Some("./list".to_owned()),
            run: "./run {tests}".to_owned(),
            nul: false,
            shard_millis: 10_000,
            max_shards: 100,
            patterns: Vec::new(),
        }),
        environment: Vec::new(),
        secrets: Vec::new(),
        folder: String::new(),
        source_folder: String::new(),
        make_seconds: 600,
        test_seconds: 600,
        helpers,
        keep_going: false,
        snapshot: Some(SnapshotPlan { exclude: Vec::new(), movable: true }),
    })
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            state: State::new(Limits::default()),
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            plans: (0..HOSTS).flat_map(|host| [plan(host, 0), plan(host, 3)]).collect(),
            running: BTreeMap::new(),
            cleaning: Vec::new(),
            lost: Vec::new(),
            connections: 0,
            now: Timestamp::from_seconds(1_700_000_000),
            steps: 0,
            accepted: 0,
            took: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// One step, timed. What it wants done is noted, and its rows are dropped: the shell would write them.
    fn step(&mut self, event: Event) {
        self.steps += 1;
        let stamp = Stamp { now: self.now, seed: Uuid::from_u128(u128::from(self.steps) << 40) };
        let begun = Instant::now();
        let effects = step(&mut self.state, event, stamp);
        self.took.push(begun.elapsed());
        for row in &effects.rows {
            let room = |reason: &String| reason.starts_with("it made room");
            self.counts.made_room += u64::from(matches!(row, Row::LeaseEnd { reason, .. } if room(reason)));
            self.counts.made_room += u64::from(
                matches!(row, Row::Attempt(row) if row.end.as_ref().is_some_and(|(_, _, reason)| room(reason))),
            );
        }
        for action in effects.actions {
            match action {
                Action::Run(assignment) => {
                    self.running.insert(assignment.lease, *assignment);
                }
                Action::Stop(lease) => {
                    self.running.remove(&lease);
                }
                Action::EndLease { machine, lease, fence, .. } => {
                    self.running.remove(&lease);
                    self.cleaning.push((machine, fence));
                }
                Action::Ended(_) => self.counts.ended += 1,
                _ => {}
            }
        }
    }

    fn accept(&mut self) {
        self.accepted += 1;
        let plan = Arc::clone(&self.plans[self.random.below(self.plans.len() as u64) as usize]);
        let class = match self.random.below(1000) {
            0..950 => Class::Batch,
            950..990 => Class::Try,
            990..998 => Class::Interactive,
            _ => Class::Release,
        };
        let mut commit = [0; 20];
        commit[..8].copy_from_slice(&self.accepted.to_be_bytes());
        let owner = self.random.below(4);
        let build = NewBuild {
            key: BuildKey {
                repository: format!("repository-{}", self.random.below(5)).parse().expect("a name"),
                builder: plan.builder.clone(),
                commit: CommitHash::from_bytes(commit),
                variant: String::new(),
            },
            plan,
            snapshot_base: blake3::hash(&commit).to_hex().to_string(),
            subject: format!("net/http: Close what was opened, number {}", self.accepted),
            author: format!("A U Thor {owner}"),
            git_ref: format!("refs/heads/release-branch.go1.{owner}"),
            class,
            is_try: class == Class::Try,
            commit_time: Timestamp::from_seconds(1_600_000_000 + self.random.below(100_000_000) as i64),
            verdict: None,
        };
        self.step(Event::Accept(Accept { token: 1, builds: vec![build], ..Accept::default() }));
    }

    fn connect(&mut self, machine: u64) {
        self.connections += 1;
        let name: MachineName = format!("machine-{machine}").parse().expect("a name");
        self.cleaning.retain(|(other, _)| *other != name);
        let arrival = Arrival {
            info: MachineInfo {
                name,
                host_types: vec![format!("host-{}", machine % HOSTS).parse().expect("a name")],
                version: "1".to_owned(),
                platform: "linux/amd64".to_owned(),
                reuse: "wiped".to_owned(),
                work_folder: "/work".to_owned(),
                pid: 1,
            },
            connection: Connection(self.connections),
            lease: None,
            execs: Vec::new(),
            problem: String::new(),
            draining: false,
        };
        self.step(Event::Connected(arrival));
    }

    /// Something happens. The clock goes on by as much as a farm of this size would take for a step.
    fn happen(&mut self) {
        self.now = self.now + Duration::from_millis(20);
        match self.random.below(1000) {
            0..100 => {
                self.accept();
                self.counts.accepted += 1;
            }
            100..130 => self.call_off(),
            130..135 => self.lose(),
            135..140 => {
                if let Some(machine) = self.lost.pop() {
                    self.connect(machine);
                    self.counts.machines_back += 1;
                }
            }
            140..400 => {
                if let Some((machine, fence)) = self.cleaning.pop() {
                    self.step(Event::Cleaned { machine, fence, problem: None });
                }
            }
            _ => self.end_task(),
        }
    }

    fn call_off(&mut self) {
        let number = BuildNumber(self.random.below(self.accepted) + 1);
        if self.state.build(number).is_some() {
            self.step(Event::Cancel { number, reason: "called off".to_owned() });
            self.counts.called_off += 1;
        }
    }

    fn lose(&mut self) {
        let machine = self.random.below(MACHINES);
        let name: MachineName = format!("machine-{machine}").parse().expect("a name");
        if let Some(connection) = self.state.machine(&name).and_then(|machine| machine.connection) {
            self.cleaning.retain(|(other, _)| *other != name);
            self.step(Event::Disconnected { machine: name, connection });
            self.lost.push(machine);
            self.counts.machines_lost += 1;
        }
    }

    fn end_task(&mut self) {
        // Any: leases are named in the order in which they were made.
        let Some(last) = self.running.keys().next_back() else { return };
        let pick = u128::from(self.random.below(1 << 30)) * (last.0.as_u128() >> 30);
        let Some((_, assignment)) = self.running.range(LeaseId(Uuid::from_u128(pick))..).next() else {
            return;
        };
        let assignment = assignment.clone();
        self.running.remove(&assignment.lease);
        let command = |outcome| TaskResult::Command { outcome, reason: String::new(), ended: self.now };
        let tests = |count| {
            (0..count).map(|n| vec![ListedTest { name: format!("t{n}"), millis: 1000 }]).collect::<Vec<_>>()
        };
        let result = match (&assignment.task, self.random.below(50)) {
            (_, 0) => TaskResult::Fault { reason: "the network".to_owned(), of_machine: false },
            (Task::Make(_) | Task::Shard(..), 1..4) => command(Outcome::Failed),
            (Task::Make(_) | Task::Shard(..), _) => command(Outcome::Passed),
            (Task::List(_), _) => TaskResult::Listed(tests(8)),
            _ => TaskResult::Done { detail: String::new(), bytes: 1 },
        };
        self.counts.tasks_ended += 1;
        self.step(Event::TaskEnded { lease: assignment.lease, task: assignment.task, result });
    }
}
