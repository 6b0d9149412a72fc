//! Debugging sessions by plain OpenSSH. Where it is not installed, the stories say that they were skipped.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use testkit::{Farm, Options, Repository, farm};

use crate::simple;

/// Whether programs are installed; says so if one is not.
fn have(story: &str, programs: &[&str]) -> bool {
    let there = |program: &&&str| {
        let found = Command::new("sh").args(["-c", "command -v \"$0\" > /dev/null", program]).status();
        !found.is_ok_and(|status| status.success())
    };
    let missing = programs.iter().find(there);
    if let Some(missing) = missing {
        testkit::skipped(story, missing, "apt-get install openssh-client openssh-sftp-server rsync");
    }
    missing.is_none()
}

/// A farm with one session, and a user whose `ssh` knows the way.
struct Story {
    farm: Farm,
    repository: Repository,
    home: tempfile::TempDir,
    session: String,
}

impl Story {
    async fn begin() -> Self {
        let repository = simple("true", "true");
        let farm = Farm::start(repository.path(), Options { buildlets: Some(1), ..Options::default() }).await;
        farm.wait_for_builds(|builds| builds.iter().any(|build| !build["ended"].is_null())).await;
        let home = tempfile::tempdir().expect("make a temporary folder");
        let mut story = Self { farm, repository, home, session: String::new() };
        story.session = text(&story.gomote(&["create", "simple", "--owner", "ada"]));
        let config = text(&story.gomote(&["ssh-config", &story.session])) + "\n";
        fs::write(story.path("config"), config).expect("write the configuration");
        story
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn wallet(&self) -> PathBuf {
        self.path(".config/farmer/ssh")
    }

    /// As this user: nothing of the real one's.
    fn user(&self, mut command: Command) -> Command {
        command.env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME").env_remove("SSH_AUTH_SOCK");
        command.env("FARMER_DATA", self.farm.data());
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    fn gomote(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(farm::binary("farmer"));
        command.arg("gomote").args(arguments);
        self.user(command).output().expect("start farmer")
    }

    /// A program of OpenSSH.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(self.path("config")).args(["-o", "BatchMode=yes"]).args(arguments);
        self.user(command)
    }

    fn ssh(&self, arguments: &[&str]) -> Output {
        self.command("ssh", arguments).output().expect("start ssh")
    }

    /// A path on the session's machine.
    fn there(&self, path: &str) -> String {
        format!("{}:{path}", self.session)
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Whether a `sleep` of that time runs anywhere on this machine.
fn sleeps(time: &str) -> bool {
    let wanted = format!("sleep\0{time}\0");
    fs::read_dir("/proc")
        .expect("Linux has it")
        .flatten()
        .any(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes()))
}

#[tokio::test]
async fn a_command_by_ssh_has_its_own_streams_and_exit_status() {
    if !have("commands by ssh", &["ssh", "ssh-keygen"]) {
        return;
    }
    let story = Story::begin().await;
    let output = story.ssh(&[&story.session, "echo out; echo err >&2; echo $FARMER_BUILDER; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\nsimple\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("err"));

    let count = ["-o", "SendEnv=EDITOR", &story.session, "cat > kept; wc -c < kept"];
    let mut command = story.command("ssh", &count);
    command.env("EDITOR", "is not taken, and harms nothing").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&vec![b'x'; 5 << 20]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), (5 << 20).to_string());

    let large = story.ssh(&[&story.session, "head -c 5000000 /dev/zero"]);
    assert_eq!(large.stdout.len(), 5_000_000);
    let own = story.gomote(&["ssh", &story.session, "echo", "by farmer"]);
    assert_eq!(text(&own), "by farmer");
    let words = story.ssh(&[&story.session, "kill -9 $$"]);
    assert_eq!(words.status.code(), Some(137));
}

#[tokio::test]
async fn a_command_by_ssh_ends_with_its_client_and_a_session_that_ends_says_so() {
    if !have("ends of sessions by ssh", &["ssh", "ssh-keygen"]) {
        return;
    }
    let story = Story::begin().await;
    // It reads nothing of what it is sent.
    let (first, second) = (format!("1000.1{}", std::process::id()), format!("1000.2{}", std::process::id()));
    let mut command = story.command("ssh", &[&story.session, &format!("exec sleep {first}")]);
    let mut client = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    input.write_all(&vec![0; 6 << 20]).unwrap();
    farm::wait_until("the command runs", farm::PATIENCE, || sleeps(&first)).await;
    client.kill().unwrap();
    client.wait().unwrap();
    farm::wait_until("the command has ended", farm::PATIENCE, || !sleeps(&first)).await;

    let mut command = story.command("ssh", &[&story.session, &format!("exec sleep {second}")]);
    let client = command.stderr(Stdio::piped()).spawn().unwrap();
    farm::wait_until("the command runs", farm::PATIENCE, || sleeps(&second)).await;
    text(&story.gomote(&["destroy", &story.session]));
    let output = client.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("has ended: it was given up"), "{words}");
    assert_eq!(output.status.code(), Some(255));
    let late = story.ssh(&[&story.session, "true"]);
    let words = String::from_utf8_lossy(&late.stderr);
    assert!(!late.status.success() && words.contains("has ended: it was given up"), "{words}");
}

#[tokio::test]
async fn a_try_that_fails_is_held_with_what_it_made() {
    if !have("a try that is held", &["ssh", "ssh-keygen"]) {
        return;
    }
    let story = Story::begin().await;
    text(&story.gomote(&["destroy", &story.session]));
    let repository = story.repository.path();
    fs::write(
        repository.join("farmer.toml"),
        crate::farmer_toml("echo made > product", "cat product; false"),
    )
    .unwrap();
    let output = story.farm.command(repository, &["try", "--hold"]);
    assert_eq!(output.status.code(), Some(1), "the try failed");
    let words = String::from_utf8_lossy(&output.stderr);
    let session =
        words.lines().find_map(|line| line.trim().strip_prefix("farmer gomote ssh ")).expect(&words);
    assert_eq!(text(&story.gomote(&["ssh", session, "cat", "product"])), "made");
}

#[tokio::test]
async fn a_terminal_by_ssh_has_the_size_of_its_window_and_follows_it() {
    if !have("terminals by ssh", &["ssh", "ssh-keygen", "script", "stty"]) {
        return;
    }
    let story = Story::begin().await;
    let remote = "stty size; echo 1 > begun; n=0; until [ \"$(stty size)\" = '41 121' ]; do n=$((n+1)); \
                  [ $n -lt 600 ] || exit 9; sleep 0.1; done; echo resized";
    // The window is that of `script`'s own terminal, which a process beside `ssh` makes larger.
    let local = "stty rows 30 cols 100; \
                 (until [ \"$($SSH cat begun < /dev/null 2> /dev/null)\" ]; do sleep 0.1; done; stty rows 41 cols 121 < /dev/tty) & \
                 exec $SSH -tt \"$REMOTE\"";
    let mut command = Command::new("script");
    command.args(["-qec", local, "/dev/null"]).env("REMOTE", remote);
    command.env("SSH", format!("ssh -F {} {}", story.path("config").display(), story.session));
    let output = story.user(command).output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(words.contains("30 100") && words.contains("resized"), "{words}");

    let mut command = story.command("ssh", &["-tt", &story.session]);
    let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shell
        .stdin
        .take()
        .unwrap()
        .write_all(b"tty > /dev/null && echo a $((1+1))nd terminal; exit 3\n")
        .unwrap();
    let output = shell.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(words.contains("a 2nd terminal") && words.contains("30m after its last use"), "{words}");
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test]
async fn files_are_copied_by_scp() {
    if !have("scp", &["ssh", "scp", "ssh-keygen"]) {
        return;
    }
    let story = Story::begin().await;
    fs::write(story.path("here"), "1").unwrap();
    // This protocol needs nothing on the machine but `scp` itself.
    text(&story.command("scp", &["-O", "here", &story.there("there")]).output().unwrap());
    text(&story.command("scp", &["-O", &story.there("there"), "back"]).output().unwrap());
    assert_eq!(fs::read_to_string(story.path("back")).unwrap(), "1");
    let absent = story.command("scp", &["-O", &story.there("absent"), "back"]).output().unwrap();
    assert!(String::from_utf8_lossy(&absent.stderr).contains("absent"));
}

#[tokio::test]
async fn files_are_copied_by_sftp() {
    let server =
        ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];
    let there = server.iter().copied().find(|path| Path::new(path).exists());
    if !have("sftp", &["ssh", "sftp", "scp", "ssh-keygen", there.unwrap_or("sftp-server")]) {
        return;
    }
    let story = Story::begin().await;
    fs::create_dir(story.path("tree")).unwrap();
    fs::write(story.path("tree/large"), vec![7; 3 << 20]).unwrap();
    text(&story.command("scp", &["-r", "tree", &story.there("")]).output().unwrap());
    fs::write(story.path("batch"), "rename tree/large tree/other\nget tree/other got\n").unwrap();
    text(&story.command("sftp", &["-b", "batch", &story.session]).output().unwrap());
    assert_eq!(fs::read(story.path("got")).unwrap(), vec![7; 3 << 20]);
}

#[tokio::test]
async fn files_are_copied_by_rsync() {
    if !have("rsync", &["ssh", "rsync", "ssh-keygen"]) {
        return;
    }
    let story = Story::begin().await;
    fs::create_dir_all(story.path("tree/deep")).unwrap();
    for number in 0..100 {
        fs::write(story.path(&format!("tree/deep/{number}")), vec![number; 10_000]).unwrap();
    }
    let rsync = |arguments: &[&str]| {
        let mut command = Command::new("rsync");
        command.arg("-e").arg(format!("ssh -F {}", story.path("config").display()));
        command.args(["-a", "--stats"]).args(arguments);
        text(&story.user(command).output().unwrap())
    };
    rsync(&["tree", &story.there("")]);
    fs::write(story.path("tree/deep/7"), "changed").unwrap();
    let stats = rsync(&["tree", &story.there("")]);
    assert!(stats.contains("Number of regular files transferred: 1\n"), "{stats}");
    rsync(&[&story.there("tree/"), "back"]);
    assert_eq!(fs::read_to_string(story.path("back/deep/7")).unwrap(), "changed");
    assert_eq!(fs::read(story.path("back/deep/99")).unwrap(), vec![99; 10_000]);
}

#[tokio::test]
async fn a_port_of_the_machine_is_forwarded_and_none_of_another() {
    if !have("ssh -L", &["ssh", "ssh-keygen"]) {
        return;
    }
    let story = Story::begin().await;
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = service.accept().unwrap();
            let mut words = [0; 6];
            stream.read_exact(&mut words).unwrap();
            stream.write_all(&words.to_ascii_uppercase()).unwrap();
        }
    });
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (near, other) = (free(), free());
    let own = format!("{near}:localhost:{port}");
    let foreign = format!("{other}:192.0.2.1:{port}");
    let forwards = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", &own, "-L", &foreign, &story.session];
    let mut tunnel = story.command("ssh", &forwards).spawn().unwrap();
    let up = || TcpListener::bind(("127.0.0.1", other)).is_err();
    farm::wait_until("the ports are bound", farm::PATIENCE, up).await;
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", near)).unwrap();
        stream.write_all(b"farmer").unwrap();
        let mut words = String::new();
        stream.read_to_string(&mut words).unwrap();
        assert_eq!(words, "FARMER");
    }
    let mut refused = TcpStream::connect(("127.0.0.1", other)).unwrap();
    assert_eq!(refused.read(&mut [0; 1]).unwrap_or(0), 0, "another machine's port is not reached");
    tunnel.kill().unwrap();
    tunnel.wait().unwrap();
    echo.join().unwrap();
}

/// A certificate that somebody else made, in place of the session's own.
fn forge(story: &Story, authority: &Path, principal: &str, validity: &str) {
    let key = story.wallet().join("key.pub");
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-I", "forged", "-n", principal, "-V", validity, "-s"])
        .arg(authority)
        .arg(&key)
        .status()
        .expect("start ssh-keygen");
    assert!(signed.success());
    let certificate = story.wallet().join(format!("{}-cert.pub", story.session));
    fs::rename(story.wallet().join("key-cert.pub"), certificate).expect("put it in place");
}

#[tokio::test]
async fn expired_foreign_and_wrong_certificates_are_refused_and_so_is_none() {
    if !have("certificates of sessions", &["ssh", "ssh-keygen"]) {
        return;
    }
    let story = Story::begin().await;
    // Without the line that gets a new one before each connection.
    let config = fs::read_to_string(story.path("config")).unwrap();
    let kept: Vec<&str> = config.lines().filter(|line| !line.starts_with("Match")).collect();
    fs::write(story.path("config"), kept.join("\n") + "\n").unwrap();
    let ours = story.farm.data().join("coordinator/ssh/authority");
    let foreign = story.path("foreign");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&foreign).status();
    assert!(made.unwrap().success());
    let allowed = || {
        let output = story.ssh(&[&story.session, "true"]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || words.contains("Permission denied"), "{words}");
        output.status.success()
    };
    assert!(allowed(), "its own certificate is right");
    forge(&story, &ours, &story.session, "-2h:-1h");
    assert!(!allowed(), "an expired one");
    forge(&story, &foreign, &story.session, "-1h:+1h");
    assert!(!allowed(), "a foreign one");
    forge(&story, &ours, "bob-simple-0", "-1h:+1h");
    assert!(!allowed(), "one for another session");
    forge(&story, &ours, &story.session, "-1h:+1h");
    assert!(allowed(), "one as ours are");
    fs::remove_file(story.wallet().join(format!("{}-cert.pub", story.session))).unwrap();
    assert!(!allowed(), "none, but a key");
}
