//! What is said at a review host that loses answers, refuses, and moves on meanwhile.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use buildspec::Farm;
use runtime::{SharedClock, clock::FakeClock};
use types::{BuildNumber, CommitHash, Outcome, RepositoryName, Timestamp};
use uuid::Uuid;

use super::{Place, ReviewError, Saying, Speaker, Standing};
use crate::{
    core::{ChangeKey, TryBuild, TryEnd, TrySet, Word},
    ports::{Outcomes, RecordsError, Reviews, Unsaid, Words},
    settings::Settings,
    shell::Hub,
};

const FARM: &str = r#"
environment = "production"
[[repositories]]
name = "example"
origin = "/example"
gerrit = { url = "https://review.example.com" }
tries = { user = "farmer", password = "/none" }
"#;

fn commit(patch_set: u8) -> CommitHash {
    CommitHash::from_bytes([patch_set; 20])
}

#[derive(Default)]
struct Inner {
    said: Vec<Saying>,
    newest: u8,
    closed: bool,
    /// The next answers are lost, though what was asked is done.
    lost: u32,
    refuses: bool,
}

/// A host with one change.
#[derive(Default)]
struct Host(Mutex<Inner>);

#[async_trait]
impl Reviews for Host {
    async fn look(&self, _: &Place, _: u32) -> Result<Option<Standing>, ReviewError> {
        let inner = self.0.lock().unwrap();
        if inner.refuses {
            return Err(ReviewError::Refused("403".to_owned()));
        }
        let tags = inner.said.iter().map(|saying| saying.tag.clone()).collect();
        Ok(Some(Standing { commit: commit(inner.newest), open: !inner.closed, tags }))
    }

    async fn say(&self, _: &Place, _: u32, saying: &Saying) -> Result<(), ReviewError> {
        let mut inner = self.0.lock().unwrap();
        inner.said.push(saying.clone());
        if inner.lost > 0 {
            inner.lost -= 1;
            return Err(ReviewError::Unavailable("lost".to_owned()));
        }
        Ok(())
    }
}

/// A set, and what became of the word about it.
type Row = (TrySet, Option<String>);

/// The outbox.
#[derive(Default)]
struct Rows(Mutex<BTreeMap<(Uuid, Word), Row>>);

#[async_trait]
impl Words for Rows {
    async fn unsaid(&self, limit: usize) -> Result<Vec<Unsaid>, RecordsError> {
        let rows = self.0.lock().unwrap();
        let unsaid = rows.iter().filter(|(_, (_, note))| note.is_none());
        Ok(unsaid.map(|((_, word), (set, _))| Unsaid { word: *word, set: set.clone() }).take(limit).collect())
    }

    async fn said(&self, set: Uuid, word: Word, note: &str, _: Timestamp) -> Result<(), RecordsError> {
        self.0.lock().unwrap().get_mut(&(set, word)).unwrap().1 = Some(note.to_owned());
        Ok(())
    }

    async fn outcomes(&self, _: &RepositoryName, _: CommitHash) -> Result<Outcomes, RecordsError> {
        Ok(Outcomes::new())
    }
}

struct World {
    host: Arc<Host>,
    rows: Arc<Rows>,
    hub: Hub,
    speaker: Speaker,
}

fn world(farm: &str) -> World {
    let (host, rows, hub) = (Arc::<Host>::default(), Arc::<Rows>::default(), Hub::new(0));
    host.0.lock().unwrap().newest = 1;
    let farm: Farm = runtime::config::parse("farm.toml", farm).unwrap();
    let clock: SharedClock = Arc::new(FakeClock::new(Timestamp::from_seconds(1)));
    let speaker = Speaker {
        words: rows.clone(),
        reviews: host.clone(),
        settings: Settings::new(farm, None),
        pages: Arc::from("http://farm"),
        hub: hub.clone(),
        clock,
        mutation: None,
    };
    World { host, rows, hub, speaker }
}

impl World {
    /// Something is to be said of the first patch set.
    fn word(&self, word: Word, end: Option<TryEnd>) {
        let outcome = end.map(|end| if end == TryEnd::Passed { Outcome::Passed } else { Outcome::Failed });
        let set = TrySet {
            id: Uuid::from_u128(1),
            change: ChangeKey { repository: "example".parse().unwrap(), number: 7 },
            patch_set: 1,
            commit: commit(1),
            base: None,
            ask: String::new(),
            open: true,
            begun: Timestamp(0),
            end: end.map(|end| (Timestamp(1), end)),
            builds: vec![TryBuild {
                number: BuildNumber(3),
                builder: "linux".parse().unwrap(),
                outcome,
                note: String::new(),
            }],
            notes: Vec::new(),
        };
        self.rows.0.lock().unwrap().insert((set.id, word), (set, None));
    }

    async fn speak(&self) -> bool {
        self.speaker.say_all().await.unwrap().is_none()
    }

    fn votes(&self) -> Vec<(String, i8)> {
        self.host.0.lock().unwrap().said.iter().filter_map(|saying| saying.vote.clone()).collect()
    }

    fn notes(&self) -> Vec<String> {
        self.rows.0.lock().unwrap().values().filter_map(|(_, note)| note.clone()).collect()
    }
}

#[tokio::test]
async fn an_end_is_one_vote_with_a_link_though_the_answer_was_lost() {
    let world = world(FARM);
    world.host.0.lock().unwrap().lost = 1;
    world.word(Word::Ended, Some(TryEnd::Passed));
    assert!(!world.speak().await, "it is not known whether it was heard");
    assert!(world.hub.problems().iter().any(|(_, problem)| problem.text.contains("change 7 of example")));
    assert!(world.speak().await);
    assert_eq!(world.votes(), [("TryBot-Result".to_owned(), 1)]);
    assert_eq!(world.notes(), ["said before"]);
    assert_eq!(world.hub.problems(), []);
    let said = world.host.0.lock().unwrap().said[0].clone();
    assert!(said.message.contains("linux: http://farm/build/3"), "{}", said.message);
}

#[tokio::test]
async fn nothing_is_said_of_a_patch_set_that_is_outdated_or_of_a_change_that_is_closed() {
    for closed in [false, true] {
        let world = world(FARM);
        world.host.0.lock().unwrap().newest = if closed { 1 } else { 2 };
        world.host.0.lock().unwrap().closed = closed;
        world.word(Word::Ended, Some(TryEnd::Failed));
        assert!(world.speak().await);
        assert_eq!((world.votes().len(), world.notes().len()), (0, 1));
    }
}

#[tokio::test]
async fn what_is_outdated_by_the_end_is_not_said() {
    let world = world(FARM);
    world.word(Word::Begun, Some(TryEnd::Failed));
    world.word(Word::Failing, Some(TryEnd::Failed));
    world.word(Word::Ended, Some(TryEnd::Failed));
    assert!(world.speak().await);
    assert_eq!((world.votes(), world.notes().len()), (vec![("TryBot-Result".to_owned(), -1)], 3));
}

#[tokio::test]
async fn no_vote_follows_what_is_unfinished_nor_anything_in_staging() {
    let staging = FARM.replace("production", "staging");
    for (farm, end) in [(FARM, TryEnd::Unfinished), (staging.as_str(), TryEnd::Passed)] {
        let world = world(farm);
        world.word(Word::Ended, Some(end));
        assert!(world.speak().await);
        let said = world.host.0.lock().unwrap().said.len();
        assert_eq!((said, world.votes().len()), (1, 0));
    }
}

#[tokio::test]
async fn a_word_waits_until_the_host_takes_it() {
    let world = world(FARM);
    world.host.0.lock().unwrap().refuses = true;
    world.word(Word::Ended, Some(TryEnd::Passed));
    assert!(!world.speak().await);
    let problems = world.hub.problems();
    assert!(problems[0].1.next_step.contains("an account that may vote"), "{problems:?}");
    world.host.0.lock().unwrap().refuses = false;
    assert!(world.speak().await);
    assert_eq!(world.votes().len(), 1);
}
