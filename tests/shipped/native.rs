//! The native door: the client library as anybody uses it, and connections made by hand.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokenscope::client::{Client, Error, Options};

use super::house::House;

/// A runtime for one test.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Options for this caller, with patience for busy machines.
pub fn options(house: &House, caller: &str) -> Options {
    let caller = house.file.caller(caller).unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap();
    let servers = vec![(house.file.quic, house.file.server_name.clone())];
    let mut options =
        Options::new(servers, read(&house.file.ca_file), read(&caller.certificate_file), read(&caller.key_file));
    options.connections = 1;
    options.deadline = Duration::from_secs(20);
    options.connect_deadline = Duration::from_secs(20);
    options
}

/// Connects as `admin`, asks, and says goodbye.
pub fn ask<T, F: Future<Output = Result<T, Error>>>(
    house: &House,
    question: impl FnOnce(Client) -> F,
) -> Result<T, Error> {
    ask_as(house, "admin", question)
}

/// The same as this caller.
pub fn ask_as<T, F: Future<Output = Result<T, Error>>>(
    house: &House,
    caller: &str,
    question: impl FnOnce(Client) -> F,
) -> Result<T, Error> {
    runtime().block_on(async {
        let client = Client::connect(options(house, caller)).await?;
        let answer = question(client.clone()).await;
        client.close().await;
        answer
    })
}

/// A connection by hand, with this certificate and key or none.
pub async fn by_hand(
    house: &House,
    identity: Option<(&Path, &Path)>,
    alpn: &[u8],
) -> Result<(Endpoint, Connection), ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&house.file.ca_file).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
        }
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connection = endpoint.connect_with(config, house.file.quic, "localhost").unwrap().await?;
    Ok((endpoint, connection))
}
