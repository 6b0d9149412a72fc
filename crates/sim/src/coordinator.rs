//! The coordinator's lives: the production engine is started, killed between any two of its steps, and started again
//! from what is durable.

use std::{
    error::Error,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use coordinator::{
    ports::RecordsError,
    testing::{Coordinator, Ports, Tuning},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    context::lock, fault::Fault, judge::Invariant, logs::SimLogs, planted::Planted, records::SimRecords,
    seen::Seen, world::World,
};

/// One life of the coordinator. What it asks of the world after its end never happens.
#[derive(Default)]
pub(crate) struct Life {
    dead: AtomicBool,
    /// Was asked to end in order.
    asked: AtomicBool,
    ended: Notify,
    running: Mutex<Option<Coordinator>>,
    /// Its connections to machines, which break when it dies.
    connections: Mutex<Vec<CancellationToken>>,
}

impl Life {
    /// Goes on if it lives; else never.
    pub(crate) async fn check(&self) {
        if self.dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Kills it here and now. Never returns to the one that was killed.
    pub(crate) async fn kill(&self) {
        self.kill_now();
        std::future::pending::<()>().await;
    }

    pub(crate) fn kill_now(&self) {
        if self.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(coordinator) = lock(&self.running).take() {
            coordinator.kill();
        }
        for connection in lock(&self.connections).drain(..) {
            connection.cancel();
        }
        self.ended.notify_one();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    fn coordinator(&self) -> Option<Coordinator> {
        if self.is_dead() {
            return None;
        }
        lock(&self.running).clone()
    }
}

/// Whoever coordinates now.
#[derive(Default)]
pub(crate) struct Seat {
    life: Mutex<Option<Arc<Life>>>,
}

impl Seat {
    /// The coordinator that runs, if one does.
    pub(crate) fn coordinator(&self) -> Option<Coordinator> {
        lock(&self.life).as_ref().and_then(|life| life.coordinator())
    }

    /// The same, with a connection that its end closes.
    pub(crate) fn connect(&self) -> Option<(Coordinator, CancellationToken)> {
        let life = lock(&self.life).clone()?;
        let coordinator = life.coordinator()?;
        let closed = CancellationToken::new();
        let mut connections = lock(&life.connections);
        connections.retain(|connection| !connection.is_cancelled());
        connections.push(closed.clone());
        drop(connections);
        Some((coordinator, closed))
    }

    pub(crate) fn kill(&self) {
        let life = lock(&self.life).clone();
        if let Some(life) = life {
            life.kill_now();
        }
    }

    /// Asks it to end.
    fn shut_down(&self) {
        let life = lock(&self.life).clone();
        let Some(life) = life else { return };
        if let Some(coordinator) = life.coordinator() {
            life.asked.store(true, Ordering::Relaxed);
            coordinator.shut_down();
        }
    }
}

/// Keeps a coordinator running.
pub(crate) async fn supervise(world: Arc<World>) {
    let context = &world.context;
    loop {
        let life = Arc::new(Life::default());
        *lock(&world.seat.life) = Some(Arc::clone(&life));
        let start = Coordinator::start(ports(&world, &life), world.farm.clone());
        let started = tokio::select! {
            biased;
            () = life.ended.notified() => None,
            started = start => Some(started),
        };
        match started {
            Some(Ok(coordinator)) => {
                context.judge.note(context, || "coordinator started".to_owned());
                *lock(&life.running) = Some(coordinator.clone());
                let ended = tokio::select! {
                    biased;
                    () = life.ended.notified() => Ok(()),
                    ended = coordinator.ended() => ended,
                };
                match ended {
                    Ok(()) => {}
                    // It was to end, and what it had not written it had not promised either.
                    Err(error) if life.asked.load(Ordering::Relaxed) && is_about_records(error.chain()) => {
                        context.judge.note(context, || format!("the coordinator says: {error:#}"));
                    }
                    Err(error) => {
                        let what = format!("the coordinator failed: {error:#}");
                        context.judge.broken(Invariant::Alive, what);
                    }
                }
            }
            Some(Err(error)) => {
                context.judge.broken(Invariant::Alive, format!("it cannot start: {error}"));
            }
            None => {}
        }
        life.kill_now();
        context.judge.note(context, || "coordinator ended".to_owned());
        // Mostly at once; sometimes for longer than machines are waited for.
        let longest = if context.once_in(6) { 40_000 } else { 2_500 };
        context.pause(50, longest).await;
    }
}

/// Whether it is that the records cannot be reached.
fn is_about_records<'e>(causes: impl Iterator<Item = &'e (dyn Error + 'static)>) -> bool {
    causes.filter_map(|cause| cause.downcast_ref()).any(RecordsError::is_transient)
}

fn ports(world: &Arc<World>, life: &Arc<Life>) -> Ports {
    let context = &world.context;
    let records = Arc::new(SimRecords {
        context: Arc::clone(context),
        tables: Arc::clone(&world.tables),
        life: Arc::clone(life),
    });
    let ids = Arc::clone(context);
    Ports {
        records: records.clone(),
        found: records.clone(),
        words: records,
        logs: Arc::new(SimLogs { world: Arc::clone(world), life: Arc::clone(life) }),
        blobs: Arc::new(crate::blobs::SimBlobs { world: Arc::clone(world), life: Arc::clone(life) }),
        mutations: Arc::new(crate::maintnerd::SimMutations {
            world: Arc::clone(world),
            life: Arc::clone(life),
        }),
        changes: Arc::new(crate::reviews::SimChanges { world: Arc::clone(world), life: Arc::clone(life) }),
        reviews: Arc::new(crate::reviews::SimReviews { world: Arc::clone(world), life: Arc::clone(life) }),
        commits: Arc::new(crate::project::SimCommits { world: Arc::clone(world), life: Arc::clone(life) }),
        clock: context.clone(),
        new_id: Arc::new(move || ids.new_id()),
        witness: Arc::new(Seen::new(Arc::clone(world))),
        tuning: Tuning {
            snapshot_bytes: 200,
            acknowledge_bytes: 256,
            mutation: world.planted.and_then(Planted::of_coordinator),
        },
    }
}

/// Kills or restarts it, as an operator or an accident would.
pub(crate) fn strike(world: &World, fault: Fault) {
    world.context.judge.fault(fault);
    match fault {
        Fault::CoordinatorRestarted => {
            world.seat.shut_down();
        }
        _ => world.seat.kill(),
    }
}
