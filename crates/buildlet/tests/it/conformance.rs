//! What every agent must do, whatever it runs on and however it is reached: driven over the wire, it relies on nothing
//! but a shell on the machine. `FARMER_BUILDLET` names another agent to test than the one that was built: a command with
//! its arguments, for example an emulator and a binary.

use std::time::Duration;

use buildlet_client::{ArchiveFormat, EndedByUs, Error, ExecSpec, How, TreeEntryKind};
use bytes::Bytes;
use futures_util::stream;

use crate::harness::{Farm, Machine, error, new_exec, passed, sh};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dials_conforms() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    conform(&mut machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_listens_conforms() {
    let farm = Farm::start().await;
    let mut machine = farm.listening().await;
    conform(&mut machine).await;
}

async fn conform(machine: &mut Machine) {
    tells_what_it_is(machine).await;
    runs_commands(machine).await;
    keeps_trees(machine).await;
    keeps_limits(machine).await;
    let lease = machine.held();
    machine.client.end_lease(lease).await.unwrap();
    assert_eq!(machine.client.status().await.unwrap().lease, None);
    assert!(error(machine.client.start_exec(lease, new_exec(), &sh("true")).await).is_stale_lease());
}

async fn tells_what_it_is(machine: &Machine) {
    let status = machine.client.status().await.unwrap();
    assert!(status.platform.contains('/') && status.work_folder.starts_with('/'), "{status:?}");
    assert!(status.memory_bytes > 0 && status.cpus > 0 && status.free_disk_bytes > 0, "{status:?}");
    assert!(status.clock.is_some() && !status.draining && status.broken.is_empty(), "{status:?}");
    assert_eq!(status.lease, None);
}

async fn runs_commands(machine: &mut Machine) {
    let lease = machine.lease();
    let spec = ExecSpec {
        environment: vec![("ANSWER".to_owned(), "42".to_owned())],
        stdin: "from stdin".into(),
        ..sh("cat; echo; echo $ANSWER; echo to stderr >&2; exit 3")
    };
    let (end, text) = machine.run_spec(lease, &spec).await;
    assert_eq!((end.how, text.as_str()), (How::Exited(3), "from stdin\n42\nto stderr\n"));
    let (end, _) = machine.run_spec(lease, &ExecSpec { argv: vec!["no-such".into()], ..sh("") }).await;
    assert!(matches!(end.how, How::NotStarted(_)), "{:?}", end.how);
    let (end, _) = machine.run(lease, "sleep 1000 & echo left >file").await;
    assert_eq!(end.how, passed());
    assert!(end.leftover_processes >= 1, "{end:?}");
}

async fn keeps_trees(machine: &mut Machine) {
    let lease = machine.held();
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..200_u8 {
        let mut header = tar::Header::new_gnu();
        header.set_size(1000);
        header.set_mode(0o755);
        let name = format!("src/{}/{number}", number % 7);
        builder.append_data(&mut header, name, [number; 1000].as_slice()).unwrap();
    }
    let archive = Bytes::from(builder.into_inner().unwrap());
    let client = &machine.client;
    client.write_tree(lease, "t", ArchiveFormat::Tar, stream::iter([archive])).await.unwrap();
    let listed = client.list_tree(lease, "t", &[], true).await.unwrap();
    let files = listed.iter().filter(|entry| matches!(entry.kind, TreeEntryKind::File { size: 1000, .. }));
    assert_eq!((files.count(), listed.len()), (200, 208));
    let mut chunks = client.read_tree(lease, "t", &[]).await.unwrap();
    let mut back = Vec::new();
    while let Some(chunk) = chunks.next().await {
        back.push(chunk.unwrap());
    }
    client.write_tree(lease, "u", ArchiveFormat::TarZst, stream::iter(back)).await.unwrap();
    let again = client.list_tree(lease, "u", &[], true).await.unwrap();
    assert_eq!(buildlet_client::changes(&listed, &again), buildlet_client::Changes::default());
    let escape = error(client.list_tree(lease, "../..", &[], false).await);
    assert!(matches!(escape, Error::BadPath(_)), "{escape:?}");
    client.remove(lease, &["t".to_owned(), "u".to_owned()]).await.unwrap();
    assert!(client.list_tree(lease, "t", &[], false).await.is_err());
}

async fn keeps_limits(machine: &mut Machine) {
    let lease = machine.held();
    let slow = ExecSpec { timeout: Some(Duration::from_millis(500)), ..sh("echo begun; sleep 1000") };
    let (end, text) = machine.run_spec(lease, &slow).await;
    assert_eq!((end.how, text.as_str()), (How::Ended(EndedByUs::TimedOut), "begun\n"));
    let loud = ExecSpec { max_output_bytes: Some(100_000), ..sh("while :; do echo much; done") };
    let (end, text) = machine.run_spec(lease, &loud).await;
    assert_eq!((end.how, text.len()), (How::Ended(EndedByUs::TooMuchOutput), 100_000));
    assert_eq!(machine.run(lease, "echo fine").await.1, "fine\n");
}
