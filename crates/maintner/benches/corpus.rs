//! What the corpus costs: a cold replay of a log of the Go project's scale, the floor of it, snapshots, questions.
//!
//! `FARMER_LOG` names a folder with a log to use; otherwise one is generated, and removed. `FARMER_SCALE` is `go`
//! unless it says `small`. Each measurement runs in a process of its own, so that its memory is only its own.
#![expect(clippy::print_stdout, reason = "a benchmark says what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use api::maintpb::Mutation;
use maintner::{
    Corpus,
    core::Batch,
    generate::{self, Layout, Scale},
    log::{SegmentFile, record::Frames, segment_files},
    replay::{self, threads},
    search::comments_with_word,
    snapshot,
};
use prost::Message as _;
use tokio::time::Instant;

/// Measures something of the log in a folder.
type Part = fn(&Path);

/// What each process of its own measures.
const PARTS: &[(&str, Part)] = &[
    ("floor", floor),
    ("replay", cold_replay),
    ("one-thread", one_thread),
    ("phases", phases),
    ("live", live),
    ("snapshot-write", write_snapshot),
    ("snapshot-open", open_snapshot),
    ("questions", questions),
];

/// A number of this process in MiB, from the kernel.
fn memory(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}

fn say_memory() {
    println!(
        "    memory: {:.0} MiB anonymous, {:.0} MiB with mapped pages, peak {:.0} MiB",
        memory("RssAnon"),
        memory("VmRSS"),
        memory("VmHWM")
    );
}

fn bytes(segments: &[SegmentFile]) -> f64 {
    segments.iter().map(|segment| segment.bytes).sum::<u64>() as f64
}

fn say(what: &str, begun: Instant, bytes: f64) -> f64 {
    let seconds = begun.elapsed().as_secs_f64();
    println!("{what:<44} {:>8.1} ms, {:>6.0} MB/s", seconds * 1e3, bytes / 1e6 / seconds);
    seconds
}

/// Calls `each` with every payload of some segments.
fn payloads(segments: &[SegmentFile], mut each: impl FnMut(&[u8])) {
    for segment in segments {
        let contents = segment.load().unwrap();
        let mut frames = Frames::new(&contents);
        while let Some(payload) = frames.read().unwrap() {
            each(&contents[payload]);
        }
    }
}

/// Reading and decoding alone, in three ways, each on all processors.
fn floor(dir: &Path) {
    let segments = segment_files(dir).unwrap();
    let total = bytes(&segments);
    let shares: Vec<&[SegmentFile]> = segments.chunks(segments.len().div_ceil(threads())).collect();
    let on_all = |what: &str, each: &(dyn Fn(&[SegmentFile]) + Sync)| {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for share in &shares {
                scope.spawn(|| each(share));
            }
        });
        say(what, begun, total);
    };
    on_all("floor: framing alone, first touch", &|share| payloads(share, |_| ()));
    on_all("floor: framing and decoding with prost", &|share| {
        payloads(share, |payload| {
            std::hint::black_box(Mutation::decode(payload).unwrap());
        });
    });
    on_all("floor: framing and taking apart in place", &|share| {
        for segment in share {
            let contents = segment.load().unwrap();
            let mut frames = Frames::new(&contents);
            let mut batch = Batch::default();
            while let Some(payload) = frames.read().unwrap() {
                batch.add(payload.start as u64, &contents[payload]).unwrap();
                if batch.mutations() == 700 {
                    batch = Batch::default();
                }
            }
        }
    });
}

fn cold_replay(dir: &Path) {
    let begun = Instant::now();
    let (corpus, replayed) = replay::replay(dir).unwrap();
    say(&format!("cold replay, {} threads", threads()), begun, replayed.bytes as f64);
    println!("    {} mutations", replayed.mutations);
    say_memory();
    let counts = corpus.counts();
    let objects = counts.iter().map(|(_, count)| count).sum::<u64>() as f64;
    println!(
        "    {:.0} bytes of memory for each of {objects} objects",
        memory("RssAnon") * 1_048_576.0 / objects
    );
    println!("    {counts:?}");
}

fn one_thread(dir: &Path) {
    let segments = segment_files(dir).unwrap();
    let begun = Instant::now();
    let mut corpus = Corpus::default();
    corpus.reserve(bytes(&segments) as u64);
    replay::replay_segments(&mut corpus, &segments, 1).unwrap();
    say("cold replay, 1 thread", begun, bytes(&segments));
}

/// Where the time of one thread goes, in pieces as a replay has them.
fn phases(dir: &Path) {
    const PIECE: usize = 512 * 1024;
    let segments = segment_files(dir).unwrap();
    let loaded: Vec<_> = segments.iter().map(|segment| segment.load().unwrap()).collect();
    let mut corpus = Corpus::default();
    corpus.reserve(bytes(&segments) as u64);
    let mut spent = [Duration::ZERO; 3];
    let mut batch = Batch::default();
    for contents in &loaded {
        let base = corpus.attach(contents.clone());
        let mut frames = Frames::new(contents);
        loop {
            let begun = Instant::now();
            let (start, mut payloads) = (frames.offset(), Vec::new());
            let near = contents[start..contents.len().min(start + PIECE)].iter().step_by(64);
            std::hint::black_box(near.fold(0, |touched, byte| touched ^ byte));
            while frames.offset() - start < PIECE
                && let Some(payload) = frames.read().unwrap()
            {
                payloads.push(payload);
            }
            if payloads.is_empty() {
                break;
            }
            let framed = Instant::now();
            batch.clear();
            for payload in payloads {
                batch.add(base + payload.start as u64, &contents[payload]).unwrap();
            }
            let taken_apart = Instant::now();
            corpus.apply_batch(&batch);
            spent[0] += framed - begun;
            spent[1] += taken_apart - framed;
            spent[2] += taken_apart.elapsed();
        }
    }
    let [framing, decoding, applying] = spent.map(|time| time.as_secs_f64() * 1e3);
    println!(
        "of one thread: reading {framing:.0} ms, taking apart {decoding:.0} ms, applying {applying:.0} ms"
    );
}

/// As a follower does with what comes: each mutation by itself, and a copy of what is referred to.
fn live(dir: &Path) {
    let segments = segment_files(dir).unwrap();
    let begun = Instant::now();
    let mut corpus = Corpus::default();
    payloads(&segments, |payload| corpus.apply_bytes(payload).unwrap());
    corpus.settle();
    let seconds = say("applied one by one", begun, bytes(&segments));
    println!("    {:.0} mutations/s", corpus.statistics().mutations as f64 / seconds);
    say_memory();
}

fn write_snapshot(dir: &Path) {
    let begun = Instant::now();
    let covered = snapshot::write(dir).unwrap();
    say("replay and write a snapshot", begun, bytes(&segment_files(dir).unwrap()));
    let size = fs::metadata(dir.join(snapshot::FILE)).unwrap().len() as f64;
    println!("    {covered} segments in {:.0} MB", size / 1e6);
    say_memory();
}

fn open_snapshot(dir: &Path) {
    let begun = Instant::now();
    let (corpus, opened) = snapshot::open(dir).unwrap();
    say("open with the snapshot", begun, bytes(&segment_files(dir).unwrap()));
    println!(
        "    {} segments from it, {} mutations after it",
        opened.from_snapshot, opened.replayed.mutations
    );
    say_memory();
    let begun = Instant::now();
    drop(corpus);
    println!("    let go in {:?}", begun.elapsed());
}

fn questions(dir: &Path) {
    let (corpus, _) = replay::replay(dir).unwrap();
    let comments: usize = corpus.github().comments().map(|comment| comment.body_bytes().len()).sum();
    for word in ["deadlock", "nothinglikethis"] {
        let begun = Instant::now();
        let found = comments_with_word(&corpus, word, threads()).len();
        say(&format!("a word in all comments: {found} of them"), begun, comments as f64);
    }
    let begun = Instant::now();
    let (mut sum, mut changes) = (0, 0);
    for change in corpus.gerrit().changes() {
        sum += change.vote_sum("Code-Review") + change.vote_sum("Run-TryBot");
        changes += 1;
    }
    println!(
        "two vote sums of {changes} changes ({sum:+}):    {:>10.1} ms",
        begun.elapsed().as_secs_f64() * 1e3
    );
    let begun = Instant::now();
    let open: usize = corpus.gerrit().projects().map(|project| project.open_changes().count()).sum();
    println!("{open} open changes found:    {:>10.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let deep = corpus.commits().max_by_key(maintner::Commit::generation).unwrap();
    let root = corpus.commits().find(|commit| commit.first_parent().is_none()).unwrap();
    let begun = Instant::now();
    let found = corpus.has_ancestor(&deep.hash(), &root.hash());
    println!(
        "ancestry over {} generations ({found}): {:>6.1} ms",
        deep.generation(),
        begun.elapsed().as_secs_f64() * 1e3
    );
    let begun = Instant::now();
    let problems = corpus.check();
    println!("check: {} problems in {:.0} ms", problems.len(), begun.elapsed().as_secs_f64() * 1e3);
    assert_eq!(problems, Vec::<String>::new());
}

/// The log to read, and whether it is ours to remove.
fn log() -> (PathBuf, bool) {
    if let Some(dir) = env::var_os("FARMER_LOG") {
        return (dir.into(), false);
    }
    let scale = env::var("FARMER_SCALE").unwrap_or_else(|_| "go".into());
    let dir = env::temp_dir().join(format!("farmer-corpus-bench-{}", std::process::id()));
    let begun = Instant::now();
    let written = generate::write(&dir, 1, Scale::named(&scale).unwrap(), Layout::Segments).unwrap();
    say(&format!("generate {} mutations", written.position), begun, written.bytes as f64);
    (dir, true)
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, part, dir] = &arguments[..]
        && let Some((_, run)) = PARTS.iter().find(|(name, _)| name == part)
    {
        return run(Path::new(dir));
    }
    let (dir, ours) = log();
    for (part, _) in PARTS {
        let status = Command::new(env::current_exe().unwrap()).arg(part).arg(&dir).status().unwrap();
        assert!(status.success(), "{part}");
    }
    if ours {
        fs::remove_dir_all(&dir).unwrap();
    } else {
        fs::remove_file(dir.join(snapshot::FILE)).unwrap();
    }
}
