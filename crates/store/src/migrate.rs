//! Brings the tables of a database up to what this version knows: what engines share of it.

use crate::OpenError;

/// A step from one schema to the next. Steps are never changed once released, only added.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its number: 1, 2, 3 and so on.
    pub version: u32,
    /// One or more statements, in the SQL that SQLite and PostgreSQL share: `TEXT`, `BIGINT`, `DOUBLE PRECISION`,
    /// `BYTEA`.
    pub sql: &'static str,
}

/// Makes the table of what was applied.
pub(crate) const VERSION_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)";
/// Says what was applied last.
pub(crate) const VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM schema_version";
/// Notes that a migration was applied; done together with it.
pub(crate) const RECORD: &str = "INSERT INTO schema_version (version) VALUES ($1)";

/// The migrations that a database lacks, which has those up to `found`.
pub(crate) fn missing<'a>(
    migrations: &'a [Migration],
    found: i64,
    database: &str,
) -> Result<&'a [Migration], OpenError> {
    debug_assert!(
        migrations.iter().zip(1..).all(|(migration, number)| migration.version == number),
        "migrations are numbered from 1 without gaps"
    );
    let applied = usize::try_from(found).unwrap_or(0);
    migrations.get(applied..).ok_or_else(|| OpenError::NewerVersion {
        database: database.to_owned(),
        found: u32::try_from(found).unwrap_or(u32::MAX),
        known: migrations.last().map_or(0, |migration| migration.version),
    })
}
