//! A bot: prints each new vote, and each result of a build. `bot ADDRESS FOLDER [TOKEN-FILE]`, where the folder keeps
//! a copy of the log between runs. The address and the token of a farm: `url` in `running.json` of its data folder, and
//! the file `token` there.
#![expect(clippy::print_stdout, reason = "it is what the bot does")]

use std::{collections::BTreeMap, env, fs, path::Path};

use maintner::{Change, Corpus, Follower, News};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, folder, token @ ..] = &arguments[..] else {
        return Err("usage: bot ADDRESS FOLDER [TOKEN-FILE]".into());
    };
    let mut farm = rpc::connect(address, None)?;
    if let [token] = token {
        farm = farm.with_bearer(fs::read_to_string(token)?.trim());
    }
    let bot = Follower::open(Path::new(folder)).await?;
    let key = |change: &Change<'_>| (change.project().name().to_owned(), change.number());
    // How many entries of each change's history were there when it was last looked at.
    let known = bot.corpus().gerrit().changes().map(|change| (key(&change), change.metas().count()));
    let mut seen: BTreeMap<_, _> = known.collect();
    let see = |corpus: &Corpus, news: News<'_>| {
        let News::Applied(mutation) = news else { return };
        for change in mutation.gerrit.iter().flat_map(|gerrit| corpus.gerrit().changes_of(gerrit)) {
            let before = seen.insert(key(&change), change.metas().count());
            let before = change.votes_after(before.unwrap_or(0));
            for vote in change.votes().filter(|vote| !before.contains(vote)) {
                println!("{change:?}: {} {:+} by {}", vote.label, vote.value, vote.voter);
            }
        }
        if let Some(result) = &mutation.build_result {
            println!("{}: {} {}", &result.commit[..12], result.builder, result.outcome);
        }
    };
    bot.follow(farm, CancellationToken::new(), see).await?;
    Ok(())
}
