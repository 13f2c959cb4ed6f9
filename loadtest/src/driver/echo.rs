//! The bare echo: questions of the native protocol's size, answers of the native protocol's size, and nothing in
//! between. What is left of a rate above this is what the server's own work costs.

use super::quic::{Dial, tls};
use super::{Codec, Driver, Local, Opened, Share};
use crate::echo_server::{ALPN, HEADER_BYTES, Sizes};
use crate::question::{Question, Said};

/// The bare echo.
pub struct Echo {
    dial: Dial,
    sizes: Sizes,
}

impl Echo {
    /// A driver for the echo server at this address.
    ///
    /// # Errors
    /// TLS is not in order.
    pub fn new(address: std::net::SocketAddr, ca_pem: &[u8], sizes: Sizes) -> Result<Self, String> {
        Ok(Self { dial: Dial::new(address, "localhost", tls(ca_pem, None, &[ALPN])?)?, sizes })
    }
}

impl Driver for Echo {
    fn name(&self) -> String {
        "echo".to_owned()
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        Box::pin(async move {
            let pipes = self.dial.pipes(share, || Box::new(EchoCodec(self.sizes))).await?;
            Ok(Opened::Pipes(pipes, share.in_flight.div_ceil(share.streams)))
        })
    }

    fn facts(&self) -> Vec<(String, String)> {
        let Sizes { question, answer } = self.sizes;
        vec![
            ("transport".into(), "QUIC v1, TLS 1.3, TLS_AES_128_GCM_SHA256 offered first".into()),
            ("messages".into(), format!("{question} bytes out, {answer} bytes back")),
        ]
    }
}

struct EchoCodec(Sizes);

impl Codec for EchoCodec {
    fn ask(&mut self, questions: &[(u32, Question)], out: &mut Vec<u8>) {
        for (id, question) in questions {
            let begins = out.len();
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&id.to_le_bytes());
            let room = usize::from(self.0.question) - HEADER_BYTES;
            out.extend_from_slice(question.digest.get(..room.min(32)).unwrap_or_default());
            out.resize(begins + usize::from(self.0.question), 0);
        }
    }

    fn take(&mut self, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String> {
        let size = usize::from(self.0.answer);
        for answer in input.chunks_exact(size) {
            let id = answer.get(4..8).and_then(|it| it.try_into().ok()).map(u32::from_le_bytes);
            answers.push((id.ok_or("an answer that is too short")?, Said::Same));
        }
        Ok(input.len() - input.len() % size)
    }
}
