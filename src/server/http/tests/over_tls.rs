//! The listener itself, over loopback: TLS, both versions of HTTP, deadlines, limits, the drain.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::server::tls::{TlsMaterial, https_config};

/// A door that runs, and what it takes to reach it.
struct Running {
    address: SocketAddr,
    root: CertificateDer<'static>,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    stats: Arc<Stats>,
    shutdown: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate that signs itself, and a configuration that shows it.
fn self_signed() -> (CertificateDer<'static>, rustls::ServerConfig) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let root = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![root.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (root, config)
}

async fn start(options: HttpOptions) -> Running {
    let (root, config) = self_signed();
    start_with(root, config, desk(options)).await
}

async fn start_with(root: CertificateDer<'static>, config: rustls::ServerConfig, desk: Desk) -> Running {
    let stats = desk.shared.stats.clone();
    let tls = Arc::new(ArcSwap::from_pointee(config));
    let any = "127.0.0.1:0".parse::<SocketAddr>().unwrap();
    let door = HttpDoor::bind(any, desk.shared, desk.settings, desk.options, tls.clone()).await.unwrap();
    let address = door.local_address().unwrap();
    let (shutdown, signal) = watch::channel(Phase::Open);
    Running { address, root, tls, stats, shutdown, task: tokio::spawn(door.run(signal)) }
}

impl Running {
    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        self.try_connect(protocol).await.unwrap()
    }

    async fn try_connect(&self, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_as(protocol, None).await
    }

    /// Connects, showing a certificate if there is one.
    async fn connect_as(
        &self,
        protocol: &[u8],
        shown: Option<&rcgen::CertifiedKey<KeyPair>>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => config.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(shown.signing_key.serialize_der()));
                config.with_client_auth_cert(vec![shown.cert.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends bytes and reads until the door closes the connection.
    async fn talk(&self, request: &[u8]) -> String {
        let mut stream = self.connect(b"http/1.1").await;
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }

    fn refused(&self, reason: RefusedFor) -> u64 {
        self.stats.https.refused[reason as usize].load(Relaxed)
    }
}

/// Everything until the end, however rude the end is.
async fn rest<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4_096];
    while let Ok(count) = stream.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn brief() -> HttpOptions {
    let brief = Duration::from_millis(100);
    HttpOptions {
        handshake_deadline: brief,
        first_request_deadline: brief,
        head_deadline: brief,
        body_deadline: brief,
        ..HttpOptions::default()
    }
}

#[tokio::test]
async fn http_1_1_is_answered() {
    let door = start(HttpOptions::default()).await;
    let answer = door.talk(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:.200}");
    assert!(answer.contains("\"openapi\":\"3.1.0\""));
    let answer = door
        .talk(
            b"POST /introspect HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
            Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\ntoken=a",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    assert_eq!(door.stats.https.accepted.load(Relaxed), 2);
}

/// One HTTP/2 frame (this is RFC 9113's word).
fn h2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test]
async fn http_2_is_answered() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const END_STREAM: u8 = 1;
    const END_HEADERS_AND_STREAM: u8 = 5;
    let door = start(HttpOptions::default()).await;
    let mut stream = door.connect(b"h2").await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // RFC 7541: :method GET and :scheme https by number, :authority and :path as literals.
    let mut head = vec![0x82, 0x87, 0x01, 9];
    head.extend_from_slice(b"localhost");
    head.extend_from_slice(&[0x04, 13]);
    head.extend_from_slice(b"/openapi.json");
    let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    request.extend(h2_frame(SETTINGS, 0, 0, &[]));
    request.extend(h2_frame(HEADERS, END_HEADERS_AND_STREAM, 1, &head));
    stream.write_all(&request).await.unwrap();
    let (mut status, mut body) = (None, Vec::new());
    loop {
        let mut prefix = [0; 9];
        stream.read_exact(&mut prefix).await.unwrap();
        let length = u32::from_be_bytes([0, prefix[0], prefix[1], prefix[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        match prefix[3] {
            // 0x88 is ":status 200".
            HEADERS => status = payload.first().copied(),
            DATA => body.extend_from_slice(&payload),
            _ => {}
        }
        if prefix[3] == DATA && prefix[4] & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(status, Some(0x88));
    assert_eq!(body, crate::server::api::openapi::document());
}

#[tokio::test]
async fn garbage_and_plain_http_cost_a_handshake_and_nothing_else() {
    let door = start(HttpOptions::default()).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0", &[0x16, 3, 1, 0xff, 0xff]] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        rest(&mut stream).await;
    }
    let answer = door.talk(b"\x01\x02 not http\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let answer = door.talk(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"));
    assert_eq!(door.stats.https.handshakes_failed.load(Relaxed), 3);
    assert_eq!(door.stats.panics.load(Relaxed), 0);
}

#[tokio::test]
async fn heads_and_bodies_that_are_too_large_are_refused() {
    let door = start(HttpOptions::default()).await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    let answer = door.talk(long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer:.100}");
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(100));
    let answer = door.talk(many.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer:.100}");
    // Announced: refused before a byte of it is read.
    let huge = b"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
        Content-Length: 104857600\r\n\r\n";
    let mut stream = door.connect(b"http/1.1").await;
    stream.write_all(huge).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer:.100}");
}

#[tokio::test]
async fn whoever_is_silent_or_slow_is_cut() {
    let door = start(brief()).await;
    // No handshake.
    let mut stream = TcpStream::connect(door.address).await.unwrap();
    rest(&mut stream).await;
    // A handshake, and then nothing; half a head; half a body.
    for half in [&b""[..], b"GET / HTTP/1.1\r\nHo", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        door.talk(half).await;
    }
    let answer = door
        .talk(
            b"POST /introspect HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 7\r\n\
            Content-Type: application/x-www-form-urlencoded\r\n\r\ntok",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer:.100}");
    assert!(door.refused(RefusedFor::TooSlow) >= 4, "{}", door.refused(RefusedFor::TooSlow));
}

#[tokio::test]
async fn connections_are_bounded_and_a_place_comes_free_again() {
    let door = start(HttpOptions { connections_max: 1, ..HttpOptions::default() }).await;
    let request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = door.connect(b"http/1.1").await;
    first.write_all(request).await.unwrap();
    let mut start = [0; 12];
    first.read_exact(&mut start).await.unwrap();
    let mut second = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(rest(&mut second).await, "");
    assert_eq!(door.refused(RefusedFor::Overload), 1);
    first.shutdown().await.unwrap();
    rest(&mut first).await;
    // Its task may still be ending: ask until the place is free.
    while door.try_connect(b"http/1.1").await.is_err() {}
    assert!(door.stats.https.accepted.load(Relaxed) >= 2);
}

#[tokio::test]
async fn a_drain_ends_idle_connections_and_lets_requests_finish() {
    let door = start(HttpOptions::default()).await;
    let mut idle = door.connect(b"http/1.1").await;
    idle.write_all(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    idle.read_exact(&mut start).await.unwrap();
    // Half a body is under way when the drain begins; the rest of it still gets its answer.
    let mut busy = door.connect(b"http/1.1").await;
    busy.write_all(
        b"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n\r\n",
    )
    .await
    .unwrap();
    let mut go_on = [0; 25];
    busy.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100"));
    door.shutdown.send(Phase::Draining).unwrap();
    rest(&mut idle).await;
    busy.write_all(b"token=a").await.unwrap();
    let answer = rest(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    door.task.await.unwrap();
    assert!(TcpStream::connect(door.address).await.is_err());
    assert_eq!(door.stats.https.connections.load(Relaxed), 0);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let door = start(HttpOptions { drain_deadline: Duration::from_millis(50), ..HttpOptions::default() }).await;
    let mut stuck = door.connect(b"http/1.1").await;
    stuck
        .write_all(
            b"POST /introspect HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\
            Content-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n\r\n",
        )
        .await
        .unwrap();
    let mut go_on = [0; 25];
    stuck.read_exact(&mut go_on).await.unwrap();
    door.shutdown.send(Phase::Draining).unwrap();
    door.task.await.unwrap();
    assert_eq!(rest(&mut stuck).await, "");
    // A server whose signal is gone has come to its end as well.
    let door = start(HttpOptions::default()).await;
    drop(door.shutdown);
    door.task.await.unwrap();
}

/// A certificate for `name`, signed by `issuer`.
fn signed(name: &str, issuer: &Issuer<'_, KeyPair>) -> rcgen::CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&signing_key, issuer).unwrap();
    rcgen::CertifiedKey { cert, signing_key }
}

fn authority() -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), Issuer::new(params, key))
}

// R8705-01, R8705-02: the chain is TLS's business, whose it is ours, looked up for each request.
#[tokio::test]
async fn a_client_certificate_is_a_caller_for_as_long_as_the_list_says_so() {
    let (root, issuer) = authority();
    let server = signed("localhost", &issuer);
    let (chain, key) = (server.cert.pem(), server.signing_key.serialize_pem());
    let material = TlsMaterial::from_pem(chain.as_bytes(), key.as_bytes(), root.pem().as_bytes()).unwrap();
    let config = https_config(&material).unwrap();
    let by_name = CredentialsOf { certificate_name: Some("api.example".into()), ..CredentialsOf::default() };
    let caller = Caller { id: CallerId::parse("api").unwrap(), rights: Rights::default() };
    let desk = desk(HttpOptions::default());
    let callers = desk.shared.callers.clone();
    callers.store(Arc::new(Callers::new(vec![(caller, by_name)])));
    let door = start_with(root.der().clone(), Arc::unwrap_or_clone(config), desk).await;
    let ask = b"GET /v1/scopes HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (known, unknown) = (signed("api.example", &issuer), signed("other.example", &issuer));
    let (_, foreign_issuer) = authority();
    let foreign = signed("api.example", &foreign_issuer);
    for (shown, status) in [(Some(&known), "200"), (Some(&unknown), "401"), (None, "401")] {
        let mut stream = door.connect_as(b"http/1.1", shown).await.unwrap();
        stream.write_all(ask).await.unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&line), format!("HTTP/1.1 {status}"));
    }
    // A foreign chain ends at the handshake; TLS 1.3 tells the client only after it.
    if let Ok(mut stream) = door.connect_as(b"http/1.1", Some(&foreign)).await {
        let _ = stream.write_all(ask).await;
        assert_eq!(rest(&mut stream).await, "");
    }
    // The list changes under a connection that stands.
    let mut stream = door.connect_as(b"http/1.1", Some(&known)).await.unwrap();
    for (list, status) in [(None, "200"), (Some(Callers::default()), "401")] {
        if let Some(list) = list {
            callers.store(Arc::new(list));
        }
        stream.write_all(b"GET /v1/scopes HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut bytes = Vec::new();
        // Each answer ends with the brace of its JSON.
        while !bytes.ends_with(b"}") {
            bytes.push(stream.read_u8().await.unwrap());
        }
        assert!(bytes.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{}", String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test]
async fn a_new_certificate_serves_new_connections() {
    let mut door = start(HttpOptions::default()).await;
    let mut old = door.connect(b"http/1.1").await;
    let (root, config) = self_signed();
    door.tls.store(Arc::new(config));
    assert!(door.try_connect(b"http/1.1").await.is_err(), "the old root does not know the new certificate");
    door.root = root;
    assert!(door.talk(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 404"));
    old.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut old).await.starts_with("HTTP/1.1 404"), "what stands goes on");
}
