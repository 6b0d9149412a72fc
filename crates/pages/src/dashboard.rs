//! What Go's old dashboard and coordinator answered, for tools that were written for them: names and shapes are theirs, as
//! of 2023; what is said is this farm's.

pub(crate) mod farm;
pub(crate) mod status;
pub(crate) mod tries;

use axum::http::{HeaderMap, Uri, header, uri::Authority};

/// This farm, as whoever asks names it: links in these documents are whole addresses.
pub(crate) fn origin(headers: &HeaderMap, uri: &Uri) -> String {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).or_else(|| uri.authority().map(Authority::as_str));
    // A proxy in front of the farm says how it was asked.
    let forwarded = text(header::HeaderName::from_static("x-forwarded-proto"));
    let scheme = if forwarded == Some("https") { "https" } else { "http" };
    host.map(|host| format!("{scheme}://{host}")).unwrap_or_default()
}
