//! The one style sheet, the one script and the icons. Their addresses contain a hash of their content, so a browser
//! keeps them for ever and a new farm never meets an old script.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// A file that pages refer to.
struct Asset {
    /// Its name without the hash.
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
    /// Its path with the hash.
    path: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    [
        ("farm.css", "text/css; charset=utf-8", include_str!("../static/farm.css")),
        ("farm.js", "text/javascript; charset=utf-8", include_str!("../static/farm.js")),
        ("green.svg", "image/svg+xml", include_str!("../static/green.svg")),
        ("red.svg", "image/svg+xml", include_str!("../static/red.svg")),
        ("busy.svg", "image/svg+xml", include_str!("../static/busy.svg")),
    ]
    .map(|(name, content_type, content)| {
        let (stem, extension) = name.split_once('.').expect("names above have an extension");
        let path = format!("/static/{stem}.{}.{extension}", &fingerprint(content.as_bytes())[..12]);
        Asset { name, content_type, content, path }
    })
    .into()
});

/// A short name for content; not a defence against anybody.
pub(crate) fn fingerprint(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Where the file of that name is.
pub(crate) fn path(name: &str) -> &'static str {
    ASSETS.iter().find(|asset| asset.name == name).map_or("/static/none", |asset| &asset.path)
}

/// Serves `/static/…`: for a server that shows its own pages in [`crate::shell()`].
pub fn router_assets() -> Router {
    Router::new().route("/static/{name}", get(serve))
}

async fn serve(Path(name): Path<String>) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.path.strip_prefix("/static/") == Some(name.as_str()))
    else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, asset.content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small() {
        let script = ASSETS.iter().find(|asset| asset.name == "farm.js").unwrap();
        assert!(script.content.len() < 10_240, "{} bytes", script.content.len());
    }
}
