//! Finds tries: looks at each change that the mutation log tells of, and tells the core what it asks for. It is the core
//! that knows whether that is news.

use std::{collections::BTreeSet, fmt::Write as _};

use api::{
    maintner::{ChangeMessage, ChangeStatus, GetChangeResponse},
    maintpb::Mutation,
};
use buildspec::{BuildFile, Builder, Environment, Farm, Purpose, Repository, Tries, TryOn};
use maintner::{core::change_of_ref, tries as rule};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use types::CommitHash;

use super::{
    Finder, Wanted,
    follow::{AGAIN, FindError},
    moves::Recent,
};
use crate::{
    core::{Accept, ChangeKey, Class, NewBuild, TryNews, TryWish},
    review::Place,
    shell::Stopped,
};

/// The hashtag of the changes that a farm for staging tries.
const STAGING: &str = "staging";
/// How a line begins that asks for a try.
const COMMAND: &str = "/try";

/// The changes that mutations tell of, of repositories whose changes are tried.
pub(super) fn touched(farm: &Farm, mutations: &[Mutation]) -> BTreeSet<ChangeKey> {
    let tried = |project: &str| {
        let is = |repository: &&Repository| {
            repository.tries.is_some()
                && repository.gerrit.as_ref().is_some_and(|gerrit| gerrit.key() == project)
        };
        farm.repositories.iter().find(is)
    };
    let mut all = BTreeSet::new();
    for gerrit in mutations.iter().filter_map(|mutation| mutation.gerrit.as_ref()) {
        let Some(repository) = tried(&gerrit.project) else { continue };
        let moved = gerrit.refs.iter().map(|moved| moved.r#ref.as_str());
        let gone = gerrit.deleted_refs.iter().map(String::as_str);
        let numbers = moved.chain(gone).filter_map(change_of_ref).map(|(number, _)| number);
        all.extend(numbers.map(|number| ChangeKey { repository: repository.name.clone(), number }));
    }
    all
}

/// What a change asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    patch_set: u32,
    commit: CommitHash,
    /// The branch that it is for.
    git_ref: String,
    /// Which wish it is.
    ask: String,
    /// Builders that it names.
    terms: Vec<String>,
}

impl Finder {
    /// Tells the core how changes stand.
    pub(super) async fn look_at(
        &self,
        recent: &Recent,
        changes: BTreeSet<ChangeKey>,
        shutdown: &CancellationToken,
    ) -> Result<(), FindError> {
        for change in changes {
            if let Some(news) = self.news(recent, change, shutdown).await? {
                self.handle.accept(Accept { tries: vec![news], ..Accept::default() }).await?;
            }
        }
        Ok(())
    }

    /// The same for all changes that may ask: what happened to them before is not known.
    pub(super) async fn look_at_all(
        &self,
        recent: &Recent,
        shutdown: &CancellationToken,
    ) -> Result<(), FindError> {
        let known = |state: &crate::core::State| state.try_sets().map(|set| set.change.clone()).collect();
        let mut changes: BTreeSet<ChangeKey> = self.handle.ask(known).await?;
        let farm = self.settings.farm();
        for repository in &farm.repositories {
            let Some(Place { project, tries, .. }) = Place::of(&farm, &repository.name) else { continue };
            let key = project.key();
            let open = self.ask_maintnerd(shutdown, || self.changes.open(&key)).await?;
            let may_ask = |change: &api::maintner::Change| {
                tries.on != TryOn::Vote
                    || change.votes.iter().any(|vote| vote.label == tries.label && vote.value == 1)
            };
            let numbers = open.iter().filter(|change| may_ask(change)).map(|change| change.number);
            changes.extend(numbers.map(|number| ChangeKey { repository: repository.name.clone(), number }));
        }
        self.look_at(recent, changes, shutdown).await
    }

    /// How a change stands, if the core does not know it so.
    async fn news(
        &self,
        recent: &Recent,
        change: ChangeKey,
        shutdown: &CancellationToken,
    ) -> Result<Option<TryNews>, FindError> {
        let farm = self.settings.farm();
        let asked = match (Place::of(&farm, &change.repository), farm.repository(&change.repository)) {
            (Some(place), Some(repository)) => {
                let key = place.project.key();
                let found = self.ask_maintnerd(shutdown, || self.changes.change(&key, change.number)).await?;
                let found = found.ok_or_else(|| "the change is gone".to_owned());
                let asked = found.and_then(|found| asked(farm.environment, &place.tries, &found));
                asked.map(|asked| (asked, repository))
            }
            _ => Err("changes of the repository are not tried any more".to_owned()),
        };
        let key = change.clone();
        let stands = move |state: &crate::core::State| {
            state.try_set(&key).map(|set| (set.patch_set, set.commit, set.ask.clone()))
        };
        let stands = self.handle.ask(stands).await?;
        let wish = match (asked, stands) {
            (Err(_), None) => return Ok(None),
            (Err(reason), Some(_)) => Err(reason),
            (Ok((asked, _)), Some(stands))
                if stands == (asked.patch_set, asked.commit, asked.ask.clone()) =>
            {
                return Ok(None);
            }
            (Ok((asked, repository)), _) => Ok(self.wish(recent, repository, asked, shutdown).await?),
        };
        Ok(Some(TryNews { change, wish }))
    }

    /// Plans what a change asks for.
    async fn wish(
        &self,
        recent: &Recent,
        repository: &Repository,
        asked: Asked,
        shutdown: &CancellationToken,
    ) -> Result<TryWish, FindError> {
        let Asked { patch_set, commit, git_ref, ask, terms } = asked;
        let mut wish = TryWish { patch_set, commit, base: None, ask, builds: Vec::new(), notes: Vec::new() };
        let found = self.again(shutdown, || recent.one(&*self.mirror, &repository.name, commit)).await?;
        let at =
            self.again(shutdown, || async { self.planner.at(repository, commit).await.map(Some) }).await?;
        let (Some(commit), Some(at)) = (found.first(), at) else {
            wish.notes.push("its commit is not there any more".to_owned());
            return Ok(wish);
        };
        wish.base = commit.parents.first().copied();
        let wanted = Wanted { class: Some(Class::Try), is_try: true, ..Wanted::default() };
        match &at.file {
            Ok(file) => {
                let farm = self.settings.farm();
                let (builders, notes) = choose(&farm, repository, (&git_ref, &terms), file);
                let build =
                    |builder: &Builder| self.planner.build(&at, &repository.name, commit, builder, &wanted);
                wish.builds = builders.into_iter().map(build).collect();
                wish.notes = notes;
            }
            Err(text) => {
                let problem: Option<NewBuild> = self.planner.problem(&repository.name, commit, &wanted, text);
                wish.builds = problem.filter(|_| at.has_file).into_iter().collect();
                wish.notes.push(text.clone());
            }
        }
        Ok(wish)
    }

    /// Asks maintnerd until it answers.
    async fn ask_maintnerd<T, F: Future<Output = Result<T, tonic::Status>>>(
        &self,
        shutdown: &CancellationToken,
        mut ask: impl FnMut() -> F,
    ) -> Result<T, FindError> {
        let mut failed = false;
        loop {
            match ask().await {
                Ok(answer) => {
                    if failed {
                        self.hub.solved("changes");
                    }
                    return Ok(answer);
                }
                Err(status) => {
                    if !failed {
                        let text = format!("tries wait for maintnerd: {}", status.message());
                        warn!("{text}");
                        self.hub.problem("changes", text, "see that maintnerd runs", self.clock.now());
                    }
                    failed = true;
                }
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Stopped.into()),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

/// What a change asks for, or why it asks for nothing.
fn asked(environment: Environment, tries: &Tries, found: &GetChangeResponse) -> Result<Asked, String> {
    let change = found.change.as_ref().ok_or("the change is gone")?;
    match change.status() {
        ChangeStatus::New => {}
        ChangeStatus::Merged => return Err("the change was submitted".to_owned()),
        _ => return Err("the change was given up".to_owned()),
    }
    if change.private {
        return Err("the change is private".to_owned());
    }
    if environment == Environment::Staging && !change.hashtags.iter().any(|tag| tag == STAGING) {
        return Err(format!("a farm for staging tries changes with the hashtag `{STAGING}`"));
    }
    let commit = change.commit.parse().map_err(|_| "the change names no commit".to_owned())?;
    let votes = || change.votes.iter().map(|vote| (vote.label.as_str(), vote.value));
    let answered = votes().any(|(label, value)| label == tries.result && value != 0);
    let (ask, terms) = match tries.on {
        TryOn::Vote if !rule::is_asked(&tries.label, &tries.result, votes()) => {
            return Err(format!("no vote {}+1 asks for it any more", tries.label));
        }
        TryOn::Vote => (String::new(), wished(&tries.label, &found.messages, change.patch_set)),
        TryOn::Upload if answered || !is_uploaded_by(tries, &found.messages, change.patch_set) => {
            return Err("nobody who is trusted has uploaded it".to_owned());
        }
        TryOn::Upload => (String::new(), Vec::new()),
        TryOn::Comment => command(tries, &found.messages, change.patch_set)
            .ok_or_else(|| format!("nobody who is trusted has written `{COMMAND}`"))?,
    };
    let git_ref = change.branch.clone();
    Ok(Asked { patch_set: change.patch_set, commit, git_ref, ask, terms })
}

/// The builders that voters name.
fn wished(label: &str, messages: &[ChangeMessage], patch_set: u32) -> Vec<String> {
    let wish =
        |message: &'_ ChangeMessage| Some((message.patch_set, rule::wish(&message.text, label)?.to_owned()));
    let wishes: Vec<(u32, String)> = messages.iter().filter_map(wish).collect();
    let wishes: Vec<(u32, &str)> = wishes.iter().map(|(of, wish)| (*of, wish.as_str())).collect();
    let chosen = rule::chosen(&wishes, patch_set).unwrap_or_default();
    rule::terms(chosen).into_iter().map(str::to_owned).collect()
}

fn is_trusted(tries: &Tries, message: &ChangeMessage) -> bool {
    let account = message.author.split_once('@').and_then(|(account, _)| account.parse().ok());
    account.is_some_and(|account| tries.trusted.contains(&account))
}

/// Whether somebody who is trusted made a patch set: what is said of it first, Gerrit says for them when it comes.
fn is_uploaded_by(tries: &Tries, messages: &[ChangeMessage], patch_set: u32) -> bool {
    let first = messages.iter().find(|message| message.patch_set == patch_set);
    first.is_some_and(|message| is_trusted(tries, message))
}

/// The last line of a patch set that asks for a try: which it is, and the builders that it names.
fn command(tries: &Tries, messages: &[ChangeMessage], patch_set: u32) -> Option<(String, Vec<String>)> {
    let of_it = messages.iter().enumerate().filter(|(_, message)| message.patch_set == patch_set);
    let asks = |(index, message): (usize, &ChangeMessage)| {
        let line = message.text.lines().find_map(|line| line.trim_end().strip_prefix(COMMAND))?;
        let whole = line.is_empty() || line.starts_with([' ', '\t', '=']);
        let terms = rule::terms(line).into_iter().map(str::to_owned).collect();
        (whole && is_trusted(tries, message)).then(|| (format!("message {}", index + 1), terms))
    };
    of_it.filter_map(asks).next_back()
}

/// The builders that try a change: those that policy wants and those that are named; and what is wrong with names.
fn choose<'f>(
    farm: &Farm,
    repository: &Repository,
    (git_ref, terms): (&str, &[String]),
    file: &'f BuildFile,
) -> (Vec<&'f Builder>, Vec<String>) {
    let mut chosen = farm.select(&repository.name, git_ref, Purpose::Try, &file.builders);
    let (mut unknown, mut notes) = (String::new(), Vec::new());
    for term in terms {
        match file.builders.iter().find(|builder| builder.name.as_str() == term) {
            None => {
                let _ = write!(unknown, "{}`{term}`", if unknown.is_empty() { "" } else { ", " });
            }
            Some(builder) if !farm.may_try(builder) => {
                notes.push(format!("`{term}` builds only what was submitted"));
            }
            Some(builder) if chosen.iter().any(|one| one.name == builder.name) => {}
            Some(builder) => chosen.push(builder),
        }
    }
    if !unknown.is_empty() {
        let names: Vec<&str> = file.builders.iter().map(|builder| builder.name.as_str()).collect();
        notes.push(format!("there is no builder {unknown}; there are {}", names.join(", ")));
    }
    (chosen, notes)
}

#[cfg(test)]
mod tests {
    use api::maintner::{Change, Vote};

    use super::*;

    fn tries(on: TryOn) -> Tries {
        Tries {
            on,
            label: "Run-TryBot".to_owned(),
            result: "TryBot-Result".to_owned(),
            trusted: vec![7],
            user: "bot".to_owned(),
            password: "/p".into(),
        }
    }

    fn said(author: &str, patch_set: u32, text: &str) -> ChangeMessage {
        ChangeMessage { author: author.to_owned(), patch_set, text: text.to_owned(), created: None }
    }

    fn change(votes: &[(&str, i32)], messages: Vec<ChangeMessage>) -> GetChangeResponse {
        let vote = |(label, value): &(&str, i32)| Vote {
            label: (*label).to_owned(),
            voter: "7@s".to_owned(),
            value: *value,
            patch_set: 2,
        };
        let change = Change {
            status: ChangeStatus::New.into(),
            branch: "refs/heads/main".to_owned(),
            patch_set: 2,
            commit: "1".repeat(40),
            votes: votes.iter().map(vote).collect(),
            ..Change::default()
        };
        GetChangeResponse { change: Some(change), messages, ..GetChangeResponse::default() }
    }

    fn ask(on: TryOn, found: &GetChangeResponse) -> Result<(String, String), String> {
        let asked = asked(Environment::Production, &tries(on), found)?;
        Ok((asked.ask, asked.terms.join(" ")))
    }

    fn nothing() -> (String, String) {
        (String::new(), String::new())
    }

    #[test]
    fn a_vote_asks_until_it_is_answered_and_names_builders() {
        assert!(ask(TryOn::Vote, &change(&[], vec![])).is_err());
        assert_eq!(ask(TryOn::Vote, &change(&[("Run-TryBot", 1)], vec![])), Ok(nothing()));
        assert!(ask(TryOn::Vote, &change(&[("Run-TryBot", 1), ("TryBot-Result", 1)], vec![])).is_err());
        let wish = said("9@s", 2, "Patch Set 2: Run-TryBot+1\n\nTRY=linux-386, plan9");
        let found =
            change(&[("Run-TryBot", 1)], vec![said("9@s", 1, "Patch Set 1: Run-TryBot+1\n\nTRY=old"), wish]);
        assert_eq!(ask(TryOn::Vote, &found), Ok((String::new(), "linux-386 plan9".to_owned())));
    }

    #[test]
    fn only_what_is_under_review_is_tried_and_in_staging_only_what_is_marked() {
        for status in [ChangeStatus::Merged, ChangeStatus::Abandoned] {
            let mut found = change(&[("Run-TryBot", 1)], vec![]);
            found.change.as_mut().unwrap().status = status.into();
            assert!(ask(TryOn::Vote, &found).is_err());
        }
        let mut found = change(&[("Run-TryBot", 1)], vec![]);
        let staging =
            |found: &GetChangeResponse| asked(Environment::Staging, &tries(TryOn::Vote), found).is_ok();
        assert!(!staging(&found));
        found.change.as_mut().unwrap().hashtags.push(STAGING.to_owned());
        assert!(staging(&found));
        found.change.as_mut().unwrap().private = true;
        assert!(!staging(&found));
    }

    #[test]
    fn an_upload_asks_if_who_made_it_is_trusted() {
        let uploads = |second: &str| {
            change(
                &[],
                vec![said("7@s", 1, "Uploaded patch set 1."), said(second, 2, "Uploaded patch set 2.")],
            )
        };
        assert_eq!(ask(TryOn::Upload, &uploads("7@s")), Ok(nothing()));
        assert!(ask(TryOn::Upload, &uploads("8@s")).is_err());
        let mut answered = uploads("7@s");
        answered.change.as_mut().unwrap().votes =
            change(&[("TryBot-Result", -1)], vec![]).change.unwrap().votes;
        assert!(ask(TryOn::Upload, &answered).is_err());
    }

    #[test]
    fn a_comment_asks_if_who_wrote_it_is_trusted_and_each_asks_anew() {
        let talk = |texts: &[(&str, &str)]| {
            change(&[], texts.iter().map(|(author, text)| said(author, 2, text)).collect())
        };
        assert!(ask(TryOn::Comment, &talk(&[("8@s", "Patch Set 2:\n\n/try")])).is_err());
        assert!(ask(TryOn::Comment, &talk(&[("7@s", "Patch Set 2:\n\n/trying")])).is_err());
        let first = ("7@s", "Patch Set 2:\n\n/try linux");
        assert_eq!(ask(TryOn::Comment, &talk(&[first])), Ok(("message 1".to_owned(), "linux".to_owned())));
        let again = talk(&[first, ("8@s", "Patch Set 2:\n\n/try"), ("7@s", "Patch Set 2:\n\n/try")]);
        assert_eq!(ask(TryOn::Comment, &again), Ok(("message 3".to_owned(), String::new())));
    }

    #[test]
    fn builders_that_are_named_join_those_of_policy_and_others_are_said() {
        let text = "[[builders]]\nname = \"a\"\nhost = \"local\"\nmake = [\"true\"]\n\
                    [[builders]]\nname = \"slow\"\nhost = \"local\"\nmake = [\"true\"]\ntry = false\n\
                    [[builders]]\nname = \"publish\"\nhost = \"local\"\nmake = [\"true\"]\nsecrets = [\"T\"]\n";
        let offer = buildspec::Offer { secrets: vec!["T".to_owned()], ..buildspec::Offer::local() };
        let file = BuildFile::parse("farmer.toml", text, &offer).unwrap();
        let repository = Repository::new("example".parse().unwrap(), "/x");
        let terms = ["slow", "a", "publish", "plan9"].map(str::to_owned);
        let (builders, notes) = choose(&Farm::default(), &repository, ("refs/heads/main", &terms), &file);
        let names: Vec<&str> = builders.iter().map(|builder| builder.name.as_str()).collect();
        assert_eq!(names, ["a", "slow"]);
        assert_eq!(
            notes,
            [
                "`publish` builds only what was submitted",
                "there is no builder `plan9`; there are a, slow, publish"
            ]
        );
    }
}
