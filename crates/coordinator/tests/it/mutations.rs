//! The mutation log at the public port.

use api::maintner::{
    AppendBuildResultsRequest, GetLogStatusRequest, WatchMutationsRequest,
    mutation_service_client::MutationServiceClient, watch_mutations_response::Event,
};
use tonic::Code;

use crate::{builds::PLAIN, farm::TestFarm};

#[tokio::test]
async fn a_bot_reads_the_log_with_the_token_and_appends_nothing() {
    let farm = TestFarm::start().await;
    let commit = farm.project.push('a', None, PLAIN);
    let mut client = MutationServiceClient::new(farm.channel());
    let mut stream = client.watch_mutations(WatchMutationsRequest::default()).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    let Some(Event::Batch(batch)) = first.event else { panic!("no mutations, but {first:?}") };
    let read = batch.mutations[0].git.as_ref().and_then(|git| git.commit.as_ref()).unwrap();
    assert_eq!(read.sha1, commit);
    client.get_log_status(GetLogStatusRequest {}).await.unwrap();
    let refused = client.append_build_results(AppendBuildResultsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let url = format!("http://{}", farm.public());
    let mut stranger = MutationServiceClient::new(rpc::connect(&url, None).unwrap());
    let refused = stranger.watch_mutations(WatchMutationsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    drop(stream);
    farm.finish().await;
}
