//! Why a machine is not enrolled.

use types::{HostType, MachineName};

/// Why a machine is not enrolled, or an operator's wish cannot be granted. Each text is for the person at the machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("this farm makes its certificates elsewhere: ask who looks after it for one")]
    NoAuthority,
    #[error("the request cannot be read, or is not signed by its own key")]
    BadRequest(#[source] rpc::TlsError),
    #[error("{0}")]
    BadName(String),
    #[error("a machine needs at least one host type")]
    NoHostType,
    #[error("there is no host `{0}` in farm.toml: {1}")]
    UnknownHostType(HostType, String),
    #[error("the token is not known here, or was revoked: ask for a new one (`farmer machine token`)")]
    UnknownToken,
    #[error("the token has expired: ask for a new one (`farmer machine token`)")]
    ExpiredToken,
    #[error("the token is used up: ask for a new one (`farmer machine token`)")]
    UsedToken,
    #[error("the token does not allow host type `{0}`: it allows {1}")]
    HostTypeNotAllowed(HostType, String),
    #[error(
        "another machine is enrolled as `{0}`: choose another name; if this is that machine made anew, have the old one shut out (`farmer machine revoke {0}`) and enrol with a new one-time token"
    )]
    NameTaken(MachineName),
    #[error(
        "machine `{0}` was shut out: ask who looks after the farm (`farmer machine approve {0}` lets it in)"
    )]
    Revoked(MachineName),
    #[error("too many machines wait to be let in: try again later, or use a token")]
    TooMany,
    #[error("machine `{0}` was never enrolled here")]
    UnknownMachine(MachineName),
    #[error("machine `{0}` asks for a certificate of another key than it has: enrol it again")]
    OtherKey(MachineName),
    #[error("there is no token `{0}`")]
    NoSuchToken(String),
    #[error("cannot sign the certificate")]
    Sign(#[source] rpc::TlsError),
    #[error("the database did not answer")]
    Read(#[from] store::ReadError),
    #[error("the database did not keep it")]
    Write(#[from] store::WriteError),
}
