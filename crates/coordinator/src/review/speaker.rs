//! Says the words of the outbox, those of one change in their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use buildspec::Environment;
use futures_util::future::join_all;
use runtime::SharedClock;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use types::RepositoryName;

use super::{
    Place, ReviewError, Saying, Standing,
    place::tag,
    text::{self, Facts},
};
use crate::{
    core::{ChangeKey, Mutation, TryEnd, Word},
    ports::{RecordsError, Reviews, Unsaid, Words},
    settings::Settings,
    shell::Hub,
};

/// How many words are looked at in one go.
const BATCH: usize = 200;
/// How long to wait before a host that cannot be reached is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The same for one that refuses: somebody must change something first.
const LATER: Duration = Duration::from_secs(30);

/// Says what is to be said.
pub(crate) struct Speaker {
    pub(crate) words: Arc<dyn Words>,
    pub(crate) reviews: Arc<dyn Reviews>,
    pub(crate) settings: Settings,
    /// The address of the pages, unless `farm.toml` says another.
    pub(crate) pages: Arc<str>,
    pub(crate) hub: Hub,
    pub(crate) clock: SharedClock,
    pub(crate) mutation: Option<Mutation>,
}

/// Why a word was not said.
#[derive(Debug, thiserror::Error)]
enum SpeakError {
    #[error(transparent)]
    Review(#[from] ReviewError),
    #[error(transparent)]
    Records(#[from] RecordsError),
}

impl Speaker {
    /// Says what is there, then whatever comes.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        loop {
            let pause = match self.say_all().await {
                Ok(pause) => pause,
                Err(error) => {
                    warn!("what is to be said of changes cannot be read: {error}");
                    Some(AGAIN)
                }
            };
            let again = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = self.hub.words() => {}
                () = again => {}
            }
        }
    }

    /// Says all it can; answers when to try again what it could not say. One host does not wait for another.
    pub(super) async fn say_all(&self) -> Result<Option<Duration>, RecordsError> {
        let unsaid = self.words.unsaid(BATCH).await?;
        let full = unsaid.len() == BATCH;
        let mut by_repository: BTreeMap<RepositoryName, Vec<Unsaid>> = BTreeMap::new();
        for word in unsaid {
            by_repository.entry(word.set.change.repository.clone()).or_default().push(word);
        }
        let pauses = join_all(by_repository.into_values().map(|words| self.say_those(words))).await;
        let pause = pauses.into_iter().flatten().min();
        Ok(if full && pause.is_none() { Some(Duration::ZERO) } else { pause })
    }

    /// Says words about changes of one repository.
    async fn say_those(&self, words: Vec<Unsaid>) -> Option<Duration> {
        let mut silent: BTreeSet<ChangeKey> = BTreeSet::new();
        let mut pause: Option<Duration> = None;
        for unsaid in words {
            let change = unsaid.set.change.clone();
            // The words of one change keep their order.
            if silent.contains(&change) {
                continue;
            }
            let problem = format!("review of {}", change.repository);
            let Err(error) = self.say(unsaid).await else {
                self.hub.solved(&problem);
                continue;
            };
            let refused = matches!(error, SpeakError::Review(ReviewError::Refused(_)));
            let text = format!("change {} of {} waits for a word: {error}", change.number, change.repository);
            warn!("{text}");
            let next = if refused {
                "see that `tries` of the repository in farm.toml name an account that may vote"
            } else {
                "see that the review host runs"
            };
            self.hub.problem(problem, text, next, self.clock.now());
            let wait = if refused { LATER } else { AGAIN };
            pause = Some(pause.map_or(wait, |pause| pause.min(wait)));
            silent.insert(change);
        }
        pause
    }

    async fn say(&self, unsaid: Unsaid) -> Result<(), SpeakError> {
        let Unsaid { word, set } = &unsaid;
        let note = self.told(&unsaid).await?;
        self.words.said(set.id, *word, note, self.clock.now()).await?;
        info!(
            change.id = %set.change.number,
            "change {} of {}: {}: {note}",
            set.change.number,
            set.change.repository,
            word.as_str()
        );
        Ok(())
    }

    /// Tells the host, if it is still to be told. Answers what became of the word.
    async fn told(&self, unsaid: &Unsaid) -> Result<&'static str, SpeakError> {
        let Unsaid { word, set } = unsaid;
        if word.is_stale(set) {
            return Ok("not said: more is known by now");
        }
        let farm = self.settings.farm();
        let Some(place) = Place::of(&farm, &set.change.repository) else {
            return Ok("not said: the repository is not tried any more");
        };
        let tag = tag(*word, set.id);
        let standing = self.reviews.look(&place, set.change.number).await?;
        let Some(Standing { commit, open, tags }) = standing else {
            return Ok("not said: the change is gone");
        };
        if tags.contains(&tag) && !Mutation::SayTwice.is(self.mutation) {
            return Ok("said before");
        }
        if !open {
            return Ok("not said: the change is closed");
        }
        if commit != set.commit && !Mutation::VoteLate.is(self.mutation) {
            return Ok("not said: there is a newer patch set");
        }
        let votes = *word == Word::Ended && farm.environment != Environment::Staging;
        let end = set.end.map(|(_, end)| end);
        let vote = end.and_then(TryEnd::vote).filter(|_| votes);
        let base = match set.base {
            Some(base) => self.words.outcomes(&set.change.repository, base).await?,
            None => crate::ports::Outcomes::new(),
        };
        let pages = farm.url.as_deref().unwrap_or(&self.pages);
        let asks = place.tries.on == buildspec::TryOn::Vote;
        let label = if asks { place.tries.label.as_str() } else { "" };
        let facts = Facts { set, pages, label, base: &base };
        let saying = Saying {
            commit: set.commit,
            tag,
            message: text::message(*word, &facts),
            vote: vote.map(|value| (place.tries.result.clone(), value)),
            loud: *word == Word::Ended,
        };
        self.reviews.say(&place, set.change.number, &saying).await?;
        Ok("said")
    }
}
