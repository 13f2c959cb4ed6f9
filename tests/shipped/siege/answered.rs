//! What goes out to somebody whose address nobody has proved, byte for byte against what came in: whoever forges
//! addresses must not make a lever of us.
//!
//! RFC 9000 allows three bytes for one. quinn counts before it begins a datagram and not before it ends it
//! (<https://github.com/quinn-rs/quinn/issues/1082>), so what is left of the allowance may be exceeded by that datagram. Where
//! every address has to be proved first (`quic_retry_handshakes = 0`), less goes out than came in.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::quic::{initial, run};
use super::{Siege, elsewhere};
use crate::house::figure;

/// Longer than a handshake may take: what the server repeats, and its farewell, are counted.
const LISTENS: Duration = Duration::from_millis(2_500);

/// Sends each packet from a socket of its own; bytes in and out of the server, for each.
fn answered(siege: &Siege, packets: &[Vec<u8>], times: usize) -> Vec<(usize, usize)> {
    let sockets: Vec<UdpSocket> = packets.iter().map(|_| UdpSocket::bind(elsewhere()).unwrap()).collect();
    let mut counts = vec![(0, 0); packets.len()];
    for _ in 0..times {
        for ((packet, socket), count) in packets.iter().zip(&sockets).zip(&mut counts) {
            count.0 += socket.send_to(packet, siege.house.file.quic).unwrap();
        }
    }
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let (began, mut buffer) = (Instant::now(), [0; 4_096]);
    while began.elapsed() < LISTENS {
        for (socket, count) in sockets.iter().zip(&mut counts) {
            while let Ok(bytes) = socket.recv(&mut buffer) {
                count.1 += bytes;
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    counts
}

/// The largest datagram that is sent before a path was measured.
const DATAGRAM: usize = 1_200;

#[test]
fn before_an_address_is_proved_three_bytes_go_out_for_each_that_came_in_and_a_datagram_more_at_most() {
    let siege = Siege::begin("");
    let most = largest(&siege, |came| 3 * came + DATAGRAM);
    figure(&format!("before an address is proved: at most {most:.2} bytes out for one in"));
}

#[test]
fn where_every_address_has_to_be_proved_less_goes_out_than_came_in() {
    let siege = Siege::begin("quic_retry_handshakes = 0\n");
    // What looks like a packet of a connection is answered by one that is shorter.
    let most = largest(&siege, |came| came - 1);
    figure(&format!("where every address has to be proved: at most {most:.2} bytes out for one in"));
}

/// The most bytes that go out for one that came in, over all sorts of packets; each within what is `allowed`.
fn largest(siege: &Siege, allowed: impl Fn(usize) -> usize) -> f64 {
    let mut largest = 0.0_f64;
    let (mut initials, mut unknown, mut short) = (Vec::new(), Vec::new(), Vec::new());
    run(async {
        for _ in 0..12 {
            initials.push(initial(siege).await);
        }
    });
    for packet in &initials {
        // The same with a version nobody knows; and what looks like a packet of a connection that is no more.
        let mut other = packet.clone();
        other[1..5].copy_from_slice(&[0x1a, 0x2a, 0x3a, 0x4a]);
        unknown.push(other);
        let mut stray = packet[..100].to_vec();
        stray[0] = 0x43;
        short.push(stray);
    }
    // So many at once that addresses have to be proved (Retry), and the limit of an address is reached.
    let mut flood = Vec::new();
    run(async {
        for _ in 0..60 {
            flood.push(initial(siege).await);
        }
    });
    for (what, packets, times) in [
        ("a first packet", &initials, 1),
        ("a first packet, three times", &initials, 3),
        ("an unknown version", &unknown, 1),
        ("a packet of no connection", &short, 1),
        ("sixty first packets at once", &flood, 1),
    ] {
        let counts = answered(siege, packets, times);
        let most = counts.iter().map(|(came, went)| *went as f64 / *came as f64).fold(0.0, f64::max);
        largest = largest.max(most);
        let (came, went) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
        figure(&format!(
            "{what}: {} peers, {came} bytes in, {went} out; at most {most:.2} bytes out for one in",
            packets.len()
        ));
        assert!(counts.iter().all(|(came, went)| *went <= allowed(*came)), "{what}: {counts:?}");
        // A connection id that was never given out is answered by nothing.
        assert!(went > 0 || short.contains(&packets[0]), "{what}: nothing came back, so nothing was measured");
    }
    siege.house.is_well("forged addresses");
    largest
}
