//! What a page may do to the farm. Only a form of this farm's own pages is heard: same origin, and the form's token.

use axum::{
    Form,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use subtle::ConstantTimeEq;
use types::BuildNumber;

use crate::{
    harden::host_of,
    respond::{self, Format},
    router::Shared,
    source::SourceError,
};

#[derive(Debug, Deserialize)]
pub(crate) struct CancelForm {
    #[serde(default)]
    token: String,
}

/// `POST /build/N/cancel`.
pub(crate) async fn cancel(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    Form(form): Form<CancelForm>,
) -> Response {
    if let Err(why) = check(&headers, &uri, &form.token, &shared.options.form_token) {
        let next = "Open the build's page on this farm, reload it, and use its button.";
        return respond::message(&shared.options, Format::Html, StatusCode::FORBIDDEN, "Not done", why, next);
    }
    let number: BuildNumber = match id.parse() {
        Ok(number) => number,
        Err(error) => {
            return respond::error(&shared.options, Format::Html, &SourceError::NotFound(format!("{error}")));
        }
    };
    match shared.source.cancel(number, "somebody at the build's page").await {
        Ok(()) => Redirect::to(&format!("/build/{number}")).into_response(),
        Err(error) => respond::error(&shared.options, Format::Html, &error),
    }
}

fn check(headers: &HeaderMap, uri: &Uri, token: &str, expected: &str) -> Result<(), &'static str> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return Err("the request comes from a page of another site");
    }
    if let Some(origin) = text(header::ORIGIN.as_str()) {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        let asked = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .or(uri.authority().map(axum::http::uri::Authority::as_str));
        if authority.is_none() || authority != asked || host_of(headers, uri).is_none() {
            return Err("the request comes from a page of another origin");
        }
    }
    if !bool::from(token.as_bytes().ct_eq(expected.as_bytes())) {
        return Err("the form is not of this farm, or from before its last start");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&'static str, &str)], token: &str) -> Result<(), &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        check(&map, &Uri::from_static("/build/1/cancel"), token, "secret")
    }

    #[test]
    fn only_a_form_of_the_same_origin_with_its_token_is_heard() {
        let host = ("host", "127.0.0.1:8080");
        let same = ("origin", "http://127.0.0.1:8080");
        assert!(checked(&[host, same, ("sec-fetch-site", "same-origin")], "secret").is_ok());
        assert!(checked(&[host, same], "secret").is_ok());
        assert!(checked(&[host, same], "guess").is_err());
        assert!(checked(&[host, same], "").is_err());
        assert!(checked(&[host, ("origin", "http://127.0.0.1:8081")], "secret").is_err());
        assert!(checked(&[host, ("origin", "null")], "secret").is_err());
        assert!(checked(&[host, same, ("sec-fetch-site", "cross-site")], "secret").is_err());
    }
}
