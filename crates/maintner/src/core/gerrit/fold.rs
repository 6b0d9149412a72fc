//! Reading the state of a change from the commits of its meta ref, oldest first, and what its latest patch set says.

use super::{
    super::{
        commits::{Index, Stored},
        notes::{Role, Status},
        strings::Text,
    },
    Around, ChangeRow, PRIVATE, ReferenceRow, RoleCell, STATUS, State, WIP, mix,
};
use crate::core::pool::List;

fn set_flag(flags: &mut u32, flag: u32, on: bool) {
    *flags = if on { *flags | flag } else { *flags & !flag };
}

impl State {
    /// Brings a change up to where its state is now. If a commit on the way is missing, all stays as it was.
    pub(super) fn fold(&mut self, around: &mut Around<'_>, change: u32) {
        let row = self.changes[change as usize];
        let Some(target) = row.meta.checked_sub(1) else { return };
        let mut chain: Vec<Index> = Vec::new();
        let mut at = target;
        let mut whole = false;
        while at + 1 != row.folded {
            if !around.commits.is_known(at) {
                return self.wait(around, change, at);
            }
            chain.push(at);
            match around.commits.parents_of(at) {
                // More than the log holds are a circle, which only damage makes.
                _ if chain.len() > around.commits.rows.len() => return,
                [] => {
                    whole = true;
                    break;
                }
                [parent] => at = *parent,
                // No Gerrit writes such a history: the change stays as it was, and `check` says so.
                _ => return,
            }
        }
        if whole {
            self.forget_state(change);
        }
        for meta in chain.into_iter().rev() {
            self.fold_one(around, change, meta);
        }
        self.changes[change as usize].folded = target + 1;
    }

    /// As before the first commit of the state.
    pub(super) fn forget_state(&mut self, change: u32) {
        let row = &mut self.changes[change as usize];
        self.lists.clear(&mut row.metas);
        self.votes.clear(&mut row.votes);
        self.lists.clear(&mut row.attention);
        self.roles.clear(&mut row.roles);
        *row = ChangeRow {
            project: row.project,
            number: row.number,
            commit: row.commit,
            version: row.version,
            meta: row.meta,
            patch_sets: row.patch_sets,
            references: row.references,
            comments: row.comments,
            ..ChangeRow::default()
        };
    }

    fn fold_one(&mut self, around: &mut Around<'_>, change: u32, meta: Index) {
        let mut row = self.changes[change as usize];
        let committed = around.commits.committed(meta);
        if row.metas.is_empty() {
            row.created = committed;
            row.owner = around.author_email(meta);
        }
        row.updated = committed;
        self.lists.push(&mut row.metas, meta);
        let mut votes = false;
        for note in around.commits.notes_of(meta) {
            match note {
                Stored::Status(status) => row.flags = row.flags & !STATUS | status as u32,
                Stored::Private(yes) => set_flag(&mut row.flags, PRIVATE, yes),
                Stored::WorkInProgress(yes) => set_flag(&mut row.flags, WIP, yes),
                Stored::Branch(branch) => row.branch = branch,
                Stored::Topic(topic) => row.topic = topic,
                Stored::Hashtags(hashtags) => row.hashtags = hashtags,
                Stored::Attention { who, add } => self.turn(&mut row.attention, who, add),
                Stored::Role { who, role } => {
                    votes |= role == Role::Removed;
                    self.set_role(&mut row.roles, RoleCell { who, role: role as u32 });
                }
                Stored::Commit | Stored::Vote { .. } => votes = true,
                Stored::Head { .. } | Stored::Issue { .. } => {}
            }
        }
        if votes {
            let mut cells = self.votes.get(row.votes).to_vec();
            row.patch_set = self.fold_votes(around, &row, meta, &mut cells);
            self.replace_votes(&mut row, &cells);
        }
        self.changes[change as usize] = row;
    }

    fn turn(&mut self, list: &mut List, who: Text, add: bool) {
        let known = self.lists.get(*list).iter().position(|other| *other == who.0);
        match known {
            Some(at) if !add => self.lists.remove(list, at),
            None if add => self.lists.push(list, who.0),
            _ => {}
        }
    }

    fn set_role(&mut self, list: &mut List, cell: RoleCell) {
        let cells = self.roles.get_mut(*list);
        match cells.iter_mut().find(|other| other.who == cell.who) {
            Some(known) => *known = cell,
            None => self.roles.push(list, cell),
        }
    }

    /// Looks which patch set is the latest whose commit is there, and which issues that names.
    pub(super) fn choose_commit(&mut self, around: &mut Around<'_>, change: u32) {
        let list = self.changes[change as usize].patch_sets;
        let cells = self.patch_sets.get(list);
        let latest = cells.iter().rev().find(|cell| around.commits.is_known(cell.commit)).copied();
        let newest = cells.last().copied();
        if let Some(newest) = newest.filter(|newest| Some(*newest) != latest) {
            self.wait(around, change, newest.commit);
        }
        let row = &mut self.changes[change as usize];
        let commit = latest.map_or(0, |cell| cell.commit + 1);
        row.version = latest.map_or(0, |cell| cell.number);
        if row.commit != commit {
            row.commit = commit;
            self.set_references(around, change);
        }
    }

    /// Links a change with the issues that its latest patch set names, in their order, each once.
    fn set_references(&mut self, around: &Around<'_>, change: u32) {
        let mut row = self.changes[change as usize];
        for reference in self.lists.get(row.references).to_vec() {
            let mut changes = self.references[reference as usize].changes;
            if let Some(at) = self.lists.get(changes).iter().position(|other| *other == change) {
                self.lists.remove(&mut changes, at);
                self.references[reference as usize].changes = changes;
            }
        }
        self.lists.clear(&mut row.references);
        let bare = self.projects[row.project as usize].bare;
        let named = row.commit.checked_sub(1).into_iter().flat_map(|commit| around.commits.notes_of(commit));
        for note in named {
            let Stored::Issue { repository, number } = note else { continue };
            let repository = if repository == Text::default() { bare } else { repository };
            if repository == Text::default() {
                continue;
            }
            let reference = self.reference(repository, number);
            if !self.lists.get(row.references).contains(&reference) {
                self.lists.push(&mut row.references, reference);
                let mut changes = self.references[reference as usize].changes;
                self.lists.push(&mut changes, change);
                self.references[reference as usize].changes = changes;
            }
        }
        self.changes[change as usize] = row;
    }

    fn reference(&mut self, repository: Text, number: u32) -> u32 {
        if let Some(at) = self.find_reference(repository, number) {
            return at;
        }
        let at = self.references.len() as u32;
        self.references.push(ReferenceRow { repository, number, changes: List::default() });
        self.reference_table.insert(mix(repository.0.into(), number.into()), at);
        at
    }
}

impl ChangeRow {
    pub(super) fn status(&self) -> Status {
        [Status::New, Status::Merged, Status::Abandoned, Status::Draft][(self.flags & STATUS) as usize]
    }
}
