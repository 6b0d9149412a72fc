//! Work comes in, and is called off.

use types::{AttemptId, BuildNumber, Outcome};

use super::{Accept, Action, Build, BuildEnd, BuildRow, NewBuild, Progress, Row, turn::Turn};

impl Turn<'_> {
    /// Takes builds in. One that exists already is answered, not repeated.
    pub(super) fn accept(&mut self, accept: Accept) {
        let new: Vec<BuildNumber> = accept.builds.into_iter().map(|build| self.accept_one(build)).collect();
        if let Some(cursor) = accept.cursor {
            self.save(Row::Cursor(cursor));
        }
        for moved in accept.refs {
            self.save(Row::Ref(moved));
        }
        for commit in accept.commits {
            self.save(Row::Commit(commit));
        }
        for news in accept.tries {
            self.take_try(news);
        }
        let mut builds = new;
        if let Some(request) = accept.request {
            let mut fresh = builds.into_iter();
            builds = request.slots.iter().filter_map(|slot| slot.or_else(|| fresh.next())).collect();
            self.save(Row::Request { id: request.id, builds: builds.clone(), at: self.now });
        }
        if accept.token != 0 {
            self.act(Action::Reply { token: accept.token, builds });
        }
    }

    pub(super) fn accept_one(&mut self, new: NewBuild) -> BuildNumber {
        let known = self.state.keys.get(&new.key).copied().or_else(|| self.state.recent.find(&new.key));
        if let Some(number) = known {
            return number;
        }
        let number = BuildNumber(self.state.next_build);
        self.state.next_build += 1;
        let row = BuildRow::new(number, &new, self.now);
        self.save(Row::Build(Box::new(row.clone())));
        if let Some((outcome, reason)) = new.verdict {
            self.end_at_once(number, new.key, new.is_try, (outcome, reason));
            return number;
        }
        self.state.keys.insert(new.key.clone(), number);
        let build = Build::new(row, Progress::Queued);
        self.state.builds.insert(number, Box::new(build));
        self.changed(number);
        number
    }

    fn end_at_once(
        &mut self,
        number: BuildNumber,
        key: super::BuildKey,
        is_try: bool,
        verdict: (Outcome, String),
    ) {
        self.state.recent.push(key.clone(), number, 0);
        let end = BuildEnd {
            attempt: AttemptId { build: number, attempt: 0 },
            key,
            outcome: verdict.0,
            reason: verdict.1,
            started: self.now,
            ended: self.now,
            is_try,
            flakes: 0,
        };
        self.save(Row::BuildEnd(end.clone()));
        self.act(Action::Ended(end));
        self.changed(number);
    }

    /// Calls a build off, wherever it is. One that has ended stays as it is.
    pub(super) fn cancel(&mut self, number: BuildNumber, reason: &str) {
        let Some(build) = self.state.builds.get(&number) else { return };
        if build.attempt().is_some() {
            self.end_attempt(number, Outcome::Cancelled, reason);
        } else {
            self.end_build(number, Outcome::Cancelled, reason);
        }
    }
}
