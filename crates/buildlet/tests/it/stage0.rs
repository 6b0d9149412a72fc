//! A machine follows what the farm publishes, and is never without a buildlet that works.

use std::fs;

use buildlet_client::BuildletClient;
use rpc::reverse::Incoming;

use crate::{
    harness::{follow, lease, new_exec, passed, sh, until},
    office::{Flaw, Office, Running},
};

/// A stage0 of an enrolled machine.
fn stage0(office: &Office) -> Running {
    let identity = office.path("state/identity");
    fs::create_dir_all(&identity).unwrap();
    let issued =
        office.desk.authority.issue_machine(&"m1".parse().unwrap(), &["linux".parse().unwrap()]).unwrap();
    issued.save(&identity, "machine").unwrap();
    let (state, work, url) = (office.path("state"), office.path("work"), office.url());
    Office::start(&[
        "stage0",
        "--coordinator",
        &url,
        "--state",
        state.to_str().unwrap(),
        "--ask-every",
        "100ms",
        "--probation",
        "1500ms",
        "--log",
        "error",
        "--",
        "--log",
        "error",
        "--work",
        work.to_str().unwrap(),
    ])
}

/// What the builds of a connected buildlet see of who it is.
async fn mark(connection: &Incoming, fence: u64) -> String {
    let client = BuildletClient::new(connection.channel.clone());
    let (lease, exec) = (lease(fence), new_exec());
    client.start_exec(lease, exec, &sh("echo mark $MARK")).await.unwrap();
    let (end, output) = follow(&client, exec, 0).await;
    assert_eq!(end.how, passed());
    client.end_lease(lease).await.unwrap();
    output.trim().to_owned()
}

#[tokio::test]
async fn a_bad_binary_never_leaves_a_machine_without_a_good_one() {
    let mut office = Office::open().await;
    office.publish(&Office::buildlet("good"), Flaw::None);
    let stage0 = stage0(&office);
    let first = office.connected().await;
    assert_eq!(mark(&first, 1).await, "mark good");
    // Kept while the binary is on probation no longer.
    let memory = office.path("state/stage0/memory.json");
    until("the end of the probation", || {
        fs::read_to_string(&memory).is_ok_and(|text| text.contains("\"good\":\""))
    })
    .await;

    office.publish(&Office::buildlet("forged"), Flaw::ForeignSignature);
    office.publish(&Office::buildlet("torn"), Flaw::Truncated);
    until("a try of the torn one", || {
        fs::read_to_string(&memory).is_ok_and(|text| text.contains("\"number\":3"))
    })
    .await;
    office.publish("#!/bin/sh\nexit 1\n", Flaw::None);
    until("a try of the one that cannot start", || {
        fs::read_to_string(&memory)
            .is_ok_and(|text| text.contains("\"number\":4") && !text.contains("\"bad\":[]"))
    })
    .await;
    assert!(!first.closed.is_cancelled(), "so far the first goes on");
    assert_eq!(mark(&first, 2).await, "mark good");

    // It says its version, and then crashes: only running it shows that.
    office.publish("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nexit 1\n", Flaw::None);
    let second = office.connected().await;
    assert_eq!(mark(&second, 3).await, "mark good");
    // It ends at once as if all were well, as any program does that is no buildlet.
    office.publish("#!/bin/sh\nexit 0\n", Flaw::None);
    let third = office.connected().await;
    assert_eq!(mark(&third, 4).await, "mark good");

    office.publish(&Office::buildlet("better"), Flaw::None);
    let fourth = office.connected().await;
    assert_eq!(mark(&fourth, 5).await, "mark better");
    stage0.end().await;
}

#[tokio::test]
async fn a_build_in_progress_is_not_disturbed_by_an_update() {
    let mut office = Office::open().await;
    office.publish(&Office::buildlet("old"), Flaw::None);
    let stage0 = stage0(&office);
    let connection = office.connected().await;
    let client = BuildletClient::new(connection.channel.clone());
    let (lease, exec) = (lease(1), new_exec());
    let go = office.path("go");
    let script = format!("echo begun; while [ ! -e {} ]; do sleep 0.05; done; echo done", go.display());
    client.start_exec(lease, exec, &sh(&script)).await.unwrap();
    office.publish(&Office::buildlet("new"), Flaw::None);
    let drains = async || client.status().await.unwrap().draining;
    testkit::farm::wait_until_told("the old one drains", crate::harness::DEADLINE, drains).await;
    fs::write(&go, "").unwrap();
    let (end, output) = follow(&client, exec, 0).await;
    assert_eq!((end.how, output.as_str()), (passed(), "begun\ndone\n"));
    client.end_lease(lease).await.unwrap();
    let next = office.connected().await;
    assert_eq!(mark(&next, 2).await, "mark new");
    stage0.end().await;
}

#[tokio::test]
async fn without_any_release_the_program_itself_is_the_buildlet() {
    let mut office = Office::open().await;
    let stage0 = stage0(&office);
    let connection = office.connected().await;
    assert_eq!(mark(&connection, 1).await, "mark");
    stage0.end().await;
}
