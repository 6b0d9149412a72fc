//! Looking, before some steps are applied, at all that they will need: nearly all the time of finding something goes into
//! waiting for memory, and so some wait for all of it at once. Changes nothing.

use super::{State, mix};
use crate::core::{
    decode::{Batch, Step, part},
    strings::Strings,
};

impl State {
    /// Looks at the changes whose refs these steps move, and at the ends of their lists.
    pub(in crate::core) fn warm(&self, strings: &Strings, batch: &Batch<'_>, steps: &[Step<'_>]) {
        let mut changes = Vec::with_capacity(steps.len());
        for step in steps {
            let Step::Gerrit { project, refs, .. } = step else { continue };
            if refs.is_empty() {
                continue;
            }
            let known = strings.peek(*project).and_then(|name| self.find_project(name));
            let Some(project) = known else { continue };
            let numbers = part(&batch.refs, refs).iter().filter_map(|draft| Some(draft.change?.0));
            changes.extend(numbers.filter_map(|number| self.table.first(mix(project.into(), number.into()))));
        }
        let rows = || changes.iter().filter_map(|at| self.changes.get(*at as usize));
        // These are in different lines of the cache, and in all that a row is in.
        let mut touched = rows()
            .fold(0, |touched, row| touched ^ row.created as usize ^ row.flags as usize ^ row.comments.len());
        for row in rows() {
            let patch_set = self.patch_sets.get(row.patch_sets).last().map_or(0, |cell| cell.number);
            let vote = self.votes.get(row.votes).first().map_or(0, |cell| cell.patch_set);
            touched ^= (patch_set ^ vote ^ self.lists.get(row.metas).last().copied().unwrap_or(0)) as usize;
        }
        std::hint::black_box(touched);
    }
}
