//! `GomoteService`.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use api::coordinator::{
    CancelCommandRequest, CancelCommandResponse, CreateSessionRequest, CreateSessionResponse,
    DestroySessionRequest, DestroySessionResponse, ExtendSessionRequest, ExtendSessionResponse,
    ListFilesRequest, ListFilesResponse, ListSessionsRequest, ListSessionsResponse, ReadFilesRequest,
    ReadFilesResponse, RemoveFilesRequest, RemoveFilesResponse, SignKeyRequest, SignKeyResponse,
    StartCommandRequest, StartCommandResponse, WatchCommandRequest, WatchCommandResponse,
    WatchSessionRequest, WatchSessionResponse, WriteFilesHeader, WriteFilesRequest, WriteFilesResponse,
    gomote_service_server::GomoteService, read_files_response, write_files_request::Part,
};
use buildlet_client::ArchiveFormat;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rpc::{PageToken, page};
use runtime::SharedClock;
use tonic::{Code, Request, Response, Status, Streaming};
use types::{ExecId, SessionName};

use super::gomote_convert::{bad, command_event, failed, file_entry, spec, wire_session, wish};
use crate::{
    sessions::{Held, Seen, SessionError, Sessions, Using},
    ssh::{AuthorityError, SshAuthority},
};

/// At least so often a watched session is delivered.
const ANEW: Duration = Duration::from_secs(20);
/// How long a certificate is good: long enough to connect.
const CERTIFICATE: Duration = Duration::from_mins(5);
/// How many entries are listed in one message.
const ENTRIES: usize = 1000;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Debugging sessions.
#[derive(Clone)]
pub(crate) struct Gomote {
    pub(crate) sessions: Sessions,
    pub(crate) ssh: Option<SshDoor>,
}

/// What signs keys, and where they are good.
#[derive(Clone)]
pub(crate) struct SshDoor {
    pub(crate) authority: Arc<SshAuthority>,
    pub(crate) address: SocketAddr,
    pub(crate) clock: SharedClock,
}

fn session_name(text: &str) -> Result<SessionName, Status> {
    text.parse().map_err(|error: types::ParseNameError| failed(&error.into()))
}

fn command_id(text: &str) -> Result<ExecId, Status> {
    text.parse().map_err(|error: types::ParseIdError| bad(error))
}

impl Gomote {
    async fn hold(&self, name: &str) -> Result<Held, Status> {
        self.sessions.hold(&session_name(name)?).await.map_err(|error| failed(&error))
    }

    /// The way to a session's machine, and the session in use for as long as the call lasts.
    async fn use_it(&self, name: &str) -> Result<(Held, Using), Status> {
        let held = self.hold(name).await?;
        let using = self.sessions.using(held.session.name.clone());
        Ok((held, using))
    }
}

fn machine(error: buildlet_client::Error) -> Status {
    failed(&SessionError::Machine(error))
}

#[tonic::async_trait]
impl GomoteService for Gomote {
    type WatchSessionStream = Answers<WatchSessionResponse>;
    type WatchCommandStream = Answers<WatchCommandResponse>;
    type ListFilesStream = Answers<ListFilesResponse>;
    type ReadFilesStream = Answers<ReadFilesResponse>;

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        let wish = wish(request.into_inner())?;
        let (seen, asked) = self.sessions.create(wish).await.map_err(|error| failed(&error))?;
        Ok(Response::new(CreateSessionResponse {
            session: Some(wire_session(&seen)),
            command: asked.command,
            make: asked.make,
        }))
    }

    async fn watch_session(
        &self,
        request: Request<WatchSessionRequest>,
    ) -> Result<Response<Self::WatchSessionStream>, Status> {
        let name = session_name(&request.into_inner().name)?;
        // Listen first, look then: a change in between is delivered twice rather than never.
        let changes = self.sessions.changes();
        let seen = self.sessions.look(&name).await.map_err(|error| failed(&error))?;
        let watch = Watch { sessions: self.sessions.clone(), changes, seen, first: true, using: None };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(true) => {
                    let session = Some(wire_session(&watch.seen));
                    Some((Ok(WatchSessionResponse { session }), Some(watch)))
                }
                Ok(false) => None,
                Err(error) => Some((Err(failed(&error)), None)),
            }
        }))))
    }

    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let ListSessionsRequest { owner, group, page_size, page_token } = request.into_inner();
        let size = page::size(page_size, 100, 1000)?;
        let hash = page::filter_hash(&[&owner, &group]);
        let after = PageToken::decode(&page_token, hash)?;
        let found = self.sessions.list((owner, group), after, size + 1).await;
        let mut found = found.map_err(|error| failed(&error))?;
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more);
        let next = next.map(|last| PageToken::encode(last.session.name.as_str(), hash));
        let sessions = found.iter().map(wire_session).collect();
        Ok(Response::new(ListSessionsResponse { sessions, next_page_token: next.unwrap_or_default() }))
    }

    async fn extend_session(
        &self,
        request: Request<ExtendSessionRequest>,
    ) -> Result<Response<ExtendSessionResponse>, Status> {
        let ExtendSessionRequest { name, hold } = request.into_inner();
        let name = session_name(&name)?;
        self.sessions
            .touch(&name, hold.as_ref().map(rpc::from_duration))
            .await
            .map_err(|error| failed(&error))?;
        let seen = self.sessions.look(&name).await.map_err(|error| failed(&error))?;
        if let Some((_, reason)) = seen.end {
            return Err(failed(&SessionError::Ended(name, reason)));
        }
        Ok(Response::new(ExtendSessionResponse { session: Some(wire_session(&seen)) }))
    }

    async fn destroy_session(
        &self,
        request: Request<DestroySessionRequest>,
    ) -> Result<Response<DestroySessionResponse>, Status> {
        let name = session_name(&request.into_inner().name)?;
        self.sessions.destroy(&name).await.map_err(|error| failed(&error))?;
        Ok(Response::new(DestroySessionResponse {}))
    }

    async fn start_command(
        &self,
        request: Request<StartCommandRequest>,
    ) -> Result<Response<StartCommandResponse>, Status> {
        let request = request.into_inner();
        let held = self.hold(&request.session).await?;
        let exec = command_id(&request.command_id)?;
        let bare = request.bare;
        let spec = self.sessions.complete(&held.session, bare, spec(request)?);
        held.buildlet.start_exec(held.lease, exec, &spec).await.map_err(machine)?;
        Ok(Response::new(StartCommandResponse {}))
    }

    async fn watch_command(
        &self,
        request: Request<WatchCommandRequest>,
    ) -> Result<Response<Self::WatchCommandStream>, Status> {
        let WatchCommandRequest { session, command_id: id, offset } = request.into_inner();
        let (held, using) = self.use_it(&session).await?;
        let events = held.buildlet.watch_exec(command_id(&id)?, offset).await.map_err(machine)?;
        Ok(Response::new(Box::pin(events.map(move |event| {
            let _used = &using;
            event.map(command_event).map_err(machine)
        }))))
    }

    async fn cancel_command(
        &self,
        request: Request<CancelCommandRequest>,
    ) -> Result<Response<CancelCommandResponse>, Status> {
        let CancelCommandRequest { session, command_id: id } = request.into_inner();
        let held = self.hold(&session).await?;
        held.buildlet.cancel(held.lease, command_id(&id)?).await.map_err(machine)?;
        Ok(Response::new(CancelCommandResponse {}))
    }

    async fn list_files(
        &self,
        request: Request<ListFilesRequest>,
    ) -> Result<Response<Self::ListFilesStream>, Status> {
        let ListFilesRequest { session, folder, exclude, digests } = request.into_inner();
        let (held, _using) = self.use_it(&session).await?;
        let entries = held.buildlet.list_tree(held.lease, &folder, &exclude, digests).await;
        let entries: Vec<_> = entries.map_err(machine)?.into_iter().map(file_entry).collect();
        let some: Vec<_> =
            entries.chunks(ENTRIES).map(|some| Ok(ListFilesResponse { entries: some.to_vec() })).collect();
        Ok(Response::new(Box::pin(futures_util::stream::iter(some))))
    }

    async fn write_files(
        &self,
        request: Request<Streaming<WriteFilesRequest>>,
    ) -> Result<Response<WriteFilesResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(WriteFilesRequest { part: Some(Part::Header(header)) }) = parts.message().await? else {
            return Err(bad("the header comes first"));
        };
        let WriteFilesHeader { session, folder, format } = header;
        let format = match format.as_str() {
            "tar" => ArchiveFormat::Tar,
            "tar.gz" => ArchiveFormat::TarGz,
            "tar.zst" => ArchiveFormat::TarZst,
            other => return Err(bad(format!("`{other}` is no format: tar, tar.gz and tar.zst are"))),
        };
        let (held, _using) = self.use_it(&session).await?;
        // A stream that breaks off ends the archive early, which the machine refuses.
        let chunks = parts.scan((), |(), part| {
            std::future::ready(match part.ok().and_then(|part| part.part) {
                Some(Part::Chunk(chunk)) => Some(chunk),
                Some(Part::Header(_)) | None => None,
            })
        });
        let entries = held.buildlet.write_tree(held.lease, &folder, format, chunks).await;
        Ok(Response::new(WriteFilesResponse { entries: entries.map_err(machine)? }))
    }

    async fn read_files(
        &self,
        request: Request<ReadFilesRequest>,
    ) -> Result<Response<Self::ReadFilesStream>, Status> {
        let ReadFilesRequest { session, folder, exclude } = request.into_inner();
        let (held, using) = self.use_it(&session).await?;
        let chunks = held.buildlet.read_tree(held.lease, &folder, &exclude).await.map_err(machine)?;
        let part = |part| ReadFilesResponse { part: Some(part) };
        Ok(Response::new(Box::pin(futures_util::stream::unfold(
            Some((chunks, using)),
            move |state| async move {
                let (mut chunks, using) = state?;
                match chunks.next().await {
                    Some(Ok(chunk)) => {
                        let chunk: Bytes = chunk;
                        let chunk = part(read_files_response::Part::Chunk(chunk));
                        Some((Ok(chunk), Some((chunks, using))))
                    }
                    Some(Err(error)) => Some((Err(machine(error)), None)),
                    None => {
                        let digest = chunks.digest().unwrap_or_default().to_owned();
                        Some((Ok(part(read_files_response::Part::Digest(digest))), None))
                    }
                }
            },
        ))))
    }

    async fn remove_files(
        &self,
        request: Request<RemoveFilesRequest>,
    ) -> Result<Response<RemoveFilesResponse>, Status> {
        let RemoveFilesRequest { session, paths } = request.into_inner();
        let (held, _using) = self.use_it(&session).await?;
        held.buildlet.remove(held.lease, &paths).await.map_err(machine)?;
        Ok(Response::new(RemoveFilesResponse {}))
    }

    async fn sign_key(&self, request: Request<SignKeyRequest>) -> Result<Response<SignKeyResponse>, Status> {
        let SignKeyRequest { session, public_key } = request.into_inner();
        let Some(SshDoor { authority, address, clock }) = &self.ssh else {
            let message = "this farm does not speak SSH: `listen.ssh` in its farm.toml says where it is to";
            return Err(rpc::status(Code::FailedPrecondition, "NO_SSH", message));
        };
        let held = self.hold(&session).await?;
        let unsigned = |error: AuthorityError| match error {
            AuthorityError::BadPublicKey(_) | AuthorityError::OtherKind(_) => {
                rpc::status(Code::InvalidArgument, "BAD_KEY", error)
            }
            error => rpc::internal("SIGN_FAILED", &error),
        };
        let signed = authority.sign(&public_key, &held.session.name, clock.now(), CERTIFICATE);
        let everywhere = address.ip().is_unspecified();
        Ok(Response::new(SignKeyResponse {
            certificate: signed.map_err(unsigned)?,
            host: if everywhere { String::new() } else { address.ip().to_string() },
            port: address.port().into(),
            host_key: authority.host_public_key().map_err(unsigned)?,
        }))
    }
}

/// One who watches a session.
struct Watch {
    sessions: Sessions,
    changes: tokio::sync::watch::Receiver<()>,
    seen: Seen,
    first: bool,
    /// While the session waits for its machine, whoever watches uses it.
    using: Option<Using>,
}

impl Watch {
    /// Waits until there is something to deliver; false once the end was delivered.
    async fn next(&mut self) -> Result<bool, SessionError> {
        if !std::mem::take(&mut self.first) {
            if self.seen.end.is_some() {
                return Ok(false);
            }
            let anew = tokio::time::Instant::now() + ANEW;
            loop {
                let before = wire_session(&self.seen);
                let changed = tokio::time::timeout_at(anew, self.changes.changed()).await;
                self.seen = self.sessions.look_again(&self.seen).await?;
                if wire_session(&self.seen) != before || changed.is_err() {
                    break;
                }
            }
        }
        let ready = self.seen.session.seat.as_ref().is_some_and(|seat| seat.ready.is_some());
        if ready || self.seen.end.is_some() {
            self.using = None;
        } else if self.using.is_none() {
            self.using = Some(self.sessions.using(self.seen.session.name.clone()));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        assert_eq!(session_name("../x").unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(command_id("x").unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
