//! Who holds the machine, and what is left when it is given back.

use std::{fs, os::unix::fs::PermissionsExt};

use buildlet_client::{ArchiveFormat, EndedByUs, Error, How};
use futures_util::stream;

use crate::harness::{Farm, error, lease, lives, names, new_exec, passed, sh, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lease_can_do_nothing() {
    let mut farm = Farm::start().await;
    let machine = farm.buildlet(&[]).await;
    let (old, new) = (lease(7), lease(8));
    machine.run(old, "echo mine >file").await;
    machine.run(new, "true").await;
    let client = &machine.client;
    assert!(error(client.start_exec(old, new_exec(), &sh("true")).await).is_stale_lease());
    assert!(error(client.cancel(old, new_exec()).await).is_stale_lease());
    assert!(error(client.remove(old, &[".".to_owned()]).await).is_stale_lease());
    assert!(error(client.read_tree(old, "", &[]).await).is_stale_lease());
    assert!(error(client.write_tree(old, "x", ArchiveFormat::Tar, stream::empty()).await).is_stale_lease());
    assert!(error(client.fetch_tree(old, "https://127.0.0.1:1/a.tar", "x", None).await).is_stale_lease());
    assert!(error(client.end_lease(old).await).is_stale_lease());
    assert!(error(client.end_lease(lease(3)).await).is_stale_lease());
    assert_eq!(client.status().await.unwrap().lease, Some(new));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_lease_takes_the_machine_over_clean() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let old = machine.lease();
    let (exec, pid) = machine.start(old, "echo secret >file; echo $$; sleep 60").await;
    let mut events = machine.client.watch_exec(exec, 0).await.unwrap();
    let new = machine.lease();
    assert_eq!(machine.run(new, "ls -A; ls -A \"$HOME\" \"$TMPDIR\" | grep -v :").await.1, "home\ntmp\n\n");
    assert!(!lives(&pid));
    // Whoever watched still hears how it ended.
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event.unwrap());
    }
    let Some(buildlet_client::ExecEvent::Ended(end)) = last else { panic!("{last:?}") };
    assert_eq!(end.how, How::Ended(EndedByUs::Cancelled));
    assert!(error(machine.client.watch_exec(exec, 0).await).is_unknown_exec());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lease_leaves_nothing() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let script = "mkdir -p a/b home/.cache tmp/x; echo x >a/b/f; ln -s /etc a/etc; mkfifo a/pipe; printf x >\"$(printf 'a/\\377\\n *')\"; \
                  chmod 444 a/b/f; chmod 555 a/b; chmod 000 a";
    assert_eq!(machine.run(lease, script).await.0.how, passed());
    let (_, pid) = machine.start(lease, "echo $$; trap '' TERM; while :; do sleep 1; done").await;
    machine.client.end_lease(lease).await.unwrap();
    assert!(!lives(&pid));
    assert_eq!(names(&farm.work()), Vec::<String>::new());
    assert_eq!(names(&farm.state().join("spool")), Vec::<String>::new());
    let status = machine.client.status().await.unwrap();
    assert_eq!((status.lease, status.execs.len()), (None, 0));
    // Again is fine; going on is not.
    assert_eq!(machine.client.end_lease(lease).await.unwrap(), 0);
    assert!(error(machine.client.start_exec(lease, new_exec(), &sh("true")).await).is_stale_lease());
    let next = machine.lease();
    assert_eq!(machine.run(next, "echo clean").await.1, "clean\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_is_removed_or_the_machine_says_that_it_is_not_clean() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    machine.run(lease, "mkdir m").await;
    if !mount(&farm.work().join("m")) {
        // Mounting needs privileges that this machine does not give.
        return;
    }
    machine.client.end_lease(lease).await.unwrap();
    assert_eq!(names(&farm.work()), Vec::<String>::new());
    // A file that somebody else holds open keeps the mount.
    let lease = machine.lease();
    machine.run(lease, "mkdir m").await;
    assert!(mount(&farm.work().join("m")));
    let held = fs::File::create(farm.work().join("m/file")).unwrap();
    let left = error(machine.client.end_lease(lease).await);
    assert!(matches!(&left, Error::NotClean(text) if text.contains("/m")), "{left:?}");
    let next = machine.lease();
    let refused = error(machine.client.start_exec(next, new_exec(), &sh("true")).await);
    assert!(matches!(refused, Error::TakesNoLease(_)), "{refused:?}");
    assert!(machine.client.status().await.unwrap().broken.contains("/m"));
    drop(held);
    machine.client.end_lease(lease).await.unwrap();
    assert_eq!(machine.run(next, "echo clean").await.1, "clean\n");
}

/// Mounts something, as a build with the right to do so could.
fn mount(folder: &std::path::Path) -> bool {
    let status = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(folder).status();
    status.is_ok_and(|status| status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_machine_keeps_the_home_folder_only() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&["--reuse", "shared"]).await;
    let lease = machine.lease();
    machine.run(lease, "echo x >file; echo x >home/cache").await;
    machine.client.end_lease(lease).await.unwrap();
    assert_eq!(names(&farm.work()), ["home"]);
    assert_eq!(names(&farm.work().join("home")), ["cache"]);
    assert_eq!(machine.client.status().await.unwrap().reuse, "shared");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_never_used_again_ends_after_its_lease() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&["--reuse", "never"]).await;
    let lease = machine.lease();
    machine.run(lease, "true").await;
    machine.client.end_lease(lease).await.unwrap();
    assert!(machine.process.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_machine_serves_its_lease_and_then_ends() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    machine.run(lease, "true").await;
    machine.client.drain().await.unwrap();
    assert!(machine.client.status().await.unwrap().draining);
    assert_eq!(machine.run(lease, "echo on").await.1, "on\n");
    let next = machine.lease();
    let refused = error(machine.client.start_exec(next, new_exec(), &sh("true")).await);
    assert!(matches!(refused, Error::TakesNoLease(_)), "{refused:?}");
    machine.client.end_lease(lease).await.unwrap();
    assert!(machine.process.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_machine_whose_lease_was_given_up_ends_with_the_end_of_the_next_one() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let given_up = machine.lease();
    machine.run(given_up, "true").await;
    machine.client.drain().await.unwrap();
    // A coordinator that lost sight of the machine gives it to another; what was refused a start is ended all the same.
    let next = machine.lease();
    let refused = error(machine.client.start_exec(next, new_exec(), &sh("true")).await);
    assert!(matches!(refused, Error::TakesNoLease(_)), "{refused:?}");
    machine.client.end_lease(next).await.unwrap();
    assert!(machine.process.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_removed_and_nothing_else() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    machine.run(lease, "mkdir -p a/b c/d; touch a/b/x c/d/y z; ln -s /etc out").await;
    let remove = |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(|&path| path.to_owned()).collect();
        let client = machine.client.clone();
        async move { client.remove(lease, &paths).await }
    };
    remove(&["a/b", "z", "none/at/all"]).await.unwrap();
    assert_eq!(names(&farm.work()), ["a", "c", "home", "out", "tmp"]);
    for path in ["../x", "/etc/passwd", "out/passwd", ""] {
        let refused = error(remove(&[path]).await);
        assert!(matches!(refused, Error::BadPath(_) | Error::Other { .. }), "{path}: {refused:?}");
    }
    remove(&["out"]).await.unwrap();
    remove(&["."]).await.unwrap();
    assert_eq!(names(&farm.work()), ["home", "tmp"]);
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn state_belongs_to_one_buildlet_and_is_private() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let mut second = farm.process(&[]);
    assert_eq!(second.ended().await.code(), Some(69));
    let lease = machine.lease();
    let (_, text) = machine.run(lease, "true").await;
    assert_eq!(text, "");
    let mode = fs::metadata(farm.state().join("spool")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
    until("the pid is noted", || {
        fs::read_to_string(farm.state().join("pid"))
            .is_ok_and(|pid| pid == machine.process.0.id().to_string())
    })
    .await;
}
