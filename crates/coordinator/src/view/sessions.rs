//! Sessions as pages show them.

use pages::{
    SourceError,
    view::{SessionState, SessionView},
};
use types::MachineName;

use super::{
    build::waiting,
    source::{PagesSource, unread},
};
use crate::{
    core::{Session, State},
    records::{
        load::LoadError,
        sessions::{self, SessionRecord},
    },
};

/// How many sessions that ended lately the farm's page shows.
const ENDED: usize = 10;
/// How many sessions of a machine are shown.
const OF_MACHINE: usize = 20;

/// A live session.
pub(super) fn live(state: &State, session: &Session) -> SessionView {
    let wait = state.session_wait(&session.name);
    let position = state.session_position(&session.name);
    SessionView { waiting: wait.map(|reason| waiting(&reason, position)), ..view(session) }
}

fn view(session: &Session) -> SessionView {
    let seat = session.seat.as_ref();
    SessionView {
        name: session.name.clone(),
        owner: session.owner.to_string(),
        group: session.group.clone(),
        host: session.host.clone(),
        builder: session.setting.builder.clone(),
        repeats: session.setting.repeats.as_ref().map(|repeated| repeated.of.clone()).unwrap_or_default(),
        state: match seat {
            None => SessionState::Waiting,
            Some(seat) if seat.ready.is_none() => SessionState::Preparing,
            Some(_) => SessionState::Ready,
        },
        machine: seat.map(|seat| seat.machine.clone()),
        created: session.created,
        expires: session.expires,
        waiting: None,
        ended: None,
        reason: String::new(),
    }
}

fn recorded(record: SessionRecord) -> SessionView {
    let mut shown = view(&record.session);
    if let Some((ended, reason)) = record.end {
        shown.state = SessionState::Ended;
        shown.ended = Some(ended);
        shown.reason = reason;
    }
    shown
}

fn broken(error: LoadError) -> SourceError {
    match error {
        LoadError::Read(error) => unread(error),
        error @ LoadError::Broken(_) => SourceError::Unavailable(error.to_string()),
    }
}

impl PagesSource {
    /// Sessions that ended lately.
    pub(super) async fn sessions_ended(&self) -> Result<Vec<SessionView>, SourceError> {
        let ended = sessions::ended(&self.viewer.database, ENDED).await.map_err(broken)?;
        Ok(ended.into_iter().map(recorded).collect())
    }

    /// The sessions that a machine holds or held last.
    pub(super) async fn sessions_of(&self, machine: &MachineName) -> Result<Vec<SessionView>, SourceError> {
        let found = sessions::of_machine(&self.viewer.database, machine, OF_MACHINE).await.map_err(broken)?;
        Ok(found.into_iter().map(recorded).collect())
    }
}
