//! The admin listener of a Tokenscope server: one request, one answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The largest answer that is read; the page of metrics is a tenth of it.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What the listener answers to a `GET` of `path`, head and all.
///
/// # Errors
/// It does not answer within `within`.
pub fn get(admin: SocketAddr, path: &str, within: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether the server says that it should be asked. Falls to no.
pub fn is_ready(admin: SocketAddr, within: Duration) -> bool {
    get(admin, "/readyz", within).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
