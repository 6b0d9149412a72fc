//! `apipb.MaintnerService`: the five questions that Go's programs ask of their maintnerd, under the original's names.

use std::sync::Arc;

use api::apipb::{
    DashboardRequest, DashboardResponse, GetRefRequest, GetRefResponse, GoFindTryWorkRequest,
    GoFindTryWorkResponse, HasAncestorRequest, HasAncestorResponse, ListGoReleasesRequest,
    ListGoReleasesResponse, maintner_service_server::MaintnerService,
};
use tokio::sync::{Mutex, watch};
use tonic::{Code, Request, Response, Status};
use types::CommitHash;

use crate::{
    golang::{self, DashboardError, TooFewReleases},
    ledger::Ledger,
    votes::Verdicts,
};

/// Serves the questions.
#[derive(Clone)]
pub(crate) struct CompatApi {
    ledger: Arc<Ledger>,
    /// Where Gerrit's word counts instead of the log's.
    verdicts: watch::Receiver<Arc<Verdicts>>,
    /// The work that was found last. Held while it is looked for, so that however many ask at once, and once a second, it
    /// is found once for each state of the log.
    work: Arc<Mutex<Option<Found>>>,
}

/// Work, and what it was found in.
struct Found {
    position: u64,
    verdicts: Arc<Verdicts>,
    work: GoFindTryWorkResponse,
}

impl CompatApi {
    pub(crate) fn new(ledger: Arc<Ledger>, verdicts: watch::Receiver<Arc<Verdicts>>) -> Self {
        Self { ledger, verdicts, work: Arc::default() }
    }
}

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
enum CompatError {
    #[error("`{0}` is no commit: give 40 hexadecimal digits")]
    BadCommit(String),
    /// In the words of the original.
    #[error("unknown gerrit project")]
    UnknownProject,
    #[error(transparent)]
    Releases(#[from] TooFewReleases),
    #[error(transparent)]
    Dashboard(#[from] DashboardError),
}

impl From<CompatError> for Status {
    fn from(error: CompatError) -> Self {
        let (code, reason) = match &error {
            CompatError::BadCommit(_) => (Code::InvalidArgument, "BAD_COMMIT"),
            CompatError::UnknownProject => (Code::NotFound, "UNKNOWN_REPOSITORY"),
            CompatError::Releases(_) => (Code::FailedPrecondition, "TOO_FEW_RELEASES"),
            CompatError::Dashboard(DashboardError::UnknownRepository(_)) => {
                (Code::NotFound, "UNKNOWN_REPOSITORY")
            }
            CompatError::Dashboard(DashboardError::UnknownBranch { .. }) => {
                (Code::NotFound, "UNKNOWN_BRANCH")
            }
            CompatError::Dashboard(
                DashboardError::NegativeCommits
                | DashboardError::NegativePage
                | DashboardError::MixedPage
                | DashboardError::TooFewForMixed(_)
                | DashboardError::TooFarBack,
            ) => (Code::InvalidArgument, "BAD_PAGE"),
        };
        rpc::status(code, reason, error)
    }
}

fn parse(commit: String) -> Result<CommitHash, CompatError> {
    commit.parse().map_err(|_| CompatError::BadCommit(commit))
}

#[tonic::async_trait]
impl MaintnerService for CompatApi {
    async fn has_ancestor(
        &self,
        request: Request<HasAncestorRequest>,
    ) -> Result<Response<HasAncestorResponse>, Status> {
        let HasAncestorRequest { commit, ancestor } = request.into_inner();
        let (commit, ancestor) = (parse(commit)?, parse(ancestor)?);
        let answer = self.ledger.ask(move |corpus| HasAncestorResponse {
            has_ancestor: corpus.has_ancestor(&commit, &ancestor),
            unknown_commit: corpus.commit(&commit).is_none(),
        });
        Ok(Response::new(answer.await?.value))
    }

    async fn get_ref(&self, request: Request<GetRefRequest>) -> Result<Response<GetRefResponse>, Status> {
        let GetRefRequest { r#ref, gerrit_server, gerrit_project } = request.into_inner();
        let answer = self.ledger.ask(move |corpus| {
            let project = corpus.gerrit().project(&format!("{gerrit_server}/{gerrit_project}"));
            let project = project.ok_or(CompatError::UnknownProject)?;
            let value = project.find_ref(&r#ref).map_or_else(String::new, |commit| commit.to_string());
            Ok::<_, CompatError>(GetRefResponse { value })
        });
        Ok(Response::new(answer.await?.value?))
    }

    async fn go_find_try_work(
        &self,
        _: Request<GoFindTryWorkRequest>,
    ) -> Result<Response<GoFindTryWorkResponse>, Status> {
        let mut last = self.work.lock().await;
        let (position, verdicts) = (self.ledger.log().extent().position, self.verdicts.borrow().clone());
        if let Some(found) = &*last
            && found.position == position
            && Arc::ptr_eq(&found.verdicts, &verdicts)
        {
            return Ok(Response::new(found.work.clone()));
        }
        let against = Arc::clone(&verdicts);
        let answer = self.ledger.ask(move |corpus| golang::find_work(corpus, &against)).await?;
        let (waiting, problems) = answer.value.map_err(CompatError::from)?;
        for problem in problems {
            tracing::debug!("a change that cannot be tried: {problem}");
        }
        let work = GoFindTryWorkResponse { waiting };
        *last = Some(Found { position: answer.token.position, verdicts, work: work.clone() });
        Ok(Response::new(work))
    }

    async fn list_go_releases(
        &self,
        _: Request<ListGoReleasesRequest>,
    ) -> Result<Response<ListGoReleasesResponse>, Status> {
        let answer = self.ledger.ask(golang::supported).await?;
        let releases = answer.value.map_err(CompatError::from)?;
        Ok(Response::new(ListGoReleasesResponse { releases }))
    }

    async fn get_dashboard(
        &self,
        request: Request<DashboardRequest>,
    ) -> Result<Response<DashboardResponse>, Status> {
        let request = request.into_inner();
        let answer = self.ledger.ask(move |corpus| golang::dashboard(corpus, &request)).await?;
        Ok(Response::new(answer.value.map_err(CompatError::from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code_and_reason() {
        let dashboard = |error: DashboardError| CompatError::from(error);
        let branch = DashboardError::UnknownBranch { repository: "go".into(), branch: "x".into() };
        for (error, code, reason) in [
            (CompatError::BadCommit("x".into()), Code::InvalidArgument, "BAD_COMMIT"),
            (CompatError::UnknownProject, Code::NotFound, "UNKNOWN_REPOSITORY"),
            (
                golang::supported(&maintner::Corpus::default()).unwrap_err().into(),
                Code::FailedPrecondition,
                "TOO_FEW_RELEASES",
            ),
            (dashboard(DashboardError::UnknownRepository("x".into())), Code::NotFound, "UNKNOWN_REPOSITORY"),
            (dashboard(branch), Code::NotFound, "UNKNOWN_BRANCH"),
            (dashboard(DashboardError::TooFarBack), Code::InvalidArgument, "BAD_PAGE"),
        ] {
            let status = Status::from(error);
            assert_eq!((status.code(), rpc::reason(&status).as_deref()), (code, Some(reason)));
        }
    }
}
