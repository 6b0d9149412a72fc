//! `RetryService`.

use api::coordinator::{RetryBuildsRequest, RetryBuildsResponse, retry_service_server::RetryService};
use tonic::{Code, Request, Response, Status};
use types::{BuildNumber, Outcome};

use super::{build_service::check_commit, convert, failed, stopping, unread};
use crate::{
    core::{Event, Retry},
    records::{
        load,
        read::{self, BuildRecord, Filter},
    },
    view::{PagesSource, ViewError},
};

/// How many builds are begun again at once.
const MOST: usize = 1000;
/// How many builds are looked at for them.
const LOOKED_AT: usize = 2000;
/// How many of them are read from the database at a time.
const BATCH: usize = 200;

/// Begins builds again.
#[derive(Clone)]
pub(crate) struct Retries {
    pub(crate) source: PagesSource,
}

#[tonic::async_trait]
impl RetryService for Retries {
    async fn retry_builds(
        &self,
        request: Request<RetryBuildsRequest>,
    ) -> Result<Response<RetryBuildsResponse>, Status> {
        let request = request.into_inner();
        check_commit(&request.commit)?;
        let narrow =
            !request.builder.is_empty() || !request.commit.is_empty() || !request.matching.is_empty();
        if request.numbers.is_empty() && !narrow {
            let text = "say which builds: by number, builder, commit, or what their failure says";
            return Err(rpc::status(Code::InvalidArgument, "NO_FILTER", text));
        }
        if request.numbers.len() > MOST {
            let text = format!("name at most {MOST} builds at once");
            return Err(rpc::status(Code::InvalidArgument, "BAD_REQUEST", text));
        }
        let (found, looked_at) = self.find(&request).await?;
        let mut builds = Vec::with_capacity(found.len());
        for record in found {
            let database = &self.source.viewer.database;
            let reason = if request.reason.is_empty() { "somebody asked" } else { &request.reason };
            let retry = load::retry(database, record.number, (request.keep_passed, reason)).await;
            let retry = retry.map_err(|error| failed(&ViewError::Load(error)))?;
            // One that goes on, or has nothing to do, is left out.
            let Some(retry) = retry else { continue };
            if !request.dry_run {
                let retry = said(retry);
                let event = Event::Retry(Box::new(retry));
                self.source.viewer.handle.tell(event).await.map_err(stopping)?;
            }
            builds.push(record);
        }
        // The answer comes after the steps, which write before they act.
        self.source.viewer.handle.ask(|_| ()).await.map_err(stopping)?;
        let builds = if request.dry_run { builds } else { self.again(builds).await? };
        let numbers = builds.iter().map(|record| record.number).collect();
        let active = self.source.viewer.active(numbers).await.map_err(stopping)?;
        let builds = builds.iter().map(|record| convert::build(record, active.get(&record.number))).collect();
        Ok(Response::new(RetryBuildsResponse { builds, looked_at }))
    }
}

impl Retries {
    /// The builds that a request means, the newest first, and how many were looked at.
    async fn find(&self, request: &RetryBuildsRequest) -> Result<(Vec<BuildRecord>, u32), Status> {
        let limit = if request.limit == 0 { 100 } else { (request.limit as usize).min(MOST) };
        let database = &self.source.viewer.database;
        let mut found = Vec::new();
        if !request.numbers.is_empty() {
            for number in &request.numbers {
                let number = BuildNumber(*number);
                let record = read::build(database, number).await.map_err(|error| unread(&error))?;
                let record = record.ok_or_else(|| failed(&ViewError::UnknownBuild(number)))?;
                if record.outcome.is_some() && self.is_meant(request, &record).await? {
                    found.push(record);
                }
            }
            return Ok((found, request.numbers.len() as u32));
        }
        let filter =
            Filter { builder: request.builder.clone(), commit: request.commit.clone(), ..Filter::default() };
        let (mut before, mut looked_at) = (i64::MAX as u64, 0);
        while found.len() < limit && looked_at < LOOKED_AT {
            let records =
                read::builds(database, &filter, before, BATCH).await.map_err(|error| unread(&error))?;
            let Some(last) = records.last() else { break };
            before = last.number.0;
            looked_at += records.len();
            for record in records {
                if found.len() < limit && is_red(&record) && self.is_meant(request, &record).await? {
                    found.push(record);
                }
            }
        }
        Ok((found, looked_at as u32))
    }

    /// Whether all that a request says applies to a build.
    async fn is_meant(&self, request: &RetryBuildsRequest, record: &BuildRecord) -> Result<bool, Status> {
        let builder = request.builder.is_empty() || record.builder.as_str() == request.builder;
        let commit = record.commit.to_string().starts_with(&request.commit);
        if !builder || !commit {
            return Ok(false);
        }
        let wanted = request.matching.as_str();
        if wanted.is_empty() || record.reason.contains(wanted) {
            return Ok(true);
        }
        let view = self.source.build_view(record.number, None).await;
        let view = view.map_err(|error| rpc::status(Code::Unavailable, "STORE_UNAVAILABLE", error))?;
        let mut lines = view.failures.iter().flat_map(|failure| &failure.lines);
        Ok(lines.any(|line| line.text.contains(wanted)))
    }

    /// Builds as they are now.
    async fn again(&self, builds: Vec<BuildRecord>) -> Result<Vec<BuildRecord>, Status> {
        let mut now = Vec::with_capacity(builds.len());
        for build in builds {
            let record = read::build(&self.source.viewer.database, build.number).await;
            now.extend(record.map_err(|error| unread(&error))?);
        }
        Ok(now)
    }
}

/// A retry whose reason says what is run, if not all.
fn said(mut retry: Retry) -> Retry {
    let which = match retry.only.len() {
        0 => return retry,
        1 => "test".to_owned(),
        more => format!("{more} tests"),
    };
    retry.reason = format!("{} (only the {which} that had not passed)", retry.reason);
    retry
}

fn is_red(record: &BuildRecord) -> bool {
    matches!(record.outcome, Some(Outcome::Failed | Outcome::TimedOut | Outcome::Infrastructure))
}
