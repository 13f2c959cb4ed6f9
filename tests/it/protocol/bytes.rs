//! Bytes that no good client would send, and what the server makes of them. It never falls over and always says why.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokenscope::server::Phase;
use tokenscope::server::quic_limits::QuicOptions;
use tokenscope::server::tunnel::Tunnel;
use tokenscope::wire::message::{Answer, Envelope, ErrorCode, Hello, Request, Revocation, Wait};
use tokenscope::wire::{ALPN, CloseCode, Raw, STREAM_REQUESTS, Split, decode, encode};

use super::rig::{Ca, Identity, Rig, TOKEN};

/// A connection made by hand.
pub struct ByHand {
    _endpoint: Endpoint,
    pub connection: Connection,
}

async fn connect(rig: &Rig, identity: Option<&Identity>, alpn: &[u8]) -> Result<ByHand, ConnectionError> {
    connect_with(rig, identity, alpn, TransportConfig::default()).await
}

/// A connection with settings of its own.
pub async fn connect_with(
    rig: &Rig,
    identity: Option<&Identity>,
    alpn: &[u8],
    transport: TransportConfig,
) -> Result<ByHand, ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(rig.ca.pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connection = endpoint.connect_with(config, rig.address, "localhost").unwrap().await?;
    Ok(ByHand { _endpoint: endpoint, connection })
}

pub async fn known(rig: &Rig) -> ByHand {
    connect(rig, Some(&rig.ca.issue("everything.test")), ALPN).await.unwrap()
}

impl ByHand {
    pub async fn closed_with(&self) -> Option<CloseCode> {
        match self.connection.closed().await {
            ConnectionError::ApplicationClosed(close) => CloseCode::from_code(close.error_code.into_inner()),
            other => panic!("{other}"),
        }
    }

    pub async fn stream(&self) -> Stream {
        self.stream_of(STREAM_REQUESTS).await
    }

    /// A stream of this type.
    pub async fn stream_of(&self, kind: u8) -> Stream {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        send.write_all(&[kind]).await.unwrap();
        Stream { send, receive, input: Vec::new() }
    }
}

pub struct Stream {
    pub send: SendStream,
    receive: RecvStream,
    input: Vec<u8>,
}

impl Stream {
    pub async fn say(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
    }

    /// The next answer, given to `look`.
    pub async fn hear<T>(&mut self, look: impl FnOnce(u32, Answer<'_>) -> T) -> T {
        self.hear_raw(|raw| look(raw.id, decode::answer(raw).unwrap())).await.expect("the stream goes on")
    }

    /// The next message, given to `look`; `None` at the end of the stream.
    pub async fn hear_raw<T>(&mut self, look: impl FnOnce(&Raw<'_>) -> T) -> Option<T> {
        loop {
            if let Ok(Split::Whole(raw, length)) = decode::split(&self.input) {
                let seen = look(&raw);
                self.input.drain(..length);
                return Some(seen);
            }
            let mut buffer = [0; 4096];
            let bytes = self.receive.read(&mut buffer).await.unwrap()?;
            self.input.extend_from_slice(&buffer[..bytes]);
        }
    }

    pub async fn greeted(mut self) -> Self {
        self.hear(|id, answer| assert!(id == 0 && matches!(answer, Answer::Hello(Hello { minor: 1, .. })))).await;
        self
    }

    pub async fn hears_error(&mut self, expected_id: u32, expected: ErrorCode) {
        self.hear(|id, answer| match answer {
            Answer::Error { code, .. } => assert_eq!((id, code), (expected_id, expected)),
            other => panic!("{other:?}"),
        })
        .await;
    }
}

fn introspect(id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request = Request::Introspect { digest: tokenscope::client::digest(TOKEN), place: None };
    encode::request(&mut bytes, &Envelope { id, least: None, request }).unwrap();
    bytes
}

#[tokio::test]
async fn without_a_certificate_or_with_another_protocol_nobody_gets_in() {
    let rig = Rig::start().await;
    // In TLS 1.3 a client may think it is in before the server has looked at its certificate.
    match connect(&rig, None, ALPN).await {
        Err(_) => {}
        Ok(by_hand) => assert!(matches!(by_hand.connection.closed().await, ConnectionError::ConnectionClosed(_))),
    }
    assert!(connect(&rig, Some(&rig.ca.issue("everything.test")), b"h3").await.is_err());
    assert!(rig.client("everything").await.introspect(TOKEN).await.is_ok());
}

#[tokio::test]
async fn garbage_on_the_port_is_ignored() {
    let rig = Rig::start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 20, 500, 1_200, 1_400] {
        for fill in [0x00, 0x40, 0xc0, 0xff] {
            socket.send_to(&vec![fill; length], rig.address).unwrap();
        }
    }
    assert!(rig.client("everything").await.introspect(TOKEN).await.is_ok());
}

#[tokio::test]
async fn bytes_that_are_no_messages_close_the_connection_with_their_code() {
    let rig = Rig::start().await;
    for (bytes, code) in [
        (&[7, 0, 1, 0, 0, 0, 0, 0][..], CloseCode::Malformed),
        (&[0, 0][..], CloseCode::Malformed),
        (&[0x01, 0x40, 1, 0][..], CloseCode::TooLarge),
        (&[0xff, 0xff, 0x7f][..], CloseCode::TooLarge),
    ] {
        let by_hand = known(&rig).await;
        let mut stream = by_hand.stream().await.greeted().await;
        let whole_and_broken = [&introspect(3), bytes].concat();
        stream.say(&whole_and_broken).await;
        assert_eq!(by_hand.closed_with().await, Some(code), "{bytes:?}");
    }
    let by_hand = known(&rig).await;
    let (mut send, _receive) = by_hand.connection.open_bi().await.unwrap();
    send.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert_eq!(by_hand.closed_with().await, Some(CloseCode::UnknownStream));
    assert!(rig.client("everything").await.introspect(TOKEN).await.is_ok());
}

#[tokio::test]
async fn a_message_that_is_wrong_inside_gets_an_error_and_the_stream_goes_on() {
    let rig = Rig::start().await;
    let by_hand = known(&rig).await;
    let mut stream = by_hand.stream().await.greeted().await;
    // Unknown kinds (an announcement among them), a digest too short, a reserved bit, no such grant.
    for (id, bytes, code) in [
        (1, [&[8, 0, 0x3f, 0, 1, 0, 0, 0][..]].concat(), ErrorCode::UnknownMessage),
        (2, [&[8, 0, 0x40, 0, 2, 0, 0, 0][..]].concat(), ErrorCode::UnknownMessage),
        (3, [&[39, 0, 1, 0, 3, 0, 0, 0][..], &[0; 31]].concat(), ErrorCode::Malformed),
        (4, [&[40, 0, 1, 1, 4, 0, 0, 0][..], &[0; 32]].concat(), ErrorCode::Malformed),
        (5, [&[12, 0, 0x21, 2, 5, 0, 0, 0][..], &[0; 4]].concat(), ErrorCode::Malformed),
    ] {
        stream.say(&bytes).await;
        stream.hears_error(id, code).await;
    }
    stream.say(&introspect(6)).await;
    stream.hear(|id, answer| assert!(id == 6 && matches!(answer, Answer::Active(_)))).await;
}

#[tokio::test]
async fn a_message_may_arrive_byte_by_byte() {
    let rig = Rig::start().await;
    let by_hand = known(&rig).await;
    let mut stream = by_hand.stream().await.greeted().await;
    for byte in introspect(6) {
        stream.say(&[byte]).await;
        tokio::task::yield_now().await;
    }
    stream.hear(|id, answer| assert!(id == 6 && matches!(answer, Answer::Active(_)))).await;
    stream.send.finish().unwrap();
    let mut rest = [0; 1];
    assert_eq!(stream.receive.read(&mut rest).await.unwrap(), None, "the server finishes its side too");
}

#[tokio::test]
async fn who_sends_nothing_or_half_a_message_is_closed() {
    let options = QuicOptions {
        first_request_deadline: Duration::from_millis(50),
        partial_message_deadline: Duration::from_millis(50),
        ..QuicOptions::default()
    };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    let by_hand = known(&rig).await;
    assert_eq!(by_hand.closed_with().await, Some(CloseCode::TooSlow), "no request");
    let by_hand = known(&rig).await;
    let mut stream = by_hand.stream().await.greeted().await;
    stream.say(&introspect(1)[..20]).await;
    assert_eq!(by_hand.closed_with().await, Some(CloseCode::TooSlow), "half a request");
}

#[tokio::test]
async fn who_does_not_read_its_answers_is_closed() {
    let options = QuicOptions { write_deadline: Duration::from_millis(100), ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    let by_hand = known(&rig).await;
    let mut stream = by_hand.stream().await;
    let flood: Vec<u8> = (0..1_000).flat_map(introspect).collect();
    // The client's window for answers (quinn's default, over a megabyte) fills up, and then nobody reads.
    let flooding = async { while stream.send.write_all(&flood).await.is_ok() {} };
    tokio::join!(flooding, async { assert_eq!(by_hand.closed_with().await, Some(CloseCode::TooSlow)) });
    assert!(rig.client("everything").await.introspect(TOKEN).await.is_ok());
}

#[tokio::test]
async fn more_changes_than_there_is_room_for_are_busy_and_hold_no_question_up() {
    let options = QuicOptions { changes_in_flight_max: 1, ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    let by_hand = known(&rig).await;
    let mut stream = by_hand.stream().await.greeted().await;
    let mut bytes = Vec::new();
    for id in 0..20 {
        let request = Request::Revoke(Revocation::Digest(tokenscope::client::digest("some token")), Wait::Applied);
        encode::request(&mut bytes, &Envelope { id, least: None, request }).unwrap();
    }
    bytes.extend(introspect(99));
    stream.say(&bytes).await;
    let (mut done, mut busy, mut seen) = (0, 0, 0);
    for _ in 0..21 {
        stream
            .hear(|id, answer| match answer {
                Answer::Done { .. } => done += 1,
                Answer::Error { code: ErrorCode::Busy, .. } => busy += 1,
                Answer::Active(_) if id == 99 => seen += 1,
                other => panic!("{other:?}"),
            })
            .await;
    }
    assert!(done >= 1 && busy >= 1 && done + busy == 20 && seen == 1, "{done} done, {busy} busy, {seen} answered");
}

/// A caller opened one connection more whenever it was told "busy", until nobody else's changes found room: the limit was
/// for each stream. What takes rights away finds room after everything else.
#[tokio::test]
async fn what_a_caller_has_under_way_is_counted_over_all_its_connections() {
    let options = QuicOptions { changes_in_flight_per_caller: 4, ..QuicOptions::default() };
    let rig = Rig::start_leasing(Duration::from_secs(60), options, Tunnel::closed(), Arc::new(Ca::new())).await;
    // Fenced changes stay under way while this one has a lease and acknowledges nothing.
    let (holder, one, other) = (known(&rig).await, known(&rig).await, known(&rig).await);
    let _holds = super::follow::leased(&holder).await;
    let fenced = |id: u32| {
        let mut bytes = Vec::new();
        let digest = tokenscope::domain::TokenDigest::of(format!("token {id}").as_bytes());
        let request = Request::Revoke(Revocation::Digest(digest), Wait::Fenced);
        encode::request(&mut bytes, &Envelope { id, least: None, request }).unwrap();
        bytes
    };
    let mut streams = Vec::new();
    for by_hand in [&one, &other] {
        streams.push(by_hand.stream().await.greeted().await);
    }
    // Four and a quarter more, for what takes rights away.
    for id in 0..5 {
        streams[id as usize % 2].say(&fenced(id)).await;
    }
    // The first five are on their way before the sixth is sent: an answer comes after what is before it on a stream.
    for stream in &mut streams {
        stream.say(&introspect(8)).await;
        stream.hear(|id, answer| assert!(id == 8 && matches!(answer, Answer::Active(_)), "{answer:?}")).await;
    }
    streams[1].say(&fenced(5)).await;
    streams[1].hears_error(5, ErrorCode::Busy).await;
    let mut api = Vec::new();
    let request = Request::Api { method: tokenscope::wire::message::Method::Get, path: "/v1/scopes", body: b"" };
    encode::request(&mut api, &Envelope { id: 6, least: None, request }).unwrap();
    streams[0].say(&api).await;
    streams[0].hears_error(6, ErrorCode::Busy).await;
    // Questions are answered all the while, and a caller that has nothing under way is told nothing of this.
    streams[0].say(&introspect(7)).await;
    streams[0].hear(|id, answer| assert!(id == 7 && matches!(answer, Answer::Active(_)), "{answer:?}")).await;
    let neighbour = connect(&rig, Some(&rig.ca.issue("only-a.test")), ALPN).await.unwrap();
    let mut stream = neighbour.stream().await.greeted().await;
    stream.say(&api).await;
    stream.hear(|id, answer| assert!(id == 6 && matches!(answer, Answer::Api { .. }), "{answer:?}")).await;
}

/// An issuer that registered 256 tokens at once through one client was told "busy" for most of them, though it could
/// not know of the limit: the server tells it to the client's library alone.
#[tokio::test]
async fn a_client_waits_with_more_changes_than_the_server_takes_at_once() {
    let options = QuicOptions { changes_in_flight_max: 1, ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    let client = rig.client("everything").await;
    let revoke = async |number: usize| {
        let token = tokenscope::client::Token::from(&format!("one of many {number}"));
        client.revoke(tokenscope::client::Revoke::Token(token)).await
    };
    let (a, b, c, d) = tokio::join!(revoke(1), revoke(2), revoke(3), revoke(4));
    for done in [a, b, c, d] {
        assert!(done.is_ok(), "{done:?}");
    }
    client.close().await;
}

#[tokio::test]
async fn more_streams_than_allowed_wait_and_one_way_streams_are_not_opened() {
    let rig = Rig::start_with(QuicOptions { streams: 2, ..QuicOptions::default() }, Tunnel::closed()).await;
    let by_hand = known(&rig).await;
    let first = by_hand.stream().await.greeted().await;
    let _second = by_hand.stream().await.greeted().await;
    let short = Duration::from_millis(100);
    assert!(tokio::time::timeout(short, by_hand.connection.open_bi()).await.is_err(), "a third stream");
    assert!(tokio::time::timeout(short, by_hand.connection.open_uni()).await.is_err(), "a one-way stream");
    drop(first);
}

/// A demo's client had gone away without a word, and stopping the server took the whole grace of 5 s and the packets'
/// last second. Whoever has nothing in flight is closed after a moment, whether it reads or not.
#[tokio::test]
async fn a_client_that_is_gone_holds_no_shutdown_up() {
    let options = QuicOptions { leave_grace: Duration::from_secs(60), ..QuicOptions::default() };
    let mut rig = Rig::start_with(options, Tunnel::closed()).await;
    let by_hand = known(&rig).await;
    let mut stream = by_hand.stream().await.greeted().await;
    stream.say(&introspect(1)).await;
    stream.hear(|id, answer| assert!(id == 1 && matches!(answer, Answer::Active(_)), "{answer:?}")).await;
    rig.phase.send_replace(Phase::Draining);
    stream.hear(|id, answer| assert!(id == 0 && matches!(answer, Answer::GoingAway { .. }), "{answer:?}")).await;
    // A question that was on its way when the notice was is answered still.
    stream.say(&introspect(2)).await;
    stream.hear(|id, answer| assert!(id == 2 && matches!(answer, Answer::Active(_)), "{answer:?}")).await;
    let began = Instant::now();
    assert_eq!(by_hand.closed_with().await, Some(CloseCode::GoingAway));
    let door = rig.door.take().unwrap();
    tokio::task::spawn_blocking(move || door.join()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}, with a grace of 60 s", began.elapsed());
}
