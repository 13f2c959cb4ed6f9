//! A small HTTPS client: HTTP/1.1 over one kept connection, for the demo's view through the other door.
//!
//! It waits, trusts one authority, bounds everything it reads, and knows no more of HTTP than our own server says. It
//! is not meant for anybody else's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Failure;

/// How long connecting, and every read and write, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// The longest body of an answer, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One server, and the connection to it while it lasts.
pub struct HttpsClient {
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    stream: Option<BufReader<StreamOwned<ClientConnection, TcpStream>>>,
}

impl HttpsClient {
    /// A client of the server at `address`, whose certificate must be good for `name` and signed by `authority`.
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// The authority's file cannot be read or is none.
    pub fn new(address: SocketAddr, name: &str, authority: &Path) -> Result<Self, Failure> {
        let failed = |what: String| Failure::run_time(format!("{}: {what}", authority.display()));
        let certificate = CertificateDer::from_pem_file(authority).map_err(|error| failed(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::run_time(format!("{name:?} is not a server name")))?;
        Ok(Self { address, name, config: Arc::new(config), stream: None })
    }

    /// Sends a request and waits for its answer. A kept connection that turns out to be closed is made anew once.
    ///
    /// # Errors
    /// There was no whole answer.
    pub fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, Failure> {
        let address = self.address;
        let failed = |error| Failure::run_time(format!("{method} https://{address}{path}: {error}"));
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let bytes = [request.as_bytes(), body].concat();
        let kept = self.stream.is_some();
        match self.exchange(&bytes) {
            Err(_) if kept => self.exchange(&bytes).map_err(failed),
            answered => answered.map_err(failed),
        }
    }

    /// Posts a form.
    ///
    /// # Errors
    /// As [`HttpsClient::call`].
    pub fn form(&mut self, path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Result<Answer, Failure> {
        let encoded: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", super::remote::part(value))).collect();
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let headers: Vec<(&str, &str)> = headers.iter().copied().chain([kind]).collect();
        self.call("POST", path, &headers, encoded.join("&").as_bytes())
    }

    /// Drops the connection, as after the server was killed.
    pub fn forget(&mut self) {
        self.stream = None;
    }

    fn host(&self) -> String {
        format!("{}:{}", self.name.to_str(), self.address.port())
    }

    fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        // Taken out, so that a connection that failed is never used again.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                let tls =
                    ClientConnection::new(self.config.clone(), self.name.clone()).map_err(std::io::Error::other)?;
                BufReader::new(StreamOwned::new(tls, socket))
            }
        };
        stream.get_mut().write_all(request)?;
        stream.get_mut().flush()?;
        let (answer, keep) = read(&mut stream)?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

/// The value of an HTTP Basic header (RFC 7617) for a caller's name and secret, both of letters, digits and hyphens.
pub fn basic(name: &str, secret: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pair = format!("{name}:{secret}");
    let mut text = String::from("Basic ");
    for group in pair.as_bytes().chunks(3) {
        let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Gets `path` in plain text and reads the status; for the readiness of a server on this machine.
///
/// # Errors
/// There was no answer.
pub fn plain_status(address: SocketAddr, path: &str) -> std::io::Result<u16> {
    plain(address, path).map(|answer| answer.status)
}

/// Asks a plain listener, as a probe would: the body.
///
/// # Errors
/// No answer within a second.
pub fn plain_body(address: SocketAddr, path: &str) -> std::io::Result<String> {
    plain(address, path).map(|answer| answer.text())
}

fn plain(address: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    read(&mut BufReader::new(socket)).map(|(answer, _)| answer)
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads one answer; whether the connection can be used again.
pub(super) fn read(stream: &mut impl BufRead) -> std::io::Result<(Answer, bool)> {
    let mut left = HEAD_BYTES_MAX;
    let mut line = |stream: &mut dyn BufRead| {
        let mut line = Vec::new();
        let read = stream.take(left).read_until(b'\n', &mut line)?;
        left = left.saturating_sub(read as u64);
        let text = line.strip_suffix(b"\r\n").ok_or_else(|| broken("the answer's head is cut off or too long"))?;
        String::from_utf8(text.to_vec()).map_err(|_| broken("the answer's head is not text"))
    };
    let first = line(stream)?;
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| broken("the answer is not HTTP/1.1"))?;
    let mut headers = Vec::new();
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| broken("a header without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let mut keep = answer.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        answer.body = chunks(stream)?;
    } else if let Some(length) = answer.header("content-length") {
        let length: usize = length.parse().map_err(|_| broken("a content-length that is no number"))?;
        if length > BODY_BYTES_MAX {
            return Err(broken("the answer's body is too long"));
        }
        answer.body = vec![0; length];
        stream.read_exact(&mut answer.body)?;
    } else if status != 204 {
        keep = false;
        stream.take(BODY_BYTES_MAX as u64).read_to_end(&mut answer.body)?;
    }
    Ok((answer, keep))
}

fn chunks(stream: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.take(64).read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken("a chunk without a size"))?;
        if body.len().saturating_add(size) > BODY_BYTES_MAX {
            return Err(broken("the answer's body is too long"));
        }
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        let mut end = [0; 2];
        stream.read_exact(&mut end)?;
        if end != *b"\r\n" {
            return Err(broken("a chunk that does not end"));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}
