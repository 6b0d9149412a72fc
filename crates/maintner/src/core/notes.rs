//! What the message of a commit says beyond its text: the footers of NoteDb, where Gerrit keeps the state of a change
//! in commits, and the issues that a commit of code refers to.
//!
//! Footers are the last paragraph only: what people write above it is never taken for one.

use types::CommitHash;

use super::{
    parse::{Signature, email, parse_hash, parse_number},
    strings::Name,
};

/// The state of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Under review.
    New,
    /// Submitted.
    Merged,
    /// Given up.
    Abandoned,
    /// Of a Gerrit from before there was work in progress.
    Draft,
}

/// What somebody is to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Is to review it.
    Reviewer,
    /// Is told of it.
    Cc,
    /// Was one of these, and is no longer.
    Removed,
}

/// One thing that a message says. People are named by their email, which for Gerrit is `account@server`: names are for
/// presentation only, and change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note<'a> {
    /// Always the first of a commit of NoteDb: the patch set it is about and its tag.
    Head {
        patch_set: u32,
        tag: Name<'a>,
    },
    /// The commit of a new patch set.
    Commit(CommitHash),
    Status(Status),
    Private(bool),
    WorkInProgress(bool),
    Branch(Name<'a>),
    Topic(Name<'a>),
    Hashtags(Name<'a>),
    /// No value takes the vote back.
    Vote {
        label: Name<'a>,
        value: Option<i8>,
        voter: Name<'a>,
        kind: VoteKind,
    },
    Attention {
        who: Name<'a>,
        add: bool,
    },
    Role {
        who: Name<'a>,
        role: Role,
    },
    /// An issue: of `owner/repository`, or of the project's own if that is empty.
    Issue {
        repository: Name<'a>,
        number: u32,
    },
}

impl<'a> Note<'a> {
    /// Its texts.
    pub(super) fn names(&mut self) -> [Option<&mut Name<'a>>; 2] {
        match self {
            Note::Head { tag: name, .. }
            | Note::Branch(name)
            | Note::Topic(name)
            | Note::Hashtags(name)
            | Note::Attention { who: name, .. }
            | Note::Role { who: name, .. }
            | Note::Issue { repository: name, .. } => [Some(name), None],
            Note::Vote { label, voter, .. } => [Some(label), Some(voter)],
            Note::Commit(_) | Note::Status(_) | Note::Private(_) | Note::WorkInProgress(_) => [None, None],
        }
    }
}

/// How a vote is written, which says how long it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VoteKind {
    /// By a Gerrit that did not write which votes it copies to a new patch set.
    Unnamed,
    /// With a name of its own: it counts for its patch set.
    Named,
    /// Copied from an earlier patch set.
    Copied,
}

/// Tells all that a commit with this signature and message says.
pub(super) fn read<'a>(author: Signature<'a>, message: &'a [u8], mut tell: impl FnMut(Note<'a>)) {
    if is_account(author) {
        let mut lines = [&b""[..]; MOST_LINES];
        let few = last_lines(message.trim_ascii_end(), &mut lines);
        if let Some(lines) = few.and_then(|count| lines.get(..count)) {
            if lines.iter().any(|line| line.starts_with(PATCH_SET)) {
                return read_footers(author, || pairs(lines.iter().rev().copied()), tell);
            }
        } else if let Some(footers) = footers(author, message) {
            return read_footers(author, || pairs(self::lines(footers)), tell);
        }
    }
    issues(message, |repository, number| {
        tell(Note::Issue { repository: Name::new(repository), number });
    });
}

/// Nearly all commits of NoteDb have no more footers.
const MOST_LINES: usize = 24;
/// Every commit of NoteDb has this footer.
const PATCH_SET: &[u8] = b"Patch-set: ";

/// Finds the lines of the last paragraph, the last line first, and says how many they are; nothing if they are many.
fn last_lines<'a>(text: &'a [u8], lines: &mut [&'a [u8]; MOST_LINES]) -> Option<usize> {
    let (mut end, mut count) = (text.len(), 0);
    loop {
        let start = memchr::memrchr(b'\n', &text[..end]).map_or(0, |at| at + 1);
        if start == end {
            return Some(count);
        }
        *lines.get_mut(count)? = &text[start..end];
        count += 1;
        if start == 0 {
            return Some(count);
        }
        end = start - 1;
    }
}

/// Whether a commit is of an account of Gerrit, as those of NoteDb are.
fn is_account(author: Signature<'_>) -> bool {
    let email = author.email();
    let account = memchr::memchr(b'@', email).map_or(&b""[..], |at| &email[..at]);
    !account.is_empty() && account.iter().all(u8::is_ascii_digit)
}

/// The footers of a commit of NoteDb; nothing if it is another.
pub(super) fn footers<'a>(author: Signature<'a>, message: &'a [u8]) -> Option<&'a [u8]> {
    if !is_account(author) {
        return None;
    }
    let whole = message.trim_ascii_end();
    let start = last_paragraph(whole);
    let paragraph = &whole[start..];
    lines(paragraph).any(|line| line.starts_with(PATCH_SET)).then_some(paragraph)
}

/// Where the last paragraph begins.
fn last_paragraph(text: &[u8]) -> usize {
    let mut end = text.len();
    while let Some(line) = memchr::memrchr(b'\n', &text[..end]) {
        if line > 0 && text[line - 1] == b'\n' {
            return line + 1;
        }
        end = line;
    }
    0
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[], |end| &rest[end + 1..]);
        Some(line)
    })
}

/// The key and the value of each footer.
fn pairs<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    lines.filter_map(|line| {
        // Keys are short: a search for long texts would take longer to begin.
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

fn read_footers<'a, P: Iterator<Item = (&'a [u8], &'a [u8])>>(
    author: Signature<'a>,
    pairs: impl Fn() -> P,
    mut tell: impl FnMut(Note<'a>),
) {
    let (mut patch_set, mut tag) = (0, &b""[..]);
    for (key, value) in pairs() {
        match key {
            b"Patch-set" => patch_set = first_number(value),
            b"Tag" => tag = value,
            _ => {}
        }
    }
    tell(Note::Head { patch_set, tag: Name::new(tag) });
    for (key, value) in pairs() {
        if let Some(note) = note(author, key, value) {
            tell(note);
        }
    }
}

/// `3`, or `3 (PUBLISHED)` of an old Gerrit.
fn first_number(value: &[u8]) -> u32 {
    let digits = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    parse_number(digits).and_then(|number| number.try_into().ok()).unwrap_or(0)
}

fn note<'a>(author: Signature<'a>, key: &[u8], value: &'a [u8]) -> Option<Note<'a>> {
    let role = |role| Note::Role { who: Name::new(email(value)), role };
    Some(match key {
        b"Commit" => Note::Commit(parse_hash(value)?),
        b"Status" => Note::Status(status(value)?),
        b"Private" => Note::Private(value.eq_ignore_ascii_case(b"true")),
        b"Work-in-progress" => Note::WorkInProgress(value.eq_ignore_ascii_case(b"true")),
        b"Branch" => Note::Branch(Name::new(value)),
        b"Topic" => Note::Topic(Name::new(value)),
        b"Hashtags" => Note::Hashtags(Name::new(value)),
        b"Label" => vote(author, value, false)?,
        b"Copied-Label" => vote(author, value, true)?,
        b"Attention" => attention(value)?,
        b"Reviewer" => role(Role::Reviewer),
        b"CC" => role(Role::Cc),
        b"Removed" => role(Role::Removed),
        _ => return None,
    })
}

fn status(value: &[u8]) -> Option<Status> {
    Some(match value {
        b"new" => Status::New,
        b"merged" => Status::Merged,
        b"abandoned" => Status::Abandoned,
        b"draft" => Status::Draft,
        _ => return None,
    })
}

/// `Run-TryBot=+1`, `Run-TryBot=+1, <name of the vote>`, `-Run-TryBot`, each followed by the voter if that is not the
/// author, and by whoever really voted, and by a tag.
fn vote<'a>(author: Signature<'a>, value: &'a [u8], copied: bool) -> Option<Note<'a>> {
    let (removed, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let end = value.iter().position(|byte| matches!(byte, b'=' | b' ' | b',')).unwrap_or(value.len());
    let (label, mut rest) = value.split_at(end);
    let mut number = None;
    if !removed {
        rest = rest.strip_prefix(b"=")?;
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b',')).unwrap_or(rest.len());
        number = Some(parse_number(&rest[..end])?.try_into().ok()?);
        rest = &rest[end..];
    }
    let named = rest.starts_with(b", ");
    // The first person is the one whose vote it is; a tag, which anybody may choose, comes after.
    let people = rest.find_before(b" :\"");
    let first = memchr::memchr(b'>', people).map_or(&b""[..], |at| email(&people[..=at]));
    let voter = if first.is_empty() { author.email() } else { first };
    let kind = match (copied, named) {
        (true, _) => VoteKind::Copied,
        (false, true) => VoteKind::Named,
        (false, false) => VoteKind::Unnamed,
    };
    // Gerrit notes so who submitted a change: it is no label that anybody votes on.
    let valid = !label.is_empty()
        && label != b"SUBM"
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    valid.then_some(Note::Vote { label: Name::new(label), value: number, voter: Name::new(voter), kind })
}

trait FindBefore {
    fn find_before(&self, what: &[u8]) -> &Self;
}

impl FindBefore for [u8] {
    /// What comes before the first `what`, or all.
    fn find_before(&self, what: &[u8]) -> &Self {
        &self[..memchr::memmem::find(self, what).unwrap_or(self.len())]
    }
}

/// `{"person_ident":"Gerrit User 5 \u003c5@server\u003e","operation":"ADD","reason":"…"}`
fn attention(json: &[u8]) -> Option<Note<'_>> {
    let person = json_text(json, b"\"person_ident\":\"")?;
    // No email has a backslash in it.
    let mut parts = person.rsplit(|byte| *byte == b'\\');
    let (after, inside) = (parts.next()?, parts.next());
    let who = match inside.and_then(|inside| inside.strip_prefix(b"u003c")) {
        Some(inside) if after == b"u003e" => inside,
        _ => email(person),
    };
    let add = match json_text(json, b"\"operation\":\"")? {
        b"ADD" => true,
        b"REMOVE" => false,
        _ => return None,
    };
    Some(Note::Attention { who: Name::new(who), add })
}

/// The text after this key. The keys are always in the same order, and none is in a text before.
fn json_text<'a>(json: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memchr_iter(b'"', json).find(|at| json[*at..].starts_with(key))? + key.len();
    let value = &json[at..];
    Some(&value[..memchr::memchr(b'"', value)?])
}

/// Tells each `owner/repository#12`, and each `#12` with nothing before the sign.
fn issues<'a>(message: &'a [u8], mut tell: impl FnMut(&'a [u8], u32)) {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
    for at in memchr::memchr_iter(b'#', message) {
        let digits = &message[at + 1..];
        let digits = &digits[..digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len())];
        let Some(number) = parse_number(digits).filter(|number| (1..=i64::from(i32::MAX)).contains(number))
        else {
            continue;
        };
        let before = &message[..at];
        let start = before.iter().rposition(|byte| !is_word(byte)).map_or(0, |space| space + 1);
        let repository = &before[start..];
        let whole = repository.is_empty()
            || matches!(memchr::memchr(b'/', repository), Some(slash) if slash > 0
                && slash + 1 < repository.len()
                && memchr::memrchr(b'/', repository) == Some(slash));
        if whole {
            tell(repository, number as u32);
        }
    }
}

/// What people are to read: from `Patch Set 3:` or `Uploaded patch set 3:` to the footers. That a patch set was
/// uploaded, and no more, is no message.
pub(super) fn text<'a>(message: &'a [u8], footers: &[u8]) -> Option<&'a [u8]> {
    let body = &message[..footers.as_ptr() as usize - message.as_ptr() as usize];
    let start = memchr::memchr_iter(b'\n', body).map(|at| at + 1).find(|start| {
        let line = &body[*start..];
        let rest = line.strip_prefix(b"Patch Set ").or_else(|| line.strip_prefix(b"Uploaded patch set "));
        let digits = rest.map_or(&b""[..], |rest| rest.find_before(b":"));
        !digits.is_empty()
            && digits.iter().all(u8::is_ascii_digit)
            && rest.is_some_and(|rest| rest.len() > digits.len())
    })?;
    Some(body[start..].trim_ascii_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHOR: Signature<'_> =
        Signature { name: b"Gerrit User 7 <7@server>", seconds: 0, zone_minutes: 0 };

    fn notes(message: &str) -> Vec<Note<'_>> {
        let mut notes = Vec::new();
        read(AUTHOR, message.as_bytes(), |note| notes.push(note));
        notes
    }

    fn votes(label: &str) -> Vec<(String, Option<i8>, String, VoteKind)> {
        let message = format!("Update patch set 3\n\nPatch-set: 3\n{label}\n");
        notes(&message)
            .into_iter()
            .filter_map(|note| match note {
                Note::Vote { label, value, voter, kind } => {
                    let text = |name: Name<'_>| String::from_utf8(name.bytes.to_vec()).unwrap();
                    Some((text(label), value, text(voter), kind))
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn votes_are_read_as_every_gerrit_writes_them() {
        let vote =
            |label: &str, value, voter: &str, kind| vec![(label.to_owned(), value, voter.to_owned(), kind)];
        let name = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        assert_eq!(votes("Label: Run-TryBot=+1"), vote("Run-TryBot", Some(1), "7@server", VoteKind::Unnamed));
        assert_eq!(
            votes(&format!("Label: Code-Review=-2, {name}")),
            vote("Code-Review", Some(-2), "7@server", VoteKind::Named)
        );
        assert_eq!(
            votes(&format!("Label: Verified=0, {name} Gerrit User 9 <9@server>")),
            vote("Verified", Some(0), "9@server", VoteKind::Named)
        );
        assert_eq!(votes("Label: -Verified"), vote("Verified", None, "7@server", VoteKind::Unnamed));
        assert_eq!(
            votes("Label: -Verified Gerrit User 9 <9@server>"),
            vote("Verified", None, "9@server", VoteKind::Unnamed)
        );
        assert_eq!(
            votes(&format!(
                "Copied-Label: Code-Review=+1, {name} Gerrit User 9 <9@server>,Gerrit User 1 <1@server> :\"a <b@c>\""
            )),
            vote("Code-Review", Some(1), "9@server", VoteKind::Copied)
        );
        for bad in [
            "Label: SUBM=+1",
            "Label: ",
            "Label: X",
            "Label: X=",
            "Label: X=+900",
            "Label: X=one",
            "Label: a b=1",
            "Label: =1",
        ] {
            assert_eq!(votes(bad), [], "{bad}");
        }
    }

    #[test]
    fn what_people_write_is_never_taken_for_a_footer() {
        let message = "Update patch set 1\n\nPatch Set 1:\n\nLabel: Code-Review=+2\nPatch-set: 9\n\nand more\n\nPatch-set: 1\n";
        assert_eq!(notes(message), [Note::Head { patch_set: 1, tag: Name::new(b"") }]);
        let text = text(message.as_bytes(), footers(AUTHOR, message.as_bytes()).unwrap()).unwrap();
        assert!(text.starts_with(b"Patch Set 1:\n") && text.ends_with(b"and more"));
        // Nor is the commit of a person without an account one of NoteDb.
        let person = Signature { name: b"Eve <eve@example.com>", ..AUTHOR };
        assert_eq!(footers(person, message.as_bytes()), None);
    }

    #[test]
    fn a_commit_with_many_footers_reads_as_one_with_few() {
        let few = "Update patch set 2\n\nPatch Set 2:\n\n(1 comment)\n\nPatch-set: 2\nReviewer: A <7@s>\n";
        let read = notes(few);
        assert_eq!(read.len(), 2);
        for more in [1, MOST_LINES - 3, MOST_LINES - 2, MOST_LINES, 200] {
            let many = format!("{few}{}", "Groups: none\n".repeat(more));
            assert_eq!(notes(&many), read, "{more} more lines");
        }
        assert_eq!(notes("Patch-set: 3"), [Note::Head { patch_set: 3, tag: Name::new(b"") }]);
        assert_eq!(notes(""), []);
    }

    #[test]
    fn the_state_of_a_change_is_read() {
        let message = "Create change\n\nUploaded patch set 1.\n\nPatch-set: 1\nBranch: refs/heads/main\nStatus: new\n\
            Topic: \nHashtags: a, b\nPrivate: true\nWork-in-progress: FALSE\nCC: Gerrit User 8 <8@server>\n\
            Attention: {\"person_ident\":\"Gerrit User 9 \\u003c9@server\\u003e\",\"operation\":\"REMOVE\",\"reason\":\"x\"}\n\
            Tag: autogenerated:gerrit:newPatchSet\nUnheard-of: yes\n";
        let name = |text: &'static str| Name::new(text.as_bytes());
        let expected = [
            Note::Head { patch_set: 1, tag: name("autogenerated:gerrit:newPatchSet") },
            Note::Branch(name("refs/heads/main")),
            Note::Status(Status::New),
            Note::Topic(name("")),
            Note::Hashtags(name("a, b")),
            Note::Private(true),
            Note::WorkInProgress(false),
            Note::Role { who: name("8@server"), role: Role::Cc },
            Note::Attention { who: name("9@server"), add: false },
        ];
        assert_eq!(notes(message), expected);
        assert_eq!(text(message.as_bytes(), footers(AUTHOR, message.as_bytes()).unwrap()), None);
    }

    #[test]
    fn messages_are_told_from_notices() {
        for (said, expected) in [
            ("Patch Set 5: Code-Review+1", Some("Patch Set 5: Code-Review+1")),
            ("Uploaded patch set 5: Vote+1", Some("Uploaded patch set 5: Vote+1")),
            ("Uploaded patch set 5.", None),
            ("Patch Set 5 was rebased", None),
            ("Patch Set x: no", None),
            ("Abandoned", None),
        ] {
            let message = format!("Update\n\n{said}\n\nPatch-set: 5\n");
            let footers = footers(AUTHOR, message.as_bytes()).unwrap();
            assert_eq!(text(message.as_bytes(), footers), expected.map(str::as_bytes), "{said}");
        }
    }

    #[test]
    fn references_to_issues_are_found() {
        let mut found = Vec::new();
        let message =
            b"net: fix #12, golang/go#34\n\nFixes Some/Repo.x#5. C#9 a/b/c#7 /x#8 #0 #99999999999 ##3 #";
        issues(message, |repository, number| {
            found.push((String::from_utf8(repository.to_vec()).unwrap(), number));
        });
        let expected = [("", 12), ("golang/go", 34), ("Some/Repo.x", 5), ("", 3)];
        assert_eq!(found, expected.map(|(repository, number)| (repository.to_owned(), number)));
    }
}
