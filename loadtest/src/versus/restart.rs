//! Ours and Redis, ended and started again with the same tokens: how long until the first right answer, and what they
//! take in memory then.

use std::time::{Duration, Instant};

use tokenscope::client::{Client, Token, Verdict};
use tokenscope::domain::TokenDigest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cells::Field;
use super::peers::{Peers, Who};
use crate::driver::redis::value_of;
use crate::driver::tcp::Tcp;
use crate::process::resident_of;
use crate::server::{Server, Start};

/// How long Redis may take to know its keys again.
const WITHIN: Duration = Duration::from_secs(600);

/// What was found, round by round.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    /// From starting our process to the first right answer, in nanoseconds. It answers when everything is verified.
    pub ours: Vec<f64>,
    /// The same for Redis, from its RDB file.
    pub redis: Vec<f64>,
    /// Our resident bytes after it, for each token that the data has.
    pub ours_bytes: Option<f64>,
    /// Redis' resident bytes after it, for each key.
    pub redis_bytes: Option<f64>,
}

/// Restarts both, in turn, and leaves both ended.
///
/// # Errors
/// One of them does not come back, or does not know what it knew.
pub fn measure(
    server: Server,
    start: &Start,
    peers: &mut Peers,
    field: &Field,
    rounds: usize,
) -> Result<Restarts, String> {
    let mut found = Restarts::default();
    let runtime = crate::runtime()?;
    let token = *field.population.hits.first().ok_or("no token to ask about")?;
    drop(server);
    for round in 1..=rounds {
        eprintln!("restart {round} of {rounds}");
        let began = Instant::now();
        let server = Server::start(start)?;
        let asked = async {
            let options = server.target.options(&server.target.asker);
            let client = Client::connect(options).await.map_err(|error| error.to_string())?;
            client.introspect(Token::from(TokenDigest::from_bytes(token.digest))).await.map_err(|it| it.to_string())
        };
        match runtime.block_on(asked)? {
            Verdict::Active(_) => found.ours.push(began.elapsed().as_nanos() as f64),
            Verdict::Inactive => return Err("our server forgot a token over its restart".to_owned()),
        }
        found.ours_bytes = resident_of(server.pid()).map(|bytes| bytes as f64 / field.population.total as f64);
        drop(server);
        if peers.has(Who::Redis) {
            found.redis.push(restart_redis(peers, start.core, &token.digest)?);
            let keys = peers.redis_keys().max(1) as f64;
            found.redis_bytes = peers.pid(Who::Redis).and_then(resident_of).map(|bytes| bytes as f64 / keys);
        }
    }
    Ok(found)
}

fn restart_redis(peers: &mut Peers, core: Option<usize>, digest: &[u8; 32]) -> Result<f64, String> {
    let runtime = crate::runtime()?;
    let tcp = peers.at(Who::Redis).ok_or("Redis is gone")?;
    runtime.block_on(async {
        let (mut reader, mut writer) = tcp.connect().await?;
        writer.write_all(b"SHUTDOWN SAVE\r\n").await.map_err(|error| error.to_string())?;
        // It closes the connection when everything is on disk.
        let mut said = Vec::new();
        let _ = tokio::time::timeout(WITHIN, reader.read_to_end(&mut said)).await;
        if said.is_empty() { Ok(()) } else { Err(format!("Redis: {}", String::from_utf8_lossy(&said))) }
    })?;
    peers.redis_ends();
    let began = Instant::now();
    peers.redis_again(core)?;
    let tcp = peers.at(Who::Redis).ok_or("Redis is gone")?;
    runtime.block_on(until_known(&tcp, digest, began))
}

/// Asks until the value is there; how long that took since `began`, in nanoseconds.
async fn until_known(tcp: &Tcp, digest: &[u8; 32], began: Instant) -> Result<f64, String> {
    let (mut reader, mut writer) = tcp.connect().await?;
    let failed = |error: std::io::Error| format!("Redis: {error}");
    let mut question = b"*2\r\n$3\r\nGET\r\n$32\r\n".to_vec();
    question.extend_from_slice(digest);
    question.extend_from_slice(b"\r\n");
    let value = value_of(digest);
    let mut answer = vec![0; 1024];
    while began.elapsed() < WITHIN {
        writer.write_all(&question).await.map_err(failed)?;
        let read = reader.read(&mut answer).await.map_err(failed)?;
        let text = answer.get(..read).unwrap_or_default();
        if text.windows(value.len()).any(|part| part == value) {
            return Ok(began.elapsed().as_nanos() as f64);
        }
        if !text.starts_with(b"-LOADING") {
            return Err(format!("Redis forgot a key over its restart: {:?}", String::from_utf8_lossy(text)));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(format!("Redis is still loading after {} s", WITHIN.as_secs()))
}
