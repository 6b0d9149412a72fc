//! `ssh -L`: a connection to a port of the session's machine.

use buildlet_client::PortBytes;
use bytes::Bytes;
use runtime::Tasks;
use russh::{
    Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf,
    server::{ChannelOpenHandle, Msg},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::sessions::Held;

/// How many pieces may wait for the machine; then the sender waits.
const AHEAD: usize = 16;

/// Connects, and passes bytes both ways until both have ended or the client has `gone`.
pub(super) async fn forward(
    (held, port): (Held, u16),
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    tasks: &Tasks,
    gone: CancellationToken,
) {
    let (sender, receiver) = mpsc::channel::<Bytes>(AHEAD);
    let connected = held.buildlet.forward_port(held.lease, port, ReceiverStream::new(receiver)).await;
    let Ok(from_port) = connected else { return reply.reject(ChannelOpenFailure::ConnectFailed).await };
    reply.accept().await;
    let (reader, writer) = channel.split();
    let _gone_at_the_end = gone.clone().drop_guard();
    tasks.job("ssh port, inwards", inwards(reader, sender, gone.clone()));
    tokio::select! {
        () = gone.cancelled() => {}
        () = outwards(from_port, writer) => {}
    }
}

/// To the port. It watches to the end whether the client goes: who writes to it may wait for room and not notice.
async fn inwards(mut reader: ChannelReadHalf, sender: mpsc::Sender<Bytes>, gone: CancellationToken) {
    let mut sender = Some(sender);
    loop {
        let message = tokio::select! {
            () = gone.cancelled() => return,
            message = reader.wait() => message,
        };
        match (message, &sender) {
            (Some(ChannelMsg::Data { data }), Some(open)) => {
                let sent = tokio::select! {
                    () = gone.cancelled() => return,
                    sent = open.send(data) => sent,
                };
                if sent.is_err() {
                    sender = None;
                }
            }
            (Some(ChannelMsg::Eof), _) => sender = None,
            (None | Some(ChannelMsg::Close), _) => return gone.cancel(),
            (Some(_), _) => {}
        }
    }
}

async fn outwards(mut from_port: PortBytes, writer: ChannelWriteHalf<Msg>) {
    while let Some(Ok(data)) = from_port.next().await {
        if writer.data_bytes(data).await.is_err() {
            return;
        }
    }
    // Who has gone does not care.
    let _ = writer.eof().await;
    let _ = writer.close().await;
}
