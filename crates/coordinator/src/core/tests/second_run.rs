//! What failed once is run again before it is believed.

use types::{BuildNumber, Outcome};

use super::world::{World, done, listed, new_build, plan};
use crate::core::{Task, WaitCode};

const ONE: BuildNumber = BuildNumber(1);

/// A build of so many shards on one main machine, with a snapshot that others can use.
fn testing(machines: &[&str], shards: usize) -> World {
    let mut world = World::new();
    world.connect(machines[0]);
    world.accept(new_build(1, plan(0, true, true)));
    world.answer(0, done());
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    world.answer(0, done());
    for other in &machines[1..] {
        world.connect(other);
    }
    world.answer(0, listed(shards));
    world
}

fn answer_on(world: &mut World, machine: &str, outcome: Outcome) {
    let index = world.running.iter().position(|run| run.machine.as_str() == machine).unwrap();
    let result = match world.running[index].task {
        Task::Shard(..) => world.command(outcome),
        _ => done(),
    };
    world.answer(index, result);
}

#[test]
fn a_shard_that_passes_elsewhere_flaked_and_its_build_passes() {
    let mut world = testing(&["m1", "m2"], 1);
    answer_on(&mut world, "m1", Outcome::Failed);
    assert_eq!(world.tasks(), ["m2 snapshot_fetch"], "another machine comes though no helper was asked for");
    answer_on(&mut world, "m2", Outcome::Passed);
    answer_on(&mut world, "m2", Outcome::Passed);
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.flakes), (Outcome::Passed, 1));
    assert_eq!(end.reason, "flaky: `t0`: exit status 1 on `m1`, then it passed on `m2`");
}

#[test]
fn a_shard_that_fails_elsewhere_too_failed() {
    let mut world = testing(&["m1", "m2"], 1);
    answer_on(&mut world, "m1", Outcome::Failed);
    answer_on(&mut world, "m2", Outcome::Passed);
    answer_on(&mut world, "m2", Outcome::Failed);
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.flakes), (Outcome::Failed, 0));
    assert_eq!(end.reason, "`t0`: exit status 1, on `m1` and again on `m2`");
}

#[test]
fn where_there_is_no_other_machine_it_is_run_again_at_once() {
    let mut world = testing(&["m1"], 1);
    answer_on(&mut world, "m1", Outcome::Failed);
    assert_eq!(world.tasks(), ["m1 test 1"]);
    answer_on(&mut world, "m1", Outcome::Failed);
    assert_eq!(world.tables.ends[0].reason, "`t0`: exit status 1, twice on `m1`");
}

#[test]
fn a_machine_of_the_build_runs_what_failed_on_another() {
    let mut world = World::new();
    for name in ["m1", "m2"] {
        world.connect(name);
    }
    world.accept(new_build(1, plan(1, true, true)));
    world.answer(0, done());
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    world.answer(0, done());
    world.answer(0, done());
    world.answer(0, listed(3));
    assert_eq!(world.tasks(), ["m1 test 1", "m2 test 3"]);
    answer_on(&mut world, "m2", Outcome::Failed);
    assert_eq!(world.tasks(), ["m1 test 1", "m2 test 2"], "it goes on with others");
    answer_on(&mut world, "m1", Outcome::Passed);
    assert_eq!(world.tasks(), ["m2 test 2", "m1 test 3"]);
    answer_on(&mut world, "m1", Outcome::Passed);
    answer_on(&mut world, "m2", Outcome::Passed);
    assert_eq!((world.tables.ends[0].outcome, world.tables.ends[0].flakes), (Outcome::Passed, 1));
}

#[test]
fn while_all_others_work_it_waits_a_while_says_so_and_then_runs_where_it_failed() {
    let mut world = testing(&["m1", "m2"], 1);
    let mut other = new_build(2, plan(0, false, false));
    other.class = crate::core::Class::Interactive;
    world.accept(other);
    assert_eq!(world.tasks(), ["m1 test 1", "m2 source"]);
    answer_on(&mut world, "m1", Outcome::Failed);
    assert_eq!(world.tasks(), ["m2 source"]);
    let wait = world.state.wait_reason(ONE).unwrap();
    assert_eq!(wait.code, WaitCode::RunAgain);
    assert_eq!(wait.text, "shard 1 failed on `m1`, and another machine is to run it again");
    world.pass(59);
    assert_eq!(world.tasks(), ["m2 source"]);
    world.pass(1);
    assert_eq!(world.tasks(), ["m2 source", "m1 test 1"]);
}

#[test]
fn a_restart_knows_what_failed_first() {
    let mut world = testing(&["m1", "m2"], 2);
    answer_on(&mut world, "m1", Outcome::Failed);
    world.restart();
    world.connect("m2");
    world.connect("m1");
    world.drain(2);
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.attempt.attempt), (Outcome::Passed, 1));
    assert_eq!(end.flakes, 1, "{}", end.reason);
}

#[test]
fn what_breaks_everywhere_is_not_all_run_again() {
    let mut world = World::new();
    world.connect("m1");
    let mut keeps = plan(0, true, false);
    keeps.keep_going = true;
    world.accept(new_build(1, keeps));
    world.answer(0, done());
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    world.answer(0, listed(10));
    let mut runs = 0;
    while !world.running.is_empty() {
        answer_on(&mut world, "m1", Outcome::Failed);
        runs += 1;
    }
    assert_eq!(runs, 13, "three of ten are run a second time");
    assert_eq!(world.tables.ends[0].outcome, Outcome::Failed);
}

#[test]
fn what_took_long_to_fail_is_believed() {
    let mut world = testing(&["m1", "m2"], 1);
    world.pass(601);
    answer_on(&mut world, "m1", Outcome::TimedOut);
    assert_eq!(world.tables.ends[0].outcome, Outcome::TimedOut);
}
