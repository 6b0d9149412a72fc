//! The settings of HTTP/2 connections, one place for both roles and both directions.
//!
//! Windows are large because bulk streams (sources, snapshots, logs) run over the same connections as small calls:
//! 4 MiB for a stream, 16 MiB for a connection, so that one slow reader cannot stall its neighbours. A peer that
//! stops answering is noticed after [`KEEP_ALIVE_INTERVAL`] + [`KEEP_ALIVE_TIMEOUT`] of silence.

use std::{future::Future, io, time::Duration};

use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// Silence after which a peer is asked whether it lives.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// How long it has to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Fewer, larger frames: the default of 16 KiB costs a third of the throughput.
const FRAME: u32 = 256 << 10;
const SEND_BUFFER: usize = 1 << 20;
/// Calls and watches at the same time over one connection.
const STREAMS: u32 = 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The sending half of a connection.
pub(crate) type Sender = hyper::client::conn::http2::SendRequest<Body>;
/// What ends when a connection ends.
pub(crate) type Driver<I> = hyper::client::conn::http2::Connection<I, Body, Abortable>;

/// Runs the parts of a connection until its token is cancelled. Without it a connection with an open stream could not
/// be closed: hyper lets each run on by itself.
#[derive(Clone, Default)]
pub(crate) struct Abortable(pub(crate) CancellationToken);

impl<F> hyper::rt::Executor<F> for Abortable
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        TokioExecutor::new().execute(self.0.clone().run_until_cancelled_owned(future));
    }
}

/// Begins HTTP/2 as the client.
pub(crate) async fn handshake<I>(io: I, executor: Abortable) -> hyper::Result<(Sender, Driver<I>)>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    hyper::client::conn::http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS as usize)
        .max_frame_size(FRAME)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(io)
        .await
}

/// HTTP/2 as the server of a reversed connection.
pub(crate) fn http2_server() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_frame_size(FRAME)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// HTTP/1.1 or HTTP/2, whatever the client begins with, as the server of a listener.
pub(crate) fn auto_server() -> hyper_util::server::conn::auto::Builder<TokioExecutor> {
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        // Callers that give up early reset streams: that is no attack.
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_frame_size(FRAME)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
}

/// Opens a TCP connection without Nagle's delay, which would hold small calls back.
pub(crate) async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host.trim_start_matches('[').trim_end_matches(']'), port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
