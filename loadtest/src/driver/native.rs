//! The native protocol, written straight onto QUIC streams: no queue, no task and no copy between a question and its
//! bytes. This is how much the server can be asked; [`super::library`] shows how much of that the client library keeps.

use std::sync::Arc;

use tokenscope::domain::{ScopePosition, TokenDigest};
use tokenscope::wire::message::{Answer, Envelope, Outcome, Request};
use tokenscope::wire::{ALPN, STREAM_REQUESTS, Split, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::quic::{Dial, tls};
use super::{Codec, Driver, Local, Opened, Share};
use crate::population::Population;
use crate::question::{ANYBODY, Ask, Question, Refused, Said};
use crate::target::Target;

/// Numbers asked for at once, and not more than the server's receive window holds.
const RESOLVED_AT_ONCE: usize = 512;

/// What scopes and places are called on the wire.
#[derive(Clone)]
pub enum Naming {
    /// By numbers, for this epoch.
    Numbers {
        /// Position of each scope of the population.
        scopes: Vec<u8>,
        /// Number of each place of the population.
        places: Vec<u32>,
    },
    /// By names.
    Names(Arc<Population>),
}

/// The native protocol.
pub struct Native {
    dial: Dial,
    naming: Arc<Naming>,
}

impl Native {
    /// How the protocol is spoken with `target`.
    ///
    /// # Errors
    /// TLS is not in order.
    pub fn dial(target: &Target) -> Result<Dial, String> {
        let own = (target.asker.certificate_pem.as_slice(), target.asker.key_pem.as_slice());
        Dial::new(target.quic, &target.server_name, tls(&target.ca_pem, Some(own), &[ALPN])?)
    }

    /// A driver that names scopes and places like this.
    pub fn new(dial: Dial, naming: Naming) -> Self {
        Self { dial, naming: Arc::new(naming) }
    }
}

impl Driver for Native {
    fn name(&self) -> String {
        "native".to_owned()
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        Box::pin(async move {
            let pipes = self.dial.pipes(share, || Box::new(NativeCodec::new(self.naming.clone()))).await?;
            Ok(Opened::Pipes(pipes, share.in_flight.div_ceil(share.streams)))
        })
    }

    fn facts(&self) -> Vec<(String, String)> {
        vec![("transport".into(), "QUIC v1, TLS 1.3, TLS_AES_128_GCM_SHA256 offered first".into())]
    }
}

/// Messages of the native protocol.
pub struct NativeCodec {
    naming: Arc<Naming>,
    /// Active answers of which a part has come.
    begun: Vec<(u32, Said)>,
    greeted: bool,
}

impl NativeCodec {
    /// A codec for one stream.
    pub fn new(naming: Arc<Naming>) -> Self {
        Self { naming, begun: Vec::new(), greeted: false }
    }
}

/// Appends a question as the native protocol writes it.
pub fn write(naming: &Naming, id: u32, question: &Question, out: &mut Vec<u8>) {
    let digest = TokenDigest::from_bytes(question.digest);
    let at = |list: &[u32], index: u32| list.get(index as usize).copied().unwrap_or(u32::MAX);
    let request = match (question.ask, naming) {
        (Ask::Introspect, _) => Request::Introspect { digest, place: None },
        (Ask::Check { scope, place }, Naming::Numbers { scopes, places }) => {
            let scope = ScopePosition::new(scopes.get(usize::from(scope)).copied().unwrap_or(u8::MAX));
            Request::CheckNumbers { digest, scope, place: at(places, place) }
        }
        (Ask::Check { scope, place }, Naming::Names(population)) => Request::CheckNames {
            digest,
            scope: population.scopes.get(usize::from(scope)).copied().unwrap_or("no:scope"),
            place: population.places.get(place as usize).map_or("0", String::as_str),
        },
    };
    // Scope and place names of the sample data are within their limits; a question that is not sent is never answered
    // and counts as lost.
    let written = encode::request(out, &Envelope { id, least: None, request });
    debug_assert!(written.is_ok(), "{written:?}");
}

impl Codec for NativeCodec {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.push(STREAM_REQUESTS);
    }

    fn ask(&mut self, questions: &[(u32, Question)], out: &mut Vec<u8>) {
        for (id, question) in questions {
            write(&self.naming, *id, question, out);
        }
    }

    fn take(&mut self, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let (raw, length) = match decode::split(rest).map_err(|broken| broken.to_string())? {
                Split::Whole(raw, length) => (raw, length),
                Split::Partial => return Ok(used),
            };
            used += length;
            let id = raw.id;
            let said = match decode::answer(&raw).map_err(|malformed| malformed.to_string())? {
                Answer::Checked { outcome: Outcome::Allowed, .. } => Said::Allowed,
                Answer::Checked { outcome: Outcome::Denied(_), .. } => Said::Denied,
                Answer::Checked { outcome: Outcome::Inactive, .. } | Answer::Inactive { .. } => Said::Inactive,
                Answer::Active(token) => {
                    let owner = owner_of(token.facts.subject);
                    let said = Said::Active { expiry: token.facts.times.expiry.raw(), owner };
                    if token.more {
                        self.begun.push((id, said));
                        continue;
                    }
                    said
                }
                Answer::More { more, .. } => {
                    let at = self.begun.iter().position(|(begun, _)| *begun == id);
                    let at = at.ok_or("the rest of an answer that did not begin")?;
                    if more {
                        continue;
                    }
                    self.begun.swap_remove(at).1
                }
                Answer::Error { code, .. } => {
                    self.begun.retain(|(begun, _)| *begun != id);
                    Said::Refused(Refused::Code(code as u8))
                }
                Answer::Hello(_) if !self.greeted => {
                    self.greeted = true;
                    continue;
                }
                Answer::GoingAway { .. } => return Err("the server asked to leave".to_owned()),
                _ => return Err(format!("an answer of kind 0x{:02x} to a question", raw.kind)),
            };
            answers.push((id, said));
        }
    }
}

/// The number in `user-123`.
pub fn owner_of(subject: &str) -> u32 {
    subject.strip_prefix("user-").and_then(|number| number.parse().ok()).unwrap_or(ANYBODY)
}

/// Asks the server for the numbers of all scopes and places of the population, on a connection of its own.
///
/// # Errors
/// The server cannot be reached, breaks the protocol, or does not know one of the names.
pub async fn resolve(dial: &Dial, population: &Population) -> Result<Naming, String> {
    let line = dial.connect().await?;
    let lost = |error: &dyn std::fmt::Display| format!("while numbers were asked for: {error}");
    let (mut send, mut receive) = line.connection.open_bi().await.map_err(|error| lost(&error))?;
    let names: Vec<(bool, &str)> = population
        .scopes
        .iter()
        .map(|scope| (true, *scope))
        .chain(population.places.iter().map(|place| (false, place.as_str())))
        .collect();
    let mut numbers = vec![None; names.len()];
    let mut input = Vec::new();
    let mut out = vec![STREAM_REQUESTS];
    let mut answered = 0;
    for (chunk, first) in names.chunks(RESOLVED_AT_ONCE).zip((0..).step_by(RESOLVED_AT_ONCE)) {
        for ((is_scope, name), id) in chunk.iter().zip(first..) {
            let request = if *is_scope { Request::ResolveScope(name) } else { Request::ResolvePlace(name) };
            encode::request(&mut out, &Envelope { id, least: None, request }).map_err(|error| error.to_string())?;
        }
        send.write_all(&out).await.map_err(|error| lost(&error))?;
        out.clear();
        while answered < first as usize + chunk.len() {
            if receive.read_buf(&mut input).await.map_err(|error| lost(&error))? == 0 {
                return Err(lost(&"the server ended the stream"));
            }
            let mut used = 0;
            while let Split::Whole(raw, length) =
                decode::split(input.get(used..).unwrap_or_default()).map_err(|broken| broken.to_string())?
            {
                used += length;
                match decode::answer(&raw).map_err(|malformed| malformed.to_string())? {
                    Answer::Resolved { number, .. } => {
                        answered += 1;
                        let slot = numbers.get_mut(raw.id as usize).ok_or("an answer that nobody asked for")?;
                        *slot = number;
                    }
                    Answer::Hello(_) => {}
                    Answer::Error { code, text, .. } => return Err(lost(&format!("{}: {text}", code.as_str()))),
                    _ => return Err(lost(&format!("an answer of kind 0x{:02x}", raw.kind))),
                }
            }
            input.drain(..used);
        }
    }
    // Nothing more to say; an error here changes nothing.
    let _ = send.shutdown().await;
    let known = |((_, name), number): (&(bool, &str), Option<u32>)| {
        number.ok_or_else(|| format!("the server does not know {name:?}: it has other data than the samples"))
    };
    let all: Vec<u32> = names.iter().zip(numbers).map(known).collect::<Result<_, _>>()?;
    let (scopes, places) = all.split_at(population.scopes.len().min(all.len()));
    let scopes = scopes.iter().map(|number| u8::try_from(*number).unwrap_or(u8::MAX)).collect();
    Ok(Naming::Numbers { scopes, places: places.to_vec() })
}
