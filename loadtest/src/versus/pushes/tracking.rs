//! N4: Redis' client-side caching. A connection reads keys under `CLIENT TRACKING` (RESP3), another one sets them; what is
//! timed is how long until the invalidation is there.
//!
//! Two servers of their own, with nothing but these keys in them: one that writes nothing to disk, as Redis comes, and one
//! that appends every change and syncs before it answers, as we do.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::probe::{Moments, Seen, Subject, probe};
use crate::driver::redis::{self, KEY_BYTES, VALUE_BYTES, number, split_line};
use crate::process::{Spawned, free_port, installed};

/// How long it may take to start, and to answer a request that is not timed.
const WITHIN: Duration = Duration::from_secs(30);

/// Requests that are sent together where nothing is timed.
const TOGETHER: usize = 256;

/// A Redis that tracks.
pub struct Tracking {
    spawned: Spawned,
    address: SocketAddr,
    /// Counts up, so that no key is used twice.
    used: usize,
}

/// What was measured.
pub struct Phase {
    /// Due, and invalidated.
    pub seen: Seen,
    /// The receipts of the `SET`s.
    pub receipts: Vec<Option<Instant>>,
}

impl Tracking {
    /// Starts one, frozen. `None`: Redis is not installed.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(directory: &Path, core: Option<usize>, durable: bool) -> Result<Option<Self>, String> {
        let Some(program) = installed("redis-server") else { return Ok(None) };
        let directory = directory.join(if durable { "redis-tracking-durable" } else { "redis-tracking" });
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        if directory.exists() {
            // What an earlier run left would be loaded.
            std::fs::remove_dir_all(&directory).map_err(failed)?;
        }
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.current_dir(&directory).args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--appendonly", if durable { "yes" } else { "no" }, "--appendfsync", "always"]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = directory.join("log");
        let mut spawned = Spawned::start(command, "redis with tracking", core, &log)?;
        spawned.wait_for(WITHIN, &log, || std::net::TcpStream::connect(address).is_ok())?;
        spawned.freeze();
        Ok(Some(Self { spawned, address, used: 0 }))
    }

    /// Sets a key at each moment. Everybody else has to be frozen.
    ///
    /// # Errors
    /// It refuses, breaks its protocol, or an invalidation is missing or of a key that nobody set.
    pub fn measure(&mut self, moments: &Moments) -> Result<Phase, String> {
        self.spawned.thaw();
        let first = self.used;
        self.used += moments.len();
        let measured = crate::runtime()?.block_on(measure(self.address, first, moments));
        self.spawned.freeze();
        measured
    }
}

fn key(number: usize) -> [u8; KEY_BYTES] {
    let mut key = [b'k'; KEY_BYTES];
    key[..8].copy_from_slice(&(number as u64).to_le_bytes());
    key
}

fn number_of(key: &[u8]) -> Option<usize> {
    let key: &[u8; KEY_BYTES] = key.try_into().ok()?;
    let number = u64::from_le_bytes(*key.first_chunk()?);
    usize::try_from(number).ok()
}

fn set(number: usize, filling: u8, out: &mut Vec<u8>) {
    redis::set(&key(number), &[filling; VALUE_BYTES], out);
}

fn get(number: usize, out: &mut Vec<u8>) {
    redis::get(&key(number), out);
}

async fn connect(address: SocketAddr) -> Result<(OwnedReadHalf, OwnedWriteHalf), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("redis: {error}"))?;
    stream.set_nodelay(true).map_err(|error| format!("redis: {error}"))?;
    Ok(stream.into_split())
}

/// Nothing that is timed: sends, and reads exactly `expected`.
async fn exchange(
    (reader, writer): (&mut OwnedReadHalf, &mut OwnedWriteHalf),
    request: &[u8],
    expected: &[u8],
) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("redis: {error}");
    let mut answer = vec![0; expected.len()];
    let talk = async {
        writer.write_all(request).await.map_err(failed)?;
        writer.flush().await.map_err(failed)?;
        reader.read_exact(&mut answer).await.map_err(failed)
    };
    tokio::time::timeout(WITHIN, talk).await.map_err(|_| "redis does not answer".to_owned())??;
    if answer == expected {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&answer).chars().take(200).collect();
    Err(format!("redis says {said:?}"))
}

async fn measure(address: SocketAddr, first: usize, moments: &Moments) -> Result<Phase, String> {
    let (mut tracked, mut tracking) = connect(address).await?;
    let (mut replies, mut setter) = connect(address).await?;
    let numbers: Vec<usize> = (first..first + moments.len()).collect();
    for chunk in numbers.chunks(TOGETHER) {
        let mut request = Vec::new();
        chunk.iter().for_each(|number| set(*number, b'a', &mut request));
        exchange((&mut replies, &mut setter), &request, &b"+OK\r\n".repeat(chunk.len())).await?;
    }
    greet(&mut tracked, &mut tracking).await?;
    for chunk in numbers.chunks(TOGETHER) {
        let mut request = Vec::new();
        chunk.iter().for_each(|number| get(*number, &mut request));
        exchange((&mut tracked, &mut tracking), &request, &value(b'a').repeat(chunk.len())).await?;
    }
    let slots = || -> Arc<[OnceLock<Instant>]> { numbers.iter().map(|_| OnceLock::new()).collect() };
    let (invalidated, receipts) = (slots(), slots());
    let strange = Arc::new(OnceLock::new());
    let (requests, waiting) = mpsc::unbounded_channel();
    let tasks = [
        tokio::spawn(write(setter, waiting)),
        tokio::spawn(read_receipts(replies, receipts.clone(), strange.clone())),
        tokio::spawn(read_pushes(tracked, first, invalidated.clone(), strange.clone())),
    ];
    let mut setting = Setting { first, requests, invalidated, strange: strange.clone() };
    let seen = probe(moments, &mut setting).await?;
    let began = Instant::now();
    while receipts.iter().any(|it| it.get().is_none()) && strange.get().is_none() {
        if began.elapsed() > WITHIN {
            return Err("redis: replies are missing".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    if let Some(why) = strange.get() {
        return Err(why.clone());
    }
    // What was invalidated has to have changed.
    let (mut replies, mut getter) = connect(address).await?;
    for chunk in numbers.chunks(TOGETHER) {
        let mut request = Vec::new();
        chunk.iter().for_each(|number| get(*number, &mut request));
        exchange((&mut replies, &mut getter), &request, &value(b'b').repeat(chunk.len())).await?;
    }
    Ok(Phase { seen, receipts: receipts.iter().map(|it| it.get().copied()).collect() })
}

fn value(filling: u8) -> Vec<u8> {
    let mut bulk = format!("${VALUE_BYTES}\r\n").into_bytes();
    bulk.extend_from_slice(&[filling; VALUE_BYTES]);
    bulk.extend_from_slice(b"\r\n");
    bulk
}

/// RESP3, then tracking. The reply to HELLO is a map whose length nobody knows; the reply to the second request ends it.
async fn greet(reader: &mut OwnedReadHalf, writer: &mut OwnedWriteHalf) -> Result<(), String> {
    const END: &[u8] = b"+OK\r\n";
    let failed = |error: std::io::Error| format!("redis: {error}");
    let talk = async {
        writer.write_all(b"HELLO 3\r\nCLIENT TRACKING ON\r\n").await.map_err(failed)?;
        writer.flush().await.map_err(failed)?;
        let mut said = Vec::new();
        while !said.ends_with(END) {
            if reader.read_buf(&mut said).await.map_err(failed)? == 0 || said.first() == Some(&b'-') {
                return Err(format!("redis knows no client-side caching: {}", String::from_utf8_lossy(&said)));
            }
        }
        Ok(())
    };
    tokio::time::timeout(WITHIN, talk).await.map_err(|_| "redis does not answer".to_owned())?
}

struct Setting {
    first: usize,
    requests: mpsc::UnboundedSender<Vec<u8>>,
    invalidated: Arc<[OnceLock<Instant>]>,
    strange: Arc<OnceLock<String>>,
}

impl Subject for Setting {
    fn act(&mut self, number: usize) -> Result<bool, String> {
        if let Some(why) = self.strange.get() {
            return Err(why.clone());
        }
        let mut request = Vec::with_capacity(160);
        set(self.first + number, b'b', &mut request);
        self.requests.send(request).map_err(|_| "redis: the connection ended")?;
        Ok(true)
    }

    fn is_there(&mut self, number: usize) -> bool {
        self.invalidated.get(number).is_some_and(|it| it.get().is_some())
    }
}

async fn write(mut writer: OwnedWriteHalf, mut waiting: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(mut request) = waiting.recv().await {
        while let Ok(more) = waiting.try_recv() {
            request.extend(more);
        }
        if writer.write_all(&request).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

async fn read_receipts(mut reader: OwnedReadHalf, receipts: Arc<[OnceLock<Instant>]>, strange: Arc<OnceLock<String>>) {
    let mut reply = [0; 5];
    for receipt in receipts.iter() {
        match reader.read_exact(&mut reply).await {
            Ok(_) if reply == *b"+OK\r\n" => drop(receipt.set(Instant::now())),
            Ok(_) => drop(strange.set(format!("redis says {:?}", String::from_utf8_lossy(&reply)))),
            Err(error) => drop(strange.set(format!("redis: {error}"))),
        }
    }
}

async fn read_pushes(
    mut reader: OwnedReadHalf,
    first: usize,
    invalidated: Arc<[OnceLock<Instant>]>,
    strange: Arc<OnceLock<String>>,
) {
    let mut input = Vec::new();
    loop {
        match reader.read_buf(&mut input).await {
            Ok(0) => return drop(strange.set("redis ended the tracking connection".to_owned())),
            Ok(_) => {}
            Err(error) => return drop(strange.set(format!("redis: {error}"))),
        }
        let now = Instant::now();
        loop {
            match take_push(&input) {
                Ok(None) => break,
                Ok(Some((keys, used))) => {
                    for number in keys {
                        let slot = number.checked_sub(first).and_then(|at| invalidated.get(at));
                        if slot.is_none_or(|slot| slot.set(now).is_err()) {
                            let _ = strange.set(format!("redis invalidates key {number}, which nobody has set now"));
                        }
                    }
                    input.drain(..used);
                }
                Err(why) => return drop(strange.set(why)),
            }
        }
    }
}

/// The keys of the invalidation at the front of `input`, and how many bytes it was. `None`: it is not whole.
fn take_push(input: &[u8]) -> Result<Option<(Vec<usize>, usize)>, String> {
    let begins = b">2\r\n$10\r\ninvalidate\r\n";
    if input.len() < begins.len() {
        return Ok(None);
    }
    let strange =
        || format!("redis pushes {:?}", String::from_utf8_lossy(input.get(..64.min(input.len())).unwrap_or_default()));
    let rest = input.strip_prefix(begins).ok_or_else(strange)?;
    let Some((line, mut rest)) = split_line(rest) else { return Ok(None) };
    let count = line.strip_prefix(b"*").and_then(number).filter(|it| *it <= 1 << 20).ok_or_else(strange)?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let Some((line, after)) = split_line(rest) else { return Ok(None) };
        let length = line.strip_prefix(b"$").and_then(number).filter(|it| *it == KEY_BYTES).ok_or_else(strange)?;
        let (Some(key), Some(after)) = (after.get(..length), after.get(length + 2..)) else { return Ok(None) };
        keys.push(number_of(key).ok_or_else(strange)?);
        rest = after;
    }
    Ok(Some((keys, input.len() - rest.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(keys: &[usize]) -> Vec<u8> {
        let mut bytes = format!(">2\r\n$10\r\ninvalidate\r\n*{}\r\n", keys.len()).into_bytes();
        for number in keys {
            bytes.extend_from_slice(b"$32\r\n");
            bytes.extend_from_slice(&key(*number));
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    #[test]
    fn invalidations_are_read_however_they_are_cut() {
        // 2_573 is a carriage return and a line feed.
        for keys in [&[7][..], &[1, 2_573, 3], &[]] {
            let bytes = push(keys);
            for end in 0..bytes.len() {
                assert_eq!(take_push(&bytes[..end]), Ok(None), "{end}");
            }
            assert_eq!(take_push(&[&bytes[..], b">2"].concat()), Ok(Some((keys.to_vec(), bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_invalidation_is_an_error() {
        for text in
            ["+OK\r\n..................", ">2\r\n$10\r\ninvalidate\r\n_\r\n", ">2\r\n$10\r\ninvalidate\r\n*1\r\n$3\r\n"]
        {
            assert!(take_push(text.as_bytes()).is_err(), "{text}");
        }
    }
}
