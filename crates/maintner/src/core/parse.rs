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
}

impl ParsedCommit<'_> {
    /// The first paragraph of the message in one line.
    pub fn subject(&self) -> String {
        let start = self.message.trim_start_matches('\n');
        let paragraph = start.split("\n\n").next().unwrap_or_default();
        paragraph.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Parses a commit object. Headers that are not of interest, such as signatures, are skipped.
pub fn parse_commit(raw: &[u8]) -> Result<ParsedCommit<'_>, ParseCommitError> {
    let split = memchr::memmem::find(raw, b"\n\n").ok_or(ParseCommitError("no end of the headers"))?;
    let (headers, message) = (&raw[..split], &raw[split + 2..]);
    let (mut tree, mut parents, mut author, mut committer) = (None, Vec::new(), None, None);
    for line in headers.split(|byte| *byte == b'\n') {
        let (key, value) = match memchr::memchr(b' ', line) {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &b""[..]),
        };
        // A continued line begins with a space and so has an empty key.
        match key {
            b"tree" => tree = Some(hash(value)?),
            b"parent" => parents.push(hash(value)?),
            b"author" if author.is_none() => author = Some(person(value)?),
            b"committer" if committer.is_none() => committer = Some(person(value)?),
            _ => {}
        }
    }
    Ok(ParsedCommit {
        tree: tree.ok_or(ParseCommitError("no tree"))?,
        parents,
        author: author.ok_or(ParseCommitError("no author"))?,
        committer: committer.ok_or(ParseCommitError("no committer"))?,
        message: String::from_utf8_lossy(message),
    })
}

fn hash(text: &[u8]) -> Result<CommitHash, ParseCommitError> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or(ParseCommitError("a hash that is none"))
}

/// `Name <email> 1700000000 +0100`, read from the right, since names may hold anything.
fn person(text: &[u8]) -> Result<Person<'_>, ParseCommitError> {
    let bad = ParseCommitError("a person without a time");
    let zone = memchr::memrchr(b' ', text).ok_or(bad)?;
    let time = memchr::memrchr(b' ', &text[..zone]).ok_or(bad)?;
    let seconds = std::str::from_utf8(&text[time + 1..zone]).ok().and_then(|text| text.parse().ok());
    Ok(Person { name: String::from_utf8_lossy(&text[..time]), seconds: seconds.ok_or(bad)? })
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
            Person { name: "Ada Lovelace <ada@example.com>".into(), seconds: 1_700_000_000 }
        );
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
