//! `farmer.maintner.v1.QueryService`: what the log says, folded, for whoever keeps no corpus of their own.

mod list;
mod render;

use std::sync::Arc;

use api::maintner::{
    GetChangeRequest, GetChangeResponse, GetCommitRequest, GetCommitResponse, GetIssueRequest,
    GetIssueResponse, GetStatisticsRequest, GetStatisticsResponse, ListChangesRequest, ListChangesResponse,
    ListIssuesRequest, ListIssuesResponse, ListRefsRequest, ListRefsResponse, ObjectCount,
    SearchCommentsRequest, SearchCommentsResponse, query_service_server::QueryService,
};
use maintner::Corpus;
use tonic::{Code, Request, Response, Status};
use types::CommitHash;

use crate::ledger::Ledger;

/// Serves the corpus.
#[derive(Clone)]
pub(crate) struct QueryApi {
    pub(crate) ledger: Arc<Ledger>,
}

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
enum QueryError {
    #[error("nothing is known of `{0}`")]
    UnknownRepository(String),
    #[error("the log does not hold a commit `{0}`")]
    UnknownCommit(CommitHash),
    #[error("`{project}` has no change {number} that is complete")]
    UnknownChange { project: String, number: u32 },
    #[error("`{repository}` has no issue {number}")]
    UnknownIssue { repository: String, number: i32 },
    #[error("`{0}` is no commit: give 40 hexadecimal digits")]
    BadCommit(String),
    #[error("{0} is no value that is known here")]
    BadFilter(&'static str),
    #[error("{0} labels are more than {max}", max = list::MAX_LABELS)]
    TooManyLabels(usize),
    #[error("there is no word to look for")]
    NoWord,
    #[error("the page token names no place")]
    BadPlace,
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let (code, reason) = match &error {
            QueryError::UnknownRepository(_) => (Code::NotFound, "UNKNOWN_REPOSITORY"),
            QueryError::UnknownCommit(_) => (Code::NotFound, "UNKNOWN_COMMIT"),
            QueryError::UnknownChange { .. } => (Code::NotFound, "UNKNOWN_CHANGE"),
            QueryError::UnknownIssue { .. } => (Code::NotFound, "UNKNOWN_ISSUE"),
            QueryError::BadCommit(_) => (Code::InvalidArgument, "BAD_COMMIT"),
            QueryError::BadFilter(_) | QueryError::TooManyLabels(_) | QueryError::NoWord => {
                (Code::InvalidArgument, "BAD_FILTER")
            }
            QueryError::BadPlace => (Code::InvalidArgument, "BAD_PAGE_TOKEN"),
        };
        rpc::status(code, reason, error)
    }
}

impl QueryApi {
    /// Asks the corpus. Answers with the resume token of what it was asked about.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Corpus) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<(T, String), Status> {
        let answer = self.ledger.ask(question).await?;
        Ok((answer.value?, answer.token.to_string()))
    }
}

#[tonic::async_trait]
impl QueryService for QueryApi {
    async fn get_statistics(
        &self,
        _: Request<GetStatisticsRequest>,
    ) -> Result<Response<GetStatisticsResponse>, Status> {
        let question = |corpus: &Corpus| Ok((corpus.counts(), corpus.statistics()));
        let ((counts, statistics), resume_token) = self.ask(question).await?;
        let object = |(name, count): (&str, u64)| ObjectCount { name: name.to_owned(), count };
        Ok(Response::new(GetStatisticsResponse {
            objects: counts.into_iter().map(object).collect(),
            mutations: statistics.mutations,
            skipped: statistics.skipped,
            malformed: statistics.malformed,
            resume_token,
        }))
    }

    async fn list_refs(
        &self,
        request: Request<ListRefsRequest>,
    ) -> Result<Response<ListRefsResponse>, Status> {
        let request = request.into_inner();
        let page = list::Page::of_refs(&request)?;
        let question = move |corpus: &Corpus| list::refs(corpus, &request, &page);
        let ((refs, next_page_token), resume_token) = self.ask(question).await?;
        Ok(Response::new(ListRefsResponse { refs, next_page_token, resume_token }))
    }

    async fn get_commit(
        &self,
        request: Request<GetCommitRequest>,
    ) -> Result<Response<GetCommitResponse>, Status> {
        let GetCommitRequest { commit, with_files } = request.into_inner();
        let hash: CommitHash = commit.parse().map_err(|_| QueryError::BadCommit(commit))?;
        let question = move |corpus: &Corpus| {
            let commit = corpus.commit(&hash).ok_or(QueryError::UnknownCommit(hash))?;
            Ok(render::commit(&commit, with_files))
        };
        let (commit, resume_token) = self.ask(question).await?;
        Ok(Response::new(GetCommitResponse { commit: Some(commit), resume_token }))
    }

    async fn list_changes(
        &self,
        request: Request<ListChangesRequest>,
    ) -> Result<Response<ListChangesResponse>, Status> {
        let request = request.into_inner();
        let page = list::Page::of_changes(&request)?;
        let wanted = list::Changes::parse(request)?;
        let question = move |corpus: &Corpus| list::changes(corpus, &wanted, &page);
        let ((changes, next_page_token), resume_token) = self.ask(question).await?;
        Ok(Response::new(ListChangesResponse { changes, next_page_token, resume_token }))
    }

    async fn get_change(
        &self,
        request: Request<GetChangeRequest>,
    ) -> Result<Response<GetChangeResponse>, Status> {
        let GetChangeRequest { project, number } = request.into_inner();
        let question = move |corpus: &Corpus| {
            let change = corpus.gerrit().project(&project).and_then(|project| project.change(number));
            let change = change.ok_or(QueryError::UnknownChange { project, number })?;
            Ok(render::whole_change(&change))
        };
        let (answer, resume_token) = self.ask(question).await?;
        Ok(Response::new(GetChangeResponse { resume_token, ..answer }))
    }

    async fn list_issues(
        &self,
        request: Request<ListIssuesRequest>,
    ) -> Result<Response<ListIssuesResponse>, Status> {
        let request = request.into_inner();
        let page = list::Page::of_issues(&request)?;
        let wanted = list::Issues::parse(request)?;
        let question = move |corpus: &Corpus| list::issues(corpus, &wanted, &page);
        let ((issues, next_page_token), resume_token) = self.ask(question).await?;
        Ok(Response::new(ListIssuesResponse { issues, next_page_token, resume_token }))
    }

    async fn get_issue(
        &self,
        request: Request<GetIssueRequest>,
    ) -> Result<Response<GetIssueResponse>, Status> {
        let request = request.into_inner();
        let page = list::Page::of_comments(&request)?;
        let question = move |corpus: &Corpus| list::issue(corpus, request, &page);
        let (answer, resume_token) = self.ask(question).await?;
        Ok(Response::new(GetIssueResponse { resume_token, ..answer }))
    }

    async fn search_comments(
        &self,
        request: Request<SearchCommentsRequest>,
    ) -> Result<Response<SearchCommentsResponse>, Status> {
        let request = request.into_inner();
        let page = list::Page::of_search(&request)?;
        let question = move |corpus: &Corpus| list::search(corpus, &request, &page);
        let ((comments, total, next_page_token), resume_token) = self.ask(question).await?;
        Ok(Response::new(SearchCommentsResponse { comments, total, next_page_token, resume_token }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code_and_reason() {
        let change = QueryError::UnknownChange { project: "a/b".into(), number: 1 };
        let issue = QueryError::UnknownIssue { repository: "a/b".into(), number: 1 };
        for (error, code, reason) in [
            (QueryError::UnknownRepository("x".into()), Code::NotFound, "UNKNOWN_REPOSITORY"),
            (QueryError::UnknownCommit(CommitHash::from_bytes([0; 20])), Code::NotFound, "UNKNOWN_COMMIT"),
            (change, Code::NotFound, "UNKNOWN_CHANGE"),
            (issue, Code::NotFound, "UNKNOWN_ISSUE"),
            (QueryError::BadCommit("x".into()), Code::InvalidArgument, "BAD_COMMIT"),
            (QueryError::BadFilter("kind"), Code::InvalidArgument, "BAD_FILTER"),
            (QueryError::TooManyLabels(21), Code::InvalidArgument, "BAD_FILTER"),
            (QueryError::NoWord, Code::InvalidArgument, "BAD_FILTER"),
            (QueryError::BadPlace, Code::InvalidArgument, "BAD_PAGE_TOKEN"),
        ] {
            let status = Status::from(error);
            assert_eq!((status.code(), rpc::reason(&status).as_deref()), (code, Some(reason)));
        }
    }
}
