//! Runs one seed from its first push to rest.

use std::{sync::Arc, time::Duration};

use crate::{
    coordinator,
    coverage::Coverage,
    judge::{Invariant, Judge, Violation},
    line, misfortune, people,
    planted::Planted,
    rng::Rng,
    world::World,
};

/// How long, in virtual time, a farm may work without a build that ends, when nothing goes wrong any more.
const NOTHING_ENDS: Duration = Duration::from_hours(3);
/// How long, in virtual time, it may take to come to rest: one machine may have hundreds of builds before it.
const REST: Duration = Duration::from_hours(24);
/// How often, in virtual time, it is looked whether it has.
const LOOK: Duration = Duration::from_secs(2);

/// What became of a seed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first invariant that was broken.
    pub violation: Option<Violation>,
    /// The last events, oldest first.
    pub last: Vec<String>,
    /// Steps of the core.
    pub steps: u64,
    /// Calls between parts.
    pub calls: u64,
    /// Builds that were accepted.
    pub builds: u64,
    /// Machines.
    pub machines: u64,
    /// What was covered.
    pub coverage: Coverage,
    /// Two runs of the same seed have the same.
    pub digest: u64,
}

/// Runs a seed, with a bug put in on purpose if one is named. `trace` prints all that happens.
pub fn run(seed: u64, planted: Option<Planted>, trace: bool) -> Report {
    // Pauses between retries are drawn from the thread's own generator.
    fastrand::seed(seed);
    let judge = Arc::new(Judge::new(trace));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without input and output can be made");
    let world = runtime.block_on(live(seed, Arc::clone(&judge), planted));
    let report = Report {
        seed,
        violation: judge.violation(),
        last: judge.last(),
        steps: judge.steps(),
        calls: judge.calls(),
        builds: crate::context::lock(&world.tables).builds() as u64,
        machines: world.machines.len() as u64,
        coverage: judge.coverage(),
        digest: judge.digest(),
    };
    // Tasks hold the world, and the world holds them: the runtime's end parts them. A machine's process holds it too.
    drop(runtime);
    world.machines.iter().for_each(|machine| machine.kill());
    report
}

async fn live(seed: u64, judge: Arc<Judge>, planted: Option<Planted>) -> Arc<World> {
    let world = World::draw(seed, Arc::clone(&judge), planted);
    let within = Duration::from_secs(Rng::new(seed ^ 0x7469_6d65).between(240, 600));
    let tasks = world.context.tasks.clone();
    tasks.job("supervisor", coordinator::supervise(Arc::clone(&world)));
    for machine in &world.machines {
        tasks.job("machine", line::live(Arc::clone(&world), Arc::clone(machine)));
    }
    tasks.job("people", people::push(Arc::clone(&world), seed, within));
    tasks.job("people", people::try_changes(Arc::clone(&world), seed, within));
    tasks.job("people", people::review(Arc::clone(&world), seed, within));
    tasks.job("people", people::cancel(Arc::clone(&world), seed, within));
    tasks.job("people", people::retry(Arc::clone(&world), seed, within));
    tasks.job("people", people::look_after(Arc::clone(&world), seed, within));
    misfortune::begin(&world, seed, within);
    watch(&world, within * 2).await;
    misfortune::end(&world);
    judge.note(&world.context, || "nothing goes wrong any more".to_owned());
    if let Err(left) = drain(&world).await {
        judge.broken(Invariant::Drains, left.join("; "));
    }
    tasks.kill();
    world.seat.kill();
    world
}

/// Waits until the farm has come to rest, or an invariant is broken. The error is what does not come to rest.
async fn drain(world: &World) -> Result<(), Vec<String>> {
    let (mut waited, mut moved, mut left) = (Duration::ZERO, Duration::ZERO, usize::MAX);
    loop {
        watch(world, LOOK).await;
        waited += LOOK;
        if world.context.judge.has_failed() || (!world.is_busy() && world.unsettled().is_empty()) {
            return Ok(());
        }
        let active = crate::context::lock(&world.tables).active().count();
        if active < left {
            (left, moved) = (active, waited);
        }
        if waited > REST || waited.saturating_sub(moved) > NOTHING_ENDS {
            return Err(world.unsettled());
        }
    }
}

/// Lets the world live for a while, or until an invariant is broken.
async fn watch(world: &World, lasts: Duration) {
    let end = tokio::time::Instant::now() + lasts;
    while tokio::time::Instant::now() < end && !world.context.judge.has_failed() {
        tokio::time::sleep(LOOK.min(lasts)).await;
    }
}
