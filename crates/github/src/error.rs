//! What GitHub says instead of an answer, told apart by what the caller does about it.

use std::time::Duration;

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too much was asked, now or before; nothing was done.
    #[error("GitHub asks to wait {} s", after.as_secs().max(1))]
    Limited {
        /// How long to wait.
        after: Duration,
    },
    /// GitHub does not know us. Nothing was done; somebody must give us another token.
    #[error("GitHub does not accept the token: {0}")]
    Unauthorized(String),
    /// The file of the token cannot be read. Nothing was asked.
    #[error("cannot read the token in `{path}`: {reason}")]
    Token {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// It is not there, not any more, or not for us.
    #[error("GitHub answers {status}: {message}")]
    Gone {
        /// 404, 410 or 451.
        status: u16,
        /// What GitHub says.
        message: String,
    },
    /// It is elsewhere now.
    #[error("GitHub says that it has moved to `{to}`")]
    Moved {
        /// Where.
        to: String,
    },
    /// GitHub will not do it, now or later.
    #[error("GitHub refuses with {status}: {message}")]
    Refused {
        /// The status, which is 400 or above.
        status: u16,
        /// What GitHub says.
        message: String,
    },
    /// GitHub cannot be reached, or failed. What was asked may have been done.
    #[error("GitHub failed: {0}")]
    Failed(String),
}

impl Error {
    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Limited { .. } | Self::Unauthorized(_) | Self::Token { .. } | Self::Failed(_))
    }

    /// Whether what was asked for is not there.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// What an answer with this status is, if it is no success. `limited` is how long to wait, if GitHub said so.
pub(crate) fn classify(status: u16, limited: Option<Duration>, to: Option<&str>, message: String) -> Error {
    match (status, limited) {
        (403 | 429, Some(after)) => Error::Limited { after },
        (401, _) => Error::Unauthorized(message),
        (404 | 410 | 451, _) => Error::Gone { status, message },
        (301 | 302 | 303 | 307 | 308, _) if to.is_some() => {
            Error::Moved { to: to.unwrap_or_default().to_owned() }
        }
        (400..=499, _) if status != 408 => Error::Refused { status, message },
        _ => Error::Failed(format!("{status}: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_told_apart() {
        let after = Duration::from_secs(7);
        let check = |status, limited| classify(status, limited, None, "x".into());
        for limited in [403, 429] {
            assert_eq!(check(limited, Some(after)), Error::Limited { after });
        }
        assert!(matches!(check(403, None), Error::Refused { status: 403, .. }));
        assert!(matches!(check(401, None), Error::Unauthorized(_)));
        for gone in [404, 410, 451] {
            assert!(check(gone, None).is_gone(), "{gone}");
        }
        assert!(matches!(check(422, None), Error::Refused { .. }));
        for failed in [408, 500, 502, 503, 304, 301] {
            assert!(matches!(check(failed, None), Error::Failed(_)), "{failed}");
        }
        assert_eq!(classify(301, None, Some("/b"), String::new()), Error::Moved { to: "/b".into() });
    }
}
