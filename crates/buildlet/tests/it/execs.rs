//! Commands: what they see, what they print, how they end.

use std::time::Duration;

use buildlet_client::{EndedByUs, Error, ExecEvent, ExecSpec, How};

use crate::harness::{DEADLINE, Farm, error, follow, lease, names, new_exec, passed, sh};

fn exited(code: i32) -> How {
    How::Exited(code)
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_both_kinds_and_the_exit_code_arrive() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let (end, text) = machine.run(lease, "echo out; echo err >&2; exit 3").await;
    assert_eq!((end.how, text.as_str(), end.leftover_processes), (exited(3), "out\nerr\n", 0));
    let (end, _) = machine.run(lease, "kill -SEGV $$").await;
    assert_eq!(end.how, How::Signalled(11));
    let status = machine.client.status().await.unwrap();
    assert_eq!((status.machine.as_str(), status.lease, status.execs.len()), ("m1", Some(lease), 2));
    assert!(status.platform.starts_with("linux/") && status.cpus > 0 && status.broken.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_may_open_its_output_anew() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let script = "echo 1; echo 2 >/dev/stderr; echo 3 >/dev/stdout; echo 4";
    assert_eq!(machine.run(lease, script).await.1, "1\n2\n3\n4\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_started_says_why() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let reason = |how: How| match how {
        How::NotStarted(reason) => reason,
        other => panic!("{other:?}"),
    };
    let argv =
        |words: &[&str]| ExecSpec { argv: words.iter().map(|&word| word.to_owned()).collect(), ..sh("") };
    let (end, _) = machine.run_spec(lease, &argv(&["no-such-command"])).await;
    assert!(reason(end.how).starts_with("there is no command `no-such-command` in the PATH"));
    let (end, _) = machine.run_spec(lease, &argv(&["bin/none"])).await;
    assert_eq!(reason(end.how), "there is no command `bin/none`");
    let (end, _) = machine.run_spec(lease, &argv(&["/etc/passwd"])).await;
    assert_eq!(reason(end.how), "cannot start `/etc/passwd`: permission denied");
    let (end, _) = machine.run_spec(lease, &ExecSpec { folder: "none".to_owned(), ..sh("true") }).await;
    assert_eq!(reason(end.how), "there is no folder `none`");
    let error = error(machine.client.start_exec(lease, new_exec(), &argv(&[])).await);
    assert!(matches!(error, Error::Other { reason, .. } if reason == "BAD_REQUEST"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_sees_what_it_was_given_and_no_more() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&["--env", "OWNER=yes"]).await;
    let lease = machine.lease();
    machine
        .run(lease, "mkdir -p src/bin; printf '#!/bin/sh\necho tool $#' >src/bin/tool; chmod +x src/bin/tool")
        .await;
    let spec = ExecSpec {
        environment: vec![
            ("PATH".to_owned(), "$WORK/src/bin:$PATH".to_owned()),
            ("ANSWER".to_owned(), "42".to_owned()),
        ],
        folder: "src".to_owned(),
        stdin: "from stdin".into(),
        ..sh(
            "tool a b; pwd; echo $ANSWER $OWNER$SECRET_OF_THE_OWNER; cat; echo; cd \"$HOME\" && pwd; cd \"$TMPDIR\" && pwd",
        )
    };
    let (end, text) = machine.run_spec(lease, &spec).await;
    let work = machine.client.status().await.unwrap().work_folder;
    let expected = format!("tool 2\n{work}/src\n42 yes\nfrom stdin\n{work}/home\n{work}/tmp\n");
    assert_eq!((end.how, text), (passed(), expected));
    let environment = machine.run(lease, "env; tr '\\0' '\\n' </proc/$PPID/environ").await.1;
    assert!(!environment.contains("m1.key") && !environment.contains("hush"), "{environment}");
    let (_, text) =
        machine.run_spec(lease, &ExecSpec { argv: vec!["src/bin/tool".to_owned()], ..sh("") }).await;
    assert_eq!(text, "tool 0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_twice_starts_once() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (lease, exec) = (machine.lease(), new_exec());
    let spec = sh("echo x >>count; sleep 0.05");
    let (first, second) = tokio::join!(
        machine.client.start_exec(lease, exec, &spec),
        machine.client.start_exec(lease, exec, &spec)
    );
    assert_eq!(first.unwrap(), second.unwrap());
    machine.follow(exec, 0).await;
    assert_eq!(machine.run(lease, "cat count").await.1, "x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_broken_off_amid_a_start_ends_nothing() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let spec = sh("echo x >>$FARMER_EXEC_ID; sleep 0.02; echo end");
    // At any moment of it: nobody knows which.
    let starts = (0..40).map(|step| {
        let (client, spec) = (&machine.client, &spec);
        async move {
            let (exec, moment) = (new_exec(), Duration::from_micros(step * 200));
            let _ = tokio::time::timeout(moment, client.start_exec(lease, exec, spec)).await;
            client.start_exec(lease, exec, spec).await.unwrap();
            (exec, follow(client, exec, 0).await)
        }
    });
    for start in starts {
        let (exec, (end, text)) = start.await;
        assert_eq!((end.how, text.as_str()), (passed(), "end\n"));
        assert_eq!(machine.run(lease, &format!("cat {exec}")).await.1, "x\n", "it was started once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_ended_and_its_output_kept() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let limited = |script| ExecSpec { timeout: Some(Duration::from_millis(200)), ..sh(script) };
    let (end, text) = machine.run_spec(lease, &limited("echo begun; sleep 60")).await;
    assert_eq!((end.how, text.as_str()), (How::Ended(EndedByUs::TimedOut), "begun\n"));
    assert!(
        end.elapsed >= Duration::from_millis(200) && end.elapsed < Duration::from_secs(4),
        "{:?}",
        end.elapsed
    );
    // What ignores SIGTERM has its grace of 5 s.
    let (end, text) =
        machine.run_spec(lease, &limited("trap 'echo no' TERM; while :; do sleep 0.1; done")).await;
    assert_eq!(end.how, How::Ended(EndedByUs::TimedOut));
    assert!(text.contains("no\n") && end.elapsed >= Duration::from_secs(5), "{text:?} {:?}", end.elapsed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_prints_too_much_is_ended_at_the_byte() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let limited = |script| ExecSpec { max_output_bytes: Some(3_000_000), ..sh(script) };
    let (end, text) = machine.run_spec(lease, &limited("yes | head -c 2147483648")).await;
    assert_eq!((end.how, end.output_bytes), (How::Ended(EndedByUs::TooMuchOutput), 3_000_000));
    assert_eq!(text.len(), 3_000_000);
    let (end, _) = machine.run_spec(lease, &limited("head -c 3000000 /dev/zero")).await;
    assert_eq!((end.how, end.output_bytes), (passed(), 3_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_resumed_where_it_broke() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (lease, exec) = (machine.lease(), new_exec());
    let script =
        "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); [ $((i%40)) = 0 ] && sleep 0.02; done";
    machine.client.start_exec(lease, exec, &sh(script)).await.unwrap();
    let (mut text, mut rounds) = (String::new(), 0);
    'whole: loop {
        rounds += 1;
        let mut events = machine.client.watch_exec(exec, text.len() as u64).await.unwrap();
        for _ in 0..2 {
            match tokio::time::timeout(DEADLINE, events.next()).await.unwrap().unwrap().unwrap() {
                ExecEvent::Output { offset, data } => {
                    assert_eq!(offset, text.len() as u64);
                    text.push_str(std::str::from_utf8(&data).unwrap());
                }
                ExecEvent::Ended(_) => break 'whole,
            }
        }
    }
    assert!(rounds > 1, "the stream was never lost");
    let expected: Vec<_> = (0..400).map(|i| format!("line {i}\n")).collect();
    assert_eq!(text, expected.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_runs_on_while_the_connection_is_lost() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let (exec, _) = machine.start(lease, "echo one; until [ -e go ]; do sleep 0.01; done; echo two").await;
    let pid = machine.client.status().await.unwrap().execs[0].pid;
    drop((machine.client, machine.connection));
    let again = farm.connected().await;
    let client = buildlet_client::BuildletClient::new(again.channel.clone());
    let status = client.status().await.unwrap();
    assert_eq!((status.lease, status.execs[0].pid, &status.execs[0].end), (Some(lease), pid, &None));
    client.start_exec(lease, new_exec(), &sh("touch go")).await.unwrap();
    let (end, text) = follow(&client, exec, 4).await;
    assert_eq!((end.how, text.as_str()), (passed(), "two\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_gone_and_the_rest_is_not() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let (lease, exec) = (machine.lease(), new_exec());
    machine.client.start_exec(lease, exec, &sh("yes 1234567 | head -c 4000000")).await.unwrap();
    machine.follow(exec, 0).await;
    machine.client.acknowledge(exec, 3_000_000).await.unwrap();
    let refused = error(machine.client.watch_exec(exec, 2_999_999).await);
    assert!(matches!(refused, Error::Acknowledged(_)), "{refused:?}");
    assert_eq!(machine.follow(exec, 3_000_000).await.1, "1234567\n".repeat(125_000));
    let spool = farm.state().join("spool").join(exec.to_string());
    let on_disk = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(spool).unwrap()) * 512;
    assert!(on_disk < 3_000_000, "{on_disk} bytes are still on disk");
    assert!(
        error(machine.client.acknowledge(exec, 5_000_000).await)
            .to_string()
            .contains("cannot be acknowledged")
    );
    assert!(error(machine.client.watch_exec(new_exec(), 0).await).is_unknown_exec());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_exec_has_ended_when_the_call_returns() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let (exec, pid) =
        machine.start(lease, "trap 'echo bye; exit 7' TERM; echo $$; while :; do sleep 0.01; done").await;
    machine.client.cancel(lease, exec).await.unwrap();
    assert!(!crate::harness::lives(&pid));
    let (end, text) = machine.follow(exec, 0).await;
    assert_eq!(end.how, How::Ended(EndedByUs::Cancelled));
    assert!(text.ends_with("bye\n"), "{text:?}");
    machine.client.cancel(lease, exec).await.unwrap();
    assert!(error(machine.client.cancel(lease, new_exec()).await).is_unknown_exec());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_ends_execs() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&["--disk-floor", "1000000000"]).await;
    let lease = machine.lease();
    let (end, _) = machine.run(lease, "sleep 60").await;
    assert_eq!(end.how, How::Ended(EndedByUs::DiskFull));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_arrives_whole_and_in_order() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    let (end, text) = machine.run(lease, "seq 1 2000000").await;
    assert_eq!(end.how, passed());
    let mut expected = 0;
    for line in text.lines() {
        expected += 1;
        assert_eq!(line.parse::<u32>().unwrap(), expected);
    }
    assert_eq!(expected, 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_execs_at_once_keep_apart() {
    let mut farm = Farm::start().await;
    let mut machine = farm.buildlet(&[]).await;
    let lease = machine.lease();
    // None ends before all have begun.
    let script = |number| {
        format!(
            "touch begun-{number}; until [ $(ls -d begun-* | wc -l) = 20 ]; do sleep 0.05; done; echo {number}; exit {number}"
        )
    };
    let scripts: Vec<_> = (0..20).map(script).collect();
    let runs = scripts.iter().map(|script| machine.run(lease, script));
    for (number, (end, text)) in futures_util::future::join_all(runs).await.into_iter().enumerate() {
        assert_eq!((end.how, text), (exited(number as i32), format!("{number}\n")));
    }
    assert_eq!(machine.client.end_lease(lease).await.unwrap(), 0);
    assert_eq!(names(&farm.state().join("spool")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buildlet_also_listens_on_loopback() {
    let farm = Farm::start().await;
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = probe.local_addr().unwrap().to_string();
    drop(probe);
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_buildlet"))
        .args(["--name", "m1", "--host-type", "linux", "--log", "warn", "--listen", &address])
        .args(["--work".as_ref(), farm.work().as_os_str(), "--state".as_ref(), farm.state().as_os_str()])
        .spawn()
        .unwrap();
    let _process = crate::harness::Process(child);
    let client =
        buildlet_client::BuildletClient::new(rpc::connect(&format!("http://{address}"), None).unwrap());
    crate::harness::listens(&client).await;
    let exec = new_exec();
    client.start_exec(lease(1), exec, &sh("echo hello")).await.unwrap();
    assert_eq!(follow(&client, exec, 0).await.1, "hello\n");
}
