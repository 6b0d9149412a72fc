//! `farmer.events.v1.EventService`: parses, calls, renders.

use std::{pin::Pin, time::Duration};

use api::events::{
    Checkpoint, WatchEventsRequest, WatchEventsResponse, event_service_server::EventService,
    watch_events_response::Event,
};
use futures_util::{Stream, stream};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use crate::log::{Expired, Log, Position, Reader};

/// The service.
pub(crate) struct Events {
    log: Log,
    checkpoint: Duration,
}

impl Events {
    /// Over a log, with so long between checkpoints at most.
    pub(crate) fn new(log: Log, checkpoint: Duration) -> Self {
        Self { log, checkpoint }
    }
}

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let token = request.into_inner().resume_token;
        let position = if token.is_empty() {
            self.log.end()
        } else {
            token.parse().map_err(|error| rpc::status(Code::InvalidArgument, "BAD_RESUME_TOKEN", error))?
        };
        let reader = self.log.read_after(position).map_err(expired)?;
        // The first checkpoint is sent at once: it tells a new reader its position.
        let every = self.checkpoint;
        let state = Some((reader, Duration::ZERO));
        let responses = stream::unfold(state, move |state| async move {
            let (mut reader, patience) = state?;
            match timeout(patience, reader.next()).await {
                Err(_) => Some((Ok(checkpoint(&reader)), Some((reader, every)))),
                Ok(Ok(event)) => {
                    let response = response(Event::Happened(event), reader.position());
                    Some((Ok(response), Some((reader, patience))))
                }
                Ok(Err(error)) => Some((Err(expired(error)), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

fn checkpoint(reader: &Reader) -> WatchEventsResponse {
    response(Event::Checkpoint(Checkpoint {}), reader.position())
}

fn response(event: Event, position: Position) -> WatchEventsResponse {
    WatchEventsResponse { event: Some(event), resume_token: position.to_string() }
}

fn expired(error: Expired) -> Status {
    rpc::status(Code::OutOfRange, "RESUME_TOKEN_EXPIRED", error)
}
