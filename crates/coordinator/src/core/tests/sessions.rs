//! The rules of sessions as sentences.

use std::time::Duration;

use types::{SessionId, SessionName};

use super::world::{World, new_build, plan};
use crate::core::{Class, Event, Session};

fn session(world: &World, id: SessionId) -> Session {
    world.state.session_by_id(id).unwrap().clone()
}

/// A session that has its machine.
fn seated(world: &mut World) -> SessionId {
    world.connect("m1");
    let id = world.sit("ada");
    world.prepared(Ok("nothing"));
    assert!(session(world, id).seat.unwrap().ready.is_some());
    id
}

#[test]
fn a_session_gets_an_idle_machine_and_gives_it_back_clean() {
    let mut world = World::new();
    let id = seated(&mut world);
    assert_eq!(session(&world, id).name.as_str(), "ada-local-0");
    world.step(Event::EndSession { name: session(&world, id).name, reason: "ada gave it up".to_owned() });
    assert_eq!(world.cleaning.len(), 1);
    world.clean_all();
    assert!(world.state.machines().all(crate::core::Machine::is_idle));
    assert_eq!(world.tables.partings, ["ada-local-0: ada gave it up"]);
}

#[test]
fn a_request_that_is_repeated_makes_no_second_session() {
    let mut world = World::new();
    let id = world.sit("ada");
    let again = session(&world, id);
    world.step(Event::CreateSession(Box::new(crate::core::NewSession {
        id,
        stem: "ada-local".to_owned(),
        owner: "ada".into(),
        group: String::new(),
        host: again.host,
        setting: again.setting,
        idle: again.idle,
    })));
    assert_eq!(world.state.sessions().count(), 1);
}

#[test]
fn sessions_take_the_first_free_name_and_no_more_than_their_share() {
    let mut world = World::new();
    let first = world.sit("ada");
    let second = world.sit("ada");
    assert_eq!(session(&world, second).name.as_str(), "ada-local-1");
    world.step(Event::EndSession { name: session(&world, first).name, reason: String::new() });
    let third = world.sit("ada");
    assert_eq!(session(&world, third).name.as_str(), "ada-local-0");
    for _ in 0..100 {
        world.sit("ada");
    }
    assert_eq!(world.state.sessions().count(), crate::core::Limits::default().sessions);
    world.sit("bob");
    assert_eq!(world.state.sessions().count(), crate::core::Limits::default().sessions + 1);
}

#[test]
fn batch_work_makes_room_for_a_session_and_a_release_goes_before_it() {
    let mut world = World::new();
    world.connect("m1");
    world.accept(new_build(1, plan(0, false, false)));
    assert_eq!(world.tasks(), ["m1 source"]);
    let id = world.sit("ada");
    assert!(world.running.is_empty(), "its machine was taken from it");
    let mut release = new_build(2, plan(0, false, false));
    release.class = Class::Release;
    world.accept(release);
    assert_eq!(world.state.session_position(&session(&world, id).name), Some(2));
    let wait = world.state.session_wait(&session(&world, id).name).unwrap();
    assert!(wait.text.starts_with("1 build or session for `local` is served before it"), "{}", wait.text);
    world.clean_all();
    assert_eq!(world.tasks(), ["m1 source"]);
    assert!(session(&world, id).seat.is_none());
}

#[test]
fn people_are_served_in_the_order_in_which_they_asked() {
    let mut world = World::new();
    let mut early = new_build(1, plan(0, false, false));
    early.class = Class::Interactive;
    world.accept(early);
    world.pass(1);
    let id = world.sit("ada");
    world.pass(1);
    let mut late = new_build(2, plan(0, false, false));
    late.class = Class::Interactive;
    world.accept(late);
    world.connect("m1");
    world.connect("m2");
    assert_eq!(world.tasks(), ["m1 source"]);
    assert_eq!(session(&world, id).seat.unwrap().machine.as_str(), "m2");
}

#[test]
fn a_session_that_nobody_uses_ends_and_one_that_is_used_goes_on() {
    let mut world = World::new();
    let id = seated(&mut world);
    let name = session(&world, id).name;
    for _ in 0..4 {
        world.pass(20 * 60);
        world.step(Event::TouchSession { name: name.clone(), hold: None });
    }
    assert!(world.state.session_by_id(id).is_some());
    world.pass(30 * 60);
    assert_eq!(world.tables.partings, ["ada-local-0: nobody used it for 30 min"]);
}

#[test]
fn a_session_is_held_for_as_long_as_asked_but_a_week_at_most() {
    let mut world = World::new();
    let id = seated(&mut world);
    let name: SessionName = session(&world, id).name;
    let day = 24 * 3600;
    world.step(Event::TouchSession { name: name.clone(), hold: Some(Duration::from_secs(2 * day)) });
    world.pass(2 * day - 1);
    assert!(world.state.session_by_id(id).is_some());
    world.step(Event::TouchSession { name, hold: Some(Duration::from_secs(30 * day)) });
    world.pass(5 * day + 1);
    assert_eq!(
        world.tables.partings,
        ["ada-local-0: it was held for 7 days, the longest that a session may"]
    );
}

#[test]
fn a_restart_ends_no_session() {
    let mut world = World::new();
    let id = seated(&mut world);
    world.pass(29 * 60);
    world.restart();
    world.now = world.now + Duration::from_secs(15);
    world.connect("m1");
    world.pass(120);
    assert_eq!(session(&world, id).seat.unwrap().ready.unwrap().found, "nothing");
    assert!(world.tables.partings.is_empty());
}

#[test]
fn a_machine_that_is_gone_or_empty_ends_its_session_with_a_word() {
    let mut world = World::new();
    seated(&mut world);
    world.disconnect("m1");
    world.pass(60);
    world.connect("m1");
    world.clean_all();
    let id = world.sit("bob");
    world.prepared(Ok("nothing"));
    world.disconnect("m1");
    world.wipe("m1");
    world.connect("m1");
    assert!(world.state.session_by_id(id).is_none());
    assert_eq!(
        world.tables.partings,
        [
            "ada-local-0: machine `m1` was lost: its connection is gone",
            "bob-local-0: its machine came back without what was on it"
        ]
    );
}

#[test]
fn a_machine_that_cannot_be_made_ready_ends_its_session_and_is_cleaned() {
    let mut world = World::new();
    world.connect("m1");
    world.sit("ada");
    world.prepared(Err("the archive is gone"));
    assert_eq!(world.tables.partings, ["ada-local-0: the archive is gone"]);
    assert_eq!(world.cleaning.len(), 1);
}

#[test]
fn what_is_not_ready_is_begun_again_when_its_machine_is_back() {
    let mut world = World::new();
    world.connect("m1");
    let id = world.sit("ada");
    world.disconnect("m1");
    world.connect("m1");
    assert_eq!(world.preparing.len(), 1);
    world.prepared(Ok("nothing"));
    assert!(session(&world, id).seat.is_some());
}
