//! How fresh each source is, and what is wrong with it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::{
    gitmirror::{
        ListRepositoriesRequest, Repository as MirroredRepository, mirror_service_client::MirrorServiceClient,
    },
    maintner::SourceStatus,
};
use rpc::Channel;
use types::Timestamp;

/// Why a source is stale when nothing else is wrong.
const NOT_LIVE: &str = "gitmirror does not tell its refs: what it has is not compared with the log";

/// Every source that is followed.
pub(crate) struct Sources {
    mirror: MirrorServiceClient<Channel>,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    /// By `owner/name`.
    github: BTreeMap<String, Github>,
    /// Whether the stream of refs stands and has brought all there is.
    live: bool,
}

#[derive(Default)]
struct Repository {
    /// `host/project`; empty if it is at no Gerrit.
    project: String,
    fresh_at: Option<Timestamp>,
    /// Moves of refs that are not in the log yet.
    busy: bool,
    error: String,
    audit: Audit,
    votes: Votes,
}

/// What the auditor says.
#[derive(Default, Clone, Copy)]
struct Audit {
    at: Option<Timestamp>,
    /// Within what time it looks at everything.
    within: Option<Duration>,
    repaired: u64,
}

/// How the votes in the log compare with what Gerrit says.
#[derive(Default)]
struct Votes {
    compared_at: Option<Timestamp>,
    disagreements: u64,
    /// What differs now.
    differ: String,
}

/// A repository at GitHub.
#[derive(Default)]
struct Github {
    fresh_at: Option<Timestamp>,
    error: String,
    audit: Audit,
}

impl Sources {
    pub(crate) fn new(mirror: MirrorServiceClient<Channel>, patience: Duration) -> Self {
        Self { mirror, patience, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream of refs broke, or has brought all there is.
    pub(crate) fn set_live(&self, live: bool) {
        self.state().live = live;
    }

    /// Refs of a repository moved.
    pub(crate) fn begin(&self, repository: &str) {
        self.state().repositories.entry(repository.into()).or_default().busy = true;
    }

    /// All that moved so far is in the log, or why not.
    pub(crate) fn end(&self, repository: &str, result: Result<(), String>) {
        let mut state = self.state();
        let one = state.repositories.entry(repository.into()).or_default();
        one.busy = result.is_err();
        one.error = result.err().unwrap_or_default();
    }

    /// Whether moves of refs are not in the log yet, as far as is known.
    pub(crate) fn is_busy(&self, repository: &str) -> bool {
        self.state().repositories.get(repository).is_some_and(|one| one.busy)
    }

    /// The auditor has looked, and looks at everything within some time.
    pub(crate) fn audited(&self, repository: &str, now: Timestamp, within: Duration) {
        let mut state = self.state();
        let audit = &mut state.repositories.entry(repository.into()).or_default().audit;
        (audit.at, audit.within) = (Some(now), Some(within));
    }

    /// The auditor found so many things that were not in the log.
    pub(crate) fn repaired(&self, repository: &str, count: u64) {
        self.state().repositories.entry(repository.into()).or_default().audit.repaired += count;
    }

    /// All that a repository at GitHub had at this time is in the log.
    pub(crate) fn github_read(&self, key: &str, at: Timestamp) {
        let mut state = self.state();
        let one = state.github.entry(key.into()).or_default();
        one.fresh_at = one.fresh_at.max(Some(at));
        one.error.clear();
    }

    /// Why a repository at GitHub is not read, or not all of it.
    pub(crate) fn github_waits(&self, key: &str, why: String) {
        self.state().github.entry(key.into()).or_default().error = why;
    }

    /// The auditor has looked at some of a repository at GitHub, repaired so much, and looks at everything within some
    /// time.
    pub(crate) fn github_audited(&self, key: &str, at: Timestamp, repaired: u64, within: Duration) {
        let mut state = self.state();
        let audit = &mut state.github.entry(key.into()).or_default().audit;
        (audit.at, audit.within) = (Some(at), Some(within));
        audit.repaired += repaired;
    }

    /// The votes of a project were compared with what Gerrit says: so many more changes differ than were known to, and
    /// `differ` names all that differ now.
    pub(crate) fn compared(&self, project: &str, now: Timestamp, more: u64, differ: &str) {
        for one in self.state().repositories.values_mut().filter(|one| one.project == project) {
            let disagreements = one.votes.disagreements + more;
            one.votes = Votes { compared_at: Some(now), disagreements, differ: differ.to_owned() };
        }
    }

    /// Takes over what gitmirror says its repositories are.
    pub(crate) fn learn(&self, listed: &[MirroredRepository]) {
        let mut state = self.state();
        for one in listed {
            state.repositories.entry(one.name.clone()).or_default().project.clone_from(&one.gerrit_project);
        }
    }

    /// The status of each source. Asks gitmirror, since it alone knows when it last asked the origin.
    pub(crate) async fn statuses(&self) -> Vec<SourceStatus> {
        let request = rpc::with_deadline(ListRepositoriesRequest {}, self.patience);
        let listed = self.mirror.clone().list_repositories(request).await;
        let mut state = self.state();
        let mut errors: BTreeMap<String, String> = BTreeMap::new();
        let live = state.live;
        match listed {
            Ok(listed) => {
                for mirrored in listed.into_inner().repositories {
                    let one = state.repositories.entry(mirrored.name.clone()).or_default();
                    if live && !one.busy {
                        let fetched = mirrored.fetched_at.as_ref().map(rpc::from_timestamp);
                        one.fresh_at = one.fresh_at.max(fetched);
                    }
                    one.project = mirrored.gerrit_project;
                    let error =
                        if mirrored.error.is_empty() && !live { NOT_LIVE.into() } else { mirrored.error };
                    errors.insert(mirrored.name, error);
                }
            }
            Err(status) => {
                let text = format!("gitmirror does not answer: {}", status.message());
                errors.extend(state.repositories.keys().map(|name| (name.clone(), text.clone())));
            }
        }
        let source = |(name, one): (&String, &Repository)| SourceStatus {
            source: match one.project.as_str() {
                "" => format!("git/{name}"),
                project => format!("gerrit/{project}"),
            },
            fresh_at: one.fresh_at.map(rpc::timestamp),
            audited_at: one.audit.at.map(rpc::timestamp),
            audited_within: one.audit.within.map(wire),
            repaired: one.audit.repaired,
            error: match (one.error.as_str(), errors.remove(name).unwrap_or_default()) {
                ("", theirs) if theirs.is_empty() => one.votes.differ.clone(),
                ("", theirs) => theirs,
                (ours, _) => ours.to_owned(),
            },
            votes_compared_at: one.votes.compared_at.map(rpc::timestamp),
            vote_disagreements: one.votes.disagreements,
        };
        let mut statuses: Vec<SourceStatus> = state.repositories.iter().map(source).collect();
        statuses.extend(state.github.iter().map(|(key, one)| SourceStatus {
            source: format!("github/{key}"),
            fresh_at: one.fresh_at.map(rpc::timestamp),
            audited_at: one.audit.at.map(rpc::timestamp),
            audited_within: one.audit.within.map(wire),
            repaired: one.audit.repaired,
            error: one.error.clone(),
            ..SourceStatus::default()
        }));
        statuses.sort_by(|one, other| one.source.cmp(&other.source));
        statuses
    }
}

fn wire(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or_default()
}
