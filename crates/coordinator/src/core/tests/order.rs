//! Who is served when, what makes room for what, and why something waits.

use types::{BuildNumber, MachineName, Outcome};

use super::world::{World, done, listed, new_build, plan};
use crate::core::{Build, Class, Event, NewBuild, Task, TaskResult, WaitCode};

/// A build that needs one machine for one task after the source.
fn small(seed: u8, class: Class) -> NewBuild {
    let mut build = new_build(seed, plan(0, false, false));
    build.class = class;
    build
}

fn of(mut build: NewBuild, git_ref: &str, author: &str) -> NewBuild {
    build.git_ref = git_ref.to_owned();
    build.author = author.to_owned();
    build
}

/// Lets the machines end what they do, and answers the builds that they are given then, in that order.
fn served(world: &mut World, count: usize) -> Vec<u64> {
    let mut order = Vec::new();
    while order.len() < count {
        let assignment = world.running[0].clone();
        if matches!(assignment.task, Task::Source { .. }) {
            order.push(assignment.attempt.build.0);
        }
        world.answer(0, TaskResult::Done { detail: String::new(), bytes: 0 });
        world.step(Event::Cancel { number: assignment.attempt.build, reason: "enough".to_owned() });
        world.clean_all();
    }
    order
}

fn build(world: &World, number: u64) -> &Build {
    world.state.build(BuildNumber(number)).unwrap()
}

#[test]
fn classes_are_served_in_their_order() {
    let mut world = World::new();
    for (seed, class) in [(1, Class::Batch), (2, Class::Try), (3, Class::Interactive), (4, Class::Release)] {
        world.accept(small(seed, class));
    }
    assert_eq!(world.state.waiting(10), [4, 3, 2, 1].map(BuildNumber));
    world.connect("m1");
    assert_eq!(served(&mut world, 4), [4, 3, 2, 1]);
}

#[test]
fn branches_people_and_repositories_have_fair_shares() {
    let mut world = World::new();
    for seed in 1..=4 {
        world.accept(of(small(seed, Class::Batch), "refs/heads/main", ""));
    }
    world.accept(of(small(5, Class::Batch), "refs/heads/release", ""));
    let mut other = of(small(1, Class::Batch), "refs/heads/main", "");
    other.key.repository = "other".parse().unwrap();
    world.accept(other);
    let order = [6, 5, 4, 3, 2, 1];
    // `example` comes first by name and `main` does; then whoever has had less.
    let told: Vec<u64> = world.state.waiting(10).iter().map(|number| number.0).collect();
    assert_eq!(told, [4, 6, 5, 3, 2, 1], "not {order:?}");
    for number in 1..=6 {
        let position = world.state.position(BuildNumber(number)) as usize;
        assert_eq!(told[position - 1], number, "{told:?}");
    }
    world.connect("m1");
    assert_eq!(served(&mut world, 6), [4, 6, 5, 3, 2, 1]);
}

#[test]
fn within_a_share_of_tries_who_asked_first_is_served_first() {
    let mut world = World::new();
    for seed in [9, 3, 5] {
        world.pass(1);
        world.accept(of(small(seed, Class::Try), "", "gopher"));
    }
    world.pass(1);
    world.accept(of(small(1, Class::Try), "", "another"));
    world.connect("m1");
    assert_eq!(served(&mut world, 4), [4, 1, 2, 3]);
}

#[test]
fn every_eighth_machine_goes_to_what_has_waited_longest() {
    let mut world = World::new();
    world.accept(small(1, Class::Batch));
    world.pass(3600);
    for seed in 2..=12 {
        world.accept(small(seed, Class::Try));
    }
    world.connect("m1");
    assert_eq!(served(&mut world, 8), [2, 3, 4, 5, 6, 7, 8, 1]);
}

#[test]
fn what_has_not_waited_long_does_not_jump_the_queue() {
    let mut world = World::new();
    world.accept(small(1, Class::Batch));
    for seed in 2..=12 {
        world.accept(small(seed, Class::Try));
    }
    world.connect("m1");
    assert_eq!(served(&mut world, 8), [2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn batch_work_makes_room_for_a_person_at_once_and_loses_no_budget() {
    let mut world = World::new();
    for (name, seed) in [("m1", 1), ("m2", 2)] {
        world.connect(name);
        world.pass(1);
        world.accept(small(seed, Class::Batch));
    }
    world.accept(small(3, Class::Interactive));
    assert_eq!(world.cleaning.len(), 1, "one machine is enough");
    let (made, kept) = (build(&world, 2), build(&world, 1));
    assert!(made.attempt().is_none() && kept.attempt().is_some(), "the youngest makes room");
    assert_eq!((made.faults, made.preempted, made.attempts), (0, 1, 1));
    let reason = world.state.wait_reason(BuildNumber(2)).unwrap();
    assert!(reason.text.ends_with("before, it made room for build 3"), "{}", reason.text);
    world.clean_all();
    assert!(world.tasks().contains(&"m2 source".to_owned()));
    assert_eq!(build(&world, 3).attempts, 1);
    world.drain(1);
    assert_eq!(world.tables.ends.len(), 3);
    assert!(world.tables.ends.iter().all(|end| end.outcome == Outcome::Passed));
}

#[test]
fn batch_work_makes_room_for_a_try_that_has_waited_a_while() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(small(1, Class::Batch));
    world.accept(small(2, Class::Try));
    world.pass(29);
    assert!(world.cleaning.is_empty());
    world.pass(1);
    assert_eq!(world.cleaning.len(), 1);
    world.accept(small(3, Class::Try));
    world.clean_all();
    assert_eq!(build(&world, 2).attempts, 1);
    world.pass(60);
    assert!(world.cleaning.is_empty(), "a try makes no room for another");
}

// Found by the simulator: nothing made room for the release until something else happened.
#[test]
fn batch_work_makes_room_when_its_machine_is_back() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(small(1, Class::Batch));
    world.disconnect("m1");
    world.accept(small(2, Class::Release));
    assert_eq!(build(&world, 1).preempted, 0);
    world.connect("m1");
    assert_eq!(build(&world, 1).preempted, 1);
    world.clean_all();
    assert_eq!(served(&mut world, 1), [2]);
}

#[test]
fn a_build_that_has_made_room_twice_is_left_alone() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(small(1, Class::Batch));
    for seed in 2..=4 {
        world.accept(small(seed, Class::Interactive));
        let urgent = BuildNumber(u64::from(seed));
        world.clean_all();
        if seed == 4 {
            assert_eq!(world.state.build(urgent).unwrap().attempts, 0, "it waits its turn");
        } else {
            world.step(Event::Cancel { number: urgent, reason: "enough".to_owned() });
            world.clean_all();
        }
    }
    assert_eq!((build(&world, 1).preempted, build(&world, 1).attempts), (2, 3));
}

#[test]
fn helpers_make_room_first_and_their_shard_costs_no_budget() {
    let mut world = World::new();
    for name in ["m1", "m2"] {
        world.connect(name);
    }
    world.accept(new_build(1, plan(1, true, true)));
    while let Some(index) = world.running.iter().position(|a| !matches!(a.task, Task::Shard(..))) {
        let result = match world.running[index].task {
            Task::List(_) => listed(4),
            Task::Make(_) => world.command(Outcome::Passed),
            _ => done(),
        };
        world.answer(index, result);
    }
    assert_eq!(world.tasks(), ["m1 test 1", "m2 test 4"]);
    world.accept(small(9, Class::Interactive));
    let (machine, _) = world.cleaning[0].clone();
    assert_eq!(machine, "m2".parse::<MachineName>().unwrap());
    let shard = &build(&world, 1).attempt().unwrap().shards[3];
    assert_eq!((shard.tries, shard.faults), (1, 0));
    assert_eq!(build(&world, 1).preempted, 0);
    world.drain(4);
    assert_eq!(world.tables.ends.len(), 2);
    assert!(world.tables.ends.iter().all(|end| end.outcome == Outcome::Passed));
}

#[test]
fn helpers_of_a_try_come_before_batch_work_and_those_of_batch_work_after_it() {
    for (class, helper) in [(Class::Try, true), (Class::Batch, false)] {
        let mut world = World::new();
        world.connect("m1");
        let mut first = new_build(1, plan(1, true, true));
        first.class = class;
        world.accept(first);
        world.accept(small(2, Class::Batch));
        while let Some(index) = world.running.iter().position(|a| !matches!(a.task, Task::Shard(..))) {
            let result = match world.running[index].task {
                Task::List(_) => listed(4),
                Task::Make(_) => world.command(Outcome::Passed),
                _ => done(),
            };
            world.answer(index, result);
        }
        let wait = world.state.helper_wait(BuildNumber(1)).unwrap();
        assert_eq!(wait.code, WaitCode::NoMachine, "{}", wait.text);
        world.connect("m2");
        let works_on = &world.running.iter().find(|a| a.machine.as_str() == "m2").unwrap().attempt;
        assert_eq!(works_on.build == BuildNumber(1), helper, "{class:?}");
        let wait = world.state.helper_wait(BuildNumber(1)).map(|wait| wait.code);
        assert_eq!(wait, (!helper).then_some(WaitCode::AllBusy));
    }
}

#[test]
fn help_that_a_tied_snapshot_forbids_is_said_to_be() {
    let mut world = World::new();
    world.connect("m1");
    world.connect("m2");
    let mut tied = plan(1, true, true);
    tied.snapshot.as_mut().unwrap().movable = false;
    world.accept(new_build(1, tied));
    while let Some(index) = world.running.iter().position(|a| !matches!(a.task, Task::Shard(..))) {
        let result = match world.running[index].task {
            Task::List(_) => listed(4),
            Task::Make(_) => world.command(Outcome::Passed),
            _ => done(),
        };
        world.answer(index, result);
    }
    let wait = world.state.helper_wait(BuildNumber(1)).unwrap();
    assert_eq!(wait.code, WaitCode::SnapshotTied);
    assert!(wait.unblock.contains("snapshot.movable"), "{}", wait.unblock);
    assert!(wait.text.starts_with("it asks for 1 helper and has 0"), "{}", wait.text);
}

#[test]
fn a_wait_tells_how_long_it_may_take_once_machines_were_given_back() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(small(1, Class::Batch));
    world.accept(small(2, Class::Batch));
    world.accept(small(3, Class::Batch));
    assert_eq!(world.state.wait_reason(BuildNumber(2)).unwrap().estimate, None);
    world.pass(100);
    world.step(Event::Cancel { number: BuildNumber(1), reason: "enough".to_owned() });
    world.clean_all();
    world.accept(small(4, Class::Batch));
    let estimate = |number| world.state.wait_reason(BuildNumber(number)).unwrap().estimate.unwrap().as_secs();
    assert_eq!((estimate(4), estimate(2)), (100, 200));
}

#[test]
fn a_machine_that_takes_no_work_is_named_as_the_reason() {
    let mut world = World::new();
    world.connect("m1");
    world.step(Event::Unfit { machine: "m1".parse().unwrap(), problem: "its disk is full".to_owned() });
    world.accept(small(1, Class::Batch));
    let wait = world.state.wait_reason(BuildNumber(1)).unwrap();
    assert_eq!(wait.code, WaitCode::NoMachine);
    assert!(wait.text.contains("`m1` is broken: its disk is full"), "{}", wait.text);
}
