//! Redis: a `GET` by digest for each question, pipelined. Binary keys of 32 bytes, values of 64.
//!
//! Only active tokens are in it, which flatters Redis: it has no scopes, no places, no revocation of a grant.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tcp::Tcp;
use super::{Codec, Driver, Local, Opened, Share};
use crate::population::Population;
use crate::question::{Question, Refused, Said};

/// Bytes of a key: a digest's.
pub const KEY_BYTES: usize = 32;

/// What is kept for a token, in bytes: a row of the same facts, packed.
pub const VALUE_BYTES: usize = 64;

/// Tokens that are put in at once.
const LOADED_AT_ONCE: usize = 1_000;

/// Redis.
pub struct Redis(pub Tcp);

impl Driver for Redis {
    fn name(&self) -> String {
        if self.0.tls.is_some() { "redis-tls".to_owned() } else { "redis".to_owned() }
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        Box::pin(async move {
            let pipes = self.0.pipes(share, || Box::<RedisCodec>::default()).await?;
            Ok(Opened::Pipes(pipes, share.in_flight))
        })
    }

    fn facts(&self) -> Vec<(String, String)> {
        self.0.facts()
    }
}

/// `GET`s in, bulk strings out, in order.
#[derive(Default)]
pub struct RedisCodec {
    asked: VecDeque<u32>,
}

impl Codec for RedisCodec {
    fn ask(&mut self, questions: &[(u32, Question)], out: &mut Vec<u8>) {
        for (id, question) in questions {
            get(&question.digest, out);
            self.asked.push_back(*id);
        }
    }

    fn take(&mut self, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String> {
        let mut rest = input;
        while let Some((line, after)) = split_line(rest) {
            let mut after = after;
            let said = match line.split_first() {
                Some((b'$', b"-1")) => Said::Missing,
                Some((b'$', length)) => {
                    let length = number(length).filter(|it| *it <= 1 << 20).ok_or("a length that is none")?;
                    let Some(value) = after.get(..length + 2) else { break };
                    after = after.get(length + 2..).unwrap_or_default();
                    found(value.strip_suffix(b"\r\n").ok_or("a value without its end")?)
                }
                Some((b'-', _)) => Said::Refused(Refused::Other),
                _ => return Err(format!("Redis says {:?}", String::from_utf8_lossy(line))),
            };
            let id = self.asked.pop_front().ok_or("an answer that nobody asked for")?;
            answers.push((id, said));
            rest = after;
        }
        Ok(input.len() - rest.len())
    }
}

/// Appends a `GET`.
pub fn get(key: &[u8; KEY_BYTES], out: &mut Vec<u8>) {
    // On the generator's own hot path: nothing is formatted here.
    out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$32\r\n");
    out.extend_from_slice(key);
    out.extend_from_slice(b"\r\n");
}

/// Appends a `SET`.
pub fn set(key: &[u8; KEY_BYTES], value: &[u8; VALUE_BYTES], out: &mut Vec<u8>) {
    out.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$32\r\n");
    out.extend_from_slice(key);
    out.extend_from_slice(format!("\r\n${VALUE_BYTES}\r\n").as_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// What a value says: its first eight bytes.
pub fn found(value: &[u8]) -> Said {
    match value.first_chunk::<8>() {
        Some(first) if value.len() == VALUE_BYTES => Said::Found { mark: u64::from_le_bytes(*first) },
        _ => Said::Found { mark: 0 },
    }
}

/// The value that is kept for a token: the first bytes of its digest, then filling.
pub fn value_of(digest: &[u8; 32]) -> [u8; VALUE_BYTES] {
    let mut value = [b'.'; VALUE_BYTES];
    value[..8].copy_from_slice(&digest[..8]);
    value
}

/// A line without its end, and what follows it.
pub fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((bytes.get(..end)?, bytes.get(end + 2..)?))
}

/// A decimal number.
pub fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Puts every active token into Redis.
///
/// # Errors
/// It cannot be reached, or refuses.
pub async fn load(tcp: &Tcp, population: &Population) -> Result<(), String> {
    let (mut reader, mut writer) = tcp.connect().await?;
    let failed = |error: std::io::Error| format!("{}: {error}", tcp.address);
    let mut out = Vec::new();
    let mut input = vec![0; 16 * 1024];
    for chunk in population.hits.chunks(LOADED_AT_ONCE) {
        out.clear();
        for token in chunk {
            set(&token.digest, &value_of(&token.digest), &mut out);
        }
        writer.write_all(&out).await.map_err(failed)?;
        writer.flush().await.map_err(failed)?;
        // "+OK\r\n" for each.
        let mut missing = chunk.len() * 5;
        while missing > 0 {
            let most = missing.min(input.len());
            let read = reader.read(input.get_mut(..most).unwrap_or_default()).await.map_err(failed)?;
            let answer = input.get(..read).unwrap_or_default();
            if read == 0 || answer.contains(&b'-') {
                return Err(format!("{}: a SET was refused: {:?}", tcp.address, String::from_utf8_lossy(answer)));
            }
            missing -= read;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::mark;

    #[test]
    fn answers_belong_to_questions_in_order_however_they_are_cut() {
        let mut codec = RedisCodec::default();
        let mut out = Vec::new();
        codec
            .ask(&[(5, Question::of_unknown(1)), (6, Question::of_unknown(2)), (7, Question::of_unknown(3))], &mut out);
        assert!(out.starts_with(b"*2\r\n$3\r\nGET\r\n$32\r\n\x01\x01"));
        let mut bytes = format!("${VALUE_BYTES}\r\n").into_bytes();
        bytes.extend_from_slice(&value_of(&[1; 32]));
        bytes.extend_from_slice(b"\r\n$-1\r\n-LOADING\r\n");
        let (mut answers, mut from) = (Vec::new(), 0);
        for end in 0..=bytes.len() {
            from += codec.take(&bytes[from..end], &mut answers).unwrap();
        }
        let wanted =
            [(5, Said::Found { mark: mark(&[1; 32]) }), (6, Said::Missing), (7, Said::Refused(Refused::Other))];
        assert_eq!((answers.as_slice(), from), (wanted.as_slice(), bytes.len()));
        assert!(codec.take(b"$-1\r\n", &mut answers).is_err());
    }
}
