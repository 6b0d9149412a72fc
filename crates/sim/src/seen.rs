//! Sees every step of the core: counts it, and checks what must hold after it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
};

use coordinator::{
    core::{Action, Effects, Event, Row, State, Task, TaskResult},
    ports::Witness,
};
use types::{AttemptId, BuildNumber, ExecId, LeaseId, Outcome};

use crate::{context::lock, coverage::Coverage, judge::Invariant, kinds, world::World};

/// After how many steps what takes long to check is checked.
const CLOSELY: u64 = 32;

/// The witness of one life of the coordinator.
pub(crate) struct Seen {
    world: Arc<World>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    event: usize,
    stages: BTreeMap<Item, usize>,
    /// How often each build made room.
    preempted: BTreeMap<BuildNumber, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Build(BuildNumber),
    Lease(LeaseId),
    Shard(AttemptId, u32),
}

impl Seen {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, inner: Mutex::default() }
    }

    fn broken(&self, invariant: Invariant, what: String) {
        self.world.context.judge.broken(invariant, what);
    }

    /// A command's result counts only when its log is whole.
    fn check_log(&self, task: &Task, result: &TaskResult) {
        let exec = match (task, result) {
            (
                Task::Make(exec) | Task::List(exec) | Task::Shard(_, exec),
                TaskResult::Command { .. } | TaskResult::Listed(_),
            ) => *exec,
            _ => return,
        };
        if !self.world.logs.is_finished(exec) {
            self.broken(Invariant::Logs, format!("command {exec} has a result and its log is not finished"));
        }
    }

    fn check_effects(&self, effects: &Effects) {
        for row in &effects.rows {
            let Row::BuildEnd(end) = row else { continue };
            let Some(tree) = self.world.project.tree(end.key.commit) else { continue };
            let faults = self.world.context.judge.faults() > 0;
            let unasked = end.outcome == Outcome::Cancelled && self.world.was_unasked(end.key.commit);
            if unasked {
                continue;
            }
            if let Some(what) = self.world.truth.wrong_end(end, &tree, faults) {
                self.broken(Invariant::Truth, what);
            }
        }
    }

    fn check_state(&self, state: &State) {
        let closely = self.world.context.judge.steps().is_multiple_of(CLOSELY);
        let checked = state.check().and_then(|()| if closely { state.check_closely() } else { Ok(()) });
        if let Err(what) = checked {
            self.broken(kind_of(&what), what);
        }
    }
}

/// Which invariant the words of [`State::check`] and [`State::check_closely`] are about.
fn kind_of(what: &str) -> Invariant {
    let about = |words: &[&str]| words.iter().any(|word| what.contains(word));
    if about(&[
        "two live leases",
        "given out twice",
        "not below the next",
        "its lease",
        "a lease that is over",
        "idle and not listed",
    ]) {
        Invariant::Lease
    } else if about(&[
        "budget",
        "too many faults",
        "reason",
        "idle while",
        "no clock",
        "waits though",
        "an urgent build",
        "runs again where",
    ]) {
        Invariant::Waits
    } else {
        Invariant::Once
    }
}

impl Witness for Seen {
    fn before(&self, _: &State, event: &Event) {
        let judge = &self.world.context.judge;
        let step = judge.step();
        let kind = kinds::event(event);
        lock(&self.inner).event = kind;
        judge.note(&self.world.context, || format!("#{step} {}", describe(kind, event)));
        if let Event::TaskEnded { task, result, .. } = event {
            self.check_log(task, result);
        }
    }

    fn after(&self, state: &State, effects: &Effects) {
        let judge = &self.world.context.judge;
        judge.cover(|coverage| lock(&self.inner).cover(coverage, effects));
        if judge.is_tracing() {
            for row in &effects.rows {
                judge.note(&self.world.context, || format!("      {row:?}"));
            }
            for action in &effects.actions {
                judge.note(&self.world.context, || format!("      {}", told(action)));
            }
        }
        let quarantined = || {
            let sick = state.machines().filter(|machine| !machine.quarantine.is_empty());
            sick.map(|machine| &machine.info.name)
        };
        let mut known = lock(&self.world.quarantined);
        if !quarantined().eq(known.iter()) {
            *known = quarantined().cloned().collect();
        }
        drop(known);
        self.check_effects(effects);
        self.check_state(state);
    }
}

impl Inner {
    fn cover(&mut self, coverage: &mut Coverage, effects: &Effects) {
        if effects.rows.is_empty() && effects.actions.is_empty() {
            coverage.effect(self.event, kinds::NOTHING);
        }
        for row in &effects.rows {
            coverage.effect(self.event, kinds::row(row));
            self.follow(coverage, row);
        }
        for action in &effects.actions {
            coverage.effect(self.event, kinds::action(action));
        }
    }

    /// Notes how a build, a lease or a shard moves on.
    fn follow(&mut self, coverage: &mut Coverage, row: &Row) {
        let (item, to) = match row {
            Row::Build(row) => {
                coverage.moved(0, 1);
                self.stages.insert(Item::Build(row.number), 1);
                return;
            }
            Row::BuildProgress(number, progress) => {
                let made_room =
                    self.preempted.insert(*number, progress.preempted).unwrap_or(0) < progress.preempted;
                let to = match (progress.resting_until, progress.started) {
                    _ if made_room => kinds::MADE_ROOM,
                    (Some(_), _) => 3,
                    (None, Some(_)) => 2,
                    (None, None) => 1,
                };
                (Item::Build(*number), to)
            }
            Row::Retry { number, .. } => (Item::Build(*number), 1),
            Row::BuildEnd(end) => (Item::Build(end.attempt.build), kinds::build_end(end.outcome)),
            Row::Lease(lease) => (Item::Lease(lease.id), kinds::lease_stage(&lease.task)),
            Row::LeaseEnd { id, reason, .. } => (Item::Lease(*id), kinds::lease_over(reason)),
            Row::Shard(attempt, shard) => (Item::Shard(*attempt, shard.number), kinds::shard_stage(shard)),
            _ => return,
        };
        // What was before this life of the coordinator is not known here.
        if let Some(from) = self.stages.insert(item, to) {
            coverage.moved(from, to);
        }
    }
}

fn describe(kind: usize, event: &Event) -> String {
    let mut text = kinds::event_name(kind);
    let _ = match event {
        Event::Accept(accept) => {
            let (builds, commits) = (accept.builds.len(), accept.commits.len());
            write!(text, " {builds} builds, {commits} commits, {} changes", accept.tries.len())
        }
        Event::Cancel { number, .. } => write!(text, " {number}"),
        Event::Connected(arrival) => {
            write!(text, " {} with {:?}", arrival.info.name, arrival.lease.map(|l| l.1))
        }
        Event::TaskEnded { lease, task, result } => {
            let why = match result {
                TaskResult::Fault { reason, .. } | TaskResult::Command { reason, .. } => reason.as_str(),
                _ => "",
            };
            write!(
                text,
                " {} under {lease} {} {why}",
                task.shard(),
                exec_of(task).map_or(String::new(), |e| e.to_string())
            )
        }
        Event::Cleaned { machine, fence, problem } => write!(text, " {machine} {fence} {problem:?}"),
        Event::Unfit { machine, problem } => write!(text, " {machine} {problem}"),
        Event::CreateSession(new) => write!(text, " {} of {}", new.id, new.owner),
        Event::TouchSession { name, .. } | Event::EndSession { name, .. } => write!(text, " {name}"),
        Event::SessionPrepared { lease, result } => write!(text, " under {lease} {result:?}"),
        Event::Retry(retry) => write!(text, " {}", retry.row.number),
        Event::Disconnected { machine, .. } | Event::Quarantine { machine, .. } | Event::Lift(machine) => {
            write!(text, " {machine}")
        }
        Event::DropSnapshots(_) | Event::Tick => Ok(()),
    };
    text
}

fn exec_of(task: &Task) -> Option<ExecId> {
    match task {
        Task::Make(exec) | Task::List(exec) | Task::Shard(_, exec) => Some(*exec),
        _ => None,
    }
}

fn told(action: &Action) -> String {
    match action {
        Action::Run(run) => format!(
            "Run {:?} of {} on {} under {} {}",
            run.task, run.attempt, run.machine, run.lease, run.fence
        ),
        other => format!("{other:?}"),
    }
}
