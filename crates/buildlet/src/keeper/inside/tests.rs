use std::{fs::File, path::Path, time::Duration};

use tokio::time::Instant;

use super::*;
use crate::{
    keeper::{
        StopReason,
        contract::{Ended, Start},
    },
    platform,
};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(30);

struct Kept {
    folder: tempfile::TempDir,
    keeper: Keeper,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::of(folder.path().to_owned());
        Self { folder, keeper }
    }

    fn command(&self, script: &str) -> Command {
        Command {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            environment: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            work_folder: self.folder.path().display().to_string(),
            folder: String::new(),
            stdin: false,
            terminal: false,
            sealed: false,
            apart: None,
            timeout_ms: 20_000,
            max_output_bytes: 1 << 20,
        }
    }

    async fn start(&self, command: &Command, stdin: &[u8]) -> (WardenReader, WardenWriter) {
        let spool = File::options().append(true).create(true).open(self.spool()).unwrap();
        let mut input = platform::nameless_file(self.folder.path()).unwrap();
        std::io::Write::write_all(&mut input, stdin).unwrap();
        std::io::Seek::rewind(&mut input).unwrap();
        let start = Start { spool, stdin: Some(input.into()), terminal: None, groups: Vec::new() };
        self.keeper.start(command, start).await.unwrap().split()
    }

    fn spool(&self) -> std::path::PathBuf {
        self.folder.path().join("spool")
    }

    async fn run(&self, command: &Command) -> (Ended, String) {
        let (mut reader, writer) = self.start(command, b"from stdin").await;
        assert!(matches!(reader.next().await.unwrap(), Some(FromWarden::Started { pid: 1.. })));
        let ended = ended(&mut reader).await;
        drop(writer);
        assert_eq!(reader.next().await.unwrap(), None);
        assert!(self.keeper.running.held().is_empty());
        (ended, std::fs::read_to_string(self.spool()).unwrap())
    }
}

async fn ended(reader: &mut WardenReader) -> Ended {
    let begin = Instant::now();
    let mut bytes = 0;
    loop {
        assert!(begin.elapsed() < DEADLINE, "it does not end");
        match reader.next().await.unwrap() {
            Some(FromWarden::Output { bytes: now }) => {
                assert!(now > bytes, "no news");
                bytes = now;
            }
            Some(FromWarden::Ended(ended)) => return ended,
            other => panic!("{other:?}"),
        }
    }
}

async fn gone(file: &Path) {
    let pid: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let what = format!("process {pid} ends");
    testkit::farm::wait_until(&what, DEADLINE, || !platform::is_alive(pid)).await;
}

#[tokio::test]
async fn output_input_folder_and_exit_code_are_the_commands() {
    let kept = Kept::new();
    std::fs::create_dir(kept.folder.path().join("sub")).unwrap();
    let mut command = kept.command("cat; echo; echo to stderr >&2; basename \"$PWD\"; exit 3");
    command.folder = "sub".to_owned();
    let (ended, text) = kept.run(&command).await;
    assert_eq!((ended.code, ended.signal, ended.stopped), (Some(3), None, None));
    assert_eq!(text, "from stdin\nto stderr\nsub\n");
    assert_eq!((ended.bytes, ended.leftovers), (text.len() as u64, 0));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let kept = Kept::new();
    let mut command = kept.command("");
    command.argv = vec!["no-such".to_owned()];
    let (mut reader, _writer) = kept.start(&command, b"").await;
    let Some(FromWarden::NotStarted { reason }) = reader.next().await.unwrap() else { panic!("it started") };
    assert!(reason.starts_with("there is no command `no-such` in the PATH"), "{reason}");
    assert_eq!(reader.next().await.unwrap(), None);
    let mut command = kept.command("true");
    command.folder = "../up".to_owned();
    let (mut reader, _writer) = kept.start(&command, b"").await;
    assert!(matches!(reader.next().await.unwrap(), Some(FromWarden::NotStarted { .. })));
}

#[tokio::test]
async fn what_a_command_leaves_in_its_group_is_ended() {
    let kept = Kept::new();
    let (ended, _) = kept.run(&kept.command("sleep 1000 & echo $! >left; exit 0")).await;
    assert_eq!((ended.code, ended.leftovers, ended.remaining), (Some(0), 1, 0));
    gone(&kept.folder.path().join("left")).await;
}

#[tokio::test]
async fn time_and_output_are_bounded() {
    let kept = Kept::new();
    let mut slow = kept.command("echo begun; sleep 1000");
    slow.timeout_ms = 200;
    let (ended, text) = kept.run(&slow).await;
    assert_eq!((ended.stopped, text.as_str()), (Some(StopReason::TimedOut), "begun\n"));
    let kept = Kept::new();
    let mut loud = kept.command("while :; do echo much; done");
    loud.max_output_bytes = 1000;
    let (ended, text) = kept.run(&loud).await;
    assert_eq!((ended.stopped, ended.bytes, text.len()), (Some(StopReason::TooMuchOutput), 1000, 1000));
    let kept = Kept::new();
    let mut exact = kept.command("printf 12345");
    exact.max_output_bytes = 5;
    let (ended, text) = kept.run(&exact).await;
    assert_eq!((ended.stopped, text.as_str()), (None, "12345"));
}

#[tokio::test]
async fn a_command_is_stopped_with_grace_or_without_and_hears_signals() {
    let kept = Kept::new();
    let stubborn = kept.command("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    for (grace_ms, number) in [(100, None), (0, None), (20_000, Some(9))] {
        let (mut reader, mut writer) = kept.start(&stubborn, b"").await;
        let ready = async |reader: &mut WardenReader| {
            while !matches!(reader.next().await.unwrap(), Some(FromWarden::Output { .. })) {}
        };
        ready(&mut reader).await;
        writer.send(&ToWarden::Stop { reason: StopReason::Cancelled, grace_ms }).await;
        if let Some(number) = number {
            writer.send(&ToWarden::Signal { number }).await;
        }
        let ended = ended(&mut reader).await;
        assert_eq!((ended.stopped, ended.signal), (Some(StopReason::Cancelled), Some(9)));
    }
}

#[tokio::test]
async fn an_exec_that_nobody_follows_any_more_is_ended() {
    let kept = Kept::new();
    let (mut reader, _writer) = kept.start(&kept.command("echo $$ >pid; echo up; sleep 1000"), b"").await;
    while !matches!(reader.next().await.unwrap(), Some(FromWarden::Output { .. })) {}
    drop(reader);
    gone(&kept.folder.path().join("pid")).await;
    assert_eq!(kept.keeper.prove().await.unwrap(), Proof { strays: 0, remaining: 0 });
}
