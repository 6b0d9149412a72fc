//! GitHub: issues and pull requests with all that belongs to them, read by its REST API.
//!
//! Each repository has a [`Source`] of its own, which looks in passes. A pass asks for what has changed since the time up
//! to which the log says that all issues are in it, and then for what belongs to those issues; all of it is compared with
//! the corpus, so that a pass may end anywhere and the next goes on. What time it is, GitHub says: its times are only
//! ever compared with each other. Issues that are wanted at once ([`Wakes`]) are read by themselves.

mod lists;
mod parse;
mod pass;
mod source;
mod wakes;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use github::{Client, Options, Token};
use maintner::core::diff::At;
use runtime::SharedClock;

use crate::config::Limits;

pub(crate) use source::{Around, Source};
pub(crate) use wakes::{Hub, Wakes};

/// How long GitHub may take for one answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// One of so many requests is left to others who use the same token, such as the bot.
const RESERVE: u64 = 10;

/// A repository at GitHub whose issues are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubRepository {
    /// Who owns it.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// Where the API is.
    pub url: String,
    /// The file of the token; without it GitHub answers few questions an hour.
    pub token: Option<PathBuf>,
    /// How often it is asked for news when nothing wakes us.
    pub poll: Duration,
}

impl GithubRepository {
    /// Those of a farm.
    pub fn all(farm: &buildspec::Farm) -> Vec<Self> {
        let all = farm.repositories.iter().filter_map(|repository| repository.github.as_ref());
        let one = |github: &buildspec::GithubRepository| Self {
            owner: github.owner.clone(),
            name: github.name.clone(),
            url: github.url.clone(),
            token: github.token.clone(),
            poll: github.poll,
        };
        all.map(one).collect()
    }

    /// `owner/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    fn at(&self) -> At<'_> {
        At { owner: &self.owner, name: &self.name }
    }
}

/// The clients of all repositories, in their order: those with the same token share one. With each, how many do.
pub(crate) fn clients(
    repositories: &[GithubRepository],
    limits: &Limits,
    clock: &SharedClock,
) -> Result<Vec<(Client, u64)>, github::Error> {
    let mut known: BTreeMap<(&str, Option<&PathBuf>), Client> = BTreeMap::new();
    let mut clients = Vec::new();
    for repository in repositories {
        let key = (repository.url.as_str(), repository.token.as_ref());
        let client = match known.get(&key) {
            Some(client) => client.clone(),
            None => Client::new(Options {
                url: repository.url.clone(),
                token: repository.token.clone().map_or(Token::None, Token::File),
                agent: "farmer-maintnerd",
                patience: PATIENCE,
                pace: limits.github_pace,
                reserve: Some(RESERVE),
                clock: Arc::clone(clock),
            })?,
        };
        known.insert(key, client.clone());
        let sharing = |other: &&GithubRepository| (other.url.as_str(), other.token.as_ref()) == key;
        clients.push((client, repositories.iter().filter(sharing).count() as u64));
    }
    Ok(clients)
}
