//! How sessions come, get a machine, are renewed and end. Among those that need a machine they stand with the people who
//! wait for builds of their own, in the order in which they asked; batch work makes room for them at once.

use std::time::Duration;

use types::{Fence, HostType, LeaseId, MachineName, SessionName};

use super::{
    Action, Class, NewSession, Preparation, Ready, Row, Seat, Session, State, machine::Machine, turn::Turn,
};

/// Uses of a session within this are noted once.
const NOTED: Duration = Duration::from_secs(10);

impl Turn<'_> {
    /// Takes a session in. One of that id stays as it is; one too many of its owner is not taken.
    pub(super) fn create_session(&mut self, new: NewSession) {
        let own = self.state.sessions.values().filter(|session| session.owner == new.owner).count();
        if self.state.session_by_id(new.id).is_some() || own >= self.state.limits.sessions {
            return;
        }
        let Some(name) = self.state.free_name(&new.stem) else { return };
        let session = Session {
            id: new.id,
            name: name.clone(),
            owner: new.owner,
            group: new.group,
            host: new.host,
            setting: new.setting,
            created: self.now,
            idle: new.idle,
            expires: self.now + new.idle,
            seat: None,
        };
        self.state.sessions.insert(name.clone(), session);
        self.session_changed(&name);
    }

    /// Somebody uses a session, or wants it held for a while from now on.
    pub(super) fn touch_session(&mut self, name: &SessionName, hold: Option<Duration>) {
        let (now, longest) = (self.now, self.state.limits.session);
        let Some(session) = self.state.sessions.get_mut(name) else { return };
        let wanted = (now + hold.unwrap_or(session.idle)).min(session.latest(longest));
        let least = if hold.is_some() { session.expires } else { session.expires + NOTED };
        if wanted > least {
            session.expires = wanted;
            self.session_changed(name);
        }
    }

    /// A machine is ready for its session, or cannot be made so.
    pub(super) fn session_prepared(&mut self, lease: LeaseId, result: Result<Ready, String>) {
        let Some(name) = self.state.seats.get(&lease).cloned() else { return };
        match result {
            Ok(ready) => {
                if let Some(seat) = self.state.sessions.get_mut(&name).and_then(|held| held.seat.as_mut()) {
                    seat.ready = Some(ready);
                }
                self.session_changed(&name);
                self.touch_session(&name, None);
            }
            Err(reason) => self.end_session(&name, &reason),
        }
    }

    /// Ends a session: its machine is cleaned.
    pub(super) fn end_session(&mut self, name: &SessionName, reason: &str) {
        if let Some(Seat { machine, lease, fence, .. }) = self.forget_session(name, reason) {
            self.free(&machine, lease, fence);
        }
    }

    /// The machine of a session is lost, or has lost its work.
    pub(super) fn lose_session(&mut self, name: &SessionName, reason: &str) {
        if let Some(seat) = self.forget_session(name, reason) {
            self.act(Action::Stop(seat.lease));
        }
    }

    fn forget_session(&mut self, name: &SessionName, reason: &str) -> Option<Seat> {
        let session = self.state.sessions.remove(name)?;
        self.state.session_clocks.set(name, None);
        self.state.withdraw(&session);
        self.save(Row::SessionEnd { id: session.id, ended: self.now, reason: reason.to_owned() });
        self.act(Action::SessionChanged(name.clone()));
        let seat = session.seat?;
        self.state.seats.remove(&seat.lease);
        if let Some(machine) = self.state.machines.get_mut(&seat.machine) {
            machine.lease = None;
        }
        self.state.reindex_machine(&seat.machine);
        Some(seat)
    }

    /// Has a machine cleaned that nothing holds any more.
    pub(super) fn free(&mut self, name: &MachineName, lease: LeaseId, fence: Fence) {
        let now = self.now;
        let Some(machine) = self.state.machines.get_mut(name) else { return };
        machine.cleaning = Some(fence);
        machine.since = now;
        let connection = machine.connection;
        self.state.reindex_machine(name);
        match connection {
            Some(connection) => {
                self.act(Action::EndLease { machine: name.clone(), connection, lease, fence });
            }
            None => self.act(Action::Stop(lease)),
        }
    }

    /// Gives an idle machine to the session that waits first, unless something else is served before it.
    pub(super) fn seat_first(&mut self, host: &HostType) -> bool {
        let Some(session) = self.state.first_applicant(host) else { return false };
        if self.state.queue.is_before(host, session.created) {
            return false;
        }
        let name = session.name.clone();
        let Some(machine) = self.state.idle_machine(session).cloned() else { return false };
        let (lease, fence, now) = (self.new_lease(), self.new_fence(), self.now);
        let seat = Seat { machine: machine.clone(), lease, fence, granted: now, ready: None };
        let Some(session) = self.state.sessions.get_mut(&name) else { return false };
        session.seat = Some(seat);
        self.state.seats.insert(lease, name.clone());
        if let Some(machine) = self.state.machines.get_mut(&machine) {
            Machine::hold(machine, lease, now);
        }
        self.state.reindex_machine(&machine);
        self.session_changed(&name);
        self.prepare(&name);
        true
    }

    /// Has the machine of a session made ready, if it is connected.
    pub(super) fn prepare(&mut self, name: &SessionName) {
        let action = self.state.sessions.get(name).and_then(|session| self.state.preparation(session));
        if let Some(preparation) = action {
            self.act(Action::Prepare(Box::new(preparation)));
        }
    }

    /// The machine of a session is here again.
    pub(super) fn seat_came_back(&mut self, id: LeaseId, reported: Option<(LeaseId, Fence)>) {
        let Some(name) = self.state.seats.get(&id).cloned() else { return };
        let Some(seat) = self.state.sessions.get(&name).and_then(|session| session.seat.clone()) else {
            return;
        };
        let older = reported.is_none_or(|(_, fence)| fence < seat.fence);
        let holds = reported == Some((seat.lease, seat.fence));
        self.state.reindex_machine(&seat.machine);
        match (holds, &seat.ready) {
            (true, Some(_)) => self.act(Action::SessionChanged(name)),
            // Nothing that its owner did is on it yet.
            (_, None) if holds || older => self.prepare(&name),
            _ => {
                self.lose_session(&name, "its machine came back without what was on it");
                self.clean(&seat.machine, reported);
            }
        }
    }

    /// Sessions that nobody has used for long enough end.
    pub(super) fn end_idle_sessions(&mut self) {
        while let Some((at, name)) = self.state.session_clocks.first()
            && at <= self.now
        {
            let longest = self.state.limits.session;
            let reason = self.state.sessions.get(&name).map(|session| {
                if session.latest(longest) <= self.now {
                    format!("it was held for {} days, the longest that a session may", days(longest))
                } else {
                    format!("nobody used it for {} min", session.idle.as_secs() / 60)
                }
            });
            self.state.session_clocks.set(&name, None);
            self.end_session(&name, &reason.unwrap_or_default());
        }
    }

    /// Stores a session that has changed, and brings queue and clock in line.
    fn session_changed(&mut self, name: &SessionName) {
        let Some(session) = self.state.sessions.get(name).cloned() else { return };
        self.state.index_session(&session);
        self.save(Row::Session(Box::new(session)));
        self.act(Action::SessionChanged(name.clone()));
    }
}

fn days(time: Duration) -> u64 {
    time.as_secs() / (24 * 3600)
}

impl Session {
    /// The work folder that it can be only in, if there is one.
    fn tied_to(&self) -> Option<String> {
        self.setting.repeats.as_ref()?.work_folder.clone()
    }
}

impl State {
    /// Brings queue and clock in line with a session.
    pub(super) fn index_session(&mut self, session: &Session) {
        self.session_clocks.set(&session.name, Some(session.expires));
        if let Some(seat) = &session.seat {
            self.seats.insert(seat.lease, session.name.clone());
            self.withdraw(session);
        } else {
            let place = (session.created, session.name.clone());
            self.applicants.entry(session.host.clone()).or_default().insert(place);
            self.stirred.insert(session.host.clone());
        }
    }

    /// An idle machine for a session: where its snapshot can be used, if one is.
    fn idle_machine(&self, session: &Session) -> Option<&MachineName> {
        let in_folder = |folder: String| {
            let mut idle = self.fleet.idle_by_folder(&session.host);
            idle.find(|name| self.machines.get(*name).is_some_and(|m| m.info.work_folder == folder))
        };
        session.tied_to().and_then(in_folder).or_else(|| self.fleet.first_idle(&session.host))
    }

    /// A session waits no more.
    fn withdraw(&mut self, session: &Session) {
        if let Some(waiting) = self.applicants.get_mut(&session.host) {
            waiting.remove(&(session.created, session.name.clone()));
            if waiting.is_empty() {
                self.applicants.remove(&session.host);
            }
        }
    }

    /// The first name of a stem that no live session has.
    fn free_name(&self, stem: &str) -> Option<SessionName> {
        (0..=self.sessions.len())
            .filter_map(|number| format!("{stem}-{number}").parse().ok())
            .find(|name| !self.sessions.contains_key(name))
    }

    fn preparation(&self, session: &Session) -> Option<Preparation> {
        let seat = session.seat.as_ref()?;
        let machine = self.machines.get(&seat.machine)?;
        let fits = session.tied_to().is_none_or(|folder| machine.info.work_folder == folder);
        Some(Preparation {
            session: session.name.clone(),
            machine: seat.machine.clone(),
            connection: machine.connection?,
            lease: seat.lease,
            fence: seat.fence,
            setting: session.setting.clone(),
            fits,
        })
    }

    /// For how many batch work is to make room on a kind of machine, and who is the first of them, in words.
    pub(super) fn urgent(&self, host: &HostType) -> (usize, Option<String>) {
        let (builds, first) = self.queue.urgent(host);
        let session = self.first_applicant(host).map(|session| format!("session {}", session.name));
        (builds + self.applicants(host), first.map(|number| format!("build {number}")).or(session))
    }

    /// The class of what waits first for a kind of machine, sessions too.
    pub(super) fn first_class(&self, host: &HostType) -> Option<Class> {
        let person = self.first_applicant(host).map(|_| Class::Interactive);
        self.queue.first_class(host).into_iter().chain(person).min()
    }
}
