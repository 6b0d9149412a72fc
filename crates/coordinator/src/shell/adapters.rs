//! The ports over what production has: a buildlet's client, the log store, maintnerd's client.

use std::ops::Range;

use api::{
    maintner::{
        AppendBuildResultsRequest, WatchMutationsRequest, WatchMutationsResponse,
        mutation_service_client::MutationServiceClient,
    },
    maintpb::BuildResult,
};
use async_trait::async_trait;
use buildlet_client::{BuildletClient, Error, ExecEvent, ExecSpec, Fetched, Lease, Status};
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use store::{
    Database,
    logs::{LogError, LogStore, LogWriter},
};
use types::ExecId;

use crate::{
    ports::{Buildlet, ExecLog, Logs, MutationLog},
    records,
};

#[async_trait]
impl Buildlet for BuildletClient {
    async fn status(&self) -> Result<Status, Error> {
        BuildletClient::status(self).await
    }

    async fn start_exec(&self, lease: Lease, exec: ExecId, spec: &ExecSpec) -> Result<(), Error> {
        BuildletClient::start_exec(self, lease, exec, spec).await.map(|_| ())
    }

    async fn watch_exec(
        &self,
        exec: ExecId,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<ExecEvent, Error>>, Error> {
        Ok(BuildletClient::watch_exec(self, exec, offset).await?.boxed())
    }

    async fn acknowledge(&self, exec: ExecId, offset: u64) -> Result<(), Error> {
        BuildletClient::acknowledge(self, exec, offset).await
    }

    async fn fetch_tree(&self, lease: Lease, url: &str, folder: &str) -> Result<Fetched, Error> {
        BuildletClient::fetch_tree(self, lease, url, folder, None).await
    }

    async fn read_tree(
        &self,
        lease: Lease,
        exclude: &[String],
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        Ok(BuildletClient::read_tree(self, lease, "", exclude).await?.boxed())
    }

    async fn empty(&self, lease: Lease) -> Result<(), Error> {
        self.remove(lease, &[".".to_owned()]).await
    }

    async fn end_lease(&self, lease: Lease) -> Result<(), Error> {
        BuildletClient::end_lease(self, lease).await.map(|_| ())
    }
}

/// The log store, with a note of which bytes are the farm's own.
pub(crate) struct FarmLogs {
    pub(crate) logs: LogStore,
    pub(crate) database: Database,
}

struct FarmLog {
    exec: ExecId,
    writer: LogWriter,
    database: Database,
}

#[async_trait]
impl Logs for FarmLogs {
    async fn writer(&self, exec: ExecId) -> Result<Box<dyn ExecLog>, LogError> {
        let writer = self.logs.writer(exec).await?;
        Ok(Box::new(FarmLog { exec, writer, database: self.database.clone() }))
    }

    async fn read(&self, exec: ExecId, range: Range<u64>) -> Result<Bytes, LogError> {
        self.logs.read(exec, range).await
    }
}

#[async_trait]
impl ExecLog for FarmLog {
    fn position(&self) -> u64 {
        self.writer.position()
    }

    fn is_finished(&self) -> bool {
        self.writer.is_finished()
    }

    async fn push(&mut self, offset: u64, data: Bytes) -> Result<(), LogError> {
        self.writer.push(offset, data).await
    }

    async fn flush(&mut self) -> Result<(), LogError> {
        self.writer.flush().await
    }

    async fn finish_with(mut self: Box<Self>, last: Bytes) -> Result<(), LogError> {
        if !last.is_empty() && !self.writer.is_finished() {
            // Before the line itself: whoever looks for the line that tells of a failure must not find ours.
            self.writer.flush().await?;
            self.database.write(records::own_output(self.exec, self.writer.position())).await?;
        }
        self.writer.finish_with(last).await
    }
}

#[async_trait]
impl MutationLog for MutationServiceClient<rpc::Channel> {
    async fn append(&self, results: Vec<BuildResult>) -> Result<(), tonic::Status> {
        self.clone().append_build_results(rpc::request(AppendBuildResultsRequest { results })).await?;
        Ok(())
    }

    async fn watch(
        &self,
        resume_token: String,
    ) -> Result<BoxStream<'static, Result<WatchMutationsResponse, tonic::Status>>, tonic::Status> {
        let request = WatchMutationsRequest { resume_token, ..WatchMutationsRequest::default() };
        Ok(self.clone().watch_mutations(request).await?.into_inner().boxed())
    }
}
