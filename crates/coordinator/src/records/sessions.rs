//! Sessions as rows: how they are written, read back after a restart, and remembered once they are over.

use std::{sync::Arc, time::Duration};

use store::{Batch, Database, ReadError, Row, Value};
use types::{Fence, MachineName, SessionId, SessionName, Timestamp};

use super::load::LoadError;
use crate::core::{Ready, Seat, Session};

/// A session that is over, or not.
#[derive(Debug, Clone)]
pub(crate) struct SessionRecord {
    pub(crate) session: Session,
    /// When and why it ended.
    pub(crate) end: Option<(Timestamp, String)>,
}

/// Adds what stores a session. One that has ended stays as it is.
pub(super) fn save(batch: &mut Batch, row: &Session) {
    let seat = row.seat.as_ref();
    let ready = seat.and_then(|seat| seat.ready.as_ref());
    let setting = serde_json::to_string(&*row.setting).expect("plain data is always JSON");
    batch.push(
        "INSERT INTO sessions (id, name, owner_name, group_name, host_type, setting, created, idle_seconds, expires, \
         machine, lease, fence, granted, found, made) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
         ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, machine = excluded.machine, \
         lease = excluded.lease, fence = excluded.fence, granted = excluded.granted, found = excluded.found, \
         made = excluded.made",
        vec![
            row.id.into(),
            (&row.name).into(),
            Value::from(&*row.owner),
            (&row.group).into(),
            (&row.host).into(),
            setting.into(),
            row.created.into(),
            row.idle.as_secs().into(),
            row.expires.into(),
            seat.map(|seat| &seat.machine).into(),
            seat.map(|seat| seat.lease).into(),
            seat.map(|seat| seat.fence).into(),
            seat.map(|seat| seat.granted).into(),
            ready.map(|ready| &ready.found).into(),
            ready.map(|ready| ready.made).into(),
        ],
    );
}

/// Adds what stores the end of a session.
pub(super) fn save_end(batch: &mut Batch, id: SessionId, ended: Timestamp, reason: String) {
    batch.push(
        "UPDATE sessions SET ended = $2, reason = $3 WHERE id = $1",
        vec![id.into(), ended.into(), reason.into()],
    );
}

/// All that are not over.
pub(super) async fn live(database: &Database) -> Result<Vec<Session>, LoadError> {
    let rows = database.read("SELECT * FROM sessions WHERE ended IS NULL", vec![]).await?;
    rows.iter().map(|row| Ok(record(row)?.session)).collect()
}

/// The session that a request named so.
pub(crate) async fn by_id(database: &Database, id: SessionId) -> Result<Option<SessionRecord>, LoadError> {
    let row = database.read_first("SELECT * FROM sessions WHERE id = $1", vec![id.into()]).await?;
    row.as_ref().map(record).transpose()
}

/// The last session of a name.
pub(crate) async fn by_name(
    database: &Database,
    name: &SessionName,
) -> Result<Option<SessionRecord>, LoadError> {
    let sql = "SELECT * FROM sessions WHERE name = $1 ORDER BY created DESC LIMIT 1";
    let row = database.read_first(sql, vec![name.into()]).await?;
    row.as_ref().map(record).transpose()
}

/// The last sessions that a machine held, the newest first.
pub(crate) async fn of_machine(
    database: &Database,
    machine: &MachineName,
    limit: usize,
) -> Result<Vec<SessionRecord>, LoadError> {
    let sql = "SELECT * FROM sessions WHERE machine = $1 ORDER BY granted DESC LIMIT $2";
    let rows = database.read(sql, vec![machine.into(), limit.into()]).await?;
    rows.iter().map(record).collect()
}

/// The last sessions that ended, the newest first.
pub(crate) async fn ended(database: &Database, limit: usize) -> Result<Vec<SessionRecord>, LoadError> {
    let sql = "SELECT * FROM sessions WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT $1";
    let rows = database.read(sql, vec![limit.into()]).await?;
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<SessionRecord, LoadError> {
    let setting = serde_json::from_str(row.text("setting")?).map_err(|_| LoadError::Broken("sessions"))?;
    let session = Session {
        id: row.parse("id")?,
        name: row.parse("name")?,
        owner: row.text("owner_name")?.into(),
        group: row.text("group_name")?.to_owned(),
        host: row.parse("host_type")?,
        setting: Arc::new(setting),
        created: row.time("created")?,
        idle: Duration::from_secs(row.number("idle_seconds")?),
        expires: row.time("expires")?,
        seat: seat(row)?,
    };
    let end = match row.opt_time("ended")? {
        Some(ended) => Some((ended, row.text("reason")?.to_owned())),
        None => None,
    };
    Ok(SessionRecord { session, end })
}

fn seat(row: &Row) -> Result<Option<Seat>, ReadError> {
    let Some(machine) = row.opt_parse("machine")? else { return Ok(None) };
    let ready = match row.opt_text("found")? {
        Some(found) => Some(Ready { found: found.to_owned(), made: row.flag("made")? }),
        None => None,
    };
    Ok(Some(Seat {
        machine,
        lease: row.parse("lease")?,
        fence: Fence(row.number("fence")?),
        granted: row.time("granted")?,
        ready,
    }))
}
