//! Debugging sessions: people who hold a machine for themselves. A session waits in the same queue as builds, holds its
//! machine by a lease like theirs, and has one clock: whoever uses it sets it back.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use types::{
    BuilderName, CommitHash, Fence, HostType, LeaseId, MachineName, RepositoryName, SessionId, SessionName,
    Timestamp,
};

use super::{Machine, SnapshotKey, State, WaitCode, WaitReason};

/// A session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Named by who asked for it.
    pub id: SessionId,
    /// What people call it. No other live one is called so.
    pub name: SessionName,
    /// Whose it is, as they said.
    pub owner: Arc<str>,
    /// Its owner's word for some sessions that belong together; empty if it is alone.
    pub group: String,
    /// The kind of machine.
    pub host: HostType,
    /// What it finds there.
    pub setting: Arc<Setting>,
    /// When it was asked for.
    pub created: Timestamp,
    /// How long nobody may use it before it ends.
    pub idle: Duration,
    /// When it ends unless it is used. The only clock that it has.
    pub expires: Timestamp,
    /// Its machine; none while it waits for one.
    pub seat: Option<Seat>,
}

/// The machine of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The machine.
    pub machine: MachineName,
    /// The lease that holds it.
    pub lease: LeaseId,
    /// Its fence.
    pub fence: Fence,
    /// When it was given.
    pub granted: Timestamp,
    /// What was put there; none before all is there.
    pub ready: Option<Ready>,
}

/// What a session finds on its machine when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// In words.
    pub found: String,
    /// What make left is there.
    pub made: bool,
}

/// What a session finds on its machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Setting {
    /// The builder whose environment commands see, if it is one's.
    pub builder: Option<BuilderName>,
    /// Added to the environment of every command.
    pub environment: Vec<(String, String)>,
    /// Where commands run unless told otherwise, beneath the work folder.
    pub folder: String,
    /// Where the source belongs, beneath the work folder.
    pub source_folder: String,
    /// The build that it repeats.
    pub repeats: Option<Repeated>,
}

/// A build, or one shard of it, that a session repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeated {
    /// Build, attempt and shard, for example `48213.2.7`.
    pub of: String,
    /// The root repository.
    pub repository: RepositoryName,
    /// The root revision.
    pub commit: CommitHash,
    /// What its machines began with.
    pub snapshot: Option<SnapshotKey>,
    /// The work folder that the snapshot is tied to.
    pub work_folder: Option<String>,
}

/// A session that is asked for.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its name once and for all: a repeat of the request changes nothing.
    pub id: SessionId,
    /// What it is called, but for a number at the end.
    pub stem: String,
    /// Whose it is.
    pub owner: Arc<str>,
    /// See [`Session::group`].
    pub group: String,
    /// The kind of machine.
    pub host: HostType,
    /// What it finds there.
    pub setting: Arc<Setting>,
    /// How long nobody may use it before it ends.
    pub idle: Duration,
}

/// A machine that is to be made ready for a session.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// The session.
    pub session: SessionName,
    /// The machine.
    pub machine: MachineName,
    /// Its connection.
    pub connection: super::Connection,
    /// The lease.
    pub lease: LeaseId,
    /// Its fence.
    pub fence: Fence,
    /// What is to be there.
    pub setting: Arc<Setting>,
    /// The machine works where the snapshot can be used.
    pub fits: bool,
}

/// What holds a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// For example `48213.1.7`, or `session ada-linux-amd64-0`.
    pub works_on: String,
    /// The build, if it is one.
    pub build: Option<types::BuildNumber>,
    /// The lease.
    pub lease: LeaseId,
    /// Its fence.
    pub fence: Fence,
    /// Since when.
    pub since: Timestamp,
    /// When it ends unless it is used, if it has such a time.
    pub expires: Option<Timestamp>,
}

impl Session {
    /// The most of the farm's time that it can have.
    pub(super) fn latest(&self, longest: Duration) -> Timestamp {
        self.created + longest
    }
}

impl State {
    /// Live sessions, by name.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    /// A live session.
    pub fn session(&self, name: &SessionName) -> Option<&Session> {
        self.sessions.get(name)
    }

    /// A live session by the name that its request gave it. Linear in the sessions.
    pub fn session_by_id(&self, id: SessionId) -> Option<&Session> {
        self.sessions.values().find(|session| session.id == id)
    }

    /// What holds a machine.
    pub fn holding(&self, machine: &Machine) -> Option<Holding> {
        let id = machine.lease?;
        if let Some(session) = self.seats.get(&id).and_then(|name| self.sessions.get(name)) {
            return session.holding();
        }
        let lease = self.leases.get(&id)?;
        Some(Holding {
            works_on: lease.works_on(),
            build: Some(lease.build()),
            lease: id,
            fence: lease.fence,
            since: lease.granted,
            expires: None,
        })
    }

    /// The session that is served next on a kind of machine.
    pub(super) fn first_applicant(&self, host: &HostType) -> Option<&Session> {
        let (_, name) = self.applicants.get(host)?.first()?;
        self.sessions.get(name)
    }

    /// How many sessions wait for a kind of machine.
    pub(super) fn applicants(&self, host: &HostType) -> usize {
        self.applicants.get(host).map_or(0, std::collections::BTreeSet::len)
    }

    /// A session's place among all that waits for the same kind of machine, from 1, as far as it can be told ahead.
    pub fn session_position(&self, name: &SessionName) -> Option<u64> {
        let session = self.sessions.get(name).filter(|session| session.seat.is_none())?;
        let before = self
            .applicants
            .get(&session.host)
            .map_or(0, |waiting| waiting.range(..(session.created, session.name.clone())).count());
        Some((before + self.queue.people(&session.host)) as u64 + 1)
    }

    /// Why a session waits; none when it has its machine.
    pub fn session_wait(&self, name: &SessionName) -> Option<WaitReason> {
        let session = self.sessions.get(name)?;
        let Some(seat) = &session.seat else {
            let ahead = self.session_position(name)? as usize - 1;
            return Some(self.machine_wait(&session.host, ahead, session.created));
        };
        let machine = self.machines.get(&seat.machine)?;
        if machine.connection.is_some() {
            return None;
        }
        Some(WaitReason {
            code: WaitCode::NoMachine,
            text: format!("its machine `{}` is not connected", seat.machine),
            unblock: "it connects again; it is given up after a few seconds".to_owned(),
            since: machine.since,
            estimate: None,
        })
    }
}

impl Session {
    /// How it holds its machine, if it has one.
    pub fn holding(&self) -> Option<Holding> {
        let seat = self.seat.as_ref()?;
        Some(Holding {
            works_on: format!("session {}", self.name),
            build: None,
            lease: seat.lease,
            fence: seat.fence,
            since: seat.granted,
            expires: Some(self.expires),
        })
    }
}
