//! The database: the schema, how rows of the core are written, and how they are read back.

pub(crate) mod load;
pub(crate) mod read;
mod save;
pub(crate) mod sessions;
mod sql;
pub(crate) mod test_results;
pub(crate) mod tries;
#[cfg(test)]
mod upgrade;
pub(crate) mod victims;

use store::Migration;

pub(crate) use save::own_output;
use save::save;
pub(crate) use sql::SqlRecords;

/// All versions of the schema. Never changed once released, only added to.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: include_str!("schema.sql") },
    Migration { version: 2, sql: store::logs::MIGRATION_SQL },
    Migration { version: 3, sql: include_str!("budgets.sql") },
    Migration { version: 4, sql: include_str!("output.sql") },
    Migration { version: 5, sql: include_str!("tests.sql") },
    Migration { version: 6, sql: include_str!("enrolment.sql") },
    Migration { version: 7, sql: include_str!("second_runs.sql") },
    Migration { version: 8, sql: include_str!("sessions.sql") },
    Migration { version: 9, sql: include_str!("tries.sql") },
    Migration { version: 10, sql: include_str!("health.sql") },
];

/// The name of the cursor in `meta`.
const CURSOR: &str = "mutations";
/// The name of the highest fence in `meta`.
const FENCE: &str = "fence";
