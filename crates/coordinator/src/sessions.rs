//! Debugging sessions as people use them: asked for, looked at, used, ended. The core decides who gets which machine and
//! when a session ends; here the way from a session's name to its machine is found, and what is done on it goes there
//! directly, under the session's lease.

mod ask;
mod error;

use std::{sync::Arc, time::Duration};

use buildlet_client::{BuildletClient, ExecSpec, Lease};
use runtime::Tasks;
use store::Database;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::{SessionId, SessionName, Timestamp};

pub(crate) use ask::{Asked, Wish, WishOf};
pub(crate) use error::SessionError;

use crate::{
    core::{Event, MachineInfo, Session, State, WaitReason},
    enrol::Door,
    find::Planner,
    records::sessions,
    settings::Settings,
    shell::{Handle, Hub},
    view::Viewer,
};

/// How often the use of a session is told while it lasts.
const USED: Duration = Duration::from_mins(1);

/// A session as it is.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) session: Session,
    pub(crate) wait: Option<WaitReason>,
    /// Its place in the queue, from 1.
    pub(crate) position: Option<u64>,
    pub(crate) machine: Option<MachineInfo>,
    /// When and why it ended.
    pub(crate) end: Option<(Timestamp, String)>,
}

impl Seen {
    fn of(state: &State, session: &Session) -> Self {
        let machine = session.seat.as_ref().and_then(|seat| state.machine(&seat.machine));
        Self {
            wait: state.session_wait(&session.name),
            position: state.session_position(&session.name),
            machine: machine.map(|machine| machine.info.clone()),
            session: session.clone(),
            end: None,
        }
    }
}

/// A session that can be used, with the way to its machine.
pub(crate) struct Held {
    pub(crate) session: Session,
    /// The machine's system, for example `linux/amd64`.
    pub(crate) platform: String,
    pub(crate) buildlet: BuildletClient,
    pub(crate) lease: Lease,
}

/// While it lives, a session is used.
pub(crate) struct Using {
    _until: DropGuard,
}

/// What sessions are made of.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) viewer: Viewer,
    pub(crate) planner: Planner,
    pub(crate) settings: Settings,
    pub(crate) door: Door,
    pub(crate) hub: Hub,
    pub(crate) tasks: Tasks,
}

impl Sessions {
    fn handle(&self) -> &Handle {
        &self.viewer.handle
    }

    fn database(&self) -> &Database {
        &self.viewer.database
    }

    /// Asks for a session. A repeat with the same id finds the one that was made.
    pub(crate) async fn create(&self, wish: Wish) -> Result<(Seen, Asked), SessionError> {
        let (id, owner) = (wish.id, wish.owner.clone());
        let asked = self.asked(wish).await?;
        if sessions::by_id(self.database(), id).await?.is_none() {
            self.handle().tell(Event::CreateSession(Box::new(asked.session.clone()))).await?;
        }
        match self.by_id(id).await? {
            Some(seen) => Ok((seen, asked)),
            None => Err(SessionError::TooMany(owner)),
        }
    }

    async fn by_id(&self, id: SessionId) -> Result<Option<Seen>, SessionError> {
        let look = move |state: &State| state.session_by_id(id).map(|found| Seen::of(state, found));
        if let Some(seen) = self.handle().ask(look).await? {
            return Ok(Some(seen));
        }
        Ok(sessions::by_id(self.database(), id).await?.map(over))
    }

    /// A session, also one that is over.
    pub(crate) async fn look(&self, name: &SessionName) -> Result<Seen, SessionError> {
        let wanted = name.clone();
        let look = move |state: &State| state.session(&wanted).map(|found| Seen::of(state, found));
        if let Some(seen) = self.handle().ask(look).await? {
            return Ok(seen);
        }
        let found = sessions::by_name(self.database(), name).await?;
        found.map(over).ok_or_else(|| SessionError::Unknown(name.clone()))
    }

    /// The same session as it is now, also when it is over and another has its name.
    pub(crate) async fn look_again(&self, seen: &Seen) -> Result<Seen, SessionError> {
        let found = self.by_id(seen.session.id).await?;
        found.ok_or_else(|| SessionError::Unknown(seen.session.name.clone()))
    }

    /// Live sessions after a name, by name; of one owner or group, if one is named.
    pub(crate) async fn list(
        &self,
        (owner, group): (String, String),
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Seen>, SessionError> {
        let wanted = move |session: &&Session| {
            (owner.is_empty() || *session.owner == *owner)
                && (group.is_empty() || session.group == group)
                && after.as_deref().is_none_or(|after| session.name.as_str() > after)
        };
        let look = move |state: &State| {
            let found = state.sessions().filter(wanted).take(limit);
            found.map(|session| Seen::of(state, session)).collect()
        };
        Ok(self.handle().ask(look).await?)
    }

    /// Says that a session is used, or wants it held.
    pub(crate) async fn touch(&self, name: &SessionName, hold: Option<Duration>) -> Result<(), SessionError> {
        Ok(self.handle().tell(Event::TouchSession { name: name.clone(), hold }).await?)
    }

    /// Ends a session, and waits until that is durable.
    pub(crate) async fn destroy(&self, name: &SessionName) -> Result<(), SessionError> {
        self.look(name).await?;
        let reason = "it was given up".to_owned();
        self.handle().tell(Event::EndSession { name: name.clone(), reason }).await?;
        // The answer comes after the step, which writes before it acts.
        Ok(self.handle().ask(|_| ()).await?)
    }

    /// Uses a session: finds the way to its machine.
    pub(crate) async fn hold(&self, name: &SessionName) -> Result<Held, SessionError> {
        let Seen { session, end, machine, .. } = self.look(name).await?;
        if let Some((_, reason)) = end {
            return Err(SessionError::Ended(name.clone(), reason));
        }
        let Some(seat) = session.seat.as_ref().filter(|seat| seat.ready.is_some()) else {
            return Err(SessionError::NotReady(name.clone()));
        };
        let lease = Lease { id: seat.lease, fence: seat.fence };
        let buildlet = self.door.buildlet(&seat.machine);
        let buildlet = buildlet.ok_or_else(|| SessionError::Away(name.clone(), seat.machine.clone()))?;
        self.touch(name, None).await?;
        let platform = machine.map(|machine| machine.platform).unwrap_or_default();
        Ok(Held { session, platform, buildlet, lease })
    }

    /// Tells that a session is used for as long as what is answered lives.
    pub(crate) fn using(&self, name: SessionName) -> Using {
        let until = CancellationToken::new();
        let (handle, ended, shutdown) = (self.handle().clone(), until.clone(), self.tasks.shutdown());
        self.tasks.job("use of a session", async move {
            loop {
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(USED) => {}
                }
                let touch = Event::TouchSession { name: name.clone(), hold: None };
                if handle.tell(touch).await.is_err() {
                    return;
                }
            }
        });
        Using { _until: until.drop_guard() }
    }

    /// Completes a command with what the session's setting says, unless it is to run bare.
    pub(crate) fn complete(&self, session: &Session, bare: bool, mut spec: ExecSpec) -> ExecSpec {
        let setting = &session.setting;
        if !bare {
            let mut all = self.settings.host_environment(&session.host);
            all.extend(setting.environment.iter().cloned());
            all.append(&mut spec.environment);
            spec.environment = all;
        }
        if spec.folder.is_empty() {
            spec.folder.clone_from(&setting.folder);
        }
        spec.max_output_bytes = self.settings.output_bytes(&session.host);
        spec
    }

    /// Wakes when a session has changed.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.hub.sessions()
    }
}

fn over(record: sessions::SessionRecord) -> Seen {
    // One that was read while it changed: what is durable of it is what there is.
    Seen { session: record.session, wait: None, position: None, machine: None, end: record.end }
}

/// Whose session it is, shared by all who look.
pub(crate) type Owner = Arc<str>;
