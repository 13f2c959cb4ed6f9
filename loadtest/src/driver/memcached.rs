//! Memcached: `get` of many keys at once. Keys are the digest in 43 characters of base64, because they must be text;
//! values have 64 bytes.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::redis::{VALUE_BYTES, found, number, split_line, value_of};
use super::tcp::Tcp;
use super::{Codec, Driver, Local, Opened, Share};
use crate::population::Population;
use crate::question::{Question, Said};

/// Tokens that are put in at once.
const LOADED_AT_ONCE: usize = 1_000;

/// A key: 32 bytes in base64.
const KEY_BYTES: usize = 43;

/// Memcached, asked for so many keys in one request.
pub struct Memcached {
    /// Where it is.
    pub tcp: Tcp,
    /// Keys in a request, at least 1.
    pub group: usize,
}

impl Driver for Memcached {
    fn name(&self) -> String {
        "memcached".to_owned()
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        Box::pin(async move {
            let pipes = self.tcp.pipes(share, || Box::<MemcachedCodec>::default()).await?;
            Ok(Opened::Pipes(pipes, share.in_flight))
        })
    }

    fn group(&self) -> usize {
        self.group
    }

    fn facts(&self) -> Vec<(String, String)> {
        self.tcp.facts()
    }
}

/// One `get` for each group of questions; what is found comes back in order, then `END`.
#[derive(Default)]
pub struct MemcachedCodec {
    /// Questions that are in flight, and whether each is the last of its request.
    asked: VecDeque<(u32, [u8; KEY_BYTES], bool)>,
}

impl Codec for MemcachedCodec {
    fn ask(&mut self, questions: &[(u32, Question)], out: &mut Vec<u8>) {
        out.extend_from_slice(b"get");
        for (number, (id, question)) in questions.iter().enumerate() {
            let key = key_of(&question.digest);
            out.push(b' ');
            out.extend_from_slice(&key);
            self.asked.push_back((*id, key, number + 1 == questions.len()));
        }
        out.extend_from_slice(b"\r\n");
    }

    fn take(&mut self, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String> {
        let mut rest = input;
        while let Some((line, after)) = split_line(rest) {
            if line == b"END" {
                // Whatever of this request has not come is not there.
                loop {
                    let (id, _, last) = self.asked.pop_front().ok_or("an end that nobody waits for")?;
                    if id != FOUND_LAST {
                        answers.push((id, Said::Missing));
                    }
                    if last {
                        break;
                    }
                }
                rest = after;
                continue;
            }
            let head = line.strip_prefix(b"VALUE ");
            let head = head.ok_or_else(|| format!("memcached says {:?}", String::from_utf8_lossy(line)))?;
            let mut words = head.split(|byte| *byte == b' ');
            let key = words.next().unwrap_or_default();
            let length = words.nth(1).and_then(number).filter(|it| *it <= 1 << 20).ok_or("a value without a length")?;
            let Some(value) = after.get(..length + 2) else { break };
            // Values come in the order of the keys; those left out on the way are not there.
            loop {
                let front = self.asked.front_mut().ok_or("a value that nobody asked for")?;
                let (id, found_key, last) = (front.0, front.1 == key, front.2);
                if id == FOUND_LAST || (last && !found_key) {
                    return Err("a value that nobody asked for".to_owned());
                }
                answers
                    .push((id, if found_key { found(value.get(..length).unwrap_or_default()) } else { Said::Missing }));
                if last {
                    // `END` has to find it.
                    front.0 = FOUND_LAST;
                } else {
                    self.asked.pop_front();
                }
                if found_key {
                    break;
                }
            }
            rest = after.get(length + 2..).unwrap_or_default();
        }
        Ok(input.len() - rest.len())
    }
}

/// In the place of a question's number: it is answered, only the end of its request is missing.
const FOUND_LAST: u32 = u32::MAX;

/// The key of a digest: base64 without padding.
pub fn key_of(digest: &[u8; 32]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    super::http1::base64(digest, &mut key);
    key
}

/// Puts every active token into memcached.
///
/// # Errors
/// It cannot be reached, or refuses.
pub async fn load(tcp: &Tcp, population: &Population) -> Result<(), String> {
    let (mut reader, mut writer) = tcp.connect().await?;
    let failed = |error: std::io::Error| format!("{}: {error}", tcp.address);
    let mut out = Vec::new();
    for chunk in population.hits.chunks(LOADED_AT_ONCE) {
        out.clear();
        for token in chunk {
            out.extend_from_slice(b"set ");
            out.extend_from_slice(&key_of(&token.digest));
            out.extend_from_slice(format!(" 0 0 {VALUE_BYTES} noreply\r\n").as_bytes());
            out.extend_from_slice(&value_of(&token.digest));
            out.extend_from_slice(b"\r\n");
        }
        writer.write_all(&out).await.map_err(failed)?;
    }
    // The answer to this comes after everything else was done.
    writer.write_all(b"version\r\n").await.map_err(failed)?;
    writer.flush().await.map_err(failed)?;
    let mut answer = Vec::new();
    while split_line(&answer).is_none() {
        if reader.read_buf(&mut answer).await.map_err(failed)? == 0 {
            return Err(format!("{}: closed while it was filled", tcp.address));
        }
    }
    if answer.starts_with(b"VERSION ") {
        Ok(())
    } else {
        Err(format!("{}: {:?}", tcp.address, String::from_utf8_lossy(&answer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::mark;

    fn value(byte: u8) -> Vec<u8> {
        let mut bytes = b"VALUE ".to_vec();
        bytes.extend_from_slice(&key_of(&[byte; 32]));
        bytes.extend_from_slice(b" 0 64\r\n");
        bytes.extend_from_slice(&value_of(&[byte; 32]));
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    #[test]
    fn values_find_their_questions_and_the_end_tells_what_is_missing() {
        for present in 0..8_u8 {
            let mut codec = MemcachedCodec::default();
            let mut out = Vec::new();
            codec.ask(
                &[(0, Question::of_unknown(1)), (1, Question::of_unknown(2)), (2, Question::of_unknown(3))],
                &mut out,
            );
            codec.ask(&[(3, Question::of_unknown(4))], &mut out);
            let mut bytes = Vec::new();
            for bit in (0..3).filter(|bit| present & (1 << bit) != 0) {
                bytes.extend(value(bit + 1));
            }
            bytes.extend_from_slice(b"END\r\nEND\r\n");
            let (mut answers, mut from) = (Vec::new(), 0);
            for end in 0..=bytes.len() {
                from += codec.take(&bytes[from..end], &mut answers).unwrap();
            }
            answers.sort_by_key(|(id, _)| *id);
            let wanted = |bit: u8| match present & (1 << bit) {
                0 => Said::Missing,
                _ => Said::Found { mark: mark(&[bit + 1; 32]) },
            };
            assert_eq!(answers, [(0, wanted(0)), (1, wanted(1)), (2, wanted(2)), (3, Said::Missing)], "{present:03b}");
        }
    }

    #[test]
    fn a_value_of_another_key_is_refused() {
        let mut codec = MemcachedCodec::default();
        codec.ask(&[(0, Question::of_unknown(1))], &mut Vec::new());
        assert!(codec.take(&value(9), &mut Vec::new()).is_err());
    }
}
