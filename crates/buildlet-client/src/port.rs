//! What comes from a port of a machine.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use api::buildlet::ForwardPortResponse;
use bytes::Bytes;
use futures_util::Stream;

use crate::Error;

/// The bytes that a port sends. The connection is closed when this is dropped.
pub struct PortBytes {
    inner: tonic::Streaming<ForwardPortResponse>,
}

impl PortBytes {
    /// Waits until the connection stands.
    pub(crate) async fn begin(mut inner: tonic::Streaming<ForwardPortResponse>) -> Result<Self, Error> {
        match inner.message().await? {
            Some(_) => Ok(Self { inner }),
            None => Err(Error::Malformed("a connection that does not stand".to_owned())),
        }
    }

    /// The next bytes; none once the port has sent all.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        futures_util::StreamExt::next(self).await
    }
}

impl Stream for PortBytes {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let received = Pin::new(&mut self.inner).poll_next(context);
        received.map(|item| item.map(|received| received.map(|received| received.data).map_err(Error::from)))
    }
}

impl std::fmt::Debug for PortBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PortBytes").finish_non_exhaustive()
    }
}
