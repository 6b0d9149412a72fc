//! Whether Gerrit counts the same votes as the log does.
//!
//! Which changes wait for a try follows from the corpus. Every so often, and however many ask, each Gerrit is asked once
//! what it says itself. It speaks of a state of the change, which NoteDb names; only when that is the state that the log
//! has too are the answers compared. When they differ, Gerrit's counts for as long as that state stands, and it is a
//! defect: logged with both answers, counted, and in the status of the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use maintner::{Corpus, core::Change};
use opentelemetry::metrics::Counter;
use runtime::SharedClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use types::CommitHash;

use crate::{
    config::Limits,
    gerrit::{Gerrits, Said},
    golang::waits,
    ledger::{Ending, Ledger},
    sources::Sources,
    subject::Subjects,
};

/// The state of a change: the last commit of its NoteDb.
fn state(change: &Change<'_>) -> Option<CommitHash> {
    Some(change.metas().next_back()?.commit().hash())
}

/// What counts where Gerrit and the log differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    /// By `host/project` and number: of which state, and whether the change waits.
    changes: BTreeMap<(String, u32), (CommitHash, bool)>,
}

impl Verdicts {
    /// Whether a change waits for a try, if Gerrit says otherwise than the log about the state that it is in.
    pub(crate) fn of(&self, change: &Change<'_>) -> Option<bool> {
        if self.changes.is_empty() {
            return None;
        }
        let (of, waits) = self.changes.get(&(change.project().name().to_owned(), change.number()))?;
        (state(change) == Some(*of)).then_some(*waits)
    }
}

/// A change of which Gerrit says something else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Disagreement {
    /// `host/project`.
    project: String,
    number: u32,
    state: CommitHash,
    /// What Gerrit says.
    waits: bool,
    /// Both answers.
    text: String,
}

/// Compares.
pub(crate) struct Votes {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) subjects: Arc<Subjects>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) gerrits: Gerrits,
    pub(crate) verdicts: watch::Sender<Arc<Verdicts>>,
    pub(crate) clock: SharedClock,
    pub(crate) limits: Limits,
}

/// What is remembered from one round to the next.
struct Memory {
    /// Disagreements that stand, so that each is counted once.
    known: BTreeMap<String, Vec<Disagreement>>,
    /// Why a Gerrit could not be asked the last time, so that it is said once.
    failed: BTreeMap<String, String>,
    counted: Counter<u64>,
}

impl Votes {
    /// Compares until cancelled.
    pub(crate) async fn run(self, cancel: CancellationToken) -> anyhow::Result<()> {
        let counted = runtime::telemetry::meter().u64_counter("maintnerd.vote_disagreements").build();
        let mut memory = Memory { known: BTreeMap::new(), failed: BTreeMap::new(), counted };
        let mut ticks = tokio::time::interval(self.limits.votes);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let round = self.round(&mut memory);
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                ended = round => if ended.is_err() { return Ok(()) },
            }
        }
    }

    async fn round(&self, memory: &mut Memory) -> Result<(), Ending> {
        let places = self.subjects.gerrits();
        memory.known.retain(|url, _| places.contains_key(url));
        for (url, projects) in &places {
            let wanted = projects.clone();
            let ours = self.ledger.ask(move |corpus| waiting(corpus, &wanted)).await?.value;
            match self.gerrits.votes(url, &ours).await {
                Ok(said) => {
                    memory.failed.remove(url);
                    let wanted = projects.clone();
                    let found = self.ledger.ask(move |corpus| compare(corpus, &wanted, &said)).await?.value;
                    self.tell(memory, url, projects, found);
                }
                Err(why) => {
                    let words = why.to_string();
                    if memory.failed.get(url) != Some(&words) {
                        let cause = &why as &dyn std::error::Error;
                        warn!(error = cause, "cannot compare votes with Gerrit's: {words}");
                        memory.failed.insert(url.clone(), words);
                    }
                }
            }
        }
        let all = memory.known.values().flatten();
        let changes = all.map(|one| ((one.project.clone(), one.number), (one.state, one.waits))).collect();
        self.verdicts.send_if_modified(|verdicts| {
            let new = Verdicts { changes };
            let other = **verdicts != new;
            if other {
                *verdicts = Arc::new(new);
            }
            other
        });
        Ok(())
    }

    /// Says what is new, and what stands.
    fn tell(&self, memory: &mut Memory, url: &str, projects: &BTreeSet<String>, found: Vec<Disagreement>) {
        let known = memory.known.get(url).map(Vec::as_slice).unwrap_or_default();
        let mut fresh: BTreeMap<&str, u64> = BTreeMap::new();
        for one in found.iter().filter(|one| !known.contains(one)) {
            error!(change.id = one.number, "votes of `{}` are counted wrongly: {}", one.project, one.text);
            memory.counted.add(1, &[]);
            *fresh.entry(&one.project).or_default() += 1;
        }
        let now = self.clock.now();
        for project in projects {
            let differ: Vec<&str> =
                found.iter().filter(|one| one.project == *project).map(|one| one.text.as_str()).collect();
            let fresh = fresh.get(project.as_str()).copied().unwrap_or(0);
            self.sources.compared(project, now, fresh, &differ.join("; "));
        }
        memory.known.insert(url.to_owned(), found);
    }
}

/// The numbers of the changes of these projects that wait for a try by what the log says.
fn waiting(corpus: &Corpus, projects: &BTreeSet<String>) -> Vec<u32> {
    let known = projects.iter().filter_map(|project| corpus.gerrit().project(project));
    let open = known.flat_map(|project| project.open_changes());
    open.filter(waits).map(|change| change.number()).collect()
}

/// Those of which Gerrit says something else, in the order of its answer. What the log does not know, or knows in another
/// state, is compared when both have the same.
fn compare(corpus: &Corpus, projects: &BTreeSet<String>, said: &[Said]) -> Vec<Disagreement> {
    let of = |said: &Said| {
        let name = format!("/{}", said.project);
        // A project may be called as the end of another one's name; the right one has nothing before it but the host.
        let project = projects.iter().filter(|one| one.ends_with(&name)).min_by_key(|one| one.len())?;
        let change = corpus.gerrit().project(project)?.change(said.number)?;
        let ours = waits(&change) && !change.is_private();
        if state(&change) != Some(said.meta) || ours == said.waits || change.is_private() {
            return None;
        }
        let word = |waits: bool| if waits { "waits for a try" } else { "does not wait for a try" };
        let votes: Vec<String> =
            change.votes().map(|vote| format!("{}{:+} by {}", vote.label, vote.value, vote.voter)).collect();
        let (number, by_us, by_them) = (said.number, word(ours), word(said.waits));
        let text = format!(
            "change {number} {by_us} by the log ({}), and {by_them} by Gerrit ({})",
            if votes.is_empty() { "no votes".to_owned() } else { votes.join(", ") },
            said.votes
        );
        let (project, waits) = (project.clone(), said.waits);
        Some(Disagreement { project, number, state: said.meta, waits, text })
    };
    said.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golang::testing::Fixture;

    fn said(project: &str, number: u32, meta: CommitHash, waits: bool) -> Said {
        Said { project: project.to_owned(), number, meta, waits, votes: "theirs".to_owned() }
    }

    #[test]
    fn answers_are_compared_only_about_the_same_state() {
        let mut fixture = Fixture::default();
        fixture.change("go", 5, "refs/heads/master");
        let projects =
            BTreeSet::from(["go.googlesource.com/go", "go.googlesource.com/x/go"].map(str::to_owned));
        assert_eq!(waiting(&fixture.corpus, &projects), Vec::<u32>::new());
        let of = |fixture: &Fixture| {
            let project = fixture.corpus.gerrit().project("go.googlesource.com/go").unwrap();
            state(&project.change(5).unwrap()).unwrap()
        };
        let before = of(&fixture);
        fixture.say("go", 5, "Patch Set 1: Run-TryBot+1", "Label: Run-TryBot=+1");
        let now = of(&fixture);
        let differ = |answer: &[Said]| compare(&fixture.corpus, &projects, answer);
        assert_eq!(waiting(&fixture.corpus, &projects), [5]);
        assert_eq!(differ(&[said("go", 5, now, true)]), []);
        assert_eq!(
            differ(&[said("go", 5, before, false), said("go", 6, now, true), said("net", 5, now, false)]),
            []
        );
        let [one] = &differ(&[said("go", 5, now, false)])[..] else { panic!("it is not noticed") };
        assert_eq!((one.project.as_str(), one.number, one.waits), ("go.googlesource.com/go", 5, false));
        assert_eq!(
            one.text,
            "change 5 waits for a try by the log (Run-TryBot+1 by 7@62eb7196), and does not wait for a try by Gerrit \
             (theirs)"
        );
        // It counts until the change is in another state.
        let changes = BTreeMap::from([((one.project.clone(), 5), (one.state, one.waits))]);
        let verdicts = Verdicts { changes };
        let verdict = |fixture: &Fixture| {
            let project = fixture.corpus.gerrit().project("go.googlesource.com/go").unwrap();
            verdicts.of(&project.change(5).unwrap())
        };
        assert_eq!(verdict(&fixture), Some(false));
        fixture.say("go", 5, "Patch Set 1:\n\nmore", "");
        assert_eq!(verdict(&fixture), None);
    }
}
