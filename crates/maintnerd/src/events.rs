//! Wake-ups: what pubsubhelper hears makes gitmirror look at once, or whoever reads the issues of a repository at GitHub.
//!
//! Only hints. One that comes while gitmirror is being told is not lost: it stays noted until the next round.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::{
    events::{
        WatchEventsRequest, WatchEventsResponse, event::Source, event_service_client::EventServiceClient,
        watch_events_response,
    },
    gitmirror::{ListRepositoriesRequest, TickleRequest, mirror_service_client::MirrorServiceClient},
};
use rpc::{Channel, RetryPolicy, watch, watch::WatchError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::warn;

use crate::{config::Limits, github::Hub};

/// What may have changed since gitmirror was told last.
#[derive(Default)]
struct Wakes {
    /// `owner/name` at GitHub; all repositories if it holds the empty text.
    noted: Mutex<BTreeSet<String>>,
    news: Notify,
    /// Those who read issues.
    github: Hub,
}

impl Wakes {
    fn noted(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: String) {
        self.noted().insert(what);
        self.news.notify_one();
    }
}

/// Follows the events and tells gitmirror, until cancelled.
pub(crate) async fn run(
    events: EventServiceClient<Channel>,
    mirror: MirrorServiceClient<Channel>,
    github: Hub,
    limits: Limits,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let wakes = Arc::new(Wakes { github, ..Wakes::default() });
    tokio::join!(
        listen(events, Arc::clone(&wakes), limits, cancel.clone()),
        tell(mirror, Arc::clone(&wakes), cancel)
    );
    Ok(())
}

async fn listen(
    events: EventServiceClient<Channel>,
    wakes: Arc<Wakes>,
    limits: Limits,
    cancel: CancellationToken,
) {
    while !cancel.is_cancelled() {
        let open = |resume_token| {
            let mut events = events.clone();
            async move { Ok(events.watch_events(WatchEventsRequest { resume_token }).await?.into_inner()) }
        };
        let wakes_of = Arc::clone(&wakes);
        let handle = move |response: WatchEventsResponse| {
            note(&wakes_of, &response);
            async move { Ok::<_, Status>(Some(response.resume_token)) }
        };
        match watch::run("events", String::new(), open, handle, cancel.clone()).await {
            Ok(()) => return,
            // What was said meanwhile is not known, so everything may have changed.
            Err(WatchError::Expired(_)) => {
                wakes.note(String::new());
                wakes.github.wake_all();
            }
            Err(WatchError::Refused(status) | WatchError::Handler(status)) => {
                warn!("pubsubhelper does not tell events, trying again: {status}");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(limits.retry) => {}
        }
    }
}

fn note(wakes: &Wakes, response: &WatchEventsResponse) {
    let Some(watch_events_response::Event::Happened(event)) = &response.event else { return };
    let Some(Source::Github(github)) = &event.source else { return };
    let key = format!("{}/{}", github.owner, github.repository).to_lowercase();
    match github.kind.as_str() {
        "push" | "create" | "delete" => wakes.note(key),
        "check_run" | "check_suite" | "status" => {
            if let Ok(commit) = github.commit.parse() {
                wakes.github.wake_commit(&key, commit);
            }
        }
        _ if github.number > 0 => wakes.github.wake(&key, github.number),
        "label" | "milestone" | "repository" => wakes.github.wake(&key, 0),
        _ => {}
    }
}

async fn tell(mut mirror: MirrorServiceClient<Channel>, wakes: Arc<Wakes>, cancel: CancellationToken) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = wakes.news.notified() => {}
        }
        let noted = std::mem::take(&mut *wakes.noted());
        tokio::select! {
            () = cancel.cancelled() => return,
            told = tickle(&mut mirror, &noted) => if let Err(status) = told {
                // gitmirror asks the origins by itself when it is back.
                warn!("gitmirror was not told what may have changed: {status}");
            }
        }
    }
}

async fn tickle(mirror: &mut MirrorServiceClient<Channel>, noted: &BTreeSet<String>) -> Result<(), Status> {
    let names: Vec<String> = if noted.contains("") {
        vec![String::new()]
    } else {
        let listed = mirror.list_repositories(ListRepositoriesRequest {}).await?.into_inner();
        let matching =
            listed.repositories.into_iter().filter(|one| noted.contains(&github_name(&one.origin)));
        matching.map(|one| one.name).collect()
    };
    for repository in names {
        rpc::retry(RetryPolicy::default(), || {
            let (mut mirror, repository) = (mirror.clone(), repository.clone());
            async move { mirror.tickle(TickleRequest { repository }).await }
        })
        .await?;
    }
    Ok(())
}

/// The `owner/name` of a repository at GitHub, however its address is written.
fn github_name(origin: &str) -> String {
    let path = origin.trim_end_matches('/').trim_end_matches(".git").to_lowercase();
    let mut parts = path.rsplit(['/', ':']);
    match (parts.next(), parts.next()) {
        (Some(name), Some(owner)) => format!("{owner}/{name}"),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_at_github_is_known_by_any_of_its_addresses() {
        for origin in [
            "https://github.com/Golang/Go",
            "https://github.com/golang/go.git",
            "git@github.com:golang/go.git",
            "ssh://git@github.com/golang/go/",
        ] {
            assert_eq!(github_name(origin), "golang/go", "{origin}");
        }
    }
}
