//! What messages say ([`crate::core::notes`]), packed to a word each: a kind of 8 bits, a small number of 24 and a
//! text or number of 32. A vote takes two words.

use super::super::{
    notes::{Note, Role, Status, VoteKind},
    rows::Rows,
    strings::{Name, Strings, Text},
};

/// A note with its texts interned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::core) enum Stored {
    Head {
        patch_set: u32,
        tag: Text,
    },
    /// A new patch set.
    Commit,
    Status(Status),
    Private(bool),
    WorkInProgress(bool),
    Branch(Text),
    Topic(Text),
    Hashtags(Text),
    Vote {
        label: Text,
        value: Option<i8>,
        voter: Text,
        kind: VoteKind,
    },
    Attention {
        who: Text,
        add: bool,
    },
    Role {
        who: Text,
        role: Role,
    },
    Issue {
        repository: Text,
        number: u32,
    },
}

const HEAD: u8 = 1;
const COMMIT: u8 = 2;
const STATUS: u8 = 3;
const PRIVATE: u8 = 4;
const WIP: u8 = 5;
const BRANCH: u8 = 6;
const TOPIC: u8 = 7;
const HASHTAGS: u8 = 8;
const VOTE: u8 = 9;
const VOTER: u8 = 10;
const ATTENTION: u8 = 11;
const ROLE: u8 = 12;
const ISSUE: u8 = 13;

const REMOVED: u32 = 1 << 8;
const NAMED: u32 = 1 << 9;
const COPIED: u32 = 1 << 10;

/// The largest small number.
const SMALL: u32 = 0x00ff_ffff;

fn word(kind: u8, small: u32, large: u32) -> u64 {
    u64::from(kind) | u64::from(small.min(SMALL)) << 8 | u64::from(large) << 32
}

/// Adds the words of a note.
pub(super) fn pack(note: &Note<'_>, strings: &mut Strings, words: &mut Rows<u64>) {
    let mut text = |name: Name<'_>| strings.intern(name).0;
    let word = match *note {
        Note::Head { patch_set, tag } => word(HEAD, patch_set, text(tag)),
        Note::Commit(_) => word(COMMIT, 0, 0),
        Note::Status(status) => word(STATUS, status as u32, 0),
        Note::Private(yes) => word(PRIVATE, yes.into(), 0),
        Note::WorkInProgress(yes) => word(WIP, yes.into(), 0),
        Note::Branch(name) => word(BRANCH, 0, text(name)),
        Note::Topic(name) => word(TOPIC, 0, text(name)),
        Note::Hashtags(name) => word(HASHTAGS, 0, text(name)),
        Note::Attention { who, add } => word(ATTENTION, add.into(), text(who)),
        Note::Role { who, role } => word(ROLE, role as u32, text(who)),
        Note::Issue { repository, number } => {
            let is_lower = !repository.bytes.iter().any(u8::is_ascii_uppercase);
            let lower = if is_lower { Vec::new() } else { repository.bytes.to_ascii_lowercase() };
            word(ISSUE, text(if is_lower { repository } else { Name::new(&lower) }), number)
        }
        Note::Vote { label, value, voter, kind } => {
            let kind = match kind {
                VoteKind::Unnamed => 0,
                VoteKind::Named => NAMED,
                VoteKind::Copied => COPIED,
            };
            let small = value.map_or(REMOVED, |value| u32::from(value as u8)) | kind;
            words.push(word(VOTE, small, text(label)));
            word(VOTER, 0, text(voter))
        }
    };
    words.push(word);
}

/// Reads words again. Those that make no sense are skipped.
pub(super) fn unpack(words: &[u64]) -> impl Iterator<Item = Stored> {
    let mut rest = words.iter().copied();
    std::iter::from_fn(move || {
        loop {
            let word = rest.next()?;
            let stored = if word as u8 == VOTE { vote(word, rest.next()?) } else { single(word) };
            if stored.is_some() {
                return stored;
            }
        }
    })
}

fn parts(word: u64) -> (u8, u32, u32) {
    (word as u8, (word >> 8) as u32 & SMALL, (word >> 32) as u32)
}

fn vote(first: u64, second: u64) -> Option<Stored> {
    let ((_, small, label), (kind, _, voter)) = (parts(first), parts(second));
    let value = (small & REMOVED == 0).then_some(small as u8 as i8);
    let vote_kind = match small & (NAMED | COPIED) {
        0 => VoteKind::Unnamed,
        NAMED => VoteKind::Named,
        _ => VoteKind::Copied,
    };
    (kind == VOTER).then_some(Stored::Vote { label: Text(label), value, voter: Text(voter), kind: vote_kind })
}

fn single(word: u64) -> Option<Stored> {
    let (kind, small, large) = parts(word);
    Some(match kind {
        HEAD => Stored::Head { patch_set: small, tag: Text(large) },
        COMMIT => Stored::Commit,
        STATUS => Stored::Status(
            *[Status::New, Status::Merged, Status::Abandoned, Status::Draft].get(small as usize)?,
        ),
        PRIVATE => Stored::Private(small != 0),
        WIP => Stored::WorkInProgress(small != 0),
        BRANCH => Stored::Branch(Text(large)),
        TOPIC => Stored::Topic(Text(large)),
        HASHTAGS => Stored::Hashtags(Text(large)),
        ATTENTION => Stored::Attention { who: Text(large), add: small != 0 },
        ROLE => Stored::Role {
            who: Text(large),
            role: *[Role::Reviewer, Role::Cc, Role::Removed].get(small as usize)?,
        },
        ISSUE => Stored::Issue { repository: Text(small), number: large },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back() {
        let mut strings = Strings::default();
        let mut words = Rows::default();
        let name = |text: &'static str| Name::new(text.as_bytes());
        let notes = [
            Note::Head { patch_set: 3, tag: name("tag") },
            Note::Status(Status::Abandoned),
            Note::Vote {
                label: name("Code-Review"),
                value: Some(-2),
                voter: name("7@s"),
                kind: VoteKind::Named,
            },
            Note::Vote { label: name("Verified"), value: None, voter: name("8@s"), kind: VoteKind::Copied },
            Note::Role { who: name("8@s"), role: Role::Cc },
            Note::Issue { repository: name("Golang/Go"), number: 12 },
        ];
        for note in &notes {
            pack(note, &mut strings, &mut words);
        }
        let mut text = |text: &'static str| strings.intern(name(text));
        let expected = [
            Stored::Head { patch_set: 3, tag: text("tag") },
            Stored::Status(Status::Abandoned),
            Stored::Vote {
                label: text("Code-Review"),
                value: Some(-2),
                voter: text("7@s"),
                kind: VoteKind::Named,
            },
            Stored::Vote { label: text("Verified"), value: None, voter: text("8@s"), kind: VoteKind::Copied },
            Stored::Role { who: text("8@s"), role: Role::Cc },
            Stored::Issue { repository: text("golang/go"), number: 12 },
        ];
        assert_eq!(unpack(words.parts()[1]).collect::<Vec<_>>(), expected);
        assert_eq!(unpack(&[0, u64::MAX, u64::from(VOTE)]).count(), 0);
    }
}
