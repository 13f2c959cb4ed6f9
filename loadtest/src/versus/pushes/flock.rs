//! N3: many followers at once, and revocations at a rate for them to hear of, while somebody else asks the server as much
//! as goes.
//!
//! The followers are near-caches of the client library, each with a connection and a socket of its own, all on one thread
//! on the generator's core; what they cost there is counted and told. The revocations come from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokenscope::client::{Client, Decision, NearCache, NearOptions, Wait};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::denied::{Held, SET_UP_WITHIN};
use crate::process::thread_cpu;
use crate::target::Target;

/// How long a follower may take to get its first lease.
const LIVE_WITHIN: Duration = Duration::from_secs(30);

/// Followers that connect at the same time.
const AT_ONCE: usize = 8;

/// Room of a follower's memory: what it holds is not what is measured.
const CAPACITY: usize = 64;

/// Revocations without a receipt at most.
const IN_FLIGHT: usize = 60 * CONNECTIONS;

/// Connections of the one who revokes.
const CONNECTIONS: usize = 4;

/// How often revocations that are due are sent: smooth enough that they do not come in bursts.
const TICK: Duration = Duration::from_millis(1);

/// Followers, on their thread.
pub struct Flock {
    /// The near-caches, to look into.
    pub all: Vec<NearCache>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Duration, String>>,
    began: Instant,
}

impl Flock {
    /// Connects `count` of them, waits until each has a lease and holds `token`.
    ///
    /// # Errors
    /// One cannot connect or gets no lease, or does not let the token in.
    pub fn gather(target: &Target, count: usize, token: &Held) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn({
            let (stop, target, token) = (stop.clone(), target.clone(), token.clone());
            move || -> Result<Duration, String> {
                let runtime = crate::runtime()?;
                runtime.block_on(async {
                    let (clients, caches) = connect_all(&target, count, &token).await?;
                    let before = thread_cpu();
                    let _ = tell.send(caches);
                    while !stop.load(Ordering::Acquire) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let used = thread_cpu().saturating_sub(before);
                    for client in clients {
                        client.close().await;
                    }
                    Ok(used)
                })
            }
        });
        match told.recv() {
            Ok(all) => Ok(Self { all, stop, thread, began: Instant::now() }),
            Err(_) => match thread.join() {
                Ok(Err(why)) => Err(format!("followers: {why}")),
                _ => Err("the thread of the followers panicked".to_owned()),
            },
        }
    }

    /// How many of them have a lease and do not let `token` in.
    pub fn deny(&self, token: &Held) -> usize {
        self.all.iter().filter(|near| near.is_live() && !token.is_let_in(near)).count()
    }

    /// Sends them away; the share of a core they used.
    ///
    /// # Errors
    /// Their thread failed.
    pub fn leave(self) -> Result<f64, String> {
        drop(self.all);
        let lasted = self.began.elapsed();
        self.stop.store(true, Ordering::Release);
        let used = self.thread.join().map_err(|_| "the thread of the followers panicked".to_owned())??;
        Ok(used.as_secs_f64() / lasted.as_secs_f64().max(1e-9))
    }
}

async fn connect_all(target: &Target, count: usize, token: &Held) -> Result<(Vec<Client>, Vec<NearCache>), String> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks: JoinSet<Result<(Client, NearCache), String>> = JoinSet::new();
    for _ in 0..count {
        let (room, token, mut options) = (room.clone(), token.clone(), target.options(&target.asker));
        options.connections = 1;
        options.deadline = SET_UP_WITHIN;
        tasks.spawn(async move {
            let _permit = room.acquire().await;
            let said = |error: tokenscope::client::Error| error.to_string();
            let client = Client::connect(options).await.map_err(said)?;
            let near = NearOptions { capacity: CAPACITY, ..NearOptions::default() };
            let near = NearCache::follow(client.clone(), near).map_err(said)?;
            near.live(LIVE_WITHIN).await.map_err(said)?;
            match token.ask(&near).await? {
                Decision::Allowed => Ok((client, near)),
                other => Err(format!("a token that was registered is {other:?}")),
            }
        });
    }
    let (mut clients, mut caches) = (Vec::new(), Vec::new());
    while let Some(joined) = tasks.join_next().await {
        let (client, near) = joined.map_err(|error| error.to_string()).flatten()?;
        clients.push(client);
        caches.push(near);
    }
    Ok((clients, caches))
}

/// What became of the revocations.
#[derive(Debug)]
pub struct Revoked {
    /// Receipts per second.
    pub rate: f64,
    /// From when each was sent to its receipt, in nanoseconds.
    pub took: Vec<f64>,
}

/// Somebody who revokes at a rate, on a thread.
pub struct Revoker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Revoked, String>>,
}

impl Revoker {
    /// Begins to revoke these tokens, `rate` each second, and goes on until told to stop.
    pub fn start(target: &Target, tokens: Vec<Held>, rate: f64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (stop, target) = (stop.clone(), target.clone());
            move || crate::runtime()?.block_on(revoke_all(&target, tokens, rate, &stop))
        });
        Self { stop, thread }
    }

    /// Ends it.
    ///
    /// # Errors
    /// A revocation failed, or there were no more tokens.
    pub fn stop(self) -> Result<Revoked, String> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| "the thread of the revocations panicked".to_owned())?
    }
}

async fn revoke_all(target: &Target, tokens: Vec<Held>, rate: f64, stop: &AtomicBool) -> Result<Revoked, String> {
    let mut options = target.options(&target.changer);
    options.connections = CONNECTIONS;
    let client = Client::connect(options).await.map_err(|error| error.to_string())?;
    let mut tasks: JoinSet<Result<f64, String>> = JoinSet::new();
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut took = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter();
    let mut tick = tokio::time::interval(TICK);
    let began = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Acquire) {
        tick.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate) as u64;
        while sent < due {
            let Ok(permit) = room.clone().try_acquire_owned() else { break };
            let token = tokens.next().ok_or("there are no more tokens to revoke")?;
            let client = client.clone();
            sent += 1;
            tasks.spawn(async move {
                let asked = Instant::now();
                token.revoke(&client, Wait::Durable).await?;
                drop(permit);
                Ok(asked.elapsed().as_nanos() as f64)
            });
        }
        while let Some(done) = tasks.try_join_next() {
            took.push(done.map_err(|error| error.to_string()).flatten()?);
        }
    }
    let lasted = began.elapsed().as_secs_f64();
    while let Some(done) = tasks.join_next().await {
        took.push(done.map_err(|error| error.to_string()).flatten()?);
    }
    client.close().await;
    Ok(Revoked { rate: took.len() as f64 / lasted, took })
}
