//! When a process is asked to end.

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGINT or SIGTERM from now on.
///
/// If the handlers cannot be installed it says so and never ends: the signal then kills the process as usual.
pub async fn shutdown_signal() {
    let handlers = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = handlers else {
        tracing::error!("could not listen for signals: a signal will end this process at once");
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    tracing::info!(signal = name, "{name}: shutting down");
}
