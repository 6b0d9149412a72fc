//! What every agent must do, whatever it runs on and however it is reached: driven over the wire, it relies on nothing on
//! the machine but a program that it brings along. `FARMER_BUILDLET` names another agent to test than the one that was
//! built: a command with its arguments, for example an emulator and a binary. `FARMER_BUILDLET_COMMANDS` names what its
//! commands are compiled for, `FARMER_BUILDLET_PLATFORM` what it should say that it runs on.

use std::time::Duration;

use buildlet_client::{
    ArchiveFormat, Changes, EndedByUs, Error, ExecEnd, ExecEvent, ExecSpec, Halt, How, Lease, TreeEntryKind,
    changes,
};
use bytes::Bytes;
use futures_util::stream;

use crate::{
    groups,
    harness::{DEADLINE, Farm, Machine, error, follow, names, new_exec, next, passed},
    puppet::{self, told},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dials_conforms() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    conform(&farm, &mut machine).await;
    goes(machine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_listens_conforms() {
    let farm = Farm::start().await;
    let mut machine = farm.listening().await;
    conform(&farm, &mut machine).await;
    goes(machine).await;
}

/// What an agent may use in [`an_agent_with_little_memory_conforms_and_needs_less_when_idle`].
const LITTLE: u64 = 512 << 20;
/// What an agent may hold of its own when it does nothing.
const IDLE: u64 = 10 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_little_memory_conforms_and_needs_less_when_idle() {
    let Some(group) = groups::with_memory(LITTLE) else { return };
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet_in(&group.list(), &[]).await;
    assert!(group.holds(machine.process.0.id()), "it is not in its group");
    conform(&farm, &mut machine).await;
    let idle = groups::memory_of(machine.process.0.id());
    eprintln!(
        "idle, the agent and its keeper hold {:.1} MiB of their own, and {:.1} MiB with their share of what they read",
        mib(idle.own),
        mib(idle.shared)
    );
    assert!(idle.own < IDLE, "{idle:?}");
    goes(machine).await;
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

async fn conform(farm: &Farm, machine: &mut Machine) {
    tells_what_it_is(machine).await;
    let lease = machine.lease();
    puppet::send(&machine.client, lease).await;
    runs_commands(machine, lease).await;
    runs_nothing_that_makes_no_sense(machine, lease).await;
    takes_input_as_it_comes(machine, lease).await;
    delivers_output_from_anywhere(machine, lease).await;
    keeps_trees(machine, lease).await;
    keeps_paths_in_the_work_folder(machine, lease).await;
    takes_no_archive_that_does_harm(farm, machine, lease).await;
    keeps_limits(machine, lease).await;
    ends_what_is_called_off(machine, lease).await;
    gives_way_to_a_newer_lease(machine, lease).await;
    ends_a_lease_with_all_of_it(farm, machine).await;
}

/// It ends when it is told to.
async fn goes(mut machine: Machine) {
    machine.client.halt(Halt::Exit).await.unwrap();
    assert!(machine.process.ended().await.success());
}

async fn run(machine: &Machine, lease: Lease, words: &[&str]) -> (ExecEnd, String) {
    machine.run_spec(lease, &told(words)).await
}

/// After something bad the machine works on.
async fn works(machine: &Machine, lease: Lease) {
    let (end, text) = run(machine, lease, &["say", "fine"]).await;
    assert_eq!((end.how, text.as_str()), (passed(), "fine\n"));
}

async fn tells_what_it_is(machine: &Machine) {
    let status = machine.client.status().await.unwrap();
    let absolute = if puppet::on_windows() {
        status.work_folder.get(1..3) == Some(":\\")
    } else {
        status.work_folder.starts_with('/')
    };
    assert!(status.platform.contains('/') && absolute, "{status:?}");
    if let Ok(platform) = std::env::var("FARMER_BUILDLET_PLATFORM") {
        assert_eq!(status.platform, platform);
    }
    assert!(status.memory_bytes > 0 && status.cpus > 0 && status.free_disk_bytes > 0, "{status:?}");
    assert!(status.clock.is_some() && !status.draining && status.broken.is_empty(), "{status:?}");
    assert!(["cgroup v2", "cgroup v1", "sampling", "none"].contains(&status.limits.as_str()), "{status:?}");
    assert_eq!(status.lease, None);
}

async fn runs_commands(machine: &Machine, lease: Lease) {
    let spec = ExecSpec {
        environment: vec![("ANSWER".to_owned(), "42".to_owned()), ("HERE".to_owned(), "$WORK".to_owned())],
        stdin: "from stdin".into(),
        folder: "puppet".to_owned(),
        ..told(&[
            "read",
            "variable",
            "ANSWER",
            "error",
            "to stderr",
            "variable",
            "HERE",
            "folder",
            "exit",
            "3",
        ])
    };
    let (end, text) = machine.run_spec(lease, &spec).await;
    let work = machine.client.status().await.unwrap().work_folder;
    let separator = if puppet::on_windows() { '\\' } else { '/' };
    let expected = format!("10:from stdin\n42\nto stderr\n{work}\n{work}{separator}puppet\n");
    assert_eq!((end.how, text), (How::Exited(3), expected));
    let (end, text) = run(machine, lease, &["variables", "variable", "SECRET_OF_THE_OWNER", "read"]).await;
    assert_eq!(end.how, passed());
    assert!(text.ends_with("unset\n0:\n") && text.contains("\nHOME=") && !text.contains("hush"), "{text}");
    let (end, text) = run(machine, lease, &["leave", "write", "file", "left", "say", "begun"]).await;
    assert_eq!((end.how.clone(), text.as_str()), (passed(), "begun\n"));
    assert!(end.leftover_processes >= 1, "{end:?}");
    let exec = new_exec();
    let once = told(&["append", "count", "sleep", "50"]);
    let started = tokio::join!(
        machine.client.start_exec(lease, exec, &once),
        machine.client.start_exec(lease, exec, &once)
    );
    assert_eq!(started.0.unwrap(), started.1.unwrap());
    follow(&machine.client, exec, 0).await;
    let listed = machine.client.list_tree(lease, ".", &["puppet".to_owned()], false).await.unwrap();
    let size = |name: &str| {
        listed.iter().find(|entry| entry.path == name).map(|entry| match entry.kind {
            TreeEntryKind::File { size, .. } => size,
            _ => 0,
        })
    };
    assert_eq!((size("count"), size("file")), (Some(2), Some(4)), "{listed:?}");
}

async fn runs_nothing_that_makes_no_sense(machine: &Machine, lease: Lease) {
    for argv in [&["no-such-command"][..], &["puppet/none"], &["puppet"], &["../up"]] {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let started = machine.client.run_exec(lease, new_exec(), &ExecSpec { argv, ..told(&[]) }).await;
        let Ok(mut events) = started else { continue };
        let event = next(&mut events).await;
        assert!(matches!(&event, ExecEvent::Ended(ExecEnd { how: How::NotStarted(_), .. })), "{event:?}");
    }
    let (end, _) =
        machine.run_spec(lease, &ExecSpec { folder: "none".to_owned(), ..told(&["say", "x"]) }).await;
    assert!(matches!(end.how, How::NotStarted(_)), "{:?}", end.how);
    let nul = || ExecSpec { argv: vec!["a\0b".to_owned()], ..told(&[]) };
    let equals = || ExecSpec { environment: vec![("A=B".to_owned(), String::new())], ..told(&[]) };
    for spec in [ExecSpec { argv: Vec::new(), ..told(&[]) }, nul(), equals()] {
        let refused = error(machine.client.start_exec(lease, new_exec(), &spec).await);
        assert!(matches!(&refused, Error::Other { reason, .. } if reason == "BAD_REQUEST"), "{refused:?}");
    }
    let unknown = error(machine.client.watch_exec(new_exec(), 0).await.map(|_| ()));
    assert!(matches!(unknown, Error::UnknownExec(_)), "{unknown:?}");
    works(machine, lease).await;
}

async fn takes_input_as_it_comes(machine: &Machine, lease: Lease) {
    let exec = new_exec();
    let spec = ExecSpec { open_input: true, ..told(&["read"]) };
    let client = &machine.client;
    client.start_exec(lease, exec, &spec).await.unwrap();
    assert_eq!(client.send_input(lease, exec, 0, "hello ".into(), false).await.unwrap(), 6);
    assert_eq!(client.send_input(lease, exec, 3, "lo world".into(), false).await.unwrap(), 11);
    assert!(client.send_input(lease, exec, 99, "x".into(), false).await.is_err());
    client.send_input(lease, exec, 11, "".into(), true).await.unwrap();
    let (end, text) = follow(client, exec, 0).await;
    assert_eq!((end.how, text.as_str()), (passed(), "11:hello world\n"));
    assert!(client.send_input(lease, exec, 11, "x".into(), false).await.is_err());
}

async fn delivers_output_from_anywhere(machine: &Machine, lease: Lease) {
    let exec = new_exec();
    machine.client.start_exec(lease, exec, &told(&["count", "5000"])).await.unwrap();
    let (end, whole) = follow(&machine.client, exec, 0).await;
    let lines: Vec<_> = (0..5000).map(|line| format!("line {line}\n")).collect();
    let expected = lines.concat();
    assert!(end.how == passed() && whole == expected, "{} bytes of {}", whole.len(), expected.len());
    for offset in [1, 7, 30_000, expected.len()] {
        let (again, rest) = follow(&machine.client, exec, offset as u64).await;
        assert!(again == end && rest == expected[offset..], "from {offset}");
    }
    assert!(machine.client.watch_exec(exec, expected.len() as u64 + 1).await.is_err());
    machine.client.acknowledge(exec, 100).await.unwrap();
    let gone = error(machine.client.watch_exec(exec, 99).await.map(|_| ()));
    assert!(matches!(gone, Error::Acknowledged(_)), "{gone:?}");
    assert_eq!(follow(&machine.client, exec, 100).await.1, expected[100..]);
}

async fn keeps_trees(machine: &Machine, lease: Lease) {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..200_u8 {
        let mut header = tar::Header::new_gnu();
        header.set_size(1000);
        header.set_mode(0o755);
        let name = format!("src/{}/{number}", number % 7);
        builder.append_data(&mut header, name, [number; 1000].as_slice()).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    let client = &machine.client;
    for (folder, format, bytes) in [
        ("t", ArchiveFormat::Tar, archive.clone()),
        ("z", ArchiveFormat::TarGz, gzip(&archive)),
        ("s", ArchiveFormat::TarZst, zstd::encode_all(archive.as_slice(), 1).unwrap()),
    ] {
        let chunks: Vec<_> = bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
        client.write_tree(lease, folder, format, stream::iter(chunks)).await.unwrap();
    }
    let listed = client.list_tree(lease, "t", &[], true).await.unwrap();
    let files = listed.iter().filter(|entry| matches!(entry.kind, TreeEntryKind::File { size: 1000, .. }));
    assert_eq!((files.count(), listed.len()), (200, 208));
    assert!(listed.iter().any(|entry| entry.path == "src/6/6"), "names are separated by `/`");
    for folder in ["z", "s"] {
        let same = client.list_tree(lease, folder, &[], true).await.unwrap();
        assert_eq!(changes(&listed, &same), Changes::default());
    }
    let mut chunks = client.read_tree(lease, "t", &["src/3".to_owned()]).await.unwrap();
    let mut back = Vec::new();
    while let Some(chunk) = chunks.next().await {
        back.push(chunk.unwrap());
    }
    client.write_tree(lease, "u", ArchiveFormat::TarZst, stream::iter(back)).await.unwrap();
    let again = client.list_tree(lease, "u", &[], true).await.unwrap();
    let difference = changes(&listed, &again);
    assert!(difference.remove.is_empty() && difference.write.len() == 30, "{difference:?}");
    client.remove(lease, &["t".to_owned(), "u".to_owned(), "none".to_owned()]).await.unwrap();
    assert!(client.list_tree(lease, "t", &[], false).await.is_err());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

async fn keeps_paths_in_the_work_folder(machine: &Machine, lease: Lease) {
    let mut paths = vec!["..", "../..", "a/../..", "/", "/etc", "a\0b", "puppet/../../x"];
    if puppet::on_windows() {
        paths.extend([
            "C:",
            "C:/x",
            "c:x",
            "\\x",
            "..\\..",
            "a\\..\\..\\x",
            "\\\\host\\share",
            "//?/C:/x",
            "nul",
        ]);
        paths.extend(["a/CON", "com1.txt", "x:stream", "puppet::$INDEX_ALLOCATION", "trailing.", "blank "]);
    }
    for path in paths {
        let client = &machine.client;
        let nothing = || stream::iter(Vec::<Bytes>::new());
        let refused = [
            error(client.list_tree(lease, path, &[], false).await),
            error(client.write_tree(lease, path, ArchiveFormat::Tar, nothing()).await),
            error(client.read_tree(lease, path, &[]).await.map(|_| ())),
            error(client.remove(lease, &[path.to_owned()]).await),
            error(
                client
                    .start_exec(lease, new_exec(), &ExecSpec { folder: path.to_owned(), ..told(&[]) })
                    .await,
            ),
        ];
        assert!(refused.iter().all(|error| matches!(error, Error::BadPath(_))), "{path:?}: {refused:?}");
    }
    works(machine, lease).await;
}

/// An archive of entries of a kind, with the names and links as they are: no library would write these.
fn raw(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link) in entries {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        let content: &[u8] = if *kind == tar::EntryType::Regular { b"escaped" } else { b"" };
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

async fn takes_no_archive_that_does_harm(farm: &Farm, machine: &Machine, lease: Lease) {
    use tar::EntryType::{Block, Char, Fifo, Link, Regular, Symlink};
    let before = names(farm.folder.path());
    let mut bad = vec![
        raw(&[(Regular, "../escaped", "")]),
        raw(&[(Regular, "a/../../escaped", "")]),
        raw(&[(Regular, "/escaped", "")]),
        raw(&[(Symlink, "up", "../.."), (Regular, "up/escaped", "")]),
        raw(&[(Link, "hard", "../../ca/ca.key")]),
        raw(&[(Symlink, "up", ".."), (Link, "hard", "up/ca/ca.key")]),
        raw(&[(Char, "device", "")]),
        raw(&[(Block, "device", "")]),
        raw(&[(Fifo, "pipe", "")]),
        b"this is no archive, but it is longer than nothing".repeat(20),
        raw(&[(Regular, "cut", "")])[..515].to_vec(),
    ];
    if puppet::on_windows() {
        for name in
            ["C:/escaped", "..\\escaped", "a\\..\\..\\escaped", "nul", "x:stream", "trailing.", "a/aux.c"]
        {
            bad.push(raw(&[(Regular, name, "")]));
        }
    }
    for (number, archive) in bad.into_iter().enumerate() {
        let chunks = stream::iter([Bytes::from(archive)]);
        let refused = machine.client.write_tree(lease, "bad/in", ArchiveFormat::Tar, chunks).await;
        let refused = error(refused);
        // Few may make links on Windows, so some of these fail before they could do harm.
        let clear = matches!(refused, Error::BadArchive(_)) || puppet::on_windows();
        assert!(clear, "archive {number}: {refused:?}");
    }
    let cut = gzip(&raw(&[(Regular, "x", "")]));
    let chunks = stream::iter([Bytes::from(cut[..cut.len() / 2].to_vec())]);
    let refused = error(machine.client.write_tree(lease, "bad", ArchiveFormat::TarGz, chunks).await);
    assert!(matches!(refused, Error::BadArchive(_)), "{refused:?}");
    assert_eq!(names(farm.folder.path()), before);
    machine.client.remove(lease, &["bad".to_owned()]).await.unwrap();
    works(machine, lease).await;
}

async fn keeps_limits(machine: &Machine, lease: Lease) {
    let slow = ExecSpec {
        timeout: Some(Duration::from_millis(1500)),
        ..told(&["say", "begun", "leave", "sleep", "1000000"])
    };
    let (end, text) = machine.run_spec(lease, &slow).await;
    assert_eq!((end.how, text.as_str()), (How::Ended(EndedByUs::TimedOut), "begun\n"));
    let loud = ExecSpec { max_output_bytes: Some(100_000), ..told(&["flood"]) };
    let (end, text) = machine.run_spec(lease, &loud).await;
    assert_eq!((end.how, text.len()), (How::Ended(EndedByUs::TooMuchOutput), 100_000));
    let exact = ExecSpec { max_output_bytes: Some(6), ..told(&["say", "exact"]) };
    assert_eq!(machine.run_spec(lease, &exact).await.0.how, passed());
    works(machine, lease).await;
}

async fn started(machine: &Machine, lease: Lease) -> types::ExecId {
    let exec = new_exec();
    machine.client.start_exec(lease, exec, &told(&["leave", "say", "up", "sleep", "1000000"])).await.unwrap();
    let mut events = machine.client.watch_exec(exec, 0).await.unwrap();
    let event = next(&mut events).await;
    assert!(matches!(event, ExecEvent::Output { offset: 0, .. }), "{event:?}");
    exec
}

async fn ends_what_is_called_off(machine: &Machine, lease: Lease) {
    let exec = started(machine, lease).await;
    machine.client.cancel(lease, exec).await.unwrap();
    machine.client.cancel(lease, exec).await.unwrap();
    assert_eq!(follow(&machine.client, exec, 0).await.0.how, How::Ended(EndedByUs::Cancelled));
    assert!(matches!(error(machine.client.cancel(lease, new_exec()).await), Error::UnknownExec(_)));
    works(machine, lease).await;
}

async fn gives_way_to_a_newer_lease(machine: &mut Machine, old: Lease) {
    let exec = started(machine, old).await;
    let newer = machine.lease();
    puppet::send(&machine.client, newer).await;
    let gone = error(machine.client.watch_exec(exec, 0).await.map(|_| ()));
    assert!(matches!(gone, Error::UnknownExec(_)), "{gone:?}");
    assert!(error(machine.client.start_exec(old, new_exec(), &told(&[])).await).is_stale_lease());
    assert!(error(machine.client.remove(old, &["puppet".to_owned()]).await).is_stale_lease());
    works(machine, newer).await;
}

async fn ends_a_lease_with_all_of_it(farm: &Farm, machine: &Machine) {
    let lease = machine.held();
    started(machine, lease).await;
    let ended = tokio::time::timeout(DEADLINE, machine.client.end_lease(lease)).await.expect("it hangs");
    ended.unwrap();
    let status = machine.client.status().await.unwrap();
    assert!(status.lease.is_none() && status.execs.is_empty() && status.broken.is_empty(), "{status:?}");
    let work = if machine.connection.is_some() { farm.work() } else { farm.folder.path().join("work2") };
    assert_eq!(names(&work), Vec::<String>::new());
    assert!(error(machine.client.start_exec(lease, new_exec(), &told(&[])).await).is_stale_lease());
    assert_eq!(machine.client.end_lease(lease).await.unwrap(), 0);
}
