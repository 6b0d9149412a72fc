//! A served farm.

use std::{net::SocketAddr, sync::Arc};

use pages::{
    Options,
    testing::{self, FakeSource},
};
use runtime::FakeClock;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct Served {
    pub(crate) source: Arc<FakeSource>,
    pub(crate) addr: SocketAddr,
    pub(crate) token: String,
    pub(crate) client: reqwest::Client,
    /// Ends the server with the test.
    _stop: DropGuard,
}

impl Served {
    pub(crate) async fn start(source: Arc<FakeSource>) -> Self {
        runtime::install_crypto();
        let stop = CancellationToken::new();
        let clock = FakeClock::new(testing::NOW).shared();
        let options = Options::new("Test farm", clock, stop.clone());
        let token = options.form_token.clone();
        let router = pages::router(source.clone(), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind loopback");
        let addr = listener.local_addr().expect("bound");
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        runtime::Tasks::new(stop.clone()).service("pages", async move { Ok(served.await?) });
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("make a client");
        Self { source, addr, token, client, _stop: stop.drop_guard() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.expect("the server answers")
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.expect("text")
    }
}

/// A served page of nothing but a table of links.
pub(crate) struct Plain {
    pub(crate) url: String,
    _stop: DropGuard,
}

/// Serves a table with a link in each cell, as anybody would write it: what the work of a large page is compared with.
pub(crate) async fn serve_plain_table(columns: usize, rows: usize) -> Plain {
    let row = format!("<tr>{}</tr>", "<td><a href=/>passed</a></td>".repeat(columns));
    let page = format!("<!doctype html><title>Plain</title><table>{}</table>", row.repeat(rows));
    let router = axum::Router::new().route("/", axum::routing::get(async move || axum::response::Html(page)));
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind loopback");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    runtime::Tasks::new(stop.clone()).service("plain table", async move { Ok(served.await?) });
    Plain { url, _stop: stop.drop_guard() }
}

/// The words of a document, as somebody without style sheets and scripts reads them.
pub(crate) fn words(html: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for char in html.chars() {
        match char {
            '<' => inside = true,
            '>' => {
                inside = false;
                out.push(' ');
            }
            _ if !inside => out.push(char),
            _ => {}
        }
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every page there is, by what it is.
pub(crate) const PAGES: &[&str] = &[
    "/",
    "/?q=linux%20-race",
    "/build/48213",
    "/build/48218",
    "/build/48220",
    "/log/48213?attempt=1&line=4809",
    "/log/48213?find=deadline",
    "/log/48220",
    "/farm",
    "/builders",
    "/machine/linux-amd64-1",
    "/builder/linux-s390x",
    "/change/4711",
    "/test/net/http",
    "/nowhere",
];
