//! `QueryService` for bots and people, at the public port: maintnerd's own, passed on. Beside it the five questions of Go's
//! programs, under their original names.

use api::apipb::{
    DashboardRequest, DashboardResponse, GetRefRequest, GetRefResponse, GoFindTryWorkRequest,
    GoFindTryWorkResponse, HasAncestorRequest, HasAncestorResponse, ListGoReleasesRequest,
    ListGoReleasesResponse, maintner_service_client::MaintnerServiceClient,
    maintner_service_server::MaintnerService,
};
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
pub(crate) struct Queries {
    own: QueryServiceClient<Channel>,
    go: MaintnerServiceClient<Channel>,
}

impl Queries {
    /// Passes on to the maintnerd at the other end of the channel.
    pub(crate) fn new(maintnerd: &Channel) -> Self {
        let own = QueryServiceClient::new(maintnerd.clone()).max_decoding_message_size(rpc::MAX_MESSAGE);
        let go = MaintnerServiceClient::new(maintnerd.clone()).max_decoding_message_size(rpc::MAX_MESSAGE);
        Self { own, go }
    }
}

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
        answer(self.own.clone().get_statistics(pass(request)).await)
    }

    async fn list_refs(
        &self,
        request: Request<ListRefsRequest>,
    ) -> Result<Response<ListRefsResponse>, Status> {
        answer(self.own.clone().list_refs(pass(request)).await)
    }

    async fn get_commit(
        &self,
        request: Request<GetCommitRequest>,
    ) -> Result<Response<GetCommitResponse>, Status> {
        answer(self.own.clone().get_commit(pass(request)).await)
    }

    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        answer(self.own.clone().list_changes(pass(request)).await)
    }

    async fn get_change(
        &self,
        request: Request<GetChangeRequest>,
    ) -> Result<Response<GetChangeResponse>, Status> {
        answer(self.own.clone().get_change(pass(request)).await)
    }

    async fn list_issues(
        &self,
        request: Request<ListIssuesRequest>,
    ) -> Result<Response<ListIssuesResponse>, Status> {
        answer(self.own.clone().list_issues(pass(request)).await)
    }

    async fn get_issue(
        &self,
        request: Request<GetIssueRequest>,
    ) -> Result<Response<GetIssueResponse>, Status> {
        answer(self.own.clone().get_issue(pass(request)).await)
    }

    async fn search_comments(
        &self,
        request: Request<SearchCommentsRequest>,
    ) -> Result<Response<SearchCommentsResponse>, Status> {
        answer(self.own.clone().search_comments(pass(request)).await)
    }
}

#[tonic::async_trait]
impl MaintnerService for Queries {
    async fn has_ancestor(
        &self,
        request: Request<HasAncestorRequest>,
    ) -> Result<Response<HasAncestorResponse>, Status> {
        answer(self.go.clone().has_ancestor(pass(request)).await)
    }

    async fn get_ref(&self, request: Request<GetRefRequest>) -> Result<Response<GetRefResponse>, Status> {
        answer(self.go.clone().get_ref(pass(request)).await)
    }

    async fn go_find_try_work(
        &self,
        request: Request<GoFindTryWorkRequest>,
    ) -> Result<Response<GoFindTryWorkResponse>, Status> {
        answer(self.go.clone().go_find_try_work(pass(request)).await)
    }

    async fn list_go_releases(
        &self,
        request: Request<ListGoReleasesRequest>,
    ) -> Result<Response<ListGoReleasesResponse>, Status> {
        answer(self.go.clone().list_go_releases(pass(request)).await)
    }

    async fn get_dashboard(
        &self,
        request: Request<DashboardRequest>,
    ) -> Result<Response<DashboardResponse>, Status> {
        answer(self.go.clone().get_dashboard(pass(request)).await)
    }
}
