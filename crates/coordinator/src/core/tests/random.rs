//! Random lives of a farm: machines come, die and come back, commands end in every way, the coordinator is killed.

use proptest::prelude::*;
use types::Outcome;

use super::world::{World, done, fault, listed, new_build, plan};
use crate::core::{Class, Event, Task, TaskResult};

#[derive(Debug, Clone, Copy)]
enum Happening {
    Accept(u8, u32, bool, Keeps),
    Connect(u8),
    Disconnect(u8),
    Wipe(u8),
    Answer(usize, u8),
    Repeat(usize),
    Clean(bool),
    Cancel(usize),
    Pass(u64),
    DropSnapshots,
    Sit(u8),
    Prepared(bool),
    Use(usize),
    Leave(usize),
    Retry(usize),
    Quarantine(u8),
    Lift(u8),
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Keeps {
    Nothing,
    Tied,
    Movable,
}

fn keeps() -> impl Strategy<Value = Keeps> {
    prop_oneof![1 => Just(Keeps::Nothing), 1 => Just(Keeps::Tied), 3 => Just(Keeps::Movable)]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (any::<u8>(), 0..3_u32, any::<bool>(), keeps()).prop_map(|(a, b, c, d)| Happening::Accept(a, b, c, d)),
        3 => (0..4_u8).prop_map(Happening::Connect),
        1 => (0..4_u8).prop_map(Happening::Disconnect),
        1 => (0..4_u8).prop_map(Happening::Wipe),
        20 => (any::<usize>(), any::<u8>()).prop_map(|(index, how)| Happening::Answer(index, how)),
        1 => any::<usize>().prop_map(Happening::Repeat),
        5 => any::<bool>().prop_map(Happening::Clean),
        1 => any::<usize>().prop_map(Happening::Cancel),
        2 => prop_oneof![6 => 0..5_u64, 1 => Just(40), 1 => Just(2000)].prop_map(Happening::Pass),
        1 => Just(Happening::DropSnapshots),
        1 => (0..3_u8).prop_map(Happening::Sit),
        2 => any::<bool>().prop_map(Happening::Prepared),
        1 => any::<usize>().prop_map(Happening::Use),
        1 => any::<usize>().prop_map(Happening::Leave),
        1 => any::<usize>().prop_map(Happening::Retry),
        1 => (0..4_u8).prop_map(Happening::Quarantine),
        2 => (0..4_u8).prop_map(Happening::Lift),
        1 => Just(Happening::Restart),
    ]
}

fn live(world: &mut World, happening: Happening) {
    match happening {
        Happening::Accept(seed, helpers, sharded, keeps) => {
            let mut plan = plan(helpers, sharded, !matches!(keeps, Keeps::Nothing));
            if let Some(snapshot) = &mut plan.snapshot {
                snapshot.movable = matches!(keeps, Keeps::Movable);
            }
            let mut build = new_build(seed, plan);
            build.class = Class::ALL[usize::from(seed / 2) % 4];
            build.git_ref = format!("refs/heads/b{}", seed % 3);
            build.author = format!("author {}", seed % 5);
            world.accept(build);
        }
        Happening::Connect(n) => world.connect(&format!("m{n}")),
        Happening::Disconnect(n) => world.disconnect(&format!("m{n}")),
        Happening::Wipe(n) => {
            let name = format!("m{n}");
            world.disconnect(&name);
            world.wipe(&name);
        }
        Happening::Answer(index, how) => answer(world, index, how),
        Happening::Repeat(index) => {
            if let Some(assignment) = pick(&world.running, index).cloned() {
                let stale = Task::Source { clean: true };
                world.step(Event::TaskEnded { lease: assignment.lease, task: stale, result: done() });
            }
        }
        Happening::Clean(true) => world.clean_all(),
        Happening::Clean(false) => {
            if let Some((machine, fence)) = world.cleaning.pop() {
                world.wipe(machine.as_str());
                world.step(Event::Cleaned { machine, fence, problem: None });
            }
        }
        Happening::Cancel(index) => {
            let numbers: Vec<_> = world.state.builds().map(|build| build.number).collect();
            if let Some(number) = pick(&numbers, index) {
                world.step(Event::Cancel { number: *number, reason: "called off".to_owned() });
            }
        }
        Happening::Pass(seconds) => world.pass(seconds),
        Happening::DropSnapshots => {
            world.step(Event::DropSnapshots(world.tables.restored().snapshots.into_iter().collect()));
        }
        Happening::Retry(index) => {
            if let Some(retry) = world.tables.ended(index) {
                world.retry(retry);
            }
        }
        Happening::Quarantine(n) => world.quarantine(&format!("m{n}")),
        Happening::Lift(n) => world.lift(&format!("m{n}")),
        Happening::Restart => world.restart(),
        Happening::Sit(_) | Happening::Prepared(_) | Happening::Use(_) | Happening::Leave(_) => {
            sit(world, happening);
        }
    }
}

fn sit(world: &mut World, happening: Happening) {
    let names: Vec<_> = world.state.sessions().map(|session| session.name.clone()).collect();
    match happening {
        Happening::Sit(owner) => {
            world.sit(&format!("p{owner}"));
        }
        Happening::Prepared(well) if !world.preparing.is_empty() => {
            world.prepared(if well { Ok("nothing") } else { Err("no archive") });
        }
        Happening::Use(index) => {
            if let Some(name) = pick(&names, index) {
                world.step(Event::TouchSession { name: name.clone(), hold: None });
            }
        }
        Happening::Leave(index) => {
            if let Some(name) = pick(&names, index) {
                world.step(Event::EndSession { name: name.clone(), reason: "given up".to_owned() });
            }
        }
        _ => {}
    }
}

fn answer(world: &mut World, index: usize, how: u8) {
    if world.running.is_empty() {
        return;
    }
    let index = index % world.running.len();
    let task = world.running[index].task.clone();
    let result = match (task, how) {
        (_, 0..10) => fault("a fault"),
        (_, 10..20) => TaskResult::Fault { reason: "no disk".to_owned(), of_machine: true },
        (Task::Make(_) | Task::Shard(..) | Task::List(_), 20..35) => world.command(Outcome::Failed),
        (Task::Make(_) | Task::Shard(..), 35..40) => world.command(Outcome::TimedOut),
        (Task::Make(_) | Task::Shard(..), _) => world.command(Outcome::Passed),
        (Task::List(_), _) => listed(usize::from(how % 7)),
        _ => done(),
    };
    world.answer(index, result);
}

fn pick<T>(items: &[T], index: usize) -> Option<&T> {
    items.get(index.checked_rem(items.len())?)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_build_ends_once(happenings in prop::collection::vec(happening(), 1..200)) {
        let mut world = World::new();
        for happening in happenings {
            live(&mut world, happening);
        }
        for n in 0..4 {
            let name = format!("m{n}");
            world.disconnect(&name);
            world.connect(&name);
            world.lift(&name);
        }
        world.pass(60);
        // What was kept busy is given up; what is used no more ends by itself.
        world.pass(3600);
        prop_assert_eq!(world.state.sessions().count(), 0);
        world.drain(3);
        let mut ended: Vec<_> = world.tables.ends.iter().map(|end| end.attempt.build).collect();
        ended.sort_unstable();
        let all: Vec<_> = (1..=ended.len() as u64).map(types::BuildNumber).collect();
        prop_assert_eq!(ended, all);
        prop_assert_eq!(world.state.builds().count(), 0);
    }
}
