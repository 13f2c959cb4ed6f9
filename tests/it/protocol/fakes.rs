//! The client against servers that misbehave: whatever they say, it is an error and never a verdict.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, SendStream, ServerConfig};
use tokenscope::client::{Client, Error, Options, OwnChanges, Verdict};
use tokenscope::domain::{Denial, Epoch, Sequence};
use tokenscope::server::tls::quic_config;
use tokenscope::wire::message::{Answer, ErrorCode, Hello, Leave, Outcome};
use tokenscope::wire::{Split, decode, encode};

use super::rig::{Ca, material};

/// What a fake does about a request: the bytes it sends, given the request's id.
type Reaction = fn(u32) -> Vec<u8>;

fn bytes(id: u32, answer: &Answer<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::answer(&mut bytes, id, answer).unwrap();
    bytes
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        minor: 0,
        epoch: Epoch(5),
        sequence: Sequence(9),
        in_flight_max: 64,
        changes_in_flight_max: 4,
        message_bytes_max: 16_384,
        api_message_bytes_max: 65_535,
        server: "fake",
    };
    bytes(0, &Answer::Hello(hello))
}

const INACTIVE: Answer<'static> = Answer::Inactive { sequence: Sequence(9) };

/// A server that greets with `greeting` and then reacts. It serves until the runtime ends.
fn fake(ca: &Ca, greeting: fn() -> Vec<u8>, reaction: Reaction) -> SocketAddr {
    let crypto = QuicServerConfig::try_from(quic_config(&material(ca)).unwrap()).unwrap();
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((send, receive)) = connection.accept_bi().await {
                    tokio::spawn(converse(send, receive, greeting, reaction));
                }
            });
        }
    });
    address
}

async fn converse(mut send: SendStream, mut receive: quinn::RecvStream, greeting: fn() -> Vec<u8>, reaction: Reaction) {
    if send.write_all(&greeting()).await.is_err() {
        return;
    }
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(Some(read)) = receive.read(&mut buffer).await {
        input.extend_from_slice(&buffer[..read]);
        // The first byte is the stream's type.
        while let Ok(Split::Whole(raw, length)) = decode::split(input.get(1..).unwrap_or_default()) {
            if send.write_all(&reaction(raw.id)).await.is_err() {
                return;
            }
            input.drain(1..1 + length);
        }
    }
}

fn options(ca: &Ca, servers: &[SocketAddr], deadline: Duration) -> Options {
    let identity = ca.issue("somebody.test");
    let servers = servers.iter().map(|address| (*address, "localhost".to_owned())).collect();
    let mut options = Options::new(servers, ca.pem.as_str(), identity.certificate.as_str(), identity.key.as_str());
    options.deadline = deadline;
    options.change_deadline = deadline;
    options.connect_deadline = Duration::from_secs(20);
    options
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_server_that_says_nothing_costs_the_deadline_and_no_more() {
    let ca = Ca::new();
    let address = fake(&ca, hello, |_| Vec::new());
    let client = Client::connect(options(&ca, &[address], Duration::from_millis(100))).await.unwrap();
    assert_eq!(client.introspect("x").await, Err(Error::Timeout));
    assert_eq!(client.revoke(tokenscope::client::Revoke::Token("x".into())).await, Err(Error::Timeout));
}

#[tokio::test]
async fn a_silent_server_is_left_for_one_that_speaks() {
    let ca = Ca::new();
    let silent = fake(&ca, hello, |_| Vec::new());
    let speaking = fake(&ca, hello, |id| bytes(id, &INACTIVE));
    let client = Client::connect(options(&ca, &[silent, speaking], Duration::from_secs(4))).await.unwrap();
    for _ in 0..4 {
        assert_eq!(client.introspect("x").await, Ok(Verdict::Inactive));
    }
}

/// B22: a refresh failed, and the request was let through all the same. No verdict is an error here, never a verdict.
#[tokio::test]
async fn no_verdict_here_may_be_a_verdict_elsewhere() {
    let ca = Ca::new();
    let not_ready = fake(&ca, hello, |id| {
        bytes(id, &Answer::Error { sequence: Sequence(1), code: ErrorCode::NotReady, text: "starting" })
    });
    let ready = fake(&ca, hello, |id| bytes(id, &INACTIVE));
    let alone = Client::connect(options(&ca, &[not_ready], LONG)).await.unwrap();
    assert_eq!(alone.introspect("x").await, Err(Error::Unavailable("starting".to_owned())));
    let client = Client::connect(options(&ca, &[not_ready, ready], LONG)).await.unwrap();
    for _ in 0..4 {
        match client.introspect("x").await {
            Ok(verdict) => assert_eq!(verdict, Verdict::Inactive),
            // The connection to the one that is ready may still be on its way.
            Err(error) => assert_eq!(error, Error::Unavailable("starting".to_owned())),
        }
    }
}

#[tokio::test]
async fn answers_that_cannot_be_believed_are_never_a_verdict() {
    let ca = Ca::new();
    let lies: [(&str, Reaction); 6] = [
        ("to nobody", |id| bytes(id ^ 1, &INACTIVE)),
        ("twice", |id| [bytes(id, &INACTIVE), bytes(id, &INACTIVE)].concat()),
        ("greeting again", |_| hello()),
        ("cut wrongly", |_| vec![3, 0, 0x12]),
        ("of an unknown kind", |id| [&[8, 0, 0x7f, 0][..], &id.to_le_bytes()].concat()),
        ("a rest without a beginning", |id| [&[8, 0, 0x14, 0][..], &id.to_le_bytes()].concat()),
    ];
    for (lie, reaction) in lies {
        let address = fake(&ca, hello, reaction);
        let client = Client::connect(options(&ca, &[address], Duration::from_millis(300))).await.unwrap();
        let first = client.introspect("x").await;
        let believed = lie == "twice" && first == Ok(Verdict::Inactive);
        assert!(believed || first.is_err(), "{lie}: {first:?}");
    }
    let denied = Answer::Checked { sequence: Sequence(9), outcome: Outcome::Denied(Denial::NotAMember) };
    assert!(decode::answer(&raw(&bytes(1, &denied))).is_ok());
    let address =
        fake(&ca, hello, |id| bytes(id, &Answer::Checked { sequence: Sequence(9), outcome: Outcome::Allowed }));
    let client = Client::connect(options(&ca, &[address], LONG)).await.unwrap();
    assert!(matches!(client.introspect("x").await, Err(Error::Protocol(_))), "an answer to another question");
}

fn raw(bytes: &[u8]) -> tokenscope::wire::Raw<'_> {
    match decode::split(bytes) {
        Ok(Split::Whole(raw, _)) => raw,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_does_not_greet_is_not_asked() {
    let ca = Ca::new();
    let address = fake(&ca, || bytes(0, &INACTIVE), |id| bytes(id, &INACTIVE));
    let mut options = options(&ca, &[address], LONG);
    options.connect_deadline = Duration::from_secs(2);
    assert!(matches!(Client::connect(options).await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn a_client_asked_to_leave_comes_back_on_a_new_connection() {
    let ca = Ca::new();
    let address = fake(&ca, hello, |id| {
        let leave = Answer::GoingAway { why: Leave::TooOld, closes_in_ms: 1_000 };
        [bytes(0, &leave), bytes(id, &INACTIVE)].concat()
    });
    let mut options = options(&ca, &[address], LONG);
    options.own_changes = OwnChanges::NotDemanded;
    let client = Client::connect(options).await.unwrap();
    for _ in 0..5 {
        assert_eq!(client.introspect("x").await, Ok(Verdict::Inactive));
    }
}
