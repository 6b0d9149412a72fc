//! When a process is asked to end.

/// Ends at the first SIGINT or SIGTERM from now on.
///
/// If the handlers cannot be installed it says so and never ends: the signal then kills the process as usual.
#[cfg(unix)]
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
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

/// Ends at the first Ctrl-C from now on, or when the machine goes down.
///
/// If nobody tells this process of them it says so and never ends: they then end the process as usual.
#[cfg(not(unix))]
pub async fn shutdown_signal() {
    #[cfg(windows)]
    let going_down = async {
        match tokio::signal::windows::ctrl_shutdown() {
            Ok(mut down) => drop(down.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(windows))]
    let going_down = std::future::pending::<()>();
    let name = tokio::select! {
        pressed = tokio::signal::ctrl_c() => match pressed {
            Ok(()) => "Ctrl-C",
            Err(error) => {
                tracing::error!("could not listen for Ctrl-C: {error}");
                return std::future::pending().await;
            }
        },
        () = going_down => "the machine",
    };
    tracing::info!(signal = name, "{name}: shutting down");
}
