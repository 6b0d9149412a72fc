//! Serves invented data, to look at: `cargo run -p pages --example demo [PORT]`.
//!
//! `DEMO=large` shows 200 builders × 100 commits, `DEMO=empty` a farm that was just started.

use std::{sync::Arc, time::Duration};

use pages::{
    Options,
    testing::{self, FakeSource},
    view::{Cell, State},
};
use runtime::FakeClock;
use tokio_util::sync::CancellationToken;
use types::BuildNumber;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8090".to_owned());
    let demo = std::env::var("DEMO").unwrap_or_default();
    let source = if demo == "empty" { FakeSource::empty() } else { FakeSource::new() };
    match demo.as_str() {
        "large" => source.set_grid(testing::generated_grid(200, 100)),
        "medium" => source.set_grid(testing::generated_grid(30, 40)),
        "empty" => {}
        _ => testing::show_more(&source),
    }
    let options = Options::new("Farmer", FakeClock::new(testing::NOW).shared(), CancellationToken::new());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let router = pages::router(Arc::clone(&source) as Arc<dyn pages::Source>, options);
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served,
        () = keep_changing(&source, demo != "empty") => Ok(()),
    }
}

/// Lets a cell fill up and a log grow, as long as somebody looks.
async fn keep_changing(source: &FakeSource, has_grid: bool) {
    for step in 0_u64.. {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if has_grid {
            let done = step % 40 == 39;
            let cell = Cell {
                state: if done { State::Passed } else { State::Running },
                percent: (!done).then_some((step % 40 * 100 / 40) as u8),
                build: Some(BuildNumber(48_220)),
                title: String::new(),
            };
            source.set_cell(0, 0, cell);
            source.append_log(testing::RUNNING, format!("ok  \texample/package{step}\t0.1s\n").as_bytes());
        }
    }
}
