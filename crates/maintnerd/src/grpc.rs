//! `farmer.maintner.v1.MutationService`; beside it what answers questions.

mod compat;
mod filter;
mod frame;
mod query;
mod stream;

use std::sync::Arc;

use api::{
    maintner::{
        AppendBuildResultsRequest, AppendBuildResultsResponse, GetLogStatusRequest, GetLogStatusResponse,
        WatchMutationsRequest, WatchMutationsResponse, mutation_service_server::MutationService,
    },
    maintpb::BuildResult,
};
use futures_util::{StreamExt as _, stream::BoxStream};
use maintner::{
    Log, ResumeToken,
    core::check_result,
    log::{AppendError, ParseTokenError},
};
use prost::Message as _;
use runtime::Tasks;
use tonic::{Code, Request, Response, Status};

use crate::{
    config::Limits,
    ledger::{Ending, Ledger},
    sources::Sources,
};

pub(crate) use compat::CompatApi;
use filter::FilterError;
pub(crate) use frame::{Frame, SharedFrames};
pub(crate) use query::QueryApi;
pub(crate) use stream::Readers;

/// The most results in one request.
const MAX_RESULTS: usize = 1000;

/// Serves the log.
#[derive(Clone)]
pub(crate) struct MutationApi {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) tasks: Tasks,
    pub(crate) limits: Limits,
    pub(crate) readers: Readers,
}

impl MutationApi {
    /// The mutations as bytes that all readers share.
    pub(crate) fn watch(
        &self,
        request: &WatchMutationsRequest,
    ) -> Result<BoxStream<'static, stream::Item>, Status> {
        let log = self.ledger.log();
        let filter = filter::parse(request.filter.as_ref()).map_err(WatchError::from)?;
        let (position, checkpoint_first) = position(log, request)?;
        let begin = stream::Begin { position, checkpoint_first, filter };
        Ok(stream::open(log, begin, &self.readers, &self.tasks, self.limits))
    }
}

/// Where to begin, and whether to begin with a checkpoint.
fn position(log: &Log, request: &WatchMutationsRequest) -> Result<(u64, bool), WatchError> {
    let end = log.extent().position;
    match (request.resume_token.as_str(), request.from_now) {
        ("", true) => Ok((end, true)),
        ("", false) => Ok((0, end == 0)),
        (_, true) => Err(WatchError::Both),
        (text, false) => {
            let token: ResumeToken = text.parse()?;
            if token.history != log.history() || token.position > end {
                return Err(WatchError::Expired);
            }
            Ok((token.position, token.position == end))
        }
    }
}

/// A watch that cannot begin.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("`resume_token` and `from_now` exclude each other")]
    Both,
    #[error(transparent)]
    BadToken(#[from] ParseTokenError),
    #[error(transparent)]
    BadFilter(#[from] FilterError),
    #[error("this log does not hold the position of the token: read it from the beginning")]
    Expired,
}

impl From<WatchError> for Status {
    fn from(error: WatchError) -> Self {
        let (code, reason) = match &error {
            WatchError::Both => (Code::InvalidArgument, "TOKEN_AND_NOW"),
            WatchError::BadToken(_) => (Code::InvalidArgument, "BAD_RESUME_TOKEN"),
            WatchError::BadFilter(_) => (Code::InvalidArgument, "BAD_FILTER"),
            WatchError::Expired => (Code::OutOfRange, "RESUME_TOKEN_EXPIRED"),
        };
        rpc::status(code, reason, error)
    }
}

/// Results that are not appended.
#[derive(Debug, thiserror::Error)]
enum ResultsError {
    #[error("{0} results are more than {MAX_RESULTS}")]
    TooMany(usize),
    #[error("result {index} {what}")]
    Bad { index: usize, what: String },
    #[error("the mutation log cannot be written")]
    Append(#[from] AppendError),
}

impl From<ResultsError> for Status {
    fn from(error: ResultsError) -> Self {
        let (code, reason) = match &error {
            ResultsError::TooMany(_) => (Code::InvalidArgument, "TOO_MANY_RESULTS"),
            ResultsError::Bad { .. } | ResultsError::Append(AppendError::TooLarge { .. }) => {
                (Code::InvalidArgument, "BAD_RESULT")
            }
            // The process ends and is started again; a repeat changes nothing.
            ResultsError::Append(_) => (Code::Unavailable, "LOG_FAILED"),
        };
        rpc::status(code, reason, error)
    }
}

impl From<Ending> for Status {
    fn from(error: Ending) -> Self {
        rpc::status(Code::Unavailable, "LOG_FAILED", error)
    }
}

fn check(results: &[BuildResult]) -> Result<(), ResultsError> {
    if results.len() > MAX_RESULTS {
        return Err(ResultsError::TooMany(results.len()));
    }
    for (index, result) in results.iter().enumerate() {
        check_result(result).map_err(|error| ResultsError::Bad { index, what: error.to_string() })?;
    }
    Ok(())
}

#[tonic::async_trait]
impl MutationService for MutationApi {
    type WatchMutationsStream = BoxStream<'static, Result<WatchMutationsResponse, Status>>;

    /// [`SharedFrames`] answers this call without decoding; this serves whoever does not use it.
    async fn watch_mutations(
        &self,
        request: Request<WatchMutationsRequest>,
    ) -> Result<Response<Self::WatchMutationsStream>, Status> {
        let decode = |frame: Result<Frame, Status>| {
            WatchMutationsResponse::decode(frame?.to_bytes())
                .map_err(|error| rpc::internal("BAD_MUTATION", &error))
        };
        Ok(Response::new(self.watch(request.get_ref())?.map(decode).boxed()))
    }

    async fn append_build_results(
        &self,
        request: Request<AppendBuildResultsRequest>,
    ) -> Result<Response<AppendBuildResultsResponse>, Status> {
        let results = request.into_inner().results;
        check(&results)?;
        self.ledger.append_results(results).await.map_err(ResultsError::from)?;
        Ok(Response::new(AppendBuildResultsResponse {}))
    }

    async fn get_log_status(
        &self,
        _: Request<GetLogStatusRequest>,
    ) -> Result<Response<GetLogStatusResponse>, Status> {
        let sources = self.sources.statuses().await;
        let extent = self.ledger.log().extent();
        Ok(Response::new(GetLogStatusResponse {
            position: extent.position,
            log_bytes: extent.bytes,
            sources,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code_and_reason() {
        let results = |error: ResultsError| Status::from(error);
        let watch = |error: WatchError| Status::from(error);
        let bad = || ResultsError::Bad { index: 0, what: "is bad".into() };
        for (status, code, reason) in [
            (watch(WatchError::Both), Code::InvalidArgument, "TOKEN_AND_NOW"),
            (watch(WatchError::BadToken(ParseTokenError)), Code::InvalidArgument, "BAD_RESUME_TOKEN"),
            (watch(FilterError::TooMany(1001).into()), Code::InvalidArgument, "BAD_FILTER"),
            (watch(WatchError::Expired), Code::OutOfRange, "RESUME_TOKEN_EXPIRED"),
            (results(ResultsError::TooMany(1001)), Code::InvalidArgument, "TOO_MANY_RESULTS"),
            (results(bad()), Code::InvalidArgument, "BAD_RESULT"),
            (results(AppendError::TooLarge { bytes: 1 }.into()), Code::InvalidArgument, "BAD_RESULT"),
            (results(AppendError::Closed.into()), Code::Unavailable, "LOG_FAILED"),
            (Ending.into(), Code::Unavailable, "LOG_FAILED"),
        ] {
            assert_eq!((status.code(), rpc::reason(&status).as_deref()), (code, Some(reason)));
        }
    }
}
