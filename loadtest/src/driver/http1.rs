//! HTTP/1.1 with keep-alive: RFC 7662 at our own door or at another server's, or a fixed page.
//!
//! One request in flight on a connection unless more is asked for; then they are pipelined.

use std::collections::VecDeque;
use std::sync::Arc;

use super::redis::{number, split_line};
use super::tcp::Tcp;
use super::{Codec, Driver, Local, Opened, Share};
use crate::population::Population;
use crate::question::{ANYBODY, Ask, Origin, Question, Refused, Said};
use crate::target::Target;

/// The largest head of an answer that is read.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What is asked of an HTTP server.
#[derive(Clone)]
pub struct Page {
    /// The path that is posted to.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// How answers are read.
    pub reading: Reading,
    /// Where the strings of tokens come from.
    pub strings: Strings,
    /// Names of scopes and places.
    pub population: Arc<Population>,
}

/// How answers are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// RFC 7662: `active`, `exp`, `sub`, and our own decision.
    Introspection,
    /// Somebody else's introspection: `active` has to be true, its other facts are not ours.
    Active,
    /// A fixed page: any 200 is right.
    Fixed,
}

/// Where the strings of tokens come from.
#[derive(Clone)]
pub enum Strings {
    /// From the numbers of the sample data.
    Samples,
    /// Always the same one, for a server that has only that.
    Same(String),
}

/// HTTP/1.1.
pub struct Http1 {
    /// What results call it.
    pub name: &'static str,
    /// Where it is.
    pub tcp: Tcp,
    /// What is asked.
    pub page: Page,
}

impl Driver for Http1 {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        Box::pin(async move {
            let pipes = self.tcp.pipes(share, || Box::new(self.codec())).await?;
            Ok(Opened::Pipes(pipes, share.in_flight))
        })
    }

    fn facts(&self) -> Vec<(String, String)> {
        self.tcp.facts()
    }
}

impl Http1 {
    /// RFC 7662 at the HTTPS door of a Tokenscope server.
    ///
    /// # Errors
    /// TLS is not in order.
    pub fn of_ours(target: &Target, population: &Arc<Population>) -> Result<Self, String> {
        let tcp = Tcp::of_ours(target, b"http/1.1")?;
        Ok(Self { name: "https1", tcp, page: Page::of_ours(target, population) })
    }

    /// What one connection's questions and answers are read and written by.
    pub fn codec(&self) -> Http1Codec {
        Http1Codec { page: self.page.clone(), asked: VecDeque::new() }
    }
}

impl Page {
    /// RFC 7662 at a Tokenscope server, with HTTP Basic.
    pub fn of_ours(target: &Target, population: &Arc<Population>) -> Self {
        Self {
            path: "/introspect".to_owned(),
            host: target.server_name.clone(),
            authorization: Some(basic(&target.asker.id, &target.asker.secret)),
            reading: Reading::Introspection,
            strings: Strings::Samples,
            population: population.clone(),
        }
    }

    /// A page that is the same for every question.
    pub fn fixed(path: &str, population: &Arc<Population>) -> Self {
        Self {
            path: path.to_owned(),
            host: "localhost".to_owned(),
            authorization: Some(basic("api", "0123456789abcdef0123456789abcdef0123456789abcdef")),
            reading: Reading::Fixed,
            strings: Strings::Samples,
            population: population.clone(),
        }
    }

    /// The form that asks.
    pub fn body(&self, question: &Question) -> String {
        let mut body = String::with_capacity(96);
        body.push_str("token=");
        match &self.strings {
            Strings::Same(token) => body.push_str(token),
            Strings::Samples => {
                let Origin { owner, number } = question.origin;
                // Letters, digits and an underscore: nothing to encode.
                body.push_str(&tokenscope::samples::token_string(self.population.seed, owner, number));
            }
        }
        if let (Ask::Check { scope, place }, Reading::Introspection) = (question.ask, self.reading) {
            let scope = self.population.scopes.get(usize::from(scope)).copied().unwrap_or("no:scope");
            let place = self.population.places.get(place as usize).map_or("0", String::as_str);
            body.push_str("&tokenscope_scope=");
            body.push_str(&scope.replace(':', "%3A"));
            body.push_str("&tokenscope_place=");
            body.push_str(&place.replace('/', "%2F"));
        }
        body
    }

    /// What an answer says to such a question.
    pub fn said(&self, status: u16, body: &[u8], checks: bool) -> Said {
        if status != 200 {
            return Said::Refused(Refused::Status(status));
        }
        if self.reading == Reading::Fixed {
            return Said::Same;
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
            return Said::Refused(Refused::Other);
        };
        match (value["active"].as_bool(), checks) {
            (Some(true), _) if self.reading == Reading::Active => Said::Same,
            (Some(false), _) if self.reading == Reading::Active => Said::Refused(Refused::Other),
            (Some(false), _) => Said::Inactive,
            (Some(true), true) => match value["tokenscope_decision"]["allowed"].as_bool() {
                Some(true) => Said::Allowed,
                Some(false) => Said::Denied,
                None => Said::Refused(Refused::Other),
            },
            (Some(true), false) => Said::Active {
                expiry: value["exp"].as_u64().map_or(u32::MAX, |at| u32::try_from(at).unwrap_or(u32::MAX)),
                owner: value["sub"].as_str().map_or(ANYBODY, super::native::owner_of),
            },
            (None, _) => Said::Refused(Refused::Other),
        }
    }
}

/// Requests and answers of one connection, in order.
pub struct Http1Codec {
    page: Page,
    asked: VecDeque<(u32, bool)>,
}

impl Codec for Http1Codec {
    fn ask(&mut self, questions: &[(u32, Question)], out: &mut Vec<u8>) {
        for (id, question) in questions {
            let Page { path, host, authorization, .. } = &self.page;
            let body = self.page.body(question);
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
                 content-length: {}\r\n",
                body.len()
            );
            out.extend_from_slice(head.as_bytes());
            if let Some(authorization) = authorization {
                out.extend_from_slice(b"authorization: ");
                out.extend_from_slice(authorization.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(body.as_bytes());
            self.asked.push_back((*id, matches!(question.ask, Ask::Check { .. })));
        }
    }

    fn take(&mut self, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String> {
        let mut used = 0;
        while let Some((head, body_at)) = head(input.get(used..).unwrap_or_default())? {
            let Some(body) = input.get(used + body_at..used + body_at + head.length) else { break };
            let (id, checks) = self.asked.pop_front().ok_or("an answer that nobody asked for")?;
            answers.push((id, self.page.said(head.status, body, checks)));
            used += body_at + head.length;
            if head.closes && !self.asked.is_empty() {
                return Err("the server closes the connection with questions open".to_owned());
            }
        }
        Ok(used)
    }
}

struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

/// The head of an answer and where its body begins; `None`: not whole yet.
fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let mut rest = bytes;
    let Some((line, after)) = split_line(rest) else {
        return if bytes.len() > HEAD_BYTES_MAX { Err("an endless head".to_owned()) } else { Ok(None) };
    };
    let status = line.strip_prefix(b"HTTP/1.").and_then(|it| it.get(2..5)).and_then(number);
    let status = status.and_then(|it| u16::try_from(it).ok());
    let status = status.ok_or_else(|| format!("no HTTP/1 status: {:?}", String::from_utf8_lossy(line)))?;
    rest = after;
    let (mut length, mut closes) = (None, false);
    loop {
        let Some((line, after)) = split_line(rest) else {
            return if bytes.len() > HEAD_BYTES_MAX { Err("an endless head".to_owned()) } else { Ok(None) };
        };
        rest = after;
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
        let value = value.trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            length = Some(number(value).filter(|it| *it <= 1 << 24).ok_or("a content-length that is none")?);
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err("a chunked answer, which this driver does not read".to_owned());
        }
    }
    let length = length.ok_or("an answer without content-length")?;
    Ok(Some((Head { status, length, closes }, bytes.len() - rest.len())))
}

/// The `Authorization` header of HTTP Basic.
pub fn basic(id: &str, secret: &str) -> String {
    let plain = format!("{id}:{secret}");
    let mut coded = vec![0; (plain.len() * 4).div_ceil(3)];
    base64(plain.as_bytes(), &mut coded);
    while coded.len() % 4 != 0 {
        coded.push(b'=');
    }
    format!("Basic {}", String::from_utf8_lossy(&coded))
}

/// Base64 without padding into as many characters as there is room for: four for three bytes.
pub fn base64(bytes: &[u8], into: &mut [u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (chunk, out) in bytes.chunks(3).zip(into.chunks_mut(4)) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for (place, out) in out.iter_mut().enumerate() {
            *out = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_as_rfc_7617_says() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
    }

    #[test]
    fn heads_are_read_however_they_are_cut() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc";
        for end in 0..text.len() - 3 {
            assert!(head(&text[..end]).unwrap().is_none(), "{end}");
        }
        let (found, body_at) = head(text).unwrap().unwrap();
        assert_eq!((found.status, found.length, found.closes, body_at), (200, 3, false, text.len() - 3));
        for wrong in
            ["HTTP/1.1 200 OK\r\n\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
        {
            assert!(head(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
