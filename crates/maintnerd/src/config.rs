//! What maintnerd must be told.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use rpc::Identity;
use runtime::{SharedClock, clock::system_clock, telemetry};

use crate::{GithubRepository, LogsConfig};

/// The configuration of one maintnerd.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where followers of the log find `/logs` in the clear, on a loopback address; it is served to services anyway.
    pub listen_logs: Option<SocketAddr>,
    /// Who we are.
    pub identity: Identity,
    /// gitmirror's URL.
    pub gitmirror: String,
    /// pubsubhelper's URL; without it gitmirror finds out by itself.
    pub pubsubhelper: Option<String>,
    /// The repositories at GitHub whose issues are followed.
    pub github: Vec<GithubRepository>,
    /// Our folder. The log is in `log` below it.
    pub data: PathBuf,
    /// The time.
    pub clock: SharedClock,
    /// How the log is kept.
    pub log: maintner::Options,
    /// The URL of the bucket that it rests in, if it is not only in our folder: `s3://`, `gs://` or `file:///`.
    pub bucket: Option<String>,
    /// How it is shown to followers.
    pub logs: LogsConfig,
    /// How much of the farm's patience we use.
    pub limits: Limits,
    /// What we say about ourselves; [`crate::Server`] does not look at it.
    pub telemetry: telemetry::Config,
}

/// Bounds that tests shorten.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A reader that takes nothing for so long is cut off.
    pub slow_reader: Duration,
    /// A reader that has caught up hears from us at least so often.
    pub checkpoint: Duration,
    /// How long gitmirror may take to say how fresh its mirrors are.
    pub status: Duration,
    /// The pause after gitmirror could not be asked.
    pub retry: Duration,
    /// The pause between two rounds of the auditor.
    pub audit: Duration,
    /// What differs is looked at again after this: it may only be on its way.
    pub audit_again: Duration,
    /// The least time between two requests to GitHub with one token.
    pub github_pace: Duration,
    /// The pause after something woke us and GitHub did not show it yet; it doubles.
    pub github_expect: Duration,
    /// The pause between two looks at what Gerrit says of votes.
    pub votes: Duration,
    /// A leader of the log in a bucket that is not heard of for so long is taken to be dead.
    pub lease: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slow_reader: Duration::from_secs(30),
            checkpoint: Duration::from_secs(15),
            status: Duration::from_secs(2),
            retry: Duration::from_secs(1),
            audit: Duration::from_mins(10),
            audit_again: Duration::from_secs(5),
            github_pace: Duration::from_millis(100),
            github_expect: Duration::from_secs(1),
            votes: Duration::from_secs(15),
            lease: Duration::from_secs(30),
        }
    }
}

impl Config {
    /// Reads the part of `farm.toml` that is ours.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let farm: buildspec::Farm = runtime::config::load(path)?;
        let tls =
            farm.tls.as_ref().context("find `[tls]`: a service that runs by itself needs a certificate")?;
        Ok(Self {
            listen: farm.listen.maintnerd,
            listen_logs: farm.listen.logs,
            identity: Identity::load(&tls.certificate, &tls.key, &tls.ca).context("load the certificate")?,
            gitmirror: farm.services.gitmirror.clone(),
            pubsubhelper: farm.webhook.as_ref().map(|_| farm.services.pubsubhelper.clone()),
            github: GithubRepository::all(&farm),
            data: farm.data.join("maintnerd"),
            clock: system_clock(),
            log: maintner::Options::default(),
            bucket: farm.mutation_log.clone(),
            logs: LogsConfig::default(),
            limits: Limits::default(),
            telemetry: farm.telemetry,
        })
    }
}
