//! The Go distribution with its preset: made once, tested as shards on two buildlets, killed in between; and what failed
//! of it is reproduced in a session.
//!
//! Takes some ten minutes, nearly all of it `make.bash`; prints how long each part took.

#![expect(clippy::print_stdout, reason = "how long each part took is a product of it")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{Farm, Options, Repository, farm};
use tokio::time::Instant;

mod repro;

/// What a distribution is made of, as `git clone` of it has it.
const TREE: &[&str] = &["src", "test", "lib", "misc", "api", "doc", "VERSION", "go.env"];

/// Some fifty packages whose tests take a second or so each.
const TESTS: &[&str] = &[
    "archive/*",
    "bufio",
    "bytes",
    "cmp",
    "compress/*",
    "container/*",
    "context",
    "crypto/aes",
    "crypto/des",
    "crypto/hmac",
    "crypto/md5",
    "crypto/rc4",
    "crypto/sha*",
    "encoding/*",
    "errors",
    "expvar",
    "flag",
    "hash/*",
    "html",
    "html/template",
    "image",
    "index/*",
    "io",
    "io/fs",
    "iter",
    "maps",
    "math/bits",
    "math/cmplx",
    "mime",
    "path",
    "path/filepath",
    "slices",
    "sort",
    "strconv",
    "strings",
    "text/*",
    "unicode",
    "unicode/*",
];

/// `make.bash` and what it compiles with.
const MAKE: Duration = Duration::from_mins(20);

#[tokio::test]
async fn the_go_distribution_is_made_once_and_tested_on_two_buildlets_through_kills() {
    let story = "the Go distribution in a farm";
    if !testkit::long(10) {
        return testkit::skipped(story, "time", "`cargo xtask test --long` takes it");
    }
    let Some(root) = go_root() else {
        return testkit::skipped(story, "`go` on the PATH", "install Go with its source");
    };
    let repository = distribution(&root);
    let config = tempfile::tempdir().unwrap();
    let file = config.path().join("farm.toml");
    let text = format!(
        "environment = \"local\"\n[[repositories]]\nname = \"go\"\norigin = {:?}\npreset = \"go\"\n\
         [[policies]]\nrepository = \"go\"\nbranch = \"*\"\nbuild = []\ntry = [\"*\"]\n",
        repository.path()
    );
    std::fs::write(&file, text).unwrap();
    let arguments = vec!["--config".to_owned(), file.display().to_string()];
    let options = Options { arguments, buildlets: Some(2) };
    let mut farm = Farm::start(repository.path(), options).await;

    let mut first = start_try(&farm, repository.path(), "linux-amd64", TESTS);
    kill_the_farm_while_it_makes(&mut farm).await;
    kill_a_buildlet_that_helps(&farm).await;
    let build = ended(&farm, 1).await;
    // Its farm was killed: only the build itself is judged.
    first.wait().unwrap();
    print_parts("first", &build);
    let attempt = &build["attempts"][0];
    assert_eq!((attempt["number"].as_u64(), &build["outcome"]), (Some(1), &"passed".into()), "{build:#}");
    assert_eq!(attempt["steps"].as_array().unwrap().iter().filter(|step| step["phase"] == "make").count(), 1);
    let machines: BTreeSet<_> = attempt["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| shard["machine"].as_str().unwrap())
        .collect();
    assert!(machines.len() >= 2, "both buildlets ran shards: {machines:?}");
    let log = farm.page("/log/1.txt").await;
    let order: Vec<_> = packages(&log).collect();
    let ran: BTreeSet<_> = order.iter().copied().collect();
    let all = serial_order(&root);
    let chosen = all.iter().filter(|name| is_chosen(name));
    let expected: Vec<_> = chosen.flat_map(|name| packages_of(name, &ran)).collect();
    assert!(ran.len() >= 40, "at least 40 packages: {ran:?}");
    assert_eq!(order, expected, "the merged log reads as if one machine had run them in order");

    start_try(&farm, repository.path(), "linux-amd64-longtest", &["bytes", "strings"]).wait().unwrap();
    let second = ended(&farm, 2).await;
    print_parts("second", &second);
    let phases: Vec<_> = steps(&second).iter().map(|step| step["phase"].clone()).collect();
    assert_eq!(second["outcome"], "passed", "{second:#}");
    assert!(phases.contains(&"snapshot_fetch".into()) && !phases.contains(&"make".into()), "{phases:?}");

    start_try(&farm, repository.path(), "linux-amd64", &[repro::PACKAGE]).wait().unwrap();
    repro::a_failed_shard_fails_again_in_a_session(&farm, &ended(&farm, 3).await, config.path()).await;
}

fn go_root() -> Option<PathBuf> {
    let output = Command::new("go").args(["env", "GOROOT"]).output().ok()?;
    let root = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    root.join("src/make.bash").exists().then_some(root)
}

/// The distribution's tree as a repository of one commit.
fn distribution(root: &Path) -> Repository {
    let repository = Repository::empty();
    let parts = TREE.iter().map(|part| root.join(part)).filter(|part| part.exists());
    let copied = Command::new("cp").arg("-a").args(parts).arg(repository.path()).status().expect("start cp");
    assert!(copied.success(), "the distribution is copied");
    repository.commit("the distribution", &[(repro::FILE, repro::TEST)]);
    repository
}

fn start_try(farm: &Farm, folder: &Path, builder: &str, tests: &[&str]) -> Child {
    Command::new(farm::binary("farmer"))
        .args(["try", "--builder", builder, "--tests"])
        .args(tests)
        .env("FARMER_DATA", farm.data())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start farmer")
}

/// Kills `farmer up` in the midst of `make.bash`, and sees that the same process goes on after a restart.
async fn kill_the_farm_while_it_makes(farm: &mut Farm) {
    farm::wait_until("make.bash runs", farm::PATIENCE, || process_of("make.bash", farm.data()).is_some())
        .await;
    // Amid it: the toolchain compiles by now.
    let compiles = || process_of("compile", farm.data()).is_some();
    farm::wait_until("make.bash compiles", farm::PATIENCE, compiles).await;
    let make = process_of("make.bash", farm.data()).expect("make.bash runs");
    farm.kill();
    assert!(farm::alive(make), "make.bash runs on without the farm");
    let start = Instant::now();
    farm.start_again().await;
    println!("go: the farm was killed while it made, and was back after {:.0?}", start.elapsed());
    assert_eq!(process_of("make.bash", farm.data()), Some(make), "the same make.bash goes on");
}

/// Kills the buildlet that helps while it runs a shard, and sees the shard taken back, with the reason.
async fn kill_a_buildlet_that_helps(farm: &Farm) {
    let found = std::cell::RefCell::new(None);
    farm::wait_until("a helper runs a shard", MAKE, || {
        let build = farm.build(1);
        assert!(build["ended"].is_null(), "it ended before a helper ran a shard: {build:#}");
        found.replace(running_helper(&build)).is_some() || found.borrow().is_some()
    })
    .await;
    let (shard, machine) = found.into_inner().expect("was found");
    let pid =
        farm.buildlets().into_iter().find(|(name, _)| *name == machine).expect("is a buildlet of ours").1;
    let folder = farm.data().join("buildlets").join(&machine);
    // Before that nothing is lost: it would just begin once it is back.
    let works = || processes_of(&folder).iter().any(|process| !process.names(&folder));
    farm::wait_until("its command runs", farm::PATIENCE, works).await;
    let ran: Vec<_> = processes_of(&folder).into_iter().map(|process| process.pid).collect();
    let killed = Instant::now();
    farm::signal(pid, Signal::KILL);
    let bound = Duration::from_secs(5);
    let note = loop {
        let shard = &farm.build(1)["attempts"][0]["shards"][shard];
        match shard["note"].as_str() {
            Some("") | None => assert!(killed.elapsed() < bound, "requeued within {bound:?}: {shard:#}"),
            Some(note) => break note.to_owned(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("go: {machine} was killed; its shard was requeued after {:.0?}: {note}", killed.elapsed());
    let page = farm.page("/build/1").await;
    let (_, reason) = note.split_once("`: ").expect("has a reason after the machine");
    assert!(page.contains(reason.split(';').next().unwrap_or(reason)), "the page says why: {note}");
    farm::wait_until("no process of it is left", bound, || !ran.iter().any(|pid| farm::alive(*pid))).await;
}

/// A shard that runs on another machine than the build's own: its index, and the machine.
fn running_helper(build: &Value) -> Option<(usize, String)> {
    let steps = steps(build);
    let own = steps.iter().find(|step| step["phase"] == "make")?["machine"].as_str()?;
    let shards = build["attempts"][0]["shards"].as_array()?;
    shards.iter().enumerate().find_map(|(index, shard)| {
        let machine = shard["machine"].as_str().filter(|machine| !machine.is_empty() && *machine != own)?;
        (!shard["started"].is_null() && shard["ended"].is_null()).then(|| (index, machine.to_owned()))
    })
}

async fn ended(farm: &Farm, number: u64) -> Value {
    farm::wait_until("the build ends", MAKE, || !farm.build(number)["ended"].is_null()).await;
    farm.build(number)
}

fn steps(build: &Value) -> Vec<Value> {
    build["attempts"][0]["steps"].as_array().cloned().unwrap_or_default()
}

fn print_parts(name: &str, build: &Value) {
    let time = |value: &Value| value.as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    for step in steps(build) {
        let Some((start, end)) = time(&step["started"]).zip(time(&step["ended"])) else { continue };
        let seconds = end.duration_since(start).as_secs_f64();
        println!("go: {name} build: {}: {seconds:.1} s", step["phase"].as_str().unwrap_or_default());
    }
    for shard in build["attempts"][0]["shards"].as_array().into_iter().flatten() {
        let Some((start, end)) = time(&shard["started"]).zip(time(&shard["ended"])) else { continue };
        let seconds = end.duration_since(start).as_secs_f64();
        println!(
            "go: {name} build: shard {} on {}, {} tests, try {}: {seconds:.1} s",
            shard["number"], shard["machine"], shard["test_count"], shard["tries"]
        );
    }
}

/// Packages that `go test` says passed, in the order of a log.
fn packages(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter_map(|line| line.strip_prefix("ok  \t")?.split('\t').next())
}

/// Whether `TESTS` names a test.
fn is_chosen(name: &str) -> bool {
    TESTS.iter().any(|test| test.strip_suffix('*').map_or(*test == name, |start| name.starts_with(start)))
}

/// Packages of a test, in order, as far as they ran: those without tests leave no line. What follows a colon says how
/// they are built.
fn packages_of<'r>(test: &str, ran: &BTreeSet<&'r str>) -> Vec<&'r str> {
    let packages = test.split(':').next().unwrap_or(test);
    let below = packages.strip_suffix("/...");
    let is_one = |name: &&str| below.map_or(*name == packages, |folder| name.starts_with(folder));
    ran.iter().copied().filter(is_one).collect()
}

/// Tests in the order in which the distribution's own test program runs them.
fn serial_order(root: &Path) -> Vec<String> {
    let output = Command::new(root.join("bin/go"))
        .args(["tool", "dist", "test", "-list"])
        .env("GO_BUILDER_NAME", "linux-amd64")
        .env("GOROOT", root)
        .current_dir(root.join("src"))
        .output()
        .expect("start go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("is text").lines().map(str::to_owned).collect()
}

struct Process {
    pid: u32,
    parent: u32,
    command: String,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let folder = Path::new("/proc").join(pid.to_string());
        let command = std::fs::read(folder.join("cmdline")).ok()?;
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
        Some(Self { pid, parent, command: String::from_utf8_lossy(&command).into_owned() })
    }

    /// Whether its command line names a folder.
    fn names(&self, folder: &Path) -> bool {
        self.command.contains(&*folder.to_string_lossy())
    }

    /// Whether it, or one that it descends from, was told of a folder. Its own working folder says nothing: in a
    /// namespace it has a name of its own.
    fn is_of(&self, folder: &Path) -> bool {
        self.names(folder) || Self::of(self.parent).is_some_and(|parent| parent.is_of(folder))
    }
}

/// Processes of this machine that descend from one whose command names a folder.
fn processes_of(folder: &Path) -> Vec<Process> {
    let all = std::fs::read_dir("/proc").expect("read /proc").flatten();
    let all = all.filter_map(|entry| Process::of(entry.file_name().to_str()?.parse().ok()?));
    all.filter(|process| process.is_of(folder)).collect()
}

/// A process that runs a program of a name, and descends from one whose command names a folder.
fn process_of(program: &str, folder: &Path) -> Option<u32> {
    processes_of(folder)
        .into_iter()
        .find(|process| process.command.split('\0').any(|word| word.rsplit('/').next() == Some(program)))
        .map(|process| process.pid)
}
