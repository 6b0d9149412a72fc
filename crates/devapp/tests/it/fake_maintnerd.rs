//! A stream of mutations from memory.

use std::net::SocketAddr;

use api::{
    maintner::{
        AppendBuildResultsRequest, AppendBuildResultsResponse, GetLogStatusRequest, GetLogStatusResponse,
        MutationBatch, WatchMutationsRequest, WatchMutationsResponse,
        mutation_service_server::{MutationService, MutationServiceServer},
        watch_mutations_response::Event,
    },
    maintpb::Mutation,
};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use rpc::Identity;
use runtime::Tasks;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

#[derive(Clone)]
pub(crate) struct FakeMaintnerd {
    pub(crate) addr: SocketAddr,
    log: watch::Sender<Vec<Mutation>>,
}

impl FakeMaintnerd {
    pub(crate) async fn start(tasks: &Tasks, identity: &Identity) -> Self {
        let mut fake = Self { addr: "127.0.0.1:0".parse().unwrap(), log: watch::Sender::default() };
        let server = rpc::Server::new("maintnerd", tasks.clone())
            .tls(identity)
            .grpc(MutationServiceServer::new(fake.clone()))
            .bind(fake.addr)
            .await
            .unwrap();
        fake.addr = server.addr();
        server.start();
        fake
    }

    pub(crate) fn append(&self, mutations: Vec<Mutation>) {
        self.log.send_modify(|log| log.extend(mutations));
    }
}

#[tonic::async_trait]
impl MutationService for FakeMaintnerd {
    type WatchMutationsStream = BoxStream<'static, Result<WatchMutationsResponse, Status>>;

    async fn watch_mutations(
        &self,
        request: Request<WatchMutationsRequest>,
    ) -> Result<Response<Self::WatchMutationsStream>, Status> {
        let start: usize = request.get_ref().resume_token.parse().unwrap_or(0);
        let next = |(mut log, position): (watch::Receiver<Vec<Mutation>>, usize)| async move {
            let mutations = log.wait_for(|log| log.len() > position).await.ok()?[position..].to_vec();
            let position = position + mutations.len();
            let event = Some(Event::Batch(MutationBatch { mutations }));
            Some((Ok(WatchMutationsResponse { event, resume_token: position.to_string() }), (log, position)))
        };
        Ok(Response::new(stream::unfold((self.log.subscribe(), start), next).boxed()))
    }

    async fn append_build_results(
        &self,
        _: Request<AppendBuildResultsRequest>,
    ) -> Result<Response<AppendBuildResultsResponse>, Status> {
        Err(Status::unimplemented("devapp appends nothing"))
    }

    async fn get_log_status(
        &self,
        _: Request<GetLogStatusRequest>,
    ) -> Result<Response<GetLogStatusResponse>, Status> {
        Err(Status::unimplemented("devapp does not ask"))
    }
}
