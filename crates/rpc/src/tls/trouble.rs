//! What is wrong with a certificate, in words that say what to do: a failed handshake shows as a broken connection whose
//! cause lies somewhere below.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// Why one side of a connection does not accept the certificate of the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The server says that ours has ended, or has not begun.
    #[error("the certificate of this machine has expired: enrol it again with `buildlet enroll`")]
    OursExpired,
    /// The server says that ours was revoked.
    #[error(
        "the certificate of this machine was revoked: ask who looks after the farm, and enrol it again with `buildlet enroll`"
    )]
    OursRevoked,
    /// The server does not know who signed ours.
    #[error("the certificate of this machine is of another farm: enrol it here with `buildlet enroll`")]
    OursForeign,
    /// Theirs has not begun by our clock.
    #[error("the certificate of the server is not valid yet: the clock of this machine is behind; set it")]
    TheirsEarly,
    /// Theirs has ended by our clock.
    #[error(
        "the certificate of the server has expired: the clock of this machine is ahead, or the farm needs a new certificate"
    )]
    TheirsExpired,
    /// We do not know who signed theirs.
    #[error(
        "the server is of another farm: its certificate is not signed by the authority that this machine trusts"
    )]
    TheirsForeign,
}

/// What servers say of our certificate.
const ALERTS: [(AlertDescription, Trouble); 3] = [
    (AlertDescription::CertificateExpired, Trouble::OursExpired),
    (AlertDescription::CertificateRevoked, Trouble::OursRevoked),
    (AlertDescription::UnknownCA, Trouble::OursForeign),
];

impl Trouble {
    /// Finds it among the causes of an error.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<rustls::Error>() {
                return Self::from_rustls(found);
            }
            // An io::Error hides what it carries: its source is the source of that.
            let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause = match carried {
                Some(carried) => Some(carried),
                None => error.source(),
            };
            if cause.is_none() {
                return Self::from_text(&error.to_string());
            }
        }
        None
    }

    /// Of an error below HTTP/2, its connection keeps the text alone.
    fn from_text(text: &str) -> Option<Self> {
        let ends = |alert: AlertDescription| text.ends_with(&rustls::Error::AlertReceived(alert).to_string());
        ALERTS.into_iter().find(|(alert, _)| ends(*alert)).map(|(_, trouble)| trouble)
    }

    fn from_rustls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::AlertReceived(received) => {
                ALERTS.into_iter().find(|(alert, _)| alert == received).map(|(_, trouble)| trouble)
            }
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Some(Self::TheirsEarly)
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Some(Self::TheirsExpired)
                }
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Some(Self::TheirsForeign),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_found_however_deep_it_lies() {
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRevoked);
        let error = io::Error::other(io::Error::other(alert));
        assert_eq!(Trouble::of(&error), Some(Trouble::OursRevoked));
        let text = format!("connection error: {}", rustls::Error::AlertReceived(AlertDescription::UnknownCA));
        assert_eq!(Trouble::of(&io::Error::other(text)), Some(Trouble::OursForeign));
        assert_eq!(Trouble::of(&io::Error::other("nothing")), None);
        assert_eq!(Trouble::of(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
