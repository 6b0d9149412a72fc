//! How many trivial builds are decided and persisted in a second, without machines: the core's own steps, its rows in a
//! real database, in batches as the actor makes them, and what a perfect machine would answer.
//!
//! `cargo bench -p coordinator --bench records` does so on SQLite, and on PostgreSQL where a server of its own can be
//! started. Results do not go to the mutation log here.

#![expect(clippy::print_stdout, reason = "its figures are its product")]

use std::{collections::VecDeque, sync::Arc};

use coordinator::{
    core::{
        Accept, Action, Arrival, BuildKey, Class, Connection, Effects, Event, Limits, MachineInfo, NewBuild,
        Plan, Stamp, State, Task, TaskResult, TestPlan, step,
    },
    ports::Records,
    testing::{MIGRATIONS, sql_records},
};
use store::Database;
use tokio::{sync::watch, time::Instant};
use types::{CommitHash, Outcome, Timestamp};

/// Builds on each engine.
const BUILDS: u32 = 10_000;
/// Machines that work side by side.
const MACHINES: u64 = 64;
/// Builds that are accepted together, as the work finder does.
const TOGETHER: u32 = 32;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    runtime::install_crypto();
    let folder = tempfile::tempdir()?;
    let database = Database::open(&folder.path().join("records.db"), MIGRATIONS).await?;
    measure("SQLite", 1000.0, database).await?;
    let Some(server) = testkit::Postgres::start("records on PostgreSQL") else { return Ok(()) };
    let options = store::Postgres {
        url: server.url.clone(),
        password: Some(std::fs::read_to_string(&server.password)?.trim().into()),
        ca: Some(server.ca.clone()),
        schema: "coordinator",
    };
    measure("PostgreSQL", 500.0, Database::connect(options, MIGRATIONS).await?).await
}

async fn measure(engine: &str, budget: f64, database: Database) -> anyhow::Result<()> {
    let _lead = database.lead("", &watch::Sender::default()).await;
    let mut farm = Farm {
        state: State::new(Limits::default()),
        records: sql_records(database.clone()),
        events: VecDeque::new(),
        accepted: 0,
        ended: 0,
        writes: 0,
        rows: 0,
    };
    let start = Instant::now();
    farm.run().await?;
    let rate = f64::from(farm.ended) / start.elapsed().as_secs_f64();
    println!(
        "records: {engine}: {rate:.0} builds/s (budget {budget}, ratio {:.2}) of {MACHINES} machines; {:.1} rows a \
         build, {:.1} builds a write",
        rate / budget,
        farm.rows as f64 / f64::from(farm.ended),
        f64::from(farm.ended) / f64::from(farm.writes),
    );
    let sql = "SELECT COUNT(*) AS n FROM builds WHERE outcome = 'passed'";
    let stored = database.read_first(sql, vec![]).await?.map(|row| row.int("n")).transpose()?;
    anyhow::ensure!(stored == Some(i64::from(BUILDS)), "{stored:?} builds are stored");
    database.close().await;
    Ok(())
}

struct Farm {
    state: State,
    records: Arc<dyn Records>,
    events: VecDeque<Event>,
    accepted: u32,
    ended: u32,
    writes: u32,
    rows: usize,
}

impl Farm {
    async fn run(&mut self) -> anyhow::Result<()> {
        self.events.extend((1..=MACHINES).map(|number| Event::Connected(machine(number))));
        while self.ended < BUILDS {
            if self.accepted < BUILDS && self.state.waiting_len() < 4 * TOGETHER as usize {
                let builds = (self.accepted..BUILDS).take(TOGETHER as usize).map(build).collect();
                self.accepted = (self.accepted + TOGETHER).min(BUILDS);
                let cursor = Some(self.accepted.to_string());
                self.events.push_back(Event::Accept(Accept { builds, cursor, ..Accept::default() }));
            }
            self.turn().await?;
        }
        Ok(())
    }

    /// As the actor's: all events that wait, then their rows in one write if any must be durable, then the actions.
    async fn turn(&mut self) -> anyhow::Result<()> {
        let (mut rows, mut actions) = (Vec::new(), Vec::new());
        for event in std::mem::take(&mut self.events) {
            let stamp = Stamp { now: runtime::system_clock().now(), seed: runtime::new_id() };
            let effects: Effects = step(&mut self.state, event, stamp);
            rows.extend(effects.rows);
            actions.extend(effects.actions);
        }
        if !rows.is_empty() {
            self.writes += 1;
            self.rows += rows.len();
            self.records.write(&rows).await?;
        }
        for action in actions {
            self.perform(action);
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Run(assignment) => {
                let now = runtime::system_clock().now();
                let result = match assignment.task {
                    Task::Make(_) | Task::Shard(..) => {
                        TaskResult::Command { outcome: Outcome::Passed, reason: String::new(), ended: now }
                    }
                    _ => TaskResult::Done { detail: "10 KiB in 21 files and folders".to_owned(), bytes: 10 },
                };
                let (lease, task) = (assignment.lease, assignment.task);
                self.events.push_back(Event::TaskEnded { lease, task, result });
            }
            Action::EndLease { machine, fence, .. } => {
                self.events.push_back(Event::Cleaned { machine, fence, problem: None });
            }
            Action::Ended(_) => self.ended += 1,
            _ => {}
        }
    }
}

fn machine(number: u64) -> Arrival {
    Arrival {
        info: MachineInfo {
            name: format!("machine-{number}").parse().expect("is a name"),
            host_types: vec!["local".parse().expect("is a name")],
            version: "1".to_owned(),
            platform: "linux/amd64".to_owned(),
            reuse: "wiped".to_owned(),
            work_folder: "/work".to_owned(),
            pid: 1,
        },
        connection: Connection(number),
        lease: None,
        execs: Vec::new(),
        problem: String::new(),
        draining: false,
    }
}

fn build(number: u32) -> NewBuild {
    let mut commit = [7; 20];
    commit[..4].copy_from_slice(&number.to_be_bytes());
    let plan = Plan {
        builder: "small".parse().expect("is a name"),
        host: "local".parse().expect("is a name"),
        make: vec!["cat file-1 > made".to_owned()],
        tests: Some(TestPlan {
            list: None,
            run: "cat made".to_owned(),
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
        helpers: 0,
        keep_going: false,
        snapshot: None,
    };
    NewBuild {
        key: BuildKey {
            repository: "example".parse().expect("is a name"),
            builder: plan.builder.clone(),
            commit: CommitHash::from_bytes(commit),
            variant: String::new(),
        },
        plan: Arc::new(plan),
        snapshot_base: String::new(),
        subject: format!("Commit {number}"),
        author: "A U Thor <author@example.org>".to_owned(),
        git_ref: "refs/heads/main".to_owned(),
        class: Class::Batch,
        is_try: false,
        commit_time: Timestamp::from_seconds(1_700_000_000 + i64::from(number)),
        verdict: None,
    }
}
