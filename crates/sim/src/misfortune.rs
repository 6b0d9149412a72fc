//! Has things go wrong, by the seed: each episode is one kind of fault at one time.

use std::{sync::Arc, time::Duration};

use coordinator::core::Event;
use store::Blobs;

use crate::{
    context::lock,
    coordinator::strike,
    fault::{Fault, Weather},
    line::cut,
    machine::Machine,
    rng::Rng,
    world::World,
};

/// How long a machine is sick at least: long enough to be given work.
const SICK: Duration = Duration::from_mins(2);

/// Starts all episodes of a world.
pub(crate) fn begin(world: &Arc<World>, seed: u64, within: Duration) {
    let mut rng = Rng::new(seed ^ 0x0062_6164);
    for _ in 0..rng.between(6, 18) {
        let fault = Fault::ALL[rng.between(0, Fault::ALL.len() as u64) as usize];
        let at = Duration::from_millis(rng.between(20_000, within.as_millis() as u64));
        let lasts = Duration::from_millis(rng.between(5_000, 60_000));
        let left = within.saturating_sub(at);
        let machine = Arc::clone(&world.machines[rng.between(0, world.machines.len() as u64) as usize]);
        let (task, number) = (Arc::clone(world), rng.next());
        world.context.tasks.job("misfortune", async move {
            tokio::time::sleep(at).await;
            episode(task, fault, machine, lasts.min(left), number).await;
        });
    }
}

async fn episode(world: Arc<World>, fault: Fault, machine: Arc<Machine>, lasts: Duration, number: u64) {
    let judge = Arc::clone(&world.context.judge);
    judge.note(&world.context, || format!("episode {fault:?} on {} for {lasts:?}", machine.name));
    match fault {
        Fault::Partition => {
            judge.fault(fault);
            cut(machine, Duration::from_millis(200 + number % 8000)).await;
        }
        Fault::ReturnFromDead => {
            judge.fault(fault);
            cut(machine, Duration::from_secs(15 + number % 60)).await;
        }
        Fault::BuildletKilled => {
            judge.fault(fault);
            machine.kill();
        }
        Fault::MachineReplaced => {
            judge.fault(fault);
            machine.replace();
        }
        Fault::MachineDrained => {
            judge.fault(fault);
            if let Some(process) = machine.process() {
                process.drain();
            }
        }
        Fault::MachineSick => {
            machine.sicken(true);
            tokio::time::sleep(lasts.max(SICK)).await;
            machine.sicken(false);
        }
        Fault::CoordinatorKilled | Fault::CoordinatorRestarted => strike(&world, fault),
        Fault::SnapshotVanished => vanish(&world, number).await,
        Fault::HistoryLost => {
            judge.fault(fault);
            // What was pushed while nobody looked is not built: only tips are.
            *lock(&world.only_tip) = true;
            world.log.lose_history();
        }
        Fault::CommitVanished => {
            *lock(&world.vanishing) = true;
        }
        Fault::ClockForward => {
            judge.fault(fault);
            world.context.step_clock(1 + (number % 4000) as i64);
        }
        Fault::ClockBack => {
            judge.fault(fault);
            world.context.step_clock(-1 - (number % 4000) as i64);
        }
        weather => {
            if matches!(weather, Fault::MaintnerdDown | Fault::MirrorDown) {
                judge.fault(weather);
            }
            let of = 2 + number % 12;
            world.context.set_weather(|now| *of_weather(now, weather) = of);
            tokio::time::sleep(lasts).await;
            world.context.set_weather(|now| *of_weather(now, weather) = 0);
        }
    }
}

/// What the weather has for a kind of fault.
fn of_weather(weather: &mut Weather, fault: Fault) -> &mut u64 {
    match fault {
        Fault::AnswerLost => &mut weather.answer_lost,
        Fault::Duplicated => &mut weather.duplicated,
        Fault::Delayed => &mut weather.delayed,
        Fault::WriteFailed => &mut weather.write_failed,
        Fault::WriteFailedAfterEffect => &mut weather.write_failed_after,
        Fault::SlowDisk => &mut weather.slow_disk,
        Fault::LogFailed => &mut weather.log_failed,
        Fault::StoreFailed => &mut weather.store_failed,
        Fault::AppendAnswerLost => &mut weather.append_lost,
        Fault::StreamBroken => &mut weather.stream_broken,
        Fault::KilledBeforeWrite => &mut weather.kill_before_write,
        Fault::KilledAfterWrite => &mut weather.kill_after_write,
        Fault::MachineDiskFull => &mut weather.disk_full,
        Fault::MachineNotClean => &mut weather.not_clean,
        Fault::MaintnerdDown => &mut weather.maintnerd_down,
        Fault::MirrorDown => &mut weather.mirror_down,
        Fault::ReviewsDown => &mut weather.reviews_down,
        Fault::ReviewAnswerLost => &mut weather.review_answer_lost,
        _ => &mut weather.request_lost,
    }
}

/// A snapshot goes: its bytes are lost, or an operator makes room.
async fn vanish(world: &World, number: u64) {
    let snapshots = lock(&world.tables).snapshots();
    let Some((key, _)) = snapshots.get(number as usize % snapshots.len().max(1)).cloned() else { return };
    world.context.judge.fault(Fault::SnapshotVanished);
    if number.is_multiple_of(2) {
        let _ = world.blobs.delete(&format!("snapshots/{}.tar.zst", key.0)).await;
    } else if let Some(coordinator) = world.seat.coordinator() {
        let keys = snapshots.into_iter().map(|(key, _)| key).collect();
        let _ = coordinator.tell(Event::DropSnapshots(keys)).await;
    }
}

/// Nothing goes wrong any more, and what was broken is mended.
pub(crate) fn end(world: &Arc<World>) {
    world.context.set_weather(|weather| *weather = Weather::default());
    for machine in &world.machines {
        lock(&machine.network).cut = false;
        machine.sicken(false);
        let broken = machine.process().is_some_and(|process| !process.status().broken.is_empty());
        if broken {
            machine.replace();
        }
    }
}
