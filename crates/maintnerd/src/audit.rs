//! The auditor: reads again what is in the log already, all the time and a little at a time, and repairs what drifted.
//!
//! Nothing should ever drift. But a move that was told while nobody listened, or a file of comments that made no sense to
//! an earlier version, would be missing from the log for ever: so it is looked for. Refs are compared twice, since a
//! difference may only be on its way; what repairs them is the stream of refs, begun anew, so that no repair comes out
//! of order. Of each project at a Gerrit the comments of some changes are read again in each round, so many that all come
//! up within a day.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use api::gitmirror::{WatchRefsRequest, watch_refs_response::Event};
use maintner::{core::Project, log::AppendError};
use rpc::watch::IDLE_LIMIT;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tracing::warn;
use types::CommitHash;

use crate::{import::Changes, mirror::Mirror, notes, pace, subject::Subject};

/// Refs that a warning names.
const NAMED: usize = 3;

/// Differences between gitmirror and the log: refs by repository.
type Drift = BTreeMap<String, Changes>;

/// A round came to no end.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error("gitmirror does not answer: {}", .0.message())]
    Mirror(#[from] Status),
    #[error("cannot append to the mutation log")]
    Append(#[from] AppendError),
}

pub(crate) struct Auditor {
    mirror: Arc<Mirror>,
    /// The change of each project that was looked at last.
    seen: BTreeMap<String, u32>,
}

impl Auditor {
    pub(crate) fn new(mirror: Arc<Mirror>) -> Self {
        Self { mirror, seen: BTreeMap::new() }
    }

    /// Works until cancelled. Fails only if the log does.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let cancel = self.mirror.tasks.shutdown();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = sleep(self.mirror.limits.audit) => {}
            }
            let round = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                round = self.round() => round,
            };
            match round {
                Ok(()) => {}
                Err(AuditError::Append(error)) => return Err(error.into()),
                // The sources say so, too; the next round is soon enough.
                Err(error) => warn!("the audit of the log is put off: {error}"),
            }
        }
    }

    async fn round(&mut self) -> Result<(), AuditError> {
        let first = self.refs().await?;
        if !first.is_empty() {
            sleep(self.mirror.limits.audit_again).await;
            let second = self.refs().await?;
            self.repair_refs(&first, &second);
        }
        for repository in self.mirror.list().await? {
            let within = self.comments(&repository.name).await?;
            self.mirror.sources.audited(&repository.name, self.mirror.clock.now(), within);
        }
        Ok(())
    }

    /// What gitmirror says of refs now that the log does not, in repositories of which nothing is on its way.
    async fn refs(&self) -> Result<Drift, AuditError> {
        let mirror = &self.mirror;
        let mut told = BTreeMap::<String, Changes>::new();
        let mut stream = mirror.client.clone().watch_refs(WatchRefsRequest {}).await?.into_inner();
        loop {
            let silent = |_| Status::unavailable("no word from gitmirror");
            let message = timeout(IDLE_LIMIT, stream.message()).await.map_err(silent)??;
            match message.ok_or_else(|| Status::unavailable("the stream of refs ended"))?.event {
                Some(Event::Update(update)) => {
                    let Ok(commit) = update.commit.parse::<CommitHash>() else { continue };
                    told.entry(update.repository).or_default().insert(update.r#ref, Some(commit));
                }
                Some(Event::Checkpoint(_)) => break,
                None => {}
            }
        }
        let told = mirror.with_those_gone(told, mirror.list().await?).await;
        let corpus = mirror.ledger.corpus().await;
        let news = |(repository, changes): (String, Changes)| {
            if mirror.sources.is_busy(&repository) {
                return None;
            }
            let subject = mirror.subjects.of(&repository);
            let news: Changes = changes
                .into_iter()
                .filter(|(name, commit)| subject.is_news(&corpus, name, *commit))
                .collect();
            (!news.is_empty()).then_some((repository, news))
        };
        Ok(told.into_iter().filter_map(news).collect())
    }

    /// What differs twice in the same way is not on its way.
    fn repair_refs(&self, first: &Drift, second: &Drift) {
        let mut any = false;
        for (repository, changes) in second {
            let before = first.get(repository);
            let same: Vec<&str> = changes
                .iter()
                .filter(|(name, commit)| before.and_then(|before| before.get(*name)) == Some(*commit))
                .map(|(name, _)| name.as_str())
                .collect();
            if same.is_empty() {
                continue;
            }
            any = true;
            let named = same.iter().take(NAMED).copied().collect::<Vec<_>>().join("`, `");
            warn!(
                repo.name = %repository,
                "{} refs of `{repository}` had drifted from the log, `{named}` among them: all are compared anew",
                same.len()
            );
            self.mirror.sources.repaired(repository, same.len() as u64);
        }
        if any {
            self.mirror.begin_anew();
        }
    }

    /// Reads the comments of the next changes of a project again. Answers within what time all of a repository is: its
    /// refs are in each round.
    async fn comments(&mut self, repository: &str) -> Result<Duration, AuditError> {
        let (mirror, round) = (Arc::clone(&self.mirror), self.mirror.limits.audit);
        let subject = mirror.subjects.of(repository);
        let (sample, within) = self.sample(&subject, round).await;
        for change in sample {
            if mirror.sources.is_busy(repository) {
                break;
            }
            self.seen.insert(repository.to_owned(), change);
            let corpus = mirror.ledger.corpus().await;
            let touched = notes::of_change(&corpus, &subject, change);
            drop(corpus);
            let Some(touched) = touched else { continue };
            let state = touched.state();
            let comments = notes::read(&mirror.client, &subject, vec![touched]).await?;
            let count = mirror.ledger.repair_comments(&subject, (change, state), comments).await?;
            if count > 0 {
                warn!(
                    repo.name = %repository,
                    change.id = change,
                    "{count} comments of change {change} of `{repository}` had drifted from the log, and are in it now"
                );
                mirror.sources.repaired(repository, count);
            }
        }
        Ok(within)
    }

    /// The next changes, and within what time all are looked at.
    async fn sample(&self, subject: &Subject, round: Duration) -> (Vec<u32>, Duration) {
        let corpus = self.mirror.ledger.corpus().await;
        let all = subject.project(&corpus).iter().flat_map(Project::changes).count();
        let most = pace::changes_in_a_round(all, round);
        let within = round * u32::try_from(all.div_ceil(most).max(1)).unwrap_or(u32::MAX);
        let last = self.seen.get(&subject.repository).copied().unwrap_or_else(|| {
            let before = pace::beginning(all, self.mirror.clock.now(), pace::CHANGES_WITHIN);
            notes::next_changes(&corpus, subject, 0, before).last().copied().unwrap_or(0)
        });
        let mut sample = notes::next_changes(&corpus, subject, last, most);
        let rest = most.min(all) - sample.len();
        sample.extend(notes::next_changes(&corpus, subject, 0, rest));
        (sample, within)
    }
}
