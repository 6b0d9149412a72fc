//! A restart kills no build; a lost machine costs its shard a few seconds and nothing else.

use api::coordinator::{Outcome, Phase};

use crate::{builds::SHARDED, farm::TestFarm};

fn slow(gate: &std::path::Path) -> String {
    format!(
        "[[builders]]\nname = 'linux'\nhost = 'local'\nmake = ['echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two']\n\
         [builders.tests]\nrun = 'echo tested'\n",
        gate.display()
    )
}

#[tokio::test]
async fn a_command_goes_on_while_the_coordinator_is_started_again() {
    let mut farm = TestFarm::start().await;
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let machine = farm.machine("m1");
    let cut = farm.connect(&machine).await;
    farm.project.push('a', None, &slow(&gate));
    farm.until(1, |build| build.phase() == Phase::Make).await;
    while farm.log(1, false).await != "one\n" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    farm.stop_coordinator().await;
    cut.cancel();
    farm.start_coordinator().await;
    farm.connect(&machine).await;
    std::fs::write(&gate, "").unwrap();
    let build = farm.ended(1).await;
    assert_eq!((build.outcome(), build.attempts.len()), (Outcome::Passed, 1), "{build:?}");
    assert_eq!(farm.log(1, false).await, "one\ntwo\ntested\n");
    assert_eq!(machine.started(), 2, "no command was begun twice");
    assert_eq!(farm.results(1).await, ["passed"]);
    farm.finish().await;
}

#[tokio::test]
async fn a_connection_that_comes_back_in_time_costs_nothing() {
    let farm = TestFarm::start().await;
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let machine = farm.machine("m1");
    let cut = farm.connect(&machine).await;
    farm.project.push('a', None, &slow(&gate));
    farm.until(1, |build| build.phase() == Phase::Make).await;
    cut.cancel();
    farm.connect(&machine).await;
    std::fs::write(&gate, "").unwrap();
    let build = farm.ended(1).await;
    assert_eq!((build.outcome(), build.attempts.len()), (Outcome::Passed, 1), "{build:?}");
    assert_eq!(farm.log(1, false).await, "one\ntwo\ntested\n");
    farm.finish().await;
}

#[tokio::test]
async fn the_shard_of_a_lost_machine_is_run_by_another() {
    let farm = TestFarm::start().await;
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    // It ends with the test, which removes the folder. Only the helper gets the biggest shard, and only the first to run it waits.
    let wait = format!(
        "case $t in d) if mkdir {0}.first; then while [ -d {0}.first ]; do sleep 0.01; done; fi;; esac",
        gate.display()
    );
    let file = SHARDED.replace("echo ran $t", &format!("{wait}; echo ran $t"));
    let machines = [farm.machine("m1"), farm.machine("m2")];
    let first = farm.connect(&machines[0]).await;
    let second = farm.connect(&machines[1]).await;
    farm.project.push('a', None, &file);
    let holds = |build: &api::coordinator::Build| {
        let shards = build.attempts.last().map(|attempt| attempt.shards.clone()).unwrap_or_default();
        shards.len() == 4
            && shards.iter().filter(|shard| shard.outcome == 0).count() == 1
            && shards.iter().all(|shard| shard.started.is_some())
    };
    let build = farm.until(1, holds).await;
    let shard = build.attempts[0].shards.iter().find(|shard| shard.outcome == 0).unwrap();
    if shard.machine == "m1" {
        first.cancel();
    } else {
        second.cancel();
    }
    let build = farm.ended(1).await;
    assert_eq!((build.outcome(), build.attempts.len()), (Outcome::Passed, 1), "{build:#?}");
    let repeated = build.attempts[0].shards.iter().find(|shard| shard.tries == 2).unwrap();
    assert!(repeated.note.contains("was lost"), "{}", repeated.note);
    assert_eq!(farm.log(1, false).await, "made\nran a\nran b\nran c\nran d\n");
    farm.finish().await;
}
