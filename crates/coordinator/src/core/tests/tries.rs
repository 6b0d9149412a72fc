//! Tries of changes under review, a sentence each.

use types::{BuildNumber, CommitHash, Outcome};

use super::world::{World, done, new_build, plan};
use crate::core::{Accept, ChangeKey, Class, Event, NewBuild, TryEnd, TryNews, TrySet, TryWish, Word};

fn change() -> ChangeKey {
    ChangeKey { repository: "example".parse().unwrap(), number: 7 }
}

fn build(patch_set: u32, builder: &str) -> NewBuild {
    let mut build = new_build(patch_set as u8, plan(0, false, false));
    build.key.builder = builder.parse().unwrap();
    NewBuild { class: Class::Try, is_try: true, ..build }
}

fn wish(patch_set: u32, builders: &[&str]) -> TryWish {
    TryWish {
        patch_set,
        commit: CommitHash::from_bytes([patch_set as u8; 20]),
        base: None,
        ask: String::new(),
        builds: builders.iter().map(|builder| build(patch_set, builder)).collect(),
        notes: Vec::new(),
    }
}

fn tell(world: &mut World, wish: Result<TryWish, String>) {
    let tries = vec![TryNews { change: change(), wish }];
    world.step(Event::Accept(Accept { tries, ..Accept::default() }));
}

fn asks(world: &mut World, patch_set: u32) {
    tell(world, Ok(wish(patch_set, &["a", "b"])));
}

fn stops_asking(world: &mut World) {
    tell(world, Err("the vote was taken back".to_owned()));
}

/// Runs what runs to its end, the tests of one build after the other ending so.
fn run(world: &mut World, outcomes: &[Outcome]) {
    let mut outcomes = outcomes.iter();
    loop {
        world.clean_all();
        let Some(task) = world.tasks().first().cloned() else { return };
        let result = match task.split(' ').nth(1) {
            Some("source") => done(),
            Some("make") => world.command(*outcomes.next().unwrap_or(&Outcome::Passed)),
            _ => world.command(Outcome::Passed),
        };
        world.answer(0, result);
    }
}

fn set(world: &World) -> &TrySet {
    world.state.try_set(&change()).unwrap()
}

fn words(world: &World) -> Vec<Word> {
    world.tables.words.iter().map(|(_, word)| *word).collect()
}

fn world() -> World {
    let mut world = World::new();
    world.connect("m1");
    world
}

#[test]
fn a_change_that_asks_is_tried_once_however_often_it_is_told() {
    let mut world = world();
    asks(&mut world, 1);
    asks(&mut world, 1);
    assert_eq!(set(&world).builds.len(), 2);
    assert_eq!(words(&world), [Word::Begun]);
    run(&mut world, &[]);
    asks(&mut world, 1);
    assert_eq!(set(&world).end.map(|(_, end)| end), Some(TryEnd::Passed));
    assert_eq!(words(&world), [Word::Begun, Word::Ended]);
    assert_eq!(world.tables.ends.len(), 2);
}

#[test]
fn the_first_failure_is_told_while_others_run_and_the_end_when_all_have_ended() {
    let mut world = world();
    tell(&mut world, Ok(wish(1, &["a", "b", "c"])));
    run(&mut world, &[Outcome::Failed, Outcome::Failed, Outcome::Passed]);
    assert_eq!(words(&world), [Word::Begun, Word::Failing, Word::Ended]);
    assert_eq!(set(&world).end.and_then(|(_, end)| end.vote()), Some(-1));
}

#[test]
fn a_build_that_is_begun_again_before_its_set_has_ended_is_waited_for() {
    let mut world = world();
    asks(&mut world, 1);
    world.answer(0, done());
    let failed = world.command(Outcome::Failed);
    world.answer(0, failed);
    let retry = world.tables.ended(0).unwrap();
    world.retry(retry);
    world.restart();
    world.connect("m1");
    run(&mut world, &[]);
    assert_eq!(set(&world).end.and_then(|(_, end)| end.vote()), Some(1), "both passed in the end");
    let again = world.tables.ended(0).unwrap();
    world.retry(again);
    run(&mut world, &[]);
    assert_eq!(words(&world), [Word::Begun, Word::Failing, Word::Ended], "nothing more is said of it");
}

#[test]
fn a_new_patch_set_calls_off_the_one_before_and_nothing_more_is_said_of_it() {
    let mut world = world();
    asks(&mut world, 1);
    let first = set(&world).id;
    asks(&mut world, 2);
    assert_eq!(set(&world).patch_set, 2);
    let ends = world.tables.ends.iter().map(|end| (end.attempt.build, end.outcome)).collect::<Vec<_>>();
    assert_eq!(ends, [1, 2].map(|number| (BuildNumber(number), Outcome::Cancelled)));
    assert_eq!(world.tables.tries[&first].end.map(|(_, end)| end), Some(TryEnd::Superseded));
    assert!(Word::Begun.is_stale(&world.tables.tries[&first]));
    run(&mut world, &[]);
    let said: Vec<_> = world.tables.words.iter().filter(|(set, _)| *set == first).collect();
    assert_eq!((said.len(), set(&world).end.and_then(|(_, end)| end.vote())), (1, Some(1)));
}

#[test]
fn a_wish_that_is_taken_back_is_called_off_and_one_that_comes_again_begins_anew() {
    let mut world = world();
    asks(&mut world, 1);
    stops_asking(&mut world);
    assert_eq!((world.state.try_set(&change()), world.state.builds().count()), (None, 0));
    stops_asking(&mut world);
    asks(&mut world, 1);
    assert_eq!(set(&world).builds.iter().map(|build| build.number.0).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_build_that_is_called_off_by_hand_ends_a_try_without_a_vote() {
    let mut world = world();
    asks(&mut world, 1);
    world.step(Event::Cancel { number: BuildNumber(2), reason: "by hand".to_owned() });
    run(&mut world, &[Outcome::Passed]);
    let (_, end) = set(&world).end.unwrap();
    assert_eq!((end, end.vote()), (TryEnd::Unfinished, None));
}

#[test]
fn a_change_that_nobody_can_try_is_told_so_at_once() {
    let mut world = world();
    tell(&mut world, Ok(wish(1, &[])));
    assert_eq!(words(&world), [Word::Ended]);
    assert_eq!(set(&world).end.map(|(_, end)| end), Some(TryEnd::Unfinished));
    let mut broken = wish(2, &["farmer.toml"]);
    broken.builds[0].verdict = Some((Outcome::Failed, "it cannot be read".to_owned()));
    tell(&mut world, Ok(broken));
    assert_eq!(set(&world).end.and_then(|(_, end)| end.vote()), Some(-1));
}
