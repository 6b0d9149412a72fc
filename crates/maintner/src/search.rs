//! Questions that look at everything there is, with all processors.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use memchr::memmem::Finder;

use crate::{Corpus, core::Comment};

/// So many comments are looked at by one thread at a time: whichever is sooner done takes more of them.
const SHARE: usize = 512;

/// All comments that have this word in them, case as given, in the order of [`crate::core::Github::comments`]. A word
/// ends where a letter, digit or underscore is followed by something else. Looks at every byte once, with so many
/// threads. Blocks.
pub fn comments_with_word<'a>(corpus: &'a Corpus, word: &str, threads: usize) -> Vec<Comment<'a>> {
    let github = corpus.github();
    let finder = Finder::new(word);
    let shares = github.comment_count().div_ceil(SHARE);
    let next = AtomicUsize::new(0);
    let find = || {
        let mut found = Vec::new();
        loop {
            let share = next.fetch_add(1, Ordering::Relaxed);
            if share >= shares {
                return found;
            }
            let range = share * SHARE..(share + 1) * SHARE;
            found.push((share, github.comments_whose(range, |text| has_word(&finder, text))));
        }
    };
    let mut found = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(shares)).map(|_| scope.spawn(find)).collect();
        let mut found = find();
        for other in others {
            match other.join() {
                Ok(more) => found.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    });
    found.sort_unstable_by_key(|(share, _)| *share);
    found.into_iter().flat_map(|(_, comments)| comments).collect()
}

fn has_word(word: &Finder<'_>, text: &[u8]) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let len = word.needle().len();
    let mut found = word.find_iter(text);
    len > 0 && found.any(|at| !is_word(text[..at].last()) && !is_word(text.get(at + len)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Generator, Scale};

    #[test]
    fn a_word_is_found_whole_and_however_many_look() {
        let has = |word: &str, text: &str| has_word(&Finder::new(word), text.as_bytes());
        assert!(has("nil", "a nil, pointer") && has("nil", "nil") && has("nil", "vanilnil nil"));
        assert!(!has("nil", "vanilla") && !has("nil", "nil_") && !has("", "nil"));
        let mut corpus = Corpus::default();
        let scale = Scale { comments: 3 * SHARE, ..Scale::TINY };
        Generator::new(2, scale).for_each(|mutation| corpus.apply(&mutation));
        let ids = |threads| -> Vec<i64> {
            comments_with_word(&corpus, "nil", threads).iter().map(Comment::id).collect()
        };
        assert!(!ids(1).is_empty() && ids(1).len() < corpus.github().comment_count());
        assert_eq!(ids(1), ids(3));
        assert_eq!(comments_with_word(&Corpus::default(), "nil", 2).len(), 0);
    }
}
