//! What people who work on a machine need: input, terminals, signals, ports, lists of files; and the end of the machine.

use std::fs;

use buildlet_client::{
    Changes, Error, ExecEvent, ExecEvents, ExecSpec, Halt, Terminal, TreeEntryKind, changes,
};
use bytes::Bytes;
use futures_util::stream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::harness::{DEADLINE, Farm, error, follow, lease, new_exec, next, passed, sh, until};

/// Reads output until it contains a text; returns all of it.
async fn read_until(events: &mut ExecEvents, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        match next(events).await {
            ExecEvent::Output { data, .. } => text.push_str(&String::from_utf8_lossy(&data)),
            ExecEvent::Ended(end) => panic!("it ended: {end:?}, having said {text:?}"),
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn input_comes_in_pieces_and_counts_once() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (lease, exec) = (machine.lease(), new_exec());
    let client = &machine.client;
    let spec = ExecSpec { open_input: true, ..sh("cat; echo end") };
    client.start_exec(lease, exec, &spec).await.unwrap();
    let send = |offset, text: &'static str, close| {
        client.send_input(lease, exec, offset, Bytes::from_static(text.as_bytes()), close)
    };
    assert_eq!(send(0, "hello ", false).await.unwrap(), 6);
    // The answer was lost, so it is sent again, with more.
    assert_eq!(send(0, "hello world\n", false).await.unwrap(), 12);
    assert!(matches!(error(send(13, "gap", false).await), Error::Other { .. }));
    assert_eq!(send(12, "", true).await.unwrap(), 12);
    let (end, text) = machine.follow(exec, 0).await;
    assert_eq!((end.how, text.as_str()), (passed(), "hello world\nend\n"));
    let closed = error(send(12, "late", false).await);
    assert!(matches!(&closed, Error::Other { reason, .. } if reason == "INPUT_CLOSED"), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_reads_nothing_holds_its_input_back_and_not_the_machine() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (lease, exec) = (machine.lease(), new_exec());
    let spec = ExecSpec { open_input: true, ..sh("sleep 1000") };
    machine.client.start_exec(lease, exec, &spec).await.unwrap();
    let client = machine.client.clone();
    let sending = async { client.send_input(lease, exec, 0, vec![b'x'; 1 << 20].into(), false).await };
    let ending = async {
        assert_eq!(machine.run(lease, "echo beside").await.1, "beside\n");
        machine.client.cancel(lease, exec).await.unwrap();
    };
    let (sent, ()) = tokio::join!(sending, ending);
    assert!(matches!(sent, Err(Error::Other { reason, .. }) if reason == "INPUT_CLOSED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_and_takes_what_is_typed() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (lease, exec) = (machine.lease(), new_exec());
    let script = "test -t 0 && test -t 1 && test -t 2 || exit 9; stty size; read line; echo \"got $line\";
        trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.01; done";
    let terminal = Terminal { rows: 10, columns: 33 };
    let spec = ExecSpec { terminal: Some(terminal), ..sh(script) };
    let mut events = machine.client.run_exec(lease, exec, &spec).await.unwrap();
    read_until(&mut events, "10 33").await;
    machine.client.send_input(lease, exec, 0, Bytes::from_static(b"typed\n"), false).await.unwrap();
    let text = read_until(&mut events, "ready").await;
    assert!(text.contains("got typed"), "{text:?}");
    machine.client.resize_terminal(lease, exec, Terminal { rows: 50, columns: 120 }).await.unwrap();
    read_until(&mut events, "50 120").await;
    loop {
        if let ExecEvent::Ended(end) = next(&mut events).await {
            assert_eq!(end.how, buildlet_client::How::Exited(5));
            break;
        }
    }
    assert!(
        error(machine.client.resize_terminal(lease, exec, terminal).await).to_string().contains("terminal")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_on_a_terminal_interrupts_what_runs_in_front() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (lease, exec) = (machine.lease(), new_exec());
    let spec = ExecSpec {
        terminal: Some(Terminal { rows: 24, columns: 80 }),
        ..sh("trap 'echo interrupted; exit 4' INT; echo ready; while :; do sleep 0.01; done")
    };
    let mut events = machine.client.run_exec(lease, exec, &spec).await.unwrap();
    read_until(&mut events, "ready").await;
    machine.client.send_input(lease, exec, 0, Bytes::from_static(&[3]), false).await.unwrap();
    read_until(&mut events, "interrupted").await;
    assert_eq!(machine.follow(exec, 0).await.0.how, buildlet_client::How::Exited(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reaches_the_command() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let (exec, _) = machine
        .start(lease, "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.01; done")
        .await;
    machine.client.signal(lease, exec, 2).await.unwrap();
    let (end, text) = machine.follow(exec, 0).await;
    assert_eq!((end.how, text.as_str()), (buildlet_client::How::Exited(3), "ready\ncaught\n"));
    // It has ended: that is fine. What is no signal is not.
    machine.client.signal(lease, exec, 15).await.unwrap();
    assert!(machine.client.signal(lease, exec, 4000).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_to_a_port_and_back() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).await.unwrap();
        all.reverse();
        connection.write_all(&all).await.unwrap();
    };
    let called = async {
        let pieces: Vec<_> = (0..100_u8).map(|byte| Bytes::from(vec![byte; 10_000])).collect();
        let mut back = machine.client.forward_port(lease, port, stream::iter(pieces)).await.unwrap();
        let mut all = Vec::new();
        while let Some(some) = back.next().await {
            all.extend_from_slice(&some.unwrap());
        }
        all
    };
    let (all, ()) = tokio::time::timeout(DEADLINE, async { tokio::join!(called, served) }).await.unwrap();
    assert_eq!((all.len(), all[0], all[999_999]), (1_000_000, 99, 0));
    drop(listener);
    let closed = error(machine.client.forward_port(lease, port, stream::empty()).await);
    assert!(matches!(&closed, Error::Unavailable(text) if text.contains("port")), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lease_closes_its_ports() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut back = machine.client.forward_port(lease, port, stream::pending()).await.unwrap();
    let (mut connection, _) = listener.accept().await.unwrap();
    connection.write_all(b"hello").await.unwrap();
    assert_eq!(back.next().await.unwrap().unwrap(), "hello");
    machine.client.end_lease(lease).await.unwrap();
    let left = tokio::time::timeout(DEADLINE, connection.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(left, Ok(0) | Err(_)));
    assert!(tokio::time::timeout(DEADLINE, back.next()).await.unwrap().is_none_or(|last| last.is_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_needs_to_be_written() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    machine.run(lease, "mkdir -p t/a t/old; echo 1 >t/a/x; echo 2 >t/y; echo 3 >t/old/z; ln -s y t/l").await;
    let list = || machine.client.list_tree(lease, "t", &[], true);
    let before = list().await.unwrap();
    let paths: Vec<_> = before.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["a", "a/x", "l", "old", "old/z", "y"]);
    assert!(matches!(&before[1].kind, TreeEntryKind::File { size: 2, digest: Some(_) }));
    assert_eq!(before[2].kind, TreeEntryKind::Link("y".to_owned()));
    machine.run(lease, "echo 9 >t/a/x; rm -r t/old; touch t/y; echo new >t/new").await;
    let after = list().await.unwrap();
    let wanted =
        Changes { remove: vec!["new".to_owned()], write: vec!["a/x".into(), "old".into(), "old/z".into()] };
    assert_eq!(changes(&before, &after), wanted);
    let missing = error(machine.client.list_tree(lease, "none", &[], false).await);
    assert!(missing.to_string().contains("none"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_rebooted_if_its_owner_said_how() {
    let mut farm = Farm::start().await;
    let flag = farm.folder.path().join("rebooted");
    let command = format!("touch {}", flag.display());
    let mut machine = farm.buildlet(&["--reboot-command", &command]).await;
    let refused = error(machine.client.halt(Halt::PowerOff).await);
    assert!(matches!(&refused, Error::Other { reason, .. } if reason == "NOT_ALLOWED"), "{refused:?}");
    machine.client.halt(Halt::Reboot).await.unwrap();
    until("the command for it runs", || flag.exists()).await;
    // Until the machine is down it takes no lease.
    assert!(
        error(machine.client.start_exec(lease(1), new_exec(), &sh("true")).await)
            .to_string()
            .contains("drain")
    );
    machine.client.halt(Halt::Exit).await.unwrap();
    assert!(machine.process.ended().await.success());
}

/// Bytes of a line of it.
const LINE: usize = 6;

/// A line each millisecond, while the coordinator is lost again and again, wherever in the output that is: in the long test
/// for minutes and fifty times.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_lost_again_and_again_gets_the_whole_log_once() {
    let long = testkit::long(5);
    let (lines, losses) = if long { (100_000, 50) } else { (1500, 8) };
    let mut farm = Farm::start().await;
    let machine = farm.buildlet(&[]).await;
    let (lease, exec) = (lease(1), new_exec());
    let enough = farm.folder.path().join("enough");
    let script = format!(
        "i=0; while [ $i -lt {lines} -o ! -e {} ]; do echo $i; i=$((i+1)); sleep 0.001; done",
        enough.display()
    );
    machine.client.start_exec(lease, exec, &sh(&script)).await.unwrap();
    let pid = machine.client.status().await.unwrap().execs[0].pid;
    let mut text = Vec::new();
    let (mut client, mut connection) = (machine.client, machine.connection.unwrap());
    for _ in 0..losses {
        let until = text.len() + runtime::new_id().as_u128() as usize % (2 * LINE * lines / losses);
        let mut events = client.watch_exec(exec, text.len() as u64).await.unwrap();
        while text.len() < until {
            let ExecEvent::Output { offset, data } = next(&mut events).await else { panic!("it ended") };
            assert_eq!(offset, text.len() as u64, "a gap or a repeat");
            text.extend_from_slice(&data);
        }
        // As when its process is killed: nothing is said, the connection is just gone.
        drop((events, client, connection));
        connection = farm.connected().await;
        client = buildlet_client::BuildletClient::new(connection.channel.clone());
        let status = client.status().await.unwrap();
        assert_eq!((status.lease, status.execs[0].pid), (Some(lease), pid), "the command was disturbed");
    }
    fs::write(enough, "").unwrap();
    let (end, rest) = follow(&client, exec, text.len() as u64).await;
    text.extend_from_slice(rest.as_bytes());
    assert_eq!(end.how, passed());
    let text = String::from_utf8(text).unwrap();
    assert!(text.ends_with('\n') && text.lines().count() >= lines, "the log is not whole");
    for (number, line) in text.lines().enumerate() {
        assert_eq!(line, number.to_string());
    }
}
