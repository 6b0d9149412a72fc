//! Processes that try to stay.

use std::{fs, time::Duration};

use buildlet_client::{BuildletClient, EndedByUs, ExecSpec, How};
use tokio::time::Instant;

use crate::harness::{DEADLINE, Farm, follow, lives, marked, names, passed, sh, until};

/// A shell that forks twice, begins a session of its own, drops its environment, writes its pid, and sleeps for so long.
fn daemon(seconds: &str) -> String {
    format!(
        "env -i setsid sh -c '(trap \"\" TERM HUP INT; echo $$ >daemon; exec sleep {seconds}) & exec sleep 0.01' &
        until [ -s daemon ]; do sleep 0.01; done; echo started"
    )
}

/// Seconds for which only one test of one run sleeps.
fn seconds(test: u32) -> String {
    format!("{test}{:08}", std::process::id())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_forks_its_way_out_is_ended_and_counted() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let seconds = seconds(1);
    let (end, text) = machine.run(lease, &daemon(&seconds)).await;
    assert_eq!((end.how, text.as_str()), (passed(), "started\n"));
    assert!(end.leftover_processes >= 1, "{}", end.leftover_processes);
    assert_eq!(sleeping(&seconds), Vec::<String>::new(), "the daemon lives");
    assert_eq!(machine.client.end_lease(lease).await.unwrap(), end.leftover_processes);
}

/// Processes that sleep for so long.
fn sleeping(seconds: &str) -> Vec<String> {
    let wanted = format!("sleep\0{seconds}\0");
    let entries =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids = entries.filter(|pid| lives(pid));
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == wanted))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grandchild_that_holds_the_output_does_not_hold_the_end() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let begin = Instant::now();
    let (end, text) = machine.run(lease, "(sleep 30; echo late) & echo now").await;
    assert_eq!((end.how, text.as_str()), (passed(), "now\n"));
    assert!(end.leftover_processes >= 1 && begin.elapsed() < Duration::from_secs(10));
    // One that prints without end, too.
    let (end, _) = machine.run(lease, "yes & sleep 0.05").await;
    assert_eq!(end.how, passed());
    assert!(end.leftover_processes >= 1 && end.output_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_ended() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    // Bounded to what a test may ask of a machine: it keeps some 200 processes that fork as fast as they can.
    let bomb = "b() { i=0; while [ $i -lt 200 ]; do (sleep 0.01; sh -c 'sleep 0.01 &') & i=$((i+1)); done; }; while :; do b; wait; done";
    let spec = ExecSpec { timeout: Some(Duration::from_millis(300)), ..sh(bomb) };
    let (end, _) = machine.run_spec(lease, &spec).await;
    assert_eq!(end.how, How::Ended(EndedByUs::TimedOut));
    machine.client.end_lease(lease).await.unwrap();
    let lease = machine.lease();
    assert_eq!(machine.run(lease, "echo fine").await.1, "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_kills_its_warden_gains_nothing() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let seconds = seconds(2);
    let script = format!("setsid sleep {seconds} & kill -9 $PPID; sleep {seconds}");
    let (end, _) = machine.run(lease, &script).await;
    assert_eq!(end.how, How::Ended(EndedByUs::BuildletDied));
    assert_eq!(sleeping(&seconds), Vec::<String>::new());
    assert_eq!(machine.run(lease, "echo fine").await.1, "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_buildlet_leaves_no_process_and_its_successor_tells_of_it() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let done = crate::harness::new_exec();
    machine.client.start_exec(lease, done, &sh("echo done; exit 4")).await.unwrap();
    machine.follow(done, 0).await;
    let seconds = seconds(3);
    let daemon = format!("env -i setsid sh -c 'exec sleep {seconds}' &");
    let script = format!("{daemon} trap '' TERM; echo $$; while :; do sleep 1; done");
    let (exec, pid) = machine.start(lease, &script).await;
    let mark = format!("FARMER_EXEC_ID={exec}");
    assert!(!marked(&mark).is_empty());
    let (begin, buildlet) = (Instant::now(), machine.process.0.id().to_string());
    machine.process.kill();
    until("nothing is left", || {
        !lives(&pid) && marked(&mark).is_empty() && sleeping(&seconds).is_empty() && keepers(&farm).is_empty()
    })
    .await;
    assert!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());
    assert!(!lives(&buildlet));

    let again = farm.buildlet(&[]).await;
    let status = again.client.status().await.unwrap();
    assert_eq!((status.lease, status.execs.len()), (Some(lease), 2));
    let (end, text) = again.follow(exec, 0).await;
    assert_eq!((end.how, text), (How::Ended(EndedByUs::BuildletDied), format!("{pid}\n")));
    let (end, text) = again.follow(done, 0).await;
    assert_eq!((end.how, text.as_str()), (How::Exited(4), "done\n"));
    // The lease still holds and may go on.
    assert_eq!(again.run(lease, "echo on").await.1, "on\n");
    again.client.end_lease(lease).await.unwrap();
    assert_eq!(names(&farm.work()), Vec::<String>::new());
}

/// Living keepers and wardens of this farm's buildlet.
fn keepers(farm: &Farm) -> Vec<String> {
    let state = farm.state().display().to_string();
    let entries =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let ours = |pid: &String| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        lives(pid) && line.contains(&state) && line.contains("--keeper")
    };
    entries.filter(ours).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_survives_buildlet_keeper_and_warden_is_ended_by_the_successor() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let (exec, pid) = machine.start(lease, "echo $$; sleep 1000").await;
    let guards = keepers(&farm);
    assert_eq!(guards.len(), 4, "a keeper, a warden, and two that wait for the next execs");
    machine.process.0.kill().unwrap();
    for guard in &guards {
        let _ = std::process::Command::new("kill").args(["-9", guard]).status();
    }
    let again = farm.buildlet(&[]).await;
    assert!(!lives(&pid));
    assert_eq!(again.follow(exec, 0).await.0.how, How::Ended(EndedByUs::BuildletDied));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buildlet_without_its_keeper_ends() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    for keeper in keepers(&farm) {
        std::process::Command::new("kill").args(["-9", &keeper]).status().unwrap();
    }
    assert_eq!(machine.process.ended().await.code(), Some(70));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_buildlet_takes_its_execs_with_it() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let (_, pid) = machine.start(lease, "echo $$; sleep 1000").await;
    let id = machine.process.0.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(machine.process.ended().await.success());
    assert!(!lives(&pid) && keepers(&farm).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_buildlet_ends_its_execs_and_itself() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&["--orphan-after", "1s", "--exit-when-orphaned"]).await;
    let lease = machine.lease();
    let (_, pid) = machine.start(lease, "echo $$; sleep 1000").await;
    assert!(lives(&pid));
    let mut process = machine.process;
    let folder = tempfile::tempdir().unwrap();
    let farm_folder = std::mem::replace(&mut farm.folder, folder);
    drop((machine.client, machine.connection, farm));
    assert!(process.ended().await.success());
    assert!(!lives(&pid));
    drop(farm_folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_buildlet_that_stays_tells_that_its_execs_were_abandoned() {
    let mut farm = Farm::start().await;
    // The coordinator is there, but the buildlet cannot reach it for longer than the bound.
    let process = farm.process(&["--orphan-after", "300ms"]);
    let first = farm.connected().await;
    let client = BuildletClient::new(first.channel.clone());
    let (lease, exec) = (crate::harness::lease(1), crate::harness::new_exec());
    client.start_exec(lease, exec, &sh("sleep 1000")).await.unwrap();
    std::process::Command::new("kill").args(["-STOP", &process.0.id().to_string()]).status().unwrap();
    // Silence for the keep-alive's bound: the coordinator drops the connection.
    tokio::time::timeout(DEADLINE, first.closed.cancelled()).await.expect("the dead peer is not noticed");
    std::process::Command::new("kill").args(["-CONT", &process.0.id().to_string()]).status().unwrap();
    let again = farm.connected().await;
    let client = BuildletClient::new(again.channel.clone());
    let status = client.status().await.unwrap();
    assert_eq!(status.lease, Some(lease));
    // Dialling again took less than the bound, so the exec runs on; and it can be ended.
    client.cancel(lease, exec).await.unwrap();
    let how = follow(&client, exec, 0).await.0.how;
    assert!(matches!(how, How::Ended(EndedByUs::Cancelled | EndedByUs::Abandoned)), "{how:?}");
}
