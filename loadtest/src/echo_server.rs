//! A QUIC server that does nothing: it reads messages of one size and answers each with a message of another.
//!
//! ```text
//!  0   4   nothing            8   …   the digest, then zeros
//!  4   4   id: comes back
//! ```
//!
//! Everything else is as in Tokenscope's own door: transport settings from the same options, one current-thread
//! runtime, long-lived streams, all that has arrived answered in one write. With `hashed` it computes the server's
//! keyed hash of every digest too, so that the price of that can be seen beside the bare echo.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{AckFrequencyConfig, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TokioRuntime};
use quinn::{TransportConfig, VarInt};
use rustls::pki_types::PrivateKeyDer;
use siphasher::sip128::SipHasher24;
use tokenscope::server::quic_limits::QuicOptions;

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"tokenscope-echo/1";

/// Nothing and id.
pub const HEADER_BYTES: usize = 8;

/// The largest message.
const MESSAGE_BYTES_MAX: u16 = 4_096;

/// How many bytes questions and answers have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// A question.
    pub question: u16,
    /// An answer.
    pub answer: u16,
}

impl Sizes {
    /// Sizes that hold a header and are not endless.
    ///
    /// # Errors
    /// They are neither.
    pub fn new(question: u16, answer: u16) -> Result<Self, String> {
        let allowed = HEADER_BYTES as u16..=MESSAGE_BYTES_MAX;
        if allowed.contains(&question) && allowed.contains(&answer) {
            Ok(Self { question, answer })
        } else {
            Err(format!("messages have {HEADER_BYTES} to {MESSAGE_BYTES_MAX} bytes"))
        }
    }
}

/// What an echo server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The UDP port on loopback; 0: any.
    pub port: u16,
    /// Message sizes.
    pub sizes: Sizes,
    /// Whether every digest is hashed.
    pub hashed: bool,
}

/// Serves until the process ends. Writes its address and its certificate (PEM) into `directory` when it is ready.
///
/// # Errors
/// It cannot listen, or cannot write there.
pub fn serve(options: &Options, directory: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start a runtime: {error}"))?.block_on(async {
        let (endpoint, certificate) = open(options)?;
        let address = endpoint.local_addr().map_err(|error| error.to_string())?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        write("echo.pem", &certificate)?;
        // Last, and whole at once: whoever finds it may connect, and half a port is a port too.
        write("echo.address.new", &address.to_string())?;
        let named = std::fs::rename(directory.join("echo.address.new"), directory.join("echo.address"));
        named.map_err(|error| format!("{}: {error}", directory.display()))?;
        accept(endpoint, options.clone()).await;
        Ok(())
    })
}

/// An open door and the certificate it shows.
///
/// # Errors
/// It cannot listen.
pub fn open(options: &Options) -> Result<(Endpoint, String), String> {
    let failed = |what: &dyn std::fmt::Display| format!("the echo server: {what}");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).map_err(|error| failed(&error))?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|error| failed(&error))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(crate::driver::quic::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(&error))?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .map_err(|error| failed(&error))?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.ignore_client_order = true;
    tls.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| failed(&error))?;
    let like = QuicOptions::default();
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(&like)).migration(false);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let socket = std::net::UdpSocket::bind(address).map_err(|error| failed(&error))?;
    // The kernel grants what its limits allow, to this server as to the other.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, like.socket_buffer_bytes);
    let _ = rustix::net::sockopt::set_socket_send_buffer_size(&socket, like.socket_buffer_bytes);
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime));
    Ok((endpoint.map_err(|error| failed(&error))?, made.cert.pem()))
}

/// The server's own settings, from its own defaults.
fn transport(like: &QuicOptions) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let mut frequency = AckFrequencyConfig::default();
    frequency.ack_eliciting_threshold(VarInt::from_u32(like.ack_every)).max_ack_delay(Some(like.ack_delay));
    transport
        .receive_window(VarInt::from_u32(like.receive_window))
        .stream_receive_window(VarInt::from_u32(like.stream_receive_window))
        .send_window(u64::from(like.send_window))
        .max_concurrent_bidi_streams(VarInt::from_u32(like.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .send_fairness(true)
        .initial_rtt(like.initial_rtt)
        .ack_frequency_config(Some(frequency));
    Arc::new(transport)
}

/// Takes connections and streams until the door is closed.
pub async fn accept(endpoint: Endpoint, options: Options) {
    while let Some(incoming) = endpoint.accept().await {
        let options = options.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((send, receive)) = connection.accept_bi().await {
                let options = options.clone();
                // A stream that breaks is the generator's to report.
                tokio::spawn(async move { echo(send, receive, &options).await });
            }
        });
    }
}

async fn echo(mut send: SendStream, mut receive: RecvStream, options: &Options) -> Option<()> {
    let (question, answer) = (usize::from(options.sizes.question), usize::from(options.sizes.answer));
    let mut input = vec![0; 64 * 1024];
    let mut filled = 0;
    let mut output = Vec::with_capacity(64 * 1024);
    loop {
        filled += receive.read(input.get_mut(filled..)?).await.ok()??;
        let whole = filled - filled % question;
        for message in input.get(..whole)?.chunks_exact(question) {
            let begins = output.len();
            output.extend_from_slice(message.get(..HEADER_BYTES)?);
            if options.hashed {
                let hash = SipHasher24::new_with_keys(1, 2).hash(message.get(HEADER_BYTES..)?);
                output.extend_from_slice(&hash.h1.to_le_bytes());
            }
            output.resize(begins + answer, 0);
        }
        input.copy_within(whole..filled, 0);
        filled -= whole;
        send.write_all(&output).await.ok()?;
        output.clear();
    }
}
