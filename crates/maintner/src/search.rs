//! Questions that look at everything there is, with all processors.

use std::thread;

use memchr::memmem::Finder;

use crate::{Corpus, core::Comment};

/// All comments that have this word in them, case as given, in the order of [`crate::core::Github::comments`]. A word
/// ends where a letter, digit or underscore is followed by something else. Looks at every byte once, with so many
/// threads. Blocks.
pub fn comments_with_word<'a>(corpus: &'a Corpus, word: &str, threads: usize) -> Vec<Comment<'a>> {
    let github = corpus.github();
    let finder = Finder::new(word);
    let total = github.comment_count();
    let share = total.div_ceil(threads.max(1)).max(1);
    let find = |start: usize| {
        github.comments_whose(start..(start + share).min(total), |text| has_word(&finder, text))
    };
    let find = &find;
    thread::scope(|scope| {
        let others: Vec<_> =
            (share..total).step_by(share).map(|start| scope.spawn(move || find(start))).collect();
        let mut found = find(0);
        for other in others {
            match other.join() {
                Ok(more) => found.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        found
    })
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
        Generator::new(2, Scale::TINY).for_each(|mutation| corpus.apply(&mutation));
        let ids = |threads| -> Vec<i64> {
            comments_with_word(&corpus, "nil", threads).iter().map(Comment::id).collect()
        };
        assert!(!ids(1).is_empty() && ids(1).len() < corpus.github().comment_count());
        assert_eq!(ids(1), ids(3));
        assert_eq!(comments_with_word(&Corpus::default(), "nil", 2).len(), 0);
    }
}
