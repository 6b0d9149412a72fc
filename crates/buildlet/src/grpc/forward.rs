//! A connection to a port of the machine, over a call.

use api::buildlet::{
    ForwardPortRequest as Sent, ForwardPortResponse as Received, forward_port_request::Part,
};
use futures_util::{Stream, StreamExt, stream};
use runtime::Tasks;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::{io::ReaderStream, sync::CancellationToken};
use tonic::{Status, Streaming};

use super::convert;
use crate::{lease::Lease, machine::CallError, orphan::Present};

/// How much is delivered at a time.
const CHUNK: usize = 64 << 10;

/// Reads the header.
pub(super) fn header(message: Option<Sent>) -> Result<(Lease, u16), CallError> {
    let Some(Sent { part: Some(Part::Header(header)) }) = message else {
        return Err(CallError::BadRequest("a forwarded port begins with a header".to_owned()));
    };
    let port = u16::try_from(header.port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| CallError::BadRequest(format!("{} is no port", header.port)))?;
    Ok((convert::lease(header.lease.as_ref())?, port))
}

/// Passes bytes both ways. What comes from the port is the stream, which begins with an empty response; dropping it
/// closes the connection.
pub(super) fn forward(
    connection: TcpStream,
    sent: Streaming<Sent>,
    ending: &CancellationToken,
    tasks: &Tasks,
    present: Present,
) -> impl Stream<Item = Result<Received, Status>> + Send + use<> {
    let (reader, writer) = connection.into_split();
    // The end of the lease, and of the call.
    let over = ending.child_token();
    tasks.job("forwarded port", pass_on(sent, writer, over.clone()));
    let held = (over.clone().drop_guard(), present);
    let first = stream::iter([Ok(Received::default())]);
    first.chain(received(reader).take_until(over.cancelled_owned())).map(move |item| {
        let _ = &held;
        item
    })
}

fn received(reader: OwnedReadHalf) -> impl Stream<Item = Result<Received, Status>> + Send {
    ReaderStream::with_capacity(reader, CHUNK).map(|read| match read {
        Ok(data) => Ok(Received { data }),
        Err(error) => Err(rpc::status(tonic::Code::Unavailable, "PORT_CLOSED", error)),
    })
}

/// Writes what comes until it ends, and then says so to the port.
async fn pass_on(mut sent: Streaming<Sent>, mut writer: OwnedWriteHalf, over: CancellationToken) {
    let passed = async {
        while let Ok(Some(Sent { part: Some(Part::Data(data)) })) = sent.message().await {
            if writer.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = writer.shutdown().await;
    };
    over.run_until_cancelled(passed).await;
}
