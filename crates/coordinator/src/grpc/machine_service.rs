//! `MachineService`: operators decide about machines.

use std::time::Duration;

use api::coordinator::{
    self as wire, ApproveIdentityRequest, ApproveIdentityResponse, CreateTokenRequest, CreateTokenResponse,
    LiftQuarantineRequest, LiftQuarantineResponse, ListIdentitiesRequest, ListIdentitiesResponse,
    ListReleasesRequest, ListReleasesResponse, PublishBuildletRequest, PublishBuildletResponse,
    QuarantineMachineRequest, QuarantineMachineResponse, RequestIdentityRequest, RequestIdentityResponse,
    RevokeIdentityRequest, RevokeIdentityResponse, RevokeTokenRequest, RevokeTokenResponse,
    machine_service_server::MachineService, publish_buildlet_request::Part,
};
use tonic::{Code, Request, Response, Status, Streaming};
use types::{HostType, MachineName};

use super::{
    enrolment_service::{certificate, failed, hosts, machine_name},
    stopping,
};
use crate::{
    core::Event,
    enrol::{self, Book, EnrolError, IdentityRow, TokenRow},
    releases::{PublishError, Release, Releases, Wanted},
    settings::Settings,
    shell::Handle,
};

/// How many releases are listed.
const RELEASES: usize = 100;

/// Answers operators.
#[derive(Clone)]
pub(crate) struct Operators {
    pub(crate) book: Book,
    pub(crate) releases: Releases,
    pub(crate) settings: Settings,
    pub(crate) handle: Handle,
}

impl Operators {
    /// Tells the core something about a machine that it has heard of.
    async fn tell(&self, name: &str, event: impl FnOnce(MachineName) -> Event) -> Result<(), Status> {
        let name = machine_name(name)?;
        let asked = name.clone();
        let known = self.handle.ask(move |state| state.machine(&asked).is_some()).await.map_err(stopping)?;
        if !known {
            let text = format!("the farm has heard of no machine `{name}`");
            return Err(rpc::status(Code::NotFound, "UNKNOWN_MACHINE", text));
        }
        self.handle.tell(event(name)).await.map_err(stopping)?;
        // The answer comes after the step, which writes before it acts.
        self.handle.ask(|_| ()).await.map_err(stopping)
    }

    /// Host types that the farm has; a slip of the pen would make a machine that nothing is built on.
    fn known_hosts(&self, texts: &[String]) -> Result<Vec<HostType>, Status> {
        let wanted = hosts(texts)?;
        let farm = self.settings.farm();
        match wanted.iter().find(|host| farm.host(host).is_none()) {
            None => Ok(wanted),
            Some(unknown) => {
                let known: Vec<_> = farm.hosts.iter().map(|host| format!("`{}`", host.name)).collect();
                let known = format!("there are {}", known.join(", "));
                Err(failed(EnrolError::UnknownHostType(unknown.clone(), known)))
            }
        }
    }
}

#[tonic::async_trait]
impl MachineService for Operators {
    async fn list_identities(
        &self,
        _: Request<ListIdentitiesRequest>,
    ) -> Result<Response<ListIdentitiesResponse>, Status> {
        let identities = self.book.identities().await.map_err(failed)?;
        let tokens = self.book.tokens().await.map_err(failed)?;
        Ok(Response::new(ListIdentitiesResponse {
            identities: identities.into_iter().map(identity).collect(),
            tokens: tokens.into_iter().map(token).collect(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let CreateTokenRequest { host_types, uses, lifetime } = request.into_inner();
        let host_types = self.known_hosts(&host_types)?;
        let lifetime: Option<Duration> = lifetime.as_ref().map(rpc::from_duration);
        let uses = (uses > 0).then_some(uses);
        let (row, secret) = self.book.create_token(host_types, uses, lifetime).await.map_err(failed)?;
        let authority_pem = self.book.authority().map_err(failed)?.certificate_pem().to_owned();
        Ok(Response::new(CreateTokenResponse { token: Some(token(row)), secret, authority_pem }))
    }

    async fn request_identity(
        &self,
        request: Request<RequestIdentityRequest>,
    ) -> Result<Response<RequestIdentityResponse>, Status> {
        let RequestIdentityRequest { csr_pem, name, host_types } = request.into_inner();
        let host_types = self.known_hosts(&host_types)?;
        let name = match name.as_str() {
            "" => rpc::KeyRequest::proposed_name(&csr_pem).ok_or_else(|| {
                failed(EnrolError::BadName("the request proposes no name: say one".to_owned()))
            })?,
            name => machine_name(name)?,
        };
        self.book.ask(enrol::Request { csr_pem, name: name.clone(), host_types }).await.map_err(failed)?;
        let row = self.book.identity(&name).await.map_err(failed)?;
        Ok(Response::new(RequestIdentityResponse { identity: Some(identity(row)) }))
    }

    async fn approve_identity(
        &self,
        request: Request<ApproveIdentityRequest>,
    ) -> Result<Response<ApproveIdentityResponse>, Status> {
        let ApproveIdentityRequest { name, host_types } = request.into_inner();
        let host_types = self.known_hosts(&host_types)?;
        let enrolled = self.book.approve(&machine_name(&name)?, host_types).await.map_err(failed)?;
        Ok(Response::new(ApproveIdentityResponse { certificate: Some(certificate(enrolled)) }))
    }

    async fn revoke_identity(
        &self,
        request: Request<RevokeIdentityRequest>,
    ) -> Result<Response<RevokeIdentityResponse>, Status> {
        let RevokeIdentityRequest { name, reason } = request.into_inner();
        self.book.revoke(&machine_name(&name)?, &reason).await.map_err(failed)?;
        Ok(Response::new(RevokeIdentityResponse {}))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        self.book.revoke_token(&request.into_inner().id).await.map_err(failed)?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn publish_buildlet(
        &self,
        request: Request<Streaming<PublishBuildletRequest>>,
    ) -> Result<Response<PublishBuildletResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(PublishBuildletRequest { part: Some(Part::Header(header)) }) = parts.message().await? else {
            return Err(rpc::status(Code::InvalidArgument, "BAD_BINARY", "the header comes first"));
        };
        let wanted = Wanted {
            platform: header.platform,
            channel: header.channel,
            version: header.version,
            digest: header.digest,
            share: header.percent,
        };
        let mut upload = None;
        while let Some(PublishBuildletRequest { part }) = parts.message().await? {
            let Some(Part::Chunk(chunk)) = part else { continue };
            if upload.is_none() {
                upload = Some(self.releases.upload(&wanted).await.map_err(unpublished)?);
            }
            if let Some(upload) = &mut upload {
                upload.write(chunk).await.map_err(unpublished)?;
            }
        }
        let published = self.releases.publish(wanted, upload).await.map_err(unpublished)?;
        Ok(Response::new(PublishBuildletResponse { release: Some(release(published)) }))
    }

    async fn list_releases(
        &self,
        _: Request<ListReleasesRequest>,
    ) -> Result<Response<ListReleasesResponse>, Status> {
        let releases = self.releases.list(RELEASES).await.map_err(|error| super::unread(&error))?;
        Ok(Response::new(ListReleasesResponse { releases: releases.into_iter().map(release).collect() }))
    }

    async fn quarantine_machine(
        &self,
        request: Request<QuarantineMachineRequest>,
    ) -> Result<Response<QuarantineMachineResponse>, Status> {
        let QuarantineMachineRequest { name, reason } = request.into_inner();
        let reason = if reason.is_empty() { "an operator says so".to_owned() } else { reason };
        self.tell(&name, |machine| Event::Quarantine { machine, reason }).await?;
        Ok(Response::new(QuarantineMachineResponse {}))
    }

    async fn lift_quarantine(
        &self,
        request: Request<LiftQuarantineRequest>,
    ) -> Result<Response<LiftQuarantineResponse>, Status> {
        self.tell(&request.into_inner().name, Event::Lift).await?;
        Ok(Response::new(LiftQuarantineResponse {}))
    }
}

fn identity(row: IdentityRow) -> wire::Identity {
    wire::Identity {
        name: row.name.to_string(),
        host_types: row.host_types.iter().map(ToString::to_string).collect(),
        state: row.state.as_str().to_owned(),
        key_digest: row.key_digest,
        expires: row.expires.map(rpc::timestamp),
        requested: Some(rpc::timestamp(row.requested)),
        changed: Some(rpc::timestamp(row.changed)),
        note: row.note,
    }
}

fn token(row: TokenRow) -> wire::Token {
    wire::Token {
        id: row.id,
        host_types: row.host_types.iter().map(ToString::to_string).collect(),
        uses_left: row.uses_left.unwrap_or(0),
        expires: row.expires.map(rpc::timestamp),
        created: Some(rpc::timestamp(row.created)),
    }
}

fn release(release: Release) -> wire::Release {
    wire::Release {
        number: release.number,
        platform: release.platform,
        channel: release.channel,
        version: release.version,
        digest: release.digest,
        size: release.bytes,
        percent: release.share,
        published: Some(rpc::timestamp(release.published)),
    }
}

fn unpublished(error: PublishError) -> Status {
    match error {
        PublishError::Authority(error) => failed(error),
        PublishError::BadRequest(_) => rpc::status(Code::InvalidArgument, "BAD_BINARY", error),
        PublishError::WrongDigest(_) => rpc::status(Code::InvalidArgument, "WRONG_DIGEST", error),
        PublishError::UnknownBinary(_) => rpc::status(Code::NotFound, "UNKNOWN_BINARY", error),
        PublishError::Blob(ref source) if source.is_transient() => {
            rpc::status(Code::Unavailable, "STORE_UNAVAILABLE", error)
        }
        PublishError::Seal(_) => rpc::internal("SIGN_FAILED", &error),
        PublishError::Blob(_) | PublishError::Read(_) | PublishError::Write(_) => {
            rpc::internal("STORE_FAILED", &error)
        }
    }
}
