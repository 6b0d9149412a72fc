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
struct Bot {
    process: Child,
    output: PathBuf,
}

impl Bot {
    fn start(farm: &Farm, program: &Path, home: &Path, output: &str) -> Self {
        let output = home.join(output);
        let process = Command::new(program)
            .args([farm.url.as_str().as_ref(), home.join("copy").as_os_str()])
            .arg(farm.data().join("token"))
            .stdout(File::create(&output).expect("make the bot's output"))
            .spawn()
            .expect("start the bot");
        Self { process, output }
    }

    fn printed(&self) -> String {
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

    // No Gerrit is read yet: what would come from one is put into the log while nobody else has it.
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
