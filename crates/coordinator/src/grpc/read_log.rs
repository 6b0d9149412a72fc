//! `ReadLog`: a range of the merged log, or all of it as it grows.

use std::{sync::Arc, time::Duration};

use api::coordinator::{ReadLogRequest, ReadLogResponse};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tonic::{Code, Status};
use types::BuildNumber;

use super::{build_service::Answers, failed};
use crate::{
    records::read,
    shell::{Change, Hub},
    view::{MergedLog, Viewer},
};

/// How much one message carries.
const PIECE: u64 = 256 << 10;
/// After this long without a hint the log is looked at again, in case the hint was missed.
const LOOK: Duration = Duration::from_secs(5);

struct Reader {
    viewer: Viewer,
    changes: Receiver<Change>,
    number: BuildNumber,
    attempt: Option<u32>,
    log: Option<Arc<MergedLog>>,
    next: u64,
    end: u64,
    follow: bool,
}

/// Begins to read.
pub(super) async fn read(
    viewer: Viewer,
    hub: Hub,
    request: ReadLogRequest,
) -> Result<Answers<ReadLogResponse>, Status> {
    if request.follow && request.limit > 0 {
        let text = "`limit` and `follow` exclude each other";
        return Err(rpc::status(Code::InvalidArgument, "LIMIT_AND_FOLLOW", text));
    }
    let mut reader = Reader {
        changes: hub.changes(),
        viewer,
        number: BuildNumber(request.number),
        attempt: (request.attempt > 0).then_some(request.attempt),
        log: None,
        next: request.offset,
        end: if request.limit == 0 { u64::MAX } else { request.offset.saturating_add(request.limit) },
        follow: request.follow,
    };
    reader.look().await?;
    Ok(Box::pin(futures_util::stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.piece().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })))
}

impl Reader {
    /// Sees how long the log is now. Once an attempt is seen, it is the one that is read.
    async fn look(&mut self) -> Result<(), Status> {
        self.log = self.viewer.log(self.number, self.attempt).await.map_err(|error| failed(&error))?;
        if let Some(log) = &self.log {
            self.attempt = Some(log.attempt.attempt);
        }
        Ok(())
    }

    async fn piece(&mut self) -> Result<Option<ReadLogResponse>, Status> {
        loop {
            if self.next >= self.end {
                return Ok(None);
            }
            if let Some(log) = &self.log {
                let to = self.end.min(self.next.saturating_add(PIECE));
                let data = log
                    .bytes(&self.viewer.logs, self.next..to)
                    .await
                    .map_err(|error| failed(&error.into()))?;
                if !data.is_empty() {
                    let offset = self.next;
                    self.next += data.len() as u64;
                    return Ok(Some(ReadLogResponse { offset, data }));
                }
            }
            let finished = match &self.log {
                Some(log) => log.finished,
                None => self.is_over().await?,
            };
            if finished || !self.follow {
                return Ok(None);
            }
            self.wait().await?;
            self.look().await?;
        }
    }

    /// Whether a build that has no attempt has ended without one.
    async fn is_over(&self) -> Result<bool, Status> {
        let record =
            read::build(&self.viewer.database, self.number).await.map_err(|error| super::unread(&error))?;
        Ok(record.is_none_or(|record| record.outcome.is_some()))
    }

    /// Waits until there may be more.
    async fn wait(&mut self) -> Result<(), Status> {
        let growing = self.log.as_ref().and_then(|log| log.growing().zip(log.parts.last()));
        let grown = async {
            let Some((exec, part)) = growing else { return std::future::pending().await };
            let Ok(mut state) = self.viewer.logs.subscribe(exec).await else {
                return std::future::pending().await;
            };
            // A finished log grows no more; the build's change tells what comes next.
            if state.wait_for(|state| state.bytes > part.bytes).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (changes, number) = (&mut self.changes, self.number);
        let changed = async {
            loop {
                match changes.recv().await {
                    Ok(other) if other.number != number => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                }
            }
        };
        tokio::select! {
            () = grown => {}
            () = changed => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        Ok(())
    }
}
