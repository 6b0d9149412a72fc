//! Which builders a commit has, and what each is to do: `farmer.toml` at the commit, else the preset that `farm.toml`
//! names, else a proposal by what is there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use buildspec::{BuildFile, Builder, Farm, Repository, script::Separator};
use store::{Database, ReadError};
use types::{BuildNumber, CommitHash, Outcome, RepositoryName};

use super::{Commit, MirrorError};
use crate::{
    core::{BuildKey, Class, NewBuild, Plan, SnapshotPlan, TestPlan},
    ports::{Commits, KnownBuilds},
    settings::Settings,
};

/// The repository's own file, and what a build is called that says that it is wrong.
pub(crate) const BUILD_FILE: &str = "farmer.toml";
/// How the variant of a build begins that repeats another.
const REPEAT: &str = "again-";
/// How many contents of files are kept parsed.
const KEPT: usize = 64;

/// The builders of a commit.
pub(crate) struct AtCommit {
    /// The commit's tree.
    tree: String,
    /// Whether anything says how to build it; if so and it is wrong, a build says so.
    pub(crate) has_file: bool,
    /// The builders, or what is wrong with the file, one line each.
    pub(crate) file: Result<Arc<BuildFile>, String>,
}

/// What is wanted of a builder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) class: Option<Class>,
    pub(crate) is_try: bool,
    pub(crate) git_ref: String,
    pub(crate) stop_after_make: bool,
    pub(crate) patterns: Vec<String>,
    /// Above 0: a build of its own for each number.
    pub(crate) repeat: u32,
}

/// Reads and plans. Clones share what was read.
#[derive(Clone)]
pub(crate) struct Planner {
    mirror: Arc<dyn Commits>,
    settings: Settings,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    files: BTreeMap<[u8; 32], Result<Arc<BuildFile>, String>>,
    order: VecDeque<[u8; 32]>,
    /// The newest of each repository, for pages that list builders.
    latest: BTreeMap<RepositoryName, (String, Arc<BuildFile>)>,
}

impl Planner {
    pub(crate) fn new(mirror: Arc<dyn Commits>, settings: Settings) -> Self {
        Self { mirror, settings, kept: Arc::default() }
    }

    /// The builders that were found last, by repository, and where they come from.
    pub(crate) fn latest(&self) -> BTreeMap<RepositoryName, (String, Arc<BuildFile>)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).latest.clone()
    }

    /// The builders of a commit.
    pub(crate) async fn at(
        &self,
        repository: &Repository,
        commit: CommitHash,
    ) -> Result<AtCommit, MirrorError> {
        let read = self.mirror.files(&repository.name, commit, vec![BUILD_FILE.to_owned()]).await?;
        let (origin, text) = if let Some(content) = read.files.get(BUILD_FILE) {
            (BUILD_FILE.to_owned(), String::from_utf8_lossy(content).into_owned())
        } else if let Some(name) = &repository.preset {
            (format!("preset `{name}`"), buildspec::preset(name).unwrap_or_default().to_owned())
        } else if let Some(found) = self.detect(repository, commit).await? {
            (format!("a proposal for {}", found.what), found.text.to_owned())
        } else {
            let text = format!("there is no {BUILD_FILE}, and nothing that the farm knows how to build");
            return Ok(AtCommit { tree: read.tree, has_file: false, file: Err(text) });
        };
        let file = self.parse(repository, &origin, &text);
        if let Ok(file) = &file {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.latest.insert(repository.name.clone(), (origin.clone(), Arc::clone(file)));
        }
        Ok(AtCommit { tree: read.tree, has_file: true, file })
    }

    /// Asks for files until the detection has seen all that it wants to know of.
    async fn detect(
        &self,
        repository: &Repository,
        commit: CommitHash,
    ) -> Result<Option<buildspec::Detected>, MirrorError> {
        let mut there: BTreeMap<String, bool> = BTreeMap::new();
        loop {
            let asked = Mutex::new(BTreeSet::new());
            let found = buildspec::detect(&|path| {
                there.get(path).copied().unwrap_or_else(|| {
                    asked.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
                    false
                })
            });
            let asked: Vec<String> =
                asked.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().collect();
            if asked.is_empty() {
                return Ok(found);
            }
            let read = self.mirror.files(&repository.name, commit, asked.clone()).await?;
            there.extend(asked.into_iter().map(|path| (path.clone(), read.files.contains_key(&path))));
        }
    }

    fn parse(&self, repository: &Repository, origin: &str, text: &str) -> Result<Arc<BuildFile>, String> {
        let offer = self.settings.farm().offer(repository);
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{offer:?}").as_bytes()).update(text.as_bytes());
        let digest = *hasher.finalize().as_bytes();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.files.get(&digest) {
            return known.clone();
        }
        let name = if origin == BUILD_FILE { BUILD_FILE } else { origin };
        let parsed = BuildFile::parse(name, text, &offer).map(Arc::new).map_err(|errors| errors.to_string());
        kept.files.insert(digest, parsed.clone());
        kept.order.push_back(digest);
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.files.remove(&oldest);
        }
        parsed
    }

    /// The build of one builder at a commit.
    pub(crate) fn build(
        &self,
        at: &AtCommit,
        repository: &RepositoryName,
        commit: &Commit,
        builder: &Builder,
        wanted: &Wanted,
    ) -> NewBuild {
        let farm = self.settings.farm();
        let plan = plan(&farm, builder, wanted);
        let image = farm.host(&builder.host).map(|host| host.image.clone()).unwrap_or_default();
        let base =
            if plan.snapshot.is_some() { snapshot_base(&at.tree, &image, &plan) } else { String::new() };
        new_build(repository, commit, Arc::new(plan), wanted, base)
    }

    /// A build that says that the builders of a commit cannot be read.
    pub(crate) fn problem(
        &self,
        repository: &RepositoryName,
        commit: &Commit,
        wanted: &Wanted,
        text: &str,
    ) -> Option<NewBuild> {
        let farm = self.settings.farm();
        let plan = Plan {
            builder: BUILD_FILE.parse().ok()?,
            host: farm.hosts.first()?.name.clone(),
            make: Vec::new(),
            tests: None,
            environment: Vec::new(),
            secrets: Vec::new(),
            folder: String::new(),
            source_folder: String::new(),
            make_seconds: 0,
            test_seconds: 0,
            helpers: 0,
            keep_going: false,
            snapshot: None,
        };
        let mut build = new_build(repository, commit, Arc::new(plan), wanted, String::new());
        build.verdict = Some((Outcome::Failed, text.to_owned()));
        Some(build)
    }
}

fn new_build(
    repository: &RepositoryName,
    commit: &Commit,
    plan: Arc<Plan>,
    wanted: &Wanted,
    snapshot_base: String,
) -> NewBuild {
    NewBuild {
        key: BuildKey {
            repository: repository.clone(),
            builder: plan.builder.clone(),
            commit: commit.hash,
            variant: wanted.variant(),
        },
        plan,
        snapshot_base,
        subject: commit.subject.clone(),
        author: commit.author.clone(),
        git_ref: wanted.git_ref.clone(),
        class: wanted.class.unwrap_or(Class::Batch),
        is_try: wanted.is_try,
        commit_time: commit.time,
        verdict: None,
    }
}

impl Wanted {
    /// Less than the whole is another build.
    pub(crate) fn variant(&self) -> String {
        if !self.stop_after_make && self.patterns.is_empty() && self.repeat == 0 {
            return String::new();
        }
        let text = format!("{} {:?}", self.stop_after_make, self.patterns);
        let hash = &blake3::hash(text.as_bytes()).to_hex()[..16];
        if self.repeat == 0 { hash.to_owned() } else { format!("{REPEAT}{}-{hash}", self.repeat) }
    }
}

fn plan(farm: &Farm, builder: &Builder, wanted: &Wanted) -> Plan {
    let seconds = |timeout: Duration| farm.scaled(timeout).as_secs().max(1);
    let tests = builder.tests.as_ref().filter(|_| !wanted.stop_after_make);
    let sharded = tests.is_some_and(|tests| tests.list.is_some());
    // Only helpers and other builders of the same tree use a snapshot: a build that runs its tests in one piece would
    // pay for it and gain nothing.
    let keep = builder.snapshot.enabled && sharded && !builder.make.is_empty();
    Plan {
        builder: builder.name.clone(),
        host: builder.host.clone(),
        make: builder.make.clone(),
        helpers: tests.map_or(0, |tests| tests.helpers),
        tests: tests.map(|tests| TestPlan {
            list: tests.list.clone(),
            run: tests.run.clone(),
            nul: tests.separator == Separator::Nul,
            shard_millis: (tests.shard_seconds * 1000.0) as u64,
            max_shards: tests.max_shards,
            patterns: wanted.patterns.clone(),
        }),
        environment: builder.environment.clone(),
        secrets: builder.secrets.clone(),
        folder: builder.folder.clone(),
        source_folder: builder.source_folder.clone(),
        // Each make script may take the whole time, and they run as one command.
        make_seconds: seconds(builder.timeout) * (builder.make.len() as u64).max(1),
        test_seconds: seconds(builder.test_timeout),
        keep_going: builder.keep_going,
        snapshot: keep.then(|| SnapshotPlan {
            exclude: builder.snapshot.exclude.clone(),
            movable: builder.snapshot.movable,
        }),
    }
}

/// What goes into a snapshot, as one name. Never the builder's name: another builder of the same host and steps takes
/// the same snapshot.
fn snapshot_base(tree: &str, image: &str, plan: &Plan) -> String {
    let exclude = plan.snapshot.as_ref().map(|snapshot| &snapshot.exclude);
    let parts = (
        (tree, plan.host.as_str(), image),
        (&plan.make, &plan.environment, &plan.secrets),
        (&plan.folder, &plan.source_folder, exclude),
    );
    blake3::hash(format!("{parts:?}").as_bytes()).to_hex().to_string()
}

/// Builds of a commit that exist, ended ones too.
pub(crate) async fn known(database: &Database, commit: CommitHash) -> Result<KnownBuilds, ReadError> {
    let sql = "SELECT number, repository, builder, variant FROM builds WHERE commit_hash = $1";
    let rows = database.read(sql, vec![commit.into()]).await?;
    let entry = |row: &store::Row| {
        let key = (row.parse("repository")?, row.parse("builder")?, row.text("variant")?.to_owned());
        Ok((key, BuildNumber(row.number("number")?)))
    };
    rows.iter().map(entry).collect()
}
