//! maintnerd's answers about changes, as the coordinator uses them.

use api::maintner::{
    Change, ChangeStatus, GetChangeRequest, GetChangeResponse, ListChangesRequest,
    query_service_client::QueryServiceClient,
};
use async_trait::async_trait;
use tonic::{Code, Status};

use crate::ports::Changes;

/// Changes in one answer.
const PAGE: i32 = 1000;

/// A client of maintnerd's questions about the project.
#[derive(Clone)]
pub(crate) struct Project(QueryServiceClient<rpc::Channel>);

impl Project {
    /// Asks the maintnerd at the other end of the channel.
    pub(crate) fn new(maintnerd: &rpc::Channel) -> Self {
        Self(QueryServiceClient::new(maintnerd.clone()).max_decoding_message_size(rpc::MAX_MESSAGE))
    }
}

#[async_trait]
impl Changes for Project {
    async fn change(&self, project: &str, number: u32) -> Result<Option<GetChangeResponse>, Status> {
        let request = rpc::request(GetChangeRequest { project: project.to_owned(), number });
        match self.0.clone().get_change(request).await {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn open(&self, project: &str) -> Result<Vec<Change>, Status> {
        let mut request = ListChangesRequest {
            project: project.to_owned(),
            status: ChangeStatus::New.into(),
            page_size: PAGE,
            ..ListChangesRequest::default()
        };
        let mut all = Vec::new();
        loop {
            let answer = match self.0.clone().list_changes(rpc::request(request.clone())).await {
                Ok(answer) => answer.into_inner(),
                // Nothing is known of it yet.
                Err(status) if status.code() == Code::NotFound => return Ok(all),
                Err(status) => return Err(status),
            };
            all.extend(answer.changes);
            if answer.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = answer.next_page_token;
        }
    }
}
