//! `RequestBuilds` and `SubmitTry`: somebody wants builds. A repeated request is answered as before.

use std::collections::BTreeSet;

use api::{
    coordinator::{
        self as wire, RequestBuildsRequest, SubmitTryRequest, TryHeader, submit_try_request::Part,
    },
    gitmirror::BundleHeader,
};
use buildspec::{Builder, Purpose, Repository};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use types::{BuildNumber, BuilderName, CommitHash};

use super::{Builds, convert, stopping, unread};
use crate::{
    core::{Accept, Class, NewBuild, Request},
    find::{AtCommit, Commit, MirrorError, Wanted, known},
    ports::Commits,
    records::read,
};

/// Which builders are wanted.
enum Choice {
    Named(Vec<String>),
    Policy(Purpose),
    All,
}

impl Builds {
    pub(super) async fn request(&self, request: RequestBuildsRequest) -> Result<Vec<wire::Build>, Status> {
        let id = check_id(&request.request_id)?;
        if let Some(builds) = self.answered(&id).await? {
            return Ok(builds);
        }
        let repository = self.repository(&request.repository)?;
        let (commit, git_ref) = self.resolve(&repository, &request.revision).await?;
        let choice = if request.builders.is_empty() {
            Choice::Policy(Purpose::Submitted)
        } else {
            Choice::Named(request.builders)
        };
        check_patterns(&request.tests)?;
        let wanted = Wanted {
            class: Some(Class::Interactive),
            git_ref,
            patterns: request.tests,
            repeat: request.repeat,
            ..Wanted::default()
        };
        self.ask_for(id, &repository, commit, choice, wanted).await
    }

    pub(super) async fn submit(
        &self,
        mut parts: Streaming<SubmitTryRequest>,
    ) -> Result<Vec<wire::Build>, Status> {
        let Some(SubmitTryRequest { part: Some(Part::Header(header)) }) = parts.message().await? else {
            return Err(rpc::status(Code::InvalidArgument, "NO_HEADER", "the header must come first"));
        };
        let id = check_id(&header.request_id)?;
        if let Some(builds) = self.answered(&id).await? {
            return Ok(builds);
        }
        let repository = self.repository(&header.repository)?;
        let commit: CommitHash =
            header.commit.parse().map_err(|error| rpc::status(Code::InvalidArgument, "BAD_COMMIT", error))?;
        check_patterns(&header.tests)?;
        self.forward(&repository, &id, commit, parts).await?;
        let TryHeader { builders, all, stop_after_make, tests, .. } = header;
        let choice = match (all, builders.is_empty()) {
            (true, _) => Choice::All,
            (false, true) => Choice::Policy(Purpose::Try),
            (false, false) => Choice::Named(builders),
        };
        let wanted = Wanted {
            class: Some(Class::Try),
            is_try: true,
            stop_after_make,
            patterns: tests,
            ..Wanted::default()
        };
        self.ask_for(id, &repository, commit, choice, wanted).await
    }

    /// Passes the bundle on as it comes.
    async fn forward(
        &self,
        repository: &Repository,
        id: &str,
        commit: CommitHash,
        mut parts: Streaming<SubmitTryRequest>,
    ) -> Result<(), Status> {
        let header = BundleHeader {
            repository: repository.name.to_string(),
            request_id: id.to_owned(),
            commit: commit.to_string(),
        };
        let (sender, chunks) = mpsc::channel(8);
        let pump = async move {
            while let Some(part) = parts.message().await? {
                let Some(Part::Chunk(chunk)) = part.part else {
                    return Err(rpc::status(
                        Code::InvalidArgument,
                        "NO_CHUNK",
                        "only chunks come after the header",
                    ));
                };
                if sender.send(chunk).await.is_err() {
                    // gitmirror has stopped listening: its answer says why.
                    break;
                }
            }
            Ok(())
        };
        let (pumped, uploaded) = tokio::join!(pump, self.mirror.upload(header, ReceiverStream::new(chunks)));
        pumped?;
        uploaded
    }

    /// The builds of a request that was made before.
    async fn answered(&self, id: &str) -> Result<Option<Vec<wire::Build>>, Status> {
        match read::request(&self.viewer.database, id).await.map_err(|error| unread(&error))? {
            Some(numbers) => Ok(Some(self.show(numbers).await?)),
            None => Ok(None),
        }
    }

    async fn show(&self, numbers: Vec<BuildNumber>) -> Result<Vec<wire::Build>, Status> {
        let mut active = self.viewer.active(numbers.clone()).await.map_err(stopping)?;
        let mut builds = Vec::with_capacity(numbers.len());
        for number in numbers {
            let record = read::build(&self.viewer.database, number).await.map_err(|error| unread(&error))?;
            builds.extend(record.map(|record| convert::build(&record, active.remove(&number).as_ref())));
        }
        Ok(builds)
    }

    /// A repository by name; the only one if none is named.
    fn repository(&self, name: &str) -> Result<Repository, Status> {
        let farm = self.settings.farm();
        let found = match (name, farm.repositories.as_slice()) {
            ("", [only]) => Some(only),
            _ => farm.repositories.iter().find(|repository| repository.name.as_str() == name),
        };
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> =
                farm.repositories.iter().map(|repository| repository.name.as_str()).collect();
            let text = format!("there is no repository `{name}`: the farm has {}", names.join(", "));
            rpc::status(Code::NotFound, "UNKNOWN_REPOSITORY", text)
        })
    }

    /// A commit, and the branch if it was named by one.
    async fn resolve(&self, repository: &Repository, revision: &str) -> Result<(CommitHash, String), Status> {
        if let Ok(commit) = revision.parse() {
            return Ok((commit, String::new()));
        }
        let sql = "SELECT git_ref, commit_hash FROM refs WHERE repository = $1 AND git_ref = $2";
        for name in [revision.to_owned(), format!("refs/heads/{revision}"), format!("refs/tags/{revision}")] {
            let row =
                self.viewer.database.read_first(sql, vec![(&repository.name).into(), name.into()]).await;
            if let Some(row) = row.map_err(|error| unread(&error))? {
                return Ok((
                    row.parse("commit_hash").map_err(|error| unread(&error))?,
                    row.text("git_ref").map_err(|error| unread(&error))?.to_owned(),
                ));
            }
        }
        let text = format!(
            "`{}` has no `{revision}`: name a full commit, or a ref that the mirror has",
            repository.name
        );
        Err(rpc::status(Code::NotFound, "UNKNOWN_COMMIT", text))
    }

    async fn ask_for(
        &self,
        id: String,
        repository: &Repository,
        hash: CommitHash,
        choice: Choice,
        wanted: Wanted,
    ) -> Result<Vec<wire::Build>, Status> {
        let at = self.planner.at(repository, hash).await.map_err(|error| unmirrored(&error))?;
        let commits =
            self.mirror.commits(&repository.name, hash, &[], 1).await.map_err(|error| unmirrored(&error))?;
        let Some(commit) = commits.into_iter().find(|commit| commit.hash == hash) else {
            let text = format!("there is no commit `{hash}` in `{}`", repository.name);
            return Err(rpc::status(Code::NotFound, "UNKNOWN_COMMIT", text));
        };
        let builds = self.plan(&at, repository, &commit, &choice, &wanted)?;
        let known = known(&self.viewer.database, hash).await.map_err(|error| unread(&error))?;
        let slot = |build: &NewBuild| {
            let key = &build.key;
            known.get(&(key.repository.clone(), key.builder.clone(), key.variant.clone())).copied()
        };
        let slots: Vec<Option<BuildNumber>> = builds.iter().map(slot).collect();
        let new = builds
            .into_iter()
            .zip(&slots)
            .filter(|(_, slot)| slot.is_none())
            .map(|(build, _)| build)
            .collect();
        let accept = Accept { builds: new, request: Some(Request { id, slots }), ..Accept::default() };
        let numbers = self.viewer.handle.accept(accept).await.map_err(stopping)?;
        self.show(numbers).await
    }

    fn plan(
        &self,
        at: &AtCommit,
        repository: &Repository,
        commit: &Commit,
        choice: &Choice,
        wanted: &Wanted,
    ) -> Result<Vec<NewBuild>, Status> {
        let file = match &at.file {
            Ok(file) => file,
            Err(text) => return Err(rpc::status(Code::FailedPrecondition, "BAD_BUILD_FILE", text)),
        };
        let farm = self.settings.farm();
        let chosen: Vec<&Builder> = match choice {
            Choice::Named(names) => named(&file.builders, names)?,
            Choice::Policy(purpose) => {
                farm.select(&repository.name, &wanted.git_ref, *purpose, &file.builders)
            }
            Choice::All => {
                file.builders.iter().filter(|builder| !wanted.is_try || farm.may_try(builder)).collect()
            }
        };
        if let Some(builder) = chosen.iter().find(|builder| wanted.is_try && !farm.may_try(builder)) {
            let why = if builder.may_try() {
                "uses machines that are lent for reviewed work"
            } else {
                "has secrets"
            };
            let text = format!("builder `{}` {why} and builds only what was submitted", builder.name);
            return Err(rpc::status(Code::FailedPrecondition, "NOT_FOR_TRIES", text));
        }
        if chosen.is_empty() {
            let text = "policy chooses no builder for this: name one";
            return Err(rpc::status(Code::FailedPrecondition, "NO_BUILDER", text));
        }
        let build = |builder: &Builder| self.planner.build(at, &repository.name, commit, builder, wanted);
        Ok(chosen.into_iter().map(build).collect())
    }
}

/// Builders by name, each once.
fn named<'b>(builders: &'b [Builder], names: &[String]) -> Result<Vec<&'b Builder>, Status> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for name in names {
        let builder =
            name.parse::<BuilderName>().ok().and_then(|name| builders.iter().find(|b| b.name == name));
        let Some(builder) = builder else {
            let all: Vec<&str> = builders.iter().map(|builder| builder.name.as_str()).collect();
            let text = format!("there is no builder `{name}` at this commit: there is {}", all.join(", "));
            return Err(rpc::status(Code::NotFound, "UNKNOWN_BUILDER", text));
        };
        if seen.insert(&builder.name) {
            found.push(builder);
        }
    }
    Ok(found)
}

fn check_patterns(patterns: &[String]) -> Result<(), Status> {
    for pattern in patterns {
        pattern
            .parse::<buildspec::Glob>()
            .map_err(|error| rpc::status(Code::InvalidArgument, "BAD_PATTERN", error))?;
    }
    Ok(())
}

/// A request's id: a UUID, so that two callers never share one by accident.
fn check_id(id: &str) -> Result<String, Status> {
    id.parse::<uuid::Uuid>()
        .map(|id| id.to_string())
        .map_err(|_| rpc::status(Code::InvalidArgument, "BAD_REQUEST_ID", "`request_id` must be a UUID"))
}

fn unmirrored(error: &MirrorError) -> Status {
    match error {
        MirrorError::UnknownCommit { .. } => rpc::status(Code::NotFound, "UNKNOWN_COMMIT", error),
        MirrorError::Failed(_) => rpc::status(Code::Unavailable, "MIRROR_UNAVAILABLE", error),
    }
}
