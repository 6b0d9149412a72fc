//! `BuildService`.

use std::pin::Pin;

use api::coordinator::{
    self as wire, CancelBuildRequest, CancelBuildResponse, GetBuildRequest, GetBuildResponse,
    ListBuildsRequest, ListBuildsResponse, ReadLogRequest, ReadLogResponse, RequestBuildsRequest,
    RequestBuildsResponse, SubmitTryRequest, SubmitTryResponse, WatchBuildsRequest, WatchBuildsResponse,
    build_service_server::BuildService,
};
use futures_util::Stream;
use rpc::{PageToken, page};
use tonic::{Code, Request, Response, Status, Streaming};
use types::BuildNumber;

use super::{convert, failed, read_log, stopping, unread, watch_builds};
use crate::{
    core::Event,
    find::{Mirror, Planner},
    records::read::{self, Filter},
    settings::Settings,
    shell::Hub,
    view::{ViewError, Viewer},
};

/// A streamed answer.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Builds and their logs.
#[derive(Clone)]
pub(crate) struct Builds {
    pub(crate) viewer: Viewer,
    pub(crate) planner: Planner,
    pub(crate) mirror: Mirror,
    pub(crate) settings: Settings,
    pub(crate) hub: Hub,
}

#[tonic::async_trait]
impl BuildService for Builds {
    type WatchBuildsStream = Answers<WatchBuildsResponse>;
    type ReadLogStream = Answers<ReadLogResponse>;

    async fn list_builds(
        &self,
        request: Request<ListBuildsRequest>,
    ) -> Result<Response<ListBuildsResponse>, Status> {
        let request = request.into_inner();
        let size = page::size(request.page_size, 50, 1000)?;
        let outcome = wire::Outcome::try_from(request.outcome)
            .map_err(|_| rpc::status(Code::InvalidArgument, "BAD_OUTCOME", "there is no such outcome"))?;
        let outcome = convert::from_outcome(outcome);
        let words = [
            request.builder.as_str(),
            request.commit.as_str(),
            outcome.map_or("", types::Outcome::as_str),
            if request.active { "active" } else { "" },
        ];
        let hash = page::filter_hash(&words);
        let before = match PageToken::decode(&request.page_token, hash)? {
            Some(position) => position.parse().map_err(|_| {
                rpc::status(Code::InvalidArgument, "BAD_PAGE_TOKEN", "the page token is not one of ours")
            })?,
            None => i64::MAX as u64,
        };
        check_commit(&request.commit)?;
        let filter =
            Filter { builder: request.builder, commit: request.commit, outcome, active: request.active };
        let mut records = read::builds(&self.viewer.database, &filter, before, size + 1)
            .await
            .map_err(|error| unread(&error))?;
        let more = records.len() > size;
        records.truncate(size);
        let active: Vec<BuildNumber> =
            records.iter().filter(|record| record.outcome.is_none()).map(|record| record.number).collect();
        let active = self.viewer.active(active).await.map_err(stopping)?;
        let next =
            records.last().filter(|_| more).map(|last| PageToken::encode(&last.number.to_string(), hash));
        let builds =
            records.iter().map(|record| convert::build(record, active.get(&record.number))).collect();
        Ok(Response::new(ListBuildsResponse { builds, next_page_token: next.unwrap_or_default() }))
    }

    async fn get_build(
        &self,
        request: Request<GetBuildRequest>,
    ) -> Result<Response<GetBuildResponse>, Status> {
        let number = BuildNumber(request.into_inner().number);
        let full = self.viewer.full(number, false).await.map_err(|error| failed(&error))?;
        Ok(Response::new(GetBuildResponse { build: Some(convert::full(&full)) }))
    }

    async fn watch_builds(
        &self,
        request: Request<WatchBuildsRequest>,
    ) -> Result<Response<Self::WatchBuildsStream>, Status> {
        let numbers = request.into_inner().numbers.into_iter().map(BuildNumber).collect();
        let stream = watch_builds::watch(self.viewer.clone(), &self.hub, numbers).await?;
        Ok(Response::new(stream))
    }

    async fn request_builds(
        &self,
        request: Request<RequestBuildsRequest>,
    ) -> Result<Response<RequestBuildsResponse>, Status> {
        let builds = self.request(request.into_inner()).await?;
        Ok(Response::new(RequestBuildsResponse { builds }))
    }

    async fn submit_try(
        &self,
        request: Request<Streaming<SubmitTryRequest>>,
    ) -> Result<Response<SubmitTryResponse>, Status> {
        let builds = self.submit(request.into_inner()).await?;
        Ok(Response::new(SubmitTryResponse { builds }))
    }

    async fn cancel_build(
        &self,
        request: Request<CancelBuildRequest>,
    ) -> Result<Response<CancelBuildResponse>, Status> {
        let number = BuildNumber(request.into_inner().number);
        let known = read::build(&self.viewer.database, number).await.map_err(|error| unread(&error))?;
        if known.is_none() {
            return Err(failed(&ViewError::UnknownBuild(number)));
        }
        let event = Event::Cancel { number, reason: "called off by a user".to_owned() };
        self.viewer.handle.tell(event).await.map_err(stopping)?;
        // The answer comes after the step, which writes before it acts.
        self.viewer.handle.ask(|_| ()).await.map_err(stopping)?;
        Ok(Response::new(CancelBuildResponse {}))
    }

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let stream = read_log::read(self.viewer.clone(), self.hub.clone(), request.into_inner()).await?;
        Ok(Response::new(stream))
    }
}

/// A commit or how it begins: 7 digits at least, unless empty.
pub(super) fn check_commit(commit: &str) -> Result<(), Status> {
    let digits = commit.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if commit.is_empty() || (digits && (7..=40).contains(&commit.len())) {
        return Ok(());
    }
    let text = format!("`{commit}` is not a commit: 7 to 40 lower-case hexadecimal digits are");
    Err(rpc::status(Code::InvalidArgument, "BAD_COMMIT", text))
}
