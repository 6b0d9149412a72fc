//! Which changes ask to be tried, by the votes on them and by what voters write. maintnerd answers programs of the Go
//! project by it, and the coordinator tries changes by it. Pure.

/// Longer wishes are none: nobody types them.
const MAX_WISH: usize = 1024;

/// Whether a change asks for a try: somebody votes +1 on the label that `asks`, and nobody has voted on the one that
/// `answers`.
pub fn is_asked<'a>(asks: &str, answers: &str, votes: impl IntoIterator<Item = (&'a str, i32)>) -> bool {
    let mut asked = false;
    for (label, value) in votes {
        if label == answers && value != 0 {
            return false;
        }
        asked |= label == asks && value == 1;
    }
    asked
}

/// Whether a message is the one with which somebody votes +1 on the label that `asks`: only they can write it who may.
pub fn is_vote(message: &str, asks: &str) -> bool {
    let first = message.lines().next().unwrap_or_default();
    first.starts_with("Patch Set ") && first.contains(&format!("{asks}+1"))
}

/// What a voter asks for in particular: the line `TRY=…` of the message with which they vote.
pub fn wish<'a>(message: &'a str, asks: &str) -> Option<&'a str> {
    line(message).filter(|_| is_vote(message, asks))
}

/// What the line `TRY=…` of a text says.
pub fn line(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("TRY=")).map(str::trim)
}

/// Of wishes with the patch sets that they were said of, the first first, the one that counts for a patch set: the last
/// that was said of it, else the last that says anything.
pub fn chosen<'a>(wishes: &[(u32, &'a str)], patch_set: u32) -> Option<&'a str> {
    let of_this = wishes.iter().rev().find(|(of, _)| *of == patch_set);
    of_this.or_else(|| wishes.iter().rev().find(|(_, wish)| !wish.is_empty())).map(|(_, wish)| *wish)
}

/// The builders that a wish names.
pub fn terms(wish: &str) -> Vec<&str> {
    if wish.len() > MAX_WISH {
        return Vec::new();
    }
    let stands = |letter: char| letter.is_ascii_alphanumeric() || "-_/@.".contains(letter);
    let mut terms: Vec<&str> =
        wish.split(|letter| !stands(letter)).map(|term| term.trim_matches('.')).collect();
    terms.retain(|term| !term.is_empty());
    let mut seen = std::collections::BTreeSet::new();
    terms.retain(|term| seen.insert(*term));
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_asks_until_it_is_answered() {
        let asked = |votes: &[(&'static str, i32)]| is_asked("Run", "Result", votes.iter().copied());
        assert!(!asked(&[]));
        assert!(asked(&[("Run", 1), ("Code-Review", -2)]));
        assert!(!asked(&[("Run", 1), ("Result", -1)]));
        assert!(asked(&[("Run", 1), ("Result", 0)]));
        assert!(!asked(&[("Run", 0)]));
    }

    #[test]
    fn only_voters_wish() {
        assert_eq!(wish("Patch Set 3: Run+1\n\nplease\nTRY= a, b ", "Run"), Some("a, b"));
        assert_eq!(wish("Patch Set 3:\n\nTRY=a", "Run"), None);
        assert_eq!(wish("Patch Set 3: Run+1", "Run"), None);
        assert_eq!(wish("TRY=a\nRun+1", "Run"), None);
    }

    #[test]
    fn the_last_wish_for_a_patch_set_counts() {
        let wishes = [(1, "a"), (2, "b"), (2, "")];
        assert_eq!(chosen(&wishes, 1), Some("a"));
        assert_eq!(chosen(&wishes, 2), Some(""));
        assert_eq!(chosen(&wishes, 3), Some("b"));
        assert_eq!(chosen(&[], 3), None);
    }

    #[test]
    fn a_wish_names_builders_in_any_writing() {
        assert_eq!(
            terms("linux-386, go1.22; x/tools@plan9 linux-386..."),
            ["linux-386", "go1.22", "x/tools@plan9"]
        );
        assert_eq!(terms(&"a ".repeat(600)), Vec::<&str>::new());
    }
}
