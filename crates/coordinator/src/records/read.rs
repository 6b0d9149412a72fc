//! Builds as they are stored, for those who ask.

use store::{Database, ReadError, Row, Value};
use types::{BuildNumber, BuilderName, CommitHash, Outcome, RepositoryName, Timestamp};

/// A build, without its attempts.
#[derive(Debug, Clone)]
pub(crate) struct BuildRecord {
    pub(crate) number: BuildNumber,
    pub(crate) repository: RepositoryName,
    pub(crate) builder: BuilderName,
    pub(crate) commit: CommitHash,
    pub(crate) plan: String,
    pub(crate) subject: String,
    pub(crate) author: String,
    pub(crate) git_ref: String,
    pub(crate) is_try: bool,
    pub(crate) commit_time: Timestamp,
    pub(crate) created: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) started: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) reason: String,
    /// How many shards failed and then passed.
    pub(crate) flakes: u32,
}

impl BuildRecord {
    /// From a row of `builds`.
    pub(crate) fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            number: BuildNumber(row.number("number")?),
            repository: row.parse("repository")?,
            builder: row.parse("builder")?,
            commit: row.parse("commit_hash")?,
            plan: row.text("plan")?.to_owned(),
            subject: row.text("subject")?.to_owned(),
            author: row.text("author")?.to_owned(),
            git_ref: row.text("git_ref")?.to_owned(),
            is_try: row.flag("is_try")?,
            commit_time: row.time("commit_time")?,
            created: row.time("created")?,
            attempts: row.number("attempts")?,
            started: row.opt_time("started")?,
            ended: row.opt_time("ended")?,
            outcome: row.opt_parse("outcome")?,
            reason: row.text("reason")?.to_owned(),
            flakes: row.number("flakes")?,
        })
    }

    /// The branch that it was found on.
    pub(crate) fn branch(&self) -> Option<String> {
        let name = self.git_ref.strip_prefix("refs/heads/").unwrap_or(&self.git_ref);
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// Which builds are wanted. Empty means all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub(crate) builder: String,
    /// A commit, or how it begins.
    pub(crate) commit: String,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) active: bool,
}

/// One build.
pub(crate) async fn build(
    database: &Database,
    number: BuildNumber,
) -> Result<Option<BuildRecord>, ReadError> {
    let row = database.read_first("SELECT * FROM builds WHERE number = $1", vec![number.into()]).await?;
    row.as_ref().map(BuildRecord::read).transpose()
}

/// Builds before a number, newest first.
pub(crate) async fn builds(
    database: &Database,
    filter: &Filter,
    before: u64,
    limit: usize,
) -> Result<Vec<BuildRecord>, ReadError> {
    let outcome = filter.outcome.map(Outcome::as_str).unwrap_or_default();
    let mut args: Vec<Value> = vec![
        before.into(),
        filter.builder.as_str().into(),
        outcome.into(),
        filter.active.into(),
        limit.into(),
    ];
    let sql = if filter.commit.is_empty() {
        "SELECT * FROM builds WHERE number < $1 AND ($2 = '' OR builder = $2) AND ($3 = '' OR outcome = $3) \
         AND ($4 = 0 OR outcome IS NULL) ORDER BY number DESC LIMIT $5"
    } else {
        // `g` comes after the last hexadecimal digit.
        args.push(filter.commit.as_str().into());
        args.push(format!("{}g", filter.commit).into());
        "SELECT * FROM builds WHERE number < $1 AND ($2 = '' OR builder = $2) AND ($3 = '' OR outcome = $3) \
         AND ($4 = 0 OR outcome IS NULL) AND commit_hash >= $6 AND commit_hash < $7 ORDER BY number DESC LIMIT $5"
    };
    let rows = database.read(sql, args).await?;
    rows.iter().map(BuildRecord::read).collect()
}

/// Builds of one commit of a repository, by number.
pub(crate) async fn of_commit(
    database: &Database,
    repository: &RepositoryName,
    commit: CommitHash,
) -> Result<Vec<BuildRecord>, ReadError> {
    let sql = "SELECT * FROM builds WHERE commit_hash = $1 AND repository = $2 ORDER BY number";
    let rows = database.read(sql, vec![commit.into(), repository.into()]).await?;
    rows.iter().map(BuildRecord::read).collect()
}

/// Builds of a builder, the newest first, without tries.
pub(crate) async fn of_builder(
    database: &Database,
    builder: &BuilderName,
    repository: &RepositoryName,
    limit: usize,
) -> Result<Vec<BuildRecord>, ReadError> {
    let sql = "SELECT * FROM builds WHERE builder = $1 AND repository = $2 AND is_try = 0 \
               ORDER BY number DESC LIMIT $3";
    let rows = database.read(sql, vec![builder.into(), repository.into(), limit.into()]).await?;
    rows.iter().map(BuildRecord::read).collect()
}

/// Builds that ended last, the last first.
pub(crate) async fn ended(database: &Database, limit: usize) -> Result<Vec<BuildRecord>, ReadError> {
    let sql = "SELECT * FROM builds WHERE outcome IS NOT NULL ORDER BY ended DESC LIMIT $1";
    let rows = database.read(sql, vec![limit.into()]).await?;
    rows.iter().map(BuildRecord::read).collect()
}

/// How many builds have ended.
pub(crate) async fn count_ended(database: &Database) -> Result<u64, ReadError> {
    let row =
        database.read_first("SELECT COUNT(*) AS n FROM builds WHERE outcome IS NOT NULL", vec![]).await?;
    row.map_or(Ok(0), |row| row.number("n"))
}

/// After which attempts a build was begun again, and why.
pub(crate) async fn retries(
    database: &Database,
    number: BuildNumber,
) -> Result<Vec<(u32, String)>, ReadError> {
    let sql = "SELECT attempt, reason FROM retries WHERE build = $1 ORDER BY attempt";
    let rows = database.read(sql, vec![number.into()]).await?;
    rows.iter().map(|row| Ok((row.number("attempt")?, row.text("reason")?.to_owned()))).collect()
}

/// The builds that a request was answered with, if it is known.
pub(crate) async fn request(database: &Database, id: &str) -> Result<Option<Vec<BuildNumber>>, ReadError> {
    let row = database.read_first("SELECT builds FROM requests WHERE id = $1", vec![id.into()]).await?;
    let Some(row) = row else { return Ok(None) };
    let numbers = row.text("builds")?.split(',').filter_map(|number| number.parse().ok()).collect();
    Ok(Some(numbers))
}
