//! Commit objects, as `git cat-file commit` prints them.

use std::borrow::Cow;

use types::CommitHash;

/// Not a commit object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a commit object: {0}")]
pub struct ParseCommitError(&'static str);

/// What a commit says. Text that is not UTF-8 has its bad bytes replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedCommit<'a> {
    /// Its tree.
    pub tree: CommitHash,
    /// Its parents, the first is the one it was made on.
    pub parents: Vec<CommitHash>,
    /// Who wrote it, and when.
    pub author: Person<'a>,
    /// Who committed it, and when.
    pub committer: Person<'a>,
    /// The message, verbatim.
    pub message: Cow<'a, str>,
}

/// Who did something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person<'a> {
    /// `Name <email>`.
    pub name: Cow<'a, str>,
    /// Seconds since 1970.
    pub seconds: i64,
    /// Minutes that the clock on their wall was ahead of UTC.
    pub zone_minutes: i32,
}

/// What the headers of a commit say, as far as it is of interest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    pub(super) tree: CommitHash,
    pub(super) author: Signature<'a>,
    pub(super) committer: Signature<'a>,
    pub(super) message: &'a [u8],
}

/// A person and a time, as they are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signature<'a> {
    /// `Name <email>`.
    pub(super) name: &'a [u8],
    pub(super) seconds: i64,
    pub(super) zone_minutes: i32,
}

impl ParsedCommit<'_> {
    /// The first paragraph of the message in one line.
    pub fn subject(&self) -> String {
        subject_of(&self.message)
    }
}

/// Parses a commit object. Headers that are not of interest, such as signatures, are skipped.
pub fn parse_commit(raw: &[u8]) -> Result<ParsedCommit<'_>, ParseCommitError> {
    let mut parents = Vec::new();
    let header = scan_commit(raw, |parent| parents.push(parent))?;
    Ok(ParsedCommit {
        tree: header.tree,
        parents,
        author: header.author.person(),
        committer: header.committer.person(),
        message: String::from_utf8_lossy(header.message),
    })
}

/// Reads a commit object in place; parents are told one by one.
pub(super) fn scan_commit(
    raw: &[u8],
    mut parent: impl FnMut(CommitHash),
) -> Result<Header<'_>, ParseCommitError> {
    let (mut tree, mut author, mut committer) = (None, None, None);
    let mut rest = raw;
    // The first lines have a length that is known, in all but odd commits.
    if let Some((line, after)) = fixed_line(rest, b"tree ") {
        tree = Some(hash(line)?);
        rest = after;
    }
    while let Some((line, after)) = fixed_line(rest, b"parent ") {
        parent(hash(line)?);
        rest = after;
    }
    let message = loop {
        let end = memchr::memchr(b'\n', rest).ok_or(ParseCommitError("no end of the headers"))?;
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break rest;
        }
        // A continued line begins with a space, and so with none of these.
        if let Some(value) = line.strip_prefix(b"tree ") {
            tree = Some(hash(value)?);
        } else if let Some(value) = line.strip_prefix(b"parent ") {
            parent(hash(value)?);
        } else if let Some(value) = line.strip_prefix(b"author ").filter(|_| author.is_none()) {
            author = Some(signature(value)?);
        } else if let Some(value) = line.strip_prefix(b"committer ").filter(|_| committer.is_none()) {
            committer = Some(signature(value)?);
        }
    };
    Ok(Header {
        tree: tree.ok_or(ParseCommitError("no tree"))?,
        author: author.ok_or(ParseCommitError("no author"))?,
        committer: committer.ok_or(ParseCommitError("no committer"))?,
        message,
    })
}

/// What follows a key in the first line, and what follows the line, if that is as long as one with a hash.
fn fixed_line<'a>(text: &'a [u8], key: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (value, rest) = text.strip_prefix(key)?.split_at_checked(40)?;
    Some((value, rest.strip_prefix(b"\n")?))
}

fn hash(text: &[u8]) -> Result<CommitHash, ParseCommitError> {
    parse_hash(text).ok_or(ParseCommitError("a hash that is none"))
}

/// Forty lower-case digits.
#[inline]
pub(super) fn parse_hash(text: &[u8]) -> Option<CommitHash> {
    let digits: &[u8; 40] = text.try_into().ok()?;
    let mut bytes = [0; 20];
    let mut bad = 0;
    let (words, _) = digits.as_chunks();
    for (four, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        let (parsed, wrong) = parse_digits(u64::from_le_bytes(*word));
        *four = parsed.to_le_bytes();
        bad |= wrong;
    }
    (bad == 0).then(|| CommitHash::from_bytes(bytes))
}

/// Eight lower-case hexadecimal digits, all at once, the first in the lowest byte. Answers also with something other than
/// zero if one of them is none.
#[inline]
fn parse_digits(word: u64) -> (u32, u64) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Digits are 30 to 39, letters 61 to 66.
    let letters = word >> 6 & EACH;
    let values = (word & (0x0f * EACH)) + letters * 9;
    let upper = word & (0xf0 * EACH) ^ (0x30 * EACH + letters * 0x30);
    let is_ten = (values + 6 * EACH) >> 4 & EACH;
    let wrong = upper | is_ten ^ letters | values & (0x10 * EACH);
    let pairs = (values << 4 | values >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    ((fours | fours >> 16) as u32, wrong)
}

/// `Name <email> 1700000000 +0100`, read from the right, since names may hold anything.
#[inline]
fn signature(text: &[u8]) -> Result<Signature<'_>, ParseCommitError> {
    let bad = ParseCommitError("a person without a time");
    let last_space = |text: &[u8]| text.iter().rposition(|byte| *byte == b' ');
    // What follows the name is short: a search for long texts would take longer to begin.
    let zone = last_space(text).ok_or(bad)?;
    let time = last_space(&text[..zone]).ok_or(bad)?;
    let seconds = parse_number(&text[time + 1..zone]).ok_or(bad)?;
    let zone_minutes = parse_number(&text[zone + 1..]).map_or(0, |zone| zone / 100 * 60 + zone % 100);
    Ok(Signature { name: &text[..time], seconds, zone_minutes: zone_minutes.clamp(-6000, 6000) as i32 })
}

/// Digits with or without a sign.
pub(super) fn parse_number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    let mut number = 0i64;
    if digits.len() <= 16 {
        // So few fit, whatever bytes they are.
        let mut bad = false;
        for digit in digits {
            let value = digit.wrapping_sub(b'0');
            bad |= value > 9;
            number = number * 10 + i64::from(value);
        }
        if bad {
            return None;
        }
    } else {
        for digit in digits {
            let value = digit.wrapping_sub(b'0');
            number = number.checked_mul(10)?.checked_add(i64::from(value)).filter(|_| value < 10)?;
        }
    }
    (!digits.is_empty()).then_some(if negative { -number } else { number })
}

impl<'a> Signature<'a> {
    fn person(self) -> Person<'a> {
        let Self { name, seconds, zone_minutes } = self;
        Person { name: String::from_utf8_lossy(name), seconds, zone_minutes }
    }

    /// What is between the last brackets of `Name <email>`.
    pub(super) fn email(self) -> &'a [u8] {
        email(self.name)
    }
}

/// What is between the last brackets; nothing if there are none.
pub(super) fn email(person: &[u8]) -> &[u8] {
    let start = memchr::memrchr(b'<', person).map_or(person.len(), |at| at + 1);
    let inside = &person[start..];
    &inside[..memchr::memchr(b'>', inside).unwrap_or(0)]
}

/// The first paragraph of a message in one line.
pub(super) fn subject_of(message: &str) -> String {
    let start = message.trim_start_matches('\n');
    let paragraph = start.split("\n\n").next().unwrap_or_default();
    paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RAW: &[u8] = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
        parent 0123456789abcdef0123456789abcdef01234567\n\
        author Ada Lovelace <ada@example.com> 1700000000 +0100\n\
        committer Bob <bob@example.com> 1700000060 -0330\n\
        gpgsig -----BEGIN PGP SIGNATURE-----\n tree of lies\n -----END PGP SIGNATURE-----\n\
        \nfix: a thing\nthat broke\n\nMore about it.\n";

    #[test]
    fn a_commit_is_taken_apart() {
        let commit = parse_commit(RAW).unwrap();
        assert_eq!(commit.tree.short(), "4b825dc6");
        assert_eq!(commit.parents.len(), 1);
        assert_eq!(
            commit.author,
            Person {
                name: "Ada Lovelace <ada@example.com>".into(),
                seconds: 1_700_000_000,
                zone_minutes: 60
            }
        );
        assert_eq!(commit.committer.zone_minutes, -210);
        assert_eq!(commit.committer.seconds, 1_700_000_060);
        assert_eq!(commit.subject(), "fix: a thing that broke");
        assert!(commit.message.ends_with("More about it.\n"));
    }

    #[test]
    fn text_that_is_not_utf8_is_read_and_an_empty_message_is_allowed() {
        let raw = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor \xff <> 1 +0000\ncommitter x <> -5 +0000\n\n";
        let commit = parse_commit(raw).unwrap();
        assert_eq!(commit.author.name, "\u{fffd} <>");
        assert_eq!(commit.committer.seconds, -5);
        assert_eq!(commit.subject(), "");
    }

    #[test]
    fn a_hash_is_forty_digits_whatever_else_a_byte_may_be() {
        for at in 0..40 {
            for byte in 0..=255 {
                let mut text = *b"0123456789abcdef0123456789abcdef89abcdef";
                text[at] = byte;
                let is_digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                let parsed = parse_hash(&text);
                assert_eq!(parsed.is_some(), is_digit, "{byte} at {at}");
                let printed = parsed.map(|hash| hash.to_string().into_bytes());
                assert!(printed.is_none_or(|printed| printed == text), "{byte} at {at}");
            }
        }
        assert!(parse_hash(&[b'0'; 39]).is_none() && parse_hash(&[b'0'; 41]).is_none());
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0..RAW.len(), bit in 0u8..8, cut in 0..RAW.len()) {
            let mut raw = RAW.to_vec();
            raw[at] ^= 1 << bit;
            let _ = parse_commit(&raw);
            let _ = parse_commit(&raw[..cut]);
        }
    }
}
