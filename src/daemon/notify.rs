//! A word to the supervisor: systemd's `Type=notify`, without a library.
//!
//! Silent where there is no supervisor. The message goes to the socket that `NOTIFY_SOCKET` names: a path, or a name
//! in the abstract namespace when it begins with `@`.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The service answers.
pub const READY: &str = "READY=1";
/// The service has begun to stop.
pub const STOPPING: &str = "STOPPING=1";

/// Tells the supervisor, if there is one.
pub fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket.to_string_lossy(), state) {
        tracing::warn!(%error, state, "the supervisor could not be told");
    }
}

fn send(socket: &str, state: &str) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_told_and_a_missing_one_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).expect("bound");
        send(path.to_str().expect("a path"), READY).expect("told");
        let mut bytes = [0; 32];
        let length = supervisor.recv(&mut bytes).expect("heard");
        assert_eq!(&bytes[..length], b"READY=1");
        assert!(send("/nonexistent/notify", READY).is_err());
    }
}
