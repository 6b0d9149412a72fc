//! Fetches one mirror and tells the watchers of refs.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use runtime::clock::SharedClock;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tracing::{info, warn};
use types::{CommitHash, Timestamp};

use crate::{
    Origin,
    git::GitError,
    hub::{Hub, RefTable},
    mirror::MirrorRef,
    objects::ReadError,
    repository::Repository,
    scan::ScanError,
};

/// How often the origin is asked which branch is its default.
const DEFAULT_BRANCH_AGE: Duration = Duration::from_mins(10);

/// The refs of a mirror cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// Git does not do it.
    #[error(transparent)]
    Git(#[from] GitError),
    /// An object cannot be read.
    #[error("cannot read what refs lead to")]
    Read(#[from] ReadError),
    /// The origin's folder cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The reader of the origin's folder failed.
    #[error("cannot read the origin's folder")]
    Task(#[from] tokio::task::JoinError),
}

/// Fetches into one mirror.
pub(crate) struct Fetcher {
    pub(crate) repository: Arc<Repository>,
    pub(crate) hub: Arc<Hub>,
    clock: SharedClock,
    metrics: Metrics,
    /// Counts fetches that may have brought something, for those who push on.
    pub(crate) changes: watch::Sender<u64>,
    /// The folder of the origin cannot be read by us, or not all that its refs lead to: what git fetches is told.
    pub(crate) by_fetch: AtomicBool,
    /// One fetch at a time.
    fetching: Mutex<()>,
    /// When the origin was last asked which branch is its default.
    asked_default_branch: Mutex<Option<Instant>>,
    /// The commits that the refs of the last time lead to, by target, so that a poll costs what moved.
    peeled: Mutex<HashMap<CommitHash, CommitHash>>,
}

struct Metrics {
    fetches: opentelemetry::metrics::Counter<u64>,
    seconds: opentelemetry::metrics::Histogram<f64>,
}

impl Metrics {
    fn new() -> Self {
        let meter = runtime::telemetry::meter();
        Self {
            fetches: meter.u64_counter("gitmirror.fetches").build(),
            seconds: meter.f64_histogram("gitmirror.fetch.duration").with_unit("s").build(),
        }
    }

    fn fetched(&self, result: &Result<(), GitError>, took: Duration) {
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.fetches.add(1, &[opentelemetry::KeyValue::new("result", outcome)]);
        self.seconds.record(took.as_secs_f64(), &[]);
    }
}

impl Fetcher {
    /// For one repository.
    pub(crate) fn new(repository: Arc<Repository>, hub: Arc<Hub>, clock: SharedClock) -> Self {
        Self {
            repository,
            hub,
            clock,
            metrics: Metrics::new(),
            changes: watch::Sender::new(0),
            by_fetch: AtomicBool::new(false),
            fetching: Mutex::default(),
            asked_default_branch: Mutex::default(),
            peeled: Mutex::default(),
        }
    }

    /// Fetches, and tells what came unless that is done already.
    pub(crate) async fn fetch_and_tell(&self) -> Result<(), KeepError> {
        let as_of = self.fetch().await?;
        let is_local = matches!(self.repository.config.origin, Origin::Local(_));
        if is_local && !self.by_fetch.load(Ordering::SeqCst) {
            // Told already.
            self.repository.fetched(as_of);
            return Ok(());
        }
        let table = self.publish_mirror().await?;
        // Not before: who reads that the mirror is fresh has been told what it holds.
        self.repository.fetched(as_of);
        let mut asked = self.asked_default_branch.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= DEFAULT_BRANCH_AGE) {
            let head = self.repository.mirror.head_of_origin().await?;
            self.tell_default_branch(&head, &table);
            *asked = Some(Instant::now());
        }
        Ok(())
    }

    /// Fetches only those refs below each name that ends with a slash, and those of the other names, and tells what came.
    /// Takes time proportional to them, as far as git does.
    pub(crate) async fn fetch_refs_and_tell(&self, names: &BTreeSet<String>) -> Result<(), KeepError> {
        let (repository, begun) = (&self.repository, Instant::now());
        // Until all is told: a fetch of everything meanwhile would be told first and undone.
        let _only = self.fetching.lock().await;
        let result = repository.mirror.fetch_refs(names).await;
        self.metrics.fetched(&result, begun.elapsed());
        result?;
        let all: Vec<String> = names.iter().cloned().collect();
        let refs = repository.mirror.refs(&all).await?;
        let targets: Vec<_> = refs.iter().map(|found| found.target).collect();
        let commits = repository.objects.peel(&targets).await?;
        let table = refs.into_iter().zip(commits).filter_map(|(found, commit)| Some((found.name, commit?)));
        self.hub.publish_part(&repository.name, &all, &table.collect());
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Fetches. Of several at once, one goes after the other. Answers since when the mirror may hold less than the origin.
    pub(crate) async fn fetch(&self) -> Result<Timestamp, GitError> {
        let _only = self.fetching.lock().await;
        let as_of = self.clock.now();
        if self.repository.mirror.make().await? {
            self.repository.objects.reset();
        }
        let begun = Instant::now();
        let result = self.repository.mirror.fetch().await;
        self.metrics.fetched(&result, begun.elapsed());
        result?;
        self.changes.send_modify(|count| *count += 1);
        Ok(as_of)
    }

    /// Makes the mirror anew if it is the mirror that is broken.
    pub(crate) async fn mend(&self) {
        let repository = &self.repository;
        if repository.mirror.head_of_origin().await.is_err() || repository.mirror.is_whole().await {
            return;
        }
        let name = &repository.name;
        warn!(repo.name = %name, "the mirror of `{name}` is broken: making it anew");
        let made = {
            let _only = self.fetching.lock().await;
            repository.mirror.remake().await
        };
        repository.objects.reset();
        match made {
            Ok(()) => {
                info!(repo.name = %name, "the mirror of `{name}` was made anew");
                repository.stale.notify_one();
            }
            Err(error) => repository.failed(self.describe(&error.into())),
        }
    }

    /// Tells the watchers the refs of the mirror.
    pub(crate) async fn publish_mirror(&self) -> Result<RefTable, KeepError> {
        let mirror = &self.repository.mirror;
        let refs = mirror.refs(mirror.prefixes()).await?;
        let mut peeled = self.peeled.lock().await;
        let new: HashSet<_> =
            refs.iter().map(|found| found.target).filter(|target| !peeled.contains_key(target)).collect();
        let new: Vec<_> = new.into_iter().collect();
        let commits = self.repository.objects.peel(&new).await?;
        // What is no commit may be one that is missing, and there the next time.
        peeled.extend(new.into_iter().zip(commits).filter_map(|(target, commit)| Some((target, commit?))));
        let commit = |found: &MirrorRef| peeled.get(&found.target).copied();
        let table: RefTable =
            refs.iter().filter_map(|found| Some((found.name.clone(), commit(found)?))).collect();
        // Those that refs lead to no longer are forgotten.
        let known = refs.iter().filter_map(|found| Some((found.target, commit(found)?)));
        let known: HashMap<_, _> = known.collect();
        *peeled = known;
        self.hub.publish(&self.repository.name, table.clone());
        Ok(table)
    }

    /// Remembers the default branch: what the origin's `HEAD` names, else what is usual, if it exists.
    pub(crate) fn tell_default_branch(&self, head: &str, table: &RefTable) {
        let usual = ["refs/heads/main", "refs/heads/master"];
        let found = [head].into_iter().chain(usual).find(|name| table.contains_key(*name));
        self.repository.set_default_branch(found.unwrap_or_default().to_owned());
    }

    /// What is wrong and what to do, for people.
    pub(crate) fn describe(&self, error: &KeepError) -> String {
        let origin = &self.repository.config.origin;
        let step = next_step(origin, &error.to_string());
        format!("repository `{}` cannot be fetched from `{origin}`: {error}; {step}", self.repository.name)
    }
}

/// What somebody could do about a failed fetch.
fn next_step(origin: &Origin, message: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if matches!(origin, Origin::Local(_)) {
        return "check that the folder is there, is a git repository and may be read".to_owned();
    }
    if says(&["Host key verification failed"]) {
        return "check the host's key in known_hosts".to_owned();
    }
    if says(&["Authentication failed", "could not read Username", "Permission denied", "403", "401"]) {
        return "check its credentials".to_owned();
    }
    if says(&["not found", "does not exist", "does not appear to be a git repository", "404"]) {
        return "check the address in farm.toml, and that its credentials may read it".to_owned();
    }
    format!("try `git ls-remote {origin}` by hand")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_next_step() {
        let remote: Origin = "https://host/a/b".parse().unwrap();
        let check = |message: &str, words: &str| {
            let step = next_step(&remote, message);
            assert!(step.contains(words), "{step}");
        };
        check("fatal: Authentication failed for 'https://host/a/b/'", "credentials");
        check("git@host: Permission denied (publickey).", "credentials");
        check("Host key verification failed.", "known_hosts");
        check("fatal: repository 'https://host/a/b/' not found", "farm.toml");
        check("Could not resolve host: host", "git ls-remote https://host/a/b");
        assert!(next_step(&"/srv/x".parse().unwrap(), "no").contains("folder"));
    }
}
