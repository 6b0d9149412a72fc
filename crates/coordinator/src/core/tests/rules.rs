//! One sentence each.

use types::{BuildNumber, Outcome};

use super::world::{World, done, fault, listed, new_build, plan};
use crate::core::{Accept, Class, Event, Task, WaitCode};

const ONE: BuildNumber = BuildNumber(1);

/// A build of four shards on three machines, its snapshot stored, all shards but one begun.
fn testing() -> World {
    let mut world = World::new();
    for name in ["m1", "m2", "m3"] {
        world.connect(name);
    }
    world.accept(new_build(1, plan(2, true, true)));
    world.answer(0, done());
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    assert_eq!(world.tasks(), ["m1 snapshot_store"]);
    assert_eq!(world.state.leases().count(), 3, "helpers are there before the snapshot is");
    world.answer(0, done());
    assert_eq!(world.tasks(), ["m2 snapshot_fetch", "m3 snapshot_fetch", "m1 list"]);
    world.answer(0, done());
    world.answer(1, listed(4));
    assert_eq!(world.tasks(), ["m3 snapshot_fetch", "m1 test 1", "m2 test 4"]);
    world.answer(0, done());
    world
}

#[test]
fn a_build_goes_its_way_on_one_machine() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    let mut seen = Vec::new();
    while let Some(task) = world.tasks().pop() {
        seen.push(task);
        let result = if seen.len() == 1 { done() } else { world.command(Outcome::Passed) };
        world.answer(0, result);
    }
    assert_eq!(seen, ["m1 source", "m1 make", "m1 test 1"]);
    assert_eq!(world.tables.ends[0].outcome, Outcome::Passed);
    assert_eq!(world.cleaning.len(), 1);
}

#[test]
fn the_same_build_is_never_made_twice() {
    let mut world = World::new();
    world.accept(new_build(1, plan(0, false, false)));
    world.accept(new_build(1, plan(0, false, false)));
    world.connect("m1");
    world.drain(1);
    world.accept(new_build(1, plan(0, false, false)));
    assert_eq!(world.replies, [vec![ONE], vec![ONE], vec![ONE]]);
    assert_eq!(world.tables.ends.len(), 1);
}

#[test]
fn the_newest_commit_is_built_first_unless_somebody_waits_for_another() {
    let mut world = World::new();
    for seed in [1, 3, 2] {
        world.accept(new_build(seed, plan(0, false, false)));
    }
    let mut wanted = new_build(9, plan(0, false, false));
    wanted.class = Class::Try;
    wanted.commit_time = types::Timestamp(1);
    world.accept(wanted);
    assert_eq!(world.state.waiting(10), [4, 2, 3, 1].map(BuildNumber));
}

#[test]
fn the_main_machine_tests_in_order_and_helpers_take_the_biggest() {
    let world = testing();
    assert_eq!(world.tasks(), ["m1 test 1", "m2 test 4", "m3 test 3"]);
}

#[test]
fn a_lost_machines_shard_is_given_to_another_at_once() {
    let mut world = testing();
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    let passed = world.command(Outcome::Passed);
    // m1 has shard 2 now; m3 has ended 3 and finds nothing.
    world.answer(1, passed);
    world.clean_all();
    world.disconnect("m2");
    world.pass(2);
    assert_eq!(world.state.build(ONE).unwrap().attempt().unwrap().helpers.len(), 1, "it may come back");
    world.pass(1);
    assert!(world.tasks().contains(&"m3 snapshot_fetch".to_owned()), "{:?}", world.tasks());
    let shard = &world.state.build(ONE).unwrap().attempt().unwrap().shards[3];
    assert!(shard.note.contains("`m2`: machine `m2` was lost"), "{}", shard.note);
    world.drain(4);
    assert_eq!(world.tables.ends[0].outcome, Outcome::Passed);
    assert_eq!(world.tables.ends[0].attempt.attempt, 1);
}

#[test]
fn a_build_outlives_its_main_machine_when_there_is_a_snapshot() {
    let mut world = testing();
    for name in ["m1", "m2", "m3"] {
        world.disconnect(name);
        world.wipe(name);
    }
    world.pass(3);
    assert_eq!(world.state.wait_reason(ONE).unwrap().code, WaitCode::NoMachine);
    world.connect("m4");
    assert_eq!(world.tasks(), ["m4 snapshot_fetch"]);
    world.drain(4);
    assert_eq!(world.tables.ends[0].outcome, Outcome::Passed);
    assert_eq!(world.tables.ends[0].attempt.attempt, 1);
}

#[test]
fn without_a_snapshot_the_attempt_ends_and_another_begins() {
    let mut world = World::new();
    world.connect("m1");
    world.connect("m2");
    world.accept(new_build(1, plan(0, false, false)));
    world.answer(0, done());
    world.disconnect("m1");
    world.pass(3);
    assert_eq!(world.tasks(), ["m2 source"]);
    world.drain(1);
    assert_eq!(world.tables.ends[0].attempt.attempt, 2);
}

#[test]
fn only_faults_of_the_farm_are_tried_again_and_at_most_three_times() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    for attempt in 1..=3 {
        assert_eq!(world.tasks(), ["m1 source"], "attempt {attempt}");
        world.answer(0, fault("no route"));
        world.clean_all();
        if attempt < 3 {
            assert_eq!(world.state.wait_reason(ONE).unwrap().code, WaitCode::BackingOff);
        }
        world.pass(60);
    }
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.attempt.attempt), (Outcome::Infrastructure, 3));
    assert_eq!(end.reason, "3 attempts, the last: no route");
}

#[test]
fn a_failing_command_fails_the_build_and_is_not_tried_again() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    world.answer(0, done());
    let failed = world.command(Outcome::Failed);
    world.answer(0, failed);
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "make: exit status 1"));
}

#[test]
fn the_first_failing_shard_calls_the_others_off() {
    let mut world = testing();
    let failed = world.command(Outcome::Failed);
    world.answer(1, failed);
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    assert_eq!(world.tasks(), ["m3 test 3", "m2 test 2", "m1 test 4"]);
    let failed = world.command(Outcome::Failed);
    world.answer(2, failed);
    assert!(world.running.is_empty());
    assert_eq!(world.cleaning.len(), 3);
    assert_eq!(world.tables.ends[0].reason, "`t3`: exit status 1, on `m2` and again on `m1`");
}

#[test]
fn with_keep_going_all_shards_are_run() {
    let mut world = World::new();
    world.connect("m1");
    let mut keeps = plan(0, true, false);
    keeps.keep_going = true;
    world.accept(new_build(1, keeps));
    world.answer(0, done());
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    world.answer(0, listed(3));
    let failed = [Outcome::Failed; 2];
    let timed_out = [Outcome::TimedOut; 2];
    for outcome in failed.into_iter().chain([Outcome::Passed]).chain(timed_out) {
        let result = world.command(outcome);
        world.answer(0, result);
    }
    let end = &world.tables.ends[0];
    assert_eq!(
        (end.outcome, end.reason.as_str()),
        (Outcome::Failed, "2 of 3 shards, the first: `t0`: exit status 1, twice on `m1`")
    );
}

#[test]
fn a_shard_that_no_machine_can_run_ends_the_attempt_after_three_tries() {
    let mut world = testing();
    for _ in 0..3 {
        let index = world.running.iter().position(|a| matches!(a.task, Task::Shard(4, _))).unwrap();
        world.answer(index, fault("no disk"));
        world.clean_all();
        while let Some(index) = world.running.iter().position(|a| matches!(a.task, Task::SnapshotFetch(_))) {
            world.answer(index, done());
        }
    }
    assert_eq!(world.state.wait_reason(ONE).unwrap().code, WaitCode::BackingOff);
}

#[test]
fn a_machine_that_comes_back_in_time_goes_on() {
    let mut world = testing();
    world.answer(1, fault("x"));
    world.clean_all();
    let before = world.running.iter().find(|a| a.machine.as_str() == "m1").unwrap().clone();
    let believes = world.machines.get_mut(&before.machine).unwrap();
    believes.lease = Some((before.lease, before.fence));
    world.disconnect("m1");
    world.pass(2);
    world.connect("m1");
    let after = world.running.iter().find(|a| a.machine.as_str() == "m1").unwrap();
    assert_eq!((after.task.clone(), after.lease), (before.task, before.lease));
}

#[test]
fn after_a_restart_the_same_commands_go_on() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    world.answer(0, done());
    let before = world.running[0].clone();
    world.restart();
    world.connect("m1");
    assert_eq!(world.running[0].task, before.task);
    world.drain(1);
    assert_eq!(world.tables.ends.len(), 1);
    assert_eq!(world.tables.ends[0].attempt.attempt, 1);
}

#[test]
fn a_machine_that_is_further_than_the_rows_is_believed() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    let before = world.running[0].clone();
    let lease = world.state.lease(before.lease).unwrap().clone();
    let believes = world.machines.get_mut(&before.machine).unwrap();
    believes.lease = Some((before.lease, before.fence));
    believes.execs = vec![lease.make_exec.unwrap(), lease.test_exec.unwrap()];
    world.restart();
    world.connect("m1");
    assert_eq!(world.running[0].task, Task::Shard(1, lease.test_exec.unwrap()));
}

#[test]
fn a_command_that_may_have_begun_on_what_is_gone_is_not_started_under_its_name_again() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    let before = world.state.lease(world.running[0].lease).unwrap().clone();
    // The rows say that it fetches. It may have gone on to make before the coordinator died, and was then replaced.
    world.restart();
    world.wipe("m1");
    world.connect("m1");
    let after = world.state.lease(before.id).unwrap().clone();
    assert_eq!(
        (after.task.clone(), after.fence),
        (before.task, before.fence),
        "the lease goes on from its beginning"
    );
    assert!(after.make_exec.is_some() && after.make_exec != before.make_exec);
    assert!(after.test_exec.is_some() && after.test_exec != before.test_exec);
    world.answer(0, done());
    assert_eq!(world.running[0].task, Task::Make(after.make_exec.unwrap()));
    world.drain(1);
    assert_eq!(
        (world.tables.ends.len(), world.tables.ends[0].attempt.attempt),
        (1, 1),
        "no fault is counted"
    );
}

#[test]
fn a_machine_with_a_lease_that_is_over_is_cleaned_under_a_newer_fence() {
    let mut world = testing();
    let stale = world.running[1].clone();
    world.machines.get_mut(&stale.machine).unwrap().lease = Some((stale.lease, stale.fence));
    world.disconnect(stale.machine.as_str());
    world.pass(3);
    world.connect(stale.machine.as_str());
    let (_, fence) = *world.cleaning.iter().find(|(machine, _)| *machine == stale.machine).unwrap();
    assert!(fence > stale.fence);
}

#[test]
fn a_build_that_is_called_off_stops_at_once_and_never_reports_again() {
    let mut world = testing();
    world.step(Event::Cancel { number: ONE, reason: "called off".to_owned() });
    world.step(Event::Cancel { number: ONE, reason: "called off".to_owned() });
    assert!(world.running.is_empty());
    assert_eq!(world.tables.ends.len(), 1);
    assert_eq!(world.tables.ends[0].outcome, Outcome::Cancelled);
}

#[test]
fn a_second_builder_begins_with_the_first_ones_snapshot() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, true, true)));
    world.drain(2);
    let mut other = new_build(1, plan(0, true, true));
    other.key.builder = "linux-race".parse().unwrap();
    world.accept(other);
    assert_eq!(world.tasks(), ["m1 snapshot_fetch"]);
    world.answer(0, fault("it is damaged"));
    assert_eq!(world.tasks(), ["m1 source"], "it makes after all");
    world.drain(2);
    assert_eq!(world.tables.ends[1].outcome, Outcome::Passed);
}

#[test]
fn what_waits_says_why() {
    let mut world = World::new();
    world.accept(new_build(1, plan(0, false, false)));
    assert_eq!(world.state.wait_reason(ONE).unwrap().code, WaitCode::NoMachine);
    world.connect("m1");
    assert_eq!(world.state.wait_reason(ONE), None);
    world.accept(new_build(2, plan(0, false, false)));
    world.accept(new_build(3, plan(0, false, false)));
    let busy = world.state.wait_reason(BuildNumber(3)).unwrap();
    assert_eq!(busy.text, "the one machine of `local` is not free: `m1` works on 1.1");
    let behind = world.state.wait_reason(BuildNumber(2)).unwrap();
    assert_eq!(behind.code, WaitCode::BehindOthers);
    assert_eq!(behind.text, "1 build for `local` is served before it");
}

#[test]
fn a_shard_that_waits_says_what_is_before_it() {
    let mut world = testing();
    assert_eq!(world.state.shard_wait(ONE, 1), None);
    let text = |world: &World, shard| world.state.shard_wait(ONE, shard).unwrap().text;
    assert_eq!(text(&world, 2), "it is next, for 3 machines of the build");
    world.disconnect("m3");
    world.pass(3);
    assert_eq!(text(&world, 3), "1 shard is before it, for 2 machines");
}

#[test]
fn a_request_is_answered_in_the_order_of_its_builders() {
    let mut world = World::new();
    world.accept(new_build(1, plan(0, false, false)));
    let request = crate::core::Request { id: "r".to_owned(), slots: vec![None, Some(ONE)] };
    world.step(Event::Accept(Accept {
        token: 2,
        builds: vec![new_build(2, plan(0, false, false))],
        request: Some(request),
        ..Accept::default()
    }));
    assert_eq!(world.replies[1], [BuildNumber(2), ONE]);
}

#[test]
fn a_clock_that_was_set_back_ends_no_task_before_it_began() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    world.answer(0, done());
    world.now = types::Timestamp::from_seconds(world.now.seconds() - 3600);
    let passed = world.command(Outcome::Passed);
    world.answer(0, passed);
    assert_eq!(world.tasks(), ["m1 test 1"]);
}

#[test]
fn a_build_does_not_rest_for_hours_when_the_clock_was_set_back_before_a_restart() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    world.answer(0, fault("no route"));
    assert_eq!(world.state.wait_reason(ONE).unwrap().code, WaitCode::BackingOff);
    world.now = types::Timestamp::from_seconds(world.now.seconds() - 3600);
    world.restart();
    world.connect("m1");
    world.clean_all();
    assert!(world.tasks().is_empty());
    world.pass(60);
    assert_eq!(world.tasks(), ["m1 source"]);
}
