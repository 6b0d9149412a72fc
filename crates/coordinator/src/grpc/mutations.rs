//! `MutationService` for bots, at the public port: maintnerd's own, passed on.
//!
//! Reading only: what is appended comes from services, which call maintnerd themselves. A reader that does not keep up
//! holds back its stream here, and is cut off by maintnerd.

use api::maintner::{
    AppendBuildResultsRequest, AppendBuildResultsResponse, GetLogStatusRequest, GetLogStatusResponse,
    WatchMutationsRequest, WatchMutationsResponse, mutation_service_client::MutationServiceClient,
    mutation_service_server::MutationService,
};
use futures_util::TryStreamExt as _;
use rpc::Channel;
use tonic::{Code, Request, Response, Status};

use super::build_service::Answers;

/// The mutation log, as maintnerd serves it.
#[derive(Clone)]
pub(crate) struct Mutations(pub(crate) MutationServiceClient<Channel>);

#[tonic::async_trait]
impl MutationService for Mutations {
    type WatchMutationsStream = Answers<WatchMutationsResponse>;

    async fn watch_mutations(
        &self,
        request: Request<WatchMutationsRequest>,
    ) -> Result<Response<Self::WatchMutationsStream>, Status> {
        let watched = self
            .0
            .clone()
            .watch_mutations(request.into_inner())
            .await
            .map_err(|status| passed_on(&status))?;
        Ok(Response::new(Box::pin(watched.into_inner().map_err(|status| passed_on(&status)))))
    }

    async fn append_build_results(
        &self,
        _: Request<AppendBuildResultsRequest>,
    ) -> Result<Response<AppendBuildResultsResponse>, Status> {
        let why = "only services append to the mutation log, at maintnerd";
        Err(rpc::status(Code::PermissionDenied, "READ_ONLY", why))
    }

    async fn get_log_status(
        &self,
        request: Request<GetLogStatusRequest>,
    ) -> Result<Response<GetLogStatusResponse>, Status> {
        let status =
            self.0.clone().get_log_status(request.into_inner()).await.map_err(|status| passed_on(&status))?;
        Ok(Response::new(status.into_inner()))
    }
}

/// The status without the headers of the answer that it came with.
pub(super) fn passed_on(status: &Status) -> Status {
    Status::with_details(status.code(), status.message(), status.details().to_vec().into())
}
