//! Machines and tokens as rows.

use store::{Batch, Database, ReadError, Row, values};
use types::{HostType, MachineName, Timestamp};

/// What stands in a machine's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityRow {
    pub(crate) name: MachineName,
    pub(crate) host_types: Vec<HostType>,
    pub(crate) state: IdentityState,
    pub(crate) key_digest: String,
    pub(crate) csr_pem: String,
    /// The serial number of the first certificate of this key, in hexadecimal; empty before.
    pub(crate) first_serial: String,
    /// When its last certificate ends.
    pub(crate) expires: Option<Timestamp>,
    pub(crate) requested: Timestamp,
    pub(crate) changed: Timestamp,
    /// The token that it came with.
    pub(crate) token: String,
    /// For people.
    pub(crate) note: String,
}

/// How a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentityState {
    /// It waits for an operator.
    Requested,
    /// It may connect.
    Enrolled,
    /// It is shut out.
    Revoked,
}

impl IdentityState {
    const ALL: [Self; 3] = [Self::Requested, Self::Enrolled, Self::Revoked];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
        }
    }
}

impl std::str::FromStr for IdentityState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("`{text}` is not the state of a machine"))
    }
}

impl IdentityRow {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            name: row.parse("name")?,
            host_types: split(row.text("host_types")?),
            state: row.parse("state")?,
            key_digest: row.text("key_digest")?.to_owned(),
            csr_pem: row.text("csr_pem")?.to_owned(),
            first_serial: row.text("first_serial")?.to_owned(),
            expires: row.opt_time("expires")?,
            requested: row.time("requested")?,
            changed: row.time("changed")?,
            token: row.text("token")?.to_owned(),
            note: row.text("note")?.to_owned(),
        })
    }

    /// Adds what stores it.
    pub(crate) fn save(&self, batch: &mut Batch) {
        batch.push(
            "INSERT INTO identities (name, host_types, state, key_digest, csr_pem, first_serial, expires, requested, \
             changed, token, note) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             ON CONFLICT (name) DO UPDATE SET host_types = excluded.host_types, state = excluded.state, \
             key_digest = excluded.key_digest, csr_pem = excluded.csr_pem, first_serial = excluded.first_serial, \
             expires = excluded.expires, requested = excluded.requested, changed = excluded.changed, \
             token = excluded.token, note = excluded.note",
            values![
                &self.name,
                join(&self.host_types),
                self.state.as_str(),
                self.key_digest.as_str(),
                self.csr_pem.as_str(),
                self.first_serial.as_str(),
                self.expires,
                self.requested,
                self.changed,
                self.token.as_str(),
                self.note.as_str(),
            ],
        );
    }
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) digest: String,
    pub(crate) host_types: Vec<HostType>,
    /// None for any number.
    pub(crate) uses_left: Option<u32>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) created: Timestamp,
}

impl TokenRow {
    fn read(row: &Row) -> Result<Self, ReadError> {
        Ok(Self {
            id: row.text("id")?.to_owned(),
            digest: row.text("digest")?.to_owned(),
            host_types: split(row.text("host_types")?),
            uses_left: row.opt_number("uses_left")?,
            expires: row.opt_time("expires")?,
            created: row.time("created")?,
        })
    }

    pub(crate) fn save(&self, batch: &mut Batch) {
        batch.push(
            "INSERT INTO enrolment_tokens (id, digest, host_types, uses_left, expires, created) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            values![
                self.id.as_str(),
                self.digest.as_str(),
                join(&self.host_types),
                self.uses_left.map(u64::from),
                self.expires,
                self.created,
            ],
        );
    }
}

pub(crate) async fn identity(
    database: &Database,
    name: &MachineName,
) -> Result<Option<IdentityRow>, ReadError> {
    let row = database.read_first("SELECT * FROM identities WHERE name = $1", values![name]).await?;
    row.as_ref().map(IdentityRow::read).transpose()
}

pub(crate) async fn identities(database: &Database) -> Result<Vec<IdentityRow>, ReadError> {
    let rows = database.read("SELECT * FROM identities ORDER BY name", values![]).await?;
    rows.iter().map(IdentityRow::read).collect()
}

/// Whether a key belongs to a machine that was shut out, under whatever name.
pub(crate) async fn key_is_revoked(database: &Database, digest: &str) -> Result<bool, ReadError> {
    let sql = "SELECT name FROM identities WHERE key_digest = $1 AND state = 'revoked'";
    Ok(database.read_first(sql, values![digest]).await?.is_some())
}

/// Whether a machine that was not enrolled here has connected under a name.
pub(crate) async fn is_of_elsewhere(database: &Database, name: &MachineName) -> Result<bool, ReadError> {
    let sql = "SELECT name FROM machines WHERE name = $1 AND name NOT IN (SELECT name FROM identities)";
    Ok(database.read_first(sql, values![name]).await?.is_some())
}

pub(crate) async fn count_requested(database: &Database) -> Result<u64, ReadError> {
    let sql = "SELECT COUNT(*) AS n FROM identities WHERE state = 'requested'";
    database.read_first(sql, values![]).await?.map_or(Ok(0), |row| row.number("n"))
}

pub(crate) async fn token(database: &Database, digest: &str) -> Result<Option<TokenRow>, ReadError> {
    let sql = "SELECT * FROM enrolment_tokens WHERE digest = $1 AND revoked IS NULL";
    let row = database.read_first(sql, values![digest]).await?;
    row.as_ref().map(TokenRow::read).transpose()
}

/// Tokens that were not revoked.
pub(crate) async fn tokens(database: &Database) -> Result<Vec<TokenRow>, ReadError> {
    let sql = "SELECT * FROM enrolment_tokens WHERE revoked IS NULL ORDER BY created, id";
    let rows = database.read(sql, values![]).await?;
    rows.iter().map(TokenRow::read).collect()
}

/// Takes one use of a token; conflicts if there is none left.
pub(crate) fn use_token(batch: &mut Batch, id: &str) {
    let sql = "UPDATE enrolment_tokens SET uses_left = uses_left - 1 \
               WHERE id = $1 AND revoked IS NULL AND (uses_left IS NULL OR uses_left > 0)";
    batch.push_guarded(sql, values![id]);
}

pub(crate) fn revoke_token(batch: &mut Batch, id: &str, now: Timestamp) {
    let sql = "UPDATE enrolment_tokens SET revoked = $2 WHERE id = $1 AND revoked IS NULL";
    batch.push_guarded(sql, values![id, now]);
}

fn join(host_types: &[HostType]) -> String {
    host_types.iter().map(HostType::as_str).collect::<Vec<_>>().join(",")
}

fn split(text: &str) -> Vec<HostType> {
    text.split(',').filter_map(|host| host.parse().ok()).collect()
}
