//! Who may ask a listener for what: the host that a request names, and the token that a gRPC call carries.

use std::sync::Arc;

use http::{
    HeaderMap, Request,
    header::{AUTHORIZATION, HOST},
};
use subtle::ConstantTimeEq as _;

use super::text;
use crate::channel::is_loopback;

/// Looks at the headers of a gRPC call and says whether it may pass.
pub type GrpcAuth = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// Lets calls pass that carry `authorization: Bearer TOKEN`. How long the comparison takes says nothing about the token.
pub fn bearer(token: &str) -> GrpcAuth {
    let expected = format!("Bearer {token}");
    Arc::new(move |headers| {
        text(headers, &AUTHORIZATION).is_some_and(|sent| sent.as_bytes().ct_eq(expected.as_bytes()).into())
    })
}

/// The checks of one listener.
#[derive(Default)]
pub(super) struct Guard {
    pub(super) auth: Option<GrpcAuth>,
    /// Names besides this machine's that a request may have as its host; none if any host will do.
    pub(super) hosts: Option<Vec<String>>,
    /// How the paths begin that a client without certificate may ask for; none if it need not show one.
    pub(super) guests: Option<&'static [&'static str]>,
}

impl Guard {
    /// Whether the request means this server: not one that a foreign page's name was bent to.
    pub(super) fn host_is_ours<B>(&self, request: &Request<B>) -> bool {
        let Some(allowed) = &self.hosts else { return true };
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        let Some(authority) = authority.or_else(|| text(request.headers(), &HOST)) else { return false };
        let Ok(authority) = authority.parse::<http::uri::Authority>() else { return false };
        let host = authority.host();
        is_loopback(host) || allowed.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Whether somebody who shows no certificate may ask for this.
    pub(super) fn is_for_guests(&self, path: &str) -> bool {
        self.guests.is_none_or(|paths| paths.iter().any(|begin| path.starts_with(begin)))
    }

    /// Whether the call shows what it must. Health checks need nothing: probes hold no secrets.
    pub(super) fn call_is_known(&self, path: &str, headers: &HeaderMap) -> bool {
        let Some(auth) = &self.auth else { return true };
        path.starts_with("/grpc.health.v1.Health/") || auth(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, expected: bool) {
        let guard = Guard { auth: None, hosts: Some(vec!["farm.test".to_owned()]), guests: None };
        let mut request = Request::builder().uri("/");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        assert_eq!(guard.host_is_ours(&request.body(()).unwrap()), expected, "{host:?}");
    }

    #[test]
    fn only_hosts_of_this_machine_pass() {
        for ours in ["127.0.0.1", "127.0.0.1:8080", "[::1]:80", "localhost", "LocalHost:1", "Farm.test:443"] {
            check(Some(ours), true);
        }
        for foreign in [
            "evil.test",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "10.0.0.1",
            "",
            "a b",
            "x@localhost@y",
        ] {
            check(Some(foreign), false);
        }
        check(None, false);
    }

    #[test]
    fn guests_get_what_is_theirs_and_nothing_else() {
        let guard = Guard { guests: Some(&["/a.Open/", "/reverse"]), ..Guard::default() };
        assert!(guard.is_for_guests("/a.Open/Call") && guard.is_for_guests("/reverse"));
        assert!(
            !guard.is_for_guests("/a.Closed/Call") && !guard.is_for_guests("/") && !guard.is_for_guests("")
        );
        assert!(Guard::default().is_for_guests("/anything"));
    }

    #[test]
    fn a_token_must_be_the_whole_token() {
        let auth = bearer("abc");
        let passes = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            auth(&headers)
        };
        assert!(passes("Bearer abc"));
        for wrong in ["Bearer ab", "Bearer abcd", "Bearer abC", "bearer abc", "abc", ""] {
            assert!(!passes(wrong), "{wrong}");
        }
        assert!(!auth(&HeaderMap::new()));
    }
}
