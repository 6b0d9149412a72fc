//! The buildlets of a farm on one machine: children of ours in sessions of their own, so that they outlive a crash of
//! this process. A restart finds the living ones by their pid files and starts only what is missing.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use runtime::Tasks;
use rustix::process::{Pid, Signal};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use types::MachineName;

use super::data::DataFolder;

/// The host type of children, unless `farm.toml` says otherwise.
const HOST: &str = "local";
/// The pause before one that ended is started again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one may take to end its exec and itself.
const GRACE: Duration = Duration::from_secs(10);
/// How often one that is no child of ours is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// What each buildlet is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch {
    /// Where it dials.
    pub(crate) coordinator: SocketAddr,
    /// How long it lives on without a coordinator.
    pub(crate) orphan_after: Duration,
}

/// All buildlets of this farm.
pub(crate) struct Buildlets {
    /// Those that run now, by folder.
    running: Arc<Mutex<Vec<Running>>>,
}

#[derive(Debug, Clone)]
struct Running {
    folder: PathBuf,
    pid: Pid,
}

impl Buildlets {
    /// Adopts living ones, starts the rest, and keeps them running until shutdown.
    pub(crate) fn start(
        data: &DataFolder,
        authority: &rpc::Authority,
        launch: Launch,
        count: u32,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let running = Arc::new(Mutex::new(Vec::new()));
        for number in 1..=count {
            let name: MachineName = format!("{HOST}-{number}").parse().context("name a machine")?;
            let folder = data.folder("buildlets")?.join(name.as_str());
            std::fs::create_dir_all(&folder).with_context(|| format!("create `{}`", folder.display()))?;
            if !folder.join("machine.pem").exists() {
                let host = HOST.parse().context("name a host type")?;
                let identity =
                    authority.issue_machine(&name, &[host]).context("issue a machine's certificate")?;
                identity.save(&folder, "machine").context("keep a machine's certificate")?;
            }
            let keep = keep(folder, name, launch, running.clone(), tasks.shutdown());
            tasks.service("buildlet", keep);
        }
        Ok(Self { running })
    }

    /// Ends all of them, and what they run.
    pub(crate) async fn stop(self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for buildlet in &running {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(buildlet.pid, Signal::TERM);
        }
        for buildlet in running {
            if timeout(GRACE, gone(&buildlet.folder)).await.is_err() {
                tracing::warn!(
                    "killed the buildlet in `{}`: it did not end within {GRACE:?}",
                    buildlet.folder.display()
                );
                let _ = rustix::process::kill_process(buildlet.pid, Signal::KILL);
            }
        }
    }
}

/// Keeps one buildlet running until shutdown.
async fn keep(
    folder: PathBuf,
    name: MachineName,
    launch: Launch,
    running: Arc<Mutex<Vec<Running>>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let list = || running.lock().unwrap_or_else(PoisonError::into_inner);
    while !shutdown.is_cancelled() {
        let process = match living(&folder) {
            Some(pid) => Process::Adopted(pid),
            None => start(&folder, &name, launch)?,
        };
        let pid = process.pid()?;
        list().push(Running { folder: folder.clone(), pid });
        tokio::select! {
            () = process.ended(&folder) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        list().retain(|running| running.pid != pid);
        tracing::warn!(machine.name = %name, "buildlet {name} (process {}) ended; starting it again", pid.as_raw_nonzero());
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.cancelled() => {}
        }
    }
    Ok(())
}

/// A buildlet's process.
enum Process {
    Child(Box<Child>),
    /// Left by an earlier run: no child of ours.
    Adopted(Pid),
}

impl Process {
    fn pid(&self) -> anyhow::Result<Pid> {
        match self {
            Self::Child(child) => {
                child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("learn a buildlet's pid")
            }
            Self::Adopted(pid) => Ok(*pid),
        }
    }

    async fn ended(self, folder: &Path) {
        match self {
            // An error means that somebody else has reaped it.
            Self::Child(mut child) => drop(child.wait().await),
            Self::Adopted(_) => gone(folder).await,
        }
    }
}

/// Resolves once no buildlet of a folder is alive.
async fn gone(folder: &Path) {
    while living(folder).is_some() {
        sleep(LOOK).await;
    }
}

/// The living buildlet of a folder, left by an earlier run.
fn living(folder: &Path) -> Option<Pid> {
    let pid: i32 = std::fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    // The pid may have been given to another program since: ours names its folder.
    let ours = command
        .split(|byte| *byte == 0)
        .any(|word| Path::new(&*String::from_utf8_lossy(word)) == folder.join("state"));
    ours.then(|| Pid::from_raw(pid)).flatten()
}

fn start(folder: &Path, name: &MachineName, launch: Launch) -> anyhow::Result<Process> {
    let program = std::env::current_exe().context("find this program")?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .context("open a buildlet's log")?;
    let mut command = Command::new(program);
    command
        .args(["buildlet", "--own-session", "--coordinator", &format!("https://{}", launch.coordinator)])
        .args(["--name", name.as_str(), "--host-type", HOST])
        .arg("--work")
        .arg(folder.join("work"))
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--identity")
        .args([folder.join("machine.pem"), folder.join("machine.key"), folder.join("ca.pem")])
        // The farm's keys and tokens: everything that is not this buildlet's work.
        .arg("--hide")
        .arg(folder.ancestors().nth(2).unwrap_or(folder))
        .args(["--reuse", "wiped", "--exit-when-orphaned", "--orphan-after"])
        .arg(humantime::format_duration(launch.orphan_after).to_string().replace(' ', ""));
    for (variable, value) in toolchains() {
        command.arg("--env").arg(format!("{variable}={value}"));
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share a buildlet's log")?)
        .stderr(log)
        .spawn()
        .context("start a buildlet")?;
    let process = Process::Child(Box::new(child));
    let pid = process.pid()?.as_raw_nonzero().to_string();
    std::fs::write(folder.join("pid"), pid).context("keep a buildlet's pid")?;
    Ok(process)
}

/// What the builds of this machine's own user need to find that user's toolchains and caches: their homes are not his.
fn toolchains() -> Vec<(&'static str, String)> {
    let home = std::env::var("HOME").unwrap_or_default();
    let folder = |variable: &'static str, default: &str| {
        let path = std::env::var(variable).unwrap_or_else(|_| format!("{home}/{default}"));
        Path::new(&path).is_dir().then_some((variable, path))
    };
    let folders = [
        ("CARGO_HOME", ".cargo"),
        ("RUSTUP_HOME", ".rustup"),
        ("GOMODCACHE", "go/pkg/mod"),
        ("npm_config_cache", ".npm"),
    ];
    let passed = [
        "PATH",
        "LANG",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "GOPROXY",
        "GOFLAGS",
        "GONOSUMDB",
        "GOSUMDB",
        "SSL_CERT_FILE",
    ];
    let kept = passed.into_iter().filter_map(|variable| Some((variable, std::env::var(variable).ok()?)));
    folders.into_iter().filter_map(|(variable, default)| folder(variable, default)).chain(kept).collect()
}
