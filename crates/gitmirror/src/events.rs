//! Listens to pubsubhelper: an event about a repository is a reason to look at its origin now.

use std::{convert::Infallible, sync::Arc, time::Duration};

use api::events::{
    WatchEventsRequest, WatchEventsResponse, event::Source, event_service_client::EventServiceClient,
    watch_events_response::Event,
};
use rpc::watch::WatchError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::registry::Registry;

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
    let Some(Source::Github(event)) = &event.source else { return };
    for repository in registry.all() {
        if repository.config.origin.is_called(&event.owner, &event.repository) {
            repository.tickle();
        }
    }
}
