//! Feeding a parser what nobody would write: examples are changed at random, again and again, from a seed.
//!
//! This is no fuzzer that watches which code an input reaches; it needs nothing but stable Rust and finds what is near to
//! the examples. A usual test run tries a fixed number of inputs, the same each time. The long test goes on for a minute,
//! from another seed each time (`FARMER_FUZZ_SEED` names one). What fails is written to a file, to become an example.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::Once,
    time::Duration,
};

use tokio::time::Instant;

/// How many inputs a usual run tries.
const INPUTS: u64 = 3000;
/// For how long the long test goes on.
const MINUTE: Duration = Duration::from_mins(1);
/// No input is longer.
const LONGEST: usize = 64 << 10;
/// Numbers that parsers stumble over.
const NUMBERS: &[u64] =
    &[0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

thread_local! {
    /// Panics of this thread, caught or not.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Has each thread count its panics: those in a task of a runtime reach nobody who waits for it.
fn count_panics() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            usual(panic);
        }));
    });
}

/// Gives `parse` changed examples. It fails by a panic, in a task on its thread too, with the input in a file below
/// `folder`.
///
/// # Panics
/// As `parse` does, or when there is no example.
#[expect(clippy::print_stderr, reason = "a test speaks to whoever runs it")]
pub fn fuzz(name: &str, folder: &Path, examples: &[Vec<u8>], mut parse: impl FnMut(&[u8])) {
    assert!(!examples.is_empty(), "there is no example");
    let (seed, until) = if crate::long(1) {
        let named = std::env::var("FARMER_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
        (named.unwrap_or_else(|| runtime::new_id().as_u128() as u64), Some(Instant::now() + MINUTE))
    } else {
        (1, None)
    };
    count_panics();
    let mut parse = |input: &[u8]| {
        let before = PANICS.get();
        parse(input);
        assert_eq!(PANICS.get(), before, "a task panicked");
    };
    for example in examples {
        parse(example);
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tried = 0;
    while until.map_or(tried < INPUTS, |until| Instant::now() < until) {
        let input = changed(examples, &mut random);
        tried += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| parse(&input))) {
            let path = folder.join(format!("{name}-{seed}-{tried}"));
            let kept = std::fs::write(&path, &input);
            eprintln!("{name}: input {tried} of seed {seed} fails; it is in `{}` ({kept:?})", path.display());
            resume_unwind(panic);
        }
    }
    eprintln!("{name}: {tried} inputs of seed {seed}");
}

/// An example with some changes.
fn changed(examples: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = examples[random.usize(..examples.len())].clone();
    for _ in 0..1 << random.u32(0..5) {
        change(&mut input, examples, random);
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut Vec<u8>, examples: &[Vec<u8>], random: &mut fastrand::Rng) {
    let at = random.usize(..=input.len());
    let end = (at + random.usize(1..=32)).min(input.len());
    match random.u32(0..9) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => input.insert(at, random.u8(..)),
        3 => {
            let piece = input[at..end].to_vec();
            let times = random.usize(1..=16);
            input.splice(at..at, piece.repeat(times));
        }
        4 => {
            let other = &examples[random.usize(..examples.len())];
            let from = random.usize(..=other.len());
            let to = (from + random.usize(1..=512)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        5 => put_number(input, at, random),
        6 => {
            let digits = NUMBERS[random.usize(..NUMBERS.len())].to_string();
            input.splice(at..end, digits.bytes());
        }
        7 if at < input.len() => input[at] ^= 1 << random.u32(0..8),
        _ if at < input.len() => input[at] = random.u8(..),
        _ => input.push(random.u8(..)),
    }
}

/// Writes a number over what is there, of some width, either way round.
fn put_number(input: &mut [u8], at: usize, random: &mut fastrand::Rng) {
    let width = 1 << random.u32(0..4);
    let number = NUMBERS[random.usize(..NUMBERS.len())];
    let Some(place) = input.get_mut(at..at + width) else { return };
    if random.bool() {
        place.copy_from_slice(&number.to_le_bytes()[..width]);
    } else {
        place.copy_from_slice(&number.to_be_bytes()[8 - width..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_that_trusts_a_length_is_found_and_its_input_kept() {
        let folder = tempfile::tempdir().unwrap();
        let examples = [vec![3, b'a', b'b', b'c']];
        let trusting = |input: &[u8]| {
            let Some((length, rest)) = input.split_first() else { return };
            let _ = &rest[..usize::from(*length)];
        };
        assert!(catch_unwind(|| fuzz("trusting", folder.path(), &examples, trusting)).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        fuzz("careful", folder.path(), &examples, |input| assert!(input.len() <= LONGEST));
    }

    #[test]
    fn a_panic_in_a_task_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let failing = |input: &[u8]| {
            let fails = input != b"well";
            let _ = runtime.block_on(runtime.spawn(async move { assert!(!fails) }));
        };
        assert!(
            catch_unwind(AssertUnwindSafe(|| fuzz("tasks", folder.path(), &[b"well".to_vec()], failing)))
                .is_err()
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let examples = [b"one example".to_vec(), b"another".to_vec()];
        let inputs = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..100).map(|_| changed(&examples, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
