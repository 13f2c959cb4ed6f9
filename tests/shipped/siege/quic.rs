//! What hostile peers do at the native door.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, TransportConfig, VarInt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokenscope::certs::Authority;
use tokenscope::client::Client;
use tokenscope::domain::TokenDigest;
use tokenscope::wire::message::{Envelope, Request};
use tokenscope::wire::{ALPN, STREAM_FEED, STREAM_REQUESTS, encode};
use tokio::time::{sleep, timeout};

use super::proxy::{Fate, Proxy};
use super::{Good, Siege, elsewhere};
use crate::house::now;
use crate::native::{options, runtime};

/// The good client: a check every few milliseconds.
pub fn ask(siege: &Siege, good: &Good) {
    runtime().block_on(async {
        let client = Client::connect(options(&siege.house, "admin")).await.unwrap();
        let token = siege.house.token("jonas-time").token.clone();
        while !good.is_over() {
            let began = Instant::now();
            let answer = client.check(&token, "tasks:read", "1579").await;
            let right = answer.as_ref().is_ok_and(|decision| decision.is_allowed());
            good.asked(began, right.then_some(()).ok_or_else(|| format!("{answer:?}")));
            sleep(Duration::from_millis(3)).await;
        }
        client.close().await;
    });
}

/// Numbers without sense, the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll() as u8).collect()
    }
}

/// A client's settings, each as bad as is wished.
struct Dials<'s> {
    siege: &'s Siege,
    to: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
    transport: TransportConfig,
}

impl<'s> Dials<'s> {
    fn nobody(siege: &'s Siege) -> Self {
        Self { siege, to: siege.house.file.quic, chain: Vec::new(), key: None, transport: TransportConfig::default() }
    }

    fn with(siege: &'s Siege, (certificate, key): (&Path, &Path)) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        Self { chain, key: Some(PrivateKeyDer::from_pem_file(key).unwrap()), ..Self::nobody(siege) }
    }

    fn hostile(siege: &'s Siege) -> Self {
        Self::with(siege, siege.hostile.paths())
    }

    fn to(self, to: SocketAddr) -> Self {
        Self { to, ..self }
    }

    fn config(self) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.siege.house.file.ca_file).unwrap()).unwrap();
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match self.key {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_auth_cert(self.chain, key).unwrap(),
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        // Takes whatever would let it come early.
        tls.enable_early_data = true;
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        config.transport_config(Arc::new(self.transport));
        config
    }

    async fn dial(self) -> Result<(Endpoint, Connection), ConnectionError> {
        let (to, endpoint) = (self.to, Endpoint::client(elsewhere()).unwrap());
        let connection = endpoint.connect_with(self.config(), to, "localhost").unwrap().await?;
        Ok((endpoint, connection))
    }
}

fn question(id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request = Request::Introspect { digest: TokenDigest::of(&id.to_le_bytes()), place: None };
    encode::request(&mut bytes, &Envelope { id, least: None, request }).unwrap();
    bytes
}

/// An Initial that a real client would send, one each time.
pub async fn initial(siege: &Siege) -> Vec<u8> {
    let nowhere = tokio::net::UdpSocket::bind(elsewhere()).await.unwrap();
    let config = Dials::hostile(siege).config();
    let endpoint = Endpoint::client(elsewhere()).unwrap();
    let connecting = endpoint.connect_with(config, nowhere.local_addr().unwrap(), "localhost").unwrap();
    let mut buffer = vec![0; 2_048];
    let length = nowhere.recv(&mut buffer).await.unwrap();
    drop(connecting);
    buffer.truncate(length);
    buffer
}

/// As many connections as it gets of `wanted`.
async fn connections(siege: &Siege, wanted: usize) -> Vec<(Endpoint, Connection)> {
    let mut got = Vec::new();
    for _ in 0..wanted {
        if let Ok(Ok(connected)) = timeout(Duration::from_secs(2), Dials::hostile(siege).dial()).await {
            got.push(connected);
        }
    }
    got
}

/// A connection, as soon as there is a place.
async fn entered(siege: &Siege) -> (Endpoint, Connection) {
    loop {
        match Dials::hostile(siege).dial().await {
            Ok(connected) => return connected,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Runs an attack for as long as it likes, thirty seconds at most.
pub fn run(attack: impl Future<Output = ()>) {
    runtime().block_on(async { assert!(timeout(Duration::from_secs(30), attack).await.is_ok(), "it never ends") });
}

pub fn attack(siege: &Siege) {
    before_the_handshake(siege);
    in_the_handshake(siege);
    places(siege);
    streams(siege);
    network(siege);
}

fn before_the_handshake(siege: &Siege) {
    let to = siege.house.file.quic;
    let mut dice = Dice(1);
    let throw = |packets: Vec<Vec<u8>>| {
        for packets in packets.chunks(64) {
            let socket = UdpSocket::bind(elsewhere()).unwrap();
            packets.iter().for_each(|packet| drop(socket.send_to(packet, to)));
        }
    };
    let mut header = |version: u32, bytes: usize| {
        let mut packet = vec![0xc3];
        packet.extend(version.to_be_bytes());
        packet.push(8);
        packet.extend(dice.bytes(8));
        // No source id, no token, and the length of what follows.
        packet.extend([0, 0, 0x40 | (bytes >> 8) as u8, bytes as u8]);
        packet.extend(dice.bytes(bytes));
        packet
    };
    let versions = (0..1_000).map(|number| header(0x1a2a_3a4a ^ number << 8, 1_200)).collect();
    let garbled = (0..1_000).map(|_| header(1, 1_200)).collect();
    let short = (0..1_000).map(|number| header(1, number % 1_100)).collect();
    let garbage = (0..2_000).map(|number| dice.bytes([0, 1, 20, 21, 100, 1_200, 1_472, 9_000][number % 8])).collect();
    siege.kind("garbage", || throw(garbage));
    siege.kind("versions nobody knows", || throw(versions));
    siege.kind("first packets that nobody can read", || throw(garbled));
    siege.kind("first packets that are too short", || throw(short));
    siege.kind("handshakes that are left half open", || {
        run(async {
            let mut packets = Vec::new();
            for _ in 0..200 {
                packets.push(initial(siege).await);
            }
            throw(packets);
        });
    });
    siege.kind("first packets again and again, from everywhere", || {
        run(async {
            let packet = initial(siege).await;
            throw(vec![packet; 3_000]);
        });
    });
}

fn in_the_handshake(siege: &Siege) {
    // Handshakes that were left half open have their places until their deadline.
    run(async { drop(entered(siege).await) });
    siege.kind("handshakes without a certificate", || {
        run(async {
            for _ in 0..30 {
                if let Ok((_endpoint, connection)) = Dials::nobody(siege).dial().await {
                    connection.closed().await;
                }
            }
        });
    });
    siege.kind("handshakes with a foreign certificate", || {
        let theirs = Authority::new("somebody else", now()).unwrap();
        theirs.client("admin", now()).unwrap().write(siege.house.dir.path(), "foreign").unwrap();
        let file = |end: &str| siege.house.dir.path().join(format!("foreign.{end}"));
        run(async {
            for _ in 0..30 {
                if let Ok((_endpoint, connection)) = Dials::with(siege, (&file("pem"), &file("key"))).dial().await {
                    connection.closed().await;
                }
            }
        });
    });
    siege.kind("a chain of certificates without an end", || {
        run(async {
            for _ in 0..5 {
                let mut dials = Dials::hostile(siege);
                dials.chain = vec![dials.chain[0].clone(); 500];
                if let Ok((_endpoint, connection)) = dials.dial().await {
                    connection.closed().await;
                }
            }
        });
    });
    siege.kind("resumption and early data", || {
        run(async {
            // One configuration, so that a ticket would be kept; and one is waited for.
            let config = Dials::hostile(siege).config();
            let mut answered = 0;
            drop(entered(siege).await);
            for _ in 0..10 {
                let endpoint = Endpoint::client(elsewhere()).unwrap();
                let connecting = endpoint.connect_with(config.clone(), siege.house.file.quic, "localhost").unwrap();
                let connecting = match connecting.into_0rtt() {
                    Ok(_) => panic!("data may come early"),
                    Err(connecting) => connecting,
                };
                let Ok(connection) = connecting.await else { continue };
                answered += 1;
                let (mut send, mut receive) = connection.open_bi().await.unwrap();
                send.write_all(&[&[STREAM_REQUESTS][..], &question(1)].concat()).await.unwrap();
                receive.read(&mut [0; 64]).await.unwrap();
                connection.close(VarInt::from_u32(0), b"");
                endpoint.wait_idle().await;
            }
            assert!(answered > 1, "nobody came back");
        });
    });
}

fn places(siege: &Siege) {
    siege.until_they_left();
    siege.kind("more connections than there are places, and never a stream", || {
        run(async {
            let held = connections(siege, 60).await;
            sleep(Duration::from_millis(1_500)).await;
            assert!(held.iter().all(|(_, connection)| connection.close_reason().is_some()), "unused, and not closed");
        });
    });
    siege.until_they_left();
    siege.kind("connections with every stream open, and nothing said", || {
        run(async {
            let held = connections(siege, 20).await;
            let mut open = Vec::new();
            for (_, connection) in &held {
                while let Ok(Ok((mut send, receive))) = timeout(Duration::from_millis(20), connection.open_bi()).await {
                    // Half of them say nothing, not even what they are.
                    if open.len() % 2 == 0 && send.write_all(&[STREAM_FEED]).await.is_err() {
                        break;
                    }
                    open.push((send, receive));
                }
            }
            sleep(Duration::from_millis(500)).await;
        });
    });
    siege.until_they_left();
    siege.kind("connections opened and closed", || {
        run(async {
            for _ in 0..100 {
                let (_endpoint, connection) = entered(siege).await;
                connection.close(VarInt::from_u32(7), &[b'x'; 900]);
            }
        });
    });
    siege.kind("another address every moment", || {
        run(async {
            for _ in 0..10 {
                let (endpoint, connection) = entered(siege).await;
                let Ok((mut send, _receive)) = connection.open_bi().await else { continue };
                let _ = send.write_all(&[STREAM_REQUESTS]).await;
                for id in 0..10 {
                    endpoint.rebind(UdpSocket::bind(elsewhere()).unwrap()).unwrap();
                    let _ = send.write_all(&question(id)).await;
                    sleep(Duration::from_millis(2)).await;
                }
            }
        });
    });
}

fn streams(siege: &Siege) {
    siege.kind("streams opened and reset", || {
        run(async {
            let (_endpoint, connection) = entered(siege).await;
            for id in 0..2_000 {
                let Ok((mut send, mut receive)) = connection.open_bi().await else { return };
                let _ = send.write_all(&[&[STREAM_REQUESTS][..], &question(id)[..20]].concat()).await;
                let _ = (send.reset(VarInt::from_u32(1)), receive.stop(VarInt::from_u32(1)));
            }
        });
    });
    siege.kind("streams of one way, and datagrams", || {
        run(async {
            let (_endpoint, connection) = entered(siege).await;
            let short = Duration::from_millis(100);
            assert!(timeout(short, connection.open_uni()).await.is_err(), "a stream of one way");
            assert_eq!(connection.max_datagram_size(), None, "datagrams");
        });
    });
    siege.until_they_left();
    siege.kind("half a message, byte by byte, on many streams", || {
        run(async {
            let held = connections(siege, 8).await;
            let mut open = Vec::new();
            for (_, connection) in &held {
                for _ in 0..4 {
                    open.push(connection.open_bi().await.unwrap());
                }
            }
            for byte in [&[STREAM_REQUESTS][..], &[0xff, 0x3f, 1], &[0; 30]].concat() {
                for (send, _) in &mut open {
                    let _ = send.write_all(&[byte]).await;
                }
                sleep(Duration::from_millis(30)).await;
            }
            sleep(Duration::from_millis(600)).await;
            assert!(held.iter().all(|(_, connection)| connection.close_reason().is_some()), "half, and not closed");
        });
    });
    siege.kind("messages that are none", || {
        run(async {
            for bytes in
                [&[0x7e][..], &[STREAM_REQUESTS, 3, 0, 1], &[STREAM_REQUESTS, 255, 255, 1], &[STREAM_FEED, 0, 0]]
            {
                for _ in 0..5 {
                    let (_endpoint, connection) = entered(siege).await;
                    let (mut send, _receive) = connection.open_bi().await.unwrap();
                    send.write_all(&[bytes, &[0xaa; 100]].concat()).await.unwrap();
                    assert!(matches!(connection.closed().await, ConnectionError::ApplicationClosed(_)));
                }
            }
        });
    });
    siege.until_they_left();
    siege.kind("answers that nobody reads", || unread(siege, TransportConfig::default()));
    siege.until_they_left();
    siege.kind("answers for which there is hardly room", || {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(64)).receive_window(VarInt::from_u32(256));
        unread(siege, transport);
    });
}

/// Asks on every stream of many connections, and reads nothing, until it is closed.
fn unread(siege: &Siege, transport: TransportConfig) {
    let transport = Arc::new(transport);
    let flood: Vec<u8> = (0..1_000).flat_map(question).collect();
    run(async {
        let mut tasks = tokio::task::JoinSet::new();
        let mut held = Vec::new();
        for _ in 0..12 {
            let mut config = Dials::hostile(siege).config();
            config.transport_config(transport.clone());
            let endpoint = Endpoint::client(elsewhere()).unwrap();
            let connecting = endpoint.connect_with(config, siege.house.file.quic, "localhost").unwrap();
            let Ok(connection) = connecting.await else { continue };
            for _ in 0..4 {
                let Ok((mut send, receive)) = connection.open_bi().await else { break };
                let flood = flood.clone();
                tasks.spawn(async move {
                    let _keep = receive;
                    let _ = send.write_all(&[STREAM_REQUESTS]).await;
                    while send.write_all(&flood).await.is_ok() {}
                });
            }
            held.push((endpoint, connection));
        }
        for (_, connection) in &held {
            assert!(matches!(connection.closed().await, ConnectionError::ApplicationClosed(_)));
        }
        while tasks.join_next().await.is_some() {}
    });
}

fn network(siege: &Siege) {
    let server = siege.house.file.quic;
    type Fates = fn(usize) -> Fate;
    let fates: [(_, Fates); 3] = [
        ("fragments of a byte, every other one missing", |number| {
            if number > 12 && number.is_multiple_of(2) { Fate::Drop } else { Fate::Pass }
        }),
        ("packets twice and in the wrong order", |number| [Fate::Twice, Fate::Late, Fate::Pass][number % 3]),
        ("packets with flipped bits", |number| if number % 3 == 2 { Fate::Broken } else { Fate::Pass }),
    ];
    for (what, fate) in fates {
        siege.until_they_left();
        siege.kind(what, || {
            let proxy = Proxy::start(server, fate);
            run(async {
                let dialled = timeout(Duration::from_secs(5), Dials::hostile(siege).to(proxy.address).dial()).await;
                let Ok(Ok((_endpoint, connection))) = dialled else { return };
                let mut open = Vec::new();
                for _ in 0..4 {
                    let Ok((mut send, receive)) = connection.open_bi().await else { return };
                    let _ = send.write_all(&[STREAM_REQUESTS]).await;
                    open.push((send, receive));
                }
                let began = Instant::now();
                // Each byte leaves in a packet of its own, as far as there is room on the way.
                'all: for id in 0.. {
                    for byte in question(id) {
                        for (send, _) in &mut open {
                            let written = timeout(Duration::from_millis(200), send.write_all(&[byte])).await;
                            if matches!(written, Ok(Err(_))) || began.elapsed() > Duration::from_secs(2) {
                                break 'all;
                            }
                        }
                        tokio::task::yield_now().await;
                    }
                }
            });
        });
    }
    siege.kind("packets after the end of their connection", || {
        run(async {
            let proxy = Proxy::start(server, |_| Fate::Pass);
            for _ in 0..5 {
                let Ok((endpoint, connection)) = Dials::hostile(siege).to(proxy.address).dial().await else { continue };
                let Ok((mut send, _receive)) = connection.open_bi().await else { continue };
                let _ = send.write_all(&[&[STREAM_REQUESTS][..], &question(1)].concat()).await;
                sleep(Duration::from_millis(20)).await;
                connection.close(VarInt::from_u32(0), b"");
                endpoint.wait_idle().await;
                for _ in 0..20 {
                    proxy.replay();
                }
            }
        });
    });
}
