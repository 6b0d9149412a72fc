//! Answers: documents and JSON with conditional requests, and errors as pages that say what to do next.

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    assets::fingerprint,
    html::Markup,
    options::Options,
    shell::{Page, render, shell},
    show,
    source::SourceError,
};

/// A document, or 304 if the browser has it already.
pub(crate) fn html(request: &HeaderMap, options: &Options, page: &Page) -> Response {
    conditional(request, "text/html; charset=utf-8", shell(options, page))
}

/// JSON, or 304.
pub(crate) fn json(request: &HeaderMap, view: &impl Serialize) -> Response {
    match serde_json::to_string(view) {
        Ok(text) => conditional(request, "application/json", text),
        Err(error) => {
            tracing::error!(error = %error, "a view could not be written as JSON: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the view could not be written as JSON\n").into_response()
        }
    }
}

fn conditional(request: &HeaderMap, content_type: &'static str, content: String) -> Response {
    // Weak: the same content may be sent compressed or not.
    let tag = format!("W/\"{}\"", fingerprint(content.as_bytes()));
    let known = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim() == tag));
    let tag = HeaderValue::from_str(&tag).expect("a fingerprint is hexadecimal");
    let headers = [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, content_type)], content).into_response()
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    title: &'a str,
    text: &'a str,
    next_step: &'a str,
}

/// What an address asked for: decides how an error is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Html,
    Json,
    Text,
}

/// An error, in the format that was asked for.
pub(crate) fn error(options: &Options, format: Format, error: &SourceError) -> Response {
    let (status, title, next_step) = match error {
        SourceError::NotFound(_) => {
            (StatusCode::NOT_FOUND, "Not here", "Look at the newest commits, or at what the farm does now.")
        }
        SourceError::Invalid(_) => (StatusCode::BAD_REQUEST, "This cannot be asked", "Correct the address."),
        SourceError::Refused(_) => {
            (StatusCode::CONFLICT, "Not done", "Go back, reload the page, and look again.")
        }
        SourceError::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Not now",
            "The farm will answer again: reload in a few seconds.",
        ),
    };
    message(options, format, status, title, &error.to_string(), next_step)
}

/// Anything else that is not a page, for example a refused form.
pub(crate) fn message(
    options: &Options,
    format: Format,
    status: StatusCode,
    title: &str,
    text: &str,
    next_step: &str,
) -> Response {
    match format {
        Format::Html => {
            let body = Markup(render(&Message { title, text, next_step }));
            let document = shell(options, &Page::new(title, "", body));
            (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], document).into_response()
        }
        Format::Json => (status, axum::Json(serde_json::json!({ "error": text }))).into_response(),
        Format::Text => (status, format!("{text}\n")).into_response(),
    }
}
