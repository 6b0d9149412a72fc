//! A farm in memory: the core, its tables, and machines that do what they are told, or not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use types::{ExecId, Fence, LeaseId, MachineName, Outcome, SessionId, Timestamp};
use uuid::Uuid;

use super::tables::Tables;
use crate::core::{
    Accept, Action, Arrival, Assignment, BuildKey, Class, Connection, Event, Limits, ListedTest, MachineInfo,
    NewBuild, NewSession, Plan, Preparation, Ready, Retry, SnapshotPlan, Stamp, State, Task, TaskResult,
    TestPlan, step,
};

/// What a machine believes.
#[derive(Debug, Clone, Default)]
pub(super) struct Believes {
    pub(super) connection: Option<Connection>,
    pub(super) lease: Option<(LeaseId, Fence)>,
    pub(super) execs: Vec<ExecId>,
}

pub(super) struct World {
    pub(super) state: State,
    pub(super) tables: Tables,
    pub(super) machines: BTreeMap<MachineName, Believes>,
    /// What was asked for and has not been answered.
    pub(super) running: Vec<Assignment>,
    pub(super) cleaning: Vec<(MachineName, Fence)>,
    pub(super) replies: Vec<Vec<types::BuildNumber>>,
    /// Machines that are to be made ready for sessions.
    pub(super) preparing: Vec<Preparation>,
    /// Machines that were put in quarantine, in order.
    pub(super) quarantined: Vec<MachineName>,
    pub(super) now: Timestamp,
    steps: u64,
    connections: u64,
}

pub(super) fn plan(helpers: u32, sharded: bool, snapshot: bool) -> Plan {
    Plan {
        builder: "linux".parse().unwrap(),
        host: "local".parse().unwrap(),
        make: vec!["make".to_owned()],
        tests: Some(TestPlan {
            list: sharded.then(|| "list".to_owned()),
            run: "run".to_owned(),
            nul: false,
            shard_millis: 1000,
            max_shards: 100,
            patterns: Vec::new(),
        }),
        environment: Vec::new(),
        secrets: Vec::new(),
        folder: String::new(),
        source_folder: String::new(),
        make_seconds: 60,
        test_seconds: 60,
        helpers,
        keep_going: false,
        snapshot: snapshot.then(|| SnapshotPlan { exclude: Vec::new(), movable: true }),
    }
}

pub(super) fn new_build(seed: u8, plan: Plan) -> NewBuild {
    NewBuild {
        key: BuildKey {
            repository: "example".parse().unwrap(),
            builder: plan.builder.clone(),
            commit: types::CommitHash::from_bytes([seed; 20]),
            variant: String::new(),
        },
        snapshot_base: if plan.snapshot.is_some() { format!("tree{seed}") } else { String::new() },
        plan: Arc::new(plan),
        subject: "A commit".to_owned(),
        author: "A U Thor".to_owned(),
        git_ref: "refs/heads/main".to_owned(),
        class: Class::Batch,
        is_try: false,
        commit_time: Timestamp::from_seconds(i64::from(seed) + 1),
        verdict: None,
    }
}

pub(super) fn listed(count: usize) -> TaskResult {
    let test = |n: usize| vec![ListedTest { name: format!("t{n}"), millis: 100 * (n as u32 + 1) }];
    TaskResult::Listed((0..count).map(test).collect())
}

pub(super) fn done() -> TaskResult {
    TaskResult::Done { detail: String::new(), bytes: 1 }
}

/// A fault of the farm that is not the machine's.
pub(super) fn fault(reason: &str) -> TaskResult {
    TaskResult::Fault { reason: reason.to_owned(), of_machine: false }
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            state: State::new(Limits::default()),
            tables: Tables::default(),
            machines: BTreeMap::new(),
            running: Vec::new(),
            cleaning: Vec::new(),
            replies: Vec::new(),
            preparing: Vec::new(),
            quarantined: Vec::new(),
            now: Timestamp::from_seconds(1_000_000),
            steps: 0,
            connections: 0,
        }
    }

    /// One step: all rows are stored, all actions noted, all invariants checked.
    pub(super) fn step(&mut self, event: Event) {
        self.steps += 1;
        let seed = Uuid::from_u128(u128::from(self.steps) << 40);
        let what = format!("{event:?}");
        let effects = step(&mut self.state, event, Stamp { now: self.now, seed });
        for row in effects.rows {
            self.tables.apply(row);
        }
        for action in effects.actions {
            self.perform(action);
        }
        if let Err(broken) = self.state.check().and_then(|()| self.state.check_closely()) {
            panic!("{broken}, after {what}\n{:#?}", self.state);
        }
        self.check_restored(&what);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Run(assignment) => {
                self.running.retain(|other| other.lease != assignment.lease);
                self.running.push(*assignment);
            }
            Action::Prepare(preparation) => {
                self.preparing.retain(|other| other.lease != preparation.lease);
                self.preparing.push(*preparation);
            }
            Action::Stop(lease) => {
                self.running.retain(|other| other.lease != lease);
                self.preparing.retain(|other| other.lease != lease);
            }
            Action::EndLease { machine, lease, fence, .. } => {
                self.running.retain(|other| other.lease != lease);
                self.preparing.retain(|other| other.lease != lease);
                self.cleaning.push((machine, fence));
            }
            Action::Reply { builds, .. } => self.replies.push(builds),
            Action::Quarantined(machine) => self.quarantined.push(machine),
            Action::Changed(_)
            | Action::Ended(_)
            | Action::SnapshotStored
            | Action::SessionChanged(_)
            | Action::Speak => {}
            Action::RemoveSnapshot(key) => assert!(!self.state.has_snapshot(&key)),
        }
    }

    /// What is rebuilt from the rows is what was there.
    fn check_restored(&self, what: &str) {
        let restored = State::restore(Limits::default(), self.tables.restored(), self.now);
        let builds = |state: &State| state.builds().cloned().collect::<Vec<_>>();
        assert_eq!(builds(&self.state), builds(&restored), "after {what}");
        assert!(self.state.leases().eq(restored.leases()), "after {what}");
        let seats = |state: &State| {
            state.sessions().map(|session| (session.name.clone(), session.seat.clone())).collect::<Vec<_>>()
        };
        assert_eq!(seats(&self.state), seats(&restored), "after {what}");
        assert!(self.state.try_sets().eq(restored.try_sets()), "after {what}");
        // Who was served last is forgotten, and with it whose turn it is.
        let waiting =
            |state: &State| state.waiting(1000).into_iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(waiting(&self.state), waiting(&restored), "after {what}");
        restored.check().unwrap_or_else(|broken| panic!("restored: {broken}, after {what}"));
    }

    pub(super) fn accept(&mut self, build: NewBuild) {
        self.step(Event::Accept(Accept { token: 1, builds: vec![build], ..Accept::default() }));
    }

    pub(super) fn connect(&mut self, name: &str) {
        self.connections += 1;
        let name: MachineName = name.parse().unwrap();
        let believes = self.machines.entry(name.clone()).or_default();
        believes.connection = Some(Connection(self.connections));
        let arrival = Arrival {
            info: MachineInfo {
                name: name.clone(),
                host_types: vec!["local".parse().unwrap()],
                version: "0".to_owned(),
                platform: "linux/amd64".to_owned(),
                reuse: "wiped".to_owned(),
                work_folder: format!("/var/{name}"),
                pid: 1,
            },
            connection: Connection(self.connections),
            lease: believes.lease,
            execs: believes.execs.clone(),
            problem: String::new(),
            draining: false,
        };
        self.cleaning.retain(|(other, _)| *other != name);
        self.step(Event::Connected(arrival));
    }

    pub(super) fn disconnect(&mut self, name: &str) {
        let name: MachineName = name.parse().unwrap();
        let Some(connection) = self.machines.get_mut(&name).and_then(|believes| believes.connection.take())
        else {
            return;
        };
        self.cleaning.retain(|(other, _)| *other != name);
        self.step(Event::Disconnected { machine: name, connection });
    }

    /// The machine forgets everything.
    pub(super) fn wipe(&mut self, name: &str) {
        if let Some(believes) = self.machines.get_mut(&name.parse::<MachineName>().unwrap()) {
            *believes = Believes { connection: believes.connection, ..Believes::default() };
        }
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.step(Event::Tick);
    }

    /// The coordinator dies and comes back; machines are away.
    pub(super) fn restart(&mut self) {
        self.state = State::restore(Limits::default(), self.tables.restored(), self.now);
        self.running.clear();
        self.preparing.clear();
        self.cleaning.clear();
        for believes in self.machines.values_mut() {
            believes.connection = None;
        }
        self.step(Event::Tick);
    }

    /// Answers the task that a machine does.
    pub(super) fn answer(&mut self, index: usize, result: TaskResult) {
        let assignment = self.running.remove(index);
        let believes = self.machines.get_mut(&assignment.machine).unwrap();
        if believes.lease != Some((assignment.lease, assignment.fence)) {
            *believes = Believes { connection: believes.connection, ..Believes::default() };
            believes.lease = Some((assignment.lease, assignment.fence));
        }
        if let Task::Make(exec) | Task::List(exec) | Task::Shard(_, exec) = assignment.task {
            believes.execs.push(exec);
        }
        self.step(Event::TaskEnded { lease: assignment.lease, task: assignment.task, result });
    }

    /// Somebody asks for a build again, as it was when it had ended.
    pub(super) fn retry(&mut self, retry: Retry) {
        self.step(Event::Retry(Box::new(retry)));
    }

    /// Somebody says that a machine is to take no work.
    pub(super) fn quarantine(&mut self, name: &str) {
        let machine = name.parse().unwrap();
        self.step(Event::Quarantine { machine, reason: "its disk is bad".to_owned() });
    }

    /// Somebody says that it is sound.
    pub(super) fn lift(&mut self, name: &str) {
        self.step(Event::Lift(name.parse().unwrap()));
    }

    /// Somebody asks for a session.
    pub(super) fn sit(&mut self, owner: &str) -> SessionId {
        let id = SessionId(Uuid::from_u128(u128::from(self.steps) << 8 | 1));
        self.step(Event::CreateSession(Box::new(NewSession {
            id,
            stem: format!("{owner}-local"),
            owner: owner.into(),
            group: String::new(),
            host: "local".parse().unwrap(),
            setting: Arc::default(),
            idle: Duration::from_mins(30),
        })));
        id
    }

    /// The machine that is to be made ready next is, or cannot be.
    pub(super) fn prepared(&mut self, result: Result<&str, &str>) {
        let Preparation { machine, lease, fence, .. } = self.preparing.remove(0);
        let believes = self.machines.get_mut(&machine).unwrap();
        *believes = Believes { connection: believes.connection, ..Believes::default() };
        believes.lease = Some((lease, fence));
        let ready = |found: &str| Ready { found: found.to_owned(), made: false };
        let result = result.map(ready).map_err(str::to_owned);
        self.step(Event::SessionPrepared { lease, result });
    }

    pub(super) fn command(&self, outcome: Outcome) -> TaskResult {
        let reason = if outcome == Outcome::Passed { "" } else { "exit status 1" };
        TaskResult::Command { outcome, reason: reason.to_owned(), ended: self.now }
    }

    pub(super) fn clean_all(&mut self) {
        for (machine, fence) in std::mem::take(&mut self.cleaning) {
            self.wipe(machine.as_str());
            self.step(Event::Cleaned { machine, fence, problem: None });
        }
    }

    /// Answers well whatever is asked, until nothing is.
    pub(super) fn drain(&mut self, shards: usize) {
        for _ in 0..10_000 {
            self.clean_all();
            let Some(assignment) = self.running.first() else {
                if self.state.waiting_len() == 0 {
                    return;
                }
                self.pass(60);
                continue;
            };
            let result = match assignment.task {
                Task::List(_) => listed(shards),
                Task::Make(_) | Task::Shard(..) => self.command(Outcome::Passed),
                _ => done(),
            };
            self.answer(0, result);
        }
        panic!("the farm does not come to rest");
    }

    pub(super) fn tasks(&self) -> Vec<String> {
        let word = |a: &Assignment| {
            let shard = a.task.shard();
            let shard = if shard == 0 { String::new() } else { format!(" {shard}") };
            format!("{} {}{shard}", a.machine, a.task.phase())
        };
        self.running.iter().map(word).collect()
    }
}
