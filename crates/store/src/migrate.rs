//! Brings the tables of a database up to what this version knows.

use std::path::Path;

use sqlx::{Connection, Row as _, SqliteConnection};

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

pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    debug_assert!(
        migrations.iter().zip(1..).all(|(migration, number)| migration.version == number),
        "migrations are numbered from 1 without gaps"
    );
    let found = version(connection)
        .await
        .map_err(|source| OpenError::Unreadable { path: path.to_owned(), source })?;
    let known = migrations.last().map_or(0, |migration| migration.version);
    if found > known {
        return Err(OpenError::NewerVersion { path: path.to_owned(), found, known });
    }
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        apply(connection, migration).await.map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            version: migration.version,
            source,
        })?;
    }
    Ok(())
}

async fn version(connection: &mut SqliteConnection) -> sqlx::Result<u32> {
    sqlx::query("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL PRIMARY KEY)")
        .execute(&mut *connection)
        .await?;
    let row =
        sqlx::query("SELECT COALESCE(MAX(version), 0) FROM schema_version").fetch_one(connection).await?;
    row.try_get::<i64, _>(0).map(|version| u32::try_from(version).unwrap_or(u32::MAX))
}

async fn apply(connection: &mut SqliteConnection, migration: &Migration) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(migration.sql).execute(&mut *transaction).await?;
    sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
        .bind(i64::from(migration.version))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
