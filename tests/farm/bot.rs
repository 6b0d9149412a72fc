//! A bot follows the farm: `crates/maintner/examples/bot.rs`, as it is.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use maintner::{
    Corpus, Log,
    generate::{Generator, Scale},
};
use testkit::{Farm, Options, farm};

use crate::simple;

/// The bot and what it prints. Dropping it kills it.
pub(crate) struct Bot {
    process: Child,
    output: PathBuf,
}

impl Bot {
    pub(crate) fn start(farm: &Farm, program: &Path, home: &Path, output: &str) -> Self {
        let mut command = Command::new(program);
        command
            .args([farm.url.as_str().as_ref(), home.join("copy").as_os_str()])
            .arg(farm.data().join("token"));
        Self::run(command, home.join(output))
    }

    /// The one in Python.
    pub(crate) fn python(farm: &Farm, python: &str, home: &Path, output: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/python/bot.py");
        let mut command = Command::new(python);
        command.arg(script).args([&farm.url, "--all", "--token"]).arg(farm.data().join("token"));
        command.arg("--place").arg(home.join("place"));
        Self::run(command, home.join(output))
    }

    fn run(mut command: Command, output: PathBuf) -> Self {
        let file = File::create(&output).expect("make the bot's output");
        let process = command.stdout(file).spawn().expect("start the bot");
        Self { process, output }
    }

    pub(crate) fn printed(&self) -> String {
        std::fs::read_to_string(&self.output).expect("read what the bot printed")
    }

    async fn prints(&self, line: &str) {
        let so = || self.printed().lines().any(|printed| printed == line);
        farm::wait_until(line, farm::PATIENCE, so).await;
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_bot_prints_results_and_votes_and_nothing_again_when_it_is_started_again() {
    let repository = simple("true", "echo ok");
    let commit = repository.commit("built", &[("source", "2")]);
    let (program, home) = (farm::example("maintner", "bot"), tempfile::tempdir().unwrap());
    let mut farm = Farm::start(repository.path(), Options::default()).await;
    let result = format!("{}: simple passed", &commit[..12]);
    let bot = Bot::start(&farm, &program, home.path(), "first");
    bot.prints(&result).await;
    drop(bot);
    assert_eq!(farm.stop(), Some(0));

    // What a Gerrit would bring is put into the log while nobody else has it.
    let review: Vec<_> =
        Generator::new(3, Scale::TINY).filter(|mutation| mutation.gerrit.is_some()).collect();
    let log = Log::open(&farm.data().join("maintnerd/log"), maintner::Options::default()).unwrap();
    log.append(&review).await.unwrap();
    log.close().await;
    let mut corpus = Corpus::default();
    for mutation in &review {
        corpus.apply(mutation);
    }
    farm.start_again().await;
    let bot = Bot::start(&farm, &program, home.path(), "second");
    let mut votes = 0;
    for change in corpus.gerrit().changes() {
        for vote in change.votes() {
            votes += 1;
            bot.prints(&format!("{change:?}: {} {:+} by {}", vote.label, vote.value, vote.voter)).await;
        }
    }
    assert!(votes > 0);
    assert!(!bot.printed().contains(&result), "what it printed the last time is not printed again");
}

#[tokio::test]
async fn the_bot_in_python_needs_the_farms_address_and_token_and_goes_on_where_it_stopped() {
    if !testkit::skip::long(2) {
        return;
    }
    let Some(python) = testkit::skip::python("the bot in Python, at a farm") else { return };
    let (repository, home) = (simple("true", "echo ok"), tempfile::tempdir().unwrap());
    let farm = Farm::start(repository.path(), Options::default()).await;
    let results = |bot: &Bot| -> Vec<String> {
        bot.printed().lines().filter(|line| line.ends_with(" passed")).map(ToOwned::to_owned).collect()
    };
    let bot = Bot::python(&farm, &python, home.path(), "first");
    farm::wait_until("a result", farm::PATIENCE, || !results(&bot).is_empty()).await;
    let first = results(&bot);
    // It has its place when the batch after that result is handled too.
    let place = || std::fs::read_to_string(home.path().join("place")).unwrap_or_default();
    let before = place();
    repository.commit("second", &[("source", "2")]);
    farm::wait_until("another place", farm::PATIENCE, || place() != before && results(&bot).len() > 1).await;
    drop(bot);
    repository.commit("third", &[("source", "3")]);
    let bot = Bot::python(&farm, &python, home.path(), "second");
    farm::wait_until("the third result", farm::PATIENCE, || {
        results(&bot).last().is_some_and(|line| line.starts_with("build 3."))
    })
    .await;
    assert!(!results(&bot).contains(&first[0]), "{}", bot.printed());
}
