//! Inline comments. They are no commits: whoever reads Gerrit tells them by mutations of their own, whole each time. What
//! they say stays in the log.

use api::maintpb::GerritComment;
use prost::Message as _;
use types::Timestamp;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::State;
use crate::core::{
    decode::InlineDraft,
    payloads::{Payloads, Span},
    strings::{Strings, Text},
};

/// A comment, and where it is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(in crate::core) struct CommentCell {
    span: Span,
    uuid: Text,
    /// So that none of its bytes are undefined.
    rest: u32,
}

/// What somebody wrote on a file of a patch set, on a line of it, or on the patch set as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineComment {
    /// Its name, unique in its change.
    pub uuid: String,
    /// The patch set.
    pub patch_set: u32,
    /// The path of the file; `/COMMIT_MSG` is the commit's message, `/PATCHSET_LEVEL` the patch set as a whole.
    pub file: String,
    /// The line; 0 for the file as a whole.
    pub line: u32,
    /// The text that it is about: line and character of its begin and of its end.
    pub range: Option<[(u32, u32); 2]>,
    /// Which version of the file: 1 for the patch set's, 0 for what it is compared with, −n for its nth parent's.
    pub side: i32,
    /// Who wrote it, as `account@server`.
    pub author: String,
    /// When.
    pub written: Timestamp,
    /// What it says.
    pub message: String,
    /// Whether somebody is to do something about it.
    pub unresolved: bool,
    /// The comment that it answers; empty if none.
    pub parent: String,
    /// Which program wrote it and why; empty for people.
    pub tag: String,
}

impl InlineComment {
    fn new(said: GerritComment) -> Self {
        let number = |number: i32| u32::try_from(number).unwrap_or(0);
        let range = said.range.map(|range| {
            let begin = (number(range.start_line), number(range.start_character));
            [begin, (number(range.end_line), number(range.end_character))]
        });
        let written = said.written.map(|at| Timestamp::from_parts(at.seconds, at.nanos));
        Self {
            uuid: said.uuid,
            patch_set: number(said.patch_set),
            file: said.file,
            line: number(said.line),
            range,
            side: said.side,
            author: said.author,
            written: written.unwrap_or_default(),
            message: said.message,
            unresolved: said.unresolved,
            parent: said.parent,
            tag: said.tag,
        }
    }
}

impl State {
    /// A comment is as said now, whatever it was.
    pub(in crate::core) fn set_comment(
        &mut self,
        strings: &mut Strings,
        project: u32,
        draft: &InlineDraft<'_>,
    ) {
        let cell = CommentCell { span: draft.span, uuid: strings.intern(draft.uuid), rest: 0 };
        let change = self.change(project, draft.change);
        let list = &mut self.changes[change as usize].comments;
        match self.comments.get_mut(*list).iter_mut().find(|known| known.uuid == cell.uuid) {
            Some(known) => *known = cell,
            None => self.comments.push(list, cell),
        }
    }

    /// How many comments there are.
    pub(in crate::core) fn comment_count(&self) -> usize {
        self.changes.iter().map(|change| change.comments.len()).sum()
    }

    /// What the log says of the comments of a change, complete or not, in the order in which it first told of them.
    pub(super) fn comments_of<'a>(
        &'a self,
        payloads: &'a Payloads,
        project: u32,
        number: u32,
    ) -> impl Iterator<Item = GerritComment> + use<'a> {
        let change = self.find_change(project, number);
        let list = change.map(|change| self.changes[change as usize].comments).unwrap_or_default();
        // What was taken apart can be read again, unless the log is damaged.
        self.comments.get(list).iter().filter_map(|cell| GerritComment::decode(payloads.get(cell.span)).ok())
    }
}

/// By time, and then by name.
pub(super) fn in_order(all: impl Iterator<Item = GerritComment>) -> Vec<InlineComment> {
    let mut all: Vec<InlineComment> = all.map(InlineComment::new).collect();
    all.sort_by(|one, other| (one.written, &one.uuid).cmp(&(other.written, &other.uuid)));
    all
}
