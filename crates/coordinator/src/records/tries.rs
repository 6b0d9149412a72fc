//! Tries of changes as rows, and what is to be said of them.

use serde::Serialize;
use store::{Batch, Database, ReadError, Row};
use types::{CommitHash, RepositoryName, Timestamp};
use uuid::Uuid;

use super::load::LoadError;
use crate::{
    core::{ChangeKey, TryEnd, TrySet, Word},
    ports::{Outcomes, Unsaid},
};

/// Adds what stores a set.
pub(super) fn save(batch: &mut Batch, set: &TrySet) {
    batch.push(
        "INSERT INTO tries (id, repository, number, patch_set, commit_hash, base, ask, open, begun, ended, outcome, \
         builds, notes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
         ON CONFLICT (id) DO UPDATE SET open = excluded.open, ended = excluded.ended, outcome = excluded.outcome, \
         builds = excluded.builds",
        vec![
            set.id.to_string().into(),
            (&set.change.repository).into(),
            set.change.number.into(),
            set.patch_set.into(),
            set.commit.into(),
            set.base.into(),
            set.ask.as_str().into(),
            set.open.into(),
            set.begun.into(),
            set.end.map(|(ended, _)| ended).into(),
            set.end.map(|(_, end)| end.as_str()).into(),
            json(&set.builds).into(),
            json(&set.notes).into(),
        ],
    );
}

/// Adds what stores a word that is to be said. One that was said stays so.
pub(super) fn save_word(batch: &mut Batch, set: Uuid, word: Word, at: Timestamp) {
    batch.push(
        "INSERT INTO words (id, word, created) VALUES ($1, $2, $3) ON CONFLICT (id, word) DO NOTHING",
        vec![set.to_string().into(), word.as_str().into(), at.into()],
    );
}

/// What stores that a word was said, or what became of it.
pub(super) fn said(set: Uuid, word: Word, note: &str, at: Timestamp) -> Batch {
    let mut batch = Batch::new();
    batch.push(
        "UPDATE words SET said = $3, note = $4 WHERE id = $1 AND word = $2 AND said IS NULL",
        vec![set.to_string().into(), word.as_str().into(), at.into(), note.into()],
    );
    batch
}

/// All sets that are still asked for.
pub(super) async fn open(database: &Database) -> Result<Vec<TrySet>, LoadError> {
    let rows = database.read("SELECT * FROM tries WHERE open = 1", vec![]).await?;
    rows.iter().map(set).collect()
}

/// What is to be said and was not, the oldest first.
pub(super) async fn unsaid(database: &Database, limit: usize) -> Result<Vec<Unsaid>, LoadError> {
    let sql = "SELECT t.*, w.word FROM words w JOIN tries t ON t.id = w.id WHERE w.said IS NULL \
               ORDER BY w.created LIMIT $1";
    let rows = database.read(sql, vec![limit.into()]).await?;
    let unsaid = |row: &Row| {
        let word = Word::from_word(row.text("word")?).ok_or(LoadError::Broken("words"))?;
        Ok(Unsaid { word, set: set(row)? })
    };
    rows.iter().map(unsaid).collect()
}

/// How the builders of a commit ended that is no try, the last build of each.
pub(crate) async fn outcomes(
    database: &Database,
    repository: &RepositoryName,
    commit: CommitHash,
) -> Result<Outcomes, ReadError> {
    let sql = "SELECT builder, outcome FROM builds WHERE commit_hash = $1 AND repository = $2 AND is_try = 0 \
               AND variant = '' AND outcome IS NOT NULL ORDER BY number";
    let rows = database.read(sql, vec![commit.into(), repository.into()]).await?;
    rows.iter().map(|row| Ok((row.parse("builder")?, row.parse("outcome")?))).collect()
}

/// The last sets of a change, the newest first; of all repositories that have one of that number, if none is named.
pub(crate) async fn of_change(
    database: &Database,
    number: u32,
    repository: Option<&RepositoryName>,
    limit: usize,
) -> Result<Vec<TrySet>, LoadError> {
    let sql =
        "SELECT * FROM tries WHERE number = $1 AND ($2 = '' OR repository = $2) ORDER BY begun DESC LIMIT $3";
    let named = repository.map(RepositoryName::as_str).unwrap_or_default();
    let rows = database.read(sql, vec![number.into(), named.into(), limit.into()]).await?;
    rows.iter().map(set).collect()
}

/// The change of which a commit that begins so was tried last.
pub(crate) async fn change_of(
    database: &Database,
    commit: &str,
) -> Result<Option<(u32, RepositoryName)>, ReadError> {
    // `g` comes after the last hexadecimal digit.
    let sql = "SELECT number, repository FROM tries WHERE commit_hash >= $1 AND commit_hash < $2 \
               ORDER BY begun DESC LIMIT 1";
    let row = database.read_first(sql, vec![commit.into(), format!("{commit}g").into()]).await?;
    row.map(|row| Ok((row.number("number")?, row.parse("repository")?))).transpose()
}

/// What was to be said of a set, the first first: the word, when it was said or found to be needless, and why.
pub(crate) async fn words(
    database: &Database,
    set: Uuid,
) -> Result<Vec<(String, Option<Timestamp>, String)>, ReadError> {
    let sql = "SELECT word, said, note FROM words WHERE id = $1 ORDER BY created, word";
    let rows = database.read(sql, vec![set.to_string().into()]).await?;
    let word =
        |row: &Row| Ok((row.text("word")?.to_owned(), row.opt_time("said")?, row.text("note")?.to_owned()));
    rows.iter().map(word).collect()
}

fn set(row: &Row) -> Result<TrySet, LoadError> {
    let broken = || LoadError::Broken("tries");
    let end = match (row.opt_time("ended")?, row.opt_text("outcome")?) {
        (Some(ended), Some(word)) => Some((ended, TryEnd::from_word(word).ok_or_else(broken)?)),
        _ => None,
    };
    Ok(TrySet {
        id: row.parse("id")?,
        change: ChangeKey { repository: row.parse("repository")?, number: row.number("number")? },
        patch_set: row.number("patch_set")?,
        commit: row.parse("commit_hash")?,
        base: row.opt_parse("base")?,
        ask: row.text("ask")?.to_owned(),
        open: row.flag("open")?,
        begun: row.time("begun")?,
        end,
        builds: serde_json::from_str(row.text("builds")?).map_err(|_| broken())?,
        notes: serde_json::from_str(row.text("notes")?).map_err(|_| broken())?,
    })
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data is always JSON")
}
