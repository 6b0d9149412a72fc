//! What the bot must be told.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use buildspec::{GithubRepository, Repository};
use rpc::Identity;
use runtime::{SharedClock, clock::system_clock, telemetry};
use types::RepositoryName;

use crate::{DryRun, GithubHost, Host};

/// The names of all tasks.
pub const TASKS: &[&str] = &["green-to-red"];

/// The configuration of one bot.
#[derive(Clone)]
pub struct Config {
    /// Where to answer health checks.
    pub listen: SocketAddr,
    /// Who we are.
    pub identity: Identity,
    /// maintnerd's URL.
    pub maintnerd: String,
    /// Where people find the farm's pages, for links.
    pub pages: String,
    /// Our folder.
    pub data: PathBuf,
    /// The time.
    pub clock: SharedClock,
    /// Which of [`TASKS`] to run.
    pub tasks: Vec<String>,
    /// Owner and name at the host, by the farm's name. Others are not spoken about.
    pub repositories: BTreeMap<RepositoryName, (String, String)>,
    /// Where people are spoken to.
    pub host: Arc<dyn Host>,
    /// Bounds.
    pub limits: Limits,
    /// What we say about ourselves; [`crate::Server`] does not look at it.
    pub telemetry: telemetry::Config,
}

/// Bounds that tests change.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// More comments than these within an hour are held.
    pub most_an_hour: usize,
    /// The first pause after the host failed.
    pub retry: Duration,
    /// The longest.
    pub longest_retry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { most_an_hour: 20, retry: Duration::from_secs(5), longest_retry: Duration::from_mins(5) }
    }
}

impl Config {
    /// Reads the part of `farm.toml` that is ours.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let farm: buildspec::Farm = runtime::config::load(path)?;
        let tls =
            farm.tls.as_ref().context("find `[tls]`: a service that runs by itself needs a certificate")?;
        let identity = Identity::load(&tls.certificate, &tls.key, &tls.ca).context("load the certificate")?;
        Self::of(&farm, identity, system_clock())
    }

    /// The part of a farm's configuration that is ours.
    pub fn of(farm: &buildspec::Farm, identity: Identity, clock: SharedClock) -> anyhow::Result<Self> {
        if let Some(unknown) = farm.gopherbot.tasks.iter().find(|task| !TASKS.contains(&task.as_str())) {
            bail!("run task `{unknown}`: there are only {}", TASKS.join(", "));
        }
        let names = farm
            .repositories
            .iter()
            .filter_map(|repository| Some((repository.name.clone(), github_name(repository)?)));
        Ok(Self {
            listen: farm.listen.gopherbot,
            identity,
            maintnerd: farm.services.maintnerd.clone(),
            pages: farm.pages_url(),
            data: farm.data.join("gopherbot"),
            tasks: farm.gopherbot.tasks.clone(),
            repositories: names.collect(),
            host: host(&farm.gopherbot, &clock)?,
            clock,
            limits: Limits::default(),
            telemetry: farm.telemetry.clone(),
        })
    }
}

fn host(bot: &buildspec::Gopherbot, clock: &SharedClock) -> anyhow::Result<Arc<dyn Host>> {
    if bot.dry_run {
        return Ok(Arc::new(DryRun::default()));
    }
    let token =
        bot.github_token.clone().context("find the GitHub token: set `github_token`, or `dry_run`")?;
    std::fs::metadata(&token).with_context(|| format!("read `{}`", token.display()))?;
    let host = GithubHost::new(&bot.github_url, token, Arc::clone(clock), Duration::from_secs(1));
    Ok(Arc::new(host.context("make a client for GitHub")?))
}

/// Owner and name at GitHub: as configured, or by its address.
fn github_name(repository: &Repository) -> Option<(String, String)> {
    let configured = repository.github.as_ref().map(|github| (github.owner.clone(), github.name.clone()));
    configured.or_else(|| GithubRepository::of_origin(&repository.origin))
}
