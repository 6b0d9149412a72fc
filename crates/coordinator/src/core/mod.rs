//! The core: decides everything, does nothing. `step(state, event, stamp) -> effects`, with no clock, randomness, I/O
//! or async, so that a whole farm can be replayed from its events (architecture.md D3).
//!
//! The shell writes the rows of a step before it performs its actions (D4). Whatever is not in rows can be lost, so
//! [`State::restore`] of the rows is the state, but for machines, which connect again and say what they do.

mod accept;
mod build;
mod check;
mod clocks;
mod doubt;
mod effect;
mod event;
mod finish;
mod fleet;
mod health;
mod loss;
mod machine;
mod mutation;
mod plan;
mod preempt;
mod progress;
mod queue;
mod restore;
mod retry;
mod schedule;
mod seats;
mod second_run;
mod session;
mod shards;
mod shares;
mod state;
#[cfg(test)]
mod tests;
mod tries;
mod turn;
mod wait;

pub use build::{
    Attempt, Build, BuildKey, Class, FirstRun, Progress, Shard, ShardState, SnapshotKey, Stage, StepRecord,
};
pub use doubt::Doubt;
pub use effect::{Action, Assignment, AttemptRow, BuildEnd, BuildProgress, BuildRow, Effects, ExecRow, Row};
pub use event::{
    Accept, Arrival, Event, ListedTest, NewBuild, RefMove, Request, SeenCommit, Stamp, TaskResult,
};
pub use health::Health;
pub use machine::{Connection, Lease, Machine, MachineInfo, Role, Task};
pub use mutation::Mutation;
pub use plan::{Plan, SnapshotPlan, TestPlan};
pub use restore::{Restored, RestoredBuild, RestoredMachine};
pub use retry::Retry;
pub use session::{Holding, NewSession, Preparation, Ready, Repeated, Seat, Session, Setting};
pub use state::{Limits, State};
pub use tries::{ChangeKey, TryBuild, TryEnd, TryNews, TrySet, TryWish, Word};
pub use wait::{WaitCode, WaitReason};

use turn::Turn;

/// Takes one step.
pub fn step(state: &mut State, event: Event, stamp: Stamp) -> Effects {
    let mut turn = Turn::new(state, stamp);
    match event {
        Event::Accept(accept) => turn.accept(accept),
        Event::Cancel { number, reason } => turn.cancel(number, &reason),
        Event::Connected(arrival) => turn.connected(arrival),
        Event::Disconnected { machine, connection } => turn.disconnected(&machine, connection),
        Event::TaskEnded { lease, task, result } => turn.task_ended(lease, &task, result),
        Event::Cleaned { machine, fence, problem } => turn.cleaned(&machine, fence, problem),
        Event::Unfit { machine, problem } => turn.unfit(&machine, problem),
        Event::DropSnapshots(keys) => turn.drop_snapshots(keys),
        Event::CreateSession(new) => turn.create_session(*new),
        Event::TouchSession { name, hold } => turn.touch_session(&name, hold),
        Event::SessionPrepared { lease, result } => turn.session_prepared(lease, result),
        Event::EndSession { name, reason } => turn.end_session(&name, &reason),
        Event::Retry(retry) => turn.retry(*retry),
        Event::Quarantine { machine, reason } => turn.quarantine(&machine, &reason),
        Event::Lift(machine) => turn.lift(&machine),
        Event::Tick => {}
    }
    turn.pass_time();
    turn.schedule();
    turn.finish()
}
