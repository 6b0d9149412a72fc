//! The one thread that writes a SQLite file.

use rusqlite::Connection;

use super::rows::bind;
use crate::{
    Batch, WriteError,
    error::Engine,
    group::{Group, Groups, Outcomes},
};

/// Runs until the queue is closed and empty, then closes the file.
pub(super) fn run(connection: Connection, mut groups: Groups) {
    while let Some(group) = groups.blocking_next() {
        let outcomes = commit(&connection, &group);
        groups.answer(group, outcomes);
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!("failed to close the database: {error}");
    }
}

fn commit(connection: &Connection, group: &Group) -> Outcomes {
    match transaction(connection, || together(connection, group.batches())) {
        Ok(()) => group.batches().map(|_| Ok(())).collect(),
        Err(error) if group.batches().len() == 1 => vec![Err(error)],
        Err(_) => each_for_itself(connection, group),
    }
}

fn each_for_itself(connection: &Connection, group: &Group) -> Outcomes {
    if let Ok(outcomes) = transaction(connection, || with_savepoints(connection, group)) {
        return outcomes;
    }
    // The transaction itself cannot be done, for example because the disk is full: what fits still is.
    let alone = |batch| transaction(connection, || execute(connection, batch));
    group.batches().map(alone).collect()
}

/// Does something in a transaction, which is undone if that fails.
fn transaction<T>(
    connection: &Connection,
    work: impl FnOnce() -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    run_alone(connection, "BEGIN IMMEDIATE")?;
    let done = work().and_then(|done| run_alone(connection, "COMMIT").map(|()| done));
    // Some errors, a full disk among them, have ended the transaction already.
    if done.is_err()
        && !connection.is_autocommit()
        && let Err(error) = run_alone(connection, "ROLLBACK")
    {
        tracing::warn!("failed to undo a transaction: {error}");
    }
    done
}

fn together<'a>(connection: &Connection, batches: impl Iterator<Item = &'a Batch>) -> Result<(), WriteError> {
    for batch in batches {
        execute(connection, batch)?;
    }
    Ok(())
}

fn with_savepoints(connection: &Connection, group: &Group) -> Result<Outcomes, WriteError> {
    let mut outcomes = Vec::with_capacity(group.batches().len());
    for batch in group.batches() {
        run_alone(connection, "SAVEPOINT batch")?;
        let outcome = execute(connection, batch);
        if outcome.is_err() {
            run_alone(connection, "ROLLBACK TO batch")?;
        }
        run_alone(connection, "RELEASE batch")?;
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn run_alone(connection: &Connection, sql: &str) -> Result<(), WriteError> {
    connection.prepare_cached(sql)?.raw_execute()?;
    Ok(())
}

fn execute(connection: &Connection, batch: &Batch) -> Result<(), WriteError> {
    for (index, statement) in batch.statements.iter().enumerate() {
        let number = index + 1;
        let mut prepared = connection.prepare_cached(statement.sql)?;
        bind(&mut prepared, &statement.args)?;
        let changed = prepared.raw_execute().map_err(|source| failure(number, source))? as u64;
        if statement.changes.is_some_and(|wanted| wanted != changed) {
            return Err(WriteError::Conflict { statement: number, changed });
        }
    }
    Ok(())
}

fn failure(statement: usize, source: rusqlite::Error) -> WriteError {
    let source = Engine::from(source);
    if source.is_constraint() { WriteError::Constraint { statement, source } } else { source.into() }
}
