//! Those who use the farm: they push, try, ask again when no answer comes, and change their minds.

use std::{sync::Arc, time::Duration};

use coordinator::core::{Accept, BuildKey, Class, Event, NewBuild, Plan, Request, SnapshotPlan, TestPlan};
use types::{BuildNumber, CommitHash, Timestamp};

use crate::{
    context::lock,
    judge::Invariant,
    project::{BRANCH, Made, REPOSITORY},
    rng::Rng,
    world::World,
};

/// Pushes commits until there were enough.
pub(crate) async fn push(world: Arc<World>, seed: u64, within: Duration) {
    let mut rng = Rng::new(seed ^ 0x7075_7368);
    let pushes = rng.between(32, 50);
    let mut tip: Option<CommitHash> = None;
    for _ in 0..pushes {
        let pause = within.as_millis() as u64 * 2 / pushes;
        tokio::time::sleep(Duration::from_millis(rng.between(1, pause))).await;
        let (before, mut commits) = (tip, Vec::new());
        // Of a branch that is new only the tip is built.
        for _ in 0..if tip.is_none() { 1 } else { rng.between(1, 4) } {
            let time = 1_700_000_000 + world.context.elapsed().as_secs() as i64;
            let made = world.project.make(&mut rng, tip, time);
            tip = Some(made.commit.hash);
            commits.push(made);
        }
        world.context.judge.note(&world.context, || {
            let names: Vec<String> = commits.iter().map(|made| made.commit.hash.short()).collect();
            format!("push of {}", names.join(", "))
        });
        let hashes = commits.iter().map(|made| made.commit.hash);
        if std::mem::take(&mut *lock(&world.vanishing)) {
            // Forced away at once: whoever looks finds nothing.
            for made in &commits {
                world.project.vanish(made.commit.hash);
            }
            let raws = commits.iter().map(|made| made.raw.clone()).collect();
            world.log.push(raws, REPOSITORY, BRANCH, &name_of(&commits));
            tip = before;
        } else {
            lock(&world.pushed).extend(hashes);
            // A commit may be known to the log, or only gitmirror has it.
            let raws = commits.iter().filter(|_| !rng.once_in(8)).map(|made| made.raw.clone()).collect();
            world.log.push(raws, REPOSITORY, BRANCH, &name_of(&commits));
        }
    }
}

fn name_of(commits: &[Made]) -> String {
    commits.last().map(|made| made.commit.hash.to_string()).unwrap_or_default()
}

/// Tries changes, each by a request that is repeated until it is answered.
pub(crate) async fn try_changes(world: Arc<World>, seed: u64, within: Duration) {
    let mut rng = Rng::new(seed ^ 0x0074_7279);
    for number in 0..rng.between(4, 12) {
        tokio::time::sleep(Duration::from_millis(rng.between(1, within.as_millis() as u64 / 5))).await;
        let made = world.project.make(&mut rng, None, 1_700_000_000);
        let build = wanted(&made, &mut rng);
        let id = format!("request {number}");
        let world = Arc::clone(&world);
        let task = Arc::clone(&world);
        world.context.tasks.job("try", async move { ask(&task, build, id).await });
    }
}

/// Has changes tried: uploads, votes, changes their minds, uploads again.
pub(crate) async fn review(world: Arc<World>, seed: u64, within: Duration) {
    let mut rng = Rng::new(seed ^ 0x0072_6576);
    let changes = rng.between(2, 5) as u32;
    let moves = u64::from(changes) * rng.between(3, 7);
    let mut seen = 0;
    for _ in 0..moves {
        let pause = within.as_millis() as u64 * 2 / moves;
        tokio::time::sleep(Duration::from_millis(rng.between(1, pause))).await;
        let number = rng.between(1, u64::from(changes) + 1) as u32;
        let is_new = seen & (1 << number) == 0;
        seen |= 1_u32 << number;
        let what = if is_new { 0 } else { rng.between(0, 10) };
        match what {
            0..4 => {
                let base = lock(&world.pushed).last().copied();
                let time = 1_700_000_000 + world.context.elapsed().as_secs() as i64;
                let made = world.project.make(&mut rng, base, time);
                world.upload(number, made.commit.hash, rng.once_in(2));
            }
            4..7 => world.vote(number, true),
            7 => world.vote(number, false),
            8 => world.ask_again(number),
            _ => world.abandon(number),
        }
    }
}

/// Asks until there is an answer. Every answer must be the same.
async fn ask(world: &World, build: NewBuild, id: String) {
    let mut told: Option<Vec<BuildNumber>> = None;
    let mut again = 1 + world.context.between(0, 2);
    while again > 0 {
        let request = Request { id: id.clone(), slots: vec![None] };
        // As the service does: what exists is not asked for again.
        let known = lock(&world.tables).number(&build.key);
        let answer = match (known, world.seat.coordinator()) {
            (Some(number), _) => Some(vec![number]),
            (None, None) => None,
            (None, Some(coordinator)) => {
                let accept =
                    Accept { builds: vec![build.clone()], request: Some(request), ..Accept::default() };
                let asked = tokio::time::timeout(Duration::from_secs(10), coordinator.accept(accept)).await;
                asked.ok().and_then(Result::ok)
            }
        };
        if let Some(numbers) = answer {
            again -= 1;
            let tables = lock(&world.tables);
            for number in numbers.iter().filter(|number| !tables.has_build(**number)) {
                let what = format!("build {number} was promised before it was durable");
                world.context.judge.broken(Invariant::Durable, what);
            }
            drop(tables);
            if told.as_ref().is_some_and(|told| *told != numbers) {
                let what = format!("{id} was answered with {told:?} and {numbers:?}");
                world.context.judge.broken(Invariant::Once, what);
            }
            lock(&world.promised).extend(numbers.iter().copied());
            told = Some(numbers);
        }
        world.context.pause(100, 3000).await;
    }
}

/// A build of a change, as the planner makes it.
fn wanted(made: &Made, rng: &mut Rng) -> NewBuild {
    let sharded = rng.once_in(2);
    let builder = if sharded { "linux" } else { "plain" };
    let helpers = if sharded { rng.between(0, 3) as u32 } else { 0 };
    let plan = Plan {
        builder: builder.parse().expect("a plain word is a name"),
        host: "h1".parse().expect("a plain word is a host type"),
        make: vec!["simulate make".to_owned()],
        tests: Some(TestPlan {
            list: sharded.then(|| "simulate list".to_owned()),
            run: "simulate test".to_owned(),
            nul: false,
            shard_millis: 300,
            max_shards: 30,
            patterns: Vec::new(),
        }),
        environment: Vec::new(),
        secrets: Vec::new(),
        folder: String::new(),
        source_folder: String::new(),
        make_seconds: 30,
        test_seconds: 180,
        helpers,
        keep_going: false,
        snapshot: sharded.then(|| SnapshotPlan { exclude: Vec::new(), movable: true }),
    };
    NewBuild {
        key: BuildKey {
            repository: REPOSITORY.parse().expect("a plain word is a name"),
            builder: plan.builder.clone(),
            commit: made.commit.hash,
            variant: "try".to_owned(),
        },
        snapshot_base: if sharded { format!("try {}", made.tree_name) } else { String::new() },
        plan: Arc::new(plan),
        subject: made.commit.subject.clone(),
        author: "A".to_owned(),
        git_ref: String::new(),
        class: [Class::Release, Class::Interactive, Class::Try, Class::Try][rng.between(0, 4) as usize],
        is_try: true,
        commit_time: Timestamp(0),
        verdict: None,
    }
}

/// Calls builds off, also some that have ended.
pub(crate) async fn cancel(world: Arc<World>, seed: u64, within: Duration) {
    let mut rng = Rng::new(seed ^ 0x6361_6e63);
    for _ in 0..rng.between(1, 5) {
        tokio::time::sleep(Duration::from_millis(rng.between(1, within.as_millis() as u64 / 3))).await;
        let all = lock(&world.tables).builds() as u64;
        let last = all.saturating_sub(rng.between(0, 12));
        let number = BuildNumber(last.max(1));
        world.truth.cancel(number);
        if let Some(coordinator) = world.seat.coordinator() {
            // One that is shutting down hears nothing; the person sees that and may ask again.
            let _ = coordinator.tell(Event::Cancel { number, reason: "called off".to_owned() }).await;
        }
    }
}

/// Asks for builds again that have ended, some of them good.
pub(crate) async fn retry(world: Arc<World>, seed: u64, within: Duration) {
    let mut rng = Rng::new(seed ^ 0x7265_7472);
    for _ in 0..rng.between(1, 6) {
        tokio::time::sleep(Duration::from_millis(rng.between(1, within.as_millis() as u64 / 3))).await;
        let number = BuildNumber(rng.between(1, lock(&world.tables).builds() as u64 + 1));
        let mut found = lock(&world.tables).retryable(number, "somebody asked");
        if let Some(retry) = found.as_mut().filter(|_| rng.once_in(2)) {
            retry.only = lock(&world.tables).not_passed(number);
        }
        if let (Some(retry), Some(coordinator)) = (found, world.seat.coordinator()) {
            let _ = coordinator.tell(Event::Retry(Box::new(retry))).await;
        }
    }
}

/// Looks after machines that are in quarantine, and now and then puts one there.
pub(crate) async fn look_after(world: Arc<World>, seed: u64, within: Duration) {
    let mut rng = Rng::new(seed ^ 0x6f70_6572);
    let end = tokio::time::Instant::now() + within;
    loop {
        tokio::time::sleep(Duration::from_secs(rng.between(20, 120))).await;
        let sick: Vec<_> = lock(&world.quarantined).iter().cloned().collect();
        let Some(coordinator) = world.seat.coordinator() else { continue };
        for machine in sick {
            let _ = coordinator.tell(Event::Lift(machine)).await;
        }
        if tokio::time::Instant::now() < end && rng.once_in(6) {
            let all = world.machines.len() as u64;
            let machine = world.machines[rng.between(0, all) as usize].name.clone();
            let reason = "somebody looks at it".to_owned();
            let _ = coordinator.tell(Event::Quarantine { machine, reason }).await;
        }
    }
}
