//! `EnrolmentService`: machines ask for their certificates.

use api::coordinator::{
    self as wire, EnrollRequest, EnrollResponse, RenewRequest, RenewResponse,
    enrolment_service_server::EnrolmentService,
};
use rpc::Peer;
use tonic::{Code, Request, Response, Status};
use types::{HostType, MachineName};

use crate::enrol::{self, Book, EnrolError, Enrolled, Standing};

/// Answers machines.
#[derive(Clone)]
pub(crate) struct Enrolment {
    pub(crate) book: Book,
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        let EnrollRequest { csr_pem, name, host_types, token } = request.into_inner();
        let request = enrol::Request { csr_pem, name: machine_name(&name)?, host_types: hosts(&host_types)? };
        let standing = if token.trim().is_empty() {
            self.book.ask(request).await.map_err(failed)?
        } else {
            self.book.enrol(request, &token).await.map(Standing::Enrolled).map_err(failed)?
        };
        let certificate = match standing {
            Standing::Waits => None,
            Standing::Enrolled(enrolled) => Some(certificate(enrolled)),
        };
        Ok(Response::new(EnrollResponse { certificate }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let Some(Peer::Machine { name, .. }) = rpc::peer(&request).cloned() else {
            let message = "only a machine that shows its certificate can renew it";
            return Err(rpc::status(Code::Unauthenticated, "NO_CERTIFICATE", message));
        };
        let enrolled = self.book.renew(&name, &request.into_inner().csr_pem).await.map_err(failed)?;
        Ok(Response::new(RenewResponse { certificate: Some(certificate(enrolled)) }))
    }
}

pub(super) fn certificate(enrolled: Enrolled) -> wire::Certificate {
    wire::Certificate {
        certificate_pem: enrolled.certificate_pem,
        authority_pem: enrolled.authority_pem,
        lifetime: Some(rpc::duration(enrolled.lifetime)),
        host_types: enrolled.host_types.iter().map(ToString::to_string).collect(),
        now: Some(rpc::timestamp(enrolled.now)),
    }
}

pub(super) fn machine_name(text: &str) -> Result<MachineName, Status> {
    text.parse().map_err(|error: types::ParseNameError| failed(EnrolError::BadName(error.to_string())))
}

pub(super) fn hosts(texts: &[String]) -> Result<Vec<HostType>, Status> {
    let parse = |text: &String| {
        text.parse().map_err(|error: types::ParseNameError| failed(EnrolError::BadName(error.to_string())))
    };
    texts.iter().map(parse).collect()
}

/// An error of the book as a status.
pub(super) fn failed(error: EnrolError) -> Status {
    let (code, reason) = match &error {
        EnrolError::NoAuthority => (Code::FailedPrecondition, "NO_AUTHORITY"),
        EnrolError::BadRequest(_) | EnrolError::BadName(_) | EnrolError::NoHostType => {
            (Code::InvalidArgument, "BAD_REQUEST")
        }
        EnrolError::UnknownHostType(..) => (Code::NotFound, "UNKNOWN_HOST_TYPE"),
        EnrolError::UnknownToken | EnrolError::ExpiredToken | EnrolError::UsedToken => {
            (Code::Unauthenticated, "BAD_TOKEN")
        }
        EnrolError::HostTypeNotAllowed(..) => (Code::PermissionDenied, "HOST_TYPE_NOT_ALLOWED"),
        EnrolError::NameTaken(_) => (Code::AlreadyExists, "NAME_TAKEN"),
        EnrolError::Revoked(_) => (Code::PermissionDenied, "REVOKED"),
        EnrolError::TooMany => (Code::ResourceExhausted, "TOO_MANY_REQUESTS"),
        EnrolError::UnknownMachine(_) => (Code::NotFound, "UNKNOWN_MACHINE"),
        EnrolError::OtherKey(_) => (Code::PermissionDenied, "OTHER_KEY"),
        EnrolError::NoSuchToken(_) => (Code::NotFound, "UNKNOWN_TOKEN"),
        EnrolError::Sign(_) => return rpc::internal("SIGN_FAILED", &error),
        EnrolError::Read(_) | EnrolError::Write(_) => return rpc::internal("STORE_FAILED", &error),
    };
    rpc::status(code, reason, error)
}
