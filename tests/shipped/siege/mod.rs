//! Hostile peers, one kind after the other, against a bound on memory; meanwhile a good client asks, and every question
//! of its is answered right.
//!
//! They come from an address of their own (`127.0.0.2`), as peers elsewhere would, and as far as they have a name at all
//! it is a caller's of their own. The server has small limits, so that the bound that follows from them can be reached.
//! Peak memory is what the system says (`VmHWM`), set back before each kind.

mod answered;
mod http2;
mod https;
mod proxy;
mod quic;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokenscope::config::Config;

use super::house::{House, PATIENCE, figure, wait_for};
use super::neighbours::Neighbour;

/// Where they come from.
pub const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

pub fn elsewhere() -> SocketAddr {
    SocketAddr::new(ELSEWHERE, 0)
}

const LIMITS: &str = "\n[limits]\nquic_connections = 64\nquic_connections_per_address = 24\nquic_connections_per_caller = 16\n\
                      quic_streams = 4\nquic_stream_buffer_bytes = \"16KiB\"\nquic_stream_window_bytes = \"64KiB\"\n\
                      quic_receive_window_bytes = \"256KiB\"\nquic_send_window_bytes = \"256KiB\"\nquic_retry_handshakes = 16\n\
                      quic_incoming_bytes_total = \"1MiB\"\nquic_handshake_deadline = \"1s\"\nquic_idle_timeout = \"3s\"\n\
                      quic_partial_message_deadline = \"500ms\"\nquic_write_deadline = \"500ms\"\n\
                      https_connections = 64\nhttps_connections_per_address = 32\nhttps_streams = 16\n\
                      https_handshake_deadline = \"1s\"\nhttps_first_request_deadline = \"1s\"\nhttps_head_deadline = \"1s\"\n\
                      https_body_deadline = \"1s\"\n";

/// The good client: what it asked, and how that went.
#[derive(Default)]
pub struct Good {
    over: AtomicBool,
    answered: AtomicU64,
    failed: Mutex<Vec<String>>,
    times: Mutex<Vec<Duration>>,
}

impl Good {
    pub fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// One question: answered right, or what was wrong.
    pub fn asked(&self, began: Instant, answer: Result<(), String>) {
        match answer {
            Ok(()) => {
                self.times.lock().unwrap().push(began.elapsed());
                self.answered.fetch_add(1, SeqCst);
            }
            Err(what) => self.failed.lock().unwrap().push(what),
        }
    }

    fn p99_and_largest(&self) -> (f64, f64, f64) {
        let mut times = self.times.lock().unwrap();
        times.sort();
        let at = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
        let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        (ms(at(50)), ms(at(99)), ms(times.last()))
    }
}

/// Ends the good client's questions, also when an attack found something.
struct Ends<'g>(&'g Good);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, SeqCst);
    }
}

/// A server under siege.
pub struct Siege {
    pub house: House,
    /// A caller that is known, and means no good.
    pub hostile: Neighbour,
    good: Good,
    kinds: AtomicU64,
    /// Largest growth of memory so far, in bytes, and of which kind.
    worst: Mutex<(u64, &'static str)>,
    base: AtomicU64,
}

impl Siege {
    /// With `more` limits; one that stands there already is replaced.
    fn begin(more: &str) -> Self {
        let rights = "ask = { audiences = \"all\", workspaces = \"all\" }";
        let stays = |line: &&str| more.is_empty() || !line.starts_with(more.split(' ').next().unwrap_or_default());
        let limits: String = LIMITS.lines().filter(stays).chain([more]).map(|line| format!("{line}\n")).collect();
        let (mut house, mut neighbours) = Neighbour::all(&limits, &[("hostile", rights)]);
        house.start();
        house.is_well("the start");
        let hostile = neighbours.remove(0);
        let siege = Self {
            house,
            hostile,
            good: Good::default(),
            kinds: AtomicU64::new(0),
            worst: Mutex::default(),
            base: AtomicU64::new(0),
        };
        siege.base.store(siege.status("VmRSS:"), SeqCst);
        siege
    }

    /// A line of the process's status, in bytes.
    fn status(&self, line: &str) -> u64 {
        let pid = self.house.pid().as_raw_nonzero();
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let value = text.lines().find_map(|it| it.strip_prefix(line)).unwrap();
        value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    fn answered(&self) -> u64 {
        self.good.answered.load(SeqCst)
    }

    /// One kind of attack. Before it is over the good client has been answered at least once more.
    pub fn kind(&self, what: &'static str, attack: impl FnOnce()) {
        let pid = self.house.pid().as_raw_nonzero();
        // Where the system does not allow this, the peak is that of all kinds so far.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        let before = self.answered();
        attack();
        let began = Instant::now();
        while self.answered() <= before + 1 {
            assert!(began.elapsed() < PATIENCE, "{what}: the good client is not answered any more");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.house.admin("/livez").map(|answer| answer.status), Some(200), "{what}");
        let grown = self.status("VmHWM:").saturating_sub(self.base.load(SeqCst));
        let mut worst = self.worst.lock().unwrap();
        if grown > worst.0 {
            *worst = (grown, what);
        }
        self.kinds.fetch_add(1, SeqCst);
        drop(worst);
        figure(&format!("  {what}: memory {:.1} MiB above the start", grown as f64 / f64::from(1 << 20)));
    }

    /// Waits until nobody but the good client is connected at the native door.
    pub fn until_they_left(&self) {
        let alone = "tokenscope_connections{door=\"quic\"} 1";
        wait_for("the hostile peers to leave", || {
            self.house.admin("/metrics").filter(|page| page.text().lines().any(|line| line == alone))
        });
    }

    /// All kinds of `attacks`, beside `asks`.
    fn suffer(door: &str, asks: impl FnOnce(&Self, &Good) + Send, attacks: impl FnOnce(&Self)) -> u64 {
        let siege = Self::begin("");
        std::thread::scope(|scope| {
            scope.spawn(|| asks(&siege, &siege.good));
            let _ends = Ends(&siege.good);
            attacks(&siege);
        });
        siege.house.is_well("the siege");
        let config = Config::load(siege.house.config().as_ref()).unwrap();
        let most = config.limits.peers_memory_bytes_max();
        let (grown, what) = *siege.worst.lock().unwrap();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (p50, p99, largest) = siege.good.p99_and_largest();
        let kinds = siege.kinds.load(SeqCst);
        figure(&format!(
            "{door}: {kinds} kinds of hostile peers; memory at most {:.1} MiB above the start's {:.1} ({what}), the limits \
             allow {:.1}; a good client meanwhile: {} of {} answered right, p50 {p50:.1} ms, p99 {p99:.1} ms, largest \
             {largest:.1} ms",
            mib(grown),
            mib(siege.base.load(SeqCst)),
            mib(most),
            siege.answered(),
            siege.answered() + siege.good.failed.lock().unwrap().len() as u64,
        ));
        let panics = siege.house.admin("/metrics").unwrap().text();
        assert!(panics.lines().any(|line| line.starts_with("tokenscope_panics_total") && line.ends_with(" 0")));
        let failed = siege.good.failed.lock().unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        drop(failed);
        assert!(grown <= most, "{what}: {grown} bytes more, the limits allow {most}");
        kinds
    }
}

#[test]
fn hostile_peers_at_the_native_door_stop_nobody_and_stay_within_the_bound_on_memory() {
    let kinds = Siege::suffer("QUIC", quic::ask, quic::attack);
    assert!(kinds >= 20, "{kinds}");
}

#[test]
fn hostile_peers_over_https_stop_nobody_and_stay_within_the_bound_on_memory() {
    let kinds = Siege::suffer("HTTPS", https::ask, https::attack);
    assert!(kinds >= 20, "{kinds}");
}
