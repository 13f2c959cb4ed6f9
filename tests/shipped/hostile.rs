//! Bad input at every door. After each: a clear refusal, a server that is alive, and a good question answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quinn::ConnectionError;
use serde_json::json;
use tokenscope::certs::Authority;
use tokenscope::client::{Client, Token, Verdict};
use tokenscope::wire::message::{Answer as Told, ErrorCode};
use tokenscope::wire::{ALPN, CloseCode, STREAM_REQUESTS, Split, decode};

use super::house::{House, PATIENCE, figure, now};
use super::native::{by_hand, options, runtime};
use super::web::{Answer, Tls, Web, base64, plain, post};

/// Deadlines short enough to be waited for.
const SHORT: &str = "\n[limits]\nhttps_handshake_deadline = \"1s\"\nhttps_first_request_deadline = \"1s\"\n\
                     https_head_deadline = \"1s\"\nhttps_body_deadline = \"1s\"\nquic_handshake_deadline = \"1s\"\n\
                     quic_partial_message_deadline = \"500ms\"\nadmin_deadline = \"1s\"\n";

/// Bytes without sense, the same every time.
fn garbage(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn requests_no_good_client_would_send_get_a_clear_refusal_over_https() {
    let mut house = House::with(SHORT);
    house.start();
    let web = house.web();
    let (name, secret) = house.secret("api");
    let api = Some((name.as_str(), secret.as_str()));
    let (name, secret) = house.secret("admin");
    let admin = Some((name.as_str(), secret.as_str()));
    let token = &house.token("jonas-time").token;
    let good = format!("token={token}");
    let head = |lines: &str| format!("POST /introspect HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n");
    let repeated = |name: &str| format!("token={token}&{name}=a&{name}=b");
    let introspect = |body: &str| post("/introspect", api, FORM, body);
    let change = |body: &str| post("/v1/revocations", admin, "application/json", body);
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("a method that is not known", "BREW /introspect HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), &[405]),
        ("GET where POST belongs", "GET /introspect HTTP/1.1\r\nhost: localhost\r\n\r\n".into(), &[405]),
        ("a path that is not there", post("/introspection", api, FORM, &good), &[404]),
        ("a path upwards", post("/../introspect", api, FORM, &good), &[404]),
        ("a version that is none", "POST /introspect HTTP/9.9\r\nhost: localhost\r\n\r\n".into(), &[400]),
        ("JSON where a form belongs", post("/introspect", api, "application/json", "{}"), &[400, 415]),
        ("a form where JSON belongs", post("/v1/revocations", admin, FORM, "all=true"), &[400, 415]),
        ("no token", introspect(""), &[400]),
        ("an empty token", introspect("token="), &[200, 400]),
        ("two tokens", introspect(&repeated("token")), &[400]),
        ("two scopes", introspect(&repeated("tokenscope_scope")), &[400]),
        ("two hints", introspect(&repeated("token_type_hint")), &[400]),
        ("half a percent sign", introspect("token=%4"), &[400]),
        ("a token that is not UTF-8", introspect("token=%ff%fe"), &[200, 400]),
        (
            "a place that is none",
            introspect(&format!("{good}&tokenscope_scope=tasks:read&tokenscope_place=1%2F2%2F3")),
            &[400],
        ),
        ("nobody's credentials", post("/introspect", None, FORM, &good), &[401]),
        ("a wrong secret", post("/introspect", Some(("api", "guessed")), FORM, &good), &[401]),
        ("credentials that are not base64", head("authorization: Basic !!!\r\ncontent-length: 0\r\n"), &[400, 401]),
        ("a length that is none", head("content-length: many\r\n"), &[400]),
        ("two lengths", head("content-length: 1\r\ncontent-length: 2\r\n"), &[400]),
        ("a negative length", head("content-length: -1\r\n"), &[400]),
        ("a header of 64 KiB", head(&format!("x-large: {}\r\n", "x".repeat(64 << 10))), &[431]),
        ("a thousand headers", head(&"x-many: 1\r\n".repeat(1_000)), &[431]),
        ("a path of 64 KiB", format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(64 << 10)), &[414, 431]),
        ("a header with a line feed in its name", head("x\ny: 1\r\n"), &[400]),
        ("not HTTP at all", String::from("EHLO localhost\r\n\r\n"), &[400]),
        ("an empty selector", change("{}"), &[400]),
        ("a selector of empty text", change("{\"subject\":\"\"}"), &[400]),
        ("a selector of nothing", change("{\"subject\":null}"), &[400]),
        ("two selectors", change("{\"subject\":\"maria\",\"client\":\"calendar\"}"), &[400]),
        ("a selector nobody knows", change("{\"everybody\":true}"), &[400]),
        ("half a pair", change("{\"subject_client\":{\"subject\":\"maria\"}}"), &[400]),
        ("issued before, among nothing", change("{\"issued_before\":{\"time\":1}}"), &[400]),
        ("no body at all", change(""), &[400]),
        ("a list", change("[]"), &[400]),
        ("JSON that is cut", change("{\"subject\":"), &[400]),
        ("JSON of twenty thousand brackets", change(&deep), &[400]),
        ("a change with the wrong method", post("/v1/scopes/tasks:read", admin, "application/json", "{}"), &[405]),
        (
            "a change by somebody who may not",
            post("/v1/revocations", api, "application/json", "{\"subject\":\"maria\"}"),
            &[403],
        ),
    ];
    for (what, request, expected) in &cases {
        let answer = match web.send(request.as_bytes()) {
            Ok(answer) => answer,
            Err(error) => {
                // Who sends more than is read may see the connection end before it sees the answer.
                assert!(request.len() > 16 << 10, "{what}: no answer: {error}");
                house.is_well(what);
                continue;
            }
        };
        assert!(expected.contains(&answer.status), "{what}: {answer:?}");
        says_why(what, &answer, token);
        house.is_well(what);
    }
    // What the whole table was meant to hit is still there.
    assert!(house.introspect(&house.token("maria-calendar").token).text().contains("\"active\":true"));
    figure(&format!("bad input over HTTPS: {} requests, each refused, server alive after each", cases.len()));
}

/// A refusal of ours has words, and never the token.
fn says_why(what: &str, answer: &Answer, token: &str) {
    let text = answer.text();
    assert!(!text.contains(token), "{what}: the token is in the answer");
    if answer.status == 405 {
        assert!(answer.header("allow").is_some(), "{what}: {answer:?}");
    }
    if answer.status == 401 {
        assert!(answer.header("www-authenticate").is_some(), "{what}: {answer:?}");
    }
    // The HTTP library itself refuses what is no HTTP, without words.
    if answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) && answer.status >= 400 {
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(told["error"].as_str().is_some_and(|code| !code.is_empty()), "{what}: {text}");
    }
}

/// 100 MB, announced or in chunks: refused without being read.
#[test]
fn a_body_of_100_mb_is_refused_before_it_is_read() {
    const BODY: usize = 100_000_000;
    let mut house = House::with(SHORT);
    house.start();
    let (name, secret) = house.secret("api");
    let basic = base64(format!("{name}:{secret}").as_bytes());
    let head = |path: &str, kind: &str, more: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {basic}\r\ncontent-type: {kind}\r\n{more}\r\n\r\n"
        )
    };
    for (path, kind) in [("/introspect", FORM), ("/revoke", FORM), ("/v1/introspect", "application/json")] {
        for announced in [true, false] {
            let what = format!("100 MB to {path}, {}", if announced { "announced" } else { "in chunks" });
            let more = if announced { format!("content-length: {BODY}") } else { "transfer-encoding: chunked".into() };
            let mut stream = house.web().open();
            stream.write_all(head(path, kind, &more).as_bytes()).unwrap();
            let block = vec![b'a'; 64 << 10];
            let mut sent = 0;
            while sent < BODY {
                let written = if announced {
                    stream.write_all(&block)
                } else {
                    stream.write_all(format!("{:x}\r\n", block.len()).as_bytes()).and_then(|()| {
                        stream.write_all(&block)?;
                        stream.write_all(b"\r\n")
                    })
                };
                if written.is_err() {
                    break;
                }
                sent += block.len();
            }
            assert!(sent < BODY / 4, "{what}: {sent} bytes were taken");
            // The answer may have been cut off by our own sending; if it is there it is the right one.
            if let Ok(answer) = super::web::read(&mut std::io::BufReader::new(stream)) {
                assert_eq!(answer.status, 413, "{what}: {answer:?}");
            }
            house.is_well(&what);
        }
    }
    // Without sending the body, the answer is always there to be read.
    let request = head("/introspect", FORM, &format!("content-length: {BODY}"));
    assert_eq!(house.web().send(request.as_bytes()).unwrap().status, 413);
}

/// Reads until the server closes; how long that took.
fn closed(mut stream: impl Read) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // However it closes, it closes.
    let _ = stream.read_to_end(&mut bytes);
    assert!(began.elapsed() < PATIENCE, "still open");
    (bytes, began.elapsed())
}

#[test]
fn half_a_request_and_a_slow_sender_are_cut_off_in_time() {
    let mut house = House::with(SHORT);
    house.start();
    let (name, secret) = house.secret("api");
    let whole = post("/introspect", Some((&name, &secret)), FORM, "token=x");
    let tcp = |address: SocketAddr| {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let sent = |bytes: &str| {
        let mut stream: Tls = house.web().open();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.flush().unwrap();
        stream
    };
    closed(tcp(house.file.https));
    house.is_well("a TCP connection that says nothing");
    let mut halfway = tcp(house.file.https);
    halfway.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).unwrap();
    closed(halfway);
    house.is_well("half a TLS hello");
    for (what, bytes) in [
        ("half a head", &whole[..40]),
        ("half a body", &whole[..whole.len() - 3]),
        ("a head without a body", &whole[..whole.len() - 7]),
    ] {
        let (answer, took) = closed(sent(bytes));
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{what}: {text}");
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
        house.is_well(what);
    }
    // One byte at a time, for ever: the deadline is for the whole head, not for the next byte.
    let mut slow = sent("POST /introspect HTTP/1.1\r\nhost: localhost\r\n");
    let began = Instant::now();
    while slow.write_all(b"x").and_then(|()| slow.flush()).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "a slow sender is still listened to");
        std::thread::sleep(Duration::from_millis(50));
    }
    house.is_well("a slow sender");
    // The admin listener as well.
    let mut slow = tcp(house.file.admin);
    slow.write_all(b"GET /met").unwrap();
    closed(slow);
    house.is_well("half a request to the admin listener");
}

#[test]
fn garbage_on_every_port_harms_nobody() {
    let mut house = House::with(SHORT);
    house.start();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for seed in 0..300 {
        let bytes = garbage([0, 1, 5, 20, 100, 1_200, 1_472, 9_000][seed as usize % 8], seed);
        // The system may refuse to send when nobody listens; somebody does.
        udp.send_to(&bytes, house.file.quic).unwrap();
    }
    house.is_well("300 datagrams of garbage");
    // A long header of an unknown version, and one of version 1 with garbage behind it.
    for version in [[0x1a, 0x2a, 0x3a, 0x4a], [0, 0, 0, 1], [0, 0, 0, 0]] {
        let mut bytes = vec![0xc0 | 0x03];
        bytes.extend(version);
        bytes.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        bytes.extend(garbage(1_200, 7));
        udp.send_to(&bytes, house.file.quic).unwrap();
    }
    house.is_well("QUIC headers with garbage behind them");
    for address in [house.file.https, house.file.admin] {
        for seed in 1..20 {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            // It may close before it has all of it.
            let _ = socket.write_all(&garbage(4_000, seed));
            closed(socket);
        }
        house.is_well("garbage over TCP");
    }
    let plain_text = plain(house.file.https, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n");
    assert_eq!(plain_text, None, "no plain HTTP where TLS belongs");
    house.is_well("plain HTTP at the TLS port");
    for request in [
        "GET /metrics HTTP/1.1\r\n\r\n",
        "POST /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let answer = plain(house.file.admin, request);
        assert!(answer.as_ref().is_none_or(|it| it.status == 200 || it.status >= 400), "{request}: {answer:?}");
    }
    house.is_well("strange requests to the admin listener");
}

/// Certificates that must not open the door: file of the certificate, of the key.
struct Strangers {
    expired: (PathBuf, PathBuf),
    foreign: (PathBuf, PathBuf),
    unknown: (PathBuf, PathBuf),
    known: (PathBuf, PathBuf),
}

impl Strangers {
    fn of(house: &House) -> Self {
        let ours = Authority::open_or_create(&house.certs, "tokenscope development CA", now()).unwrap();
        let theirs = Authority::new("somebody else", now()).unwrap();
        let long_ago = now().minus(400 * 86_400);
        let write = |pair: tokenscope::certs::Pair, name: &str| {
            pair.write(house.dir.path(), name).unwrap();
            (house.dir.path().join(format!("{name}.pem")), house.dir.path().join(format!("{name}.key")))
        };
        Self {
            expired: write(ours.client("admin", long_ago).unwrap(), "expired"),
            foreign: write(theirs.client("admin", now()).unwrap(), "foreign"),
            unknown: write(ours.client("nobody", now()).unwrap(), "unknown"),
            known: write(ours.client("admin", now()).unwrap(), "known"),
        }
    }
}

fn paths(pair: &(PathBuf, PathBuf)) -> (&Path, &Path) {
    (&pair.0, &pair.1)
}

#[test]
fn who_has_no_good_certificate_or_speaks_another_protocol_is_refused_at_the_native_door() {
    let mut house = House::with(SHORT);
    house.start();
    let strangers = Strangers::of(&house);
    for (what, identity, alpn) in [
        ("no certificate", None, ALPN),
        ("an expired certificate", Some(paths(&strangers.expired)), ALPN),
        ("a foreign certificate", Some(paths(&strangers.foreign)), ALPN),
        ("another protocol", Some(paths(&strangers.known)), b"h3"),
        ("a later version of the protocol", Some(paths(&strangers.known)), b"tokenscope/2"),
    ] {
        runtime().block_on(async {
            // In TLS 1.3 the client is through before the server has seen its certificate.
            let error = match by_hand(&house, identity, alpn).await {
                Ok((_endpoint, connection)) => connection.closed().await,
                Err(error) => error,
            };
            match error {
                // 0x1xx are TLS alerts.
                ConnectionError::ConnectionClosed(close) if (0x100..0x200).contains(&u64::from(close.error_code)) => {}
                ConnectionError::TransportError(error) if (0x100..0x200).contains(&u64::from(error.code)) => {}
                other => panic!("{what}: {other}"),
            }
        });
        house.is_well(what);
    }
    runtime().block_on(async {
        let (_endpoint, connection) = by_hand(&house, Some(paths(&strangers.unknown)), ALPN).await.unwrap();
        match connection.closed().await {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(CloseCode::from_code(close.error_code.into_inner()), Some(CloseCode::UnknownCaller));
                assert!(String::from_utf8_lossy(&close.reason).contains("no caller"), "{close}");
            }
            other => panic!("{other}"),
        }
    });
    house.is_well("a certificate of our CA that belongs to no caller");
}

#[test]
fn who_has_no_good_certificate_or_speaks_another_protocol_is_refused_over_https() {
    let mut house = House::with(SHORT);
    house.start();
    let strangers = Strangers::of(&house);
    let token = &house.token("jonas-time").token;
    let request = post("/introspect", None, FORM, &format!("token={token}"));
    let send = |identity, alpn: &[&[u8]]| {
        Web::made(house.file.https, &house.file.ca_file, identity, alpn).send(request.as_bytes())
    };
    for (what, identity, alpn) in [
        ("an expired certificate", Some(paths(&strangers.expired)), None),
        ("a foreign certificate", Some(paths(&strangers.foreign)), None),
        ("another protocol", None, Some(b"spdy/3".as_slice())),
        ("the native protocol", None, Some(ALPN)),
    ] {
        let answer = send(identity, alpn.as_slice());
        assert!(answer.is_err(), "{what}: {answer:?}");
        house.is_well(what);
    }
    let answer = send(Some(paths(&strangers.unknown)), &[]).unwrap();
    assert_eq!(answer.status, 401, "{answer:?}");
    house.is_well("a certificate of our CA that belongs to no caller");
    let answer = send(Some(paths(&strangers.known)), &[b"http/1.1"]).unwrap();
    assert!(answer.status == 200 && answer.text().contains("\"active\":true"), "{answer:?}");
}

#[test]
fn bytes_no_good_client_would_send_at_the_native_door() {
    let mut house = House::with(SHORT);
    house.start();
    let known = Strangers::of(&house).known;
    // Length u16, kind u8, detail u8, id u32.
    let message = |length: u16, kind: u8, body: &[u8]| {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([kind, 0, 7, 0, 0, 0]);
        bytes.extend(body);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, Option<CloseCode>)> = vec![
        ("a stream of an unknown type", vec![0x7e], Some(CloseCode::UnknownStream)),
        (
            "a message shorter than its header",
            [&[STREAM_REQUESTS][..], &message(3, 1, &[])].concat(),
            Some(CloseCode::Malformed),
        ),
        (
            "a message larger than any",
            [&[STREAM_REQUESTS][..], &message(u16::MAX, 1, &[])].concat(),
            Some(CloseCode::TooLarge),
        ),
        ("half a message", [&[STREAM_REQUESTS][..], &message(40, 1, &[1, 2, 3])].concat(), Some(CloseCode::TooSlow)),
        ("an unknown message", [&[STREAM_REQUESTS][..], &message(8, 0x6f, &[])].concat(), None),
        ("a question that is cut", [&[STREAM_REQUESTS][..], &message(12, 1, &[1, 2, 3, 4])].concat(), None),
    ];
    for (what, bytes, expected) in &cases {
        runtime().block_on(async {
            let (_endpoint, connection) = by_hand(&house, Some(paths(&known)), ALPN).await.unwrap();
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            send.write_all(bytes).await.unwrap();
            if let Some(expected) = expected {
                match connection.closed().await {
                    ConnectionError::ApplicationClosed(close) => {
                        assert_eq!(
                            CloseCode::from_code(close.error_code.into_inner()),
                            Some(*expected),
                            "{what}: {close}"
                        );
                        assert!(!close.reason.is_empty(), "{what}: no words");
                    }
                    other => panic!("{what}: {other}"),
                }
                return;
            }
            let mut input = Vec::new();
            loop {
                let mut buffer = [0; 4096];
                let read = receive.read(&mut buffer).await.unwrap().expect("the stream goes on");
                input.extend_from_slice(&buffer[..read]);
                while let Ok(Split::Whole(raw, length)) = decode::split(&input) {
                    if let Ok(Told::Error { code, text, .. }) = decode::answer(&raw) {
                        assert_eq!(raw.id, 7, "{what}");
                        assert!(
                            matches!(code, ErrorCode::Malformed | ErrorCode::UnknownMessage),
                            "{what}: {code:?} {text}"
                        );
                        return;
                    }
                    input.drain(..length);
                }
            }
        });
        house.is_well(what);
    }
}

/// One byte changed, cut or added, at every position: never active, at either door.
#[test]
fn a_token_with_one_byte_changed_cut_or_added_is_inactive() {
    let mut house = House::new();
    house.start();
    let token = house.token("maria-time").token.clone();
    let mut wrong = Vec::new();
    for at in 0..=token.len() {
        let (before, after) = token.split_at(at);
        for add in ["a", "0", "_", " "] {
            wrong.push(format!("{before}{add}{after}"));
        }
        if let Some(cut) = after.get(1..) {
            wrong.push(format!("{before}{cut}"));
            for change in ["a", "Z", "7", "-"] {
                wrong.push(format!("{before}{change}{cut}"));
            }
        }
        wrong.push(before.to_owned());
    }
    wrong.extend([token.to_uppercase(), token.to_lowercase(), token.repeat(2), token.chars().rev().collect()]);
    wrong.retain(|it| *it != token && !it.is_empty());
    wrong.sort();
    wrong.dedup();
    let tokens: Vec<Token> = wrong.iter().map(Token::from).collect();
    runtime().block_on(async {
        let client = Client::connect(options(&house, "admin")).await.unwrap();
        for (verdict, wrong) in client.introspect_many(&tokens).await.unwrap().into_iter().zip(&wrong) {
            assert_eq!(verdict, Ok(Verdict::Inactive), "{wrong}");
        }
        client.close().await;
    });
    let (name, secret) = house.secret("admin");
    for some in wrong.chunks(200) {
        let answer = house.web().json("/v1/introspect", (&name, &secret), &json!({ "tokens": some }).to_string());
        let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let answers = told["answers"].as_array().unwrap_or_else(|| panic!("{told}"));
        assert_eq!(answers.len(), some.len());
        assert!(answers.iter().all(|it| *it == json!({ "active": false })), "{told}");
    }
    // And by RFC 7662 itself, for a part of them: each costs a handshake.
    let every = wrong.len() / 40;
    for wrong in wrong.iter().step_by(every) {
        let answer = house.introspect(wrong);
        assert_eq!((answer.status, answer.text().as_str()), (200, "{\"active\":false}"), "{wrong}");
    }
    house.is_well("tokens that are almost right");
    assert!(house.introspect(&token).text().contains("\"active\":true"));
    figure(&format!("a token with one byte wrong: {} spellings, none active", wrong.len()));
}
