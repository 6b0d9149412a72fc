//! What is asked for with a session: which kind of machine, and what is to be found on it.

use std::{sync::Arc, time::Duration};

use buildspec::{Tier, script};
use types::{AttemptId, BuildNumber, BuilderName, ExecId, HostType, MachineName, Outcome, SessionId};

use super::{Owner, SessionError, Sessions};
use crate::{
    core::{BuildKey, NewSession, Plan, Repeated, Setting, Shard, State, TestPlan},
    records::load,
    view::{AttemptFull, ViewError},
};

/// The longest part of a session's name before its number.
const STEM: usize = 58;

/// A session that somebody wishes for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) id: SessionId,
    pub(crate) owner: Owner,
    pub(crate) group: String,
    pub(crate) of: WishOf,
    pub(crate) idle: Duration,
}

/// What decides about its machine.
#[derive(Debug, Clone)]
pub(crate) enum WishOf {
    Builder(BuilderName),
    Host(HostType),
    /// A build, attempt or shard.
    Build(String),
}

/// A wish that can be granted.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) session: NewSession,
    /// What a repeated build ran there, and what makes what it is run on.
    pub(crate) command: String,
    pub(crate) make: String,
}

/// Where a setting comes from.
struct Found {
    host: HostType,
    stem: String,
    setting: Setting,
    command: String,
    make: String,
}

impl Sessions {
    pub(super) async fn asked(&self, wish: Wish) -> Result<Asked, SessionError> {
        let found = match &wish.of {
            WishOf::Builder(builder) => self.of_builder(builder)?,
            WishOf::Host(host) => Found {
                host: host.clone(),
                stem: host.to_string(),
                setting: Setting::default(),
                command: String::new(),
                make: String::new(),
            },
            WishOf::Build(text) => self.of_build(text).await?,
        };
        self.check_host(&found.host)?;
        let mut stem = format!("{}-{}", wish.owner, found.stem);
        stem.truncate(STEM);
        let session = NewSession {
            id: wish.id,
            stem,
            owner: wish.owner,
            group: wish.group,
            host: found.host,
            setting: Arc::new(found.setting),
            idle: wish.idle,
        };
        Ok(Asked { session, command: found.command, make: found.make })
    }

    fn check_host(&self, wanted: &HostType) -> Result<(), SessionError> {
        let farm = self.settings.farm();
        match farm.host(wanted) {
            Some(host) if host.tier == Tier::Community => Err(SessionError::Community(wanted.clone())),
            Some(_) => Ok(()),
            None => {
                let known = farm.hosts.iter().map(|host| host.name.to_string());
                Err(SessionError::UnknownHost(wanted.clone(), there_are(known)))
            }
        }
    }

    fn of_builder(&self, wanted: &BuilderName) -> Result<Found, SessionError> {
        let latest = self.planner.latest();
        let all = || latest.iter().flat_map(|(_, (_, file))| &file.builders);
        let Some(builder) = all().find(|builder| builder.name == *wanted) else {
            let known = all().map(|builder| builder.name.to_string());
            return Err(SessionError::UnknownBuilder(wanted.clone(), there_are(known)));
        };
        let mut environment =
            vec![("WORK".to_owned(), "$WORK".to_owned()), ("FARMER_BUILDER".to_owned(), wanted.to_string())];
        environment.extend(builder.environment.iter().cloned());
        Ok(Found {
            host: builder.host.clone(),
            stem: wanted.to_string(),
            // Its folder comes with the source, which its owner brings.
            setting: Setting {
                builder: Some(wanted.clone()),
                environment,
                source_folder: builder.source_folder.clone(),
                ..Setting::default()
            },
            command: String::new(),
            make: String::new(),
        })
    }

    async fn of_build(&self, text: &str) -> Result<Found, SessionError> {
        let (number, attempt, shard) = parse(text)?;
        let full = self.viewer.full(number, false).await.map_err(|error| match error {
            ViewError::UnknownBuild(number) => SessionError::UnknownBuild(number),
            error => error.into(),
        })?;
        let found = match attempt {
            Some(wanted) => full.attempts.iter().find(|found| found.row.id.attempt == wanted),
            None => full.attempts.last(),
        };
        let none = AttemptId { build: number, attempt: attempt.unwrap_or(1) };
        let found = found.ok_or(SessionError::UnknownAttempt(none))?;
        let plan = load::plan(&self.viewer.database, &full.record.plan).await?;
        let shard = chosen(found, shard)?;
        let key = BuildKey {
            repository: full.record.repository.clone(),
            builder: full.record.builder.clone(),
            commit: full.record.commit,
            variant: String::new(),
        };
        let repeats = self.repeated(&plan, &key, found, shard).await?;
        Ok(Found {
            host: plan.host.clone(),
            stem: plan.builder.to_string(),
            setting: Setting {
                builder: Some(plan.builder.clone()),
                environment: plan.variables(&key, number),
                folder: plan.folder.clone(),
                source_folder: plan.source_folder.clone(),
                repeats: Some(repeats),
            },
            command: command(&plan, found, shard),
            make: plan.make_script(),
        })
    }

    async fn repeated(
        &self,
        plan: &Plan,
        key: &BuildKey,
        attempt: &AttemptFull,
        shard: Option<&Shard>,
    ) -> Result<Repeated, SessionError> {
        let id = attempt.row.id;
        let of = shard.map_or_else(|| id.to_string(), |shard| format!("{id}.{}", shard.number));
        // What failed before the snapshot was stored does not begin with it.
        let snapshot = shard.and(attempt.row.snapshot.clone());
        let tied = plan.snapshot.as_ref().is_some_and(|snapshot| !snapshot.movable);
        let machine = shard.and_then(|shard| shard.machine.clone()).filter(|_| tied && snapshot.is_some());
        let work_folder = match machine {
            Some(machine) => self.work_folder(machine).await?,
            None => None,
        };
        Ok(Repeated { of, repository: key.repository.clone(), commit: key.commit, snapshot, work_folder })
    }

    async fn work_folder(&self, machine: MachineName) -> Result<Option<String>, SessionError> {
        let look = move |state: &State| state.machine(&machine).map(|found| found.info.work_folder.clone());
        Ok(self.viewer.handle.ask(look).await?)
    }
}

/// `48213`, `48213.2` or `48213.2.7`.
fn parse(text: &str) -> Result<(BuildNumber, Option<u32>, Option<u32>), SessionError> {
    let bad = || SessionError::Bad(format!("`{text}` is no build, attempt or shard, such as `48213.2.7`"));
    let mut parts = text.split('.');
    let number = parts.next().unwrap_or_default().parse().map_err(|_| bad())?;
    let mut rest = parts.map(|part| part.parse::<u32>().map_err(|_| bad()));
    let (attempt, shard) = (rest.next().transpose()?, rest.next().transpose()?);
    if rest.next().is_some() {
        return Err(bad());
    }
    Ok((number, attempt, shard))
}

/// The shard that is wanted, or the first that failed; none if the attempt came to none.
fn chosen(attempt: &AttemptFull, wanted: Option<u32>) -> Result<Option<&Shard>, SessionError> {
    let failed = |shard: &&Shard| matches!(shard.outcome(), Some(Outcome::Failed | Outcome::TimedOut));
    match wanted {
        Some(wanted) => {
            let found = attempt.shards.iter().find(|shard| shard.number == wanted);
            found.map(Some).ok_or(SessionError::UnknownShard(attempt.row.id, wanted))
        }
        None => Ok(attempt.shards.iter().find(failed).or_else(|| attempt.shards.first())),
    }
}

/// What was run, as a person would type it.
fn command(plan: &Plan, attempt: &AttemptFull, shard: Option<&Shard>) -> String {
    let listing: Option<ExecId> = attempt.row.list_exec;
    match (&plan.tests, shard) {
        (Some(tests), Some(shard)) => shard_command(tests, shard),
        (Some(TestPlan { list: Some(list), .. }), None) if listing.is_some() => list.clone(),
        _ => plan.make_script(),
    }
}

fn shard_command(tests: &TestPlan, shard: &Shard) -> String {
    if tests.list.is_none() {
        return tests.run.clone();
    }
    let names: Vec<&str> = shard.tests.iter().map(String::as_str).collect();
    let separator = if tests.nul { script::Separator::Nul } else { script::Separator::Line };
    script::spelled(&tests.run, &names, separator)
}

fn there_are(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { "there are none yet".to_owned() } else { format!("there are {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_an_attempt_and_a_shard_are_told_apart() {
        assert_eq!(parse("7").unwrap(), (BuildNumber(7), None, None));
        assert_eq!(parse("7.2").unwrap(), (BuildNumber(7), Some(2), None));
        assert_eq!(parse("7.2.3").unwrap(), (BuildNumber(7), Some(2), Some(3)));
        for bad in ["", "x", "7.", "7.x", "7.1.2.3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
