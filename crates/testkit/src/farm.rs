//! A whole farm as its user starts it: the real `farmer` binary, its buildlets, its pages.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a test waits for what should happen soon.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How a farm is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Passed to `farmer up` after our own arguments.
    pub arguments: Vec<String>,
    /// How many buildlets; 2 unless said otherwise.
    pub buildlets: Option<u32>,
}

/// A running farm. Dropping it stops it and its buildlets.
#[derive(Debug)]
pub struct Farm {
    process: Option<Child>,
    data: TempDir,
    arguments: Vec<String>,
    http: reqwest::Client,
    /// Where its pages are.
    pub url: String,
}

/// The built binary of a name; builds it first, once in a test program, unless `FARMER_BIN_DIR` names a folder.
///
/// # Panics
/// When it does not build.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    if let Some(folder) = std::env::var_os("FARMER_BIN_DIR") {
        return PathBuf::from(folder).join(name);
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(name.to_owned()).or_insert_with(|| build(&["--workspace", "--bin", name])).clone()
}

/// The built example of a crate; builds it first.
///
/// # Panics
/// When it does not build.
pub fn example(package: &str, name: &str) -> PathBuf {
    build(&["--package", package, "--example", name])
}

fn build(what: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Benchmarks are optimised, and so is what they measure.
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--profile", profile])
        .args(what)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stderr(Stdio::inherit())
        .output()
        .expect("start cargo");
    assert!(output.status.success(), "{what:?} does not build");
    // Cargo says where it put them: its folders are a matter of its configuration.
    lines(&output.stdout)
        .iter()
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary")
}

impl Farm {
    /// Starts a farm for a repository and waits until its pages answer.
    ///
    /// # Panics
    /// When it does not come up; what it printed is in the message.
    pub async fn start(repository: &Path, options: Options) -> Self {
        let data = tempfile::tempdir().expect("make a temporary folder");
        let mut arguments: Vec<String> = vec!["up".to_owned()];
        if !options.arguments.iter().any(|argument| argument == "--config") {
            arguments.extend(["--repo".to_owned(), repository.display().to_string()]);
        }
        arguments.extend(["--data".to_owned(), data.path().display().to_string()]);
        arguments.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
        arguments.extend(["--buildlets".to_owned(), options.buildlets.unwrap_or(2).to_string()]);
        arguments.extend(options.arguments);
        runtime::install_crypto();
        let http = reqwest::Client::builder().no_proxy().build().expect("make an HTTP client");
        let mut farm = Self { process: None, data, arguments, http, url: String::new() };
        farm.start_again().await;
        farm
    }

    /// Starts the same farm again after [`Self::kill`] or [`Self::stop`].
    pub async fn start_again(&mut self) {
        assert!(self.process.is_none(), "the farm runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file())
            .expect("open the log");
        let running = self.data.path().join("running.json");
        let _ = std::fs::remove_file(&running);
        let process = Command::new(binary("farmer"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start farmer");
        self.process = Some(process);
        let start = Instant::now();
        while !running.exists() {
            let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "the farm did not come up: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = std::fs::read_to_string(running).expect("read where it runs");
        let json: Value = serde_json::from_str(&text).expect("is JSON");
        json["url"].as_str().expect("has a URL").clone_into(&mut self.url);
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    fn log_file(&self) -> PathBuf {
        self.data.path().join("up.log")
    }

    /// What `farmer up` printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The process of `farmer up`.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the farm runs").id()
    }

    /// Kills `farmer up` as a crash would; buildlets live on.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the farm runs");
        process.kill().expect("kill farmer");
        process.wait().expect("wait for farmer");
    }

    /// Stops it as Ctrl-C does and answers its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut process = self.process.take().expect("the farm runs");
        signal(process.id(), Signal::INT);
        process.wait().expect("wait for farmer").code()
    }

    /// Process ids of its buildlets, by name.
    pub fn buildlets(&self) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.data.path().join("buildlets")).into_iter().flatten().flatten() {
            let pid = std::fs::read_to_string(entry.path().join("pid")).ok();
            if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()).filter(|pid| alive(*pid)) {
                found.push((entry.file_name().to_string_lossy().into_owned(), pid));
            }
        }
        found.sort();
        found
    }

    /// Runs a command of `farmer` against this farm in a folder.
    pub fn command(&self, folder: &Path, arguments: &[&str]) -> Output {
        Command::new(binary("farmer"))
            .args(arguments)
            .env("FARMER_DATA", self.data.path())
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .expect("start farmer")
    }

    /// A page, as text.
    pub async fn page(&self, path: &str) -> String {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.expect("the page answers");
        let status = response.status();
        let text = response.text().await.expect("the page is text");
        assert!(status.is_success(), "{path} answered {status}: {text}");
        text
    }

    /// Posts JSON to an address; answers the status.
    pub async fn post(&self, path: &str, json: &Value) -> u16 {
        let request = self.http.post(format!("{}{path}", self.url)).json(json);
        request.send().await.expect("the farm answers").status().as_u16()
    }

    /// What an address answers, as bytes.
    pub async fn raw(&self, path: &str) -> Vec<u8> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.expect("the page answers");
        let response = response.error_for_status().expect("the page is there");
        response.bytes().await.expect("the page is read").to_vec()
    }

    /// A page, as JSON.
    pub async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.page(path).await).expect("is JSON")
    }

    /// Waits until a page is as wanted, and answers it.
    ///
    /// # Panics
    /// When it is not within [`PATIENCE`]; the message says how it was.
    pub async fn wait_for_page(&self, path: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let page = self.page(path).await;
            if wanted(&page) {
                return page;
            }
            assert!(start.elapsed() < PATIENCE, "{path} did not become as wanted: {page}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How much disk its data folder takes.
    pub fn disk(&self) -> u64 {
        disk(self.data())
    }

    /// Builds as `farmer builds --json` lists them, newest first.
    pub fn builds(&self) -> Vec<Value> {
        let output = self.command(self.data.path(), &["builds", "--json", "-n", "1000"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "farmer builds failed: {error}");
        lines(&output.stdout)
    }

    /// One build with its attempts.
    pub fn build(&self, number: u64) -> Value {
        let output = self.command(self.data.path(), &["builds", &number.to_string(), "--json"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "farmer builds {number} failed: {error}");
        lines(&output.stdout).remove(0)
    }

    /// Waits until builds are as wanted, and answers them.
    ///
    /// # Panics
    /// When they are not within [`PATIENCE`]; the message says how they were.
    pub async fn wait_for_builds(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let builds = self.builds();
            if wanted(&builds) {
                return builds;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "builds did not become as wanted: {builds:#?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        for (_, pid) in self.buildlets() {
            signal(pid, Signal::KILL);
        }
    }
}

fn lines(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

/// How much disk a folder takes. What goes away meanwhile is not counted.
fn disk(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        sum += metadata.blocks() * 512;
        if metadata.is_dir() {
            sum += disk(&entry.path());
        }
    }
    sum
}

/// Waits for a line that a build writes to a file, to say where it is, and answers it.
///
/// # Panics
/// When it does not come within [`PATIENCE`].
pub async fn line_in(file: &Path) -> String {
    let start = Instant::now();
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(start.elapsed() < PATIENCE, "`{}` does not appear", file.display()),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until something is so.
///
/// # Panics
/// When it is not within `bound`; `what` is in the message.
pub async fn wait_until(what: &str, bound: Duration, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until what has to be asked for is so.
///
/// # Panics
/// When it is not within `bound`; `what` is in the message.
pub async fn wait_until_told(what: &str, bound: Duration, mut so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let told = tokio::time::timeout(bound, asking).await;
    assert!(told.is_ok(), "not within {bound:?}: {what}");
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether a process is there and no zombie.
pub fn alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}
