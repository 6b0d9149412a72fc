//! Telemetry over a real socket. One test: a process starts telemetry once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use axum::{Router, http::Uri, routing::post};
use runtime::telemetry;

/// Listens as a collector does, and keeps which methods were called.
async fn collector() -> (String, Arc<Mutex<BTreeSet<String>>>) {
    let called = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = called.clone();
    let keep = move |uri: Uri| {
        seen.lock().unwrap().insert(uri.path().to_owned());
        std::future::ready(())
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(post(keep));
    let mut server = tokio::task::JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await });
    server.detach_all();
    (url, called)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_configured_gets_traces_and_metrics() {
    let (url, called) = collector().await;
    let config = telemetry::Config { otlp: Some(url), ..telemetry::Config::default() };
    let guard = telemetry::init("test", &config).unwrap();
    telemetry::meter().u64_counter("things").build().add(1, &[]);
    tracing::info_span!("work").in_scope(|| tracing::info!("working"));
    // Dropping flushes, and blocks until that is done.
    tokio::task::spawn_blocking(move || drop(guard)).await.unwrap();
    let called = called.lock().unwrap().clone();
    for service in ["trace.v1.TraceService", "metrics.v1.MetricsService"] {
        let method = format!("/opentelemetry.proto.collector.{service}/Export");
        assert!(called.contains(&method), "{method} is not in {called:?}");
    }
    assert!(telemetry::prometheus_text().contains("things_total"), "pushed metrics are not in the text");
}
