//! Make steps that fail are made again elsewhere, sick machines are found, builds are begun again.

use types::{AttemptId, BuildNumber, MachineName, Outcome};

use super::world::{World, done, listed, new_build, plan};
use crate::core::{Event, Plan, Task, TaskResult};

fn makes_only() -> Plan {
    Plan { tests: None, ..plan(0, false, false) }
}

fn with(machines: &[&str]) -> World {
    let mut world = World::new();
    for machine in machines {
        world.connect(machine);
    }
    world
}

/// Sends the source and makes, where a build is now; answers which machine that was.
fn make(world: &mut World, outcome: impl Fn(&MachineName) -> Outcome) -> MachineName {
    world.clean_all();
    let machine = world.running[0].machine.clone();
    world.answer(0, done());
    let result = world.command(outcome(&machine));
    world.answer(0, result);
    world.clean_all();
    machine
}

/// Builds commits until a machine is in quarantine; answers how many it took.
fn until_quarantine(world: &mut World, most: u8, outcome: impl Fn(&MachineName) -> Outcome) -> usize {
    for seed in 1..=most {
        world.accept(new_build(seed, makes_only()));
        while !world.running.is_empty() {
            make(world, &outcome);
        }
        if !world.quarantined.is_empty() {
            return usize::from(seed);
        }
    }
    usize::from(most)
}

#[test]
fn a_make_that_passes_elsewhere_flaked_and_its_build_passes() {
    let mut world = with(&["m1", "m2"]);
    world.accept(new_build(1, makes_only()));
    let first = make(&mut world, |_| Outcome::Failed);
    assert_ne!(world.running[0].machine, first, "another machine makes it");
    let second = make(&mut world, |_| Outcome::Passed);
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.flakes, end.attempt.attempt), (Outcome::Passed, 1, 2));
    assert_eq!(end.reason, format!("flaky: make: exit status 1 on `{first}`, then it passed elsewhere"));
    assert_ne!(first, second);
}

#[test]
fn a_make_that_fails_elsewhere_too_failed() {
    let mut world = with(&["m1", "m2"]);
    world.accept(new_build(1, makes_only()));
    let first = make(&mut world, |_| Outcome::Failed);
    let second = make(&mut world, |_| Outcome::Failed);
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.flakes), (Outcome::Failed, 0));
    assert_eq!(end.reason, format!("make: exit status 1, on `{first}` and again on `{second}`"));
}

#[test]
fn where_nobody_else_takes_work_or_it_took_long_a_make_is_believed() {
    let mut world = with(&["m1"]);
    world.accept(new_build(1, makes_only()));
    make(&mut world, |_| Outcome::Failed);
    assert_eq!(world.tables.ends[0].reason, "make: exit status 1");
    world.connect("m2");
    world.accept(new_build(2, makes_only()));
    world.answer(0, done());
    world.pass(601);
    let failed = world.command(Outcome::Failed);
    world.answer(0, failed);
    assert_eq!(world.tables.ends[1].outcome, Outcome::Failed);
}

#[test]
fn a_machine_that_fails_what_passes_elsewhere_is_put_in_quarantine_and_takes_no_work_until_it_is_lifted() {
    let mut world = with(&["m1", "m2", "m3"]);
    assert_eq!(until_quarantine(&mut world, 9, |_| Outcome::Passed), 9);
    let sick: MachineName = "m1".parse().unwrap();
    let fails = |machine: &MachineName| if *machine == sick { Outcome::Failed } else { Outcome::Passed };
    for seed in 10..100 {
        world.accept(new_build(seed, makes_only()));
        while !world.running.is_empty() {
            make(&mut world, fails);
        }
    }
    assert_eq!(world.quarantined, std::slice::from_ref(&sick));
    assert!(world.tables.ends.iter().all(|end| end.outcome == Outcome::Passed), "no commit is blamed");
    let reason = &world.state.machine(&sick).unwrap().quarantine;
    assert!(reason.contains(" of its last "), "{reason}");
    world.restart();
    for name in ["m1", "m2", "m3"] {
        world.connect(name);
    }
    assert_eq!(world.state.machine(&sick).unwrap().state(), "quarantined", "a restart forgets nothing");
    world.disconnect("m2");
    world.disconnect("m3");
    world.accept(new_build(100, makes_only()));
    assert!(world.running.is_empty());
    world.lift("m1");
    assert_eq!(world.tasks(), ["m1 source"]);
}

#[test]
fn commits_that_break_everything_make_no_machine_sick() {
    let mut world = with(&["m1", "m2", "m3"]);
    until_quarantine(&mut world, 50, |_| Outcome::Failed);
    assert!(world.quarantined.is_empty());
    assert!(world.tables.ends.iter().all(|end| end.outcome == Outcome::Failed));
}

#[test]
fn what_a_machine_does_that_is_put_in_quarantine_is_begun_elsewhere_but_a_person_may_stay() {
    let mut world = with(&["m1"]);
    world.accept(new_build(1, makes_only()));
    assert_eq!(world.tasks(), ["m1 source"]);
    world.quarantine("m1");
    assert!(world.running.is_empty());
    world.clean_all();
    world.connect("m2");
    world.pass(60);
    assert_eq!(world.tasks(), ["m2 source"]);
    world.lift("m1");
    world.sit("ada");
    world.prepared(Ok("nothing"));
    world.quarantine("m1");
    assert_eq!(world.state.sessions().count(), 1);
    world.drain(1);
    assert_eq!(world.tables.ends[0].outcome, Outcome::Passed);
}

#[test]
fn a_build_that_is_begun_again_has_budgets_of_its_own_and_keeps_its_number() {
    let mut world = with(&["m1"]);
    world.accept(new_build(1, makes_only()));
    make(&mut world, |_| Outcome::Failed);
    let retry = world.tables.ended(0).unwrap();
    world.retry(retry.clone());
    assert_eq!(world.tasks(), ["m1 source"]);
    world.retry(retry);
    assert_eq!(world.running.len(), 1, "it goes on already");
    world.restart();
    world.connect("m1");
    make(&mut world, |_| Outcome::Passed);
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.attempt.build, end.attempt.attempt), (Outcome::Passed, BuildNumber(1), 2));
}

#[test]
fn a_build_that_is_begun_again_and_called_off_at_once_ends_as_an_attempt_of_its_own() {
    let mut world = with(&["m1"]);
    world.accept(new_build(1, makes_only()));
    make(&mut world, |_| Outcome::Failed);
    world.disconnect("m1");
    let retry = world.tables.ended(0).unwrap();
    world.retry(retry);
    world.step(Event::Cancel { number: BuildNumber(1), reason: "enough".to_owned() });
    let end = &world.tables.ends[0];
    assert_eq!((end.outcome, end.attempt.attempt), (Outcome::Cancelled, 2), "the first was reported");
}

#[test]
fn what_the_network_or_the_store_could_not_do_is_not_held_against_a_machine() {
    for of_machine in [false, true] {
        let mut world = with(&["m2"]);
        until_quarantine(&mut world, 20, |_| Outcome::Passed);
        world.connect("m1");
        for seed in 21..26 {
            world.accept(new_build(seed, makes_only()));
            while world.state.builds().count() > 0 {
                world.clean_all();
                let Some(first) = world.running.first() else {
                    world.pass(60);
                    continue;
                };
                let makes = matches!(first.task, Task::Make(_));
                let result = match (makes, first.machine.as_str()) {
                    (true, "m1") => TaskResult::Fault { reason: "no disk".to_owned(), of_machine },
                    (true, _) => world.command(Outcome::Passed),
                    (false, _) => done(),
                };
                world.answer(0, result);
            }
        }
        assert_eq!(world.quarantined.is_empty(), !of_machine);
    }
}

/// Runs what runs to its end; a shard fails.
fn run(world: &mut World, fails: u32) {
    world.clean_all();
    while let Some(first) = world.running.first() {
        let result = match first.task {
            Task::List(_) => listed(3),
            Task::Shard(shard, _) if shard == fails => world.command(Outcome::Failed),
            Task::Make(_) | Task::Shard(..) => world.command(Outcome::Passed),
            _ => done(),
        };
        world.answer(0, result);
        world.clean_all();
    }
}

#[test]
fn of_a_build_that_is_begun_again_only_what_has_not_passed_is_run_if_so_asked() {
    let mut world = with(&["m1"]);
    world.accept(new_build(1, plan(0, true, true)));
    run(&mut world, 2);
    assert_eq!(world.tables.ends[0].outcome, Outcome::Failed);
    let mut retry = world.tables.ended(0).unwrap();
    retry.only = vec!["t1".to_owned(), "t2".to_owned()];
    world.retry(retry);
    world.restart();
    world.connect("m1");
    run(&mut world, 0);
    assert_eq!(world.tables.ends[0].outcome, Outcome::Passed);
    let of_second = |(id, _): &(AttemptId, u32)| id.attempt == 2;
    let shards = world.tables.shards.iter().filter(|(id, _)| of_second(id)).map(|(_, shard)| shard);
    let tests: Vec<&str> = shards.flat_map(|shard| shard.tests.iter().map(String::as_str)).collect();
    assert_eq!(tests, ["t1", "t2"]);
    let mut again = world.tables.ended(0).unwrap();
    again.only = vec!["gone".to_owned()];
    world.retry(again);
    run(&mut world, 0);
    let of_third = world.tables.shards.keys().filter(|(id, _)| id.attempt == 3).count();
    assert_eq!(of_third, 3, "none of them is there: all are run");
}
