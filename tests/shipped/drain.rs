//! A stop in the middle of many requests: whatever was accepted is answered before the process ends.
//!
//! Whether a change was accepted is found out afterwards: it was if it is there. So a change without an answer that is
//! there all the same is what must not be. And what was on its way before the signal is answered in any case, changes and
//! questions. `TOKENSCOPE_DRAINS=n` stops n times (default 3).

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::json;
use tokenscope::client::{Client, NewToken, Token, Verdict};
use tokenscope::domain::{Expiry, GrantId, TokenDigest, TokenTimes};

use super::house::{House, figure, now};
use super::native::{options, runtime};
use super::web::{Web, base64, encoded, read};

/// Connections over HTTPS, and changes at once on the native one.
const HTTPS: usize = 6;
const NATIVE: usize = 24;

/// One request.
struct Asked {
    /// The token it registers; `None` for a question.
    token: Option<String>,
    /// When all of it was on its way.
    sent: Instant,
    answered: bool,
}

#[derive(Default)]
struct Ledger {
    all: Mutex<Vec<Asked>>,
    answered: AtomicUsize,
    /// The server's process is no more.
    ended: AtomicBool,
}

impl Ledger {
    async fn ends(&self) {
        while !self.ended.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    fn put(&self, token: Option<String>, sent: Instant, answered: bool) {
        self.answered.fetch_add(usize::from(answered), SeqCst);
        self.all.lock().unwrap().push(Asked { token, sent, answered });
    }
}

/// Registers a token and asks about one in turns, until the connection ends.
fn over_https(web: &Web, known: &str, admin: &(String, String), ledger: &Ledger, name: &str) {
    let basic = base64(format!("{}:{}", admin.0, admin.1).as_bytes());
    let post = |path: &str, kind: &str, body: &str| {
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {basic}\r\ncontent-type: {kind}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    };
    let mut stream = BufReader::new(web.open());
    for number in 0.. {
        let token = (number % 2 == 0).then(|| format!("{name} {number}"));
        let request = match &token {
            Some(token) => {
                let digest = TokenDigest::of(token.as_bytes()).to_hex();
                let body = json!({ "sha256": digest, "grant": "g1", "never_expires": true }).to_string();
                post("/v1/tokens", "application/json", &body)
            }
            None => post("/introspect", "application/x-www-form-urlencoded", &format!("token={}", encoded(known))),
        };
        let sent = stream.get_mut().write_all(request.as_bytes()).and_then(|()| stream.get_mut().flush());
        let at = Instant::now();
        match sent.and_then(|()| read(&mut stream)) {
            Err(_) => return ledger.put(token, at, false),
            Ok(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                ledger.put(token, at, true);
                // It says goodbye: nothing more will be read.
                if answer.header("connection") == Some("close") {
                    return;
                }
            }
        }
    }
}

async fn natively(client: Client, ledger: Arc<Ledger>, name: String) {
    for number in 0.. {
        let token = format!("{name} {number}");
        let times = TokenTimes { issued: now(), not_before: now(), expiry: Expiry::Never };
        let grant = GrantId::new(1).unwrap();
        let new = NewToken { token: Token::from(&token), grant, times, confirmation: None, audience: None };
        let done = tokio::select! {
            done = client.register(&new) => done.is_ok(),
            // The process has ended, and what it said has long arrived: the library would go on looking for a server.
            () = ledger.ends() => false,
        };
        // When it left is the library's business: it may have waited for its turn.
        ledger.put(Some(token), Instant::now(), done);
        if !done {
            return;
        }
    }
}

#[test]
fn a_stop_under_load_leaves_nothing_that_was_accepted_without_an_answer() {
    let stops = std::env::var("TOKENSCOPE_DRAINS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let mut house = House::new();
    let admin = house.secret("admin");
    let known = house.token("jonas-time").token.clone();
    let (mut requests, mut open, mut late) = (0, 0, 0);
    for stop in 0..stops {
        house.start();
        let ledger = Arc::new(Ledger::default());
        let (web, pid) = (house.web(), house.pid());
        let (mut told, mut ended) = (Instant::now(), None);
        std::thread::scope(|scope| {
            for number in 0..HTTPS {
                let (web, known, admin, ledger) = (&web, &known, &admin, &ledger);
                scope.spawn(move || over_https(web, known, admin, ledger, &format!("{stop} https {number}")));
            }
            let (changes, options) = (ledger.clone(), options(&house, "admin"));
            scope.spawn(move || {
                runtime().block_on(async {
                    let client = Client::connect(options).await.unwrap();
                    let tasks: Vec<_> = (0..NATIVE)
                        .map(|number| {
                            let name = format!("{stop} native {number}");
                            tokio::spawn(natively(client.clone(), changes.clone(), name))
                        })
                        .collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
            });
            while ledger.answered.load(SeqCst) < 300 + 37 * (stop % 7) {
                std::thread::yield_now();
            }
            told = Instant::now();
            kill_process(pid, Signal::TERM).unwrap();
            ended = Some(house.ended());
            ledger.ended.store(true, SeqCst);
        });
        let ended = ended.unwrap();
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        // The next process knows what the last one had accepted.
        house.start();
        let all = ledger.all.lock().unwrap();
        let made: BTreeMap<&str, bool> = runtime().block_on(async {
            let client = Client::connect(options(&house, "admin")).await.unwrap();
            let names: Vec<&str> = all.iter().filter_map(|asked| asked.token.as_deref()).collect();
            let tokens: Vec<Token> = names.iter().map(|name| Token::from(*name)).collect();
            let verdicts = client.introspect_many(&tokens).await.unwrap();
            client.close().await;
            let active = verdicts.into_iter().map(|verdict| matches!(verdict.unwrap(), Verdict::Active(_)));
            names.into_iter().zip(active).collect()
        });
        for asked in all.iter() {
            let there = asked.token.as_deref().map(|token| made[token]);
            let what = format!("stop {stop}: {:?}, answered: {}", asked.token, asked.answered);
            assert!(!asked.answered || there != Some(false), "{what}: acknowledged and not there");
            assert!(asked.answered || there != Some(true), "{what}: accepted, and left without an answer");
            let https = asked.token.as_deref().is_none_or(|token| token.contains("https"));
            assert!(
                asked.answered || !https || asked.sent > told,
                "{what}: on its way before the signal, not answered"
            );
            open += usize::from(!asked.answered);
            late += usize::from(asked.answered && asked.sent > told);
        }
        requests += all.len();
        drop(all);
        assert_eq!(house.stop().code, Some(0));
    }
    figure(&format!(
        "{stops} stops under load: {requests} requests, {late} answered after the signal; {open} were never accepted, \
         0 accepted and left without an answer"
    ));
}
