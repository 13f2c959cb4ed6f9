//! TCP connections, with or without TLS.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::quic::tls;
use super::{Codec, Pipe, Share, Silent};
use crate::target::Target;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Where to connect, and how.
#[derive(Clone)]
pub struct Tcp {
    /// The peer.
    pub address: SocketAddr,
    /// TLS, and the name in the peer's certificate.
    pub tls: Option<(Arc<rustls::ClientConfig>, String)>,
}

/// The two halves of a connection.
pub type Halves = (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>);

impl Tcp {
    /// The HTTPS door of a Tokenscope server, for this protocol.
    ///
    /// # Errors
    /// TLS is not in order.
    pub fn of_ours(target: &Target, alpn: &[u8]) -> Result<Self, String> {
        let config = tls(&target.ca_pem, None, &[alpn])?;
        Ok(Self { address: target.https, tls: Some((Arc::new(config), target.server_name.clone())) })
    }

    /// A new connection.
    ///
    /// # Errors
    /// The peer does not answer or refuses.
    pub async fn connect(&self) -> Result<Halves, String> {
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", self.address);
        let connecting = async {
            let stream = TcpStream::connect(self.address).await.map_err(|error| failed(&error))?;
            stream.set_nodelay(true).map_err(|error| failed(&error))?;
            let Some((config, name)) = &self.tls else {
                let (reader, writer) = stream.into_split();
                return Ok((Box::new(reader) as Box<_>, Box::new(writer) as Box<_>));
            };
            let name = ServerName::try_from(name.clone()).map_err(|error| failed(&error))?;
            let stream =
                TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|error| failed(&error))?;
            let (reader, writer) = tokio::io::split(stream);
            Ok((Box::new(reader) as Box<_>, Box::new(writer) as Box<_>))
        };
        tokio::time::timeout(CONNECT, connecting).await.map_err(|_| failed(&"no answer"))?
    }

    /// Connections with a codec on each.
    ///
    /// # Errors
    /// As [`Tcp::connect`].
    pub async fn pipes(&self, share: Share, codec: impl Fn() -> Box<dyn Codec>) -> Result<Vec<Pipe>, String> {
        let mut pipes = Vec::new();
        for _ in 0..share.connections {
            let (reader, writer) = self.connect().await?;
            pipes.push(Pipe { reader, writer, codec: codec(), path: Rc::new(Silent) });
        }
        Ok(pipes)
    }

    /// What a reader of the results should know.
    pub fn facts(&self) -> Vec<(String, String)> {
        let transport = match self.tls {
            Some(_) => "TCP, TLS 1.3, TLS_AES_128_GCM_SHA256 offered first",
            None => "TCP without TLS",
        };
        vec![("transport".into(), transport.into())]
    }
}
