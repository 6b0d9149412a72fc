//! Builds that take more than they may.

use std::time::Duration;

use buildlet_client::{EndedByUs, ExecSpec, How};

use crate::harness::{Farm, Machine, names, sh};

/// The machine works on, and nothing is left once the lease has ended.
async fn clean(farm: &Farm, machine: &mut Machine, lease: buildlet_client::Lease) {
    assert_eq!(machine.run(lease, "echo fine").await.1, "fine\n");
    machine.client.end_lease(lease).await.unwrap();
    assert_eq!(names(&farm.work()), Vec::<String>::new());
    let next = machine.lease();
    assert_eq!(machine.run(next, "echo fine").await.1, "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_ended_at_its_bound() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let bomb = "b() { b | b & }; b; sleep 1000";
    let spec = ExecSpec { max_processes: Some(100), timeout: Some(Duration::from_secs(25)), ..sh(bomb) };
    let (end, _) = machine.run_spec(lease, &spec).await;
    assert_eq!(end.how, How::Ended(EndedByUs::TooManyProcesses));
    clean(&farm, &mut machine, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_much_memory_is_ended() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    // It waits for a line that does not end, and keeps all that it has read.
    let hog = "head -c 400M /dev/zero | tail -n 1 >/dev/null; s=$?; sleep 2; exit $s";
    let spec = ExecSpec { max_memory_bytes: Some(64 << 20), ..sh(hog) };
    let (end, _) = machine.run_spec(lease, &spec).await;
    assert_eq!(end.how, How::Ended(EndedByUs::OutOfMemory));
    clean(&farm, &mut machine, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fills_the_work_folder_is_ended() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&["--max-work", "8"]).await;
    let lease = machine.lease();
    let (end, _) = machine.run(lease, "head -c 20M /dev/zero >big; sleep 1000").await;
    assert_eq!(end.how, How::Ended(EndedByUs::WorkFolderFull));
    // Until what is too much is gone, the next one has no room either.
    machine.client.remove(lease, &["big".to_owned()]).await.unwrap();
    clean(&farm, &mut machine, lease).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gigabytes_of_output_end_at_the_bound() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let spec =
        ExecSpec { max_output_bytes: Some(5_000_000), ..sh("head -c 2000000000 /dev/zero; sleep 1000") };
    let (end, _) = machine.run_spec(lease, &spec).await;
    assert_eq!((end.how, end.output_bytes), (How::Ended(EndedByUs::TooMuchOutput), 5_000_000));
    clean(&farm, &mut machine, lease).await;
}
