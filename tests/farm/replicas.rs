//! Services as processes of their own, and coordinators with the same records: one leads, the others hand on to it
//! whoever connects to them, and one of them goes on when it is gone.
//!
//! They share the folder of the bytes, as if a disk were mounted on their machines.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Postgres, Repository, farm};
use tokio::time::Instant;

use crate::simple;

/// What a loaded machine may need for what is seconds on another.
const PATIENCE: Duration = Duration::from_mins(3);

/// A process of a service. It ends when this is dropped.
struct Service {
    process: Child,
    log: PathBuf,
}

impl Service {
    fn start(folder: &Path, name: &str, program: &str, arguments: &[&str]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).expect("open a log");
        let process = Command::new(farm::binary(program))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share a log"))
            .stderr(output)
            .spawn()
            .expect("start a service");
        Self { process, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a crash does.
    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// All services of a farm but the coordinators, and its machine.
struct World {
    folder: TempDir,
    /// The loopback address of this farm alone: no port of it is taken by another test.
    host: String,
    services: Vec<Service>,
}

impl World {
    fn start(repository: &Repository, records: &Postgres) -> Self {
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let host = format!("127.{}.{middle}.{low}", 64 + high);
        let mut world = Self { folder, host, services: Vec::new() };
        world.write_files(repository, records);
        world.services = ["gitmirror", "maintnerd"].map(|service| world.service(service, service)).into();
        world
    }

    /// Starts the farm's machine, which knows the coordinators of these numbers and dials the first one first.
    fn add_machine(&mut self, coordinators: [usize; 3]) {
        let urls = coordinators.map(|number| format!("https://{}", self.internal(number))).join(",");
        let [work, state, certificate, key, ca] =
            ["work", "state", "machine.pem", "machine.key", "ca.pem"].map(|name| self.file(name));
        let folders = ["buildlet", "--coordinator", &urls, "--work", &work, "--state", &state];
        let identity = ["--identity", &certificate, &key, &ca];
        let arguments = [&folders[..], &identity].concat();
        let machine = Service::start(self.folder.path(), "buildlet", "farmer", &arguments);
        self.services.push(machine);
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Where services and machines connect to a coordinator.
    fn internal(&self, number: usize) -> String {
        format!("{}:{}", self.host, 8801 + 10 * number)
    }

    /// Where people do.
    fn public(&self, number: usize) -> String {
        format!("{}:{}", self.host, 8800 + 10 * number)
    }

    /// Certificates, configurations, the token.
    fn write_files(&self, repository: &Repository, records: &Postgres) {
        let folder = self.folder.path();
        let authority = rpc::Authority::create(&folder.join("authority")).expect("make an authority");
        let keep = |identity: rpc::Identity, name| identity.save(folder, name).expect("keep a certificate");
        for service in ["gitmirror", "maintnerd", "coordinator"] {
            keep(authority.issue_service(service).expect("issue a certificate"), service);
        }
        let name = "machine".parse().expect("a name");
        let hosts = ["local".parse().expect("a host type")];
        keep(authority.issue_machine(&name, &hosts).expect("issue a machine's certificate"), "machine");
        fs::create_dir(folder.join("data")).expect("make the data folder");
        fs::write(folder.join("data/token"), "a token of this farm").expect("write the token");
        let write = |name: &str, text| fs::write(self.file(name), text).expect("write a configuration");
        for service in ["gitmirror", "maintnerd"] {
            write(&format!("{service}.toml"), self.config(service, 0, repository, records));
        }
        for number in 1..=3 {
            let config = self.config("coordinator", number, repository, records);
            write(&format!("coordinator-{number}.toml"), config);
        }
    }

    /// The `farm.toml` of a service: all have the same but for certificates, and where a coordinator listens.
    fn config(&self, service: &str, number: usize, repository: &Repository, records: &Postgres) -> String {
        let (folder, host, url) = (self.folder.path().display(), &self.host, &records.url);
        let (internal, public) = (self.internal(number), self.public(number));
        let (password, ca) = (records.password.display(), records.ca.display());
        let origin = repository.path().display();
        format!(
            r#"
data = "{folder}/data"
[listen]
public = "{public}"
coordinator = "{internal}"
gitmirror = "{host}:8792"
maintnerd = "{host}:8793"
[services]
coordinator = "https://{internal}"
gitmirror = "https://{host}:8792"
maintnerd = "https://{host}:8793"
[tls]
ca = "{folder}/ca.pem"
certificate = "{folder}/{service}.pem"
key = "{folder}/{service}.key"
[records]
url = {url:?}
password = "{password}"
ca = "{ca}"
[[repositories]]
name = "only"
origin = "{origin}"
"#
        )
    }

    fn service(&self, name: &str, service: &str) -> Service {
        Service::start(self.folder.path(), name, service, &["--config", &self.file(&format!("{name}.toml"))])
    }

    /// Starts a coordinator and waits until its log says that.
    async fn coordinator(&self, number: usize, says: &str) -> Service {
        let coordinator = self.service(&format!("coordinator-{number}"), "coordinator");
        let what = format!("coordinator {number} says `{says}`; its log is `{}`", coordinator.log.display());
        farm::wait_until(&what, PATIENCE, || coordinator.log().contains(says)).await;
        coordinator
    }

    /// Asks a coordinator.
    fn farmer(&self, number: usize, arguments: &[&str]) -> Vec<String> {
        let lines = self.try_farmer(number, arguments);
        lines.unwrap_or_else(|error| panic!("coordinator {number} does not answer {arguments:?}: {error}"))
    }

    fn try_farmer(&self, number: usize, arguments: &[&str]) -> Result<Vec<String>, String> {
        let output = Command::new(farm::binary("farmer"))
            .args(arguments)
            .args(["--farm", &format!("http://{}", self.public(number)), "--token-file"])
            .arg(self.folder.path().join("data/token"))
            .env_remove("FARMER_DATA")
            .current_dir(self.folder.path())
            .output()
            .expect("start farmer");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect())
    }

    /// A page of a coordinator.
    fn page(&self, number: usize, path: &str) -> String {
        let mut stream = TcpStream::connect(self.public(number)).expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("ask");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read a page");
        text
    }

    /// A build as `farmer builds N --json` shows it at a coordinator.
    fn build(&self, coordinator: usize, number: u64) -> Value {
        let lines = self.farmer(coordinator, &["builds", &number.to_string(), "--json"]);
        serde_json::from_str(&lines[0]).expect("is JSON")
    }

    /// What is logged, for whoever looks why it failed.
    fn logs(&self, coordinator: &Service) -> String {
        let all = self.services.iter().chain([coordinator]);
        let all = all.map(|service| format!("{}:\n{}", service.log.display(), service.log()));
        all.collect::<Vec<_>>().join("\n")
    }
}

/// A command that says which process it is, waits until it may go on, and says that it was there.
fn waiting(flags: &Path, name: &str) -> String {
    let file = |what: &str| flags.join(format!("{name}.{what}")).display().to_string();
    let (pid, go, ran) = (file("pid"), file("go"), file("ran"));
    format!(
        "echo {name} begins; echo $$ > {pid}; while [ ! -e {go} ]; do sleep 0.05; done; echo x >> {ran}; echo {name} ends"
    )
}

/// How often the log of a coordinator says that a machine is there.
fn machines(coordinator: &Service) -> usize {
    coordinator.log().matches("machine machine connected").count()
}

#[tokio::test]
async fn when_the_leader_is_killed_amid_a_build_the_next_goes_on_and_nothing_is_built_again() {
    let story = "coordinators with the same records";
    if !testkit::long(4) {
        return testkit::skipped(story, "time", "`cargo xtask test --long` takes it");
    }
    let Some(records) = Postgres::start(story) else { return };
    let flags = tempfile::tempdir().unwrap();
    let repository = simple(&waiting(flags.path(), "making"), &waiting(flags.path(), "testing"));
    let mut world = World::start(&repository, &records);
    let mut leader = world.coordinator(1, "leading, as number").await;

    // Once amid what is made, once amid what is tested: each time the one that follows leads, and another follows.
    for (number, phase) in [(2, "making"), (3, "testing")] {
        let next = world.coordinator(number, "following: ").await;
        if number == 2 {
            // It dials the one that follows.
            world.add_machine([2, 3, 1]);
        }
        let before = farm::line_in(&flags.path().join(format!("{phase}.pid"))).await;
        // The follower shows what the leader knows, by calls and by pages.
        let leads = format!("at {}", world.internal(number - 1));
        let page = world.page(number, "/farm.json");
        assert!(page.contains(&leads), "it says who leads: {page}");
        assert_eq!(world.build(number, 1)["ended"], Value::Null, "{}", world.logs(&next));
        let killed = Instant::now();
        leader.kill();
        farm::wait_until("the next one answers", PATIENCE, || world.try_farmer(number, &["builds"]).is_ok())
            .await;
        println!("amid {phase}: the next coordinator leads and answers after {:?}", killed.elapsed());
        farm::wait_until("the machine is back", PATIENCE, || machines(&next) > 0).await;
        println!("amid {phase}: the machine is back after {:?}", killed.elapsed());
        assert!(farm::alive(before.parse().unwrap()), "the command runs on: {}", world.logs(&next));
        fs::write(flags.path().join(format!("{phase}.go")), "").unwrap();
        leader = next;
    }

    let start = Instant::now();
    while world.build(3, 1)["ended"].is_null() {
        assert!(start.elapsed() < PATIENCE, "it does not end: {}", world.logs(&leader));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let build = world.build(3, 1);
    assert_eq!(build["outcome"], "passed", "{build:#}");
    assert_eq!(build["attempts"].as_array().map(Vec::len), Some(1), "it is the same attempt: {build:#}");
    assert_eq!(world.farmer(3, &["builds", "--json"]).len(), 1, "there is one build");
    for phase in ["making", "testing"] {
        let ran = fs::read_to_string(flags.path().join(format!("{phase}.ran"))).unwrap();
        assert_eq!(ran, "x\n", "{phase} ran once");
    }
    let log = world.farmer(3, &["logs", "1"]);
    for line in ["making begins", "making ends", "testing begins", "testing ends"] {
        let count = log.iter().filter(|found| *found == line).count();
        assert_eq!(count, 1, "no gap and no repeat of `{line}` in the log: {log:#?}");
    }
    let told = || world.farmer(3, &["maintner", "watch", "--once", "--kind", "build"]);
    farm::wait_until("the result is in the mutation log", PATIENCE, || !told().is_empty()).await;
    assert_eq!(told().len(), 1, "one result: {:?}", told());
}
