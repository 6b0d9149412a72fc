//! Watches over streams that break.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use api::gitmirror::{ListCommitsRequest, ListCommitsResponse};
use rpc::watch::{self, WatchError};
use tokio_util::sync::CancellationToken;

use crate::{
    farm::{Client, Farm, within},
    mirror::COMMITS,
};

/// Watches commits from a position until `last` was handled; gives what was seen and how often a stream was opened.
async fn seen(
    client: Client,
    from: u32,
    last: u32,
) -> (Result<(), WatchError<std::fmt::Error>>, Vec<u32>, u32) {
    let cancel = CancellationToken::new();
    let positions = RefCell::new(Vec::new());
    let opened = Arc::new(AtomicU32::new(0));
    let open = |limit: u32| {
        let mut client = client.clone();
        opened.fetch_add(1, Ordering::Relaxed);
        let request = ListCommitsRequest { limit, ..ListCommitsRequest::default() };
        async move { client.list_commits(request).await.map(tonic::Response::into_inner) }
    };
    let handle = |message: ListCommitsResponse| {
        let position: u32 = message.commits[0].sha1.parse().unwrap();
        positions.borrow_mut().push(position);
        if position == last {
            cancel.cancel();
        }
        std::future::ready(Ok(Some(position)))
    };
    let ended =
        within(20, "the last commit", watch::run("commits", from, open, handle, cancel.clone())).await;
    (ended, positions.into_inner(), opened.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let (ended, positions, opened) = seen(farm.client(addr), 0, 4 * COMMITS).await;
    ended.unwrap();
    assert_eq!(positions, (1..=4 * COMMITS).collect::<Vec<_>>());
    assert_eq!(opened, 4);
    farm.finish().await;
}

#[tokio::test]
async fn history_that_is_gone_ends_the_watch() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let (ended, positions, opened) = seen(farm.client(addr), 1000, 1001).await;
    assert!(matches!(ended, Err(WatchError::Expired(_))), "{ended:?}");
    assert_eq!((positions, opened), (vec![], 1));
    farm.finish().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_handled_ends_the_watch() {
    let farm = Farm::new();
    let addr = farm.serve().await;
    let client = farm.client(addr);
    let open = |(): ()| {
        let mut client = client.clone();
        async move { client.list_commits(ListCommitsRequest::default()).await.map(tonic::Response::into_inner) }
    };
    let handle = |_| std::future::ready(Err::<Option<()>, _>(std::fmt::Error));
    let ended = watch::run("commits", (), open, handle, CancellationToken::new()).await;
    assert!(matches!(ended, Err(WatchError::Handler(_))), "{ended:?}");
    farm.finish().await;
}
