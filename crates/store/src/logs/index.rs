//! The index of chunks in the database.

use types::ExecId;

use super::{
    LogInfo,
    chunk::{Chunk, Place},
};
use crate::{Batch, Database, ReadError, Row, Value, values};

/// The table of chunks; to be one of the migrations of the database that logs are kept in.
pub const MIGRATION_SQL: &str = "
CREATE TABLE log_chunk (
    exec BYTEA NOT NULL,
    start BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    line BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    written BIGINT NOT NULL,
    finished BIGINT NOT NULL,
    object TEXT,
    position BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    data BYTEA,
    PRIMARY KEY (exec, start)
);
";

fn id(exec: ExecId) -> Value {
    Value::from(exec.0.as_bytes().to_vec())
}

/// The last chunk of a log, without its bytes.
pub(super) async fn last(database: &Database, exec: ExecId) -> Result<Option<Chunk>, ReadError> {
    let sql = "SELECT start, bytes, line, lines, written, finished, object, position, stored FROM log_chunk \
               WHERE exec = $1 ORDER BY start DESC LIMIT 1";
    database.read_first(sql, values![id(exec)]).await?.map(|row| chunk(&row, Place::Unread)).transpose()
}

/// What is known of a log; one that was never written has no bytes.
pub(super) async fn info(database: &Database, exec: ExecId) -> Result<LogInfo, ReadError> {
    Ok(last(database, exec).await?.map(|chunk| chunk.info()).unwrap_or_default())
}

/// The chunk that a byte is in, or the last one before it, without its bytes.
pub(super) async fn at(database: &Database, exec: ExecId, byte: u64) -> Result<Option<Chunk>, ReadError> {
    let sql = "SELECT start, bytes, line, lines, written, finished, object, position, stored FROM log_chunk \
               WHERE exec = $1 AND start <= $2 ORDER BY start DESC LIMIT 1";
    database.read_first(sql, values![id(exec), byte]).await?.map(|row| chunk(&row, Place::Unread)).transpose()
}

/// All chunks, without their bytes.
pub(super) async fn all(database: &Database, exec: ExecId) -> Result<Vec<Chunk>, ReadError> {
    let sql = "SELECT start, bytes, line, lines, written, finished, object, position, stored FROM log_chunk \
               WHERE exec = $1 ORDER BY start";
    let rows = database.read(sql, values![id(exec)]).await?;
    rows.iter().map(|row| chunk(row, Place::Unread)).collect()
}

/// At most `limit` chunks, in order, that have bytes from `start` on and before `end`, with those that are in rows.
pub(super) async fn covering(
    database: &Database,
    exec: ExecId,
    start: u64,
    end: u64,
    limit: u64,
) -> Result<Vec<Chunk>, ReadError> {
    let sql = "SELECT start, bytes, line, lines, written, finished, object, position, stored, data FROM log_chunk \
               WHERE exec = $1 AND start < $3 AND start >= \
               (SELECT COALESCE(MAX(start), 0) FROM log_chunk WHERE exec = $1 AND start <= $2) \
               ORDER BY start LIMIT $4";
    let rows = database.read(sql, values![id(exec), start, end, limit]).await?;
    let full = |row: &Row| {
        let place = row.opt_blob("data")?.map_or(Place::Unread, Place::Row);
        chunk(row, place)
    };
    rows.iter().map(full).collect()
}

/// The objects that chunks of a log are in.
pub(super) async fn objects(database: &Database, exec: ExecId) -> Result<Vec<String>, ReadError> {
    let sql = "SELECT DISTINCT object FROM log_chunk WHERE exec = $1 AND object IS NOT NULL";
    let rows = database.read(sql, values![id(exec)]).await?;
    rows.iter().map(|row| row.text("object").map(str::to_owned)).collect()
}

/// Adds a chunk.
pub(super) fn insert(batch: &mut Batch, exec: ExecId, chunk: &Chunk) {
    let (object, position, stored, data) = match &chunk.place {
        Place::Row(data) => (None, 0, data.len() as u64, Some(data.clone())),
        Place::Object { key, position, stored } => (Some(key.as_str()), *position, *stored, None),
        Place::Unread => (None, 0, 0, None),
    };
    let args = values![
        id(exec),
        chunk.start,
        chunk.bytes,
        chunk.line,
        chunk.lines,
        chunk.written,
        chunk.finished,
        object,
        position,
        stored,
        data
    ];
    batch.push(
        "INSERT INTO log_chunk (exec, start, bytes, line, lines, written, finished, object, position, stored, data) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        args,
    );
}

/// Marks the last chunk of a log as the last one.
pub(super) fn finish(batch: &mut Batch, exec: ExecId, start: u64) {
    batch.push_guarded(
        "UPDATE log_chunk SET finished = 1 WHERE exec = $1 AND start = $2",
        values![id(exec), start],
    );
}

/// Removes the chunks that start from `start` on and before `end`.
pub(super) fn remove_range(batch: &mut Batch, exec: ExecId, start: u64, end: u64) {
    let sql = "DELETE FROM log_chunk WHERE exec = $1 AND start >= $2 AND start < $3";
    batch.push(sql, values![id(exec), start, end]);
}

/// Removes all chunks of a log.
pub(super) fn remove(exec: ExecId) -> Batch {
    let mut batch = Batch::new();
    batch.push("DELETE FROM log_chunk WHERE exec = $1", values![id(exec)]);
    batch
}

fn chunk(row: &Row, in_row: Place) -> Result<Chunk, ReadError> {
    let place = match row.opt_text("object")? {
        Some(key) => Place::Object {
            key: key.to_owned(),
            position: row.number("position")?,
            stored: row.number("stored")?,
        },
        None => in_row,
    };
    Ok(Chunk {
        start: row.number("start")?,
        bytes: row.number("bytes")?,
        line: row.number("line")?,
        lines: row.number("lines")?,
        written: row.time("written")?,
        finished: row.flag("finished")?,
        place,
    })
}
