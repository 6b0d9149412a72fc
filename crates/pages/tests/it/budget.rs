//! How large pages may be, and how long they may take. Times are of an optimised build and checked only in one.

use std::{io::Read as _, time::Duration};

use flate2::read::GzDecoder;
use http::header;
use pages::testing::{self, FakeSource};
use tokio::time::Instant;

use crate::support::Served;

async fn large() -> Served {
    let source = FakeSource::new();
    source.set_grid(testing::generated_grid(200, 100));
    Served::start(source).await
}

async fn compressed(farm: &Served, path: &str) -> Vec<u8> {
    let request = farm.client.get(farm.url(path)).header(header::ACCEPT_ENCODING, "gzip");
    let answer = request.send().await.expect("the server answers");
    assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip", "{path}");
    answer.bytes().await.expect("a body").to_vec()
}

#[tokio::test]
async fn two_hundred_builders_times_a_hundred_commits_are_small() {
    let farm = large().await;
    let sent = compressed(&farm, "/?limit=100").await;
    let mut html = String::new();
    GzDecoder::new(&sent[..]).read_to_string(&mut html).unwrap();
    let elements = html.matches('<').count() - html.matches("</").count();
    assert!(html.matches(" href=/build/").count() > 15_000, "the grid is there");
    assert!(sent.len() < 150_000, "{} bytes compressed", sent.len());
    assert!(elements <= 25_000, "{elements} elements");
}

#[tokio::test]
async fn two_hundred_builders_times_a_hundred_commits_are_quick() {
    let farm = large().await;
    compressed(&farm, "/?limit=100").await;
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let begin = Instant::now();
        compressed(&farm, "/?limit=100").await;
        best = best.min(begin.elapsed());
    }
    eprintln!("200 × 100: {best:?} until it is read, compressed");
    if !cfg!(debug_assertions) {
        assert!(best < Duration::from_millis(20), "{best:?}");
    }
}

#[tokio::test]
async fn a_build_is_small() {
    let farm = Served::start(FakeSource::new()).await;
    let html = farm.text("/build/48213").await;
    assert!(html.len() < 30_000, "{} bytes", html.len());
}

#[tokio::test]
async fn pages_of_one_thing_are_small() {
    let farm = Served::start(FakeSource::new()).await;
    for path in ["/machine/linux-amd64-1", "/builder/linux-s390x", "/test/net/http"] {
        let html = farm.text(path).await;
        eprintln!("{path}: {} bytes", html.len());
        assert!(html.len() < 40_000, "{path}: {} bytes", html.len());
    }
}

#[tokio::test]
async fn a_log_of_a_million_lines_opens_as_fast_as_any() {
    let source = FakeSource::new();
    let text = testing::numbered_lines(1_000_000);
    source.set_log(testing::failed_build().number, text.into_bytes(), true);
    let farm = Served::start(source).await;
    let html = farm.text("/log/48213?line=500000").await;
    assert!(html.contains("<span id=L500000 class=hit>"));
    assert!(html.len() < 300_000, "{} bytes", html.len());
}
