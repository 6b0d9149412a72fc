//! Which votes count.
//!
//! A vote counts for its patch set. Which ones count for the next one too, the project's configuration says. A newer
//! Gerrit writes them down with the new patch set (`Copied-Label:`), and gives each vote a name. An older one does
//! not: of its votes only those of try bots are dropped, when the diff is another.

use super::{
    super::{
        commits::{Commits, Index, Stored},
        notes::{Role, VoteKind},
        parse::email,
        strings::{Name, Text},
        wire::find_bytes,
    },
    Around, ChangeRow, State, VoteCell,
};

/// Labels of an older Gerrit that say something about one diff only.
pub(super) const OF_A_DIFF: &[&str] = &["Run-TryBot", "TryBot-Result"];

impl Around<'_> {
    /// The email of who wrote a commit.
    pub(super) fn author_email(&mut self, commit: Index) -> Text {
        let author = self.strings.text(self.commits.author(commit)).to_owned();
        self.strings.intern(Name::new(email(author.as_bytes())))
    }

    fn diff(&self, commit: Index) -> Option<&[u8]> {
        find_bytes(self.payloads.get(self.commits.span(commit)), 3)
    }
}

impl State {
    /// Applies what one commit of the state says of votes. Answers which patch set it is about.
    pub(super) fn fold_votes(
        &self,
        around: &Around<'_>,
        row: &ChangeRow,
        meta: Index,
        votes: &mut Vec<VoteCell>,
    ) -> u32 {
        let same_diff = |number: u32| {
            let commit = |number: u32| {
                let cells = self.patch_sets.get(row.patch_sets);
                let at = cells.binary_search_by_key(&number, |cell| cell.number).ok()?;
                around.diff(cells[at].commit)
            };
            matches!((commit(number), commit(number.saturating_sub(1))), (Some(new), Some(old)) if new == old)
        };
        let of_a_diff = |label: Text| OF_A_DIFF.contains(&around.strings.text(label));
        step(around.commits, meta, row.patch_set, votes, same_diff, of_a_diff)
    }

    pub(super) fn replace_votes(&mut self, row: &mut ChangeRow, cells: &[VoteCell]) {
        if self.votes.get(row.votes) == cells {
            return;
        }
        self.votes.clear(&mut row.votes);
        for cell in cells {
            self.votes.push(&mut row.votes, *cell);
        }
    }
}

/// See [`State::fold_votes`]. `current` is the patch set so far.
pub(super) fn step(
    commits: &Commits,
    meta: Index,
    current: u32,
    votes: &mut Vec<VoteCell>,
    same_diff: impl Fn(u32) -> bool,
    of_a_diff: impl Fn(Text) -> bool,
) -> u32 {
    let mut patch_set = current;
    let is_new = commits.notes_of(meta).any(|note| note == Stored::Commit);
    for note in commits.notes_of(meta) {
        match note {
            Stored::Head { patch_set: named, .. } => {
                patch_set = named;
                if is_new && named > current {
                    votes.retain(|vote| vote.bound == 0);
                    let drops = |vote: &VoteCell| of_a_diff(vote.label);
                    if votes.iter().any(drops) && !same_diff(named) {
                        votes.retain(|vote| !drops(vote));
                    }
                }
            }
            Stored::Vote { label, value, voter, kind } => {
                // What is said of an earlier patch set says nothing about this one.
                if patch_set < current {
                    continue;
                }
                votes.retain(|vote| (vote.label, vote.voter) != (label, voter));
                if let Some(value) = value {
                    let bound = u16::from(kind != VoteKind::Unnamed);
                    votes.push(VoteCell { label, voter, patch_set, value: i16::from(value), bound });
                }
            }
            // Whoever is no reviewer any more does not vote either: Gerrit leaves it at that.
            Stored::Role { who, role: Role::Removed } => votes.retain(|vote| vote.voter != who),
            _ => {}
        }
    }
    patch_set.max(current)
}
