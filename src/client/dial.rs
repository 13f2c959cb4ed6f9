//! From options to a QUIC connection: TLS with both sides' certificates checked, transport settings, one socket.
//!
//! Each connection has a socket of its own: a server with several threads is fed by the kernel according to the
//! client's port, so connections that shared one would all land on one thread.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, TransportConfig, VarInt,
};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, RootCertStore};

use super::answer::Error;
use super::options::Options;
use crate::wire::{ALPN, CloseCode};

/// Below half of the server's idle time-out, so that one lost packet does not end a quiet connection.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// A server that says nothing for this long is gone.
const IDLE: Duration = Duration::from_secs(10);

/// Ready to connect. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    config: ClientConfig,
    deadline: Duration,
}

impl Dial {
    /// # Errors
    /// [`Error::Options`] says which of the three PEM texts is wrong and how.
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let mut provider = ring::default_provider();
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut roots = RootCertStore::empty();
        for root in certificates("the CA file", &options.ca_pem)? {
            roots.add(root).map_err(|error| wrong("the CA file", &error))?;
        }
        let chain = certificates("the client certificate", &options.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&options.key_pem).map_err(|error| wrong("the private key", &error))?;
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong("TLS", &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| wrong("the client certificate and its key", &error))?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.resumption = Resumption::disabled();
        tls.enable_early_data = false;
        let tls = QuicClientConfig::try_from(tls).map_err(|error| wrong("TLS", &error))?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(transport());
        Ok(Self { config, deadline: options.connect_deadline })
    }

    /// A new connection, handshake done. The endpoint has to be kept as long as the connection.
    pub(super) async fn connect(&self, server: &(SocketAddr, String)) -> Result<(Endpoint, Connection), Error> {
        let (address, name) = server;
        let any = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let endpoint =
            Endpoint::client(any).map_err(|error| Error::Unavailable(format!("cannot open a UDP socket: {error}")))?;
        let connecting = endpoint
            .connect_with(self.config.clone(), *address, name)
            .map_err(|error| Error::Options(format!("cannot connect to {address} ({name}): {error}")))?;
        match tokio::time::timeout(self.deadline, connecting).await {
            Ok(Ok(connection)) => Ok((endpoint, connection)),
            Ok(Err(error)) => Err(lost(&error)),
            Err(_) => Err(Error::Unavailable(format!("{address} does not answer"))),
        }
    }
}

/// What the end of a connection means to somebody who waited for an answer.
pub(super) fn lost(error: &ConnectionError) -> Error {
    let ConnectionError::ApplicationClosed(close) = error else {
        return match error {
            ConnectionError::VersionMismatch => Error::Protocol("it speaks another version of QUIC".to_owned()),
            // Alerts of the other side's TLS: it does not accept our certificate, or has no protocol in common.
            ConnectionError::ConnectionClosed(close) if (0x100..0x200).contains(&u64::from(close.error_code)) => {
                Error::Unauthorized(format!("the server refused the handshake: {close}"))
            }
            other => Error::Unavailable(other.to_string()),
        };
    };
    let text = String::from_utf8_lossy(&close.reason).into_owned();
    match CloseCode::from_code(close.error_code.into_inner()) {
        Some(CloseCode::UnknownCaller) => Error::Unauthorized(text),
        Some(CloseCode::TooManyConnections) => Error::Overloaded,
        Some(CloseCode::Malformed | CloseCode::TooLarge | CloseCode::UnknownStream) => Error::Protocol(text),
        Some(CloseCode::Done | CloseCode::GoingAway | CloseCode::TooSlow | CloseCode::Internal) => {
            Error::Unavailable(text)
        }
        None => Error::Protocol(format!("closed with the unknown code {}", close.error_code)),
    }
}

/// Fairness among streams stays on, because without it quinn knows no priorities: acknowledgements of a feed would wait behind
/// questions for as long as there are any.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let mut frequency = AckFrequencyConfig::default();
    frequency.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(2)));
    transport
        .max_idle_timeout(Some(IdleTimeout::try_from(IDLE).unwrap_or(IdleTimeout::from(VarInt::from_u32(10_000)))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        // The server opens no stream; a feed is one the client opens.
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

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Error::Options(format!("{what}: no certificate in it"))),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(what, &error)),
    }
}

fn wrong(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Options(format!("{what}: {error}"))
}
