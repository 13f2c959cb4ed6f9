//! What hostile peers do over HTTPS, before and in HTTP/1.1.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Socket, Type};

use super::{Good, Siege, elsewhere};
use crate::web::{Tls, base64, post, read};

const FORM: &str = "application/x-www-form-urlencoded";

/// How long a hostile peer waits for anything.
const SHORT: Duration = Duration::from_secs(3);

/// The good client: introspects over and over, mostly on one connection.
pub fn ask(siege: &Siege, good: &Good) {
    let (name, secret) = siege.house.secret("api");
    let token = &siege.house.token("jonas-time").token;
    let request = post("/introspect", Some((&name, &secret)), FORM, &format!("token={token}"));
    let stays = request.replace("connection: close\r\n", "");
    let mut stream = None;
    for number in 0.. {
        if good.is_over() {
            return;
        }
        if number % 20 == 0 {
            // Newcomers are served as well.
            stream = None;
        }
        let began = Instant::now();
        let there = stream.get_or_insert_with(|| BufReader::new(siege.house.web().open()));
        let answer = there.get_mut().write_all(stays.as_bytes()).and_then(|()| read(there));
        let right =
            answer.as_ref().is_ok_and(|answer| answer.status == 200 && answer.text().contains("\"active\":true"));
        if answer.is_err() {
            stream = None;
        }
        good.asked(began, right.then_some(()).ok_or_else(|| format!("{answer:?}")));
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A TCP connection from elsewhere; `None` if there is no place.
pub fn tcp(siege: &Siege) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&elsewhere().into()).unwrap();
    socket.connect(&siege.house.file.https.into()).ok()?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(SHORT)).unwrap();
    socket.set_write_timeout(Some(SHORT)).unwrap();
    Some(socket)
}

/// A TLS connection from elsewhere that speaks this protocol.
pub fn tls(siege: &Siege, alpn: &[u8]) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&siege.house.file.ca_file).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    Tls::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp(siege).unwrap())
}

fn http1(siege: &Siege) -> Tls {
    tls(siege, b"http/1.1")
}

/// Reads until the server closes, or says nothing for a while.
pub fn drained(stream: &mut Tls) -> Vec<u8> {
    let (mut bytes, mut buffer, began) = (Vec::new(), vec![0; 64 << 10], Instant::now());
    while began.elapsed() < SHORT
        && let Ok(read @ 1..) = stream.read(&mut buffer)
    {
        bytes.extend_from_slice(&buffer[..read]);
    }
    bytes
}

pub fn attack(siege: &Siege) {
    let (name, secret) = siege.house.secret("api");
    let basic = base64(format!("{name}:{secret}").as_bytes());
    connections(siege);
    slow(siege, &basic);
    large(siege, &basic);
    ambiguous(siege, &basic);
    super::http2::attack(siege, &basic);
}

/// Waits until all of these are closed.
fn closed(held: Vec<TcpStream>) {
    for mut socket in held {
        let _ = socket.set_read_timeout(Some(Duration::from_secs(20)));
        let began = Instant::now();
        let _ = socket.read_to_end(&mut Vec::new());
        assert!(began.elapsed() < Duration::from_secs(19), "still open");
    }
}

fn connections(siege: &Siege) {
    siege.kind("TCP connections that say nothing, more than there are places", || {
        closed((0..100).filter_map(|_| tcp(siege)).collect());
    });
    siege.kind("half a TLS hello on many connections", || {
        let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
        let open = |_| tcp(siege).filter(|mut socket| socket.write_all(&hello).is_ok());
        closed((0..30).filter_map(open).collect());
    });
    siege.kind("garbage instead of TLS", || {
        for number in 0..50_u32 {
            let Some(mut socket) = tcp(siege) else { continue };
            let garbage: Vec<u8> = (0..4_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) ^ number) as u8).collect();
            let _ = socket.write_all(&garbage);
        }
    });
    siege.kind("TLS connections that never ask", || {
        let mut held: Vec<Tls> = (0..25).map(|_| http1(siege)).collect();
        // The first flush shakes hands.
        held.iter_mut().for_each(|stream| drop(stream.flush()));
        held.iter_mut().for_each(|stream| assert!(drained(stream).is_empty()));
    });
    siege.kind("connections opened and closed", || (0..300).for_each(|_| drop(tcp(siege))));
}

fn slow(siege: &Siege, basic: &str) {
    let head =
        format!("POST /introspect HTTP/1.1\r\nhost: x\r\nauthorization: Basic {basic}\r\ncontent-type: {FORM}\r\n");
    let drip = |start: &str| {
        let mut held: Vec<Tls> = (0..20).map(|_| http1(siege)).collect();
        held.retain_mut(|stream| stream.write_all(start.as_bytes()).and_then(|()| stream.flush()).is_ok());
        let began = Instant::now();
        while !held.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "a slow sender is still listened to");
            held.retain_mut(|stream| stream.write_all(b"x").and_then(|()| stream.flush()).is_ok());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    siege.kind("heads that come byte by byte", || drip(&head));
    siege.kind("bodies that come byte by byte", || drip(&format!("{head}content-length: 16000\r\n\r\n")));
}

fn large(siege: &Siege, basic: &str) {
    let send = |request: &str| {
        for _ in 0..5 {
            let mut stream = http1(siege);
            // It may be refused before all of it was sent.
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
            let answer = String::from_utf8_lossy(&drained(&mut stream)).into_owned();
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
    };
    siege.kind("a head of a megabyte", || {
        send(&format!("POST /introspect HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(1 << 20)));
    });
    siege.kind("ten thousand headers", || {
        send(&format!("POST /introspect HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(10_000)));
    });
    let head =
        format!("POST /introspect HTTP/1.1\r\nhost: x\r\nauthorization: Basic {basic}\r\ncontent-type: {FORM}\r\n");
    siege.kind("a body of ten megabytes, announced", || {
        send(&format!("{head}content-length: 10000000\r\n\r\n{}", "x".repeat(10_000_000)));
    });
    siege.kind("a body of ten megabytes, in chunks of a byte", || {
        send(&format!("{head}transfer-encoding: chunked\r\n\r\n{}", "1\r\nx\r\n".repeat(1_600_000)));
    });
    siege.kind("a chunk whose extension has no end", || {
        send(&format!("{head}transfer-encoding: chunked\r\n\r\n1;{}\r\nx\r\n", "x".repeat(1 << 20)));
    });
    siege.kind("a thousand requests in one go, and no answer read", || {
        let one = format!("{head}content-length: 7\r\n\r\ntoken=x");
        let mut held: Vec<Tls> = (0..10).map(|_| http1(siege)).collect();
        for stream in &mut held {
            // Blocks when both directions are full; then our patience ends.
            let _ = stream.write_all(one.repeat(1_000).as_bytes()).and_then(|()| stream.flush());
        }
    });
}

/// What a proxy before us might cut elsewhere than we do: one answer at most, and never one to what is hidden behind.
fn ambiguous(siege: &Siege, basic: &str) {
    let head =
        format!("POST /introspect HTTP/1.1\r\nhost: x\r\nauthorization: Basic {basic}\r\ncontent-type: {FORM}\r\n");
    let hidden = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
    let requests = [
        ("two lengths that differ", format!("{head}content-length: 7\r\ncontent-length: 0\r\n\r\ntoken=x{hidden}")),
        ("a list of lengths", format!("{head}content-length: 7, 0\r\n\r\ntoken=x{hidden}")),
        ("a length with a sign", format!("{head}content-length: +0\r\n\r\n{hidden}")),
        ("a length beyond 64 bits", format!("{head}content-length: 18446744073709551616\r\n\r\n{hidden}")),
        ("chunked, and then not", format!("{head}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}")),
        ("a transfer coding nobody knows", format!("{head}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        ("a space before the colon", format!("{head}content-length : 0\r\n\r\n{hidden}")),
        ("a header that goes on in the next line", format!("{head}x: a\r\n b: c\r\ncontent-length: 0\r\n\r\n{hidden}")),
        ("a carriage return alone", format!("{head}x: a\rcontent-length: 0\r\n\r\n{hidden}")),
        ("a chunk with a sign", format!("{head}transfer-encoding: chunked\r\n\r\n+0\r\n\r\n{hidden}")),
        ("a chunk beyond 64 bits", format!("{head}transfer-encoding: chunked\r\n\r\n10000000000000000\r\n{hidden}")),
        ("two hosts", format!("{head}host: y\r\ncontent-length: 7\r\n\r\ntoken=x")),
    ];
    siege.kind("requests that two readers cut in two ways", || {
        for (what, request) in &requests {
            let mut stream = http1(siege);
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
            let answer = String::from_utf8_lossy(&drained(&mut stream)).into_owned();
            assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{what}: {answer}");
            assert!(!answer.contains("\"openapi\""), "{what}: what was hidden is answered");
        }
    });
    // RFC 9112, 6.3: with both, the coding counts, and the connection ends: what stands behind is never a request.
    siege.kind("a length and chunks", || {
        for (length, body) in [(0, "7\r\ntoken=x\r\n0\r\n\r\n"), (40, "0\r\n\r\n")] {
            let request = format!("{head}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{body}{hidden}");
            let mut stream = http1(siege);
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
            let answer = String::from_utf8_lossy(&drained(&mut stream)).into_owned();
            assert!(!answer.contains("\"openapi\""), "what was hidden is answered: {answer}");
        }
    });
}
