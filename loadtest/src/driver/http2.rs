//! HTTP/2 over TLS: as many streams as questions in flight on each connection.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http1::Page;
use super::tcp::Tcp;
use super::{Asker, Driver, Local, Opened, Share};
use crate::population::Population;
use crate::question::{Ask, Question, Refused, Said};
use crate::target::Target;

/// The largest body that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// HTTP/2.
pub struct Http2 {
    /// What results call it.
    pub name: &'static str,
    /// Where it is; always with TLS.
    pub tcp: Tcp,
    /// What is asked.
    pub page: Arc<Page>,
}

impl Driver for Http2 {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        Box::pin(async move {
            let mut askers: Vec<Rc<dyn Asker>> = Vec::new();
            for _ in 0..share.connections {
                let sender = self.connect().await?;
                let uri = format!("https://{}{}", self.page.host, self.page.path);
                let stream: Rc<dyn Asker> = Rc::new(Streams { sender, uri, page: self.page.clone() });
                askers.extend(vec![stream; share.in_flight]);
            }
            Ok(Opened::Askers(askers))
        })
    }

    fn facts(&self) -> Vec<(String, String)> {
        self.tcp.facts()
    }
}

impl Http2 {
    /// RFC 7662 at the HTTPS door of a Tokenscope server.
    ///
    /// # Errors
    /// TLS is not in order.
    pub fn of_ours(target: &Target, population: &Arc<Population>) -> Result<Self, String> {
        let page = Arc::new(Page::of_ours(target, population));
        Ok(Self { name: "https2", tcp: Tcp::of_ours(target, b"h2")?, page })
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, String> {
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", self.tcp.address);
        let (config, name) = self.tcp.tls.as_ref().ok_or_else(|| failed(&"HTTP/2 is spoken over TLS only"))?;
        let stream = TcpStream::connect(self.tcp.address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let name = ServerName::try_from(name.clone()).map_err(|error| failed(&error))?;
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|error| failed(&error))?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_connection_window_size(1 << 20)
            .handshake(stream)
            .await
            .map_err(|error| failed(&error))?;
        // It ends with its senders; what fails on the way shows as failed questions.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(sender)
    }
}

struct Streams {
    sender: SendRequest<Bytes>,
    uri: String,
    page: Arc<Page>,
}

impl Asker for Streams {
    fn ask(&self, question: Question) -> Local<'_, Said> {
        Box::pin(async move { self.asked(&question).await.unwrap_or(Said::Refused(Refused::Other)) })
    }
}

impl Streams {
    async fn asked(&self, question: &Question) -> Result<Said, h2::Error> {
        let mut request = http::Request::post(&self.uri).header("content-type", "application/x-www-form-urlencoded");
        if let Some(authorization) = &self.page.authorization {
            request = request.header("authorization", authorization);
        }
        // Built from texts of ours that were checked when the driver was made.
        let Ok(request) = request.body(()) else { return Ok(Said::Refused(Refused::Other)) };
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut body) = sender.send_request(request, false)?;
        body.send_data(Bytes::from(self.page.body(question)), true)?;
        let answer = answer.await?;
        let status = answer.status().as_u16();
        let mut stream = answer.into_body();
        let mut text = Vec::new();
        while let Some(part) = stream.data().await {
            let part = part?;
            stream.flow_control().release_capacity(part.len())?;
            if text.len() + part.len() > BODY_BYTES_MAX {
                return Ok(Said::Refused(Refused::Other));
            }
            text.extend_from_slice(&part);
        }
        Ok(self.page.said(status, &text, matches!(question.ask, Ask::Check { .. })))
    }
}
