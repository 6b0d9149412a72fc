//! `QueryService` for bots and people, at the public port: maintnerd's own, passed on.

use api::maintner::{
    GetChangeRequest, GetChangeResponse, GetCommitRequest, GetCommitResponse, GetIssueRequest,
    GetIssueResponse, GetStatisticsRequest, GetStatisticsResponse, ListChangesRequest, ListChangesResponse,
    ListIssuesRequest, ListIssuesResponse, ListRefsRequest, ListRefsResponse, SearchCommentsRequest,
    SearchCommentsResponse, query_service_client::QueryServiceClient, query_service_server::QueryService,
};
use rpc::Channel;
use tonic::{Request, Response, Status};

use super::mutations::passed_on;

/// What the mutation log says, as maintnerd tells.
#[derive(Clone)]
pub(crate) struct Queries(pub(crate) QueryServiceClient<Channel>);

/// The same question for maintnerd, with what is left of its deadline.
fn pass<T>(request: Request<T>) -> Request<T> {
    let deadline = rpc::deadline(&request);
    deadline.request(request.into_inner())
}

/// The answer without the headers that it came with.
fn answer<T>(answered: Result<Response<T>, Status>) -> Result<Response<T>, Status> {
    answered.map(|response| Response::new(response.into_inner())).map_err(|status| passed_on(&status))
}

#[tonic::async_trait]
impl QueryService for Queries {
    async fn get_statistics(
        &self,
        request: Request<GetStatisticsRequest>,
    ) -> Result<Response<GetStatisticsResponse>, Status> {
        answer(self.0.clone().get_statistics(pass(request)).await)
    }

    async fn list_refs(
        &self,
        request: Request<ListRefsRequest>,
    ) -> Result<Response<ListRefsResponse>, Status> {
        answer(self.0.clone().list_refs(pass(request)).await)
    }

    async fn get_commit(
        &self,
        request: Request<GetCommitRequest>,
    ) -> Result<Response<GetCommitResponse>, Status> {
        answer(self.0.clone().get_commit(pass(request)).await)
    }

    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        answer(self.0.clone().list_changes(pass(request)).await)
    }

    async fn get_change(
        &self,
        request: Request<GetChangeRequest>,
    ) -> Result<Response<GetChangeResponse>, Status> {
        answer(self.0.clone().get_change(pass(request)).await)
    }

    async fn list_issues(
        &self,
        request: Request<ListIssuesRequest>,
    ) -> Result<Response<ListIssuesResponse>, Status> {
        answer(self.0.clone().list_issues(pass(request)).await)
    }

    async fn get_issue(
        &self,
        request: Request<GetIssueRequest>,
    ) -> Result<Response<GetIssueResponse>, Status> {
        answer(self.0.clone().get_issue(pass(request)).await)
    }

    async fn search_comments(
        &self,
        request: Request<SearchCommentsRequest>,
    ) -> Result<Response<SearchCommentsResponse>, Status> {
        answer(self.0.clone().search_comments(pass(request)).await)
    }
}
