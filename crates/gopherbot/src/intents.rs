//! What the bot will say, and what became of it: a row before the word.

use std::{path::Path, time::Duration};

use store::{Batch, Database, Migration, OpenError, ReadError, Row, WriteError};
use types::Timestamp;

use crate::Target;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: "CREATE TABLE intent (
            key TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            repository TEXT NOT NULL,
            commit_hash TEXT NOT NULL,
            body TEXT NOT NULL,
            state TEXT NOT NULL,
            detail TEXT NOT NULL,
            planned_at BIGINT NOT NULL
          );
          CREATE INDEX intent_by_state ON intent (state, planned_at);
          CREATE TABLE began (one BIGINT PRIMARY KEY, at BIGINT NOT NULL);",
}];

/// More comments than these in [`STORM_WINDOW`] are held.
pub(crate) const STORM_WINDOW: Duration = Duration::from_hours(1);

/// One thing to say. The key does not depend on the wording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) key: String,
    pub(crate) target: Target,
    pub(crate) body: String,
}

/// What became of an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is said.
    Done,
    /// A dry run said it to itself.
    Rehearsed,
    /// The commit is gone.
    Gone,
    /// The host will not have it.
    Refused,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Rehearsed => "rehearsed",
            Self::Gone => "gone",
            Self::Refused => "refused",
        }
    }
}

/// What planning an intent did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planned {
    /// It will be said.
    New,
    /// It was planned earlier.
    Known,
    /// Too much is said already: it is kept, but not said.
    Held,
}

/// The bot's memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntentError {
    #[error("cannot read the bot's intents")]
    Read(#[from] ReadError),
    #[error("cannot write the bot's intents")]
    Write(#[from] WriteError),
}

#[derive(Clone)]
pub(crate) struct Intents(Database);

impl Intents {
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self(Database::open(path, MIGRATIONS).await?))
    }

    pub(crate) async fn close(&self) {
        self.0.close().await;
    }

    /// When the bot first began; `now` if it just does. What was known before is not spoken about.
    pub(crate) async fn began(&self, now: Timestamp) -> Result<Timestamp, IntentError> {
        let mut batch = Batch::new();
        batch.push(
            "INSERT INTO began (one, at) VALUES (1, $1) ON CONFLICT (one) DO NOTHING",
            vec![now.into()],
        );
        self.0.write(batch).await?;
        let row = self.0.read_first("SELECT at FROM began WHERE one = 1", Vec::new()).await?;
        Ok(row.map(|row| row.time("at")).transpose()?.unwrap_or(now))
    }

    /// Notes an intent, once. Called by one task only.
    pub(crate) async fn plan(
        &self,
        intent: &Intent,
        now: Timestamp,
        most: usize,
    ) -> Result<Planned, IntentError> {
        let known = "SELECT state FROM intent WHERE key = $1";
        if self.0.read_first(known, vec![intent.key.as_str().into()]).await?.is_some() {
            return Ok(Planned::Known);
        }
        let recent = "SELECT COUNT(*) AS n FROM intent WHERE planned_at > $1 AND state <> 'held'";
        let row = self.0.read_first(recent, vec![(now - STORM_WINDOW).into()]).await?;
        let count = row.map(|row| row.int("n")).transpose()?.unwrap_or(0);
        let held = count >= most as i64;
        let mut batch = Batch::new();
        batch.push(
            "INSERT INTO intent (key, owner, repository, commit_hash, body, state, detail, planned_at)
             VALUES ($1, $2, $3, $4, $5, $6, '', $7) ON CONFLICT (key) DO NOTHING",
            vec![
                intent.key.as_str().into(),
                intent.target.owner.as_str().into(),
                intent.target.repository.as_str().into(),
                intent.target.commit.into(),
                intent.body.as_str().into(),
                if held { "held" } else { "planned" }.into(),
                now.into(),
            ],
        );
        self.0.write(batch).await?;
        Ok(if held { Planned::Held } else { Planned::New })
    }

    /// The intent that waits longest.
    pub(crate) async fn next(&self) -> Result<Option<Intent>, IntentError> {
        let sql = "SELECT key, owner, repository, commit_hash, body FROM intent
                   WHERE state = 'planned' ORDER BY planned_at, key LIMIT 1";
        Ok(self.0.read_first(sql, Vec::new()).await?.map(|row| intent(&row)).transpose()?)
    }

    /// Notes what became of an intent.
    pub(crate) async fn settle(&self, key: &str, outcome: Outcome, detail: &str) -> Result<(), IntentError> {
        let mut batch = Batch::new();
        batch.push(
            "UPDATE intent SET state = $2, detail = $3 WHERE key = $1",
            vec![key.into(), outcome.as_str().into(), detail.into()],
        );
        Ok(self.0.write(batch).await?)
    }
}

fn intent(row: &Row) -> Result<Intent, ReadError> {
    Ok(Intent {
        key: row.text("key")?.to_owned(),
        target: Target {
            owner: row.text("owner")?.to_owned(),
            repository: row.text("repository")?.to_owned(),
            commit: row.parse("commit_hash")?,
        },
        body: row.text("body")?.to_owned(),
    })
}
