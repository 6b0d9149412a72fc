//! When a repository is looked at: at once, then when its time has come, when something woke us, and again and again for
//! a while when something woke us and nothing was new, since GitHub tells of a change before it shows it. What wakes us
//! comes first, also amid a pass that takes hours: that ends after the step at which it is, and another goes on there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use github::Client;
use maintner::log::AppendError;
use runtime::SharedClock;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::Timestamp;

use super::{
    GithubRepository,
    pass::{Outcome, PassError, Reader},
    wakes::{Wake, Wakes},
};
use crate::{config::Limits, ledger::Ledger, pace, sources::Sources};

/// The longest pause after a failure.
const LONGEST_RETRY: Duration = Duration::from_mins(5);
/// When something changed in the second in which it was read, it is read again a little later.
const AGAIN: Duration = Duration::from_secs(2);

/// What all sources share.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) limits: Limits,
    pub(crate) clock: SharedClock,
}

/// A wake that has not been answered by news yet.
#[derive(Debug, Clone, Copy)]
struct Expected {
    at: Instant,
    /// The pause after that.
    pause: Duration,
}

pub(crate) struct Source {
    repository: Arc<GithubRepository>,
    reader: Reader,
    client: Client,
    sharing: u64,
    wakes: Arc<Wakes>,
    around: Around,
    /// When the next pass is due.
    due: Instant,
    audit_due: Instant,
    expected: BTreeMap<Wake, Expected>,
    /// Nothing is asked before.
    blocked: Option<Instant>,
    failures: u32,
}

impl Source {
    /// Reads a repository by a client that it shares with so many, itself among them.
    pub(crate) fn new(
        repository: GithubRepository,
        (client, sharing): (Client, u64),
        wakes: Arc<Wakes>,
        around: Around,
    ) -> Self {
        let repository = Arc::new(repository);
        let ledger = Arc::clone(&around.ledger);
        let reader = Reader::new(Arc::clone(&repository), client.clone(), ledger, Arc::clone(&wakes));
        let now = Instant::now();
        let audit_due = now + around.limits.audit;
        around.sources.github_waits(&repository.key(), "it has not been read to its end yet".into());
        Self {
            repository,
            reader,
            client,
            sharing,
            wakes,
            around,
            due: now,
            audit_due,
            expected: BTreeMap::new(),
            blocked: None,
            failures: 0,
        }
    }

    /// Works until cancelled. Fails only if the log does.
    pub(crate) async fn run(mut self, cancel: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = self.wakes.noticed() => {}
                () = sleep_until(self.next()) => {}
            }
            let now = Instant::now();
            for wake in self.wakes.take() {
                self.expected.insert(wake, Expected { at: now, pause: self.around.limits.github_expect });
            }
            if self.blocked.is_some_and(|blocked| blocked > now) {
                continue;
            }
            let worked = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                worked = self.work() => worked,
            };
            match worked {
                Ok(()) => {
                    self.failures = 0;
                    self.blocked = None;
                }
                Err(PassError::Append(error)) if !matches!(error, AppendError::TooLarge { .. }) => {
                    return Err(error.into());
                }
                Err(error) => self.failed(&error),
            }
        }
    }

    /// When there is something to do.
    fn next(&self) -> Instant {
        let expected = self.expected.values().map(|expected| expected.at);
        let next = expected.chain([self.due, self.audit_due]).min().unwrap_or(self.due);
        self.blocked.map_or(next, |blocked| blocked.max(next))
    }

    /// Does what is due. What fails stays due.
    async fn work(&mut self) -> Result<(), PassError> {
        let now = Instant::now();
        let due: Vec<Wake> =
            self.expected.iter().filter(|(_, one)| one.at <= now).map(|(wake, _)| *wake).collect();
        for wake in due {
            let outcome = match wake {
                Wake::Commit(commit) => self.reader.commit(commit).await?,
                Wake::Issue(number) => self.reader.one(number).await?,
                Wake::Repository => self.pass(true).await?,
            };
            self.answered(wake, &outcome);
        }
        if self.due <= now {
            self.pass(false).await?;
        }
        if self.audit_due <= now {
            self.audit().await?;
        }
        Ok(())
    }

    /// Without news a wake is expected to bring some a little later, until the next pass would be as soon.
    fn answered(&mut self, wake: Wake, outcome: &Outcome) {
        if outcome.interrupted {
            // What is wanted meanwhile comes first; it is not answered yet.
            return;
        }
        let poll = self.repository.poll;
        if let Some(expected) = self.expected.get_mut(&wake) {
            expected.at = Instant::now() + expected.pause;
            expected.pause *= 2;
            if outcome.news > 0 || expected.pause > poll {
                self.expected.remove(&wake);
            }
        }
        if outcome.again {
            self.due = self.due.min(Instant::now() + AGAIN);
        }
    }

    async fn pass(&mut self, direct: bool) -> Result<Outcome, PassError> {
        let (begun, now) = (self.around.clock.now(), Instant::now());
        self.reader.until = self.expected.values().map(|expected| expected.at).filter(|at| *at > now).min();
        let outcome = self.reader.pass(direct).await?;
        let key = self.repository.key();
        if outcome.news > 0 {
            info!(repo.name = %key, "{} mutations of `{key}` at GitHub", outcome.news);
        }
        match &outcome.problem {
            Some(problem) => {
                warn!(repo.name = %key, "`{key}` at GitHub: {problem}");
                self.around.sources.github_waits(&key, problem.clone());
            }
            None if outcome.again || outcome.interrupted => {}
            None => self.around.sources.github_read(&key, begun),
        }
        let pause = match (outcome.interrupted, outcome.again) {
            (true, _) => Duration::ZERO,
            (_, true) => AGAIN.min(self.repository.poll),
            (false, false) => self.repository.poll,
        };
        self.due = Instant::now() + pause;
        Ok(outcome)
    }

    async fn audit(&mut self) -> Result<(), PassError> {
        let now = self.around.clock.now();
        let count = self.reader.count().await;
        let pause = pace::between_issues(count, self.around.limits.audit, self.client.hourly(), self.sharing);
        self.audit_due = Instant::now() + pause;
        let drifted = self.reader.audit(now).await?;
        let key = self.repository.key();
        if let Some(number) = drifted {
            warn!(
                repo.name = %key,
                "issue {number} of `{key}` had drifted from the log, which has it as it is now"
            );
        }
        let within = pause.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        self.around.sources.github_audited(&key, now, u64::from(drifted.is_some()), within);
        Ok(())
    }

    fn failed(&mut self, error: &PassError) {
        let key = self.repository.key();
        if self.reader.has_news() {
            self.failures = 0;
        }
        let pause = error.limited().unwrap_or_else(|| {
            if self.failures == 0 {
                warn!(repo.name = %key, "`{key}` at GitHub: {error}, trying again");
            }
            self.failures += 1;
            (self.around.limits.retry * 2_u32.pow(self.failures.min(16))).min(LONGEST_RETRY)
        });
        self.blocked = Some(Instant::now() + pause);
        let why = match error.limited() {
            Some(_) => format!("GitHub's limit is used up until {}", moment(self.around.clock.now() + pause)),
            None => error.to_string(),
        };
        self.around.sources.github_waits(&key, why);
    }
}

/// A time as people read it.
fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.seconds()).map_or_else(|_| "some day".into(), |at| at.to_string())
}
