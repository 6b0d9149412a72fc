//! What a buildlet needs to know, checked before anything is started.

use std::{
    ffi::OsString,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, bail};
use rpc::{Identity, Peer};
use runtime::{Failure, SharedClock};
use types::{HostType, MachineName};

use crate::{
    Args,
    keys::{Credentials, Keys},
    platform,
};

/// Everything that a buildlet needs to know.
#[derive(Clone)]
pub struct Config {
    /// The machine's name.
    pub name: MachineName,
    /// Host types that it serves.
    pub host_types: Vec<HostType>,
    /// How it and the coordinator meet.
    pub contact: Contact,
    /// The folder that builds work in; the buildlet empties it.
    pub work: PathBuf,
    /// The folder for its own state.
    pub state: PathBuf,
    /// How the machine is kept clean.
    pub reuse: Reuse,
    /// What the farm may run here.
    pub tier: Tier,
    /// How long it goes on without a coordinator.
    pub orphan_after: Duration,
    /// Whether it ends itself then.
    pub exit_when_orphaned: bool,
    /// Added to the base environment of builds.
    pub environment: Vec<(String, String)>,
    /// Execs are ended when fewer bytes are free.
    pub disk_floor_bytes: u64,
    /// How execs are kept apart from the machine.
    pub isolation: Isolation,
    /// Processes that an exec may have.
    pub max_processes: u32,
    /// Memory that an exec may use.
    pub max_memory_bytes: Option<u64>,
    /// What the work folder may hold.
    pub max_work_bytes: Option<u64>,
    /// How to reboot the machine: a program and its arguments.
    pub reboot: Option<Vec<String>>,
    /// How to switch it off.
    pub power_off: Option<Vec<String>>,
    /// Whether it ends when it is too old for the farm, for somebody to replace it.
    pub supervised: bool,
    /// What to log.
    pub log: String,
    /// The command that runs [`crate::run`] with `--keeper`.
    pub keeper: Vec<OsString>,
    /// Says what time it is.
    pub clock: SharedClock,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("name", &self.name).field("work", &self.work).finish_non_exhaustive()
    }
}

/// How a buildlet and its coordinator meet.
#[derive(Debug, Clone)]
pub enum Contact {
    /// The buildlet dials out and answers over that connection.
    Dial {
        /// The coordinator.
        url: String,
        /// The machine's certificate.
        identity: Credentials,
        /// Where it is kept when it is renewed.
        keys: Keys,
        /// An HTTP proxy to go through.
        proxy: Option<String>,
    },
    /// The coordinator dials.
    Listen {
        /// Where.
        address: SocketAddr,
        /// A service's certificate; none on a loopback address.
        identity: Option<Credentials>,
    },
}

impl Contact {
    /// The identity, with which archives are fetched too.
    pub(crate) fn identity(&self) -> Option<&Credentials> {
        match self {
            Self::Dial { identity, .. } => Some(identity),
            Self::Listen { identity, .. } => identity.as_ref(),
        }
    }
}

/// How a machine is kept clean between leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// It serves one lease and then ends.
    Never,
    /// The work folder is emptied.
    Wiped,
    /// As `Wiped`, but for the home folder in it, with its caches.
    Shared,
}

impl Reuse {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Wiped => "wiped",
            Self::Shared => "shared",
        }
    }
}

impl FromStr for Reuse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Never, Self::Wiped, Self::Shared]
            .into_iter()
            .find(|reuse| reuse.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not `never`, `wiped` or `shared`"))
    }
}

/// How execs are kept apart from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// Only what must stay secret is hidden from them.
    None,
    /// They have namespaces of their own.
    Namespaces,
}

impl Isolation {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Namespaces => "namespaces",
        }
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Namespaces]
            .into_iter()
            .find(|isolation| isolation.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not `none` or `namespaces`"))
    }
}

/// What a machine lets the farm run on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// All.
    Full,
    /// What was reviewed and submitted.
    Community,
}

impl Tier {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Community => "community",
        }
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Full, Self::Community]
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not `full` or `community`"))
    }
}

impl Config {
    /// From the command line. Makes the two folders, so that their paths can be settled.
    pub(crate) fn from_args(args: Args, keeper: Vec<OsString>) -> anyhow::Result<Self> {
        Self::checked(args, keeper).map_err(|error| Failure::Configuration.of(error))
    }

    fn checked(args: Args, keeper: Vec<OsString>) -> anyhow::Result<Self> {
        let work = folder(args.work, "--work")?;
        let state = folder(args.state, "--state")?;
        apart(&work, &state)?;
        let named = Keys::named(&args.identity);
        let keys = named.or_else(|| Some(Keys::in_state(&state)).filter(Keys::exist));
        let identity = keys.as_ref().map(Keys::load).transpose().context("load the identity")?;
        let certified = identity.as_ref().and_then(Identity::peer);
        let contact = contact(args.coordinator, args.listen, keys.zip(identity.map(Credentials::new)))?;
        let (name, host_types) = who(args.name, args.host_types, certified)?;
        if args.identity.iter().any(|path| path.starts_with(&work)) {
            bail!("`--identity` names a file in the work folder, where builds could read it");
        }
        Ok(Self {
            name,
            host_types,
            contact,
            work,
            state,
            reuse: args.reuse,
            tier: args.tier,
            orphan_after: args.orphan_after,
            exit_when_orphaned: args.exit_when_orphaned,
            environment: args.environment.iter().map(|text| variable(text)).collect::<anyhow::Result<_>>()?,
            disk_floor_bytes: args.disk_floor << 20,
            isolation: args.isolation,
            max_processes: args.max_processes,
            max_memory_bytes: args.max_memory.map(|mib| mib << 20),
            max_work_bytes: args.max_work.map(|mib| mib << 20),
            reboot: words(args.reboot_command.as_deref()),
            power_off: words(args.power_off_command.as_deref()),
            supervised: args.supervised,
            log: args.log,
            keeper,
            clock: runtime::system_clock(),
        })
    }
}

/// A command line in words, without quotes.
fn words(command: Option<&str>) -> Option<Vec<String>> {
    let words: Vec<_> = command?.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

/// Who the machine is: as it says, else as its certificate says.
fn who(
    name: Option<MachineName>,
    host_types: Vec<HostType>,
    certified: Option<Peer>,
) -> anyhow::Result<(MachineName, Vec<HostType>)> {
    let (known, allowed) = match certified {
        Some(Peer::Machine { name, host_types }) => (Some(name), host_types),
        _ => (None, Vec::new()),
    };
    if let (Some(name), Some(known)) = (&name, &known)
        && name != known
    {
        bail!(
            "`--name {name}` is not the name in its certificate, which is `{known}`: enrol it again, or leave `--name` out"
        );
    }
    let name = name.or(known).context("`--name` is missing")?;
    let host_types = if host_types.is_empty() { allowed } else { host_types };
    if host_types.is_empty() {
        bail!("`--host-type` is missing");
    }
    Ok((name, host_types))
}

fn contact(
    coordinator: Option<String>,
    listen: Option<SocketAddr>,
    identity: Option<(Keys, Credentials)>,
) -> anyhow::Result<Contact> {
    if let Some(address) = listen {
        let identity = identity.map(|(_, identity)| identity);
        let is_service = |identity: &Credentials| matches!(identity.current().peer(), Some(Peer::Service(_)));
        if identity.as_ref().is_some_and(|identity| !is_service(identity)) {
            bail!("`--listen` needs the certificate of a service: a machine's is good for dialling only");
        }
        return Ok(Contact::Listen { address, identity });
    }
    let Some((keys, identity)) = identity else {
        bail!(
            "this machine has no certificate: enrol it with `buildlet enroll`, or name one with `--identity`"
        );
    };
    let url = coordinator.or_else(|| keys.coordinator());
    let url = url.context("one of `--coordinator` and `--listen` is needed")?;
    let proxy = proxy_for(&url);
    Ok(Contact::Dial { url, identity, keys, proxy })
}

/// The HTTP proxy that a URL is reached through, by the environment.
pub(crate) fn proxy_for(url: &str) -> Option<String> {
    let proxy = ["HTTPS_PROXY", "https_proxy"].iter().find_map(|name| std::env::var(name).ok());
    proxy.filter(|proxy| !proxy.is_empty() && !bypasses_proxy(url))
}

/// Whether `NO_PROXY` or common sense says to dial a host directly.
fn bypasses_proxy(url: &str) -> bool {
    // Replicas of a coordinator are reached in the same way.
    let url = url.split(',').next().unwrap_or(url);
    let host = url.split("://").nth(1).unwrap_or(url).split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let exceptions =
        ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    is_direct(host, &exceptions)
}

fn is_direct(host: &str, exceptions: &str) -> bool {
    let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let excepted = |exception: &str| {
        let name = exception.trim().trim_start_matches('.');
        name == "*" || !name.is_empty() && (host == name || host.ends_with(&format!(".{name}")))
    };
    local || exceptions.split(',').any(excepted)
}

fn folder(path: Option<PathBuf>, option: &str) -> anyhow::Result<PathBuf> {
    let path = path.with_context(|| format!("`{option}` is missing"))?;
    std::fs::create_dir_all(&path).with_context(|| format!("make `{}`", path.display()))?;
    let path = path.canonicalize().with_context(|| format!("open `{}`", path.display()))?;
    let path = platform::plain_path(path);
    if path.to_str().is_none() {
        bail!("the path `{}` is not UTF-8", path.display());
    }
    Ok(path)
}

/// The work folder is emptied and builds own it, so nothing else may lie in it, and it may be nobody's home.
fn apart(work: &Path, state: &Path) -> anyhow::Result<()> {
    if work.starts_with(state) || state.starts_with(work) {
        bail!("`--work` and `--state` must lie beside each other, not one in the other");
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let inside = std::env::current_dir().is_ok_and(|here| here.starts_with(work));
    if work.parent().is_none() || inside || home.is_some_and(|home| home.starts_with(work)) {
        bail!("`{}` cannot be the work folder: it is emptied, and it holds other things", work.display());
    }
    Ok(())
}

fn variable(text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).with_context(|| format!("read the variable `{text}`"))?),
    };
    if name.is_empty() {
        bail!("`--env {text}` has no name");
    }
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_folder_that_holds_other_things_is_refused() {
        assert!(apart(Path::new("/a/work"), Path::new("/a/state")).is_ok());
        assert!(apart(Path::new("/a"), Path::new("/a/state")).is_err());
        assert!(apart(Path::new("/a/state/work"), Path::new("/a/state")).is_err());
        assert!(apart(Path::new("/"), Path::new("/a")).is_err());
        assert!(apart(&std::env::current_dir().unwrap(), Path::new("/nowhere")).is_err());
    }

    #[test]
    fn a_proxy_is_not_asked_for_this_machine_or_an_exception() {
        assert!(is_direct("127.0.0.1", ""));
        assert!(is_direct("farm.example.org", "other, .example.org"));
        assert!(is_direct("example.org", "example.org"));
        assert!(!is_direct("notexample.org", "example.org"));
        assert!(!is_direct("farm.example.org", ""));
    }

    #[test]
    fn variables_carry_a_value_or_take_ours() {
        assert_eq!(variable("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert_eq!(variable("PATH").unwrap().1, std::env::var("PATH").unwrap());
        assert!(variable("=x").is_err());
        assert!(variable("SURELY_NOT_SET_ANYWHERE").is_err());
    }
}
