//! The book of machines: who has asked, who is in, who is out.

use std::{sync::Arc, time::Duration};

use rpc::{Authority, KeyRequest};
use runtime::SharedClock;
use store::{Batch, Database};
use tracing::info;
use types::{HostType, MachineName, Timestamp};

use super::{
    EnrolError, Gate, IdentityRow, IdentityState, TokenRow,
    gate::Rule,
    rows::{self, identity},
};

/// Machines that may wait for an operator at the same time: anybody who reaches the port can ask.
const WAITING: u64 = 100;

/// What a machine asks for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) csr_pem: String,
    pub(crate) name: MachineName,
    pub(crate) host_types: Vec<HostType>,
}

/// A certificate that was signed, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Enrolled {
    pub(crate) certificate_pem: String,
    pub(crate) authority_pem: String,
    pub(crate) lifetime: Duration,
    pub(crate) host_types: Vec<HostType>,
    pub(crate) now: Timestamp,
}

/// How a request stands.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// An operator has to decide.
    Waits,
    /// It is in.
    Enrolled(Enrolled),
}

/// The book. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Book(Arc<Inner>);

struct Inner {
    database: Database,
    authority: Option<Arc<Authority>>,
    gate: Gate,
    clock: SharedClock,
    lifetime: Duration,
    /// Held over looking and writing, so that of two machines that want one name one gets it.
    turn: tokio::sync::Mutex<()>,
}

impl Book {
    /// Reads what handshakes must know.
    pub(crate) async fn open(
        database: Database,
        authority: Option<Arc<Authority>>,
        clock: SharedClock,
        lifetime: Duration,
    ) -> Result<Self, store::ReadError> {
        let known = rows::identities(&database).await?;
        let gate = Gate::new(known.iter().filter_map(|row| Some((row.name.clone(), rule(row)?))));
        let turn = tokio::sync::Mutex::default();
        Ok(Self(Arc::new(Inner { database, authority, gate, clock, lifetime, turn })))
    }

    pub(crate) fn gate(&self) -> Gate {
        self.0.gate.clone()
    }

    pub(crate) fn authority(&self) -> Result<&Arc<Authority>, EnrolError> {
        self.0.authority.as_ref().ok_or(EnrolError::NoAuthority)
    }

    /// A machine asks without a token: the answer is an operator's.
    pub(crate) async fn ask(&self, request: Request) -> Result<Standing, EnrolError> {
        self.authority()?;
        let _turn = self.0.turn.lock().await;
        let digest = KeyRequest::key_digest(&request.csr_pem).map_err(EnrolError::BadRequest)?;
        let known = self.known(&request.name, &digest).await?;
        match known {
            Some(row) if row.state == IdentityState::Revoked => return Err(EnrolError::Revoked(row.name)),
            Some(row) if row.key_digest == digest && row.state == IdentityState::Enrolled => {
                return self.sign(row).await.map(Standing::Enrolled);
            }
            Some(row) if row.key_digest == digest => return Ok(Standing::Waits),
            Some(row) if row.state == IdentityState::Requested || !self.is_over(&row) => {
                return Err(EnrolError::NameTaken(request.name));
            }
            _ => {}
        }
        if request.host_types.is_empty() {
            return Err(EnrolError::NoHostType);
        }
        if rows::count_requested(&self.0.database).await? >= WAITING {
            return Err(EnrolError::TooMany);
        }
        info!(machine.name = %request.name, "machine {} asks to be let in, with key {digest}", request.name);
        let row = self.row(request, digest);
        self.save(&row, Batch::new()).await?;
        Ok(Standing::Waits)
    }

    /// A machine comes with a token.
    pub(crate) async fn enrol(&self, request: Request, secret: &str) -> Result<Enrolled, EnrolError> {
        self.authority()?;
        let _turn = self.0.turn.lock().await;
        let digest = KeyRequest::key_digest(&request.csr_pem).map_err(EnrolError::BadRequest)?;
        let token = rows::token(&self.0.database, &secret_digest(secret)).await?;
        let token = token.ok_or(EnrolError::UnknownToken)?;
        let host_types = allowed(&token, request.host_types.clone())?;
        let known = self.known(&request.name, &digest).await?;
        let mut batch = Batch::new();
        match known {
            // A token for any number of machines is no operator's word about this one.
            Some(row) if row.state == IdentityState::Revoked && token.uses_left.is_none() => {
                return Err(EnrolError::Revoked(row.name));
            }
            // The answer to the first call was lost.
            Some(row)
                if row.key_digest == digest && row.token == token.id && row.host_types == host_types =>
            {
                return self.sign(row).await;
            }
            Some(row)
                if row.key_digest != digest
                    && row.state == IdentityState::Enrolled
                    && !self.is_over(&row) =>
            {
                return Err(EnrolError::NameTaken(request.name));
            }
            _ => {}
        }
        if token.expires.is_some_and(|expires| expires <= self.0.clock.now()) {
            return Err(EnrolError::ExpiredToken);
        }
        if token.uses_left == Some(0) {
            return Err(EnrolError::UsedToken);
        }
        rows::use_token(&mut batch, &token.id);
        let mut row = self.row(Request { host_types, ..request }, digest);
        row.note = format!("enrolled with token {}", token.id);
        row.token = token.id;
        info!(machine.name = %row.name, "machine {} is enrolled with token {}", row.name, row.token);
        self.sign_with(row, batch).await
    }

    /// The next certificate of a machine that showed the one before.
    pub(crate) async fn renew(&self, name: &MachineName, csr_pem: &str) -> Result<Enrolled, EnrolError> {
        let _turn = self.0.turn.lock().await;
        let digest = KeyRequest::key_digest(csr_pem).map_err(EnrolError::BadRequest)?;
        let row = identity(&self.0.database, name).await?;
        let row = row.ok_or_else(|| EnrolError::UnknownMachine(name.clone()))?;
        match row.state {
            IdentityState::Enrolled if row.key_digest == digest => self.sign(row).await,
            IdentityState::Enrolled => Err(EnrolError::OtherKey(name.clone())),
            IdentityState::Requested | IdentityState::Revoked => Err(EnrolError::Revoked(name.clone())),
        }
    }

    /// An operator lets a machine in that has asked, or was in before.
    pub(crate) async fn approve(
        &self,
        name: &MachineName,
        host_types: Vec<HostType>,
    ) -> Result<Enrolled, EnrolError> {
        let _turn = self.0.turn.lock().await;
        let row = identity(&self.0.database, name).await?;
        let mut row = row.ok_or_else(|| EnrolError::UnknownMachine(name.clone()))?;
        if !host_types.is_empty() {
            row.host_types = host_types;
        }
        if row.state == IdentityState::Revoked {
            // What was signed before stays worthless.
            row.first_serial = String::new();
        }
        row.state = IdentityState::Enrolled;
        "let in by an operator".clone_into(&mut row.note);
        info!(machine.name = %name, "machine {name} was let in by an operator");
        self.sign(row).await
    }

    /// An operator shuts a machine out.
    pub(crate) async fn revoke(&self, name: &MachineName, reason: &str) -> Result<(), EnrolError> {
        let _turn = self.0.turn.lock().await;
        let now = self.0.clock.now();
        let known = identity(&self.0.database, name).await?;
        let mut row = match known {
            Some(row) => row,
            // It has its certificate from elsewhere; from now on there is a row that says no.
            None if self.is_of_elsewhere(name).await? => {
                let request = Request { csr_pem: String::new(), name: name.clone(), host_types: Vec::new() };
                self.row(request, String::new())
            }
            None => return Err(EnrolError::UnknownMachine(name.clone())),
        };
        row.state = IdentityState::Revoked;
        row.changed = now;
        row.note = if reason.is_empty() { "shut out".to_owned() } else { format!("shut out: {reason}") };
        self.save(&row, Batch::new()).await?;
        self.0.gate.set(name, Rule::Revoked);
        info!(machine.name = %name, "machine {name} was {}", row.note);
        Ok(())
    }

    /// A new token, and its secret.
    pub(crate) async fn create_token(
        &self,
        host_types: Vec<HostType>,
        uses: Option<u32>,
        lifetime: Option<Duration>,
    ) -> Result<(TokenRow, String), EnrolError> {
        self.authority()?;
        if host_types.is_empty() {
            return Err(EnrolError::NoHostType);
        }
        let secret = runtime::random_token();
        let now = self.0.clock.now();
        let token = TokenRow {
            // Enough to name it, too little to say anything about the secret.
            id: secret_digest(&secret)[..12].to_owned(),
            digest: secret_digest(&secret),
            host_types,
            uses_left: uses,
            expires: lifetime.map(|lifetime| now + lifetime),
            created: now,
        };
        let mut batch = Batch::new();
        token.save(&mut batch);
        self.0.database.write(batch).await?;
        Ok((token, secret))
    }

    pub(crate) async fn revoke_token(&self, id: &str) -> Result<(), EnrolError> {
        let mut batch = Batch::new();
        rows::revoke_token(&mut batch, id, self.0.clock.now());
        match self.0.database.write(batch).await {
            Err(error) if error.is_conflict() => Err(EnrolError::NoSuchToken(id.to_owned())),
            written => Ok(written?),
        }
    }

    /// All machines that have a row, by name.
    pub(crate) async fn identities(&self) -> Result<Vec<IdentityRow>, EnrolError> {
        Ok(rows::identities(&self.0.database).await?)
    }

    /// One machine's row.
    pub(crate) async fn identity(&self, name: &MachineName) -> Result<IdentityRow, EnrolError> {
        let row = identity(&self.0.database, name).await?;
        row.ok_or_else(|| EnrolError::UnknownMachine(name.clone()))
    }

    /// Tokens that can still be used.
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenRow>, EnrolError> {
        let now = self.0.clock.now();
        let good = |token: &TokenRow| {
            token.uses_left != Some(0) && token.expires.is_none_or(|expires| expires > now)
        };
        Ok(rows::tokens(&self.0.database).await?.into_iter().filter(good).collect())
    }

    /// The row of a name, if it has one and the key is not shut out.
    async fn known(&self, name: &MachineName, key_digest: &str) -> Result<Option<IdentityRow>, EnrolError> {
        let database = &self.0.database;
        if rows::key_is_revoked(database, key_digest).await? {
            return Err(EnrolError::Revoked(name.clone()));
        }
        let row = identity(database, name).await?;
        if row.is_none() && self.is_of_elsewhere(name).await? {
            return Err(EnrolError::NameTaken(name.clone()));
        }
        Ok(row)
    }

    /// Whether a name without a row is that of a machine which has its certificate from elsewhere. The core writes the
    /// rows of machines some time after they have come; the gate knows at once.
    async fn is_of_elsewhere(&self, name: &MachineName) -> Result<bool, store::ReadError> {
        Ok(self.0.gate.has_from_elsewhere(name) || rows::is_of_elsewhere(&self.0.database, name).await?)
    }

    /// Whether the last certificate of a machine has ended, so that its name is free.
    fn is_over(&self, row: &IdentityRow) -> bool {
        row.expires.is_some_and(|expires| expires <= self.0.clock.now())
    }

    fn row(&self, request: Request, key_digest: String) -> IdentityRow {
        let now = self.0.clock.now();
        IdentityRow {
            name: request.name,
            host_types: request.host_types,
            state: IdentityState::Requested,
            key_digest,
            csr_pem: request.csr_pem,
            first_serial: String::new(),
            expires: None,
            requested: now,
            changed: now,
            token: String::new(),
            note: "waits for an operator".to_owned(),
        }
    }

    async fn sign(&self, row: IdentityRow) -> Result<Enrolled, EnrolError> {
        self.sign_with(row, Batch::new()).await
    }

    /// Signs a certificate for what the row says, and writes the row. The certificate is worth nothing until then.
    async fn sign_with(&self, mut row: IdentityRow, batch: Batch) -> Result<Enrolled, EnrolError> {
        let (authority, now) = (self.authority()?, self.0.clock.now());
        let signed = authority
            .sign_machine(&row.csr_pem, &row.name, &row.host_types, self.0.lifetime)
            .map_err(EnrolError::Sign)?;
        if row.first_serial.is_empty() {
            row.first_serial = hex::encode(signed.serial);
        }
        row.state = IdentityState::Enrolled;
        row.expires = Some(signed.expires);
        row.changed = now;
        self.save(&row, batch).await?;
        if let Some(rule) = rule(&row) {
            self.0.gate.set(&row.name, rule);
        }
        Ok(Enrolled {
            certificate_pem: signed.certificate_pem,
            authority_pem: authority.certificate_pem().to_owned(),
            lifetime: signed.expires.since(now),
            host_types: row.host_types,
            now,
        })
    }

    async fn save(&self, row: &IdentityRow, mut batch: Batch) -> Result<(), EnrolError> {
        row.save(&mut batch);
        match self.0.database.write(batch).await {
            Err(error) if error.is_conflict() => Err(EnrolError::UsedToken),
            written => Ok(written?),
        }
    }
}

/// What handshakes must know about a machine.
fn rule(row: &IdentityRow) -> Option<Rule> {
    match row.state {
        IdentityState::Revoked => Some(Rule::Revoked),
        IdentityState::Enrolled => hex::decode(&row.first_serial).ok().map(Rule::From),
        IdentityState::Requested => None,
    }
}

/// What a token allows of what is wanted: all that it has if nothing is.
fn allowed(token: &TokenRow, wanted: Vec<HostType>) -> Result<Vec<HostType>, EnrolError> {
    if wanted.is_empty() {
        return Ok(token.host_types.clone());
    }
    match wanted.iter().find(|host| !token.host_types.contains(host)) {
        None => Ok(wanted),
        Some(host) => {
            let has = token.host_types.iter().map(|host| format!("`{host}`")).collect::<Vec<_>>().join(", ");
            Err(EnrolError::HostTypeNotAllowed(host.clone(), has))
        }
    }
}

/// What is kept of a secret. It has 256 random bits, so one round of a fast hash is enough.
fn secret_digest(secret: &str) -> String {
    blake3::hash(secret.trim().as_bytes()).to_hex().to_string()
}
