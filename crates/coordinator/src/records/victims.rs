//! Builds that failed by the fault of one machine, as far as is known: nothing but it ran what decided them.

use store::{Database, ReadError};
use types::{BuildNumber, MachineName, Timestamp};

/// How many are looked for.
const MOST: usize = 50;

/// Builds that ended red since a time by what failed on one machine, and that failed on no other since they were last asked
/// for: a make step that failed there and again elsewhere is the commit's.
pub(crate) async fn of(
    database: &Database,
    machine: &MachineName,
    since: Timestamp,
) -> Result<Vec<BuildNumber>, ReadError> {
    let sql = "SELECT DISTINCT b.number FROM steps s JOIN builds b ON b.number = s.build AND b.attempts = s.attempt \
               WHERE s.machine = $1 AND s.ended >= $2 AND s.phase IN ('make', 'list', 'test') \
               AND s.outcome IN ('failed', 'timed_out') AND b.outcome IN ('failed', 'timed_out') \
               AND NOT EXISTS (SELECT 1 FROM steps o WHERE o.build = s.build AND o.attempt > b.earlier \
               AND o.machine <> $1 AND o.outcome IN ('failed', 'timed_out')) ORDER BY b.number LIMIT $3";
    let rows = database.read(sql, vec![machine.into(), since.into(), MOST.into()]).await?;
    rows.iter().map(|row| Ok(BuildNumber(row.number("number")?))).collect()
}
