//! QUIC connections with the client library's transport settings, each on a socket of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, RootCertStore};

use super::{Codec, Path, Pipe, Share, Travelled};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Socket buffers in bytes: what the server asks the kernel for, so that bursts do not look like slowness.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

/// Everything that is needed to connect.
#[derive(Clone)]
pub struct Dial {
    address: SocketAddr,
    name: String,
    config: ClientConfig,
}

/// The one TLS provider, AES-128 first, as the client library has it.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// Certificates in a PEM text.
///
/// # Errors
/// It is no PEM text.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("a certificate: {error}"))
}

/// The roots in a PEM text.
///
/// # Errors
/// It is no PEM text, or no root.
pub fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(pem)? {
        roots.add(root).map_err(|error| format!("the CA certificate: {error}"))?;
    }
    Ok(roots)
}

/// TLS of a client: TLS 1.3, these roots, this certificate if there is one.
///
/// # Errors
/// A PEM text is wrong.
pub fn tls(ca_pem: &[u8], own: Option<(&[u8], &[u8])>, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, String> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots(ca_pem)?);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key: {error}"))?;
            let chain = certificates(chain)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| format!("certificate and key: {error}"))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The client library's transport settings.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let mut frequency = AckFrequencyConfig::default();
    frequency.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(2)));
    transport
        .max_idle_timeout(Some(VarInt::from_u32(10_000).into()))
        .keep_alive_interval(Some(Duration::from_secs(3)))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(1024 * 1024))
        .receive_window(VarInt::from_u32(2 * 1024 * 1024))
        .send_window(1024 * 1024)
        .datagram_receive_buffer_size(None)
        .send_fairness(true)
        .initial_rtt(Duration::from_millis(10))
        .ack_frequency_config(Some(frequency));
    Arc::new(transport)
}

/// A connection with its socket.
pub struct Line {
    endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
}

impl Path for Line {
    fn travelled(&self) -> Travelled {
        let stats = self.connection.stats();
        Travelled {
            sent_datagrams: stats.udp_tx.datagrams,
            sent_calls: stats.udp_tx.ios,
            sent_bytes: stats.udp_tx.bytes,
            received_datagrams: stats.udp_rx.datagrams,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
            mtu: stats.path.current_mtu,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"done");
        self.endpoint.close(VarInt::from_u32(0), b"done");
    }
}

impl Dial {
    /// Ready to connect to `address`, whose certificate is for `name`.
    ///
    /// # Errors
    /// TLS is not in order.
    pub fn new(address: SocketAddr, name: &str, tls: rustls::ClientConfig) -> Result<Self, String> {
        let tls = QuicClientConfig::try_from(tls).map_err(|error| format!("TLS: {error}"))?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(transport());
        Ok(Self { address, name: name.to_owned(), config })
    }

    /// A new connection.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn connect(&self) -> Result<Line, String> {
        let failed = |what: String| format!("{}: {what}", self.address);
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed(error.to_string()))?;
        // The kernel grants what its limits allow; less shows as lost packets, which are reported.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES);
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
            .map_err(|error| failed(error.to_string()))?;
        let connecting = endpoint
            .connect_with(self.config.clone(), self.address, &self.name)
            .map_err(|error| failed(error.to_string()))?;
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(connection)) => Ok(Line { endpoint, connection }),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("no answer".to_owned())),
        }
    }

    /// Connections with long-lived streams, a codec on each.
    ///
    /// # Errors
    /// As [`Dial::connect`].
    pub async fn pipes(&self, share: Share, codec: impl Fn() -> Box<dyn Codec>) -> Result<Vec<Pipe>, String> {
        let mut pipes = Vec::new();
        for _ in 0..share.connections {
            let line = Rc::new(self.connect().await?);
            for stream in 0..share.streams {
                let opened = tokio::time::timeout(CONNECT, line.connection.open_bi()).await;
                let (mut writer, reader) = match opened {
                    Ok(Ok(pair)) => pair,
                    Ok(Err(error)) => return Err(format!("{}: {error}", self.address)),
                    Err(_) => return Err(format!("{}: the server grants no stream", self.address)),
                };
                // What travelled is counted for connections, so only their first stream tells it.
                let path: Rc<dyn Path> = if stream == 0 { line.clone() } else { Rc::new(Also(line.clone())) };
                let (mut codec, mut first) = (codec(), Vec::new());
                codec.begin(&mut first);
                writer.write_all(&first).await.map_err(|error| format!("{}: {error}", self.address))?;
                pipes.push(Pipe { reader: Box::new(reader), writer: Box::new(writer), codec, path });
            }
        }
        Ok(pipes)
    }
}

/// Keeps a connection and tells nothing.
struct Also(#[expect(dead_code, reason = "held, not read")] Rc<Line>);

impl Path for Also {}
