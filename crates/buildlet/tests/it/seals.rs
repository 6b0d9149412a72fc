//! What a build sees of the machine, and what it does not.

use buildlet_client::{ExecSpec, How};

use crate::harness::{Farm, Machine, names, passed, sh};

/// A machine that keeps its secrets; none if this system gives nobody namespaces.
async fn sealed(farm: &mut Farm, options: &[&str]) -> Option<Machine> {
    let machine = farm.buildlet(options).await;
    let status = machine.client.status().await.unwrap();
    (status.work_folder == "/farmer/work" && status.key_exposed.is_empty()).then_some(machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_key_cannot_be_read_by_any_way() {
    let mut farm = Farm::start().await;
    let hidden = farm.folder.path().join("hidden");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("token"), "PRIVATE KEY").unwrap();
    let options = ["--hide", hidden.to_str().unwrap()];
    let Some(mut machine) = sealed(&mut farm, &options).await else { return };
    let lease = machine.lease();
    let key = farm.folder.path().join("keys/m1.key");
    assert!(std::fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
    let (buildlet, folder) = (machine.process.0.id(), farm.folder.path().display().to_string());
    let script = format!(
        "cat {key} {folder}/hidden/token; ls {folder}/state; cat /proc/{buildlet}/root{key} /proc/*/root{key};
        cat /proc/{buildlet}/environ; umount {folder}/keys {key} {folder}/hidden; cat {key} {folder}/hidden/token;
        unshare -Urm sh -c 'umount {key}; umount -l {folder}/keys; umount {folder}/hidden; cat {key} {folder}/hidden/token';
        grep -ras 'PRIVATE KEY' {folder}/keys {folder}/hidden {folder}/state; cd /farmer/work/../../{folder}/keys && cat m1.key; echo done",
        key = key.display()
    );
    let (end, text) = machine.run(lease, &format!("({script}) 2>&1")).await;
    assert!(!text.contains("PRIVATE KEY") && !text.contains("journal"), "{text}");
    assert!(text.ends_with("done\n") && end.how == passed(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_folder_lies_at_the_same_path_everywhere() {
    let mut farm = Farm::start().await;
    let Some(mut machine) = sealed(&mut farm, &[]).await else { return };
    let lease = machine.lease();
    let spec =
        ExecSpec { folder: "home".to_owned(), ..sh("pwd; echo $HOME $TMPDIR; echo x >here; cd ..; pwd") };
    let (_, text) = machine.run_spec(lease, &spec).await;
    assert_eq!(text, "/farmer/work/home\n/farmer/work/home /farmer/work/tmp\n/farmer/work\n");
    assert!(farm.work().join("home/here").exists());
    assert_eq!(
        machine.run(lease, "mount -t tmpfs none tmp 2>/dev/null || echo refused").await.1,
        "refused\n"
    );
    // Another folder takes its place between leases.
    machine.client.end_lease(lease).await.unwrap();
    let next = machine.lease();
    assert_eq!(machine.run(next, "pwd; echo y >next; ls").await.1, "/farmer/work\nhome\nnext\ntmp\n");
    assert!(farm.work().join("next").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_apart_sees_no_process_no_network_and_no_file_of_others() {
    let mut farm = Farm::start().await;
    let mark = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    let Some(mut machine) = sealed(&mut farm, &["--isolation", "namespaces"]).await else { return };
    let lease = machine.lease();
    let script = format!(
        "ls -d /proc/[0-9]* | wc -l; grep -c : /proc/net/dev; ls {mark} 2>&1 | grep -c 'No such'; echo x >/tmp/mine;
        touch /etc/mine 2>&1 | grep -ci 'read-only'; touch /usr/mine 2>/dev/null || echo refused; cat tmp/mine; exit 7",
        mark = mark.path().display()
    );
    let (end, text) = machine.run(lease, &script).await;
    let lines: Vec<_> = text.lines().collect();
    // The first process, the shell, `ls` and `wc`; the loopback interface alone.
    assert!(lines[0].parse::<u32>().unwrap() <= 4, "{text}");
    assert_eq!(&lines[1..], ["1", "1", "1", "refused", "x"], "{text}");
    assert_eq!(end.how, How::Exited(7));
    // Asked for, the network is there.
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap().matches(':').count();
    let spec = ExecSpec { network: true, ..sh("grep -c : /proc/net/dev") };
    assert_eq!(machine.run_spec(lease, &spec).await.1, format!("{devices}\n"));
    machine.client.end_lease(lease).await.unwrap();
    assert_eq!(names(&farm.work()), Vec::<String>::new());
    let next = machine.lease();
    assert_eq!(machine.run(next, "ls /tmp; echo x >mine && echo empty").await.1, "empty\n");
    assert_eq!(names(&farm.work()), ["home", "mine", "tmp"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_apart_ends_whole_and_tells_how() {
    let mut farm = Farm::start().await;
    let Some(mut machine) = sealed(&mut farm, &["--isolation", "namespaces"]).await else { return };
    let lease = machine.lease();
    let (end, _) = machine.run(lease, "setsid sleep 4711 & sleep 0.1; kill -9 $$").await;
    assert_eq!((end.how, end.leftover_processes), (How::Signalled(9), 1));
    let spec = ExecSpec { argv: vec!["no-such-command".to_owned()], ..ExecSpec::default() };
    let (end, _) = machine.run_spec(lease, &spec).await;
    assert!(matches!(&end.how, How::NotStarted(why) if why.contains("no-such-command")), "{:?}", end.how);
    let spec = ExecSpec {
        timeout: Some(std::time::Duration::from_millis(300)),
        ..sh("trap '' TERM; echo stays; while :; do sleep 0.05; done")
    };
    let (end, text) = machine.run_spec(lease, &spec).await;
    assert_eq!((end.how, text.as_str()), (How::Ended(buildlet_client::EndedByUs::TimedOut), "stays\n"));
    assert_eq!(machine.run(lease, "echo fine").await.1, "fine\n");
}
