//! Following the stream of a maintnerd from a token, through restarts of either side.

use std::{
    fmt::Display,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use api::{
    maintner::{
        MutationFilter, WatchMutationsRequest, WatchMutationsResponse,
        mutation_service_client::MutationServiceClient, watch_mutations_response::Event,
    },
    maintpb::Mutation,
};
use rpc::{Channel, watch, watch::WatchError};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the first mutation of the log.
    Beginning,
    /// With what is appended from now on.
    Now,
    /// After the update that carried this token.
    After(String),
}

/// What a follower is told. Persist a token only after what came with it was handled: delivery is at least once.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// The next mutations, in the order of the log.
    Batch {
        /// At most 1,000; none when a filter leaves much out, and only the token moves on.
        mutations: Vec<Mutation>,
        /// To go on after them.
        token: String,
    },
    /// There are no more for now. Comes again while the log is idle.
    CaughtUp {
        /// The number of mutations in the log.
        position: u64,
        /// To go on from here.
        token: String,
    },
    /// The log that we followed is gone: forget all that came from it. What comes next is the first mutation of
    /// another.
    Restarted,
}

/// Why following cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FollowError<E> {
    /// The server refuses the request, and would again.
    #[error("the server refuses to stream mutations")]
    Refused(#[source] Status),
    /// The follower could not handle an update.
    #[error("cannot handle a mutation")]
    Handler(#[source] E),
}

/// As [`follow`], for the mutations that pass a filter only. What the filter leaves out moves the token on.
pub async fn follow_filtered<E, F>(
    channel: Channel,
    start: Start,
    filter: MutationFilter,
    cancel: CancellationToken,
    handle: impl FnMut(Update) -> F,
) -> Result<(), FollowError<E>>
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    run(channel, start, Some(filter), cancel, handle).await
}

/// Hands every update to `handle`, in order, one after the other, until cancelled. A lost stream is opened again after
/// the last update that was handled.
pub async fn follow<E, F>(
    channel: Channel,
    start: Start,
    cancel: CancellationToken,
    handle: impl FnMut(Update) -> F,
) -> Result<(), FollowError<E>>
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    run(channel, start, None, cancel, handle).await
}

async fn run<E, F>(
    channel: Channel,
    start: Start,
    filter: Option<MutationFilter>,
    cancel: CancellationToken,
    handle: impl FnMut(Update) -> F,
) -> Result<(), FollowError<E>>
where
    E: Display,
    F: Future<Output = Result<(), E>>,
{
    let handle = Arc::new(Mutex::new(handle));
    let call = |update| {
        // Only guards the call of the closure, which is never made twice at a time; the future runs outside.
        let mut handle = handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle(update)
    };
    let mut start = start;
    loop {
        let client = MutationServiceClient::new(channel.clone()).max_decoding_message_size(rpc::MAX_MESSAGE);
        let from_now = start == Start::Now;
        let token = match start {
            Start::After(token) => token,
            Start::Beginning | Start::Now => String::new(),
        };
        let open = |token: String| open(client.clone(), token, from_now, filter.clone());
        let handle = |response: WatchMutationsResponse| {
            let (update, token) = update_of(response);
            let handled = update.map(&call);
            async move {
                if let Some(handled) = handled {
                    handled.await?;
                }
                Ok(token)
            }
        };
        match watch::run("mutations", token, open, handle, cancel.clone()).await {
            Ok(()) => return Ok(()),
            Err(WatchError::Refused(status)) => return Err(FollowError::Refused(status)),
            Err(WatchError::Handler(error)) => return Err(FollowError::Handler(error)),
            Err(WatchError::Expired(status)) => {
                tracing::warn!(
                    "the mutation log is another one now, reading it from its beginning: {status}"
                );
                call(Update::Restarted).await.map_err(FollowError::Handler)?;
                start = Start::Beginning;
            }
        }
    }
}

async fn open(
    mut client: MutationServiceClient<Channel>,
    resume_token: String,
    from_now: bool,
    filter: Option<MutationFilter>,
) -> Result<tonic::Streaming<WatchMutationsResponse>, Status> {
    let from_now = from_now && resume_token.is_empty();
    let request = WatchMutationsRequest { resume_token, from_now, filter };
    let stream = client.watch_mutations(request).await?;
    Ok(stream.into_inner())
}

/// A response of a later version may carry an event that we do not know: it is skipped, its token is not.
fn update_of(response: WatchMutationsResponse) -> (Option<Update>, Option<String>) {
    let token = response.resume_token;
    let kept = Some(token.clone()).filter(|token| !token.is_empty());
    let update = match response.event {
        Some(Event::Batch(batch)) => Some(Update::Batch { mutations: batch.mutations, token }),
        Some(Event::Checkpoint(checkpoint)) => {
            Some(Update::CaughtUp { position: checkpoint.position, token })
        }
        None => None,
    };
    (update, kept)
}
