//! Where log lines go and how they look: standard error, pretty on a terminal, JSON otherwise.
//!
//! One event per fact, fields instead of prose. No room logs a token, a secret or a key; a digest shows eight hex
//! digits. Control characters in fields are escaped by the formatter (the floor of tracing-subscriber in `Cargo.toml`),
//! so nobody writes lines of their own into the log.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// The variable that wins over `log.filter`.
pub const VARIABLE: &str = "TOKENSCOPE_LOG";

/// Starts logging for this process; a second call changes nothing.
///
/// # Errors
/// The filter of the variable or the configuration is none.
pub fn start(log: &Log) -> Result<(), String> {
    let (source, filter) = match std::env::var(VARIABLE) {
        Ok(filter) if !filter.is_empty() => (VARIABLE, filter),
        _ => ("log.filter", log.filter.clone()),
    };
    let filter = EnvFilter::builder().parse(&filter).map_err(|e| format!("{source}: {filter:?} is no filter: {e}"))?;
    let terminal = std::io::stderr().is_terminal();
    let pretty = match log.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that a subscriber is there already, as in tests: it stays.
    let _ = match pretty {
        true => lines.with_ansi(terminal).try_init(),
        false => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    Ok(())
}

/// Panics become log lines with their place; the message is left to tracing's escaping.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message_of_panic = message, place, "a task panicked");
    }));
}
