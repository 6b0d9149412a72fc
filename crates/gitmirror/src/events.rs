//! Listens to pubsubhelper: an event about a repository is a reason to look at its origin now.

use std::{convert::Infallible, sync::Arc, time::Duration};

use api::events::{
    GerritEvent, WatchEventsRequest, WatchEventsResponse, event::Source,
    event_service_client::EventServiceClient, watch_events_response::Event,
};
use rpc::watch::WatchError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{config::CHANGES, registry::Registry, scan::is_ref_name};

/// How long to wait after the server refused us: somebody must change something first.
const REFUSED: Duration = Duration::from_mins(1);

/// Wakes repositories by events, until cancelled.
pub(crate) async fn run(channel: rpc::Channel, registry: Arc<Registry>, cancel: CancellationToken) {
    let client = EventServiceClient::new(channel).max_decoding_message_size(rpc::MAX_MESSAGE);
    loop {
        let open = |resume_token: String| {
            let mut client = client.clone();
            async move { Ok(client.watch_events(WatchEventsRequest { resume_token }).await?.into_inner()) }
        };
        let handle = |response: WatchEventsResponse| {
            wake(&registry, &response);
            std::future::ready(Ok::<_, Infallible>(Some(response.resume_token)))
        };
        match rpc::watch::run("events", String::new(), open, handle, cancel.clone()).await {
            Ok(()) => return,
            Err(WatchError::Expired(_)) => {}
            Err(error) => {
                warn!("events are not heard, the polls go on: {:#}", anyhow::Error::new(error));
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(REFUSED) => {}
                }
            }
        }
        // Whatever happened meanwhile was not heard.
        for repository in registry.all() {
            repository.tickle();
        }
    }
}

fn wake(registry: &Registry, response: &WatchEventsResponse) {
    let Some(Event::Happened(event)) = &response.event else { return };
    for repository in registry.all() {
        match &event.source {
            Some(Source::Github(event)) => {
                if repository.config.origin.is_called(&event.owner, &event.repository) {
                    repository.tickle();
                }
            }
            Some(Source::Gerrit(event)) if repository.config.is_project(&event.project) => {
                match refs_of(event) {
                    Some(refs) => repository.tickle_refs(refs),
                    None => repository.tickle(),
                }
            }
            Some(Source::Gerrit(_)) | None => {}
        }
    }
}

/// Which refs an event is about: those below a name that ends with a slash, or one. None if that is not known.
fn refs_of(event: &GerritEvent) -> Option<String> {
    match event.change {
        0 => Some(event.r#ref.clone()).filter(|name| is_ref_name(name)),
        change => Some(format!("{CHANGES}{:02}/{change}/", change % 100)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_about_one_change_or_one_ref_or_anything() {
        let of = |change, name: &str| {
            refs_of(&GerritEvent { change, r#ref: name.into(), ..GerritEvent::default() })
        };
        assert_eq!(of(1207, "").as_deref(), Some("refs/changes/07/1207/"));
        assert_eq!(of(7, "refs/heads/main").as_deref(), Some("refs/changes/07/7/"));
        assert_eq!(of(0, "refs/heads/main").as_deref(), Some("refs/heads/main"));
        assert_eq!((of(0, ""), of(0, "refs/heads/*"), of(0, "-x")), (None, None, None));
    }
}
