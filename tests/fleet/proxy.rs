//! The network between one client and the server: a UDP proxy that cuts, loses, doubles, delays and thereby reorders.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::dice::Dice;

/// No datagram is longer.
const DATAGRAM_BYTES: usize = 65_536;

/// A connection that was silent for so long is over.
const SILENCE: Duration = Duration::from_secs(30);

/// Datagrams of one client that are late at a time; more are lost.
const LATE_MAX: u64 = 1_024;

/// The longest delay.
const DELAY: Duration = Duration::from_millis(25);

/// How it is at the moment.
pub struct Weather {
    /// Nothing passes, and nobody is told.
    pub cut: AtomicBool,
    /// Some datagrams are lost, doubled, late.
    pub rough: AtomicBool,
    dice: Mutex<Dice>,
    late: AtomicU64,
    pub counts: Counts,
}

/// What was done to datagrams.
#[derive(Default)]
pub struct Counts {
    pub passed: AtomicU64,
    pub cut: AtomicU64,
    pub lost: AtomicU64,
    pub doubled: AtomicU64,
    pub delayed: AtomicU64,
}

/// Where a datagram goes on to.
#[derive(Clone)]
enum Way {
    /// To the server, by a socket that stands for one of the client's.
    Up(Arc<UdpSocket>),
    /// Back to the client.
    Down(Arc<UdpSocket>, SocketAddr),
}

impl Way {
    async fn send(&self, bytes: &[u8]) {
        // A port behind which nobody is any more: like a wire, we do not care.
        let _ = match self {
            Self::Up(socket) => socket.send(bytes).await,
            Self::Down(socket, client) => socket.send_to(bytes, client).await,
        };
    }
}

impl Weather {
    async fn pass(self: &Arc<Self>, bytes: &[u8], way: &Way) {
        let counts = &self.counts;
        if self.cut.load(Relaxed) {
            counts.cut.fetch_add(1, Relaxed);
            return;
        }
        if !self.rough.load(Relaxed) {
            counts.passed.fetch_add(1, Relaxed);
            return way.send(bytes).await;
        }
        let (what, delay) = {
            let mut dice = self.dice.lock().unwrap();
            (dice.roll(100), dice.time(Duration::from_millis(1), DELAY))
        };
        match what {
            0 => drop(counts.lost.fetch_add(1, Relaxed)),
            1..=3 => {
                counts.doubled.fetch_add(1, Relaxed);
                way.send(bytes).await;
                self.send_late(bytes, way, delay);
            }
            4..=33 => {
                counts.delayed.fetch_add(1, Relaxed);
                self.send_late(bytes, way, delay);
            }
            _ => {
                counts.passed.fetch_add(1, Relaxed);
                way.send(bytes).await;
            }
        }
    }

    /// What is sent meanwhile overtakes it.
    fn send_late(self: &Arc<Self>, bytes: &[u8], way: &Way, delay: Duration) {
        if self.late.fetch_add(1, Relaxed) >= LATE_MAX {
            self.late.fetch_sub(1, Relaxed);
            self.counts.lost.fetch_add(1, Relaxed);
            return;
        }
        let (weather, way, bytes) = (Arc::clone(self), way.clone(), bytes.to_vec());
        tokio::spawn(async move {
            sleep(delay).await;
            weather.late.fetch_sub(1, Relaxed);
            // The wire may have been cut in the meantime.
            if !weather.cut.load(Relaxed) {
                way.send(&bytes).await;
            }
        });
    }
}

/// One client's way to the server. It ends with the runtime.
pub struct Proxy {
    pub address: SocketAddr,
    pub weather: Arc<Weather>,
}

impl Proxy {
    pub async fn start(server: SocketAddr, dice: Dice) -> Self {
        let weather = Arc::new(Weather {
            cut: AtomicBool::new(false),
            rough: AtomicBool::new(false),
            dice: Mutex::new(dice),
            late: AtomicU64::new(0),
            counts: Counts::default(),
        });
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let address = socket.local_addr().unwrap();
        tokio::spawn(upwards(socket, server, Arc::clone(&weather)));
        Self { address, weather }
    }
}

/// Takes what the client sends, and gives each of its sockets one of ours.
async fn upwards(socket: Arc<UdpSocket>, server: SocketAddr, weather: Arc<Weather>) {
    let mut ours: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut bytes = vec![0; DATAGRAM_BYTES];
    loop {
        // An error tells of a datagram sent before to a client that is gone.
        let Ok((length, client)) = socket.recv_from(&mut bytes).await else { continue };
        // Whoever is gone has its socket to itself alone here.
        ours.retain(|known, ours| *known == client || Arc::strong_count(ours) > 1);
        let up = match ours.get(&client) {
            Some(up) => Arc::clone(up),
            None => {
                let up = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                up.connect(server).await.unwrap();
                tokio::spawn(downwards(Arc::clone(&up), Arc::clone(&socket), client, Arc::clone(&weather)));
                ours.insert(client, Arc::clone(&up));
                up
            }
        };
        weather.pass(&bytes[..length], &Way::Up(up)).await;
    }
}

/// Takes what the server answers to one of the client's sockets.
async fn downwards(up: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr, weather: Arc<Weather>) {
    let way = Way::Down(socket, client);
    let mut bytes = vec![0; DATAGRAM_BYTES];
    while let Ok(received) = timeout(SILENCE, up.recv(&mut bytes)).await {
        match received {
            Ok(length) => weather.pass(&bytes[..length], &way).await,
            // No server is there at the moment. A tight loop is not to come of it.
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}
