use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

/// A served listener on a free port.
struct Served {
    address: SocketAddr,
    readiness: Readiness,
    task: JoinHandle<Infallible>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(connections: usize, deadline: Duration, scrape: Scrape) -> Served {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let admin = Admin::bind(address, Options { connections, deadline }).await.expect("bound");
    let (address, readiness) = (admin.address(), Readiness::default());
    let task = tokio::spawn(admin.serve(readiness.clone(), scrape));
    Served { address, readiness, task }
}

async fn ordinary() -> Served {
    serve(4, Duration::from_secs(5), Arc::new(|| "tokenscope_up 1\n".to_owned())).await
}

/// Sends `bytes` and reads all that comes back; an end without an answer is an empty text.
async fn send(served: &Served, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(served.address).await.expect("connected");
    // The other side may have closed already: then there is nothing to read either.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).expect("text")
}

async fn get(served: &Served, path: &str) -> String {
    send(served, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn readiness_goes_with_its_latches_and_liveness_does_not() {
    let served = ordinary().await;
    let ready = &served.readiness;
    assert!(get(&served, "/livez").await.starts_with("HTTP/1.1 200"));
    let answer = get(&served, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("\r\n\r\nnot ready\n"), "{answer}");
    ready.hold(Latch::Journal, "43 % read");
    ready.release(Latch::Snapshot);
    let answer = get(&served, "/readyz?verbose").await;
    let lines =
        "[+] snapshot\n[-] journal: 43 % read\n[-] doors: waiting\n[+] not_draining\n[+] not_poisoned\nnot ready\n";
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with(lines), "{answer}");
    for latch in Latch::ALL {
        ready.release(latch);
    }
    let answer = get(&served, "/readyz?a=b&verbose").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[+] not_poisoned\nready\n"), "{answer}");
    for latch in Latch::ALL {
        ready.hold(latch, "again");
        assert!(!ready.is_ready(), "{latch:?}");
        assert!(get(&served, "/livez").await.starts_with("HTTP/1.1 200"), "alive whatever happens");
        ready.release(latch);
    }
    assert!(ready.is_ready());
}

#[tokio::test]
async fn a_scrape_has_the_right_type_and_a_panicking_one_costs_only_itself() {
    let served = ordinary().await;
    let answer = get(&served, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\ntokenscope_up 1\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("cache-control: no-store"), "{answer}");
    let broken = serve(4, Duration::from_secs(5), Arc::new(|| panic!("a scrape that panics, on purpose"))).await;
    assert!(get(&broken, "/metrics").await.starts_with("HTTP/1.1 500"));
    assert!(get(&broken, "/livez").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn whatever_else_is_sent_is_refused_and_the_listener_lives() {
    let served = ordinary().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
    let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    for (bytes, status) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /metrics/ HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("garbage\r\n\r\n", "400"),
        (long.as_str(), "4"),
        (many.as_str(), "431"),
        ("\x16\x03\x01", ""),
    ] {
        let answer = match bytes {
            "\x16\x03\x01" => send(&served, b"\x16\x03\x01\x00\xff\xff\r\n\r\n").await,
            text => send(&served, text.as_bytes()).await,
        };
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{bytes:.40}: {answer}");
        assert!(get(&served, "/livez").await.starts_with("HTTP/1.1 200"), "after {bytes:.40}");
    }
}

#[tokio::test]
async fn half_a_request_is_dropped_at_the_deadline() {
    let served = serve(1, Duration::from_millis(50), Arc::new(String::new)).await;
    // One place, taken by a slow sender each time; the next one is served because the slow one was dropped.
    for half in ["", "GET /live", "GET /livez HTTP/1.1\r\nHost"] {
        let answer = send(&served, half.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        // Its place is free a moment after its end is seen here.
        loop {
            let answer = get(&served, "/livez").await;
            if answer.starts_with("HTTP/1.1 200") {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_unread() {
    let served = serve(2, Duration::from_secs(30), Arc::new(String::new)).await;
    let mut taken = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        stream.write_all(b"GET /livez").await.expect("sent");
        taken.push(stream);
    }
    assert_eq!(get(&served, "/livez").await, "", "no place is left");
    for stream in &mut taken {
        stream.write_all(b" HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_head_without_a_body_and_one_request_a_connection() {
    let served = ordinary().await;
    let answer = send(&served, b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    let two = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(send(&served, two).await.matches("HTTP/1.1 200").count(), 1);
    let taken = Admin::bind(served.address, Options { connections: 1, deadline: Duration::from_secs(1) }).await;
    assert_eq!(taken.expect_err("taken").kind(), io::ErrorKind::AddrInUse);
}
