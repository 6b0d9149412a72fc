//! Follows the stream, and notes what there is to say.

use std::{collections::BTreeMap, sync::Arc};

use maintner::Update;
use runtime::SharedClock;
use tokio::sync::Notify;
use tracing::{error, info};
use types::{RepositoryName, Timestamp};

use crate::{
    Target,
    core::{Finding, GreenToRed},
    intents::{Intent, IntentError, Intents, Planned},
};

pub(crate) struct Bot {
    rule: GreenToRed,
    intents: Intents,
    /// Owner and name at the host, by the farm's name.
    repositories: BTreeMap<RepositoryName, (String, String)>,
    pages: String,
    clock: SharedClock,
    began: Timestamp,
    most_an_hour: usize,
    /// Wakes who says what was planned.
    planned: Arc<Notify>,
}

impl Bot {
    pub(crate) async fn new(
        intents: Intents,
        config: &crate::Config,
        planned: Arc<Notify>,
    ) -> Result<Self, IntentError> {
        let began = intents.began(config.clock.now()).await?;
        Ok(Self {
            rule: GreenToRed::default(),
            intents,
            repositories: config.repositories.clone(),
            pages: config.pages.trim_end_matches('/').to_owned(),
            clock: Arc::clone(&config.clock),
            began,
            most_an_hour: config.limits.most_an_hour,
            planned,
        })
    }

    pub(crate) async fn handle(&mut self, update: Update) -> Result<(), IntentError> {
        match update {
            Update::Batch { mutations, .. } => {
                for mutation in &mutations {
                    for finding in self.rule.step(mutation) {
                        self.plan(&finding).await?;
                    }
                }
            }
            Update::CaughtUp { .. } => {}
            Update::Restarted => self.rule = GreenToRed::default(),
        }
        Ok(())
    }

    async fn plan(&self, finding: &Finding) -> Result<(), IntentError> {
        let Some((owner, repository)) = self.repositories.get(&finding.repository) else { return Ok(()) };
        if finding.known_at < self.began {
            return Ok(());
        }
        let key = key(finding);
        let target = Target { owner: owner.clone(), repository: repository.clone(), commit: finding.commit };
        let body = body(finding, &self.pages, &key);
        let intent = Intent { key, target, body };
        match self.intents.plan(&intent, self.clock.now(), self.most_an_hour).await? {
            Planned::Known => {}
            Planned::New => {
                info!(
                    build.id = finding.build,
                    "will comment on {}: {} turned red", intent.target, finding.builder
                );
                self.planned.notify_one();
            }
            Planned::Held => error!(
                build.id = finding.build,
                "held a comment on {}: more than {} within an hour; see the builds on the farm's pages",
                intent.target,
                self.most_an_hour
            ),
        }
        Ok(())
    }
}

/// One comment for each commit, however many builders it breaks.
fn key(finding: &Finding) -> String {
    format!("farmer:green-to-red:{}:{}", finding.repository, finding.commit)
}

fn body(finding: &Finding, pages: &str, key: &str) -> String {
    let Finding { builder, outcome, branch, build, .. } = finding;
    let how = match outcome {
        types::Outcome::TimedOut => "timed out",
        _ => "failed",
    };
    let reason = match plain(&finding.reason) {
        reason if reason.is_empty() => String::new(),
        reason => format!("\n\n> {reason}"),
    };
    format!(
        "`{builder}` {how} at this commit on `{branch}`; it passed at the parent.{reason}\n\n\
         [Build {build}]({pages}/build/{build})\n\n<!-- {key} -->\n"
    )
}

/// One line that cannot notify people, close the hidden key's comment or become a link.
fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let safe = |character: char| match character {
        '<' | '>' | '`' | '[' | ']' | '|' => ' ',
        other => other,
    };
    line.chars().take(300).map(safe).collect::<String>().replace('@', "@\u{200b}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_says_who_how_and_where_and_carries_its_key() {
        let finding = Finding {
            repository: "go".parse().unwrap(),
            commit: "0123456789abcdef0123456789abcdef01234567".parse().unwrap(),
            subject: "break it".into(),
            branch: "main".into(),
            builder: "linux-race".parse().unwrap(),
            build: 7,
            outcome: types::Outcome::TimedOut,
            reason: "@everyone: <!-- x --> `y`\nmore".into(),
            known_at: Timestamp(1),
        };
        let text = body(&finding, "https://farm.example", &key(&finding));
        assert_eq!(
            text,
            "`linux-race` timed out at this commit on `main`; it passed at the parent.\n\n\
             > @\u{200b}everyone:  !-- x --   y\n\n[Build 7](https://farm.example/build/7)\n\n\
             <!-- farmer:green-to-red:go:0123456789abcdef0123456789abcdef01234567 -->\n"
        );
        let reworded = Finding { builder: "other".parse().unwrap(), build: 9, ..finding.clone() };
        assert_eq!(key(&reworded), key(&finding), "the key does not depend on the wording");
    }
}
