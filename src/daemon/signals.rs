//! Signals of the system as messages: TERM and INT stop, HUP reloads, a second TERM or INT ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Exit;

/// What the daemon is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Drain, snapshot, close.
    Stop,
    /// Read certificates and callers again.
    Reload,
}

/// Listens from now on. The sender is for whoever else may stop the daemon.
///
/// # Errors
/// The system refuses a listener.
pub fn listen() -> std::io::Result<(mpsc::Sender<Told>, mpsc::Receiver<Told>)> {
    let (sender, receiver) = mpsc::channel(8);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let tell = sender.clone();
    tokio::spawn(async move {
        let mut stopping = false;
        loop {
            let told = tokio::select! {
                _ = terminate.recv() => Told::Stop,
                _ = interrupt.recv() => Told::Stop,
                _ = hang_up.recv() => Told::Reload,
            };
            if told == Told::Stop && stopping {
                tracing::warn!("a second signal: ending at once; the journal has everything that was answered");
                #[expect(clippy::exit, reason = "the person who signals twice does not want to wait")]
                std::process::exit(i32::from(Exit::RunTime.code()));
            }
            stopping |= told == Told::Stop;
            // A full queue already holds a reload that is not done; one more would not tell more. A stop waits.
            match told {
                Told::Stop => drop(tell.send(told).await),
                Told::Reload => drop(tell.try_send(told)),
            }
        }
    });
    Ok((sender, receiver))
}
