//! Which address is which page.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
    routing::{get, post},
};
use tokio::sync::Semaphore;

use crate::{
    action, assets, build, builder, builders, change, dashboard, events, farm,
    grid::{self, rows::RowCache},
    harden, log, machine,
    options::Options,
    respond::{self, Format},
    source::Source,
    test_page,
};

/// What all pages share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub source: Arc<dyn Source>,
    pub options: Arc<Options>,
    pub rows: Arc<RowCache>,
    pub streams: Arc<Semaphore>,
}

/// All pages of a farm, with their JSON, their logs as text, their events and what they look like.
///
/// Merge further routers into it before serving; give those [`crate::harden()`] and this one's [`crate::shell()`].
pub fn router(source: Arc<dyn Source>, options: Options) -> Router {
    let shared = Shared {
        source,
        rows: Arc::default(),
        streams: Arc::new(Semaphore::new(events::MAX_STREAMS)),
        options: Arc::new(options),
    };
    let pages = Router::new()
        .route("/", get(grid::page))
        .route("/grid.json", get(grid::json))
        .route("/.json", get(grid::json_redirect))
        .route("/build/{id}", get(build::page))
        .route("/build/{id}/cancel", post(action::cancel))
        .route("/log/{id}", get(log::page))
        .route("/machine/{name}", get(machine::page))
        .route("/builder/{name}", get(builder::page))
        .route("/test/{*name}", get(test_page::page))
        .route("/test.json", get(test_page::json))
        .route("/change/{id}", get(change::page))
        .route("/farm", get(farm::page))
        .route("/farm.json", get(farm::json))
        .route("/builders", get(builders::page))
        .route("/builders.json", get(builders::json))
        .route("/events", get(events::stream))
        .route("/status/reverse.json", get(dashboard::farm::reverse))
        .route("/status/post-submit-active.json", get(dashboard::farm::active))
        .route("/try", get(dashboard::tries::page))
        .route("/try.json", get(dashboard::tries::json).options(dashboard::tries::preflight))
        .fallback(not_found)
        .with_state(shared.clone())
        .merge(assets::router_assets());
    harden::harden(pages, &shared.options)
}

async fn not_found(State(shared): State<Shared>, uri: Uri) -> Response {
    let text = format!("this farm has no page `{}`", uri.path());
    let next = "The navigation above has all there is.";
    respond::message(&shared.options, Format::Html, StatusCode::NOT_FOUND, "Not here", &text, next)
}
