//! A small HTTP/1.1 client over TLS, written for these tests alone, so that the server is not tested with its own code:
//! one request a connection, bytes as they are given, answers read as RFC 9112 says.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How to reach the HTTPS door.
#[derive(Clone)]
pub struct Web {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

pub type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Web {
    pub fn new(address: SocketAddr, ca: &Path) -> Self {
        Self::made(address, ca, None, &[])
    }

    /// With a client certificate and its key, PEM files, and these protocols.
    pub fn made(address: SocketAddr, ca: &Path, identity: Option<(&Path, &Path)>, alpn: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Self { address, config: Arc::new(config) }
    }

    /// A connection, nothing sent yet.
    pub fn open(&self) -> Tls {
        let socket = socket(self.address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        StreamOwned::new(ClientConnection::new(self.config.clone(), name).unwrap(), socket)
    }

    /// Sends these bytes on a connection of their own, and reads the answer.
    pub fn send(&self, request: &[u8]) -> io::Result<Answer> {
        let mut stream = self.open();
        // The server may answer and close before it has everything; then the answer counts.
        let sent = stream.write_all(request).and_then(|()| stream.flush());
        read(&mut BufReader::new(stream)).map_err(|error| sent.err().unwrap_or(error))
    }

    /// Posts a form, with HTTP Basic.
    pub fn form(&self, path: &str, caller: (&str, &str), pairs: &[(&str, &str)]) -> Answer {
        let body: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.send(post(path, Some(caller), "application/x-www-form-urlencoded", &body.join("&")).as_bytes()).unwrap()
    }

    /// Posts JSON, with HTTP Basic.
    pub fn json(&self, path: &str, caller: (&str, &str), body: &str) -> Answer {
        self.send(post(path, Some(caller), "application/json", body).as_bytes()).unwrap()
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Sends a request in plain text; `None` if there is no answer.
pub fn plain(address: SocketAddr, request: impl AsRef<[u8]>) -> Option<Answer> {
    let mut socket = socket(address).ok()?;
    socket.write_all(request.as_ref()).ok()?;
    read(&mut BufReader::new(socket)).ok()
}

/// A whole POST request.
pub fn post(path: &str, caller: Option<(&str, &str)>, kind: &str, body: &str) -> String {
    let mut head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n");
    if let Some((name, secret)) = caller {
        let _ = write!(head, "authorization: Basic {}\r\n", base64(format!("{name}:{secret}").as_bytes()));
    }
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group.iter().chain([0, 0].iter()).take(3).fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = char::from(DIGITS[word >> (18 - 6 * place) & 63]);
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    text
}

pub fn encoded(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            other => drop(write!(text, "%{other:02X}")),
        }
        text
    })
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads one answer.
pub fn read(stream: &mut impl BufRead) -> io::Result<Answer> {
    let mut line = || -> io::Result<String> {
        let mut line = String::new();
        stream.by_ref().take(64 << 10).read_line(&mut line)?;
        Ok(line.strip_suffix("\r\n").ok_or_else(|| broken(&format!("a cut line {line:?}")))?.to_owned())
    };
    let first = line()?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| broken(&format!("not HTTP: {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(|| broken("a header without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    match answer.header("content-length") {
        Some(length) => {
            let length = length.parse().map_err(|_| broken("no length"))?;
            answer.body = vec![0; length];
            stream.read_exact(&mut answer.body)?;
        }
        None if answer.header("transfer-encoding").is_some() => loop {
            let mut size = String::new();
            stream.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(|_| broken("no chunk"))?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk)?;
            answer.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        },
        // A connection that is cut instead of closed does not matter without a length.
        None => drop(stream.read_to_end(&mut answer.body)),
    }
    Ok(answer)
}
