//! Buildlets to test, as processes, and the coordinator's side of them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use buildlet_client::{BuildletClient, Error, ExecEnd, ExecEvent, ExecSpec, How, Lease};
use rpc::{Authority, Identity, reverse};
use runtime::Tasks;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{ExecId, Fence, LeaseId, MachineName};

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The agent to test: the one that was built, or the one that `FARMER_BUILDLET` names. It is started as in the background
/// of a script, with signals ignored that its execs must not ignore.
fn agent(group: Option<&Path>) -> Command {
    let named = std::env::var("FARMER_BUILDLET").unwrap_or_default();
    let mut words = named.split_whitespace();
    let mut command = Command::new("sh");
    let join = group.map(|group| format!("echo $$ >'{}'; ", group.display())).unwrap_or_default();
    command.args(["-c", &format!("trap '' INT HUP; {join}exec \"$0\" \"$@\"")]);
    command.arg(words.next().unwrap_or(env!("CARGO_BIN_EXE_buildlet"))).args(words);
    command
}

/// A farm's side: its authority and a place where buildlets dial in.
pub(crate) struct Farm {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) authority: Authority,
    address: SocketAddr,
    incoming: mpsc::Receiver<reverse::Incoming>,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Farm {
    /// A farm that machines may dial.
    pub(crate) async fn start() -> Self {
        Self::start_below(&std::env::temp_dir()).await
    }

    /// A farm whose folders lie below another.
    pub(crate) async fn start_below(path: &Path) -> Self {
        runtime::install_crypto();
        let folder = tempfile::tempdir_in(path).unwrap();
        let authority = Authority::create(&folder.path().join("ca")).unwrap();
        let shutdown = CancellationToken::new();
        let (sender, incoming) = mpsc::channel(16);
        let on_connect: reverse::OnConnect = Arc::new(move |connection| {
            let _ = sender.try_send(connection);
        });
        let server = rpc::Server::new("coordinator", Tasks::new(shutdown.clone()))
            .tls(&authority.issue_service("coordinator").unwrap())
            .http(reverse::router(on_connect));
        let bound = server.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = bound.addr();
        bound.start();
        Self { folder, authority, address, incoming, _shutdown: shutdown.drop_guard() }
    }

    /// A service's identity.
    pub(crate) fn service(&self, name: &str) -> Identity {
        self.authority.issue_service(name).unwrap()
    }

    /// The next machine that dials in.
    pub(crate) async fn connected(&mut self) -> reverse::Incoming {
        tokio::time::timeout(DEADLINE, self.incoming.recv()).await.expect("nobody dials in").unwrap()
    }

    /// Starts a buildlet that dials in.
    pub(crate) async fn buildlet(&mut self, options: &[&str]) -> Machine {
        let process = self.process(options);
        self.joined(process).await
    }

    /// The same in a control group, by the list of its processes.
    pub(crate) async fn buildlet_in(&mut self, group: &Path, options: &[&str]) -> Machine {
        let process = self.start_process(agent(Some(group)), options);
        self.joined(process).await
    }

    async fn joined(&mut self, process: Process) -> Machine {
        let connection = self.connected().await;
        let client = BuildletClient::new(connection.channel.clone());
        Machine { process, client, connection: Some(connection), fence: 0 }
    }

    /// Starts a buildlet without waiting for it.
    pub(crate) fn process(&self, options: &[&str]) -> Process {
        self.start_process(agent(None), options)
    }

    fn start_process(&self, mut agent: Command, options: &[&str]) -> Process {
        let keys = self.folder.path().join("keys");
        if !keys.exists() {
            fs::create_dir(&keys).unwrap();
            let name: MachineName = "m1".parse().unwrap();
            let identity = self.authority.issue_machine(&name, &["linux".parse().unwrap()]).unwrap();
            identity.save(&keys, "m1").unwrap();
        }
        let child = agent
            .args(["--name", "m1", "--host-type", "linux", "--log", "warn"])
            .arg(format!("--coordinator=https://{}", self.address))
            .args(["--identity".as_ref(), keys.join("m1.pem").as_os_str()])
            .args([keys.join("m1.key"), keys.join("ca.pem")])
            .args(["--work".as_ref(), self.work().as_os_str()])
            .args(["--state".as_ref(), self.state().as_os_str()])
            .args(options)
            .env("SECRET_OF_THE_OWNER", "hush")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process(child)
    }

    /// Starts a buildlet that listens with TLS, and dials it.
    pub(crate) async fn listening(&self) -> Machine {
        let keys = self.folder.path().join("service");
        if !keys.exists() {
            fs::create_dir(&keys).unwrap();
            self.service("buildlet").save(&keys, "b").unwrap();
        }
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap().to_string();
        drop(probe);
        let child = agent(None)
            .args(["--name", "m2", "--host-type", "linux", "--log", "warn", "--listen", &address])
            .args(["--identity".as_ref(), keys.join("b.pem").as_os_str()])
            .args([keys.join("b.key"), keys.join("ca.pem")])
            .arg("--work")
            .arg(self.folder.path().join("work2"))
            .arg("--state")
            .arg(self.folder.path().join("state2"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Process(child);
        let identity = self.service("coordinator");
        let channel = rpc::connect(&format!("https://{address}"), Some(&identity)).unwrap();
        let client = BuildletClient::new(channel);
        listens(&client).await;
        Machine { process, client, connection: None, fence: 0 }
    }

    /// The buildlet's work folder.
    pub(crate) fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    /// The buildlet's state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

/// A buildlet's process, killed at the end if it still lives.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Kills it as the system would: it can do nothing about that.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A buildlet that dialled in.
pub(crate) struct Machine {
    pub(crate) process: Process,
    pub(crate) client: BuildletClient,
    /// None if it listens.
    pub(crate) connection: Option<reverse::Incoming>,
    fence: u64,
}

impl Machine {
    /// A lease that is newer than all before.
    pub(crate) fn lease(&mut self) -> Lease {
        self.fence += 1;
        lease(self.fence)
    }

    /// The lease that was made last.
    pub(crate) fn held(&self) -> Lease {
        lease(self.fence)
    }

    /// Runs a shell script to its end.
    pub(crate) async fn run(&self, lease: Lease, script: &str) -> (ExecEnd, String) {
        self.run_spec(lease, &sh(script)).await
    }

    /// Runs a command to its end.
    pub(crate) async fn run_spec(&self, lease: Lease, spec: &ExecSpec) -> (ExecEnd, String) {
        let events = self.client.run_exec(lease, new_exec(), spec).await.unwrap();
        follow_events(events, 0).await
    }

    /// Follows an exec to its end.
    pub(crate) async fn follow(&self, exec: ExecId, offset: u64) -> (ExecEnd, String) {
        follow(&self.client, exec, offset).await
    }

    /// Starts a shell script and waits until it has printed a line.
    pub(crate) async fn start(&self, lease: Lease, script: &str) -> (ExecId, String) {
        let exec = new_exec();
        self.client.start_exec(lease, exec, &sh(script)).await.unwrap();
        let mut events = self.client.watch_exec(exec, 0).await.unwrap();
        let mut text = String::new();
        while !text.contains('\n') {
            match next(&mut events).await {
                ExecEvent::Output { data, .. } => text.push_str(std::str::from_utf8(&data).unwrap()),
                ExecEvent::Ended(end) => panic!("it ended: {end:?}, having said {text:?}"),
            }
        }
        (exec, text.trim().to_owned())
    }
}

/// The lease of a token.
pub(crate) fn lease(fence: u64) -> Lease {
    Lease { id: LeaseId(uuid::Uuid::from_u128(u128::from(fence))), fence: Fence(fence) }
}

/// An id for a new exec.
pub(crate) fn new_exec() -> ExecId {
    ExecId(runtime::new_id())
}

/// A shell script as a command.
pub(crate) fn sh(script: &str) -> ExecSpec {
    ExecSpec { argv: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()], ..ExecSpec::default() }
}

pub(crate) async fn next(events: &mut buildlet_client::ExecEvents) -> ExecEvent {
    let event = tokio::time::timeout(DEADLINE, events.next()).await.expect("nothing comes");
    event.expect("the stream ended before the exec").unwrap()
}

/// Follows an exec to its end; checks that there is no gap and no repeat.
pub(crate) async fn follow(client: &BuildletClient, exec: ExecId, offset: u64) -> (ExecEnd, String) {
    follow_events(client.watch_exec(exec, offset).await.unwrap(), offset).await
}

async fn follow_events(mut events: buildlet_client::ExecEvents, offset: u64) -> (ExecEnd, String) {
    let (mut text, mut at) = (Vec::new(), offset);
    loop {
        match next(&mut events).await {
            ExecEvent::Output { offset, data } => {
                assert_eq!(offset, at, "a gap or a repeat");
                at += data.len() as u64;
                text.extend_from_slice(&data);
            }
            ExecEvent::Ended(end) => {
                assert_eq!(at, end.output_bytes, "output is missing");
                assert!(events.next().await.is_none(), "something follows the end");
                return (end, String::from_utf8_lossy(&text).into_owned());
            }
        }
    }
}

/// How a command that exited well ends.
pub(crate) fn passed() -> How {
    How::Exited(0)
}

/// Waits until a buildlet that listens answers.
pub(crate) async fn listens(client: &BuildletClient) {
    testkit::farm::wait_until_told("it listens", DEADLINE, async || client.status().await.is_ok()).await;
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl FnMut() -> bool) {
    testkit::farm::wait_until(what, DEADLINE, holds).await;
}

/// Whether a process lives (a zombie does not).
pub(crate) fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| state != 'Z')
}

/// All living processes whose environment has a line with this text.
pub(crate) fn marked(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let has = |pid: &String| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        *pid != own && lives(pid) && environment.split(|byte| *byte == 0).any(|line| line == text.as_bytes())
    };
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).filter(has).collect()
}

/// All names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The error of a call that must fail.
pub(crate) fn error<T: std::fmt::Debug>(result: Result<T, Error>) -> Error {
    result.expect_err("it should be refused")
}
