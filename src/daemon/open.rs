//! Each door bound with its options from the configuration, and given back behind [`OpenDoor`].

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use super::StartError;
use super::doors::{OpenDoor, Opening, Swap};
use crate::config::{Config, Material};
use crate::domain::Timestamp;
use crate::secrets::Secrets;
use crate::server::http::{HttpDoor, HttpOptions, OauthSettings, Rate};
use crate::server::quic::QuicDoor;
use crate::server::quic_limits::{QuicOptions, RetryPolicy};
use crate::server::stats::Door;
use crate::server::tls::{TlsMaterial, https_config, quic_config};
use crate::server::tunnel::{Answering, ApiRequest, Tunnel, TunnelAnswer};
use crate::server::{Shared, api};
use crate::service::caller::Caller;

/// Opens both doors.
///
/// # Errors
/// [`StartError::Door`] names the door and what was wrong; nothing stays open.
pub async fn open_doors(opening: Opening<'_>) -> Result<Vec<Box<dyn OpenDoor>>, StartError> {
    let Opening { config, material, secrets, shared, shutdown } = opening;
    let failed = |door| move |what: String| StartError::Door { door, what };
    let tls = tls_of(material).map_err(failed(Door::Quic))?;
    let https_tls = https_config(&tls).map_err(|e| failed(Door::Https)(e.to_string()))?;
    let https_tls = Arc::new(ArcSwap::new(https_tls));
    let (address, settings) = (config.server.https_address, settings(config));
    settings.check().map_err(failed(Door::Https))?;
    // HTTPS first: it is only bound here, and serves once QUIC is open too.
    let https = HttpDoor::bind(address, shared.clone(), settings, http_options(config), https_tls.clone())
        .await
        .map_err(|e| failed(Door::Https)(format!("cannot listen on {address} (TCP): {e}")))?;
    let https_address = https.local_address().map_err(|e| failed(Door::Https)(e.to_string()))?;

    let (address, options) = (config.server.quic_address, quic_options(config, secrets));
    let quic = QuicDoor::open(address, options, &tls, shared.clone(), tunnel(), shutdown.clone())
        .map_err(|e| failed(Door::Quic)(e.to_string()))?;
    let task = tokio::spawn(https.run(shutdown.clone()));
    Ok(vec![Box::new(Quic(quic)), Box::new(Https { address: https_address, tls: https_tls, task })])
}

fn tls_of(material: &Material) -> Result<TlsMaterial, String> {
    TlsMaterial::from_pem(&material.chain_pem, &material.key_pem, &material.client_ca_pem).map_err(|e| e.to_string())
}

/// The admin API, carried by the native protocol for the command line.
fn tunnel() -> Tunnel {
    let runtime = tokio::runtime::Handle::current();
    Tunnel::new(runtime, |shared: Shared, caller: Arc<Caller>, request: ApiRequest, now: Timestamp| -> Answering {
        Box::pin(async move {
            let answer =
                api::answer(&shared, &caller, request.method.as_str(), &request.path, &request.body, now).await;
            TunnelAnswer { status: answer.status, body: answer.body }
        })
    })
}

fn settings(config: &Config) -> OauthSettings {
    OauthSettings {
        issuer: config.server.issuer.clone(),
        base_url: config.base_url().to_owned(),
        prefix: config.server.token_prefix.clone(),
        realm: "tokenscope".to_owned(),
        base_document: None,
        client_certificates: true,
        revocation_wait: config.server.revocation_wait,
    }
}

fn http_options(config: &Config) -> HttpOptions {
    let limits = &config.limits;
    let whole = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let rate = limits.https_requests_per_second;
    HttpOptions {
        connections_max: limits.https_connections as usize,
        connections_per_address: limits.https_connections_per_address as usize,
        changes_in_flight_per_caller: limits.changes_in_flight_per_caller as usize,
        handshake_deadline: limits.https_handshake_deadline,
        first_request_deadline: limits.https_first_request_deadline,
        head_deadline: limits.https_head_deadline,
        body_deadline: limits.https_body_deadline,
        connection_age_max: limits.https_connection_age,
        streams_max: limits.https_streams,
        head_bytes_max: whole(limits.https_head_bytes),
        form_bytes_max: limits.https_form_bytes,
        api_bytes_max: limits.https_api_bytes,
        drain_deadline: config.server.drain_deadline,
        rate: Some(Rate { per_second: rate, burst: rate }),
    }
}

fn quic_options(config: &Config, secrets: &Secrets) -> QuicOptions {
    let limits = &config.limits;
    let whole = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    QuicOptions {
        threads: limits.quic_threads as usize,
        receive_window: whole(limits.quic_receive_window_bytes),
        stream_receive_window: whole(limits.quic_stream_window_bytes),
        send_window: whole(limits.quic_send_window_bytes),
        streams: limits.quic_streams,
        stream_buffer_bytes_max: limits.quic_stream_buffer_bytes,
        in_flight_max: limits.in_flight_per_stream,
        changes_in_flight_max: limits.changes_in_flight_per_stream,
        changes_in_flight_per_caller: limits.changes_in_flight_per_caller,
        followers_per_caller: limits.followers_per_caller,
        waiting_bytes_per_caller: limits.waiting_bytes_per_caller,
        follower_pause: limits.follower_pause,
        idle_timeout: limits.quic_idle_timeout,
        handshake_deadline: limits.quic_handshake_deadline,
        first_request_deadline: limits.quic_first_request_deadline,
        partial_message_deadline: limits.quic_partial_message_deadline,
        write_deadline: limits.quic_write_deadline,
        connection_age_max: limits.quic_connection_age,
        leave_grace: limits.quic_leave_grace,
        connections_max: limits.quic_connections as usize,
        connections_per_caller: limits.quic_connections_per_caller as usize,
        connections_per_address: limits.quic_connections_per_address as usize,
        incoming_max: limits.quic_incoming as usize,
        incoming_buffer_bytes: limits.quic_incoming_bytes as u64,
        incoming_buffer_bytes_total: limits.quic_incoming_bytes_total as u64,
        retry: RetryPolicy::WhenBusy(limits.quic_retry_handshakes as usize),
        socket_buffer_bytes: limits.quic_socket_buffer_bytes,
        reset_secret: Some(secrets.quic_reset),
        ..QuicOptions::default()
    }
}

struct Quic(QuicDoor);

impl OpenDoor for Quic {
    fn door(&self) -> Door {
        Door::Quic
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn prepare(&self, material: &Material) -> Result<Swap<'_>, String> {
        let tls = tls_of(material)?;
        quic_config(&tls).map_err(|e| e.to_string())?;
        Ok(Box::new(move || {
            if let Err(error) = self.0.reload(&tls) {
                tracing::error!(%error, "the QUIC door kept its certificate although it had been checked");
            }
        }))
    }

    fn has_failed(&self) -> bool {
        self.0.has_failed()
    }

    fn join(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // A panic in it was logged where it happened.
        Box::pin(async { drop(tokio::task::spawn_blocking(|| self.0.join()).await) })
    }
}

struct Https {
    address: SocketAddr,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
    task: JoinHandle<()>,
}

impl OpenDoor for Https {
    fn door(&self) -> Door {
        Door::Https
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn prepare(&self, material: &Material) -> Result<Swap<'_>, String> {
        let config = https_config(&tls_of(material)?).map_err(|e| e.to_string())?;
        Ok(Box::new(move || self.tls.store(config)))
    }

    fn has_failed(&self) -> bool {
        self.task.is_finished()
    }

    fn join(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async { drop(self.task.await) })
    }
}
