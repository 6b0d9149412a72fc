//! What readers of the stream get.

use tonic::Code;

use crate::world::World;

const PUSH: &[u8] = include_bytes!("fixtures/push.json");

async fn deliver(world: &World, deliveries: impl IntoIterator<Item = &str>) {
    for delivery in deliveries {
        assert_eq!(world.deliver("push", delivery, PUSH).await, 200);
    }
}

#[tokio::test]
async fn after_a_cut_a_reader_goes_on_where_it_was() {
    let world = World::new().await;
    let mut reader = world.reader().await;
    deliver(&world, ["d1", "d2"]).await;
    assert_eq!(reader.event().await.delivery_id, "d1");
    let token = reader.token.clone();
    drop(reader);
    deliver(&world, ["d3"]).await;
    let mut again = world.watch(&token).await.unwrap();
    assert_eq!(again.next().await.unwrap().delivery_id, "d2");
    assert_eq!(again.next().await.unwrap().delivery_id, "d3");
    assert!(again.next().await.is_none(), "and then a checkpoint");
    let mut from_checkpoint = world.watch(&again.token).await.unwrap();
    assert!(from_checkpoint.next().await.is_none());
    deliver(&world, ["d4"]).await;
    assert_eq!(from_checkpoint.event().await.delivery_id, "d4");
    assert_eq!(again.event().await.delivery_id, "d4", "every reader gets every event");
    world.stop().await;
}

#[tokio::test]
async fn a_reader_without_a_token_gets_new_events_only() {
    let world = World::new().await;
    deliver(&world, ["d1"]).await;
    let mut reader = world.reader().await;
    deliver(&world, ["d2"]).await;
    assert_eq!(reader.event().await.delivery_id, "d2");
    world.stop().await;
}

#[tokio::test]
async fn checkpoints_come_while_nothing_else_does() {
    let world = World::new().await;
    let mut reader = world.reader().await;
    for _ in 0..3 {
        assert!(reader.next().await.is_none());
    }
    world.stop().await;
}

#[tokio::test]
async fn tokens_of_an_earlier_run_are_expired_and_nonsense_is_refused() {
    let earlier = World::new().await;
    let token = earlier.reader().await.token.clone();
    earlier.stop().await;
    let world = World::new().await;
    let check = async |token: &str| {
        let status = world.watch(token).await.err().unwrap();
        (status.code(), rpc::reason(&status).unwrap_or_default())
    };
    assert_eq!(check(&token).await, (Code::OutOfRange, "RESUME_TOKEN_EXPIRED".into()));
    for nonsense in ["x", "1", "1.x", "-1.1"] {
        assert_eq!(check(nonsense).await, (Code::InvalidArgument, "BAD_RESUME_TOKEN".into()), "{nonsense}");
    }
    world.stop().await;
}
