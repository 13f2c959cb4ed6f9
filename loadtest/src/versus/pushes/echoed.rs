//! The round trip of the bare QUIC echo, at the moments at which tokens are revoked elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::probe::{Moments, Seen, Subject, probe};
use crate::driver::quic::{Dial, tls};
use crate::echo_server::ALPN;
use crate::versus::peers::{ECHO_SIZES, Peers, Who};

/// The server echoes the first eight bytes: four of a header, then a number.
const NUMBER: std::ops::Range<usize> = 4..8;

struct Echoed {
    questions: mpsc::UnboundedSender<Vec<u8>>,
    back: Arc<[AtomicBool]>,
}

impl Subject for Echoed {
    fn act(&mut self, number: usize) -> Result<bool, String> {
        let mut question = vec![0; usize::from(ECHO_SIZES.question)];
        let number = u32::try_from(number).map_err(|_| "too many questions")?;
        question[NUMBER].copy_from_slice(&number.to_le_bytes());
        self.questions.send(question).map_err(|_| "the echo's stream ended")?;
        Ok(true)
    }

    fn is_there(&mut self, number: usize) -> bool {
        self.back.get(number).is_some_and(|it| it.load(Ordering::Relaxed))
    }
}

/// Asks the echo at these moments, on one stream of one connection.
///
/// # Errors
/// It cannot be reached, or answers what it was not asked.
pub async fn measure(peers: &Peers, moments: &Moments) -> Result<Seen, String> {
    let at = peers.at(Who::Echo).ok_or("the echo is not there")?;
    let dial = Dial::new(at.address, "localhost", tls(&peers.certificate_of(Who::Echo)?, None, &[ALPN])?)?;
    let line = dial.connect().await?;
    let (mut send, mut receive) = line.connection.open_bi().await.map_err(|error| format!("the echo: {error}"))?;
    let (questions, mut waiting) = mpsc::unbounded_channel::<Vec<u8>>();
    let back: Arc<[AtomicBool]> = (0..moments.len()).map(|_| AtomicBool::new(false)).collect();
    let strange = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn(async move {
        while let Some(mut question) = waiting.recv().await {
            while let Ok(more) = waiting.try_recv() {
                question.extend(more);
            }
            if send.write_all(&question).await.is_err() {
                return;
            }
        }
        let _ = send.shutdown().await;
    });
    let reader = tokio::spawn({
        let (back, strange) = (back.clone(), strange.clone());
        async move {
            let mut answer = [0; ECHO_SIZES.answer as usize];
            while receive.read_exact(&mut answer).await.is_ok() {
                let number = answer[NUMBER].try_into().map(u32::from_le_bytes).unwrap_or(u32::MAX);
                match back.get(number as usize) {
                    Some(back) => back.store(true, Ordering::Relaxed),
                    None => drop(strange.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }
    });
    let seen = probe(moments, &mut Echoed { questions, back }).await;
    writer.abort();
    reader.abort();
    match strange.load(Ordering::Relaxed) {
        0 => seen,
        count => Err(format!("the echo answered {count} questions that nobody asked")),
    }
}
